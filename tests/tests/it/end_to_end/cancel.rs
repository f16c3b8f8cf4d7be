//! A consumer withdraws a booking.

use reqwest::Method;
use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{Consumer, Provider, SHORT_MS, SOON, World};

fn patiently(changes: &Value) -> Value {
    let mut wish = json!({"reason": "ill", "sync_confirmation_timeout_millisecond": 10_000});
    for (name, value) in changes.as_object().unwrap() {
        wish[name] = value.clone();
    }
    wish
}

async fn booked(consumer: &Consumer<'_>, provider: &Provider<'_>) -> String {
    consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed")
}

#[tokio::test]
async fn what_stands_is_cancelled_told_and_replayed() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    for hold in [false, true] {
        let created = consumer.create(&provider.body(&json!({"hold": hold}))).await;
        let status = if hold { "reserved" } else { "confirmed" };
        let id = created.assert_booking(201, status);
        let wish = patiently(&json!({"note": "Next week perhaps."}));
        let first = consumer.cancel_with_key(&id, "c-1", &wish).await;
        first.assert_booking(200, "cancelled");
        let words = json!({"by": "consumer", "reason": "ill", "note": "Next week perhaps."});
        assert_eq!((&first.json["cancellation"], &first.json["operation"]), (&words, &Value::Null));
        let calls = provider.calls("cancel").await;
        let call = calls.iter().find(|call| call["booking_id"] == id.as_str()).unwrap();
        assert_eq!((&call["idempotency_key"], &call["attempt"]), (&json!(format!("{id}:2")), &json!(1)));
        assert!(provider.live().await.is_empty());

        consumer.cancel_with_key(&id, "c-1", &wish).await.assert_replays(&first);
        let other = consumer.cancel_with_key(&id, "c-1", &json!({})).await;
        other.assert_problem(422, "idempotency_key_reused", "none");
        // The same body in other words, and none at all, are cancelled already.
        Reply::of(consumer.cancelling(&id, &json!({}))).await.assert_booking(200, "cancelled");
        let bare = Reply::of(consumer.call(Method::POST, &format!("/v1/bookings/{id}/cancel"))).await;
        bare.assert_booking(200, "cancelled");
        assert_eq!(provider.calls("cancel").await.len(), calls.len(), "nothing is sent twice");

        let type_at_first = format!("booking.{status}");
        hook.until_types(&id, &["booking.created", &type_at_first, "booking.cancelled"], SOON).await;
        let messages = hook.messages(&id).await;
        let told = messages.iter().find(|message| message["type"] == "booking.cancelled").unwrap();
        assert_eq!(told["body"]["data"], first.json, "an event shows what its consumer was told");
        let causes = consumer.until_cause(&id, "withdrawn_by_consumer", SOON).await;
        assert_eq!(causes, ["created", "provider_acknowledged", "operation_begun", "withdrawn_by_consumer"]);
    }
}

#[tokio::test]
async fn a_refusal_leaves_the_booking_as_it_was() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    let id = booked(&consumer, &provider).await;
    let before = consumer.booking(&id).await;
    let decline = json!({"code": "too_late", "message": "Ask us a day before.", "status": 422});
    provider.behave(&json!({"decline": decline, "operations": ["cancel"]})).await;
    let declined = consumer.cancel_with_key(&id, "c-1", &patiently(&json!({}))).await;
    declined.assert_problem(409, "operation_declined", "none");
    let rejection = json!({
        "code": "declined_by_provider", "message": "Ask us a day before.", "provider_code": "too_late"
    });
    assert_eq!((&declined.json["rejection"], declined.booking_id()), (&rejection, id.as_str()));
    let mut after = consumer.booking(&id).await;
    assert_eq!(after["version"], 4);
    for changed in ["version", "updated_at"] {
        after[changed] = before[changed].clone();
    }
    assert_eq!(after, before);
    assert_eq!(provider.live().await, [id.as_str()]);
    hook.until_types(&id, &["booking.created", "booking.confirmed", "booking.operation_failed"], SOON).await;
    let messages = hook.messages(&id).await;
    let failed = messages.iter().find(|message| message["type"] == "booking.operation_failed").unwrap();
    assert_eq!(failed["body"]["data"]["rejection"], rejection);
    assert_eq!(failed["body"]["data"]["status"], "confirmed");

    provider.behave(&json!({})).await;
    consumer.cancel_with_key(&id, "c-1", &patiently(&json!({}))).await.assert_replays(&declined);
    let cancelled = consumer.cancel_with_key(&id, "c-2", &patiently(&json!({}))).await;
    cancelled.assert_booking(200, "cancelled");
    assert!(provider.live().await.is_empty());
}

