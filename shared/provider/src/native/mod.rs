//! The native protocol, `holdfast`: what is sent, and in which order. What answers mean is in
//! [`answers`], the bodies are in [`wire`].

mod answers;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use holdfast_app::ports::{
    AttemptReport, Clock, CompensationCall, CompensationReport, ProviderCall, ProviderGateway,
};
use holdfast_app::settings::{ProviderAuth, ProviderSettings};
use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, CompensationOutcome, LookUpOutcome, OperationKind,
};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::time::Instant;

use self::answers::{CancelAnswer, CancelOutcome};
use self::wire::{BookBody, CancelBody};
use crate::request::{Unsendable, callable, sensitive, sign};
use crate::retry_after::retry_after_ms;
use crate::safe_client::{Answer, Cause, Failure, Outgoing, SafeClient};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// By how much a call ends before its limit, in milliseconds. Whoever waits for it gives up at the limit
/// and then knows less than the report says: a request that was not sent would count as unknown.
const REPORT_MARGIN_MS: u64 = 10;

/// One request of the protocol, before it is addressed, authenticated and signed.
struct Call<'a> {
    provider: &'a ProviderSettings,
    method: Method,
    /// What follows the provider's base URL.
    path: String,
    /// `None` for a read.
    idempotency_key: Option<String>,
    /// The signature's message identifier, another one for each attempt.
    message_id: String,
    body: Result<Bytes, Unsendable>,
}

/// Calls providers that speak the native protocol.
#[derive(Clone, Debug)]
pub struct NativeGateway<C> {
    client: SafeClient,
    clock: C,
}

impl<C: Clock> NativeGateway<C> {
    /// A gateway that calls through `client`. `clock` dates signatures, reservations without an end, and
    /// answers that name a time.
    pub fn new(client: SafeClient, clock: C) -> Self {
        Self { client, clock }
    }

    async fn send(&self, call: Call<'_>, limit: Duration) -> Result<Answer, Failure> {
        let provider_id = call.provider.provider_id.as_str();
        let outgoing = self.outgoing(call).map_err(|error| {
            tracing::error!(provider.id = provider_id, %error, "a provider cannot be called as configured");
            Failure { cause: Cause::ConnectionFailed, may_be_sent: false }
        })?;
        let answer = self.client.exchange(outgoing, limit).await?;
        if let status @ (401 | 403 | 405 | 415) = answer.head.status {
            // An operator has to act, so this line raises an alarm; what the caller does about it is its
            // own affair.
            tracing::error!(
                provider.id = provider_id,
                http.status = status,
                "a provider does not let Holdfast in"
            );
        }
        Ok(answer)
    }

    fn outgoing(&self, call: Call<'_>) -> Result<Outgoing, Unsendable> {
        let url = callable(&format!("{}{}", call.provider.base_url, call.path))?;
        let mut headers = HeaderMap::new();
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
        Ok(Outgoing { method: call.method, url, headers, body })
    }

    fn retry_after_ms(&self, answer: &Answer) -> Option<u64> {
        retry_after_ms(&answer.head.headers, self.clock.now())
    }

    async fn look_up_within(
        &self,
        provider: &ProviderSettings,
        booking: &Booking,
        limit: Duration,
    ) -> LookUpOutcome {
        let now = self.clock.now();
        let call = Call {
            provider,
            method: Method::GET,
            path: format!("/bookings/{}", booking.id),
            idempotency_key: None,
            message_id: format!("{}:look_up:{}", booking.id, now.as_unix_ms()),
            body: Ok(Bytes::new()),
        };
        match self.send(call, limit).await {
            Ok(answer) => {
                answers::look_up(answer.head.status, &answer.body, self.retry_after_ms(&answer), now)
            }
            Err(failure) => LookUpOutcome::Unavailable { error: error_of(failure), retry_after_ms: None },
        }
    }
}

