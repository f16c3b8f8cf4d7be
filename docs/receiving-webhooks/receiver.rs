//! Receives Holdfast's webhooks: checks who sent them, works on each once, and keeps the newest of each
//! booking.
//!
//! ```sh
//! WEBHOOK_SECRET=whsec_... cargo run --package holdfast-tests --example receiver
//! ```
//!
//! `PORT` is 8080 unless set (0: a free one).
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that is read as an example")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use standardwebhooks::{Webhook, WebhookError};

const MAX_BODY_BYTES: usize = 1024 * 1024;

/// In memory, to be short. In a database, write both in one transaction: what says that an event is done,
/// together with what was done.
#[derive(Default)]
struct Known {
    seen: BTreeSet<String>,
    /// The newest version of each booking, and its status.
    bookings: BTreeMap<String, (u64, String)>,
}

struct Receiver {
    webhook: Webhook,
    known: Mutex<Known>,
}

impl Known {
    /// Works on an event, once. `None` if it is no event.
    fn take(&mut self, webhook_id: &str, event: &Value) -> Option<()> {
        // An event may come twice: the sender did not hear of the answer, or it was replayed.
        if self.seen.contains(webhook_id) {
            return Some(());
        }
        let event_type = event["type"].as_str()?;
        // Events about webhook endpoints have no booking.
        if event_type.starts_with("booking.") || event_type.starts_with("provider.") {
            let booking = &event["data"];
            let (id, status) = (booking["id"].as_str()?, booking["status"].as_str()?);
            let version = booking["version"].as_u64()?;
            // Events may overtake each other: an older version never takes the place of a newer one.
            if self.bookings.get(id).is_none_or(|(known, _)| version > *known) {
                self.bookings.insert(id.to_owned(), (version, status.to_owned()));
            }
        }
        self.seen.insert(webhook_id.to_owned());
        Some(())
    }
}

/// The signature is over the bytes as they came, so they are checked before anything reads them.
async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> StatusCode {
    if receiver.webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let webhook_id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let (Some(webhook_id), Ok(event)) = (webhook_id, serde_json::from_slice(&body)) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut known = receiver.known.lock().unwrap_or_else(PoisonError::into_inner);
    // Answer within 15 seconds: what takes longer belongs into a queue of your own.
    known.take(webhook_id, &event).map_or(StatusCode::BAD_REQUEST, |()| StatusCode::NO_CONTENT)
}

async fn show(State(receiver): State<Arc<Receiver>>) -> Json<Value> {
    let known = receiver.known.lock().unwrap_or_else(PoisonError::into_inner);
    let booking = |(id, (version, status)): (&String, &(u64, String))| {
        (id.clone(), json!({"version": version, "status": status}))
    };
    let bookings: serde_json::Map<String, Value> = known.bookings.iter().map(booking).collect();
    Json(json!({"events": known.seen.len(), "bookings": bookings}))
}

/// A receiver of what is signed with `secret`.
pub(crate) fn receiver(secret: &str) -> Result<Router, WebhookError> {
    let receiver = Receiver { webhook: Webhook::new(secret)?, known: Mutex::default() };
    let routes = Router::new().route("/", get(show).post(receive));
    Ok(routes.layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(Arc::new(receiver)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, receiver(&std::env::var("WEBHOOK_SECRET")?)?).await?;
    Ok(())
}
