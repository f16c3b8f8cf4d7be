//! OCTO Core over HTTP, as a supplier of tours serves it under `{simulator}/octo/{provider}`: what a call asks for,
//! and what it does. Bodies are read in [`requests`] and written in [`booking`], what can be booked is in
//! [`product`].
//!
//! There are no call-backs: what is put off shows as `PENDING` until it is decided.

mod booking;
mod product;
mod requests;

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::{
    product::Product,
    requests::{Request, Reservation, Update},
};
use super::{
    behaviour::Operation,
    ledger::{Change, Key, Ledger, Order, Outcome, Refusal, Status, Terms, View},
    opening::Opening,
    serving::{self, Answer, Arrival, Dialect, Effect, Scene, Work},
    state::Simulator,
};

const DIALECT: Dialect = Dialect { refuse, decline_status: 400, has_callbacks: false };
const BAD_REQUEST: &str = "BAD_REQUEST";
const UNPROCESSABLE_ENTITY: &str = "UNPROCESSABLE_ENTITY";
const INVALID_BOOKING_UUID: &str = "INVALID_BOOKING_UUID";
const INVALID_AVAILABILITY_ID: &str = "INVALID_AVAILABILITY_ID";
const SECONDS_PER_MINUTE: u32 = 60;
/// The number of the operation that makes a booking.
const BOOKING_NUMBER: u64 = 1;

/// A no in OCTO's own words, which nearly all have this status.
fn error(code: &str, message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST.as_u16(), code, message)
}

/// One call as it arrived.
struct Call {
    provider_id: String,
    operation: Operation,
    operation_name: Option<String>,
    /// From the path; a reservation has it in the body.
    uuid: Option<String>,
    headers: HeaderMap,
    body: Bytes,
}

type Shared = State<Arc<Simulator>>;

