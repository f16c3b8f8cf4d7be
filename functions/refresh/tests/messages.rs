//! What becomes of messages and of a minute's plan.

#![cfg(test)]

use holdfast_app::availability::Availability;
use holdfast_app::ports::{Clock, RefreshMessage};
use holdfast_app::settings::{LocationSettings, ProviderSettings};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::{
    Fault, Faults, MemoryAvailability, MemoryOpenings, MemoryRefreshes, MemorySettings, SeededEntropy,
    TestClock, open_slot,
};
use holdfast_domain::{LocationId, Mode, ProviderId, Timestamp, Zone};
use refresh::{RefreshError, Service};

type TestService =
    Service<MemoryAvailability, MemoryOpenings, MemorySettings, MemoryRefreshes, TestClock, SeededEntropy>;

struct World {
    service: TestService,
    store: MemoryAvailability,
    provider: MemoryOpenings,
    refreshes: MemoryRefreshes,
    clock: TestClock,
}

fn world(faults: &Faults) -> World {
    let clock = TestClock::starting_at(Timestamp::parse_rfc3339("2027-01-15T08:00:00Z").unwrap());
    let (store, provider) = (MemoryAvailability::with_faults(faults.clone()), MemoryOpenings::new());
    let refreshes = MemoryRefreshes::with_faults(faults.clone());
    let configuration = MemorySettings::with_faults(faults.clone());
    let id = ProviderId::parse("clinic").unwrap();
    configuration.add_provider(ProviderSettings::usual(id.clone(), Mode::Test, "https://clinic.example"));
    for number in 0..10 {
        let location_id = LocationId::parse(&format!("l{number}")).unwrap();
        let display_name = location_id.to_string();
        let location =
            LocationSettings { location_id, display_name, zone: Zone::utc(), services: Vec::new() };
        configuration.add_location(&id, location);
    }
    provider.open("l1", vec![open_slot(clock.now().plus_ms(3_600_000))]);
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
        configuration,
        refreshes: refreshes.clone(),
        clock,
    };
    World { service, store, provider, refreshes, clock }
}

fn message(location_id: &str, not_before: Timestamp) -> String {
    let message = RefreshMessage {
        provider_id: "clinic".to_owned(),
        location_id: location_id.to_owned(),
        not_before,
        postponed: 0,
    };
    serde_json::to_string(&message).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_message_has_the_provider_asked_when_its_time_has_come() {
    let world = world(&Faults::new());
    let early = message("l1", world.clock.now().plus_ms(1));
    world.service.on_message(&early).await.unwrap();
    let sent = world.refreshes.take();
    assert_eq!(serde_json::to_string(&sent[0]).unwrap(), early);
    assert!(world.provider.take_asked().is_empty());
    world.service.on_message(&message("l1", world.clock.now())).await.unwrap();
    assert_eq!(world.provider.take_asked(), ["l1"]);
    assert!(world.refreshes.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_fails_and_a_store_that_fails_waits_for_the_next_round() {
    let faults = Faults::new();
    let world = world(&faults);
    for body in ["", "{}", "[]", r#"{"provider_id": 1}"#] {
        assert!(
            matches!(world.service.on_message(body).await, Err(RefreshError::Malformed { .. })),
            "{body}"
        );
    }
    faults.always("availability.read", Fault::FailBefore);
    world.service.on_message(&message("l1", world.clock.now())).await.unwrap();
    assert!(world.provider.take_asked().is_empty());
    // One that has to come again and cannot be sent is left to the queue.
    faults.always("refreshes.send", Fault::FailBefore);
    let early = message("l1", world.clock.now().plus_ms(1));
    assert!(matches!(world.service.on_message(&early).await, Err(RefreshError::Store(_))));
    assert!(world.store.faults().calls().contains(&"refreshes.send"));
}

#[tokio::test(start_paused = true)]
async fn every_minute_a_fifth_is_planned_however_late_the_schedule_comes() {
    let faults = Faults::new();
    let world = world(&faults);
    tokio::time::advance(std::time::Duration::from_secs(45)).await;
    let first = world.clock.now();
    let mut planned = Vec::new();
    for minute in 0..5 {
        let lateness_s = [0, 14, 3, 0, 9][minute];
        tokio::time::advance(std::time::Duration::from_secs(lateness_s)).await;
        let scheduled_at = first.plus_ms(60_000 * u64::try_from(minute).unwrap());
        world.service.plan(Some(scheduled_at)).await.unwrap();
        let sent = world.refreshes.take();
        assert_eq!(sent.len(), 2);
        for message in &sent {
            assert!(world.clock.now() <= message.not_before, "nothing is due when it is planned");
        }
        planned.extend(sent.into_iter().map(|message| (message.location_id, message.not_before)));
        tokio::time::advance(std::time::Duration::from_secs(60 - lateness_s)).await;
    }
    let mut names: Vec<&String> = planned.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 10);
    let mut moments: Vec<Timestamp> = planned.iter().map(|(_, at)| *at).collect();
    moments.sort();
    assert!(moments.windows(2).all(|pair| pair[0].ms_until(pair[1]) == 30_000), "{moments:?}");
}

#[tokio::test(start_paused = true)]
async fn a_schedule_without_a_time_plans_from_now_and_a_failed_entry_is_an_error() {
    let faults = Faults::new();
    let world = world(&faults);
    for odd in [None, Some(Timestamp::EPOCH), Some(world.clock.now().plus_ms(3_600_000))] {
        world.service.plan(odd).await.unwrap();
        let sent = world.refreshes.take();
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|message| world.clock.now().ms_until(message.not_before) <= 75_000));
    }
    faults.always("refreshes.send", Fault::FailEntry(1));
    assert!(world.service.plan(None).await.is_err());
    assert_eq!(world.refreshes.take().len(), 1, "the others are sent");
}
