//! `/v1/bookings` and everything under `/v1/bookings/{id}`.
//!
//! Between HTTP and the use cases: keys, headers, bodies and status codes. What a booking is and may
//! become is decided elsewhere.

use std::time::Duration;

use holdfast_app::auth::{consumer_of, presented_key};
use holdfast_app::availability::{BookingKeySecret, SlotWord, needs_another_secret, slot_word};
use holdfast_app::bookings::{
    Answer, CreateCall, Created, Engine, ListParameters, Listed, MAX_WAIT_S, Operated, OperationCall, Read,
    ReadCreate, ValidCreate, erase_customer, list, owned, read, read_change, read_create, read_list,
    retry_after_s,
};
use holdfast_app::idempotency::{IdempotencyKey, fingerprint, preferred_wait_s};
use holdfast_app::ports::{
    AvailabilityStore, BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway,
    RequestCounter, SettingsReader, Wanted,
};
use holdfast_app::problem::{FieldError, Problem, ProblemCode};
use holdfast_app::rates::RequestRates;
use holdfast_app::settings::ProviderSettings;
use holdfast_app::settings_cache::{Authenticated, SettingsCache, configuration_problem};
use holdfast_app::stored::Fingerprint;
use holdfast_app::view::{booking_view, history_view, personal_view};
use holdfast_domain::{Booking, BookingId, ConfirmationMode, OperationKind, Tenant};
use holdfast_lambda::http::{Request, Response, RouteError, Routed, Router, json_body, limited};
use holdfast_lambda::telemetry::record_booking;
use http::header::{AUTHORIZATION, ETAG, IF_NONE_MATCH, LINK, LOCATION, RETRY_AFTER};
use http::{HeaderName, Method, StatusCode};
use serde_json::{Value, json};

