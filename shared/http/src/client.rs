//! The client: sends one request over a connection of its pool, or over a new one.

use std::error::Error;
use std::time::Duration;

use holdfast_tls::TlsError;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::connecting::{Connecting, Resolver};
use crate::once_body::OnceBody;

/// Why there is no answer. It names no URL.
pub use hyper_util::client::legacy::Error as SendError;

/// What a client does with connections.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// How long resolving, connecting and the TLS handshake may take together.
    pub connect_limit: Duration,
    /// How long a connection may lie idle and still be used.
    pub idle_limit: Duration,
    /// How many idle connections to one host are kept.
    pub max_idle_per_host: usize,
}

/// A client with a pool of its own. Cloning it is cheap and shares the pool.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<Connecting, OnceBody>,
}

impl HttpClient {
    /// A client that asks `resolver` for the addresses of names. Nothing is connected before the first request. An error
    /// if there is no TLS to be had.
    pub fn new(resolver: Resolver, limits: ClientLimits) -> Result<Self, TlsError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(limits.idle_limit)
            .pool_max_idle_per_host(limits.max_idle_per_host)
            .pool_timer(TokioTimer::new())
            .build(Connecting::new(resolver, limits.connect_limit)?);
        Ok(Self { client })
    }

    /// Sends the request, whose URI is absolute, and reads the head of its answer. It goes to another connection if the
    /// one from the pool turns out to be closed before a byte is written. It has no limit but that of connecting.
    pub async fn send(&self, request: Request<OnceBody>) -> Result<Response<Incoming>, SendError> {
        self.client.request(request).await
    }
}

/// The causes of an error, from the nearest on, without the error itself.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}
