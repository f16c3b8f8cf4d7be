//! Bookings: their items in every format, and exclusive slots.

use aws_lambda_events::dynamodb::EventRecord;
use holdfast_app::outbox::Outbox;
use holdfast_app::ports::{BookingStore, Claim, Clock, Replaced};
use holdfast_app::stored::{
    CreateRecord, Fingerprint, FrozenResponse, OperationKey, OperationRecord, StoredBooking, claim,
};
use holdfast_app::test_util::{
    MemoryAvailability, MemoryBus, MemoryMailbox, MemoryParking, MemoryTimers, TestClock,
};
use holdfast_aws::codec::stored_from_image;
use holdfast_domain::{
    AttemptError, BookingId, Cancellation, CancellationReason, Cause, Change, Compensation, CompensationRun,
    Customer, HistoryEntry, Patience, Personal, Phase, Refusal, RefusalReason, Rejection, State, Status,
    UnitQuantity, Withdrawal,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::generated::stored;
use super::items::scanned;
use super::profiles::Profiles;
use super::{folder, golden};
use crate::contract::canned::canned;
use crate::contract::embedded::{BOOKING_TABLE, Embedded, bookings_through};
use crate::contract::fixtures::{cancelled, claimed, confirmed, now};

/// How many bookings are made up.
const CASES: u32 = 400;

fn image(value: &Value) -> serde_dynamo::Item {
    serde_json::from_value(value.clone()).unwrap()
}

fn rejection() -> Rejection {
    Rejection {
        code: "declined_by_provider".to_owned(),
        message: Some("Fully booked.".to_owned()),
        provider_code: Some("full".to_owned()),
    }
}

fn response() -> FrozenResponse {
    FrozenResponse { status: 409, body: r#"{"code":"status_conflict","title":"Żagle"}"#.into() }
}

/// A hold with all that the first format can say, whose cancel is under way.
fn full() -> StoredBooking {
    let mut stored = claimed("golden-full", Patience::Background);
    let booking = &mut stored.booking;
    booking.request.customer = Some(Personal::new(Customer {
        name: "Ada Lovelace".to_owned(),
        email: Some("ada@example.com".to_owned()),
        phone: Some("+39 06 123".to_owned()),
        birth_date: Some("1815-12-10".to_owned()),
        language: Some("it-IT".to_owned()),
    }));
    booking.request.notes = Some(Personal::new("By the\nwindow".to_owned()));
    booking.request.metadata = [("channel".to_owned(), "web".to_owned())].into();
    booking.request.units = vec![UnitQuantity { unit_id: "adult".to_owned(), quantity: 2 }];
    booking.request.hold = true;
    booking.request.availability_id = Some("a-1".to_owned());
    (booking.slot.resource_id, booking.slot.service_id) =
        (Some("dr-grey".to_owned()), Some("first-visit".to_owned()));
    booking.state = State::Reserved { expires_at: now().plus_ms(600_000) };
    booking.provider_reference = Some("R-1".to_owned());
    booking.refusal = Some(Refusal { operation: 2, reason: RefusalReason::Declined(rejection()) });
    booking.operations_begun = 3;
    let operation = booking.operation.as_mut().unwrap();
    let words = Withdrawal { reason: Some("changed_mind".to_owned()), note: Some("sorry".to_owned()) };
    (operation.change, operation.number) = (Change::Cancel(words), 3);
    (operation.last_error, operation.unanswered_send_at) =
        (Some(AttemptError::HttpStatus(503)), Some(now().plus_ms(9)));
    operation.phase = Phase::Waiting { next_attempt_at: now().plus_ms(5_000) };
    let entry = |cause, attempts: u32| {
        HistoryEntry::new(Status::Reserved, now().plus_ms(attempts.into()), cause, attempts)
    };
    booking.history.extend([
        entry(Cause::ProviderAcknowledged, 1),
        entry(Cause::OperationDeclined, 0),
        entry(Cause::OperationBegun, 2),
    ]);
    stored.create = Some(CreateRecord {
        fingerprint: Fingerprint([9; 32]),
        generation: 2,
        superseded_by: Some(3),
        response: Some(response()),
    });
    let record = |seed: u8, response| OperationRecord {
        key: OperationKey([seed; 16]),
        fingerprint: Fingerprint([seed; 32]),
        number: seed.into(),
        at: now().plus_ms(seed.into()),
        response,
    };
    stored.operations = vec![record(2, Some(response())), record(3, None)];
    stored.rev = 9;
    stored
}

fn ended(key: &str, state: State, compensation: Compensation) -> StoredBooking {
    let mut stored = claimed(key, Patience::Synchronous);
    stored.create = None;
    let booking = &mut stored.booking;
    (booking.operation, booking.request.customer, booking.request.reference) = (None, None, None);
    booking.history.push(HistoryEntry::new(state.status(), now().plus_ms(7), Cause::GivenUp, 2));
    (booking.state, booking.compensation) = (state, compensation);
    stored
}

fn undoing() -> StoredBooking {
    let run = CompensationRun {
        number: 2,
        give_up_at: now().plus_ms(86_400_000),
        attempts: 1,
        unanswered_send_at: now().plus_ms(5),
        last_error: Some(AttemptError::Misconfigured(401)),
        phase: Phase::InFlight { lease_until: now().plus_ms(35_000) },
    };
    let state = State::Cancelled(Cancellation::BySystem(CancellationReason::ConfirmationTimeout));
    ended("golden-undoing", state, Compensation::Underway(run))
}

fn withdrawn() -> StoredBooking {
    let words = Withdrawal { reason: Some("closed".to_owned()), note: None };
    ended("golden-withdrawn", State::Cancelled(Cancellation::ByProvider(words)), Compensation::Done)
}

fn rejected() -> StoredBooking {
    ended("golden-rejected", State::Rejected(rejection()), Compensation::Failed)
}

fn ended_by_operator() -> StoredBooking {
    let state = State::Cancelled(Cancellation::BySystem(CancellationReason::Operator));
    let mut stored = ended("golden-operator", state, Compensation::Done);
    let history = &mut stored.booking.history;
    if let Some(end) = history.last_mut() {
        (end.cause, end.attempts) = (Cause::CancelledByOperator, 0);
    }
    history.push(HistoryEntry::new(Status::Cancelled, now().plus_ms(900), Cause::Compensated, 1));
    stored
}

fn exclusive(key: &str) -> StoredBooking {
    StoredBooking { exclusive_slots: true, ..claimed(key, Patience::Background) }
}

/// What stands in golden files beside those of `contract::golden`.
fn values() -> [(&'static str, StoredBooking); 5] {
    [
        ("booking-v1-full", full()),
        ("booking-v1-undoing", undoing()),
        ("booking-v1-withdrawn", withdrawn()),
        ("booking-v1-rejected", rejected()),
        ("booking-v3-ended-by-operator", ended_by_operator()),
    ]
}

/// The item that today's code writes, through the adapter.
async fn written(stored: &StoredBooking) -> Value {
    let (clients, requests) = canned(|_| (200, json!({})));
    assert_eq!(bookings_through(&clients.dynamodb).claim(stored).await, Ok(Claim::Claimed));
    let mut requests = requests.lock().unwrap();
    requests.pop().unwrap()["Item"].take()
}

fn golden_item(file: &str) -> Value {
    serde_json::from_str(&golden(&format!("{file}.json"))).unwrap()
}

fn golden_bookings() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(folder("golden")).unwrap().map(|file| file.unwrap().file_name());
    let names = files.filter_map(|name| name.to_str()?.strip_suffix(".json").map(str::to_owned));
    names
        .filter(|name| name.starts_with("booking-v"))
        .map(|name| (name.clone(), golden_item(&name)))
        .collect()
}

#[test]
fn every_golden_booking_is_read_as_what_it_says() {
    for (file, value) in values() {
        assert_eq!(stored_from_image(image(&golden_item(file))), Ok(value), "{file}");
    }
}

#[test]
fn attributes_of_later_versions_are_passed_over() {
    for (file, item) in golden_bookings() {
        let mut later = item.clone();
        later["zz"] = json!({"M": {"a": {"L": [{"NULL": true}]}}});
        assert_eq!(stored_from_image(image(&later)), stored_from_image(image(&item)), "{file}");
    }
}

#[tokio::test]
async fn attributes_of_later_versions_survive_an_update() {
    let embedded = Embedded::start().await;
    let (first, store) = (claimed("key", Patience::Background), embedded.bookings());
    let mut later = written(&first).await;
    later["zz"] = json!({"S": "later"});
    let item: serde_dynamo::Item = image(&later);
    embedded.client.put_item().table_name(BOOKING_TABLE).set_item(Some(item.into())).send().await.unwrap();
    let seen = store.read(&first.booking.id).await.unwrap().unwrap();
    assert_eq!(store.replace(seen.rev, &confirmed(&seen)).await.unwrap(), Replaced::Done);
    let items = scanned(&embedded, BOOKING_TABLE).await;
    assert_eq!(
        (items.len(), &items[0]["zz"], &items[0]["s"]),
        (1, &json!({"S": "later"}), &json!({"S": "C"}))
    );
}

#[test]
fn any_booking_is_written_as_readers_of_its_format_expect() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let profiles = Profiles::read();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&stored(), |stored| {
        let item = runtime.block_on(written(&stored));
        profiles.fits_item(BOOKING_TABLE, &item);
        prop_assert_eq!(stored_from_image(image(&item)), Ok(stored));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    for (_, item) in golden_bookings() {
        profiles.fits_item(BOOKING_TABLE, &item);
    }
}

/// What old code would read and misunderstand is stamped so that it refuses.
#[tokio::test]
async fn the_format_is_the_lowest_that_says_everything() {
    for (stored, format) in
        [(full(), "1"), (confirmed(&claimed("key", Patience::Background)), "1"), (exclusive("key"), "2")]
    {
        assert_eq!(written(&stored).await["v"]["N"], format);
    }
    let mut moving = full();
    moving.booking.operation.as_mut().unwrap().change = Change::Confirm;
    assert_eq!(written(&moving).await["v"]["N"], "2");
    assert_eq!(written(&ended_by_operator()).await["v"]["N"], "3");
}

/// What the stream's reader makes of an image: what it parked, and the bookings that it looks at later.
async fn dispatched(new: Value) -> (Vec<(String, Option<u32>)>, Vec<String>, usize) {
    let clock = TestClock::starting_at(now());
    let (timers, bus, parking) = (MemoryTimers::new(), MemoryBus::new(), MemoryParking::new());
    let (mailbox, slots) = (MemoryMailbox::new(), MemoryAvailability::new());
    let outbox =
        Outbox { timers: timers.clone(), bus: bus.clone(), parking: parking.clone(), mailbox, slots, clock };
    let record = json!({
        "awsRegion": "eu-central-1", "eventID": "1", "eventName": "INSERT",
        "dynamodb": {"ApproximateCreationDateTime": 1, "Keys": {}, "NewImage": new, "SequenceNumber": "1", "SizeBytes": 1},
    });
    let record: EventRecord = serde_json::from_value(record).unwrap();
    assert_eq!(dispatch::handle(&outbox, vec![record]).await, None, "it holds up nobody");
    let looks: Vec<String> = timers
        .waiting()
        .into_iter()
        .filter(|timer| timer.not_before > clock.now())
        .map(|timer| timer.booking_id)
        .collect();
    let parked = parking.records().into_iter().map(|record| (record.booking_id, record.to_version)).collect();
    (parked, looks, bus.events().len())
}

/// What is not known is parked with the name of its booking, which is looked at again; it is never misread.
#[tokio::test(start_paused = true)]
async fn words_of_later_versions_are_parked_and_looked_at_again() {
    let later = |text: &str| json!({ "S": text });
    for (file, pointer, value) in [
        ("booking-v1-full", "/v", json!({"N": "4"})),
        ("booking-v1-full", "/v", json!({"N": "4294967295"})),
        ("booking-v1-full", "/v", json!({"N": "18446744073709551616"})),
        ("booking-v1-full", "/v", later("later")),
        ("booking-v1-full", "/s", later("Z")),
        ("booking-v1-full", "/s", later("")),
        ("booking-v1-full", "/y/L/1", later("Rz1795257665124")),
        ("booking-v1-full", "/y/L/1", later("Ra1795257665124.1.later")),
        ("booking-v1-full", "/t", later("beta:shop")),
        ("booking-v1-full", "/op/M/k", later("z")),
        ("booking-v1-full", "/op/M/e", later("later")),
        ("booking-v1-full", "/op/M/ph/M", json!({"z": {"N": "1"}})),
        ("booking-v1-full", "/rb", json!({"B": data_encoding::BASE64.encode(&[9, 1, 2])})),
        ("booking-v1-undoing", "/cr", later("later")),
        ("booking-v1-undoing", "/cp/M", json!({"z": {"NULL": true}})),
        ("booking-v1-undoing", "/cp/M/u/M/e", later("later")),
        ("booking-v1-withdrawn", "/cw/M/b", later("z")),
        ("booking-v2-told", "/cm", later("z")),
        ("booking-v2-told", "/nt/L/0/M/k", later("z")),
        ("booking-v2-overtaking", "/op/M/o/M/k", later("z")),
        ("booking-v2-resolving", "/rf/M/e", later("later")),
    ] {
        let mut item = golden_item(file);
        let id = item["pk"]["S"].as_str().unwrap().strip_prefix("BKG#").unwrap().to_owned();
        let versions = u32::try_from(item["y"]["L"].as_array().unwrap().len()).unwrap();
        *item.pointer_mut(pointer).unwrap_or_else(|| panic!("{file} has no {pointer}")) = value.clone();
        let (parked, looks, events) = dispatched(item).await;
        assert_eq!(parked, [(id.clone(), Some(versions))], "{file} {pointer} {value}");
        assert_eq!((looks, events), (vec![id], 0), "{file} {pointer} {value}");
    }
}

/// Another kind of item in the table is no booking: it is parked, and nothing is made up about it.
#[tokio::test(start_paused = true)]
async fn kinds_of_items_of_later_versions_are_parked() {
    let (parked, looks, events) = dispatched(json!({"pk": {"S": "LATER#1"}, "v": {"N": "1"}})).await;
    assert_eq!((parked, looks, events), (vec![(String::new(), None)], Vec::new(), 0));
}

#[tokio::test]
async fn a_golden_slot_is_somebodys() {
    let items: Vec<Value> = serde_json::from_str(&golden("slot-v1.json")).unwrap();
    let embedded = Embedded::start().await;
    for item in &items {
        let item: serde_dynamo::Item = image(item);
        embedded
            .client
            .put_item()
            .table_name(BOOKING_TABLE)
            .set_item(Some(item.into()))
            .send()
            .await
            .unwrap();
    }
    let store = embedded.bookings();
    assert_eq!(claim(&store, &exclusive("other")).await, Ok(Claim::SlotTaken));
    let owner: BookingId = exclusive("golden-slot").booking.id;
    let seen = store.read(&owner).await.unwrap().unwrap();
    assert_eq!(seen, exclusive("golden-slot"));
    let next = cancelled(&seen);
    assert_eq!(holdfast_app::stored::replace(&store, &seen, &next).await, Ok(Replaced::Done));
    assert_eq!(claim(&store, &exclusive("other")).await, Ok(Claim::Claimed), "it was given up");
}

async fn written_slot() -> Vec<Value> {
    let embedded = Embedded::start().await;
    assert_eq!(claim(&embedded.bookings(), &exclusive("golden-slot")).await, Ok(Claim::Claimed));
    scanned(&embedded, BOOKING_TABLE).await
}

#[tokio::test]
async fn slots_are_written_as_readers_of_their_format_expect() {
    let profiles = Profiles::read();
    let golden: Vec<Value> = serde_json::from_str(&golden("slot-v1.json")).unwrap();
    for item in written_slot().await.into_iter().chain(golden) {
        profiles.fits_item(BOOKING_TABLE, &item);
    }
}

/// Writes what is missing, for whoever adds a value; the manifest has to be told.
#[tokio::test]
#[ignore = "writes files"]
async fn golden_bookings_that_are_missing_are_written() {
    let mut files = vec![("slot-v1", json!(written_slot().await))];
    for (file, value) in values() {
        files.push((file, written(&value).await));
    }
    for (file, value) in files {
        let path = folder("golden").join(format!("{file}.json"));
        if !path.exists() {
            std::fs::write(path, serde_json::to_string_pretty(&value).unwrap() + "\n").unwrap();
        }
    }
}
