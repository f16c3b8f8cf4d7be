//! Deliveries of events to webhook endpoints.

use std::future::Future;

use holdfast_domain::{EventId, Tenant, Timestamp, WebhookEndpointId};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::webhook::Delivery;

/// A delivery's message: a hint to look at the delivery's item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryHint {
    /// The endpoint's owner, in its text form.
    pub tenant: String,
    /// The endpoint, in its text form.
    pub endpoint_id: String,
    /// The event, in its text form.
    pub event_id: String,
    /// Not before this time; longer delays are passed on in hops.
    pub not_before: Timestamp,
}

impl DeliveryHint {
    /// A hint for a delivery.
    pub fn new(delivery: &Delivery, not_before: Timestamp) -> Self {
        Self {
            tenant: delivery.tenant.to_string(),
            endpoint_id: delivery.endpoint_id.as_str().to_owned(),
            event_id: delivery.event_id.as_str().to_owned(),
            not_before,
        }
    }

    /// What it names; `None` if it is malformed.
    pub fn parse(&self) -> Option<(Tenant, WebhookEndpointId, EventId)> {
        Some((
            Tenant::parse(&self.tenant)?,
            WebhookEndpointId::parse(&self.endpoint_id).ok()?,
            EventId::parse(&self.event_id).ok()?,
        ))
    }
}

/// What creating a delivery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryClaim {
    /// It is new.
    Created,
    /// It was there already, as it is.
    Existing(Box<Delivery>),
}

/// What a conditional write found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryUpdate {
    /// Written.
    Done,
    /// Somebody else wrote since.
    Conflict,
}

/// A place among an endpoint's deliveries, which are ordered by time and then by event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPlace {
    /// When the delivery was created.
    pub created_at: Timestamp,
    /// Of which event it is.
    pub event_id: EventId,
}

/// Which of an endpoint's deliveries are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryQuery {
    /// Those created at this time or later.
    pub since: Timestamp,
    /// Those created before this time.
    pub until: Timestamp,
    /// Those behind this place.
    pub after: Option<DeliveryPlace>,
    /// At most so many.
    pub limit: usize,
}

/// Some of an endpoint's deliveries, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The deliveries, each as it is now.
    pub deliveries: Vec<Delivery>,
    /// Where to go on; `None` if there is no more.
    pub next: Option<DeliveryPlace>,
}

/// Where deliveries are kept.
pub trait DeliveryStore: Send + Sync {
    /// Writes a new delivery unless the endpoint has one of this event.
    fn create(&self, delivery: &Delivery) -> impl Future<Output = Result<DeliveryClaim, StoreError>> + Send;

    /// Reads a delivery, strongly consistent.
    fn read(
        &self,
        endpoint_id: &WebhookEndpointId,
        event_id: &EventId,
    ) -> impl Future<Output = Result<Option<Delivery>, StoreError>> + Send;

    /// Replaces a delivery if its revision is still `seen_rev`; `next.rev` is `seen_rev + 1`. A write of
    /// its own whose answer was lost MUST be reported as done.
    fn replace(
        &self,
        seen_rev: u64,
        next: &Delivery,
    ) -> impl Future<Output = Result<DeliveryUpdate, StoreError>> + Send;

    /// Reads an endpoint's deliveries of a time. Which there are may be moments old; each is read strongly
    /// consistent. A page may be short and have a next one all the same.
    fn created_between(
        &self,
        endpoint_id: &WebhookEndpointId,
        query: &DeliveryQuery,
    ) -> impl Future<Output = Result<DeliveryPage, StoreError>> + Send;
}

/// What came of one attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEntry {
    /// To which endpoint.
    pub endpoint_id: WebhookEndpointId,
    /// Which event.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: String,
    /// Which attempt it was, from 1, over all rounds.
    pub attempt: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// The answer's HTTP status; `None` if there was no answer.
    pub status: Option<u16>,
    /// Why it failed: a short code, never text from outside; `None` if it succeeded.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub response_body: Option<String>,
}

impl AttemptEntry {
    /// Where it stands in the log.
    pub fn place(&self) -> AttemptPlace {
        AttemptPlace { at: self.at, event_id: self.event_id.clone(), attempt: self.attempt }
    }
}

/// A place in an endpoint's log of attempts, which is ordered by time, event and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptPlace {
    /// When the attempt began.
    pub at: Timestamp,
    /// Of which event.
    pub event_id: EventId,
    /// Which attempt it was.
    pub attempt: u32,
}

/// Some of an endpoint's attempts, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptPage {
    /// The attempts.
    pub entries: Vec<AttemptEntry>,
    /// Where to go on; `None` if there is no more.
    pub next: Option<AttemptPlace>,
}

/// The log of attempts.
pub trait AttemptLog: Send + Sync {
    /// Writes an entry. Writing it again changes nothing.
    fn append(&self, entry: &AttemptEntry) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads up to `limit` of an endpoint's entries, behind (that is, older than) `after`, but none of
    /// before `since`.
    fn attempts(
        &self,
        endpoint_id: &WebhookEndpointId,
        since: Timestamp,
        after: Option<&AttemptPlace>,
        limit: usize,
    ) -> impl Future<Output = Result<AttemptPage, StoreError>> + Send;
}

/// The queues of deliveries.
pub trait DeliveryQueue: Send + Sync {
    /// Sends each hint, delayed as timers are. Those of slow endpoints go to a queue of their own, so
    /// that they hold up nobody. Returns one result a hint, in order.
    fn send(
        &self,
        hints: &[DeliveryHint],
        slow: bool,
        now: Timestamp,
    ) -> impl Future<Output = Vec<Result<(), StoreError>>> + Send;
}

/// A message that asks for an endpoint's deliveries of a time to be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayMessage {
    /// The endpoint's owner, in its text form.
    pub tenant: String,
    /// The endpoint, in its text form.
    pub endpoint_id: String,
    /// Deliveries created at this time or later.
    pub since: Timestamp,
    /// Deliveries created before this time.
    pub until: Timestamp,
    /// Whether those that succeeded are left alone.
    pub only_failed: bool,
    /// When it was asked for. A delivery whose round began later is made again already.
    pub requested_at: Timestamp,
    /// Where to go on: time of creation and event of the delivery that was seen to last.
    pub after: Option<(Timestamp, String)>,
}

impl ReplayMessage {
    /// What it names; `None` if it is malformed.
    pub fn parse(&self) -> Option<(Tenant, WebhookEndpointId, Option<DeliveryPlace>)> {
        let after = match &self.after {
            None => None,
            Some((created_at, event_id)) => {
                Some(DeliveryPlace { created_at: *created_at, event_id: EventId::parse(event_id).ok()? })
            }
        };
        Some((Tenant::parse(&self.tenant)?, WebhookEndpointId::parse(&self.endpoint_id).ok()?, after))
    }
}

/// The queue of replays, which is that of the slow, so that they hold up nobody.
pub trait ReplayQueue: Send + Sync {
    /// Sends the message so that it arrives no earlier than `not_before`.
    fn ask(
        &self,
        replay: &ReplayMessage,
        not_before: Timestamp,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
