//! What is said and what is answered, as `infra/openapi.yaml` describes it.
//!
//! Members and words that are not known are passed over, so that an older client reads a newer answer.

mod availability;
mod booking;
mod endpoint;
mod event;
mod request;

pub use availability::{
    Availability, AvailabilityQuery, FailedLocation, LocationAvailability, LocationError, OpenLocation,
    OpenSlot, Price, Source,
};
pub use booking::{
    Booking, BookingFilter, BookingVersion, Cancellation, CancelledBy, Operation, OperationKind,
    PersonalBooking, Rejection, Slot, Status,
};
pub use endpoint::{
    DeliveryAttempt, DeliveryFilter, DeliveryStatus, DisabledReason, NewWebhookEndpoint, Replay,
    ReplayRequest, Trial, WebhookEndpoint, WebhookEndpointChanges, WebhookEndpointWithSecret, WebhookSecret,
};
pub use event::{Event, EventPage, EventQuery, EventType};
pub use request::{
    BookingKey, CancelBooking, ConfirmBooking, CreateBooking, Customer, ExtendBooking, Limits, Notes,
    RescheduleBooking, SlotRequest, Unit, Wanted,
};

use serde::{Deserialize, Serialize};

/// Where a page of a list begins. Opaque; good for the very same list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// Takes a cursor that was stored.
    pub fn new(cursor: impl Into<String>) -> Self {
        Self(cursor.into())
    }

    /// The cursor, to be stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A page of a list. It may be short, or empty, and have a next one all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// What is on it.
    pub data: Vec<T>,
    /// Where the next page begins; nothing after the last.
    pub next_cursor: Option<Cursor>,
}
