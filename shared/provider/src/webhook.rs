//! Posts deliveries to consumers' endpoints. When to do so, and what an answer means, is decided elsewhere.

use std::time::Duration;

use bytes::Bytes;
use holdfast_app::ports::{Clock, PostOutcome, WebhookPost, WebhookSender};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::ExposeSecret;

use crate::request::{Unsendable, callable, sensitive, sign_with_each};
use crate::retry_after::retry_after_ms;
use crate::safe_client::{Answer, Cause, Outgoing, SafeClient};
use crate::text::clean;

/// How much of an answer's body is read, in bytes.
const MAX_BODY_BYTES: usize = 1_024;

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
    let body = Bytes::copy_from_slice(post.body.as_bytes());
    sign_with_each(&mut headers, post.secrets, post.message_id, post.timestamp_unix_s, &body)?;
    Ok(Outgoing { method: Method::POST, uri: callable(post.url)?, headers, body })
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
        let limit = Duration::from_millis(post.limit_ms);
        match self.client.glance(outgoing, limit, MAX_BODY_BYTES).await {
            Ok(Answer { head, body }) => PostOutcome::Answered {
                status: head.status,
                retry_after_ms: retry_after_ms(&head.headers, self.clock.now()),
                body: clean(&String::from_utf8_lossy(&body), MAX_BODY_BYTES).unwrap_or_default(),
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
    use std::convert::Infallible;

    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::response::Redirect;
    use axum::routing::post;
    use futures_util::{StreamExt, stream};
    use holdfast_domain::Timestamp;
    use secrecy::SecretString;

    use super::*;
    use crate::AllowedHosts;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    const NEW_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn answered(status: u16, retry_after_ms: Option<u64>, body: &str) -> PostOutcome {
        PostOutcome::Answered { status, retry_after_ms, body: body.to_owned() }
    }

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
        let verifies = |secret: &str| {
            standardwebhooks::Webhook::new(secret).unwrap().verify(&body, &parts.headers).is_ok()
        };
        let is_signed = verifies(SECRET) && verifies(NEW_SECRET);
        // The newest comes first, for receivers that look at one signature alone.
        let signature = parts.headers["webhook-signature"].to_str().unwrap();
        let mut first = parts.headers.clone();
        first.insert("webhook-signature", signature.split(' ').next().unwrap().parse().unwrap());
        let is_new_first = standardwebhooks::Webhook::new(NEW_SECRET).unwrap().verify(&body, &first).is_ok();
        let is_whole = parts.headers["webhook-id"] == "evt_1"
            && parts.headers["x-own"] == "mine"
            && parts.headers["content-type"] == "application/json"
            && parts.headers["accept"] == "*/*"
            && body == "{\"a\":  1}".as_bytes();
        if is_signed && is_new_first && is_whole { StatusCode::OK } else { StatusCode::BAD_REQUEST }
    }

    async fn inbox() -> String {
        let hang = || async { std::future::pending::<StatusCode>().await };
        let app = Router::new()
            .route("/check", post(check))
            .route("/busy", post(|| async { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "9")]) }))
            .route("/moved", post(|| async { Redirect::temporary("/check") }))
            .route("/long", post(|| async { format!("\u{7}é{}", "x".repeat(100_000)) }))
            .route("/binary", post(|| async { [b'o', 0xff, b'k'] }))
            .route("/drip", post(drip))
            .route("/hang", post(hang));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    /// A head, the beginning of a body, and then nothing.
    async fn drip() -> axum::body::Body {
        let chunks = stream::once(async { Ok::<_, Infallible>("drip") }).chain(stream::pending());
        axum::body::Body::from_stream(chunks)
    }

    async fn post_to(url: &str, allowed: &str, limit_ms: u64) -> PostOutcome {
        let client = SafeClient::new(AllowedHosts::parse(allowed)).unwrap();
        let own = [("x-own", "mine"), ("webhook-id", "forged"), ("content-type", "text/plain")];
        let headers: BTreeMap<String, SecretString> =
            own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned().into())).collect();
        let (new, old) = (SecretString::from(NEW_SECRET), SecretString::from(SECRET));
        let post = WebhookPost {
            url,
            headers: &headers,
            secrets: &[&new, &old],
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
        assert_eq!(outcome, answered(200, None, ""));
    }

    #[tokio::test]
    async fn answers_are_reported_as_they_are() {
        let url = inbox().await;
        let moved = post_to(&format!("{url}/moved"), "127.0.0.1", 10_000).await;
        assert_eq!(moved, answered(307, None, ""));
        let busy = post_to(&format!("{url}/busy"), "127.0.0.1", 10_000).await;
        assert_eq!(busy, answered(429, Some(9_000), ""));
    }

    #[tokio::test]
    async fn no_more_than_the_beginning_of_a_body_is_read() {
        let url = inbox().await;
        let long = post_to(&format!("{url}/long"), "127.0.0.1", 10_000).await;
        // 1,024 bytes: a control character, which is left out, two bytes of a letter, and the rest.
        assert_eq!(long, answered(200, None, &format!("é{}", "x".repeat(1_021))));
        let binary = post_to(&format!("{url}/binary"), "127.0.0.1", 10_000).await;
        assert_eq!(binary, answered(200, None, "o\u{fffd}k"));
        // A body that does not end is no reason to post again, be there time or not.
        for limit_ms in [300, 10_000] {
            let dripped = post_to(&format!("{url}/drip"), "127.0.0.1", limit_ms).await;
            assert_eq!(dripped, answered(200, None, "drip"), "{limit_ms}");
        }
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
