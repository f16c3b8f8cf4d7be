//! What becomes of the stream's records: carried out, parked, or asked for again.

#![cfg(test)]

use aws_lambda_events::dynamodb::EventRecord;
use holdfast_app::outbox::Outbox;
use holdfast_app::ports::Place;
use holdfast_app::test_util::{
    Fault, Faults, MemoryAvailability, MemoryBus, MemoryMailbox, MemoryParking, MemoryTimers, TestClock,
};
use holdfast_domain::{Hold, ProviderId, Timestamp};
use serde_json::{Value, json};

/// A booking's item as this version of the code first wrote it, in DynamoDB's JSON.
const CLAIMED: &str = include_str!("../../../tests/tests/golden/booking-v1-claimed.json");

type TestOutbox =
    Outbox<MemoryTimers, MemoryBus, MemoryParking, MemoryMailbox, MemoryAvailability, TestClock>;

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap()
}

fn outbox(bus: MemoryBus) -> TestOutbox {
    let clock = TestClock::starting_at(now());
    let (parking, mailbox) = (MemoryParking::new(), MemoryMailbox::new());
    Outbox { timers: MemoryTimers::new(), bus, parking, mailbox, slots: MemoryAvailability::new(), clock }
}

fn image() -> Value {
    serde_json::from_str(CLAIMED).unwrap()
}

