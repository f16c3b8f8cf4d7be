//! What is open at a provider's location, and what bookings made here do to it.
//!
//! A provider's word about its open slots is always about a moment. Bookings change hands after that moment,
//! so that each leaves a [`SlotChange`] behind, by which the word is corrected ([`open_after`]) until the
//! provider has been asked again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Booking, BookingId, Cause, Change, NotificationKind, Slot, Status, Timestamp};

/// By how much a slot may have been taken before a provider was asked and still not show in its answer, in
/// milliseconds: as much as the clocks of two workers are apart where all is well.
///
/// Within it a unit may be taken off twice until the provider is asked again, which hides something that is
/// open; the other way round something would be shown that is taken.
const TAKEN_MARGIN_MS: u64 = 100;

/// What something costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// In the currency's smallest unit (ISO 4217).
    pub amount_minor: u64,
    /// The currency's code, three capital letters (ISO 4217).
    pub currency: Arc<str>,
}

/// A slot that can be booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSlot {
    /// When it begins.
    pub start: Timestamp,
    /// When it ends; later than `start`.
    pub end: Timestamp,
    /// The doctor, room, boat or product option, where the provider has such.
    pub resource_id: Option<Arc<str>>,
    /// The treatment, test or product, where the provider has such.
    pub service_id: Option<Arc<str>>,
    /// How many units can still be booked, at least 1; `None`: as many as wanted.
    pub capacity: Option<u32>,
    /// What it costs, if the provider says.
    pub price: Option<Price>,
    /// The provider's own name for the slot, where it has to be named by it.
    pub availability_id: Option<Arc<str>>,
}

impl OpenSlot {
    /// Whether booking `slot` takes something of this one. A service that one of the two does not name is any
    /// service. With `is_exclusive` whoever has the resource at that time has it for all services.
    pub fn is_taken_by(&self, slot: &Slot, is_exclusive: bool) -> bool {
        let is_same_service = match (self.service_id.as_deref(), slot.service_id.as_deref()) {
            (Some(own), Some(other)) => own == other,
            (None, _) | (_, None) => true,
        };
        self.start == slot.start
            && self.resource_id.as_deref() == slot.resource_id.as_deref()
            && (is_exclusive || is_same_service)
    }

    /// Whether somebody who wants `slot` can be given this one: what is not asked for may be anything.
    pub fn offers(&self, slot: &Slot) -> bool {
        let fits = |asked: Option<&str>, own: Option<&str>| asked.is_none() || own.is_none() || asked == own;
        self.start == slot.start
            && fits(slot.resource_id.as_deref(), self.resource_id.as_deref())
            && fits(slot.service_id.as_deref(), self.service_id.as_deref())
    }

    /// Whether so many units can be booked.
    pub fn has_room_for(&self, units: u32) -> bool {
        self.capacity.is_none_or(|capacity| units <= capacity)
    }

    /// The order in which slots are shown.
    pub fn order(&self) -> (Timestamp, Timestamp, Option<&str>, Option<&str>) {
        (self.start, self.end, self.service_id.as_deref(), self.resource_id.as_deref())
    }
}

/// What became of a slot by a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// The booking is to have it, and its provider may not know yet. That holds until something else is said,
    /// whatever the provider says is open meanwhile.
    Claimed,
    /// The booking has it, and its provider knows; or the provider said that it cannot be had. Whoever asks the
    /// provider from now on is told so.
    Taken,
    /// The booking had it, its provider knew, and it was given up.
    GivenBack,
    /// The booking was to have it, and will not; or its provider has other plans for it.
    Dropped,
}

/// What a version of a booking did to a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotChange {
    /// Which booking.
    pub booking_id: BookingId,
    /// Its version.
    pub version: u32,
    /// When it happened.
    pub at: Timestamp,
    /// Which slot.
    pub slot: Slot,
    /// How many units of it, at least 1.
    pub units: u32,
    /// What became of it.
    pub hold: Hold,
    /// Whether it puts an end to what was claimed. It does so when it is noted; later it says nothing.
    pub settles: bool,
}

/// How a booking has a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grip {
    /// Its provider may not know of it yet.
    Claimed,
    /// Its provider knows of it.
    Had,
}

