//! The circuit breakers of providers: shared by all instances, remembered for a second by each.
//!
//! Five failures in a row open a circuit. For 30 s nothing is sent; then one attempt of all instances
//! together, the probe, decides whether it closes or stays open for as long again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holdfast_domain::{AttemptError, AttemptOutcome, ProviderId, Timestamp};
use tokio::time::timeout;

use crate::metrics::BREAKER_CHANGES;
use crate::ports::{AttemptReport, BreakerStore, StoreError};
use crate::settings::BreakerState;

/// Failures in a row that open a circuit.
pub const FAILURE_THRESHOLD: u32 = 5;
/// For how long an open circuit lets nothing through, in milliseconds.
pub const OPEN_MS: u64 = 30_000;
/// How old a state may be when something is sent, in milliseconds.
const MAX_AGE_MS: u64 = 1_000;
/// How long reading or writing a state may hold up a request. The breaker protects; it must not harm.
const STORE_LIMIT: Duration = Duration::from_millis(250);
/// The most providers whose state a process remembers.
const MAX_REMEMBERED: usize = 10_000;

/// What a breaker says of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// The circuit is closed: go on.
    Closed,
    /// The circuit is open and this attempt is the one probe.
    Probe {
        /// The end of the probe's lease.
        until: Timestamp,
    },
    /// The circuit is open: send nothing before this time.
    Open {
        /// When to ask again.
        until: Timestamp,
    },
}

/// Ages are told by the wall clock: a process that was frozen wakes with the right time of day, whereas its
/// monotonic clock may have stood still.
struct Remembered {
    state: BreakerState,
    at: Timestamp,
}

/// The breakers, over their store.
pub struct Breakers<B> {
    store: B,
    remembered: Mutex<HashMap<ProviderId, Remembered>>,
}

impl<B> std::fmt::Debug for Breakers<B> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Breakers")
    }
}

impl<B: BreakerStore> Breakers<B> {
    /// What they are kept in.
    pub fn store(&self) -> &B {
        &self.store
    }

    /// Breakers that nothing is known of yet.
    pub fn new(store: B) -> Self {
        Self { store, remembered: Mutex::new(HashMap::new()) }
    }

