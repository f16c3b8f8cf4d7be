//! The function for repairs: what is stuck, dead letters, single bookings, and the log of who did what.
//!
//! It has a role of its own, so that administration, which faces many more calls, never touches bookings and queues.

use holdfast_app::callers::Caller;
use holdfast_app::ports::{
    AuditLog, BookingStore, Clock, DeadLetters, Entropy, EventBus, NotificationMailbox, RecordParking,
    SettingsReader, TimerQueue,
};
use holdfast_app::problem::Problem;
use holdfast_app::repair::{AuditParameters, Operator, Repair, StuckParameters};
use holdfast_app::settings::KeyHash;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_lambda::http::{Request, Response, RouteError, Routed, Router, json_body};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};

/// A call. All need an administrator's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /v1/admin/stuck`
    Stuck,
    /// `GET /v1/admin/audit`
    Audit,
    /// `POST /v1/admin/dead-letters/redrive`
    Redrive,
    /// `GET /v1/admin/bookings/{id}`
    Booking,
    /// `POST /v1/admin/bookings/{id}/retry`
    Retry,
    /// `POST /v1/admin/bookings/{id}/cancel`
    Cancel,
    /// `POST /v1/admin/bookings/{id}/re-emit`
    EmitAgain,
    /// `POST /v1/admin/re-emit`
    EmitPeriodAgain,
}

/// The routes of this function.
pub fn router() -> Result<Router<Route>, RouteError> {
    Router::new(&[
        (Method::GET, "/v1/admin/stuck", Route::Stuck),
        (Method::GET, "/v1/admin/audit", Route::Audit),
        (Method::POST, "/v1/admin/dead-letters/redrive", Route::Redrive),
        (Method::GET, "/v1/admin/bookings/{id}", Route::Booking),
        (Method::POST, "/v1/admin/bookings/{id}/retry", Route::Retry),
        (Method::POST, "/v1/admin/bookings/{id}/cancel", Route::Cancel),
        (Method::POST, "/v1/admin/bookings/{id}/re-emit", Route::EmitAgain),
        (Method::POST, "/v1/admin/re-emit", Route::EmitPeriodAgain),
    ])
}

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Service<R, S, L, D, T, B, M, P, C, E> {
    /// The keys.
    pub settings: SettingsCache<R>,
    /// The hashes of the administrators' keys that the deployment was given.
    pub admins: Vec<KeyHash>,
    /// The use cases.
    pub repair: Repair<S, L, D, T, B, M, P, C, E>,
}

impl<R, S, L, D, T, B, M, P, C, E> Service<R, S, L, D, T, B, M, P, C, E>
where
    R: SettingsReader,
    S: BookingStore,
    L: AuditLog,
    D: DeadLetters,
    T: TimerQueue,
    B: EventBus,
    M: NotificationMailbox,
    P: RecordParking,
    C: Clock,
    E: Entropy,
{
    /// Answers a request.
    pub async fn handle(&self, request: Request, routed: Routed<Route>) -> Result<Response, Problem> {
        let authorization = request.header(AUTHORIZATION.as_str())?;
        let now = self.repair.clock.now();
        let caller = Caller::of(&self.settings, &self.admins, authorization, now).await?;
        let operator = Operator { key_id: caller.administrator()? };
        let (repair, id) = (&self.repair, routed.parameter("id"));
        let answer = match routed.key {
            Route::Stuck => {
                request.only_query(&StuckParameters::NAMES)?;
                let parameters = StuckParameters {
                    overdue_seconds: request.query_value("overdue_seconds")?,
                    limit: request.query_value("limit")?,
                };
                Box::pin(repair.stuck(&parameters)).await?
            }
            Route::Audit => {
                request.only_query(&AuditParameters::NAMES)?;
                let parameters = AuditParameters {
                    limit: request.query_value("limit")?,
                    cursor: request.query_value("cursor")?,
                };
                repair.audit_log(&parameters).await?
            }
            Route::Redrive => Box::pin(repair.redrive(&operator, &json_body(&request)?)).await?,
            Route::Booking => repair.booking(id).await?,
            Route::Retry => Box::pin(repair.retry(&operator, id, &json_body(&request)?)).await?,
            Route::Cancel => Box::pin(repair.cancel(&operator, id, &json_body(&request)?)).await?,
            Route::EmitAgain => Box::pin(repair.emit_again(&operator, id, &json_body(&request)?)).await?,
            Route::EmitPeriodAgain => {
                Box::pin(repair.emit_period_again(&operator, &json_body(&request)?)).await?
            }
        };
        Ok(Response::json(StatusCode::OK, &answer))
    }
}
