//! Events: the same in webhooks, in the feed and on the bus.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Booking, Cursor};
use crate::ids::EventId;
use crate::open_enum::open_enum;

/// The cursor that begins with what comes next.
const LATEST: &str = "latest";

open_enum! {
    /// What happened.
    EventType {
        /// A booking was made.
        BookingCreated = "booking.created",
        /// It is confirmed.
        BookingConfirmed = "booking.confirmed",
        /// It is held.
        BookingReserved = "booking.reserved",
        /// The provider said no.
        BookingRejected = "booking.rejected",
        /// It was withdrawn.
        BookingCancelled = "booking.cancelled",
        /// Its hold ran out.
        BookingExpired = "booking.expired",
        /// It was moved.
        BookingRescheduled = "booking.rescheduled",
        /// The customer came.
        BookingCompleted = "booking.completed",
        /// The customer did not come.
        BookingNoShow = "booking.no_show",
        /// A change was not made.
        BookingOperationFailed = "booking.operation_failed",
        /// What the provider held of it is gone.
        BookingCompensated = "booking.compensated",
        /// The provider may still hold something of it.
        BookingCompensationFailed = "booking.compensation_failed",
        /// The provider could not be told.
        ProviderNotificationFailed = "provider.notification_failed",
        /// A delivery was given up.
        WebhookExhausted = "webhook.exhausted",
        /// A webhook endpoint was disabled.
        WebhookEndpointDisabled = "webhook_endpoint.disabled",
    }
}

/// An event. It may be told more than once, always with the same `id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// What it is known by.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// When.
    pub timestamp: Timestamp,
    /// The booking at that version, without the customer's data; of `webhook…` events the endpoint.
    pub data: Value,
}

impl Event {
    /// The booking as it was at that version. `None` if the event is not about one, or shows it in a form that
    /// is not known. Events may overtake each other: `version` orders those of one booking.
    pub fn booking(&self) -> Option<Booking> {
        Booking::deserialize(&self.data).ok()
    }
}

/// Which events are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// The last `next_cursor`; left out, the oldest kept.
    pub after: Option<Cursor>,
    /// Events of this type alone.
    pub kind: Option<EventType>,
    /// The most on one page: 1 to 100 (20).
    pub limit: Option<u8>,
}

impl EventQuery {
    /// What comes next, and nothing of what was before.
    pub fn latest() -> Self {
        Self::after(Cursor::new(LATEST))
    }

    /// What came after a page.
    pub fn after(cursor: Cursor) -> Self {
        Self { after: Some(cursor), ..Self::default() }
    }
}

/// A page of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventPage {
    /// The events, in order.
    pub data: Vec<Event>,
    /// Where the next page begins. Keep it together with what was done with this page, also if that was empty.
    pub next_cursor: Cursor,
    /// Whether there is more already: then ask again at once.
    pub has_more: bool,
}
