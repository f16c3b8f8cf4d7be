//! The published schemas of events (`infra/events`) say what events are: every body that the code writes is
//! valid, and nothing is in a body that its schema does not name, nor in a schema what no body has.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_app::manage;
use holdfast_app::test_util::MemorySettings;
use holdfast_app::view::event_body;
use holdfast_app::webhook::{DisabledReason, WebhookEndpoint};
use holdfast_domain::{
    AttemptError, Booking, Cancellation, CancellationReason, Cause, Event, EventId, EventType, HistoryEntry,
    Patience, Phase, Refusal, RefusalReason, Rejection, Slot, State, Status, Withdrawal, events_since,
};
use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

use crate::contract::fixtures::{after, cancelled, claimed, confirmed, endpoint, now, tenant, waiting};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/events");
const DEFINITIONS: &str = "definitions";
const ENDPOINT_TYPES: [&str; 2] = ["webhook.exhausted", "webhook_endpoint.disabled"];

/// Every file in the folder, by its name without the ending.
fn files() -> BTreeMap<String, Value> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().strip_suffix(".json").unwrap().to_owned();
        (name, serde_json::from_str(&text).unwrap())
    };
    std::fs::read_dir(FOLDER).unwrap().map(read).collect()
}

/// The same schema, which refuses members that it does not name.
fn strict(name: &str, mut schema: Value) -> Value {
    if name != DEFINITIONS {
        schema["additionalProperties"] = json!(false);
        schema["properties"]["data"]["unevaluatedProperties"] = json!(false);
        return schema;
    }
    for (name, definition) in schema["$defs"].as_object_mut().unwrap() {
        // Types of event may add members to these two.
        let may_grow = ["booking", "webhook_endpoint"].contains(&name.as_str());
        if definition.get("properties").is_some() && !may_grow {
            definition["additionalProperties"] = json!(false);
        }
    }
    schema
}

/// A validator for each type of event.
fn validators(change: impl Fn(&str, Value) -> Value) -> BTreeMap<String, Validator> {
    let schemas: BTreeMap<String, Value> = files()
        .into_iter()
        .map(|(name, schema)| {
            let schema = change(&name, schema);
            (name, schema)
        })
        .collect();
    let definitions = schemas[DEFINITIONS].clone();
    let uri = definitions["$id"].as_str().unwrap().to_owned();
    let registry = Registry::new().add(&uri, definitions).unwrap().prepare().unwrap();
    let validator = |schema: &Value| {
        jsonschema::options().with_registry(&registry).should_validate_formats(true).build(schema).unwrap()
    };
    let types = schemas.iter().filter(|(name, _)| name.as_str() != DEFINITIONS);
    types.map(|(name, schema)| (name.clone(), validator(schema))).collect()
}

fn all_types() -> BTreeSet<String> {
    let bookings = EventType::ALL.iter().map(|event_type| event_type.as_str());
    bookings.chain(ENDPOINT_TYPES).map(str::to_owned).collect()
}

/// A booking with all or none of what may be left out.
fn booking(is_full: bool) -> Booking {
    let text = |value: &str| is_full.then(|| value.to_owned());
    let mut booking = claimed("schema", Patience::Background).booking;
    booking.request.reference = text("order-1");
    booking.request.metadata = text("7").map(|value| ("cart".to_owned(), value)).into_iter().collect();
    booking.provider_reference = text("p-1");
    booking.slot.resource_id = text("room-1");
    booking.slot.service_id = text("visit");
    if let Some(operation) = &mut booking.operation {
        operation.last_error = is_full.then_some(AttemptError::HttpStatus(503));
        operation.phase = Phase::Waiting { next_attempt_at: now() };
    }
    booking
}

fn rejection(is_full: bool) -> Rejection {
    let text = |value: &str| is_full.then(|| value.to_owned());
    Rejection { code: "slot_taken".to_owned(), message: text("Too late"), provider_code: text("17") }
}

fn withdrawal(is_full: bool) -> Withdrawal {
    let text = |value: &str| is_full.then(|| value.to_owned());
    Withdrawal { reason: text("ill"), note: text("Get well soon") }
}

fn cancellations(is_full: bool) -> Vec<State> {
    let by_system = CancellationReason::ALL.map(Cancellation::BySystem);
    let others =
        [Cancellation::ByConsumer(withdrawal(is_full)), Cancellation::ByProvider(withdrawal(is_full))];
    by_system.into_iter().chain(others).map(State::Cancelled).collect()
}

