//! A provider that fails again and again is left alone for a while.

use std::time::Duration;

use serde_json::json;

use super::compensation::elapsed_ms;
use super::world::{World, until};

/// Failures in a row that open a circuit.
const THRESHOLD: usize = 5;
/// For how long nothing is sent, and some more for a busy machine.
const OPEN: Duration = Duration::from_secs(30);
const OPEN_AND_MORE: Duration = Duration::from_secs(60);
/// A probe may take a while; what waits for its end follows after the longest that it could have taken.
const AFTER_PROBE: Duration = Duration::from_secs(90);
const PROBE_MS: u64 = 1_500;

#[tokio::test]
async fn five_failures_open_the_circuit_and_one_probe_closes_it() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.behave(&json!({"status": 500, "operations": ["book"]})).await;
    let synchronous = provider.body(&json!({}));
    for _ in 0..THRESHOLD {
        consumer.create(&synchronous).await.assert_problem(502, "provider_failed", "unknown");
    }

    // An instance may have seen the circuit closed within the last second; it claims, but sends nothing.
    let refused =
        until(Duration::from_secs(10), Duration::from_millis(300), "the circuit is open", async || {
            let reply = consumer.create_with_key("while-open", &synchronous).await;
            if reply.status == 503 { Ok(reply) } else { Err(reply.json) }
        })
        .await;
    refused.assert_problem(503, "provider_unavailable", "none");
    assert!(refused.retry_after_s() <= OPEN.as_secs() + 1, "{refused:?}");
    assert!(refused.json.get("booking_id").is_none(), "no booking was made: {refused:?}");
    assert!(refused.took < Duration::from_secs(2), "not at once: {:?}", refused.took);

    let in_background = provider.body(&json!({"async_confirmation": true}));
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let reply = consumer.create(&in_background).await;
        waiting.push(reply.assert_booking(202, "pending"));
        assert!(reply.took < Duration::from_secs(2), "not at once: {:?}", reply.took);
        assert!(reply.retry_after_s() <= OPEN.as_secs() + 1, "{reply:?}");
        assert_eq!(reply.json["operation"]["last_error"], "circuit_open");
        assert_eq!(reply.json["operation"]["attempts"], 0);
    }
    assert_eq!(provider.calls("book").await.len(), THRESHOLD, "nothing is sent while the circuit is open");

    provider.behave(&json!({"latency_ms": PROBE_MS, "operations": ["book"]})).await;
    let calls = provider.until_calls("book", THRESHOLD + 1, OPEN_AND_MORE).await;
    let (last_failure, probe) = (&calls[THRESHOLD - 1]["at"], &calls[THRESHOLD]["at"]);
    assert!(elapsed_ms(last_failure, probe) >= 29_000, "the probe came too early: {calls:?}");
    for id in &waiting {
        consumer.until_status(id, "confirmed", AFTER_PROBE).await;
    }
    let calls = provider.calls("book").await;
    assert!(elapsed_ms(probe, &calls[THRESHOLD + 1]["at"]) >= PROBE_MS, "two probes at once: {calls:?}");

    let again = consumer.create_with_key("while-open", &synchronous).await;
    again.assert_booking(201, "confirmed");
    assert_eq!(
        again.header("idempotency-replayed"),
        "",
        "what was refused before the first write is not stored"
    );
}
