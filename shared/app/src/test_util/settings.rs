//! The configuration, the breakers and the limits in memory.

mod endpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use holdfast_domain::{ConsumerId, KeyId, LocationId, ProviderId, Tenant, Timestamp, WebhookEndpointId};

use super::{Faults, locked};
use crate::availability::BookingKeySecret;
use crate::ports::{
    BookingKeySecretStore, BreakerStore, ConfigurationStore, CountedRequests, LimitStore, Loaded,
    LocationStore, MAX_WINDOW_LEAD_S, PlaceLease, RequestCounter, SettingsReader, StoreError, TakenCalls,
    Wanted, WantedCalls,
};
use crate::settings::{
    BreakerState, ConsumerSettings, KeyOwner, KeyRecord, LocationSettings, ProviderSettings,
};
use crate::webhook::WebhookEndpoint;

#[derive(Debug, Default)]
struct State {
    consumers: BTreeMap<ConsumerId, ConsumerSettings>,
    providers: BTreeMap<ProviderId, ProviderSettings>,
    keys: BTreeMap<KeyId, KeyRecord>,
    breakers: BTreeMap<ProviderId, BreakerState>,
    /// By provider: the window begun last, and how many of its calls are taken.
    windows: BTreeMap<ProviderId, (i64, u32)>,
    /// By provider: the ends of the leases.
    places: BTreeMap<ProviderId, BTreeMap<String, Timestamp>>,
    endpoints: BTreeMap<(Tenant, WebhookEndpointId), WebhookEndpoint>,
    /// By endpoint: before when nobody takes a turn.
    turns: BTreeMap<WebhookEndpointId, Timestamp>,
    locations: BTreeMap<(ProviderId, LocationId), LocationSettings>,
    /// The newest first.
    booking_key_secrets: Vec<BookingKeySecret>,
    /// By tenant and window: the requests that were reported.
    requests: BTreeMap<(Tenant, Timestamp), u32>,
}

impl State {
    fn breaker(&self, id: &ProviderId) -> BreakerState {
        self.breakers.get(id).copied().unwrap_or_default()
    }
}

/// The configuration in memory.
#[derive(Clone, Debug, Default)]
pub struct MemorySettings {
    state: Arc<Mutex<State>>,
    faults: Faults,
}

impl MemorySettings {
    /// An empty configuration without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty configuration with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { state: Arc::default(), faults }
    }

    /// The plan of faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Adds a provider without a call.
    pub fn add_provider(&self, provider: ProviderSettings) {
        locked(&self.state).providers.insert(provider.provider_id.clone(), provider);
    }

    /// Adds a location without a call.
    pub fn add_location(&self, provider_id: &ProviderId, location: LocationSettings) {
        let key = (provider_id.clone(), location.location_id.clone());
        locked(&self.state).locations.insert(key, location);
    }

    /// Adds a key without a call.
    pub fn add_key(&self, key: KeyRecord) {
        locked(&self.state).keys.insert(key.key_id.clone(), key);
    }

    /// Adds an endpoint without a call.
    pub fn add_endpoint(&self, endpoint: WebhookEndpoint) {
        let key = (endpoint.tenant.clone(), endpoint.id.clone());
        locked(&self.state).endpoints.insert(key, endpoint);
    }

    /// How many attempts at a provider hold a place now, without a call.
    pub fn places_taken(&self, id: &ProviderId) -> usize {
        locked(&self.state).places.get(id).map_or(0, BTreeMap::len)
    }

    /// A breaker as it is now, without a call.
    pub fn breaker(&self, id: &ProviderId) -> BreakerState {
        locked(&self.state).breaker(id)
    }
}

impl SettingsReader for MemorySettings {
    async fn load(&self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        let effect = || {
            let state = locked(&self.state);
            Loaded {
                key: wanted.key_id.as_ref().and_then(|id| state.keys.get(id)).cloned(),
                provider: wanted.provider_id.as_ref().and_then(|id| state.providers.get(id)).cloned(),
                breaker: wanted.provider_id.as_ref().map(|id| state.breaker(id)).unwrap_or_default(),
                booking_key_secrets: if wanted.booking_key_secrets {
                    state.booking_key_secrets.clone()
                } else {
                    Vec::new()
                },
            }
        };
        self.faults.run("settings.load", effect).await
    }
}

impl BreakerStore for MemorySettings {
    async fn read(&self, provider_id: &ProviderId) -> Result<BreakerState, StoreError> {
        self.faults.run("breaker.read", || self.breaker(provider_id)).await
    }

