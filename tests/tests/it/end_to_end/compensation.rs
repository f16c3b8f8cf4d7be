//! Nothing stays booked behind the back of a booking that ended otherwise.

use std::time::Duration;

use serde_json::json;

use super::world::{SETTLED, SHORT_MS, SOON, World};
use super::wrap_up::dead_letters_about;

const MUCH_LATER_MS: u64 = 25_000;
/// When a provider carries out a request that nobody waits for any more.
const LONG_AFTER_MS: u64 = 40_000;

#[tokio::test]
async fn silence_ends_at_the_limit_and_what_it_booked_is_undone() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    provider.behave(&json!({"latency_ms": MUCH_LATER_MS, "operations": ["book"]})).await;
    // Left out, the limit is 2.5 s.
    let body = provider.body(&json!({"sync_confirmation_timeout_millisecond": null}));
    let mut reply = consumer.create(&body).await;
    if reply.json["side_effects"] == "none" {
        // On a very busy machine nothing was sent within the limit, which says nothing about silence.
        reply = consumer.create(&body).await;
    }
    reply.assert_problem(504, "provider_timeout", "unknown");
    assert!(reply.took >= Duration::from_millis(2_400), "too early: {:?}", reply.took);
    assert!(reply.took < Duration::from_millis(4_500), "too late: {:?}", reply.took);
    let id = reply.booking_id();
    let booking = consumer.booking(id).await;
    assert_eq!(
        (&booking["status"], &booking["cancellation"]["reason"]),
        (&json!("cancelled"), &json!("provider_timeout"))
    );
    hook.until_types(id, &["booking.created", "booking.cancelled", "booking.compensated"], SOON).await;
    let bookings = provider.bookings().await;
    assert_eq!(bookings[0]["status"], "cancelled", "{bookings:?}");
    let cancels = provider.calls("cancel").await;
    assert_eq!(cancels[0]["idempotency_key"], format!("{id}:2"), "{cancels:?}");
    assert_eq!(consumer.until_cause(id, "compensated", SOON).await, ["created", "given_up", "compensated"]);
}

#[tokio::test]
async fn a_silent_provider_that_knows_of_nothing_is_asked_again_when_it_can_be_believed() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    provider.behave(&json!({"hang": true, "operations": ["book"]})).await;
    let reply =
        consumer.create(&provider.body(&json!({"sync_confirmation_timeout_millisecond": SHORT_MS}))).await;
    reply.assert_problem(504, "provider_timeout", "unknown");
    let id = reply.booking_id();
    provider.until_calls("cancel", 1, SOON).await;
    hook.until_types(id, &["booking.created", "booking.cancelled"], SOON).await;
    hook.until_types(id, &["booking.created", "booking.cancelled", "booking.compensated"], SETTLED).await;
    let history = consumer.history(id).await;
    assert!(elapsed_ms(&history[1]["at"], &history[2]["at"]) >= 59_000, "believed too early: {history:?}");
    assert!(provider.calls("cancel").await.len() >= 2);
    assert!(provider.bookings().await.is_empty());
}

#[tokio::test]
async fn a_failure_ends_at_once_and_is_undone() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    provider.behave(&json!({"status": 500, "operations": ["book"]})).await;
    let reply = consumer.create(&provider.body(&json!({}))).await;
    reply.assert_problem(502, "provider_failed", "unknown");
    let id = reply.booking_id();
    let booking = consumer.booking(id).await;
    assert_eq!(
        (&booking["status"], &booking["cancellation"]["reason"]),
        (&json!("cancelled"), &json!("provider_failed"))
    );
    hook.until_types(id, &["booking.created", "booking.cancelled", "booking.compensated"], SETTLED).await;
    assert!(provider.bookings().await.is_empty());
}

#[tokio::test]
async fn an_answer_that_was_lost_is_undone() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    for behaviour in [json!({"drop_answer": true}), json!({"garbage": true})] {
        provider.next(1, "book", &behaviour).await;
        let reply = consumer.create(&provider.body(&json!({}))).await;
        reply.assert_problem(502, "provider_failed", "unknown");
        consumer.until_cause(reply.booking_id(), "compensated", SOON).await;
        assert!(provider.live().await.is_empty(), "after {behaviour}");
    }
    assert_eq!(provider.bookings().await.len(), 2);
}

