//! The one HTTP client for everything outside.
//!
//! It makes each request once. It follows no redirect, repeats nothing, takes no proxy from the
//! environment, reaches public addresses only (see [`AllowedHosts`]), reads no more than
//! [`MAX_ANSWER_BYTES`], and ends within the limit of the call. It knows no protocol.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_http::{ClientLimits, HttpClient, Incoming, OnceBody, SendError, causes};
use holdfast_tls::TlsError;
use http::header::{ACCEPT, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

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
const OUR_NAME: HeaderValue = HeaderValue::from_static(concat!("holdfast/", env!("CARGO_PKG_VERSION")));

/// What is accepted, if nothing is said.
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A request to be made once.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
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
    client: HttpClient,
    targets: Targets,
}

impl SafeClient {
    /// Makes a client that reaches public addresses and `allowed`.
    pub fn new(allowed: AllowedHosts) -> Result<Self, ClientError> {
        Self::reaching(Targets::new(allowed))
    }

    /// Makes a client that reaches these targets.
    pub(crate) fn reaching(targets: Targets) -> Result<Self, ClientError> {
        let limits = ClientLimits {
            connect_limit: Duration::from_millis(CONNECT_TIMEOUT_MS),
            idle_limit: Duration::from_millis(POOL_IDLE_TIMEOUT_MS),
            max_idle_per_host: MAX_IDLE_PER_HOST,
        };
        let client = HttpClient::new(targets.resolver(), limits)?;
        Ok(Self { client, targets })
    }

    /// Makes the request and reads the whole answer, within `limit`.
    pub(crate) async fn exchange(&self, outgoing: Outgoing, limit: Duration) -> Result<Answer, Failure> {
        self.within(limit, outgoing, async |response| {
            let (head, incoming) = parted(response);
            let body = read_body(&head, incoming).await?;
            Ok(Answer { head, body })
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
        self.within(limit, outgoing, async |response| {
            let (head, mut incoming) = parted(response);
            let glance_until = until.min(Instant::now() + Duration::from_millis(GLANCE_MS));
            // The limit is for the answer itself; a body must not turn one that came in time into none.
            let glance_until = glance_until - Duration::from_millis(GLANCE_MARGIN_MS);
            let mut body = BytesMut::new();
            while body.len() < max_bytes
                && let Ok(Ok(Some(chunk))) = timeout_at(glance_until, next_chunk(&mut incoming)).await
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
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Cause>,
    ) -> Result<T, Failure> {
        let host = outgoing.uri.host().unwrap_or_default().to_owned();
        if self.targets.check_literal(&host).is_err() {
            return Err(Failure { cause: Cause::TargetRefused, may_be_sent: false });
        }
        let (body, receipt) = OnceBody::new(outgoing.body);
        let mut request = Request::new(body);
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = outgoing.uri;
        *request.headers_mut() = outgoing.headers;
        for (name, value) in [(ACCEPT, ANYTHING), (USER_AGENT, OUR_NAME)] {
            request.headers_mut().entry(name).or_insert(value);
        }
        let answered = tokio::time::timeout(limit, async {
            let response = self.client.send(request).await.map_err(|error| cause_of(&host, &error))?;
            read(response).await
        })
        .await
        .unwrap_or(Err(Cause::TimedOut));
        answered.map_err(|cause| Failure { cause, may_be_sent: !receipt.take_back() })
    }
}

fn parted(response: Response<Incoming>) -> (Head, Incoming) {
    let (head, body) = response.into_parts();
    (Head { status: head.status.as_u16(), headers: head.headers }, body)
}

/// What arrives next of a body; nothing at its end.
async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>, Cause> {
    while let Some(frame) = body.frame().await {
        // Trailers are passed over.
        if let Ok(chunk) = frame.map_err(|_| Cause::ConnectionLost)?.into_data() {
            return Ok(Some(chunk));
        }
    }
    Ok(None)
}

async fn read_body(head: &Head, mut incoming: Incoming) -> Result<Bytes, Cause> {
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced: usize = announced.and_then(|text| text.parse().ok()).unwrap_or(0);
    if announced > MAX_ANSWER_BYTES {
        return Err(Cause::AnswerTooLarge);
    }
    let mut body = BytesMut::with_capacity(announced);
    while let Some(chunk) = next_chunk(&mut incoming).await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Cause::AnswerTooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn cause_of(host: &str, error: &SendError) -> Cause {
    if causes(error).any(<dyn Error>::is::<TargetRefused>) {
        return Cause::TargetRefused;
    }
    // The causes name hosts and TLS faults, but never what was sent.
    let text = causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    tracing::debug!(http.host = host, error = text, "no answer");
    if error.is_connect() { Cause::ConnectionFailed } else { Cause::ConnectionLost }
}
