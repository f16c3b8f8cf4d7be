//! The native protocol against real sockets: what goes out, and what counts as sent.

use holdfast_app::bookings::DECLINED_BY_PROVIDER;
use holdfast_app::ports::ProviderGateway;
use holdfast_app::settings::ProviderAuth;
use holdfast_domain::{Acknowledgement, AttemptOutcome, Found, Rejection, State, Timestamp, Withdrawal};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::safe_client::MAX_ANSWER_BYTES;
use crate::test_util::{
    AMPLE_MS, BRIEF_MS, Received, SECRET, at, booking, changing, compensate, gateway, json_answer, notify,
    provider, raw, serve, slot,
};

async fn attempt(allowed: &str, provider: &ProviderSettings, limit_ms: u64) -> AttemptReport {
    let booking = booking();
    let call = ProviderCall { provider, booking: &booking, operation_number: 1, attempt: 2, limit_ms };
    gateway(allowed).attempt(call).await
}

#[tokio::test]
async fn a_booking_is_posted_signed_and_keyed() {
    let (mut provider, received) =
        serve(|_: &Received| json_answer(201, &json!({"status": "confirmed", "provider_reference": "R-1"})))
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
    assert_eq!(call.headers["accept"], "application/json");
    assert_eq!(call.headers["user-agent"], concat!("holdfast/", env!("CARGO_PKG_VERSION")));
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&call.body, &call.headers).unwrap();
    assert_eq!(
        call.json(),
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
        let (mut provider, received) = serve(|_: &Received| json_answer(202, &json!({}))).await;
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

    let unknown_name = provider("http://no-such-host.invalid");
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
    let (provider, received) = serve(|_: &Received| json_answer(200, &json!({}))).await;
    let refused = AttemptOutcome::NotSent(AttemptError::TargetRefused);
    assert_eq!(attempt("", &provider, AMPLE_MS).await.outcome, refused);
    assert_eq!(attempt("example.com", &provider, AMPLE_MS).await.outcome, refused);

    let mut by_name = provider.clone();
    by_name.base_url = provider.base_url.as_ref().map(|url| url.replace("127.0.0.1", "localhost"));
    assert_eq!(attempt("127.0.0.1", &by_name, AMPLE_MS).await.outcome, refused);

    let mut by_version_6 = provider.clone();
    by_version_6.base_url = Some("http://[::1]:1/base".to_owned());
    assert_eq!(attempt("127.0.0.1", &by_version_6, AMPLE_MS).await.outcome, refused);
    // Nobody is there, but may be reached.
    let allowed = attempt("::1", &by_version_6, AMPLE_MS).await.outcome;
    assert_eq!(allowed, AttemptOutcome::NotSent(AttemptError::ConnectionFailed));

    let mut by_number = provider.clone();
    by_number.base_url = provider.base_url.as_ref().map(|url| url.replace("127.0.0.1", "2130706433"));
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
    let (elsewhere, visited) = serve(|_: &Received| json_answer(200, &json!({"status": "confirmed"}))).await;
    let location = elsewhere.base_url.clone().unwrap();
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
        let report = attempt("", &provider(base_url), AMPLE_MS).await;
        assert!(matches!(report.outcome, AttemptOutcome::NotSent(_)), "{base_url}");
    }
    let mut provider = provider("http://127.0.0.1:1");
    provider.signing_secret = Some(SecretString::from("secret".to_owned()));
    let report = attempt("127.0.0.1", &provider, AMPLE_MS).await;
    assert!(matches!(report.outcome, AttemptOutcome::NotSent(_)));
}

#[tokio::test]
async fn a_look_up_asks_for_the_booking() {
    let (provider, received) = serve(|_: &Received| json_answer(200, &json!({"status": "pending"}))).await;
    let outcome = gateway("127.0.0.1").look_up(&provider, &booking(), AMPLE_MS).await;
    assert_eq!(outcome, LookUpOutcome::StillPending);
    let calls = received.lock().unwrap();
    assert_eq!(calls[0].method, Method::GET);
    assert_eq!(calls[0].path, format!("/base/bookings/{}", booking().id));
}

