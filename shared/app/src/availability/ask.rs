//! Asking a provider what is open at a location, and remembering what it says.
//!
//! Availability must not stand in the way of bookings: while a provider's circuit is open it is not asked, but
//! what comes of asking neither opens nor closes the circuit, since a provider may answer the one and not the
//! other. The provider's limits hold for both together.

use std::time::Duration;

use holdfast_domain::{AttemptError, LocationId, ProviderId, Timestamp, Window};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::memory::{Learned, learn, recall, remembered_window};
use crate::bookings::{Admission, Breakers, Limits, Ticket};
use crate::metrics::PROVIDER_CALL_TIME;
use crate::ports::{
    AvailabilityCall, AvailabilityFailure, AvailabilityGateway, AvailabilityStore, BreakerStore, Clock,
    Entropy, KnownAvailability, LimitStore, LocationStore, Place, Remembered, StoreError,
};
use crate::settings::{LocationSettings, ProviderSettings};
use crate::settings_cache::BreakerReading;

/// The shortest time that a provider is still asked within, in milliseconds.
const MIN_ASK_MS: u64 = 250;

/// The part of a provider's limits that asking for availability may use: one of two.
const SHARE_OF_LIMITS: u32 = 2;

/// How long what was said may take to be remembered, in milliseconds, before it is shown all the same.
const LEARN_LIMIT: Duration = Duration::from_millis(1_500);

/// The use cases of availability, over what they need of the world.
#[derive(Debug)]
pub struct Availability<A, G, S, C, E> {
    pub(super) store: A,
    pub(super) gateway: G,
    pub(super) settings: S,
    pub(super) breakers: Breakers<S>,
    limits: Limits,
    pub(super) clock: C,
    pub(super) entropy: E,
}

/// Why nothing is known of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSaid {
    /// The provider was asked and did not say.
    Failed(AvailabilityFailure),
    /// The provider may not be asked before this time.
    Shut {
        /// Whether it is known to be down ([`AttemptError::CircuitOpen`]), or is asked as often as it may be.
        error: AttemptError,
        /// When to ask again.
        until: Timestamp,
    },
}

/// What a provider said, and what else is known of the location.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) said: KnownAvailability,
    /// What was remembered before, with the slots that changed hands.
    pub(super) remembered: Remembered,
}

/// What a provider said.
struct Answer {
    said: KnownAvailability,
    /// Whether it is about all of the time that is remembered, and of no other.
    is_whole: bool,
}

