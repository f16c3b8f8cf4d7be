//! One call to a provider, whatever protocol it speaks: addressed, authenticated, signed, sent once and
//! within its limit. It does not know what is said or what an answer means.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use holdfast_app::ports::{AttemptReport, Clock, NotificationReport};
use holdfast_app::settings::{ProviderAuth, ProviderSettings};
use holdfast_domain::{AttemptError, AttemptOutcome, Booking, Timestamp};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::time::Instant;

use crate::request::{Unsendable, callable, sensitive, sign};
use crate::retry_after::retry_after_ms;
use crate::safe_client::{Answer, Cause, Failure, Outgoing, SafeClient};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// By how much a call ends before its limit, in milliseconds. Whoever waits for it gives up at the limit
/// and then knows less than the report says: a request that was not sent would count as unknown.
const REPORT_MARGIN_MS: u64 = 10;

/// When everything that serves one call has to be over, however many requests that takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The deadline of a call that may take `limit_ms` milliseconds from now.
    pub(crate) fn within(limit_ms: u64) -> Self {
        Self(Instant::now() + Duration::from_millis(limit_ms.saturating_sub(REPORT_MARGIN_MS)))
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// One request, before it is addressed, authenticated and signed.
pub(crate) struct Call<'a> {
    pub(crate) provider: &'a ProviderSettings,
    pub(crate) method: Method,
    /// What follows the provider's base URL.
    pub(crate) path: String,
    pub(crate) idempotency_key: Option<String>,
    /// What the protocol adds to the headers that every call has.
    pub(crate) headers: HeaderMap,
    /// The signature's message identifier, another one for each attempt.
    pub(crate) message_id: String,
    /// Empty for a read.
    pub(crate) body: Result<Bytes, Unsendable>,
}

/// Makes the calls of every protocol.
#[derive(Clone, Debug)]
pub(crate) struct Caller<C> {
    client: SafeClient,
    clock: C,
}

impl<C: Clock> Caller<C> {
    pub(crate) fn new(client: SafeClient, clock: C) -> Self {
        Self { client, clock }
    }

    /// Tells a provider something, within `limit_ms` milliseconds.
    pub(crate) async fn tell(&self, call: Call<'_>, limit_ms: u64) -> NotificationReport {
        match self.send(call, Deadline::within(limit_ms)).await {
            Ok(answer) => NotificationReport {
                error: untold(answer.head.status),
                retry_after_ms: self.retry_after_ms(&answer),
            },
            Err(failure) => NotificationReport { error: Some(error_of(failure)), retry_after_ms: None },
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes the call once. After the deadline nothing is sent.
    pub(crate) async fn send(&self, call: Call<'_>, deadline: Deadline) -> Result<Answer, Failure> {
        let limit = deadline.left();
        if limit.is_zero() {
            return Err(Failure { cause: Cause::TimedOut, may_be_sent: false });
        }
        let provider = call.provider;
        let outgoing = self.outgoing(call).map_err(|error| {
            let provider_id = provider.provider_id.as_str();
            tracing::error!(provider.id = provider_id, %error, "a provider cannot be called as configured");
            Failure { cause: Cause::ConnectionFailed, may_be_sent: false }
        })?;
        let answer = self.client.exchange(outgoing, limit).await?;
        if is_locked_out(answer.head.status) {
            alarm_locked_out(provider, answer.head.status);
        }
        Ok(answer)
    }

    fn outgoing(&self, call: Call<'_>) -> Result<Outgoing, Unsendable> {
        let base_url = call.provider.base_url.as_deref().ok_or(Unsendable::NoUrl)?;
        let uri = callable(&format!("{base_url}{}", call.path))?;
        let mut headers = call.headers;
        headers.insert(ACCEPT, JSON);
        if let Some(key) = call.idempotency_key {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&key).map_err(|_| Unsendable::Header)?);
        }
        let body = call.body?;
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        authenticate(&mut headers, &call.provider.auth)?;
        if let Some(secret) = &call.provider.signing_secret {
            let now_unix_s = self.clock.now().as_unix_ms() / 1_000;
            sign(&mut headers, secret, &call.message_id, now_unix_s, &body)?;
        }
        Ok(Outgoing { method: call.method, uri, headers, body })
    }

    /// How long an answer asks to be left alone, in milliseconds.
    pub(crate) fn retry_after_ms(&self, answer: &Answer) -> Option<u64> {
        retry_after_ms(&answer.head.headers, self.clock.now())
    }
}

/// Whether a status says that Holdfast is misconfigured at the provider.
pub(crate) fn is_locked_out(status: u16) -> bool {
    matches!(status, 401 | 403 | 405 | 415)
}