fn record(sequence_number: &str, new_image: &Value) -> EventRecord {
    let keys = json!({ "pk": new_image["pk"] });
    serde_json::from_value(json!({
        "awsRegion": "eu-central-1",
        "eventID": sequence_number,
        "eventName": "INSERT",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_795_257_665,
            "Keys": keys,
            "NewImage": new_image,
            "SequenceNumber": sequence_number,
            "SizeBytes": 1,
        },
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_new_booking_is_told_and_guarded() {
    let outbox = outbox(MemoryBus::new());
    assert_eq!(dispatch::handle(&outbox, vec![record("1", &image())]).await, None);
    let types: Vec<String> = outbox.bus.events().into_iter().map(|event| event.event_type).collect();
    assert_eq!(types, ["booking.created"]);
    assert_eq!(outbox.timers.waiting().len(), 1);
    assert_eq!(outbox.parking.records(), []);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_parked_and_looked_at_later() {
    let outbox = outbox(MemoryBus::new());
    let mut later_format = image();
    later_format["v"] = json!({"N": "999"});
    let records = vec![record("1", &later_format), record("2", &image())];
    assert_eq!(dispatch::handle(&outbox, records).await, None);
    let parked = outbox.parking.records();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].from_version, parked[0].reason.as_str()), (Some(1), "unreadable_image"));
    // The readable record of the batch is carried out all the same; the other one gets a timer.
    assert_eq!(outbox.bus.events().len(), 1);
    let looked_at: Vec<_> = outbox.timers.waiting().into_iter().map(|timer| timer.not_before).collect();
    assert!(looked_at.contains(&now().plus_ms(60_000)), "{looked_at:?}");
}

#[tokio::test(start_paused = true)]
async fn the_stream_goes_back_to_the_first_entry_that_failed() {
    let faults = Faults::new();
    faults.next("bus.publish", Fault::FailEntry(1));
    let outbox = outbox(MemoryBus::with_faults(faults));
    let records = vec![record("1", &image()), record("2", &image()), record("3", &image())];
    assert_eq!(dispatch::handle(&outbox, records).await, Some("2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_removal_means_nothing() {
    let outbox = outbox(MemoryBus::new());
    let mut removal = record("1", &image());
    removal.change.new_image = serde_dynamo::Item::default();
    assert_eq!(dispatch::handle(&outbox, vec![removal]).await, None);
    assert_eq!(outbox.bus.events(), []);
}

/// The image of a booking whose provider fetches what it is told.
fn accepted() -> Value {
    let mut image = image();
    let members = image.as_object_mut().unwrap();
    members.remove("op");
    members.insert("v".to_owned(), json!({"N": "2"}));
    members.insert("s".to_owned(), json!({"S": "C"}));
    members.insert("cm".to_owned(), json!({"S": "n"}));
    members.insert("pl".to_owned(), json!({"BOOL": true}));
    members.insert("y".to_owned(), json!({"L": [{"S": "Pc1795258065123"}, {"S": "Cy1795258065123"}]}));
    let told = json!({
        "k": {"S": "b"}, "v": {"N": "2"}, "n": {"N": "1"}, "b": {"N": "1795258065123"},
        "ph": {"M": {"w": {"N": "1795517265123"}}},
    });
    members.insert("nt".to_owned(), json!({"L": [{"M": told}]}));
    image
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_fetches_is_kept_for_it() {
    let outbox = outbox(MemoryBus::new());
    let records = || vec![record("1", &accepted()), record("2", &accepted())];
    assert_eq!(dispatch::handle(&outbox, records()).await, None);
    assert_eq!(outbox.parking.records(), []);
    let kept = outbox.mailbox.entries(&ProviderId::parse("demo-clinic").unwrap());
    let [kept] = kept.as_slice() else { panic!("one is kept, however often it comes: {kept:?}") };
    assert_eq!(kept.booking_id.as_str(), "bkg_2m13ecmfog35h90fkqi44g4l24");
    assert_eq!((kept.notification.number, kept.notification.version), (1, 2));
    assert!(!kept.released);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_comes_again() {
    let faults = Faults::new();
    faults.next("mailbox.keep", Fault::FailBefore);
    let outbox = Outbox { mailbox: MemoryMailbox::with_faults(faults), ..outbox(MemoryBus::new()) };
    let records = || vec![record("1", &image()), record("2", &accepted())];
    assert_eq!(dispatch::handle(&outbox, records()).await, Some("2".to_owned()));
    assert_eq!(dispatch::handle(&outbox, records()).await, None);
    assert_eq!(outbox.mailbox.entries(&ProviderId::parse("demo-clinic").unwrap()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_slots_that_a_booking_takes_are_noted_once_and_hold_up_nobody() {
    let place = |outbox: &TestOutbox| {
        let location_id = image()["l"]["S"].as_str().unwrap().to_owned();
        let place = Place { provider_id: ProviderId::parse("demo-clinic").unwrap(), location_id };
        outbox.slots.remembered(&place).changes
    };
    let first = outbox(MemoryBus::new());
    let records = || vec![record("1", &accepted()), record("2", &accepted())];
    // What the request itself will know within seconds is noted when it is known.
    assert_eq!(dispatch::handle(&first, vec![record("0", &image())]).await, None);
    assert_eq!(place(&first), []);
    assert_eq!(dispatch::handle(&first, records()).await, None);
    let [noted] = place(&first).try_into().unwrap_or_else(|all| panic!("{all:?}"));
    assert_eq!((noted.hold, noted.version, noted.units), (Hold::Claimed, 2, 1));
    let faults = Faults::new();
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        faults.always("availability.note", fault);
        let failing =
            Outbox { slots: MemoryAvailability::with_faults(faults.clone()), ..outbox(MemoryBus::new()) };
        assert_eq!(dispatch::handle(&failing, records()).await, None, "{fault:?}");
        assert_eq!(failing.bus.events().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_was_not_told_of_is_claimed_until_it_is() {
    let outbox = outbox(MemoryBus::new());
    let location_id = image()["l"]["S"].as_str().unwrap().to_owned();
    let place = Place { provider_id: ProviderId::parse("demo-clinic").unwrap(), location_id };
    let noted = || outbox.slots.remembered(&place).changes;
    assert_eq!(dispatch::handle(&outbox, vec![record("1", &accepted())]).await, None);
    let [claimed] = noted().try_into().unwrap();
    assert_eq!(
        (claimed.hold, claimed.at),
        (Hold::Claimed, Timestamp::from_unix_ms(1_795_258_065_123).unwrap())
    );
    let mut told = accepted();
    told.as_object_mut().unwrap().remove("nt");
    let mut change = serde_json::to_value(record("2", &told)).unwrap();
    change["dynamodb"]["OldImage"] = accepted();
    change["dynamodb"]["NewImage"] = told;
    let record = serde_json::from_value(change).unwrap();
    assert_eq!(dispatch::handle(&outbox, vec![record]).await, None);
    // That it was told is no version, so that it is of the time at which it was seen.
    let [taken] = noted().try_into().unwrap();
    assert_eq!((taken.hold, taken.version, taken.at), (Hold::Taken, claimed.version, now()));
}