impl<A, G, S, C, E> Availability<A, G, S, C, E>
where
    A: AvailabilityStore,
    G: AvailabilityGateway,
    S: BreakerStore + LimitStore + LocationStore + Clone,
    C: Clock,
    E: Entropy,
{
    /// The use cases over these ports.
    pub fn new(store: A, gateway: G, settings: S, clock: C, entropy: E) -> Self {
        let breakers = Breakers::new(settings.clone());
        Self { store, gateway, settings, breakers, limits: Limits::default(), clock, entropy }
    }

    /// Takes note of a provider's breaker that was read together with something else.
    pub fn remember_breaker(&self, provider_id: &ProviderId, reading: BreakerReading) {
        self.breakers.remember(provider_id, reading.state, reading.read_at);
    }

    /// All that is remembered of a place and may be shown now.
    pub(super) async fn recall(&self, place: &Place) -> Result<Remembered, StoreError> {
        recall(&self.store, place, self.clock.now()).await
    }

    /// Asks what is open in a window, or in all of the time that is remembered if that covers it, and remembers
    /// what is said of all of that time. Waits for the provider's limits until `deadline`.
    pub(super) async fn ask(
        &self,
        provider: &ProviderSettings,
        location: &LocationSettings,
        asked: Window,
        deadline: Instant,
    ) -> Result<Said, NotSaid> {
        let place = place_of(provider, location);
        let ticket = self.enter(provider, location, deadline, true).await?;
        let answer = self.ask_now(provider, location, Some(asked), deadline, ticket).await?;
        // What is remembered is read afterwards, with the slots that changed hands while the provider answered.
        let (remembered, is_read) = match self.recall(&place).await {
            Ok(remembered) => (remembered, true),
            Err(error) => {
                tracing::warn!(provider.id = %provider.provider_id, %error, "Availability cannot be read.");
                (Remembered::default(), false)
            }
        };
        if is_read && answer.is_whole {
            self.remember(&place, &remembered, &answer.said).await;
        }
        Ok(Said { said: answer.said, remembered })
    }

    /// Asks for all of the time that is remembered, and remembers it. Does not wait for the provider's limits.
    /// `None` if what was said could not be remembered.
    pub(super) async fn ask_again(
        &self,
        provider: &ProviderSettings,
        location: &LocationSettings,
        remembered: &Remembered,
        deadline: Instant,
    ) -> Result<Option<Learned>, NotSaid> {
        let ticket = self.enter(provider, location, deadline, false).await?;
        let answer = self.ask_now(provider, location, None, deadline, ticket).await?;
        Ok(self.remember(&place_of(provider, location), remembered, &answer.said).await)
    }

    async fn ask_now(
        &self,
        provider: &ProviderSettings,
        location: &LocationSettings,
        asked: Option<Window>,
        deadline: Instant,
        ticket: Ticket,
    ) -> Result<Answer, NotSaid> {
        let as_of = self.clock.now();
        let whole = remembered_window(&location.zone, as_of);
        let window = asked.filter(|asked| !whole.covers_ahead(asked, as_of)).unwrap_or(whole);
        let left = deadline.saturating_duration_since(Instant::now());
        let limit_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let call = AvailabilityCall { provider, location, window, limit_ms };
        let answer = timeout_at(deadline, self.gateway.open_slots(call)).await;
        let outcome = match &answer {
            Ok(Ok(_)) => "answered",
            Ok(Err(_)) => "failed",
            Err(_) => "timed_out",
        };
        PROVIDER_CALL_TIME.record(["availability", outcome], as_of.ms_until(self.clock.now()));
        self.limits.release(self.breakers.store(), &provider.provider_id, ticket).await;
        let slots = answer.unwrap_or(Err(TIMED_OUT)).map_err(|failure| {
            tracing::info!(
                provider.id = %provider.provider_id,
                location.id = %location.location_id,
                error = failure.error.code(),
                "A provider did not say what is open."
            );
            NotSaid::Failed(failure)
        })?;
        let said = KnownAvailability { as_of, window, zone: location.zone.clone(), slots };
        Ok(Answer { said, is_whole: window == whole })
    }

    /// Remembers what was said, within a time limit. What cannot be remembered can be shown all the same.
    async fn remember(
        &self,
        place: &Place,
        remembered: &Remembered,
        said: &KnownAvailability,
    ) -> Option<Learned> {
        let learning = learn(&self.store, place, remembered.availability.as_ref(), said);
        match timeout(LEARN_LIMIT, learning).await {
            Ok(Ok(learned)) => {
                if learned == Learned::Changed {
                    self.forget_if_gone(place).await;
                }
                Some(learned)
            }
            Ok(Err(error)) => {
                let (provider_id, location_id) = (&place.provider_id, &place.location_id);
                tracing::warn!(
                    provider.id = %provider_id, location.id = location_id, %error,
                    "Availability cannot be remembered."
                );
                None
            }
            Err(_) => {
                tracing::warn!(provider.id = %place.provider_id, "Remembering availability took too long.");
                None
            }
        }
    }

    /// Forgets a location that was removed while it was being asked for.
    async fn forget_if_gone(&self, place: &Place) {
        let Ok(id) = LocationId::parse(&place.location_id) else { return };
        let forgetting = async {
            if self.settings.locations_named(&place.provider_id, &[id]).await?.is_empty() {
                self.store.forget(place).await?;
            }
            Ok::<(), StoreError>(())
        };
        match timeout(LEARN_LIMIT, forgetting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(provider.id = %place.provider_id, %error, "A location could not be looked up.");
            }
            Err(_) => {
                tracing::warn!(provider.id = %place.provider_id, "Looking up a location took too long.");
            }
        }
    }

    /// The leave to ask a provider for a location: one for each request that this takes.
    async fn enter(
        &self,
        provider: &ProviderSettings,
        location: &LocationSettings,
        deadline: Instant,
        waits: bool,
    ) -> Result<Ticket, NotSaid> {
        let share = share_of(provider);
        let ticket = self.admit(&share, deadline, waits).await?;
        // The requests are made one after the other, in one place.
        let others = ProviderSettings { max_attempts_in_flight: None, ..share };
        for _ in 1..location.services.len() {
            if let Err(not_said) = self.admit(&others, deadline, waits).await {
                self.limits.release(self.breakers.store(), &provider.provider_id, ticket).await;
                return Err(not_said);
            }
        }
        Ok(ticket)
    }

    async fn admit(
        &self,
        share: &ProviderSettings,
        deadline: Instant,
        waits: bool,
    ) -> Result<Ticket, NotSaid> {
        let provider_id = &share.provider_id;
        loop {
            let now = self.clock.now();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NotSaid::Failed(TIMED_OUT));
            }
            let state = self.breakers.refresh(provider_id, now).await;
            // When its time is over, a circuit lets bookings try whether it may close. Availability is asked for
            // then too: it tells nobody anything wrong if that fails.
            if let Some(until) = state.open_until.filter(|until| *until > now) {
                return Err(NotSaid::Shut { error: AttemptError::CircuitOpen, until });
            }
            let lease_until = now.plus_ms(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let store = self.breakers.store();
            match self.limits.admit(store, share, &self.entropy, now, lease_until).await {
                Admission::Admitted(ticket) => return Ok(ticket),
                Admission::Refused { until } => {
                    let wait_ms = self.clock.now().ms_until(until).max(1);
                    let is_in_time = left > Duration::from_millis(wait_ms.saturating_add(MIN_ASK_MS));
                    if !waits || !is_in_time {
                        return Err(NotSaid::Shut { error: AttemptError::LimitReached, until });
                    }
                    sleep(Duration::from_millis(wait_ms)).await;
                }
            }
        }
    }
}

