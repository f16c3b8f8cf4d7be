//! What is in the hands of callers: cursors and booking keys.

use std::collections::BTreeMap;

use holdfast_app::availability::{KeyMaker, KeyedSlot, key_expiry, open_key};
use holdfast_app::bookings::{ListParameters, list, read_list};
use holdfast_app::feed::{FeedParameters, feed, read_feed};
use holdfast_app::manage::{AttemptParameters, attempts};
use holdfast_app::ports::{AttemptEntry, AttemptLog, BookingStore, EndpointStore, EventFeed, NewEntry};
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::{MemoryBookingStore, MemoryDeliveryStore, MemoryFeed, MemorySettings};
use holdfast_domain::{
    Booking, BookingId, BookingRequest, EventId, Mode, NotificationRoute, OpenSlot, ProviderId, Slot,
};
use serde_json::Value;

use super::{folder, golden};
use crate::contract::fixtures::{booking_key_secret, endpoint, now, provider_id, tenant};

/// The reference of the list, so that the cursor is that of a list with a filter.
const REFERENCE: &str = "order-1";

fn booking(number: u8) -> StoredBooking {
    let request = BookingRequest {
        provider_id: provider_id(),
        customer: None,
        reference: Some(REFERENCE.to_owned()),
        notes: None,
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold: false,
        availability_id: None,
    };
    let slot = Slot {
        location_id: "main-street".to_owned(),
        start: now().plus_ms(86_400_000),
        end: now().plus_ms(88_200_000),
        resource_id: None,
        service_id: None,
    };
    let (id, made_at) = (BookingId::from_bytes([number; 16]), now().plus_ms(number.into()));
    let booking = Booking::accepted(id, tenant(), request, slot, NotificationRoute::Push, made_at);
    StoredBooking { booking, create: None, operations: Vec::new(), exclusive_slots: false, rev: 1 }
}

/// The page that a cursor leads to, and the next one, in a list of three one by one.
async fn list_page(cursor: Option<&str>) -> (Vec<BookingId>, Option<String>) {
    let store = MemoryBookingStore::new();
    for number in 1..=3 {
        store.claim(&booking(number)).await.unwrap();
    }
    let parameters =
        ListParameters { reference: Some(REFERENCE), limit: Some("1"), cursor, ..ListParameters::default() };
    let listed = list(&store, &read_list(&tenant(), &parameters).unwrap()).await.unwrap();
    (listed.bookings.into_iter().map(|booking| booking.id).collect(), listed.next_cursor)
}

async fn feed_page(after: Option<&str>) -> (Vec<String>, String) {
    let store = MemoryFeed::new();
    for number in 1..=3 {
        let event_id = EventId::from_bytes([number; 16]);
        let entry = NewEntry { event_id, event_type: "booking.created".to_owned(), body: number.to_string() };
        store.append(&tenant(), &[entry], now()).await.unwrap();
    }
    let parameters = FeedParameters { after, limit: Some("1"), event_type: None };
    let page = feed(&store, &read_feed(&tenant(), &parameters).unwrap(), now()).await.unwrap();
    (page.bodies, page.next_cursor)
}

async fn attempts_page(cursor: Option<&str>) -> (Value, Option<String>) {
    let (settings, log) = (MemorySettings::new(), MemoryDeliveryStore::new());
    let endpoint = endpoint(1, &tenant());
    settings.put_endpoint(&endpoint, 1).await.unwrap();
    for number in 1..=3_u8 {
        let entry = AttemptEntry {
            endpoint_id: endpoint.id.clone(),
            event_id: EventId::from_bytes([number; 16]),
            event_type: "booking.created".to_owned(),
            attempt: 1,
            at: now().plus_ms(number.into()),
            latency_ms: 1,
            status: Some(204),
            error: None,
            response_body: None,
        };
        log.append(&entry).await.unwrap();
    }
    let parameters = AttemptParameters { limit: Some("1"), cursor, ..AttemptParameters::default() };
    let later = now().plus_ms(60_000);
    let page = attempts(&settings, &log, &tenant(), endpoint.id.as_str(), &parameters, later).await.unwrap();
    (page["data"][0]["event_id"].clone(), page["next_cursor"].as_str().map(str::to_owned))
}

