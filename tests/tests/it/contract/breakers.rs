//! What every store of breakers promises.

use futures_util::future::join_all;
use holdfast_app::ports::{BreakerStore, Loaded, SettingsReader, Wanted};
use holdfast_app::settings::BreakerState;
use holdfast_app::test_util::MemorySettings;

use super::fixtures::{now, provider_id};

const THRESHOLD: u32 = 5;
const OPEN_MS: u64 = 30_000;

on_both!(
    MemorySettings::new(), settings;
    the_last_failure_of_a_row_opens_the_circuit,
    every_failure_of_many_counts,
    a_success_closes_the_circuit,
    failures_are_forgotten_only_while_the_circuit_is_closed,
    a_probe_is_given_back_by_its_holder_alone,
    a_failure_may_be_enough,
    one_of_many_probes_goes,
    a_probe_ends_with_its_lease_or_with_a_failure,
    a_closed_circuit_has_no_probe,
);

async fn fail(store: &impl BreakerStore, times: u32) -> BreakerState {
    let mut state = BreakerState::default();
    for _ in 0..times {
        state = store.record_failure(&provider_id(), THRESHOLD, now().plus_ms(OPEN_MS)).await.unwrap();
    }
    state
}

async fn the_last_failure_of_a_row_opens_the_circuit(store: &(impl BreakerStore + SettingsReader)) {
    assert_eq!(store.read(&provider_id()).await.unwrap(), BreakerState::default());
    let closed = fail(store, THRESHOLD - 1).await;
    assert_eq!(closed, BreakerState { consecutive_failures: 4, open_until: None, probe_until: None });
    let open = fail(store, 1).await;
    let open_until = Some(now().plus_ms(OPEN_MS));
    assert_eq!(open, BreakerState { consecutive_failures: 5, open_until, probe_until: None });
    assert_eq!(store.read(&provider_id()).await.unwrap(), open);
    let wanted = Wanted { provider_id: Some(provider_id()), ..Wanted::default() };
    let Loaded { breaker, .. } = store.load(&wanted).await.unwrap();
    assert_eq!(breaker, open);
}

async fn every_failure_of_many_counts(store: &impl BreakerStore) {
    join_all((0..12).map(|_| fail(store, 1))).await;
    let state = store.read(&provider_id()).await.unwrap();
    assert_eq!((state.consecutive_failures, state.open_until), (12, Some(now().plus_ms(OPEN_MS))));
}

async fn a_success_closes_the_circuit(store: &impl BreakerStore) {
    store.close(&provider_id()).await.unwrap();
    fail(store, THRESHOLD).await;
    store.close(&provider_id()).await.unwrap();
    assert_eq!(store.read(&provider_id()).await.unwrap(), BreakerState::default());
    assert_eq!(fail(store, 1).await.consecutive_failures, 1);
}

async fn failures_are_forgotten_only_while_the_circuit_is_closed(store: &impl BreakerStore) {
    store.forget_failures(&provider_id()).await.unwrap();
    fail(store, THRESHOLD - 1).await;
    store.forget_failures(&provider_id()).await.unwrap();
    assert_eq!(store.read(&provider_id()).await.unwrap(), BreakerState::default());
    let open = fail(store, THRESHOLD).await;
    store.forget_failures(&provider_id()).await.unwrap();
    assert_eq!(store.read(&provider_id()).await.unwrap(), open);
}

async fn a_probe_is_given_back_by_its_holder_alone(store: &impl BreakerStore) {
    fail(store, THRESHOLD).await;
    let over = now().plus_ms(OPEN_MS);
    let until = over.plus_ms(10_000);
    assert!(store.try_probe(&provider_id(), over, until).await.unwrap());
    store.release_probe(&provider_id(), until.plus_ms(1)).await.unwrap();
    assert!(!store.try_probe(&provider_id(), over, until).await.unwrap());
    store.release_probe(&provider_id(), until).await.unwrap();
    assert!(store.try_probe(&provider_id(), over, until).await.unwrap());
}

async fn a_failure_may_be_enough(store: &impl BreakerStore) {
    let open_until = now().plus_ms(OPEN_MS);
    let open = store.record_failure(&provider_id(), 1, open_until).await.unwrap();
    assert_eq!((open.consecutive_failures, open.open_until), (1, Some(open_until)));
}

async fn one_of_many_probes_goes(store: &impl BreakerStore) {
    fail(store, THRESHOLD).await;
    let over = now().plus_ms(OPEN_MS);
    let early = now().plus_ms(OPEN_MS - 1);
    assert!(!store.try_probe(&provider_id(), early, early.plus_ms(10_000)).await.unwrap());
    let (provider, until) = (&provider_id(), over.plus_ms(10_000));
    let probes = (0..20).map(|_| async move { store.try_probe(provider, over, until).await.unwrap() });
    assert_eq!(join_all(probes).await.into_iter().filter(|taken| *taken).count(), 1);
    assert_eq!(store.read(provider).await.unwrap().probe_until, Some(until));
}

async fn a_probe_ends_with_its_lease_or_with_a_failure(store: &impl BreakerStore) {
    fail(store, THRESHOLD).await;
    let over = now().plus_ms(OPEN_MS);
    let until = over.plus_ms(10_000);
    assert!(store.try_probe(&provider_id(), over, until).await.unwrap());
    assert!(!store.try_probe(&provider_id(), over.plus_ms(9_999), until.plus_ms(1)).await.unwrap());
    assert!(store.try_probe(&provider_id(), until, until.plus_ms(10_000)).await.unwrap());
    // The probe fails: the circuit is open again and nobody's lease is left.
    let open_until = until.plus_ms(OPEN_MS);
    let failed = store.record_failure(&provider_id(), THRESHOLD, open_until).await.unwrap();
    assert_eq!((failed.open_until, failed.probe_until), (Some(open_until), None));
    assert!(!store.try_probe(&provider_id(), until.plus_ms(1), open_until).await.unwrap());
    assert!(store.try_probe(&provider_id(), open_until, open_until.plus_ms(1)).await.unwrap());
}

async fn a_closed_circuit_has_no_probe(store: &impl BreakerStore) {
    assert!(!store.try_probe(&provider_id(), now(), now().plus_ms(1)).await.unwrap());
    fail(store, THRESHOLD - 1).await;
    assert!(!store.try_probe(&provider_id(), now(), now().plus_ms(1)).await.unwrap());
}
