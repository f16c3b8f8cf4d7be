//! A consumer withdraws a booking.

use std::sync::Arc;
use std::time::Duration;

use holdfast_app::bookings::{Operated, cancel_by_provider};
use holdfast_app::idempotency::KEY_RETENTION_MS;
use holdfast_app::ports::Clock;
use holdfast_app::problem::{ProblemCode, SideEffects};
use holdfast_app::test_util::{Deed, Fault, Reply, Request, Script};
use holdfast_domain::{BookingId, Compensation, Status, Withdrawal};
use serde_json::{Value, json};
use tokio::time::{advance, sleep, timeout};

use crate::bench::{Bench, caller};
use crate::requests::{body, json_of};

/// When a request's lease is over: the synchronous limit and a second.
const LEASE_MS: u64 = 3_500;
/// How long a worker lives that is killed, in milliseconds.
const LIFE_MS: u64 = 1_500;
/// The shortest background deadline, in milliseconds.
const DEADLINE_MS: u64 = 60_000;

/// A world with one booking, as the provider makes it.
pub(super) async fn booked(deed: Deed) -> (Arc<Bench>, BookingId) {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::doing(deed));
    let created = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!(created.answer.status, 201);
    (bench, created.booking_id)
}

fn because_ill() -> Value {
    json!({"reason": "ill", "note": "Next week perhaps."})
}

fn body_of(cancelled: &Operated) -> Value {
    serde_json::from_slice(&cancelled.answer.body).unwrap()
}

/// The same answer once more, as a repetition.
fn assert_replays(again: &Operated, first: &Operated) {
    assert!(again.replayed && !first.replayed);
    assert_eq!((again.answer.status, &again.answer.body), (first.answer.status, &first.answer.body));
}

