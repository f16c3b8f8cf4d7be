//! The faults of the ports in memory are what they say, for a simulation is worth no more than they are.

use std::time::Duration;

use holdfast_app::ports::{BookingStore, BreakerStore, Claim, Clock, Entropy, StoreError};
use holdfast_app::test_util::{Fault, Faults, MemoryBookingStore, MemorySettings, SeededEntropy, TestClock};
use holdfast_domain::Patience;

use super::fixtures::{claimed, confirmed, now, provider_id};

#[tokio::test]
async fn a_failure_before_does_nothing_and_one_after_does_all() {
    let store = MemoryBookingStore::new();
    let new = claimed("key", Patience::Synchronous);
    store.faults().next("bookings.claim", Fault::FailBefore);
    assert!(matches!(store.claim(&new).await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.item(&new.booking.id), None);
    store.faults().next("bookings.claim", Fault::FailAfter);
    assert!(matches!(store.claim(&new).await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.item(&new.booking.id), Some(new.clone()));
    assert_eq!(store.claim(&new).await, Ok(Claim::Taken(Box::new(new))));
    assert_eq!(store.changes_from(0).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_worker_goes_no_further() {
    const LONG: Duration = Duration::from_hours(1);
    let store = MemoryBookingStore::new();
    let new = claimed("key", Patience::Synchronous);
    store.faults().on("bookings.claim", 1, Fault::StopBefore);
    store.faults().on("bookings.claim", 2, Fault::StopAfter);
    assert!(tokio::time::timeout(LONG, store.claim(&new)).await.is_err());
    assert_eq!(store.item(&new.booking.id), None);
    assert!(tokio::time::timeout(LONG, store.claim(&new)).await.is_err());
    assert_eq!(store.item(&new.booking.id), Some(new));
}

#[tokio::test(start_paused = true)]
async fn delays_go_by_the_clock() {
    let clock = TestClock::starting_at(now());
    let store = MemoryBookingStore::new();
    let new = claimed("key", Patience::Synchronous);
    store.faults().always("bookings.read", Fault::DelayBefore(1_000));
    assert_eq!(store.read(&new.booking.id).await, Ok(None));
    assert_eq!(clock.now(), now().plus_ms(1_000));
    store.faults().heal();
    store.faults().next("bookings.claim", Fault::DelayAfter(500));
    assert_eq!(store.claim(&new).await, Ok(Claim::Claimed));
    assert_eq!(clock.now(), now().plus_ms(1_500));
    assert_eq!(clock.skewed_by_ms(-300_000).now(), now().plus_ms(1_500).minus_ms(300_000));
    assert_eq!(clock.skewed_by_ms(300_000).now(), now().plus_ms(301_500));
}

#[tokio::test]
async fn one_plan_counts_the_calls_of_several_ports() {
    let plan = Faults::new();
    let (bookings, settings) =
        (MemoryBookingStore::with_faults(plan.clone()), MemorySettings::with_faults(plan.clone()));
    let new = claimed("key", Patience::Synchronous);
    plan.on_call(3, Fault::FailBefore);
    bookings.claim(&new).await.unwrap();
    BreakerStore::read(&settings, &provider_id()).await.unwrap();
    assert!(bookings.replace(1, &confirmed(&new)).await.is_err());
    bookings.replace(1, &confirmed(&new)).await.unwrap();
    let calls = ["bookings.claim", "breaker.read", "bookings.replace", "bookings.replace"];
    assert_eq!(plan.calls(), calls);
    let changes = bookings.changes_from(1);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].old.as_ref(), changes[0].new.rev), (Some(&new), 2));
}

#[test]
fn a_seed_gives_one_sequence() {
    let draw = |seed| {
        let entropy = SeededEntropy::new(seed);
        (0..4).map(|_| entropy.u64()).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let entropy = SeededEntropy::new(1);
    assert_ne!(entropy.bytes16(), entropy.bytes16());
}
