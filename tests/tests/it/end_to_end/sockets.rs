//! A proxy between two programs on real sockets, which does to their exchanges what networks and bad servers do:
//! it resets, hangs, drips, lies, or holds an answer until a test has done something to the program that waits.
//!
//! It knows HTTP/1.1 as far as finding the ends of messages, and nothing of what is said. What no rule is for
//! is passed on as it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The most of a message that is read: more than anything here is.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// How long the server behind may take.
const SERVER_LIMIT: Duration = Duration::from_mins(1);
/// How long a client is waited for that should hang up.
const HANG_LIMIT: Duration = Duration::from_secs(90);
/// The pause between two interim answers of a flood.
const FLOOD_PAUSE: Duration = Duration::from_millis(2);

/// When the server behind gets the request.
#[derive(Clone, Debug)]
pub(super) enum Passing {
    AtOnce,
    Never,
    /// So much later, whether or not the client is still there.
    After(Duration),
    /// When the gate is opened, whether or not the client is still there.
    Through(Gate),
}

/// What the client gets.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// The server's answer.
    Answer,
    /// The server's answer, once the gate is open.
    Held(Gate),
    /// The server's answer, so much later.
    Late(Duration),
    /// The server's answer one byte at a time, with these pauses.
    Drip(Duration),
    /// The server's answer, and the end of the connection, of which nothing was said.
    AnswerAndClose,
    /// No byte, and a reset.
    Reset,
    /// No byte, and an orderly end of what the server sends.
    Close,
    /// The head of the server's answer, and a reset.
    ResetAfterHead,
    /// The server's answer but for the last bytes of its body, and an orderly end.
    CloseMidBody,
    /// Nothing at all, until the client hangs up.
    Hang,
    /// These bytes, and an orderly end.
    Bytes(Vec<u8>),
    /// `100 Continue` again and again, until the client hangs up.
    Interim,
}

/// What becomes of an exchange.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) passing: Passing,
    pub(super) ending: Ending,
}

impl Fault {
    /// The server does its work, and this is what its client sees of it.
    pub(super) fn served(ending: Ending) -> Self {
        Self { passing: Passing::AtOnce, ending }
    }

    /// The server never hears of it.
    pub(super) fn swallowed(ending: Ending) -> Self {
        Self { passing: Passing::Never, ending }
    }
}

/// Something that a test opens once.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(super) fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        // The sender is here, so that it cannot be gone.
        self.0.subscribe().wait_for(|is_open| *is_open).await.map(drop).unwrap_or_default();
    }
}

/// An exchange that met a fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    /// The client's end of its connection.
    pub(super) client: SocketAddr,
    /// The other end.
    pub(super) proxy: SocketAddr,
}

#[derive(Debug)]
struct Rule {
    /// What the request has to contain, all of it.
    needles: Vec<String>,
    left: usize,
    fault: Fault,
    met: Arc<watch::Sender<Vec<Met>>>,
}

/// A rule that was made.
#[derive(Debug)]
pub(super) struct Planned(watch::Receiver<Vec<Met>>);

impl Planned {
    /// The exchanges that met it, once there are so many.
    pub(super) async fn met(&mut self, count: usize, limit: Duration) -> Vec<Met> {
        let met = tokio::time::timeout(limit, self.0.wait_for(|met| met.len() >= count)).await;
        met.unwrap_or_else(|_| panic!("the fault was not met {count} times within {limit:?}"))
            .unwrap()
            .clone()
    }

    /// How many exchanges met it so far.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }
}

/// The proxy. It ends with the runtime that it was started on.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    rules: Arc<Mutex<Vec<Rule>>>,
    heads: Arc<Mutex<Vec<String>>>,
    /// Requests as they came, since somebody wanted them.
    kept: Arc<Mutex<Option<Vec<Vec<u8>>>>>,
}

impl Wire {
    /// Starts a proxy before the server at `target`.
    pub(super) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Self { address, rules: Arc::default(), heads: Arc::default(), kept: Arc::default() };
        let serving = wire.clone();
        tokio::spawn(async move {
            while let Ok((client, peer)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(client, peer, target));
            }
        });
        wire
    }

    /// Before the server of a base URL; the URL by which it is reached through the proxy.
    pub(super) async fn before_url(url: &str) -> (Self, String) {
        let parsed = reqwest::Url::parse(url).unwrap();
        let wire = Self::before((Ipv4Addr::LOCALHOST, parsed.port().unwrap()).into()).await;
        let url = format!("http://{}{}", wire.address, parsed.path().trim_end_matches('/'));
        (wire, url)
    }

    /// Plans a fault for the next requests that contain all of these texts.
    pub(super) fn plan(&self, needles: &[&str], count: usize, fault: Fault) -> Planned {
        let met = Arc::new(watch::Sender::new(Vec::new()));
        let planned = Planned(met.subscribe());
        let needles = needles.iter().map(ToString::to_string).collect();
        self.rules.lock().unwrap().push(Rule { needles, left: count, fault, met });
        planned
    }

    /// The first lines of the requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Keeps every request from now on, whole.
    pub(super) fn keep(&self) {
        self.kept.lock().unwrap().get_or_insert_default();
    }

    /// The requests that were kept.
    pub(super) fn kept(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap().clone().unwrap_or_default()
    }

    fn fault_of(&self, request: &[u8], client: SocketAddr) -> Option<Fault> {
        let text = String::from_utf8_lossy(request);
        self.heads.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
        if let Some(kept) = self.kept.lock().unwrap().as_mut() {
            kept.push(request.to_vec());
        }
        let mut rules = self.rules.lock().unwrap();
        let is_it = |rule: &&mut Rule| rule.needles.iter().all(|needle| text.contains(needle));
        let rule = rules.iter_mut().filter(|rule| rule.left > 0).find(is_it)?;
        rule.left -= 1;
        rule.met.send_modify(|met| met.push(Met { client, proxy: self.address }));
        Some(rule.fault.clone())
    }

    async fn serve(self, mut client: TcpStream, peer: SocketAddr, target: SocketAddr) {
        client.set_nodelay(true).ok();
        let mut server = None;
        while let Some(request) = message(&mut client, true).await {
            let Some(fault) = self.fault_of(&request, peer) else {
                let answer = asked(&mut server, target, &request).await;
                match answer {
                    Some(answer) if client.write_all(&answer).await.is_ok() => continue,
                    Some(_) | None => return,
                }
            };
            let answer = pass(&fault.passing, target, request).await;
            if !end(&fault.ending, &mut client, answer).await {
                return;
            }
        }
    }
}