    /// Takes note of a state that was read at a time together with something else.
    pub fn remember(&self, provider_id: &ProviderId, state: BreakerState, at: Timestamp) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED && !remembered.contains_key(provider_id) {
            remembered.clear();
        }
        remembered.insert(provider_id.clone(), Remembered { state, at });
    }

    fn recall(&self, provider_id: &ProviderId) -> Option<(BreakerState, Timestamp)> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(provider_id).map(|known| (known.state, known.at))
    }

    /// The state of a circuit that was not closed when last seen; `None` if nothing speaks against an
    /// attempt as far as is known. Only a probe closes an open circuit, so that until its time is over
    /// this needs no asking.
    pub fn known_open(&self, provider_id: &ProviderId) -> Option<BreakerState> {
        let (state, _) = self.recall(provider_id)?;
        state.open_until.is_some().then_some(state)
    }

    /// Asks the store unless the state is fresh. Meant to run beside another call. A store that does not
    /// answer leaves what was known.
    pub async fn refresh(&self, provider_id: &ProviderId, now: Timestamp) -> BreakerState {
        if let Some((state, at)) = self.recall(provider_id)
            && at <= now
            && at.ms_until(now) < MAX_AGE_MS
        {
            return state;
        }
        self.ask(provider_id, now).await
    }

    /// Asks the store. One that does not answer leaves what was known.
    async fn ask(&self, provider_id: &ProviderId, now: Timestamp) -> BreakerState {
        match within_limit(provider_id, "Reading a breaker's state", self.store.read(provider_id)).await {
            Some(state) => {
                self.remember(provider_id, state, now);
                state
            }
            None => self.recall(provider_id).map_or_else(BreakerState::default, |(state, _)| state),
        }
    }

    /// Whether something may be sent, given a fresh state. Takes the probe's lease if the circuit's time
    /// is over; `probe_ms` is how long the probe may take.
    pub async fn permit(
        &self,
        provider_id: &ProviderId,
        state: BreakerState,
        now: Timestamp,
        probe_ms: u64,
    ) -> Permit {
        let Some(open_until) = state.open_until else { return Permit::Closed };
        if open_until > now {
            return Permit::Open { until: open_until };
        }
        let probe_until = now.plus_ms(probe_ms);
        match timeout(STORE_LIMIT, self.store.try_probe(provider_id, now, probe_until)).await {
            Ok(Ok(true)) => Permit::Probe { until: probe_until },
            // Somebody else has the probe, or the circuit was closed or opened again meanwhile.
            Ok(Ok(false)) => {
                let state = self.ask(provider_id, now).await;
                let Some(open_until) = state.open_until else { return Permit::Closed };
                let decided_at = state.probe_until.unwrap_or(open_until).max(open_until);
                Permit::Open { until: decided_at.max(now.plus_ms(MAX_AGE_MS)) }
            }
            Ok(Err(_)) | Err(_) => Permit::Open { until: now.plus_ms(MAX_AGE_MS) },
        }
    }

    /// Takes note of what came of an attempt. Meant to run beside the write that settles it.
    pub async fn record(
        &self,
        provider_id: &ProviderId,
        report: &AttemptReport,
        permit: Permit,
        now: Timestamp,
    ) {
        self.note(provider_id, verdict(&report.outcome), permit, now).await;
    }

    /// The same for a call that is no attempt: a look-up, a notification, a compensating cancel. `error` is
    /// `None` if the provider gave a usable answer.
    pub async fn record_call(
        &self,
        provider_id: &ProviderId,
        error: Option<AttemptError>,
        permit: Permit,
        now: Timestamp,
    ) {
        self.note(provider_id, error.map_or(Verdict::Success, verdict_of), permit, now).await;
    }

    async fn note(&self, provider_id: &ProviderId, verdict: Verdict, permit: Permit, now: Timestamp) {
        match verdict {
            Verdict::Failure => self.record_failure(provider_id, permit, now).await,
            Verdict::Success => {
                let had_failures = self
                    .recall(provider_id)
                    .is_some_and(|(state, _)| state.open_until.is_none() && state.consecutive_failures > 0);
                match permit {
                    Permit::Probe { .. } => self.close(provider_id, now).await,
                    Permit::Closed | Permit::Open { .. } if had_failures => {
                        self.forget_failures(provider_id, now).await;
                    }
                    Permit::Closed | Permit::Open { .. } => {}
                }
            }
            Verdict::Neither => self.release(provider_id, permit).await,
        }
    }

    /// Gives back the lease of a probe that came to nothing, so that another attempt may be it.
    pub async fn release(&self, provider_id: &ProviderId, permit: Permit) {
        let Permit::Probe { until } = permit else { return };
        let write = self.store.release_probe(provider_id, until);
        within_limit(provider_id, "Giving back a circuit's probe", write).await;
    }

    async fn record_failure(&self, provider_id: &ProviderId, permit: Permit, now: Timestamp) {
        let write = self.store.record_failure(provider_id, FAILURE_THRESHOLD, now.plus_ms(OPEN_MS));
        if let Some(state) = within_limit(provider_id, "Counting a provider's failure", write).await {
            if state.consecutive_failures == FAILURE_THRESHOLD {
                tracing::warn!(provider.id = %provider_id, "The provider's circuit is open.");
                BREAKER_CHANGES.record(["opened"], 1);
            } else if matches!(permit, Permit::Probe { .. }) {
                BREAKER_CHANGES.record(["reopened"], 1);
            }
            self.remember(provider_id, state, now);
        }
    }

    async fn close(&self, provider_id: &ProviderId, now: Timestamp) {
        let write = self.store.close(provider_id);
        if within_limit(provider_id, "Closing a provider's circuit", write).await.is_some() {
            tracing::info!(provider.id = %provider_id, "The provider's circuit is closed.");
            BREAKER_CHANGES.record(["closed"], 1);
            self.remember(provider_id, BreakerState::default(), now);
        }
    }

    async fn forget_failures(&self, provider_id: &ProviderId, now: Timestamp) {
        let write = self.store.forget_failures(provider_id);
        if within_limit(provider_id, "Forgetting a provider's failures", write).await.is_some() {
            self.remember(provider_id, BreakerState::default(), now);
        }
    }
}