#[tokio::test]
async fn a_compensation_is_a_numbered_cancel() {
    let (provider, received) = serve(|_: &Received| json_answer(200, &json!({"status": "cancelled"}))).await;
    assert_eq!(compensate(&provider, &booking()).await.outcome, CompensationOutcome::Acknowledged);
    let calls = received.lock().unwrap();
    let id = booking().id;
    assert_eq!(calls[0].path, format!("/base/bookings/{id}/cancel"));
    assert_eq!(calls[0].headers["idempotency-key"], format!("{id}:2"));
    assert_eq!(
        calls[0].json(),
        json!({"booking_id": id.as_str(), "operation": 2, "reason": "provider_timeout", "attempt": 1})
    );
}

/// A confirmed booking whose consumer wants to cancel it.
fn being_cancelled(reason: Option<&str>) -> Booking {
    let withdrawal = Withdrawal { reason: reason.map(str::to_owned), note: Some("private".to_owned()) };
    changing(State::Confirmed, Change::Cancel(withdrawal))
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
        let (provider, received) = serve(move |_: &Received| json_answer(status, &body)).await;
        let (provider, booking) = (&provider, &being_cancelled(reason));
        let call = ProviderCall { provider, booking, operation_number: 2, attempt: 3, limit_ms: AMPLE_MS };
        assert_eq!(gateway("127.0.0.1").attempt(call).await.outcome, outcome);
        let calls = received.lock().unwrap();
        assert_eq!(calls[0].path, format!("/base/bookings/{}/cancel", booking.id));
        assert_eq!(calls[0].headers["idempotency-key"], format!("{}:2", booking.id));
        assert_eq!(
            calls[0].json(),
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
                json_answer(look_up_status, &look_up_body)
            } else {
                json_answer(404, &json!({"message": "no such path"}))
            }
        })
        .await;
        assert_eq!(compensate(&provider, &booking()).await.outcome, expected);
        assert_eq!(received.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (provider, received) = serve(|_: &Received| json_answer(202, &json!({}))).await;
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

#[tokio::test]
async fn a_change_of_a_booking_is_a_numbered_message() {
    let held = || State::Reserved { expires_at: at("2027-01-01T00:00:00Z") };
    let to = slot("side-street", "2027-01-16T09:00:00Z");
    let until = at("2027-01-02T00:00:00Z");
    let id = booking().id;
    let cases = [
        (held(), Change::Confirm, "confirm", json!({}), json!({"status": "confirmed"}), None),
        (
            held(),
            Change::Extend { expires_at: until },
            "extend",
            json!({"expires_at": "2027-01-02T00:00:00Z"}),
            json!({"status": "reserved"}),
            Some(until),
        ),
        (
            held(),
            Change::Reschedule(to),
            "reschedule",
            json!({"slot": {
                "location_id": "side-street",
                "start": "2027-01-16T09:00:00Z",
                "end": "2027-01-16T09:30:00Z",
                "service_id": "checkup",
            }}),
            json!({"status": "reserved"}),
            Some(at("2027-01-01T00:00:00Z")),
        ),
    ];
    for (state, change, action, own, answer, reserved_until) in cases {
        let (provider, received) = serve(move |_: &Received| json_answer(200, &answer)).await;
        let report = crate::test_util::attempt(&provider, &changing(state, change), 3).await;
        let yes = Acknowledgement { provider_reference: None, reserved_until };
        assert_eq!(report.outcome, AttemptOutcome::Acknowledged(yes), "{action}");
        let calls = received.lock().unwrap();
        assert_eq!(calls[0].line(), format!("POST /bookings/{id}/{action}"));
        assert_eq!(calls[0].headers["idempotency-key"], format!("{id}:2"));
        let mut body = json!({"booking_id": id.as_str(), "operation": 2, "attempt": 3});
        body.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        assert_eq!(calls[0].json(), body);
    }
}

#[tokio::test]
async fn a_change_may_be_declined_taken_for_later_or_left_open() {
    let declined = Rejection {
        code: DECLINED_BY_PROVIDER.to_owned(),
        message: None,
        provider_code: Some("too_late".to_owned()),
    };
    for (status, body, outcome) in [
        (409, json!({"code": "too_late"}), AttemptOutcome::Declined(declined)),
        (404, json!({}), AttemptOutcome::Unknown(AttemptError::HttpStatus(404))),
        (202, json!({}), AttemptOutcome::Unknown(AttemptError::AcceptedForLater)),
        (500, json!({}), AttemptOutcome::Unknown(AttemptError::HttpStatus(500))),
        (200, json!({"status": "cancelled"}), AttemptOutcome::Unknown(AttemptError::UnusableAnswer)),
    ] {
        let (provider, _received) = serve(move |_: &Received| json_answer(status, &body)).await;
        let booking = changing(State::Reserved { expires_at: Timestamp::EPOCH }, Change::Confirm);
        assert_eq!(crate::test_util::attempt(&provider, &booking, 1).await.outcome, outcome);
    }
}

#[tokio::test]
async fn a_look_up_tells_the_slot_and_the_operation() {
    let there = slot("main-street", "2027-01-15T09:00:00Z");
    let body = json!({
        "status": "confirmed", "provider_reference": "R-1", "operation": 2,
        "slot": {"location_id": "main-street", "start": there.start.to_string(),
                 "end": there.end.to_string(), "service_id": "checkup"},
    });
    let (provider, _received) = serve(move |_: &Received| json_answer(200, &body)).await;
    let outcome = gateway("127.0.0.1").look_up(&provider, &booking(), AMPLE_MS).await;
    let acknowledgement =
        Acknowledgement { provider_reference: Some("R-1".to_owned()), reserved_until: None };
    let found = Found { acknowledgement, slot: Some(there), operation: Some(2) };
    assert_eq!(outcome, LookUpOutcome::Found(found));
}

#[tokio::test]
async fn a_provider_is_told_by_the_messages_that_ask() {
    let id = booking().id;
    let to = slot("side-street", "2027-01-16T09:00:00Z");
    for (kind, line, key) in [
        (NotificationKind::Booked, "POST /bookings".to_owned(), id.to_string()),
        (
            NotificationKind::Moved { from: booking().slot },
            format!("POST /bookings/{id}/reschedule"),
            format!("{id}:3"),
        ),
        (NotificationKind::Cancelled, format!("POST /bookings/{id}/cancel"), format!("{id}:3")),
    ] {
        let (provider, received) = serve(|_: &Received| axum::http::StatusCode::NO_CONTENT).await;
        let is_cancel = kind == NotificationKind::Cancelled;
        let report = notify(&provider, &booking(), kind, to.clone()).await;
        assert_eq!(report, NotificationReport { error: None, retry_after_ms: None });
        let calls = received.lock().unwrap();
        let (call, body) = (&calls[0], calls[0].json());
        assert_eq!((call.line(), call.headers["idempotency-key"].to_str().unwrap()), (line, key.as_str()));
        assert_eq!((&body["booking_id"], &body["operation"]), (&json!(id.as_str()), &json!(3)));
        assert_eq!(body["attempt"], 2);
        // What is told is the slot since the version that it tells of, wherever the booking is now.
        assert_eq!(body["slot"]["location_id"], if is_cancel { Value::Null } else { json!("side-street") });
    }
}

#[tokio::test]
async fn what_was_not_taken_is_to_be_told_again() {
    let busy = axum::http::StatusCode::SERVICE_UNAVAILABLE;
    let (provider, _received) = serve(move |_: &Received| (busy, [("retry-after", "7")], "")).await;
    let report = notify(&provider, &booking(), NotificationKind::Booked, booking().slot).await;
    let error = Some(AttemptError::HttpStatus(503));
    assert_eq!(report, NotificationReport { error, retry_after_ms: Some(7_000) });

    let provider = raw("http", Vec::new(), false).await;
    let report = notify(&provider, &booking(), NotificationKind::Booked, booking().slot).await;
    assert_eq!(report.error, Some(AttemptError::ConnectionLost));
}

#[tokio::test]
async fn a_provider_without_a_url_is_not_called() {
    let mut provider = provider("http://127.0.0.1:1");
    provider.base_url = None;
    let report = notify(&provider, &booking(), NotificationKind::Booked, booking().slot).await;
    assert_eq!(report.error, Some(AttemptError::ConnectionFailed));
}
