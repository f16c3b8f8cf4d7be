//! Consumers hear of every change: signed, at least once, and however another receiver behaves.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::compensation::elapsed_ms;
use super::reply::Reply;
use super::world::{LOOK_AGAIN, SOON, World, list, text, until};

/// What a hanging receiver gets before it is given up, and some more.
const POST_LIMIT_AND_MORE: Duration = Duration::from_secs(40);

#[tokio::test]
async fn every_change_arrives_signed() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    let created = consumer.create(&provider.body(&json!({"reference": "order-7"}))).await;
    let id = created.assert_booking(201, "confirmed");
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    let messages = hook.messages(&id).await;
    let confirmed = messages.iter().find(|message| message["type"] == "booking.confirmed").unwrap();
    let body = &confirmed["body"];
    assert!(text(&body["id"]).starts_with("evt_"), "{body}");
    assert_eq!(body["timestamp"], created.json["updated_at"]);
    assert_eq!(body["data"], created.json, "an event shows the booking as its consumer was told of it");
    let pending = messages.iter().find(|message| message["type"] == "booking.created").unwrap();
    let data = &pending["body"]["data"];
    assert_eq!((&data["status"], &data["version"]), (&json!("pending"), &json!(1)));
    assert_eq!(data["provider_reference"], json!(null), "nobody knew it then");
}

#[tokio::test]
async fn an_endpoint_gets_the_types_it_asked_for() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let all = consumer.hook(json!({})).await;
    let some = consumer.hook(json!({"event_types": ["booking.confirmed", "booking.cancelled"]})).await;
    let none = consumer.hook(json!({"enabled": false})).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    all.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    some.until_types(&id, &["booking.confirmed"], SOON).await;
    assert!(none.messages(&id).await.is_empty());
}

#[tokio::test]
async fn consumers_hear_of_their_own_bookings_alone() {
    let world = World::new();
    let (consumer, other) = (world.consumer().await, world.consumer().await);
    let provider = world.provider().await;
    let (hook, others_hook) = (consumer.hook(json!({})).await, other.hook(json!({})).await);
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let others_id = other.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    others_hook.until_types(&others_id, &["booking.created", "booking.confirmed"], SOON).await;
    assert!(hook.messages(&others_id).await.is_empty() && others_hook.messages(&id).await.is_empty());
}

#[tokio::test]
async fn a_failing_receiver_is_tried_again_by_its_schedule() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let schedule = json!({"event_types": ["booking.confirmed"], "retry_schedule_seconds": [0, 1, 2, 1]});
    let hook = consumer.hook(schedule).await;
    hook.behave(&json!({"fail_next": 2})).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    // A message is in the inbox before it is answered.
    let messages = until(SOON, LOOK_AGAIN, "three messages are answered", async || {
        let messages = hook.messages(&id).await;
        let answered = messages.iter().filter(|message| !message["answered_status"].is_null()).count();
        if answered >= 3 { Ok(messages) } else { Err(json!(messages)) }
    })
    .await;
    let answers: Vec<_> = messages.iter().map(|message| message["answered_status"].clone()).collect();
    assert_eq!(answers, [json!(500), json!(500), json!(200)]);
    for message in &messages {
        assert_eq!(message["webhook_id"], messages[0]["webhook_id"]);
        assert_eq!(message["body"], messages[0]["body"]);
    }
    // The schedule less its jitter of a fifth.
    assert!(elapsed_ms(&messages[0]["received_at"], &messages[1]["received_at"]) >= 750, "{messages:?}");
    assert!(elapsed_ms(&messages[1]["received_at"], &messages[2]["received_at"]) >= 1_550, "{messages:?}");
}

#[tokio::test]
async fn a_schedule_that_is_used_up_ends() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let schedule = json!({"event_types": ["booking.confirmed"], "retry_schedule_seconds": [0, 1, 1]});
    let (hook, other) = (consumer.hook(schedule.clone()).await, consumer.hook(schedule).await);
    hook.behave(&json!({"status": 500})).await;
    // This one goes on after the other's end, which shows that the other's end was waited for.
    other.behave(&json!({"status": 503, "fail_next": 2, "retry_after_seconds": 4})).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    hook.until_messages(&id, 3, SOON).await;
    let others = other.until_messages(&id, 3, SOON).await;
    assert!(elapsed_ms(&others[0]["received_at"], &others[1]["received_at"]) >= 3_900, "{others:?}");
    assert_eq!(hook.messages(&id).await.len(), 3);
}

