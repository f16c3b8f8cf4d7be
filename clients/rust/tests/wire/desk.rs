//! A server that books, once for each key, over connections that go wrong as a script says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The most bytes of a request that are read.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The connection is reset before anything is read.
    ResetUnread,
    /// It is reset before the booking is made.
    ResetBefore,
    /// It is reset after the booking was made.
    ResetAfter,
    /// The connection ends in the middle of the answer.
    CutShort,
    /// There is no answer, and no booking.
    HangBefore,
    /// There is no answer, although the booking was made.
    HangAfter,
    /// What is answered is no JSON, although the booking was made.
    Garbage,
    /// 503, with `Retry-After`.
    Busy,
    /// 429, with `Retry-After`.
    TooMany,
    /// 500, although the booking was made.
    FailedAfter,
    /// 409 `request_in_flight`.
    InFlight,
    /// 504 of a gateway, although the booking was made.
    GatewayAfter,
    /// 504 `provider_timeout`, which is final.
    ProviderTimeout,
    /// 404 `not_found`.
    NotFound,
    /// As it should be.
    Fine,
}

/// A request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

#[derive(Default)]
struct Books {
    script: VecDeque<Turn>,
    seen: Vec<Seen>,
    /// The answer of each key.
    bookings: BTreeMap<String, String>,
    /// Those that were made without a key.
    unkeyed: usize,
}

/// The server. It ends when it is dropped.
pub(crate) struct Desk {
    pub(crate) url: String,
    books: Arc<Mutex<Books>>,
    serving: JoinHandle<()>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Desk {
    /// One that does as the script says, and what is right when that is over.
    pub(crate) async fn open(script: &[Turn]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let books =
            Arc::new(Mutex::new(Books { script: script.iter().copied().collect(), ..Books::default() }));
        let shared = books.clone();
        let serving = tokio::spawn(async move {
            // One connection after the other would let one that hangs hold up the rest.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, shared.clone()));
            }
        });
        Self { url, books, serving }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.books.lock().unwrap().seen.clone()
    }

    /// How many bookings were made.
    pub(crate) fn made(&self) -> usize {
        let books = self.books.lock().unwrap();
        books.bookings.len() + books.unkeyed
    }
}

async fn serve(mut stream: TcpStream, books: Arc<Mutex<Books>>) {
    let next_if = |is_wanted: fn(&Turn) -> bool| {
        let script = &mut books.lock().unwrap().script;
        script.pop_front_if(|turn| is_wanted(turn))
    };
    if next_if(|turn| *turn == Turn::ResetUnread).is_some() {
        return reset(stream);
    }
    // A turn is taken by a request that came, not by a connection that was given up before.
    let Some(seen) = read(&mut stream).await else { return };
    let turn = next_if(|_| true).unwrap_or(Turn::Fine);
    let key = seen.headers.get("idempotency-key").cloned();
    books.lock().unwrap().seen.push(seen);
    let acts = matches!(
        turn,
        Turn::ResetAfter
            | Turn::CutShort
            | Turn::HangAfter
            | Turn::Garbage
            | Turn::FailedAfter
            | Turn::GatewayAfter
            | Turn::Fine
    );
    let (booked, is_replayed) = if acts { act(&books, key) } else { (String::new(), false) };
    let told = match turn {
        Turn::ResetUnread | Turn::ResetBefore | Turn::ResetAfter => return reset(stream),
        Turn::HangBefore | Turn::HangAfter => return hang(&mut stream).await,
        Turn::Busy => told(503, "retry-after: 0\r\n", &problem(503, "temporarily_unavailable")),
        Turn::TooMany => told(429, "retry-after: 0\r\n", &problem(429, "rate_limited")),
        Turn::FailedAfter => told(500, "", &problem(500, "internal")),
        Turn::InFlight => told(409, "retry-after: 0\r\n", &problem(409, "request_in_flight")),
        Turn::ProviderTimeout => told(504, "", &problem(504, "provider_timeout")),
        Turn::NotFound => told(404, "", &problem(404, "not_found")),
        Turn::GatewayAfter => told(504, "", "<html>504</html>"),
        Turn::Garbage => told(201, "", "<html>Welcome to the hotel</html>"),
        Turn::CutShort => {
            let whole = told(201, "", &booked);
            whole[..whole.len() / 2].to_owned()
        }
        Turn::Fine if is_replayed => told(201, "idempotency-replayed: true\r\n", &booked),
        Turn::Fine => told(201, "", &booked),
    };
    // Whoever has hung up hears nothing.
    stream.write_all(told.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

/// Books, once for a key. What is told of it is the same each time.
fn act(books: &Mutex<Books>, key: Option<String>) -> (String, bool) {
    let mut books = books.lock().unwrap();
    let Some(key) = key else {
        books.unkeyed += 1;
        return ("{}".to_owned(), false);
    };
    let is_replayed = books.bookings.contains_key(&key);
    let number = books.bookings.len() + 1;
    (books.bookings.entry(key).or_insert_with(|| booking(number).to_string()).clone(), is_replayed)
}

fn booking(number: usize) -> Value {
    json!({
        "id": format!("bkg_{number}"), "status": "confirmed", "provider_id": "demo-clinic", "reference": null,
        "slot": {"location_id": "l", "start": "2028-03-01T09:00:00Z", "end": "2028-03-01T09:30:00Z"},
        "metadata": {}, "provider_reference": null, "expires_at": null, "rejection": null, "cancellation": null,
        "operation": null, "version": 2, "created_at": "2028-02-27T08:15:30Z", "updated_at": "2028-02-27T08:15:30Z",
    })
}

fn problem(status: u16, code: &str) -> String {
    json!({
        "type": format!("/problems/{code}"), "title": "t", "status": status, "detail": "d", "instance": "/v1/bookings",
        "code": code, "side_effects": "none", "request_id": "r",
    })
    .to_string()
}

fn told(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Told\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

/// Ends a connection so that the other side sees a reset.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// Until the other side hangs up.
async fn hang(stream: &mut TcpStream) {
    let mut ignored = [0; 256];
    while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
        assert!(bytes.len() <= MAX_REQUEST_BYTES);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let (line, lines) = head.split_once("\r\n").unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers: BTreeMap<String, String> = lines.split("\r\n").map(pair).collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            let body = bytes[end + 4..end + 4 + length].to_vec();
            return Some(Seen { line: line.to_owned(), headers, body });
        }
    }
}
