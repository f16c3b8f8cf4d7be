//! `GET /v1/availability`: what is open, from memory or from the provider.

use holdfast_app::auth::{consumer_of, presented_key};
use holdfast_app::availability::{
    Audience, Availability, AvailabilityAnswer, AvailabilityParameters, ValidAvailability,
    availability_answer, read_availability, signing_secret,
};
use holdfast_app::ports::{
    AvailabilityGateway, AvailabilityStore, BookingKeySecretStore, BreakerStore, Clock, Entropy, LimitStore,
    LocationStore, RequestCounter, SettingsReader, Wanted,
};
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::rates::RequestRates;
use holdfast_app::settings_cache::{Authenticated, SettingsCache};
use holdfast_domain::Tenant;
use holdfast_lambda::http::{Codings, Request, Response, RouteError, Routed, Router, gzip, limited};
use http::header::{
    ACCEPT_ENCODING, AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, ETAG, IF_NONE_MATCH, VARY,
};
use http::{Method, StatusCode};

/// What is left of the function's time when it stops waiting for providers, in milliseconds.
const ASK_MARGIN_MS: u64 = 3_000;

/// The largest body that is sent as it is, in bytes. Lambda takes answers of 6 MB, in which a body is a string
/// whose quotes are escaped (Lambda quotas, "Invocation payload").
const MAX_PLAIN_BYTES: usize = 4_500_000;

/// The largest body that is sent compressed, in bytes: in base64 it has to fit into Lambda's 6 MB.
const MAX_PACKED_BYTES: usize = 4_000_000;

/// How many slots an answer shows at the most: about as many as fit into it compressed.
const MAX_SHOWN_SLOTS: usize = 110_000;

/// Bodies of fewer bytes are sent as they are even to those who take them compressed.
const MIN_PACKED_BYTES: usize = 16_384;

/// Consumers may keep what they got, but have to ask whether it is still so: a slot that is booked is gone at once.
const REVALIDATE: &str = "private, no-cache";

/// The calls that this function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /v1/availability`
    Availability,
}

/// The routes of this function.
pub fn router() -> Result<Router<Route>, RouteError> {
    Router::new(&[(Method::GET, "/v1/availability", Route::Availability)])
}

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Service<A, G, S, C, E> {
    /// Remembers and asks.
    pub availability: Availability<A, G, S, C, E>,
    /// Where the secrets of booking keys are made.
    pub configuration: S,
    /// Keys, providers and secrets, remembered.
    pub settings: SettingsCache<S>,
    /// How many requests consumers make.
    pub rates: RequestRates,
    /// The time of day.
    pub clock: C,
    /// Makes secrets.
    pub entropy: E,
}

impl<A, G, S, C, E> Service<A, G, S, C, E>
where
    A: AvailabilityStore,
    G: AvailabilityGateway,
    S: BookingKeySecretStore
        + BreakerStore
        + LimitStore
        + LocationStore
        + RequestCounter
        + SettingsReader
        + Clone,
    C: Clock,
    E: Entropy,
{
    /// Answers a request.
    pub async fn handle(&self, request: Request, routed: Routed<Route>) -> Result<Response, Problem> {
        match routed.key {
            // On the heap, so that whoever waits for it does not carry its size.
            Route::Availability => Box::pin(self.show(&request)).await,
        }
    }

    async fn show(&self, request: &Request) -> Result<Response, Problem> {
        let now = self.clock.now();
        let presented = presented_key(request.header(AUTHORIZATION.as_str())?)?;
        // The query is read before the key is verified, so that all that is needed comes in one read; who has no
        // key is told of that alone.
        let wish = request.only_query(&AvailabilityParameters::NAMES).and_then(|()| {
            let parameters = AvailabilityParameters {
                provider_id: request.query_value("provider_id")?,
                location_ids: request.query_value("location_ids")?,
                start_date: request.query_value("start_date")?,
                days: request.query_value("days")?,
                allow_stale: request.query_value("allow_stale")?,
            };
            read_availability(&parameters, now)
        });
        let wanted = Wanted {
            key_id: None,
            provider_id: wish.as_ref().ok().map(|wish| wish.provider_id.clone()),
            booking_key_secrets: true,
        };
        let caller = self.settings.verify_with(&presented, wanted, now).await?;
        let tenant = consumer_of(&caller.key)?;
        let serving = async { self.answer(request, &tenant, wish?, caller).await };
        limited(&self.rates, &self.configuration, &self.clock, &tenant, serving).await
    }

    async fn answer(
        &self,
        request: &Request,
        tenant: &Tenant,
        wish: ValidAvailability,
        caller: Authenticated,
    ) -> Result<Response, Problem> {
        let now = self.clock.now();
        let provider = caller.provider.filter(|provider| provider.mode == tenant.mode).ok_or_else(|| {
            let (provider_id, mode) = (&wish.provider_id, tenant.mode.as_str());
            let detail = format!("No provider {provider_id} is configured for {mode} keys.");
            Problem::new(ProblemCode::UnknownProvider, detail)
        })?;
        if let Some(reading) = caller.breaker {
            self.availability.remember_breaker(&provider.provider_id, reading);
        }
        let secrets = &caller.booking_key_secrets;
        let (secret, locations) = tokio::try_join!(
            signing_secret(&self.settings, secrets, &self.configuration, &self.entropy, now),
            self.availability.open(&provider, &wish, request.deadline.minus_ms(ASK_MARGIN_MS)),
        )?;
        let shown = locations.iter().filter_map(|location| location.outcome.as_ref().ok());
        if shown.map(|open| open.slots.len()).sum::<usize>() > MAX_SHOWN_SLOTS {
            return Err(too_large());
        }
        let audience = Audience { provider_id: &provider.provider_id, mode: tenant.mode, secret: &secret };
        let answer = availability_answer(&locations, audience, self.clock.now()).map_err(|error| {
            tracing::error!(%error, "Availability could not be written as JSON.");
            Problem::new(ProblemCode::Internal, "The request could not be completed.")
        })?;
        respond(request, answer)
    }
}

