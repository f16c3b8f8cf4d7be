//! New connections: a name is resolved, one of its addresses connected to, hands are shaken, all within one limit.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_tls::TlsError;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tower_service::Service;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is to become the addresses of a name. Their port is that of the URL, if they have 0.
pub type Resolving = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, BoxError>> + Send>>;

/// Finds the addresses of a name. What is no name but an address is connected to without asking.
pub type Resolver = Arc<dyn Fn(String) -> Resolving + Send + Sync>;

/// The names as the system knows them.
pub fn system_names() -> Resolver {
    Arc::new(|name| Box::pin(async move { Ok(lookup_host((name, 0)).await?.collect()) }))
}

/// Asks a resolver in the form that the connector wants.
#[derive(Clone)]
struct Names(Resolver);

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = (self.0)(name.as_str().to_owned());
        Box::pin(async move { Ok(addresses.await?.into_iter()) })
    }
}

/// Connects, within a limit.
#[derive(Clone)]
pub(crate) struct Connecting {
    https: HttpsConnector<HttpConnector<Names>>,
    limit: Duration,
}

impl Connecting {
    /// Connects to what `resolver` says, within `limit`, TLS included.
    pub(crate) fn new(resolver: Resolver, limit: Duration) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new_with_resolver(Names(resolver));
        // The connector above it is the one for https.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Ok(Self { https: HttpsConnector::from((tcp, holdfast_tls::config()?)), limit })
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connecting").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Service<Uri> for Connecting {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connection = timeout(self.limit, self.https.call(uri));
        Box::pin(async move { connection.await? })
    }
}
