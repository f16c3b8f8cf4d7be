//! Operations after the create: none is abandoned, a refused one changes nothing, and what is erased stays so.

use holdfast_domain::{
    AttemptOutcome, Booking, CLOCK_SKEW_MS, Cancellation, CancellationReason, Cause, Change, Command,
    Compensation, ConfirmationMode, MIN_SETTLE_WINDOW_MS, Patience, Phase, State, Status, Step, next_step,
    transition,
};
use proptest::prelude::*;

use crate::moves::{Wish, any_beginning, any_moves};
use crate::world::{World, is_cancelling};

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
                // What it overtook may turn out to have been made.
                if after.version() == before.version() {
                    prop_assert_eq!(apart_from_the_operation(before), apart_from_the_operation(after));
                }
                continue;
            }
            let is_cancelled = matches!(after.state, State::Cancelled(Cancellation::ByConsumer(_)));
            match &applied.command {
                Command::RecordAttempt { outcome: AttemptOutcome::Declined(_), .. } | Command::Decline { .. } => {
                    prop_assert_eq!(before.status(), after.status());
                }
                // A look-up of what it overtook found that the provider has ended the booking.
                Command::AdoptEnded { .. } => {
                    prop_assert!(matches!(after.status(), Status::Cancelled | Status::Expired));
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
                Command::CancelByOperator => {
                    let operator = Cancellation::BySystem(CancellationReason::Operator);
                    prop_assert_eq!(&after.state, &State::Cancelled(operator));
                    prop_assert!(matches!(after.compensation, Compensation::Underway(_)));
                }
                other => return Err(TestCaseError::fail(format!("abandoned by {other:?}"))),
            }
        }
    }

    #[test]
    fn a_change_that_comes_to_nothing_changes_nothing(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        let mut as_it_was = None;
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            if matches!(applied.command, Command::Begin(_)) {
                as_it_was = Some(before.clone());
            }
            let is_over = after.history.len() > before.history.len()
                && after.history.last().is_some_and(|entry| matches!(
                    entry.cause,
                    Cause::OperationDeclined | Cause::OperationGivenUp | Cause::OperationUnresolved
                ));
            if !is_over {
                continue;
            }
            prop_assert_eq!(apart_from_the_operation(before), apart_from_the_operation(after));
            let number = before.operation.as_ref().map(|operation| operation.number);
            prop_assert_eq!(after.refusal.as_ref().map(|refusal| refusal.operation), number);
            let overtaken = before.operation.as_ref().and_then(|operation| operation.overtaken.as_ref());
            let taken_up = after.operation.as_ref().map(|operation| operation.number);
            prop_assert_eq!(taken_up, overtaken.map(|overtaken| overtaken.number));
            // Nothing else happened since it began, such as a change that it overtook.
            if let Some(as_it_was) = as_it_was.filter(|was| was.history.len() + 2 == after.history.len()) {
                let settled = |booking: &Booking| {
                    // What the provider has been told in the meantime is another matter.
                    Booking { notifications: Vec::new(), ..apart_from_the_operation(booking) }
                };
                prop_assert_eq!(settled(&as_it_was), settled(after));
            }
            as_it_was = None;
        }
    }

    #[test]
    fn the_old_slot_stays_until_the_new_one_is_taken(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            let entry = after.history.last().unwrap();
            let has_moved = after.history.len() > before.history.len() && entry.cause == Cause::Rescheduled;
            prop_assert_eq!(before.slot != after.slot, has_moved, "{:?}", applied.command);
            if !has_moved {
                continue;
            }
            prop_assert_eq!(entry.moved_from.as_ref(), Some(&before.slot));
            let operation = before.operation.as_ref();
            let asked = operation.map(|operation| &operation.change);
            let overtaken = operation.and_then(|operation| operation.overtaken.as_ref());
            let asked = overtaken.map_or(asked, |overtaken| Some(&overtaken.change));
            match &applied.command {
                Command::RecordAttempt { outcome: AttemptOutcome::Acknowledged(_), .. }
                | Command::Acknowledge { operation: Some(_), .. } => {
                    prop_assert_eq!(asked, Some(&Change::Reschedule(after.slot.clone())));
                }
                Command::Begin(request) => {
                    prop_assert_eq!(before.confirmation, ConfirmationMode::Notify);
                    prop_assert_eq!(&request.change, &Change::Reschedule(after.slot.clone()));
                }
                other => return Err(TestCaseError::fail(format!("moved by {other:?}"))),
            }
        }
    }

    #[test]
    fn every_version_keeps_its_slot(beginning in any_beginning(), moves in any_moves()) {
        let world = World::after(&beginning, &moves);
        for (version, slot) in (1_u32..).zip(&world.slots) {
            prop_assert_eq!(world.booking.slot_at(version), slot, "version {}", version);
        }
        for notification in &world.booking.notifications {
            prop_assert_eq!(world.booking.slot_at(notification.version), &notification.slot);
        }
    }

    #[test]
    fn a_change_is_only_looked_up_once_its_patience_is_over(
        beginning in any_beginning(),
        moves in any_moves(),
    ) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let Some(new) = &transition.booking.operation else { continue };
            let is_attempt = matches!(next_step(&transition.booking, applied.now), Step::Attempt { .. });
            prop_assert!(!(new.is_resolving() && is_attempt), "asked for again");
            let Some(old) = &applied.before.operation else { continue };
            if old.is_resolving() && old.number == new.number {
                prop_assert_eq!(old.resolve_until, new.resolve_until);
            }
            if new.is_resolving() && !old.is_resolving() {
                prop_assert!(new.unanswered_send_at.is_some(), "nothing was sent");
                prop_assert!(!transition.booking.confirmation.tells(), "a gate books nothing");
                let by_cancel = old.overtaken.as_ref().map(|overtaken| overtaken.number) == Some(new.number);
                let is_out_of_patience = old.patience == Patience::Synchronous || old.deadline_at <= applied.now;
                prop_assert!(by_cancel || is_out_of_patience);
                prop_assert_eq!(applied.before.version() < transition.booking.version(), by_cancel);
            }
        }
    }

    #[test]
    fn unchanged_is_believed_on_good_grounds_alone(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let (Ok(transition), Command::AdoptUnchanged(record)) = (&applied.result, &applied.command) else {
                continue;
            };
            let old = applied.before.operation.as_ref().unwrap();
            prop_assert!(old.is_resolving(), "while it may yet be sent");
            prop_assert_eq!((old.number, old.attempts), (record.operation, record.attempt));
            let settle_window_ms = record.settle_window_ms.max(MIN_SETTLE_WINDOW_MS).saturating_add(CLOCK_SKEW_MS);
            let believed_from = old.unanswered_send_at.unwrap().plus_ms(settle_window_ms);
            let is_believed = record.decided || record.asked_at >= believed_from;
            prop_assert_eq!(transition.booking.operation.is_none(), is_believed);
        }
    }

    #[test]
    fn a_hold_waits_for_its_changes_and_they_end_before_it(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for next in &moves {
            let Some(applied) = world.play(next) else { continue };
            let booking = &world.booking;
            let State::Reserved { expires_at } = booking.state else { continue };
            if booking.operation.is_none() {
                prop_assert!(booking.due_at() <= Some(expires_at));
                continue;
            }
            prop_assert!(transition(booking, Command::ExpireHold, expires_at.plus_ms(1)).is_err());
            if let (Ok(_), Command::Begin(request)) = (&applied.result, &applied.command)
                && !matches!(request.change, Change::Cancel(_))
            {
                prop_assert!(booking.operation.as_ref().unwrap().deadline_at <= expires_at);
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
        prop_assert!(world.apply(world.begin(Wish::Cancel, Patience::Background, 1_000, 60_000)).result.is_ok());
        prop_assert_eq!((world.booking.status(), &world.booking.operation), (Status::Cancelled, &None));
        if world.booking.confirmation.tells() {
            prop_assert_eq!(&world.booking.compensation, &Compensation::NotNeeded);
            return Ok(());
        }
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
                let taken_up = before.operation.as_ref().and_then(|operation| operation.overtaken.as_ref());
                let by_cancel = !is_cancelling(before) && is_cancelling(after);
                let taken_up = taken_up.map(|overtaken| overtaken.number) == Some(new);
                prop_assert!(old == new || by_cancel || taken_up);
            }
            if before.operation.is_some() {
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
