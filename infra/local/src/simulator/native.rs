//! The native protocol over HTTP: what a call about a booking asks for, and the words of its answer.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    behaviour::Operation,
    ledger::{Change, Key, Order, Outcome, Refusal, View},
    serving::{self, Answer, Arrival, Dialect, Effect, Work},
    state::Simulator,
};

pub(super) const DIALECT: Dialect = Dialect { refuse, decline_status: 409, has_callbacks: true };

/// One call of the native protocol as it arrived.
struct Call {
    provider_id: String,
    operation: Operation,
    /// The last part of the path of a change, such as `cancel`.
    operation_name: Option<String>,
    /// From the path; a booking has its id in the body.
    booking_id: Option<String>,
    headers: HeaderMap,
    body: Bytes,
}

/// The part of a body that the simulator reads. The customer, the notes and the rest are read over.
#[derive(Debug, Default, Deserialize)]
struct RequestBody {
    booking_id: Option<String>,
    operation: Option<u64>,
    slot: Option<Value>,
    #[serde(default)]
    units: Vec<Units>,
    #[serde(default)]
    hold: bool,
    expires_at: Option<String>,
    attempt: Option<u64>,
}

/// So many of one kind.
#[derive(Debug, Deserialize)]
struct Units {
    quantity: u32,
}

/// A call that a correct provider would work on.
enum Request {
    Book(Key, Order),
    Change(Key, u64, Change),
    LookUp(Key),
}

