//! What those who operate the system do: what waits is done now, what was given up begins anew, and a booking
//! ends whatever its provider says.

use holdfast_domain::{
    AttemptError, Cancellation, CancellationReason, Cause, Command, Compensation, CompensationOutcome,
    CompensationRecord, ConfirmationMode, NotificationKind, NotificationRecord, NotificationRoute, Patience,
    Phase, Refused, State, Status, Step, next_step,
};

use crate::moves::{Beginning, yes};
use crate::world::World;

const LEASE_MS: u64 = 3_500;
const HOUR_MS: u64 = 3_600_000;
const BY_OPERATOR: State = State::Cancelled(Cancellation::BySystem(CancellationReason::Operator));

fn pending() -> World {
    World::new(&Beginning::confirmed_by_provider(Patience::Background, 4 * HOUR_MS))
}

fn confirmed() -> World {
    let mut world = pending();
    must(Command::Acknowledge { acknowledgement: yes(world.now, None), operation: None }, &mut world);
    world
}

fn told() -> World {
    let usual = Beginning::confirmed_by_provider(Patience::Background, 900_000);
    let beginning = Beginning { mode: ConfirmationMode::Notify, route: NotificationRoute::Push, ..usual };
    World::new(&beginning)
}

fn must(command: Command, world: &mut World) {
    let applied = world.apply(command);
    assert!(applied.result.is_ok(), "{:?}: {:?}", applied.command, applied.result);
}

fn refused(command: Command, world: &mut World) -> Refused {
    world.apply(command).result.unwrap_err()
}

fn last_cause(world: &World) -> Cause {
    world.booking.history.last().unwrap().cause
}

/// A worker of the compensation asks, and this comes of it.
fn compensate(world: &mut World, outcome: CompensationOutcome) {
    must(Command::ClaimCompensation { lease_until: world.now.plus_ms(LEASE_MS) }, world);
    let Compensation::Underway(run) = world.booking.compensation.clone() else { panic!("none is under way") };
    let record = CompensationRecord {
        number: run.number,
        attempt: run.attempts,
        asked_at: world.now,
        outcome,
        retry_delay_ms: HOUR_MS,
        settle_window_ms: 0,
    };
    must(Command::RecordCompensation(record), world);
}

#[test]
fn what_waits_is_due_now_and_only_once() {
    let mut world = pending();
    world.now = world.now.plus_ms(LEASE_MS);
    must(Command::ClaimAttempt { lease_until: world.now.plus_ms(LEASE_MS) }, &mut world);
    let until = world.now.plus_ms(LEASE_MS);
    assert_eq!(refused(Command::RetryNow, &mut world), Refused::LeaseHeld { until });
    world.now = until;
    must(Command::Postpone { until: until.plus_ms(HOUR_MS), error: AttemptError::CircuitOpen }, &mut world);
    let versions = world.booking.version();
    must(Command::RetryNow, &mut world);
    assert!(matches!(next_step(&world.booking, world.now), Step::Attempt { .. }));
    assert_eq!(world.booking.version(), versions, "nothing that anybody sees has changed");
    assert_eq!(refused(Command::RetryNow, &mut world), Refused::NothingWaits);
}

#[test]
fn what_is_settled_has_nothing_to_wait_for() {
    assert_eq!(refused(Command::RetryNow, &mut confirmed()), Refused::NothingWaits);
}

#[test]
fn a_compensation_that_failed_begins_anew() {
    let mut world = confirmed();
    must(Command::CancelByOperator, &mut world);
    compensate(&mut world, CompensationOutcome::Declined);
    assert_eq!(world.booking.compensation, Compensation::Failed);
    must(Command::RetryNow, &mut world);
    assert_eq!(last_cause(&world), Cause::RetriedByOperator);
    assert_eq!(refused(Command::RetryNow, &mut world), Refused::NothingWaits);
    compensate(&mut world, CompensationOutcome::Failed(AttemptError::TimedOut));
    must(Command::RetryNow, &mut world);
    compensate(&mut world, CompensationOutcome::Acknowledged);
    assert_eq!((&world.booking.compensation, last_cause(&world)), (&Compensation::Done, Cause::Compensated));
    assert_eq!(refused(Command::RetryNow, &mut world), Refused::NothingWaits);
}

