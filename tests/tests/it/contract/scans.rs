//! What every store of bookings promises of scans.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{BookingScan, BookingStore, Claim, ScanPlace, ScannedBooking, ScannedChanges};
use holdfast_app::stored::{StoredBooking, claim};
use holdfast_app::test_util::MemoryBookingStore;
use holdfast_domain::{BookingId, Patience, Tenant};
use serde_json::json;

use super::canned::canned;
use super::embedded::{BOOKING_TABLE, Embedded, bookings_through};
use super::fixtures::{cancelled, claimed, confirmed, now, tenant, waiting};
use crate::observability::resources_of;

on_both!(
    MemoryBookingStore::new(), bookings;
    every_booking_is_in_one_part,
    a_scan_goes_on_behind_any_booking,
    a_booking_is_shown_as_it_is,
    slots_are_no_bookings,
);

fn made(tenant: &Tenant, key: &str, offset_ms: u64) -> StoredBooking {
    let mut new = claimed(key, Patience::Synchronous);
    new.booking.id = BookingId::derived(tenant, key, 0);
    new.booking.tenant = tenant.clone();
    new.booking.history[0].at = now().plus_ms(offset_ms);
    new
}

/// So many bookings of two tenants.
async fn some(store: &impl BookingStore, count: u64) -> BTreeSet<BookingId> {
    let other = Tenant::parse("live:other").unwrap();
    let mut ids = BTreeSet::new();
    for number in 0..count {
        let tenant = if number % 2 == 0 { tenant() } else { other.clone() };
        let new = made(&tenant, &format!("key-{number}"), number);
        store.claim(&new).await.unwrap();
        ids.insert(new.booking.id);
    }
    ids
}

/// All parts of a scan.
async fn parts(store: &impl BookingStore, limit: usize) -> Vec<BookingScan> {
    let (mut parts, mut after): (Vec<BookingScan>, Option<ScanPlace>) = (Vec::new(), None);
    loop {
        let part = store.scan(after.as_ref(), limit).await.unwrap();
        after = part.next.clone();
        parts.push(part);
        if after.is_none() {
            return parts;
        }
    }
}

fn ids(parts: &[BookingScan]) -> Vec<BookingId> {
    parts.iter().flat_map(|part| &part.bookings).map(|booking| booking.id.clone()).collect()
}

async fn every_booking_is_in_one_part(store: &impl BookingStore) {
    assert_eq!(parts(store, 10).await, [BookingScan::default()]);
    let expected = some(store, 23).await;
    for limit in [1, 4, 23, 100] {
        let parts = parts(store, limit).await;
        assert!(parts.iter().all(|part| part.bookings.len() <= limit), "{limit}");
        let ids = ids(&parts);
        assert_eq!(ids.len(), 23, "{limit}");
        assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), expected, "{limit}");
    }
}

async fn a_scan_goes_on_behind_any_booking(store: &impl BookingStore) {
    some(store, 9).await;
    let all = store.scan(None, 100).await.unwrap().bookings;
    for (number, booking) in (1..).zip(&all) {
        let rest = store.scan(Some(&booking.place), 100).await.unwrap();
        assert_eq!(rest, BookingScan { bookings: all[number..].to_vec(), next: None });
    }
}

async fn a_booking_is_shown_as_it_is(store: &impl BookingStore) {
    let first = claimed("key", Patience::Background);
    store.claim(&first).await.unwrap();
    let mut rev = 1;
    let steps = [waiting(&first, 5_000), confirmed(&first), cancelled(&confirmed(&first))];
    for mut next in std::iter::once(first.clone()).chain(steps) {
        if next != first {
            next.rev = rev + 1;
            store.replace(rev, &next).await.unwrap();
            rev += 1;
        }
        let [shown] = <[ScannedBooking; 1]>::try_from(store.scan(None, 10).await.unwrap().bookings).unwrap();
        let expected = ScannedChanges {
            versions_at: next.booking.history.iter().map(|entry| entry.at).collect(),
            is_under_way: next.booking.due_at().is_some(),
        };
        assert_eq!((shown.id, shown.changes), (first.booking.id.clone(), Some(expected)), "{rev}");
    }
}

async fn slots_are_no_bookings(store: &impl BookingStore) {
    let mut first = claimed("key", Patience::Background);
    first.exclusive_slots = true;
    assert_eq!(claim(store, &first).await.unwrap(), Claim::Claimed);
    assert_eq!(first.slots().len(), 1);
    for limit in [1, 10] {
        assert_eq!(ids(&parts(store, limit).await), [first.booking.id.clone()]);
    }
}

/// Items that cannot be read, and one that was written before lists were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_named_and_hides_nothing() {
    let database = Embedded::start().await;
    let store = database.bookings();
    let set = |key: &'static str, update: &'static str, value: Option<AttributeValue>| {
        let pk = AttributeValue::S(format!("BKG#{}", BookingId::derived(&tenant(), key, 0)));
        let item = database.client.update_item().table_name(BOOKING_TABLE).key("pk", pk);
        let item = item.update_expression(update);
        let values = value.map(|value| [(":value".to_owned(), value)].into());
        item.set_expression_attribute_values(values).send()
    };
    for key in ["later", "broken", "older", "usual"] {
        store.claim(&made(&tenant(), key, 0)).await.unwrap();
    }
    set("later", "SET v = :value", Some(AttributeValue::N("99".to_owned()))).await.unwrap();
    set("broken", "SET y = :value", Some(AttributeValue::S("?".to_owned()))).await.unwrap();
    set("older", "REMOVE ca", None).await.unwrap();
    let part = store.scan(None, 10).await.unwrap();
    let readable = part.bookings.into_iter().map(|booking| (booking.id, booking.changes.is_some()));
    let expected = [("later", false), ("broken", false), ("older", true), ("usual", true)]
        .map(|(key, is_readable)| (BookingId::derived(&tenant(), key, 0), is_readable));
    assert_eq!(readable.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
}

/// The role of the function that scans may ask for what the scan asks for, and for nothing more.
#[tokio::test]
async fn the_template_lets_a_scan_ask_for_these_attributes_alone() {
    let (clients, requests) = canned(|_| (200, json!({"Items": [], "Count": 0, "ScannedCount": 0})));
    bookings_through(&clients.dynamodb).scan(None, 10).await.unwrap();
    let request = requests.lock().unwrap()[0].clone();
    let names = request["ExpressionAttributeNames"].as_object().unwrap().values();
    let asked: BTreeSet<&str> = names.map(|name| name.as_str().unwrap()).collect();
    let role = &resources_of("AWS::IAM::Role")["RepairRole"];
    let statements = role["Policies"][0]["PolicyDocument"]["Statement"].as_array().unwrap();
    let scans =
        statements.iter().filter(|statement| statement["Action"].to_string().contains("dynamodb:Scan"));
    let [scan] = scans.collect::<Vec<_>>()[..] else { panic!("one statement lets it scan") };
    let granted = scan["Condition"]["ForAllValues:StringEquals"]["dynamodb:Attributes"].as_array().unwrap();
    assert_eq!(granted.iter().map(|name| name.as_str().unwrap()).collect::<BTreeSet<_>>(), asked);
    assert_eq!(scan["Condition"]["StringEquals"]["dynamodb:Select"], request["Select"]);
}
