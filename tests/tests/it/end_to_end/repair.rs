//! What operators see and set right, as the one on call does it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{ASK_AGAIN, SETTLED, SOON, World, list, until};
use super::wrap_up::client;

/// How long the provider asks to be left alone, in seconds: far longer than a test.
const LONG_S: u64 = 600;

async fn post(world: &World, path: &str, body: &Value) -> Value {
    let reply = Reply::of(world.admin(Method::POST, path).json(body)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json
}

async fn get(world: &World, path: &str) -> Value {
    let reply = Reply::of(world.admin(Method::GET, path)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json
}

fn because(reason: &str) -> Value {
    json!({ "reason": reason })
}

/// How many letters wait in a queue.
async fn waiting(world: &World, queue: &str) -> u64 {
    let stuck = get(world, "/v1/admin/stuck?limit=1").await;
    let queues = stuck["dead_letters"].as_array().unwrap();
    let found = queues.iter().find(|entry| entry["queue"] == queue);
    found.unwrap()["messages"].as_u64().unwrap()
}

#[tokio::test]
async fn what_waits_is_done_at_once_when_an_operator_says_so() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.next(1, "book", &json!({"status": 429, "retry_after_seconds": LONG_S})).await;
    let body = provider.body(&json!({"async_confirmation": true}));
    let id = consumer.create(&body).await.assert_booking(202, "pending");
    let path = format!("/v1/admin/bookings/{id}");
    let seen = get(&world, &path).await;
    assert_eq!((&seen["next_step"], &seen["operation"]["attempts"]), (&json!("wait"), &json!(1)), "{seen}");
    let retried = post(&world, &format!("{path}/retry"), &because("the clinic called")).await;
    assert_eq!(retried["changed"], true, "{retried}");
    consumer.until_status(&id, "confirmed", SOON).await;
    let again = post(&world, &format!("{path}/retry"), &because("the clinic called")).await;
    assert_eq!(again["changed"], false, "{again}");
    assert_eq!(provider.live().await, [id.as_str()]);
    // Whose booking it is makes nobody an operator.
    let consumers = Reply::of(consumer.call(Method::GET, &path)).await;
    consumers.assert_problem(403, "forbidden", "none");
}

#[tokio::test]
async fn an_operator_ends_a_booking_and_what_its_provider_holds_is_undone() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let path = format!("/v1/admin/bookings/{id}");
    let ended = post(&world, &format!("{path}/cancel"), &because("ticket 4711")).await;
    assert_eq!((&ended["changed"], &ended["booking"]["status"]), (&json!(true), &json!("cancelled")));
    let types = ["booking.created", "booking.confirmed", "booking.cancelled", "booking.compensated"];
    hook.until_types(&id, &types, SETTLED).await;
    let booking = consumer.booking(&id).await;
    assert_eq!(booking["cancellation"], json!({"by": "system", "reason": "operator", "note": null}));
    assert!(provider.live().await.is_empty());
    let causes = consumer.until_cause(&id, "compensated", SOON).await;
    assert_eq!(causes, ["created", "provider_acknowledged", "cancelled_by_operator", "compensated"]);
    let again = post(&world, &format!("{path}/cancel"), &because("ticket 4711")).await;
    assert_eq!(
        (&again["changed"], &again["booking"]["compensation"]["status"]),
        (&json!(false), &json!("done"))
    );

    // The events once more: as many, and whoever has them takes them for repetitions.
    let emitted = post(&world, &format!("{path}/re-emit"), &because("a rule was missing")).await;
    assert_eq!(emitted, json!({"booking_id": id, "events": 4}));

    let log = get(&world, "/v1/admin/audit?limit=100").await;
    let mut about: Vec<Value> =
        list(&log).into_iter().filter(|entry| entry["subject"] == id.as_str()).collect();
    about.reverse();
    let actions: Vec<&Value> = about.iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["cancel", "cancel", "re_emit"], "{log}");
    assert_eq!((&about[0]["key_id"], &about[0]["reason"]), (&json!("bootstrap"), &json!("ticket 4711")));
}

/// It takes whatever letters there are, which others wait for.
#[tokio::test]
async fn dead_letters_are_served_once_what_failed_is_mended() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let _turn = world.turn().await;
    provider.next(1, "book", &json!({"drop_answer": true})).await;
    let refuses = json!({"decline": {"code": "too_late", "message": "Too late."}, "operations": ["cancel"]});
    provider.behave(&refuses).await;
    let reply = consumer.create(&provider.body(&json!({}))).await;
    reply.assert_problem(502, "provider_failed", "unknown");
    let id = reply.booking_id();
    consumer.until_cause(id, "compensation_failed", SOON).await;
    let there = async || match waiting(&world, "bookings").await {
        0 => Err(json!(0)),
        count => Ok(count),
    };
    until(SOON, ASK_AGAIN, "somebody is called to look", there).await;

    provider.behave(&json!({})).await;
    // Others' letters may come first, and more than one call may be needed.
    until(SETTLED, ASK_AGAIN, "all letters about bookings are served", async || {
        let body = json!({"queue": "bookings", "reason": "the provider cancels again"});
        let redriven = post(&world, "/v1/admin/dead-letters/redrive", &body).await;
        if waiting(&world, "bookings").await == 0 && redriven["kept"] == 0 { Ok(()) } else { Err(redriven) }
    })
    .await;
    let causes = consumer.until_cause(id, "compensated", SETTLED).await;
    assert_eq!(causes[causes.len() - 3..], ["compensation_failed", "retried_by_operator", "compensated"]);
    assert!(provider.live().await.is_empty());

    timers_are_served_again(&world, id).await;
}

/// A timer that failed again and again, as SQS moves it.
async fn timers_are_served_again(world: &World, booking_id: &str) {
    let letter = json!({"booking_id": booking_id, "not_before": "2026-01-01T00:00:00Z"});
    let url = &world.stack.resources["TimerDeadLetterQueueUrl"];
    let sent = client(world.stack).send_message().queue_url(url).message_body(letter.to_string()).send();
    tokio::time::timeout(Duration::from_secs(10), sent).await.unwrap().unwrap();
    assert_eq!(waiting(world, "timers").await, 1);
    let body = json!({"queue": "timers", "limit": 10, "reason": "the table answers again"});
    let redriven = post(world, "/v1/admin/dead-letters/redrive", &body).await;
    assert_eq!(redriven, json!({"queue": "timers", "redriven": 1, "kept": 0, "waiting": 0}));
}
