//! The gateway against real sockets: what goes out, and what counts as sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use holdfast_app::bookings::DECLINED_BY_PROVIDER;
use holdfast_app::settings::{ConfirmationMode, Protocol};
use holdfast_domain::{
    Acknowledgement, BookingId, BookingRequest, Cancellation, CancellationReason, Change, Compensation,
    ConsumerId, Customer, Mode, Operation, Patience, Personal, Phase, ProviderId, Rejection, RetryPolicy,
    Slot, State, Tenant, Timestamp, UnitQuantity, Withdrawal,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::AllowedHosts;
use crate::safe_client::MAX_ANSWER_BYTES;

/// Long enough for anything on this machine.
const AMPLE_MS: u64 = 10_000;

/// How long a test waits for what must not come.
const BRIEF_MS: u64 = 200;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Clone, Copy, Debug)]
struct SystemTime;

impl Clock for SystemTime {
    #[allow(clippy::disallowed_methods, reason = "the reference verifier compares with the time of day")]
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(jiff::Timestamp::now().as_millisecond()).unwrap()
    }
}

fn gateway(allowed: &str) -> NativeGateway<SystemTime> {
    NativeGateway::new(SafeClient::new(AllowedHosts::parse(allowed)).unwrap(), SystemTime)
}

fn provider(base_url: String) -> ProviderSettings {
    ProviderSettings {
        provider_id: ProviderId::parse("demo-clinic").unwrap(),
        display_name: "Demo".to_owned(),
        mode: Mode::Test,
        base_url,
        protocol: Protocol::Holdfast,
        confirmation: ConfirmationMode::Confirm,
        auth: ProviderAuth::None,
        signing_secret: None,
        retry: RetryPolicy::DEFAULT,
        attempt_timeout_ms: 30_000,
    }
}

fn booking() -> Booking {
    let start = Timestamp::parse_rfc3339("2027-01-15T09:00:00Z").unwrap();
    Booking {
        id: BookingId::from_bytes([7; 16]),
        tenant: Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Test },
        request: BookingRequest {
            provider_id: ProviderId::parse("demo-clinic").unwrap(),
            customer: Some(Personal::new(Customer {
                name: "Ada Lovelace".to_owned(),
                email: Some("ada@example.com".to_owned()),
                phone: None,
                birth_date: None,
                language: None,
            })),
            reference: Some("order-1001".to_owned()),
            notes: Some(Personal::new("window seat".to_owned())),
            metadata: BTreeMap::from([("channel".to_owned(), "web".to_owned())]),
            units: vec![UnitQuantity { unit_id: "adult".to_owned(), quantity: 2 }],
            hold: false,
        },
        slot: Slot {
            location_id: "main-street".to_owned(),
            start,
            end: start.plus_ms(1_800_000),
            resource_id: None,
            service_id: Some("checkup".to_owned()),
        },
        state: State::Cancelled(Cancellation::BySystem(CancellationReason::ProviderTimeout)),
        provider_reference: None,
        operation: None,
        refusal: None,
        compensation: Compensation::NotNeeded,
        operations_begun: 1,
        history: Vec::new(),
    }
}

async fn attempt(allowed: &str, provider: &ProviderSettings, limit_ms: u64) -> AttemptReport {
    let booking = booking();
    let call = ProviderCall { provider, booking: &booking, operation_number: 1, attempt: 2, limit_ms };
    gateway(allowed).attempt(call).await
}

async fn compensate(provider: &ProviderSettings) -> CompensationReport {
    let booking = booking();
    let limit_ms = AMPLE_MS;
    let call = CompensationCall { provider, booking: &booking, operation_number: 2, attempt: 1, limit_ms };
    gateway("127.0.0.1").compensate(call).await
}

