//! Receivers of webhooks that are bad at HTTP, on real sockets: a delivery counts if, and only if, a 2xx came within
//! the limit; all others come again, the same, and hold up nobody.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::reply::Reply;
use super::sockets::{Ending, Fault, Wire};
use super::world::{ASK_AGAIN, Hook, SETTLED, SOON, World, list, next_actor, text, until};

/// A pause between two bytes with which no head is complete within 15 seconds.
const SLOWLY: Duration = Duration::from_millis(400);
/// Where a redirect leads, which the wire would see.
const ELSEWHERE: &str = "/elsewhere";
/// More than is read of an answer.
const ENORMOUS_BYTES: usize = 3 * 1024 * 1024;

fn answer(head: &str, body: &[u8]) -> Ending {
    let mut bytes = format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Ending::Bytes(bytes)
}

/// What a receiver answers, and whether that is a success: only the head decides.
fn endings() -> Vec<(&'static str, Ending, bool)> {
    let redirect = format!("308 Permanent Redirect\r\nLocation: {ELSEWHERE}\r\nContent-Length: 0");
    vec![
        ("a reset", Ending::Reset, false),
        ("an end without a byte", Ending::Close, false),
        ("no HTTP", Ending::Bytes(b"220 mail.example.com ESMTP\r\n".to_vec()), false),
        ("a redirect", answer(&redirect, b""), false),
        (
            "an enormous head",
            answer(&format!("200 OK\r\nX-Long: {}", "x".repeat(ENORMOUS_BYTES)), b""),
            false,
        ),
        ("a reset after the head", Ending::ResetAfterHead, true),
        ("an end within the body", Ending::CloseMidBody, true),
        ("an enormous body", answer("200 OK", "x".repeat(ENORMOUS_BYTES).as_bytes()), true),
        ("an empty 204", answer("204 No Content", b""), true),
        ("one byte at a time", Ending::Drip(SLOWLY), false),
        ("nothing", Ending::Hang, false),
        ("interim answers for ever", Ending::Interim, false),
    ]
}

async fn log_of(consumer: &super::world::Consumer<'_>, hook: &Hook<'_>) -> Vec<Value> {
    let log = consumer.get(&format!("/v1/webhook-endpoints/{}/deliveries", hook.id)).await;
    assert_eq!(log.status, 200, "{log:?}");
    list(&log.json)
}

#[tokio::test]
async fn only_a_2xx_in_time_is_a_delivery_and_all_else_comes_again() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let well = consumer.hook(json!({"event_types": ["booking.confirmed"]})).await;
    let schedule = json!({"event_types": ["booking.confirmed"], "retry_schedule_seconds": [0, 1, 1]});
    let mut receivers = Vec::new();
    for (name, ending, is_delivered) in endings() {
        let (wire, inbox) = Wire::before_url(&world.stack.webhook_inbox_url).await;
        let hook = consumer.hook_at(&inbox, schedule.clone()).await;
        let planned = wire.plan(&["POST /hooks/"], 1, Fault::served(ending));
        receivers.push((name, wire, hook, planned, is_delivered));
    }
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    well.until_messages(&id, 1, SOON).await;
    join_all(receivers.into_iter().map(async |(name, wire, hook, mut planned, is_delivered)| {
        planned.met(1, SETTLED).await;
        let log = until(SETTLED, ASK_AGAIN, &format!("{name}: it is delivered"), async || {
            let log = log_of(&consumer, &hook).await;
            let is_done = log.iter().any(|entry| entry["status"].as_u64().is_some_and(|it| it / 100 == 2));
            if is_done { Ok(log) } else { Err(json!(log)) }
        })
        .await;
        let posts = wire.requests();
        assert!(posts.iter().all(|line| !line.contains(ELSEWHERE)), "{name}: it was followed: {posts:?}");
        let (attempts, expected) = (log.len(), if is_delivered { 1 } else { 2 });
        // At least once; and the log of attempts may miss one.
        assert!(posts.len() >= expected && attempts <= posts.len(), "{name}: {posts:?} {log:?}");
        let messages = hook.messages(&id).await;
        for message in &messages {
            assert_eq!(
                (&message["webhook_id"], &message["body"]),
                (&messages[0]["webhook_id"], &messages[0]["body"])
            );
        }
        assert_eq!(text(&messages[0]["webhook_id"]), text(&log[0]["event_id"]), "{name}");
    }))
    .await;
}

/// Names and addresses that must not be reached, whatever they are called; the local stack allows two by name.
#[tokio::test]
async fn a_receiver_whose_name_leads_inside_is_never_connected_to() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let (wire, _) = Wire::before_url(&world.stack.webhook_inbox_url).await;
    let port = wire.address.port();
    // Every one of them is this machine.
    for host in ["127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706434", "localhost.localdomain"]
    {
        let body = json!({
            "url": format!("http://{host}:{port}/hooks/inside-{}", next_actor()),
            "event_types": ["booking.confirmed"], "retry_schedule_seconds": [0],
        });
        let made = Reply::of(consumer.call(Method::POST, "/v1/webhook-endpoints").json(&body)).await;
        if made.status == 422 {
            assert_eq!(made.pointers(), ["/url"], "{host}");
            continue;
        }
        assert_eq!(made.status, 201, "{host}: {made:?}");
        let path = format!("/v1/webhook-endpoints/{}/test", text(&made.json["id"]));
        let tried = Reply::of(consumer.call(Method::POST, &path)).await;
        assert!(tried.status == 200 && tried.json["status"].is_null(), "{host}: {tried:?}");
    }
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let well = consumer.hook(json!({"event_types": ["booking.cancelled"]})).await;
    let cancel = consumer.cancelling(&id, &json!({}));
    Reply::of(cancel).await;
    well.until_messages(&id, 1, SOON).await;
    assert!(wire.requests().is_empty(), "{:?}", wire.requests());
}

/// There is no TLS at the local stack, so that whoever wants it gets none; and is told as a failure.
#[tokio::test]
async fn a_receiver_that_cannot_do_tls_is_tried_again() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let (wire, inbox) = Wire::before_url(&world.stack.webhook_inbox_url).await;
    let schedule = json!({"event_types": ["booking.confirmed"], "retry_schedule_seconds": [0, 1, 1]});
    let hook = consumer.hook_at(&inbox.replace("http://", "https://"), schedule).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let log = until(SETTLED, ASK_AGAIN, "it was tried three times", async || {
        let log = log_of(&consumer, &hook).await;
        if log.len() == 3 { Ok(log) } else { Err(json!(log)) }
    })
    .await;
    assert!(log.iter().all(|entry| entry["status"].is_null()), "{log:?}");
    assert!(hook.messages(&id).await.is_empty() && wire.requests().is_empty());
}
