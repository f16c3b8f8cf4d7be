//! What the adapters make of a database that is busy or says no: of every call, the same two kinds of error that the
//! ports in memory have. The answers are canned, since an embedded database is never busy.

use futures_util::future::join_all;
use holdfast_app::ports::{DeliveryQuery, DeliveryStore, StoreError};
use holdfast_aws::{AwsClients, DynamoDeliveryStore};
use serde_json::{Value, json};

use super::canned::canned;
use super::deliveries::delivery;
use super::embedded::{DELIVERY_TABLE, entropy};
use super::fixtures::now;
use super::scenarios::{Scenario, every_scenario};

/// What DynamoDB answers, and whether that passes.
const ANSWERS: [(u16, &str, bool); 9] = [
    (400, "ProvisionedThroughputExceededException", true),
    (400, "ThrottlingException", true),
    (400, "RequestLimitExceeded", true),
    (400, "LimitExceededException", true),
    (500, "InternalServerError", true),
    (503, "ServiceUnavailable", true),
    (400, "AccessDeniedException", false),
    (400, "ResourceNotFoundException", false),
    (400, "ValidationException", false),
];

/// Reasons for which a transaction is cancelled, and whether they pass.
const REASONS: [(&str, bool); 6] = [
    ("TransactionConflict", true),
    ("ThrottlingError", true),
    ("ProvisionedThroughputExceeded", true),
    ("ValidationError", false),
    ("ItemCollectionSizeLimitExceeded", false),
    ("AccessDenied", false),
];

fn failure(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "Ada"}))
}

fn assert_told(told: &str, is_passing: bool, what: &str) {
    if is_passing {
        assert!(told.contains("unavailable"), "{what}: {told}");
    } else {
        assert!(told.contains("Refused("), "{what}: {told}");
    }
    assert!(!told.contains("Ada"), "the service's words may repeat values: {told}");
}

struct EveryAnswer<'a> {
    clients: &'a AwsClients,
    code: &'a str,
    is_passing: bool,
}

impl EveryAnswer<'_> {
    async fn check<S: Scenario>(&self, name: &str, scenario: S) {
        for place in 0..S::CALLS {
            let what = format!("call {place} of {name}, {}", self.code);
            assert_told(&scenario.call(place).await, self.is_passing, &what);
        }
    }
}

/// In virtual time, because the SDK waits before it tries again.
#[tokio::test(start_paused = true)]
async fn every_call_tells_what_passes_from_what_does_not() {
    join_all(ANSWERS.map(async |(status, code, is_passing)| {
        let (clients, _) = canned(move |_| failure(status, code));
        let every = EveryAnswer { clients: &clients, code, is_passing };
        every_scenario!(every, every.clients.dynamodb);
    }))
    .await;
}

struct EveryReason {
    reason: String,
    is_passing: bool,
    clients: AwsClients,
}

impl EveryReason {
    /// Calls that are no transactions are done.
    async fn check<S: Scenario>(&self, name: &str, scenario: S) {
        for place in 0..S::CALLS {
            let told = scenario.call(place).await;
            if TRANSACTIONS.contains(&(name, place)) {
                assert_told(&told, self.is_passing, &format!("call {place} of {name}, {}", self.reason));
            }
        }
    }
}

/// The calls that are transactions, or that begin with one, by scenario and place.
const TRANSACTIONS: [(&str, usize); 6] =
    [("slots", 0), ("slots", 1), ("slots", 3), ("endpoints", 0), ("feeds", 0), ("feeds", 1)];

#[tokio::test(start_paused = true)]
async fn every_reason_of_a_cancelled_transaction_passes_or_does_not() {
    join_all(REASONS.map(async |(reason, is_passing)| {
        let (clients, _) = canned(move |request| {
            let Some(actions) = request["TransactItems"].as_array() else { return (200, json!({})) };
            // The last action is to blame, whichever it is.
            let mut reasons = vec![json!({"Code": "None"}); actions.len()];
            *reasons.last_mut().unwrap() = json!({ "Code": reason });
            let (status, mut body) = failure(400, "TransactionCanceledException");
            body["CancellationReasons"] = reasons.into();
            (status, body)
        });
        let every = EveryReason { reason: reason.to_owned(), is_passing, clients };
        every_scenario!(every, every.clients.dynamodb);
    }))
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_under_way_already_is_waited_for_and_then_unavailable() {
    let (clients, requests) = canned(|request| match request["TransactItems"] {
        Value::Null => (200, json!({})),
        _ => failure(400, "TransactionInProgressException"),
    });
    let every = EveryReason { reason: "TransactionInProgress".to_owned(), is_passing: true, clients };
    every_scenario!(every, every.clients.dynamodb);
    let requests = requests.lock().unwrap();
    let tokens = requests.iter().map(|request| &request["ClientRequestToken"]).filter(|it| !it.is_null());
    let mut tokens: Vec<String> = tokens.map(Value::to_string).collect();
    let sent = tokens.len();
    tokens.dedup();
    assert!(tokens.len() * 2 <= sent, "each is tried again as the very same: {sent} of {tokens:?}");
}

/// The index by which replays find deliveries is behind: some of what it names is gone.
#[tokio::test]
async fn deliveries_that_an_index_still_names_are_passed_over() {
    let (kept, gone) = (delivery(), holdfast_domain::EventId::from_bytes([7; 16]));
    let (clients, requests) = canned(|_| (200, json!({})));
    let store = DynamoDeliveryStore::new(clients.dynamodb, DELIVERY_TABLE, entropy());
    store.create(&kept).await.unwrap();
    let item = requests.lock().unwrap()[0]["Item"].clone();
    let mut stale = item.clone();
    stale["sk"] = json!({"S": gone.as_str()});
    let key = |item: &Value| json!({"pk": item["pk"], "sk": item["sk"], "ca": item["ca"]});
    let (found, entries) = (item.clone(), [key(&stale), key(&item)]);
    let (clients, _) = canned(move |request| match request["IndexName"] {
        Value::Null => (200, json!({"Responses": {DELIVERY_TABLE: [found]}, "UnprocessedKeys": {}})),
        _ => (200, json!({"Items": entries, "Count": 2})),
    });
    let store = DynamoDeliveryStore::new(clients.dynamodb, DELIVERY_TABLE, entropy());
    let query = DeliveryQuery { since: now(), until: now().plus_ms(1), after: None, limit: 10 };
    let page = store.created_between(&kept.endpoint_id, &query).await.unwrap();
    assert_eq!((page.deliveries, page.next), (vec![kept], None));
}

/// A read in parts that never ends is an error, and not a part that looks like all.
#[tokio::test(start_paused = true)]
async fn deliveries_that_stay_unprocessed_are_unavailable() {
    let known = delivery();
    let entry = json!({
        "pk": {"S": format!("EP#{}", known.endpoint_id)},
        "sk": {"S": known.event_id.as_str()},
        "ca": {"N": now().as_unix_ms().to_string()},
    });
    let (clients, _) = canned(move |request| match request["IndexName"] {
        Value::Null => (200, json!({"Responses": {}, "UnprocessedKeys": request["RequestItems"]})),
        _ => (200, json!({"Items": [entry], "Count": 1})),
    });
    let store = DynamoDeliveryStore::new(clients.dynamodb, DELIVERY_TABLE, entropy());
    let query = DeliveryQuery { since: now(), until: now().plus_ms(1), after: None, limit: 10 };
    let page = store.created_between(&known.endpoint_id, &query).await;
    assert!(matches!(page, Err(StoreError::Unavailable(_))), "{page:?}");
}
