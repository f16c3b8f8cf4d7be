//! A provider that confirms every booking, in the native protocol, after a delay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::Failure;
use crate::database::pause;

/// What it asks for.
pub const TOKEN: &str = "a-token-of-the-provider";

const YES: &str = r#"{"status":"confirmed","provider_reference":"1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"}"#;

/// A running provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its base URL.
    pub url: String,
    state: Arc<Known>,
}

#[derive(Debug, Default)]
struct Known {
    delay_us: AtomicU64,
    calls: AtomicU64,
}

impl Provider {
    /// Starts one, which ends with the harness.
    pub async fn start() -> Result<Self, Failure> {
        let state = Arc::new(Known::default());
        let router = Router::new().route("/bookings", post(book)).with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address: SocketAddr = listener.local_addr()?;
        tokio::spawn(async move {
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self { url: format!("http://{address}"), state })
    }

    /// How long it takes from now on.
    pub fn set_delay(&self, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.state.delay_us.store(delay_us, Ordering::Relaxed);
    }

    /// How often it was called.
    pub fn calls(&self) -> u64 {
        self.state.calls.load(Ordering::Relaxed)
    }
}

async fn book(State(state): State<Arc<Known>>, _headers: HeaderMap, _body: Bytes) -> impl IntoResponse {
    state.calls.fetch_add(1, Ordering::Relaxed);
    pause(Duration::from_micros(state.delay_us.load(Ordering::Relaxed))).await;
    (StatusCode::CREATED, [("content-type", "application/json")], YES)
}