pub(super) async fn availability(
    State(simulator): Shared,
    Path(provider_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = Operation::Availability;
    serve(simulator, Call { provider_id, operation, operation_name: None, uuid: None, headers, body }).await
}

pub(super) async fn reserve(
    State(simulator): Shared,
    Path(provider_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = Operation::Book;
    serve(simulator, Call { provider_id, operation, operation_name: None, uuid: None, headers, body }).await
}

pub(super) async fn look_up(
    State(simulator): Shared,
    Path((provider_id, uuid)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let (operation, uuid, body) = (Operation::LookUp, Some(uuid), Bytes::new());
    serve(simulator, Call { provider_id, operation, operation_name: None, uuid, headers, body }).await
}

pub(super) async fn update(
    State(simulator): Shared,
    Path((provider_id, uuid)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (operation, uuid) = (Operation::Reschedule, Some(uuid));
    serve(simulator, Call { provider_id, operation, operation_name: None, uuid, headers, body }).await
}

pub(super) async fn change(
    State(simulator): Shared,
    Path((provider_id, uuid, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = match name.as_str() {
        "confirm" => Operation::Confirm,
        "extend" => Operation::Extend,
        "cancel" => Operation::Cancel,
        _ => Operation::Other,
    };
    let (operation_name, uuid) = (Some(name), Some(uuid));
    serve(simulator, Call { provider_id, operation, operation_name, uuid, headers, body }).await
}

async fn serve(simulator: Arc<Simulator>, call: Call) -> Response {
    let is_read = call.operation == Operation::LookUp;
    let signature =
        serving::check_signature(&simulator, &call.provider_id, is_read, &call.headers, &call.body);
    let body = if is_read { Value::Null } else { serde_json::from_slice(&call.body).unwrap_or_default() };
    let said = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let uuid = call.uuid.clone().or_else(|| said("uuid"));
    let key = Key { provider_id: call.provider_id.clone(), booking_id: uuid.clone().unwrap_or_default() };
    let request = requests::read(call.operation, &call.headers, &body).map_err(|refusal| refuse(&refusal));
    let arrival = Arrival {
        provider_id: call.provider_id,
        operation: call.operation,
        operation_name: call.operation_name,
        booking_id: uuid,
        // There are no locations; the product decides which behaviour of a location a call meets.
        location_id: said("productId").or_else(|| simulator.location_id(&key)),
        idempotency_key: serving::idempotency_key(&call.headers),
        operation_number: None,
        attempt: None,
        signature,
    };
    serving::serve(simulator, arrival, DIALECT, request.map(|request| work(key, request))).await
}

/// What came of a call, and the number under which it is decided later.
type Said = Result<(Box<View>, Option<u64>), Refusal>;

fn work(key: Key, request: Request) -> Work {
    Box::new(move |scene| {
        let opening = scene.simulator.opening(&key.provider_id, Opening::TOURS);
        if let Request::Availability(query) = request {
            let is_empty = scene.behaviour.availability_none;
            let held = scene.with_ledger(|ledger, _, now| ledger.held_units(&key.provider_id, now))?;
            let slots = if is_empty { Vec::new() } else { query.slots(opening, &held) };
            return Some(Answer { status: 200, body: json!(slots) }.into());
        }
        let said = carry_out(scene, &key, request)?;
        Some(match said {
            Ok((view, number)) => {
                let body = booking::shown(&view, opening.utc_offset_minutes);
                let undecided = number.map(|number| (key, number));
                Effect { answer: Answer { status: 200, body }, undecided }
            }
            Err(refusal) => refuse(&refusal).into(),
        })
    })
}

/// `None` if the books were emptied since the call came.
fn carry_out(scene: &Scene, key: &Key, request: Request) -> Option<Said> {
    let is_repetition_refused = scene.behaviour.repeated_uuid_error;
    scene.with_ledger(|ledger, terms, now| match request {
        Request::Reserve(reservation) => {
            reserve_at(ledger, key, &reservation, is_repetition_refused, terms, now)
        }
        Request::Confirm { reseller_reference } => {
            confirm(ledger, key, reseller_reference.as_deref(), terms, now)
        }
        Request::Extend { minutes } => {
            let change = Change::Extend { expires_at: in_minutes(now, minutes) };
            said(ledger.change(key, None, &change, terms, now))
        }
        Request::Cancel { reason } => cancel(ledger, key, reason, terms, now),
        Request::Update(update) => update_at(ledger, key, update, terms, now),
        Request::LookUp | Request::Availability(_) => found(ledger, key, now).map(|view| (view, None)),
    })
}

fn found(ledger: &Ledger, key: &Key, now: Timestamp) -> Result<Box<View>, Refusal> {
    ledger.find(key, now).ok_or_else(Refusal::unknown_booking)
}

fn said(outcome: Outcome) -> Said {
    match outcome {
        Outcome::Made(view) | Outcome::Done(view) => Ok((view, None)),
        Outcome::Undecided(view, number) => Ok((view, Some(number))),
        Outcome::Refused(refusal) => Err(refusal),
    }
}

fn in_minutes(now: Timestamp, minutes: u32) -> Timestamp {
    let duration = SignedDuration::from_secs(i64::from(minutes) * i64::from(SECONDS_PER_MINUTE));
    now.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn reserve_at(
    ledger: &mut Ledger,
    key: &Key,
    reservation: &Reservation,
    is_repetition_refused: bool,
    terms: &Terms,
    now: Timestamp,
) -> Said {
    let product = Product { id: &reservation.product_id, option_id: &reservation.option_id };
    let slot = product.slot_of(&reservation.availability_id).ok_or_else(unknown_availability)?;
    if let Some(view) = ledger.find(key, now).filter(|_| !terms.forget_keys) {
        if is_repetition_refused {
            return Err(error(INVALID_BOOKING_UUID, "The uuid was already used, missing or invalid."));
        }
        // Whatever has become of it, a booking that moved on included.
        return Ok((view, None));
    }
    let terms = Terms {
        expires_in_seconds: terms
            .expires_in_seconds
            .or(reservation.expiration_minutes.map(|minutes| minutes.saturating_mul(SECONDS_PER_MINUTE))),
        ..terms.clone()
    };
    let details = reservation.details(&key.booking_id);
    let order = Order { number: BOOKING_NUMBER, slot, hold: true, details };
    said(ledger.book(key, &order, &terms, now))
}

fn unknown_availability() -> Refusal {
    error(INVALID_AVAILABILITY_ID, "There is no such availability of this product and option.")
}

fn confirm(
    ledger: &mut Ledger,
    key: &Key,
    reseller_reference: Option<&str>,
    terms: &Terms,
    now: Timestamp,
) -> Said {
    let view = found(ledger, key, now)?;
    // What is confirmed, or about to be, is shown once more.
    if view.status == Status::Confirmed || booking::is_pending(&view) {
        return Ok((view, None));
    }
    let (view, number) = said(ledger.change(key, None, &Change::Confirm, terms, now))?;
    let mut details = view.entry.details.clone();
    details["reseller_reference"] = json!(reseller_reference);
    ledger.set_details(key, details);
    Ok((found(ledger, key, now)?, number))
}

fn cancel(ledger: &mut Ledger, key: &Key, reason: Option<String>, terms: &Terms, now: Timestamp) -> Said {
    // A supplier does not remember what it never had, so that a later reservation under the uuid is made.
    let view = found(ledger, key, now)?;
    match view.status {
        Status::Pending | Status::Confirmed | Status::Reserved => {
            said(ledger.change(key, None, &Change::Cancel { reason }, terms, now))
        }
        Status::Cancelled | Status::Rejected | Status::Expired => {
            Err(error(UNPROCESSABLE_ENTITY, "This booking cannot be cancelled."))
        }
    }
}

fn update_at(ledger: &mut Ledger, key: &Key, update: Update, terms: &Terms, now: Timestamp) -> Said {
    let view = found(ledger, key, now)?;
    let known = |name: &str| view.entry.slot.get(name).and_then(Value::as_str).unwrap_or_default();
    let product_id = update.product_id.as_deref().unwrap_or_else(|| known("service_id"));
    let option_id = update.option_id.as_deref().unwrap_or_else(|| known("resource_id"));
    let id = update.availability_id.as_deref().unwrap_or_else(|| known("availability_id"));
    let slot = Product { id: product_id, option_id }.slot_of(id).ok_or_else(unknown_availability)?;
    // Also when nothing moves, since it says whether the booking can be changed at all.
    let (view, number) = said(ledger.change(key, None, &Change::Reschedule { slot }, terms, now))?;
    let mut details = view.entry.details.clone();
    if let Some(unit_items) = update.unit_items {
        details["unit_items"] = requests::unit_items(&unit_items, &key.booking_id);
    }
    if let Some(reference) = update.reseller_reference {
        details["reseller_reference"] = json!(reference);
    }
    ledger.set_details(key, details);
    if let (Some(minutes), Status::Reserved, None) = (update.expiration_minutes, view.status, number) {
        let change = Change::Extend { expires_at: in_minutes(now, minutes) };
        said(ledger.change(key, None, &change, terms, now))?;
    }
    Ok((found(ledger, key, now)?, number))
}

/// OCTO's words for a refusal of the books; what is worded in OCTO's own, or by whoever set a behaviour, stays.
fn refuse(refusal: &Refusal) -> Answer {
    let bad_request = StatusCode::BAD_REQUEST.as_u16();
    let (status, code) = match refusal.code.as_deref() {
        None => (refusal.status, "INTERNAL_SERVER_ERROR"),
        Some("unknown_booking" | "hold_expired") => (bad_request, INVALID_BOOKING_UUID),
        Some("invalid_signature") => (refusal.status, "UNAUTHORIZED"),
        Some(
            "already_confirmed" | "booking_cancelled" | "expires_at_passed" | "not_decided" | "not_reserved"
            | "rejected" | "slot_taken",
        ) => (bad_request, UNPROCESSABLE_ENTITY),
        Some(code) => (refusal.status, code),
    };
    Answer { status, body: json!({"error": code, "errorMessage": refusal.message}) }
}