#[tokio::test]
async fn a_silent_provider_is_asked_on_in_the_background() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    let id = booked(&consumer, &provider).await;
    provider.next(1, "cancel", &json!({"hang": true})).await;
    let wish = json!({"sync_confirmation_timeout_millisecond": SHORT_MS});
    let in_the_meantime = async {
        provider.until_calls("cancel", 1, SOON).await;
        let other = consumer.cancel_with_key(&id, "c-2", &wish).await;
        other.assert_problem(409, "operation_in_flight", "none");
        other.retry_after_s();
        consumer.erase_customer(&id).await.assert_problem(409, "operation_in_flight", "none");
        let repeated = consumer.cancelling(&id, &wish).header("idempotency-key", "c-1");
        Reply::of(repeated.header("prefer", "wait=10")).await
    };
    let (first, repeated) = tokio::join!(consumer.cancel_with_key(&id, "c-1", &wish), in_the_meantime);
    first.assert_booking(202, "confirmed");
    first.retry_after_s();
    assert_eq!(first.json["operation"]["kind"], "cancel", "{first:?}");
    repeated.assert_replays(&first);
    let booking = consumer.until_status(&id, "cancelled", SOON).await;
    assert_eq!(booking["cancellation"], json!({"by": "consumer", "reason": null, "note": null}));
    hook.until_types(&id, &["booking.created", "booking.confirmed", "booking.cancelled"], SOON).await;
    let keys: Vec<_> =
        provider.calls("cancel").await.iter().map(|call| call["idempotency_key"].clone()).collect();
    assert_eq!(keys, [json!(format!("{id}:2")), json!(format!("{id}:2"))]);
    assert!(provider.live().await.is_empty());
    consumer.cancel_with_key(&id, "c-1", &wish).await.assert_replays(&first);
    assert_eq!(consumer.erase_customer(&id).await.status, 204);
}

#[tokio::test]
async fn what_is_pending_is_cancelled_at_once_and_undone() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    // It is booked there, which nobody can learn.
    provider.next(1, "book", &json!({"drop_answer": true})).await;
    provider.behave(&json!({"status": 503, "operations": ["look_up"]})).await;
    let body = provider.body(&json!({"async_confirmation": true}));
    let created = consumer.create_with_key("k", &body).await;
    let id = created.assert_booking(202, "pending");
    let cancelled = consumer.cancel_with_key(&id, "c", &json!({"reason": "ill"})).await;
    cancelled.assert_booking(200, "cancelled");
    assert_eq!((&cancelled.json["version"], &cancelled.json["operation"]), (&json!(2), &Value::Null));
    provider.behave(&json!({})).await;
    hook.until_types(&id, &["booking.created", "booking.cancelled", "booking.compensated"], SOON).await;
    assert!(provider.live().await.is_empty());
    consumer.cancel_with_key(&id, "c", &json!({"reason": "ill"})).await.assert_replays(&cancelled);
    consumer.create_with_key("k", &body).await.assert_replays(&created);
}

#[tokio::test]
async fn what_cannot_be_cancelled_is_refused() {
    let world = World::new();
    let (consumer, other) = (world.consumer().await, world.consumer().await);
    let provider = world.provider().await;
    let id = booked(&consumer, &provider).await;
    for (body, pointers) in [
        (json!({"reason": " "}), &["/reason"][..]),
        (json!({"note": "n".repeat(501)}), &["/note"]),
        (json!({"because": "ill"}), &["/because"]),
        (
            json!({"sync_confirmation_timeout_millisecond": 999, "async_confirmation_timeout_millisecond": 1}),
            &["/sync_confirmation_timeout_millisecond", "/async_confirmation_timeout_millisecond"],
        ),
    ] {
        let reply = consumer.cancel_with_key(&id, "c", &body).await;
        reply.assert_problem(422, "invalid_request", "none");
        assert_eq!(reply.pointers(), pointers, "{body}");
    }
    for id in [id.as_str(), "bkg_00000000000000000000000000", "nonsense"] {
        let reply = other.cancel_with_key(id, "c", &json!({})).await;
        reply.assert_problem(404, "not_found", "none");
        other.erase_customer(id).await.assert_problem(404, "not_found", "none");
    }
    let keys = consumer.cancelling(&id, &json!({})).header("idempotency-key", "a");
    let keys = Reply::of(keys.header("x-idempotency-key", "b")).await;
    keys.assert_problem(400, "idempotency_key_conflict", "none");
    let key = provider.key().await;
    let path = format!("/v1/bookings/{id}/cancel");
    let reply = Reply::of(world.call(Method::POST, &path).bearer_auth(key).json(&json!({}))).await;
    reply.assert_problem(403, "forbidden", "none");
    Reply::of(world.call(Method::POST, &path)).await.assert_problem(401, "unauthenticated", "none");
    assert!(provider.calls("cancel").await.is_empty());
    // None of it used the key up.
    consumer.cancel_with_key(&id, "c", &patiently(&json!({}))).await.assert_booking(200, "cancelled");
}
