use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::log_output::tests::WRITTEN_HERE;
use crate::log_output::write_lines;
use crate::test_util::logged_here;

const NEXT: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1";
const LIMIT: Duration = Duration::from_secs(10);

/// Lambda's side.
struct Lambda {
    listener: TcpListener,
    address: String,
}

/// A connection of the loop's, and what of it has not been looked at.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// What came over a connection.
struct Taken {
    head: String,
    body: Value,
}

impl Lambda {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    async fn accept(&self) -> Connection {
        let (stream, _) = timeout(LIMIT, self.listener.accept()).await.unwrap().unwrap();
        Connection { stream, read: Vec::new() }
    }

    /// Starts a loop that answers with the event, unless it says what else to do.
    fn start(&self, concurrency: usize) -> JoinHandle<String> {
        let place = Place { address: self.address.parse().unwrap(), concurrency };
        tokio::spawn(async move { run_at(place, handle).await.unwrap_err().to_string() })
    }
}

/// Lambda, a loop, and the loop's connection.
async fn started() -> (Lambda, JoinHandle<String>, Connection) {
    let lambda = Lambda::new().await;
    let running = lambda.start(1);
    let connection = lambda.accept().await;
    (lambda, running, connection)
}

/// What the loops' handler was told of its events.
static SEEN: Mutex<Vec<Context>> = Mutex::new(Vec::new());

async fn handle(event: Bytes, context: Context) -> Result<Vec<u8>, RunError> {
    SEEN.lock().unwrap().push(context);
    match &*event {
        b"\"fail\"" => Err("it does not work".into()),
        b"\"panic\"" => panic!("secret"),
        _ => Ok(event.to_vec()),
    }
}

impl Connection {
    async fn take(&mut self) -> Taken {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(self.read[..end].to_vec()).unwrap();
                let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
                if self.read.len() >= end + 4 + length {
                    let rest = self.read.split_off(end + 4 + length);
                    let body = serde_json::from_slice(&self.read[end + 4..]).unwrap_or_default();
                    self.read = rest;
                    return Taken { head, body };
                }
            }
            let read = timeout(LIMIT, self.stream.read_buf(&mut self.read)).await.unwrap().unwrap();
            assert!(read > 0, "the connection ends early");
        }
    }

    async fn send(&mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
        self.stream.write_all(answer.as_bytes()).await.unwrap();
    }

    /// Waits until the loop asks for an event, and gives it this one.
    async fn give(&mut self, request_id: &str, event: &str) {
        assert_eq!(self.take().await.line(), NEXT);
        let headers = format!(
            "lambda-runtime-aws-request-id: {request_id}\r\nlambda-runtime-deadline-ms: 1795423496465\r\n\
             lambda-runtime-trace-id: Root=1-{request_id}\r\n"
        );
        self.send("200 OK", &headers, event).await;
    }

    /// Takes what the loop posts, and accepts it.
    async fn taken(&mut self) -> Taken {
        let taken = self.take().await;
        self.send("202 Accepted", "", "").await;
        taken
    }
}