fn open() -> OpenSlot {
    OpenSlot {
        start: now().plus_ms(86_400_000),
        end: now().plus_ms(88_200_000),
        resource_id: Some("dr-grey".into()),
        service_id: Some("first-visit".into()),
        capacity: None,
        price: None,
        availability_id: Some("a-1".into()),
    }
}

fn booking_key() -> String {
    let (secret, provider) = (booking_key_secret(7), provider_id());
    let maker = KeyMaker::new(&secret, Mode::Test, &provider, "main-street", key_expiry(now()));
    maker.unwrap().key(&open()).unwrap()
}

/// The tokens that today's code gives out, by their golden files.
async fn given_out() -> [(&'static str, String); 4] {
    [
        ("token-list-cursor-v1", list_page(None).await.1.unwrap()),
        ("token-feed-cursor-v1", feed_page(None).await.1),
        ("token-attempts-cursor-v1", attempts_page(None).await.1.unwrap()),
        ("token-booking-key-v1", booking_key()),
    ]
}

fn token(file: &str) -> String {
    golden(&format!("{file}.txt"))
}

#[tokio::test]
async fn every_golden_cursor_leads_where_it_led() {
    assert_eq!(list_page(Some(&token("token-list-cursor-v1"))).await.0, [BookingId::from_bytes([2; 16])]);
    assert_eq!(feed_page(Some(&token("token-feed-cursor-v1"))).await.0, ["2"]);
    let (event, _) = attempts_page(Some(&token("token-attempts-cursor-v1"))).await;
    assert_eq!(event, EventId::from_bytes([2; 16]).as_str());
}

#[test]
fn every_golden_booking_key_opens_what_it_opened() {
    let opened = open_key(&token("token-booking-key-v1"), &[booking_key_secret(7)], Mode::Test);
    let expected = KeyedSlot {
        provider_id: ProviderId::parse("demo-clinic").unwrap(),
        expires_at: key_expiry(now()),
        slot: Slot {
            location_id: "main-street".to_owned(),
            start: open().start,
            end: open().end,
            resource_id: Some("dr-grey".to_owned()),
            service_id: Some("first-visit".to_owned()),
        },
        availability_id: Some("a-1".to_owned()),
    };
    assert_eq!(opened, Ok(expected));
}

/// Tokens have no room for what is not known: what is given out under the same form is the same, byte for byte.
#[tokio::test]
async fn what_is_given_out_today_is_what_readers_of_its_form_expect() {
    for (file, given_out) in given_out().await {
        assert_eq!(
            given_out,
            token(file),
            "{file}: a token of another form needs another number of the form, which readers refuse that do not know it"
        );
    }
}

/// The form is the first byte of what a token says, and a token of another form is none.
#[tokio::test]
async fn forms_of_later_versions_are_refused() {
    let mut cursor = data_encoding::BASE64URL_NOPAD.decode(token("token-list-cursor-v1").as_bytes()).unwrap();
    assert_eq!(cursor[0], 1);
    cursor[0] = 2;
    let cursor = data_encoding::BASE64URL_NOPAD.encode(&cursor);
    let parameters =
        ListParameters { reference: Some(REFERENCE), cursor: Some(&cursor), ..ListParameters::default() };
    assert_eq!(read_list(&tenant(), &parameters).unwrap_err().code.status(), 400);
    let after = FeedParameters { after: Some(&cursor), ..FeedParameters::default() };
    assert_eq!(read_feed(&tenant(), &after).unwrap_err().code.status(), 400);
    let key = token("token-booking-key-v1");
    let mut body =
        data_encoding::BASE64URL_NOPAD.decode(key.strip_prefix("bk_").unwrap().as_bytes()).unwrap();
    assert_eq!(body[0], 1);
    body[0] = 2;
    let key = format!("bk_{}", data_encoding::BASE64URL_NOPAD.encode(&body));
    assert!(open_key(&key, &[booking_key_secret(7)], Mode::Test).is_err());
}

/// Writes what is missing, for whoever adds a token; the manifest has to be told.
#[tokio::test]
#[ignore = "writes files"]
async fn golden_tokens_that_are_missing_are_written() {
    for (file, token) in given_out().await {
        let path = folder("golden").join(format!("{file}.txt"));
        if !path.exists() {
            std::fs::write(path, token).unwrap();
        }
    }
}
