//! Providers call us: to tell of a booking (`POST /v1/provider/bookings/{id}/{acknowledge|cancel|attendance}`),
//! to fetch what they are to be told (`GET /v1/provider/notifications`,
//! `POST /v1/provider/notifications/release`), and to tell what is open (`PUT /v1/provider/availability`).

use holdfast_app::auth::{presented_key, provider_of};
use holdfast_app::availability::{ToldAvailability, read_push, tell_availability};
use holdfast_app::bookings::{
    Acknowledged, DEFAULT_FETCHED, FetchCall, Fetched, MAX_FETCHED, ProviderCaller, acknowledge,
    cancel_by_provider, fetch_notifications, read_attendance, read_provider_answer, read_provider_cancel,
    release_notifications, tell_attendance,
};
use holdfast_app::ports::{
    AvailabilityStore, BookingStore, Clock, LocationStore, NotificationMailbox, SettingsReader, Wanted,
};
use holdfast_app::problem::{FieldError, Problem, ProblemCode};
use holdfast_app::settings::ProviderSettings;
use holdfast_app::settings_cache::{SettingsCache, configuration_problem};
use holdfast_domain::{Booking, BookingId, Notification};
use holdfast_lambda::http::{Request, Response, RouteError, Routed, Router, json_body, json_body_up_to};
use holdfast_lambda::telemetry::record_booking;
use holdfast_provider::{MAX_ANSWER_BYTES, notification_body};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use serde_json::json;

/// What is left of the function's time when the last notifications begin to be taken, in milliseconds: ample
/// for the calls that this takes.
const FETCH_MARGIN_MS: u64 = 15_000;

/// The largest body that tells of availability, in bytes: as large as an answer that is asked for.
const MAX_AVAILABILITY_BYTES: usize = MAX_ANSWER_BYTES;

/// The calls that this function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /v1/provider/bookings/{id}/acknowledge`
    Acknowledge,
    /// `POST /v1/provider/bookings/{id}/cancel`
    Cancel,
    /// `POST /v1/provider/bookings/{id}/attendance`
    Attendance,
    /// `GET /v1/provider/notifications`
    Fetch,
    /// `POST /v1/provider/notifications/release`
    Release,
    /// `PUT /v1/provider/availability`
    Availability,
}

/// The routes of this function.
pub fn router() -> Result<Router<Route>, RouteError> {
    Router::new(&[
        (Method::POST, "/v1/provider/bookings/{id}/acknowledge", Route::Acknowledge),
        (Method::POST, "/v1/provider/bookings/{id}/cancel", Route::Cancel),
        (Method::POST, "/v1/provider/bookings/{id}/attendance", Route::Attendance),
        (Method::GET, "/v1/provider/notifications", Route::Fetch),
        (Method::POST, "/v1/provider/notifications/release", Route::Release),
        (Method::PUT, "/v1/provider/availability", Route::Availability),
    ])
}

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Service<S, M, A, R, C> {
    /// The bookings.
    pub store: S,
    /// What waits to be fetched.
    pub mailbox: M,
    /// What is open.
    pub availability: A,
    /// Keys and providers.
    pub settings: SettingsCache<R>,
    /// Locations.
    pub locations: R,
    /// The time of day.
    pub clock: C,
}

/// What a provider tells of a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Acknowledge,
    Cancel,
    Attendance,
}

