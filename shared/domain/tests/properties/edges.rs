//! What a booking takes and what it refuses where one moment, one number or one word makes the difference.

use holdfast_domain::{
    AttemptError, AttemptOutcome, Cancellation, CancellationReason, Cause, Command, Compensation,
    ConfirmationMode, NotificationKind, NotificationRecord, NotificationRoute, OperationKind, Patience,
    Refused, State, Status, Timestamp, UnchangedRecord,
};

use crate::beginning::slot;
use crate::moves::{Beginning, Wish, no, yes};
use crate::provider::HOLD_MS;
use crate::world::World;

const LEASE_MS: u64 = 3_500;
const ASYNC_MS: u64 = 600_000;

/// The settle window and the allowance for clocks that differ, in milliseconds: one minute and ten.
const BELIEVED_AFTER_MS: u64 = 11 * 60_000;

fn pending(patience: Patience) -> World {
    World::new(&Beginning::confirmed_by_provider(patience, 900_000))
}

/// A booking that its provider holds until (`Some`) so long from now, or has confirmed.
fn held(hold_ms: Option<u64>) -> World {
    let mut world = pending(Patience::Background);
    let acknowledgement = yes(world.now, hold_ms);
    world.must(Command::Acknowledge { acknowledgement, operation: None });
    world
}

fn told(route: NotificationRoute) -> World {
    let usual = Beginning::confirmed_by_provider(Patience::Background, 900_000);
    World::new(&Beginning { mode: ConfirmationMode::Notify, route, ..usual })
}

fn report(operation: u32, attempt: u32, outcome: AttemptOutcome) -> Command {
    Command::RecordAttempt { operation, attempt, outcome, retry_delay_ms: 1_000 }
}

fn silence() -> AttemptOutcome {
    AttemptOutcome::Unknown(AttemptError::TimedOut)
}

impl World {
    fn must(&mut self, command: Command) {
        let applied = self.apply(command);
        assert!(applied.result.is_ok(), "{:?}: {:?}", applied.command, applied.result);
    }

    fn refused(&mut self, command: Command) -> Refused {
        let applied = self.apply(command);
        assert!(applied.result.is_err(), "{:?}", applied.command);
        assert_eq!(self.booking, applied.before, "what is refused changes nothing");
        applied.result.unwrap_err()
    }

    fn must_begin(&mut self, wish: Wish) {
        let command = self.begin(wish, Patience::Background, LEASE_MS, ASYNC_MS);
        self.must(command);
    }