struct Received {
    peer: SocketAddr,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A provider that answers every call by `answer` and keeps what it received.
async fn serve<R: IntoResponse>(
    answer: impl Fn(&Received) -> R + Clone + Send + Sync + 'static,
) -> (ProviderSettings, Arc<Mutex<Vec<Received>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    let app = Router::new().fallback(
        move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await.unwrap();
            let path = parts.uri.path().to_owned();
            let call = Received { peer, method: parts.method, path, headers: parts.headers, body };
            let response: Response = answer(&call).into_response();
            kept.lock().unwrap().push(call);
            response
        },
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/base", listener.local_addr().unwrap());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (provider(base_url), received)
}

/// A server of a single connection that reads a request, writes `answer` and then does as told.
async fn raw(scheme: &str, answer: Vec<u8>, keep_open: bool) -> ProviderSettings {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("{scheme}://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _count = socket.read(&mut head).await.unwrap();
        // Whoever hangs up in the middle of the answer makes this fail, as some tests do.
        let _written = socket.write_all(&answer).await;
        if keep_open {
            std::future::pending::<()>().await;
        }
    });
    provider(base_url)
}

fn json_answer(status: u16, body: Value) -> Response {
    (axum::http::StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

#[tokio::test]
async fn a_booking_is_posted_signed_and_keyed() {
    let (mut provider, received) =
        serve(|_: &Received| json_answer(201, json!({"status": "confirmed", "provider_reference": "R-1"})))
            .await;
    provider.signing_secret = Some(SecretString::from(SECRET.to_owned()));
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    let AttemptOutcome::Acknowledged(acknowledgement) = report.outcome else { panic!("{report:?}") };
    assert_eq!(acknowledgement.provider_reference.as_deref(), Some("R-1"));

    let calls = received.lock().unwrap();
    let [call] = calls.as_slice() else { panic!("one call was made") };
    let id = booking().id;
    assert_eq!((&call.method, call.path.as_str()), (&Method::POST, "/base/bookings"));
    assert_eq!(call.headers["idempotency-key"], id.as_str());
    assert_eq!(call.headers["webhook-id"], format!("{id}:1:2"));
    assert_eq!(call.headers["content-type"], "application/json");
    assert_eq!(call.headers["content-length"], call.body.len().to_string());
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&call.body, &call.headers).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&call.body).unwrap(),
        json!({
            "booking_id": id.as_str(),
            "operation": 1,
            "slot": {
                "location_id": "main-street",
                "start": "2027-01-15T09:00:00Z",
                "end": "2027-01-15T09:30:00Z",
                "service_id": "checkup",
            },
            "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
            "reference": "order-1001",
            "notes": "window seat",
            "metadata": {"channel": "web"},
            "units": [{"unit_id": "adult", "quantity": 2}],
            "hold": false,
            "attempt": 2,
        })
    );
}

#[tokio::test]
async fn every_kind_of_authentication_is_sent() {
    let secret = |text: &str| SecretString::from(text.to_owned());
    for (auth, header, value) in [
        (ProviderAuth::Bearer { token: secret("t") }, "authorization", "Bearer t"),
        (ProviderAuth::ApiKey { header: "x-key".to_owned(), value: secret("k") }, "x-key", "k"),
        (
            ProviderAuth::Basic { username: "Aladdin".to_owned(), password: secret("open sesame") },
            "authorization",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
    ] {
        let (mut provider, received) = serve(|_: &Received| json_answer(202, json!({}))).await;
        provider.auth = auth;
        let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
        assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::AcceptedForLater));
        assert_eq!(received.lock().unwrap()[0].headers[header], value);
    }
}

#[tokio::test]
async fn what_cannot_connect_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let report = attempt("127.0.0.1", &provider(base_url), AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::NotSent(AttemptError::ConnectionFailed));

    let unknown_name = provider("http://no-such-host.invalid".to_owned());
    let report = attempt("", &unknown_name, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::NotSent(AttemptError::ConnectionFailed));
}

#[tokio::test]
async fn a_handshake_that_fails_or_hangs_sent_nothing() {
    let provider = raw("https", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false).await;
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::NotSent(AttemptError::ConnectionFailed));

    let provider = raw("https", Vec::new(), true).await;
    let report = attempt("127.0.0.1", &provider, BRIEF_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::NotSent(AttemptError::TimedOut));
}

