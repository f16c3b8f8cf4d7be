//! Providers that are told of bookings, at once or after they let them through, and exclusive slots.

use std::sync::Arc;
use std::time::Duration;

use holdfast_app::bookings::{FetchCall, cancel_by_provider, erase_customer, fetch_notifications};
use holdfast_app::ports::Clock;
use holdfast_app::problem::{ProblemCode, SideEffects};
use holdfast_app::settings::Protocol;
use holdfast_app::test_util::{Deed, Reply, Request, Script};
use holdfast_domain::{
    Booking, Cause, Compensation, ConfirmationMode, Notification, NotificationKind, OperationKind, Status,
    Withdrawal,
};
use serde_json::{Value, json};

use crate::bench::{Bench, caller, provider_id, tenant};
use crate::requests::{body, json_of};

/// The usual schedule: at once, and after 1, 5 and 15 minutes.
const SCHEDULE_MS: [u64; 4] = [0, 60_000, 300_000, 900_000];

fn telling(confirmation: ConfirmationMode) -> Arc<Bench> {
    Bench::with_provider(0, &[0], |provider| {
        provider.protocol = Protocol::Docplanner;
        provider.confirmation = confirmation;
    })
}

fn exclusive(confirmation: ConfirmationMode) -> Arc<Bench> {
    Bench::with_provider(0, &[0], |provider| {
        provider.confirmation = confirmation;
        provider.exclusive_slots = true;
    })
}

fn moved_to(day: u32) -> Value {
    json!({"slot": {
        "location_id": "main",
        "start": format!("2027-03-{day:02}T09:00:00Z"),
        "end": format!("2027-03-{day:02}T09:30:00Z"),
    }})
}

fn kinds_told(bench: &Bench) -> Vec<&'static str> {
    let name = |kind: &NotificationKind| match kind {
        NotificationKind::Booked => "booked",
        NotificationKind::Moved { .. } => "moved",
        NotificationKind::Cancelled => "cancelled",
    };
    bench.provider.told().iter().map(|told| name(&told.kind)).collect()
}

