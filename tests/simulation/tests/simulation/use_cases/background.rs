//! Confirmation in the background, deadlines, holds and compensations.

use std::sync::Arc;

use holdfast_app::ports::Clock;
use holdfast_app::settings::ProviderSettings;
use holdfast_app::test_util::{Deed, Fault, Reply, Request, Script};
use holdfast_domain::{COMPENSATION_LIMIT_MS, Compensation, RetryPolicy, Status};

use crate::bench::Bench;
use crate::requests::body;
use crate::timers::Mishap;

/// The background deadline unless asked otherwise, in milliseconds.
const DEADLINE_MS: u64 = 900_000;
/// The shortest background deadline, in milliseconds.
const SHORT_DEADLINE_MS: u64 = 60_000;

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_the_provider_is_asked_before_it_is_sent_anything() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::Broken));
    bench.create(Some("k"), &body(true)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.requests(), [Request::Attempt, Request::LookUp, Request::Attempt]);
    let operations: Vec<(u32, u32)> = bench.provider.seen().iter().map(|seen| seen.operation).collect();
    assert_eq!(operations, [(1, 1), (1, 2), (1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_look_up_finds_is_adopted() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Broken));
    bench.create(Some("k"), &body(true)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.requests(), [Request::Attempt, Request::LookUp]);
    let reference = bench.only_booking().provider_reference;
    assert!(reference.is_some_and(|reference| reference.starts_with("at-provider-")));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_sent_again_without_asking() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::NoConnection));
    bench.create(Some("k"), &body(true)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.requests(), [Request::Attempt, Request::Attempt]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_cannot_be_asked_is_sent_nothing() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::Broken));
    bench.provider.plan(Request::LookUp, Script::replying(Reply::Status(503)));
    bench.provider.plan(Request::LookUp, Script::replying(Reply::Accepted));
    bench.create(Some("k"), &body(true)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    let look_up = Request::LookUp;
    assert_eq!(bench.provider.requests(), [Request::Attempt, look_up, look_up, look_up, Request::Attempt]);
}

#[tokio::test(start_paused = true)]
async fn without_a_look_up_the_same_key_goes_out_again() {
    let bench = Bench::new();
    bench.provider.remove_look_up();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    bench.create(Some("k"), &body(true)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.times_taken(&bench.only_booking().id), 1);
}

