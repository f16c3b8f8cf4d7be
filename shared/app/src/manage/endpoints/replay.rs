//! Asks for an endpoint's deliveries of a time to be made again, which then happens in the background.

use holdfast_domain::{Tenant, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::known;
use crate::parse::parse_checked;
use crate::ports::{EndpointStore, ReplayMessage, ReplayQueue};
use crate::problem::{Problem, ProblemCode};
use crate::settings_cache::configuration_problem;
use crate::webhook::DELIVERY_KEPT_MS;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    since: Timestamp,
    until: Option<Timestamp>,
    #[serde(default)]
    only_failed: bool,
}

/// Asks for the deliveries that were created since a time, and before another one (now, if it is left out),
/// to be made again: all, or those alone that have failed so far. What is older than 30 days is gone.
pub async fn replay(
    store: &impl EndpointStore,
    queue: &impl ReplayQueue,
    tenant: &Tenant,
    id: &str,
    body: &Value,
    now: Timestamp,
) -> Result<Value, Problem> {
    let (body, mut errors) = parse_checked::<ReplayBody>(body)?.into_parts();
    if body.until.is_some_and(|until| until <= body.since) {
        errors.push("/until", "must be later than since");
    }
    if body.since > now {
        errors.push("/since", "must not be in the future");
    }
    errors.finish()?;
    let endpoint = known(store, tenant, id).await?;
    if !endpoint.enabled {
        let detail = "The endpoint is disabled. Enable it first.";
        return Err(Problem::new(ProblemCode::EndpointDisabled, detail));
    }
    // What is created from now on is delivered anyway.
    let message = ReplayMessage {
        tenant: tenant.to_string(),
        endpoint_id: endpoint.id.as_str().to_owned(),
        since: body.since.max(now.minus_ms(DELIVERY_KEPT_MS)),
        until: body.until.unwrap_or(now).min(now),
        only_failed: body.only_failed,
        requested_at: now,
        after: None,
    };
    queue.ask(&message, now, now).await.map_err(|error| configuration_problem(&error))?;
    Ok(json!({
        "endpoint_id": message.endpoint_id,
        "since": message.since,
        "until": message.until,
        "only_failed": message.only_failed,
    }))
}