    fn later(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    fn in_flight(&self) -> Option<OperationKind> {
        self.booking.operation.as_ref().map(|operation| operation.change.kind())
    }

    fn last_cause(&self) -> Option<Cause> {
        self.booking.history.last().map(|entry| entry.cause)
    }
}

#[test]
fn who_waited_is_told_why_it_came_to_nothing() {
    for (error, reason) in [
        (AttemptError::CircuitOpen, CancellationReason::ProviderUnavailable),
        (AttemptError::LimitReached, CancellationReason::ProviderUnavailable),
        (AttemptError::TimedOut, CancellationReason::ProviderTimeout),
        (AttemptError::LeaseOver, CancellationReason::ProviderTimeout),
        (AttemptError::ConnectionFailed, CancellationReason::ProviderFailed),
    ] {
        let mut world = pending(Patience::Synchronous);
        world.must(report(1, 1, AttemptOutcome::NotSent(error)));
        assert_eq!(world.booking.state, State::Cancelled(Cancellation::BySystem(reason)), "{error:?}");
    }
}

#[test]
fn what_was_sent_after_the_end_is_outwaited_if_it_is_later_than_what_was_known() {
    let mut world = pending(Patience::Synchronous);
    world.later(LEASE_MS);
    world.must(Command::GiveUp);
    let sent_at = |world: &World| match &world.booking.compensation {
        Compensation::Underway(run) => run.unanswered_send_at,
        other => panic!("{other:?}"),
    };
    let known = sent_at(&world);
    assert_eq!(known, world.now, "a worker may send until its lease ends");
    let settled = Refused::Settled { status: Status::Cancelled };
    assert_eq!(world.refused(report(1, 1, silence())), settled);
    world.later(1);
    assert_eq!(world.refused(report(1, 1, AttemptOutcome::NotSent(AttemptError::ConnectionFailed))), settled);
    world.must(report(1, 1, silence()));
    assert_eq!(sent_at(&world), known.plus_ms(1));
}

#[test]
fn a_report_of_a_change_that_is_over_says_nothing() {
    let mut world = held(None);
    world.must_begin(Wish::Reschedule { to: 1 });
    world.must(report(2, 1, AttemptOutcome::Declined(no())));
    for late in [
        AttemptOutcome::Acknowledged(yes(world.now, None)),
        AttemptOutcome::Declined(no()),
        silence(),
        AttemptOutcome::NotSent(AttemptError::TimedOut),
    ] {
        assert_eq!(world.refused(report(2, 1, late)), Refused::Superseded);
    }
}

#[test]
fn a_hold_that_its_provider_has_ended_ran_out_only_if_its_time_was_over() {
    for (after_ms, expected) in [(HOLD_MS - 1, Status::Cancelled), (HOLD_MS, Status::Expired)] {
        let mut world = held(Some(HOLD_MS));
        world.must_begin(Wish::Confirm);
        world.later(after_ms);
        assert_eq!(world.refused(Command::AdoptEnded { attempt: 2 }), Refused::Superseded);
        world.must(Command::AdoptEnded { attempt: 1 });
        assert_eq!(world.booking.status(), expected);
        assert_eq!(world.last_cause(), Some(Cause::ProviderEnded));
    }
}

#[test]
fn a_hold_that_has_run_out_is_not_changed_although_nobody_has_written_so_yet() {
    for wish in [Wish::Confirm, Wish::Extend { by_ms: 1_000 }, Wish::Reschedule { to: 1 }] {
        let mut world = held(Some(HOLD_MS));
        world.later(HOLD_MS);
        let late = world.begin(wish, Patience::Background, LEASE_MS, ASYNC_MS);
        assert_eq!(world.refused(late), Refused::Settled { status: Status::Expired });
        world.now = world.now.minus_ms(1);
        world.must_begin(wish);
    }
}

#[test]
fn a_call_answers_a_change_only_if_it_says_what_can_be_said_of_it_alone() {
    let called = |hold_ms, operation| {
        move |world: &World| Command::Acknowledge { acknowledgement: yes(world.now, hold_ms), operation }
    };
    let settled = Refused::Settled { status: Status::Reserved };
    let mut world = held(Some(HOLD_MS));
    world.must_begin(Wish::Confirm);
    for stale in [called(Some(HOLD_MS), None), called(Some(HOLD_MS), Some(2)), called(None, Some(1))] {
        let command = stale(&world);
        assert_eq!(world.refused(command), settled);
    }
    let command = called(None, None)(&world);
    world.must(command);
    assert_eq!((world.booking.status(), world.in_flight()), (Status::Confirmed, None));

    let mut world = held(Some(HOLD_MS));
    world.must_begin(Wish::Reschedule { to: 1 });
    for stale in [called(Some(HOLD_MS), None), called(None, None), called(None, Some(1))] {
        let command = stale(&world);
        assert_eq!(world.refused(command), settled);
    }
    let command = called(Some(HOLD_MS), Some(2))(&world);
    world.must(command);
    assert_eq!(world.booking.slot, slot(1));
}

#[test]
fn a_provider_that_names_the_extension_may_grant_less_than_was_asked_for() {
    let called = |until_ms, operation| {
        move |world: &World| Command::Acknowledge {
            acknowledgement: yes(world.now, Some(until_ms)),
            operation,
        }
    };
    let extended = HOLD_MS + 60_000;
    for (answer, is_taken) in [
        (called(extended - 1, None), false),
        (called(extended, None), true),
        (called(extended - 1, Some(2)), true),
        (called(extended, Some(1)), false),
    ] {
        let mut world = held(Some(HOLD_MS));
        world.must_begin(Wish::Extend { by_ms: 60_000 });
        let command = answer(&world);
        if is_taken {
            world.must(command);
        } else {
            assert_eq!(world.refused(command), Refused::Settled { status: Status::Reserved });
        }
        assert_eq!(world.in_flight().is_none(), is_taken);
    }
}

#[test]
fn a_no_refuses_the_change_that_it_names_and_no_other() {
    let settled = Refused::Settled { status: Status::Confirmed };
    let called = |operation| Command::Decline { rejection: no(), operation };
    let mut world = held(None);
    world.must_begin(Wish::Reschedule { to: 1 });
    assert_eq!(world.refused(called(None)), settled);
    assert_eq!(world.refused(called(Some(1))), settled);
    assert_eq!(world.refused(called(Some(3))), settled);
    world.must(called(Some(2)));
    assert_eq!((world.booking.status(), world.in_flight()), (Status::Confirmed, None));
    assert_eq!(world.last_cause(), Some(Cause::OperationDeclined));
}

#[test]
fn that_a_change_is_not_made_is_believed_once_no_request_for_it_can_be_under_way() {
    for (asked_after_ms, is_believed) in [(BELIEVED_AFTER_MS - 1, false), (BELIEVED_AFTER_MS, true)] {
        let mut world = held(None);
        let begin = world.begin(Wish::Reschedule { to: 1 }, Patience::Synchronous, LEASE_MS, ASYNC_MS);
        world.must(begin);
        let sent_at = world.now;
        world.must(report(2, 1, silence()));
        assert!(world.booking.operation.as_ref().unwrap().is_resolving());
        world.later(BELIEVED_AFTER_MS + 60_000);
        world.must(Command::ClaimAttempt { lease_until: world.now.plus_ms(LEASE_MS) });
        world.must(Command::AdoptUnchanged(UnchangedRecord {
            operation: 2,
            attempt: 2,
            asked_at: sent_at.plus_ms(asked_after_ms),
            decided: false,
            settle_window_ms: 0,
        }));
        assert_eq!(world.in_flight().is_none(), is_believed, "asked after {asked_after_ms} ms");
    }
}

/// A change that a cancel overtook: its worker may still report.
fn overtaken(world: &mut World, wish: Wish) {
    world.must_begin(wish);
    world.must_begin(Wish::Cancel);
    assert_eq!(world.in_flight(), Some(OperationKind::Cancel));
}

fn overtaken_sent_at(world: &World) -> Timestamp {
    let operation = world.booking.operation.as_ref().unwrap();
    operation.overtaken.as_ref().unwrap().unanswered_send_at
}

#[test]
fn a_late_silence_of_an_overtaken_change_counts_if_it_is_later_than_what_was_known() {
    let mut world = held(None);
    overtaken(&mut world, Wish::Reschedule { to: 1 });
    let lease_end = world.now.plus_ms(LEASE_MS);
    assert_eq!(overtaken_sent_at(&world), lease_end);
    for early_ms in [0, LEASE_MS] {
        world.later(early_ms);
        assert_eq!(world.refused(report(2, 1, silence())), Refused::Superseded);
    }
    world.later(1);
    let not_sent = AttemptOutcome::NotSent(AttemptError::ConnectionFailed);
    assert_eq!(world.refused(report(2, 1, not_sent)), Refused::Superseded);
    world.must(report(2, 1, silence()));
    assert_eq!(overtaken_sent_at(&world), lease_end.plus_ms(1));
}

#[test]
fn a_hold_is_no_answer_to_a_confirmation_that_was_overtaken_either() {
    let mut world = held(Some(HOLD_MS));
    overtaken(&mut world, Wish::Confirm);
    world.later(LEASE_MS + 1);
    let command = report(2, 1, AttemptOutcome::Acknowledged(yes(world.now, Some(HOLD_MS))));
    world.must(command);
    assert_eq!((world.booking.status(), overtaken_sent_at(&world)), (Status::Reserved, world.now));
    let command = report(2, 1, AttemptOutcome::Acknowledged(yes(world.now, None)));
    world.must(command);
    assert_eq!((world.booking.status(), world.in_flight()), (Status::Confirmed, Some(OperationKind::Cancel)));
    assert_eq!(world.booking.operation.as_ref().unwrap().overtaken, None);

    // A hold that is moved or extended is still one, which is an answer.
    let mut world = held(Some(HOLD_MS));
    overtaken(&mut world, Wish::Reschedule { to: 1 });
    let command = report(2, 1, AttemptOutcome::Acknowledged(yes(world.now, Some(HOLD_MS))));
    world.must(command);
    assert_eq!((world.booking.status(), &world.booking.slot), (Status::Reserved, &slot(1)));
}

#[test]
fn a_yes_to_what_was_withdrawn_makes_the_provider_be_told_so_once() {
    let mut world = told(NotificationRoute::Push);
    world.must(Command::ClaimNotification { lease_until: world.now.plus_ms(LEASE_MS) });
    world.must_begin(Wish::Cancel);
    let kinds = |world: &World| -> Vec<NotificationKind> {
        world.booking.notifications.iter().map(|told| told.kind.clone()).collect()
    };
    assert_eq!(kinds(&world), [NotificationKind::Booked, NotificationKind::Cancelled]);
    let called =
        |world: &World| Command::Acknowledge { acknowledgement: yes(world.now, None), operation: None };
    let command = called(&world);
    assert_eq!(world.refused(command), Refused::Settled { status: Status::Cancelled });
    for number in [1, 2] {
        let number = world.booking.notifications.first().map_or(number, |told| told.number);
        world.must(Command::RecordNotification(NotificationRecord {
            number,
            attempt: u32::from(number == 1),
            error: None,
            retry_at: None,
        }));
    }
    let command = called(&world);
    world.must(command);
    assert_eq!(kinds(&world), [NotificationKind::Cancelled]);
    let command = called(&world);
    assert_eq!(world.refused(command), Refused::Settled { status: Status::Cancelled });
}

#[test]
fn a_notification_is_sent_until_its_time_is_over() {
    let claim = |world: &World| Command::ClaimNotification { lease_until: world.now.plus_ms(LEASE_MS) };
    let mut world = told(NotificationRoute::Push);
    let ends_at = world.booking.notifications[0].ends_at();
    world.now = ends_at;
    let command = claim(&world);
    assert_eq!(world.refused(command), Refused::DeadlinePassed);
    world.now = ends_at.minus_ms(1);
    let command = claim(&world);
    world.must(command);
}

#[test]
fn a_failure_of_an_earlier_attempt_to_tell_says_nothing() {
    let mut world = told(NotificationRoute::Push);
    for _ in 0..2 {
        world.must(Command::ClaimNotification { lease_until: world.now.plus_ms(LEASE_MS) });
        world.later(LEASE_MS);
    }
    let number = world.booking.notifications[0].number;
    let failed = |attempt, retry_at| {
        let error = Some(AttemptError::TimedOut);
        Command::RecordNotification(NotificationRecord { number, attempt, error, retry_at })
    };
    assert_eq!(world.refused(failed(1, None)), Refused::Superseded);
    assert_eq!(world.refused(failed(1, Some(world.now))), Refused::Superseded);
    world.must(failed(2, None));
    assert_eq!(world.last_cause(), Some(Cause::NotificationFailed));
}
