//! What is said to be due can be done, what is not due cannot, and doing it comes to an end.

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, COMPENSATION_LIMIT_MS, Cause, Command, Compensation,
    CompensationOutcome, CompensationRecord, FETCH_LIMIT_MS, MIN_SETTLE_WINDOW_MS, NotificationRecord,
    Operation, OperationKind, Patience, RESOLUTION_LIMIT_MS, State, Status, Step, Timestamp, next_step,
    transition,
};
use proptest::prelude::*;

use crate::moves::{any_beginning, any_compensation_outcome, any_error, any_moves};
use crate::world::{World, is_cancelling};

/// The delay between attempts, in milliseconds.
const RETRY_DELAY_MS: u64 = 300_000;
/// The shortest lease, in milliseconds.
const MIN_LEASE_MS: u64 = 30_000;
const HALF_DAY_MS: u64 = 12 * 60 * 60 * 1_000;
/// The most steps that a booking may need to come to rest: two days of confirming and one of compensating,
/// a claim and a report for each lease that is lost.
const MAX_STEPS: u32 = 3 * 2 * 24 * 60 * 2;

fn claims(lease_until: Timestamp) -> [Command; 6] {
    [
        Command::ClaimAttempt { lease_until },
        Command::ClaimCompensation { lease_until },
        Command::GiveUp,
        Command::ExpireHold,
        Command::ClaimNotification { lease_until },
        Command::GiveUpNotification,
    ]
}

