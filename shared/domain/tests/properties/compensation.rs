//! Nothing stays booked by a booking that ended otherwise, and nothing is undone that was never sent.

use holdfast_domain::{
    AttemptError, AttemptOutcome, Command, Compensation, CompensationOutcome, CompensationRecord,
    MIN_SETTLE_WINDOW_MS, NotificationKind, Patience, Status, Timestamp,
};
use proptest::prelude::*;

use crate::moves::{Beginning, any_beginning, any_moves};
use crate::world::{World, ended_without_yes};

proptest! {
    #[test]
    fn whatever_may_have_been_sent_is_compensated(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for next in &moves {
            world.play(next);
            if ended_without_yes(&world.booking) && world.last_doubtful_send.is_some() {
                prop_assert_ne!(&world.booking.compensation, &Compensation::NotNeeded);
            }
        }
    }

    #[test]
    fn what_was_surely_not_sent_is_not_compensated(beginning in any_beginning(), moves in any_moves()) {
        let world = World::after(&beginning, &moves);
        if world.last_doubtful_send.is_none() {
            prop_assert_eq!(&world.booking.compensation, &Compensation::NotNeeded);
        }
    }

    #[test]
    fn a_compensation_outwaits_every_doubtful_send(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for next in &moves {
            world.play(next);
            if let Compensation::Underway(run) = &world.booking.compensation {
                prop_assert!(Some(run.unanswered_send_at) >= world.last_doubtful_send);
            }
        }
    }

    #[test]
    fn no_compensation_begins_while_an_attempt_is_leased(
        beginning in any_beginning(),
        moves in any_moves(),
    ) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let Compensation::Underway(run) = &transition.booking.compensation else { continue };
            if let Some(operation) = &applied.before.operation {
                prop_assert!(run.phase.due_at() >= applied.now);
                if operation.phase.is_leased(applied.now) {
                    prop_assert!(run.phase.due_at() >= operation.phase.due_at());
                }
            }
        }
    }

    #[test]
    fn a_compensation_is_done_only_on_good_grounds(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            if applied.before.compensation == Compensation::Done
                || transition.booking.compensation != Compensation::Done
            {
                continue;
            }
            let Compensation::Underway(run) = &applied.before.compensation else {
                return Err(TestCaseError::fail("done without having been under way"));
            };
            let Command::RecordCompensation(CompensationRecord {
                number, attempt, asked_at, outcome, settle_window_ms, ..
            }) = applied.command
            else {
                return Err(TestCaseError::fail("done by another command than its report"));
            };
            prop_assert_eq!((number, attempt), (run.number, run.attempts));
            match outcome {
                CompensationOutcome::Acknowledged => {}
                CompensationOutcome::NoSuchBooking => {
                    let window_ms = settle_window_ms.max(MIN_SETTLE_WINDOW_MS);
                    prop_assert!(asked_at >= run.unanswered_send_at.plus_ms(window_ms));
                }
                CompensationOutcome::Declined | CompensationOutcome::Failed(_) => {
                    return Err(TestCaseError::fail("done without the provider's word"));
                }
            }
        }
    }

    #[test]
    fn a_late_yes_is_always_taken(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::after(&beginning, &moves);
        if matches!(world.booking.status(), Status::Rejected | Status::Cancelled | Status::Expired) {
            let applied = world.apply(late_yes(world.now));
            if world.booking.confirmation.tells() {
                // It is told that nothing is left of the booking, which it may have to be told already.
                let told = world.booking.notifications.last().map(|last| &last.kind);
                prop_assert_eq!(told, Some(&NotificationKind::Cancelled));
                return Ok(());
            }
            prop_assert!(applied.result.is_ok());
            prop_assert!(matches!(world.booking.compensation, Compensation::Underway(_)));
            prop_assert!(world.late_yes);
        }
    }
}

fn late_yes(now: Timestamp) -> Command {
    Command::Acknowledge { acknowledgement: crate::moves::yes(now, None), operation: None }
}

/// A worker that was frozen reports only after it was overtaken, and the attempt that overtook it ends the
/// booking: the compensation has to outwait the later of the two.
#[test]
fn the_late_report_of_an_overtaken_attempt_is_outwaited() {
    let mut world = World::new(&Beginning::confirmed_by_provider(Patience::Background, 900_000));
    let claim = world.due_command(45_000).unwrap();
    assert!(world.apply(claim).result.is_ok());
    world.now = world.now.plus_ms(10_000);
    let unknown = AttemptOutcome::Unknown(AttemptError::TimedOut);
    let report = Command::RecordAttempt { operation: 1, attempt: 1, outcome: unknown, retry_delay_ms: 0 };
    assert!(world.apply(report).result.is_ok());
    let reported_at = world.now;
    world.now = world.now.plus_ms(5_000);
    let declined = AttemptOutcome::Declined(crate::moves::no());
    let report = Command::RecordAttempt { operation: 1, attempt: 2, outcome: declined, retry_delay_ms: 0 };
    assert!(world.apply(report).result.is_ok());
    let Compensation::Underway(run) = &world.booking.compensation else {
        panic!("nothing is compensated");
    };
    assert_eq!(run.unanswered_send_at, reported_at);
}

/// A worker of an earlier compensation was frozen. What it was told then says nothing of what the provider
/// has booked since.
#[test]
fn the_report_of_an_earlier_compensation_does_not_end_a_later_one() {
    let mut world = World::new(&Beginning::confirmed_by_provider(Patience::Synchronous, 900_000));
    let give_up = world.due_command(0).unwrap();
    assert!(world.apply(give_up).result.is_ok());
    let report = |attempt: u32, number: u32, now| {
        Command::RecordCompensation(CompensationRecord {
            number,
            attempt,
            asked_at: now,
            outcome: CompensationOutcome::Acknowledged,
            retry_delay_ms: 0,
            settle_window_ms: 0,
        })
    };
    for _ in 0..2 {
        let claim = world.due_command(1_000).unwrap();
        assert!(world.apply(claim).result.is_ok());
    }
    assert!(world.apply(report(2, 2, world.now)).result.is_ok());
    assert_eq!(world.booking.compensation, Compensation::Done);
    assert!(world.apply(late_yes(world.now)).result.is_ok());
    let claim = world.due_command(1_000).unwrap();
    assert!(world.apply(claim).result.is_ok());
    assert!(world.apply(report(1, 2, world.now)).result.is_err());
    assert!(matches!(world.booking.compensation, Compensation::Underway(_)));
    assert!(world.apply(report(1, 3, world.now)).result.is_ok());
    assert_eq!(world.booking.compensation, Compensation::Done);
}
