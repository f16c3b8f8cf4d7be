//! Which slots a booking takes and gives back, and what is open after that.

use holdfast_domain::{
    Booking, Change, Hold, OpenSlot, Operation, Slot, SlotChange, Status, Timestamp, open_after, slot_changes,
};
use proptest::prelude::*;

use crate::moves::{Beginning, Move, any_beginning, any_moves};
use crate::world::World;

/// How many of each slot there are before anything is booked.
const PLACES: u32 = 1_000_000;

/// The slots that a booking keeps others from having: its own while it is not withdrawn, and what it is moving to.
fn kept(booking: &Booking) -> Vec<Slot> {
    if matches!(booking.status(), Status::Rejected | Status::Cancelled | Status::Expired) {
        return Vec::new();
    }
    let mut kept = vec![booking.slot.clone()];
    let operation: Option<&Operation> = booking.operation.as_ref();
    let overtaken = operation.and_then(|operation| operation.overtaken.as_ref());
    let changes =
        [operation.map(|operation| &operation.change), overtaken.map(|overtaken| &overtaken.change)];
    for change in changes.into_iter().flatten() {
        if let Change::Reschedule(slot) = change
            && !kept.contains(slot)
        {
            kept.push(slot.clone());
        }
    }
    kept
}

/// Every image of a booking, each with what the change to it does to slots.
fn told(beginning: &Beginning, moves: &[Move]) -> (Vec<Booking>, Vec<SlotChange>) {
    let mut world = World::new(beginning);
    let mut images = vec![world.booking.clone()];
    let mut changes = slot_changes(None, &images[0]);
    for applied in moves.iter().filter_map(|next| world.play(next)) {
        if let Ok(transition) = applied.result {
            changes.extend(slot_changes(Some(&applied.before), &transition.booking));
            images.push(transition.booking);
        }
    }
    (images, changes)
}

fn open(slot: &Slot) -> OpenSlot {
    OpenSlot {
        start: slot.start,
        end: slot.end,
        resource_id: slot.resource_id.as_deref().map(Into::into),
        service_id: slot.service_id.as_deref().map(Into::into),
        capacity: Some(PLACES),
        price: None,
        availability_id: None,
    }
}

/// How many places of a slot are left of what was said at `as_of`.
fn left(slot: &Slot, as_of: Timestamp, changes: &[SlotChange]) -> u32 {
    open_after(&[open(slot)], as_of, changes, false).first().and_then(|slot| slot.capacity).unwrap()
}

proptest! {
    #[test]
    fn of_what_was_said_before_everything_there_is_missing_what_is_kept_now(
        beginning in any_beginning(),
        moves in any_moves(),
    ) {
        let (images, changes) = told(&beginning, &moves);
        let last = images.last().unwrap();
        for change in &changes {
            let is_refused = changes.iter().rev().find(|other| other.slot == change.slot).map(|last| last.hold)
                == Some(Hold::Taken);
            let is_kept = kept(last).contains(&change.slot) || is_refused;
            let expected = if is_kept { PLACES - change.units } else { PLACES };
            prop_assert_eq!(left(&change.slot, Timestamp::EPOCH, &changes), expected, "{:?}", changes);
        }
    }

    #[test]
    fn what_was_said_after_everything_stays_but_for_what_the_provider_may_not_know(
        beginning in any_beginning(),
        moves in any_moves(),
    ) {
        let (images, changes) = told(&beginning, &moves);
        let last = images.last().unwrap();
        let long_after = last.updated_at().plus_ms(1_000);
        for change in &changes {
            let is_ahead = matches!(last.status(), Status::Reserved | Status::Confirmed);
            let is_untold =
                is_ahead && last.notifications.iter().any(|untold| untold.slot == change.slot);
            let is_wanted = kept(last).contains(&change.slot)
                && (last.slot != change.slot || last.status() == Status::Pending || is_untold);
            let expected = if is_wanted { PLACES - change.units } else { PLACES };
            prop_assert_eq!(left(&change.slot, long_after, &changes), expected, "{:?}", changes);
        }
    }

    #[test]
    fn whatever_is_kept_was_told(beginning in any_beginning(), moves in any_moves()) {
        let (images, changes) = told(&beginning, &moves);
        let last = images.last().unwrap();
        // What the request that makes it will know within seconds is not told yet.
        let expected = if last.is_within_its_request() { Vec::new() } else { kept(last) };
        for slot in &expected {
            let told = changes.iter().rev().find(|change| change.slot == *slot).map(|last| last.hold);
            prop_assert!(matches!(told, Some(Hold::Claimed | Hold::Taken)), "{slot:?}: {:?}", changes);
        }
        prop_assert!(!last.is_within_its_request() || changes.is_empty(), "{:?}", changes);
    }

    #[test]
    fn whatever_is_claimed_is_settled_by_what_follows(beginning in any_beginning(), moves in any_moves()) {
        let (_, changes) = told(&beginning, &moves);
        for (place, change) in changes.iter().enumerate() {
            let before = changes[..place].iter().rev().find(|before| before.slot == change.slot);
            let was_claimed = before.is_some_and(|before| before.hold == Hold::Claimed);
            prop_assert_eq!(change.settles, was_claimed, "{:?}", changes);
        }
    }

    #[test]
    fn nothing_is_given_back_that_was_not_surely_had(beginning in any_beginning(), moves in any_moves()) {
        let (images, changes) = told(&beginning, &moves);
        for change in changes.iter().filter(|change| change.hold == Hold::GivenBack) {
            let had = images.iter().any(|image| {
                image.version() < change.version
                    && image.slot == change.slot
                    && matches!(image.status(), Status::Reserved | Status::Confirmed)
            });
            prop_assert!(had, "{:?}", change);
        }
    }
}
