//! Answering a consumer: from memory if it may be, otherwise by asking.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_domain::{AttemptError, LocationId, OpenSlot, Timestamp, Zone};
use tokio::time::Instant;

use super::ask::{Availability, NotSaid, Said};
use super::memory::shown;
use super::wish::ValidAvailability;
use crate::metrics::AVAILABILITY_AGE;
use crate::ports::{
    AvailabilityGateway, AvailabilityStore, BreakerStore, Clock, Entropy, KnownAvailability, LimitStore,
    LocationStore, Place, Remembered,
};
use crate::problem::{FieldError, Problem, ProblemCode};
use crate::settings::{AvailabilitySource, LocationSettings, ProviderSettings};
use crate::settings_cache::configuration_problem;

/// How long all providers' answers together may take, in milliseconds.
pub const LIVE_LIMIT_MS: u64 = 10_000;

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From memory.
    Cache,
    /// From the provider, asked just now.
    Live,
}

impl Source {
    /// The name that the API shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Live => "live",
        }
    }
}

/// What is open at one location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLocation {
    /// Where.
    pub location_id: LocationId,
    /// What is known, or why nothing is.
    pub outcome: Result<Open, LocationFailure>,
}

/// What is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The location's time zone.
    pub zone: Zone,
    /// When the provider was asked, or told.
    pub as_of: Timestamp,
    /// Where this comes from.
    pub source: Source,
    /// The slots, in their order.
    pub slots: Arc<[OpenSlot]>,
}

/// Why nothing is known of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocationFailure {
    /// The kind of problem.
    pub code: ProblemCode,
    /// What happened, in words for the consumer's developers.
    pub detail: &'static str,
    /// When it makes sense to ask again.
    pub retry_at: Option<Timestamp>,
}

impl LocationFailure {
    fn new(code: ProblemCode, detail: &'static str) -> Self {
        Self { code, detail, retry_at: None }
    }
}

const UNKNOWN_LOCATION: &str = "No location of this name is configured for the provider.";
const TIMED_OUT: &str = "The provider did not answer in time.";
const FAILED: &str = "The provider could not be reached, or its answer could not be used.";
const CIRCUIT_OPEN: &str = "The provider has failed several times and is not called for a moment.";
const LIMIT_REACHED: &str = "The provider is asked as often as it may be.";
const NOT_TOLD: &str = "The provider tells by itself what is open, and has not done so within 15 minutes.";
const STORE_UNAVAILABLE: &str = "Storage is not available at the moment.";

