//! What every store of bookings promises of scans.

use std::collections::BTreeSet;

use holdfast_app::ports::{BookingScan, BookingStore, Claim, ScanPlace};
use holdfast_app::stored::{StoredBooking, claim};
use holdfast_app::test_util::MemoryBookingStore;
use holdfast_domain::{BookingId, Patience, Tenant, Timestamp};

use super::embedded::{BOOKING_TABLE, Embedded};
use super::fixtures::{claimed, confirmed, now, tenant};

on_both!(
    MemoryBookingStore::new(), bookings;
    every_booking_is_in_one_part,
    bookings_of_later_are_left_out,
    a_booking_is_shown_as_it_is,
    slots_are_no_bookings,
);

/// More than any booking's time here.
fn later() -> Timestamp {
    now().plus_ms(1_000_000_000)
}

fn made(tenant: &Tenant, key: &str, offset_ms: u64) -> StoredBooking {
    let mut new = claimed(key, Patience::Synchronous);
    new.booking.id = BookingId::derived(tenant, key, 0);
    new.booking.tenant = tenant.clone();
    new.booking.history[0].at = now().plus_ms(offset_ms);
    new
}

/// All parts of a scan.
async fn parts(store: &impl BookingStore, created_before: Timestamp, limit: usize) -> Vec<BookingScan> {
    let (mut parts, mut after): (Vec<BookingScan>, Option<ScanPlace>) = (Vec::new(), None);
    loop {
        let part = store.scan(after.as_ref(), created_before, limit).await.unwrap();
        after = part.next.clone();
        parts.push(part);
        if after.is_none() {
            return parts;
        }
    }
}

fn ids(parts: &[BookingScan]) -> Vec<BookingId> {
    parts.iter().flat_map(|part| &part.bookings).map(|stored| stored.booking.id.clone()).collect()
}

async fn every_booking_is_in_one_part(store: &impl BookingStore) {
    assert_eq!(parts(store, later(), 10).await, [BookingScan::default()]);
    let other = Tenant::parse("live:other").unwrap();
    let mut expected = BTreeSet::new();
    for number in 0..23_u64 {
        let tenant = if number % 2 == 0 { tenant() } else { other.clone() };
        let new = made(&tenant, &format!("key-{number}"), number);
        store.claim(&new).await.unwrap();
        expected.insert(new.booking.id);
    }
    for limit in [1, 4, 23, 100] {
        let parts = parts(store, later(), limit).await;
        assert!(parts.iter().all(|part| part.bookings.len() <= limit), "{limit}");
        let ids = ids(&parts);
        assert_eq!(ids.len(), 23, "{limit}");
        assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), expected, "{limit}");
    }
}

/// A part says where the next one begins, even if there is nothing in it that is wanted.
async fn bookings_of_later_are_left_out(store: &impl BookingStore) {
    let mut expected = BTreeSet::new();
    for number in 0..12 {
        let new = made(&tenant(), &format!("key-{number}"), number);
        store.claim(&new).await.unwrap();
        if number < 3 {
            expected.insert(new.booking.id);
        }
    }
    let parts = parts(store, now().plus_ms(3), 2).await;
    assert!(parts.len() >= 6, "{parts:?}");
    assert_eq!(ids(&parts).into_iter().collect::<BTreeSet<_>>(), expected);
}

async fn a_booking_is_shown_as_it_is(store: &impl BookingStore) {
    let first = claimed("key", Patience::Synchronous);
    store.claim(&first).await.unwrap();
    let settled = confirmed(&first);
    store.replace(1, &settled).await.unwrap();
    let expected = BookingScan { bookings: vec![settled], ..BookingScan::default() };
    assert_eq!(store.scan(None, later(), 10).await.unwrap(), expected);
}

async fn slots_are_no_bookings(store: &impl BookingStore) {
    let mut first = claimed("key", Patience::Background);
    first.exclusive_slots = true;
    assert_eq!(claim(store, &first).await.unwrap(), Claim::Claimed);
    assert_eq!(first.slots().len(), 1);
    for limit in [1, 10] {
        assert_eq!(ids(&parts(store, later(), limit).await), [first.booking.id.clone()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_named_and_hides_nothing() {
    let database = Embedded::start().await;
    let store = database.bookings();
    let (first, second) = (made(&tenant(), "a", 0), made(&tenant(), "b", 0));
    store.claim(&first).await.unwrap();
    store.claim(&second).await.unwrap();
    let key = aws_sdk_dynamodb::types::AttributeValue::S(format!("BKG#{}", first.booking.id));
    let update = database.client.update_item().table_name(BOOKING_TABLE).key("pk", key);
    let later_format = aws_sdk_dynamodb::types::AttributeValue::N("99".to_owned());
    let update =
        update.update_expression("SET v = :format").expression_attribute_values(":format", later_format);
    update.send().await.unwrap();
    let part = store.scan(None, later(), 10).await.unwrap();
    assert_eq!(part, BookingScan { bookings: vec![second], unreadable: vec![first.booking.id], next: None });
}
