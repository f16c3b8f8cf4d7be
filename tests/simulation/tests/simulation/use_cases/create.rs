//! Every row of the contract's table of what a create answers.

use holdfast_app::problem::{ProblemCode, SideEffects};
use holdfast_app::test_util::{Deed, Reply, Request, Script};
use holdfast_domain::{Compensation, Status, Timestamp};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{body, json_of};
use holdfast_app::ports::Clock;

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

#[tokio::test(start_paused = true)]
async fn a_yes_in_time_is_201_whatever_the_patience() {
    for in_background in [false, true] {
        let bench = Bench::new();
        let created = bench.create(Some("k"), &body(in_background)).await.unwrap();
        assert_eq!((created.answer.status, created.replayed), (201, false));
        let shown = json_of(&created);
        assert_eq!(shown["status"], "confirmed");
        assert_eq!(shown["version"], 2);
        assert_eq!(shown["operation"], Value::Null);
        assert!(shown.get("customer").is_none());
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.event_types(), ["booking.created", "booking.confirmed"]);
        assert_eq!(bench.provider.requests(), [Request::Attempt]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_reserved_and_expires() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::doing(Deed::Reserve { hold_ms: 600_000 }));
    let created = bench.create(Some("k"), &with(body(false), "hold", json!(true))).await.unwrap();
    assert_eq!(created.answer.status, 201);
    let shown = json_of(&created);
    assert_eq!(
        (&shown["status"], &shown["expires_at"]),
        (&json!("reserved"), &json!("2027-01-15T08:10:00Z"))
    );
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().status(), Status::Expired);
    assert_eq!(bench.event_types(), ["booking.created", "booking.reserved", "booking.expired"]);
    let replay = bench.create(Some("k"), &with(body(false), "hold", json!(true))).await.unwrap();
    assert_eq!(replay.answer.body, created.answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_no_is_409_with_the_providers_words() {
    for in_background in [false, true] {
        let bench = Bench::new();
        bench.provider.plan(Request::Attempt, Script::doing(Deed::Decline));
        let created = bench.create(Some("k"), &body(in_background)).await.unwrap();
        assert_eq!(created.answer.status, 409);
        let problem = json_of(&created);
        assert_eq!(problem["code"], "booking_declined");
        assert_eq!(problem["side_effects"], "none");
        assert_eq!(problem["rejection"]["provider_code"], "slot_taken");
        assert_eq!(problem["rejection"]["message"], "The slot is taken.");
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.only_booking().compensation, Compensation::NotNeeded);
        assert_eq!(bench.event_types(), ["booking.created", "booking.rejected"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_502_and_nothing_stays_booked() {
    for reply in [Reply::Status(500), Reply::Broken, Reply::Status(429)] {
        let bench = Bench::new();
        bench.provider.plan(Request::Attempt, Script::replying(reply));
        let created = bench.create(Some("k"), &body(false)).await.unwrap();
        let problem = json_of(&created);
        assert_eq!((created.answer.status, &problem["code"]), (502, &json!("provider_failed")));
        assert_eq!(problem["side_effects"], "unknown");
        assert_eq!(bench.only_booking().status(), Status::Cancelled);
        assert_eq!(bench.provider.live().len(), 1, "it booked before it failed");
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.only_booking().compensation, Compensation::Done);
        assert_eq!(bench.event_types(), ["booking.created", "booking.cancelled", "booking.compensated"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_has_no_side_effects() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::NoConnection));
    let created = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((created.answer.status, &json_of(&created)["side_effects"]), (502, &json!("none")));
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.requests(), [Request::Attempt], "nothing is compensated");
}

#[tokio::test(start_paused = true)]
async fn silence_until_the_limit_is_504_for_who_waits_and_202_for_who_does_not() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    let begun = bench.clock.now();
    let created = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!(begun.ms_until(bench.clock.now()), 2_500);
    let problem = json_of(&created);
    assert_eq!((created.answer.status, &problem["code"]), (504, &json!("provider_timeout")));
    assert_eq!(problem["side_effects"], "unknown");
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().status(), Status::Cancelled);

    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    let created = bench.create(Some("k"), &body(true)).await.unwrap();
    assert_eq!(created.answer.status, 202);
    assert!(created.answer.retry_after_s.is_some());
    assert_eq!(json_of(&created)["status"], "pending");
    assert_eq!(json_of(&created)["operation"]["last_error"], "timed_out");
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().status(), Status::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_the_callers_to_the_millisecond() {
    for (answered_after_ms, status) in [(3_999, 201), (4_001, 504)] {
        let bench = Bench::new();
        bench.provider.plan(Request::Attempt, Script::WELL.after_ms(answered_after_ms));
        let wish = with(body(false), "sync_confirmation_timeout_millisecond", json!(4_000));
        let created = bench.create(Some("k"), &wish).await.unwrap();
        assert_eq!(created.answer.status, status);
        bench.run_until_quiet().await;
        bench.check();
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_503_for_who_waits_and_202_for_who_does_not() {
    let bench = Bench::new();
    open_circuit(&bench).await;
    let made = bench.store.items().len();
    let problem = bench.create(Some("k"), &body(false)).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::ProviderUnavailable, SideEffects::None));
    assert!(problem.retry_after_s.is_some_and(|seconds| (1..=30).contains(&seconds)));
    assert_eq!(bench.store.items().len(), made, "no booking is made");
    let before = bench.clock.now();
    let created = bench.create(Some("k"), &body(true)).await.unwrap();
    assert_eq!((created.answer.status, bench.clock.now()), (202, before));
    assert_eq!(bench.provider.seen().len(), 5, "nothing is sent");
    bench.provider.heal();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.booking(&created.booking_id).status(), Status::Confirmed);
}

/// Five failures in a row.
pub(super) async fn open_circuit(bench: &Bench) {
    bench.provider.always(Request::Attempt, Script::failing(Reply::Status(500)));
    for _ in 0..5 {
        assert_eq!(bench.create(None, &body(false)).await.unwrap().answer.status, 502);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_in_the_past_is_refused_and_nothing_is_made() {
    let bench = Bench::new();
    let mut wish = body(false);
    wish["slot"]["start"] = json!("2027-01-15T07:59:59Z");
    let problem = bench.create(Some("k"), &wish).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::InvalidRequest, SideEffects::None));
    assert!(bench.store.items().is_empty() && bench.provider.seen().is_empty());
    assert!(bench.clock.now() == Timestamp::parse_rfc3339(crate::bench::BEGINNING).unwrap());
}