impl<S, M, A, R, C> Service<S, M, A, R, C>
where
    S: BookingStore,
    M: NotificationMailbox,
    A: AvailabilityStore,
    R: LocationStore + SettingsReader,
    C: Clock,
{
    /// Answers a request.
    pub async fn handle(&self, request: Request, routed: Routed<Route>) -> Result<Response, Problem> {
        let presented = presented_key(request.header(AUTHORIZATION.as_str())?)?;
        let known = self.settings.verify(&presented, None, self.clock.now()).await?;
        let caller = ProviderCaller { provider_id: provider_of(&known.key)?, mode: known.key.mode };
        let told = match routed.key {
            Route::Acknowledge => Told::Acknowledge,
            Route::Cancel => Told::Cancel,
            Route::Attendance => Told::Attendance,
            Route::Fetch => return self.fetch(&request, &caller).await,
            Route::Release => return self.release(&request, &caller).await,
            Route::Availability => return self.tell_availability(&request, &caller).await,
        };
        self.hear(&request, &caller, told, routed.parameter("id")).await
    }

    async fn hear(
        &self,
        request: &Request,
        caller: &ProviderCaller,
        told: Told,
        id: &str,
    ) -> Result<Response, Problem> {
        let id = BookingId::parse(id)
            .map_err(|_| Problem::new(ProblemCode::NotFound, "There is no such booking at this provider."))?;
        record_booking(&id);
        // A provider that has nothing to say beyond the call itself may leave the body out.
        let body =
            if request.body.is_empty() && told == Told::Cancel { json!({}) } else { json_body(request)? };
        let (store, clock) = (&self.store, &self.clock);
        let Acknowledged { booking } = match told {
            Told::Acknowledge => {
                let answer = read_provider_answer(&body, clock.now())?;
                acknowledge(store, clock, caller, &id, &answer).await?
            }
            Told::Cancel => {
                cancel_by_provider(store, clock, caller, &id, &read_provider_cancel(&body)?).await?
            }
            Told::Attendance => tell_attendance(store, clock, caller, &id, read_attendance(&body)?).await?,
        };
        let body = json!({
            "booking_id": booking.id.as_str(),
            "status": booking.status().as_str(),
            "version": booking.version(),
        });
        Ok(Response::json(StatusCode::OK, &body))
    }

    /// An empty mailbox is an empty list, not an error: nothing is wrong with it.
    async fn fetch(&self, request: &Request, caller: &ProviderCaller) -> Result<Response, Problem> {
        if request.method == Method::HEAD {
            // What is taken has to be in the answer.
            return Ok(Response::empty(StatusCode::OK));
        }
        let until = request.deadline.minus_ms(FETCH_MARGIN_MS);
        let call = FetchCall { caller, limit: limit(request)?, until };
        let provider = self.provider(caller).await?;
        let render = |booking: &Booking, told: &Notification| notification_body(&provider, booking, told);
        let Fetched { notifications, remaining } =
            fetch_notifications(&self.store, &self.mailbox, &self.clock, call, &render).await?;
        let body = json!({ "notifications": notifications, "remaining": remaining });
        Ok(Response::json(StatusCode::OK, &body))
    }

    async fn release(&self, request: &Request, caller: &ProviderCaller) -> Result<Response, Problem> {
        request.only_query(&[])?;
        let says_nothing =
            request.body.is_empty() || json_body(request)?.as_object().is_some_and(serde_json::Map::is_empty);
        if !says_nothing {
            let detail = "This call has no body, or an empty object.";
            return Err(Problem::new(ProblemCode::InvalidRequest, detail));
        }
        let released = release_notifications(&self.mailbox, &self.clock, caller).await?;
        Ok(Response::json(StatusCode::OK, &json!({ "released": released })))
    }

    /// All that is open at one of the provider's locations.
    async fn tell_availability(
        &self,
        request: &Request,
        caller: &ProviderCaller,
    ) -> Result<Response, Problem> {
        request.only_query(&[])?;
        let push = read_push(&json_body_up_to(request, MAX_AVAILABILITY_BYTES)?)?;
        let location_id = push.location_id.clone();
        let provider = self.provider(caller).await?;
        let ToldAvailability { time_zone, as_of, remembered, .. } =
            tell_availability(&self.availability, &self.locations, &provider, push, request.received_at)
                .await?;
        let body = json!({
            "location_id": location_id,
            "time_zone": time_zone,
            "as_of": as_of,
            "slots": remembered,
        });
        Ok(Response::json(StatusCode::OK, &body))
    }

    async fn provider(&self, caller: &ProviderCaller) -> Result<ProviderSettings, Problem> {
        let wanted = Wanted { provider_id: Some(caller.provider_id.clone()), ..Wanted::default() };
        let known = self.settings.load(&wanted, self.clock.now()).await;
        let known = known.map_err(|error| configuration_problem(&error))?;
        known.provider.filter(|provider| provider.mode == caller.mode).ok_or_else(|| {
            Problem::new(ProblemCode::NotFound, "The provider of this key is not configured any more.")
        })
    }
}

/// How many notifications are wanted.
fn limit(request: &Request) -> Result<usize, Problem> {
    const LIMIT: &str = "limit";
    request.only_query(&[LIMIT])?;
    let Some(text) = request.query_value(LIMIT)? else {
        return Ok(DEFAULT_FETCHED);
    };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_FETCHED).contains(limit));
    limit.ok_or_else(|| {
        let detail = format!("must be a number from 1 to {MAX_FETCHED}");
        Problem::new(ProblemCode::InvalidParameter, format!("{LIMIT} {detail}."))
            .with_errors(vec![FieldError::new(LIMIT, detail)])
    })
}