    async fn record_failure(
        &self,
        provider_id: &ProviderId,
        threshold: u32,
        open_until: Timestamp,
    ) -> Result<BreakerState, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let breaker = state.breakers.entry(provider_id.clone()).or_default();
            breaker.consecutive_failures = breaker.consecutive_failures.saturating_add(1);
            if breaker.consecutive_failures >= threshold {
                breaker.open_until = Some(open_until);
                breaker.probe_until = None;
            }
            *breaker
        };
        self.faults.run("breaker.record_failure", effect).await
    }

    async fn close(&self, provider_id: &ProviderId) -> Result<(), StoreError> {
        let effect = || {
            locked(&self.state).breakers.remove(provider_id);
        };
        self.faults.run("breaker.close", effect).await
    }

    async fn forget_failures(&self, provider_id: &ProviderId) -> Result<(), StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            if let Some(breaker) = state.breakers.get_mut(provider_id)
                && breaker.open_until.is_none()
            {
                breaker.consecutive_failures = 0;
            }
        };
        self.faults.run("breaker.forget_failures", effect).await
    }

    async fn release_probe(
        &self,
        provider_id: &ProviderId,
        probe_until: Timestamp,
    ) -> Result<(), StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            if let Some(breaker) = state.breakers.get_mut(provider_id)
                && breaker.probe_until == Some(probe_until)
            {
                breaker.probe_until = None;
            }
        };
        self.faults.run("breaker.release_probe", effect).await
    }

    async fn try_probe(
        &self,
        provider_id: &ProviderId,
        now: Timestamp,
        probe_until: Timestamp,
    ) -> Result<bool, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let Some(breaker) = state.breakers.get_mut(provider_id) else {
                return false;
            };
            let over = breaker.open_until.is_some_and(|open_until| open_until <= now);
            let free = breaker.probe_until.is_none_or(|probe_until| probe_until <= now);
            if over && free {
                breaker.probe_until = Some(probe_until);
            }
            over && free
        };
        self.faults.run("breaker.try_probe", effect).await
    }
}

impl LimitStore for MemorySettings {
    async fn take_calls(
        &self,
        provider_id: &ProviderId,
        wanted: &WantedCalls,
    ) -> Result<TakenCalls, StoreError> {
        let WantedCalls { window_s, calls, capacity, .. } = *wanted;
        let effect = || {
            let mut state = locked(&self.state);
            let (begun_s, taken_so_far) = state.windows.entry(provider_id.clone()).or_insert((window_s, 0));
            if !(window_s..=window_s.saturating_add(MAX_WINDOW_LEAD_S)).contains(begun_s) {
                (*begun_s, *taken_so_far) = (window_s, 0);
            }
            let taken = calls.min(capacity.saturating_sub(*taken_so_far));
            *taken_so_far += taken;
            TakenCalls { window_s: *begun_s, taken }
        };
        self.faults.run("limits.take_calls", effect).await
    }

    async fn take_place(
        &self,
        provider_id: &ProviderId,
        lease: &PlaceLease,
        places: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let leases = state.places.entry(provider_id.clone()).or_default();
            leases.retain(|_, until| *until > now);
            let has_room = leases.contains_key(&lease.id) || leases.len() < places as usize;
            if has_room {
                leases.insert(lease.id.clone(), lease.until);
            }
            has_room
        };
        self.faults.run("limits.take_place", effect).await
    }

    async fn give_place_back(&self, provider_id: &ProviderId, lease_id: &str) -> Result<(), StoreError> {
        let effect = || {
            if let Some(leases) = locked(&self.state).places.get_mut(provider_id) {
                leases.remove(lease_id);
            }
        };
        self.faults.run("limits.give_place_back", effect).await
    }
}

impl ConfigurationStore for MemorySettings {
    async fn put_consumer(&self, consumer: &ConsumerSettings) -> Result<(), StoreError> {
        let effect = || {
            locked(&self.state).consumers.insert(consumer.consumer_id.clone(), consumer.clone());
        };
        self.faults.run("configuration.put_consumer", effect).await
    }

    async fn consumer(&self, id: &ConsumerId) -> Result<Option<ConsumerSettings>, StoreError> {
        let effect = || locked(&self.state).consumers.get(id).cloned();
        self.faults.run("configuration.consumer", effect).await
    }

    async fn consumers(&self) -> Result<Vec<ConsumerSettings>, StoreError> {
        let effect = || locked(&self.state).consumers.values().cloned().collect();
        self.faults.run("configuration.consumers", effect).await
    }

    async fn delete_consumer(&self, id: &ConsumerId) -> Result<bool, StoreError> {
        let effect = || locked(&self.state).consumers.remove(id).is_some();
        self.faults.run("configuration.delete_consumer", effect).await
    }

