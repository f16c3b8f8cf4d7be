//! Keeping what is remembered fresh: the messages of a minute, and what each of them does.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use holdfast_domain::{LocationId, ProviderId, Timestamp};
use tokio::time::Instant;

use super::answer::LIVE_LIMIT_MS;
use super::ask::{Availability, NotSaid, place_of};
use super::memory::Learned;
use super::plan::{REFRESH_PERIOD_MS, due_within, period_ms};
use crate::ports::{
    AvailabilityGateway, AvailabilityStore, BreakerStore, Clock, ConfigurationStore, Entropy,
    KnownAvailability, LimitStore, LocationStore, RefreshMessage, RefreshState, SettingsReader, StoreError,
    Wanted,
};
use crate::settings::{AvailabilitySource, LocationSettings, ProviderSettings};
use crate::settings_cache::SettingsCache;

/// Whoever was asked so short a time ago is not asked again, in milliseconds: half of the period.
const YOUNG_MS: u64 = REFRESH_PERIOD_MS / 2;

/// How long a location that failed is left alone at first, in milliseconds; it doubles with each failure.
const FIRST_BACKOFF_MS: u64 = REFRESH_PERIOD_MS;

/// The longest that a location is left alone, in milliseconds: an hour.
const MAX_BACKOFF_MS: u64 = 60 * 60 * 1_000;

/// How often a message is put off because the provider may not be asked so often; then the next one will do.
const MAX_POSTPONED: u32 = 10;

/// By how much a message that is put off is spread, in milliseconds.
const SPREAD_MS: u64 = 5_000;

/// How many providers' locations are read at once.
const CONCURRENT_READS: usize = 10;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The provider was asked.
    Asked(Learned),
    /// There was nothing to do: the location or provider is gone, was asked shortly before, or is left alone.
    NotNeeded,
    /// The provider did not say, and is left alone for a while.
    Failed,
    /// It is not time yet, or the provider may not be asked so often: to be sent again.
    PassOn(RefreshMessage),
}

/// How many requests asking for a location takes.
fn calls_of(location: &LocationSettings) -> usize {
    location.services.len().max(1)
}