impl<C: Clock> ProviderGateway for NativeGateway<C> {
    async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        let ProviderCall { provider, booking, operation_number, attempt, limit_ms } = call;
        let kind = booking.operation.as_ref().map(|operation| operation.change.kind());
        if kind == Some(OperationKind::Cancel) {
            let cancel = CompensationCall { provider, booking, operation_number, attempt, limit_ms };
            return match self.cancel(cancel).await {
                Ok((outcome, retry_after_ms)) => {
                    AttemptReport { outcome: outcome.of_attempt(), retry_after_ms }
                }
                Err(failure) => failed_attempt(failure),
            };
        }
        let call = Call {
            provider,
            method: Method::POST,
            path: "/bookings".to_owned(),
            idempotency_key: Some(booking.id.to_string()),
            message_id: message_id(booking, operation_number, attempt),
            body: json(&BookBody::new(booking, operation_number, attempt)),
        };
        match self.send(call, until_report(limit_ms)).await {
            Ok(answer) => AttemptReport {
                outcome: answers::attempt(answer.head.status, &answer.body, self.clock.now()),
                retry_after_ms: self.retry_after_ms(&answer),
            },
            Err(failure) => failed_attempt(failure),
        }
    }

    async fn look_up(&self, provider: &ProviderSettings, booking: &Booking, limit_ms: u64) -> LookUpOutcome {
        self.look_up_within(provider, booking, until_report(limit_ms)).await
    }

    async fn compensate(&self, call: CompensationCall<'_>) -> CompensationReport {
        match self.cancel(call).await {
            Ok((outcome, retry_after_ms)) => {
                CompensationReport { outcome: outcome.of_compensation(), retry_after_ms }
            }
            Err(failure) => {
                let outcome = CompensationOutcome::Failed(error_of(failure));
                CompensationReport { outcome, retry_after_ms: None }
            }
        }
    }
}

impl<C: Clock> NativeGateway<C> {
    /// Asks the provider to cancel, for a consumer or as a compensation, and how long it asks to be left
    /// alone, in milliseconds.
    async fn cancel(&self, call: CompensationCall<'_>) -> Result<(CancelOutcome, Option<u64>), Failure> {
        let CompensationCall { provider, booking, operation_number, attempt, limit_ms } = call;
        let end = Instant::now() + until_report(limit_ms);
        let call = Call {
            provider,
            method: Method::POST,
            path: format!("/bookings/{}/cancel", booking.id),
            idempotency_key: Some(format!("{}:{operation_number}", booking.id)),
            message_id: message_id(booking, operation_number, attempt),
            body: json(&CancelBody::new(booking, operation_number, attempt)),
        };
        let answer = self.send(call, until_report(limit_ms)).await?;
        let outcome = match answers::cancel(answer.head.status, &answer.body) {
            CancelAnswer::Means(outcome) => outcome,
            CancelAnswer::Ambiguous => {
                let limit = end.saturating_duration_since(Instant::now());
                after_ambiguous_cancel(&self.look_up_within(provider, booking, limit).await)
            }
        };
        Ok((outcome, self.retry_after_ms(&answer)))
    }
}

/// What a cancel that was answered with a bare 404 comes to, given what the look-up said afterwards.
fn after_ambiguous_cancel(looked_up: &LookUpOutcome) -> CancelOutcome {
    match looked_up {
        LookUpOutcome::NotFound => CancelOutcome::NoSuchBooking,
        LookUpOutcome::Ended => CancelOutcome::Done,
        LookUpOutcome::Found(_)
        | LookUpOutcome::StillPending
        | LookUpOutcome::Unavailable { .. }
        | LookUpOutcome::Unsupported => CancelOutcome::Unknown(AttemptError::HttpStatus(404)),
    }
}

fn failed_attempt(failure: Failure) -> AttemptReport {
    let error = error_of(failure);
    let outcome =
        if failure.may_be_sent { AttemptOutcome::Unknown(error) } else { AttemptOutcome::NotSent(error) };
    AttemptReport { outcome, retry_after_ms: None }
}

fn until_report(limit_ms: u64) -> Duration {
    Duration::from_millis(limit_ms.saturating_sub(REPORT_MARGIN_MS))
}

fn message_id(booking: &Booking, operation_number: u32, attempt: u32) -> String {
    format!("{}:{operation_number}:{attempt}", booking.id)
}

fn json(body: &impl Serialize) -> Result<Bytes, Unsendable> {
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

fn error_of(failure: Failure) -> AttemptError {
    match failure.cause {
        Cause::TargetRefused => AttemptError::TargetRefused,
        Cause::ConnectionFailed => AttemptError::ConnectionFailed,
        Cause::TimedOut => AttemptError::TimedOut,
        Cause::ConnectionLost => AttemptError::ConnectionLost,
        Cause::AnswerTooLarge => AttemptError::UnusableAnswer,
    }
}

#[cfg(test)]
mod tests;