impl Taken {
    fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

fn posted(request_id: &str, what: &str) -> String {
    format!("POST /2018-06-01/runtime/invocation/{request_id}/{what} HTTP/1.1")
}

#[tokio::test]
async fn events_are_handled_one_after_the_other_over_one_connection() {
    let (lambda, running, mut connection) = started().await;
    for request_id in ["one-1", "one-2", "one-3"] {
        connection.give(request_id, &format!("[\"{request_id}\"]")).await;
        let answer = connection.taken().await;
        assert_eq!(answer.line(), posted(request_id, "response"));
        assert_eq!(answer.body, json!([request_id]));
        assert_eq!(header(&answer.head, "host"), Some(lambda.address.as_str()));
        assert_eq!(header(&answer.head, "content-type"), Some("application/json"));
    }
    let seen = SEEN.lock().unwrap().iter().find(|context| context.request_id == "one-2").cloned();
    let expected = Context {
        request_id: "one-2".to_owned(),
        deadline_unix_ms: 1_795_423_496_465,
        xray_trace_id: Some("Root=1-one-2".to_owned()),
    };
    assert_eq!(seen, Some(expected));
    running.abort();
}

#[tokio::test]
async fn errors_and_panics_are_told_and_the_next_event_is_taken() {
    let (_lambda, running, mut connection) = started().await;
    for (event, error_type, message) in [
        ("\"fail\"", "Function.Failed", "it does not work"),
        ("\"panic\"", "Function.Panicked", "the handler panicked"),
    ] {
        connection.give("two-1", event).await;
        let told = connection.taken().await;
        assert_eq!(told.line(), posted("two-1", "error"));
        assert_eq!(header(&told.head, "lambda-runtime-function-error-type"), Some(error_type));
        let expected = json!({"errorType": error_type, "errorMessage": message, "stackTrace": []});
        assert_eq!(told.body, expected);
    }
    connection.give("two-2", "{}").await;
    assert_eq!(connection.taken().await.line(), posted("two-2", "response"));
    running.abort();
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_made_anew() {
    let (lambda, running, mut connection) = started().await;
    connection.give("three-1", "{}").await;
    connection.taken().await;
    // The loop has asked for an event; the connection ends when it has it.
    connection.give("three-2", "{}").await;
    let answer = connection.taken().await;
    assert_eq!(answer.line(), posted("three-2", "response"));
    assert_eq!(connection.take().await.line(), NEXT);
    let headers =
        "lambda-runtime-aws-request-id: three-3\r\nlambda-runtime-deadline-ms: 1\r\nconnection: close\r\n";
    connection.send("200 OK", headers, "{}").await;
    drop(connection);
    let mut connection = lambda.accept().await;
    assert_eq!(connection.taken().await.line(), posted("three-3", "response"));
    assert_eq!(connection.take().await.line(), NEXT);
    running.abort();
}

/// One that ends without a word, while the event is handled.
#[tokio::test]
async fn a_connection_that_is_lost_while_an_event_is_handled_is_made_anew() {
    let lambda = Lambda::new().await;
    let place = Place { address: lambda.address.parse().unwrap(), concurrency: 1 };
    let lost = Arc::new(Notify::new());
    let seen = Arc::clone(&lost);
    let running = tokio::spawn(run_at(place, move |_, _| {
        let seen = Arc::clone(&seen);
        async move {
            seen.notified().await;
            Ok(b"{}".to_vec())
        }
    }));
    let mut connection = lambda.accept().await;
    connection.give("seven-1", "{}").await;
    drop(connection);
    lost.notify_one();
    let mut connection = lambda.accept().await;
    assert_eq!(connection.taken().await.line(), posted("seven-1", "response"));
    assert_eq!(connection.take().await.line(), NEXT);
    running.abort();
}

/// Nobody knows whether it arrived.
#[tokio::test]
async fn an_answer_whose_taking_is_lost_is_not_posted_again() {
    let (lambda, running, mut connection) = started().await;
    connection.give("eight-1", "{}").await;
    assert_eq!(connection.take().await.line(), posted("eight-1", "response"));
    drop(connection);
    let ended = timeout(LIMIT, running).await.unwrap().unwrap();
    assert_eq!(ended, "an exchange with the runtime API broke off");
    assert!(lambda.listener.accept().now_or_never().is_none(), "it comes again");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_in_time_that_an_answer_is_taken_is_given_up() {
    let (_lambda, running, mut connection) = started().await;
    connection.give("nine-1", "{}").await;
    assert_eq!(connection.take().await.line(), posted("nine-1", "response"));
    assert_eq!(running.await.unwrap(), "the runtime API did not answer within 60 s");
}

/// Lambda refuses what is too long before it has read all of it.
#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_busy_is_made_anew() {
    const LONG: usize = 20 * 1024 * 1024;
    let lambda = Lambda::new().await;
    let place = Place { address: lambda.address.parse().unwrap(), concurrency: 1 };
    let running = tokio::spawn(run_at(place, |_, _| async { Ok(vec![b' '; LONG]) }));
    let mut connection = lambda.accept().await;
    connection.give("ten-1", "{}").await;
    let mut begun = [0; 64];
    connection.stream.read_exact(&mut begun).await.unwrap();
    assert!(begun.starts_with(b"POST /2018-06-01/runtime/invocation/ten-1/response"));
    connection.send("413 Payload Too Large", "", "{}").await;
    let mut next = lambda.accept().await;
    assert_eq!(next.take().await.line(), NEXT);
    running.abort();
}

#[tokio::test]
async fn what_an_event_says_is_written_when_its_answer_is_taken() {
    let lambda = Lambda::new().await;
    let place = Place { address: lambda.address.parse().unwrap(), concurrency: 1 };
    let running = tokio::spawn(run_at(place, |_, _| async {
        write_lines(b"a line\n")?;
        Ok(b"{}".to_vec())
    }));
    let written = || String::from_utf8(WRITTEN_HERE.with_borrow(Vec::clone)).unwrap();
    let mut connection = lambda.accept().await;
    connection.give("eleven-1", "{}").await;
    assert_eq!(connection.take().await.line(), posted("eleven-1", "response"));
    assert_eq!(written(), "");
    connection.send("202 Accepted", "", "").await;
    assert_eq!(connection.take().await.line(), NEXT);
    assert_eq!(written(), "a line\n");
    running.abort();
}

#[test]
fn an_error_is_logged_with_what_led_to_it() {
    let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
    let error = RuntimeError::Unreachable(refused);
    assert_eq!(chain(&error), "the runtime API cannot be reached: refused");
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_logged_and_the_next_event_is_taken() {
    let log = logged_here();
    let (_lambda, running, mut connection) = started().await;
    connection.give("four-1", "{}").await;
    assert_eq!(connection.take().await.line(), posted("four-1", "response"));
    connection.send("413 Payload Too Large", "", "{\"errorMessage\": \"too long\"}").await;
    connection.give("four-2", "{}").await;
    assert_eq!(connection.taken().await.line(), posted("four-2", "response"));
    let lines = log.lines();
    let told = lines.iter().find(|line| line["message"] == "Lambda did not take an answer.").unwrap();
    assert_eq!((&told["request.id"], &told["http.status"]), (&json!("four-1"), &json!(413)));
    running.abort();
}

#[tokio::test]
async fn without_its_runtime_api_a_process_ends() {
    let (lambda, running, mut connection) = started().await;
    assert_eq!(connection.take().await.line(), NEXT);
    connection.send("500 Internal Server Error", "", "{}").await;
    let ended = timeout(LIMIT, running).await.unwrap().unwrap();
    assert_eq!(ended, "the runtime API answered 500 Internal Server Error instead of an event");

    for (headers, missing) in [
        ("lambda-runtime-aws-request-id: five\r\n", "lambda-runtime-deadline-ms"),
        (
            "lambda-runtime-aws-request-id: five\r\nlambda-runtime-deadline-ms: soon\r\n",
            "lambda-runtime-deadline-ms",
        ),
        ("lambda-runtime-deadline-ms: 1\r\n", "lambda-runtime-aws-request-id"),
    ] {
        let running = lambda.start(1);
        let mut connection = lambda.accept().await;
        connection.take().await;
        connection.send("200 OK", headers, "{}").await;
        let ended = timeout(LIMIT, running).await.unwrap().unwrap();
        assert_eq!(ended, format!("an event came without {missing}, or with one that cannot be read"));
    }

    // It breaks off in the middle of the wait, and then nobody listens.
    let running = lambda.start(1);
    let mut connection = lambda.accept().await;
    connection.take().await;
    drop(connection);
    let ended = timeout(LIMIT, running).await.unwrap().unwrap();
    assert_eq!(ended, "an exchange with the runtime API broke off");
    let Lambda { listener, address } = lambda;
    drop(listener);
    let place = Place { address: address.parse().unwrap(), concurrency: 1 };
    let ended = run_at(place, handle).await.unwrap_err().to_string();
    assert_eq!(ended, "the runtime API cannot be reached");
}

#[tokio::test]
async fn as_many_events_are_handled_at_once_as_lambda_says() {
    let lambda = Lambda::new().await;
    let running = lambda.start(2);
    let (mut first, mut second) = (lambda.accept().await, lambda.accept().await);
    first.give("six-1", "1").await;
    second.give("six-2", "2").await;
    assert_eq!(second.taken().await.line(), posted("six-2", "response"));
    assert_eq!(first.taken().await.line(), posted("six-1", "response"));
    // They end together.
    assert_eq!(first.take().await.line(), NEXT);
    first.send("403 Forbidden", "", "{}").await;
    let ended = timeout(LIMIT, running).await.unwrap().unwrap();
    assert_eq!(ended, "the runtime API answered 403 Forbidden instead of an event");
}

#[test]
fn lambda_says_where_events_come_from_and_how_many_at_once() {
    let set = |address: &str, concurrency: Option<&str>| {
        let (address, concurrency) = (address.to_owned(), concurrency.map(str::to_owned));
        Place::from_source(&move |asked| match asked {
            RUNTIME_API => Some(address.clone()),
            MAX_CONCURRENCY => concurrency.clone(),
            _ => None,
        })
    };
    let place = |concurrency| Place { address: HeaderValue::from_static("127.0.0.1:9001"), concurrency };
    assert_eq!(set("127.0.0.1:9001", None), Ok(place(1)));
    assert_eq!(set("127.0.0.1:9001", Some("16")), Ok(place(16)));
    assert_eq!(set("", None), Err(ConfigError::Missing(RUNTIME_API)));
    let error = set("127.0.0.1\n", None).unwrap_err().to_string();
    assert_eq!(error, "the environment variable AWS_LAMBDA_RUNTIME_API must be a host and a port");
    for malformed in ["0", "-1", "many", ""] {
        let error = set("127.0.0.1:9001", Some(malformed)).unwrap_err().to_string();
        let expected =
            "the environment variable AWS_LAMBDA_MAX_CONCURRENCY must be a count of events, from 1";
        assert_eq!(error, expected, "{malformed}");
    }
}
