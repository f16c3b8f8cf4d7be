//! Availability in memory, and the messages that ask for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use holdfast_domain::{BookingId, Hold, ProviderId, SlotChange, Timestamp};

use super::{Faults, locked};
use crate::availability::ContentId;
use crate::ports::{
    AvailabilityStore, KnownAvailability, Place, RefreshMessage, RefreshQueue, RefreshState, Remembered,
    SLOT_CHANGES_KEPT_MS, SlotChangeLog, StoreError,
};

/// By what a change is known: it is noted once.
type ChangeName = (Timestamp, BookingId, u32, Hold, SlotName);

/// Start, end, resource and service.
type SlotName = (Timestamp, Timestamp, Option<String>, Option<String>);

#[derive(Debug, Default)]
struct Entry {
    availability: Option<KnownAvailability>,
    changes: BTreeMap<ChangeName, SlotChange>,
    /// What is claimed, by booking and slot.
    claims: BTreeMap<(BookingId, SlotName), SlotChange>,
    /// When anything was said last.
    said_at: Option<Timestamp>,
    /// When somebody began to ask in vain last, and how it goes.
    failure: Option<(Timestamp, RefreshState)>,
}

impl Entry {
    fn refresh(&self) -> RefreshState {
        let is_over = |failed_at: Timestamp| self.said_at.is_some_and(|said_at| failed_at <= said_at);
        self.failure.filter(|(failed_at, _)| !is_over(*failed_at)).map(|(_, state)| state).unwrap_or_default()
    }
}

/// Availability in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryAvailability {
    places: Arc<Mutex<BTreeMap<Place, Entry>>>,
    faults: Faults,
}

impl MemoryAvailability {
    /// Nothing is known, and nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is known, with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { places: Arc::default(), faults }
    }

    /// The plan of faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// All that is remembered of a place, without a call.
    pub fn remembered(&self, place: &Place) -> Remembered {
        self.with(place, |entry| Remembered {
            availability: entry.availability.clone(),
            changes: entry.claims.values().chain(entry.changes.values()).cloned().collect(),
            refresh: entry.refresh(),
        })
    }

    fn with<T>(&self, place: &Place, act: impl FnOnce(&mut Entry) -> T) -> T {
        act(locked(&self.places).entry(place.clone()).or_default())
    }
}

impl AvailabilityStore for MemoryAvailability {
    async fn read(&self, place: &Place, since: Timestamp) -> Result<Remembered, StoreError> {
        let effect = || {
            let mut remembered = self.remembered(place);
            let last = remembered.changes.iter().map(|change| change.at).max().unwrap_or(Timestamp::EPOCH);
            let since = since.max(last.minus_ms(SLOT_CHANGES_KEPT_MS));
            remembered.changes.retain(|change| change.hold == Hold::Claimed || change.at >= since);
            remembered
        };
        self.faults.run("availability.read", effect).await
    }

    async fn replace(&self, place: &Place, said: &KnownAvailability) -> Result<(), StoreError> {
        let effect = || {
            self.with(place, |entry| {
                entry.said_at = entry.said_at.max(Some(said.as_of));
                if entry.availability.as_ref().is_none_or(|known| known.as_of <= said.as_of) {
                    entry.availability = Some(said.clone());
                }
            });
        };
        self.faults.run("availability.replace", effect).await
    }

    async fn confirm(&self, place: &Place, content: ContentId, as_of: Timestamp) -> Result<(), StoreError> {
        let effect = || {
            self.with(place, |entry| {
                entry.said_at = entry.said_at.max(Some(as_of));
                if let Some(known) = &mut entry.availability
                    && known.content_id() == content
                {
                    known.as_of = known.as_of.max(as_of);
                }
            });
        };
        self.faults.run("availability.confirm", effect).await
    }

    async fn record_failure(
        &self,
        place: &Place,
        state: RefreshState,
        asked_at: Timestamp,
    ) -> Result<(), StoreError> {
        let effect = || {
            self.with(place, |entry| {
                if entry.failure.is_none_or(|(failed_at, _)| failed_at <= asked_at) {
                    entry.failure = Some((asked_at, state));
                }
            });
        };
        self.faults.run("availability.record_failure", effect).await
    }

    async fn forget(&self, place: &Place) -> Result<(), StoreError> {
        let effect = || {
            self.with(place, |entry| {
                (entry.availability, entry.said_at, entry.failure) = (None, None, None);
            });
        };
        self.faults.run("availability.forget", effect).await
    }
}

impl SlotChangeLog for MemoryAvailability {
    async fn note(&self, provider_id: &ProviderId, change: &SlotChange) -> Result<(), StoreError> {
        let place = Place { provider_id: provider_id.clone(), location_id: change.slot.location_id.clone() };
        let slot = &change.slot;
        let slot_name = (slot.start, slot.end, slot.resource_id.clone(), slot.service_id.clone());
        let claim_name = (change.booking_id.clone(), slot_name.clone());
        let name = (change.at, change.booking_id.clone(), change.version, change.hold, slot_name);
        let noted = SlotChange { settles: false, ..change.clone() };
        let effect = || {
            self.with(&place, |entry| {
                if change.hold == Hold::Claimed {
                    entry.claims.insert(claim_name, noted);
                    return;
                }
                if change.settles {
                    entry.claims.remove(&claim_name);
                }
                entry.changes.insert(name, noted);
            });
        };
        self.faults.run("availability.note", effect).await
    }
}

/// Messages that locations have to be asked for.
#[derive(Clone, Debug, Default)]
pub struct MemoryRefreshes {
    sent: Arc<Mutex<Vec<RefreshMessage>>>,
    faults: Faults,
}

impl MemoryRefreshes {
    /// An empty queue without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty queue with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { sent: Arc::default(), faults }
    }

    /// Takes all messages that were sent, in order.
    pub fn take(&self) -> Vec<RefreshMessage> {
        std::mem::take(&mut *locked(&self.sent))
    }
}

impl RefreshQueue for MemoryRefreshes {
    async fn send(&self, messages: &[RefreshMessage], _now: Timestamp) -> Vec<Result<(), StoreError>> {
        let effect = |message: &RefreshMessage| locked(&self.sent).push(message.clone());
        self.faults.run_batch("refreshes.send", messages, effect).await
    }
}
