//! Ten thousand locations over half an hour of virtual time: the planner, the queue with its delays and its workers,
//! and asking, as the function does it all, while providers hang and fail and locations come and go.

#![cfg(test)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use holdfast_app::availability::{Availability, MAX_AGE_MS};
use holdfast_app::ports::{Clock, Place, RefreshMessage};
use holdfast_app::settings::{LocationSettings, ProviderSettings};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::{
    MemoryAvailability, MemoryOpenings, MemoryRefreshes, MemorySettings, SeededEntropy, TestClock, open_slot,
};
use holdfast_domain::{AttemptError, LocationId, Mode, ProviderId, Timestamp, Zone};
use refresh::Service;
use tokio::task::JoinSet;

/// How many locations the large provider has.
const LOCATIONS: usize = 10_000;

/// Invocations at once, and messages of each: what the template allows.
const WORKERS: usize = 50 * 10;

const MINUTES: u64 = 30;

type TestService =
    Service<MemoryAvailability, MemoryOpenings, MemorySettings, MemoryRefreshes, TestClock, SeededEntropy>;

struct World {
    service: Arc<TestService>,
    configuration: MemorySettings,
    store: MemoryAvailability,
    provider: MemoryOpenings,
    refreshes: MemoryRefreshes,
    clock: TestClock,
    /// By when they are due, and how many have been sent: so that those of one moment keep their order.
    queue: BinaryHeap<Reverse<(Timestamp, usize, String)>>,
    sent: usize,
}

fn provider_id(name: &str) -> ProviderId {
    ProviderId::parse(name).unwrap()
}

fn place(provider: &str, location: &str) -> Place {
    Place { provider_id: provider_id(provider), location_id: location.to_owned() }
}

impl World {
    fn new() -> Self {
        let clock = TestClock::starting_at(Timestamp::parse_rfc3339("2027-01-15T08:00:45Z").unwrap());
        let (store, provider) = (MemoryAvailability::new(), MemoryOpenings::new());
        let (configuration, refreshes) = (MemorySettings::new(), MemoryRefreshes::new());
        let availability = Availability::new(
            store.clone(),
            provider.clone(),
            configuration.clone(),
            clock,
            SeededEntropy::new(1),
        );
        let service = Service {
            availability,
            settings: SettingsCache::new(configuration.clone()),
            configuration: configuration.clone(),
            refreshes: refreshes.clone(),
            clock,
        };
        let queue = BinaryHeap::new();
        Self { service: Arc::new(service), configuration, store, provider, refreshes, clock, queue, sent: 0 }
    }

    fn with_provider(&self, name: &str, locations: usize) {
        let settings = ProviderSettings::usual(provider_id(name), Mode::Test, "https://provider.example");
        self.configuration.add_provider(settings);
        for number in 0..locations {
            self.add(name, &format!("{name}-{number:05}"));
        }
    }

    fn add(&self, provider: &str, location: &str) {
        let location = LocationSettings {
            location_id: LocationId::parse(location).unwrap(),
            display_name: location.to_owned(),
            zone: Zone::utc(),
            services: Vec::new(),
        };
        self.configuration.add_location(&provider_id(provider), location);
    }

    fn take_sent(&mut self) {
        for message in self.refreshes.take() {
            self.sent += 1;
            let body = serde_json::to_string::<RefreshMessage>(&message).unwrap();
            self.queue.push(Reverse((message.not_before, self.sent, body)));
        }
    }

    /// Lets a minute pass: the workers take what is due, one message each, and wait for their providers.
    async fn pass_a_minute(&mut self, workers: &mut JoinSet<()>) {
        let until = self.clock.now().plus_ms(60_000);
        while self.clock.now() < until {
            self.take_sent();
            while workers.len() < WORKERS
                && self.queue.peek().is_some_and(|Reverse((due, _, _))| *due <= self.clock.now())
                && let Some(Reverse((_, _, body))) = self.queue.pop()
            {
                let service = Arc::clone(&self.service);
                workers.spawn(async move { service.on_message(&body).await.unwrap() });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            while workers.try_join_next().is_some() {}
        }
    }

    fn age_ms(&self, provider: &str, location: &str) -> u64 {
        let known = self.store.remembered(&place(provider, location)).availability;
        known.map_or(u64::MAX, |known| known.as_of.ms_until(self.clock.now()))
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_locations_stay_fresh() {
    let mut world = World::new();
    world.with_provider("chain", LOCATIONS);
    world.with_provider("hangs", 1_000);
    world.with_provider("fails", 1_000);
    for number in 0..1_000 {
        world.provider.delay(&format!("hangs-{number:05}"), 600_000);
        world.provider.fail(&format!("fails-{number:05}"), Some(AttemptError::HttpStatus(500)));
    }
    for number in 0..LOCATIONS {
        let name = format!("chain-{number:05}");
        world.provider.open(&name, vec![open_slot(world.clock.now().plus_ms(86_400_000))]);
        world.provider.delay(&name, 800);
    }
    let first = world.clock.now();
    let mut workers = JoinSet::new();
    let mut planned: BTreeSet<(Timestamp, String)> = BTreeSet::new();
    for minute in 0..MINUTES {
        // Locations come and go, and the schedule is late now and then.
        world.add("chain", &format!("chain-{:05}", LOCATIONS + usize::try_from(minute).unwrap()));
        let gone = LocationId::parse(&format!("chain-{:05}", minute * 300)).unwrap();
        holdfast_app::manage::delete_location(&world.configuration, &world.store, "chain", gone.as_str())
            .await
            .unwrap();
        let scheduled_at = first.plus_ms(minute * 60_000);
        assert!(scheduled_at <= world.clock.now());
        world.service.plan(Some(scheduled_at)).await.unwrap();
        world.take_sent();
        let queued = world.queue.iter().filter(|Reverse((_, _, body))| body.contains("chain"));
        planned.extend(queued.map(|Reverse((due, _, body))| (*due, body.clone())));
        world.pass_a_minute(&mut workers).await;
        // After the first round nothing is older than a period, what asking takes, and the move of a neighbour.
        if minute >= 6 {
            let oldest = (0..LOCATIONS)
                .filter(|number| u64::try_from(*number).unwrap() % 300 != 0)
                .map(|number| world.age_ms("chain", &format!("chain-{number:05}")))
                .max();
            assert!(oldest <= Some(330_000), "{oldest:?} ms in minute {minute}");
        }
    }
    assert!(world.age_ms("chain", "chain-00300") == u64::MAX, "what is gone is forgotten");
    assert!(world.age_ms("chain", &format!("chain-{LOCATIONS:05}")) < MAX_AGE_MS, "what is new is asked for");
    let mut by_second: BTreeMap<u64, usize> = BTreeMap::new();
    for (due, _) in &planned {
        *by_second.entry(first.ms_until(*due) / 1_000).or_default() += 1;
    }
    let most = by_second.values().max().copied().unwrap();
    assert!(most <= 2 * LOCATIONS / 300, "{most} in one second");
    let asked = world.provider.take_asked();
    let of = |name: &str| asked.iter().filter(|location| location.starts_with(name)).count();
    // Whoever fails is left alone more and more: four rounds of six.
    assert!(of("fails") <= 4 * 1_000, "{}", of("fails"));
    assert!(of("hangs") <= 4 * 1_000, "{}", of("hangs"));
    assert!(of("chain") >= LOCATIONS * 5, "{}", of("chain"));
    workers.abort_all();
}
