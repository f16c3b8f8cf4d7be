//! Docplanner's callbacks against real sockets: what goes out, and what counts as sent.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use holdfast_app::bookings::DECLINED_BY_PROVIDER;
use holdfast_app::ports::{ProviderCall, ProviderGateway};
use holdfast_app::settings::Protocol;
use holdfast_domain::{
    Acknowledgement, AttemptError, ConfirmationMode, LookUpOutcome, Personal, Rejection, State, Timestamp,
    Withdrawal,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::test_util::{
    self, AMPLE_MS, BRIEF_MS, Received, SECRET, attempt, compensate, gateway, json_answer, notify, raw,
    serve, slot,
};

fn being_booked() -> Booking {
    test_util::being_booked().in_mode(ConfirmationMode::RealTime)
}

fn booking() -> Booking {
    test_util::booking().in_mode(ConfirmationMode::RealTime)
}

fn changing(state: State, change: Change) -> Booking {
    test_util::changing(state, change).in_mode(ConfirmationMode::RealTime)
}

async fn clinic(status: u16, body: Value) -> (ProviderSettings, Arc<Mutex<Vec<Received>>>) {
    let (provider, received) = serve(move |_: &Received| json_answer(status, &body)).await;
    (over_docplanner(provider), received)
}

fn over_docplanner(provider: ProviderSettings) -> ProviderSettings {
    ProviderSettings {
        protocol: Protocol::Docplanner,
        confirmation: ConfirmationMode::RealTime,
        display_name: "Demo clinic".to_owned(),
        ..provider
    }
}

fn through() -> AttemptOutcome {
    AttemptOutcome::Acknowledged(Acknowledgement { provider_reference: None, reserved_until: None })
}

fn patient() -> Value {
    json!({
        "name": "Ada", "surname": "Lovelace", "email": "ada@example.com", "phone": null, "birth_date": null,
    })
}

/// The body's own times, which must be the time of the call, are taken out of it.
fn without_now(mut body: Value, pointers: &[&str]) -> Value {
    for pointer in pointers {
        let time = body.pointer_mut(pointer).unwrap().take();
        Timestamp::parse_rfc3339(time.as_str().unwrap()).unwrap();
    }
    body
}

#[tokio::test]
async fn the_gate_is_asked_for_a_booking() {
    let (mut provider, received) = clinic(204, json!({})).await;
    provider.signing_secret = Some(SecretString::from(SECRET.to_owned()));
    let mut booking = being_booked();
    booking.slot.resource_id = Some("dr-grey".to_owned());
    assert_eq!(attempt(&provider, &booking, 2).await.outcome, through());

    let calls = received.lock().unwrap();
    let [call] = calls.as_slice() else { panic!("one call was made") };
    let id = booking.id.as_str();
    assert_eq!((&call.method, call.path.as_str()), (&Method::POST, "/base"));
    assert_eq!(call.headers["content-type"], "application/json");
    assert_eq!(call.headers["idempotency-key"], format!("{id}:1"));
    assert_eq!(call.headers["webhook-id"], format!("{id}:1:2"));
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&call.body, &call.headers).unwrap();
    assert_eq!(
        without_now(call.json(), &["/created_at", "/data/visit_booking_request/booking_at"]),
        json!({
            "name": "slot-booking",
            "data": {
                "facility": {"id": "demo-clinic", "name": "Demo clinic"},
                "doctor": {"id": "dr-grey"},
                "address": {"id": "main-street"},
                "visit_booking_request": {
                    "booking_at": null,
                    "booking_by": "user",
                    "start_at": "2027-01-15T09:00:00Z",
                    "end_at": "2027-01-15T09:30:00Z",
                    "duration": 30,
                    "address_service": {"id": "checkup"},
                    "patient": patient(),
                    "comment": "window seat",
                    "signature": id,
                },
            },
            "created_at": null,
        })
    );
}

