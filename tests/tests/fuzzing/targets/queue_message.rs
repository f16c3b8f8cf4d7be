//! Messages of all queues: timers, hints of deliveries, replays, events from the bus, refreshes.
//!
//! Input: a digit (`0` timer, `1` what the webhook function reads, `2` refresh) and the message.

use holdfast_app::availability::Availability;
use holdfast_app::bookings::{Breakers, Engine};
use holdfast_app::ports::{RefreshMessage, TimerMessage};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::{
    MemoryAvailability, MemoryBookingStore, MemoryOpenings, MemoryProvider, MemoryRefreshes, MemorySettings,
    MemoryTimers, SeededEntropy, TestClock,
};
use holdfast_domain::BookingId;
use serde::Deserialize;
use serde_json::json;
use webhook::Incoming;

use super::{MARKER, choice, now, run};

pub(super) fn check(data: &[u8]) {
    let Some((queue, message)) = choice(data, 3) else { return };
    // A queue holds no text that is not UTF-8.
    let Ok(message) = std::str::from_utf8(message) else { return };
    match queue {
        0 => run(timer(message)),
        1 => for_webhook(message),
        _ => run(refresh(message)),
    }
}

/// A timer is worked on, passed on as it is, or fails; it is never armed anew for what it does not name.
async fn timer(message: &str) {
    let clock = TestClock::starting_at(now());
    let (settings, timers) = (MemorySettings::new(), MemoryTimers::new());
    let breakers = Breakers::new(settings.clone());
    let (store, provider) = (MemoryBookingStore::new(), MemoryProvider::new(clock));
    let engine = Engine::new(store, provider, breakers, clock, SeededEntropy::new(1));
    let service = retry::Service { engine, settings, timers: timers.clone(), clock };
    let read = serde_json::from_str::<TimerMessage>(message);
    match (service.on_message(message).await, read) {
        (Ok(()), Ok(read)) => {
            assert!(
                BookingId::parse(&read.booking_id).is_ok(),
                "it names no booking and would ring for ever"
            );
            let expected = if read.not_before > now() { vec![read.clone()] } else { Vec::new() };
            assert_eq!(timers.waiting(), expected, "a booking that is not there needs no timer");
            let written = serde_json::to_string(&read).expect("it is JSON");
            assert_eq!(serde_json::from_str::<TimerMessage>(&written).expect("it was written"), read);
        }
        (Err(error), read) => {
            assert!(read.is_err() || read.is_ok_and(|read| BookingId::parse(&read.booking_id).is_err()));
            assert!(!error.to_string().contains(MARKER), "the message is repeated: {error}");
            assert!(timers.waiting().is_empty());
        }
        (Ok(()), Err(error)) => panic!("{message} was taken for a timer: {error}"),
    }
}

/// What is looked at of an event. What else there is may be nested more deeply than can be read.
#[derive(Deserialize)]
struct GivenEvent {
    #[serde(rename = "detail-type")]
    detail_type: String,
    source: String,
    resources: Vec<String>,
    detail: GivenDetail,
}

#[derive(Deserialize)]
struct GivenDetail {
    id: String,
}

/// What is read of a message is what it says; of an event not a byte is changed.
fn for_webhook(message: &str) {
    match webhook::read(message) {
        Ok(Incoming::Event(event)) => {
            assert!(message.contains(&event.body), "a byte of the event was changed");
            let given: GivenEvent = serde_json::from_str(message).expect("it was read");
            assert_eq!(
                (given.source.as_str(), given.detail_type),
                (holdfast_aws::EVENT_SOURCE, event.event_type)
            );
            assert_eq!(given.detail.id, event.id.as_str());
            assert!(given.resources.contains(&format!("urn:holdfast:tenant:{}", event.tenant)));
        }
        Ok(Incoming::Hint(hint)) => {
            let written = serde_json::to_string(&hint).expect("it is JSON");
            assert_eq!(webhook::read(&written), Ok(Incoming::Hint(hint)));
        }
        Ok(Incoming::Replay(replay)) => {
            let written = json!({ "replay": replay }).to_string();
            assert_eq!(webhook::read(&written), Ok(Incoming::Replay(replay)));
        }
        Err(error) => assert!(!error.to_string().contains(MARKER), "the message is repeated: {error}"),
    }
}

/// A refresh is done with, passed on as it is, or fails.
async fn refresh(message: &str) {
    let clock = TestClock::starting_at(now());
    let (settings, refreshes) = (MemorySettings::new(), MemoryRefreshes::new());
    let (store, provider) = (MemoryAvailability::new(), MemoryOpenings::new());
    let availability =
        Availability::new(store, provider.clone(), settings.clone(), clock, SeededEntropy::new(1));
    let service = refresh::Service {
        availability,
        settings: SettingsCache::new(settings.clone()),
        configuration: settings,
        refreshes: refreshes.clone(),
        clock,
    };
    let read = serde_json::from_str::<RefreshMessage>(message);
    match (service.on_message(message).await, read) {
        (Ok(()), Ok(read)) => {
            let sent = refreshes.take();
            assert!(sent.is_empty() || (sent == [read.clone()] && read.not_before > now()), "{sent:?}");
        }
        (Err(error), Err(_)) => {
            assert!(!error.to_string().contains(MARKER), "the message is repeated: {error}");
        }
        (outcome, read) => panic!("{message}: {outcome:?} of {read:?}"),
    }
    assert!(provider.take_asked().is_empty(), "nobody is configured to be asked");
}