#[tokio::test]
async fn private_targets_are_refused_by_address_and_by_name() {
    let (provider, received) = serve(|_: &Received| json_answer(200, json!({}))).await;
    let refused = AttemptOutcome::NotSent(AttemptError::TargetRefused);
    assert_eq!(attempt("", &provider, AMPLE_MS).await.outcome, refused);
    assert_eq!(attempt("example.com", &provider, AMPLE_MS).await.outcome, refused);

    let mut by_name = provider.clone();
    by_name.base_url = provider.base_url.replace("127.0.0.1", "localhost");
    assert_eq!(attempt("127.0.0.1", &by_name, AMPLE_MS).await.outcome, refused);

    let mut by_number = provider.clone();
    by_number.base_url = provider.base_url.replace("127.0.0.1", "2130706433");
    assert_eq!(attempt("", &by_number, AMPLE_MS).await.outcome, refused);
    assert!(received.lock().unwrap().is_empty());

    let report = attempt("localhost", &by_name, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::UnusableAnswer));
    assert_eq!(received.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn silence_after_the_request_is_unknown() {
    let provider = raw("http", Vec::new(), true).await;
    let report = attempt("127.0.0.1", &provider, BRIEF_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::TimedOut));

    let provider = raw("http", Vec::new(), false).await;
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::ConnectionLost));
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_unknown() {
    let started = b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{\"status\":".to_vec();
    let provider = raw("http", started.clone(), true).await;
    let report = attempt("127.0.0.1", &provider, BRIEF_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::TimedOut));

    let provider = raw("http", started, false).await;
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::ConnectionLost));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_unknown() {
    let (provider, _received) = serve(|_: &Received| "x".repeat(MAX_ANSWER_BYTES + 1)).await;
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::UnusableAnswer));

    let mut unannounced = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    unannounced.resize(unannounced.len() + MAX_ANSWER_BYTES + 1, b'x');
    let provider = raw("http", unannounced, false).await;
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::UnusableAnswer));
}

#[tokio::test]
async fn redirects_are_not_followed_and_pauses_are_reported() {
    let (elsewhere, visited) = serve(|_: &Received| json_answer(200, json!({"status": "confirmed"}))).await;
    let location = elsewhere.base_url.clone();
    let (provider, _received) =
        serve(move |_: &Received| axum::response::Redirect::temporary(&location)).await;
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::UnusableAnswer));
    assert!(visited.lock().unwrap().is_empty());

    let busy = axum::http::StatusCode::SERVICE_UNAVAILABLE;
    let (provider, received) = serve(move |_: &Received| (busy, [("retry-after", "7")], "")).await;
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::HttpStatus(503)));
    assert_eq!(report.retry_after_ms, Some(7_000));
    assert_eq!(received.lock().unwrap().len(), 1, "nothing is repeated");
}

#[tokio::test]
async fn what_is_configured_wrongly_is_not_sent() {
    for base_url in ["ftp://example.com", "not a url", "http://"] {
        let report = attempt("", &provider(base_url.to_owned()), AMPLE_MS).await;
        assert!(matches!(report.outcome, AttemptOutcome::NotSent(_)), "{base_url}");
    }
    let mut provider = provider("http://127.0.0.1:1".to_owned());
    provider.signing_secret = Some(SecretString::from("secret".to_owned()));
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert!(matches!(report.outcome, AttemptOutcome::NotSent(_)));
}

#[tokio::test]
async fn a_look_up_asks_for_the_booking() {
    let (provider, received) = serve(|_: &Received| json_answer(200, json!({"status": "pending"}))).await;
    let outcome = gateway("127.0.0.1").look_up(&provider, &booking(), AMPLE_MS).await;
    assert_eq!(outcome, LookUpOutcome::StillPending);
    let calls = received.lock().unwrap();
    assert_eq!(calls[0].method, Method::GET);
    assert_eq!(calls[0].path, format!("/base/bookings/{}", booking().id));
}

#[tokio::test]
async fn a_compensation_is_a_numbered_cancel() {
    let (provider, received) = serve(|_: &Received| json_answer(200, json!({"status": "cancelled"}))).await;
    assert_eq!(compensate(&provider).await.outcome, CompensationOutcome::Acknowledged);
    let calls = received.lock().unwrap();
    let id = booking().id;
    assert_eq!(calls[0].path, format!("/base/bookings/{id}/cancel"));
    assert_eq!(calls[0].headers["idempotency-key"], format!("{id}:2"));
    assert_eq!(
        serde_json::from_slice::<Value>(&calls[0].body).unwrap(),
        json!({"booking_id": id.as_str(), "operation": 2, "reason": "provider_timeout", "attempt": 1})
    );
}