impl<A, G, S, C, E> Availability<A, G, S, C, E>
where
    A: AvailabilityStore,
    G: AvailabilityGateway,
    S: BreakerStore + LimitStore + LocationStore + Clone,
    C: Clock,
    E: Entropy,
{
    /// What is open, for each location that is asked for, in that order. A problem if nothing is known of any.
    ///
    /// Without `allow_stale`, or if any of the locations has nothing young enough to show, the provider is asked
    /// for all of them, and what it says is remembered. A provider that tells by itself cannot be asked: what it
    /// told within the last 15 minutes is shown, location by location.
    pub async fn open(
        &self,
        provider: &ProviderSettings,
        wish: &ValidAvailability,
        deadline: Timestamp,
    ) -> Result<Vec<OpenLocation>, Problem> {
        let is_told = provider.availability == AvailabilitySource::Push;
        let is_unknown = |failure: &LocationFailure| failure.code == ProblemCode::UnknownLocation;
        let mut locations = None;
        if wish.allow_stale || is_told {
            let recalled = self.recall_all(provider, wish).await;
            let told = self.tell_unknown_apart(provider, recalled).await?;
            // Asking would tell nothing of locations that there are not.
            let is_whole = told.iter().all(|location| location.outcome.as_ref().err().is_none_or(is_unknown));
            locations = (is_whole || is_told).then_some(told);
        }
        let locations = match locations {
            Some(locations) => locations,
            None => self.ask_all(provider, wish, deadline).await?,
        };
        let now = self.clock.now();
        if locations.iter().all(|location| location.outcome.is_err()) {
            return Err(nothing_known(&locations, now));
        }
        for open in locations.iter().filter_map(|location| location.outcome.as_ref().ok()) {
            AVAILABILITY_AGE.record([open.source.as_str()], open.as_of.ms_until(now));
        }
        Ok(locations)
    }

    /// What is remembered of every location and may be shown.
    async fn recall_all(
        &self,
        provider: &ProviderSettings,
        wish: &ValidAvailability,
    ) -> Vec<(LocationId, Result<Open, LocationFailure>)> {
        let recalls = wish.location_ids.iter().map(|location_id| async move {
            let place = Place {
                provider_id: provider.provider_id.clone(),
                location_id: location_id.as_str().to_owned(),
            };
            let outcome = match self.recall(&place).await {
                Ok(remembered) => self
                    .remembered(provider, wish, &remembered)
                    .ok_or(LocationFailure::new(ProblemCode::ProviderUnavailable, NOT_TOLD)),
                Err(error) => {
                    tracing::warn!(provider.id = %provider.provider_id, %error, "Availability cannot be read.");
                    Err(LocationFailure::new(ProblemCode::StoreUnavailable, STORE_UNAVAILABLE))
                }
            };
            (location_id.clone(), outcome)
        });
        join_all(recalls).await
    }

    fn remembered(
        &self,
        provider: &ProviderSettings,
        wish: &ValidAvailability,
        remembered: &Remembered,
    ) -> Option<Open> {
        let now = self.clock.now();
        let known = remembered.fresh(now)?;
        let window = wish.window(&known.zone, now);
        known
            .window
            .covers_ahead(&window, now)
            .then(|| self.shown(provider, wish, known, remembered, Source::Cache))
    }

    fn shown(
        &self,
        provider: &ProviderSettings,
        wish: &ValidAvailability,
        known: &KnownAvailability,
        remembered: &Remembered,
        source: Source,
    ) -> Open {
        let now = self.clock.now();
        let window = wish.window(&known.zone, now);
        let slots = shown(known, remembered, window, now, provider.exclusive_slots);
        Open { zone: known.zone.clone(), as_of: known.as_of, source, slots: slots.into() }
    }

    /// What is remembered. Of locations of which nothing is, it is looked up whether there are any such.
    async fn tell_unknown_apart(
        &self,
        provider: &ProviderSettings,
        recalled: Vec<(LocationId, Result<Open, LocationFailure>)>,
    ) -> Result<Vec<OpenLocation>, Problem> {
        let missing: Vec<LocationId> =
            recalled.iter().filter(|(_, outcome)| outcome.is_err()).map(|(id, _)| id.clone()).collect();
        let known = if missing.is_empty() { Vec::new() } else { self.configured(provider, &missing).await? };
        let told = recalled.into_iter().map(|(location_id, outcome)| {
            let is_known = outcome.is_ok() || known.iter().any(|known| known.location_id == location_id);
            let unknown = LocationFailure::new(ProblemCode::UnknownLocation, UNKNOWN_LOCATION);
            OpenLocation { location_id, outcome: if is_known { outcome } else { Err(unknown) } }
        });
        Ok(told.collect())
    }

    async fn configured(
        &self,
        provider: &ProviderSettings,
        ids: &[LocationId],
    ) -> Result<Vec<LocationSettings>, Problem> {
        let found = self.settings.locations_named(&provider.provider_id, ids).await;
        found.map_err(|error| configuration_problem(&error))
    }

    /// Asks the provider for every location, within one time limit.
    async fn ask_all(
        &self,
        provider: &ProviderSettings,
        wish: &ValidAvailability,
        deadline: Timestamp,
    ) -> Result<Vec<OpenLocation>, Problem> {
        let limit_ms = self.clock.now().ms_until(deadline).min(LIVE_LIMIT_MS);
        let limit = Instant::now() + Duration::from_millis(limit_ms);
        let configured = self.configured(provider, &wish.location_ids).await?;
        let asks = wish.location_ids.iter().map(|location_id| {
            let location = configured.iter().find(|location| location.location_id == *location_id);
            async move {
                let outcome = match location {
                    Some(location) => self.ask_one(provider, wish, location, limit).await,
                    None => Err(LocationFailure::new(ProblemCode::UnknownLocation, UNKNOWN_LOCATION)),
                };
                OpenLocation { location_id: location_id.clone(), outcome }
            }
        });
        Ok(join_all(asks).await)
    }

    async fn ask_one(
        &self,
        provider: &ProviderSettings,
        wish: &ValidAvailability,
        location: &LocationSettings,
        deadline: Instant,
    ) -> Result<Open, LocationFailure> {
        let window = wish.window(&location.zone, self.clock.now());
        match self.ask(provider, location, window, deadline).await {
            Ok(Said { said, remembered }) => Ok(self.shown(provider, wish, &said, &remembered, Source::Live)),
            Err(not_said) => Err(failure_of(not_said, self.clock.now())),
        }
    }
}

