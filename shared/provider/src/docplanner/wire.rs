//! The messages of Docplanner's callbacks, and nothing of their meaning.
//!
//! A location is Docplanner's `address`, a resource its `doctor`, a service its `address_service` and the
//! provider its `facility`. A gate's message has no booking identifier; its `signature`, which the
//! notifications carry too, is the booking's. A booking that has moved keeps its identifier.

use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{Booking, Customer, Slot, Timestamp};
use serde::Serialize;

/// Who books, cancels and moves: the patient, never the provider's own people.
const BY_PATIENT: &str = "user";

const MS_PER_MINUTE: u64 = 60_000;

/// What every message is wrapped in.
#[derive(Serialize)]
pub(super) struct Envelope<T> {
    pub(super) name: &'static str,
    pub(super) data: T,
    pub(super) created_at: Timestamp,
}

#[derive(Serialize)]
struct Facility<'a> {
    id: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Identified<'a> {
    id: &'a str,
}

/// Where and with whom; the head of every message's data.
#[derive(Serialize)]
struct Place<'a> {
    facility: Facility<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doctor: Option<Identified<'a>>,
    address: Identified<'a>,
}

impl<'a> Place<'a> {
    fn new(provider: &'a ProviderSettings, slot: &'a Slot) -> Self {
        Self {
            facility: Facility { id: provider.provider_id.as_str(), name: &provider.display_name },
            doctor: slot.resource_id.as_deref().map(|id| Identified { id }),
            address: Identified { id: &slot.location_id },
        }
    }
}

/// When, and for what.
#[derive(Serialize)]
struct Visit<'a> {
    start_at: Timestamp,
    end_at: Timestamp,
    /// In minutes.
    duration: u64,
    address_service: Option<Identified<'a>>,
}

impl<'a> Visit<'a> {
    fn new(slot: &'a Slot) -> Self {
        Self {
            start_at: slot.start,
            end_at: slot.end,
            duration: slot.start.ms_until(slot.end) / MS_PER_MINUTE,
            address_service: slot.service_id.as_deref().map(|id| Identified { id }),
        }
    }
}

#[derive(Serialize)]
struct Patient<'a> {
    name: &'a str,
    surname: &'a str,
    email: Option<&'a str>,
    phone: Option<&'a str>,
    birth_date: Option<&'a str>,
}

impl<'a> Patient<'a> {
    fn new(customer: &'a Customer) -> Self {
        // Docplanner wants two names where a customer has one. The last word is taken for the surname.
        let (name, surname) = customer.name.trim().rsplit_once(' ').unwrap_or((customer.name.trim(), ""));
        Self {
            name: name.trim_end(),
            surname,
            email: customer.email.as_deref(),
            phone: customer.phone.as_deref(),
            birth_date: customer.birth_date.as_deref(),
        }
    }
}

/// Who comes, and what they said. Absent once it was erased.
#[derive(Serialize)]
struct Who<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<Patient<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

impl<'a> Who<'a> {
    fn new(booking: &'a Booking) -> Self {
        let request = &booking.request;
        Self {
            patient: request.customer.as_ref().map(|customer| Patient::new(customer.expose())),
            comment: request.notes.as_ref().map(|notes| notes.expose().as_str()),
        }
    }
}

/// A visit that is asked for.
#[derive(Serialize)]
struct Requested<'a> {
    booking_at: Timestamp,
    booking_by: &'static str,
    #[serde(flatten)]
    visit: Visit<'a>,
    #[serde(flatten)]
    who: Who<'a>,
    signature: &'a str,
}

impl<'a> Requested<'a> {
    fn new(booking: &'a Booking, slot: &'a Slot, booking_at: Timestamp) -> Self {
        let (visit, who) = (Visit::new(slot), Who::new(booking));
        Self { booking_at, booking_by: BY_PATIENT, visit, who, signature: booking.id.as_str() }
    }
}

/// A visit that is there, or was.
#[derive(Serialize)]
struct Visited<'a> {
    id: &'a str,
    status: &'static str,
    #[serde(flatten)]
    visit: Visit<'a>,
    booked_by: &'static str,
    canceled_by: &'static str,
    booked_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    canceled_at: Option<Timestamp>,
    #[serde(flatten)]
    who: Who<'a>,
    signature: &'a str,
}

