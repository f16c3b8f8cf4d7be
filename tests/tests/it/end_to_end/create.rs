//! What a create answers: the rows of the contract's table, with and without confirmation in the background.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Provider, SHORT_MS, SOON, World};

/// An answer that comes long after every limit.
const MUCH_LATER_MS: u64 = 25_000;

#[tokio::test]
async fn an_acknowledgement_in_time_confirms() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    for is_async in [false, true] {
        let wishes = json!({
            "async_confirmation": is_async,
            "reference": "order-1001",
            "notes": "by the window",
            "metadata": {"channel": "app"},
        });
        let reply = consumer.create(&provider.body(&wishes)).await;
        let id = reply.assert_booking(201, "confirmed");
        let booking = &reply.json;
        assert_eq!(booking["provider_id"], provider.id.as_str());
        assert_eq!(booking["reference"], "order-1001");
        assert_eq!(booking["metadata"], json!({"channel": "app"}));
        assert_eq!(booking["slot"], provider.body(&json!({}))["slot"]);
        assert_eq!(booking["version"], 2);
        for absent in ["operation", "rejection", "cancellation", "expires_at"] {
            assert_eq!(booking[absent], Value::Null, "{absent}");
        }
        let bookings = provider.bookings().await;
        let made = bookings.iter().find(|made| made["booking_id"] == id.as_str()).unwrap();
        assert_eq!((&made["status"], &made["book_count"]), (&json!("confirmed"), &json!(1)));
        assert_eq!(made["provider_reference"], booking["provider_reference"]);
    }
    let calls = provider.calls("book").await;
    assert_eq!(calls.len(), 2);
    for call in &calls {
        assert_eq!(call["idempotency_key"], call["booking_id"]);
        assert_eq!((&call["signature_valid"], &call["attempt"]), (&json!(true), &json!(1)));
    }
    assert!(provider.calls("look_up").await.is_empty() && provider.calls("cancel").await.is_empty());
}

#[tokio::test]
async fn a_hold_is_reserved_and_runs_out_by_itself() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.behave(&json!({"expires_in_seconds": 4})).await;
    let hook = consumer.hook(json!({})).await;
    let reply = consumer.create(&provider.body(&json!({"hold": true}))).await;
    let id = reply.assert_booking(201, "reserved");
    assert!(reply.json["expires_at"].is_string(), "{reply:?}");
    let expired = consumer.until_status(&id, "expired", SOON).await;
    assert_eq!(expired["expires_at"], Value::Null);
    hook.until_types(&id, &["booking.created", "booking.reserved", "booking.expired"], SOON).await;
}

#[tokio::test]
async fn a_decline_is_passed_on_in_the_providers_words() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.behave(&json!({"decline": {"code": "fully_booked", "message": "We are full that day."}})).await;
    let hook = consumer.hook(json!({})).await;
    for is_async in [false, true] {
        let reply = consumer.create(&provider.body(&json!({"async_confirmation": is_async}))).await;
        reply.assert_problem(409, "booking_declined", "none");
        assert_eq!(reply.json["detail"], "We are full that day.");
        let rejection = json!({
            "code": "declined_by_provider",
            "message": "We are full that day.",
            "provider_code": "fully_booked",
        });
        assert_eq!(reply.json["rejection"], rejection);
        let booking = consumer.booking(reply.booking_id()).await;
        assert_eq!((&booking["status"], &booking["rejection"]), (&json!("rejected"), &rejection));
        hook.until_types(reply.booking_id(), &["booking.created", "booking.rejected"], SOON).await;
    }
    assert!(provider.bookings().await.is_empty());
    assert!(provider.calls("cancel").await.is_empty(), "there is nothing to undo");
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_fails_without_side_effects() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, Provider::named(&world).await);
    // Nobody listens on port 1 of the loopback.
    provider.configure(&json!({"base_url": "http://127.0.0.1:1/providers/nobody"})).await;
    let reply = consumer.create(&provider.body(&json!({}))).await;
    reply.assert_problem(502, "provider_failed", "none");
    let booking = consumer.booking(reply.booking_id()).await;
    assert_eq!(booking["status"], "cancelled");
    assert_eq!(booking["cancellation"]["by"], "system");
    assert_eq!(booking["cancellation"]["reason"], "provider_failed");
}

