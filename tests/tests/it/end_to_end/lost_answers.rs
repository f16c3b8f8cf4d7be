//! Answers that are lost under every operation: whatever happens on the way, when all is settled the provider
//! holds exactly what the consumer is told, and nothing more.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::operations::{CHANGES, assert_made, booked, held, in_ms, wish};
use super::provider::time;
use super::world::{Consumer, Provider, SHORT_MS, SOON, World, merge, until};

/// Every operation that a provider is asked for.
const ALL: [&str; 5] = ["book", "confirm", "extend", "reschedule", "cancel"];
/// When a provider carries out a request that nobody waits for any more, in milliseconds.
const LATE_MS: u64 = SHORT_MS + 2_000;

fn dropped() -> Value {
    json!({"drop_answer": true})
}

/// Carried out after the caller has hung up.
fn late() -> Value {
    json!({"hang": true, "process_after_ms": LATE_MS})
}

/// One operation at a provider of its own whose first request meets a fault.
struct Case<'a> {
    consumer: &'a Consumer<'a>,
    provider: Provider<'a>,
    operation: &'static str,
    limits: Value,
}

impl<'a> Case<'a> {
    async fn of(
        world: &'a World,
        consumer: &'a Consumer<'a>,
        operation: &'static str,
        in_background: bool,
    ) -> Self {
        let limits = json!({
            "sync_confirmation_timeout_millisecond": SHORT_MS, "async_confirmation": in_background
        });
        Self { consumer, provider: world.provider().await, operation, limits }
    }

    /// Runs it until all is settled.
    async fn run(self, fault: &Value, status: u16) {
        let Self { consumer, provider, operation, limits } = &self;
        let begun = Instant::now();
        let (id, first, body) = if *operation == "book" {
            provider.next(1, operation, fault).await;
            let body = provider.body(limits);
            let first = consumer.create_with_key("k", &body).await;
            (first.booking_id().to_owned(), first, body)
        } else {
            let id = match *operation {
                "confirm" | "extend" => held(consumer, provider).await,
                _ => booked(consumer, provider).await,
            };
            provider.next(1, operation, fault).await;
            let body = wish(provider, operation, limits);
            let first = consumer.operate_with_key(&id, operation, "k", &body).await;
            (id, first, body)
        };
        assert_eq!(first.status, status, "{first:?}");
        if status >= 500 {
            let code = if status == 504 { "provider_timeout" } else { "provider_failed" };
            first.assert_problem(status, code, "unknown");
        }
        let booking = consumer.until_settled(&id, SOON).await;
        match (*operation, status) {
            ("book", 202) => assert_eq!(booking["status"], "confirmed", "{booking}"),
            ("book", _) => {
                consumer.until_cause(&id, "compensated", SOON).await;
                assert_eq!(booking["status"], "cancelled", "{booking}");
            }
            _ => assert_made(operation, &body, &booking),
        }
        // Whatever the provider carries out late has been carried out.
        let late_at = begun + Duration::from_millis(LATE_MS + 1_000);
        tokio::time::sleep_until(late_at.into()).await;
        provider.assert_agrees(consumer, &[&id]).await;
        self.assert_asked_once_unless_in_background(status).await;
        let again = if *operation == "book" {
            consumer.create_with_key("k", &body).await
        } else {
            consumer.operate_with_key(&id, operation, "k", &body).await
        };
        again.assert_replays(&first);
    }

    async fn assert_asked_once_unless_in_background(&self, status: u16) {
        let calls = self.provider.calls(self.operation).await;
        assert!(status == 202 || calls.len() == 1, "{}: {calls:?}", self.operation);
        let keys: Vec<&Value> = calls.iter().map(|call| &call["idempotency_key"]).collect();
        assert!(keys.iter().all(|key| *key == keys[0]), "one operation has one key: {keys:?}");
    }
}

