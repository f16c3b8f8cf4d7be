//! Sends a sample event to an endpoint at once and says what came of it.

use std::time::Duration;

use holdfast_domain::{EventId, Tenant};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::known;
use crate::deliveries::{event_body, outcome_code};
use crate::ports::{Clock, EndpointStore, Entropy, PostOutcome, WebhookPost, WebhookSender};
use crate::problem::Problem;
use crate::webhook::{ENDPOINT_TEST, POST_LIMIT_MS, endpoint_view};

/// Posts an event of the type `webhook_endpoint.test`, which shows the endpoint, signed and with the
/// endpoint's headers as every delivery is, whether the endpoint is enabled or not. It is tried once and is
/// not a delivery: it is not in the log, and what comes of it changes nothing.
pub async fn test_endpoint(
    store: &impl EndpointStore,
    sender: &impl WebhookSender,
    clock: &impl Clock,
    entropy: &impl Entropy,
    tenant: &Tenant,
    id: &str,
) -> Result<Value, Problem> {
    let endpoint = known(store, tenant, id).await?;
    let begun_at = clock.now();
    let event_id = EventId::from_bytes(entropy.bytes16());
    let body = event_body(&event_id, ENDPOINT_TEST, begun_at, &endpoint_view(&endpoint, begun_at));
    let secrets = endpoint.secrets_at(begun_at);
    let post = sender.post(WebhookPost {
        url: &endpoint.url,
        headers: &endpoint.headers,
        secrets: &secrets,
        message_id: event_id.as_str(),
        timestamp_unix_s: begun_at.as_unix_ms() / 1_000,
        body: &body,
        limit_ms: POST_LIMIT_MS,
    });
    let outcome = timeout(Duration::from_millis(POST_LIMIT_MS), post).await;
    let outcome = outcome.unwrap_or(PostOutcome::TimedOut);
    let (status, response_body) = match &outcome {
        PostOutcome::Answered { status, body, .. } => (Some(*status), Some(body.as_str())),
        PostOutcome::TimedOut | PostOutcome::ConnectionFailed | PostOutcome::TargetRefused => (None, None),
    };
    let succeeded = status.is_some_and(|status| (200..=299).contains(&status));
    Ok(json!({
        "event_id": event_id.as_str(),
        "succeeded": succeeded,
        "status": status,
        "latency_ms": begun_at.ms_until(clock.now()),
        "response_body": response_body.filter(|body| !body.is_empty()),
        "error": (!succeeded).then(|| outcome_code(&outcome)),
    }))
}