pub(super) async fn book(
    State(simulator): State<Arc<Simulator>>,
    Path(provider_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = Operation::Book;
    serve(simulator, Call { provider_id, operation, operation_name: None, booking_id: None, headers, body })
        .await
}

pub(super) async fn look_up(
    State(simulator): State<Arc<Simulator>>,
    Path((provider_id, booking_id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let call = Call {
        provider_id,
        operation: Operation::LookUp,
        operation_name: None,
        booking_id: Some(booking_id),
        headers,
        body: Bytes::new(),
    };
    serve(simulator, call).await
}

pub(super) async fn change(
    State(simulator): State<Arc<Simulator>>,
    Path((provider_id, booking_id, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = match name.as_str() {
        "confirm" => Operation::Confirm,
        "extend" => Operation::Extend,
        "cancel" => Operation::Cancel,
        "reschedule" => Operation::Reschedule,
        _ => Operation::Other,
    };
    let booking_id = Some(booking_id);
    serve(simulator, Call { provider_id, operation, operation_name: Some(name), booking_id, headers, body })
        .await
}

async fn serve(simulator: Arc<Simulator>, call: Call) -> Response {
    let body = read_body(&call);
    let is_read = call.operation == Operation::LookUp;
    let signature =
        serving::check_signature(&simulator, &call.provider_id, is_read, &call.headers, &call.body);
    let known = body.as_ref().ok();
    let arrival = Arrival {
        location_id: location_of(&simulator, &call, known),
        booking_id: call.booking_id.clone().or_else(|| known?.booking_id.clone()),
        idempotency_key: serving::idempotency_key(&call.headers),
        operation_number: known.and_then(|body| body.operation),
        attempt: known.and_then(|body| body.attempt),
        provider_id: call.provider_id.clone(),
        operation: call.operation,
        operation_name: call.operation_name.clone(),
        signature,
    };
    let request = body.and_then(|body| understand(&call, &body)).map_err(|refusal| refuse(&refusal));
    serving::serve(simulator, arrival, DIALECT, request.map(work)).await
}

fn work(request: Request) -> Work {
    Box::new(move |scene| {
        let (key, outcome) = scene.with_ledger(|ledger, terms, now| match request {
            Request::Book(key, order) => {
                let outcome = ledger.book(&key, &order, terms, now);
                (key, outcome)
            }
            Request::Change(key, number, change) => {
                let outcome = ledger.change(&key, Some(number), &change, terms, now);
                (key, outcome)
            }
            Request::LookUp(key) => {
                let outcome = ledger.look_up(&key, now);
                (key, outcome)
            }
        })?;
        Some(effect(key, &outcome))
    })
}

fn effect(key: Key, outcome: &Outcome) -> Effect {
    match outcome {
        Outcome::Made(view) => shown(201, view).into(),
        Outcome::Done(view) => shown(200, view).into(),
        Outcome::Undecided(view, number) => {
            Effect { answer: shown(202, view), undecided: Some((key, *number)) }
        }
        Outcome::Refused(refusal) => refuse(refusal).into(),
    }
}

fn shown(status: u16, view: &View) -> Answer {
    let body = json!({
        "booking_id": view.booking_id,
        "status": view.status,
        "slot": view.entry.slot,
        "provider_reference": view.entry.provider_reference,
        "expires_at": view.entry.expires_at.map(|at| at.to_string()),
        "operation": view.operation,
    });
    Answer { status, body }
}

pub(super) fn refuse(refusal: &Refusal) -> Answer {
    let mut body = json!({"message": refusal.message});
    if let Some(code) = &refusal.code {
        body = json!({"code": code, "message": refusal.message});
    }
    Answer { status: refusal.status, body }
}

fn read_body(call: &Call) -> Result<RequestBody, Refusal> {
    if call.operation == Operation::LookUp {
        return Ok(RequestBody::default());
    }
    // The parser's words are not passed on, since they may quote the customer.
    serde_json::from_slice(&call.body)
        .map_err(|_| invalid("The body does not have the form of the protocol."))
}

pub(super) fn invalid(message: &str) -> Refusal {
    Refusal::new(400, "invalid_request", message)
}

fn location_of(simulator: &Simulator, call: &Call, body: Option<&RequestBody>) -> Option<String> {
    let asked_for = body.and_then(|body| body.slot.as_ref()?.get("location_id")?.as_str());
    asked_for.map(str::to_owned).or_else(|| {
        let key = Key { provider_id: call.provider_id.clone(), booking_id: call.booking_id.clone()? };
        simulator.location_id(&key)
    })
}

/// Checks a call as a correct provider would, and says what it asks for.
fn understand(call: &Call, body: &RequestBody) -> Result<Request, Refusal> {
    if call.operation == Operation::Other {
        return Err(Refusal::new(404, "unknown_operation", "This provider does not know the operation."));
    }
    let id = match &call.booking_id {
        Some(id) => id.clone(),
        None => body.booking_id.clone().ok_or_else(|| invalid("booking_id is missing."))?,
    };
    if body.booking_id.as_ref().is_some_and(|in_body| *in_body != id) {
        return Err(invalid("booking_id is another than in the path."));
    }
    let key = Key { provider_id: call.provider_id.clone(), booking_id: id };
    if call.operation == Operation::LookUp {
        return Ok(Request::LookUp(key));
    }
    let number = body.operation.ok_or_else(|| invalid("operation, a number, is missing."))?;
    let expected_key = match call.operation {
        Operation::Book => key.booking_id.clone(),
        _ => format!("{}:{number}", key.booking_id),
    };
    if serving::idempotency_key(&call.headers).as_deref() != Some(expected_key.as_str()) {
        let message = "The Idempotency-Key must be the booking id, and of a change, id:operation.";
        return Err(Refusal::new(400, "wrong_idempotency_key", message));
    }
    let slot = || body.slot.clone().filter(Value::is_object).ok_or_else(|| invalid("slot is missing."));
    let change = match call.operation {
        Operation::Confirm => Change::Confirm,
        Operation::Extend => {
            let expires_at = body.expires_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
            let expires_at =
                expires_at.ok_or_else(|| invalid("expires_at, an RFC 3339 time, is missing."))?;
            Change::Extend { expires_at }
        }
        Operation::Reschedule => Change::Reschedule { slot: slot()? },
        Operation::Cancel => Change::Cancel { reason: None },
        _ => {
            let units = body.units.iter().map(|units| units.quantity).fold(0, u32::saturating_add).max(1);
            let order = Order { number, slot: slot()?, hold: body.hold, details: json!({"units": units}) };
            return Ok(Request::Book(key, order));
        }
    };
    Ok(Request::Change(key, number, change))
}
