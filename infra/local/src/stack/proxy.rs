//! The API's fixed address: passes every request on to the deployed HTTP API.
//!
//! The emulator serves an API under a path with an id that changes with each deployment. Bodies are
//! streamed, headers kept; nothing is retried, and no redirect is followed. What the API answers is what the
//! caller gets; only an emulator that cannot be reached is answered here, as a problem.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use reqwest::Url;
use serde_json::json;

use super::error::StackError;

/// Longer than API Gateway's 30 s, so that its answer to a slow function is seen and not ours.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(40);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Headers about one connection, which end at each hop (RFC 9110, 7.6.1), and `Host`, which names the hop.
const HOP_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[derive(Clone, Debug)]
struct Upstream {
    client: reqwest::Client,
    /// The deployed API, without a trailing slash.
    base: String,
}

/// Everything goes to the API `api_id` of the emulator at `endpoint_url`.
pub(super) fn router(endpoint_url: &str, api_id: &str) -> Result<Router, StackError> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .timeout(EXCHANGE_LIMIT)
        .build()
        .map_err(StackError::Client)?;
    let base = format!("{endpoint_url}/_aws/execute-api/{api_id}/$default");
    Ok(Router::new().fallback(forward).with_state(Upstream { client, base }))
}

async fn forward(State(upstream): State<Upstream>, request: Request) -> Response {
    let Some(target) = target(&upstream.base, request.uri()) else {
        return problem(StatusCode::BAD_REQUEST, "invalid_path", "The path cannot be passed on.", "none");
    };
    let (parts, body) = request.into_parts();
    let sent = upstream
        .client
        .request(parts.method, target)
        .headers(end_to_end(&parts.headers))
        .body(outgoing(body))
        .send()
        .await;
    match sent {
        Ok(answer) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = answer.status();
            *response.headers_mut() = end_to_end(answer.headers());
            *response.body_mut() = Body::from_stream(answer.bytes_stream());
            response
        }
        Err(error) => {
            let effects = if error.is_connect() { "none" } else { "unknown" };
            let detail = "The API of the local stack did not answer.";
            problem(StatusCode::BAD_GATEWAY, "upstream_failed", detail, effects)
        }
    }
}

/// The body to send on; one that is empty stays absent instead of becoming an empty stream.
fn outgoing(body: Body) -> reqwest::Body {
    if body.is_end_stream() {
        return reqwest::Body::from("");
    }
    reqwest::Body::wrap_stream(body.into_data_stream())
}

/// The address behind the API's path; nothing when its dots would lead out of the API.
fn target(base: &str, uri: &Uri) -> Option<Url> {
    let path_and_query = uri.path_and_query().map_or("/", |part| part.as_str());
    let target = Url::parse(&format!("{base}{path_and_query}")).ok()?;
    let inside = Url::parse(&format!("{base}/")).ok()?;
    target.path().starts_with(inside.path()).then_some(target)
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in &HOP_HEADERS {
        kept.remove(name);
    }
    kept.remove("keep-alive");
    kept
}

fn problem(status: StatusCode, code: &str, detail: &str, side_effects: &str) -> Response {
    let body = json!({
        "type": format!("/problems/{code}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
        "side_effects": side_effects,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "http://127.0.0.1:4566/_aws/execute-api/abc/$default";

    fn to(path: &str) -> Option<String> {
        target(BASE, &path.parse().unwrap()).map(String::from)
    }

    #[test]
    fn keeps_path_and_query_as_they_came() {
        assert_eq!(
            to("/v1/bookings/a%2Fb?wait=5&x=%20").unwrap(),
            format!("{BASE}/v1/bookings/a%2Fb?wait=5&x=%20")
        );
        assert_eq!(to("/").unwrap(), format!("{BASE}/"));
    }

    #[test]
    fn never_leaves_the_api() {
        assert_eq!(to("/../../../_ministack/reset"), None);
        assert_eq!(to("/v1/%2e%2e/%2E%2E/%2e%2e/other"), None);
    }

    async fn serve(router: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    #[tokio::test]
    async fn passes_bodies_headers_and_status_both_ways() {
        let api = Router::new().fallback(async |request: Request| {
            let path = request.uri().path().to_owned();
            let key = request.headers()["idempotency-key"].clone();
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
            let answer = format!("{path} {}", body.len());
            (StatusCode::IM_A_TEAPOT, [("x-seen", key)], answer)
        });
        let url = serve(router(&serve(api).await, "abc").unwrap()).await;
        let answer = reqwest::Client::new()
            .post(format!("{url}/v1/bookings"))
            .header("idempotency-key", "k1")
            .body(vec![b'x'; 200 * 1024])
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(answer.headers()["x-seen"], "k1");
        assert_eq!(answer.text().await.unwrap(), "/_aws/execute-api/abc/$default/v1/bookings 204800");
    }

    #[tokio::test]
    async fn answers_an_unreachable_api_as_a_problem() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let url = serve(router(&nobody, "abc").unwrap()).await;
        let answer = reqwest::get(format!("{url}/v1/bookings")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["side_effects"], "none");
    }
}