impl<'a> Visited<'a> {
    fn new(booking: &'a Booking, slot: &'a Slot, canceled_at: Option<Timestamp>) -> Self {
        let is_cancelled = canceled_at.is_some();
        Self {
            id: booking.id.as_str(),
            status: if is_cancelled { "canceled" } else { "booked" },
            visit: Visit::new(slot),
            booked_by: BY_PATIENT,
            canceled_by: if is_cancelled { BY_PATIENT } else { "" },
            booked_at: booked_at(booking),
            canceled_at,
            who: Who::new(booking),
            signature: booking.id.as_str(),
        }
    }
}

/// A visit that would end by a move.
#[derive(Serialize)]
struct Ending<'a> {
    id: &'a str,
    #[serde(flatten)]
    visit: Visit<'a>,
    booked_by: &'static str,
    canceling_by: &'static str,
    booked_at: Timestamp,
    canceling_at: Timestamp,
}

/// `slot-booking`
#[derive(Serialize)]
pub(super) struct SlotBookingData<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    visit_booking_request: Requested<'a>,
}

impl<'a> SlotBookingData<'a> {
    pub(super) fn new(provider: &'a ProviderSettings, booking: &'a Booking, now: Timestamp) -> Self {
        Self {
            place: Place::new(provider, &booking.slot),
            visit_booking_request: Requested::new(booking, &booking.slot, now),
        }
    }
}

/// `slot-booked` and `booking-canceled`
#[derive(Serialize)]
pub(super) struct BookedData<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    visit_booking: Visited<'a>,
}

impl<'a> BookedData<'a> {
    pub(super) fn booked(provider: &'a ProviderSettings, booking: &'a Booking, slot: &'a Slot) -> Self {
        Self { place: Place::new(provider, slot), visit_booking: Visited::new(booking, slot, None) }
    }

    pub(super) fn cancelled(
        provider: &'a ProviderSettings,
        booking: &'a Booking,
        slot: &'a Slot,
        at: Timestamp,
    ) -> Self {
        Self { place: Place::new(provider, slot), visit_booking: Visited::new(booking, slot, Some(at)) }
    }
}

/// `booking-moving`. Its head has room for one place: the new one.
#[derive(Serialize)]
pub(super) struct MovingData<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    canceling_booking: Ending<'a>,
    creating_booking: Requested<'a>,
}

impl<'a> MovingData<'a> {
    pub(super) fn new(
        provider: &'a ProviderSettings,
        booking: &'a Booking,
        to: &'a Slot,
        now: Timestamp,
    ) -> Self {
        Self {
            place: Place::new(provider, to),
            canceling_booking: Ending {
                id: booking.id.as_str(),
                visit: Visit::new(&booking.slot),
                booked_by: BY_PATIENT,
                canceling_by: BY_PATIENT,
                booked_at: booked_at(booking),
                canceling_at: now,
            },
            creating_booking: Requested::new(booking, to, now),
        }
    }
}

/// `booking-moved`. Its head has room for one place: the new one.
#[derive(Serialize)]
pub(super) struct MovedData<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    old_visit_booking: Visited<'a>,
    new_visit_booking: Visited<'a>,
}

impl<'a> MovedData<'a> {
    pub(super) fn new(
        provider: &'a ProviderSettings,
        booking: &'a Booking,
        from: &'a Slot,
        to: &'a Slot,
        at: Timestamp,
    ) -> Self {
        Self {
            place: Place::new(provider, to),
            old_visit_booking: Visited::new(booking, from, Some(at)),
            new_visit_booking: Visited::new(booking, to, None),
        }
    }
}

/// When a version of the booking came about; `None` if there is no such version.
pub(crate) fn told_at(booking: &Booking, version: u32) -> Option<Timestamp> {
    let index = usize::try_from(version.checked_sub(1)?).ok()?;
    booking.history.get(index).map(|entry| entry.at)
}

/// When the booking was made here.
fn booked_at(booking: &Booking) -> Timestamp {
    booking.history.first().map_or(Timestamp::EPOCH, |entry| entry.at)
}
