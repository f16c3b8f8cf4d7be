//! What a change makes happen elsewhere follows from the two images alone.

use std::collections::HashSet;

use holdfast_domain::{
    Booking, Cause, Effect, Event, EventId, Patience, Step, Timestamp, effects, events_since, next_step,
};
use proptest::prelude::*;

use crate::moves::{Beginning, any_beginning, any_moves};
use crate::world::World;

fn emitted(effects: &[Effect]) -> Vec<Event> {
    let event = |effect: &Effect| match effect {
        Effect::Emit(event) => Some(event.clone()),
        Effect::ArmTimer { .. } | Effect::DeadLetter { .. } | Effect::Keep(_) | Effect::Occupy(_) => None,
    };
    effects.iter().filter_map(event).collect()
}

/// The timer that a change arms.
fn armed(old: Option<&Booking>, new: &Booking) -> Option<Timestamp> {
    effects(old, new).into_iter().find_map(|effect| match effect {
        Effect::ArmTimer { due_at } => Some(due_at),
        Effect::Emit(_) | Effect::DeadLetter { .. } | Effect::Keep(_) | Effect::Occupy(_) => None,
    })
}

/// Every image that a booking went through, the first first.
fn images(world: &mut World, moves: &[crate::moves::Move]) -> Vec<Booking> {
    let mut images = vec![world.booking.clone()];
    for next in moves {
        if world.play(next).is_some_and(|applied| applied.result.is_ok()) {
            images.push(world.booking.clone());
        }
    }
    images
}

proptest! {
    #[test]
    fn a_transition_tells_the_events_that_the_images_tell(
        beginning in any_beginning(),
        moves in any_moves(),
    ) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let effects = effects(Some(&applied.before), &transition.booking);
            prop_assert_eq!(&transition.events, &emitted(&effects));
            for event in &transition.events {
                prop_assert_eq!(event.version, transition.booking.version());
                prop_assert_eq!(event.status, transition.booking.status());
                prop_assert_eq!(event.at, applied.now);
            }
        }
    }

    #[test]
    fn events_are_the_same_however_the_changes_are_cut(
        beginning in any_beginning(),
        moves in any_moves(),
        cut in any::<prop::sample::Index>(),
    ) {
        let images = images(&mut World::new(&beginning), &moves);
        let last = images.last().unwrap();
        let mut one_by_one = emitted(&effects(None, &images[0]));
        for pair in images.windows(2) {
            one_by_one.extend(emitted(&effects(Some(&pair[0]), &pair[1])));
        }
        prop_assert_eq!(&one_by_one, &emitted(&effects(None, last)), "from nothing to the last image");
        let middle = &images[cut.index(images.len())];
        let mut in_two = emitted(&effects(None, middle));
        in_two.extend(emitted(&effects(Some(middle), last)));
        prop_assert_eq!(&one_by_one, &in_two, "in two steps");
    }

    #[test]
    fn event_ids_are_distinct_and_derived(beginning in any_beginning(), moves in any_moves()) {
        let world = World::after(&beginning, &moves);
        let events = events_since(&world.booking, 0);
        let ids: HashSet<&EventId> = events.iter().map(|event| &event.id).collect();
        prop_assert_eq!(ids.len(), events.len());
        for event in &events {
            let id = EventId::derived(world.booking.id.as_str(), event.version, event.event_type.as_str());
            prop_assert_eq!(&event.id, &id);
        }
    }

    #[test]
    fn whatever_is_newly_due_arms_a_timer(beginning in any_beginning(), moves in any_moves()) {
        let images = images(&mut World::new(&beginning), &moves);
        let pairs = std::iter::once((None, &images[0]))
            .chain(images.windows(2).map(|pair| (Some(&pair[0]), &pair[1])));
        for (old, new) in pairs {
            let due = |booking: &Booking| booking.due_at().map(|at| (at, next_step(booking, at)));
            let new_due = due(new).filter(|new_due| old.and_then(due) != Some(*new_due));
            prop_assert_eq!(armed(old, new), new_due.map(|(due_at, _)| due_at));
        }
    }

    #[test]
    fn whatever_somebody_has_to_look_at_is_a_dead_letter_once(beginning in any_beginning(), moves in any_moves()) {
        let images = images(&mut World::new(&beginning), &moves);
        let letters = |old: Option<&Booking>, new: &Booking| {
            effects(old, new).iter().filter(|effect| matches!(effect, Effect::DeadLetter { .. })).count()
        };
        let stepwise: usize = images.windows(2).map(|pair| letters(Some(&pair[0]), &pair[1])).sum();
        let failed = images.last().unwrap().history.iter();
        let failed = failed
            .filter(|entry| {
                matches!(
                    entry.cause,
                    Cause::CompensationFailed | Cause::OperationUnresolved | Cause::NotificationFailed
                )
            })
            .count();
        prop_assert_eq!(stepwise, failed);
        prop_assert_eq!(letters(None, images.last().unwrap()), failed);
    }
}

/// The guard rings at the very end of the lease, and the compensation that it begins is due at once, which is the
/// same moment: the guard's timer is used up by then.
#[test]
fn what_follows_at_the_moment_of_a_timer_has_a_timer_of_its_own() {
    let mut world = World::new(&Beginning::confirmed_by_provider(Patience::Synchronous, 900_000));
    let give_up = world.due_command(0).unwrap();
    let applied = world.apply(give_up);
    assert_eq!(applied.before.due_at(), Some(world.now));
    assert_eq!(next_step(&world.booking, world.now), Step::Compensate);
    assert_eq!(armed(Some(&applied.before), &world.booking), Some(world.now));
}
