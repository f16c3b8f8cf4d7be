//! A booking as a request has just written it.

use std::collections::BTreeMap;

use holdfast_domain::{
    Booking, BookingId, BookingRequest, Change, ConsumerId, Mode, Operation, Patience, Phase, ProviderId,
    Slot, Tenant, Timestamp,
};

use crate::stored::StoredBooking;

/// How long the request of [`pending`] works on it, in milliseconds.
pub const PENDING_LEASE_MS: u64 = 3_500;

/// How long after it was made the slot of [`pending`] begins, in milliseconds.
const AHEAD_MS: u64 = 86_400_000;

/// A booking of `test:shop` at `clinic`, made at `now` by a request that may go on in the background for a quarter of
/// an hour.
#[must_use]
#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "its names are names")]
pub fn pending(id: BookingId, now: Timestamp) -> Booking {
    let name = "shop and clinic are names";
    let tenant = Tenant { consumer_id: ConsumerId::parse("shop").expect(name), mode: Mode::Test };
    let start = now.plus_ms(AHEAD_MS);
    let slot = Slot {
        location_id: "main".to_owned(),
        start,
        end: start.plus_ms(1_800_000),
        resource_id: None,
        service_id: None,
    };
    let request = BookingRequest {
        provider_id: ProviderId::parse("clinic").expect(name),
        customer: None,
        reference: None,
        notes: None,
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold: false,
        availability_id: None,
    };
    let operation = Operation {
        change: Change::Book,
        number: 1,
        patience: Patience::Background,
        deadline_at: now.plus_ms(900_000),
        attempts: 1,
        last_error: None,
        unanswered_send_at: None,
        resolve_until: None,
        overtaken: None,
        phase: Phase::InFlight { lease_until: now.plus_ms(PENDING_LEASE_MS) },
    };
    Booking::claimed(id, tenant, request, slot, operation, now)
}

/// The item of a booking that came without a key.
#[must_use]
pub fn stored(booking: Booking) -> StoredBooking {
    StoredBooking { booking, create: None, operations: Vec::new(), exclusive_slots: false, rev: 1 }
}
