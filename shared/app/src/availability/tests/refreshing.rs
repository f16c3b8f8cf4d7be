//! What keeps memory fresh.

use holdfast_domain::{AttemptError, ProviderId, Timestamp, Zone};

use super::*;
use crate::availability::{Learned, REFRESH_PERIOD_MS, Refreshed, refresh_messages, signing_secret};
use crate::ports::{ConfigurationStore, RefreshMessage, SettingsReader, StoreError, Wanted};
use crate::settings::AvailabilitySource;
use crate::settings_cache::SettingsCache;
use crate::test_util::Fault;

fn message(name: &str, not_before: Timestamp) -> RefreshMessage {
    RefreshMessage {
        provider_id: "clinic".to_owned(),
        location_id: name.to_owned(),
        not_before,
        postponed: 0,
    }
}

impl World {
    async fn refresh(&self, name: &str) -> Result<Refreshed, StoreError> {
        self.refresh_by(&message(name, self.clock.now())).await
    }

    async fn refresh_by(&self, message: &RefreshMessage) -> Result<Refreshed, StoreError> {
        self.availability.refresh(message, &SettingsCache::new(self.settings.clone())).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_again_is_one_small_write() {
    let world = World::new(&["a"]);
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Changed)));
    for _ in 0..3 {
        advance_s(300).await;
        assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Same)));
        let remembered = world.store.remembered(&place("a")).availability.unwrap();
        assert_eq!(remembered.as_of, world.clock.now());
    }
    world.provider.open("a", three_days().split_off(1));
    advance_s(300).await;
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Changed)));
    let calls = world.store.faults().calls();
    let writes: Vec<&&str> = calls.iter().filter(|call| **call != "availability.read").collect();
    assert_eq!(writes.len(), 5, "{calls:?}");
    assert_eq!(writes.iter().filter(|call| ***call == "availability.confirm").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_since_is_no_change_and_another_day_is() {
    let world = World::new(&["a"]);
    world.refresh("a").await.unwrap();
    // At 09:00 the first slot begins, and the provider leaves it out.
    advance_s(3_600 + 60).await;
    world.provider.open("a", three_days().split_off(1));
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Same)));
    // At 23:00 UTC another day begins in Rome.
    advance_s(14 * 3_600).await;
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Changed)));
    let window = world.store.remembered(&place("a")).availability.unwrap().window;
    assert_eq!(window.from, at("2027-01-15T23:00:00Z"));
    assert_eq!(window.to, at("2027-02-06T23:00:00Z"));
}

#[tokio::test(start_paused = true)]
async fn who_was_asked_shortly_before_is_not_asked_again() {
    let world = World::new(&["a"]);
    world.open(&["a"], false).await.unwrap();
    world.provider.take_asked();
    advance_s(149).await;
    assert_eq!(world.refresh("a").await, Ok(Refreshed::NotNeeded));
    advance_s(1).await;
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Same)));
    // Unless its clocks are others now.
    let zone = Zone::parse("Europe/London").unwrap();
    world.settings.add_location(&clinic(), LocationSettings { zone, ..location("a") });
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Changed)));
    assert_eq!(world.provider.take_asked().len(), 2);
    // Clocks that show the same today may be others tomorrow.
    let zone = Zone::parse("Europe/Dublin").unwrap();
    world.settings.add_location(&clinic(), LocationSettings { zone: zone.clone(), ..location("a") });
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Changed)));
    assert_eq!(world.store.remembered(&place("a")).availability.unwrap().zone, zone);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_of_the_time_at_which_it_was_asked_for() {
    let world = World::new(&["a"]);
    world.provider.delay("a", 4_000);
    world.refresh("a").await.unwrap();
    let asked_at = at(NOW);
    assert_eq!(world.clock.now(), asked_at.plus_ms(4_000));
    assert_eq!(world.store.remembered(&place("a")).availability.unwrap().as_of, asked_at);
}

#[tokio::test(start_paused = true)]
async fn places_in_flight_are_given_back() {
    let world = World::with(&["a"], |provider| provider.max_attempts_in_flight = Some(1));
    world.provider.fail("a", Some(AttemptError::TimedOut));
    world.open(&["a"], false).await.unwrap_err();
    world.provider.fail("a", None);
    assert_eq!(sources(&world.open(&["a"], false).await.unwrap()), ["live"]);
    assert_eq!(world.settings.places_taken(&clinic()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_location_that_fails_is_left_alone_for_longer_and_longer_and_recovers() {
    let world = World::new(&["a", "b"]);
    world.provider.fail("a", Some(AttemptError::HttpStatus(500)));
    let mut asked = Vec::new();
    for round in 0..40 {
        if world.refresh("a").await == Ok(Refreshed::Failed) {
            asked.push(round);
        }
        advance_s(REFRESH_PERIOD_MS / 1_000).await;
    }
    // After 5, 10, 20 and 40 minutes, then every hour.
    assert_eq!(asked, [0, 1, 3, 7, 15, 27, 39]);
    assert_eq!(world.refresh("b").await, Ok(Refreshed::Asked(Learned::Changed)), "nobody else notices");
    world.provider.fail("a", None);
    advance_s(3_600).await;
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Changed)));
    world.provider.fail("a", Some(AttemptError::TimedOut));
    advance_s(300).await;
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Failed));
    advance_s(300).await;
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Failed), "it begins anew");
    // Whoever asks for it live is not kept from it, and that it works again is noticed.
    world.provider.fail("a", None);
    world.open(&["a"], false).await.unwrap();
    advance_s(300).await;
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Same)));
}

