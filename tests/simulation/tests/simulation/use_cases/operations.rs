//! A consumer confirms, extends and reschedules.

use std::sync::Arc;
use std::time::Duration;

use holdfast_app::bookings::{Operated, ProviderAnswer, ProviderVerdict, acknowledge};
use holdfast_app::ports::Clock;
use holdfast_app::problem::{ProblemCode, SideEffects};
use holdfast_app::test_util::{Deed, Reply, Request, Script};
use holdfast_domain::{
    Acknowledgement, Booking, BookingId, Cause, Compensation, OperationKind, State, Status, Timestamp,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::cancel::booked;
use crate::bench::{Bench, caller};

/// How long the holds of these tests last, in milliseconds.
const HOLD_MS: u64 = 900_000;
/// The kinds that the provider is asked for by `Request::Change`.
const KINDS: [OperationKind; 3] = [OperationKind::Confirm, OperationKind::Extend, OperationKind::Reschedule];

fn later_slot() -> Value {
    json!({"location_id": "main", "start": "2027-03-02T09:00:00Z", "end": "2027-03-02T09:30:00Z"})
}

/// The body of an operation.
fn wish(kind: OperationKind, in_background: bool) -> Value {
    let mut body = json!({"async_confirmation": in_background});
    match kind {
        OperationKind::Extend => body["expires_at"] = json!("2027-01-15T09:00:00Z"),
        OperationKind::Reschedule => body["slot"] = later_slot(),
        OperationKind::Book | OperationKind::Confirm | OperationKind::Cancel => {}
    }
    body
}

fn body_of(operated: &Operated) -> Value {
    serde_json::from_slice(&operated.answer.body).unwrap()
}

async fn held() -> (Arc<Bench>, BookingId) {
    booked(Deed::Reserve { hold_ms: HOLD_MS }).await
}

/// What a change concerns: all of a booking but its history and what came of it.
fn facts(booking: &Booking) -> (State, String, Timestamp) {
    (booking.state.clone(), booking.slot.location_id.clone(), booking.slot.start)
}

/// Whether a booking is as the operation makes it.
fn is_made(booking: &Booking, kind: OperationKind) -> bool {
    let is = |text: &str, time: Timestamp| Timestamp::parse_rfc3339(text).unwrap() == time;
    match (kind, &booking.state) {
        (OperationKind::Confirm, state) => *state == State::Confirmed,
        (OperationKind::Extend, State::Reserved { expires_at }) => is("2027-01-15T09:00:00Z", *expires_at),
        (OperationKind::Reschedule, _) => is("2027-03-02T09:00:00Z", booking.slot.start),
        _ => false,
    }
}

fn event_of(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Confirm => "booking.confirmed",
        OperationKind::Extend => "booking.reserved",
        _ => "booking.rescheduled",
    }
}

