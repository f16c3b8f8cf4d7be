//! The circuit breaker: five failures open it, one probe of all instances closes it.

use std::sync::Arc;
use std::time::Duration;

use holdfast_app::bookings::OPEN_MS;
use holdfast_app::ports::Clock;
use holdfast_app::problem::{ProblemCode, SideEffects};
use holdfast_app::settings::ProviderSettings;
use holdfast_app::test_util::{Deed, Reply, Request, Script};
use holdfast_domain::{Mode, ProviderId, Status};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::create::open_circuit;
use crate::bench::{Bench, provider_id};
use crate::requests::body;

#[tokio::test(start_paused = true)]
async fn the_fifth_failure_in_a_row_opens_it_and_a_success_starts_over() {
    let bench = Bench::new();
    for deed in [Deed::Book, Deed::Decline] {
        for _ in 0..4 {
            bench.provider.plan(Request::Attempt, Script::failing(Reply::Status(500)));
        }
        bench.provider.plan(Request::Attempt, Script::doing(deed));
        for _ in 0..5 {
            bench.create(None, &body(false)).await.unwrap();
        }
        assert_eq!(bench.settings.breaker(&provider_id()).consecutive_failures, 0);
    }
    open_circuit(&bench).await;
    assert!(bench.settings.breaker(&provider_id()).open_until.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_did_not_know_gives_its_claim_up_and_frees_the_key() {
    let bench = Bench::new();
    open_circuit(&bench).await;
    let sent = bench.provider.requests().len();
    // Another process, which has seen nothing of the failures.
    let engine = bench.cold_engine();
    let refused = bench.create_at(&engine, Some("key"), &body(false), None).await.unwrap_err();
    assert_eq!((refused.code, refused.side_effects), (ProblemCode::ProviderUnavailable, SideEffects::None));
    assert!(refused.retry_after_s.is_some());
    assert_eq!(bench.provider.requests().len(), sent, "nothing is sent");
    assert!(bench.store.items().iter().all(|item| item.booking.status() != Status::Pending));
    bench.provider.heal();
    advance(Duration::from_millis(OPEN_MS)).await;
    let afresh = bench.create_at(&engine, Some("key"), &body(false), None).await.unwrap();
    assert_eq!((afresh.answer.status, afresh.replayed), (201, false));
    let replay = bench.create_at(&engine, Some("key"), &body(false), None).await.unwrap();
    assert_eq!((replay.answer.body, replay.replayed), (afresh.answer.body, true));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_asks_for_less_is_not_failing() {
    let bench = Bench::new();
    bench.provider.always(Request::Attempt, Script::failing(Reply::Status(429)));
    for _ in 0..10 {
        assert_eq!(bench.create(None, &body(false)).await.unwrap().answer.status, 502);
    }
}

/// Ten creates in ten processes at once; how many got through.
async fn ten_at_once(bench: &Arc<Bench>) -> usize {
    let mut answers = JoinSet::new();
    for _ in 0..10 {
        let bench = Arc::clone(bench);
        answers.spawn(async move {
            let engine = bench.cold_engine();
            engine.breakers().remember(
                &provider_id(),
                bench.settings.breaker(&provider_id()),
                bench.clock.now(),
            );
            bench.create_at(&engine, None, &body(false), None).await
        });
    }
    let answers = answers.join_all().await;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(refused.clone().all(|problem| problem.code == ProblemCode::ProviderUnavailable));
    answers.len() - refused.count()
}

#[tokio::test(start_paused = true)]
async fn exactly_one_probe_of_all_processes_decides() {
    let bench = Bench::new();
    open_circuit(&bench).await;
    let sent = bench.provider.seen().len();
    assert_eq!(ten_at_once(&bench).await, 0, "open");
    advance(Duration::from_millis(OPEN_MS)).await;
    assert_eq!(ten_at_once(&bench).await, 1, "a failing probe");
    assert_eq!(bench.provider.seen().len(), sent + 1);
    assert_eq!(ten_at_once(&bench).await, 0, "open again");
    advance(Duration::from_millis(OPEN_MS)).await;
    bench.provider.heal();
    assert_eq!(ten_at_once(&bench).await, 1, "a probe that succeeds");
    assert_eq!(ten_at_once(&bench).await, 10, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_dies_gives_way_to_another() {
    let bench = Bench::new();
    open_circuit(&bench).await;
    advance(Duration::from_millis(OPEN_MS)).await;
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    let wish = body(false);
    let probe = tokio::time::timeout(Duration::from_millis(500), bench.create(None, &wish)).await;
    assert!(probe.is_err(), "it died");
    assert_eq!(ten_at_once(&bench).await, 0, "its lease lasts");
    advance(Duration::from_millis(2_500)).await;
    bench.provider.heal();
    assert_eq!(ten_at_once(&bench).await, 1);
    bench.run_until_quiet().await;
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn the_background_waits_for_the_circuit() {
    let bench = Bench::new();
    open_circuit(&bench).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        let created = bench.create(None, &body(true)).await.unwrap();
        assert_eq!(created.answer.status, 202);
        ids.push(created.booking_id);
    }
    let sent = bench.provider.seen().len();
    bench.run_for_ms(OPEN_MS - 1_000).await;
    let attempts = bench.provider.requests().into_iter().filter(|request| *request == Request::Attempt);
    assert_eq!(attempts.count(), sent, "nothing but compensations while it is open");
    bench.provider.heal();
    bench.run_until_quiet().await;
    bench.check();
    for id in ids {
        assert_eq!(bench.booking(&id).status(), Status::Confirmed);
    }
}

/// How many callers there are at each provider.
const CROWD: u64 = 200;
/// How much later each of them comes than the one before, in milliseconds.
const PACE_MS: u64 = 25;
/// The synchronous limit of a create that names none, in milliseconds.
const LIMIT_MS: u64 = 2_500;

#[tokio::test(start_paused = true)]
async fn a_crowd_at_a_provider_that_hangs_is_turned_away_at_once_and_others_never_notice() {
    let bench = Bench::new();
    let other = ProviderSettings::usual(ProviderId::parse("lab").unwrap(), Mode::Test, "http://lab.invalid");
    bench.settings.add_provider(other.clone());
    bench.provider.script_only(provider_id());
    bench.provider.always(Request::Attempt, Script::failing(Reply::Silence));
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        for provider in [bench.provider_settings.clone(), other.clone()] {
            let (bench, in_background) = (Arc::clone(&bench), number % 2 == 0);
            crowd.spawn(async move {
                sleep(Duration::from_millis(number * PACE_MS)).await;
                let begun = bench.clock.now();
                let mut wish = body(in_background);
                wish["provider_id"] = json!(provider.provider_id.as_str());
                // Every caller meets a process of its own.
                let answer = bench.create_with(&bench.cold_engine(), &provider, None, &wish, None).await;
                let status =
                    answer.map_or_else(|problem| problem.code.status(), |created| created.answer.status);
                (provider.provider_id, number * PACE_MS, begun.ms_until(bench.clock.now()), status)
            });
        }
    }
    let answers = crowd.join_all().await;
    let (at_lab, at_clinic): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(provider, ..)| *provider == other.provider_id);
    assert!(at_lab.iter().all(|(_, _, took_ms, status)| (*took_ms, *status) == (0, 201)), "{at_lab:?}");
    for (_, came_ms, took_ms, status) in at_clinic {
        if came_ms <= LIMIT_MS {
            assert!((took_ms, status) == (LIMIT_MS, 504) || (took_ms, status) == (LIMIT_MS, 202), "{status}");
        } else if came_ms > LIMIT_MS + 6 * PACE_MS {
            // The fifth silence has opened the circuit.
            assert!(took_ms == 0 && matches!(status, 202 | 503), "{came_ms}: {took_ms} ms, {status}");
        }
    }
    let sent = bench.provider.seen().len();
    advance(Duration::from_millis(OPEN_MS + LIMIT_MS)).await;
    bench.provider.heal();
    assert_eq!(ten_at_once(&bench).await, 1, "the probe");
    assert!(bench.provider.seen().len() > sent);
    assert_eq!(ten_at_once(&bench).await, 10, "closed");
    bench.run_until_quiet().await;
    bench.check();
}
