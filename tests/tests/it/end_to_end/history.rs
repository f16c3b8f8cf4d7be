//! Reading a booking and its history, and waiting for a change.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{Consumer, SHORT_MS, SOON, World, list};

/// A background retry of this delay is far enough away for a test to act before it.
const SLOW_RETRY_S: u64 = 6;

fn reading(consumer: &Consumer<'_>, id: &str, query: &str) -> RequestBuilder {
    consumer.call(Method::GET, &format!("/v1/bookings/{id}{query}"))
}

#[tokio::test]
async fn a_read_shows_the_customer_and_nothing_else_does() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    let wishes = json!({"notes": "by the window", "customer": {"phone": "+49 30 1234567", "language": "de"}});
    let created = consumer.create(&provider.body(&wishes)).await;
    let id = created.assert_booking(201, "confirmed");
    let read = consumer.get(&format!("/v1/bookings/{id}")).await;
    assert_eq!(read.status, 200, "{read:?}");
    assert_eq!(read.header("etag"), "W/\"2\"");
    assert_eq!(read.json["customer"]["name"], "Ada Lovelace");
    assert_eq!(read.json["customer"]["email"], "ada@example.com");
    assert_eq!(read.json["customer"]["phone"], "+49 30 1234567");
    assert_eq!(read.json["notes"], "by the window");
    let mut without = read.json.clone();
    without.as_object_mut().unwrap().retain(|name, _| name != "customer" && name != "notes");
    assert_eq!(without, created.json, "apart from that it is the booking that was created");
    // The inbox checks each body for it.
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
}

#[tokio::test]
async fn an_unchanged_booking_is_not_sent_again() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    for known in ["W/\"2\"", "\"2\"", "W/\"1\", W/\"2\""] {
        let read = Reply::of(reading(&consumer, &id, "").header("if-none-match", known)).await;
        assert_eq!((read.status, read.bytes.len()), (304, 0), "{known}: {read:?}");
        assert_eq!(read.header("etag"), "W/\"2\"");
    }
    let read = Reply::of(reading(&consumer, &id, "").header("if-none-match", "W/\"1\"")).await;
    assert_eq!((read.status, &read.json["version"]), (200, &json!(2)), "{read:?}");
}

#[tokio::test]
async fn a_waiting_read_answers_as_soon_as_the_booking_changes() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.next(1, "book", &json!({"status": 503, "retry_after_seconds": SLOW_RETRY_S})).await;
    let body = provider.body(&json!({"async_confirmation": true}));
    let id = consumer.create(&body).await.assert_booking(202, "pending");
    let now = Reply::of(reading(&consumer, &id, "")).await;
    assert_eq!((now.status, &now.json["status"]), (200, &json!("pending")), "{now:?}");
    now.retry_after_s();
    let (by_status, by_version) = tokio::join!(
        Reply::of(reading(&consumer, &id, "?wait=20")),
        Reply::of(reading(&consumer, &id, "?wait=20").header("if-none-match", "W/\"1\"")),
    );
    for read in [by_status, by_version] {
        assert_eq!((read.status, &read.json["status"]), (200, &json!("confirmed")), "{read:?}");
        assert_eq!(read.header("retry-after"), "");
        assert!(read.took > Duration::from_secs(2), "it did not wait: {:?}", read.took);
        assert!(read.took < Duration::from_secs(18), "it waited on: {:?}", read.took);
    }
}

#[tokio::test]
async fn a_waiting_read_gives_up_when_nothing_changes() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.behave(&json!({"accept_202": true})).await;
    let wishes = json!({"async_confirmation": true, "sync_confirmation_timeout_millisecond": SHORT_MS});
    let id = consumer.create(&provider.body(&wishes)).await.assert_booking(202, "pending");
    let (by_status, by_version) = tokio::join!(
        Reply::of(reading(&consumer, &id, "?wait=2")),
        Reply::of(reading(&consumer, &id, "?wait=2").header("if-none-match", "W/\"1\"")),
    );
    assert_eq!((by_status.status, &by_status.json["status"]), (200, &json!("pending")), "{by_status:?}");
    assert_eq!((by_version.status, by_version.bytes.len()), (304, 0), "{by_version:?}");
    for read in [by_status, by_version] {
        assert!(read.took >= Duration::from_millis(1_900), "it did not wait: {:?}", read.took);
        assert!(read.took < Duration::from_secs(6), "it waited on: {:?}", read.took);
    }
    for wrong in ["?wait=26", "?wait=soon", "?wait=-1", "?wait=1&wait=2", "?until=2"] {
        reading_refused(&consumer, &id, wrong).await;
    }
}

async fn reading_refused(consumer: &Consumer<'_>, id: &str, query: &str) {
    let read = Reply::of(reading(consumer, id, query)).await;
    read.assert_problem(400, "invalid_parameter", "none");
}

#[tokio::test]
async fn the_history_has_every_version_with_its_cause() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.next(1, "book", &json!({"status": 503})).await;
    let body = provider.body(&json!({"async_confirmation": true}));
    let id = consumer.create(&body).await.assert_booking(202, "pending");
    consumer.until_status(&id, "confirmed", SOON).await;
    let events = consumer.get(&format!("/v1/bookings/{id}/events")).await;
    assert_eq!((events.status, &events.json["next_cursor"]), (200, &Value::Null), "{events:?}");
    let history = list(&events.json);
    let shown: Vec<_> = history
        .iter()
        .map(|version| (version["version"].clone(), version["status"].clone(), version["cause"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            (json!(1), json!("pending"), json!("created")),
            (json!(2), json!("confirmed"), json!("provider_acknowledged")),
        ]
    );
    assert_eq!(history[1]["attempts"], 2);
    let booking = consumer.booking(&id).await;
    assert_eq!((&history[0]["at"], &history[1]["at"]), (&booking["created_at"], &booking["updated_at"]));
    assert!(!String::from_utf8_lossy(&events.bytes).contains("Lovelace"));
}