/// The outcome of a call to the store, unless it fails or takes too long; then that is logged and that is all.
async fn within_limit<T>(
    provider_id: &ProviderId,
    what: &str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Option<T> {
    match timeout(STORE_LIMIT, call).await {
        Ok(Ok(outcome)) => Some(outcome),
        Ok(Err(error)) => {
            tracing::warn!(provider.id = %provider_id, %error, "{what} failed.");
            None
        }
        Err(_) => {
            tracing::warn!(provider.id = %provider_id, "{what} took too long.");
            None
        }
    }
}

enum Verdict {
    Success,
    Failure,
    Neither,
}

/// What an outcome says of the provider's health.
fn verdict(outcome: &AttemptOutcome) -> Verdict {
    match outcome {
        AttemptOutcome::Acknowledged(_) | AttemptOutcome::Declined(_) => Verdict::Success,
        AttemptOutcome::NotSent(error) | AttemptOutcome::Unknown(error) => verdict_of(*error),
    }
}

fn verdict_of(error: AttemptError) -> Verdict {
    match error {
        AttemptError::AcceptedForLater => Verdict::Success,
        // The provider is up and asks for less, or nothing was tried at all.
        AttemptError::HttpStatus(409 | 425 | 429)
        | AttemptError::CircuitOpen
        | AttemptError::LimitReached
        | AttemptError::LeaseOver
        | AttemptError::WorkerLost => Verdict::Neither,
        AttemptError::ConnectionFailed
        | AttemptError::TargetRefused
        | AttemptError::TimedOut
        | AttemptError::ConnectionLost
        | AttemptError::HttpStatus(_)
        | AttemptError::Misconfigured(_)
        | AttemptError::UnusableAnswer => Verdict::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::MemorySettings;

    fn at(ms: u64) -> Timestamp {
        Timestamp::EPOCH.plus_ms(1_800_000_000_000 + ms)
    }

    fn id(number: usize) -> ProviderId {
        ProviderId::parse(&format!("p{number}")).unwrap()
    }

    fn open() -> BreakerState {
        BreakerState { open_until: Some(at(60_000)), ..BreakerState::default() }
    }

    #[test]
    fn memory_is_bounded_and_what_is_in_it_is_renewed_in_its_place() {
        let breakers = Breakers::new(MemorySettings::new());
        for number in 0..MAX_REMEMBERED {
            breakers.remember(&id(number), BreakerState::default(), at(0));
        }
        breakers.remember(&id(1), open(), at(1));
        assert_eq!(breakers.known_open(&id(1)), Some(open()));
        assert_eq!(breakers.recall(&id(2)), Some((BreakerState::default(), at(0))), "nothing was forgotten");
        breakers.remember(&id(MAX_REMEMBERED), open(), at(2));
        assert_eq!(breakers.recall(&id(2)), None, "it starts over");
        assert_eq!(breakers.known_open(&id(MAX_REMEMBERED)), Some(open()));
    }

    #[tokio::test]
    async fn a_state_is_believed_for_less_than_a_second() {
        let breakers = Breakers::new(MemorySettings::new());
        for (age_ms, expected) in
            [(0, open()), (MAX_AGE_MS - 1, open()), (MAX_AGE_MS, BreakerState::default())]
        {
            breakers.remember(&id(1), open(), at(0));
            assert_eq!(breakers.refresh(&id(1), at(age_ms)).await, expected, "after {age_ms} ms");
        }
    }

    #[tokio::test]
    async fn a_probe_that_came_to_nothing_is_free_for_somebody_else() {
        let breakers = Breakers::new(MemorySettings::new());
        for _ in 0..FAILURE_THRESHOLD {
            breakers.record_call(&id(1), Some(AttemptError::TimedOut), Permit::Closed, at(0)).await;
        }
        let now = at(OPEN_MS);
        let state = breakers.refresh(&id(1), now).await;
        let probe = breakers.permit(&id(1), state, now, 5_000).await;
        assert_eq!(probe, Permit::Probe { until: now.plus_ms(5_000) });
        assert!(matches!(breakers.permit(&id(1), state, now, 5_000).await, Permit::Open { .. }));
        breakers.release(&id(1), probe).await;
        assert_eq!(
            breakers.permit(&id(1), state, now, 6_000).await,
            Permit::Probe { until: now.plus_ms(6_000) }
        );
    }
}
