//! One request and its answer, over reqwest. It repeats nothing.

use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Method, StatusCode, Url};

use crate::error::{Error, NoAnswer};

/// The most bytes of an answer's body, unpacked, that are read: 64 MiB. The largest that Holdfast gives has some
/// 110 000 slots.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How long resolving, connecting and the TLS handshake may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

const USER_AGENT: &str = concat!("holdfast-client/", env!("CARGO_PKG_VERSION"));

/// A request, the same however often it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn with_json(mut self, body: &impl serde::Serialize) -> Result<Self, Error> {
        self.body = Some(serde_json::to_vec(body).map_err(|error| Error::Request(Box::new(error)))?);
        Ok(self.with_header(CONTENT_TYPE, HeaderValue::from_static("application/json")))
    }
}

/// A whole answer, its body unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A client that follows no redirect, since a key is not to be carried elsewhere, and repeats nothing.
pub(crate) fn client(authorization: HeaderValue, is_local: bool) -> Result<Client, Error> {
    let mut always = HeaderMap::new();
    always.insert(reqwest::header::AUTHORIZATION, authorization);
    always.insert(ACCEPT, HeaderValue::from_static("application/json"));
    always.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let builder = Client::builder()
        .default_headers(always)
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_LIMIT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never());
    // What runs on this machine is reached without a proxy.
    let builder = if is_local { builder.no_proxy() } else { builder };
    builder.build().map_err(Error::Tls)
}

/// Makes a request once. The caller sets its time limit.
pub(crate) async fn send(client: &Client, request: &Request) -> Result<Answer, Error> {
    let mut outgoing =
        client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
    if let Some(body) = &request.body {
        outgoing = outgoing.body(Body::from(body.clone()));
    }
    let mut response = outgoing.send().await.map_err(no_answer)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(too_large(status));
        }
        body.extend_from_slice(&chunk);
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip") {
        body = unpacked(&body, status)?;
    }
    Ok(Answer { status, headers, body })
}

fn unpacked(packed: &[u8], status: StatusCode) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    let limit = u64::try_from(MAX_ANSWER_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let read = GzDecoder::new(packed).take(limit).read_to_end(&mut body);
    read.map_err(|_| Error::Unanswered(NoAnswer::Garbage))?;
    if body.len() > MAX_ANSWER_BYTES { Err(too_large(status)) } else { Ok(body) }
}

fn too_large(status: StatusCode) -> Error {
    let detail = format!("it has more than {MAX_ANSWER_BYTES} bytes");
    Error::NotUnderstood { status: status.as_u16(), detail, request_id: None, may_have_acted: true }
}

/// What an error of the HTTP client means. Its URL is left out: it may hold a reference of the caller's.
fn no_answer(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_builder() {
        return Error::Request(Box::new(error));
    }
    let is_unsent = error.is_connect();
    let source = Box::new(error);
    Error::Unanswered(if is_unsent { NoAnswer::NoConnection(source) } else { NoAnswer::Lost(source) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: usize) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&vec![b' '; bytes]).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked_up_to_a_limit() {
        assert_eq!(unpacked(&packed(1000), StatusCode::OK).unwrap().len(), 1000);
        assert!(unpacked(&packed(MAX_ANSWER_BYTES), StatusCode::OK).is_ok());
        let error = unpacked(&packed(MAX_ANSWER_BYTES + 1), StatusCode::OK).unwrap_err();
        assert!(matches!(error, Error::NotUnderstood { .. }), "{error:?}");
        for cut in [0, 5, packed(1000).len() - 1] {
            let error = unpacked(&packed(1000)[..cut], StatusCode::OK).unwrap_err();
            assert!(matches!(error, Error::Unanswered(NoAnswer::Garbage)), "{error:?}");
        }
    }
}
