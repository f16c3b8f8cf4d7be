//! What the store of bookings in DynamoDB promises of transactions and lists beyond the port: what it makes
//! of cancelled transactions, its repeats, and reads that come back in parts.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{BookingQuery, BookingStore, Claim, Replaced, SlotExchange, StoreError};
use holdfast_app::stored::{StoredBooking, claim, replace};
use holdfast_aws::{AwsHooks, CallLog};
use holdfast_domain::Patience;
use serde_json::{Value, json};

use super::canned::{Requests, canned};
use super::embedded::{BOOKING_TABLE, Embedded, bookings_through, clients_of};
use super::fixtures::{cancelled, claimed, confirmed, now, tenant};
use super::lossy_proxy::lossy_proxy;

fn exclusive(key: &str) -> StoredBooking {
    let mut new = claimed(key, Patience::Background);
    new.exclusive_slots = true;
    new
}

fn cancellation(codes: &[&str]) -> (u16, Value) {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({ "Code": code })).collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled",
        "CancellationReasons": reasons,
    });
    (400, body)
}

fn tokens(requests: &Requests) -> Vec<Value> {
    requests.lock().unwrap().iter().map(|request| request["ClientRequestToken"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_answer_was_lost_is_recognised() {
    let database = Embedded::start().await;
    let first = exclusive("key");
    let settled = confirmed(&first);
    let withdrawn = cancelled(&settled);
    for (seen, next, lost) in
        [(None, &first, 1), (Some(&first), &settled, 0), (Some(&settled), &withdrawn, 2)]
    {
        let call_log = CallLog::new();
        let hooks = AwsHooks { call_log: Some(call_log.clone()), ..AwsHooks::default() };
        let client = clients_of(lossy_proxy(database.address, lost).await, &hooks).dynamodb;
        let store = bookings_through(&client);
        match seen {
            None => assert_eq!(claim(&store, next).await.unwrap(), Claim::Claimed),
            Some(seen) => assert_eq!(replace(&store, seen, next).await.unwrap(), Replaced::Done),
        }
        assert_eq!(call_log.take().len(), lost + 1, "it was repeated");
        assert_eq!(store.read(&first.booking.id).await.unwrap().as_ref(), Some(next));
    }
}

/// A repetition after DynamoDB has forgotten the token, 10 minutes later, finds its own nonce.
#[tokio::test]
async fn a_repeated_transaction_finds_its_own_nonce() {
    let (clients, _) = canned(|request| {
        let (status, mut body) = cancellation(&["ConditionalCheckFailed", "None"]);
        let put = &request["TransactItems"][0]["Put"];
        assert_eq!(put["ReturnValuesOnConditionCheckFailure"], "ALL_OLD");
        body["CancellationReasons"][0]["Item"] = put["Item"].clone();
        (status, body)
    });
    let store = bookings_through(&clients.dynamodb);
    assert_eq!(claim(&store, &exclusive("key")).await.unwrap(), Claim::Claimed);
}

#[tokio::test]
async fn what_meets_another_transaction_is_tried_again() {
    let tries = AtomicUsize::new(0);
    let (clients, requests) = canned(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => cancellation(&["None", "TransactionConflict"]),
        1 => cancellation(&["TransactionConflict", "ConditionalCheckFailed"]),
        2 => cancellation(&["None", "ThrottlingError"]),
        _ => (200, json!({})),
    });
    let store = bookings_through(&clients.dynamodb);
    assert_eq!(claim(&store, &exclusive("key")).await.unwrap(), Claim::Claimed);
    let tokens = tokens(&requests);
    assert_eq!(tokens.len(), 4);
    assert!(tokens.iter().all(|token| *token == tokens[0]), "it is the same write: {tokens:?}");
    // Another write has another token, whatever it says.
    claim(&store, &exclusive("key")).await.unwrap();
    assert_ne!(requests.lock().unwrap().last().unwrap()["ClientRequestToken"], tokens[0]);
}

#[tokio::test(start_paused = true)]
async fn what_always_meets_another_transaction_is_unavailable_in_bounded_time() {
    let (clients, requests) = canned(|_| cancellation(&["None", "TransactionConflict"]));
    let store = bookings_through(&clients.dynamodb);
    let begun = tokio::time::Instant::now();
    let result = claim(&store, &exclusive("key")).await;
    let text = "TransactWriteItems: others are in the way".to_owned();
    assert_eq!(result, Err(StoreError::Unavailable(text)));
    assert!(begun.elapsed().as_millis() < 2_000);
    assert!(requests.lock().unwrap().len() <= 8);
}

#[tokio::test]
async fn a_single_write_that_meets_a_transaction_is_tried_again() {
    let tries = AtomicUsize::new(0);
    let conflict = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException",
        "message": "Transaction is ongoing for the item",
    });
    let (clients, _) = canned(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
        0 | 2 => (400, conflict.clone()),
        _ => (200, json!({})),
    });
    let store = bookings_through(&clients.dynamodb);
    let first = claimed("key", Patience::Background);
    assert_eq!(store.claim(&first).await.unwrap(), Claim::Claimed);
    assert_eq!(store.replace(1, &confirmed(&first)).await.unwrap(), Replaced::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slots_item_says_whose_it_is_and_nothing_else() {
    let database = Embedded::start().await;
    let first = exclusive("key");
    claim(&database.bookings(), &first).await.unwrap();
    let scan = database.client.scan().table_name(BOOKING_TABLE).send().await.unwrap();
    let is_slot = |pk: &AttributeValue| matches!(pk, AttributeValue::S(pk) if pk.starts_with("SLT#"));
    let slots: Vec<_> = scan.items().iter().filter(|item| is_slot(&item["pk"])).collect();
    let [slot] = slots.as_slice() else { panic!("{} slots", slots.len()) };
    let mut attributes: Vec<&str> = slot.keys().map(String::as_str).collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["b", "pk", "ttl"]);
    assert_eq!(slot["b"], AttributeValue::S(first.booking.id.to_string()));
    // Neither list nor sweep comes across it.
    for index in ["by_tenant", "by_reference", "overdue"] {
        let scan = database.client.scan().table_name(BOOKING_TABLE).index_name(index).send().await.unwrap();
        assert!(scan.items().iter().all(|item| !is_slot(&item["pk"])), "{index}");
    }
    let free = SlotExchange { take: Vec::new(), free: first.slots().into_iter().collect() };
    let settled = confirmed(&first);
    assert_eq!(database.bookings().replace_with_slots(1, &settled, &free).await.unwrap(), Replaced::Done);
    let scan = database.client.scan().table_name(BOOKING_TABLE).send().await.unwrap();
    assert_eq!(scan.count, 1);
}

