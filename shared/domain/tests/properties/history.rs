//! Versions: legal, without gaps, never rewritten; what is final stays.

use holdfast_domain::{Booking, Cause, Compensation, Status};
use proptest::prelude::*;

use crate::moves::{any_beginning, any_moves};
use crate::world::World;

/// The table of the contract, word for word: whoever trusts `may_become` trusts this.
#[test]
fn the_legal_transitions_are_those_of_the_contract() {
    use Status::{Cancelled, Completed, Confirmed, Expired, NoShow, Pending, Rejected, Reserved};
    let next = |status: Status| -> &[Status] {
        match status {
            Pending => &[Confirmed, Reserved, Rejected, Cancelled],
            Reserved => &[Confirmed, Cancelled, Expired],
            Confirmed => &[Cancelled, Completed, NoShow],
            Rejected | Cancelled | Expired | Completed | NoShow => &[],
        }
    };
    for from in Status::ALL {
        for to in Status::ALL {
            assert_eq!(from.may_become(to), next(from).contains(&to), "{from:?} to {to:?}");
        }
        assert_eq!(from.is_final(), next(from).is_empty(), "{from:?}");
    }
}

proptest! {
    #[test]
    fn only_legal_transitions_happen(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (from, to) = (applied.before.status(), transition.booking.status());
            prop_assert!(from == to || from.may_become(to), "{from:?} became {to:?} by {:?}", applied.command);
        }
    }

    #[test]
    fn a_command_makes_at_most_one_version_and_rewrites_none(
        beginning in any_beginning(),
        moves in any_moves(),
    ) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            prop_assert!(after.history.starts_with(&before.history), "history was rewritten");
            let new_versions = after.history.len() - before.history.len();
            prop_assert!(new_versions <= 1);
            if let [entry] = &after.history[before.history.len()..] {
                prop_assert_eq!((entry.status, entry.at), (after.status(), applied.now));
            } else {
                let visible = |booking: &Booking| {
                    (booking.state.clone(), std::mem::discriminant(&booking.compensation))
                };
                prop_assert_eq!(visible(before), visible(after), "a change without a version");
            }
        }
    }

    #[test]
    fn what_is_final_stays(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            if applied.before.status().is_final() {
                prop_assert_eq!(&applied.before.state, &transition.booking.state);
                prop_assert_eq!(&transition.booking.operation, &None);
            }
        }
    }

    #[test]
    fn a_command_never_touches_what_was_asked_for(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        let first = world.booking.clone();
        for next in &moves {
            world.play(next);
        }
        let last = &world.booking;
        prop_assert_eq!((&first.id, &first.tenant), (&last.id, &last.tenant));
        let erased = last.history.iter().any(|entry| entry.cause == Cause::CustomerErased);
        let mut asked_for = first.request.clone();
        if erased {
            (asked_for.customer, asked_for.notes) = (None, None);
        }
        prop_assert_eq!(&asked_for, &last.request);
        prop_assert_eq!((first.confirmation, first.route), (last.confirmation, last.route));
        prop_assert_eq!(first.created_at(), last.created_at());
    }

    #[test]
    fn operation_numbers_rise_by_one(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            let fresh: Vec<u32> =
                numbers(after).into_iter().filter(|number| *number > before.operations_begun).collect();
            // What is cleared before it is ever told never shows, and a change that a cancel overtook keeps
            // its own number.
            prop_assert_eq!(fresh.len(), (after.operations_begun - before.operations_begun) as usize);
            prop_assert!(fresh.len() <= 1);
            prop_assert!(fresh.iter().all(|number| *number == after.operations_begun));
            let all = numbers(after);
            let distinct: std::collections::BTreeSet<u32> = all.iter().copied().collect();
            prop_assert_eq!(distinct.len(), all.len(), "two share a number");
        }
    }
}

/// The numbers of whatever the booking has under way.
fn numbers(booking: &Booking) -> Vec<u32> {
    let operation = booking.operation.as_ref();
    let run = match &booking.compensation {
        Compensation::Underway(run) => Some(run.number),
        Compensation::NotNeeded | Compensation::Done | Compensation::Failed => None,
    };
    operation
        .map(|operation| operation.number)
        .into_iter()
        .chain(operation.and_then(|operation| operation.overtaken.as_ref()).map(|overtaken| overtaken.number))
        .chain(run)
        .chain(booking.notifications.iter().map(|notification| notification.number))
        .collect()
}