#[test]
fn what_may_still_be_sent_is_outwaited_however_often_somebody_retries() {
    let mut world = pending();
    let lease_until = match world.booking.operation.as_ref().unwrap().phase {
        Phase::InFlight { lease_until } => lease_until,
        Phase::Waiting { .. } => panic!("nobody asks"),
    };
    must(Command::CancelByOperator, &mut world);
    assert_eq!(refused(Command::RetryNow, &mut world), Refused::NothingWaits);
    assert_eq!(next_step(&world.booking, world.now), Step::WaitUntil(lease_until));
}

#[test]
fn a_provider_that_was_told_in_vain_is_told_again() {
    for ends in [false, true] {
        let mut world = told();
        if ends {
            must(Command::ClaimNotification { lease_until: world.now.plus_ms(LEASE_MS) }, &mut world);
            must(Command::CancelByOperator, &mut world);
            world.now = world.now.plus_ms(LEASE_MS);
        }
        while let Some(number) = world.booking.notifications.first().map(|first| first.number) {
            must(Command::ClaimNotification { lease_until: world.now.plus_ms(LEASE_MS) }, &mut world);
            let attempt = world.booking.notifications[0].attempts;
            let record = NotificationRecord {
                number,
                attempt,
                error: Some(AttemptError::ConnectionFailed),
                retry_at: None,
            };
            must(Command::RecordNotification(record), &mut world);
            world.now = world.now.plus_ms(HOUR_MS);
        }
        assert_eq!(last_cause(&world), Cause::NotificationFailed);
        must(Command::RetryNow, &mut world);
        let kinds: Vec<_> = world.booking.notifications.iter().map(|told| told.kind.clone()).collect();
        assert_eq!(kinds, [if ends { NotificationKind::Cancelled } else { NotificationKind::Booked }]);
        assert_eq!(refused(Command::RetryNow, &mut world), Refused::NothingWaits);
    }
}

#[test]
fn an_operator_ends_a_booking_and_its_provider_is_asked_to() {
    let mut world = confirmed();
    must(Command::CancelByOperator, &mut world);
    assert_eq!((&world.booking.state, last_cause(&world)), (&BY_OPERATOR, Cause::CancelledByOperator));
    assert_eq!(next_step(&world.booking, world.now), Step::Compensate);
    let settled = Refused::Settled { status: Status::Cancelled };
    assert_eq!(refused(Command::CancelByOperator, &mut world), settled);
}

#[test]
fn an_operator_who_ends_a_booking_overtakes_whatever_is_in_flight() {
    let mut world = confirmed();
    let wish = crate::moves::Wish::Reschedule { to: 1 };
    let command = world.begin(wish, Patience::Background, LEASE_MS, HOUR_MS);
    must(command, &mut world);
    let lease_until = world.now.plus_ms(LEASE_MS);
    must(Command::CancelByOperator, &mut world);
    assert_eq!((&world.booking.state, &world.booking.operation), (&BY_OPERATOR, &None));
    assert_eq!(next_step(&world.booking, world.now), Step::WaitUntil(lease_until), "it may still send");
    let Compensation::Underway(run) = &world.booking.compensation else { panic!("nobody goes on") };
    assert_eq!(run.unanswered_send_at, lease_until);
}

#[test]
fn what_was_never_sent_ends_without_a_compensation() {
    let usual = Beginning::confirmed_by_provider(Patience::Background, HOUR_MS);
    let mut world = World::new(&Beginning { circuit_open: true, ..usual });
    must(Command::CancelByOperator, &mut world);
    assert_eq!((&world.booking.state, &world.booking.compensation), (&BY_OPERATOR, &Compensation::NotNeeded));
}