proptest! {
    #[test]
    fn whatever_is_due_can_be_done(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for next in &moves {
            world.play(next);
            for at in telling_times(&world) {
                check_step(&world.booking, at)?;
            }
        }
    }

    #[test]
    fn nothing_can_be_done_before_it_is_due(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for next in &moves {
            world.play(next);
            let booking = &world.booking;
            let Step::WaitUntil(until) = next_step(booking, world.now) else { continue };
            prop_assert!(until > world.now);
            prop_assert_eq!(booking.due_at(), Some(until), "the timer rings when it is due");
            for early in [world.now, until.minus_ms(1)] {
                prop_assert_eq!(next_step(booking, early), Step::WaitUntil(until));
                for command in claims(until.plus_ms(1_000)) {
                    prop_assert!(transition(booking, command, early).is_err());
                }
            }
            prop_assert!(!matches!(next_step(booking, until), Step::WaitUntil(_) | Step::Nothing));
        }
    }

    #[test]
    fn an_attempt_after_one_of_unknown_outcome_looks_first(
        beginning in any_beginning(),
        moves in any_moves(),
    ) {
        let mut world = World::new(&beginning);
        for next in &moves {
            world.play(next);
            if let Step::Attempt { look_up_first } = next_step(&world.booking, world.now) {
                if is_cancelling(&world.booking) {
                    prop_assert!(!look_up_first, "a cancel is simply repeated");
                    continue;
                }
                let is_book = world.booking.status() == Status::Pending;
                let doubtful = is_book && (world.last_doubtful_send.is_some() || world.somebody_is_silent());
                prop_assert!(look_up_first || !doubtful, "a blind attempt");
            }
        }
    }

    #[test]
    fn there_is_a_due_time_exactly_while_something_is_open(
        beginning in any_beginning(),
        moves in any_moves(),
    ) {
        let mut world = World::new(&beginning);
        for next in &moves {
            world.play(next);
            let booking = &world.booking;
            let (pending, cancelling) = (booking.status() == Status::Pending, is_cancelling(booking));
            let changing = booking.operation.is_some();
            prop_assert!(changing || !(pending || cancelling));
            prop_assert!(!changing || pending || matches!(booking.status(), Status::Reserved | Status::Confirmed));
            let telling = !booking.notifications.is_empty();
            prop_assert!(!telling || booking.confirmation.tells());
            let compensating = matches!(booking.compensation, Compensation::Underway(_));
            let held = matches!(booking.state, State::Reserved { .. });
            prop_assert_eq!(booking.due_at().is_some(), changing || compensating || held || telling);
            prop_assert!(!(changing && compensating), "two operations at once");
            prop_assert_eq!(next_step(booking, world.now) == Step::Nothing, booking.due_at().is_none());
        }
    }

    #[test]
    fn a_failing_provider_leaves_nothing_open(
        beginning in any_beginning(),
        moves in any_moves(),
        lease_ms in MIN_LEASE_MS..=75_000,
        failures in prop::collection::vec(prop::option::of(any_failure()), 1..6),
        cancels in prop::collection::vec(prop::option::of(any_compensation_outcome()), 1..6),
    ) {
        let mut world = World::after(&beginning, &moves);
        let first = world.booking.operation.clone();
        let (begun_at, cancelling) = (world.now, is_cancelling(&world.booking));
        // A booking that is made in the meantime is told as well.
        let notifications = world.booking.notifications.len() as u64 + 1;
        let mut settled_at = None;
        for number in 0..MAX_STEPS {
            let (seen, seen_at) = (world.booking.clone(), world.now);
            let Some(command) = world.due_command(lease_ms) else { break };
            let applied = world.apply(command.clone());
            prop_assert!(applied.result.is_ok(), "{command:?} was due: {:?}", applied.result);
            let outcomes = usize::try_from(number).unwrap();
            report(&mut world, &command, failures[outcomes % failures.len()].as_ref(), cancels[outcomes % cancels.len()]);
            prop_assert!((&seen, seen_at) != (&world.booking, world.now), "nothing moved");
            if settled_at.is_none() && world.booking.operation.is_none() {
                settled_at = Some(world.now);
            }
        }
        prop_assert_eq!(next_step(&world.booking, world.now), Step::Nothing);
        prop_assert_eq!(&world.booking.operation, &None);
        prop_assert_eq!(&world.booking.notifications, &vec![]);
        prop_assert_ne!(world.booking.status(), Status::Pending);
        prop_assert!(!matches!(world.booking.compensation, Compensation::Underway(_)));
        if cancelling {
            // It is never abandoned: what the provider could not be asked for is compensated.
            prop_assert_eq!(world.booking.status(), Status::Cancelled);
            prop_assert_ne!(&world.booking.compensation, &Compensation::NotNeeded);
        }
        let deadline_at = first.as_ref().map(Operation::ends_at);
        if let (Some(first), Some(settled_at)) = (&first, settled_at) {
            // The last lease may outlast the deadline, and the world may have begun after it.
            let latest = first.ends_at().plus_ms(lease_ms).max(begun_at).max(first.phase.due_at());
            let is_resolved = matches!(first.change.kind(), OperationKind::Book | OperationKind::Cancel);
            let latest = if is_resolved { latest } else { latest.plus_ms(RESOLUTION_LIMIT_MS + lease_ms) };
            prop_assert!(settled_at <= latest, "in flight past its deadline");
        }
        prop_assert!(world.now <= latest_end(begun_at, deadline_at, lease_ms, notifications));
    }

    #[test]
    fn a_provider_that_recovers_is_adopted(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::after(&beginning, &moves);
        let pending = world.booking.status() == Status::Pending;
        let cancel = world.booking.operation.clone().filter(|_| is_cancelling(&world.booking));
        for _ in 0..10 {
            let Some(command) = world.due_command(1_000) else { break };
            world.apply(command.clone());
            let Command::ClaimAttempt { .. } = command else { continue };
            let Operation { number, attempts, .. } = world.booking.operation.clone().unwrap();
            let outcome = AttemptOutcome::Acknowledged(crate::moves::yes(world.now, None));
            let (operation, attempt) = (number, attempts);
            world.apply(Command::RecordAttempt { operation, attempt, outcome, retry_delay_ms: 0 });
        }
        if let Some(cancel) = cancel {
            prop_assert_eq!(world.booking.status(), Status::Cancelled);
            let ended = world.booking.history.iter().find(|entry| entry.status == Status::Cancelled).unwrap();
            prop_assert_eq!(ended.cause == Cause::GivenUp, ended.at >= cancel.deadline_at);
        }
        if pending && beginning.patience() == Patience::Background {
            let in_time = world.booking.history.last().is_some_and(|entry| {
                entry.at < world.booking.created_at().plus_ms(beginning.async_ms)
            });
            prop_assert!(!in_time || world.booking.status() == Status::Confirmed);
        }
    }
}

/// Now, and the times at which what may be done changes.
fn telling_times(world: &World) -> Vec<Timestamp> {
    let mut times = vec![world.now];
    times.extend(world.booking.due_at());
    times.extend(world.booking.operation.as_ref().map(|operation| operation.deadline_at));
    if let Compensation::Underway(run) = &world.booking.compensation {
        times.push(run.give_up_at);
    }
    times
}

/// What is due at `now` is accepted, and what is not due is refused.
fn check_step(booking: &Booking, now: Timestamp) -> Result<(), TestCaseError> {
    let lease_until = now.plus_ms(1_000);
    let accepts = |command: Command| transition(booking, command, now).is_ok();
    let step = next_step(booking, now);
    let attempt = accepts(Command::ClaimAttempt { lease_until });
    let is_attempt = matches!(step, Step::Attempt { .. } | Step::Resolve);
    let waits_longer = |due_at: Option<Timestamp>| due_at.is_some_and(|due_at| due_at <= now);
    let operation_due_at = booking.operation.as_ref().map(|operation| operation.phase.due_at());
    let notification_due_at = booking.notifications.first().map(|first| first.phase.due_at());
    if waits_longer(operation_due_at) && waits_longer(notification_due_at) {
        // One of the two is done first; the other can be done, too.
        prop_assert!(!matches!(step, Step::Nothing | Step::WaitUntil(_)));
        return Ok(());
    }
    prop_assert_eq!(attempt, is_attempt);
    let tell = accepts(Command::ClaimNotification { lease_until });
    prop_assert_eq!(tell, step == Step::Notify);
    prop_assert_eq!(accepts(Command::GiveUpNotification), step == Step::GiveUpNotification);
    prop_assert_eq!(accepts(Command::ClaimCompensation { lease_until }), step == Step::Compensate);
    prop_assert_eq!(accepts(Command::GiveUp), step == Step::GiveUp);
    prop_assert_eq!(accepts(Command::ExpireHold), step == Step::ExpireHold);
    if step == Step::GiveUpCompensation {
        prop_assert!(accepts(Command::GiveUpCompensation));
    }
    if attempt {
        let postpone = Command::Postpone { until: lease_until, error: AttemptError::CircuitOpen };
        prop_assert!(accepts(postpone));
    }
    Ok(())
}

