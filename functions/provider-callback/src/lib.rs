//! `POST /v1/provider/bookings/{id}/acknowledge`: a provider settles a booking by calling us.

use holdfast_app::auth::{presented_key, provider_of};
use holdfast_app::bookings::{acknowledge, read_provider_answer};
use holdfast_app::ports::{BookingStore, Clock, SettingsReader};
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_domain::BookingId;
use holdfast_lambda::http::{Request, Response, RouteError, Routed, Router, json_body};
use holdfast_lambda::telemetry::record_booking;
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use serde_json::json;

/// The calls that this function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /v1/provider/bookings/{id}/acknowledge`
    Acknowledge,
}

/// The routes of this function.
pub fn router() -> Result<Router<Route>, RouteError> {
    Router::new(&[(Method::POST, "/v1/provider/bookings/{id}/acknowledge", Route::Acknowledge)])
}

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Service<S, R, C> {
    /// The bookings.
    pub store: S,
    /// Keys.
    pub settings: SettingsCache<R>,
    /// The time of day.
    pub clock: C,
}

impl<S: BookingStore, R: SettingsReader, C: Clock> Service<S, R, C> {
    /// Answers a request.
    pub async fn handle(&self, request: Request, routed: Routed<Route>) -> Result<Response, Problem> {
        match routed.key {
            Route::Acknowledge => self.acknowledge(&request, routed.parameter("id")).await,
        }
    }

    async fn acknowledge(&self, request: &Request, id: &str) -> Result<Response, Problem> {
        let presented = presented_key(request.header(AUTHORIZATION.as_str())?)?;
        let caller = self.settings.verify(&presented, None, self.clock.now()).await?;
        let provider_id = provider_of(&caller.key)?;
        let answer = read_provider_answer(&json_body(request)?, self.clock.now())?;
        let id = BookingId::parse(id)
            .map_err(|_| Problem::new(ProblemCode::NotFound, "There is no such booking at this provider."))?;
        record_booking(&id);
        let acknowledged =
            acknowledge(&self.store, &self.clock, &provider_id, caller.key.mode, &id, &answer).await?;
        let booking = &acknowledged.booking;
        let body = json!({
            "booking_id": booking.id.as_str(),
            "status": booking.status().as_str(),
            "version": booking.version(),
        });
        Ok(Response::json(StatusCode::OK, &body))
    }
}