#[tokio::test(start_paused = true)]
async fn notify_accepts_at_once_in_one_write_and_tells_the_provider() {
    let bench = telling(ConfirmationMode::Notify);
    let created = bench.create(Some("k"), &body(false)).await.unwrap();
    let view = json_of(&created);
    assert_eq!(
        (created.answer.status, &view["status"], &view["version"]),
        (201, &json!("confirmed"), &json!(2))
    );
    assert_eq!(bench.faults.calls(), ["bookings.claim"]);
    let again = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((again.replayed, again.answer.body), (true, created.answer.body));
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(kinds_told(&bench), ["booked"]);
    assert_eq!(bench.event_types(), ["booking.created", "booking.confirmed"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_told_by_its_schedule_and_then_given_up_with_an_event_and_a_dead_letter() {
    let bench = telling(ConfirmationMode::Notify);
    bench.provider.always(Request::Notify, Script::failing(Reply::Status(500)));
    let begun = bench.clock.now();
    let created = bench.create(None, &body(false)).await.unwrap();
    bench.run_until_quiet().await;
    let attempts: Vec<u64> = bench.provider.seen().iter().map(|seen| begun.ms_until(seen.at)).collect();
    assert_eq!(attempts.len(), SCHEDULE_MS.len(), "{attempts:?}");
    for (made_at, due_at) in attempts.iter().zip(SCHEDULE_MS) {
        assert!((due_at..due_at + 10_000).contains(made_at), "{attempts:?}");
    }
    let booking = bench.booking(&created.booking_id);
    assert_eq!(booking.status(), Status::Confirmed, "it is the consumer's all the same");
    assert!(booking.notifications.is_empty());
    assert_eq!(booking.history.last().unwrap().cause, Cause::NotificationFailed);
    assert_eq!(bench.event_types().last().map(String::as_str), Some("provider.notification_failed"));
    assert_eq!(bench.parking.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_burst_over_the_providers_limit_is_told_all_the_same() {
    let bench = Bench::with_provider(0, &[0], |provider| {
        provider.confirmation = ConfirmationMode::Notify;
        provider.requests_per_second = Some(1);
    });
    for _ in 0..100 {
        bench.create(None, &body(false)).await.unwrap();
    }
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.told().len(), 100);
    assert!(bench.parking.dead_letters().is_empty(), "our own limit is no failure of the provider's");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_known_to_be_down_is_not_called_and_given_up_by_the_schedule() {
    let bench = telling(ConfirmationMode::Notify);
    bench.provider.always(Request::Notify, Script::failing(Reply::Status(500)));
    for _ in 0..6 {
        bench.create(None, &body(false)).await.unwrap();
    }
    while bench.settings.breaker(&provider_id()).open_until.is_none() {
        bench.run_for_ms(100).await;
    }
    let sent = bench.provider.seen().len();
    let unheard = bench.create(None, &body(false)).await.unwrap().booking_id;
    for _ in 0..30 {
        bench.create(None, &body(false)).await.unwrap();
    }
    while bench.booking(&unheard).notifications[0].skipped == 0 {
        bench.run_for_ms(100).await;
    }
    assert_eq!(bench.provider.seen().len(), sent, "nobody calls it");
    bench.cancel(&unheard, None, &json!({})).await.unwrap();
    bench.run_until_quiet().await;
    assert!(bench.provider.seen().iter().all(|seen| seen.booking_id != unheard), "it never heard of it");
    assert_eq!(bench.parking.dead_letters().len(), 36);
}

#[tokio::test(start_paused = true)]
async fn notifications_go_one_at_a_time_in_the_order_of_versions() {
    let bench = telling(ConfirmationMode::Notify);
    bench.provider.plan(Request::Notify, Script::failing(Reply::Silence));
    let id = bench.create(None, &body(false)).await.unwrap().booking_id;
    bench.run_for_ms(1_000).await;
    let moved = bench.operate(OperationKind::Reschedule, &id, Some("o"), &moved_to(2)).await.unwrap();
    assert_eq!(moved.answer.status, 200, "at once");
    let problem = erase_customer(&bench.store, &bench.clock, &tenant("shop"), &id).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::OperationInFlight, "the provider still needs them");
    let cancelled = bench.cancel(&id, Some("c"), &json!({})).await.unwrap();
    assert_eq!(cancelled.answer.status, 200, "at once");
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(kinds_told(&bench), ["booked", "moved", "cancelled"]);
    let told = bench.provider.told();
    assert_ne!(told[0].slot, told[1].slot, "each tells of the slot of its time");
    let versions: Vec<u32> = told.iter().map(|told| told.version).collect();
    assert_eq!(versions, [2, 3, 4]);
    let events = ["booking.created", "booking.confirmed", "booking.rescheduled", "booking.cancelled"];
    assert_eq!(bench.event_types(), events);
    assert_eq!(bench.booking(&id).compensation, Compensation::NotNeeded);
    erase_customer(&bench.store, &bench.clock, &tenant("shop"), &id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_before_it_was_ever_told_is_not_told_at_all() {
    let bench = telling(ConfirmationMode::Notify);
    let id = bench.create(None, &body(false)).await.unwrap().booking_id;
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 200);
    bench.run_until_quiet().await;
    bench.check();
    assert!(bench.provider.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_withdraws_is_not_told_of_it() {
    let bench = telling(ConfirmationMode::Notify);
    let id = bench.create(None, &body(false)).await.unwrap().booking_id;
    bench.run_until_quiet().await;
    bench.provider.withdraw(&id);
    cancel_by_provider(&bench.store, &bench.clock, &caller(), &id, &Withdrawal::default()).await.unwrap();
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(kinds_told(&bench), ["booked"]);
}

#[tokio::test(start_paused = true)]
async fn such_a_provider_takes_no_holds() {
    for mode in [ConfirmationMode::Notify, ConfirmationMode::RealTime] {
        let bench = telling(mode);
        let mut hold = body(false);
        hold["hold"] = json!(true);
        let problem = bench.create(Some("k"), &hold).await.unwrap_err();
        assert_eq!(problem.errors[0].pointer, "/hold");
        assert!(bench.store.items().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_lets_through_or_declines_in_its_own_words() {
    let bench = telling(ConfirmationMode::RealTime);
    let created = bench.create(Some("k"), &body(false)).await.unwrap();
    assert_eq!((created.answer.status, &json_of(&created)["status"]), (201, &json!("confirmed")));
    assert!(bench.provider.live().is_empty(), "the gate books nothing");
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.provider.requests(), [Request::Attempt, Request::Notify]);

    bench.provider.plan(Request::Attempt, Script::doing(Deed::Decline));
    let declined = bench.create(Some("d"), &body(false)).await.unwrap();
    let problem = json_of(&declined);
    assert_eq!((declined.answer.status, &problem["detail"]), (409, &json!("The slot is taken.")));
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(kinds_told(&bench), ["booked"], "who declined hears nothing more");
}

#[tokio::test(start_paused = true)]
async fn a_silent_gate_has_surely_booked_nothing() {
    for reply in [Reply::Silence, Reply::Status(500), Reply::Broken] {
        let bench = telling(ConfirmationMode::RealTime);
        bench.provider.plan(Request::Attempt, Script::replying(reply));
        let told = bench.create(Some("k"), &body(false)).await.unwrap();
        let problem = json_of(&told);
        assert_eq!(told.answer.status, if reply == Reply::Silence { 504 } else { 502 });
        assert_eq!(problem["side_effects"], "none");
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.only_booking().compensation, Compensation::NotNeeded);
        assert_eq!(bench.provider.requests(), [Request::Attempt]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_has_five_seconds_at_the_most_and_is_asked_again_in_the_background() {
    let bench = telling(ConfirmationMode::RealTime);
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence));
    let mut patient = body(true);
    patient["sync_confirmation_timeout_millisecond"] = json!(10_000);
    let begun = bench.clock.now();
    assert_eq!(bench.create(None, &patient).await.unwrap().answer.status, 202);
    assert_eq!(begun.ms_until(bench.clock.now()), 5_000);
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().status(), Status::Confirmed);
    assert_eq!(bench.provider.requests(), [Request::Attempt, Request::Attempt, Request::Notify]);
}

#[tokio::test(start_paused = true)]
async fn a_move_asks_the_gate_first() {
    let bench = telling(ConfirmationMode::RealTime);
    let id = bench.create(None, &body(false)).await.unwrap().booking_id;
    bench.run_until_quiet().await;
    let before = bench.booking(&id).slot;
    bench.provider.plan(Request::Change, Script::doing(Deed::Decline));
    let kind = OperationKind::Reschedule;
    assert_eq!(bench.operate(kind, &id, None, &moved_to(2)).await.unwrap().answer.status, 409);
    bench.provider.plan(Request::Change, Script::replying(Reply::Silence));
    let silent = bench.operate(kind, &id, None, &moved_to(2)).await.unwrap();
    let problem: Value = serde_json::from_slice(&silent.answer.body).unwrap();
    assert_eq!((silent.answer.status, &problem["side_effects"]), (504, &json!("none")));
    assert_eq!(bench.booking(&id).slot, before);
    assert_eq!(bench.operate(kind, &id, None, &moved_to(2)).await.unwrap().answer.status, 200);
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(kinds_told(&bench), ["booked", "moved"]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fetches_gets_everything_in_order_and_what_it_leaves_is_given_up() {
    let bench = Bench::with_provider(0, &[0], |provider| {
        provider.confirmation = ConfirmationMode::Notify;
        provider.base_url = None;
    });
    let pull = async || {
        let caller = caller();
        let call = FetchCall { caller: &caller, limit: 100, until: bench.clock.now().plus_ms(25_000) };
        let name = |_: &Booking, told: &Notification| Ok(json!([told.number, told.version]));
        fetch_notifications(&bench.store, &bench.mailbox, &bench.clock, call, &name)
            .await
            .unwrap()
            .notifications
    };
    let id = bench.create(None, &body(false)).await.unwrap().booking_id;
    bench.operate(OperationKind::Reschedule, &id, None, &moved_to(2)).await.unwrap();
    bench.run_for_ms(2_000).await;
    assert_eq!(pull().await, [json!([1, 2])], "one at a time");
    bench.run_for_ms(2_000).await;
    assert_eq!(pull().await, [json!([2, 3])]);
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 200);
    bench.run_until_quiet().await;
    assert!(pull().await.is_empty(), "it is too old");
    assert!(bench.provider.seen().is_empty(), "nobody is called");
    assert_eq!(bench.booking(&id).history.last().unwrap().cause, Cause::NotificationFailed);
    assert_eq!(bench.event_types().last().map(String::as_str), Some("provider.notification_failed"));
}

#[tokio::test(start_paused = true)]
async fn of_twenty_simultaneous_bookings_of_an_exclusive_slot_one_gets_it() {
    for mode in ConfirmationMode::ALL {
        let bench = exclusive(mode);
        let tries: Vec<_> = (0..20)
            .map(|number| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move { bench.create(Some(&format!("k{number}")), &body(false)).await })
            })
            .collect();
        let (mut made, mut refused) = (0, 0);
        for one in tries {
            match one.await.unwrap() {
                Ok(created) => {
                    assert_eq!(created.answer.status, 201);
                    made += 1;
                }
                Err(problem) => {
                    let said = (problem.code, problem.side_effects);
                    assert_eq!(said, (ProblemCode::SlotTaken, SideEffects::None));
                    refused += 1;
                }
            }
        }
        assert_eq!((made, refused), (1, 19), "{mode:?}");
        bench.run_until_quiet().await;
        bench.check();
        assert_eq!(bench.store.items().len(), 1, "who is refused has no booking");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_slot_is_free_again_when_its_booking_ends_or_moves() {
    let bench = exclusive(ConfirmationMode::Confirm);
    bench.provider.plan(Request::Attempt, Script::doing(Deed::Decline));
    assert_eq!(bench.create(Some("a"), &body(false)).await.unwrap().answer.status, 409);
    let first = bench.create(Some("b"), &body(false)).await.unwrap();
    assert_eq!(first.answer.status, 201, "the declined one gave it back");
    let taken = bench.create(Some("c"), &body(false)).await.unwrap_err();
    assert_eq!(taken.code, ProblemCode::SlotTaken);

    // While the move is not decided, both slots are taken.
    bench.provider.plan(Request::Change, Script::replying(Reply::Silence));
    let kind = OperationKind::Reschedule;
    let unknown = bench.operate(kind, &first.booking_id, None, &moved_to(2)).await.unwrap();
    assert_eq!(unknown.answer.status, 504);
    let mut other_day = body(false);
    other_day["slot"] = moved_to(2)["slot"].clone();
    for wish in [&body(false), &other_day] {
        assert_eq!(bench.create(Some("d"), wish).await.unwrap_err().code, ProblemCode::SlotTaken);
    }
    bench.run_until_quiet().await;
    assert_eq!(
        bench.create(Some("e"), &body(false)).await.unwrap().answer.status,
        201,
        "the old one is free"
    );
    assert_eq!(bench.create(Some("f"), &other_day).await.unwrap_err().code, ProblemCode::SlotTaken);
    let onto_taken = json!({"slot": body(false)["slot"]});
    let problem = bench.operate(kind, &first.booking_id, None, &onto_taken).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::SlotTaken, SideEffects::None));
    assert_eq!(bench.cancel(&first.booking_id, None, &json!({})).await.unwrap().answer.status, 200);
    assert_eq!(bench.create(Some("g"), &other_day).await.unwrap().answer.status, 201);
    bench.run_until_quiet().await;
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn calls_over_a_providers_limits_are_not_made() {
    let bench = Bench::with_provider(0, &[0], |provider| provider.max_attempts_in_flight = Some(1));
    bench.provider.plan(Request::Attempt, Script { reply_after_ms: 2_000, ..Script::WELL });
    let slow = {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.create(Some("slow"), &body(false)).await.unwrap() })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let problem = bench.create(Some("k"), &body(false)).await.unwrap_err();
    assert_eq!((problem.code, problem.side_effects), (ProblemCode::ProviderUnavailable, SideEffects::None));
    let patient = bench.create(Some("p"), &body(true)).await.unwrap();
    assert_eq!(patient.answer.status, 202);
    assert_eq!(slow.await.unwrap().answer.status, 201);
    assert_eq!(bench.create(Some("k"), &body(false)).await.unwrap().answer.status, 201, "the key is free");
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.booking(&patient.booking_id).status(), Status::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn calls_a_second_are_limited_over_all_processes() {
    let bench = Bench::with_provider(0, &[0, 0], |provider| provider.requests_per_second = Some(2));
    let tries: Vec<_> = (0..10)
        .map(|number| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let engine = bench.cold_engine();
                bench.create_at(&engine, Some(&format!("k{number}")), &body(true), None).await.unwrap()
            })
        })
        .collect();
    for one in tries {
        assert!(matches!(one.await.unwrap().answer.status, 201 | 202));
    }
    bench.run_until_quiet().await;
    bench.check();
    let mut by_second = std::collections::BTreeMap::new();
    for seen in bench.provider.seen() {
        *by_second.entry(seen.at.as_unix_ms() / 1_000).or_insert(0) += 1;
    }
    assert!(by_second.values().all(|calls| *calls <= 2), "{by_second:?}");
    assert_eq!(bench.provider.live().len(), 10);
}
