//! A repeated request gets the first response: the same status and the very same bytes.

use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{Consumer, Provider, SHORT_MS, SOON, World};

/// Creates under a key and repeats it. Returns the first answer.
async fn created_and_replayed(consumer: &Consumer<'_>, key: &str, body: &Value) -> Reply {
    let first = consumer.create_with_key(key, body).await;
    consumer.create_with_key(key, body).await.assert_replays(&first);
    first
}

async fn actors(world: &World) -> (Consumer<'_>, Provider<'_>) {
    (world.consumer().await, world.provider().await)
}

#[tokio::test]
async fn a_confirmed_booking_is_replayed() {
    let world = World::new();
    let (consumer, provider) = actors(&world).await;
    let first = created_and_replayed(&consumer, "key-1", &provider.body(&json!({}))).await;
    let id = first.assert_booking(201, "confirmed");
    assert_eq!(provider.calls("book").await.len(), 1);
    assert_eq!(provider.live().await, [id]);
}

#[tokio::test]
async fn a_pending_booking_is_replayed_as_it_was_when_it_has_moved_on() {
    let world = World::new();
    let (consumer, provider) = actors(&world).await;
    provider.next(2, "any", &json!({"status": 503})).await;
    let body = provider.body(&json!({"async_confirmation": true}));
    let first = created_and_replayed(&consumer, "key-1", &body).await;
    let id = first.assert_booking(202, "pending");
    consumer.until_status(&id, "confirmed", SOON).await;
    let later = consumer.create_with_key("key-1", &body).await;
    later.assert_replays(&first);
    assert_eq!(later.json["status"], "pending");
    assert_eq!(consumer.booking(&id).await["status"], "confirmed", "the link leads to what it is now");
    assert_eq!(provider.live().await, [id]);
}

#[tokio::test]
async fn a_decline_is_replayed_though_the_provider_would_now_say_yes() {
    let world = World::new();
    let (consumer, provider) = actors(&world).await;
    provider.next(1, "book", &json!({"decline": {"code": "full", "message": "Full"}})).await;
    let first = created_and_replayed(&consumer, "key-1", &provider.body(&json!({}))).await;
    first.assert_problem(409, "booking_declined", "none");
    assert_eq!(provider.calls("book").await.len(), 1);
}

#[tokio::test]
async fn a_failure_is_replayed() {
    let world = World::new();
    let (consumer, provider) = actors(&world).await;
    provider.next(1, "book", &json!({"drop_answer": true})).await;
    let body = provider.body(&json!({}));
    let first = created_and_replayed(&consumer, "key-1", &body).await;
    first.assert_problem(502, "provider_failed", "unknown");
    // What was unknown is undone meanwhile; the answer stays what it was.
    consumer.until_cause(first.booking_id(), "compensated", SOON).await;
    consumer.create_with_key("key-1", &body).await.assert_replays(&first);
    assert_eq!(provider.calls("book").await.len(), 1);
    assert!(provider.live().await.is_empty());
}

#[tokio::test]
async fn silence_is_replayed() {
    let world = World::new();
    let (consumer, provider) = actors(&world).await;
    provider.next(1, "book", &json!({"latency_ms": 20_000})).await;
    let body = provider.body(&json!({"sync_confirmation_timeout_millisecond": SHORT_MS}));
    let first = created_and_replayed(&consumer, "key-1", &body).await;
    first.assert_problem(504, "provider_timeout", "unknown");
    assert_eq!(provider.calls("book").await.len(), 1);
    consumer.until_cause(first.booking_id(), "compensated", SOON).await;
    assert!(provider.live().await.is_empty());
}

#[tokio::test]
async fn while_the_first_is_in_flight_a_repetition_is_told_so_or_waits() {
    let world = World::new();
    let (consumer, provider) = actors(&world).await;
    provider.behave(&json!({"latency_ms": 4_000, "operations": ["book"]})).await;
    let body = provider.body(&json!({}));
    let repeated = async {
        provider.until_calls("book", 1, SOON).await;
        let told = consumer.create_with_key("key-1", &body).await;
        let waiting = consumer.creating(&body).header("idempotency-key", "key-1").header("prefer", "wait=10");
        (told, Reply::of(waiting).await)
    };
    let (first, (told, waited)) = tokio::join!(consumer.create_with_key("key-1", &body), repeated);
    first.assert_booking(201, "confirmed");
    told.assert_problem(409, "request_in_flight", "unknown");
    told.retry_after_s();
    waited.assert_replays(&first);
    assert_eq!(provider.calls("book").await.len(), 1);
}

#[tokio::test]
async fn twenty_at_once_make_one_booking() {
    const AT_ONCE: usize = 20;
    let world = World::new();
    let (consumer, provider) = actors(&world).await;
    provider.behave(&json!({"latency_ms": 500, "operations": ["book"]})).await;
    let body = provider.body(&json!({}));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        calls.spawn(Reply::of(consumer.creating(&body).header("idempotency-key", "key-1")));
    }
    let replies = calls.join_all().await;
    let (booked, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 201);
    for reply in &refused {
        reply.assert_problem(409, "request_in_flight", "unknown");
    }
    let first = booked.iter().find(|reply| reply.header("idempotency-replayed").is_empty());
    let first = first.unwrap_or_else(|| panic!("nobody was first: {booked:?}"));
    for reply in &booked {
        assert_eq!(reply.bytes, first.bytes);
    }
    consumer.create_with_key("key-1", &body).await.assert_replays(first);
    assert_eq!(provider.calls("book").await.len(), 1);
    assert_eq!(provider.live().await, [first.assert_booking(201, "confirmed")]);
}
