//! What becomes of a change whose answer is lost, told by example.

use holdfast_domain::{
    AttemptError, AttemptOutcome, Cause, Command, Compensation, ConfirmationMode, FETCH_LIMIT_MS,
    NotificationRoute, Operation, Patience, RefusalReason, State, Status, Step, next_step,
};

use crate::beginning::slot;
use crate::moves::{Beginning, Wish, yes};
use crate::provider::{HOLD_MS, Habits};
use crate::truth::{Fate, Opening, Truth, Turn};
use crate::world::World;

const ARRIVES: Fate = Fate::Lost { arrives_after_ms: Some(0) };
const NEVER_ARRIVES: Fate = Fate::Lost { arrives_after_ms: None };

fn opening(hold: bool, tells_operation: bool) -> Opening {
    Opening {
        beginning: Beginning::confirmed_by_provider(Patience::Synchronous, 900_000),
        hold,
        fate: Fate::Answered,
        willing: true,
        habits: Habits { tells_operation, remembers_cancels: true },
    }
}

fn told(mode: ConfirmationMode, route: NotificationRoute) -> Truth {
    let mut opening = opening(false, false);
    opening.beginning.mode = mode;
    opening.beginning.route = route;
    Truth::new(&opening)
}

fn begin(wish: Wish, patience: Patience, fate: Fate) -> Turn {
    Turn::Begin { wish, patience, fate, willing: true }
}

fn is_resolving(truth: &Truth) -> bool {
    truth.booking.operation.as_ref().is_some_and(Operation::is_resolving)
}

fn causes(truth: &Truth) -> Vec<Cause> {
    truth.booking.history.iter().map(|entry| entry.cause).collect()
}

#[test]
fn a_reschedule_whose_answer_is_lost_is_looked_up_and_adopted() {
    let mut truth = Truth::new(&opening(false, true));
    truth.play(&begin(Wish::Reschedule { to: 1 }, Patience::Synchronous, ARRIVES));
    assert!(is_resolving(&truth));
    assert_eq!(truth.booking.slot, slot(0), "nobody knows yet");
    truth.play(&Turn::Wait(0));
    assert!(truth.settle(true));
    assert_eq!(truth.booking.slot, slot(1));
    assert_eq!(causes(&truth)[2..], [Cause::OperationBegun, Cause::Rescheduled]);
}

#[test]
fn a_confirm_that_never_arrived_is_given_up_only_when_it_cannot_arrive_any_more() {
    let mut truth = Truth::new(&opening(true, false));
    truth.play(&begin(Wish::Confirm, Patience::Synchronous, NEVER_ARRIVES));
    assert!(is_resolving(&truth));
    truth.play(&Turn::Due { fate: Fate::Answered, willing: true, reachable: true });
    assert!(is_resolving(&truth), "it may be under way");
    // The hold has run out at the provider in the meantime.
    truth.play(&Turn::Wait(HOLD_MS));
    assert_eq!(truth.booking.status(), Status::Reserved, "a hold waits for its operation");
    assert!(truth.settle(true));
    assert_eq!(truth.booking.status(), Status::Expired);
    assert_eq!(truth.booking.compensation, Compensation::NotNeeded);
}

#[test]
fn an_extend_that_is_decided_is_believed_at_once() {
    let mut truth = Truth::new(&opening(true, true));
    let turn = Turn::Begin {
        wish: Wish::Extend { by_ms: 1_000 },
        patience: Patience::Synchronous,
        fate: ARRIVES,
        willing: false,
    };
    truth.play(&turn);
    truth.play(&Turn::Wait(0));
    truth.play(&Turn::Due { fate: Fate::Answered, willing: true, reachable: true });
    assert_eq!(truth.booking.operation, None);
    assert!(matches!(truth.booking.state, State::Reserved { .. }));
    let refusal = truth.booking.refusal.clone().unwrap();
    assert_eq!((refusal.operation, refusal.reason), (2, RefusalReason::Failed(AttemptError::TimedOut)));
}

#[test]
fn a_refused_cancel_takes_up_the_change_that_it_overtook() {
    let mut truth = Truth::new(&opening(false, true));
    truth.play(&begin(Wish::Reschedule { to: 2 }, Patience::Background, ARRIVES));
    truth.play(&Turn::Wait(0));
    truth.play(&Turn::Begin {
        wish: Wish::Cancel,
        patience: Patience::Background,
        fate: Fate::Answered,
        willing: false,
    });
    assert_eq!(truth.booking.operation.as_ref().map(|operation| operation.number), Some(2));
    assert!(is_resolving(&truth));
    assert!(truth.settle(true));
    assert_eq!((truth.booking.status(), &truth.booking.slot), (Status::Confirmed, &slot(2)));
}

#[test]
fn a_provider_that_says_nothing_for_a_day_is_looked_at_by_somebody() {
    for has_forgotten in [false, true] {
        let mut truth = Truth::new(&opening(false, true));
        truth.play(&begin(Wish::Reschedule { to: 1 }, Patience::Synchronous, ARRIVES));
        truth.play(&Turn::Wait(0));
        if has_forgotten {
            // That it knows no such booking is nothing to act upon: it held it by its own word.
            truth.provider.held = None;
        }
        while truth.booking.operation.is_some() {
            truth.play(&Turn::Due { fate: Fate::NotSent, willing: true, reachable: has_forgotten });
        }
        assert_eq!(truth.booking.history.last().map(|entry| entry.cause), Some(Cause::OperationUnresolved));
        assert_eq!((truth.booking.status(), &truth.booking.slot), (Status::Confirmed, &slot(0)));
    }
}

