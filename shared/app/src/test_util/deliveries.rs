//! Deliveries and their queues in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use holdfast_domain::{EventId, Timestamp, WebhookEndpointId};

use super::signals::Delayed;
use super::{Faults, locked};
use crate::ports::{DeliveryClaim, DeliveryHint, DeliveryQueue, DeliveryStore, DeliveryUpdate, StoreError};
use crate::webhook::Delivery;

type Items = BTreeMap<(WebhookEndpointId, EventId), Delivery>;

/// Deliveries in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeliveryStore {
    items: Arc<Mutex<Items>>,
    faults: Faults,
}

impl MemoryDeliveryStore {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { items: Arc::default(), faults }
    }

    /// All deliveries as they are now, without a call.
    pub fn items(&self) -> Vec<Delivery> {
        locked(&self.items).values().cloned().collect()
    }
}

fn key(delivery: &Delivery) -> (WebhookEndpointId, EventId) {
    (delivery.endpoint_id.clone(), delivery.event_id.clone())
}

impl DeliveryStore for MemoryDeliveryStore {
    async fn create(&self, delivery: &Delivery) -> Result<DeliveryClaim, StoreError> {
        let effect = || {
            let mut items = locked(&self.items);
            if let Some(found) = items.get(&key(delivery)) {
                return DeliveryClaim::Existing(Box::new(found.clone()));
            }
            items.insert(key(delivery), delivery.clone());
            DeliveryClaim::Created
        };
        self.faults.run("deliveries.create", effect).await
    }

    async fn read(
        &self,
        endpoint_id: &WebhookEndpointId,
        event_id: &EventId,
    ) -> Result<Option<Delivery>, StoreError> {
        let effect = || locked(&self.items).get(&(endpoint_id.clone(), event_id.clone())).cloned();
        self.faults.run("deliveries.read", effect).await
    }

    async fn replace(&self, seen_rev: u64, next: &Delivery) -> Result<DeliveryUpdate, StoreError> {
        let effect = || {
            let mut items = locked(&self.items);
            match items.get_mut(&key(next)) {
                Some(found) if found.rev == seen_rev => {
                    *found = next.clone();
                    DeliveryUpdate::Done
                }
                Some(_) | None => DeliveryUpdate::Conflict,
            }
        };
        self.faults.run("deliveries.replace", effect).await
    }
}

#[derive(Debug, Default)]
struct Queues {
    quick: Delayed<DeliveryHint>,
    slow: Delayed<DeliveryHint>,
}

impl Queues {
    fn lane(&mut self, slow: bool) -> &mut Delayed<DeliveryHint> {
        if slow { &mut self.slow } else { &mut self.quick }
    }
}

/// The queues of deliveries in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeliveries {
    queues: Arc<Mutex<Queues>>,
    faults: Faults,
}

impl MemoryDeliveries {
    /// Empty queues without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty queues with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { queues: Arc::default(), faults }
    }

    /// Takes the hints that may be received at `now` from the slow or the ordinary queue, the earliest
    /// first.
    pub fn receive(&self, slow: bool, now: Timestamp) -> Vec<DeliveryHint> {
        locked(&self.queues).lane(slow).receive(now)
    }

    /// When the next hint of either queue may be received; `None` if there is none.
    pub fn next_at(&self) -> Option<Timestamp> {
        let queues = locked(&self.queues);
        [queues.quick.next_at(), queues.slow.next_at()].into_iter().flatten().min()
    }

    /// The hints that are waiting in the slow or the ordinary queue.
    pub fn waiting(&self, slow: bool) -> Vec<DeliveryHint> {
        locked(&self.queues).lane(slow).messages()
    }
}

impl DeliveryQueue for MemoryDeliveries {
    async fn send(&self, hints: &[DeliveryHint], slow: bool, now: Timestamp) -> Vec<Result<(), StoreError>> {
        let send = |hint: &DeliveryHint| {
            locked(&self.queues).lane(slow).send(hint.clone(), hint.not_before, now);
        };
        self.faults.run_batch("delivery_queue.send", hints, send).await
    }
}
