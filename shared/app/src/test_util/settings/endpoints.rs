//! Webhook endpoints in memory.

use holdfast_domain::{Tenant, Timestamp, WebhookEndpointId};

use super::{MemorySettings, State};
use crate::ports::{EndpointStore, EndpointUpdate, PutEndpoint, StoreError};
use crate::test_util::locked;
use crate::webhook::{DisabledReason, Speed, WebhookEndpoint};

impl State {
    fn endpoints_of(&self, tenant: &Tenant) -> Vec<WebhookEndpoint> {
        let of_tenant = self.endpoints.values().filter(|endpoint| endpoint.tenant == *tenant);
        let with_turn = |endpoint: &WebhookEndpoint| WebhookEndpoint {
            next_turn_at: self.turns.get(&endpoint.id).copied(),
            ..endpoint.clone()
        };
        let mut endpoints: Vec<WebhookEndpoint> = of_tenant.map(with_turn).collect();
        endpoints.sort_by(|left, right| (left.created_at, &left.id).cmp(&(right.created_at, &right.id)));
        endpoints
    }

    /// Changes an endpoint if it is there and has the revision that is asked for.
    fn change_endpoint(
        &mut self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        seen_rev: Option<u64>,
        change: impl FnOnce(&mut WebhookEndpoint),
    ) -> EndpointUpdate {
        let found = self.endpoints.get_mut(&(tenant.clone(), id.clone()));
        match found.filter(|found| seen_rev.is_none_or(|seen_rev| found.rev == seen_rev)) {
            Some(endpoint) => {
                change(endpoint);
                endpoint.rev = endpoint.rev.saturating_add(1);
                EndpointUpdate::Done
            }
            None => EndpointUpdate::Conflict,
        }
    }
}

impl EndpointStore for MemorySettings {
    async fn put_endpoint(
        &self,
        endpoint: &WebhookEndpoint,
        limit: usize,
    ) -> Result<PutEndpoint, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let key = (endpoint.tenant.clone(), endpoint.id.clone());
            if state.endpoints.contains_key(&key) {
                return PutEndpoint::Done;
            }
            if state.endpoints_of(&endpoint.tenant).len() >= limit {
                return PutEndpoint::LimitReached;
            }
            state.endpoints.insert(key, endpoint.clone());
            PutEndpoint::Done
        };
        self.faults.run("endpoints.put_endpoint", effect).await
    }

    async fn endpoints(&self, tenant: &Tenant) -> Result<Vec<WebhookEndpoint>, StoreError> {
        self.faults.run("endpoints.endpoints", || locked(&self.state).endpoints_of(tenant)).await
    }

    async fn endpoint(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        let effect = || {
            let state = locked(&self.state);
            let found = state.endpoints.get(&(tenant.clone(), id.clone())).cloned();
            found.map(|found| WebhookEndpoint { next_turn_at: state.turns.get(id).copied(), ..found })
        };
        self.faults.run("endpoints.endpoint", effect).await
    }

    async fn delete_endpoint(&self, tenant: &Tenant, id: &WebhookEndpointId) -> Result<bool, StoreError> {
        let effect = || locked(&self.state).endpoints.remove(&(tenant.clone(), id.clone())).is_some();
        self.faults.run("endpoints.delete_endpoint", effect).await
    }

    async fn replace_endpoint(
        &self,
        seen_rev: u64,
        next: &WebhookEndpoint,
    ) -> Result<EndpointUpdate, StoreError> {
        let change = |found: &mut WebhookEndpoint| *found = WebhookEndpoint { rev: seen_rev, ..next.clone() };
        let effect = || locked(&self.state).change_endpoint(&next.tenant, &next.id, Some(seen_rev), change);
        self.faults.run("endpoints.replace_endpoint", effect).await
    }

    async fn disable(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        seen_rev: u64,
        reason: DisabledReason,
    ) -> Result<EndpointUpdate, StoreError> {
        let change = |found: &mut WebhookEndpoint| {
            let times_disabled = found.times_disabled.saturating_add(1);
            *found = WebhookEndpoint { times_disabled, ..found.disabled(reason) };
        };
        let effect = || locked(&self.state).change_endpoint(tenant, id, Some(seen_rev), change);
        self.faults.run("endpoints.disable", effect).await
    }

    async fn mark_speed(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        speed: Speed,
    ) -> Result<(), StoreError> {
        let change = |found: &mut WebhookEndpoint| found.speed = speed;
        let effect = || locked(&self.state).change_endpoint(tenant, id, None, change);
        self.faults.run("endpoints.mark_speed", effect).await.map(drop)
    }

    async fn mark_failing(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let change = |found: &mut WebhookEndpoint| {
            found.failing_since = since.map(|since| found.failing_since.unwrap_or(since));
        };
        let effect = || locked(&self.state).change_endpoint(tenant, id, None, change);
        self.faults.run("endpoints.mark_failing", effect).await.map(drop)
    }

    async fn take_turn(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        now: Timestamp,
        next: Timestamp,
    ) -> Result<bool, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let is_there = state.endpoints.contains_key(&(tenant.clone(), id.clone()));
            let is_free = state.turns.get(id).is_none_or(|taken_until| *taken_until <= now);
            if is_there && is_free {
                state.turns.insert(id.clone(), next);
            }
            is_there && is_free
        };
        self.faults.run("endpoints.take_turn", effect).await
    }
}
