//! The runtime API, over one connection.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Context, RuntimeError};
use crate::RunError;

const INVOCATION: &str = "/2018-06-01/runtime/invocation";

const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const DEADLINE_MS: &str = "lambda-runtime-deadline-ms";
const TRACE_ID: &str = "lambda-runtime-trace-id";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

const NAME: HeaderValue = HeaderValue::from_static(concat!("holdfast/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How long connecting may take, and how long the runtime API may take with an answer that was posted. It is on the same
/// machine. For the next event there is no limit: it comes when it comes, and the process is frozen until then.
const CONNECT_LIMIT_S: u64 = 5;
/// How long a connection may take to be ready for the next request: it is at once, unless the runtime API has answered
/// before it had read all of the last one.
const READY_LIMIT_S: u64 = 1;
const POST_LIMIT_S: u64 = 60;

/// What Lambda is told of an event that was not handled.
#[derive(Debug)]
pub(super) struct Failure {
    error_type: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn of(error: &RunError) -> Self {
        Self { error_type: "Function.Failed", message: error.to_string() }
    }

    pub(super) fn panicked() -> Self {
        // Its message may hold anything; the hook for panics has logged where it was.
        Self { error_type: "Function.Panicked", message: "the handler panicked".to_owned() }
    }
}

/// Where the runtime API is, and the connection to it.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    /// Host and port.
    address: HeaderValue,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl RuntimeApi {
    pub(super) fn at(address: HeaderValue) -> Self {
        Self { address, connection: None }
    }

    /// Waits for an event, for however long there is none.
    pub(super) async fn next(&mut self) -> Result<(Context, Bytes), RuntimeError> {
        let request = self.request(Method::GET, &format!("{INVOCATION}/next"), Bytes::new())?;
        let (head, event) = self.exchange(request).await?.into_parts();
        if !head.status.is_success() {
            return Err(RuntimeError::NoEvent(head.status));
        }
        let event = event.collect().await.map_err(RuntimeError::BrokenOff)?.to_bytes();
        Ok((context_of(&head.headers)?, event))
    }

    /// Answers an event.
    pub(super) async fn answer(&mut self, request_id: &str, answer: Vec<u8>) -> Result<(), RuntimeError> {
        let path = format!("{INVOCATION}/{request_id}/response");
        let request = self.request(Method::POST, &path, answer.into())?;
        self.post(request, request_id).await
    }

    /// Tells that an event was not handled.
    pub(super) async fn fail(&mut self, request_id: &str, failure: &Failure) -> Result<(), RuntimeError> {
        let path = format!("{INVOCATION}/{request_id}/error");
        let Failure { error_type, message } = failure;
        let body = json!({ "errorType": error_type, "errorMessage": message, "stackTrace": [] });
        let mut request = self.request(Method::POST, &path, body.to_string().into())?;
        request.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(error_type));
        self.post(request, request_id).await
    }

    /// What Lambda does not take, because it is too long or too late, it tells the caller of by itself.
    async fn post(&mut self, request: Request<Full<Bytes>>, request_id: &str) -> Result<(), RuntimeError> {
        let posting = async {
            let (head, body) = self.exchange(request).await?.into_parts();
            // Read to its end, so that the connection can be used again.
            if body.collect().await.is_err() {
                self.connection = None;
            }
            Ok(head.status)
        };
        let status = timeout(Duration::from_secs(POST_LIMIT_S), posting).await;
        let status = status.map_err(|_| RuntimeError::TooSlow { limit_s: POST_LIMIT_S })??;
        if !status.is_success() {
            tracing::error!(
                request.id = request_id,
                http.status = status.as_u16(),
                "Lambda did not take an answer."
            );
        }
        Ok(())
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, RuntimeError> {
        let request = Request::builder().method(method).uri(path).header(HOST, &self.address);
        let request = request.header(USER_AGENT, NAME).header(CONTENT_TYPE, JSON);
        request.body(Full::new(body)).map_err(RuntimeError::Unsendable)
    }

    /// Sends a request, over the connection that there is. If that was closed in the meantime, which shows when nothing
    /// of the request can be sent, over a new one.
    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, RuntimeError> {
        if let Some(mut connection) = self.connection.take()
            && let Ok(Ok(())) = timeout(Duration::from_secs(READY_LIMIT_S), connection.ready()).await
        {
            match connection.try_send_request(request).await {
                Ok(response) => {
                    self.connection = Some(connection);
                    return Ok(response);
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(RuntimeError::BrokenOff(failed.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.send_request(request).await.map_err(RuntimeError::BrokenOff)?;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, RuntimeError> {
        let address =
            self.address.to_str().map_err(|error| RuntimeError::Unreachable(io::Error::other(error)))?;
        let connecting = timeout(Duration::from_secs(CONNECT_LIMIT_S), TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| RuntimeError::TooSlow { limit_s: CONNECT_LIMIT_S })?;
        let stream = stream.map_err(RuntimeError::Unreachable)?;
        stream.set_nodelay(true).map_err(RuntimeError::Unreachable)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(RuntimeError::BrokenOff)?;
        // How it ends, the exchange under way is told.
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn context_of(headers: &HeaderMap) -> Result<Context, RuntimeError> {
    let text = |name: &'static str| headers.get(name).and_then(|value| value.to_str().ok());
    let request_id = text(REQUEST_ID).ok_or(RuntimeError::MissingHeader(REQUEST_ID))?;
    let deadline = text(DEADLINE_MS).and_then(|text| text.parse().ok());
    Ok(Context {
        request_id: request_id.to_owned(),
        deadline_unix_ms: deadline.ok_or(RuntimeError::MissingHeader(DEADLINE_MS))?,
        xray_trace_id: text(TRACE_ID).map(str::to_owned),
    })
}
