//! Messages out: timers, events, and what could not be processed.

use std::future::Future;

use holdfast_domain::{BookingId, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// A timer's message. It is a hint: whoever receives it reads the item, and the item decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerMessage {
    /// The booking to look at, in its text form.
    pub booking_id: String,
    /// Not before this time. Later than a queue's longest delay means that it is passed on in hops.
    pub not_before: Timestamp,
    /// How often in a row what it rang for could not be done, for want of the store.
    #[serde(default)]
    pub failures: u32,
}

impl TimerMessage {
    /// A timer for a booking.
    pub fn new(booking_id: &BookingId, not_before: Timestamp) -> Self {
        Self { booking_id: booking_id.as_str().to_owned(), not_before, failures: 0 }
    }
}

/// The queue of timers.
pub trait TimerQueue: Send + Sync {
    /// Sends each message so that it arrives no earlier than `not_before` or the queue's longest delay,
    /// whichever is sooner. Returns one result a message, in order: batches MUST be read entry by entry.
    fn arm(
        &self,
        timers: &[TimerMessage],
        now: Timestamp,
    ) -> impl Future<Output = Vec<Result<(), StoreError>>> + Send;
}

/// An event for the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingEvent {
    /// Its type, which is also the bus's `detail-type`.
    pub event_type: String,
    /// When it happened.
    pub at: Timestamp,
    /// Whose it is. It travels beside the body, not in it.
    pub tenant: Tenant,
    /// What it is about.
    pub subject: String,
    /// The whole body, JSON.
    pub body: String,
}

/// The event bus.
pub trait EventBus: Send + Sync {
    /// Publishes each event. Returns one result an event, in order: failed entries MUST be found.
    fn publish(&self, events: &[OutgoingEvent]) -> impl Future<Output = Vec<Result<(), StoreError>>> + Send;
}

/// A stream record that cannot be processed for its own sake, or a booking that somebody has to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedRecord {
    /// The booking.
    pub booking_id: String,
    /// The first version that was not processed.
    pub from_version: Option<u32>,
    /// The last version that was not processed.
    pub to_version: Option<u32>,
    /// Why, in a short code.
    pub reason: String,
}

/// Where they are parked.
pub trait RecordParking: Send + Sync {
    /// Parks a record that could not be processed.
    fn park(&self, record: &ParkedRecord) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Raises a booking that somebody has to look at.
    fn dead_letter(&self, record: &ParkedRecord) -> impl Future<Output = Result<(), StoreError>> + Send;
}
