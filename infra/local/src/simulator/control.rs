//! The control interface: JSON over HTTP, for people with `curl` and for tests. Its errors say what to do.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    ProviderConfig,
    behaviour::{Behaviour, Behaviours, Next, Operation},
    opening::MAX_HOUR,
    refuse,
    state::Simulator,
};
use crate::signature;

/// How far a provider's clocks may be from UTC: 18 hours.
const MAX_UTC_OFFSET_MINUTES: i32 = 18 * 60;

type Shared = State<Arc<Simulator>>;

/// Which entries a list shows. Absent: all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filter {
    provider_id: Option<String>,
    booking_id: Option<String>,
}

/// Which calls a list shows. Absent: all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CallFilter {
    provider_id: Option<String>,
    location_id: Option<String>,
    booking_id: Option<String>,
    operation: Option<Operation>,
}

/// Which held slots a list shows. Absent: all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SlotFilter {
    provider_id: Option<String>,
    location_id: Option<String>,
}

impl Filter {
    fn lets_through(&self, provider_id: &str, booking_id: &str) -> bool {
        self.provider_id.as_deref().is_none_or(|wanted| wanted == provider_id)
            && self.booking_id.as_deref().is_none_or(|wanted| wanted == booking_id)
    }
}

pub(super) async fn configure_provider(
    State(simulator): Shared,
    Path(provider_id): Path<String>,
    body: Bytes,
) -> Response {
    let change: ProviderConfig = match parse(&body) {
        Ok(change) => change,
        Err(response) => return response,
    };
    if change.signing_secret.as_deref().is_some_and(|secret| !signature::is_usable_secret(secret)) {
        return invalid("signing_secret must be whsec_ and base64");
    }
    if change.utc_offset_minutes.is_some_and(|minutes| minutes.abs() > MAX_UTC_OFFSET_MINUTES) {
        return invalid("utc_offset_minutes must be from -1080 to 1080");
    }
    let hours = [change.opens_at_hour, change.closes_at_hour];
    if hours.into_iter().flatten().any(|hour| hour > MAX_HOUR) {
        return invalid("opens_at_hour and closes_at_hour must be from 0 to 24");
    }
    match simulator.configure(&provider_id, change) {
        Ok(settings) => Json(settings).into_response(),
        Err(reason) => invalid(&reason),
    }
}

pub(super) async fn set_default_behaviour(State(simulator): Shared, body: Bytes) -> Response {
    set_behaviour(&simulator, &body, |behaviours, behaviour| {
        behaviours.set_default(behaviour);
        Ok(())
    })
}

pub(super) async fn set_provider_behaviour(
    State(simulator): Shared,
    Path(provider_id): Path<String>,
    body: Bytes,
) -> Response {
    set_behaviour(&simulator, &body, |behaviours, behaviour| behaviours.set_provider(provider_id, behaviour))
}

pub(super) async fn set_location_behaviour(
    State(simulator): Shared,
    Path(location_id): Path<String>,
    body: Bytes,
) -> Response {
    set_behaviour(&simulator, &body, |behaviours, behaviour| behaviours.set_location(location_id, behaviour))
}

pub(super) async fn clear_provider_behaviour(
    State(simulator): Shared,
    Path(provider_id): Path<String>,
) -> StatusCode {
    simulator.change_behaviours(|behaviours| behaviours.clear_provider(&provider_id));
    StatusCode::NO_CONTENT
}

pub(super) async fn clear_location_behaviour(
    State(simulator): Shared,
    Path(location_id): Path<String>,
) -> StatusCode {
    simulator.change_behaviours(|behaviours| behaviours.clear_location(&location_id));
    StatusCode::NO_CONTENT
}

pub(super) async fn push_next(State(simulator): Shared, body: Bytes) -> Response {
    let next: Next = match parse(&body) {
        Ok(next) => next,
        Err(response) => return response,
    };
    let shown = json!(next);
    let pushed = next
        .behaviour
        .check()
        .and_then(|()| simulator.change_behaviours(|behaviours| behaviours.push_next(next)));
    match pushed {
        Ok(()) => Json(shown).into_response(),
        Err(reason) => invalid(&reason),
    }
}

pub(super) async fn list_behaviours(State(simulator): Shared) -> Response {
    Json(simulator.change_behaviours(|behaviours| json!(behaviours))).into_response()
}

pub(super) async fn clear_behaviours(State(simulator): Shared) -> StatusCode {
    simulator.change_behaviours(|behaviours| *behaviours = Behaviours::default());
    StatusCode::NO_CONTENT
}

pub(super) async fn clear_state(State(simulator): Shared) -> StatusCode {
    simulator.clear();
    StatusCode::NO_CONTENT
}

pub(super) async fn list_bookings(State(simulator): Shared, Query(filter): Query<Filter>) -> Response {
    Json(simulator.bookings(|provider_id, booking_id| filter.lets_through(provider_id, booking_id)))
        .into_response()
}

pub(super) async fn list_slots(State(simulator): Shared, Query(filter): Query<SlotFilter>) -> Response {
    let SlotFilter { provider_id, location_id } = filter;
    Json(simulator.held_slots(|provider, place| {
        provider_id.as_deref().is_none_or(|wanted| wanted == provider)
            && location_id.as_deref().is_none_or(|wanted| wanted == place)
    }))
    .into_response()
}

pub(super) async fn list_calls(State(simulator): Shared, Query(filter): Query<CallFilter>) -> Response {
    let CallFilter { provider_id, location_id, booking_id, operation } = filter;
    let is = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
    let calls = simulator.calls(|call| {
        is(&provider_id, Some(&call.provider_id))
            && is(&location_id, call.location_id.as_deref())
            && is(&booking_id, call.booking_id.as_deref())
            && operation.is_none_or(|wanted| wanted == call.operation)
    });
    Json(json!({"data": calls})).into_response()
}

pub(super) async fn list_callbacks(State(simulator): Shared, Query(filter): Query<Filter>) -> Response {
    let callbacks =
        simulator.callbacks(|record| filter.lets_through(&record.provider_id, &record.booking_id));
    Json(json!({"data": callbacks})).into_response()
}

fn set_behaviour(
    simulator: &Simulator,
    body: &[u8],
    set: impl FnOnce(&mut Behaviours, Behaviour) -> Result<(), String>,
) -> Response {
    let behaviour: Behaviour = match parse(body) {
        Ok(behaviour) => behaviour,
        Err(response) => return response,
    };
    let shown = json!(behaviour);
    let outcome =
        behaviour.check().and_then(|()| simulator.change_behaviours(|behaviours| set(behaviours, behaviour)));
    match outcome {
        Ok(()) => Json(shown).into_response(),
        Err(reason) => invalid(&reason),
    }
}

// The content type is not asked for, so that `curl -d` works as it stands.
#[allow(clippy::result_large_err, reason = "the error is the answer, made once per refused request")]
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| invalid(&error.to_string()))
}

fn invalid(message: &str) -> Response {
    refuse(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
}
