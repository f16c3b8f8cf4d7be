//! A provider on a real socket that answers as it is told, once for each request.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a request is answered.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// In good form.
    Http { status: u16, retry_after: Option<String>, body: Vec<u8> },
    /// By these bytes, and then the connection is closed.
    Raw(Vec<u8>),
}

#[derive(Default)]
struct State {
    replies: VecDeque<Reply>,
    /// How the requests so far were answered.
    answered: Vec<Reply>,
}

/// The provider.
#[derive(Clone, Default)]
pub(super) struct ScriptedProvider(Arc<Mutex<State>>);

impl ScriptedProvider {
    /// Listens until the runtime ends.
    pub(super) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let provider = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let provider = provider.clone();
                tokio::spawn(async move { provider.serve(socket).await });
            }
        });
        address
    }

    /// Answers in this way from now on; the last reply stays.
    pub(super) fn script(&self, replies: Vec<Reply>) {
        let mut state = self.0.lock().expect("nobody panics here");
        *state = State { replies: replies.into(), answered: Vec::new() };
    }

    /// How the requests so far were answered.
    pub(super) fn answered(&self) -> Vec<Reply> {
        self.0.lock().expect("nobody panics here").answered.clone()
    }

    fn next(&self) -> Reply {
        let mut state = self.0.lock().expect("nobody panics here");
        let last = || Reply::Raw(Vec::new());
        let reply = if state.replies.len() > 1 {
            state.replies.pop_front().unwrap_or_else(last)
        } else {
            state.replies.front().cloned().unwrap_or_else(last)
        };
        state.answered.push(reply.clone());
        reply
    }

    async fn serve(&self, mut socket: TcpStream) {
        while read_request(&mut socket).await.is_some() {
            // Whoever hangs up makes writing fail, and the connection is over either way.
            match self.next() {
                Reply::Http { status, retry_after, body } => {
                    let retry_after =
                        retry_after.map_or_else(String::new, |text| format!("retry-after: {text}\r\n"));
                    // Neither of these has a body, whatever its header says.
                    let body = if matches!(status, 204 | 304) { &[][..] } else { &body };
                    let head =
                        format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{retry_after}\r\n", body.len());
                    if socket.write_all(&[head.as_bytes(), body].concat()).await.is_err() {
                        return;
                    }
                }
                Reply::Raw(bytes) => {
                    let written = socket.write_all(&bytes).await;
                    return drop(written);
                }
            }
        }
    }
}

/// Reads one request, head and body; `None` once the connection is over.
async fn read_request(socket: &mut TcpStream) -> Option<()> {
    let mut read = Vec::new();
    let head_bytes = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        more(socket, &mut read).await?;
    };
    let head = String::from_utf8_lossy(&read[..head_bytes]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body_bytes: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    while read.len() < head_bytes + body_bytes {
        more(socket, &mut read).await?;
    }
    Some(())
}

async fn more(socket: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 4_096];
    match socket.read(&mut bytes).await {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            read.extend_from_slice(&bytes[..count]);
            Some(())
        }
    }
}