    async fn put_provider(&self, provider: &ProviderSettings) -> Result<(), StoreError> {
        self.faults.run("configuration.put_provider", || self.add_provider(provider.clone())).await
    }

    async fn provider(&self, id: &ProviderId) -> Result<Option<ProviderSettings>, StoreError> {
        let effect = || locked(&self.state).providers.get(id).cloned();
        self.faults.run("configuration.provider", effect).await
    }

    async fn providers(&self) -> Result<Vec<ProviderSettings>, StoreError> {
        let effect = || locked(&self.state).providers.values().cloned().collect();
        self.faults.run("configuration.providers", effect).await
    }

    async fn delete_provider(&self, id: &ProviderId) -> Result<bool, StoreError> {
        let effect = || locked(&self.state).providers.remove(id).is_some();
        self.faults.run("configuration.delete_provider", effect).await
    }

    async fn put_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        self.faults.run("configuration.put_key", || self.add_key(key.clone())).await
    }

    async fn keys(&self, owner: &KeyOwner) -> Result<Vec<KeyRecord>, StoreError> {
        let effect = || {
            let state = locked(&self.state);
            let mut keys: Vec<KeyRecord> =
                state.keys.values().filter(|key| key.owner == *owner).cloned().collect();
            keys.sort_by(|left, right| {
                (left.created_at, &left.key_id).cmp(&(right.created_at, &right.key_id))
            });
            keys
        };
        self.faults.run("configuration.keys", effect).await
    }

    async fn revoke_key(
        &self,
        owner: &KeyOwner,
        key_id: &KeyId,
        revoked_from: Timestamp,
    ) -> Result<bool, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let Some(key) = state.keys.get_mut(key_id).filter(|key| key.owner == *owner) else {
                return false;
            };
            key.revoked_from = Some(key.revoked_from.map_or(revoked_from, |from| from.min(revoked_from)));
            true
        };
        self.faults.run("configuration.revoke_key", effect).await
    }
}

impl LocationStore for MemorySettings {
    async fn put_location(
        &self,
        provider_id: &ProviderId,
        location: &LocationSettings,
    ) -> Result<(), StoreError> {
        self.faults.run("locations.put_location", || self.add_location(provider_id, location.clone())).await
    }

    async fn locations_named(
        &self,
        provider_id: &ProviderId,
        ids: &[LocationId],
    ) -> Result<Vec<LocationSettings>, StoreError> {
        let effect = || {
            let state = locked(&self.state);
            let ids: BTreeSet<&LocationId> = ids.iter().collect();
            let key = |id: &LocationId| (provider_id.clone(), id.clone());
            ids.into_iter().filter_map(|id| state.locations.get(&key(id)).cloned()).collect()
        };
        self.faults.run("locations.locations_named", effect).await
    }

    async fn locations(&self, provider_id: &ProviderId) -> Result<Vec<LocationSettings>, StoreError> {
        let effect = || {
            let state = locked(&self.state);
            let own = state.locations.iter().filter(|((owner, _), _)| owner == provider_id);
            own.map(|(_, location)| location.clone()).collect()
        };
        self.faults.run("locations.locations", effect).await
    }

    async fn delete_location(&self, provider_id: &ProviderId, id: &LocationId) -> Result<bool, StoreError> {
        let key = (provider_id.clone(), id.clone());
        let effect = || locked(&self.state).locations.remove(&key).is_some();
        self.faults.run("locations.delete_location", effect).await
    }
}

impl BookingKeySecretStore for MemorySettings {
    async fn replace_booking_key_secrets(
        &self,
        seen: Option<u32>,
        secrets: &[BookingKeySecret],
    ) -> Result<bool, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let is_as_seen = state.booking_key_secrets.first().map(|newest| newest.id) == seen;
            if is_as_seen {
                state.booking_key_secrets = secrets.to_vec();
            }
            is_as_seen
        };
        self.faults.run("booking_key_secrets.replace", effect).await
    }
}

impl RequestCounter for MemorySettings {
    async fn count_requests(
        &self,
        tenant: &Tenant,
        window_begins_at: Timestamp,
        requests: u32,
    ) -> Result<CountedRequests, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let consumer = state.consumers.get(&tenant.consumer_id);
            let requests_per_second = consumer.and_then(|consumer| consumer.requests_per_second);
            let counted = state.requests.entry((tenant.clone(), window_begins_at)).or_default();
            *counted += requests;
            CountedRequests { total: *counted, requests_per_second }
        };
        self.faults.run("requests.count", effect).await
    }
}
