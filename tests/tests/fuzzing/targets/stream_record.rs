//! Records of the booking table's stream, over the whole function: what cannot be read is parked, never lost.
//!
//! Input: JSON, the members of a record's change that matter: `{"OldImage": …, "NewImage": …}`, in DynamoDB's JSON.

use std::sync::Arc;

use aws_lambda_events::dynamodb::EventRecord;
use holdfast_app::outbox::Outbox;
use holdfast_app::ports::{BookingStore, Clock};
use holdfast_app::test_util::{
    MemoryAvailability, MemoryBus, MemoryMailbox, MemoryParking, MemoryTimers, SeededEntropy, TestClock,
};
use holdfast_aws::DynamoBookingStore;
use holdfast_aws::codec::stored_from_image;
use holdfast_domain::{BookingId, Timestamp};
use serde_json::{Value, json};

use super::stored::Table;
use super::{now, run};

/// When a booking is looked at whose change could not be read, in milliseconds.
const LOOK_AFTER_PARKING_MS: u64 = 60_000;

const RETENTION_DAYS: u32 = 400;

pub(super) fn check(data: &[u8]) {
    let Ok(change) = serde_json::from_slice::<Value>(data) else { return };
    let record = json!({
        "awsRegion": "eu-central-1",
        "eventID": "1",
        "eventName": "MODIFY",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_795_257_665,
            "Keys": {},
            "OldImage": change.get("OldImage").cloned().unwrap_or_else(|| json!({})),
            "NewImage": change.get("NewImage").cloned().unwrap_or_else(|| json!({})),
            "SequenceNumber": "1",
            "SizeBytes": 1,
        },
    });
    // What is no record at all Lambda does not bring.
    let Ok(record) = serde_json::from_value::<EventRecord>(record) else { return };
    run(carry_out(&record));
    run(write_again(&record));
}

async fn carry_out(record: &EventRecord) {
    let clock = TestClock::starting_at(now());
    let (timers, bus, parking) = (MemoryTimers::new(), MemoryBus::new(), MemoryParking::new());
    let outbox = Outbox {
        timers: timers.clone(),
        bus: bus.clone(),
        parking: parking.clone(),
        mailbox: MemoryMailbox::new(),
        slots: MemoryAvailability::new(),
        clock,
    };
    assert_eq!(dispatch::handle(&outbox, vec![record.clone()]).await, None, "nothing here fails");
    let (old, new) = (&record.change.old_image, &record.change.new_image);
    let parked = parking.records();
    if new.is_empty() {
        assert!(parked.is_empty() && bus.events().is_empty() && timers.waiting().is_empty());
        return;
    }
    let old_read = if old.is_empty() { Ok(None) } else { stored_from_image(old.clone()).map(Some) };
    match (old_read, stored_from_image(new.clone())) {
        (Ok(old), Ok(new)) => {
            assert!(parked.is_empty(), "what can be read is not parked: {parked:?}");
            let known = old.map_or(0, |old| old.booking.version());
            for event in bus.events() {
                let body: Value = serde_json::from_str(&event.body).expect("an event is JSON");
                let version = body["data"]["version"].as_u64().expect("an event has a version");
                assert!(version > u64::from(known) && version <= u64::from(new.booking.version()));
                assert_eq!(event.subject, new.booking.id.as_str());
                assert_eq!(event.tenant, new.booking.tenant);
                for personal in ["customer", "notes"] {
                    assert!(body["data"].get(personal).is_none(), "{personal} is told");
                }
            }
        }
        (old, new) => {
            let [parked] = parked.as_slice() else { panic!("one record is parked: {parked:?}") };
            assert_eq!(parked.reason, "unreadable_image");
            assert!(bus.events().is_empty());
            // It is named by the image that cannot be read, the new one first.
            let unreadable = new.err().or(old.err());
            let id = unreadable.and_then(|unreadable| unreadable.booking_id);
            assert_eq!(parked.booking_id, id.as_ref().map_or("", BookingId::as_str));
            // Whoever looks at the item will know what was due.
            let waiting = timers.waiting();
            let looked_at = waiting.iter().map(|timer| (timer.booking_id.as_str(), timer.not_before));
            let look_at = clock.now().plus_ms(LOOK_AFTER_PARKING_MS);
            match id {
                Some(id) => assert_eq!(looked_at.collect::<Vec<_>>(), [(id.as_str(), look_at)]),
                None => assert!(waiting.is_empty()),
            }
        }
    }
}

/// What can be read is written so that it is read as the same.
async fn write_again(record: &EventRecord) {
    let Ok(stored) = stored_from_image(record.change.new_image.clone()) else { return };
    let table = Table::new();
    let entropy = Arc::new(SeededEntropy::new(1));
    let clock = Arc::new(TestClock::starting_at(Timestamp::EPOCH));
    let client = table.clients.dynamodb.clone();
    let store = DynamoBookingStore::new(client, "bookings", RETENTION_DAYS, clock, entropy);
    store.claim(&stored).await.expect("nothing fails");
    let written = table.take_written().expect("it was written");
    let written: serde_dynamo::Item = serde_json::from_value(written).expect("an item");
    assert_eq!(stored_from_image(written).expect("it was written now"), stored);
}
