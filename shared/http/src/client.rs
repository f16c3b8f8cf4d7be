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
        // HTTP/1 alone, which lets the body prove that a request was not sent (`once_body`): over TLS nothing else is
        // offered (`holdfast_tls`), and without TLS nothing else is spoken unless one says so here.
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::connecting::system_names;

    const LIMIT: Duration = Duration::from_secs(10);

    /// How many connections two requests take, one after the other's whole answer.
    async fn connections_of_two_requests(idle_limit: Duration, max_idle_per_host: usize) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let (noted, mut accepted) = tokio::sync::mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                noted.send(()).unwrap();
                tokio::spawn(async move {
                    let mut read = [0; 1_024];
                    while connection.read(&mut read).await.is_ok_and(|length| length > 0) {
                        connection.write_all(b"HTTP/1.1 204 Done\r\n\r\n").await.unwrap();
                    }
                });
            }
        });
        let limits = ClientLimits { connect_limit: LIMIT, idle_limit, max_idle_per_host };
        let client = HttpClient::new(system_names(), limits).unwrap();
        for _ in 0..2 {
            let mut request = Request::new(OnceBody::new(Bytes::new()).0);
            *request.method_mut() = Method::GET;
            *request.uri_mut() = uri.parse().unwrap();
            let answer = tokio::time::timeout(LIMIT, client.send(request)).await.unwrap().unwrap();
            assert_eq!(answer.status(), 204);
        }
        server.abort();
        let mut connections = 0;
        while accepted.try_recv().is_ok() {
            connections += 1;
        }
        connections
    }

    #[tokio::test]
    async fn a_connection_is_used_again_within_its_limits_alone() {
        assert_eq!(connections_of_two_requests(LIMIT, 1).await, 1);
        assert_eq!(connections_of_two_requests(Duration::ZERO, 1).await, 2, "it was idle for longer");
        assert_eq!(connections_of_two_requests(LIMIT, 0).await, 2, "none is kept");
    }
}