#[tokio::test]
async fn a_hanging_receiver_holds_up_nobody() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let schedule = json!({"event_types": ["booking.confirmed"], "retry_schedule_seconds": [0, 1]});
    let (hanging, quick) = (consumer.hook(schedule.clone()).await, consumer.hook(schedule).await);
    hanging.behave(&json!({"hang": true})).await;
    let body = provider.body(&json!({}));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(consumer.create(&body).await.assert_booking(201, "confirmed"));
    }
    for id in &ids {
        quick.until_messages(id, 1, Duration::from_secs(12)).await;
    }
    // Given up, it is tried again, and takes the same event when it is well.
    let first = hanging.until_messages(&ids[0], 1, SOON).await;
    hanging.behave(&json!({})).await;
    let messages = hanging.until_messages(&ids[0], 2, POST_LIMIT_AND_MORE).await;
    assert_eq!(messages[1]["webhook_id"], first[0]["webhook_id"]);
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let world = World::new();
    let consumer = world.consumer().await;
    let hook = consumer.hook(json!({"headers": {"x-token": "do-not-show"}})).await;
    let secret = text(&hook.created["secret"]);
    assert!(secret.starts_with("whsec_"));
    let one = consumer.get(&format!("/v1/webhook-endpoints/{}", hook.id)).await;
    let all = consumer.get("/v1/webhook-endpoints").await;
    assert_eq!((one.status, all.status), (200, 200), "{one:?} {all:?}");
    assert_eq!(list(&all.json), std::slice::from_ref(&one.json));
    for shown in [one, all] {
        let shown = String::from_utf8_lossy(&shown.bytes).into_owned();
        assert!(!shown.contains(&secret) && !shown.contains("do-not-show"), "{shown}");
    }
    assert!(!hook.created.to_string().contains("do-not-show"));
}

#[tokio::test]
async fn a_deleted_endpoint_gets_nothing_more() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let (deleted, kept) = (consumer.hook(json!({})).await, consumer.hook(json!({})).await);
    let path = format!("/v1/webhook-endpoints/{}", deleted.id);
    let gone = Reply::of(consumer.call(Method::DELETE, &path)).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    consumer.get(&path).await.assert_problem(404, "not_found", "none");
    Reply::of(consumer.call(Method::DELETE, &path)).await.assert_problem(404, "not_found", "none");
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    kept.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    assert!(deleted.messages(&id).await.is_empty());
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_gone_is_disabled() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({"event_types": ["booking.confirmed"]})).await;
    hook.behave(&json!({"status": 410})).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    hook.until_messages(&id, 1, SOON).await;
    until(SOON, Duration::from_millis(500), "the endpoint is disabled", async || {
        let endpoint = consumer.get(&format!("/v1/webhook-endpoints/{}", hook.id)).await;
        if endpoint.json["enabled"] == false { Ok(()) } else { Err(endpoint.json) }
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_is_its_consumers_own_and_well_formed() {
    let world = World::new();
    let (consumer, other) = (world.consumer().await, world.consumer().await);
    let hook = consumer.hook(json!({})).await;
    let path = format!("/v1/webhook-endpoints/{}", hook.id);
    other.get(&path).await.assert_problem(404, "not_found", "none");
    Reply::of(other.call(Method::DELETE, &path)).await.assert_problem(404, "not_found", "none");
    assert!(list(&other.get("/v1/webhook-endpoints").await.json).is_empty());
    for (body, pointers) in [
        (json!({"url": "not a url"}), &["/url"][..]),
        (json!({"url": "ftp://example.com/"}), &["/url"]),
        (json!({"url": "https://example.com/", "event_types": ["booking.painted"]}), &["/event_types/0"]),
        (json!({"url": "https://example.com/", "retry_schedule_seconds": []}), &["/retry_schedule_seconds"]),
        (json!({"url": "https://example.com/", "headers": {"Webhook-Id": "x"}}), &["/headers/Webhook-Id"]),
        (json!({"url": "https://example.com/", "colour": "blue"}), &["/colour"]),
    ] {
        let reply = Reply::of(consumer.call(Method::POST, "/v1/webhook-endpoints").json(&body)).await;
        reply.assert_problem(422, "invalid_request", "none");
        assert_eq!(reply.pointers(), pointers, "{body}");
    }
}
