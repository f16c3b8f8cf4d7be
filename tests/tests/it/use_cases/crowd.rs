//! Two hundred callers at once of a provider that hangs.

use std::sync::Arc;

use holdfast_app::bookings::{Created, OPEN_MS};
use holdfast_app::ports::Clock;
use holdfast_app::problem::{Problem, ProblemCode, SideEffects};
use holdfast_app::test_util::{Reply, Request, Script};
use holdfast_domain::Status;
use tokio::task::JoinSet;
use tokio::time::advance;

use super::bench::{Bench, body, provider_id};

const CROWD: usize = 200;
/// The synchronous limit of callers who name none, in milliseconds.
const SYNC_LIMIT_MS: u64 = 2_500;

/// As many callers at once, each in a process of its own that has read the circuit's state with its caller's
/// key; their answers, and how long all of them took.
async fn crowd(bench: &Arc<Bench>, in_background: bool) -> (Vec<Result<Created, Problem>>, u64) {
    let begun = bench.clock.now();
    let mut answers = JoinSet::new();
    for _ in 0..CROWD {
        let bench = Arc::clone(bench);
        answers.spawn(async move {
            let engine = bench.cold_engine();
            let state = bench.settings.breaker(&provider_id());
            engine.breakers().remember(&provider_id(), state, bench.clock.now());
            bench.create_at(&engine, None, &body(in_background), None).await
        });
    }
    let answers = answers.join_all().await;
    (answers, begun.ms_until(bench.clock.now()))
}

fn status_of(answer: &Result<Created, Problem>) -> u16 {
    answer.as_ref().map_or(503, |created| created.answer.status)
}

fn attempts(bench: &Bench) -> usize {
    bench.provider.requests().iter().filter(|request| **request == Request::Attempt).count()
}

#[tokio::test(start_paused = true)]
async fn later_callers_are_answered_at_once_and_one_probe_decides_for_all() {
    let bench = Bench::new();
    bench.provider.always(Request::Attempt, Script::failing(Reply::Silence));
    let (first, took_ms) = crowd(&bench, false).await;
    assert!(first.iter().all(|answer| status_of(answer) == 504), "{first:?}");
    assert_eq!((attempts(&bench), took_ms), (CROWD, SYNC_LIMIT_MS), "all of them waited at the same time");
    assert!(bench.settings.breaker(&provider_id()).open_until.is_some());

    let (refused, took_ms) = crowd(&bench, false).await;
    for answer in &refused {
        let problem = answer.as_ref().unwrap_err();
        let said = (problem.code, problem.side_effects);
        assert_eq!(said, (ProblemCode::ProviderUnavailable, SideEffects::None));
        assert!(problem.retry_after_s.is_some());
    }
    assert_eq!((attempts(&bench), took_ms), (CROWD, 0));
    let (patient, took_ms) = crowd(&bench, true).await;
    assert!(patient.iter().all(|answer| status_of(answer) == 202), "{patient:?}");
    assert_eq!((attempts(&bench), took_ms), (CROWD, 0));

    advance(std::time::Duration::from_millis(OPEN_MS)).await;
    let (probing, took_ms) = crowd(&bench, false).await;
    let probes = probing.iter().filter(|answer| status_of(answer) == 504).count();
    assert_eq!((attempts(&bench), probes, took_ms), (CROWD + 1, 1, SYNC_LIMIT_MS), "one for all");

    bench.provider.heal();
    bench.run_until_quiet().await;
    bench.check();
    let confirmed =
        bench.store.items().iter().filter(|item| item.booking.status() == Status::Confirmed).count();
    assert_eq!((confirmed, bench.provider.live().len()), (CROWD, CROWD), "all who had patience");
    assert_eq!(bench.settings.breaker(&provider_id()).open_until, None);
}
