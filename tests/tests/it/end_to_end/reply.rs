//! An answer of the API, and what every answer of its kind has to look like.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Body, Method, Request, RequestBuilder};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::stack::rough_if_started;
use crate::described::{Exchange, description};

/// The most calls that all tests together have begun lately: on a small machine more are only slower, and more
/// processes of the emulator's. What is not answered by then waits for a provider.
const MAX_BEGUN: usize = 20;
const LATELY: Duration = Duration::from_millis(1_500);
static BEGUN: Semaphore = Semaphore::const_new(MAX_BEGUN);

/// How often a call is repeated that the API could not serve for the moment, without side effects. On a busy
/// machine the emulator's storage may be silent for seconds.
const MAX_REPETITIONS: usize = 10;

/// The problems after which a client comes again with the same key.
const COME_AGAIN: [&str; 4] =
    ["request_in_flight", "temporarily_unavailable", "internal", "provider_unavailable"];
/// How long such a client waits.
const PAUSE: Duration = Duration::from_millis(700);

/// How long availability may be kept: not without asking.
const REVALIDATED: &str = "private, no-cache";

/// A request, as far as the API's description is about it.
struct Sent {
    method: String,
    path: String,
    query: Vec<String>,
    body: Value,
}

impl Sent {
    fn of(request: &Request) -> Self {
        let body =
            request.body().and_then(Body::as_bytes).and_then(|bytes| serde_json::from_slice(bytes).ok());
        Self {
            method: request.method().to_string(),
            path: request.url().path().to_owned(),
            query: request.url().query_pairs().map(|(name, _)| name.into_owned()).collect(),
            body: body.unwrap_or_default(),
        }
    }

    /// Every exchange is as the API's description says.
    fn check(self, reply: &Reply) {
        let Self { method, path, query, body } = self;
        let (status, headers, answer) = (reply.status, &reply.headers, &reply.json);
        description().check(&Exchange { method: &method, path: &path, query, body, status, headers, answer });
    }
}

/// An answer, read to its end.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Vec<u8>,
    /// The body as JSON; null if there is none.
    pub(super) json: Value,
    /// How long the call took.
    pub(super) took: Duration,
    path: String,
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, bytes, path, took, .. } = self;
        write!(formatter, "{path}: {status} after {took:?}, {headers:?}, {}", String::from_utf8_lossy(bytes))
    }
}

/// Whether a request may break off through no fault of ours and be made again: a read of the stack whose functions
/// are killed by tests.
fn may_break_off(request: &RequestBuilder) -> bool {
    let Some(request) = request.try_clone().and_then(|request| request.build().ok()) else { return false };
    let is_rough = |url: &str| rough_if_started().is_some_and(|rough| url.starts_with(&rough.api_url));
    request.method() == Method::GET && is_rough(request.url().as_str())
}