fn any_failure() -> impl Strategy<Value = AttemptOutcome> {
    prop_oneof![any_error().prop_map(AttemptOutcome::NotSent), any_error().prop_map(AttemptOutcome::Unknown),]
}

/// The worker that just claimed reports, or (`None`) is lost.
fn report(
    world: &mut World,
    claim: &Command,
    failure: Option<&AttemptOutcome>,
    cancel: Option<CompensationOutcome>,
) {
    match (claim, failure, cancel) {
        (Command::ClaimAttempt { .. }, Some(outcome), _) => {
            let Operation { number, attempts, .. } = world.booking.operation.clone().unwrap();
            world.apply(Command::RecordAttempt {
                operation: number,
                attempt: attempts,
                outcome: outcome.clone(),
                retry_delay_ms: RETRY_DELAY_MS,
            });
        }
        (Command::ClaimCompensation { .. }, _, Some(outcome)) => {
            let Compensation::Underway(run) = world.booking.compensation.clone() else { return };
            world.apply(Command::RecordCompensation(CompensationRecord {
                number: run.number,
                attempt: run.attempts,
                asked_at: world.now,
                outcome,
                retry_delay_ms: RETRY_DELAY_MS,
                settle_window_ms: MIN_SETTLE_WINDOW_MS,
            }));
        }
        (Command::ClaimNotification { .. }, Some(_), _) => {
            let first = world.booking.notifications[0].clone();
            let retry_at = (first.attempts < 4).then(|| world.now.plus_ms(RETRY_DELAY_MS));
            let error = Some(AttemptError::TimedOut);
            let (number, attempt) = (first.number, first.attempts);
            world.apply(Command::RecordNotification(NotificationRecord { number, attempt, error, retry_at }));
        }
        // With the teller goes everything else, for half a day: the limit is far away.
        (Command::ClaimNotification { .. }, None, _) => world.now = world.now.plus_ms(HALF_DAY_MS),
        _ => {}
    }
}

/// When at the latest everything is over: the operation's deadline and the look-ups after it, the
/// compensation, a hold of at most two days, each notification, and a lease at each end.
fn latest_end(
    begun_at: Timestamp,
    deadline_at: Option<Timestamp>,
    lease_ms: u64,
    notifications: u64,
) -> Timestamp {
    let hold_ms = 2 * 24 * 60 * 60 * 1_000;
    let notifying_ms = (FETCH_LIMIT_MS + HALF_DAY_MS) * notifications;
    let spare_ms = RESOLUTION_LIMIT_MS + notifying_ms + 4 * lease_ms.max(75_000) + MIN_SETTLE_WINDOW_MS;
    let from = deadline_at.map_or(begun_at, |deadline_at| deadline_at.max(begun_at));
    from.plus_ms(COMPENSATION_LIMIT_MS.max(hold_ms)).plus_ms(spare_ms)
}

#[test]
fn a_background_first_attempt_is_not_taken_for_the_requests_own() {
    let beginning = crate::moves::Beginning {
        circuit_open: true,
        ..crate::moves::Beginning::confirmed_by_provider(Patience::Background, 900_000)
    };
    let mut world = World::new(&beginning);
    let command = world.due_command(45_000).unwrap();
    assert!(world.apply(command).result.is_ok());
    let operation = world.booking.operation.as_ref().unwrap();
    assert_eq!((operation.attempts, operation.last_error), (1, Some(AttemptError::CircuitOpen)));
    assert!(!world.booking.is_within_its_request());
    let mut within = World::new(&crate::moves::Beginning { circuit_open: false, ..beginning });
    assert!(within.booking.is_within_its_request());
    let outcome = AttemptOutcome::Unknown(AttemptError::TimedOut);
    let report = Command::RecordAttempt { operation: 1, attempt: 1, outcome, retry_delay_ms: 1_000 };
    assert!(within.apply(report).result.is_ok());
    assert!(!within.booking.is_within_its_request(), "it waits for the next attempt");
}