fn failure_of(not_said: NotSaid, now: Timestamp) -> LocationFailure {
    match not_said {
        NotSaid::Shut { error, until } => {
            let detail = if error == AttemptError::CircuitOpen { CIRCUIT_OPEN } else { LIMIT_REACHED };
            let code = ProblemCode::ProviderUnavailable;
            LocationFailure { code, detail, retry_at: Some(until) }
        }
        NotSaid::Failed(failure) => {
            let (code, detail) = match failure.error {
                AttemptError::TimedOut => (ProblemCode::ProviderTimeout, TIMED_OUT),
                _ => (ProblemCode::ProviderFailed, FAILED),
            };
            let retry_at = failure.retry_after_ms.map(|retry_after_ms| now.plus_ms(retry_after_ms));
            LocationFailure { code, detail, retry_at }
        }
    }
}

/// Nothing is known of any location: a problem of the kind that most deserves to be told, which names them all.
fn nothing_known(locations: &[OpenLocation], now: Timestamp) -> Problem {
    let failures: Vec<(&LocationId, &LocationFailure)> = locations
        .iter()
        .filter_map(|location| Some((&location.location_id, location.outcome.as_ref().err()?)))
        .collect();
    let kinds = [
        ProblemCode::ProviderTimeout,
        ProblemCode::ProviderFailed,
        ProblemCode::StoreUnavailable,
        ProblemCode::ProviderUnavailable,
        ProblemCode::UnknownLocation,
    ];
    let code = kinds.into_iter().find(|kind| failures.iter().any(|(_, failure)| failure.code == *kind));
    let code = code.unwrap_or(ProblemCode::Internal);
    let errors = failures.iter().map(|(location_id, failure)| {
        FieldError::new("location_ids", format!("{location_id}: {}", failure.detail))
    });
    let detail = "Nothing is known of any of the locations; the errors say why.";
    let problem = Problem::new(code, detail).with_errors(errors.collect());
    match failures.iter().filter_map(|(_, failure)| failure.retry_at).min() {
        Some(retry_at) => problem.retry_after_s(now.ms_until(retry_at).div_ceil(1_000).max(1)),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_asked_is_told_why_and_until_when() {
        let until = Timestamp::EPOCH.plus_ms(1_000);
        let told = |error| failure_of(NotSaid::Shut { error, until }, Timestamp::EPOCH);
        let (open, limited) = (told(AttemptError::CircuitOpen), told(AttemptError::LimitReached));
        assert_eq!((open.detail, limited.detail), (CIRCUIT_OPEN, LIMIT_REACHED));
        for failure in [open, limited] {
            assert_eq!((failure.code, failure.retry_at), (ProblemCode::ProviderUnavailable, Some(until)));
        }
    }
}