#[tokio::test]
async fn the_gate_is_asked_for_a_move() {
    let (provider, received) = clinic(200, json!({})).await;
    let to = slot("side-street", "2027-01-16T09:00:00Z");
    let booking = changing(State::Confirmed, Change::Reschedule(to));
    assert_eq!(attempt(&provider, &booking, 1).await.outcome, through());

    let calls = received.lock().unwrap();
    let id = booking.id.as_str();
    assert_eq!(calls[0].headers["idempotency-key"], format!("{id}:2"));
    let now = ["/created_at", "/data/canceling_booking/canceling_at", "/data/creating_booking/booking_at"];
    assert_eq!(
        without_now(calls[0].json(), &now),
        json!({
            "name": "booking-moving",
            "data": {
                "facility": {"id": "demo-clinic", "name": "Demo clinic"},
                "address": {"id": "side-street"},
                "canceling_booking": {
                    "id": id,
                    "start_at": "2027-01-15T09:00:00Z",
                    "end_at": "2027-01-15T09:30:00Z",
                    "duration": 30,
                    "address_service": {"id": "checkup"},
                    "booked_by": "user",
                    "canceling_by": "user",
                    "booked_at": "2026-12-01T08:00:00Z",
                    "canceling_at": null,
                },
                "creating_booking": {
                    "booking_at": null,
                    "booking_by": "user",
                    "start_at": "2027-01-16T09:00:00Z",
                    "end_at": "2027-01-16T09:30:00Z",
                    "duration": 30,
                    "address_service": {"id": "checkup"},
                    "patient": patient(),
                    "comment": "window seat",
                    "signature": id,
                },
            },
            "created_at": null,
        })
    );
}

#[tokio::test]
async fn a_no_is_told_in_the_users_words() {
    let (mut provider, _received) = clinic(422, json!({"error_code": 7})).await;
    provider.decline_messages.insert("7".to_owned(), "Please call the clinic.".to_owned());
    let rejection = Rejection {
        code: DECLINED_BY_PROVIDER.to_owned(),
        message: Some("Please call the clinic.".to_owned()),
        provider_code: Some("7".to_owned()),
    };
    let report = attempt(&provider, &being_booked(), 1).await;
    assert_eq!(report.outcome, AttemptOutcome::Declined(rejection));
}

#[tokio::test]
async fn a_silent_gate_sent_nothing() {
    let limited = async |provider: &ProviderSettings, limit_ms: u64| {
        let booking = &being_booked();
        let call = ProviderCall { provider, booking, operation_number: 1, attempt: 1, limit_ms };
        gateway("127.0.0.1").attempt(call).await.outcome
    };
    let hangs = over_docplanner(raw("http", Vec::new(), true).await);
    assert_eq!(limited(&hangs, BRIEF_MS).await, AttemptOutcome::NotSent(AttemptError::TimedOut));

    let breaks = over_docplanner(raw("http", Vec::new(), false).await);
    assert_eq!(limited(&breaks, AMPLE_MS).await, AttemptOutcome::NotSent(AttemptError::ConnectionLost));

    let busy = StatusCode::SERVICE_UNAVAILABLE;
    let (fails, _received) = serve(move |_: &Received| (busy, [("retry-after", "7")], "")).await;
    let report = attempt(&over_docplanner(fails), &being_booked(), 1).await;
    assert_eq!(report.outcome, AttemptOutcome::NotSent(AttemptError::HttpStatus(503)));
    assert_eq!(report.retry_after_ms, Some(7_000));
}

#[tokio::test]
async fn what_has_no_callback_is_refused_without_a_call() {
    let (provider, received) = clinic(200, json!({})).await;
    let until = Timestamp::EPOCH;
    let cancel = Change::Cancel(Withdrawal { reason: None, note: None });
    for change in [Change::Confirm, Change::Extend { expires_at: until }, cancel] {
        let report = attempt(&provider, &changing(State::Confirmed, change), 1).await;
        let AttemptOutcome::Declined(rejection) = report.outcome else { panic!("{report:?}") };
        assert_eq!(rejection.code, NOT_SUPPORTED);
    }
    let looked_up = gateway("127.0.0.1").look_up(&provider, &booking(), AMPLE_MS).await;
    assert_eq!(looked_up, LookUpOutcome::Unsupported);
    let compensated = compensate(&provider, &booking()).await;
    assert_eq!(compensated.outcome, CompensationOutcome::Declined, "nobody here can undo it");
    // A booking of another protocol that had this name.
    let report = attempt(&provider, &test_util::being_booked(), 1).await;
    assert_eq!(report.outcome, AttemptOutcome::NotSent(AttemptError::UnusableAnswer));
    assert!(received.lock().unwrap().is_empty());
}

