//! An embedded DynamoDB behind an endpoint that can be slow, and that notes what it is asked.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::Failure;
use crate::http1::{Message, read_message};

/// The tables that ours needs, as template.yaml has them, and the one of the yardsticks.
pub const BOOKING_TABLE: &str = "bookings";
pub const CONFIG_TABLE: &str = "config";
pub const AVAILABILITY_TABLE: &str = "availability";
pub const YARDSTICK_TABLE: &str = "yardstick";

/// Waits, more exactly than the runtime's timers do, which count in whole milliseconds.
pub async fn pause(delay: Duration) {
    if !delay.is_zero() {
        // A panic of the sleeping thread is all that can fail here, and there is none.
        let _slept = tokio::task::spawn_blocking(move || std::thread::sleep(delay)).await;
    }
}

/// Write units of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Units {
    /// Of the table itself.
    pub table: f64,
    /// Of its indexes.
    pub indexes: f64,
}

/// One request that was answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// Such as `PutItem`.
    pub operation: String,
    /// For how long it was held up.
    pub delayed: Duration,
    /// The request.
    pub request: Message,
    /// What it cost, if that was asked.
    pub units: Option<Units>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    delay_us: AtomicU64,
    is_recording: AtomicBool,
    is_metering: AtomicBool,
    calls: Mutex<Vec<Call>>,
    handshakes: Mutex<Vec<Duration>>,
}

/// The endpoint. Cloning it gives the same one.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where it listens for plain HTTP.
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Database {
    /// Starts a DynamoDB with all tables, and the endpoint before it. Both end with the harness.
    pub async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let upstream = listener.local_addr()?;
        let database = dynoxide::Database::memory().map_err(|error| format!("no database: {error}"))?;
        for table in tables() {
            let request = serde_json::from_value(table)?;
            database.create_table(request).map_err(|error| format!("no table: {error}"))?;
        }
        tokio::spawn(dynoxide::server::serve_on(listener, database));
        let state = Arc::new(State {
            upstream,
            delay_us: AtomicU64::new(0),
            is_recording: AtomicBool::new(false),
            is_metering: AtomicBool::new(false),
            calls: Mutex::default(),
            handshakes: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(accept(listener, None, Arc::clone(&state)));
        Ok(Self { address, state })
    }

    /// Listens for TLS as well.
    pub async fn serve_tls(&self, acceptor: TlsAcceptor) -> Result<SocketAddr, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(accept(listener, Some(acceptor), Arc::clone(&self.state)));
        Ok(address)
    }

    /// For how long each request is held up from now on.
    pub fn set_delay(&self, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.state.delay_us.store(delay_us, Ordering::Relaxed);
    }

    /// Notes calls from now on, and asks what they cost if `metering`.
    pub fn record(&self, metering: bool) {
        self.with_calls(Vec::clear);
        self.state.is_metering.store(metering, Ordering::Relaxed);
        self.state.is_recording.store(true, Ordering::Relaxed);
    }

    /// The calls that were noted. No more are.
    pub fn recorded(&self) -> Vec<Call> {
        self.state.is_recording.store(false, Ordering::Relaxed);
        self.state.is_metering.store(false, Ordering::Relaxed);
        self.with_calls(std::mem::take)
    }

    /// How long TLS handshakes took, from the connection until the server was content.
    pub fn take_handshakes(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.state.handshakes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_calls<T>(&self, look: impl FnOnce(&mut Vec<Call>) -> T) -> T {
        look(&mut self.state.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // A client that goes away is none of our business.
            let _served = match acceptor {
                None => serve(client, state).await,
                Some(acceptor) => serve_tls(client, acceptor, state).await,
            };
        });
    }
}

async fn serve_tls(client: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) -> io::Result<()> {
    let begun = Instant::now();
    client.set_nodelay(true)?;
    let client = acceptor.accept(client).await?;
    state.handshakes.lock().unwrap_or_else(PoisonError::into_inner).push(begun.elapsed());
    pass_on(client, &state).await
}

