//! The client, and what all calls have in common.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::error::Error;
use crate::headers::{self, ETag, RateLimit};
use crate::http::{self, Answer, Request};
use crate::keys::{ApiKey, IdempotencyKey};
use crate::retry::{Attempts, Repeat, RetryPolicy, Unreadable, until_answered};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// A repetition waits so long for the first request, rather than being turned away at once: as long as it may.
const WAIT_FOR_THE_FIRST: HeaderValue = HeaderValue::from_static("wait=10");

/// Calls Holdfast for one consumer. Cheap to clone; all clones share their connections.
///
/// Every call is repeated until there is an answer that counts, as its [`RetryPolicy`] says, and ends in time. What
/// is sent stays the same, byte for byte. Dropping a call ends it; what it asked for may be carried out all the same.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    policy: RetryPolicy,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    base_url: Url,
    rate_limit: Mutex<Option<RateLimit>>,
}

/// A value with what the answer said besides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered<T> {
    /// The value.
    pub value: T,
    /// Names this state of it.
    pub etag: Option<ETag>,
    /// After how long it makes sense to look again, while something is in flight.
    pub retry_after: Option<Duration>,
    /// How old the oldest part of it is.
    pub age: Option<Duration>,
    /// Whether this is what the first request with the same idempotency key was answered, once more. The booking may
    /// have moved on since.
    pub replayed: bool,
    /// The id under which the request is logged.
    pub request_id: Option<String>,
}

impl<T> Deref for Answered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl Client {
    /// A client of the API under a base URL, the deployment's output `ApiUrl`. Unencrypted http is for what runs on
    /// this machine.
    pub fn new(base_url: &str, key: &ApiKey) -> Result<Self, Error> {
        let base_url = Url::parse(base_url).map_err(|_| Error::BaseUrl)?;
        let is_local = is_local(&base_url);
        let may_be_used = base_url.scheme() == "https" || base_url.scheme() == "http" && is_local;
        let has_more = base_url.query().is_some() || base_url.fragment().is_some();
        if !may_be_used || has_more || base_url.cannot_be_a_base() {
            return Err(Error::BaseUrl);
        }
        let http = http::client(key.authorization()?, is_local)?;
        let shared = Shared { http, base_url, rate_limit: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), policy: RetryPolicy::default() })
    }

    /// The same, with other limits and pauses.
    #[must_use]
    pub fn with_retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How much may still be asked, as the last answer that spoke of it said.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.shared.rate_limit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request for a path under the base URL.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<Request, Error> {
        let mut url = self.shared.base_url.clone();
        url.path_segments_mut().map_err(|()| Error::BaseUrl)?.pop_if_empty().extend(path);
        let given = || query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        if given().next().is_some() {
            url.query_pairs_mut().extend_pairs(given());
        }
        Ok(Request::new(method, url))
    }

    /// A request that is carried out once, however often it is sent.
    pub(crate) fn keyed(
        &self,
        path: &[&str],
        key: &IdempotencyKey,
        body: &impl Serialize,
    ) -> Result<Request, Error> {
        let request = self.request(Method::POST, path, &[])?.with_json(body)?;
        Ok(request.with_header(IDEMPOTENCY_KEY, key.header()?).with_header(PREFER, WAIT_FOR_THE_FIRST))
    }

    /// Makes a call.
    pub(crate) async fn call<T>(
        &self,
        repeat: Repeat,
        request: &Request,
        read: impl Fn(&Answer) -> Result<T, Unreadable>,
    ) -> Result<T, Error> {
        until_answered(&self.policy, repeat, by_chance, || self.attempt(request), read, |_, _| None).await
    }

    /// Makes a call that removes something. That it is gone is as good as an answer, if an attempt without one may
    /// have done it.
    pub(crate) async fn remove(&self, request: &Request) -> Result<(), Error> {
        let is_gone = |problem: &crate::Problem, before: Attempts| {
            (problem.code == crate::ProblemCode::NotFound && before.unanswered > 0).then_some(())
        };
        let attempt = || self.attempt(request);
        until_answered(&self.policy, Repeat::Safely, by_chance, attempt, |_| Ok(()), is_gone).await
    }

    async fn attempt(&self, request: &Request) -> Result<Answer, Error> {
        let answer = http::send(&self.shared.http, request).await?;
        if let Some(limit) = RateLimit::read(&answer.headers) {
            *self.shared.rate_limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
        }
        Ok(answer)
    }
}

