//! One key, one booking, one response.

use std::sync::Arc;
use std::time::Duration;

use holdfast_app::idempotency::{IdempotencyKey, KEY_RETENTION_MS};
use holdfast_app::ports::Clock;
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::test_util::{Deed, Fault, Reply, Request, Script};
use holdfast_domain::{Status, Timestamp};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::create::open_circuit;
use crate::bench::{Bench, tenant};
use crate::requests::body;

#[tokio::test(start_paused = true)]
async fn a_replay_is_the_first_response_byte_for_byte_even_when_the_booking_moved_on() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    let first = bench.create(Some("k"), &body(true)).await.unwrap();
    assert_eq!(first.answer.status, 202);
    bench.run_until_quiet().await;
    assert_eq!(bench.only_booking().status(), Status::Confirmed);
    let requests = bench.provider.seen().len();
    for engine in [&*bench.engine, &bench.cold_engine()] {
        let replay = bench.create_at(engine, Some("k"), &body(true), None).await.unwrap();
        assert!(replay.replayed);
        assert_eq!((replay.answer.status, &replay.answer.body), (202, &first.answer.body));
        assert_eq!(replay.booking_id, first.booking_id);
    }
    assert_eq!(bench.provider.seen().len(), requests);
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn failures_are_replayed_as_well() {
    for script in [
        Script::doing(Deed::Decline),
        Script::failing(Reply::Status(500)),
        Script::failing(Reply::NoConnection),
        Script::failing(Reply::Silence),
    ] {
        let bench = Bench::new();
        bench.provider.plan(Request::Attempt, script);
        let first = bench.create(Some("k"), &body(false)).await.unwrap();
        bench.run_until_quiet().await;
        let replay = bench.create(Some("k"), &body(false)).await.unwrap();
        assert_eq!((replay.answer.status, replay.answer.body), (first.answer.status, first.answer.body));
        assert!(replay.replayed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_body_in_other_words_is_the_same_request() {
    let bench = Bench::new();
    let first = bench.create(Some("k"), &body(false)).await.unwrap();
    let respelled = serde_json::from_str(
        r#"{"async_confirmation": false, "customer": {"name": "\u0041da Lovelace"},
            "slot": {"end": "2027-03-01T09:30:00Z", "start": "2027-03-01T09:00:00Z", "location_id": "main"},
            "provider_id": "clinic"}"#,
    )
    .unwrap();
    let replay = bench.create(Some("\"k\""), &respelled).await.unwrap();
    assert_eq!(replay.answer.body, first.answer.body);
}

#[tokio::test(start_paused = true)]
async fn another_body_under_the_key_never_reaches_the_provider() {
    let bench = Bench::new();
    let mut other = body(false);
    other["customer"]["name"] = json!("Grace Hopper");
    bench.create(Some("k"), &body(false)).await.unwrap();
    let problem = bench.create(Some("k"), &other).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::IdempotencyKeyReused);
    assert_eq!(bench.provider.seen().len(), 1);
    assert_eq!(bench.store.items().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_body_is_refused_while_the_first_is_in_flight_too() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    let first = spawn_create(&bench, None);
    sleep(Duration::from_millis(100)).await;
    let mut other = body(false);
    other["reference"] = json!("other");
    let problem = bench.create_at(&bench.engine, Some("k"), &other, Some(10)).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::IdempotencyKeyReused);
    first.await.unwrap().unwrap();
    assert_eq!(bench.provider.seen().len(), 1);
}

type Response = Result<(u16, Vec<u8>), Problem>;

fn spawn_create(bench: &Arc<Bench>, prefer_wait_s: Option<u64>) -> tokio::task::JoinHandle<Response> {
    let bench = Arc::clone(bench);
    tokio::spawn(async move {
        let created = bench.create_at(&bench.engine, Some("k"), &body(false), prefer_wait_s).await?;
        Ok((created.answer.status, created.answer.body))
    })
}

#[tokio::test(start_paused = true)]
async fn a_repetition_in_flight_is_409_or_waits_as_it_prefers() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::WELL.after_ms(2_000));
    let first = spawn_create(&bench, None);
    sleep(Duration::from_millis(100)).await;
    let problem = spawn_create(&bench, None).await.unwrap().unwrap_err();
    assert_eq!(problem.code, ProblemCode::RequestInFlight);
    assert_eq!(problem.retry_after_s, Some(1));
    let begun = bench.clock.now();
    let problem = spawn_create(&bench, Some(1)).await.unwrap().unwrap_err();
    assert_eq!((problem.code, begun.ms_until(bench.clock.now())), (ProblemCode::RequestInFlight, 1_000));
    let waited = spawn_create(&bench, Some(10)).await.unwrap().unwrap();
    assert_eq!(waited, first.await.unwrap().unwrap());
    assert_eq!(waited.0, 201);
    assert!(begun.ms_until(bench.clock.now()) < 2_500, "it waits no longer than it must");
    assert_eq!(bench.provider.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn twenty_at_once_make_one_booking_and_get_one_response() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::WELL.after_ms(700));
    let mut responses = JoinSet::new();
    for number in 0..20 {
        let bench = Arc::clone(&bench);
        responses.spawn(async move {
            let cold = bench.cold_engine();
            let engine = if number % 2 == 0 { &*bench.engine } else { &cold };
            let created = bench.create_at(engine, Some("k"), &body(false), Some(10)).await.unwrap();
            (created.answer.status, created.answer.body, created.booking_id)
        });
    }
    let responses = responses.join_all().await;
    assert!(responses.iter().all(|response| *response == responses[0]));
    assert_eq!(responses[0].0, 201);
    assert_eq!(bench.provider.requests(), [Request::Attempt]);
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.event_types(), ["booking.created", "booking.confirmed"]);
}