#[tokio::test(start_paused = true)]
async fn what_stands_is_cancelled_at_the_provider() {
    for deed in [Deed::Book, Deed::Reserve { hold_ms: 900_000 }] {
        let (bench, id) = booked(deed).await;
        let from = bench.faults.calls().len();
        let cancelled = bench.cancel(&id, Some("c"), &because_ill()).await.unwrap();
        let calls: Vec<_> = bench.faults.calls().split_off(from);
        assert_eq!(calls, ["bookings.read", "bookings.replace", "settings.load", "bookings.replace"]);
        let view = body_of(&cancelled);
        assert_eq!((cancelled.answer.status, &view["status"]), (200, &json!("cancelled")));
        let words = json!({"by": "consumer", "reason": "ill", "note": "Next week perhaps."});
        assert_eq!((&view["cancellation"], &view["operation"]), (&words, &Value::Null));
        assert_eq!(view["version"], 4, "created, acknowledged, begun, withdrawn");
        assert_eq!(bench.provider.seen()[1].operation, (2, 1));
        assert!(bench.provider.live().is_empty());
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.only_booking().compensation, Compensation::NotNeeded);
        assert_eq!(bench.event_types().last().map(String::as_str), Some("booking.cancelled"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_the_first_answer_byte_for_byte() {
    let (bench, id) = booked(Deed::Book).await;
    let first = bench.cancel(&id, Some("c"), &because_ill()).await.unwrap();
    let requests = bench.provider.seen().len();
    bench.run_until_quiet().await;
    for engine in [&*bench.engine, &bench.cold_engine()] {
        let again = bench.cancel_at(engine, &id, Some("c"), &because_ill(), None).await.unwrap();
        assert_replays(&again, &first);
    }
    let problem = bench.cancel(&id, Some("c"), &json!({"reason": "bored"})).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::IdempotencyKeyReused);
    // It is cancelled already, which another key's first answer says, for ever.
    let other = bench.cancel(&id, Some("d"), &json!({})).await.unwrap();
    assert_eq!((other.answer.status, other.replayed), (200, false));
    bench.provider.always(Request::Cancel, Script::WELL);
    let create_key = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((create_key.answer.status, create_key.replayed), (201, true), "another scope");
    assert_replays(&bench.cancel(&id, Some("d"), &json!({})).await.unwrap(), &other);
    let problem = bench.cancel(&id, Some("d"), &because_ill()).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::IdempotencyKeyReused);
    let unkeyed = bench.cancel(&id, None, &json!({})).await.unwrap();
    assert_eq!((unkeyed.answer.status, unkeyed.replayed), (200, false));
    assert_eq!(bench.provider.seen().len(), requests, "the provider hears of none of it");
    assert_eq!(bench.booking(&id).version(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_used_afresh_after_14_days() {
    let (bench, id) = booked(Deed::Book).await;
    bench.provider.refuse_cancels();
    let first = bench.cancel(&id, Some("c"), &json!({})).await.unwrap();
    assert_eq!(first.answer.status, 409);
    bench.provider.accept_cancels();
    advance(Duration::from_millis(KEY_RETENTION_MS - 1)).await;
    assert_replays(&bench.cancel(&id, Some("c"), &json!({})).await.unwrap(), &first);
    advance(Duration::from_millis(1)).await;
    let afresh = bench.cancel(&id, Some("c"), &because_ill()).await.unwrap();
    assert_eq!((afresh.answer.status, afresh.replayed), (200, false));
    assert_eq!(bench.store.item(&id).unwrap().operations.len(), 1, "what is over is not kept");
    assert_replays(&bench.cancel(&id, Some("c"), &because_ill()).await.unwrap(), &afresh);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_changes_nothing_and_tells_why() {
    let (bench, id) = booked(Deed::Book).await;
    let before = bench.booking(&id);
    bench.provider.refuse_cancels();
    let declined = bench.cancel(&id, Some("c"), &because_ill()).await.unwrap();
    let problem = body_of(&declined);
    assert_eq!((declined.answer.status, &problem["code"]), (409, &json!("operation_declined")));
    assert_eq!((&problem["side_effects"], &problem["booking_id"]), (&json!("none"), &json!(id.as_str())));
    assert_eq!(problem["rejection"]["provider_code"], "slot_taken");
    let after = bench.booking(&id);
    assert_eq!((after.state, after.operation, after.compensation), (before.state, None, before.compensation));
    assert_eq!(after.history.len(), before.history.len() + 2);
    bench.run_until_quiet().await;
    bench.check();
    let failed = bench.bus.events().into_iter().find(|event| event.event_type == "booking.operation_failed");
    let failed: Value = serde_json::from_str(&failed.unwrap().body).unwrap();
    assert_eq!((&failed["data"]["status"], &failed["data"]["version"]), (&json!("confirmed"), &json!(4)));
    assert_eq!(failed["data"]["rejection"]["message"], "The slot is taken.");
    bench.provider.accept_cancels();
    assert_eq!(bench.cancel(&id, Some("d"), &json!({})).await.unwrap().answer.status, 200);
    assert_replays(&bench.cancel(&id, Some("c"), &because_ill()).await.unwrap(), &declined);
    assert_eq!(bench.provider.seen().last().unwrap().operation, (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_provider_is_asked_in_the_background() {
    for script in
        [Script::replying(Reply::Silence), Script::failing(Reply::Silence), Script::replying(Reply::Accepted)]
    {
        let (bench, id) = booked(Deed::Book).await;
        bench.provider.plan(Request::Cancel, script);
        let begun = bench.clock.now();
        let accepted = bench.cancel(&id, Some("c"), &because_ill()).await.unwrap();
        assert_eq!(begun.ms_until(bench.clock.now()), 2_500);
        let view = body_of(&accepted);
        assert_eq!((accepted.answer.status, &view["status"]), (202, &json!("confirmed")));
        assert_eq!(
            (&view["operation"]["kind"], &view["operation"]["attempts"]),
            (&json!("cancel"), &json!(1))
        );
        assert!(accepted.answer.retry_after_s.is_some());
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.booking(&id).status(), Status::Cancelled);
        assert_eq!(bench.provider.requests(), [Request::Attempt, Request::Cancel, Request::Cancel]);
        assert_eq!(bench.provider.seen()[2].operation, (2, 2), "the same operation, so the same key");
        assert_replays(&bench.cancel(&id, Some("c"), &because_ill()).await.unwrap(), &accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn one_change_is_in_flight_at_a_time() {
    let (bench, id) = booked(Deed::Book).await;
    bench.provider.plan(Request::Cancel, Script { reply_after_ms: 2_000, ..Script::WELL });
    let first = {
        let (bench, id) = (Arc::clone(&bench), id.clone());
        tokio::spawn(async move { bench.cancel(&id, Some("c"), &json!({})).await.unwrap() })
    };
    sleep(Duration::from_millis(500)).await;
    for key in [None, Some("d")] {
        let problem = bench.cancel(&id, key, &json!({})).await.unwrap_err();
        assert_eq!((problem.code, problem.side_effects), (ProblemCode::OperationInFlight, SideEffects::None));
        assert!(problem.retry_after_s.is_some());
    }
    let problem = bench.cancel(&id, Some("c"), &json!({})).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::RequestInFlight, SideEffects::Unknown));
    let waited = bench.cancel_at(&bench.engine, &id, Some("c"), &json!({}), Some(10)).await.unwrap();
    assert_replays(&waited, &first.await.unwrap());
    assert_eq!(waited.answer.status, 200);
    // A key whose request was refused stands for nothing.
    assert_eq!(bench.cancel(&id, Some("d"), &because_ill()).await.unwrap().answer.status, 200);
    assert_eq!(bench.provider.requests(), [Request::Attempt, Request::Cancel]);
}

#[tokio::test(start_paused = true)]
async fn a_pending_booking_is_cancelled_at_once_and_what_its_attempt_books_is_undone() {
    for in_background in [false, true] {
        let bench = Bench::new();
        bench.provider.forget_cancels();
        bench.provider.plan(Request::Attempt, Script::WELL.after_ms(2_000));
        let create = {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.create(Some("k"), &body(in_background)).await.unwrap() })
        };
        sleep(Duration::from_millis(500)).await;
        let id = bench.only_booking().id;
        let begun = bench.clock.now();
        let cancelled = bench.cancel(&id, Some("c"), &because_ill()).await.unwrap();
        assert_eq!(bench.clock.now(), begun, "nobody is asked");
        let view = body_of(&cancelled);
        assert_eq!(
            (cancelled.answer.status, &view["status"], &view["version"]),
            (200, &json!("cancelled"), &json!(2))
        );
        let created = create.await.unwrap();
        let problem = json_of(&created);
        assert_eq!((created.answer.status, &problem["code"]), (409, &json!("status_conflict")));
        assert_eq!(problem["side_effects"], "unknown");
        assert_eq!(bench.provider.live().len(), 1, "it books all the same");
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.only_booking().compensation, Compensation::Done);
        assert_eq!(bench.event_types(), ["booking.created", "booking.cancelled", "booking.compensated"]);
        assert_replays(&bench.cancel(&id, Some("c"), &because_ill()).await.unwrap(), &cancelled);
        let again = bench.create(Some("k"), &body(in_background)).await.unwrap();
        assert_eq!((again.answer.status, again.answer.body), (409, created.answer.body));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_surely_not_sent_is_cancelled_without_a_word_to_the_provider() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::NoConnection));
    let created = bench.create(Some("k"), &body(true)).await.unwrap();
    assert_eq!(bench.cancel(&created.booking_id, None, &json!({})).await.unwrap().answer.status, 200);
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.requests(), [Request::Attempt]);
    assert_eq!(bench.only_booking().compensation, Compensation::NotNeeded);
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_it_is_cancelled_and_the_rest_is_compensation() {
    let (bench, id) = booked(Deed::Book).await;
    bench.provider.always(Request::Cancel, Script::failing(Reply::Status(503)));
    let wish = json!({"reason": "ill", "async_confirmation_timeout_millisecond": DEADLINE_MS});
    let begun = bench.clock.now();
    assert_eq!(bench.cancel(&id, Some("c"), &wish).await.unwrap().answer.status, 202);
    bench.run_for_ms(3 * DEADLINE_MS).await;
    let booking = bench.booking(&id);
    let ended = booking.history.iter().find(|entry| entry.status == Status::Cancelled).unwrap();
    let ended_after_ms = begun.ms_until(ended.at);
    assert!((DEADLINE_MS..DEADLINE_MS + 6_000).contains(&ended_after_ms), "{ended_after_ms}");
    assert!(matches!(booking.compensation, Compensation::Underway(_)));
    assert_eq!(bench.provider.live(), std::slice::from_ref(&id));
    bench.provider.heal();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.booking(&id).compensation, Compensation::Done);
    assert_eq!(bench.provider.seen().last().unwrap().operation.0, 3, "an operation of its own");
    assert_eq!(bench.event_types()[2..], ["booking.cancelled", "booking.compensated"]);
}

#[tokio::test(start_paused = true)]
async fn a_hold_does_not_run_out_while_its_cancel_is_in_flight() {
    let (bench, id) = booked(Deed::Reserve { hold_ms: 20_000 }).await;
    bench.provider.always(Request::Cancel, Script::failing(Reply::Status(503)));
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 202);
    bench.run_for_ms(60_000).await;
    assert_eq!(bench.booking(&id).status(), Status::Reserved);
    bench.provider.heal();
    bench.provider.refuse_cancels();
    bench.run_until_quiet().await;
    assert_eq!(bench.booking(&id).status(), Status::Expired);
    let problem = bench.cancel(&id, None, &json!({})).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::StatusConflict);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_answered_at_once_and_goes_on_in_the_background() {
    let (bench, id) = booked(Deed::Book).await;
    super::create::open_circuit(&bench).await;
    let (begun, requests) = (bench.clock.now(), bench.provider.seen().len());
    let accepted = bench.cancel(&id, Some("c"), &json!({})).await.unwrap();
    assert_eq!((accepted.answer.status, bench.clock.now()), (202, begun));
    assert_eq!(bench.provider.seen().len(), requests, "nothing is sent");
    bench.provider.heal();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.booking(&id).status(), Status::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn the_providers_own_cancel_ends_one_that_is_in_flight() {
    for reply in [Reply::Accepted, Reply::Silence] {
        let (bench, id) = booked(Deed::Book).await;
        bench.provider.plan(Request::Cancel, Script::replying(reply));
        let call = async {
            sleep(Duration::from_secs(1)).await;
            let words = Withdrawal::default();
            cancel_by_provider(&bench.store, &bench.clock, &caller(), &id, &words).await.unwrap()
        };
        let wish = because_ill();
        let (cancelled, _) = tokio::join!(bench.cancel(&id, Some("c"), &wish), call);
        let cancelled = cancelled.unwrap();
        assert_eq!(cancelled.answer.status, 200);
        assert_eq!(body_of(&cancelled)["cancellation"]["by"], "consumer", "it is what was asked for");
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.provider.requests(), [Request::Attempt, Request::Cancel]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_workers_cancel_goes_on_and_its_key_is_free_when_the_lease_is_over() {
    for (operation, nth, fault, answers) in [
        ("bookings.replace", 2, Fault::StopAfter, 202),
        ("settings.load", 1, Fault::StopBefore, 202),
        ("bookings.replace", 3, Fault::StopBefore, 202),
        ("bookings.replace", 3, Fault::StopAfter, 200),
    ] {
        let (bench, id) = booked(Deed::Book).await;
        bench.faults.on(operation, nth, fault);
        let wish = because_ill();
        assert!(timeout(Duration::from_millis(LIFE_MS), bench.cancel(&id, Some("c"), &wish)).await.is_err());
        if answers == 202 {
            let problem = bench.cancel(&id, Some("c"), &wish).await.unwrap_err();
            assert_eq!(problem.code, ProblemCode::RequestInFlight);
        }
        sleep(Duration::from_millis(LEASE_MS)).await;
        let replay = bench.cancel(&id, Some("c"), &wish).await.unwrap();
        assert_eq!((replay.answer.status, replay.replayed), (answers, true));
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.booking(&id).status(), Status::Cancelled);
        let again = bench.cancel(&id, Some("c"), &wish).await.unwrap();
        assert_eq!((again.answer.status, again.answer.body), (answers, replay.answer.body));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_dies_before_its_first_write_changes_nothing() {
    let (bench, id) = booked(Deed::Book).await;
    bench.faults.next("bookings.replace", Fault::StopBefore);
    let wish = because_ill();
    assert!(timeout(Duration::from_millis(LIFE_MS), bench.cancel(&id, Some("c"), &wish)).await.is_err());
    bench.run_until_quiet().await;
    assert_eq!((bench.booking(&id).version(), bench.provider.seen().len()), (2, 1));
    assert_eq!(bench.cancel(&id, Some("c"), &wish).await.unwrap().answer.status, 200);
}

/// Its worker died before it could answer; what it would have said is told to whoever asks, even if another
/// refusal has followed.
#[tokio::test(start_paused = true)]
async fn a_late_replay_of_a_refused_cancel_says_so() {
    for another_follows in [false, true] {
        let (bench, id) = booked(Deed::Book).await;
        bench.provider.refuse_cancels();
        bench.faults.next("bookings.replace", Fault::StopAfter);
        let wish = because_ill();
        assert!(timeout(Duration::from_millis(LIFE_MS), bench.cancel(&id, Some("c"), &wish)).await.is_err());
        bench.run_until_quiet().await;
        assert_eq!(bench.booking(&id).status(), Status::Confirmed);
        if another_follows {
            assert_eq!(bench.cancel(&id, Some("d"), &wish).await.unwrap().answer.status, 409);
        }
        let replay = bench.cancel(&id, Some("c"), &wish).await.unwrap();
        let problem = body_of(&replay);
        assert_eq!((replay.answer.status, &problem["code"]), (409, &json!("operation_declined")));
        assert_eq!(problem.get("rejection").is_some(), !another_follows);
    }
}

/// The create's worker died before it could answer, and the booking was made and withdrawn since.
#[tokio::test(start_paused = true)]
async fn a_late_replay_of_the_create_says_that_it_was_made() {
    let bench = Bench::new();
    bench.faults.next("bookings.replace", Fault::StopBefore);
    let wish = body(true);
    assert!(timeout(Duration::from_millis(LIFE_MS), bench.create(Some("k"), &wish)).await.is_err());
    bench.run_until_quiet().await;
    let id = bench.only_booking().id;
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 200);
    let replay = bench.create(Some("k"), &wish).await.unwrap();
    assert_eq!((replay.answer.status, &json_of(&replay)["status"]), (201, &json!("cancelled")));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_truthfully() {
    for (fault, becomes) in [(Fault::FailBefore, Status::Confirmed), (Fault::FailAfter, Status::Cancelled)] {
        let (bench, id) = booked(Deed::Book).await;
        bench.faults.next("bookings.replace", fault);
        let problem = bench.cancel(&id, Some("c"), &json!({})).await.unwrap_err();
        let expected = (ProblemCode::StoreUnavailable, SideEffects::Unknown);
        assert_eq!((problem.code, problem.side_effects), expected);
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.booking(&id).status(), becomes);
    }
    let (bench, id) = booked(Deed::Book).await;
    bench.faults.next("bookings.read", Fault::FailBefore);
    let problem = bench.cancel(&id, Some("c"), &json!({})).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::StoreUnavailable, SideEffects::None));
    // The configuration is needed only to ask the provider, which the background can do as well.
    bench.faults.next("settings.load", Fault::FailBefore);
    assert_eq!(bench.cancel(&id, Some("c"), &json!({})).await.unwrap().answer.status, 202);
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.booking(&id).status(), Status::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn no_unknown_booking_is_cancelled() {
    let (bench, id) = booked(Deed::Book).await;
    let mut item = bench.store.item(&id).unwrap();
    item.booking.tenant = crate::bench::tenant("another");
    bench.store.put(&item);
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap_err().code, ProblemCode::NotFound);
    bench.store.remove(&id).unwrap();
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap_err().code, ProblemCode::NotFound);
}

/// Whatever a caller does, the item stays well below what a table can hold.
#[tokio::test(start_paused = true)]
async fn the_responses_kept_for_keys_are_bounded() {
    let bench = Bench::new();
    let mut wish = body(false);
    wish["metadata"] = (0..20).map(|number| (number.to_string(), json!("m".repeat(500)))).collect();
    let id = bench.create(None, &wish).await.unwrap().booking_id;
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 200);
    let mut used = 0;
    let problem = loop {
        match bench.cancel(&id, Some(&format!("key-{used}")), &json!({})).await {
            Ok(cancelled) => assert_eq!(cancelled.answer.status, 200),
            Err(problem) => break problem,
        }
        used += 1;
        assert!(used < 100, "never stopped");
    };
    assert_eq!(problem.code, ProblemCode::TooManyChanges);
    assert!(bench.cancel(&id, Some("key-0"), &json!({})).await.unwrap().replayed);
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 200);
    advance(Duration::from_millis(KEY_RETENTION_MS)).await;
    assert!(!bench.cancel(&id, Some("key-0"), &json!({})).await.unwrap().replayed);
    assert_eq!(bench.store.item(&id).unwrap().operations.len(), 1);
}