/// Asks the server on a connection that is kept.
async fn asked(server: &mut Option<TcpStream>, target: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    if server.is_none() {
        *server = TcpStream::connect(target).await.ok();
    }
    let connection = server.as_mut()?;
    connection.write_all(request).await.ok()?;
    tokio::time::timeout(SERVER_LIMIT, message(connection, false)).await.ok().flatten()
}

/// Passes a request on, on a connection of its own, which outlives the client's.
async fn pass(passing: &Passing, target: SocketAddr, request: Vec<u8>) -> Option<Vec<u8>> {
    let passing = passing.clone();
    let passed = tokio::spawn(async move {
        match passing {
            Passing::AtOnce => {}
            Passing::Never => return None,
            Passing::After(pause) => tokio::time::sleep(pause).await,
            Passing::Through(gate) => gate.passed().await,
        }
        asked(&mut None, target, &request).await
    });
    passed.await.ok().flatten()
}

/// Gives the client what it is to get; whether the connection goes on.
async fn end(ending: &Ending, client: &mut TcpStream, answer: Option<Vec<u8>>) -> bool {
    let bytes = answer.as_deref().unwrap_or_default();
    match ending {
        Ending::Answer => return answer.is_some() && client.write_all(bytes).await.is_ok(),
        Ending::Held(gate) => {
            gate.passed().await;
            return answer.is_some() && client.write_all(bytes).await.is_ok();
        }
        Ending::Late(pause) => {
            tokio::time::sleep(*pause).await;
            return answer.is_some() && client.write_all(bytes).await.is_ok();
        }
        Ending::Drip(pause) => {
            for byte in bytes {
                tokio::time::sleep(*pause).await;
                if client.write_all(&[*byte]).await.is_err() {
                    return false;
                }
            }
            return true;
        }
        Ending::AnswerAndClose => {
            client.write_all(bytes).await.ok();
        }
        Ending::Reset => {
            client.set_zero_linger().unwrap();
            return false;
        }
        Ending::Close | Ending::Hang => {}
        Ending::ResetAfterHead => {
            client.write_all(&bytes[..head_length(bytes).unwrap_or(0)]).await.ok();
            // Sent before it is reset.
            client.flush().await.ok();
            tokio::time::sleep(FLOOD_PAUSE).await;
            client.set_zero_linger().unwrap();
            return false;
        }
        Ending::CloseMidBody => {
            client.write_all(&bytes[..bytes.len().saturating_sub(5)]).await.ok();
        }
        Ending::Bytes(bytes) => {
            client.write_all(bytes).await.ok();
        }
        Ending::Interim => {
            while client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
                tokio::time::sleep(FLOOD_PAUSE).await;
            }
            return false;
        }
    }
    if !matches!(ending, Ending::Hang) {
        client.shutdown().await.ok();
    }
    // The client hangs up when it has had enough.
    let mut rest = [0; 1024];
    let gone = async { while client.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(HANG_LIMIT, gone).await.ok();
    false
}

fn head_length(bytes: &[u8]) -> Option<usize> {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    bytes.windows(HEAD_END.len()).position(|window| window == HEAD_END).map(|at| at + HEAD_END.len())
}

/// Reads one HTTP/1.1 message; `None` at the end of the connection.
async fn message(stream: &mut TcpStream, is_request: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = head_length(&bytes) {
            break head;
        }
        more(stream, &mut bytes).await?;
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if let Some(length) = header("content-length:") {
        let length: usize = length.parse().ok()?;
        while bytes.len() < head + length {
            more(stream, &mut bytes).await?;
        }
    } else if header("transfer-encoding:").is_some() {
        while !bytes.ends_with(b"0\r\n\r\n") {
            more(stream, &mut bytes).await?;
        }
    } else if !is_request && header("connection:") == Some("close") {
        while more(stream, &mut bytes).await.is_some() {}
    }
    Some(bytes)
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(bytes).await.ok()?;
    (read > 0 && bytes.len() <= MAX_MESSAGE_BYTES).then_some(())
}