/// The messages of the minute that begins at `from`. Minutes that follow on one another plan everything once.
///
/// A provider whose locations cannot be read fails nobody else: the others are planned, and the error is told
/// with them.
pub async fn refresh_messages(
    store: &(impl ConfigurationStore + LocationStore),
    from: Timestamp,
) -> (Vec<RefreshMessage>, Option<StoreError>) {
    let providers = match store.providers().await {
        Ok(providers) => providers,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let asked = providers.into_iter().filter(|provider| provider.availability == AvailabilitySource::Ask);
    let reads = asked.map(|provider| async move {
        let locations = store.locations(&provider.provider_id).await?;
        Ok(messages_of(&provider, &locations, from))
    });
    // A list of them may move between threads; the compiler cannot tell that of what makes it.
    let reads: Vec<_> = reads.collect();
    let mut reads = stream::iter(reads).buffered(CONCURRENT_READS);
    let (mut messages, mut failure) = (Vec::new(), None);
    while let Some(read) = reads.next().await {
        match read {
            Ok(of_provider) => messages.extend(of_provider),
            Err(error) => failure = Some(error),
        }
    }
    (messages, failure)
}

fn messages_of(
    provider: &ProviderSettings,
    locations: &[LocationSettings],
    from: Timestamp,
) -> Vec<RefreshMessage> {
    let ids: Vec<LocationId> = locations.iter().map(|location| location.location_id.clone()).collect();
    let calls: usize = locations.iter().map(calls_of).sum();
    let calls_each = calls.div_ceil(locations.len().max(1));
    let period_ms = period_ms(provider, calls);
    if period_ms > super::MAX_AGE_MS {
        tracing::warn!(
            provider.id = %provider.provider_id,
            locations = locations.len(),
            period_s = period_ms / 1_000,
            "A provider permits too few calls for its locations to be remembered."
        );
    }
    let due = due_within(provider, &ids, calls_each, from);
    let message = |(location_id, at): (&LocationId, Timestamp)| RefreshMessage {
        provider_id: provider.provider_id.as_str().to_owned(),
        location_id: location_id.as_str().to_owned(),
        not_before: at,
        postponed: 0,
    };
    due.into_iter().map(message).collect()
}

impl<A, G, S, C, E> Availability<A, G, S, C, E>
where
    A: AvailabilityStore,
    G: AvailabilityGateway,
    S: BreakerStore + LimitStore + LocationStore + SettingsReader + Clone,
    C: Clock,
    E: Entropy,
{
    /// Does what a message asks for: asks the provider for a location, unless there is no need.
    pub async fn refresh<R: SettingsReader>(
        &self,
        message: &RefreshMessage,
        settings: &SettingsCache<R>,
    ) -> Result<Refreshed, StoreError> {
        if self.clock.now() < message.not_before {
            return Ok(Refreshed::PassOn(message.clone()));
        }
        let Some((provider, location)) = self.configured_for(message, settings).await? else {
            return Ok(Refreshed::NotNeeded);
        };
        let place = place_of(&provider, &location);
        let remembered = self.recall(&place).await?;
        let now = self.clock.now();
        let is_young =
            |known: &KnownAvailability| known.as_of.ms_until(now) < YOUNG_MS && known.zone == location.zone;
        let is_left_alone = remembered.refresh.not_before.is_some_and(|not_before| now < not_before);
        if is_left_alone || remembered.availability.as_ref().is_some_and(is_young) {
            return Ok(Refreshed::NotNeeded);
        }
        let limit_ms = provider.attempt_timeout_ms.min(LIVE_LIMIT_MS);
        let deadline = Instant::now() + Duration::from_millis(limit_ms);
        match self.ask_again(&provider, &location, &remembered, deadline).await {
            Ok(Some(learned)) => Ok(Refreshed::Asked(learned)),
            Err(NotSaid::Shut { until, .. }) if message.postponed < MAX_POSTPONED => {
                let not_before = until.plus_ms(self.entropy.u64() % SPREAD_MS);
                let postponed = message.postponed.saturating_add(1);
                Ok(Refreshed::PassOn(RefreshMessage { not_before, postponed, ..message.clone() }))
            }
            // What was said could not be remembered, which is logged; or the provider may not be asked for too long.
            // The next round asks again.
            Ok(None) | Err(NotSaid::Shut { .. }) => Ok(Refreshed::NotNeeded),
            Err(NotSaid::Failed(failure)) => {
                let state = left_alone(remembered.refresh, failure.retry_after_ms, self.clock.now());
                self.store.record_failure(&place, state, now).await?;
                Ok(Refreshed::Failed)
            }
        }
    }

    /// The provider and the location of a message, if they are there and the provider is to be asked.
    async fn configured_for<R: SettingsReader>(
        &self,
        message: &RefreshMessage,
        settings: &SettingsCache<R>,
    ) -> Result<Option<(ProviderSettings, LocationSettings)>, StoreError> {
        let ids = (ProviderId::parse(&message.provider_id), LocationId::parse(&message.location_id));
        let (Ok(provider_id), Ok(location_id)) = ids else { return Ok(None) };
        let wanted = Wanted { provider_id: Some(provider_id.clone()), ..Wanted::default() };
        let provider = settings.load(&wanted, self.clock.now()).await?.provider;
        let Some(provider) = provider.filter(|provider| provider.availability == AvailabilitySource::Ask)
        else {
            return Ok(None);
        };
        let location = self.settings.locations_named(&provider_id, &[location_id]).await?.pop();
        Ok(location.map(|location| (provider, location)))
    }
}

/// For how long a location is left alone after one more failure.
fn left_alone(before: RefreshState, retry_after_ms: Option<u64>, now: Timestamp) -> RefreshState {
    let doublings = before.failures.min(16);
    let backoff_ms = FIRST_BACKOFF_MS.saturating_mul(1 << doublings).min(MAX_BACKOFF_MS);
    // It is asked in the round that comes next after it, so that a little less is as good.
    let backoff_ms = backoff_ms.max(retry_after_ms.unwrap_or(0).min(MAX_BACKOFF_MS)) - YOUNG_MS;
    RefreshState { failures: before.failures.saturating_add(1), not_before: Some(now.plus_ms(backoff_ms)) }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::{Mode, Zone};

    use super::*;
    use crate::settings::OfferedService;

    #[test]
    fn asking_for_a_location_takes_a_call_for_each_of_its_services() {
        let location = |services: usize| LocationSettings {
            location_id: LocationId::parse("main").unwrap(),
            display_name: "Main".to_owned(),
            zone: Zone::utc(),
            services: (0..services)
                .map(|number| OfferedService { service_id: number.to_string(), resource_id: None })
                .collect(),
        };
        assert_eq!([0, 1, 7].map(|services| calls_of(&location(services))), [1, 1, 7]);
        // Of one call a second one in two may be used: 151 services need more than five minutes.
        let id = ProviderId::parse("harbour").unwrap();
        let usual = ProviderSettings::usual(id, Mode::Test, "https://harbour.example");
        let slow = ProviderSettings { requests_per_second: Some(1), ..usual };
        let planned = |services: usize| -> usize {
            let minute = |minute: u64| {
                let from = Timestamp::EPOCH.plus_ms(1_800_000_000_000 + minute * super::super::PLANNED_MS);
                let next = from.plus_ms(super::super::PLANNED_MS);
                let messages = messages_of(&slow, &[location(services)], from);
                // What reaches into the next minute is planned there as well.
                messages.iter().filter(|message| message.not_before < next).count()
            };
            (0..20).map(minute).sum()
        };
        assert_eq!((planned(150), planned(151)), (4, 2), "in twenty minutes");
    }
}
