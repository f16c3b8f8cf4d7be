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