/// A confirmed booking whose consumer wants to cancel it.
fn being_cancelled(reason: Option<&str>) -> Booking {
    let withdrawal = Withdrawal { reason: reason.map(str::to_owned), note: Some("private".to_owned()) };
    let at = Timestamp::EPOCH;
    let operation = Operation {
        change: Change::Cancel(withdrawal),
        number: 2,
        patience: Patience::Background,
        deadline_at: at,
        attempts: 3,
        last_error: None,
        unanswered_send_at: None,
        phase: Phase::InFlight { lease_until: at },
    };
    Booking { state: State::Confirmed, operation: Some(operation), ..booking() }
}

#[tokio::test]
async fn a_consumers_cancel_names_its_reason_and_its_answer_is_told_in_full() {
    let refusal = Rejection {
        code: DECLINED_BY_PROVIDER.to_owned(),
        message: Some("Too late.".to_owned()),
        provider_code: Some("too_late".to_owned()),
    };
    let done =
        || AttemptOutcome::Acknowledged(Acknowledgement { provider_reference: None, reserved_until: None });
    let declined = json!({"code": "too_late", "message": "Too late."});
    for (reason, sent, status, body, outcome) in [
        (Some("ill"), "ill", 200, json!({}), done()),
        (None, "cancelled_by_consumer", 404, json!({"code": "unknown_booking"}), done()),
        (None, "cancelled_by_consumer", 422, declined, AttemptOutcome::Declined(refusal)),
        (
            None,
            "cancelled_by_consumer",
            503,
            json!({}),
            AttemptOutcome::Unknown(AttemptError::HttpStatus(503)),
        ),
    ] {
        let (provider, received) = serve(move |_: &Received| json_answer(status, body.clone())).await;
        let (provider, booking) = (&provider, &being_cancelled(reason));
        let call = ProviderCall { provider, booking, operation_number: 2, attempt: 3, limit_ms: AMPLE_MS };
        assert_eq!(gateway("127.0.0.1").attempt(call).await.outcome, outcome);
        let calls = received.lock().unwrap();
        assert_eq!(calls[0].path, format!("/base/bookings/{}/cancel", booking.id));
        assert_eq!(calls[0].headers["idempotency-key"], format!("{}:2", booking.id));
        assert_eq!(
            serde_json::from_slice::<Value>(&calls[0].body).unwrap(),
            json!({"booking_id": booking.id.as_str(), "operation": 2, "reason": sent, "attempt": 3})
        );
    }
}

#[tokio::test]
async fn a_bare_404_of_a_cancel_is_settled_by_the_look_up() {
    let found = json!({"status": "confirmed"});
    let unsettled = CompensationOutcome::Failed(AttemptError::HttpStatus(404));
    for (look_up_status, look_up_body, expected) in [
        (404, json!({}), CompensationOutcome::NoSuchBooking),
        (200, json!({"status": "cancelled"}), CompensationOutcome::Acknowledged),
        (200, found, unsettled),
        (500, json!({}), unsettled),
    ] {
        let (provider, received) = serve(move |call: &Received| {
            if call.method == Method::GET {
                json_answer(look_up_status, look_up_body.clone())
            } else {
                json_answer(404, json!({"message": "no such path"}))
            }
        })
        .await;
        assert_eq!(compensate(&provider).await.outcome, expected);
        assert_eq!(received.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (provider, received) = serve(|_: &Received| json_answer(202, json!({}))).await;
    let (gateway, booking) = (gateway("127.0.0.1"), booking());
    for attempt in 1..=3 {
        let (provider, booking, limit_ms) = (&provider, &booking, AMPLE_MS);
        let call = ProviderCall { provider, booking, operation_number: 1, attempt, limit_ms };
        let report = gateway.attempt(call).await;
        assert_eq!(report.outcome, AttemptOutcome::Unknown(AttemptError::AcceptedForLater));
    }
    let calls = received.lock().unwrap();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| call.peer == calls[0].peer));
}
