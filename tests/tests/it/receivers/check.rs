//! What every receiver of webhooks has to do, tried with requests that the product's own client has signed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::{Router, extract::State};
use holdfast_app::ports::{Clock, PostOutcome, WebhookPost, WebhookSender};
use holdfast_lambda::SystemClock;
use holdfast_provider::{AllowedHosts, SafeClient, WebhookClient};
use secrecy::SecretString;
use serde_json::{Value, json};

/// The secret that the receiver is to have.
pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

const OTHER_SECRET: &str = "whsec_OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEwOTg=";
const BOOKING: &str = "bkg_00000000000000000000000000";
const SIGNATURE: &str = "webhook-signature";
const TIMESTAMP: &str = "webhook-timestamp";

/// How much older or newer than now a request must not be, in seconds, and a little more.
const TOO_FAR_S: i64 = 6 * 60;

/// What a receiver did wrong.
#[derive(Debug)]
pub(crate) struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

type Checked<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A signed request, as it would have been sent.
type Signed = (HeaderMap, Bytes);

struct Receiver {
    url: String,
    http: reqwest::Client,
}

/// Tries the receiver at `url`, which must not have received anything yet.
pub(crate) async fn check(url: &str) -> Checked {
    let receiver = Receiver { url: url.to_owned(), http: reqwest::Client::new() };
    receiver.takes_what_is_signed(SECRET, "evt_1", &event("evt_1", 2, "confirmed"), true).await?;
    receiver.knows(1, 2, "confirmed").await?;
    // The same again, and an older version that was overtaken.
    receiver.takes_what_is_signed(SECRET, "evt_1", &event("evt_1", 9, "cancelled"), true).await?;
    receiver.knows(1, 2, "confirmed").await?;
    receiver.takes_what_is_signed(SECRET, "evt_0", &event("evt_0", 1, "pending"), true).await?;
    receiver.knows(2, 2, "confirmed").await?;
    receiver.takes_what_is_signed(SECRET, "evt_2", &event("evt_2", 3, "cancelled"), true).await?;
    receiver.knows(3, 3, "cancelled").await?;
    let about_endpoint = json!({"id": "evt_3", "type": "webhook.exhausted", "data": {"id": "whe_1"}});
    receiver.takes_what_is_signed(SECRET, "evt_3", &about_endpoint.to_string(), true).await?;
    receiver.knows(4, 3, "cancelled").await?;
    // Another's signature.
    receiver.takes_what_is_signed(OTHER_SECRET, "evt_4", &event("evt_4", 4, "no_show"), false).await?;
    receiver.refuses_what_is_tampered_with().await?;
    receiver.knows(4, 3, "cancelled").await?;
    receiver.takes_either_of_two_signatures().await?;
    receiver.knows(5, 5, "completed").await
}

fn event(id: &str, version: u64, status: &str) -> String {
    let data = json!({"id": BOOKING, "version": version, "status": status, "note": "Zoë, 1.00"});
    format!(r#"{{"id": "{id}",  "type":"booking.{status}", "data":{data}}}"#)
}

fn now_unix_s() -> i64 {
    SystemClock.now().as_unix_ms() / 1_000
}

/// Posts with the product's own client.
async fn post(url: &str, secret: &str, id: &str, timestamp_unix_s: i64, body: &str) -> Checked<PostOutcome> {
    let client = WebhookClient::new(SafeClient::new(AllowedHosts::parse("127.0.0.1"))?, SystemClock);
    let (headers, secret) = (BTreeMap::new(), SecretString::from(secret.to_owned()));
    let limit_ms = 15_000;
    let post = WebhookPost {
        url,
        headers: &headers,
        secrets: &[&secret],
        message_id: id,
        timestamp_unix_s,
        body,
        limit_ms,
    };
    Ok(client.post(post).await)
}

/// What the product's own client would send.
async fn signed(secret: &str, id: &str, timestamp_unix_s: i64, body: &str) -> Checked<Signed> {
    let caught: Arc<Mutex<Option<Signed>>> = Arc::default();
    let catch = |State(caught): State<Arc<Mutex<Option<Signed>>>>, headers: HeaderMap, body: Bytes| async move {
        *caught.lock().unwrap_or_else(PoisonError::into_inner) = Some((headers, body));
        StatusCode::NO_CONTENT
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = Router::new().fallback(catch).with_state(Arc::clone(&caught));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    post(&url, secret, id, timestamp_unix_s, body).await?;
    server.abort();
    let caught = caught.lock().unwrap_or_else(PoisonError::into_inner).take();
    caught.ok_or_else(|| Fault("nothing was sent".to_owned()).into())
}

impl Receiver {
    async fn takes_what_is_signed(&self, secret: &str, id: &str, body: &str, is_taken: bool) -> Checked {
        match post(&self.url, secret, id, now_unix_s(), body).await? {
            PostOutcome::Answered { status, .. } if (200..300).contains(&status) == is_taken => Ok(()),
            other => Err(Fault(format!("{id}: {other:?}")).into()),
        }
    }

    async fn send(&self, what: &str, (mut headers, body): Signed, is_taken: bool) -> Checked {
        for name in ["host", "content-length"] {
            headers.remove(name);
        }
        let answer = self.http.post(&self.url).headers(headers).body(body).send().await?;
        let status = answer.status();
        if is_taken == status.is_success() && (is_taken || status.is_client_error()) {
            return Ok(());
        }
        Err(Fault(format!("{what}: {status}")).into())
    }

    async fn refuses_what_is_tampered_with(&self) -> Checked {
        let (at, body) = (now_unix_s(), event("evt_5", 5, "completed"));
        let (headers, bytes) = signed(SECRET, "evt_5", at, &body).await?;
        let other = Bytes::from(body.replace("completed", "no_show  "));
        self.send("another body", (headers.clone(), other), false).await?;
        for (name, value) in [
            ("webhook-id", "evt_6"),
            (TIMESTAMP, &(at - 1).to_string()),
            (TIMESTAMP, "soon"),
            (SIGNATURE, "v1,AAAA"),
            (SIGNATURE, "nonsense"),
        ] {
            let mut headers = headers.clone();
            headers.insert(name, HeaderValue::from_str(value)?);
            self.send(name, (headers, bytes.clone()), false).await?;
        }
        for name in ["webhook-id", TIMESTAMP, SIGNATURE] {
            let mut headers = headers.clone();
            headers.remove(name);
            self.send(name, (headers, bytes.clone()), false).await?;
        }
        for at in [at - TOO_FAR_S, at + TOO_FAR_S] {
            self.send("another time", signed(SECRET, "evt_5", at, &body).await?, false).await?;
        }
        Ok(())
    }

    /// While a secret is being rotated, both sign.
    async fn takes_either_of_two_signatures(&self) -> Checked {
        let (at, body) = (now_unix_s(), event("evt_5", 5, "completed"));
        let (mut headers, bytes) = signed(SECRET, "evt_5", at, &body).await?;
        let (others, _) = signed(OTHER_SECRET, "evt_5", at, &body).await?;
        let both = format!("{} {}", others[SIGNATURE].to_str()?, headers[SIGNATURE].to_str()?);
        headers.insert(SIGNATURE, HeaderValue::from_str(&both)?);
        self.send("two signatures", (headers, bytes), true).await
    }

    async fn knows(&self, events: u64, version: u64, status: &str) -> Checked {
        let known: Value = self.http.get(&self.url).send().await?.json().await?;
        let expected =
            json!({"events": events, "bookings": {BOOKING: {"version": version, "status": status}}});
        if known == expected { Ok(()) } else { Err(Fault(format!("{known} is not {expected}")).into()) }
    }
}