/// Reads a body.
pub(crate) fn json<T: DeserializeOwned>(answer: &Answer) -> Result<T, Unreadable> {
    serde_json::from_slice(&answer.body).map_err(|error| match error.classify() {
        // Where, but not what: it may be personal data.
        Category::Data => Unreadable::Form(format!("line {}, column {}", error.line(), error.column())),
        Category::Io | Category::Syntax | Category::Eof => Unreadable::Garbage,
    })
}

/// Reads a body and what the headers say besides.
pub(crate) fn answered<T: DeserializeOwned>(answer: &Answer) -> Result<Answered<T>, Unreadable> {
    let headers = &answer.headers;
    Ok(Answered {
        value: json(answer)?,
        etag: headers::etag(headers),
        retry_after: headers::retry_after(headers),
        age: headers::age(headers),
        replayed: headers::is_replayed(headers),
        request_id: headers::request_id(headers),
    })
}

/// The same, unless nothing has changed.
pub(crate) fn changed<T: DeserializeOwned>(answer: &Answer) -> Result<Option<Answered<T>>, Unreadable> {
    if answer.status == reqwest::StatusCode::NOT_MODIFIED { Ok(None) } else { answered(answer).map(Some) }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A duration from zero to the given one, by chance.
fn by_chance(most: Duration) -> Duration {
    let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX - 1);
    // Where there is no chance to be had, the pause is just not spread.
    let drawn = getrandom::u64().unwrap_or(most_ms);
    Duration::from_millis(drawn % (most_ms.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base_url: &str) -> Result<Client, Error> {
        Client::new(base_url, &ApiKey::new("hf_test_consumer_k1_secret").unwrap())
    }

    #[test]
    fn a_key_is_sent_encrypted_or_nowhere_else() {
        for fine in
            ["https://api.example.com", "http://127.0.0.1:3000/", "http://[::1]:1", "http://localhost:3"]
        {
            client(fine).unwrap();
        }
        let wrong =
            ["http://api.example.com", "ftp://127.0.0.1", "https://a.example/?x=1", "data:x", "", "nowhere"];
        for base_url in wrong {
            assert!(matches!(client(base_url), Err(Error::BaseUrl)), "{base_url}");
        }
    }

    #[test]
    fn calls_can_be_made_from_any_task() {
        fn can_be_sent(_: impl Send) {}
        let client = client("https://api.example.com").unwrap();
        let (id, key) = (crate::BookingId::new("bkg_1").unwrap(), IdempotencyKey::new("k").unwrap());
        can_be_sent(client.cancel_booking(&id, &key, &crate::CancelBooking::default()));
        can_be_sent(client.wait_until_settled(&id, &crate::PollSchedule::default()));
        can_be_sent(client.remove(&client.request(Method::DELETE, &["v1"], &[]).unwrap()));
    }

    #[test]
    fn a_client_does_not_print_its_key() {
        let printed = format!("{:?}", client("https://api.example.com").unwrap());
        assert!(!printed.contains("secret"), "{printed}");
    }

    #[test]
    fn a_path_is_added_to_the_base_url() {
        for base_url in ["https://a.example/stage", "https://a.example/stage/"] {
            let query = [("a", Some("x&y".to_owned())), ("b", None)];
            let request = client(base_url).unwrap().request(Method::GET, &["v1", "x"], &query).unwrap();
            assert_eq!(request.url.as_str(), "https://a.example/stage/v1/x?a=x%26y");
        }
    }

    #[test]
    fn chance_stays_within_its_bounds() {
        let most = Duration::from_millis(3);
        let drawn: Vec<Duration> = (0..200).map(|_| by_chance(most)).collect();
        assert!(drawn.iter().all(|one| *one <= most) && drawn.iter().any(|one| *one != drawn[0]));
        assert_eq!(by_chance(Duration::ZERO), Duration::ZERO);
    }
}