/// The states in which a booking may be when an event of this type happens, and why it would.
fn occasions(event_type: EventType, is_full: bool) -> (Vec<State>, Cause) {
    let reserved = State::Reserved { expires_at: now() };
    let all = || {
        let ends = [State::Rejected(rejection(is_full)), State::Expired, State::Completed, State::NoShow];
        [reserved.clone(), State::Confirmed].into_iter().chain(ends).chain(cancellations(is_full)).collect()
    };
    match event_type {
        EventType::BookingCreated => (vec![State::Pending], Cause::Created),
        EventType::BookingReserved => (vec![reserved], Cause::ProviderAcknowledged),
        EventType::BookingConfirmed => (vec![State::Confirmed], Cause::ProviderAcknowledged),
        EventType::BookingRejected => (vec![State::Rejected(rejection(is_full))], Cause::ProviderDeclined),
        EventType::BookingCancelled => (cancellations(is_full), Cause::WithdrawnByConsumer),
        EventType::BookingExpired => (vec![State::Expired], Cause::HoldExpired),
        EventType::BookingCompleted => (vec![State::Completed], Cause::AttendanceTold),
        EventType::BookingNoShow => (vec![State::NoShow], Cause::AttendanceTold),
        EventType::BookingRescheduled => (all(), Cause::Rescheduled),
        EventType::BookingOperationFailed => (all(), Cause::OperationDeclined),
        EventType::BookingCompensated => (all(), Cause::Compensated),
        EventType::BookingCompensationFailed => (all(), Cause::CompensationFailed),
        EventType::ProviderNotificationFailed => (all(), Cause::NotificationFailed),
    }
}

/// Every event of `booking`, as it is told.
fn told(booking: &Booking) -> Vec<Value> {
    let body = |event: &Event| serde_json::from_str(&event_body(booking, event).unwrap()).unwrap();
    events_since(booking, 0).iter().map(body).collect()
}

/// Bodies of events about bookings: every type in every state with all and with none of what may be left
/// out, as the booking's last version and as an earlier one; and whole lives of bookings.
fn booking_events() -> Vec<Value> {
    let mut events = Vec::new();
    for (event_type, is_full) in EventType::ALL.into_iter().flat_map(|it| [(it, true), (it, false)]) {
        let (states, cause) = occasions(event_type, is_full);
        for state in states {
            let mut booking = booking(is_full);
            if !is_full {
                booking.operation = None;
            }
            let reason = if is_full {
                RefusalReason::Declined(rejection(true))
            } else {
                RefusalReason::Failed(AttemptError::TimedOut)
            };
            booking.refusal = Some(Refusal { operation: 1, reason });
            booking.state = state;
            let mut entry = HistoryEntry::new(booking.status(), now(), cause, 1);
            entry.moved_from = (cause == Cause::Rescheduled).then(|| elsewhere(&booking.slot));
            booking.history = vec![entry];
            events.extend(told(&booking));
            booking.history.push(HistoryEntry::new(Status::Cancelled, now(), Cause::Compensated, 0));
            events.extend(told(&booking));
        }
    }
    let claim = claimed("life", Patience::Background);
    let lives = [waiting(&claim, 5_000), confirmed(&claim), cancelled(&confirmed(&claim)), cancelled(&claim)];
    events.extend(lives.iter().flat_map(|stored| told(&stored.booking)));
    let reserved = after(&claim, reserve(), now().plus_ms(200));
    events.extend(told(&reserved.booking));
    events
}

fn reserve() -> holdfast_domain::Command {
    let acknowledgement = holdfast_domain::Acknowledgement {
        provider_reference: None,
        reserved_until: Some(now().plus_ms(900_000)),
    };
    let outcome = holdfast_domain::AttemptOutcome::Acknowledged(acknowledgement);
    holdfast_domain::Command::RecordAttempt { operation: 1, attempt: 1, outcome, retry_delay_ms: 0 }
}

fn elsewhere(slot: &Slot) -> Slot {
    Slot { location_id: "side-street".to_owned(), ..slot.clone() }
}

