//! Deliveries and their queues in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use holdfast_domain::{EventId, Timestamp, WebhookEndpointId};

use super::signals::Delayed;
use super::{Faults, locked};
use crate::ports::{
    AttemptEntry, AttemptLog, AttemptPage, AttemptPlace, DeliveryClaim, DeliveryHint, DeliveryPage,
    DeliveryPlace, DeliveryQuery, DeliveryQueue, DeliveryStore, DeliveryUpdate, ReplayMessage, ReplayQueue,
    StoreError,
};
use crate::webhook::Delivery;

type Items = BTreeMap<(WebhookEndpointId, EventId), Delivery>;

type Log = BTreeMap<(WebhookEndpointId, AttemptPlace), AttemptEntry>;

/// Deliveries in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeliveryStore {
    items: Arc<Mutex<Items>>,
    log: Arc<Mutex<Log>>,
    faults: Faults,
}

impl MemoryDeliveryStore {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { faults, ..Self::default() }
    }

    /// All deliveries as they are now, without a call.
    pub fn items(&self) -> Vec<Delivery> {
        locked(&self.items).values().cloned().collect()
    }

    /// All attempts in the log, by endpoint and the oldest first, without a call.
    pub fn log(&self) -> Vec<AttemptEntry> {
        locked(&self.log).values().cloned().collect()
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

    async fn created_between(
        &self,
        endpoint_id: &WebhookEndpointId,
        query: &DeliveryQuery,
    ) -> Result<DeliveryPage, StoreError> {
        let effect = || {
            let items = locked(&self.items);
            let mut deliveries: Vec<Delivery> = items
                .values()
                .filter(|item| item.endpoint_id == *endpoint_id)
                .filter(|item| (query.since..query.until).contains(&item.created_at))
                .filter(|item| query.after.as_ref().is_none_or(|after| order(&place(item)) > order(after)))
                .cloned()
                .collect();
            deliveries.sort_by_key(|item| order(&place(item)));
            let is_more = deliveries.len() > query.limit;
            deliveries.truncate(query.limit);
            let next = deliveries.last().filter(|_| is_more).map(place);
            DeliveryPage { deliveries, next }
        };
        self.faults.run("deliveries.created_between", effect).await
    }
}

fn place(delivery: &Delivery) -> DeliveryPlace {
    DeliveryPlace { created_at: delivery.created_at, event_id: delivery.event_id.clone() }
}

fn order(place: &DeliveryPlace) -> (Timestamp, EventId) {
    (place.created_at, place.event_id.clone())
}

impl AttemptLog for MemoryDeliveryStore {
    async fn append(&self, entry: &AttemptEntry) -> Result<(), StoreError> {
        let effect = || {
            locked(&self.log).insert((entry.endpoint_id.clone(), entry.place()), entry.clone());
        };
        self.faults.run("attempts.append", effect).await
    }

    async fn attempts(
        &self,
        endpoint_id: &WebhookEndpointId,
        since: Timestamp,
        after: Option<&AttemptPlace>,
        limit: usize,
    ) -> Result<AttemptPage, StoreError> {
        let effect = || {
            let log = locked(&self.log);
            let mut entries: Vec<AttemptEntry> = log
                .values()
                .rev()
                .filter(|entry| entry.endpoint_id == *endpoint_id && entry.at >= since)
                .filter(|entry| after.is_none_or(|after| entry.place() < *after))
                .cloned()
                .collect();
            let is_more = entries.len() > limit;
            entries.truncate(limit);
            let next = entries.last().filter(|_| is_more).map(AttemptEntry::place);
            AttemptPage { entries, next }
        };
        self.faults.run("attempts.attempts", effect).await
    }
}

#[derive(Debug, Default)]
struct Queues {
    quick: Delayed<DeliveryHint>,
    slow: Delayed<DeliveryHint>,
    replays: Delayed<ReplayMessage>,
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

    /// Takes the replays that may be received at `now`, the earliest first.
    pub fn receive_replays(&self, now: Timestamp) -> Vec<ReplayMessage> {
        locked(&self.queues).replays.receive(now)
    }

    /// When the next message of either queue may be received; `None` if there is none.
    pub fn next_at(&self) -> Option<Timestamp> {
        let queues = locked(&self.queues);
        let next = [queues.quick.next_at(), queues.slow.next_at(), queues.replays.next_at()];
        next.into_iter().flatten().min()
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

impl ReplayQueue for MemoryDeliveries {
    async fn ask(
        &self,
        replay: &ReplayMessage,
        not_before: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let send = || locked(&self.queues).replays.send(replay.clone(), not_before, now);
        self.faults.run("delivery_queue.ask", send).await
    }
}
