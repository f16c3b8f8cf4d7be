//! A scriptable stand-in for third-party providers: it speaks their protocols correctly, keeps its own books, and can
//! be told over `/control` to be late, to fail, to lose answers or to break the contract.
//!
//! One router hosts any number of providers: the base URL of provider `P` is `{simulator}/providers/P` for the native
//! protocol, `{simulator}/docplanner/P` for Docplanner's callbacks and `{simulator}/octo/P` for OCTO, over one
//! ledger. Nothing here is used by a deployment on AWS, and customer data sent to it is read over and never kept.

mod availability;
mod behaviour;
mod callback;
mod control;
mod docplanner;
mod fields;
mod ledger;
mod native;
mod octo;
mod opening;
mod serving;
mod state;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde::Deserialize;
use serde_json::json;

use crate::help;
use state::Simulator;

/// The largest request body that is read.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What the simulator knows from the start. All of it can be changed later over `/control/providers/{id}`.
#[derive(Debug, Clone, Default)]
pub struct SimulatorConfig {
    /// Base URL of the Holdfast API, for call-backs of providers that have none of their own.
    pub api_url: Option<String>,
    /// Providers with keys or secrets. Others need no entry: any provider id is served.
    pub providers: BTreeMap<String, ProviderConfig>,
}

/// What one provider knows. Absent fields leave what was known before.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// The provider's own key (`hf_test_provider_…`), for call-backs.
    pub callback_key: Option<String>,
    /// `whsec_…`. With it, an unsigned or wrongly signed POST is refused with 401.
    pub signing_secret: Option<String>,
    /// Base URL of the Holdfast API, for call-backs.
    pub api_url: Option<String>,
    /// A slot that a live booking has is refused to others. Not so unless given.
    pub one_per_slot: Option<bool>,
    /// By how many minutes the provider's clocks are ahead of UTC, for opening hours and protocols with local times;
    /// 0 unless given.
    pub utc_offset_minutes: Option<i32>,
    /// The hour of the provider's clocks at which it opens, and the one at which it closes; of the day unless given.
    pub opens_at_hour: Option<u8>,
    pub closes_at_hour: Option<u8>,
    /// How many units fit into a slot.
    pub capacity: Option<u32>,
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ProviderConfig")
            .field("has_callback_key", &self.callback_key.is_some())
            .field("has_signing_secret", &self.signing_secret.is_some())
            .field("api_url", &self.api_url)
            .field("one_per_slot", &self.one_per_slot)
            .field("utc_offset_minutes", &self.utc_offset_minutes)
            .field("opens_at_hour", &self.opens_at_hour)
            .field("closes_at_hour", &self.closes_at_hour)
            .field("capacity", &self.capacity)
            .finish()
    }
}

/// The simulator as a router, to be served on any port. Each call makes one with books of its own.
pub fn router(config: SimulatorConfig) -> Router {
    let simulator = Arc::new(Simulator::new(config));
    Router::new()
        .route("/", get(async |headers: HeaderMap| help::at_host(include_str!("help.txt"), &headers)))
        .route("/health", get(async || Json(json!({"status": "ok"}))))
        .route("/providers/{provider_id}/availability", get(availability::availability))
        .route("/providers/{provider_id}/bookings", post(native::book))
        .route("/providers/{provider_id}/bookings/{booking_id}", get(native::look_up))
        .route("/providers/{provider_id}/bookings/{booking_id}/{operation}", post(native::change))
        .route("/docplanner/{provider_id}", post(docplanner::receive))
        .route("/octo/{provider_id}/availability", post(octo::availability))
        .route("/octo/{provider_id}/bookings", post(octo::reserve))
        .route("/octo/{provider_id}/bookings/{uuid}", get(octo::look_up).patch(octo::update))
        .route("/octo/{provider_id}/bookings/{uuid}/{operation}", post(octo::change))
        .route("/control/behaviour", put(control::set_default_behaviour))
        .route("/control/behaviours", get(control::list_behaviours).delete(control::clear_behaviours))
        .route("/control/providers/{provider_id}", put(control::configure_provider))
        .route(
            "/control/providers/{provider_id}/behaviour",
            put(control::set_provider_behaviour).delete(control::clear_provider_behaviour),
        )
        .route(
            "/control/locations/{location_id}/behaviour",
            put(control::set_location_behaviour).delete(control::clear_location_behaviour),
        )
        .route("/control/next", post(control::push_next))
        .route("/control/state", delete(control::clear_state))
        .route("/control/bookings", get(control::list_bookings))
        .route("/control/slots", get(control::list_slots))
        .route("/control/calls", get(control::list_calls))
        .route("/control/callbacks", get(control::list_callbacks))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "unknown_path", "GET / says what there is."))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(simulator)
}

/// An answer `{code, message}`.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"code": code, "message": message}))).into_response()
}
