//! The bookings that the worlds begin with.

use std::collections::BTreeMap;

use holdfast_domain::{
    AttemptError, Booking, BookingId, BookingRequest, Change, ConfirmationMode, ConsumerId, Customer, Mode,
    Operation, Patience, Personal, Phase, ProviderId, Slot, Tenant, Timestamp,
};

use crate::moves::{BEGINNING_UNIX_MS, Beginning};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A slot of those that the worlds know.
pub(crate) fn slot(number: u8) -> Slot {
    let beginning = Timestamp::EPOCH.plus_ms(BEGINNING_UNIX_MS.unsigned_abs());
    let start = beginning.plus_ms((7 + u64::from(number)) * DAY_MS);
    Slot {
        location_id: "main".to_owned(),
        start,
        end: start.plus_ms(1_800_000),
        resource_id: None,
        service_id: None,
    }
}

fn request() -> BookingRequest {
    let customer =
        Customer { name: "Ada".to_owned(), email: None, phone: None, birth_date: None, language: None };
    BookingRequest {
        provider_id: ProviderId::parse("clinic").unwrap(),
        customer: Some(Personal::new(customer)),
        reference: None,
        notes: Some(Personal::new("By the window".to_owned())),
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold: false,
        availability_id: None,
    }
}

/// The booking as it is first written.
pub(crate) fn booking_of(beginning: &Beginning, now: Timestamp) -> Booking {
    let tenant = Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Test };
    let id = BookingId::derived(&tenant, "key", 0);
    if beginning.mode == ConfirmationMode::Notify {
        return Booking::accepted(id, tenant, request(), slot(0), beginning.route, now);
    }
    let lease_until = now.plus_ms(beginning.lease_ms);
    let patience = beginning.patience();
    let deadline_at = match patience {
        Patience::Synchronous => lease_until,
        Patience::Background => now.plus_ms(beginning.async_ms),
    };
    let (attempts, phase) = if beginning.circuit_open {
        (0, Phase::Waiting { next_attempt_at: lease_until.min(deadline_at) })
    } else {
        (1, Phase::InFlight { lease_until })
    };
    let operation = Operation {
        change: Change::Book,
        number: 1,
        patience,
        deadline_at,
        attempts,
        last_error: beginning.circuit_open.then_some(AttemptError::CircuitOpen),
        unanswered_send_at: None,
        resolve_until: None,
        overtaken: None,
        phase,
    };
    let mut booking =
        Booking::claimed(id, tenant, request(), slot(0), operation, now).in_mode(beginning.mode);
    booking.route = beginning.route;
    booking
}