impl Reply {
    /// Sends a request and checks what holds for every answer: a body of JSON, or none; a request id; and
    /// that nothing on the way keeps it.
    pub(super) async fn of(request: RequestBuilder) -> Self {
        for _ in 0..MAX_REPETITIONS {
            let reply = match Self::tried(request.try_clone().unwrap()).await {
                Ok(reply) => reply,
                // A read that broke off is made again, as any client does.
                Err(broken) => {
                    assert!(may_break_off(&request), "{broken}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let problem = (&reply.json["code"], &reply.json["side_effects"]);
            if problem != (&Value::from("temporarily_unavailable"), &Value::from("none")) {
                return reply;
            }
            tokio::time::sleep(Duration::from_secs(reply.retry_after_s())).await;
        }
        Self::once(request).await
    }

    /// Sends a request under an idempotency key until it is answered for good, as a client does that wants to
    /// know: after connections that broke, answers of the gateway's own, and whatever asks it to come again.
    pub(super) async fn for_good(request: RequestBuilder, limit: Duration) -> Self {
        let deadline = Instant::now() + limit;
        loop {
            let seen = match Self::tried(request.try_clone().unwrap()).await {
                Ok(reply) if COME_AGAIN.iter().any(|code| reply.json["code"] == *code) => {
                    format!("{reply:?}")
                }
                Ok(reply) => return reply,
                Err(broken) => broken,
            };
            assert!(Instant::now() < deadline, "no answer within {limit:?}; last seen: {seen}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(request: RequestBuilder) -> Self {
        Self::tried(request).await.unwrap_or_else(|broken| panic!("{broken}"))
    }

    /// The answer, or how it is none of ours.
    async fn tried(request: RequestBuilder) -> Result<Self, String> {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let sent = Sent::of(&request);
        let what = format!("{} {}", request.method(), request.url().path());
        let path = request.url().path().to_owned();
        let place = BEGUN.acquire().await.unwrap();
        let begun = Instant::now();
        let mut answering = Box::pin(client.execute(request));
        let early = tokio::time::timeout(LATELY, &mut answering).await;
        drop(place);
        let answered = match early {
            Ok(answered) => answered,
            Err(_) => answering.await,
        };
        let response = answered.map_err(|error| format!("{what}: {error}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.map_err(|error| format!("{what}: {error}"))?.to_vec();
        let took = begun.elapsed();
        let text = String::from_utf8_lossy(&bytes);
        let json = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|_| format!("{what}: {status} with {text}"))?
        };
        let reply = Self { status, headers, bytes, json, took, path };
        if reply.header("x-request-id").is_empty() {
            return Err(format!("{what}: no request id: {reply:?}"));
        }
        let kept = if reply.path == "/v1/availability" && status < 400 { REVALIDATED } else { "no-store" };
        assert_eq!(reply.header("cache-control"), kept, "{what}");
        sent.check(&reply);
        Ok(reply)
    }

    /// Checks that this says the same as another answer to the same key, whichever of them was the first.
    pub(super) fn assert_same(&self, other: &Self) {
        let (ours, theirs) = (String::from_utf8_lossy(&self.bytes), String::from_utf8_lossy(&other.bytes));
        assert_eq!((self.status, ours), (other.status, theirs));
    }

    /// A header's value; empty if there is none.
    pub(super) fn header(&self, name: &'static str) -> &str {
        let value = self.headers.get(HeaderName::from_static(name));
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// A header that counts whole seconds, of which there is at least one.
    pub(super) fn retry_after_s(&self) -> u64 {
        let seconds =
            self.header("retry-after").parse().unwrap_or_else(|_| panic!("no Retry-After: {self:?}"));
        assert!(seconds >= 1, "{self:?}");
        seconds
    }

    /// The booking's id, from a booking or from a problem about one.
    pub(super) fn booking_id(&self) -> &str {
        let id = if self.status < 400 { &self.json["id"] } else { &self.json["booking_id"] };
        id.as_str().unwrap_or_else(|| panic!("no booking: {self:?}"))
    }

    /// Checks that this answers a create with a booking of this status. Returns the booking's id.
    pub(super) fn assert_booking(&self, status: u16, booking_status: &str) -> String {
        assert_eq!((self.status, &self.json["status"]), (status, &Value::from(booking_status)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        let id = self.booking_id().to_owned();
        assert!(id.starts_with("bkg_"), "{self:?}");
        assert_eq!(self.header("location"), format!("/v1/bookings/{id}"), "{self:?}");
        // Personal data has one way out: the read of a single booking.
        assert!(self.json.get("customer").is_none() && self.json.get("notes").is_none(), "{self:?}");
        id
    }

    /// Checks that this is a problem of this kind, complete in every member.
    pub(super) fn assert_problem(&self, status: u16, code: &str, side_effects: &str) {
        let problem = &self.json;
        assert_eq!((self.status, &problem["code"]), (status, &Value::from(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(problem["type"], format!("/problems/{code}"), "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        assert_eq!(problem["instance"], self.path.as_str(), "{self:?}");
        assert_eq!(problem["side_effects"], side_effects, "{self:?}");
        for member in ["title", "detail", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {self:?}");
        }
        if self.header("idempotency-replayed").is_empty() {
            assert_eq!(problem["request_id"], self.header("x-request-id"), "{self:?}");
        }
    }

    /// Checks that this is the first answer once more, byte for byte, and marked as such.
    pub(super) fn assert_replays(&self, first: &Self) {
        assert_eq!(self.status, first.status, "{self:?}");
        let (ours, theirs) = (String::from_utf8_lossy(&self.bytes), String::from_utf8_lossy(&first.bytes));
        assert_eq!(ours, theirs);
        assert_eq!(self.header("content-type"), first.header("content-type"), "{self:?}");
        assert_eq!(self.header("location"), first.header("location"), "{self:?}");
        assert_eq!(self.header("idempotency-replayed"), "true", "{self:?}");
        let link = format!("</v1/bookings/{}>; rel=\"current\"", first.booking_id());
        assert_eq!(self.header("link"), link, "{self:?}");
        assert_eq!(first.header("idempotency-replayed"), "", "{first:?}");
    }

    /// The JSON pointers of a problem's field errors.
    pub(super) fn pointers(&self) -> Vec<&str> {
        let errors = self.json["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(errors.iter().all(|error| error["detail"].as_str().is_some_and(|text| !text.is_empty())));
        errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
    }
}
