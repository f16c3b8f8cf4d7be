//! What the store of bookings in DynamoDB promises beyond the port: its costs, its repeats, its items.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{BookingStore, Claim, DeliveryClaim, DeliveryStore, Replaced, StoreError};
use holdfast_app::stored::{claim, replace};
use holdfast_app::test_util::TestClock;
use holdfast_aws::codec::stored_from_image;
use holdfast_aws::{AwsHooks, CallLog, DynamoBookingStore, DynamoDeliveryStore};
use holdfast_domain::{Patience, Timestamp};

use super::deliveries::delivery;
use super::embedded::{BOOKING_TABLE, DELIVERY_TABLE, Embedded, bookings_through, clients_of, entropy};
use super::fixtures::{cancelled, claimed, confirmed, now, waiting};
use super::lossy_proxy::lossy_proxy;
use super::metering_proxy::{Call, Meter, metering_proxy};

/// A store whose calls are metered.
async fn metered(database: &Embedded) -> (DynamoBookingStore, Meter) {
    let (address, meter) = metering_proxy(database.address).await;
    (bookings_through(&clients_of(address, &AwsHooks::default()).dynamodb), meter)
}

/// What each call since the last time cost: half units of the table, and those of its indexes.
fn half_units(meter: &Meter) -> Vec<(u64, u64)> {
    meter.take().iter().map(Call::table_and_index).collect()
}

