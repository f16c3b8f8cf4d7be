//! New connections: a name is resolved, one of its addresses connected to, hands are shaken, all within one limit.

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

/// What is to become the addresses of a name. Their port is that of the URL, if they have 0 or the URL names one.
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
    /// Connects to what `resolver` says, within `limit`, TLS included. Each of several addresses has its share of it, so
    /// that one where nobody answers does not stand for all.
    pub(crate) fn new(resolver: Resolver, limit: Duration) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new_with_resolver(Names(resolver));
        // The connector above it is the one for https.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Nobody probes whether an idle connection is still there: it is idle for a short time, and an exchange over one
        // that is not ends by the limit of whoever makes it, and its connection with it.
        tcp.set_connect_timeout(Some(limit));
        Ok(Self { https: HttpsConnector::from((tcp, holdfast_tls::config()?)), limit })
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    /// Somebody who lets connections wait for ever: as many as wait already, so that no further one is made.
    async fn unanswering() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(connected) =
            timeout(Duration::from_millis(200), TcpStream::connect(listener.local_addr().unwrap())).await
        {
            waiting.push(connected.unwrap());
        }
        (listener, waiting)
    }

    #[tokio::test]
    async fn another_address_has_its_turn_within_the_limit() {
        let (silent, _waiting) = unanswering().await;
        let there = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addresses = [silent.local_addr().unwrap(), there.local_addr().unwrap()];
        let names: Resolver = Arc::new(move |name| {
            assert_eq!(name, "two.example");
            Box::pin(async move { Ok(addresses.to_vec()) })
        });
        let mut connecting = Connecting::new(names, LIMIT).unwrap();
        let connected = connecting.call(Uri::from_static("http://two.example/")).await;
        assert!(matches!(connected, Ok(MaybeHttpsStream::Http(_))), "the second is there");
    }
}
