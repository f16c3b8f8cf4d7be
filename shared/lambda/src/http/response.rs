//! An answer, free of Lambda's types.

use std::fmt;

use bytes::Bytes;
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::rates::{RateState, WINDOW_S};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

/// The media type of JSON.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The media type of problems (RFC 9457).
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// How a limit is called (draft-ietf-httpapi-ratelimit-headers-10, section 3): structured fields.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The member of a `method_not_allowed` problem that lists the methods.
pub(super) const ALLOW_MEMBER: &str = "allow";

/// An answer.
#[derive(Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers. `X-Request-Id` and, if there is none, `Cache-Control: no-store` are added later.
    pub headers: HeaderMap,
    /// The body, exactly as it is sent.
    pub body: Bytes,
}

impl fmt::Debug for Response {
    /// Shows no body, which may hold personal data or a key that was just made.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// An answer with a JSON body.
    pub fn json(status: StatusCode, body: &Value) -> Self {
        Self::json_bytes(status, body.to_string())
    }

    /// An answer with a body that is JSON already, such as a frozen one.
    pub fn json_bytes(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::empty(status).with_body(JSON, body)
    }

    /// An answer with a problem's body that was written before.
    pub fn problem_bytes(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::empty(status).with_body(PROBLEM_JSON, body)
    }

    /// The same with a body.
    #[must_use]
    pub fn with_body(mut self, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        self.headers.insert(CONTENT_TYPE, content_type);
        self.body = body.into();
        self
    }

    /// The same with a header. A value that no header can have is left out and logged; values are ours.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => {
                self.headers.insert(name, value);
            }
            Err(error) => {
                tracing::error!(http.header = %name, %error, "A header of an answer has an impossible value.");
            }
        }
        self
    }
}

impl Response {
    /// The same, saying how the caller stands with its limit.
    #[must_use]
    pub fn with_rate(self, rate: RateState) -> Self {
        let RateState { quota, remaining, reset_s } = rate;
        self.with_header(RATE_LIMIT_POLICY, &format!("\"consumer\";q={quota};w={WINDOW_S}"))
            .with_header(RATE_LIMIT, &format!("\"consumer\";r={remaining};t={reset_s}"))
    }
}

/// A problem as an answer to a request.
pub(super) fn problem_for(problem: &Problem, path: &str, request_id: &str) -> Response {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = problem.body(path, request_id).to_string();
    let mut response = Response::problem_bytes(status, body);
    if let Some(seconds) = problem.retry_after_s {
        response = response.with_header(RETRY_AFTER, &seconds.to_string());
    }
    if let Some(rate) = problem.rate {
        response = response.with_rate(rate);
    }
    if problem.code == ProblemCode::Unauthenticated {
        response = response.with_header(WWW_AUTHENTICATE, "Bearer");
    }
    if let Some(methods) = problem.extensions.get(ALLOW_MEMBER).and_then(Value::as_array) {
        let methods: Vec<&str> = methods.iter().filter_map(Value::as_str).collect();
        response = response.with_header(ALLOW, &methods.join(", "));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_not_printed() {
        let response = Response::json(StatusCode::OK, &serde_json::json!({"name": "Ada Lovelace"}));
        assert_eq!(format!("{response:?}"), "Response(200 OK, 23 bytes)");
    }
}
