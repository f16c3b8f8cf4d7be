//! Posts deliveries to consumers' endpoints. When to do so, and what an answer means, is decided elsewhere.

use std::time::Duration;

use bytes::Bytes;
use holdfast_app::ports::{Clock, PostOutcome, WebhookPost, WebhookSender};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::ExposeSecret;

use crate::request::{Unsendable, callable, sensitive, sign};
use crate::retry_after::retry_after_ms;
use crate::safe_client::{Cause, Outgoing, SafeClient};

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::response::Redirect;
    use axum::routing::post;
    use holdfast_domain::Timestamp;
    use secrecy::SecretString;

    use super::*;
    use crate::AllowedHosts;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    struct SystemTime;

    impl Clock for SystemTime {
        #[allow(clippy::disallowed_methods, reason = "the reference verifier compares with the time of day")]
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_ms(jiff::Timestamp::now().as_millisecond()).unwrap()
        }
    }

    /// 200 if the delivery is as it should be, 400 otherwise.
    async fn check(request: Request) -> StatusCode {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 10_000).await.unwrap();
        let is_signed = standardwebhooks::Webhook::new(SECRET).unwrap().verify(&body, &parts.headers).is_ok();
        let is_whole = parts.headers["webhook-id"] == "evt_1"
            && parts.headers["x-own"] == "mine"
            && parts.headers["content-type"] == "application/json"
            && body == "{\"a\":  1}".as_bytes();
        if is_signed && is_whole { StatusCode::OK } else { StatusCode::BAD_REQUEST }
    }

    async fn inbox() -> String {
        let hang = || async { std::future::pending::<StatusCode>().await };
        let app = Router::new()
            .route("/check", post(check))
            .route("/busy", post(|| async { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "9")]) }))
            .route("/moved", post(|| async { Redirect::temporary("/check") }))
            .route("/hang", post(hang));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    async fn post_to(url: &str, allowed: &str, limit_ms: u64) -> PostOutcome {
        let client = SafeClient::new(AllowedHosts::parse(allowed)).unwrap();
        let own = [("x-own", "mine"), ("webhook-id", "forged"), ("content-type", "text/plain")];
        let headers: BTreeMap<String, SecretString> =
            own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned().into())).collect();
        let secret = SecretString::from(SECRET.to_owned());
        let post = WebhookPost {
            url,
            headers: &headers,
            secret: &secret,
            message_id: "evt_1",
            timestamp_unix_s: SystemTime.now().as_unix_ms() / 1_000,
            body: "{\"a\":  1}",
            limit_ms,
        };
        WebhookClient::new(client, SystemTime).post(post).await
    }

    #[tokio::test]
    async fn a_delivery_is_signed_and_its_bytes_and_headers_are_kept() {
        let outcome = post_to(&format!("{}/check", inbox().await), "127.0.0.1", 10_000).await;
        assert_eq!(outcome, PostOutcome::Answered { status: 200, retry_after_ms: None });
    }

    #[tokio::test]
    async fn answers_are_reported_as_they_are() {
        let url = inbox().await;
        let moved = post_to(&format!("{url}/moved"), "127.0.0.1", 10_000).await;
        assert_eq!(moved, PostOutcome::Answered { status: 307, retry_after_ms: None });
        let busy = post_to(&format!("{url}/busy"), "127.0.0.1", 10_000).await;
        assert_eq!(busy, PostOutcome::Answered { status: 429, retry_after_ms: Some(9_000) });
    }

    #[tokio::test]
    async fn what_was_not_answered_says_why() {
        let url = inbox().await;
        assert_eq!(post_to(&format!("{url}/hang"), "127.0.0.1", 200).await, PostOutcome::TimedOut);
        assert_eq!(post_to(&format!("{url}/check"), "", 10_000).await, PostOutcome::TargetRefused);
        assert_eq!(post_to("gopher://example.com", "", 10_000).await, PostOutcome::TargetRefused);
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let outcome = post_to(&format!("http://{closed}"), "127.0.0.1", 10_000).await;
        assert_eq!(outcome, PostOutcome::ConnectionFailed);
    }
}
