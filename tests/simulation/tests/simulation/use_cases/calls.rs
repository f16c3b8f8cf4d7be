//! How many calls a create costs, and which of them wait for one another.

use std::time::Duration;

use holdfast_app::ports::Clock;
use holdfast_app::test_util::{Fault, Request};
use tokio::time::advance;

use crate::bench::Bench;
use crate::requests::body;

/// How long each call of the store takes in these tests, in milliseconds.
const CALL_MS: u64 = 10;

fn calls_since<'a>(bench: &Bench, from: usize) -> Vec<&'a str> {
    bench.faults.calls().into_iter().skip(from).collect()
}

#[tokio::test(start_paused = true)]
async fn a_warm_booking_is_two_writes_and_a_replay_one() {
    let bench = Bench::new();
    bench.create(None, &body(false)).await.unwrap();
    let from = bench.faults.calls().len();
    bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!(calls_since(&bench, from), ["bookings.claim", "bookings.replace"]);
    let from = bench.faults.calls().len();
    bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!(calls_since(&bench, from), ["bookings.claim"]);
    assert_eq!(bench.provider.requests(), [Request::Attempt; 2]);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_is_read_beside_the_first_write() {
    let bench = Bench::new();
    bench.create(None, &body(false)).await.unwrap();
    advance(Duration::from_secs(5)).await;
    for operation in ["bookings.claim", "bookings.replace", "breaker.read"] {
        bench.faults.always(operation, Fault::DelayAfter(CALL_MS));
    }
    let (from, begun) = (bench.faults.calls().len(), bench.clock.now());
    bench.create(Some("k"), &body(false)).await.unwrap();
    let mut calls = calls_since(&bench, from);
    calls.sort_unstable();
    assert_eq!(calls, ["bookings.claim", "bookings.replace", "breaker.read"]);
    assert_eq!(begun.ms_until(bench.clock.now()), 2 * CALL_MS, "two in sequence");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_first_write_is_durable() {
    let bench = Bench::new();
    bench.faults.always("bookings.claim", Fault::DelayBefore(500));
    bench.create(Some("k"), &body(false)).await.unwrap();
    let sent_at = bench.provider.seen()[0].at;
    assert_eq!(bench.only_booking().created_at().ms_until(sent_at), 500);
}

#[tokio::test(start_paused = true)]
async fn a_slow_breaker_store_holds_nothing_up_for_long() {
    let bench = Bench::new();
    bench.faults.always("breaker.read", Fault::StopBefore);
    let begun = bench.clock.now();
    assert_eq!(bench.create(Some("k"), &body(false)).await.unwrap().answer.status, 201);
    assert!(begun.ms_until(bench.clock.now()) <= 250);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_when_the_first_write_took_all_the_time() {
    let bench = Bench::new();
    bench.faults.always("bookings.claim", Fault::DelayAfter(2_600));
    let created = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!(created.answer.status, 504);
    assert_eq!(crate::requests::json_of(&created)["side_effects"], "none");
    assert!(bench.provider.seen().is_empty());
    bench.run_until_quiet().await;
    bench.check();
}
