//! Proxies before a server: one that loses answers, so that the server has done what it was asked and the
//! caller never hears of it, one that dies, and one whose trouble comes and goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Starts a proxy before the server at `target` that loses the answers to the first `lost` requests. It
/// ends with the test's runtime.
pub(crate) async fn lossy_proxy(target: SocketAddr, lost: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, target, requests.clone(), lost));
        }
    });
    address
}

/// Starts a proxy before the server at `target` that dies with the answer to the request of number `done` (from
/// 1; with 0 before the first): what comes after it is neither done nor answered. Tells when it is dead. It ends
/// with the test's runtime.
pub(crate) async fn dying_proxy(target: SocketAddr, done: usize) -> (SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, death) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let told = death.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve_until(client, target, requests.clone(), done, told.clone()));
        }
    });
    (address, death)
}

/// What a proxy does to the requests of a DynamoDB client, until it is told otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<AtomicU8>);

impl Trouble {
    /// Nothing.
    pub(crate) const NONE: u8 = 0;
    /// No request arrives.
    pub(crate) const SWALLOW: u8 = 1;
    /// The next write that is done is not answered, nor is any request after it. Refusals before it are.
    pub(crate) const LOSE: u8 = 2;
    /// The next write that is done is not answered; all others are.
    pub(crate) const LOSE_ONE: u8 = 3;
    /// Nothing is answered, although it is done: what comes of [`Self::LOSE`].
    const LOST: u8 = 4;

    pub(crate) fn set(&self, trouble: u8) {
        self.0.store(trouble, Ordering::SeqCst);
    }

    fn now(&self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether an answer is lost. Requests come one after the other.
    fn loses(&self, is_done_write: bool) -> bool {
        let (is_lost, next) = match self.now() {
            Self::LOSE if is_done_write => (true, Self::LOST),
            Self::LOSE_ONE if is_done_write => (true, Self::NONE),
            Self::LOST => (true, Self::LOST),
            same => (false, same),
        };
        self.set(next);
        is_lost
    }
}

/// Starts a proxy before the DynamoDB at `target`, with no trouble at first. It ends with the test's runtime.
pub(crate) async fn troubled_proxy(target: SocketAddr) -> (SocketAddr, Trouble) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let trouble = Trouble::default();
    let told = trouble.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve_troubled(client, target, told.clone()));
        }
    });
    (address, trouble)
}

async fn serve_troubled(mut client: TcpStream, target: SocketAddr, trouble: Trouble) {
    const WRITES: [&[u8]; 4] = [b".PutItem", b".UpdateItem", b".DeleteItem", b".TransactWriteItems"];
    let mut server = TcpStream::connect(target).await.unwrap();
    while let Some(request) = message(&mut client).await {
        let is_write = WRITES.iter().any(|name| request.windows(name.len()).any(|window| window == *name));
        if trouble.now() == Trouble::SWALLOW {
            return;
        }
        server.write_all(&request).await.unwrap();
        let answer = message(&mut server).await.unwrap();
        let is_done = answer.starts_with(b"HTTP/1.1 200");
        if trouble.loses(is_write && is_done) || client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn serve_until(
    mut client: TcpStream,
    target: SocketAddr,
    requests: Arc<AtomicUsize>,
    done: usize,
    death: Arc<Notify>,
) {
    let mut server = TcpStream::connect(target).await.unwrap();
    while let Some(request) = message(&mut client).await {
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        if number <= done {
            server.write_all(&request).await.unwrap();
            let answer = message(&mut server).await.unwrap();
            if number < done && client.write_all(&answer).await.is_ok() {
                continue;
            }
        }
        death.notify_one();
        std::future::pending::<()>().await;
    }
}

async fn serve(mut client: TcpStream, target: SocketAddr, requests: Arc<AtomicUsize>, lost: usize) {
    let mut server = TcpStream::connect(target).await.unwrap();
    while let Some(request) = message(&mut client).await {
        server.write_all(&request).await.unwrap();
        let answer = message(&mut server).await.unwrap();
        if requests.fetch_add(1, Ordering::Relaxed) < lost {
            return;
        }
        if client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Reads one HTTP/1.1 message with a known length; `None` at the end of the connection.
pub(crate) async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::new();
    let head = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(HEAD_END.len()).position(|window| window == HEAD_END) {
            break end + HEAD_END.len();
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(bytes)
}
