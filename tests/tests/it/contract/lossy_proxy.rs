//! Proxies before a server: one that loses answers, so that the server has done what it was asked and the
//! caller never hears of it, and one that dies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
