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