#[test]
fn a_gate_whose_worker_is_lost_is_given_up_without_looking_up() {
    let mut truth = told(ConfirmationMode::RealTime, NotificationRoute::Pull);
    assert_eq!(truth.booking.status(), Status::Confirmed);
    let lost = Fate::Dead { arrives_after_ms: None };
    truth.play(&begin(Wish::Reschedule { to: 1 }, Patience::Synchronous, lost));
    truth.play(&Turn::Due { fate: Fate::Answered, willing: true, reachable: true });
    assert_eq!(truth.booking.operation, None);
    assert_eq!(truth.booking.history.last().map(|entry| entry.cause), Some(Cause::OperationGivenUp));
    assert_eq!((truth.booking.slot.clone(), truth.booking.notifications.len()), (slot(0), 1));
}

#[test]
fn a_hold_of_a_provider_that_is_only_told_counts_as_confirmed() {
    let mut beginning = Beginning::confirmed_by_provider(Patience::Background, 900_000);
    beginning.mode = ConfirmationMode::RealTime;
    let mut world = World::new(&beginning);
    let acknowledgement = yes(world.now, Some(HOLD_MS));
    assert!(world.apply(Command::Acknowledge { acknowledgement, operation: None }).result.is_ok());
    assert_eq!((world.booking.status(), world.booking.notifications.len()), (Status::Confirmed, 1));
}

#[test]
fn a_notification_whose_workers_are_all_lost_is_given_up_after_three_days() {
    let mut truth = told(ConfirmationMode::Notify, NotificationRoute::Push);
    let begun_at = truth.now;
    for _ in 0..3 {
        assert_eq!(next_step(&truth.booking, truth.now), Step::Notify);
        truth.play(&Turn::Due {
            fate: Fate::Dead { arrives_after_ms: None },
            willing: true,
            reachable: true,
        });
        truth.play(&Turn::Wait(FETCH_LIMIT_MS / 3));
    }
    assert_eq!(truth.now, begun_at.plus_ms(FETCH_LIMIT_MS));
    truth.play(&Turn::Due { fate: Fate::Answered, willing: true, reachable: true });
    assert_eq!(truth.booking.history.last().map(|entry| entry.cause), Some(Cause::NotificationFailed));
    assert_eq!(next_step(&truth.booking, truth.now), Step::Nothing);
}

#[test]
fn a_yes_to_a_confirm_that_is_still_a_hold_is_no_answer() {
    let mut world = World::new(&Beginning::confirmed_by_provider(Patience::Background, 900_000));
    let acknowledgement = yes(world.now, Some(HOLD_MS));
    assert!(world.apply(Command::Acknowledge { acknowledgement, operation: None }).result.is_ok());
    let confirm = world.begin(Wish::Confirm, Patience::Background, 3_500, 600_000);
    assert!(world.apply(confirm).result.is_ok());
    let report = |hold_ms| Command::RecordAttempt {
        operation: 2,
        attempt: 1,
        outcome: AttemptOutcome::Acknowledged(yes(world.now, hold_ms)),
        retry_delay_ms: 0,
    };
    let (held, confirmed) = (report(Some(HOLD_MS)), report(None));
    assert!(world.apply(held).result.is_ok());
    let operation = world.booking.operation.clone().unwrap();
    assert_eq!(operation.last_error, Some(AttemptError::UnusableAnswer));
    assert_eq!(next_step(&world.booking, world.now), Step::Attempt { look_up_first: true });
    assert!(world.apply(confirmed).result.is_ok());
    assert_eq!((world.booking.status(), &world.booking.operation), (Status::Confirmed, &None));
}

#[test]
fn a_change_that_a_cancel_overtook_is_made_when_its_worker_says_so() {
    let mut truth = Truth::new(&opening(false, true));
    let frozen = Fate::Frozen { reports_after_ms: 2_000 };
    truth.play(&begin(Wish::Reschedule { to: 1 }, Patience::Background, frozen));
    truth.play(&begin(Wish::Cancel, Patience::Background, Fate::NotSent));
    truth.play(&Turn::Wait(2_000));
    assert_eq!(truth.booking.slot, slot(1));
    let operation = truth.booking.operation.clone().unwrap();
    assert_eq!((operation.number, operation.overtaken), (3, None), "the cancel goes on");
    assert!(truth.settle(false));
    assert_eq!((truth.booking.status(), &truth.booking.slot), (Status::Confirmed, &slot(1)));
}

#[test]
fn a_provider_that_repeats_the_end_of_a_hold_has_not_extended_it() {
    let mut truth = Truth::new(&opening(true, false));
    truth.play(&begin(Wish::Extend { by_ms: 60_000 }, Patience::Synchronous, NEVER_ARRIVES));
    truth.play(&Turn::CallBack { named: false });
    assert!(is_resolving(&truth));
}