async fn raw_item(database: &Embedded, key: &str) -> serde_dynamo::Item {
    let id = claimed(key, Patience::Synchronous).booking.id;
    let get = database.client.get_item().table_name(BOOKING_TABLE);
    let answer = get.key("pk", AttributeValue::S(format!("BKG#{id}"))).send().await.unwrap();
    answer.item.unwrap().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_costs_one_write_unit_a_write_and_one_for_a_replay() {
    let database = Embedded::start().await;
    let (store, meter) = metered(&database).await;
    let first = claimed("key", Patience::Synchronous);
    store.claim(&first).await.unwrap();
    store.replace(1, &confirmed(&first)).await.unwrap();
    // The indexes that lists read are written once, when the booking is made.
    assert_eq!(half_units(&meter), [(2, 4), (2, 0)]);
    // An answer in the background costs the index's two entries beside: put in, and taken out.
    let first = claimed("background", Patience::Background);
    store.claim(&first).await.unwrap();
    let second = waiting(&first, 0);
    store.replace(1, &second).await.unwrap();
    let mut third = confirmed(&first);
    third.rev = 3;
    store.replace(2, &third).await.unwrap();
    assert_eq!(half_units(&meter), [(2, 4), (2, 2), (2, 2)]);
    // Without a reference there is an index less.
    let mut first = claimed("no-reference", Patience::Synchronous);
    first.booking.request.reference = None;
    store.claim(&first).await.unwrap();
    assert_eq!(half_units(&meter), [(2, 2)]);
    // Transactions cost double: the booking and its slot, when it is taken and when it is given up. The write
    // between touches the booking alone.
    let mut first = claimed("exclusive", Patience::Synchronous);
    first.exclusive_slots = true;
    claim(&store, &first).await.unwrap();
    let second = confirmed(&first);
    replace(&store, &first, &second).await.unwrap();
    replace(&store, &second, &cancelled(&second)).await.unwrap();
    let table: Vec<u64> = half_units(&meter).into_iter().map(|(table, _)| table).collect();
    assert_eq!(table, [8, 2, 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_one_request() {
    let database = Embedded::start().await;
    let call_log = CallLog::new();
    let hooks = AwsHooks { call_log: Some(call_log.clone()), ..AwsHooks::default() };
    let store = bookings_through(&database.clients(&hooks).dynamodb);
    let first = claimed("key", Patience::Synchronous);
    store.claim(&first).await.unwrap();
    store.replace(1, &confirmed(&first)).await.unwrap();
    store.claim(&first).await.unwrap();
    store.replace(1, &confirmed(&first)).await.unwrap();
    store.read(&first.booking.id).await.unwrap();
    assert_eq!(call_log.take(), ["PutItem", "UpdateItem", "PutItem", "UpdateItem", "GetItem"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_is_recognised() {
    let database = Embedded::start().await;
    let first = claimed("key", Patience::Synchronous);
    for (rev, lost) in [(1, 1), (2, 2)] {
        let call_log = CallLog::new();
        let hooks = AwsHooks { call_log: Some(call_log.clone()), ..AwsHooks::default() };
        let client = clients_of(lossy_proxy(database.address, lost).await, &hooks).dynamodb;
        let store = bookings_through(&client);
        if rev == 1 {
            assert_eq!(store.claim(&first).await.unwrap(), Claim::Claimed);
        } else {
            assert_eq!(store.replace(1, &confirmed(&first)).await.unwrap(), Replaced::Done);
        }
        assert_eq!(call_log.take().len(), lost + 1, "it was repeated");
        assert_eq!(store.read(&first.booking.id).await.unwrap().unwrap().rev, rev);
    }
    // The same for deliveries.
    let client = clients_of(lossy_proxy(database.address, 1).await, &AwsHooks::default()).dynamodb;
    let deliveries = DynamoDeliveryStore::new(client, DELIVERY_TABLE, entropy());
    assert_eq!(deliveries.create(&delivery()).await.unwrap(), DeliveryClaim::Created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_of_another_writer_is_a_conflict() {
    let database = Embedded::start().await;
    let first = claimed("key", Patience::Synchronous);
    database.bookings().claim(&first).await.unwrap();
    // The very same content, but another write: only one of them may call the provider.
    assert_eq!(database.bookings().claim(&first).await.unwrap(), Claim::Taken(Box::new(first)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_unavailable_within_the_limit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let hooks = AwsHooks { time_limits_times: Some(1), ..AwsHooks::default() };
    let store = bookings_through(&clients_of(address, &hooks).dynamodb);
    let begun = std::time::Instant::now();
    let refused = store.claim(&claimed("key", Patience::Synchronous)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(begun.elapsed().as_millis() < 5_000);
}

fn clock(at: Timestamp) -> Arc<TestClock> {
    Arc::new(TestClock::starting_at(at))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_booking_is_for_is_read_until_its_retention_is_over_and_no_longer() {
    let database = Embedded::start().await;
    let stored = confirmed(&claimed("key", Patience::Synchronous));
    let (id, end) = (stored.booking.id.clone(), stored.booking.slot.end);
    database.bookings().claim(&stored).await.unwrap();
    let read_at = async |days: u32, at| {
        let client = database.client.clone();
        let store = DynamoBookingStore::new(client, BOOKING_TABLE, days, clock(at), entropy());
        store.read(&id).await.unwrap().unwrap()
    };
    let day = 24 * 60 * 60 * 1_000;
    assert_eq!(read_at(400, end.plus_ms(400 * day - 60_000)).await, stored);
    // The sweep has not been there yet. All else stays, for whoever repeats a request.
    let over = read_at(400, end.plus_ms(400 * day)).await;
    assert!(over.booking.request.customer.is_none() && over.booking.request.notes.is_none());
    assert_eq!((over.create, over.booking.history), (stored.create.clone(), stored.booking.history.clone()));
    // A shorter retention holds for what was written before, too; one under 15 days is none.
    assert!(read_at(30, end.plus_ms(30 * day)).await.booking.request.customer.is_none());
    assert!(read_at(1, end.plus_ms(14 * day)).await.booking.request.customer.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_table_is_refused_for_good() {
    let database = Embedded::start().await;
    let store = DynamoBookingStore::new(database.client.clone(), "nowhere", 400, clock(now()), entropy());
    let refused = store.claim(&claimed("key", Patience::Synchronous)).await;
    assert_eq!(refused, Err(StoreError::Refused("PutItem: ResourceNotFoundException".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_versions_wrote_survives_a_replacement() {
    let database = Embedded::start().await;
    let store = database.bookings();
    let first = claimed("key", Patience::Background);
    store.claim(&first).await.unwrap();
    let update = database.client.update_item().table_name(BOOKING_TABLE);
    update
        .key("pk", AttributeValue::S(format!("BKG#{}", first.booking.id)))
        .update_expression("SET later = :later")
        .expression_attribute_values(":later", AttributeValue::S("kept".to_owned()))
        .send()
        .await
        .unwrap();
    let second = waiting(&first, 0);
    assert_eq!(store.replace(1, &second).await.unwrap(), Replaced::Done);
    let mut third = confirmed(&first);
    third.rev = 3;
    assert_eq!(store.replace(2, &third).await.unwrap(), Replaced::Done);
    let item = raw_item(&database, "key").await;
    assert_eq!(item["later"], serde_dynamo::AttributeValue::S("kept".to_owned()));
    for gone in ["op", "due_shard", "due_at"] {
        assert!(item.get(gone).is_none(), "{gone}");
    }
    assert_eq!(stored_from_image(item), Ok(third));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_is_sparse() {
    let database = Embedded::start().await;
    let store = database.bookings();
    let indexed = async || {
        let scan = database.client.scan().table_name(BOOKING_TABLE).index_name("overdue");
        scan.send().await.unwrap().count
    };
    let first = claimed("key", Patience::Background);
    store.claim(&first).await.unwrap();
    assert_eq!(indexed().await, 0, "within its request");
    store.replace(1, &waiting(&first, 0)).await.unwrap();
    assert_eq!(indexed().await, 1);
    let mut settled = confirmed(&first);
    settled.rev = 3;
    store.replace(2, &settled).await.unwrap();
    assert_eq!(indexed().await, 0, "nothing is due");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_swept_before_its_time_and_what_is_swept_is_gone() {
    let database = Embedded::start().await;
    let store = database.bookings();
    let mut first = claimed("key", Patience::Synchronous);
    store.claim(&first).await.unwrap();
    assert_eq!(database.database.sweep_ttl().unwrap(), 0);
    // A booking that DynamoDB has not swept yet is there all the same, whatever its TTL says.
    let past = AttributeValue::N("1".to_owned());
    let update = database.client.update_item().table_name(BOOKING_TABLE);
    update
        .key("pk", AttributeValue::S(format!("BKG#{}", first.booking.id)))
        .update_expression("SET #ttl = :past")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":past", past)
        .send()
        .await
        .unwrap();
    assert_eq!(store.claim(&first).await.unwrap(), Claim::Taken(Box::new(first.clone())));
    assert_eq!(store.read(&first.booking.id).await.unwrap().as_ref(), Some(&first));
    first.rev = 2;
    assert_eq!(store.replace(1, &first).await.unwrap(), Replaced::Done);
    assert_eq!(database.database.sweep_ttl().unwrap(), 0, "the replacement renewed it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_format_is_not_touched() {
    let database = Embedded::start().await;
    let store = database.bookings();
    let first = claimed("key", Patience::Synchronous);
    store.claim(&first).await.unwrap();
    let mut item = raw_item(&database, "key").await;
    item.insert("v".to_owned(), serde_dynamo::AttributeValue::N("99".to_owned()));
    let put = database.client.put_item().table_name(BOOKING_TABLE);
    put.set_item(Some(item.into())).send().await.unwrap();
    let corrupt = |result: Result<(), StoreError>| {
        let error = result.unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("format 99")), "{error}");
    };
    corrupt(store.read(&first.booking.id).await.map(drop));
    corrupt(store.claim(&first).await.map(drop));
    corrupt(store.replace(7, &confirmed(&first)).await.map(drop));
}
