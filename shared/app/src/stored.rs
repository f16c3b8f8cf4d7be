//! A booking as an item: with the create's idempotency record and the writer's revision.

use std::collections::BTreeSet;

use holdfast_domain::{Booking, Change, Mode, ProviderId, Slot, Status, Timestamp};

use crate::ports::{BookingStore, Claim, Replaced, SlotExchange, StoreError};

/// SHA-256 of a request body's canonical form (RFC 8785).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// The first response to a keyed request: what every replay returns, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body, exactly.
    pub body: Vec<u8>,
}

/// The idempotency record of the create that made a booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRecord {
    /// What the request said.
    pub fingerprint: Fingerprint,
    /// How often the key had been used afresh before; part of the booking's identifier.
    pub generation: u32,
    /// Set once the key's retention is over and it is being used afresh: the next generation.
    pub superseded_by: Option<u32>,
    /// The first response, once somebody had to answer.
    pub response: Option<FrozenResponse>,
}

/// What an operation's idempotency key stands for within its booking: a hash of the operation's name and
/// the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationKey(pub [u8; 16]);

/// The idempotency record of an operation after the create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationRecord {
    /// By which it is found.
    pub key: OperationKey,
    /// What the request said.
    pub fingerprint: Fingerprint,
    /// The operation's number.
    pub number: u32,
    /// When the key was first used.
    pub at: Timestamp,
    /// The first response, once somebody had to answer.
    pub response: Option<FrozenResponse>,
}

/// A booking's item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBooking {
    /// The booking.
    pub booking: Booking,
    /// The create's idempotency record; `None` if it came without a key.
    pub create: Option<CreateRecord>,
    /// The idempotency records of the operations that came with a key, the oldest first.
    pub operations: Vec<OperationRecord>,
    /// Whether it has its slots to itself.
    pub exclusive_slots: bool,
    /// Counts the item's writes, from 1. Every write is conditional on it.
    pub rev: u64,
}

/// What an exclusive slot is known by. Slots that merely overlap are different ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotKey {
    /// Live or test.
    pub mode: Mode,
    /// The provider.
    pub provider_id: ProviderId,
    /// The location.
    pub location_id: String,
    /// The resource, if the slot names one.
    pub resource_id: Option<String>,
    /// When it begins.
    pub start: Timestamp,
}

impl StoredBooking {
    /// The item as the next write leaves it, with `booking` in it.
    #[must_use]
    pub fn with_booking(&self, booking: Booking) -> Self {
        Self {
            booking,
            create: self.create.clone(),
            operations: self.operations.clone(),
            exclusive_slots: self.exclusive_slots,
            rev: self.rev.saturating_add(1),
        }
    }

    /// The exclusive slots that the booking has: its own while it is not withdrawn, and the one that it is
    /// moving to.
    pub fn slots(&self) -> BTreeSet<SlotKey> {
        let booking = &self.booking;
        let is_live = match booking.status() {
            Status::Pending | Status::Reserved | Status::Confirmed | Status::Completed | Status::NoShow => {
                true
            }
            Status::Rejected | Status::Cancelled | Status::Expired => false,
        };
        if !self.exclusive_slots || !is_live {
            return BTreeSet::new();
        }
        let operation = booking.operation.as_ref();
        let moves = operation.map(|operation| &operation.change);
        let overtaken = operation.and_then(|operation| operation.overtaken.as_ref());
        let wanted = [moves, overtaken.map(|overtaken| &overtaken.change)].into_iter().flatten();
        let wanted = wanted.filter_map(|change| match change {
            Change::Reschedule(slot) => Some(slot),
            Change::Book | Change::Confirm | Change::Extend { .. } | Change::Cancel(_) => None,
        });
        wanted.chain([&booking.slot]).map(|slot| self.slot_key(slot)).collect()
    }

    fn slot_key(&self, slot: &Slot) -> SlotKey {
        SlotKey {
            mode: self.booking.tenant.mode,
            provider_id: self.booking.request.provider_id.clone(),
            location_id: slot.location_id.clone(),
            resource_id: slot.resource_id.clone(),
            start: slot.start,
        }
    }
}

/// Writes a new item with the slots that it has.
pub async fn claim(store: &impl BookingStore, new: &StoredBooking) -> Result<Claim, StoreError> {
    let take: Vec<SlotKey> = new.slots().into_iter().collect();
    if take.is_empty() { store.claim(new).await } else { store.claim_with_slots(new, &take).await }
}

/// Replaces `seen` by `next`, and exchanges the slots of the one for those of the other.
pub async fn replace(
    store: &impl BookingStore,
    seen: &StoredBooking,
    next: &StoredBooking,
) -> Result<Replaced, StoreError> {
    let (before, after) = (seen.slots(), next.slots());
    if before == after {
        return store.replace(seen.rev, next).await;
    }
    let exchange = SlotExchange {
        take: after.difference(&before).cloned().collect(),
        free: before.difference(&after).cloned().collect(),
    };
    store.replace_with_slots(seen.rev, next, &exchange).await
}
