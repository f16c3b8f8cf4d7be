//! Bookings, as they are shown.

use std::collections::BTreeMap;
use std::ops::Deref;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Customer, Notes};
use crate::ids::BookingId;
use crate::open_enum::open_enum;

open_enum! {
    /// What a booking is.
    Status {
        /// The provider has not decided yet.
        Pending = "pending",
        /// Held until its `expires_at`.
        Reserved = "reserved",
        /// Booked.
        Confirmed = "confirmed",
        /// The provider said no. Final.
        Rejected = "rejected",
        /// Withdrawn by somebody, or its deadline passed. Final.
        Cancelled = "cancelled",
        /// The hold ran out. Final.
        Expired = "expired",
        /// The customer came. Final.
        Completed = "completed",
        /// The customer did not come. Final.
        NoShow = "no_show",
    }
}

open_enum! {
    /// What is being done with a booking.
    OperationKind {
        /// It is being made.
        Book = "book",
        /// A hold is being confirmed.
        Confirm = "confirm",
        /// A hold is being extended.
        Extend = "extend",
        /// It is being withdrawn.
        Cancel = "cancel",
        /// It is being moved.
        Reschedule = "reschedule",
    }
}

open_enum! {
    /// Who withdrew a booking.
    CancelledBy {
        /// Its consumer.
        Consumer = "consumer",
        /// Its provider.
        Provider = "provider",
        /// Holdfast, because nobody confirmed it in time.
        System = "system",
    }
}

/// A slot that is booked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slot {
    /// The provider's location.
    pub location_id: String,
    /// When it begins.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// The doctor, room, boat or product option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// The treatment, test or product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
}

/// A provider's no.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rejection {
    /// What kind of no it is.
    pub code: String,
    /// The provider's message for the user.
    pub message: Option<String>,
    /// The provider's own code.
    pub provider_code: Option<String>,
}

/// Why a booking is cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cancellation {
    /// Who withdrew it.
    pub by: CancelledBy,
    /// A code or short text; of the system, what happened.
    pub reason: Option<String>,
    /// A longer text.
    pub note: Option<String>,
}

/// The change in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Operation {
    /// Which change.
    pub kind: OperationKind,
    /// How often the provider was asked.
    pub attempts: u64,
    /// When it is asked again; nothing while it is being asked.
    pub next_attempt_at: Option<Timestamp>,
    /// Until when it is asked.
    pub deadline_at: Timestamp,
    /// What became of the last attempt.
    pub last_error: Option<String>,
}

/// A booking, without the customer's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Booking {
    /// Its identifier.
    pub id: BookingId,
    /// What it is.
    pub status: Status,
    /// The provider.
    pub provider_id: String,
    /// The slot. While it is being moved, the old one.
    pub slot: Slot,
    /// Your own.
    pub reference: Option<String>,
    /// Your own pairs.
    pub metadata: BTreeMap<String, String>,
    /// The provider's own number or code.
    pub provider_reference: Option<String>,
    /// When the hold of a `reserved` booking lapses.
    pub expires_at: Option<Timestamp>,
    /// The provider's no.
    pub rejection: Option<Rejection>,
    /// Who withdrew it, and why.
    pub cancellation: Option<Cancellation>,
    /// The change in flight.
    pub operation: Option<Operation>,
    /// Rises by one with every change, but not with attempts.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Booking {
    /// Whether nothing is in flight: it is not pending, and no change is.
    pub fn is_settled(&self) -> bool {
        self.status != Status::Pending && self.operation.is_none()
    }
}

/// A booking with the customer's data, as its consumer's own read shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PersonalBooking {
    /// The booking itself.
    #[serde(flatten)]
    pub booking: Booking,
    /// Who comes; nothing when it was erased.
    pub customer: Option<Customer>,
    /// Words for the provider.
    pub notes: Option<Notes>,
}

impl Deref for PersonalBooking {
    type Target = Booking;

    fn deref(&self) -> &Booking {
        &self.booking
    }
}

/// A version of a booking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BookingVersion {
    /// Its number, from 1.
    pub version: u64,
    /// What the booking was then.
    pub status: Status,
    /// When.
    pub at: Timestamp,
    /// What made it.
    pub cause: String,
    /// How often the provider had been asked by then.
    pub attempts: u64,
}

/// Which bookings are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookingFilter {
    /// Those with this reference of your own.
    pub reference: Option<String>,
    /// Those of this status.
    pub status: Option<Status>,
    /// Those at this provider.
    pub provider_id: Option<String>,
    /// Those made later than this.
    pub created_after: Option<Timestamp>,
    /// The most on one page: 1 to 100 (20).
    pub limit: Option<u8>,
}