async fn serve(client: TcpStream, state: Arc<State>) -> io::Result<()> {
    client.set_nodelay(true)?;
    pass_on(client, &state).await
}

async fn pass_on(mut client: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> io::Result<()> {
    let mut upstream = TcpStream::connect(state.upstream).await?;
    upstream.set_nodelay(true)?;
    let (mut from_client, mut from_upstream) = (BytesMut::new(), BytesMut::new());
    while let Some(request) = read_message(&mut client, &mut from_client).await? {
        let begun = Instant::now();
        pause(Duration::from_micros(state.delay_us.load(Ordering::Relaxed))).await;
        let delayed = begun.elapsed();
        let is_metering = state.is_metering.load(Ordering::Relaxed);
        let asked = if is_metering { asking(&request)? } else { request.clone() };
        upstream.write_all(&asked.whole).await?;
        let answer = read_message(&mut upstream, &mut from_upstream)
            .await?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        if state.is_recording.load(Ordering::Relaxed) {
            let target = request.header("x-amz-target").unwrap_or_default();
            let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            let units = if is_metering { units(answer.body()) } else { None };
            let call = Call { operation, delayed, request, units };
            state.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        }
        client.write_all(&answer.whole).await?;
        client.flush().await?;
    }
    Ok(())
}

/// The request, asking for its cost as well.
fn asking(request: &Message) -> io::Result<Message> {
    let mut body: Value = serde_json::from_slice(request.body())?;
    body["ReturnConsumedCapacity"] = "INDEXES".into();
    Ok(request.with_body(body.to_string().as_bytes()))
}

/// What an answer says that its request cost. A refused conditional write says nothing and costs what writing would
/// have: one unit of the table while the item is under 1 KiB.
fn units(answer: &[u8]) -> Option<Units> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let capacity = &answer["ConsumedCapacity"];
    let of = |part: &Value| part["CapacityUnits"].as_f64().unwrap_or_default();
    let indexes = capacity["GlobalSecondaryIndexes"].as_object();
    let indexes = indexes.map_or(0.0, |indexes| indexes.values().map(of).sum());
    capacity["Table"].is_object().then(|| Units { table: of(&capacity["Table"]), indexes })
}

fn attribute(name: &str, kind: &str) -> Value {
    json!({"AttributeName": name, "AttributeType": kind})
}

fn key(hash: &str, range: Option<&str>) -> Value {
    let hash = json!({"AttributeName": hash, "KeyType": "HASH"});
    match range {
        Some(range) => json!([hash, {"AttributeName": range, "KeyType": "RANGE"}]),
        None => json!([hash]),
    }
}

fn index(name: &str, hash: &str, range: &str) -> Value {
    json!({
        "IndexName": name,
        "KeySchema": key(hash, Some(range)),
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    })
}

fn tables() -> [Value; 4] {
    let paired = |name: &str| {
        json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [attribute("pk", "S"), attribute("sk", "S")],
            "KeySchema": key("pk", Some("sk")),
        })
    };
    let bookings = json!({
        "TableName": BOOKING_TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            attribute("pk", "S"),
            attribute("due_shard", "S"),
            attribute("due_at", "N"),
            attribute("t", "S"),
            attribute("fd", "B"),
            attribute("ca", "N"),
        ],
        "KeySchema": key("pk", None),
        "GlobalSecondaryIndexes": [
            index("overdue", "due_shard", "due_at"),
            index("by_tenant", "t", "ca"),
            index("by_reference", "fd", "ca"),
        ],
    });
    let yardstick = json!({
        "TableName": YARDSTICK_TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [attribute("id", "S")],
        "KeySchema": key("id", None),
    });
    [bookings, yardstick, paired(CONFIG_TABLE), paired(AVAILABILITY_TABLE)]
}
