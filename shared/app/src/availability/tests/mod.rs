//! The use cases of availability over ports in memory, in virtual time.

mod answering;
mod refreshing;

use std::time::Duration;

use holdfast_domain::{
    BookingId, Hold, LocationId, Mode, OpenSlot, ProviderId, Slot, SlotChange, Timestamp, Zone,
};

use super::{Availability, OpenLocation, ValidAvailability};
use crate::ports::{Clock, Place, SlotChangeLog};
use crate::problem::Problem;
use crate::settings::{LocationSettings, ProviderSettings};
use crate::test_util::{
    MemoryAvailability, MemoryOpenings, MemorySettings, SeededEntropy, TestClock, open_slot,
};

const NOW: &str = "2027-01-15T08:00:00Z";

type TestAvailability =
    Availability<MemoryAvailability, MemoryOpenings, MemorySettings, TestClock, SeededEntropy>;

struct World {
    store: MemoryAvailability,
    provider: MemoryOpenings,
    settings: MemorySettings,
    clock: TestClock,
    availability: TestAvailability,
    configured: ProviderSettings,
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn clinic() -> ProviderId {
    ProviderId::parse("clinic").unwrap()
}

fn location(name: &str) -> LocationSettings {
    LocationSettings {
        location_id: LocationId::parse(name).unwrap(),
        display_name: name.to_owned(),
        zone: Zone::parse("Europe/Rome").unwrap(),
        services: Vec::new(),
    }
}

fn place(name: &str) -> Place {
    Place { provider_id: clinic(), location_id: name.to_owned() }
}

async fn advance_s(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

impl World {
    /// A provider with these locations, each with a slot on each of the next three days.
    fn new(locations: &[&str]) -> Self {
        Self::with(locations, |_| {})
    }

    fn with(locations: &[&str], configure: impl FnOnce(&mut ProviderSettings)) -> Self {
        let clock = TestClock::starting_at(at(NOW));
        let (store, provider) = (MemoryAvailability::new(), MemoryOpenings::new());
        let settings = MemorySettings::new();
        let mut configured = ProviderSettings::usual(clinic(), Mode::Test, "https://clinic.example");
        configure(&mut configured);
        settings.add_provider(configured.clone());
        for name in locations {
            settings.add_location(&clinic(), location(name));
            provider.open(name, three_days());
        }
        let entropy = SeededEntropy::new(1);
        let availability =
            Availability::new(store.clone(), provider.clone(), settings.clone(), clock, entropy);
        Self { store, provider, settings, clock, availability, configured }
    }

    fn wish(locations: &[&str], allow_stale: bool) -> ValidAvailability {
        ValidAvailability {
            provider_id: clinic(),
            location_ids: locations.iter().map(|name| LocationId::parse(name).unwrap()).collect(),
            first_day: None,
            days: 21,
            allow_stale,
        }
    }

    async fn open(&self, locations: &[&str], allow_stale: bool) -> Result<Vec<OpenLocation>, Problem> {
        self.open_as(&Self::wish(locations, allow_stale)).await
    }

    async fn open_as(&self, wish: &ValidAvailability) -> Result<Vec<OpenLocation>, Problem> {
        let deadline = self.clock.now().plus_ms(26_000);
        self.availability.open(&self.configured, wish, deadline).await
    }

    /// A booking's change of a slot, now.
    async fn note(&self, location: &str, start: &str, version: u32, hold: Hold) {
        let change = SlotChange {
            booking_id: BookingId::from_bytes([7; 16]),
            version,
            at: self.clock.now(),
            slot: slot(location, start),
            units: 1,
            hold,
            settles: false,
        };
        self.store.note(&clinic(), &change).await.unwrap();
    }
}

fn slot(location: &str, start: &str) -> Slot {
    let open = open_slot(at(start));
    Slot {
        location_id: location.to_owned(),
        start: open.start,
        end: open.end,
        resource_id: None,
        service_id: None,
    }
}

fn three_days() -> Vec<OpenSlot> {
    ["2027-01-15T09:00:00Z", "2027-01-16T09:00:00Z", "2027-01-17T09:00:00Z"]
        .map(|start| open_slot(at(start)))
        .to_vec()
}

/// When the slots of a location begin.
fn starts(location: &OpenLocation) -> Vec<String> {
    location.outcome.as_ref().unwrap().slots.iter().map(|slot| slot.start.to_string()).collect()
}

/// Where each part comes from, or why it is not there.
fn sources(locations: &[OpenLocation]) -> Vec<&'static str> {
    let source = |location: &OpenLocation| match &location.outcome {
        Ok(open) => open.source.as_str(),
        Err(failure) => failure.code.as_str(),
    };
    locations.iter().map(source).collect()
}
