//! Workers that die, freeze or lose the store's answers, at every point of a create.

use std::sync::Arc;
use std::time::Duration;

use holdfast_app::bookings::Created;
use holdfast_app::ports::Clock;
use holdfast_app::problem::{Problem, ProblemCode, SideEffects};
use holdfast_app::test_util::{Fault, Reply, Request, Script};
use holdfast_domain::{Compensation, ConfirmationMode, Status};
use tokio::time::{sleep, timeout};

use crate::bench::Bench;
use crate::requests::{body, json_of};

/// How long a worker lives that is killed, in milliseconds.
const LIFE_MS: u64 = 1_500;
/// When a request's lease is over: the synchronous limit and a second.
const LEASE_MS: u64 = 3_500;

/// A create whose worker dies after [`LIFE_MS`] at the latest; `None` if it did.
async fn killed_create(bench: &Bench, in_background: bool) -> Option<Result<Created, Problem>> {
    let wish = body(in_background);
    timeout(Duration::from_millis(LIFE_MS), bench.create(Some("k"), &wish)).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_before_its_claim_leaves_nothing() {
    let bench = Bench::new();
    bench.faults.next("bookings.claim", Fault::StopBefore);
    assert!(killed_create(&bench, false).await.is_none());
    assert!(bench.store.items().is_empty());
    assert_eq!(bench.create(Some("k"), &body(false)).await.unwrap().answer.status, 201);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_504_once_the_lease_of_a_dead_worker_is_over() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    assert!(killed_create(&bench, false).await.is_none());
    let problem = bench.create(Some("k"), &body(false)).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::RequestInFlight, SideEffects::Unknown));
    let begun = bench.clock.now();
    let created = bench.create_at(&bench.engine, Some("k"), &body(false), Some(10)).await.unwrap();
    assert!(begun.ms_until(bench.clock.now()) <= LEASE_MS);
    assert_eq!((created.answer.status, &json_of(&created)["code"]), (504, &"provider_timeout".into()));
    assert_eq!(json_of(&created)["side_effects"], "unknown");
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().compensation, Compensation::Done);
    let replay = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((replay.answer.status, replay.answer.body), (504, created.answer.body));
}

