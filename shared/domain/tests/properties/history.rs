//! Versions: legal, without gaps, never rewritten; what is final stays.

use holdfast_domain::{Booking, Cause, Compensation};
use proptest::prelude::*;

use crate::moves::{any_beginning, any_moves};
use crate::world::World;

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
        prop_assert_eq!((&asked_for, &first.slot), (&last.request, &last.slot));
        prop_assert_eq!(first.created_at(), last.created_at());
    }

    #[test]
    fn operation_numbers_rise_by_one(beginning in any_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            let begun = after.operations_begun - before.operations_begun;
            let new_run = match (&before.compensation, &after.compensation) {
                (Compensation::Underway(_), Compensation::Underway(run)) => {
                    prop_assert_eq!(begun, 0);
                    prop_assert_eq!(run.number, after.operations_begun);
                    continue;
                }
                (_, Compensation::Underway(run)) => Some(run),
                _ => None,
            };
            let new_operation = before.operation.is_none() && after.operation.is_some();
            prop_assert_eq!(begun, u32::from(new_run.is_some()) + u32::from(new_operation));
            if let Some(operation) = after.operation.as_ref().filter(|_| new_operation) {
                prop_assert_eq!(operation.number, after.operations_begun);
            }
            if let Some(run) = new_run {
                prop_assert_eq!(run.number, after.operations_begun);
            }
        }
    }
}
