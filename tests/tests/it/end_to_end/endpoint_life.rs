//! Consumers look after their webhook endpoints: change and try them, rotate secrets, read the log, replay.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{Consumer, Hook, SOON, World, list, text, until};

async fn call(consumer: &Consumer<'_>, method: Method, hook: &Hook<'_>, more: &str, body: Value) -> Reply {
    let path = format!("/v1/webhook-endpoints/{}{more}", hook.id);
    Reply::of(consumer.call(method, &path).json(&body)).await
}

/// The attempts in the log, once there are so many.
async fn log(consumer: &Consumer<'_>, hook: &Hook<'_>, query: &str, count: usize) -> Vec<Value> {
    let path = format!("/v1/webhook-endpoints/{}/deliveries?{query}", hook.id);
    until(SOON, Duration::from_millis(300), "the attempts are in the log", async || {
        let entries = list(&consumer.get(&path).await.json);
        if entries.len() == count { Ok(entries) } else { Err(json!(entries)) }
    })
    .await
}

#[tokio::test]
async fn a_failed_delivery_is_in_the_log_and_is_replayed_with_the_same_id() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let settings = json!({"event_types": ["booking.confirmed"], "retry_schedule_seconds": [0]});
    let hook = consumer.hook(settings).await;
    let other = consumer.hook(json!({"event_types": ["webhook.exhausted"]})).await;
    hook.behave(&json!({"status": 500})).await;
    let since = text(&hook.created["created_at"]);
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let first = hook.until_messages(&id, 1, SOON).await;
    let failed = log(&consumer, &hook, "status=failed", 1).await;
    assert_eq!(
        (&failed[0]["status"], &failed[0]["attempt"], &failed[0]["event_id"]),
        (&json!(500), &json!(1), &first[0]["webhook_id"])
    );
    other.until_messages(&hook.id, 1, SOON).await;

    hook.behave(&json!({"secret": hook.created["secret"]})).await;
    let replay = json!({"since": since, "only_failed": true});
    let asked = call(&consumer, Method::POST, &hook, "/replay", replay).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let messages = hook.until_messages(&id, 2, SOON).await;
    assert_eq!(messages[0]["webhook_id"], messages[1]["webhook_id"]);
    assert_eq!(messages[0]["body"], messages[1]["body"]);
    let entries = log(&consumer, &hook, "", 2).await;
    assert_eq!((&entries[0]["attempt"], &entries[0]["succeeded"]), (&json!(2), &json!(true)));
}

#[tokio::test]
async fn an_endpoint_is_changed_tried_and_its_secret_rotated() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({"event_types": ["booking.cancelled"]})).await;
    let patched =
        call(&consumer, Method::PATCH, &hook, "", json!({"event_types": ["booking.confirmed"]})).await;
    assert_eq!((patched.status, &patched.json["event_types"]), (200, &json!(["booking.confirmed"])));
    let tried = call(&consumer, Method::POST, &hook, "/test", json!({})).await;
    assert_eq!((tried.status, &tried.json["succeeded"]), (200, &json!(true)), "{tried:?}");

    // A receiver that knows the old secret alone takes what is signed by both.
    let rotated = call(&consumer, Method::POST, &hook, "/rotate-secret", json!({})).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_ne!(rotated.json["secret"], hook.created["secret"]);
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    hook.until_types(&id, &["booking.confirmed"], SOON).await;
    hook.behave(&json!({"secret": rotated.json["secret"]})).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    hook.until_types(&id, &["booking.confirmed"], SOON).await;
}
