//! A booking as an item: with the create's idempotency record and the writer's revision.

use holdfast_domain::{Booking, Timestamp};

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
    /// Counts the item's writes, from 1. Every write is conditional on it.
    pub rev: u64,
}

impl StoredBooking {
    /// The item as the next write leaves it, with `booking` in it.
    #[must_use]
    pub fn with_booking(&self, booking: Booking) -> Self {
        Self {
            booking,
            create: self.create.clone(),
            operations: self.operations.clone(),
            rev: self.rev.saturating_add(1),
        }
    }
}