/// What is left of the function's time when a waiting read answers, in milliseconds.
const WAIT_MARGIN_MS: u64 = 1_000;

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The calls that this function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /v1/bookings`
    Create,
    /// About bookings that there are.
    Existing(Existing),
}

/// The calls about bookings that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// `GET /v1/bookings`
    List,
    /// `GET /v1/bookings/{id}`
    Read,
    /// `GET /v1/bookings/{id}/events`
    History,
    /// `POST /v1/bookings/{id}/{confirm|extend|cancel|reschedule}`
    Operate(OperationKind),
    /// `DELETE /v1/bookings/{id}/customer`
    EraseCustomer,
}

/// The routes of this function.
pub fn router() -> Result<Router<Route>, RouteError> {
    let operate = |kind| Route::Existing(Existing::Operate(kind));
    Router::new(&[
        (Method::POST, "/v1/bookings", Route::Create),
        (Method::GET, "/v1/bookings", Route::Existing(Existing::List)),
        (Method::GET, "/v1/bookings/{id}", Route::Existing(Existing::Read)),
        (Method::GET, "/v1/bookings/{id}/events", Route::Existing(Existing::History)),
        (Method::POST, "/v1/bookings/{id}/confirm", operate(OperationKind::Confirm)),
        (Method::POST, "/v1/bookings/{id}/extend", operate(OperationKind::Extend)),
        (Method::POST, "/v1/bookings/{id}/cancel", operate(OperationKind::Cancel)),
        (Method::POST, "/v1/bookings/{id}/reschedule", operate(OperationKind::Reschedule)),
        (Method::DELETE, "/v1/bookings/{id}/customer", Route::Existing(Existing::EraseCustomer)),
    ])
}

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Service<S, G, B, R, A, C, E> {
    /// Makes bookings.
    pub engine: Engine<S, G, B, C, E>,
    /// Keys and providers.
    pub settings: SettingsCache<R>,
    /// What is known of slots.
    pub availability: A,
    /// How many requests consumers make.
    pub rates: RequestRates,
    /// Where they are counted.
    pub counter: R,
    /// The time of day.
    pub clock: C,
}

impl<S, G, B, R, A, C, E> Service<S, G, B, R, A, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    R: SettingsReader + RequestCounter,
    A: AvailabilityStore,
    C: Clock,
    E: Entropy,
{
    /// Answers a request.
    pub async fn handle(&self, request: Request, routed: Routed<Route>) -> Result<Response, Problem> {
        // Both are on the heap, since they are large.
        match routed.key {
            Route::Create => Box::pin(self.create(&request)).await,
            Route::Existing(call) => Box::pin(self.serve(call, &request, routed.parameter("id"))).await,
        }
    }

    async fn serve(&self, call: Existing, request: &Request, id: &str) -> Result<Response, Problem> {
        let authorization = request.header(AUTHORIZATION.as_str())?;
        let caller = self.settings.authenticate(authorization, None, self.clock.now()).await?;
        let tenant = consumer_of(&caller.key)?;
        let serving = async {
            match call {
                Existing::List => self.list(request, &tenant).await,
                Existing::Read => self.read(request, &tenant, id).await,
                Existing::History => self.history(request, &tenant, id).await,
                Existing::Operate(kind) => Box::pin(self.operate(request, &tenant, kind, id)).await,
                Existing::EraseCustomer => self.erase_customer(&tenant, id).await,
            }
        };
        self.limited(&tenant, Box::pin(serving)).await
    }

    async fn limited(
        &self,
        tenant: &Tenant,
        serving: impl Future<Output = Result<Response, Problem>>,
    ) -> Result<Response, Problem> {
        limited(&self.rates, &self.counter, &self.clock, tenant, serving).await
    }

    async fn create(&self, request: &Request) -> Result<Response, Problem> {
        let presented = presented_key(request.header(AUTHORIZATION.as_str())?)?;
        // The body is read before the key is verified, so that key and provider come in one read; who has
        // no key is told of that alone.
        let body = json_body(request);
        let create = body.as_ref().map_err(Clone::clone).and_then(read_create);
        let provider_id = create.as_ref().ok().map(|create| create.provider_id().clone());
        let has_booking_key = create.as_ref().is_ok_and(|create| create.slot.key().is_some());
        let wanted =
            Wanted { key_id: None, provider_id: provider_id.clone(), booking_key_secrets: has_booking_key };
        let caller = self.settings.verify_with(&presented, wanted, self.clock.now()).await?;
        let tenant = consumer_of(&caller.key)?;
        if let (Some(reading), Some(provider_id)) = (caller.breaker, &provider_id) {
            self.engine.breakers().remember(provider_id, reading.state, reading.read_at);
        }
        let making = async { self.make(request, &tenant, caller, &body?, create?).await };
        self.limited(&tenant, Box::pin(making)).await
    }

    async fn make(
        &self,
        request: &Request,
        tenant: &Tenant,
        caller: Authenticated,
        body: &Value,
        create: ReadCreate,
    ) -> Result<Response, Problem> {
        let key = idempotency_key(request)?;
        let secrets = self.secrets_for(create.slot.key(), caller.booking_key_secrets).await?;
        let create = create.with_slot(&secrets, tenant.mode)?;
        let fingerprint = canonical_fingerprint(body)?;
        let provider = caller.provider.filter(|provider| provider.mode == tenant.mode);
        let slot_word = match &provider {
            Some(provider) if provider.confirmation == ConfirmationMode::Notify => {
                self.slot_word(provider, &create).await
            }
            Some(_) | None => SlotWord::Unknown,
        };
        let call = CreateCall {
            tenant: tenant.clone(),
            key,
            fingerprint,
            prefer_wait_s: preferred_wait_s(request.header("prefer")?),
            create,
            slot_word,
            provider: provider.as_ref(),
            received_at: request.received_at,
            path: &request.path,
            request_id: &request.request_id,
        };
        let created = Box::pin(self.engine.create(call)).await?;
        record_booking(&created.booking_id);
        Ok(created_response(created))
    }

    /// The secrets that a booking key is read with: those that are known, or those that there are if the key was
    /// signed with one that was made since.
    async fn secrets_for(
        &self,
        booking_key: Option<&str>,
        known: Vec<BookingKeySecret>,
    ) -> Result<Vec<BookingKeySecret>, Problem> {
        match booking_key {
            Some(key) if needs_another_secret(key, &known) => {
                let reloaded = self.settings.other_booking_key_secrets(self.clock.now()).await;
                reloaded.map_err(|error| configuration_problem(&error))
            }
            Some(_) | None => Ok(known),
        }
    }

    async fn slot_word(&self, provider: &ProviderSettings, create: &ValidCreate) -> SlotWord {
        let (provider_id, units) = (&provider.provider_id, create.request.units_wanted());
        let is_exclusive = provider.exclusive_slots;
        slot_word(&self.availability, provider_id, &create.slot, units, self.clock.now(), is_exclusive).await
    }

    async fn list(&self, request: &Request, tenant: &Tenant) -> Result<Response, Problem> {
        request.only_query(&ListParameters::NAMES)?;
        let wanted = ListParameters {
            reference: request.query_value("reference")?,
            status: request.query_value("status")?,
            provider_id: request.query_value("provider_id")?,
            created_after: request.query_value("created_after")?,
            limit: request.query_value("limit")?,
            cursor: request.query_value("cursor")?,
        };
        let Listed { bookings, next_cursor } =
            list(self.engine.store(), &read_list(tenant, &wanted)?).await?;
        let data: Vec<_> = bookings.iter().map(booking_view).collect();
        Ok(Response::json(StatusCode::OK, &json!({ "data": data, "next_cursor": next_cursor })))
    }

    async fn read(&self, request: &Request, tenant: &Tenant, id: &str) -> Result<Response, Problem> {
        request.only_query(&["wait"])?;
        let id = booking_id(id)?;
        record_booking(&id);
        let known_version = known_version(request.header(IF_NONE_MATCH.as_str())?);
        let wait = self.wait(request)?;
        let found = read(self.engine.store(), tenant, &id, known_version, wait).await?;
        match found {
            Read::Unchanged => {
                let etag = entity_tag(known_version.unwrap_or_default());
                Ok(Response::empty(StatusCode::NOT_MODIFIED).with_header(ETAG, &etag))
            }
            Read::Found(booking) => self.booking_response(&booking),
        }
    }

    fn booking_response(&self, booking: &Booking) -> Result<Response, Problem> {
        let body = serde_json::to_vec(&personal_view(booking)).map_err(|error| {
            tracing::error!(%error, "A booking could not be written as JSON.");
            Problem::new(ProblemCode::Internal, "The request could not be completed.")
        })?;
        let response =
            Response::json_bytes(StatusCode::OK, body).with_header(ETAG, &entity_tag(booking.version()));
        Ok(match retry_after_s(booking, self.clock.now()) {
            Some(seconds) => response.with_header(RETRY_AFTER, &seconds.to_string()),
            None => response,
        })
    }

    async fn history(&self, request: &Request, tenant: &Tenant, id: &str) -> Result<Response, Problem> {
        request.only_query(&[])?;
        let id = booking_id(id)?;
        record_booking(&id);
        let booking = owned(self.engine.store(), tenant, &id).await?;
        let body = json!({ "data": history_view(&booking), "next_cursor": null });
        Ok(Response::json(StatusCode::OK, &body))
    }

    async fn operate(
        &self,
        request: &Request,
        tenant: &Tenant,
        kind: OperationKind,
        id: &str,
    ) -> Result<Response, Problem> {
        let booking_id = booking_id(id)?;
        record_booking(&booking_id);
        // Where everything in the body is optional, so is the body.
        let body = if request.body.is_empty() { json!({}) } else { json_body(request)? };
        let key = idempotency_key(request)?;
        let wish = read_change(kind, &body)?;
        let secrets = match wish.booking_key() {
            Some(booking_key) => {
                let wanted = Wanted { booking_key_secrets: true, ..Wanted::default() };
                let known = self.settings.load(&wanted, self.clock.now()).await;
                let known = known.map_err(|error| configuration_problem(&error))?;
                self.secrets_for(Some(booking_key), known.booking_key_secrets).await?
            }
            None => Vec::new(),
        };
        let call = OperationCall {
            booking_id,
            key: key.map(|key| key.operation_key(kind)),
            fingerprint: canonical_fingerprint(&body)?,
            prefer_wait_s: preferred_wait_s(request.header("prefer")?),
            wish: wish.with_slot(&secrets, tenant.mode)?,
            tenant: tenant.clone(),
            received_at: request.received_at,
            path: &request.path,
            request_id: &request.request_id,
        };
        let location = format!("/v1/bookings/{id}");
        let Operated { answer, replayed } =
            self.engine.operate(call, &self.settings, &self.availability).await?;
        Ok(answer_response(answer, replayed, &location))
    }

    async fn erase_customer(&self, tenant: &Tenant, id: &str) -> Result<Response, Problem> {
        let id = booking_id(id)?;
        record_booking(&id);
        erase_customer(self.engine.store(), &self.clock, tenant, &id).await?;
        Ok(Response::empty(StatusCode::NO_CONTENT))
    }

    /// How long a read waits for a change: what was asked for, but never beyond the function's own time.
    fn wait(&self, request: &Request) -> Result<Duration, Problem> {
        let Some(asked) = request.query_value("wait")? else { return Ok(Duration::ZERO) };
        let seconds =
            asked.parse::<u64>().ok().filter(|seconds| *seconds <= MAX_WAIT_S).ok_or_else(|| {
                let detail = format!("must be a whole number of seconds from 0 to {MAX_WAIT_S}");
                Problem::new(ProblemCode::InvalidParameter, format!("wait {detail}."))
                    .with_errors(vec![FieldError::new("wait", detail)])
            })?;
        let left_ms = self.clock.now().ms_until(request.deadline).saturating_sub(WAIT_MARGIN_MS);
        Ok(Duration::from_secs(seconds).min(Duration::from_millis(left_ms)))
    }
}

fn idempotency_key(request: &Request) -> Result<Option<IdempotencyKey>, Problem> {
    let header = |name| {
        request.header(name).map_err(|problem| {
            Problem::new(ProblemCode::InvalidIdempotencyKey, problem.detail).with_errors(problem.errors)
        })
    };
    IdempotencyKey::from_headers(header("idempotency-key")?, header("x-idempotency-key")?)
}

fn canonical_fingerprint(body: &Value) -> Result<Fingerprint, Problem> {
    fingerprint(body).map_err(|error| {
        Problem::new(ProblemCode::MalformedJson, format!("The body has no canonical form: {error}."))
    })
}

fn booking_id(text: &str) -> Result<BookingId, Problem> {
    BookingId::parse(text).map_err(|_| Problem::new(ProblemCode::NotFound, "There is no such booking."))
}

/// A weak entity tag (RFC 9110, section 8.8.3): the version, since the attempts of an operation in flight
/// change the body but not the version.
fn entity_tag(version: u32) -> String {
    format!("W/\"{version}\"")
}

/// The newest version that the caller says it has.
fn known_version(if_none_match: Option<&str>) -> Option<u32> {
    if_none_match?
        .split(',')
        .filter_map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"').parse().ok())
        .max()
}

fn created_response(created: Created) -> Response {
    let Created { booking_id, answer, replayed } = created;
    answer_response(answer, replayed, &format!("/v1/bookings/{booking_id}"))
}

/// `location` is the booking's path.
fn answer_response(answer: Answer, replayed: bool, location: &str) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = if status.is_success() {
        Response::json_bytes(status, answer.body).with_header(LOCATION, location)
    } else {
        Response::problem_bytes(status, answer.body)
    };
    if let Some(seconds) = answer.retry_after_s {
        response = response.with_header(RETRY_AFTER, &seconds.to_string());
    }
    if replayed {
        response = response
            .with_header(IDEMPOTENCY_REPLAYED, "true")
            .with_header(LINK, &format!("<{location}>; rel=\"current\""));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_known_version_counts() {
        assert_eq!(known_version(Some("W/\"3\"")), Some(3));
        assert_eq!(known_version(Some("\"2\", W/\"4\"")), Some(4));
        assert_eq!(known_version(Some("\"other\"")), None);
        assert_eq!(known_version(None), None);
    }

    #[test]
    fn routes_are_consistent() {
        let router = router().unwrap();
        assert_eq!(router.find(&Method::POST, "/v1/bookings").unwrap().key, Route::Create);
        assert_eq!(router.find(&Method::GET, "/v1/bookings").unwrap().key, Route::Existing(Existing::List));
        assert_eq!(router.find(&Method::GET, "/v1/bookings/b").unwrap().key, Route::Existing(Existing::Read));
        assert_eq!(
            router.find(&Method::GET, "/v1/bookings/b/events").unwrap().key,
            Route::Existing(Existing::History)
        );
        for kind in OperationKind::ALL.into_iter().filter(|kind| *kind != OperationKind::Book) {
            let path = format!("/v1/bookings/b/{}", kind.as_str());
            assert_eq!(
                router.find(&Method::POST, &path).unwrap().key,
                Route::Existing(Existing::Operate(kind))
            );
        }
        assert_eq!(
            router.find(&Method::DELETE, "/v1/bookings/b/customer").unwrap().key,
            Route::Existing(Existing::EraseCustomer)
        );
    }
}
