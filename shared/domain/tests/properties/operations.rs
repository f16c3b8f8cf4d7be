//! Operations after the create: none is abandoned, a refused one changes nothing, and what is erased stays so.

use holdfast_domain::{
    AttemptOutcome, Booking, Cancellation, Cause, Command, Compensation, MIN_SETTLE_WINDOW_MS, Phase, State,
    Status,
};
use proptest::prelude::*;

use crate::moves::{any_beginning, any_moves};
use crate::world::{World, cancel, is_cancelling};

/// The booking without what a refused operation may change: its history, the operation and the refusal.
fn apart_from_the_operation(booking: &Booking) -> Booking {
    let mut rest = booking.clone();
    rest.history.clear();
    rest.operation = None;
    rest.refusal = None;
    rest.operations_begun = 0;
    rest
}

proptest! {
    #[test]
    fn a_cancel_ends_declined_or_cancelled(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            if !is_cancelling(before) {
                continue;
            }
            if is_cancelling(after) {
                prop_assert_eq!(apart_from_the_operation(before), apart_from_the_operation(after));
                continue;
            }
            let is_cancelled = matches!(after.state, State::Cancelled(Cancellation::ByConsumer(_)));
            match &applied.command {
                Command::RecordAttempt { outcome: AttemptOutcome::Declined(_), .. } => {
                    prop_assert_eq!(before.status(), after.status());
                }
                Command::RecordAttempt { outcome: AttemptOutcome::Acknowledged(_), .. }
                | Command::CancelByProvider(_) => {
                    prop_assert!(is_cancelled);
                    prop_assert_eq!(&after.compensation, &Compensation::NotNeeded);
                }
                Command::GiveUp => {
                    prop_assert!(is_cancelled);
                    let Compensation::Underway(run) = &after.compensation else {
                        return Err(TestCaseError::fail("given up, and nobody goes on"));
                    };
                    prop_assert!(run.unanswered_send_at >= applied.now);
                }
                other => return Err(TestCaseError::fail(format!("abandoned by {other:?}"))),
            }
        }
    }

    #[test]
    fn a_declined_cancel_changes_nothing(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        let mut as_it_was = None;
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            if !is_cancelling(before) && is_cancelling(after) {
                as_it_was = Some(before.clone());
            }
            let declined = after.history.len() > before.history.len()
                && after.history.last().is_some_and(|entry| entry.cause == Cause::OperationDeclined);
            if let (true, Some(as_it_was)) = (declined, &as_it_was) {
                prop_assert_eq!(apart_from_the_operation(as_it_was), apart_from_the_operation(after));
                prop_assert_eq!(after.history.len(), as_it_was.history.len() + 2);
                prop_assert_eq!(&after.operation, &None);
                let number = before.operation.as_ref().map(|operation| operation.number);
                prop_assert_eq!(after.refusal.as_ref().map(|refusal| refusal.operation), number);
            }
        }
    }

    #[test]
    fn a_pending_booking_is_cancelled_at_once(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::after(&beginning, &moves);
        if world.booking.status() != Status::Pending {
            return Ok(());
        }
        let operation = world.booking.operation.clone().unwrap();
        prop_assert!(world.apply(cancel(world.now, 1_000, 60_000)).result.is_ok());
        prop_assert_eq!((world.booking.status(), &world.booking.operation), (Status::Cancelled, &None));
        let doubtful = operation.unanswered_send_at.is_some() || matches!(operation.phase, Phase::InFlight { .. });
        prop_assert_eq!(matches!(world.booking.compensation, Compensation::Underway(_)), doubtful);
        if let Compensation::Underway(run) = &world.booking.compensation {
            prop_assert!(!operation.phase.is_leased(run.phase.due_at()), "while it may still be sent");
            let believed_from = run.unanswered_send_at.plus_ms(MIN_SETTLE_WINDOW_MS);
            prop_assert!(believed_from >= world.last_doubtful_send.unwrap().plus_ms(MIN_SETTLE_WINDOW_MS));
        }
    }

    #[test]
    fn one_operation_at_a_time(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            let number = |booking: &Booking| booking.operation.as_ref().map(|operation| operation.number);
            if let (Some(old), Some(new)) = (number(before), number(after)) {
                prop_assert_eq!(old, new);
            }
            if before.operation.is_some() {
                prop_assert_ne!(after.status(), Status::Expired, "a hold waits for the operation");
                prop_assert_eq!(&before.request, &after.request, "erased while it may be needed");
            }
        }
    }

    #[test]
    fn what_is_erased_never_comes_back(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        let mut is_erased = false;
        for next in &moves {
            world.play(next);
            let request = &world.booking.request;
            is_erased |= request.customer.is_none();
            prop_assert_eq!(request.customer.is_none(), is_erased);
            prop_assert_eq!(request.notes.is_none(), is_erased);
        }
    }

    #[test]
    fn attendance_follows_a_confirmation_alone(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let to = transition.booking.status();
            if let Command::TellAttendance { attended } = applied.command {
                prop_assert_eq!(applied.before.status(), Status::Confirmed);
                prop_assert_eq!(to, if attended { Status::Completed } else { Status::NoShow });
            } else if matches!(to, Status::Completed | Status::NoShow) {
                prop_assert_eq!(applied.before.status(), to);
            }
        }
    }
}