#[tokio::test]
async fn a_target_in_a_private_network_is_never_called() {
    let world = World::new();
    let consumer = world.consumer().await;
    // Cloud machines' own metadata, a private network, and another name for the loopback.
    for base_url in ["http://169.254.169.254/latest", "http://[::ffff:10.0.0.1]/", "http://0.0.0.0/"] {
        let provider = Provider::named(&world).await;
        provider.configure(&json!({"base_url": base_url})).await;
        let reply = consumer.create(&provider.body(&json!({}))).await;
        reply.assert_problem(502, "provider_failed", "none");
        assert!(reply.took < Duration::from_secs(5), "{base_url} was tried: {:?}", reply.took);
    }
}

#[tokio::test]
async fn a_failure_with_background_confirmation_is_pending_until_the_provider_recovers() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    provider.next(1, "book", &json!({"status": 500})).await;
    let reply = consumer.create(&provider.body(&json!({"async_confirmation": true}))).await;
    let id = reply.assert_booking(202, "pending");
    reply.retry_after_s();
    let operation = &reply.json["operation"];
    assert_eq!((&operation["kind"], &operation["attempts"]), (&json!("book"), &json!(1)));
    assert_eq!(operation["last_error"], "http_500");
    assert!(operation["next_attempt_at"].is_string() && operation["deadline_at"].is_string(), "{operation}");
    let booking = consumer.until_status(&id, "confirmed", SOON).await;
    assert_eq!((&booking["version"], &booking["operation"]), (&json!(2), &Value::Null));
    assert_eq!(provider.live().await, [id.as_str()]);
    assert_eq!(provider.calls("book").await.len(), 2);
    assert_eq!(provider.calls("look_up").await.len(), 1, "it is asked before it is sent anything again");
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
}

#[tokio::test]
async fn silence_with_background_confirmation_is_pending_and_what_was_booked_is_found() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.behave(&json!({"latency_ms": MUCH_LATER_MS, "operations": ["book"]})).await;
    let wishes = json!({"async_confirmation": true, "sync_confirmation_timeout_millisecond": SHORT_MS});
    let reply = consumer.create(&provider.body(&wishes)).await;
    let id = reply.assert_booking(202, "pending");
    reply.retry_after_s();
    assert!(reply.took >= Duration::from_millis(SHORT_MS - 100), "too early: {:?}", reply.took);
    assert!(reply.took < Duration::from_millis(SHORT_MS + 2_500), "too late: {:?}", reply.took);
    assert_eq!(reply.json["operation"]["last_error"], "timed_out");
    let booking = consumer.until_status(&id, "confirmed", SOON).await;
    assert_eq!(booking["provider_reference"], provider.bookings().await[0]["provider_reference"]);
    assert_eq!(provider.calls("book").await.len(), 1, "what is found is not sent again");
    assert_eq!(provider.live().await, [id]);
}

#[tokio::test]
async fn a_call_back_within_the_limit_confirms() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.key().await;
    provider.behave(&json!({"accept_202": true, "callback_after_ms": 700})).await;
    for is_async in [false, true] {
        let reply = consumer.create(&provider.body(&json!({"async_confirmation": is_async}))).await;
        let id = reply.assert_booking(201, "confirmed");
        assert!(provider.live().await.contains(&id));
        assert!(reply.json["provider_reference"].is_string(), "{reply:?}");
    }
    assert_eq!(provider.calls("book").await.len(), 2);
}

#[tokio::test]
async fn a_call_back_within_the_limit_declines() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.key().await;
    let behaviour = json!({"accept_202": true, "callback_after_ms": 700, "callback_status": "rejected"});
    provider.behave(&behaviour).await;
    let reply = consumer.create(&provider.body(&json!({}))).await;
    assert_eq!((reply.status, &reply.json["code"]), (409, &json!("booking_declined")), "{reply:?}");
    assert_eq!(reply.json["rejection"]["code"], "declined_by_provider");
    assert_eq!(reply.json["rejection"]["provider_code"], "rejected");
    assert_eq!(consumer.booking(reply.booking_id()).await["status"], "rejected");
}

#[tokio::test]
async fn a_call_back_after_the_limit_confirms_what_is_pending() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.key().await;
    provider.behave(&json!({"accept_202": true, "callback_after_ms": SHORT_MS + 2_000})).await;
    let wishes = json!({"async_confirmation": true, "sync_confirmation_timeout_millisecond": SHORT_MS});
    let reply = consumer.create(&provider.body(&wishes)).await;
    let id = reply.assert_booking(202, "pending");
    assert_eq!(reply.json["operation"]["last_error"], "accepted_for_later");
    consumer.until_status(&id, "confirmed", SOON).await;
    assert_eq!(provider.live().await, [id]);
    assert_eq!(provider.calls("book").await.len(), 1);
}
