//! Webhook endpoints of consumers: where they want to hear of events.

use std::collections::BTreeMap;

use holdfast_domain::{EventType, Tenant, Timestamp, WebhookEndpointId};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::check::{self, TargetRules, UrlKind};
use super::{list, not_found};
use crate::parse::{FieldErrors, escape, parse_checked};
use crate::ports::{EndpointStore, Entropy, PutEndpoint};
use crate::problem::{Problem, ProblemCode};
use crate::settings_cache::configuration_problem;
use crate::signing_secret;
use crate::webhook::{DEFAULT_RETRY_SCHEDULE_SECONDS, MAX_ENDPOINTS_PER_CONSUMER, WebhookEndpoint};

const WHAT: &str = "webhook endpoint";

/// The most headers of an endpoint.
const MAX_HEADERS: usize = 20;

/// The most attempts of an endpoint's own schedule.
const MAX_SCHEDULE_ENTRIES: usize = 20;

/// The longest delay between two attempts, in seconds: a day.
const MAX_SCHEDULE_DELAY_S: u32 = 86_400;

/// Types that this version does not emit. Endpoints may ask for them in advance.
const FURTHER_EVENT_TYPES: [&str; 4] =
    ["booking.rescheduled", "provider.notification_failed", "webhook_endpoint.disabled", "webhook.exhausted"];

// The body has no Debug: its headers are secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointBody {
    url: String,
    #[serde(default)]
    event_types: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    retry_schedule_seconds: Option<Vec<u32>>,
    enabled: Option<bool>,
}

/// Headers are shown by name alone, the secret not at all.
fn view(endpoint: &WebhookEndpoint) -> Value {
    json!({
        "id": endpoint.id.as_str(),
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "header_names": endpoint.headers.keys().collect::<Vec<_>>(),
        "retry_schedule_seconds": endpoint.retry_schedule_seconds,
        "enabled": endpoint.enabled,
        "created_at": endpoint.created_at,
    })
}

/// Makes an endpoint. The answer is the only one that ever shows its secret.
pub async fn create_endpoint(
    store: &impl EndpointStore,
    entropy: &impl Entropy,
    rules: TargetRules,
    tenant: &Tenant,
    body: &Value,
    now: Timestamp,
) -> Result<Value, Problem> {
    let (body, mut errors) = parse_checked::<EndpointBody>(body)?.into_parts();
    judge(&body, rules, &mut errors);
    errors.finish()?;
    let secret = signing_secret::generate(entropy);
    let endpoint = WebhookEndpoint {
        id: WebhookEndpointId::from_bytes(entropy.bytes16()),
        tenant: tenant.clone(),
        url: body.url,
        event_types: body.event_types,
        headers: body
            .headers
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), SecretString::from(value)))
            .collect(),
        retry_schedule_seconds: body
            .retry_schedule_seconds
            .unwrap_or_else(|| DEFAULT_RETRY_SCHEDULE_SECONDS.to_vec()),
        enabled: body.enabled.unwrap_or(true),
        secret,
        created_at: now,
        slow_until: None,
    };
    let put = store.put_endpoint(&endpoint, MAX_ENDPOINTS_PER_CONSUMER).await;
    match put.map_err(|error| configuration_problem(&error))? {
        PutEndpoint::Done => {
            let mut answer = view(&endpoint);
            answer["secret"] = json!(endpoint.secret.expose_secret());
            Ok(answer)
        }
        PutEndpoint::LimitReached => {
            let detail = format!("There are {MAX_ENDPOINTS_PER_CONSUMER} webhook endpoints already.");
            Err(Problem::new(ProblemCode::LimitReached, detail))
        }
    }
}

/// One endpoint.
pub async fn endpoint(store: &impl EndpointStore, tenant: &Tenant, id: &str) -> Result<Value, Problem> {
    let id = WebhookEndpointId::parse(id).map_err(|_| not_found(WHAT))?;
    let endpoint = store.endpoint(tenant, &id).await.map_err(|error| configuration_problem(&error))?;
    endpoint.as_ref().map(view).ok_or_else(|| not_found(WHAT))
}

/// All endpoints of a tenant.
pub async fn endpoints(store: &impl EndpointStore, tenant: &Tenant) -> Result<Value, Problem> {
    let endpoints = store.endpoints(tenant).await.map_err(|error| configuration_problem(&error))?;
    Ok(list(endpoints.iter().map(view)))
}

/// Removes an endpoint. Deliveries to it end.
pub async fn delete_endpoint(store: &impl EndpointStore, tenant: &Tenant, id: &str) -> Result<(), Problem> {
    let id = WebhookEndpointId::parse(id).map_err(|_| not_found(WHAT))?;
    let existed = store.delete_endpoint(tenant, &id).await.map_err(|error| configuration_problem(&error))?;
    if existed { Ok(()) } else { Err(not_found(WHAT)) }
}

fn judge(body: &EndpointBody, rules: TargetRules, errors: &mut FieldErrors) {
    check::target_url(errors, "/url", &body.url, UrlKind::Whole, rules);
    judge_event_types(&body.event_types, errors);
    if body.headers.len() > MAX_HEADERS {
        let detail = format!("has {} entries; at most {MAX_HEADERS} are allowed", body.headers.len());
        errors.push("/headers", detail);
    }
    for (index, (name, value)) in body.headers.iter().enumerate().take(MAX_HEADERS) {
        let pointer = format!("/headers/{}", escape(name));
        check::header_name(errors, &pointer, name);
        check::header_value(errors, &pointer, value);
        let mut before = body.headers.keys().take(index);
        if before.any(|known| known.eq_ignore_ascii_case(name)) {
            errors.push(pointer, "is there twice; the case of letters does not count");
        }
    }
    let Some(schedule) = &body.retry_schedule_seconds else { return };
    if schedule.is_empty() || schedule.len() > MAX_SCHEDULE_ENTRIES {
        errors.push("/retry_schedule_seconds", format!("must have 1 to {MAX_SCHEDULE_ENTRIES} entries"));
    }
    for (index, delay_s) in schedule.iter().enumerate().take(MAX_SCHEDULE_ENTRIES) {
        if *delay_s > MAX_SCHEDULE_DELAY_S {
            let detail = format!("must be at most {MAX_SCHEDULE_DELAY_S}");
            errors.push(format!("/retry_schedule_seconds/{index}"), detail);
        }
    }
}

fn judge_event_types(event_types: &[String], errors: &mut FieldErrors) {
    let known: Vec<&str> =
        EventType::ALL.iter().map(|known| known.as_str()).chain(FURTHER_EVENT_TYPES).collect();
    if event_types.len() > known.len() {
        errors.push("/event_types", format!("has more entries than the {} types there are", known.len()));
        return;
    }
    for (index, event_type) in event_types.iter().enumerate() {
        let pointer = format!("/event_types/{index}");
        if !known.contains(&event_type.as_str()) {
            errors.push(pointer, format!("is not a type of event; known are {}", known.join(", ")));
        } else if event_types[..index].contains(event_type) {
            errors.push(pointer, "is there twice");
        }
    }
}
