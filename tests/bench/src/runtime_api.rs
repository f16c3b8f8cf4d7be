//! The Lambda Runtime API, as one process sees it: it asks for the next event, and posts an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Failure;

/// How long an answer is waited for. Under an instruction counter everything takes fifty times as long.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// How long an invocation may take, as the function is told; that of the template.
const INVOCATION_LIMIT: Duration = Duration::from_secs(29);

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When all of it was there.
    pub at: Instant,
    /// The body, or what the function says went wrong.
    pub body: Result<Bytes, Bytes>,
}

/// What one event came to.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// From when the event was handed over, or the process was started, until the answer was there.
    pub latency: Duration,
    /// The answer.
    pub body: Bytes,
}

struct Shared {
    events: Mutex<mpsc::Receiver<Bytes>>,
    answers: mpsc::Sender<Answer>,
    /// How often the process has asked for an event.
    asked: watch::Sender<u64>,
}

/// A Runtime API for one process.
#[derive(Debug)]
pub struct RuntimeApi {
    /// Where it listens: `AWS_LAMBDA_RUNTIME_API`.
    pub address: SocketAddr,
    events: mpsc::Sender<Bytes>,
    answers: mpsc::Receiver<Answer>,
    asked: watch::Receiver<u64>,
    invoked: u64,
    server: JoinHandle<()>,
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl RuntimeApi {
    /// Listens on a port of its own.
    pub async fn start() -> Result<Self, Failure> {
        let (events, incoming) = mpsc::channel(1);
        let (outgoing, answers) = mpsc::channel(1);
        let (asking, asked) = watch::channel(0);
        let shared = Arc::new(Shared { events: Mutex::new(incoming), answers: outgoing, asked: asking });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(error))
            .with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            // Serving ends with the harness.
            let _ended = axum::serve(NoDelay(listener), router).await;
        });
        Ok(Self { address, events, answers, asked, invoked: 0, server })
    }

    /// Hands an event to the process, which waits for one, and waits for the answer.
    pub async fn invoke(&mut self, event: Bytes) -> Result<Invocation, Failure> {
        let invoked = self.invoked;
        timeout(ANSWER_TIMEOUT, self.asked.wait_for(|asked| *asked > invoked))
            .await
            .map_err(|_| "the function asked for no event")??;
        let begun = Instant::now();
        self.hand_over(event, begun).await
    }

    /// The same for a process that was started at `begun` and has not asked yet.
    pub async fn invoke_first(&mut self, event: Bytes, begun: Instant) -> Result<Invocation, Failure> {
        self.hand_over(event, begun).await
    }

    async fn hand_over(&mut self, event: Bytes, begun: Instant) -> Result<Invocation, Failure> {
        self.invoked += 1;
        self.events.send(event).await?;
        let answer = timeout(ANSWER_TIMEOUT, self.answers.recv())
            .await
            .map_err(|_| "the function did not answer")?
            .ok_or("the Runtime API has ended")?;
        let latency = answer.at.duration_since(begun);
        match answer.body {
            Ok(body) => Ok(Invocation { latency, body }),
            Err(told) => Err(format!("the function failed: {}", String::from_utf8_lossy(&told)).into()),
        }
    }
}

/// Sends small answers at once.
struct NoDelay(TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, address)) = self.0.accept().await
                && stream.set_nodelay(true).is_ok()
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "events say when they were made")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    shared.asked.send_modify(|asked| *asked += 1);
    let Some(event) = shared.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let number = *shared.asked.borrow();
    let deadline_ms = unix_ms() + u64::try_from(INVOCATION_LIMIT.as_millis()).unwrap_or(u64::MAX);
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", format!("8476a536-e9f4-11e8-9739-{number:012x}")),
        ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:bench".to_owned(),
        ),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0".to_owned()),
    ];
    (headers, event).into_response()
}

async fn response(State(shared): State<Arc<Shared>>, Path(_): Path<String>, body: Bytes) -> StatusCode {
    answered(&shared, Ok(body)).await
}

async fn error(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    answered(&shared, Err(body)).await
}

async fn answered(shared: &Shared, body: Result<Bytes, Bytes>) -> StatusCode {
    let answer = Answer { at: Instant::now(), body };
    match shared.answers.send(answer).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::GONE,
    }
}