/// An item as DynamoDB is asked to keep it.
async fn image(stored: &StoredBooking) -> Value {
    let (clients, requests) = canned(|_| (200, json!({})));
    bookings_through(&clients.dynamodb).claim(stored).await.unwrap();
    requests.lock().unwrap()[0]["Item"].clone()
}

/// Those of `images` that are asked for, the last of them first and one a call.
fn batch_answer(request: &Value, images: &[Value]) -> (u16, Value) {
    let table = &request["RequestItems"][BOOKING_TABLE];
    assert_eq!(table["ConsistentRead"], true);
    let mut keys = table["Keys"].as_array().unwrap().clone();
    let key = keys.pop().unwrap();
    let items: Vec<&Value> = images.iter().filter(|image| image["pk"] == key["pk"]).collect();
    let mut rest = table.clone();
    rest["Keys"] = keys.clone().into();
    let unprocessed = if keys.is_empty() { json!({}) } else { json!({ BOOKING_TABLE: rest }) };
    (200, json!({"Responses": { BOOKING_TABLE: items }, "UnprocessedKeys": unprocessed}))
}

#[tokio::test]
async fn a_list_is_complete_and_in_order_however_its_items_come() {
    let bookings = ["a", "gone", "c"].map(|key| claimed(key, Patience::Synchronous));
    let ids = bookings.each_ref().map(|stored| stored.booking.id.clone());
    let images = [image(&bookings[0]).await, image(&bookings[2]).await];
    let listed = ids.clone();
    let (clients, requests) = canned(move |request| {
        if request["IndexName"].is_null() {
            return batch_answer(request, &images);
        }
        let entry = |id| {
            json!({
                "pk": {"S": format!("BKG#{id}")},
                "t": {"S": "test:demo-marketplace"},
                "ca": {"N": now().as_unix_ms().to_string()},
            })
        };
        (200, json!({"Items": listed.each_ref().map(entry), "Count": 3}))
    });
    let store = bookings_through(&clients.dynamodb);
    let query = BookingQuery { reference: None, created_after: None, after: None, limit: 3 };
    let page = store.list(&tenant(), &query).await.unwrap();
    let found: Vec<_> = page.bookings.iter().map(|booking| &booking.id).collect();
    assert_eq!(found, [&ids[0], &ids[2]], "what is gone is passed over");
    assert_eq!(page.next, None);
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0]["IndexName"], "by_tenant");
    assert_eq!((&requests[0]["Limit"], &requests[0]["ScanIndexForward"]), (&json!(4), &json!(false)));
}