/// The world goes on until the operation is over, and no longer: holds would run out.
async fn until_settled(bench: &Arc<Bench>, id: &BookingId) {
    while bench.booking(id).operation.is_some() {
        bench.run_for_ms(1_000).await;
    }
    bench.run_for_ms(2_000).await;
    let booking = bench.booking(id);
    if let State::Confirmed | State::Reserved { .. } = booking.state {
        let expires_at = match booking.state {
            State::Reserved { expires_at } => Some(expires_at),
            _ => None,
        };
        if expires_at.is_none_or(|expires_at| expires_at > bench.clock.now()) {
            assert_eq!(bench.provider.holds(id), Some((booking.slot, expires_at)), "{}", bench.story(id));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_made_at_the_provider_and_replayed_byte_for_byte() {
    for kind in KINDS {
        let (bench, id) = held().await;
        let before = bench.booking(&id).version();
        let done = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap();
        let view = body_of(&done);
        assert_eq!((done.answer.status, &view["operation"]), (200, &Value::Null), "{view}");
        assert_eq!(view["version"], before + 2, "begun and done");
        assert!(is_made(&bench.booking(&id), kind), "{view}");
        assert_eq!(bench.provider.seen()[1].operation, (2, 1));
        let again = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.answer.body, done.answer.body);
        let problem = bench.operate(kind, &id, Some("o"), &wish(kind, true)).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::IdempotencyKeyReused);
        assert_eq!(bench.provider.seen().len(), 2);
        until_settled(&bench, &id).await;
        assert_eq!(bench.event_types().last().map(String::as_str), Some(event_of(kind)));
        bench.run_until_quiet().await;
        bench.check();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_change_changes_nothing_and_tells_why() {
    for kind in KINDS {
        let (bench, id) = held().await;
        let before = bench.booking(&id);
        bench.provider.plan(Request::Change, Script::doing(Deed::Decline));
        let declined = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap();
        let problem = body_of(&declined);
        assert_eq!((declined.answer.status, &problem["code"]), (409, &json!("operation_declined")));
        assert_eq!(problem["side_effects"], "none");
        assert_eq!(problem["rejection"]["provider_code"], "slot_taken");
        assert_eq!(facts(&bench.booking(&id)), facts(&before));
        assert_eq!(bench.booking(&id).operation, None);
        until_settled(&bench, &id).await;
        assert_eq!(bench.event_types().last().map(String::as_str), Some("booking.operation_failed"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_makes_the_change_and_loses_the_answer_is_asked_and_believed() {
    for kind in KINDS {
        for reply in [Reply::Silence, Reply::Broken, Reply::Status(503), Reply::Accepted] {
            let (bench, id) = held().await;
            let before = bench.booking(&id);
            bench.provider.plan(Request::Change, Script::replying(reply));
            let told = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap();
            let problem = body_of(&told);
            let expected = if matches!(reply, Reply::Silence | Reply::Accepted) { 504 } else { 502 };
            assert_eq!(told.answer.status, expected, "{problem}");
            assert_eq!(problem["side_effects"], "unknown");
            let booking = bench.booking(&id);
            assert_eq!(facts(&booking), facts(&before), "it stays as it was");
            assert_eq!(booking.operation.map(|operation| operation.change.kind()), Some(kind));
            until_settled(&bench, &id).await;
            assert!(is_made(&bench.booking(&id), kind), "{kind:?} {reply:?}: {}", bench.story(&id));
            let changes = bench.provider.requests();
            let changes = changes.iter().filter(|request| **request == Request::Change).count();
            assert_eq!(changes, 1, "who does not wait any more does not ask again");
            let again = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap();
            assert_eq!(again.answer.body, told.answer.body);
            bench.run_until_quiet().await;
            bench.check();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_heard_of_the_change_is_believed_when_no_request_can_be_under_way() {
    for kind in KINDS {
        let (bench, id) = held().await;
        let before = bench.booking(&id);
        bench.provider.plan(Request::Change, Script::failing(Reply::Silence));
        let asked_at = bench.clock.now();
        let told = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap();
        assert_eq!(told.answer.status, 504);
        until_settled(&bench, &id).await;
        let booking = bench.booking(&id);
        assert_eq!(facts(&booking), facts(&before));
        let ended = booking.history.last().unwrap();
        assert_eq!(ended.cause, Cause::OperationGivenUp);
        assert!(asked_at.ms_until(ended.at) >= 60_000, "a request may take a minute to arrive");
        assert_eq!(bench.event_types().last().map(String::as_str), Some("booking.operation_failed"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_surely_not_sent_is_told_so_and_leaves_nothing_behind() {
    for kind in KINDS {
        let (bench, id) = held().await;
        let before = bench.booking(&id);
        bench.provider.plan(Request::Change, Script::failing(Reply::NoConnection));
        let told = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap();
        let problem = body_of(&told);
        assert_eq!((told.answer.status, &problem["side_effects"]), (502, &json!("none")));
        let booking = bench.booking(&id);
        assert_eq!((facts(&booking), &booking.operation), (facts(&before), &None));
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_background_it_is_retried_after_a_look() {
    for kind in KINDS {
        for script in [Script::failing(Reply::Status(503)), Script::replying(Reply::Silence)] {
            let (bench, id) = held().await;
            bench.provider.plan(Request::Change, script);
            let told = bench.operate(kind, &id, Some("o"), &wish(kind, true)).await.unwrap();
            let view = body_of(&told);
            assert_eq!((told.answer.status, &view["operation"]["kind"]), (202, &json!(kind.as_str())));
            until_settled(&bench, &id).await;
            assert!(is_made(&bench.booking(&id), kind), "{}", bench.story(&id));
            let requests = bench.provider.requests();
            assert_eq!(requests[..3], [Request::Attempt, Request::Change, Request::LookUp]);
            bench.run_until_quiet().await;
            bench.check();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_does_not_run_out_while_its_confirmation_is_unknown() {
    let (bench, id) = held().await;
    sleep(Duration::from_millis(HOLD_MS - 2_000)).await;
    bench.provider.plan(Request::Change, Script::replying(Reply::Silence));
    bench.provider.always(Request::LookUp, Script::failing(Reply::Status(503)));
    let told = bench.operate(OperationKind::Confirm, &id, None, &json!({})).await.unwrap();
    assert_eq!(told.answer.status, 504);
    let State::Reserved { expires_at } = bench.booking(&id).state else { panic!("it is a hold") };
    assert!(bench.booking(&id).operation.unwrap().deadline_at <= expires_at);
    bench.run_for_ms(600_000).await;
    assert_eq!(bench.booking(&id).status(), Status::Reserved);
    bench.provider.heal();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.booking(&id).status(), Status::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn nobody_can_tell_for_a_day_and_somebody_has_to_look() {
    let (bench, id) = booked(Deed::Book).await;
    bench.provider.plan(Request::Change, Script::replying(Reply::Silence));
    bench.provider.always(Request::LookUp, Script::failing(Reply::Status(503)));
    let kind = OperationKind::Reschedule;
    assert_eq!(bench.operate(kind, &id, None, &wish(kind, false)).await.unwrap().answer.status, 504);
    bench.run_until_quiet().await;
    let booking = bench.booking(&id);
    assert_eq!((booking.status(), booking.operation), (Status::Confirmed, None));
    assert_eq!(booking.history.last().unwrap().cause, Cause::OperationUnresolved);
    assert_eq!(bench.parking.dead_letters().len(), 1);
    assert_eq!(bench.event_types().last().map(String::as_str), Some("booking.operation_failed"));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_overtakes_any_other_change() {
    for kind in KINDS {
        let (bench, id) = held().await;
        bench
            .provider
            .plan(Request::Change, Script { reply_after_ms: 2_000, ..Script::WELL.after_ms(1_900) });
        let change = {
            let (bench, id) = (Arc::clone(&bench), id.clone());
            tokio::spawn(
                async move { bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap() },
            )
        };
        sleep(Duration::from_millis(500)).await;
        let other =
            if kind == OperationKind::Extend { OperationKind::Confirm } else { OperationKind::Extend };
        let problem = bench.operate(other, &id, None, &wish(other, false)).await.unwrap_err();
        assert_eq!((problem.code, problem.side_effects), (ProblemCode::OperationInFlight, SideEffects::None));
        let cancelled = bench.cancel(&id, Some("c"), &json!({})).await.unwrap();
        assert_eq!(cancelled.answer.status, 200);
        let overtaken = change.await.unwrap();
        assert_eq!((overtaken.answer.status, &body_of(&overtaken)["code"]), (409, &json!("status_conflict")));
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.booking(&id).compensation, Compensation::NotNeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_refused_while_a_cancel_overtakes_it_is_told_so() {
    for kind in KINDS {
        let (bench, id) = held().await;
        bench.provider.plan(
            Request::Change,
            Script { reply_after_ms: 1_000, ..Script::doing(Deed::Decline).after_ms(900) },
        );
        bench.provider.plan(Request::Cancel, Script { reply_after_ms: 2_000, ..Script::WELL });
        let change = {
            let (bench, id) = (Arc::clone(&bench), id.clone());
            tokio::spawn(
                async move { bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap() },
            )
        };
        sleep(Duration::from_millis(500)).await;
        let cancel = {
            let (bench, id) = (Arc::clone(&bench), id.clone());
            tokio::spawn(async move { bench.cancel(&id, Some("c"), &json!({})).await.unwrap() })
        };
        let told = change.await.unwrap();
        assert_eq!(told.answer.status, 409, "{kind:?}: {}", body_of(&told));
        assert_eq!(cancel.await.unwrap().answer.status, 200);
        bench.run_until_quiet().await;
        bench.check();
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_refuses_who_does_not_want_to_wait_and_leaves_no_trace() {
    let (bench, id) = booked(Deed::Book).await;
    let mut limited = bench.provider_settings.clone();
    limited.max_attempts_in_flight = Some(1);
    bench.settings.add_provider(limited.clone());
    bench.provider.plan(Request::Attempt, Script { reply_after_ms: 2_000, ..Script::WELL });
    let slow = {
        let (bench, limited) = (Arc::clone(&bench), limited.clone());
        tokio::spawn(async move {
            let body = crate::requests::body(false);
            bench.create_with(&bench.cold_engine(), &limited, None, &body, None).await.unwrap()
        })
    };
    sleep(Duration::from_millis(500)).await;
    let rev = bench.store.item(&id).unwrap().rev;
    let kind = OperationKind::Reschedule;
    let problem = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::ProviderUnavailable, SideEffects::None));
    assert!(problem.retry_after_s.is_some());
    assert_eq!(bench.store.item(&id).unwrap().rev, rev, "nothing is written");
    let bookings = bench.store.items().len();
    let engine = bench.cold_engine();
    let refused = bench.create_with(&engine, &limited, Some("l"), &crate::requests::body(false), None).await;
    assert_eq!(refused.unwrap_err().code, ProblemCode::ProviderUnavailable);
    assert_eq!(bench.store.items().len(), bookings, "no booking is made");
    assert_eq!(slow.await.unwrap().answer.status, 201);
    let done = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap();
    assert_eq!((done.answer.status, done.replayed), (200, false), "the key is free");
}

#[tokio::test(start_paused = true)]
async fn however_often_a_booking_is_changed_it_can_still_be_cancelled() {
    let (bench, id) = booked(Deed::Book).await;
    bench.provider.always(Request::Change, Script::doing(Deed::Decline));
    let kind = OperationKind::Reschedule;
    let refused = loop {
        match bench.operate(kind, &id, None, &wish(kind, false)).await {
            Ok(declined) => assert_eq!(declined.answer.status, 409),
            Err(problem) => break problem,
        }
    };
    assert_eq!(refused.code, ProblemCode::TooManyChanges);
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 200);
    bench.run_until_quiet().await;
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn a_refused_cancel_leaves_what_it_overtook_to_be_found_out() {
    for made in [true, false] {
        let (bench, id) = booked(Deed::Book).await;
        bench.provider.refuse_cancels();
        let script = if made { Script::replying(Reply::Silence) } else { Script::failing(Reply::Silence) };
        bench.provider.plan(Request::Change, script);
        let kind = OperationKind::Reschedule;
        assert_eq!(bench.operate(kind, &id, None, &wish(kind, false)).await.unwrap().answer.status, 504);
        assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 409);
        assert!(bench.booking(&id).operation.is_some(), "it is still to be found out");
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(is_made(&bench.booking(&id), kind), made);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_status_is_refused_before_anything_is_written() {
    let (bench, id) = booked(Deed::Book).await;
    let rev = bench.store.item(&id).unwrap().rev;
    let done = bench.operate(OperationKind::Confirm, &id, None, &json!({})).await.unwrap();
    assert_eq!(done.answer.status, 200, "it is confirmed already");
    let kind = OperationKind::Extend;
    let problem = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::StatusConflict, SideEffects::None));
    let same = json!({"slot": {
        "location_id": "main", "start": "2027-03-01T09:00:00Z", "end": "2027-03-01T09:30:00Z"
    }});
    let done = bench.operate(OperationKind::Reschedule, &id, None, &same).await.unwrap();
    assert_eq!(done.answer.status, 200, "it is there already");
    assert_eq!(bench.store.item(&id).unwrap().rev, rev);

    let (bench, id) = held().await;
    let sooner = json!({"expires_at": "2027-01-15T08:10:00Z"});
    let problem = bench.operate(kind, &id, None, &sooner).await.unwrap_err();
    assert_eq!(problem.errors[0].pointer, "/expires_at");
    bench.run_until_quiet().await;
    assert_eq!(bench.booking(&id).status(), Status::Expired);
    for kind in KINDS {
        let problem = bench.operate(kind, &id, None, &wish(kind, true)).await.unwrap_err();
        assert!(
            matches!(problem.code, ProblemCode::StatusConflict | ProblemCode::InvalidRequest),
            "{kind:?}: {problem}"
        );
    }
    assert_eq!(bench.provider.requests(), [Request::Attempt]);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_whoever_does_not_want_to_wait() {
    let (bench, id) = held().await;
    bench.provider.always(Request::Attempt, Script::failing(Reply::Status(500)));
    for _ in 0..5 {
        bench.create(None, &crate::requests::body(false)).await.unwrap();
    }
    let before = bench.booking(&id).version();
    let kind = OperationKind::Confirm;
    let problem = bench.operate(kind, &id, Some("o"), &wish(kind, false)).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::ProviderUnavailable, SideEffects::None));
    assert!(problem.retry_after_s.is_some());
    assert_eq!(bench.booking(&id).version(), before);
    let told = bench.operate(kind, &id, Some("o"), &wish(kind, true)).await.unwrap();
    assert_eq!(told.answer.status, 202);
    bench.provider.heal();
    until_settled(&bench, &id).await;
    assert!(is_made(&bench.booking(&id), kind));
}

#[tokio::test(start_paused = true)]
async fn a_provider_answers_a_change_by_calling_back_under_its_number() {
    let (bench, id) = booked(Deed::Book).await;
    bench.provider.plan(Request::Change, Script::replying(Reply::Accepted).after_ms(20_000).calling_back());
    let kind = OperationKind::Reschedule;
    let told = bench.operate(kind, &id, None, &wish(kind, true)).await.unwrap();
    assert_eq!(told.answer.status, 202);
    // A repeated yes to the booking itself says nothing of the change.
    let verdict = ProviderVerdict::Yes(Acknowledgement { provider_reference: None, reserved_until: None });
    let unnumbered = ProviderAnswer { verdict, operation: None };
    acknowledge(&bench.store, &bench.clock, &caller(), &id, &unnumbered).await.unwrap();
    assert!(bench.booking(&id).operation.is_some());
    until_settled(&bench, &id).await;
    assert!(is_made(&bench.booking(&id), kind));
    bench.run_until_quiet().await;
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_leaves_a_change_that_is_found_out() {
    for kind in KINDS {
        for in_background in [false, true] {
            let (bench, id) = held().await;
            let wish = wish(kind, in_background);
            bench.provider.plan(Request::Change, Script { reply_after_ms: 2_000, ..Script::WELL });
            let dying = bench.operate(kind, &id, Some("o"), &wish);
            assert!(timeout(Duration::from_millis(1_500), dying).await.is_err());
            let problem = bench.operate(kind, &id, Some("o"), &wish).await.unwrap_err();
            assert_eq!(problem.code, ProblemCode::RequestInFlight);
            sleep(Duration::from_millis(2_500)).await;
            let told = bench.operate(kind, &id, Some("o"), &wish).await.unwrap();
            assert_eq!(told.answer.status, if in_background { 202 } else { 504 });
            until_settled(&bench, &id).await;
            assert!(is_made(&bench.booking(&id), kind), "{}", bench.story(&id));
            bench.run_until_quiet().await;
            bench.check();
        }
    }
}
