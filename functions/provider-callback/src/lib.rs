//! `POST /v1/provider/bookings/{id}/{acknowledge|cancel|attendance}`: a provider tells of a booking by
//! calling us.

use holdfast_app::auth::{presented_key, provider_of};
use holdfast_app::bookings::{
    Acknowledged, ProviderCaller, acknowledge, cancel_by_provider, read_attendance, read_provider_answer,
    read_provider_cancel, tell_attendance,
};
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
    /// `POST /v1/provider/bookings/{id}/cancel`
    Cancel,
    /// `POST /v1/provider/bookings/{id}/attendance`
    Attendance,
}

/// The routes of this function.
pub fn router() -> Result<Router<Route>, RouteError> {
    Router::new(&[
        (Method::POST, "/v1/provider/bookings/{id}/acknowledge", Route::Acknowledge),
        (Method::POST, "/v1/provider/bookings/{id}/cancel", Route::Cancel),
        (Method::POST, "/v1/provider/bookings/{id}/attendance", Route::Attendance),
    ])
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
        let presented = presented_key(request.header(AUTHORIZATION.as_str())?)?;
        let known = self.settings.verify(&presented, None, self.clock.now()).await?;
        let caller = ProviderCaller { provider_id: provider_of(&known.key)?, mode: known.key.mode };
        let id = BookingId::parse(routed.parameter("id"))
            .map_err(|_| Problem::new(ProblemCode::NotFound, "There is no such booking at this provider."))?;
        record_booking(&id);
        // A provider that has nothing to say beyond the call itself may leave the body out.
        let body = if request.body.is_empty() && routed.key == Route::Cancel {
            json!({})
        } else {
            json_body(&request)?
        };
        let (store, clock) = (&self.store, &self.clock);
        let Acknowledged { booking } = match routed.key {
            Route::Acknowledge => {
                let answer = read_provider_answer(&body, clock.now())?;
                acknowledge(store, clock, &caller, &id, &answer).await?
            }
            Route::Cancel => {
                cancel_by_provider(store, clock, &caller, &id, &read_provider_cancel(&body)?).await?
            }
            Route::Attendance => tell_attendance(store, clock, &caller, &id, read_attendance(&body)?).await?,
        };
        let body = json!({
            "booking_id": booking.id.as_str(),
            "status": booking.status().as_str(),
            "version": booking.version(),
        });
        Ok(Response::json(StatusCode::OK, &body))
    }
}