#[tokio::test(start_paused = true)]
async fn a_booking_that_the_provider_ended_is_rejected() {
    let bench = Bench::new();
    bench.provider.plan(
        Request::Attempt,
        Script { reply: Reply::Silence, ..Script::doing(Deed::Reserve { hold_ms: 1 }) },
    );
    bench.create(Some("k"), &body(true)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().status(), Status::Rejected);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_booking_is_cancelled_and_compensated() {
    let bench = Bench::new();
    bench.provider.always(Request::Attempt, Script::replying(Reply::Silence));
    bench.provider.always(Request::LookUp, Script::replying(Reply::Silence));
    let created = bench.create(Some("k"), &body(true)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    let booking = bench.only_booking();
    assert_eq!((booking.status(), &booking.compensation), (Status::Cancelled, &Compensation::Done));
    let shown = holdfast_app::view::booking_view(&booking);
    assert_eq!(serde_json::to_value(shown).unwrap()["cancellation"]["reason"], "confirmation_timeout");
    let cancelled_at = booking.history[1].at;
    let late_ms = booking.created_at().plus_ms(DEADLINE_MS).ms_until(cancelled_at);
    assert!(late_ms <= 1_000, "{late_ms} ms after the deadline");
    let last_sent = bench.provider.seen().into_iter().rfind(|seen| seen.request != Request::Cancel);
    assert!(last_sent.unwrap().at < booking.created_at().plus_ms(DEADLINE_MS));
    assert_eq!(created.answer.status, 202);
}

/// A world with a short deadline in which nearly always a look-up is under way.
async fn create_under_long_look_ups(deadline_ms: u64) -> Arc<Bench> {
    let bench = Bench::new();
    let retry = RetryPolicy::new(500, 1, 500).unwrap();
    bench.settings.add_provider(ProviderSettings { retry, ..bench.provider_settings.clone() });
    bench.provider.always(Request::Attempt, Script::failing(Reply::Broken));
    // An answer of this kind does not open the circuit.
    let slow = Script { reply_after_ms: 9_000, ..Script::failing(Reply::Accepted) };
    bench.provider.always(Request::LookUp, slow);
    let mut wish = body(true);
    wish["async_confirmation_timeout_millisecond"] = deadline_ms.into();
    bench.create(Some("k"), &wish).await.unwrap();
    bench
}

/// How long after its deadline the only booking was cancelled, in milliseconds.
fn lateness_ms(bench: &Bench, deadline_ms: u64) -> u64 {
    let booking = bench.only_booking();
    assert_eq!(booking.status(), Status::Cancelled);
    booking.created_at().plus_ms(deadline_ms).ms_until(booking.history[1].at)
}

#[tokio::test(start_paused = true)]
async fn the_last_look_up_ends_by_the_deadline() {
    // At one of these at least a look-up is under way.
    for deadline_ms in [60_000, 63_000, 66_000] {
        let bench = create_under_long_look_ups(deadline_ms).await;
        bench.run_until_quiet().await;
        bench.check();
        let late_ms = lateness_ms(&bench, deadline_ms);
        assert!(late_ms <= 500, "{late_ms} ms after the deadline");
    }
}

/// The last worker dies: its lease must not keep the booking pending for long after the deadline.
#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_at_the_deadline_holds_nothing_up() {
    let bench = create_under_long_look_ups(SHORT_DEADLINE_MS).await;
    bench.run_for_ms(45_000).await;
    bench.provider.always(Request::LookUp, Script::failing(Reply::Silence));
    let begun = bench.provider.seen().len();
    while bench.provider.seen().len() == begun {
        bench.run_for_ms(200).await;
    }
    bench.faults.always("bookings.replace", Fault::StopBefore);
    bench.run_for_ms(10_000).await;
    bench.faults.heal();
    bench.run_until_quiet().await;
    bench.check();
    let late_ms = lateness_ms(&bench, SHORT_DEADLINE_MS);
    assert!((4_000..=6_000).contains(&late_ms), "{late_ms} ms after the deadline");
}

/// The worker's yes is written when its lease, the deadline and the compensation are long over.
#[tokio::test(start_paused = true)]
async fn a_frozen_timer_drops_no_outcome() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::Broken));
    bench.provider.plan(Request::LookUp, Script::WELL);
    bench.provider.always(Request::LookUp, Script::failing(Reply::Status(503)));
    // The writes before are the request's outcome and the claim.
    bench.faults.on("bookings.replace", 3, Fault::DelayBefore(140_000));
    let mut wish = body(true);
    wish["async_confirmation_timeout_millisecond"] = SHORT_DEADLINE_MS.into();
    bench.create(Some("k"), &wish).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    let causes: Vec<&str> = bench.only_booking().history.iter().map(|entry| entry.cause.as_str()).collect();
    assert_eq!(causes, ["created", "given_up", "compensated", "late_acknowledgement", "compensated"]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_books_40_s_after_we_hung_up_is_compensated() {
    for forgets in [false, true] {
        let bench = Bench::new();
        if forgets {
            bench.provider.forget_cancels();
        }
        bench.provider.plan(Request::Attempt, Script::WELL.after_ms(42_500));
        let created = bench.create(Some("k"), &body(false)).await.unwrap();
        assert_eq!(created.answer.status, 504);
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.only_booking().compensation, Compensation::Done);
        assert!(bench.provider.live().is_empty());
        assert_eq!(bench.provider.times_taken(&created.booking_id), u32::from(forgets));
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_books_late_is_adopted_in_the_background() {
    let bench = Bench::new();
    bench.provider.always(Request::Attempt, Script::WELL.after_ms(25_000));
    bench.create(Some("k"), &body(true)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    let booking = bench.only_booking();
    assert_eq!(booking.status(), Status::Confirmed);
    assert_eq!(bench.provider.times_taken(&booking.id), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_cancel_is_repeated() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    for reply in [Reply::Silence, Reply::Broken, Reply::Status(500), Reply::Accepted] {
        bench.provider.plan(Request::Cancel, Script::failing(reply));
    }
    bench.create(Some("k"), &body(false)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    let seen = bench.provider.seen();
    let cancels: Vec<_> = seen.iter().filter(|seen| seen.request == Request::Cancel).collect();
    let operations: Vec<(u32, u32)> = cancels.iter().map(|seen| seen.operation).collect();
    assert_eq!(operations, [(2, 1), (2, 2), (2, 3), (2, 4), (2, 5)]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_cancel_is_an_alarm() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    bench.provider.refuse_cancels();
    bench.create(Some("k"), &body(false)).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().compensation, Compensation::Failed);
    let [letter] = <[_; 1]>::try_from(bench.parking.dead_letters()).unwrap();
    assert_eq!(letter.reason, "compensation_failed");
    assert_eq!(bench.event_types().last().unwrap(), "booking.compensation_failed");
}

#[tokio::test(start_paused = true)]
async fn a_compensation_is_given_up_after_a_day_with_an_alarm() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::Silence));
    bench.provider.always(Request::Cancel, Script::failing(Reply::NoConnection));
    bench.create(Some("k"), &body(false)).await.unwrap();
    let begun = bench.clock.now();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().compensation, Compensation::Failed);
    let took_ms = begun.ms_until(bench.clock.now());
    assert!((COMPENSATION_LIMIT_MS..COMPENSATION_LIMIT_MS + 60_000).contains(&took_ms));
    assert_eq!(bench.parking.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lost_timers_are_found_by_the_sweep() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::Broken));
    bench.create(Some("k"), &body(true)).await.unwrap();
    for nth in (1..100).filter(|nth| nth % 10 != 0) {
        bench.timers.mishap(nth, Mishap::Lost);
    }
    bench.run_until_quiet().await;
    bench.check();
    assert_ne!(bench.only_booking().status(), Status::Pending);
}
