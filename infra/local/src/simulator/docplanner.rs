//! Docplanner's callbacks over HTTP, as a clinic's system takes them: gates are answered yes or no and book
//! nothing, notifications change the books. All of them come to one path, `{simulator}/docplanner/{provider}`.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    behaviour::Operation,
    fields::Fields,
    ledger::{Key, Notice, Refusal},
    serving::{self, Answer, Arrival, Dialect, Work},
    state::Simulator,
};

const DIALECT: Dialect = Dialect { refuse, decline_status: 400, has_callbacks: false };
/// The `error_code` with which a gate refuses a slot that another booking has.
const TAKEN_ERROR_CODE: &str = "1";
/// Who books, cancels and moves.
const ACTORS: &[&str] = &["user", "doctor", "integration"];
const SECONDS_PER_MINUTE: i64 = 60;

/// What a message asks or tells.
enum Message {
    /// May it be? `booking_id` is that of the booking that would move.
    Gate {
        booking_id: Option<String>,
        slot: Value,
    },
    Notification(Vec<(String, Notice)>),
}

pub(super) async fn receive(
    State(simulator): State<Arc<Simulator>>,
    Path(provider_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let signature = serving::check_signature(&simulator, &provider_id, false, &headers, &body);
    // The parser's words are not passed on, since they may quote the patient.
    let envelope = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let name = envelope.get("name").and_then(Value::as_str);
    let operation = operation(name);
    let idempotency_key = serving::idempotency_key(&headers);
    let message = read(&headers, &envelope, operation);
    let booking_id = match &message {
        Ok(Message::Notification(notices)) => notices.last().map(|(id, _)| id.clone()),
        Ok(Message::Gate { booking_id, .. }) => booking_id.clone(),
        Err(_) => None,
    };
    let arrival = Arrival {
        location_id: envelope.pointer("/data/address/id").and_then(Value::as_str).map(str::to_owned),
        // A gate's message has no id, but the key begins with it.
        booking_id: booking_id.or_else(|| Some(idempotency_key.as_ref()?.split_once(':')?.0.to_owned())),
        operation_number: idempotency_key.as_ref().and_then(|key| key.rsplit_once(':')?.1.parse().ok()),
        idempotency_key,
        attempt: None,
        provider_id: provider_id.clone(),
        operation,
        operation_name: name.map(str::to_owned),
        signature,
    };
    let work = message
        .map(|message| work(provider_id, message))
        .map_err(|reason| Answer { status: 422, body: json!({"message": reason}) });
    serving::serve(simulator, arrival, DIALECT, work).await
}

fn operation(name: Option<&str>) -> Operation {
    match name {
        Some("slot-booking") => Operation::SlotBooking,
        Some("slot-booked") => Operation::SlotBooked,
        Some("booking-canceled") => Operation::BookingCanceled,
        Some("booking-moving") => Operation::BookingMoving,
        Some("booking-moved") => Operation::BookingMoved,
        Some(_) | None => Operation::Other,
    }
}

fn work(provider_id: String, message: Message) -> Work {
    Box::new(move |scene| {
        let refusal = scene.with_ledger(|ledger, terms, now| match message {
            Message::Gate { booking_id, slot } => {
                let key = Key { provider_id, booking_id: booking_id.unwrap_or_default() };
                (terms.one_per_slot && ledger.is_taken(&key, &slot, now)).then(Refusal::slot_taken)
            }
            Message::Notification(notices) => notices.into_iter().find_map(|(booking_id, notice)| {
                let key = Key { provider_id: provider_id.clone(), booking_id };
                ledger.tell(&key, &notice, now).err()
            }),
        })?;
        let answer = match refusal {
            Some(refusal) => refuse(&refusal),
            None => Answer { status: 200, body: json!({}) },
        };
        Some(answer.into())
    })
}

/// Docplanner's codes are numbers; what has none, such as a wrong signature, is no denial with a reason.
fn refuse(refusal: &Refusal) -> Answer {
    let slot_taken = Refusal::slot_taken();
    let code = refusal.code.as_deref();
    let code = if code == slot_taken.code.as_deref() { Some(TAKEN_ERROR_CODE) } else { code };
    let body = match code.and_then(|code| code.parse::<i64>().ok()) {
        Some(number) => json!({"error_code": number}),
        None => json!({"message": refusal.message}),
    };
    Answer { status: refusal.status, body }
}

/// Reads a message as strictly as its specification has it.
fn read(headers: &HeaderMap, envelope: &Value, operation: Operation) -> Result<Message, String> {
    if !serving::is_json(headers) {
        return Err("the content type must be application/json".to_owned());
    }
    let envelope = Fields::of(envelope)?;
    envelope.text("name")?;
    envelope.time("created_at")?;
    let data = envelope.object("data")?;
    let place = Place::read(&data)?;
    match operation {
        Operation::SlotBooking => {
            let request = data.object("visit_booking_request")?;
            patient(&request)?;
            Ok(Message::Gate { booking_id: None, slot: requested(&request, &place)? })
        }
        Operation::BookingMoving => {
            let old = data.object("canceling_booking")?;
            visit(&old, &place)?;
            for name in ["booked_at", "canceling_at"] {
                old.time(name)?;
            }
            for name in ["booked_by", "canceling_by"] {
                old.one_of(name, ACTORS)?;
            }
            let slot = requested(&data.object("creating_booking")?, &place)?;
            Ok(Message::Gate { booking_id: Some(old.text("id")?.to_owned()), slot })
        }
        Operation::SlotBooked => {
            let booking = data.object("visit_booking")?;
            patient(&booking)?;
            let (id, slot) = standing(&booking, &place)?;
            Ok(Message::Notification(vec![(id, Notice::Booked { slot })]))
        }
        Operation::BookingCanceled => {
            let (id, _) = cancelled(&data.object("visit_booking")?, &place)?;
            Ok(Message::Notification(vec![(id, Notice::Cancelled)]))
        }
        Operation::BookingMoved => {
            let (old_id, _) = cancelled(&data.object("old_visit_booking")?, &place)?;
            let (new_id, slot) = standing(&data.object("new_visit_booking")?, &place)?;
            // The original gives a moved visit another id; one that keeps its id has moved.
            let notices = if old_id == new_id {
                vec![(new_id, Notice::Moved { slot })]
            } else {
                vec![(old_id, Notice::Cancelled), (new_id, Notice::Booked { slot })]
            };
            Ok(Message::Notification(notices))
        }
        _ => Err("/name is none of the callbacks".to_owned()),
    }
}

/// Where and with whom.
struct Place {
    address_id: String,
    doctor_id: Option<String>,
}

impl Place {
    fn read(data: &Fields<'_>) -> Result<Self, String> {
        let facility = data.object("facility")?;
        facility.text("id")?;
        facility.text("name")?;
        let address_id = data.object("address")?.text("id")?.to_owned();
        let doctor = data.optional_object("doctor")?;
        let doctor_id = doctor.map(|doctor| doctor.text("id").map(str::to_owned)).transpose()?;
        Ok(Self { address_id, doctor_id })
    }
}

/// A visit's slot in the form of the books.
fn visit(fields: &Fields<'_>, place: &Place) -> Result<Value, String> {
    let (start, end) = (fields.time("start_at")?, fields.time("end_at")?);
    let duration_minutes = i64::from(fields.positive("duration")?);
    if start.duration_until(end).as_secs() != duration_minutes * SECONDS_PER_MINUTE {
        return Err("duration must be the minutes from start_at to end_at".to_owned());
    }
    fields.nullable("address_service")?;
    let service = fields.optional_object("address_service")?;
    let service_id = service.map(|service| service.text("id")).transpose()?;
    Ok(slot(place, start, end, service_id))
}

fn slot(place: &Place, start: Timestamp, end: Timestamp, service_id: Option<&str>) -> Value {
    let mut slot =
        json!({"location_id": place.address_id, "start": start.to_string(), "end": end.to_string()});
    for (name, value) in [("resource_id", place.doctor_id.as_deref()), ("service_id", service_id)] {
        if let Some(value) = value {
            slot[name] = json!(value);
        }
    }
    slot
}

/// A visit that is asked for.
fn requested(fields: &Fields<'_>, place: &Place) -> Result<Value, String> {
    fields.time("booking_at")?;
    fields.one_of("booking_by", ACTORS)?;
    visit(fields, place)
}

/// A visit that is booked: its id and slot.
fn standing(fields: &Fields<'_>, place: &Place) -> Result<(String, Value), String> {
    fields.one_of("status", &["booked"])?;
    fields.one_of("canceled_by", &[""])?;
    known(fields, place)
}

/// A visit that is no more: its id and slot.
fn cancelled(fields: &Fields<'_>, place: &Place) -> Result<(String, Value), String> {
    fields.one_of("status", &["canceled"])?;
    fields.one_of("canceled_by", ACTORS)?;
    fields.time("canceled_at")?;
    known(fields, place)
}

fn known(fields: &Fields<'_>, place: &Place) -> Result<(String, Value), String> {
    fields.one_of("booked_by", ACTORS)?;
    fields.time("booked_at")?;
    Ok((fields.text("id")?.to_owned(), visit(fields, place)?))
}

/// Only the name is asked for, since not every customer has the rest.
fn patient(fields: &Fields<'_>) -> Result<(), String> {
    fields.object("patient")?.text("name").map(drop)
}