/// A provider as it may be asked for availability: for half of what it permits at the most, so that bookings find
/// room however much is asked. Of a single call that is all there is.
fn share_of(provider: &ProviderSettings) -> ProviderSettings {
    let half = |permitted: u32| (permitted / SHARE_OF_LIMITS).max(1);
    ProviderSettings {
        requests_per_second: provider.requests_per_second.map(half),
        max_attempts_in_flight: provider.max_attempts_in_flight.map(half),
        ..provider.clone()
    }
}

/// Nothing was said in time.
const TIMED_OUT: AvailabilityFailure =
    AvailabilityFailure { error: AttemptError::TimedOut, retry_after_ms: None };

/// Where what is said of a location is remembered.
pub(super) fn place_of(provider: &ProviderSettings, location: &LocationSettings) -> Place {
    Place { provider_id: provider.provider_id.clone(), location_id: location.location_id.as_str().to_owned() }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::Mode;

    use super::*;

    #[test]
    fn availability_is_asked_for_with_half_of_what_is_permitted_and_one_at_the_least() {
        let id = ProviderId::parse("clinic").unwrap();
        let usual = ProviderSettings::usual(id, Mode::Test, "https://clinic.example");
        let share = |permitted| {
            let limited = ProviderSettings {
                requests_per_second: Some(permitted),
                max_attempts_in_flight: Some(permitted),
                ..usual.clone()
            };
            let share = share_of(&limited);
            (share.requests_per_second, share.max_attempts_in_flight)
        };
        for (permitted, half) in [(1, 1), (2, 1), (3, 1), (10, 5), (11, 5)] {
            assert_eq!(share(permitted), (Some(half), Some(half)), "of {permitted}");
        }
        let unlimited = share_of(&usual);
        assert_eq!((unlimited.requests_per_second, unlimited.max_attempts_in_flight), (None, None));
    }
}
