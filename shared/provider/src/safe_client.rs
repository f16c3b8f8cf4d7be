//! The one HTTP client for everything outside.
//!
//! It makes each request once. It follows no redirect, repeats nothing, takes no proxy from the
//! environment, reaches public addresses only (see [`AllowedHosts`]), reads no more than
//! [`MAX_ANSWER_BYTES`], and ends within the limit of the call. It knows no protocol.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_tls::TlsError;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Response, Url};
use tokio::time::{Instant, timeout_at};

use crate::once_body::OnceBody;
use crate::targets::{AllowedHosts, TargetRefused, Targets};

/// The most bytes of an answer's body that are read: 1 MiB.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How long resolving, connecting and the TLS handshake may take together, in milliseconds. It leaves
/// room for one lost packet, which is sent again after a second. The limit of a call counts as well.
const CONNECT_TIMEOUT_MS: u64 = 3_000;

/// How long a connection may lie idle and still be used, in milliseconds. Between two invocations a
/// function is frozen and does not notice that the other side has closed its connections; a request that
/// is written to such a connection is lost, and its outcome unknown. Four seconds is below the shortest
/// keep-alive time that is common among servers (Node.js: 5 s), so that whatever lay idle longer is not
/// tried at all.
const POOL_IDLE_TIMEOUT_MS: u64 = 4_000;

/// How many idle connections to one host are kept.
const MAX_IDLE_PER_HOST: usize = 8;

/// How long is waited for the body of an answer of which the head alone matters, in milliseconds.
const GLANCE_MS: u64 = 1_000;

/// How long before the end of a call's limit such a body is given up, in milliseconds.
const GLANCE_MARGIN_MS: u64 = 50;

/// What Holdfast calls itself.
const USER_AGENT: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client itself.
    #[error("the HTTP client cannot be made")]
    Client(#[from] reqwest::Error),
}

/// A request to be made once.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer's head.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The target must not be reached, or its URL cannot be.
    TargetRefused,
    /// No connection could be made.
    ConnectionFailed,
    /// The limit passed.
    TimedOut,
    /// The connection broke before the answer was complete.
    ConnectionLost,
    /// The answer is over [`MAX_ANSWER_BYTES`].
    AnswerTooLarge,
}

/// There is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// Whether a byte of the request may have been written. A request without a body always may.
    pub(crate) may_be_sent: bool,
}

/// The client. Cloning it is cheap and shares its connections.
#[derive(Clone, Debug)]
pub struct SafeClient {
    client: Client,
    targets: Targets,
}

impl SafeClient {
    /// Makes a client that reaches public addresses and `allowed`.
    pub fn new(allowed: AllowedHosts) -> Result<Self, ClientError> {
        Self::reaching(Targets::new(allowed))
    }

    /// Makes a client that reaches these targets.
    pub(crate) fn reaching(targets: Targets) -> Result<Self, ClientError> {
        let client = Client::builder()
            .dns_resolver(targets.clone())
            // Only HTTP/1 lets the body prove that a request was not sent; see `once_body`.
            .http1_only()
            .tls_backend_preconfigured(holdfast_tls::config()?)
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .pool_idle_timeout(Duration::from_millis(POOL_IDLE_TIMEOUT_MS))
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .user_agent(USER_AGENT)
            .build()?;
        Ok(Self { client, targets })
    }

    /// Makes the request and reads the whole answer, within `limit`.
    pub(crate) async fn exchange(&self, outgoing: Outgoing, limit: Duration) -> Result<Answer, Failure> {
        self.within(limit, outgoing, async |response| {
            let head = head(&response);
            Ok(Answer { head, body: read_body(response).await? })
        })
        .await
    }

    /// Makes the request and reads the answer's head, within `limit`, and of its body no more than
    /// `max_bytes`, and only what arrives within the limit and [`GLANCE_MS`]: what cannot be read is left out
    /// and fails nothing.
    pub(crate) async fn glance(
        &self,
        outgoing: Outgoing,
        limit: Duration,
        max_bytes: usize,
    ) -> Result<Answer, Failure> {
        let until = Instant::now() + limit;
        self.within(limit, outgoing, async |mut response| {
            let head = head(&response);
            let glance_until = until.min(Instant::now() + Duration::from_millis(GLANCE_MS));
            // The limit is for the answer itself; a body must not turn one that came in time into none.
            let glance_until = glance_until - Duration::from_millis(GLANCE_MARGIN_MS);
            let mut body = BytesMut::new();
            while body.len() < max_bytes
                && let Ok(Ok(Some(chunk))) = timeout_at(glance_until, response.chunk()).await
            {
                body.extend_from_slice(&chunk[..chunk.len().min(max_bytes - body.len())]);
            }
            Ok(Answer { head, body: body.freeze() })
        })
        .await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        outgoing: Outgoing,
        read: impl AsyncFnOnce(Response) -> Result<T, Cause>,
    ) -> Result<T, Failure> {
        let host = outgoing.url.host_str().unwrap_or_default();
        if self.targets.check_literal(host).is_err() {
            return Err(Failure { cause: Cause::TargetRefused, may_be_sent: false });
        }
        let (body, receipt) = OnceBody::new(outgoing.body);
        let request = self
            .client
            .request(outgoing.method, outgoing.url)
            .headers(outgoing.headers)
            .body(Body::wrap(body));
        let answered = tokio::time::timeout(limit, async {
            let response = request.send().await.map_err(|error| cause_of(&error))?;
            read(response).await
        })
        .await
        .unwrap_or(Err(Cause::TimedOut));
        answered.map_err(|cause| Failure { cause, may_be_sent: !receipt.take_back() })
    }
}

fn head(response: &Response) -> Head {
    Head { status: response.status().as_u16(), headers: response.headers().clone() }
}

async fn read_body(mut response: Response) -> Result<Bytes, Cause> {
    let announced = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced: usize = announced.and_then(|text| text.parse().ok()).unwrap_or(0);
    if announced > MAX_ANSWER_BYTES {
        return Err(Cause::AnswerTooLarge);
    }
    let mut body = BytesMut::with_capacity(announced);
    while let Some(chunk) = response.chunk().await.map_err(|_| Cause::ConnectionLost)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Cause::AnswerTooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn cause_of(error: &reqwest::Error) -> Cause {
    if reasons(error).any(<dyn Error>::is::<TargetRefused>) {
        return Cause::TargetRefused;
    }
    // The reasons name hosts and TLS faults, but never what was sent. The error's own text is left out,
    // since the URL is in it.
    let text = reasons(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    tracing::debug!(http.host = error.url().and_then(Url::host_str), error = text, "no answer");
    if error.is_connect() || error.is_builder() { Cause::ConnectionFailed } else { Cause::ConnectionLost }
}

/// The reasons behind an error, without the error itself.
fn reasons(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let reason = next?;
        next = reason.source();
        Some(reason)
    })
}
