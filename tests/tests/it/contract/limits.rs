//! What every store of the limits on providers promises.

use futures_util::{StreamExt, stream};
use holdfast_app::ports::{LimitStore, MAX_WINDOW_LEAD_S, PlaceLease, TakenCalls, WantedCalls};
use holdfast_app::test_util::MemorySettings;
use holdfast_domain::{ProviderId, Timestamp};

use super::fixtures::{now, provider_id};

/// A second, since the Unix epoch.
const WINDOW_S: i64 = 1_795_000_000;

/// How many take at once. Each needs a connection of its own, which a busy machine makes slowly.
const RACERS: usize = 12;

/// The places of the provider.
const PLACES: u32 = 3;

on_both!(
    MemorySettings::new(), settings;
    a_window_has_its_calls_and_no_more,
    a_race_takes_exactly_what_a_window_has,
    a_race_in_chunks_takes_exactly_what_a_window_has,
    a_later_window_begins_afresh,
    a_window_that_is_begun_is_gone_on_with,
    a_window_of_a_clock_gone_wrong_is_given_up,
    a_capacity_may_change_within_a_window,
    providers_have_limits_of_their_own,
    places_are_bounded,
    a_race_takes_exactly_the_places_there_are,
    a_place_is_given_back_once,
    leases_that_are_over_are_in_nobodys_way,
    a_race_for_places_of_dead_workers_fills_them_once,
    who_asks_again_keeps_the_place,
);

fn wanting(calls: u32, capacity: u32) -> WantedCalls {
    WantedCalls { window_s: WINDOW_S, is_begun: false, calls, capacity }
}

fn taken(taken: u32) -> TakenCalls {
    TakenCalls { window_s: WINDOW_S, taken }
}

async fn take(store: &impl LimitStore, wanted: WantedCalls) -> TakenCalls {
    store.take_calls(&provider_id(), &wanted).await.unwrap()
}

async fn a_window_has_its_calls_and_no_more(store: &impl LimitStore) {
    assert_eq!(take(store, wanting(4, 10)).await, taken(4));
    let begun = WantedCalls { is_begun: true, ..wanting(4, 10) };
    assert_eq!(take(store, begun).await, taken(4));
    assert_eq!(take(store, begun).await, taken(2));
    assert_eq!(take(store, begun).await, taken(0));
    assert_eq!(take(store, wanting(1, 10)).await, taken(0));
}

async fn race(store: &impl LimitStore, calls: u32, capacity: u32) -> u32 {
    let takes = (0..50).map(|task| {
        let wanted = WantedCalls { is_begun: task % 3 == 0, ..wanting(calls, capacity) };
        take(store, wanted)
    });
    let all: Vec<TakenCalls> = stream::iter(takes).buffer_unordered(RACERS).collect().await;
    assert!(all.iter().all(|took| took.window_s == WINDOW_S && took.taken <= calls));
    all.iter().map(|took| took.taken).sum()
}

async fn a_race_takes_exactly_what_a_window_has(store: &impl LimitStore) {
    assert_eq!(race(store, 1, 20).await, 20);
    assert_eq!(race(store, 1, 20).await, 0);
}

async fn a_race_in_chunks_takes_exactly_what_a_window_has(store: &impl LimitStore) {
    assert_eq!(race(store, 3, 25).await, 25);
}

async fn a_later_window_begins_afresh(store: &impl LimitStore) {
    assert_eq!(take(store, wanting(5, 5)).await, taken(5));
    for is_begun in [false, true] {
        let window_s = WINDOW_S + 1 + i64::from(is_begun);
        let next = WantedCalls { window_s, is_begun, ..wanting(5, 5) };
        assert_eq!(take(store, next).await, TakenCalls { window_s, taken: 5 }, "is_begun: {is_begun}");
        assert_eq!(take(store, next).await, TakenCalls { window_s, taken: 0 }, "is_begun: {is_begun}");
    }
}

async fn a_window_that_is_begun_is_gone_on_with(store: &impl LimitStore) {
    let window_s = WINDOW_S + MAX_WINDOW_LEAD_S;
    let ahead = WantedCalls { window_s, ..wanting(2, 3) };
    assert_eq!(take(store, ahead).await, TakenCalls { window_s, taken: 2 });
    assert_eq!(take(store, wanting(2, 3)).await, TakenCalls { window_s, taken: 1 });
    assert_eq!(take(store, wanting(2, 3)).await, TakenCalls { window_s, taken: 0 });
    assert_eq!(take(store, ahead).await, TakenCalls { window_s, taken: 0 });
}