#[tokio::test(start_paused = true)]
async fn after_fourteen_days_a_key_books_afresh() {
    let bench = Bench::new();
    let first = bench.create(Some("k"), &body(false)).await.unwrap();
    advance(Duration::from_millis(KEY_RETENTION_MS - 1)).await;
    let last_replay = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!(last_replay.answer.body, first.answer.body);
    advance(Duration::from_millis(1)).await;
    let second = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((second.answer.status, second.replayed), (201, false));
    assert_ne!(second.booking_id, first.booking_id);
    let replay = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((replay.booking_id, &replay.answer.body), (second.booking_id.clone(), &second.answer.body));
    advance(Duration::from_millis(KEY_RETENTION_MS)).await;
    let third = bench.create(Some("k"), &body(false)).await.unwrap();
    assert!(third.booking_id != first.booking_id && third.booking_id != second.booking_id);
    assert_eq!(bench.provider.live().len(), 3);
    bench.run_until_quiet().await;
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn twenty_at_once_after_fourteen_days_make_one_booking_more() {
    let bench = Bench::new();
    bench.create(Some("k"), &body(false)).await.unwrap();
    advance(Duration::from_millis(KEY_RETENTION_MS)).await;
    let mut responses = JoinSet::new();
    for _ in 0..20 {
        let bench = Arc::clone(&bench);
        responses.spawn(async move {
            let created = bench.create_at(&bench.engine, Some("k"), &body(false), Some(10)).await.unwrap();
            (created.answer.body, created.booking_id)
        });
    }
    let responses = responses.join_all().await;
    assert!(responses.iter().all(|response| *response == responses[0]));
    assert_eq!(bench.provider.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_clock_is_behind_follows_the_mark() {
    let bench = Bench::with(0, &[0]);
    bench.create(Some("k"), &body(false)).await.unwrap();
    advance(Duration::from_millis(KEY_RETENTION_MS)).await;
    let second = bench.create(Some("k"), &body(false)).await.unwrap();
    let behind = bench.engine_behind_ms(300_000);
    let replay = bench.create_at(&behind, Some("k"), &body(false), None).await.unwrap();
    assert_eq!((replay.booking_id, replay.answer.body), (second.booking_id, second.answer.body));
}

/// The item is removed between the failed claim and its mark: a later repetition must find the booking.
#[tokio::test(start_paused = true)]
async fn an_item_that_vanishes_before_it_is_marked_is_claimed_anew() {
    let bench = Bench::new();
    let first = bench.create(Some("k"), &body(false)).await.unwrap();
    advance(Duration::from_millis(KEY_RETENTION_MS)).await;
    bench.faults.next("bookings.replace", Fault::DelayBefore(1_000));
    let vanishing = {
        let bench = Arc::clone(&bench);
        async move {
            sleep(Duration::from_millis(500)).await;
            bench.store.remove(&first.booking_id)
        }
    };
    let wish = body(false);
    let (second, removed) = tokio::join!(bench.create(Some("k"), &wish), vanishing);
    assert!(removed.is_some());
    let second = second.unwrap();
    let replay = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((replay.booking_id, replay.answer.body), (second.booking_id, second.answer.body));
    assert_eq!(bench.store.items().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_response_stands_whatever_has_changed_since() {
    let bench = Bench::new();
    let mut wish = body(false);
    wish["slot"]["start"] = json!("2027-01-15T09:00:00Z");
    wish["slot"]["end"] = json!("2027-01-15T09:30:00Z");
    let first = bench.create(Some("k"), &wish).await.unwrap();
    open_circuit(&bench).await;
    let replay = bench.create(Some("k"), &wish).await.unwrap();
    assert_eq!(replay.answer.body, first.answer.body, "with an open circuit");
    advance(Duration::from_hours(1)).await;
    let replay = bench.create(Some("k"), &wish).await.unwrap();
    assert_eq!(replay.answer.body, first.answer.body, "with a slot that has begun");
    assert!(bench.clock.now() >= Timestamp::parse_rfc3339("2027-01-15T09:00:00Z").unwrap());
}

#[tokio::test(start_paused = true)]
async fn keys_of_others_and_no_key_at_all_are_other_bookings() {
    let bench = Bench::new();
    let first = bench.create(None, &body(false)).await.unwrap();
    let second = bench.create(None, &body(false)).await.unwrap();
    assert_ne!(first.booking_id, second.booking_id);
    assert!(bench.store.items().iter().all(|item| item.create.is_none()));
    let key = IdempotencyKey::parse("Idempotency-Key", "k").unwrap();
    assert_ne!(key.booking_id(&tenant("shop"), 0), key.booking_id(&tenant("other"), 0));
    bench.run_until_quiet().await;
    bench.check();
}