fn respond(request: &Request, answer: AvailabilityAnswer) -> Result<Response, Problem> {
    let AvailabilityAnswer { body, etag, age_s } = answer;
    let is_known = request.header(IF_NONE_MATCH.as_str())?.is_some_and(|known| names_tag(known, &etag));
    let response = if is_known {
        Response::empty(StatusCode::NOT_MODIFIED)
    } else {
        packed(body, Codings::of(request.header(ACCEPT_ENCODING.as_str())?))?
    };
    Ok(response
        .with_header(ETAG, &etag)
        .with_header(AGE, &age_s.to_string())
        .with_header(VARY, "Accept-Encoding, Authorization")
        .with_header(CACHE_CONTROL, REVALIDATE))
}

/// The answer in a coding that the caller takes. To whoever says nothing of codings it is sent as it is, unless it
/// is too large for that.
fn packed(body: Vec<u8>, codings: Codings) -> Result<Response, Problem> {
    let is_packed = match codings {
        Codings::Any => body.len() > MAX_PLAIN_BYTES,
        Codings::Gzip => body.len() >= MIN_PACKED_BYTES,
        Codings::Plain if body.len() > MAX_PLAIN_BYTES => return Err(too_large()),
        Codings::Plain => false,
    };
    if !is_packed {
        return Ok(Response::json_bytes(StatusCode::OK, body));
    }
    let packed = gzip(&body).map_err(|error| {
        tracing::error!(%error, "An answer could not be compressed.");
        Problem::new(ProblemCode::Internal, "The request could not be completed.")
    })?;
    if packed.len() > MAX_PACKED_BYTES {
        return Err(too_large());
    }
    Ok(Response::json_bytes(StatusCode::OK, packed).with_header(CONTENT_ENCODING, "gzip"))
}

fn too_large() -> Problem {
    Problem::new(ProblemCode::AnswerTooLarge, "There are more open slots than fit into an answer.")
}

/// Whether a list of entity tags names this one (RFC 9110, section 13.1.2: tags are compared weakly).
fn names_tag(list: &str, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    list.trim() == "*" || list.split(',').any(|tag| opaque(tag) == opaque(etag))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn tags_are_compared_weakly() {
        let etag = "W/\"abc\"";
        for known in ["W/\"abc\"", "\"abc\"", "\"x\", W/\"abc\"", "*"] {
            assert!(names_tag(known, etag), "{known}");
        }
        assert!(!names_tag("\"abcd\", abc", etag));
    }

    #[test]
    fn what_fits_into_no_answer_is_a_problem() {
        let small = packed(vec![b'x'; MIN_PACKED_BYTES - 1], Codings::Gzip).unwrap();
        assert!(!small.headers.contains_key(CONTENT_ENCODING));
        for codings in [Codings::Plain, Codings::Any] {
            let plain = packed(vec![b'x'; MAX_PLAIN_BYTES], codings).unwrap();
            assert_eq!(plain.body.len(), MAX_PLAIN_BYTES);
        }
        let problem = packed(vec![b'x'; MAX_PLAIN_BYTES + 1], Codings::Plain).unwrap_err();
        assert_eq!(problem.code, ProblemCode::AnswerTooLarge);
        let large = packed(vec![b'x'; MAX_PLAIN_BYTES + 1], Codings::Any).unwrap();
        assert_eq!(large.headers[CONTENT_ENCODING], "gzip");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(large.body.as_ref()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, vec![b'x'; MAX_PLAIN_BYTES + 1]);
    }
}