async fn a_window_of_a_clock_gone_wrong_is_given_up(store: &impl LimitStore) {
    let window_s = WINDOW_S + MAX_WINDOW_LEAD_S + 1;
    let ahead = WantedCalls { window_s, ..wanting(2, 2) };
    assert_eq!(take(store, ahead).await, TakenCalls { window_s, taken: 2 });
    assert_eq!(take(store, wanting(1, 2)).await, taken(1));
    assert_eq!(take(store, wanting(2, 2)).await, taken(1));
}

async fn a_capacity_may_change_within_a_window(store: &impl LimitStore) {
    assert_eq!(take(store, wanting(3, 10)).await, taken(3));
    assert_eq!(take(store, wanting(3, 2)).await, taken(0));
    assert_eq!(take(store, wanting(3, 4)).await, taken(1));
    let next = WantedCalls { window_s: WINDOW_S + 1, ..wanting(3, 2) };
    assert_eq!(take(store, next).await.taken, 2);
}

async fn providers_have_limits_of_their_own(store: &impl LimitStore) {
    let other = ProviderId::parse("demo-lab").unwrap();
    assert_eq!(take(store, wanting(1, 1)).await, taken(1));
    assert_eq!(store.take_calls(&other, &wanting(1, 1)).await.unwrap(), taken(1));
    assert!(place(store, 1).await);
    assert!(store.take_place(&other, &lease(1), 1, now()).await.unwrap());
    store.give_place_back(&other, &lease(1).id).await.unwrap();
    assert!(!store.take_place(&provider_id(), &lease(2), 1, now()).await.unwrap());
}

fn lease(number: u32) -> PlaceLease {
    PlaceLease { id: format!("{number:016x}"), until: now().plus_ms(10_000) }
}

async fn place_at(store: &impl LimitStore, lease: &PlaceLease, at: Timestamp) -> bool {
    store.take_place(&provider_id(), lease, PLACES, at).await.unwrap()
}

async fn place(store: &impl LimitStore, number: u32) -> bool {
    place_at(store, &lease(number), now()).await
}

async fn places_are_bounded(store: &impl LimitStore) {
    for number in 1..=PLACES {
        assert!(place(store, number).await, "{number}");
    }
    assert!(!place(store, PLACES + 1).await);
}

async fn race_for_places(store: &impl LimitStore, at: Timestamp) -> usize {
    let (store, until) = (&store, at.plus_ms(10_000));
    let takes = (100..150).map(|number| async move {
        let lease = PlaceLease { until, ..lease(number) };
        store.take_place(&provider_id(), &lease, PLACES, at).await.unwrap()
    });
    let all: Vec<bool> = stream::iter(takes).buffer_unordered(RACERS).collect().await;
    all.into_iter().filter(|taken| *taken).count()
}

async fn a_race_takes_exactly_the_places_there_are(store: &impl LimitStore) {
    assert_eq!(race_for_places(store, now()).await, PLACES as usize);
}

async fn a_place_is_given_back_once(store: &impl LimitStore) {
    let give = async |number| store.give_place_back(&provider_id(), &lease(number).id).await.unwrap();
    give(1).await;
    for number in 1..=PLACES {
        assert!(place(store, number).await);
    }
    give(1).await;
    give(1).await;
    give(9).await;
    assert!(place(store, 4).await);
    assert!(!place(store, 5).await);
}

async fn leases_that_are_over_are_in_nobodys_way(store: &impl LimitStore) {
    let until = now().plus_ms(1_000);
    let (short, long) =
        (PlaceLease { until, ..lease(1) }, PlaceLease { until: until.plus_ms(1), ..lease(2) });
    assert!(place_at(store, &short, now()).await);
    assert!(place_at(store, &long, now()).await);
    assert!(place(store, 3).await);
    assert!(!place_at(store, &lease(4), until.minus_ms(1)).await);
    assert!(place_at(store, &lease(4), until).await);
    assert!(!place_at(store, &lease(5), until).await);
    // A worker that comes back late gives back what is somebody else's no more than its own.
    store.give_place_back(&provider_id(), &short.id).await.unwrap();
    assert!(!place_at(store, &lease(5), until).await);
    assert!(place_at(store, &lease(5), long.until).await);
}

async fn a_race_for_places_of_dead_workers_fills_them_once(store: &impl LimitStore) {
    for number in 1..=PLACES {
        assert!(place(store, number).await);
    }
    assert_eq!(race_for_places(store, lease(1).until).await, PLACES as usize);
}

async fn who_asks_again_keeps_the_place(store: &impl LimitStore) {
    for number in 1..=PLACES {
        assert!(place(store, number).await);
    }
    assert!(place(store, 1).await);
    store.give_place_back(&provider_id(), &lease(2).id).await.unwrap();
    assert!(place(store, 1).await);
    assert!(place(store, 4).await);
    assert!(!place(store, 5).await);
}