/// The slots that a booking has or is to have. What the request that makes it will know within seconds is none of
/// them yet.
fn gripped(booking: &Booking) -> Vec<(&Slot, Grip)> {
    let is_untold = booking.notifications.iter().any(|untold| match untold.kind {
        NotificationKind::Booked | NotificationKind::Moved { .. } => untold.slot == booking.slot,
        NotificationKind::Cancelled => false,
    });
    let own = match booking.status() {
        Status::Pending if booking.is_within_its_request() => return Vec::new(),
        Status::Pending => Grip::Claimed,
        Status::Reserved | Status::Confirmed if is_untold => Grip::Claimed,
        Status::Reserved | Status::Confirmed | Status::Completed | Status::NoShow => Grip::Had,
        Status::Rejected | Status::Cancelled | Status::Expired => return Vec::new(),
    };
    let mut gripped = vec![(&booking.slot, own)];
    let operation = booking.operation.as_ref();
    let overtaken = operation.and_then(|operation| operation.overtaken.as_ref());
    let changes =
        [operation.map(|operation| &operation.change), overtaken.map(|overtaken| &overtaken.change)];
    for change in changes.into_iter().flatten() {
        match change {
            Change::Reschedule(slot) if gripped.iter().all(|(known, _)| *known != slot) => {
                gripped.push((slot, Grip::Claimed));
            }
            Change::Reschedule(_)
            | Change::Book
            | Change::Confirm
            | Change::Extend { .. }
            | Change::Cancel(_) => {}
        }
    }
    gripped
}

/// What it means that a booking does not have a slot any more that it had or was to have.
fn left(grip: Grip, new: &Booking) -> Hold {
    let cause = new.history.last().map(|entry| entry.cause);
    match (grip, cause) {
        // It cannot be had, says its provider: nobody else is shown it until the provider is asked again.
        (Grip::Claimed, Some(Cause::ProviderDeclined | Cause::OperationDeclined)) => Hold::Taken,
        // Whether somebody else may have it is for its provider to say.
        (Grip::Claimed, _) | (Grip::Had, Some(Cause::WithdrawnByProvider | Cause::ProviderEnded)) => {
            Hold::Dropped
        }
        (Grip::Had, _) => Hold::GivenBack,
    }
}

/// What the change from `old` (`None`: the booking is new) to `new` does to slots.
///
/// Each is of the time of the current version. That a provider was told is no version of its own: a change
/// between two images of one version happened later, and whoever sees it knows when.
pub fn slot_changes(old: Option<&Booking>, new: &Booking) -> Vec<SlotChange> {
    let before = old.map(gripped).unwrap_or_default();
    let after = gripped(new);
    let grip_in = |list: &[(&Slot, Grip)], slot: &Slot| {
        list.iter().find(|(known, _)| *known == slot).map(|(_, grip)| *grip)
    };
    let change = |slot: &Slot, hold: Hold| SlotChange {
        booking_id: new.id.clone(),
        version: new.version(),
        at: new.updated_at(),
        slot: slot.clone(),
        units: new.units(),
        hold,
        settles: grip_in(&before, slot) == Some(Grip::Claimed),
    };
    let gone = before.iter().filter(|(slot, _)| grip_in(&after, slot).is_none());
    let gone = gone.map(|(slot, grip)| change(slot, left(*grip, new)));
    let got = after.iter().filter(|(slot, grip)| grip_in(&before, slot) != Some(*grip));
    let got = got.map(|(slot, grip)| match grip {
        Grip::Claimed => change(slot, Hold::Claimed),
        Grip::Had => change(slot, Hold::Taken),
    });
    gone.chain(got).collect()
}

/// What is open after `changes`, given what a provider that was asked at `as_of` said. Changes may come in any
/// order and more than once. With `is_exclusive` a slot that is taken is gone, whatever its capacity.
///
/// A slot that was given back after `as_of` is open again, even where the provider left it out: the next time
/// that it is asked decides.
pub fn open_after<'a>(
    slots: &'a [OpenSlot],
    as_of: Timestamp,
    changes: &[SlotChange],
    is_exclusive: bool,
) -> Cow<'a, [OpenSlot]> {
    let net = net_changes(as_of, changes);
    if net.is_empty() {
        return Cow::Borrowed(slots);
    }
    let mut open: Vec<OpenSlot> =
        slots.iter().filter_map(|slot| corrected(slots, slot, &net, is_exclusive)).collect();
    open.extend(given_back(slots, &net, is_exclusive));
    open.sort_by(|left, right| left.order().cmp(&right.order()));
    Cow::Owned(open)
}