#[tokio::test(start_paused = true)]
async fn the_guard_takes_over_from_a_dead_worker() {
    for (in_background, status) in [(false, Status::Cancelled), (true, Status::Confirmed)] {
        // Before and after the provider books, and before the outcome is written.
        for script in [Script::replying(Reply::Silence), Script::failing(Reply::Silence), Script::WELL] {
            let bench = Bench::new();
            bench.provider.plan(Request::Attempt, script);
            if script == Script::WELL {
                bench.faults.next("bookings.replace", Fault::StopBefore);
            }
            assert!(killed_create(&bench, in_background).await.is_none());
            bench.run_until_quiet().await;
            bench.check();
            assert_eq!(bench.only_booking().status(), status);
            let replay = bench.create(Some("k"), &body(in_background)).await.unwrap();
            let again = bench.create(Some("k"), &body(in_background)).await.unwrap();
            assert_eq!(replay.answer.status, if in_background { 201 } else { 504 });
            assert_eq!(replay.answer.body, again.answer.body);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_guard_sends_nothing_before_it_has_looked() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    assert!(killed_create(&bench, true).await.is_none());
    bench.run_until_quiet().await;
    assert_eq!(bench.provider.requests(), [Request::Attempt, Request::LookUp]);
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn a_response_that_was_written_but_not_sent_is_what_a_replay_gets() {
    let bench = Bench::new();
    bench.faults.next("bookings.replace", Fault::StopAfter);
    assert!(killed_create(&bench, false).await.is_none());
    let replay = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((replay.answer.status, replay.replayed), (201, true));
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.requests(), [Request::Attempt]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_the_second_write_is_told_truthfully_and_healed() {
    for (in_background, fault) in [
        (false, Fault::FailBefore),
        (true, Fault::FailBefore),
        (false, Fault::FailAfter),
        (true, Fault::FailAfter),
    ] {
        let bench = Bench::new();
        bench.faults.next("bookings.replace", fault);
        let problem = bench.create(Some("k"), &body(in_background)).await.unwrap_err();
        assert_eq!(
            (problem.code, problem.side_effects),
            (ProblemCode::StoreUnavailable, SideEffects::Unknown)
        );
        bench.run_until_quiet().await;
        bench.check();
        let done = fault == Fault::FailAfter;
        let expected = if done || in_background { Status::Confirmed } else { Status::Cancelled };
        assert_eq!(bench.only_booking().status(), expected);
        let replay = bench.create(Some("k"), &body(in_background)).await.unwrap();
        assert_eq!(replay.answer.status, if expected == Status::Confirmed { 201 } else { 504 });
    }
}

/// The first write failed as far as its worker knows; a booking may come of it all the same.
#[tokio::test(start_paused = true)]
async fn a_claim_of_unknown_fate_is_told_truthfully() {
    for (in_background, told) in [(true, SideEffects::Unknown), (false, SideEffects::None)] {
        let bench = Bench::new();
        bench.faults.next("bookings.claim", Fault::FailAfter);
        let problem = bench.create(None, &body(in_background)).await.unwrap_err();
        assert_eq!((problem.code, problem.side_effects), (ProblemCode::StoreUnavailable, told));
        bench.run_until_quiet().await;
        bench.check();
        let expected = if in_background { Status::Confirmed } else { Status::Cancelled };
        assert_eq!(bench.only_booking().status(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_worker_drops_no_outcome() {
    for in_background in [false, true] {
        let bench = Bench::new();
        // The yes is there in time, and its write comes long after the lease.
        bench.faults.next("bookings.replace", Fault::DelayBefore(20_000));
        let frozen = {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.create(Some("k"), &body(in_background)).await.unwrap() })
        };
        bench.run_for_ms(LEASE_MS).await;
        bench.run_until_quiet().await;
        let created = frozen.await.unwrap();
        bench.run_until_quiet().await;
        bench.check();
        let booking = bench.only_booking();
        let (status, answer) =
            if in_background { (Status::Confirmed, 201) } else { (Status::Cancelled, 504) };
        assert_eq!((booking.status(), created.answer.status), (status, answer));
        let replay = bench.create(Some("k"), &body(in_background)).await.unwrap();
        assert_eq!(replay.answer.body, created.answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_answer_after_the_compensation_says_that_something_may_have_happened() {
    for (refuses, end) in [(false, Compensation::Done), (true, Compensation::Failed)] {
        let bench = Bench::new();
        bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
        if refuses {
            bench.provider.refuse_cancels();
        }
        assert!(killed_create(&bench, false).await.is_none());
        bench.run_until_quiet().await;
        assert_eq!(bench.only_booking().compensation, end);
        let created = bench.create(Some("k"), &body(false)).await.unwrap();
        assert_eq!((created.answer.status, &json_of(&created)["side_effects"]), (504, &"unknown".into()));
    }
}

/// A repetition was answered when the lease was over; the frozen worker must not answer anything else.
#[tokio::test(start_paused = true)]
async fn a_frozen_worker_answers_what_a_repetition_was_told() {
    let bench = Bench::new();
    bench.faults.next("bookings.replace", Fault::DelayBefore(10_000));
    let wish = body(true);
    let repetition = async {
        sleep(Duration::from_millis(LEASE_MS + 1)).await;
        bench.create(Some("k"), &wish).await.unwrap()
    };
    let (frozen, repeated) = tokio::join!(bench.create(Some("k"), &wish), repetition);
    let frozen = frozen.unwrap();
    assert_eq!((repeated.answer.status, frozen.answer.status), (202, 202));
    assert_eq!(repeated.answer.body, frozen.answer.body);
    assert_eq!(bench.only_booking().status(), Status::Confirmed, "its outcome counts all the same");
    bench.run_until_quiet().await;
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn a_yes_after_the_compensation_is_compensated_again() {
    let bench = Bench::new();
    bench.provider.forget_cancels();
    // It books long after everybody has given up, and its answer reaches a worker that was frozen.
    bench.faults.next("bookings.replace", Fault::DelayBefore(400_000));
    let frozen = {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.create(Some("k"), &body(false)).await.unwrap() })
    };
    bench.run_for_ms(LEASE_MS).await;
    bench.run_until_quiet().await;
    assert_eq!(bench.only_booking().compensation, Compensation::Done);
    let created = frozen.await.unwrap();
    assert_eq!(created.answer.status, 504);
    assert!(matches!(bench.only_booking().compensation, Compensation::Underway(_)));
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().version(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_dies_half_way_is_taken_over() {
    for fault in [Fault::StopBefore, Fault::StopAfter, Fault::FailBefore, Fault::FailAfter] {
        for nth in 2..=5 {
            let bench = Bench::new();
            bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
            bench.provider.plan(Request::LookUp, Script::failing(Reply::Status(500)));
            assert_eq!(bench.create(Some("k"), &body(true)).await.unwrap().answer.status, 202);
            bench.faults.on("bookings.replace", nth, fault);
            bench.run_until_quiet().await;
            bench.check();
            assert_eq!(bench.only_booking().status(), Status::Confirmed);
        }
    }
}

/// What tells a provider, or undoes something there, is sent under a lease like every attempt.
#[tokio::test(start_paused = true)]
async fn a_worker_that_was_frozen_past_its_lease_tells_and_compensates_nothing() {
    // Two timers may ring at the same moment, of which one claims.
    for (mode, request, claims) in [
        (ConfirmationMode::Notify, Request::Notify, 1..=1),
        (ConfirmationMode::Confirm, Request::Cancel, 2..=3),
    ] {
        let bench = Bench::with_provider(0, &[0], |provider| provider.confirmation = mode);
        bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
        for claim in claims {
            bench.faults.on("bookings.replace", claim, Fault::DelayAfter(120_000));
        }
        bench.create(Some("k"), &body(false)).await.unwrap();
        bench.run_until_quiet().await;
        bench.check();
        let made: Vec<(u32, u32)> = bench
            .provider
            .seen()
            .iter()
            .filter(|seen| seen.request == request)
            .map(|seen| seen.operation)
            .collect();
        let [(_, attempt)] = made[..] else { panic!("{made:?}") };
        assert_eq!(attempt, 2, "the one whose lease was over sent nothing");
    }
}