/// Bodies of events about an endpoint, which is shown as the API shows it.
async fn endpoint_events() -> Vec<Value> {
    let rotated = endpoint(1, &tenant()).with_secret("whsec_".into(), now());
    let failing = WebhookEndpoint { failing_since: Some(now()), ..rotated };
    let disabled = failing.disabled(DisabledReason::Failing);
    let store = MemorySettings::new();
    store.add_endpoint(disabled.clone());
    let data = manage::endpoint(&store, &tenant(), disabled.id.as_str(), now()).await.unwrap();
    let event = |event_type: &str, data: &Value| {
        let id = EventId::derived(disabled.id.as_str(), 1, event_type);
        json!({"id": id.as_str(), "type": event_type, "timestamp": now(), "data": data})
    };
    let mut exhausted = data.clone();
    exhausted["event_id"] = json!(EventId::derived("bkg", 1, "booking.created").as_str());
    exhausted["event_type"] = json!("booking.created");
    exhausted["attempts"] = json!(8);
    exhausted["last_error"] = json!("http_500");
    let mut told = data.clone();
    told["reason"] = data["disabled_reason"].clone();
    let mut silent = exhausted.clone();
    silent["last_error"] = Value::Null;
    vec![
        event("webhook_endpoint.disabled", &told),
        event("webhook.exhausted", &exhausted),
        event("webhook.exhausted", &silent),
    ]
}

async fn all_events() -> Vec<Value> {
    let mut events = booking_events();
    events.extend(endpoint_events().await);
    events
}

fn type_of(event: &Value) -> &str {
    event["type"].as_str().unwrap()
}

fn check(validators: &BTreeMap<String, Validator>, event: &Value) {
    let errors: Vec<String> = validators[type_of(event)]
        .iter_errors(event)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?} in {event:#}");
}

#[tokio::test]
async fn every_event_is_as_its_schema_says() {
    let (published, strict) = (validators(|_, schema| schema), validators(strict));
    let events = all_events().await;
    for event in &events {
        check(&published, event);
        check(&strict, event);
    }
    let told: BTreeSet<String> = events.iter().map(|event| type_of(event).to_owned()).collect();
    assert_eq!(told, all_types(), "every type is tried");
    assert_eq!(
        published.into_keys().collect::<BTreeSet<_>>(),
        all_types(),
        "every type has a schema, no other"
    );
}

#[tokio::test]
async fn what_is_added_later_is_valid_and_what_is_wrong_is_not() {
    let published = validators(|_, schema| schema);
    let strict = validators(strict);
    for event in all_events().await {
        let validator = &published[type_of(&event)];
        for pointer in ["", "/data", "/data/slot", "/data/operation", "/data/rejection", "/data/cancellation"]
        {
            let mut later = event.clone();
            let Some(object) = later.pointer_mut(pointer).and_then(Value::as_object_mut) else { continue };
            object.insert("added_later".to_owned(), json!(1));
            assert!(validator.is_valid(&later), "{pointer} of {later:#}");
            assert!(!strict[type_of(&event)].is_valid(&later), "{pointer} of {later:#}");
        }
        for pointer in ["/id", "/type", "/timestamp", "/data", "/data/id"] {
            let mut wrong = event.clone();
            *wrong.pointer_mut(pointer).unwrap() = json!("wrong");
            assert!(!validator.is_valid(&wrong), "{pointer}");
        }
        let mut missing = event.clone();
        missing["data"].as_object_mut().unwrap().remove("created_at");
        assert!(!validator.is_valid(&missing));
    }
}

/// The members of objects that have a value somewhere, under the name of what defines them.
fn seen(events: &[Value]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let places = [
        ("slot", "/data/slot"),
        ("rejection", "/data/rejection"),
        ("cancellation", "/data/cancellation"),
        ("operation", "/data/operation"),
    ];
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for event in events {
        let data = if type_of(event).starts_with("webhook") { "webhook_endpoint" } else { "booking" };
        for (definition, pointer) in places.into_iter().chain([(data, "/data")]) {
            let members = event.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
            let names = members.filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone());
            seen.entry(definition).or_default().extend(names);
        }
    }
    seen
}

#[tokio::test]
async fn nothing_is_in_a_schema_that_no_event_has() {
    let definitions = files().remove(DEFINITIONS).unwrap();
    let seen = seen(&all_events().await);
    let objects = definitions["$defs"].as_object().unwrap();
    for (name, definition) in objects.iter().filter(|(_, definition)| definition.get("properties").is_some())
    {
        for member in definition["properties"].as_object().unwrap().keys() {
            assert!(seen[name.as_str()].contains(member), "{name}.{member}");
        }
    }
}