#[tokio::test(start_paused = true)]
async fn messages_come_early_late_twice_or_for_what_is_gone() {
    let world = World::new(&["a"]);
    let early = message("a", world.clock.now().plus_ms(1));
    assert_eq!(world.refresh_by(&early).await, Ok(Refreshed::PassOn(early.clone())));
    assert_eq!(world.refresh("gone").await, Ok(Refreshed::NotNeeded));
    assert_eq!(world.refresh("not a location").await, Ok(Refreshed::NotNeeded));
    let elsewhere = RefreshMessage { provider_id: "elsewhere".to_owned(), ..message("a", world.clock.now()) };
    assert_eq!(world.refresh_by(&elsewhere).await, Ok(Refreshed::NotNeeded));
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Changed)));
    assert_eq!(world.refresh("a").await, Ok(Refreshed::NotNeeded));
    assert_eq!(world.provider.take_asked(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_at_its_limit_is_asked_a_little_later_and_at_last_in_the_next_round() {
    let world = World::with(&["a", "b"], |provider| provider.requests_per_second = Some(1));
    assert_eq!(world.refresh("a").await, Ok(Refreshed::Asked(Learned::Changed)));
    let Ok(Refreshed::PassOn(mut later)) = world.refresh("b").await else { panic!() };
    assert_eq!(later.postponed, 1);
    let wait_ms = world.clock.now().ms_until(later.not_before);
    assert!((1..6_000).contains(&wait_ms), "{wait_ms}");
    later = RefreshMessage { not_before: world.clock.now(), postponed: 10, ..later };
    assert_eq!(world.refresh_by(&later).await, Ok(Refreshed::NotNeeded));
    advance_s(1).await;
    assert_eq!(world.refresh_by(&later).await, Ok(Refreshed::Asked(Learned::Changed)));
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_leaves_what_was_said_before() {
    for operation in ["availability.read", "availability.replace", "availability.confirm"] {
        for fault in [Fault::StopBefore, Fault::FailBefore, Fault::FailAfter] {
            let world = World::new(&["a"]);
            world.refresh("a").await.unwrap();
            advance_s(300).await;
            if operation == "availability.replace" {
                world.provider.open("a", three_days().split_off(1));
            }
            world.store.faults().next(operation, fault);
            let refresh = tokio::time::timeout(std::time::Duration::from_mins(1), world.refresh("a"));
            let _outcome = refresh.await;
            world.store.faults().heal();
            let known = world.store.remembered(&place("a")).availability.unwrap();
            let is_whole = known.slots == three_days() || known.slots == three_days().split_off(1);
            assert!(is_whole, "{operation} {fault:?}");
            assert_eq!(
                known.as_of == world.clock.now(),
                fault == Fault::FailAfter && operation != "availability.read"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_can_be_asked_is_planned_and_one_that_cannot_be_read_fails_nobody_else() {
    let world = World::new(&["a", "b", "c"]);
    let other = ProviderId::parse("other").unwrap();
    let pushes = ProviderSettings {
        availability: AvailabilitySource::Push,
        ..ProviderSettings::usual(other.clone(), Mode::Test, "https://other.example")
    };
    world.settings.put_provider(&pushes).await.unwrap();
    world.settings.add_location(&other, location("d"));
    let mut planned: Vec<String> = Vec::new();
    for _ in 0..5 {
        let (messages, failure) = refresh_messages(&world.settings, world.clock.now()).await;
        assert_eq!(failure, None);

        for message in &messages {
            assert!(world.clock.now().ms_until(message.not_before) < 60_000);
        }
        planned.extend(messages.into_iter().map(|message| message.location_id));
        advance_s(60).await;
    }
    planned.sort();
    assert_eq!(planned, ["a", "b", "c"]);
    let third = ProviderId::parse("third").unwrap();
    world.settings.add_provider(ProviderSettings::usual(third.clone(), Mode::Test, "https://third.example"));
    world.settings.add_location(&third, location("e"));
    world.settings.faults().next("locations.locations", Fault::FailBefore);
    let (_, failure) = refresh_messages(&world.settings, world.clock.now()).await;
    assert!(failure.is_some());
    world.settings.faults().always("configuration.providers", Fault::FailBefore);
    let (messages, failure) = refresh_messages(&world.settings, world.clock.now()).await;
    assert!(messages.is_empty() && failure.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_made_once_however_many_need_it_and_anew_each_month() {
    let world = World::new(&[]);
    let settings = SettingsCache::new(world.settings.clone());
    let entropy = SeededEntropy::new(5);
    let make = async |known: &[_]| {
        signing_secret(&settings, known, &world.settings, &entropy, world.clock.now()).await.unwrap()
    };
    let first = make(&[]).await;
    assert_eq!(make(&[]).await, first, "whoever comes later gets the first one's");
    advance_s(30 * 24 * 3_600 - 1).await;
    assert_eq!(make(std::slice::from_ref(&first)).await, first);
    advance_s(1).await;
    let second = make(std::slice::from_ref(&first)).await;
    assert_ne!((second.id, &second.key), (first.id, &first.key));
    let wanted = Wanted { booking_key_secrets: true, ..Wanted::default() };
    let kept = world.settings.load(&wanted).await.unwrap().booking_key_secrets;
    assert_eq!(kept, [second.clone(), first.clone()]);
    advance_s(31 * 24 * 3_600).await;
    let third = make(&kept).await;
    let kept = world.settings.load(&wanted).await.unwrap().booking_key_secrets;
    assert_eq!(kept, [third, second]);
}
