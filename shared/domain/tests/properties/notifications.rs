//! A provider that is told hears of everything once, in order; and nothing is undone that it does not hold.

use std::collections::BTreeMap;

use holdfast_domain::{
    Booking, Cause, Change, Command, Compensation, DeadLetterReason, Effect, EventType, Notification,
    NotificationKind, NotificationRoute, Phase, Status, Withdrawal, effects,
};
use proptest::prelude::*;

use crate::moves::{any_moves, any_told_beginning};
use crate::world::World;

/// What a version of a told booking has its provider told, and of which version it tells.
fn expected(booking: &Booking) -> Vec<(u32, NotificationKind)> {
    let kind_of = |version: u32, cause: Cause, status: Status| match (cause, status) {
        (Cause::Accepted | Cause::ProviderAcknowledged, Status::Confirmed) => Some(NotificationKind::Booked),
        (Cause::Rescheduled, _) => {
            Some(NotificationKind::Moved { from: booking.slot_at(version - 1).clone() })
        }
        (Cause::LateAcknowledgement, _) => Some(NotificationKind::Cancelled),
        _ => None,
    };
    (1_u32..)
        .zip(&booking.history)
        .filter_map(|(version, entry)| Some((version, kind_of(version, entry.cause, entry.status)?)))
        .collect()
}

/// Whether a notification is as it was before anybody did anything with it.
fn is_untouched(notification: &Notification) -> bool {
    notification.attempts == 0
        && notification.last_error.is_none()
        && matches!(notification.phase, Phase::Waiting { .. })
}

