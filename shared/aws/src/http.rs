//! What sends the requests to Amazon: reqwest, as to providers, over the same TLS, with connections of its own.
//!
//! The SDK would bring a second one, with HTTP/2, which is not spoken there, and with the system's list of authorities,
//! which every cold process would read. A connector makes each request once; repetitions are the SDK's.

use std::error::Error;
use std::mem;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Request};

use crate::calls::TARGET_HEADER;
use crate::clients::ClientError;

/// How long a connection may lie idle and still be used, in seconds: as long as the SDK's own client would use it. A call
/// that meets one that has been closed is made again.
const POOL_IDLE_TIMEOUT_S: u64 = 90;

/// What is not shown of a request.
const SECRET_HEADERS: [&str; 2] = ["authorization", "x-amz-security-token"];

/// A client for HTTP/1.1 that gives up connecting, TLS included, after `connect_limit`. It takes no proxy from the
/// environment and follows no redirect. How long a request may take is for who makes it.
pub(crate) fn connector(connect_limit: Duration) -> Result<SharedHttpConnector, ClientError> {
    let client = Client::builder()
        .http1_only()
        .tls_backend_preconfigured(holdfast_tls::config()?)
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(connect_limit)
        .pool_idle_timeout(Duration::from_secs(POOL_IDLE_TIMEOUT_S))
        .build()?;
    Ok(SharedHttpConnector::new(Sender { client }))
}

/// Sends requests as they are, and reads answers whole.
#[derive(Debug)]
struct Sender {
    client: Client,
}

impl HttpConnector for Sender {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.client.clone();
        HttpConnectorFuture::new(async move {
            let request = outgoing(request).map_err(ConnectorError::user)?;
            let mut response = client.execute(request).await.map_err(unanswered)?;
            let (status, headers) = (response.status(), mem::take(response.headers_mut()));
            let body = response.bytes().await.map_err(unanswered)?;
            let mut answer = http::Response::new(SdkBody::from(body));
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// The request as the client has it. The bodies of ours are in memory.
fn outgoing(request: HttpRequest) -> Result<Request, Box<dyn Error + Send + Sync>> {
    let mut request = request.try_into_http1x()?;
    for name in SECRET_HEADERS {
        if let Some(value) = request.headers_mut().get_mut(name) {
            value.set_sensitive(true);
        }
    }
    let in_memory = request.body().bytes().ok_or("the body is not in memory")?.to_vec();
    Ok(Request::try_from(request.map(|_| Body::from(in_memory)))?)
}

/// Why there is no whole answer, without the URL.
fn unanswered(error: reqwest::Error) -> ConnectorError {
    let error = error.without_url();
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
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

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answering = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"{}") {
                assert!(connection.read_buf(&mut read).await.unwrap() > 0, "the request ends early");
            }
            let answer = b"HTTP/1.1 307 Elsewhere\r\nLocation: /elsewhere\r\nContent-Length: 4\r\n\r\nbody";
            connection.write_all(answer).await.unwrap();
            connection
        };
        let call = connector(LIMIT).unwrap().call(request(&url));
        let (answer, _connection) = tokio::join!(call, answering);
        let answer = answer.unwrap();
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

    #[test]
    fn what_is_secret_is_not_shown() {
        let mut request = request("http://localhost/");
        request.headers_mut().insert("authorization", "signed");
        request.headers_mut().insert("x-amz-security-token", "token");
        let shown = format!("{:?}", outgoing(request).unwrap().headers());
        assert!(!shown.contains("signed") && !shown.contains("token\": \"token"), "{shown}");
    }
}
