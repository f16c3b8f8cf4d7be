//! What sends the requests to Amazon: the client that calls providers too, with connections of its own.
//!
//! The SDK would bring a second one, with HTTP/2, which is not spoken there, and with the system's list of authorities,
//! which every cold process would read. A connector makes each request once; repetitions are the SDK's.

use std::io;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use holdfast_http::{BoxError, ClientLimits, HttpClient, OnceBody, SendError, causes, system_names};
use holdfast_tls::TlsError;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::error::Elapsed;

use crate::calls::TARGET_HEADER;

/// How long a connection may lie idle and still be used, in seconds: as long as the SDK's own client would use it. A call
/// that meets one that has been closed is made again.
const POOL_IDLE_TIMEOUT_S: u64 = 90;

/// How many idle connections are kept: all, which are no more than calls were under way at a time.
const MAX_IDLE_PER_HOST: usize = usize::MAX;

/// What is not shown of a request.
const SECRET_HEADERS: [&str; 2] = ["authorization", "x-amz-security-token"];

/// A client for HTTP/1.1 that gives up connecting, TLS included, after `connect_limit`. How long a request may take is
/// for who makes it.
pub(crate) fn connector(connect_limit: Duration) -> Result<SharedHttpConnector, TlsError> {
    let idle_limit = Duration::from_secs(POOL_IDLE_TIMEOUT_S);
    let limits = ClientLimits { connect_limit, idle_limit, max_idle_per_host: MAX_IDLE_PER_HOST };
    Ok(SharedHttpConnector::new(Sender(HttpClient::new(system_names(), limits)?)))
}

/// Sends requests as they are, and reads answers whole.
#[derive(Debug)]
struct Sender(HttpClient);

impl HttpConnector for Sender {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        let request = outgoing(request);
        HttpConnectorFuture::new(async move {
            let request = request.map_err(ConnectorError::user)?;
            let (head, body) = client.send(request).await.map_err(unanswered)?.into_parts();
            let body = body.collect().await.map_err(|error| ConnectorError::io(error.into()))?.to_bytes();
            HttpResponse::try_from(Response::from_parts(head, SdkBody::from(body)))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// The request as the client has it. The bodies of ours are in memory.
fn outgoing(request: HttpRequest) -> Result<Request<OnceBody>, BoxError> {
    let (mut head, body) = request.try_into_http1x()?.into_parts();
    for name in SECRET_HEADERS {
        if let Some(value) = head.headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
    let in_memory = body.bytes().ok_or("the body is not in memory")?;
    let (body, _) = OnceBody::new(Bytes::copy_from_slice(in_memory));
    Ok(Request::from_parts(head, body))
}

/// Why there is no answer.
fn unanswered(error: SendError) -> ConnectorError {
    let timed_out = |cause: &io::Error| cause.kind() == io::ErrorKind::TimedOut;
    let is_late = causes(&error)
        .any(|cause| cause.is::<Elapsed>() || cause.downcast_ref::<io::Error>().is_some_and(timed_out));
    if is_late { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}

/// Answers by a function, in memory, for tests.
pub(crate) struct Answering<F>(pub(crate) F);

impl<F> std::fmt::Debug for Answering<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Answering")
    }
}

impl<F> HttpConnector for Answering<F>
where
    F: Fn(&str, &[u8]) -> (u16, String) + Send + Sync,
{
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get(TARGET_HEADER).unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let (status, body) = self.0(operation, request.body().bytes().unwrap_or_default());
        let status = status.try_into().map_err(|error| ConnectorError::user(Box::new(error)));
        HttpConnectorFuture::ready(status.map(|status| HttpResponse::new(status, SdkBody::from(body))))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn request(url: &str) -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::from("{}"));
        request.set_method("POST").unwrap();
        request.set_uri(url).unwrap();
        request
    }

    /// What comes of a call whose one request is answered so. Whom nobody asks, or asks again, would wait for ever.
    async fn answered(call: HttpConnectorFuture, listener: &TcpListener, answer: &[u8]) -> HttpResponse {
        let answering = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"{}") {
                assert!(connection.read_buf(&mut read).await.unwrap() > 0, "the request ends early");
            }
            connection.write_all(answer).await.unwrap();
            connection
        };
        let both = async { tokio::join!(call, answering) };
        let (answer, _connection) = tokio::time::timeout(LIMIT, both).await.expect("not one request here");
        answer.unwrap()
    }

    #[tokio::test]
    async fn each_request_goes_to_its_own_address() {
        let connector = connector(LIMIT).unwrap();
        let servers = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        for asked in [0, 1, 1, 0] {
            let url = format!("http://{}/", servers[asked].local_addr().unwrap());
            let said = format!("HTTP/1.1 20{asked} Yes\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let call = connector.call(request(&url));
            let answer = answered(call, &servers[asked], said.as_bytes()).await;
            assert_eq!(usize::from(answer.status().as_u16()), 200 + asked);
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let said = b"HTTP/1.1 307 Elsewhere\r\nLocation: /elsewhere\r\nContent-Length: 4\r\n\r\nbody";
        let answer = answered(connector(LIMIT).unwrap().call(request(&url)), &listener, said).await;
        assert_eq!((answer.status().as_u16(), answer.body().bytes()), (307, Some(&b"body"[..])));
        assert_eq!(answer.headers().get("location"), Some("/elsewhere"));
    }

    #[tokio::test]
    async fn who_is_not_there_is_not_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/secret-path", listener.local_addr().unwrap());
        drop(listener);
        let error = connector(LIMIT).unwrap().call(request(&url)).await.unwrap_err();
        assert!(error.is_io(), "{error:?}");
        let shown = format!("{error:?}");
        assert!(!shown.contains("secret-path"), "{shown}");
    }

    #[tokio::test]
    async fn connecting_has_a_limit_tls_included() {
        const SHORT: Duration = Duration::from_millis(50);
        // It takes connections, and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let call = connector(SHORT).unwrap().call(request(&url));
        let error = tokio::time::timeout(LIMIT, call).await.expect("it waits on").unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let mut request = request("http://localhost/");
        request.headers_mut().insert("authorization", "signed");
        request.headers_mut().insert("x-amz-security-token", "token");
        let shown = format!("{:?}", outgoing(request).unwrap().headers());
        assert!(!shown.contains("signed") && !shown.contains("token\": \"token"), "{shown}");
    }
}
