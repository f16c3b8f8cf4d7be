//! What administrators and consumers configure.

use std::future::Future;

use holdfast_domain::{ConsumerId, KeyId, ProviderId, Tenant, Timestamp, WebhookEndpointId};

use super::StoreError;
use crate::settings::{ConsumerSettings, KeyOwner, KeyRecord, ProviderSettings};
use crate::webhook::WebhookEndpoint;

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

    /// All providers, by name.
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

    /// Marks an endpoint as slow until a time, or (`None`) as quick again. An endpoint that is gone
    /// stays gone.
    fn mark_slow(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        slow_until: Option<Timestamp>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Disables an endpoint. One that is gone stays gone.
    fn disable(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