/// Units of a slot that a booking took (negative) or gave back.
struct Net<'c> {
    slot: &'c Slot,
    units: i64,
}

/// What each booking did to each slot on the whole since `as_of`.
fn net_changes(as_of: Timestamp, changes: &[SlotChange]) -> Vec<Net<'_>> {
    let mut by_hold: BTreeMap<_, Vec<&SlotChange>> = BTreeMap::new();
    for change in changes {
        let slot = &change.slot;
        let name = (slot.start, slot.end, &slot.resource_id, &slot.service_id);
        by_hold.entry((&change.booking_id, name)).or_default().push(change);
    }
    let mut net = Vec::new();
    for mut history in by_hold.into_values() {
        history.sort_by_key(|change| (change.version, change.at));
        let Some(last) = history.last() else { continue };
        let is_in_force = match last.hold {
            Hold::Claimed => true,
            Hold::Taken => last.at.plus_ms(TAKEN_MARGIN_MS) > as_of,
            Hold::GivenBack | Hold::Dropped => false,
        };
        let first = match history.iter().find(|change| change.at > as_of) {
            Some(first) => first,
            None if is_in_force => last,
            None => continue,
        };
        let had = first.hold == Hold::GivenBack;
        let has = matches!(last.hold, Hold::Claimed | Hold::Taken);
        if had != has {
            let units = i64::from(last.units);
            net.push(Net { slot: &last.slot, units: if has { -units } else { units } });
        }
    }
    net
}

/// Whether what a booking did is about an open slot. One that names neither resource nor service as the provider does
/// is about the only slot that it can be about; if there are several, nobody but the provider knows which.
fn is_about(slots: &[OpenSlot], slot: &OpenSlot, booked: &Slot, is_exclusive: bool) -> bool {
    if slots.iter().any(|other| other.is_taken_by(booked, is_exclusive)) {
        return slot.is_taken_by(booked, is_exclusive);
    }
    slot.offers(booked) && slots.iter().filter(|other| other.offers(booked)).count() == 1
}

fn corrected(slots: &[OpenSlot], slot: &OpenSlot, net: &[Net<'_>], is_exclusive: bool) -> Option<OpenSlot> {
    // The slots of one time are few among thousands.
    let own: Vec<&Net<'_>> = net
        .iter()
        .filter(|net| net.slot.start == slot.start && is_about(slots, slot, net.slot, is_exclusive))
        .collect();
    if is_exclusive && own.iter().any(|net| net.units < 0) {
        return None;
    }
    let mut slot = slot.clone();
    if let Some(capacity) = slot.capacity {
        let left = own.iter().map(|net| net.units).fold(i64::from(capacity), i64::saturating_add);
        slot.capacity = Some(u32::try_from(left).ok().filter(|left| *left > 0)?);
    }
    Some(slot)
}

/// The slots that the provider left out and that were given back since.
fn given_back(slots: &[OpenSlot], net: &[Net<'_>], is_exclusive: bool) -> Vec<OpenSlot> {
    let mut back: Vec<(OpenSlot, i64)> = Vec::new();
    let unknown = |net: &&Net<'_>| !slots.iter().any(|slot| is_about(slots, slot, net.slot, is_exclusive));
    for net in net.iter().filter(unknown) {
        let known = back.iter_mut().find(|(slot, _)| slot.is_taken_by(net.slot, is_exclusive));
        if let Some((_, units)) = known {
            *units = units.saturating_add(net.units);
            continue;
        }
        let slot = OpenSlot {
            start: net.slot.start,
            end: net.slot.end,
            resource_id: net.slot.resource_id.as_deref().map(Arc::from),
            service_id: net.slot.service_id.as_deref().map(Arc::from),
            capacity: None,
            price: None,
            availability_id: None,
        };
        back.push((slot, net.units));
    }
    let open = back.into_iter().filter_map(|(slot, units)| {
        let units = u32::try_from(units).ok().filter(|units| *units > 0)?;
        Some(OpenSlot { capacity: Some(if is_exclusive { 1 } else { units }), ..slot })
    });
    open.collect()
}

#[cfg(test)]
mod tests;
