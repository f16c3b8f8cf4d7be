//! What the configuration in DynamoDB promises beyond the ports: its calls, and what it does when
//! DynamoDB is busy.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{
    BookingKeySecretStore, BreakerStore, ConfigurationStore, EndpointStore, EndpointUpdate, LimitStore,
    PlaceLease, PutEndpoint, SettingsReader, StoreError, TakenCalls, Wanted, WantedCalls,
};
use holdfast_app::settings::{AvailabilitySource, KeyOwner, ProviderSettings};
use holdfast_app::webhook::{DisabledReason, WebhookEndpoint};
use holdfast_aws::{AwsClients, AwsConfig, AwsCredentials, AwsHooks, CallLog, DynamoSettings};
use serde_json::{Value, json};

use super::canned::canned;
use super::embedded::{CONFIG_TABLE, Embedded, clients_of, entropy};
use super::fixtures::{booking_key_secret, endpoint, key, now, provider, provider_id, tenant};
use super::lossy_proxy::lossy_proxy;

fn settings_through(clients: &AwsClients) -> DynamoSettings {
    DynamoSettings::new(clients.dynamodb.clone(), CONFIG_TABLE, entropy())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_one_call() {
    let database = Embedded::start().await;
    let record = key(1, KeyOwner::Admin);
    database.settings().put_key(&record).await.unwrap();
    database.settings().put_provider(&provider("demo-clinic")).await.unwrap();
    database.settings().record_failure(&provider_id(), 1, now()).await.unwrap();
    let call_log = CallLog::new();
    let hooks = AwsHooks { call_log: Some(call_log.clone()), ..AwsHooks::default() };
    let store = settings_through(&database.clients(&hooks));
    let secrets = [booking_key_secret(1)];
    database.settings().replace_booking_key_secrets(None, &secrets).await.unwrap();
    let wanted = Wanted {
        key_id: Some(record.key_id.clone()),
        provider_id: Some(provider_id()),
        booking_key_secrets: true,
    };
    let loaded = store.load(&wanted).await.unwrap();
    assert_eq!(loaded.key, Some(record));
    assert!(loaded.provider.is_some());
    assert_eq!(loaded.booking_key_secrets, secrets);
    assert_eq!(loaded.breaker.open_until, Some(now()));
    assert_eq!(call_log.take(), ["BatchGetItem"]);
    store.load(&Wanted::default()).await.unwrap();
    assert!(call_log.take().is_empty(), "nothing is wanted");
}

/// Answers a batch read: one item for the first key, the other keys unprocessed.
fn one_at_a_time(request: &Value) -> (u16, Value) {
    let keys = request["RequestItems"][CONFIG_TABLE]["Keys"].as_array().unwrap();
    let (first, rest) = keys.split_first().unwrap();
    let mut item = first.clone();
    item["failures"] = json!({"N": "3"});
    let found = first["pk"]["S"].as_str().unwrap().starts_with("BREAKER#");
    let items = if found { vec![item] } else { Vec::new() };
    let unprocessed = if rest.is_empty() { json!({}) } else { json!({CONFIG_TABLE: {"Keys": rest}}) };
    (200, json!({"Responses": {CONFIG_TABLE: items}, "UnprocessedKeys": unprocessed}))
}

#[tokio::test]
async fn what_a_batch_leaves_is_asked_for_again() {
    let (clients, requests) = canned(one_at_a_time);
    let record = key(1, KeyOwner::Admin);
    let wanted =
        Wanted { key_id: Some(record.key_id), provider_id: Some(provider_id()), booking_key_secrets: false };
    let loaded = settings_through(&clients).load(&wanted).await.unwrap();
    assert_eq!(loaded.breaker.consecutive_failures, 3);
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn what_stays_unprocessed_is_unavailable() {
    let (clients, requests) =
        canned(|request| (200, json!({"Responses": {}, "UnprocessedKeys": request["RequestItems"]})));
    let wanted = Wanted { provider_id: Some(provider_id()), ..Wanted::default() };
    let refused = settings_through(&clients).load(&wanted).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(requests.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn throttling_is_retried_and_then_unavailable() {
    const THROTTLED: &str = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
    let (clients, requests) = canned(|_| (400, json!({"__type": THROTTLED, "message": "later"})));
    let refused = BreakerStore::read(&settings_through(&clients), &provider_id()).await;
    let expected = "GetItem: ProvisionedThroughputExceededException".to_owned();
    assert_eq!(refused, Err(StoreError::Unavailable(expected)));
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_transaction_that_conflicts_is_tried_again() {
    const CANCELLED: &str = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    let conflicts = AtomicUsize::new(2);
    let (clients, requests) = canned(move |_| {
        let left = conflicts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => {
                let reasons = json!([{"Code": "TransactionConflict"}, {"Code": "None"}]);
                (400, json!({"__type": CANCELLED, "Message": "cancelled", "CancellationReasons": reasons}))
            }
            Err(_) => (200, json!({})),
        }
    });
    let put = settings_through(&clients).put_endpoint(&endpoint(1, &tenant()), 50).await;
    assert_eq!(put, Ok(PutEndpoint::Done));
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_whose_answer_was_lost_is_taken_all_the_same() {
    let database = Embedded::start().await;
    database.settings().record_failure(&provider_id(), 1, now()).await.unwrap();
    let clients = clients_of(lossy_proxy(database.address, 1).await, &AwsHooks::default());
    let until = now().plus_ms(1_000);
    assert!(settings_through(&clients).try_probe(&provider_id(), now(), until).await.unwrap());
    assert!(!database.settings().try_probe(&provider_id(), now(), until).await.unwrap());
}

/// A provider as the first version wrote it.
fn first_versions_item() -> HashMap<String, AttributeValue> {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let number = |value: &str| AttributeValue::N(value.to_owned());
    [
        ("pk", text("PROVIDERS")),
        ("sk", text("demo-clinic")),
        ("display_name", text("Demo Clinic")),
        ("mode", text("test")),
        ("base_url", text("https://clinic.example.com/holdfast")),
        ("protocol", text("holdfast")),
        ("confirmation", text("confirm")),
        ("auth", AttributeValue::M(HashMap::from([("type".to_owned(), text("none"))]))),
        ("first_delay_ms", number("5000")),
        ("factor", number("2")),
        ("max_delay_ms", number("300000")),
        ("attempt_timeout_ms", number("20000")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_of_the_first_version_is_read_with_the_defaults() {
    let database = Embedded::start().await;
    let put = database.client.put_item().table_name(CONFIG_TABLE);
    put.set_item(Some(first_versions_item())).send().await.unwrap();
    let expected = ProviderSettings { attempt_timeout_ms: 20_000, ..provider("demo-clinic") };
    let settings = database.settings();
    let read = settings.provider(&provider_id()).await.unwrap().unwrap();
    assert_eq!(format!("{read:?}"), format!("{expected:?}"));
    let wanted = Wanted { provider_id: Some(provider_id()), ..Wanted::default() };
    let loaded = settings.load(&wanted).await.unwrap().provider.unwrap();
    assert_eq!(format!("{loaded:?}"), format!("{expected:?}"));
    // What is the same in both versions is written as it was.
    settings.put_provider(&read).await.unwrap();
    let key = HashMap::from(["pk", "sk"].map(|name| (name.to_owned(), first_versions_item()[name].clone())));
    let get = database.client.get_item().table_name(CONFIG_TABLE).set_key(Some(key));
    let item = get.send().await.unwrap().item.unwrap();
    for (name, value) in first_versions_item() {
        assert_eq!(item[&name], value, "{name}");
    }
}

/// Items of the first versions do not say how it becomes known what is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_becomes_known_as_is_usual_unless_it_is_said() {
    let database = Embedded::start().await;
    let read = async |changes: &[(&str, Option<&str>)]| {
        let mut item = first_versions_item();
        for (name, value) in changes {
            match value {
                Some(value) => item.insert((*name).to_owned(), AttributeValue::S((*value).to_owned())),
                None => item.remove(*name),
            };
        }
        let put = database.client.put_item().table_name(CONFIG_TABLE).set_item(Some(item));
        put.send().await.unwrap();
        let read = database.settings().provider(&provider_id()).await;
        read.map(|provider| provider.unwrap().availability)
    };
    for (protocol, with_url) in [
        ("holdfast", AvailabilitySource::Ask),
        ("octo", AvailabilitySource::Ask),
        ("docplanner", AvailabilitySource::Push),
    ] {
        let protocol = ("protocol", Some(protocol));
        assert_eq!(read(&[protocol]).await, Ok(with_url), "{protocol:?}");
        assert_eq!(read(&[protocol, ("base_url", None)]).await, Ok(AvailabilitySource::Push), "{protocol:?}");
        for source in AvailabilitySource::ALL {
            assert_eq!(read(&[protocol, ("availability", Some(source.as_str()))]).await, Ok(source));
        }
    }
    let unknown = read(&[("availability", Some("guess"))]).await;
    assert_eq!(unknown, Err(StoreError::Corrupt("provider: attribute availability".to_owned())));
}

fn lease(id: &str) -> PlaceLease {
    PlaceLease { id: id.to_owned(), until: now().plus_ms(10_000) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_one_update_each() {
    let database = Embedded::start().await;
    let call_log = CallLog::new();
    let hooks = AwsHooks { call_log: Some(call_log.clone()), ..AwsHooks::default() };
    let store = settings_through(&database.clients(&hooks));
    let first = WantedCalls { window_s: 1_795_000_000, is_begun: false, calls: 2, capacity: 3 };
    store.take_calls(&provider_id(), &first).await.unwrap();
    assert_eq!(call_log.take(), ["UpdateItem"]);
    let more = WantedCalls { is_begun: true, calls: 1, ..first };
    store.take_calls(&provider_id(), &more).await.unwrap();
    assert_eq!(call_log.take(), ["UpdateItem"]);
    store.take_calls(&provider_id(), &more).await.unwrap();
    assert_eq!(call_log.take(), ["UpdateItem"]);
    // The first place of a provider makes the item.
    assert!(store.take_place(&provider_id(), &lease("a"), 2, now()).await.unwrap());
    assert_eq!(call_log.take(), ["UpdateItem", "UpdateItem"]);
    assert!(store.take_place(&provider_id(), &lease("b"), 2, now()).await.unwrap());
    assert!(!store.take_place(&provider_id(), &lease("c"), 2, now()).await.unwrap());
    store.give_place_back(&provider_id(), "a").await.unwrap();
    assert_eq!(call_log.take(), ["UpdateItem"; 3]);
    assert!(store.take_place(&provider_id(), &lease("c"), 2, now()).await.unwrap());
    assert_eq!(call_log.take(), ["UpdateItem"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_whose_answers_were_lost_are_taken_once() {
    let database = Embedded::start().await;
    let lossy = async || {
        let clients = clients_of(lossy_proxy(database.address, 1).await, &AwsHooks::default());
        settings_through(&clients)
    };
    let window_s = 1_795_000_000;
    for is_begun in [false, true] {
        let wanted = WantedCalls { window_s, is_begun, calls: 2, capacity: 4 };
        let taken = lossy().await.take_calls(&provider_id(), &wanted).await.unwrap();
        assert_eq!(taken, TakenCalls { window_s, taken: 2 }, "is_begun: {is_begun}");
    }
    let rest = WantedCalls { window_s, is_begun: true, calls: 1, capacity: 5 };
    assert_eq!(database.settings().take_calls(&provider_id(), &rest).await.unwrap().taken, 1);
    for id in ["a", "b"] {
        assert!(lossy().await.take_place(&provider_id(), &lease(id), 2, now()).await.unwrap(), "{id}");
    }
    assert!(!database.settings().take_place(&provider_id(), &lease("c"), 2, now()).await.unwrap());
    lossy().await.give_place_back(&provider_id(), "a").await.unwrap();
    assert!(database.settings().take_place(&provider_id(), &lease("c"), 2, now()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_whose_answer_was_lost_counts_once() {
    let database = Embedded::start().await;
    let clients = clients_of(lossy_proxy(database.address, 1).await, &AwsHooks::default());
    let store = settings_through(&clients);
    assert_eq!(store.put_endpoint(&endpoint(1, &tenant()), 2).await, Ok(PutEndpoint::Done));
    assert_eq!(store.put_endpoint(&endpoint(2, &tenant()), 2).await, Ok(PutEndpoint::Done));
    assert_eq!(store.put_endpoint(&endpoint(3, &tenant()), 2).await, Ok(PutEndpoint::LimitReached));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_an_endpoint_whose_answer_was_lost_is_done() {
    let database = Embedded::start().await;
    let seen = endpoint(1, &tenant());
    database.settings().put_endpoint(&seen, 50).await.unwrap();
    let clients = clients_of(lossy_proxy(database.address, 1).await, &AwsHooks::default());
    let next = WebhookEndpoint { url: "https://new.example.com".to_owned(), rev: 2, ..seen };
    let replaced = settings_through(&clients).replace_endpoint(1, &next).await;
    assert_eq!(replaced, Ok(EndpointUpdate::Done));
    assert_eq!(database.settings().replace_endpoint(1, &next).await, Ok(EndpointUpdate::Conflict));
}

/// An endpoint as the first version wrote it.
async fn first_versions_endpoint(database: &Embedded) -> WebhookEndpoint {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let id = endpoint(1, &tenant()).id;
    let zero = AttributeValue::N("0".to_owned());
    let item = [
        ("pk", text(&format!("ENDPOINTS#{}", tenant()))),
        ("sk", text(id.as_str())),
        ("tenant", text(&tenant().to_string())),
        ("url", text("https://shop.example.com/hooks/1")),
        ("retry_schedule_seconds", AttributeValue::L(vec![zero])),
        ("enabled", AttributeValue::Bool(true)),
        ("secret", text("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")),
        ("created_at", AttributeValue::N("1795258065124".to_owned())),
    ];
    let item = item.map(|(name, value)| (name.to_owned(), value)).into();
    let put = database.client.put_item().table_name(CONFIG_TABLE).set_item(Some(item));
    put.send().await.unwrap();
    database.settings().endpoint(&tenant(), &id).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_of_the_first_version_is_read_and_changed() {
    let database = Embedded::start().await;
    let settings = database.settings();
    let seen = first_versions_endpoint(&database).await;
    assert_eq!((seen.rev, seen.times_disabled, seen.enabled), (0, 0, true));
    let next = WebhookEndpoint { rev: 1, ..seen.clone() };
    assert_eq!(settings.replace_endpoint(0, &next).await, Ok(EndpointUpdate::Done));
    assert_eq!(settings.replace_endpoint(0, &next).await, Ok(EndpointUpdate::Conflict));
    let seen = first_versions_endpoint(&database).await;
    for expected in [EndpointUpdate::Done, EndpointUpdate::Conflict] {
        let disabled = settings.disable(&tenant(), &seen.id, 0, DisabledReason::Gone).await;
        assert_eq!(disabled, Ok(expected));
    }
    let seen = first_versions_endpoint(&database).await;
    settings.mark_failing(&tenant(), &seen.id, Some(now())).await.unwrap();
    assert_eq!(settings.replace_endpoint(0, &next).await, Ok(EndpointUpdate::Conflict));
    assert_eq!(settings.endpoint(&tenant(), &seen.id).await.unwrap().unwrap().rev, 1);
}

#[tokio::test]
async fn https_clients_are_built_and_fail_within_their_limit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint_url = Some(format!("https://{}", listener.local_addr().unwrap()));
    drop(listener);
    let credentials = AwsCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "sesame".into(),
        session_token: Some("sesame".into()),
    };
    let config = AwsConfig { region: "eu-central-1".to_owned(), endpoint_url, credentials };
    assert!(!format!("{config:?}").contains("sesame"));
    let refused =
        BreakerStore::read(&settings_through(&AwsClients::new(&config).unwrap()), &provider_id()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}