/// A visit on the slot of version 2, as the notifications of it tell it.
fn visit(id: &str, day: &str) -> Value {
    json!({
        "id": id,
        "status": "booked",
        "start_at": format!("{day}T09:00:00Z"),
        "end_at": format!("{day}T09:30:00Z"),
        "duration": 30,
        "address_service": {"id": "checkup"},
        "booked_by": "user",
        "canceled_by": "",
        "booked_at": "2026-12-01T08:00:00Z",
        "patient": patient(),
        "comment": "window seat",
        "signature": id,
    })
}

fn cancelled(mut visit: Value) -> Value {
    visit["status"] = json!("canceled");
    visit["canceled_by"] = json!("user");
    visit["canceled_at"] = json!("2026-12-02T08:00:00Z");
    visit
}

#[tokio::test]
async fn a_provider_is_told_of_what_is_booked_moved_and_cancelled() {
    let booking = booking();
    let id = booking.id.as_str();
    let from = slot("main-street", "2027-01-14T09:00:00Z");
    let (old, new) = (visit(id, "2027-01-14"), visit(id, "2027-01-16"));
    for (kind, name, own) in [
        (NotificationKind::Booked, "slot-booked", json!({"visit_booking": new.clone()})),
        (
            NotificationKind::Moved { from },
            "booking-moved",
            json!({"old_visit_booking": cancelled(old), "new_visit_booking": new.clone()}),
        ),
        (NotificationKind::Cancelled, "booking-canceled", json!({"visit_booking": cancelled(new.clone())})),
    ] {
        let (provider, received) = clinic(200, json!({})).await;
        let told = notify(&provider, &booking, kind, slot("side-street", "2027-01-16T09:00:00Z")).await;
        assert_eq!(told, NotificationReport { error: None, retry_after_ms: None });

        let calls = received.lock().unwrap();
        assert_eq!((&calls[0].method, calls[0].path.as_str()), (&Method::POST, "/base"));
        assert_eq!(calls[0].headers["idempotency-key"], format!("{id}:3"));
        let mut data = json!({
            "facility": {"id": "demo-clinic", "name": "Demo clinic"},
            "address": {"id": "side-street"},
        });
        data.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let expected = json!({"name": name, "data": data, "created_at": "2026-12-02T08:00:00Z"});
        assert_eq!(calls[0].json(), expected);
    }
}

#[tokio::test]
async fn what_was_not_taken_is_to_be_told_again() {
    for (status, error) in [
        (400, AttemptError::HttpStatus(400)),
        (401, AttemptError::Misconfigured(401)),
        (500, AttemptError::HttpStatus(500)),
    ] {
        let (provider, _received) = clinic(status, json!({"error_code": 7})).await;
        let told = notify(&provider, &booking(), NotificationKind::Booked, booking().slot).await;
        assert_eq!(told.error, Some(error));
    }
    let breaks = over_docplanner(raw("http", Vec::new(), false).await);
    let told = notify(&breaks, &booking(), NotificationKind::Booked, booking().slot).await;
    assert_eq!(told.error, Some(AttemptError::ConnectionLost));
}

#[tokio::test]
async fn names_are_split_and_what_is_unknown_is_left_out() {
    for (name, first, last) in [
        ("Ada", "Ada", ""),
        ("Juan Carlos  Onetti", "Juan Carlos", "Onetti"),
        (" 山田 太郎 ", "山田", "太郎"),
    ] {
        let mut booking = being_booked();
        let mut customer = booking.request.customer.take().unwrap().expose().clone();
        customer.name = name.to_owned();
        booking.request.customer = Some(Personal::new(customer));
        let (provider, received) = clinic(200, json!({})).await;
        attempt(&provider, &booking, 1).await;
        let body = received.lock().unwrap()[0].json();
        let patient = &body["data"]["visit_booking_request"]["patient"];
        assert_eq!((&patient["name"], &patient["surname"]), (&json!(first), &json!(last)));
    }
    let mut erased = being_booked();
    erased.request.customer = None;
    erased.request.notes = None;
    erased.slot.service_id = None;
    let (provider, received) = clinic(200, json!({})).await;
    attempt(&provider, &erased, 1).await;
    let body = received.lock().unwrap()[0].json();
    let request = body["data"]["visit_booking_request"].as_object().unwrap();
    assert!(!request.contains_key("patient") && !request.contains_key("comment"));
    assert_eq!(request["address_service"], Value::Null);
}
