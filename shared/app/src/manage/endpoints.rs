//! Webhook endpoints of consumers: where they want to hear of events.
//!
//! Every change is conditional on the revision that it was made from, so that none loses another.

mod attempts;
mod body;
mod replay;
mod trial;

pub use attempts::{AttemptParameters, attempts};
pub use replay::replay;
pub use trial::test_endpoint;

use holdfast_domain::{Tenant, Timestamp, WebhookEndpointId};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use self::body::{EndpointBody, PatchBody};
use super::check::TargetRules;
use super::{list, not_found};
use crate::parse::parse_checked;
use crate::ports::{ConfigurationStore, EndpointStore, EndpointUpdate, Entropy, PutEndpoint, StoreError};
use crate::problem::{Problem, ProblemCode};
use crate::settings_cache::configuration_problem;
use crate::signing_secret;
use crate::webhook::{MAX_ENDPOINTS_PER_CONSUMER, MAX_OLD_SECRETS, WebhookEndpoint, endpoint_view};

const WHAT: &str = "webhook endpoint";

/// How often a change is tried against others who change the endpoint at the same time.
const MAX_CONFLICTS: usize = 8;

/// Makes an endpoint. The answer is the only one that shows this secret.
pub async fn create_endpoint(
    store: &(impl EndpointStore + ConfigurationStore),
    entropy: &impl Entropy,
    rules: TargetRules,
    tenant: &Tenant,
    body: &Value,
    now: Timestamp,
) -> Result<Value, Problem> {
    let (body, mut errors) = parse_checked::<EndpointBody>(body)?.into_parts();
    body.judge(rules, &mut errors);
    errors.finish()?;
    let secret = signing_secret::generate(entropy);
    let id = WebhookEndpointId::from_bytes(entropy.bytes16());
    let endpoint = body.applied(&WebhookEndpoint::new(id, tenant.clone(), "", secret, now));
    let put = store.put_endpoint(&endpoint, MAX_ENDPOINTS_PER_CONSUMER).await;
    match put.map_err(|error| configuration_problem(&error))? {
        PutEndpoint::Done => {
            remove_if_too_late(store, &endpoint).await?;
            Ok(with_secret(&endpoint, now))
        }
        PutEndpoint::LimitReached => {
            let detail = format!("There are {MAX_ENDPOINTS_PER_CONSUMER} webhook endpoints already.");
            Err(Problem::new(ProblemCode::LimitReached, detail))
        }
    }
}

/// Whoever removes a consumer removes its endpoints afterwards, and its keys are known for a while longer; an
/// endpoint that came too late for that goes here.
async fn remove_if_too_late(
    store: &(impl EndpointStore + ConfigurationStore),
    endpoint: &WebhookEndpoint,
) -> Result<(), Problem> {
    let tenant = &endpoint.tenant;
    let owner = store.consumer(&tenant.consumer_id).await.map_err(|error| configuration_problem(&error))?;
    if owner.is_some() {
        return Ok(());
    }
    store.delete_endpoint(tenant, &endpoint.id).await.map_err(|error| configuration_problem(&error))?;
    Err(Problem::new(ProblemCode::Unauthenticated, "The consumer was removed."))
}

fn with_secret(endpoint: &WebhookEndpoint, now: Timestamp) -> Value {
    let mut answer = endpoint_view(endpoint, now);
    answer["secret"] = json!(endpoint.secret.expose_secret());
    answer
}

/// One endpoint.
pub async fn endpoint(
    store: &impl EndpointStore,
    tenant: &Tenant,
    id: &str,
    now: Timestamp,
) -> Result<Value, Problem> {
    Ok(endpoint_view(&known(store, tenant, id).await?, now))
}

/// All endpoints of a tenant.
pub async fn endpoints(
    store: &impl EndpointStore,
    tenant: &Tenant,
    now: Timestamp,
) -> Result<Value, Problem> {
    let endpoints = store.endpoints(tenant).await.map_err(|error| configuration_problem(&error))?;
    Ok(list(endpoints.iter().map(|endpoint| endpoint_view(endpoint, now))))
}

/// Changes what the body names; the rest stays. Enabling an endpoint that was disabled, or giving it another
/// URL, forgets what was known of its failures and its speed.
pub async fn patch_endpoint(
    store: &impl EndpointStore,
    rules: TargetRules,
    tenant: &Tenant,
    id: &str,
    body: &Value,
    now: Timestamp,
) -> Result<Value, Problem> {
    let (body, mut errors) = parse_checked::<PatchBody>(body)?.into_parts();
    body.judge(rules, &mut errors);
    errors.finish()?;
    let changed = change(store, tenant, id, |endpoint| Ok(body.applied(endpoint))).await?;
    Ok(endpoint_view(&changed, now))
}

/// Gives an endpoint a new secret. The answer is the only one that shows it. The one before signs as well for
/// 24 hours, and as many do as may; a secret that would end one of them before its time is refused.
pub async fn rotate_secret(
    store: &impl EndpointStore,
    entropy: &impl Entropy,
    tenant: &Tenant,
    id: &str,
    now: Timestamp,
) -> Result<Value, Problem> {
    let secret = signing_secret::generate(entropy);
    let rotated = |endpoint: &WebhookEndpoint| match endpoint.next_rotation_at(now) {
        None => Ok(endpoint.with_secret(secret.clone(), now)),
        Some(next_at) => {
            let detail = format!(
                "{MAX_OLD_SECRETS} replaced secrets are still valid; the next rotation is possible at {next_at}."
            );
            Err(Problem::new(ProblemCode::LimitReached, detail))
        }
    };
    let changed = change(store, tenant, id, rotated).await?;
    Ok(with_secret(&changed, now))
}

/// Removes an endpoint. Deliveries to it end.
pub async fn delete_endpoint(store: &impl EndpointStore, tenant: &Tenant, id: &str) -> Result<(), Problem> {
    let id = WebhookEndpointId::parse(id).map_err(|_| not_found(WHAT))?;
    let existed = store.delete_endpoint(tenant, &id).await.map_err(|error| configuration_problem(&error))?;
    if existed { Ok(()) } else { Err(not_found(WHAT)) }
}

async fn known(store: &impl EndpointStore, tenant: &Tenant, id: &str) -> Result<WebhookEndpoint, Problem> {
    let id = WebhookEndpointId::parse(id).map_err(|_| not_found(WHAT))?;
    let endpoint = store.endpoint(tenant, &id).await.map_err(|error| configuration_problem(&error))?;
    endpoint.ok_or_else(|| not_found(WHAT))
}

/// Changes an endpoint as it is at that moment. Returns it as it is then.
async fn change(
    store: &impl EndpointStore,
    tenant: &Tenant,
    id: &str,
    change: impl Fn(&WebhookEndpoint) -> Result<WebhookEndpoint, Problem>,
) -> Result<WebhookEndpoint, Problem> {
    for _ in 0..MAX_CONFLICTS {
        let seen = known(store, tenant, id).await?;
        let next = WebhookEndpoint { rev: seen.rev.saturating_add(1), ..change(&seen)? };
        let replaced = store.replace_endpoint(seen.rev, &next).await;
        match replaced.map_err(|error| configuration_problem(&error))? {
            EndpointUpdate::Done => return Ok(next),
            EndpointUpdate::Conflict => {}
        }
    }
    Err(configuration_problem(&StoreError::Unavailable("an endpoint was changed by others too often".into())))
}