proptest! {
    #[test]
    fn one_is_told_after_the_other_in_order(beginning in any_told_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let queue = &transition.booking.notifications;
            for pair in queue.windows(2) {
                prop_assert!(pair[0].version < pair[1].version && pair[0].number < pair[1].number);
                prop_assert!(is_untouched(&pair[1]), "told before its turn");
            }
            // Only the first is ever taken away, unless a cancel makes all of them pointless.
            let before = &applied.before.notifications;
            let numbers = |queue: &[Notification]| queue.iter().map(|told| told.number).collect::<Vec<_>>();
            let (old, new) = (numbers(before), numbers(queue));
            let is_cancel = matches!(
                &applied.command,
                Command::CancelByProvider(_) | Command::Begin(_) | Command::CancelByOperator
            );
            let is_kept = new.starts_with(&old) || new.starts_with(&old[1.min(old.len())..]);
            prop_assert!(is_kept || (is_cancel && new.is_empty()));
            if let (Some(old), Some(new)) = (before.first(), queue.first())
                && old.number < new.number
            {
                prop_assert_eq!(new.begun_at, applied.now, "its schedule counts from when its turn came");
                prop_assert!(is_untouched(new));
            }
        }
    }

    #[test]
    fn every_change_is_told(beginning in any_told_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        let mut told: BTreeMap<u32, Notification> = BTreeMap::new();
        for next in &moves {
            told.extend(world.booking.notifications.iter().map(|first| (first.number, first.clone())));
            world.play(next);
        }
        told.extend(world.booking.notifications.iter().map(|first| (first.number, first.clone())));
        let booking = &world.booking;
        for notification in told.values() {
            prop_assert_eq!(&notification.slot, booking.slot_at(notification.version));
        }
        let is_withdrawn = |cause| matches!(cause, Cause::WithdrawnByConsumer | Cause::CancelledByOperator);
        let withdrawn: Vec<u32> = (1_u32..)
            .zip(&booking.history)
            .filter(|(_, entry)| is_withdrawn(entry.cause) || entry.cause == Cause::RetriedByOperator)
            .map(|(version, _)| version)
            .collect();
        // That it is withdrawn is told unless the provider never heard of it: below. What is told again is no change.
        let told: Vec<_> = told
            .into_values()
            .map(|notification| (notification.version, notification.kind))
            .filter(|(version, _)| !withdrawn.contains(version))
            .collect();
        prop_assert_eq!(told, expected(booking));
    }

    #[test]
    fn a_cancel_is_told_unless_the_booking_never_was(beginning in any_told_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let (Ok(transition), Command::Begin(request)) = (&applied.result, &applied.command) else {
                continue;
            };
            let (Change::Cancel(_), before, after) = (&request.change, &applied.before, &transition.booking)
            else {
                continue;
            };
            prop_assert_eq!(after.status(), Status::Cancelled, "at once");
            prop_assert_eq!(&after.operation, &None);
            let first = before.notifications.first();
            let is_unheard = before.status() == Status::Pending
                || first.is_some_and(|first| first.kind == NotificationKind::Booked && first.attempts == 0);
            if is_unheard {
                prop_assert_eq!(&after.notifications, &vec![]);
            } else {
                let last = after.notifications.last().unwrap();
                prop_assert_eq!((&last.kind, last.version), (&NotificationKind::Cancelled, after.version()));
                prop_assert_eq!(after.notifications.len(), before.notifications.len() + 1);
            }
        }
    }

    #[test]
    fn what_the_provider_withdraws_it_is_not_told(beginning in any_told_beginning(), moves in any_moves()) {
        let mut world = World::after(&beginning, &moves);
        let had_ended = world.booking.status().is_final();
        let before = world.booking.notifications.clone();
        let applied = world.apply(Command::CancelByProvider(Withdrawal::default()));
        prop_assert_eq!(applied.result.is_err(), had_ended);
        let after = &world.booking.notifications;
        prop_assert_eq!(after, &if had_ended { before } else { Vec::new() });
    }

    #[test]
    fn what_is_not_told_is_an_event_and_a_dead_letter(beginning in any_told_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for applied in moves.iter().filter_map(|next| world.play(next)) {
            let Ok(transition) = &applied.result else { continue };
            let (before, after) = (&applied.before, &transition.booking);
            let effects = effects(Some(before), after);
            let is_given_up = match &applied.command {
                Command::RecordNotification(record) => {
                    record.error.is_some()
                        && record.retry_at.is_none()
                        && before.notifications.first().map(|first| first.number) == Some(record.number)
                }
                Command::PostponeNotification { until, .. } => until.is_none(),
                Command::GiveUpNotification => true,
                _ => false,
            };
            let events = effects.iter().filter(|effect| {
                matches!(effect, Effect::Emit(event) if event.event_type == EventType::ProviderNotificationFailed)
            });
            prop_assert_eq!(events.count(), usize::from(is_given_up));
            let letters = effects.iter().filter(|effect| {
                matches!(effect, Effect::DeadLetter { reason: DeadLetterReason::NotificationFailed, .. })
            });
            prop_assert_eq!(letters.count(), usize::from(is_given_up));
            if is_given_up {
                prop_assert_eq!(after.notifications.len() + 1, before.notifications.len());
                prop_assert_eq!(after.status(), before.status());
            }
        }
    }

    #[test]
    fn what_is_fetched_is_kept_once_when_its_turn_comes(beginning in any_told_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        let mut kept = Vec::new();
        let mut firsts = Vec::new();
        let mut old: Option<Booking> = None;
        for next in moves.iter().map(Some).chain([None]) {
            let new = world.booking.clone();
            for effect in effects(old.as_ref(), &new) {
                if let Effect::Keep(notification) = effect {
                    kept.push(notification.number);
                }
            }
            if let Some(first) = new.notifications.first()
                && firsts.last() != Some(&first.number)
            {
                firsts.push(first.number);
            }
            old = Some(new);
            if let Some(next) = next {
                world.play(next);
            }
        }
        match world.booking.route {
            NotificationRoute::Pull => prop_assert_eq!(kept, firsts),
            NotificationRoute::Push => prop_assert_eq!(kept, Vec::<u32>::new()),
        }
    }

    #[test]
    fn what_is_only_told_is_never_compensated_nor_held(beginning in any_told_beginning(), moves in any_moves()) {
        let mut world = World::new(&beginning);
        for next in &moves {
            world.play(next);
            prop_assert_eq!(&world.booking.compensation, &Compensation::NotNeeded);
            prop_assert!(!matches!(world.booking.status(), Status::Reserved | Status::Expired));
        }
    }
}