#[tokio::test]
async fn what_a_correct_provider_would_book_long_after_is_never_booked() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.behave(&json!({"hang": true, "process_after_ms": LONG_AFTER_MS})).await;
    let reply =
        consumer.create(&provider.body(&json!({"sync_confirmation_timeout_millisecond": SHORT_MS}))).await;
    reply.assert_problem(504, "provider_timeout", "unknown");
    consumer.until_cause(reply.booking_id(), "compensated", SETTLED).await;
    assert!(provider.bookings().await.is_empty(), "it remembers the cancel that came before");
}

#[tokio::test]
async fn what_a_forgetful_provider_books_long_after_is_undone() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let behaviour = json!({"hang": true, "process_after_ms": LONG_AFTER_MS, "forget_cancels": true});
    provider.behave(&behaviour).await;
    let reply =
        consumer.create(&provider.body(&json!({"sync_confirmation_timeout_millisecond": SHORT_MS}))).await;
    reply.assert_problem(504, "provider_timeout", "unknown");
    consumer.until_cause(reply.booking_id(), "compensated", SETTLED).await;
    let bookings = provider.bookings().await;
    assert_eq!((bookings.len(), &bookings[0]["status"]), (1, &json!("cancelled")), "{bookings:?}");
}

#[tokio::test]
async fn an_acknowledgement_after_the_end_is_taken_and_undone() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let key = provider.key().await;
    let hook = consumer.hook(json!({})).await;
    provider.behave(&json!({"accept_202": true})).await;
    let reply =
        consumer.create(&provider.body(&json!({"sync_confirmation_timeout_millisecond": SHORT_MS}))).await;
    reply.assert_problem(504, "provider_timeout", "unknown");
    let id = reply.booking_id();
    consumer.until_cause(id, "compensated", SOON).await;
    let cancels = provider.calls("cancel").await.len();

    let late =
        provider.acknowledge(&key, id, &json!({"status": "confirmed", "provider_reference": "LATE-1"})).await;
    assert_eq!((late.status, &late.json["status"]), (200, &json!("cancelled")), "{late:?}");
    provider.until_calls("cancel", cancels + 1, SOON).await;
    let types = ["booking.created", "booking.cancelled", "booking.compensated", "booking.compensated"];
    hook.until_types(id, &types, SOON).await;
    let causes = ["created", "given_up", "compensated", "late_acknowledgement", "compensated"];
    assert_eq!(consumer.until_cause(id, "compensated", SOON).await, causes);
    assert!(provider.live().await.is_empty());
    assert_eq!(consumer.booking(id).await["status"], "cancelled");
}

#[tokio::test]
async fn a_cancel_is_repeated_until_the_provider_takes_it() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.next(1, "book", &json!({"drop_answer": true})).await;
    provider.next(2, "cancel", &json!({"status": 503})).await;
    let reply = consumer.create(&provider.body(&json!({}))).await;
    reply.assert_problem(502, "provider_failed", "unknown");
    consumer.until_cause(reply.booking_id(), "compensated", SOON).await;
    let cancels = provider.calls("cancel").await;
    assert_eq!(cancels.len(), 3, "{cancels:?}");
    assert!(
        cancels.iter().all(|cancel| cancel["idempotency_key"] == cancels[0]["idempotency_key"]),
        "{cancels:?}"
    );
    assert!(provider.live().await.is_empty());
}

#[tokio::test]
async fn a_cancel_that_is_declined_raises_an_alarm() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    provider.next(1, "book", &json!({"drop_answer": true})).await;
    provider
        .behave(&json!({"decline": {"code": "too_late", "message": "Too late."}, "operations": ["cancel"]}))
        .await;
    let reply = consumer.create(&provider.body(&json!({}))).await;
    reply.assert_problem(502, "provider_failed", "unknown");
    let id = reply.booking_id();
    hook.until_types(id, &["booking.created", "booking.cancelled", "booking.compensation_failed"], SOON)
        .await;
    dead_letters_about(&world, id, SOON).await;
}

/// The time from one moment to another, in milliseconds.
pub(super) fn elapsed_ms(from: &serde_json::Value, to: &serde_json::Value) -> u64 {
    let time = |value: &serde_json::Value| {
        holdfast_domain::Timestamp::parse_rfc3339(value.as_str().unwrap())
            .unwrap_or_else(|_| panic!("no time: {value}"))
    };
    time(from).ms_until(time(to))
}
