//! Between API Gateway's events and our requests and answers.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use bytes::Bytes;
use data_encoding::BASE64;
use holdfast_domain::Timestamp;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Request, Response};
use crate::Context;

/// How long before now a request may have arrived, in milliseconds. What claims to be older, or from the
/// future, is taken to arrive now.
const MAX_ARRIVAL_AGE_MS: u64 = 10_000;

/// How long before the invocation's end an answer has to be there, in milliseconds.
const ANSWER_MARGIN_MS: u64 = 500;

/// The longest request identifier of API Gateway's that is used, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// An event that is no request that can be answered properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Reads an event, which is one JSON text and nothing after it.
pub(super) fn request_of(event: &[u8], context: &Context, now: Timestamp) -> Result<Request, Unreadable> {
    let event: ApiGatewayV2httpRequest = serde_json::from_slice(event).map_err(|_| Unreadable)?;
    let gateway_id = event.request_context.request_id.as_deref();
    let body = event.body.unwrap_or_default();
    let body = if event.is_base64_encoded {
        Bytes::from(BASE64.decode(body.as_bytes()).map_err(|_| Unreadable)?)
    } else {
        Bytes::from(body)
    };
    let query = event.raw_query_string.unwrap_or_default();
    Ok(Request {
        method: event.request_context.http.method.clone(),
        path: event.raw_path.or(event.request_context.http.path).unwrap_or_default(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: joined(event.headers),
        body,
        request_id: request_id(gateway_id, context),
        received_at: received_at(event.request_context.time_epoch, now),
        deadline: deadline(context, now),
    })
}

/// API Gateway's identifier, which its access log has too; Lambda's if that one is missing or odd.
pub(super) fn request_id(gateway_id: Option<&str>, context: &Context) -> String {
    let is_sound = |id: &&str| {
        !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    gateway_id.filter(is_sound).unwrap_or(&context.request_id).to_owned()
}

fn received_at(epoch_ms: i64, now: Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(epoch_ms)
        .ok()
        .filter(|arrival| *arrival <= now && *arrival >= now.minus_ms(MAX_ARRIVAL_AGE_MS))
        .unwrap_or(now)
}

/// The invocation's deadline less the margin.
pub(crate) fn deadline(context: &Context, now: Timestamp) -> Timestamp {
    i64::try_from(context.deadline_unix_ms)
        .ok()
        .and_then(|deadline_ms| Timestamp::from_unix_ms(deadline_ms).ok())
        .unwrap_or(now)
        .minus_ms(ANSWER_MARGIN_MS)
}

/// The headers with each name once. API Gateway joins repeated ones by commas already; others may not.
fn joined(headers: HeaderMap) -> HeaderMap {
    if headers.len() == headers.keys_len() {
        return headers;
    }
    let mut joined = HeaderMap::with_capacity(headers.keys_len());
    for name in headers.keys() {
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(value) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
            joined.insert(name.clone(), value);
        }
    }
    joined
}

/// Writes an answer. `has_body` is false for `HEAD`.
pub(super) fn event_of(response: Response, request_id: &str, has_body: bool) -> ApiGatewayV2httpResponse {
    let Response { status, mut headers, body } = response;
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, request_id);
    }
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
    let is_text = headers
        .get(CONTENT_TYPE)
        .and_then(|content_type| content_type.to_str().ok())
        .is_some_and(|content_type| content_type.starts_with("text/") || content_type.contains("json"));
    let mut event = ApiGatewayV2httpResponse::default();
    event.status_code = i64::from(status.as_u16());
    event.headers = joined(headers);
    if has_body && !body.is_empty() {
        match std::str::from_utf8(&body) {
            Ok(text) if is_text => event.body = Some(Body::Text(text.to_owned())),
            Ok(_) | Err(_) => {
                event.is_base64_encoded = true;
                event.body = Some(Body::Text(BASE64.encode(&body)));
            }
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    fn context() -> Context {
        Context { request_id: "lambda-1".to_owned(), deadline_unix_ms: 40_000, ..Context::default() }
    }

    fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms).unwrap()
    }

    fn event() -> Value {
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/v1/a%20b",
            "rawQueryString": "a=1&b=x%20y+z&a=2&c",
            "headers": {"content-type": "application/json", "X-Two": "1,2"},
            "requestContext": {
                "http": {"method": "POST", "path": "/v1/a b"},
                "requestId": "gw-1=",
                "timeEpoch": 19_000
            },
            "body": "eyJhIjoxfQ==",
            "isBase64Encoded": true
        })
    }

    #[test]
    fn an_event_becomes_a_request() {
        let request = request_of(event().to_string().as_bytes(), &context(), at(20_000)).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/a%20b"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(request.query, [pair("a", "1"), pair("b", "x y z"), pair("a", "2"), pair("c", "")]);
        assert_eq!(request.query_value("b").unwrap(), Some("x y z"));
        assert!(request.query_value("a").is_err());
        assert_eq!(request.header("x-two").unwrap(), Some("1,2"));
        assert_eq!(&request.body[..], b"{\"a\":1}");
        assert_eq!(request.request_id, "gw-1=");
        assert_eq!((request.received_at, request.deadline), (at(19_000), at(39_500)));
        assert!(!format!("{request:?}").contains("x y z"));
    }

    #[test]
    fn arrival_is_believed_only_if_it_is_recent() {
        for (claimed, now, expected) in [
            (10_000, 20_000, 10_000),
            (9_999, 20_000, 20_000),
            (20_001, 20_000, 20_000),
            (0, 20_000, 20_000),
            (-5, 9, 9),
        ] {
            assert_eq!(received_at(claimed, at(now)), at(expected), "{claimed}");
        }
    }

    #[test]
    fn an_odd_event_is_unreadable_and_an_odd_id_replaced() {
        let followed = format!("{} {{}}", event());
        for unreadable in ["{}", "{", "", followed.as_str()] {
            assert_eq!(request_of(unreadable.as_bytes(), &context(), at(0)).unwrap_err(), Unreadable);
        }
        let mut odd = event();
        odd["body"] = json!("***");
        assert_eq!(request_of(odd.to_string().as_bytes(), &context(), at(0)).unwrap_err(), Unreadable);
        let mut odd = event();
        odd["requestContext"]["requestId"] = json!("with space");
        assert_eq!(request_of(odd.to_string().as_bytes(), &context(), at(0)).unwrap().request_id, "lambda-1");
    }

    #[test]
    fn an_answer_becomes_an_event() {
        let json = event_of(Response::json(StatusCode::CREATED, &json!({"a": 1})), "r", true);
        let written = serde_json::to_value(&json).unwrap();
        assert_eq!(written["statusCode"], 201);
        assert_eq!(written["body"], "{\"a\":1}");
        assert_eq!(written["isBase64Encoded"], false);
        assert_eq!(written["headers"]["x-request-id"], "r");
        assert_eq!(written["headers"]["cache-control"], "no-store");
        let binary = Response::empty(StatusCode::OK).with_body(HeaderValue::from_static("image/png"), "abc");
        let written = serde_json::to_value(event_of(binary, "r", true)).unwrap();
        assert_eq!((written["body"].as_str(), &written["isBase64Encoded"]), (Some("YWJj"), &json!(true)));
        let head = event_of(Response::json(StatusCode::OK, &json!({})), "r", false);
        assert!(serde_json::to_value(head).unwrap().get("body").is_none());
    }
}
