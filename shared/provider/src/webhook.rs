//! Posts deliveries to consumers' endpoints. When to do so, and what an answer means, is decided elsewhere.

use std::time::Duration;

use bytes::Bytes;
use holdfast_app::ports::{Clock, PostOutcome, WebhookPost, WebhookSender};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::retry_after::retry_after_ms;
use crate::safe_client::{Cause, Outgoing, SafeClient};
use crate::signing::{ID_HEADER, SIGNATURE_HEADER, SecretError, SigningKey, TIMESTAMP_HEADER};

/// A request cannot be made from what is configured. It never holds the configured value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsendable {
    /// The URL is not an absolute one of `http` or `https`.
    #[error("the URL cannot be called")]
    Url,
    /// A header's name or value holds what a header cannot.
    #[error("a configured header is not valid")]
    Header,
    /// The body has no JSON form.
    #[error("the body cannot be written as JSON")]
    Body,
    /// The signing secret cannot be used.
    #[error("the signing secret is not usable: {0}")]
    Secret(#[from] SecretError),
}

/// Reads a URL that may be called.
pub(crate) fn callable(url: &str) -> Result<Url, Unsendable> {
    let url = Url::parse(url).map_err(|_| Unsendable::Url)?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_http { Ok(url) } else { Err(Unsendable::Url) }
}

/// A header value that logs cannot show.
pub(crate) fn sensitive(value: &str) -> Result<HeaderValue, Unsendable> {
    let mut value = HeaderValue::from_str(value).map_err(|_| Unsendable::Header)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Signs a message by adding the three headers of Standard Webhooks.
pub(crate) fn sign(
    headers: &mut HeaderMap,
    secret: &SecretString,
    message_id: &str,
    timestamp_unix_s: i64,
    body: &[u8],
) -> Result<(), Unsendable> {
    let signature = SigningKey::parse(secret)?.sign(message_id, timestamp_unix_s, body);
    let message_id = HeaderValue::from_str(message_id).map_err(|_| Unsendable::Header)?;
    headers.insert(ID_HEADER, message_id);
    headers.insert(TIMESTAMP_HEADER, HeaderValue::from(timestamp_unix_s));
    headers.insert(SIGNATURE_HEADER, sensitive(&signature)?);
    Ok(())
}

/// Posts deliveries with the safe client.
#[derive(Clone, Debug)]
pub struct WebhookClient<C> {
    client: SafeClient,
    clock: C,
}

impl<C: Clock> WebhookClient<C> {
    /// A sender that uses `client`; `clock` is for answers that name a time.
    pub fn new(client: SafeClient, clock: C) -> Self {
        Self { client, clock }
    }
}

fn request(post: &WebhookPost<'_>) -> Result<Outgoing, Unsendable> {
    let mut headers = HeaderMap::new();
    for (name, value) in post.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unsendable::Header)?;
        headers.insert(name, sensitive(value.expose_secret())?);
    }
    // Holdfast's own headers come last, so that no configured one takes their place.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    sign(&mut headers, post.secret, post.message_id, post.timestamp_unix_s, post.body.as_bytes())?;
    let body = Bytes::copy_from_slice(post.body.as_bytes());
    Ok(Outgoing { method: Method::POST, url: callable(post.url)?, headers, body })
}

impl<C: Clock> WebhookSender for WebhookClient<C> {
    async fn post(&self, post: WebhookPost<'_>) -> PostOutcome {
        let outgoing = match request(&post) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                tracing::error!(webhook.id = post.message_id, %error, "a delivery cannot be sent as configured");
                return PostOutcome::TargetRefused;
            }
        };
        match self.client.post_only(outgoing, Duration::from_millis(post.limit_ms)).await {
            Ok(head) => PostOutcome::Answered {
                status: head.status,
                retry_after_ms: retry_after_ms(&head.headers, self.clock.now()),
            },
            Err(failure) => match failure.cause {
                Cause::TargetRefused => PostOutcome::TargetRefused,
                Cause::TimedOut => PostOutcome::TimedOut,
                Cause::ConnectionFailed | Cause::ConnectionLost | Cause::AnswerTooLarge => {
                    PostOutcome::ConnectionFailed
                }
            },
        }
    }
}
