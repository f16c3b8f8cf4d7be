//! A consumer's webhook receiver to look into: takes deliveries on `/hooks/{name}`, checks their signature,
//! keeps a bounded number of them, and can be told to fail, to be late or to hang.
//!
//! It does not refuse a wrongly signed delivery: it reports it, since finding out is what it is for.

mod store;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use bytes::Bytes;
use serde_json::json;

use crate::{clock, help, signature};
use store::{Delivery, EndpointSettings, Filter, Inbox};

/// The largest delivery that is read.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// How long a hanging delivery is kept open for a caller that never hangs up.
const MAX_HANG: Duration = Duration::from_mins(10);

/// The inbox as a router, to be served on any port. Each call makes one with messages of its own.
pub fn router() -> Router {
    Router::new()
        .route("/", get(async |headers: HeaderMap| help::at_host(include_str!("help.txt"), &headers)))
        .route("/health", get(async || Json(json!({"status": "ok"}))))
        .route("/hooks/{name}", post(receive))
        .route("/endpoints", get(list_endpoints))
        .route("/endpoints/{name}", put(configure_endpoint))
        .route("/messages", get(list_messages).delete(clear_messages))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "unknown_path", "GET / says what there is."))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(Inbox::default()))
}

async fn receive(
    State(inbox): State<Arc<Inbox>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let signature = signature::check(inbox.secret(&name).as_deref(), &headers, &body);
    let plan = inbox.receive(Delivery { endpoint: name, headers, body, signature, at: clock::now() });
    if plan.hang {
        // The server drops the call when the caller hangs up, which ends this wait.
        tokio::time::sleep(MAX_HANG).await;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    tokio::time::sleep(plan.latency).await;
    inbox.record_answer(plan.sequence, plan.status);
    let status = StatusCode::from_u16(plan.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(json!({"received": status.is_success()}))).into_response();
    if let Some(seconds) = plan.retry_after_seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

async fn configure_endpoint(
    State(inbox): State<Arc<Inbox>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let configured = serde_json::from_slice::<EndpointSettings>(&body)
        .map_err(|error| error.to_string())
        .and_then(|settings| inbox.configure(name, settings));
    match configured {
        Ok(shown) => Json(shown).into_response(),
        Err(reason) => refuse(StatusCode::UNPROCESSABLE_ENTITY, "invalid", &reason),
    }
}

async fn list_endpoints(State(inbox): State<Arc<Inbox>>) -> Response {
    Json(json!({"data": inbox.endpoints()})).into_response()
}

async fn list_messages(State(inbox): State<Arc<Inbox>>, Query(filter): Query<Filter>) -> Response {
    Json(json!({"data": inbox.messages(&filter)})).into_response()
}

async fn clear_messages(State(inbox): State<Arc<Inbox>>) -> StatusCode {
    inbox.clear();
    StatusCode::NO_CONTENT
}

/// An answer `{code, message}`.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"code": code, "message": message}))).into_response()
}
