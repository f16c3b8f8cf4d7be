//! What every store of bookings promises of lists.

use std::collections::BTreeSet;

use holdfast_app::ports::{BookingPage, BookingQuery, BookingStore, ListPlace};
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::MemoryBookingStore;
use holdfast_domain::{BookingId, Patience, Tenant};

use super::fixtures::{claimed, confirmed, now, tenant};

on_both!(
    MemoryBookingStore::new(), bookings;
    bookings_are_listed_the_newest_first,
    pages_are_complete_and_do_not_overlap,
    bookings_of_one_moment_are_listed_once_each,
    a_reference_is_found_among_others,
    bookings_before_a_time_are_left_out,
    another_tenants_bookings_are_invisible,
    more_than_a_batch_is_listed,
    a_booking_is_listed_as_it_is_now,
);

fn any() -> BookingQuery {
    BookingQuery { reference: None, created_after: None, after: None, limit: 100 }
}

/// A booking of a tenant, made so many milliseconds after the others' beginning.
fn made(tenant: &Tenant, key: &str, offset_ms: u64, reference: Option<&str>) -> StoredBooking {
    let mut new = claimed(key, Patience::Synchronous);
    new.booking.id = BookingId::derived(tenant, key, 0);
    new.booking.tenant = tenant.clone();
    new.booking.request.reference = reference.map(str::to_owned);
    if let Some(first) = new.booking.history.first_mut() {
        first.at = now().plus_ms(offset_ms);
    }
    new
}

/// As many bookings, a second apart, the oldest first.
async fn some(store: &impl BookingStore, count: u64) -> Vec<BookingId> {
    let mut ids = Vec::new();
    for number in 0..count {
        let new = made(&tenant(), &format!("key-{number}"), number * 1_000, Some("order-1"));
        store.claim(&new).await.unwrap();
        ids.push(new.booking.id);
    }
    ids
}

fn ids(page: &BookingPage) -> Vec<BookingId> {
    page.bookings.iter().map(|booking| booking.id.clone()).collect()
}

/// All pages of a list, each of at most so many bookings.
async fn pages(store: &impl BookingStore, query: &BookingQuery, limit: usize) -> Vec<Vec<BookingId>> {
    let mut query = BookingQuery { limit, ..query.clone() };
    let mut pages = Vec::new();
    loop {
        let page = store.list(&tenant(), &query).await.unwrap();
        pages.push(ids(&page));
        match page.next {
            Some(place) => query.after = Some(place),
            None => return pages,
        }
    }
}

async fn bookings_are_listed_the_newest_first(store: &impl BookingStore) {
    assert_eq!(store.list(&tenant(), &any()).await.unwrap(), BookingPage::default());
    let mut expected = some(store, 5).await;
    expected.reverse();
    let page = store.list(&tenant(), &any()).await.unwrap();
    assert_eq!((ids(&page), page.next), (expected, None));
}

async fn pages_are_complete_and_do_not_overlap(store: &impl BookingStore) {
    let mut expected = some(store, 6).await;
    expected.reverse();
    for (limit, sizes) in [(1, vec![1; 6]), (2, vec![2, 2, 2]), (4, vec![4, 2]), (6, vec![6]), (7, vec![6])] {
        let pages = pages(store, &any(), limit).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        assert_eq!(pages.concat(), expected);
    }
    let nothing = BookingQuery { limit: 0, ..any() };
    assert_eq!(store.list(&tenant(), &nothing).await.unwrap(), BookingPage::default());
}

async fn bookings_of_one_moment_are_listed_once_each(store: &impl BookingStore) {
    let mut expected = BTreeSet::new();
    for number in 0..7 {
        let new = made(&tenant(), &format!("key-{number}"), 0, None);
        store.claim(&new).await.unwrap();
        expected.insert(new.booking.id);
    }
    for limit in [1, 3, 7] {
        let listed = pages(store, &any(), limit).await.concat();
        assert_eq!(listed.len(), 7);
        assert_eq!(BTreeSet::from_iter(listed), expected);
    }
}

async fn a_reference_is_found_among_others(store: &impl BookingStore) {
    let mut expected = Vec::new();
    for (number, reference) in
        [Some("order-1"), Some("order-2"), None, Some("order-1"), Some("order-1 "), Some("order-1")]
            .into_iter()
            .enumerate()
    {
        let offset_ms = u64::try_from(number).unwrap() * 1_000;
        let new = made(&tenant(), &format!("key-{number}"), offset_ms, reference);
        store.claim(&new).await.unwrap();
        if reference == Some("order-1") {
            expected.insert(0, new.booking.id);
        }
    }
    let query = BookingQuery { reference: Some("order-1".to_owned()), ..any() };
    for limit in [1, 2, 100] {
        assert_eq!(pages(store, &query, limit).await.concat(), expected);
    }
    let unknown = BookingQuery { reference: Some("order-3".to_owned()), ..any() };
    assert_eq!(store.list(&tenant(), &unknown).await.unwrap(), BookingPage::default());
}

async fn bookings_before_a_time_are_left_out(store: &impl BookingStore) {
    let made = some(store, 5).await;
    let expected: Vec<BookingId> = made[3..].iter().rev().cloned().collect();
    for reference in [None, Some("order-1".to_owned())] {
        let query = BookingQuery { reference, created_after: Some(now().plus_ms(2_000)), ..any() };
        for limit in [1, 2, 100] {
            assert_eq!(pages(store, &query, limit).await.concat(), expected);
        }
        // Nothing follows on a place that is before the time itself.
        let after = ListPlace { created_at: now().plus_ms(1_000), booking_id: made[1].clone() };
        let query = BookingQuery { after: Some(after), ..query };
        assert_eq!(store.list(&tenant(), &query).await.unwrap(), BookingPage::default());
    }
}

async fn another_tenants_bookings_are_invisible(store: &impl BookingStore) {
    let other = Tenant::parse("live:demo-marketplace").unwrap();
    let theirs = made(&other, "key", 500, Some("order-1"));
    store.claim(&theirs).await.unwrap();
    let mut expected = some(store, 3).await;
    expected.reverse();
    for reference in [None, Some("order-1".to_owned())] {
        let query = BookingQuery { reference: reference.clone(), ..any() };
        assert_eq!(ids(&store.list(&tenant(), &query).await.unwrap()), expected);
        assert_eq!(ids(&store.list(&other, &query).await.unwrap()), std::slice::from_ref(&theirs.booking.id));
        // A place in another tenant's list is a place in one's own.
        let place =
            ListPlace { created_at: theirs.booking.created_at(), booking_id: theirs.booking.id.clone() };
        let query = BookingQuery { reference, after: Some(place), ..any() };
        assert_eq!(ids(&store.list(&tenant(), &query).await.unwrap()), expected[2..]);
    }
}

async fn more_than_a_batch_is_listed(store: &impl BookingStore) {
    let mut expected = some(store, 105).await;
    expected.reverse();
    let page = store.list(&tenant(), &BookingQuery { limit: 104, ..any() }).await.unwrap();
    assert_eq!(ids(&page), expected[..104]);
    assert_eq!(page.next.map(|place| place.booking_id), Some(expected[103].clone()));
}

async fn a_booking_is_listed_as_it_is_now(store: &impl BookingStore) {
    let first = claimed("key", Patience::Synchronous);
    store.claim(&first).await.unwrap();
    let settled = confirmed(&first);
    store.replace(1, &settled).await.unwrap();
    assert_eq!(store.list(&tenant(), &any()).await.unwrap().bookings, [settled.booking]);
}
