//! What administrators and consumers configure.

use std::future::Future;

use holdfast_domain::{ConsumerId, KeyId, ProviderId, Tenant, Timestamp, WebhookEndpointId};

use super::StoreError;
use crate::settings::{ConsumerSettings, KeyOwner, KeyRecord, ProviderSettings};
use crate::webhook::{DisabledReason, Speed, WebhookEndpoint};

/// Where consumers, providers and keys are kept.
pub trait ConfigurationStore: Send + Sync {
    /// Writes a consumer, new or not.
    fn put_consumer(
        &self,
        consumer: &ConsumerSettings,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads a consumer.
    fn consumer(
        &self,
        id: &ConsumerId,
    ) -> impl Future<Output = Result<Option<ConsumerSettings>, StoreError>> + Send;

    /// All consumers, by name.
    fn consumers(&self) -> impl Future<Output = Result<Vec<ConsumerSettings>, StoreError>> + Send;

    /// Removes a consumer. Returns whether there was one.
    fn delete_consumer(&self, id: &ConsumerId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Writes a provider, new or not.
    fn put_provider(
        &self,
        provider: &ProviderSettings,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads a provider.
    fn provider(
        &self,
        id: &ProviderId,
    ) -> impl Future<Output = Result<Option<ProviderSettings>, StoreError>> + Send;

    /// All providers, by name. One that cannot be read is left out, so that it stops nothing that concerns the
    /// others.
    fn providers(&self) -> impl Future<Output = Result<Vec<ProviderSettings>, StoreError>> + Send;

    /// Removes a provider. Returns whether there was one.
    fn delete_provider(&self, id: &ProviderId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Writes a new key.
    fn put_key(&self, key: &KeyRecord) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All keys of an owner, the oldest first, revoked ones included.
    fn keys(&self, owner: &KeyOwner) -> impl Future<Output = Result<Vec<KeyRecord>, StoreError>> + Send;

    /// Ends a key of this owner from `revoked_from` on; an earlier end stays. Returns whether the owner
    /// has such a key.
    fn revoke_key(
        &self,
        owner: &KeyOwner,
        key_id: &KeyId,
        revoked_from: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// What writing an endpoint found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutEndpoint {
    /// It is written.
    Done,
    /// The consumer has as many as it may have.
    LimitReached,
}

/// What a conditional write of an endpoint found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointUpdate {
    /// Written.
    Done,
    /// Somebody else wrote since, or it is gone.
    Conflict,
}

/// Where webhook endpoints are kept.
pub trait EndpointStore: Send + Sync {
    /// Writes a new endpoint unless its owner has `limit` already.
    fn put_endpoint(
        &self,
        endpoint: &WebhookEndpoint,
        limit: usize,
    ) -> impl Future<Output = Result<PutEndpoint, StoreError>> + Send;

    /// All endpoints of a tenant, the oldest first.
    fn endpoints(
        &self,
        tenant: &Tenant,
    ) -> impl Future<Output = Result<Vec<WebhookEndpoint>, StoreError>> + Send;

    /// Reads an endpoint of a tenant.
    fn endpoint(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
    ) -> impl Future<Output = Result<Option<WebhookEndpoint>, StoreError>> + Send;

    /// Removes an endpoint. Returns whether there was one.
    fn delete_endpoint(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Replaces an endpoint if its revision is still `seen_rev`; `next.rev` is `seen_rev + 1`. One that is
    /// gone is a conflict. A write of its own whose answer was lost MUST be reported as done.
    fn replace_endpoint(
        &self,
        seen_rev: u64,
        next: &WebhookEndpoint,
    ) -> impl Future<Output = Result<EndpointUpdate, StoreError>> + Send;

    /// Disables an endpoint and counts it in `times_disabled`, if its revision is still `seen_rev`. One that
    /// is gone is a conflict, and so may be a write of its own whose answer was lost.
    fn disable(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        seen_rev: u64,
        reason: DisabledReason,
    ) -> impl Future<Output = Result<EndpointUpdate, StoreError>> + Send;

    /// Notes how fast an endpoint answers. It MUST count in the endpoint's revision; one that is gone stays
    /// gone.
    fn mark_speed(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        speed: Speed,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes that an endpoint fails since a time, unless it fails longer already, or (`None`) that it took
    /// something. It MUST count in the endpoint's revision; one that is gone stays gone.
    fn mark_failing(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        since: Option<Timestamp>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes an endpoint's turn at `now`, so that nobody else takes one before `next`. Returns whether it was
    /// free; a turn of its own whose taking was not answered MAY be told as taken. It does not count in the
    /// revision.
    fn take_turn(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        now: Timestamp,
        next: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
