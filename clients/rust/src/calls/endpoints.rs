//! Webhook endpoints.
//!
//! These calls have no idempotency key. What is not safe to repeat is made once: if its answer is lost, that is
//! [`Error::Unanswered`](crate::Error::Unanswered), and a look at the list tells what became of it.

use reqwest::Method;

use crate::client::{Client, json};
use crate::error::Error;
use crate::ids::EndpointId;
use crate::retry::Repeat;
use crate::types::{
    Cursor, DeliveryAttempt, DeliveryFilter, NewWebhookEndpoint, Page, Replay, ReplayRequest, Trial,
    WebhookEndpoint, WebhookEndpointChanges, WebhookEndpointWithSecret,
};

const ENDPOINTS: &str = "webhook-endpoints";

impl Client {
    /// Makes a webhook endpoint. Keep its secret: no other answer shows it.
    pub async fn create_webhook_endpoint(
        &self,
        endpoint: &NewWebhookEndpoint,
    ) -> Result<WebhookEndpointWithSecret, Error> {
        let request = self.request(Method::POST, &["v1", ENDPOINTS], &[])?.with_json(endpoint)?;
        self.call(Repeat::IfNotSent, &request, json).await
    }

    /// All webhook endpoints.
    pub async fn list_webhook_endpoints(&self) -> Result<Vec<WebhookEndpoint>, Error> {
        let request = self.request(Method::GET, &["v1", ENDPOINTS], &[])?;
        let page: Page<WebhookEndpoint> = self.call(Repeat::Safely, &request, json).await?;
        Ok(page.data)
    }

    /// A webhook endpoint.
    pub async fn get_webhook_endpoint(&self, id: &EndpointId) -> Result<WebhookEndpoint, Error> {
        let request = self.request(Method::GET, &["v1", ENDPOINTS, id.as_str()], &[])?;
        self.call(Repeat::Safely, &request, json).await
    }

    /// Changes a webhook endpoint. What is left out stays.
    pub async fn change_webhook_endpoint(
        &self,
        id: &EndpointId,
        changes: &WebhookEndpointChanges,
    ) -> Result<WebhookEndpoint, Error> {
        let request =
            self.request(Method::PATCH, &["v1", ENDPOINTS, id.as_str()], &[])?.with_json(changes)?;
        self.call(Repeat::Safely, &request, json).await
    }

    /// Removes a webhook endpoint.
    pub async fn delete_webhook_endpoint(&self, id: &EndpointId) -> Result<(), Error> {
        self.remove(&self.request(Method::DELETE, &["v1", ENDPOINTS, id.as_str()], &[])?).await
    }

    /// Gives a webhook endpoint a new secret. For 24 hours the old one signs too.
    pub async fn rotate_webhook_secret(&self, id: &EndpointId) -> Result<WebhookEndpointWithSecret, Error> {
        let path = ["v1", ENDPOINTS, id.as_str(), "rotate-secret"];
        self.call(Repeat::IfNotSent, &self.request(Method::POST, &path, &[])?, json).await
    }

    /// Posts a signed event of the type `webhook_endpoint.test` at once, and tells what the receiver answered.
    pub async fn test_webhook_endpoint(&self, id: &EndpointId) -> Result<Trial, Error> {
        let path = ["v1", ENDPOINTS, id.as_str(), "test"];
        self.call(Repeat::IfNotSent, &self.request(Method::POST, &path, &[])?, json).await
    }

    /// A page of every attempt of the last 30 days, the newest first.
    pub async fn list_deliveries(
        &self,
        id: &EndpointId,
        filter: &DeliveryFilter,
        cursor: Option<&Cursor>,
    ) -> Result<Page<DeliveryAttempt>, Error> {
        let query = [
            ("event_id", filter.event_id.as_ref().map(ToString::to_string)),
            ("status", filter.status.map(|status| status.to_string())),
            ("limit", filter.limit.map(|limit| limit.to_string())),
            ("cursor", cursor.map(|cursor| cursor.as_str().to_owned())),
        ];
        let path = ["v1", ENDPOINTS, id.as_str(), "deliveries"];
        self.call(Repeat::Safely, &self.request(Method::GET, &path, &query)?, json).await
    }

    /// Has events delivered again in the background, with the same ids and the same bytes.
    pub async fn replay_deliveries(&self, id: &EndpointId, wish: &ReplayRequest) -> Result<Replay, Error> {
        let path = ["v1", ENDPOINTS, id.as_str(), "replay"];
        let request = self.request(Method::POST, &path, &[])?.with_json(wish)?;
        self.call(Repeat::IfNotSent, &request, json).await
    }
}
