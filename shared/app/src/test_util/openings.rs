//! A provider that is asked what is open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_domain::{AttemptError, LocationId, OpenSlot, Timestamp};

use super::locked;
use crate::ports::{AvailabilityCall, AvailabilityFailure, AvailabilityGateway};

/// How the provider answers for a location.
#[derive(Clone, Debug, Default)]
struct Behaviour {
    slots: Vec<OpenSlot>,
    delay_ms: u64,
    failure: Option<AvailabilityFailure>,
}

#[derive(Debug, Default)]
struct State {
    behaviours: BTreeMap<LocationId, Behaviour>,
    asked: Vec<LocationId>,
}

/// The open slots of a provider, which tests set. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryOpenings(Arc<Mutex<State>>);

impl MemoryOpenings {
    /// A provider that has nothing open anywhere.
    pub fn new() -> Self {
        Self::default()
    }

    fn change(&self, location: &str, change: impl FnOnce(&mut Behaviour)) {
        if let Ok(id) = LocationId::parse(location) {
            change(locked(&self.0).behaviours.entry(id).or_default());
        }
    }

    /// Has these slots open from now on.
    pub fn open(&self, location: &str, slots: Vec<OpenSlot>) {
        self.change(location, |behaviour| behaviour.slots = slots);
    }

    /// Answers for the location after so many milliseconds.
    pub fn delay(&self, location: &str, delay_ms: u64) {
        self.change(location, |behaviour| behaviour.delay_ms = delay_ms);
    }

    /// Fails for the location, or not any more.
    pub fn fail(&self, location: &str, error: Option<AttemptError>) {
        let failure = error.map(|error| AvailabilityFailure { error, retry_after_ms: None });
        self.change(location, |behaviour| behaviour.failure = failure);
    }

    /// Takes the locations that were asked for, in order.
    pub fn take_asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut locked(&self.0).asked);
        asked.into_iter().map(|id| id.as_str().to_owned()).collect()
    }
}

impl AvailabilityGateway for MemoryOpenings {
    async fn open_slots(&self, call: AvailabilityCall<'_>) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
        let behaviour = {
            let mut state = locked(&self.0);
            state.asked.push(call.location.location_id.clone());
            state.behaviours.get(&call.location.location_id).cloned().unwrap_or_default()
        };
        tokio::time::sleep(Duration::from_millis(behaviour.delay_ms)).await;
        match behaviour.failure {
            Some(failure) => Err(failure),
            None => Ok(behaviour.slots.into_iter().filter(|slot| call.window.has(slot.start)).collect()),
        }
    }
}

/// An open slot of half an hour with room for one.
pub fn open_slot(start: Timestamp) -> OpenSlot {
    OpenSlot {
        start,
        end: start.plus_ms(30 * 60 * 1_000),
        resource_id: None,
        service_id: None,
        capacity: Some(1),
        price: None,
        availability_id: None,
    }
}