/// Tells the operators, who have to act: this line raises an alarm. What the caller does about it is its
/// own affair.
pub(crate) fn alarm_locked_out(provider: &ProviderSettings, status: u16) {
    tracing::error!(
        provider.id = provider.provider_id.as_str(),
        http.status = status,
        "a provider does not let Holdfast in"
    );
}

/// The error behind a notification's status, if it does not say that the provider was told: only a 2xx does.
fn untold(status: u16) -> Option<AttemptError> {
    (!(200..300).contains(&status)).then(|| transient(status))
}

/// The error behind a status that is neither a yes nor a definite no.
pub(crate) fn transient(status: u16) -> AttemptError {
    match status {
        status if is_locked_out(status) => AttemptError::Misconfigured(status),
        // A 2xx that the protocol does not know, and redirects, which are not followed.
        0..=399 => AttemptError::UnusableAnswer,
        _ => AttemptError::HttpStatus(status),
    }
}

/// Whether a status is no definite no whatever its body says.
pub(crate) fn is_never_definite(status: u16) -> bool {
    !(400..500).contains(&status) || is_locked_out(status) || matches!(status, 408 | 425 | 429)
}

/// The report of an attempt whose only request came to nothing.
pub(crate) fn failed_attempt(failure: Failure) -> AttemptReport {
    let error = error_of(failure);
    let outcome =
        if failure.may_be_sent { AttemptOutcome::Unknown(error) } else { AttemptOutcome::NotSent(error) };
    AttemptReport { outcome, retry_after_ms: None }
}

pub(crate) fn message_id(booking: &Booking, operation_number: u32, attempt: u32) -> String {
    format!("{}:{operation_number}:{attempt}", booking.id)
}

pub(crate) fn json(body: &impl Serialize) -> Result<Bytes, Unsendable> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|_| Unsendable::Body)
}

fn authenticate(headers: &mut HeaderMap, auth: &ProviderAuth) -> Result<(), Unsendable> {
    match auth {
        ProviderAuth::None => {}
        ProviderAuth::Bearer { token } => {
            headers.insert(AUTHORIZATION, sensitive(&format!("Bearer {}", token.expose_secret()))?);
        }
        ProviderAuth::ApiKey { header, value } => {
            let name = HeaderName::from_bytes(header.as_bytes()).map_err(|_| Unsendable::Header)?;
            headers.insert(name, sensitive(value.expose_secret())?);
        }
        ProviderAuth::Basic { username, password } => {
            let credentials = BASE64.encode(format!("{username}:{}", password.expose_secret()).as_bytes());
            headers.insert(AUTHORIZATION, sensitive(&format!("Basic {credentials}"))?);
        }
    }
    Ok(())
}

pub(crate) fn error_of(failure: Failure) -> AttemptError {
    match failure.cause {
        Cause::TargetRefused => AttemptError::TargetRefused,
        Cause::ConnectionFailed => AttemptError::ConnectionFailed,
        Cause::TimedOut => AttemptError::TimedOut,
        Cause::ConnectionLost => AttemptError::ConnectionLost,
        Cause::AnswerTooLarge => AttemptError::UnusableAnswer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AllowedHosts;
    use crate::test_util::{Received, SystemTime, json_answer, serve};

    #[tokio::test]
    async fn after_the_deadline_nothing_is_sent() {
        let (provider, received) = serve(|_: &Received| json_answer(200, &serde_json::json!({}))).await;
        let caller = Caller::new(SafeClient::new(AllowedHosts::parse("127.0.0.1")).unwrap(), SystemTime);
        let call = Call {
            provider: &provider,
            method: Method::GET,
            path: String::new(),
            idempotency_key: None,
            headers: HeaderMap::new(),
            message_id: "late".to_owned(),
            body: Ok(Bytes::new()),
        };
        let failure = caller.send(call, Deadline::within(REPORT_MARGIN_MS)).await.err();
        assert_eq!(failure, Some(Failure { cause: Cause::TimedOut, may_be_sent: false }));
        assert!(received.lock().unwrap().is_empty());
    }

    #[test]
    fn only_a_2xx_says_that_the_provider_was_told() {
        assert_eq!(untold(200), None);
        assert_eq!(untold(204), None);
        assert_eq!(untold(404), Some(AttemptError::HttpStatus(404)));
        assert_eq!(untold(401), Some(AttemptError::Misconfigured(401)));
        assert_eq!(untold(500), Some(AttemptError::HttpStatus(500)));
        assert_eq!(untold(301), Some(AttemptError::UnusableAnswer));
    }
}