async fn run_all(operations: &[&'static str], in_background: bool, fault: Value, status: u16) {
    let world = World::new();
    let consumer = world.consumer().await;
    join_all(operations.iter().map(async |operation| {
        // A cancel goes on in the background; and of its answer, the status says it all.
        let status = match *operation {
            "cancel" if fault["garbage"] == true => 200,
            "cancel" => 202,
            _ => status,
        };
        Case::of(&world, &consumer, operation, in_background).await.run(&fault, status).await;
    }))
    .await;
}

#[tokio::test]
async fn a_lost_answer_to_who_waits_is_found_out() {
    run_all(&ALL, false, dropped(), 502).await;
}

#[tokio::test]
async fn a_lost_answer_in_the_background_is_found_out() {
    run_all(&ALL, true, dropped(), 202).await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_found_out() {
    run_all(&ALL, false, json!({"garbage": true}), 502).await;
}

#[tokio::test]
async fn a_change_that_is_made_after_its_caller_gave_up_is_found_out() {
    // A booking of that kind is undone, a minute later: see `compensation`.
    run_all(&CHANGES, false, late(), 504).await;
}

#[tokio::test]
async fn a_change_that_is_made_late_in_the_background_is_made_once() {
    run_all(&ALL, true, late(), 202).await;
}

#[tokio::test]
async fn a_refusal_that_is_lost_is_found_out() {
    let world = World::new();
    let consumer = world.consumer().await;
    let hook = consumer.hook(json!({})).await;
    join_all(CHANGES.map(async |operation| {
        let provider = world.provider().await;
        let id = held(&consumer, &provider).await;
        let before = consumer.booking(&id).await;
        provider.behave(&json!({"status": 429, "operations": ["look_up"]})).await;
        provider.next(1, operation, &json!({"decline": {"code": "full"}, "drop_answer": true})).await;
        let body = wish(&provider, operation, &json!({}));
        let first = consumer.operate_with_key(&id, operation, "k", &body).await;
        first.assert_problem(502, "provider_failed", "unknown");
        let between = consumer.booking(&id).await;
        assert_eq!(between["operation"]["kind"], operation, "{between}");
        let other = if operation == "confirm" { "extend" } else { "confirm" };
        let refused = consumer.operate(&id, other, &wish(&provider, other, &json!({}))).await;
        refused.assert_problem(409, "operation_in_flight", "none");
        provider.behave(&json!({})).await;

        let mut after = consumer.until_settled(&id, SOON).await;
        assert_eq!(after["version"], 4);
        for changed in ["version", "updated_at"] {
            after[changed] = before[changed].clone();
        }
        assert_eq!(after, before);
        provider.assert_agrees(&consumer, &[&id]).await;
        let types = ["booking.created", "booking.reserved", "booking.operation_failed"];
        hook.until_types(&id, &types, SOON).await;
        assert_eq!(provider.calls(operation).await.len(), 1);
        consumer.operate_with_key(&id, operation, "k", &body).await.assert_replays(&first);
    }))
    .await;
}

#[tokio::test]
async fn a_hold_does_not_run_out_while_its_confirmation_is_unknown() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.next(1, "book", &json!({"expires_in_seconds": 8})).await;
    let id = held(&consumer, &provider).await;
    let expires_at = time(&consumer.booking(&id).await["expires_at"]);
    provider.next(1, "confirm", &dropped()).await;
    // A provider that asks for less is not failing, which would open its circuit.
    provider.behave(&json!({"status": 429, "operations": ["look_up"]})).await;
    let lost = consumer.operate(&id, "confirm", &wish(&provider, "confirm", &json!({}))).await;
    lost.assert_problem(502, "provider_failed", "unknown");
    let past = time(&in_ms(0)).ms_until(expires_at) + 5_000;
    tokio::time::sleep(Duration::from_millis(past)).await;
    let booking = consumer.booking(&id).await;
    assert_eq!((&booking["status"], &booking["operation"]["kind"]), (&json!("reserved"), &json!("confirm")));
    provider.behave(&json!({})).await;
    consumer.until_status(&id, "confirmed", SOON).await;
    provider.assert_agrees(&consumer, &[&id]).await;
}

#[tokio::test]
async fn a_change_at_a_provider_that_fails_for_a_while_is_made_in_the_background() {
    let world = World::new();
    let consumer = world.consumer().await;
    join_all(CHANGES.map(async |operation| {
        let provider = world.provider().await;
        let id = held(&consumer, &provider).await;
        provider.next(3, operation, &json!({"status": 503})).await;
        let mut body = wish(&provider, operation, &json!({}));
        merge(&mut body, &json!({"async_confirmation": true}));
        let first = consumer.operate_with_key(&id, operation, "k", &body).await;
        assert_eq!((first.status, &first.json["operation"]["kind"]), (202, &json!(operation)), "{first:?}");
        first.retry_after_s();
        let what = format!("{operation} is made");
        until(SOON, Duration::from_millis(600), &what, async || {
            let booking = consumer.booking(&id).await;
            if booking["operation"].is_null() { Ok(()) } else { Err(booking) }
        })
        .await;
        assert_made(operation, &body, &consumer.booking(&id).await);
        provider.assert_agrees(&consumer, &[&id]).await;
        let attempts: Vec<u64> =
            provider.calls(operation).await.iter().filter_map(|call| call["attempt"].as_u64()).collect();
        assert_eq!(attempts, [1, 2, 3, 4]);
    }))
    .await;
}
