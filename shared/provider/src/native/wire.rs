//! The bodies of the native protocol (contract: `infra/provider-openapi.yaml`), and nothing of their
//! meaning.

use std::collections::BTreeMap;

use holdfast_domain::{Booking, Customer, Slot, Timestamp, UnitQuantity};
use serde::{Deserialize, Serialize};

use crate::outcomes::cancel_reason;

#[derive(Serialize)]
struct SlotBody<'a> {
    location_id: &'a str,
    start: Timestamp,
    end: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_id: Option<&'a str>,
}

#[derive(Serialize)]
struct CustomerBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    birth_date: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
}

#[derive(Serialize)]
struct UnitBody<'a> {
    unit_id: &'a str,
    quantity: u32,
}

/// `POST {base}/bookings`
#[derive(Serialize)]
pub(super) struct BookBody<'a> {
    booking_id: &'a str,
    operation: u32,
    slot: SlotBody<'a>,
    /// Absent once it was erased, and then nothing is booked any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<CustomerBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    units: Vec<UnitBody<'a>>,
    hold: bool,
    attempt: u32,
}

impl<'a> BookBody<'a> {
    pub(super) fn new(booking: &'a Booking, at: &'a Slot, operation: u32, attempt: u32) -> Self {
        let request = &booking.request;
        Self {
            booking_id: booking.id.as_str(),
            operation,
            slot: slot(at),
            customer: request.customer.as_ref().map(|data| customer(data.expose())),
            reference: request.reference.as_deref(),
            notes: request.notes.as_ref().map(|notes| notes.expose().as_str()),
            metadata: &request.metadata,
            units: request.units.iter().map(unit).collect(),
            hold: request.hold,
            attempt,
        }
    }
}

fn slot(slot: &Slot) -> SlotBody<'_> {
    SlotBody {
        location_id: &slot.location_id,
        start: slot.start,
        end: slot.end,
        resource_id: slot.resource_id.as_deref(),
        service_id: slot.service_id.as_deref(),
    }
}

fn customer(customer: &Customer) -> CustomerBody<'_> {
    CustomerBody {
        name: &customer.name,
        email: customer.email.as_deref(),
        phone: customer.phone.as_deref(),
        birth_date: customer.birth_date.as_deref(),
        language: customer.language.as_deref(),
    }
}

fn unit(unit: &UnitQuantity) -> UnitBody<'_> {
    UnitBody { unit_id: &unit.unit_id, quantity: unit.quantity }
}

/// `POST {base}/bookings/{booking_id}/confirm`
#[derive(Serialize)]
pub(super) struct ConfirmBody<'a> {
    pub(super) booking_id: &'a str,
    pub(super) operation: u32,
    pub(super) attempt: u32,
}

/// `POST {base}/bookings/{booking_id}/extend`
#[derive(Serialize)]
pub(super) struct ExtendBody<'a> {
    pub(super) booking_id: &'a str,
    pub(super) operation: u32,
    pub(super) expires_at: Timestamp,
    pub(super) attempt: u32,
}

/// `POST {base}/bookings/{booking_id}/reschedule`
#[derive(Serialize)]
pub(super) struct RescheduleBody<'a> {
    booking_id: &'a str,
    operation: u32,
    slot: SlotBody<'a>,
    attempt: u32,
}

impl<'a> RescheduleBody<'a> {
    pub(super) fn new(booking: &'a Booking, to: &'a Slot, operation: u32, attempt: u32) -> Self {
        Self { booking_id: booking.id.as_str(), operation, slot: slot(to), attempt }
    }
}

/// `POST {base}/bookings/{booking_id}/cancel`
#[derive(Serialize)]
pub(super) struct CancelBody<'a> {
    booking_id: &'a str,
    operation: u32,
    reason: &'a str,
    attempt: u32,
}

impl<'a> CancelBody<'a> {
    pub(super) fn new(booking: &'a Booking, operation: u32, attempt: u32) -> Self {
        Self { booking_id: booking.id.as_str(), operation, reason: cancel_reason(booking), attempt }
    }
}

/// Where a booking stands at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProviderStatus {
    Pending,
    Confirmed,
    Reserved,
    Cancelled,
    Expired,
}

/// A yes. What else is in it is read over.
#[derive(Deserialize)]
pub(super) struct BookingAnswer {
    pub(super) status: ProviderStatus,
    pub(super) provider_reference: Option<String>,
    pub(super) expires_at: Option<Timestamp>,
}

/// The answer to a look-up. What else is in it is read over.
#[derive(Deserialize)]
pub(super) struct LookUpAnswer {
    #[serde(flatten)]
    pub(super) booking: BookingAnswer,
    /// What is booked.
    pub(super) slot: Option<SlotAnswer>,
    /// The number of the last operation that was decided.
    pub(super) operation: Option<u32>,
}

/// What the provider says is booked.
#[derive(Deserialize)]
pub(super) struct SlotAnswer {
    pub(super) location_id: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) resource_id: Option<String>,
    pub(super) service_id: Option<String>,
}

/// A no. Both members may be missing, and then it is not a definite one.
#[derive(Default, Deserialize)]
pub(super) struct Refusal {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}
