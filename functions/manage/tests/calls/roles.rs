//! Who may call what.

use std::time::Duration;

use holdfast_app::settings::KeyOwner;
use holdfast_app::test_util::Fault;
use holdfast_domain::{ConsumerId, Mode, ProviderId};
use serde_json::json;

use crate::harness::{ADMIN, Harness, exposed};

const ADMIN_CALLS: [(&str, &str); 17] = [
    ("GET", "/v1/admin/consumers"),
    ("GET", "/v1/admin/consumers/a"),
    ("PUT", "/v1/admin/consumers/a"),
    ("DELETE", "/v1/admin/consumers/a"),
    ("GET", "/v1/admin/consumers/a/keys"),
    ("POST", "/v1/admin/consumers/a/keys"),
    ("DELETE", "/v1/admin/consumers/a/keys/k"),
    ("GET", "/v1/admin/providers"),
    ("GET", "/v1/admin/providers/a"),
    ("PUT", "/v1/admin/providers/a"),
    ("DELETE", "/v1/admin/providers/a"),
    ("GET", "/v1/admin/providers/a/locations"),
    ("GET", "/v1/admin/providers/a/locations/l"),
    ("PUT", "/v1/admin/providers/a/locations/l"),
    ("DELETE", "/v1/admin/providers/a/locations/l"),
    ("POST", "/v1/admin/providers/a/keys"),
    ("DELETE", "/v1/admin/providers/a/keys/k"),
];

const CONSUMER_CALLS: [(&str, &str); 4] = [
    ("GET", "/v1/webhook-endpoints"),
    ("POST", "/v1/webhook-endpoints"),
    ("GET", "/v1/webhook-endpoints/a"),
    ("DELETE", "/v1/webhook-endpoints/a"),
];

#[tokio::test(start_paused = true)]
async fn without_a_valid_key_nothing_opens() {
    let harness = Harness::new();
    let never_given = ADMIN.replace("_secret", "_other");
    let unknown = "hf_live_consumer_k00000000000000000000000000_secret";
    for (method, path) in ADMIN_CALLS.into_iter().chain(CONSUMER_CALLS) {
        for key in [None, Some("nonsense"), Some(never_given.as_str()), Some(unknown)] {
            let answer = harness.call(method, path, key, Some(json!({}))).await;
            assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{method} {path} {key:?}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_role_is_forbidden() {
    let harness = Harness::new();
    let consumer = KeyOwner::Consumer(ConsumerId::parse("a").unwrap());
    let provider = KeyOwner::Provider(ProviderId::parse("a").unwrap());
    let consumer = harness.key_of(consumer, Mode::Live).await;
    let provider = harness.key_of(provider, Mode::Live).await;
    for (method, path) in ADMIN_CALLS {
        for key in [&consumer, &provider] {
            let answer = harness.call(method, path, Some(exposed(key)), Some(json!({}))).await;
            assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{method} {path}");
        }
    }
    for (method, path) in CONSUMER_CALLS {
        for key in [exposed(&provider), ADMIN] {
            let answer = harness.call(method, path, Some(key), Some(json!({}))).await;
            assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{method} {path}");
        }
    }
    // A consumer's own call gets through.
    let answer = harness.call("GET", "/v1/webhook-endpoints", Some(exposed(&consumer)), None).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_calls_itself_an_administrators_is_none() {
    let harness = Harness::new();
    let key = harness.consumer_key("a", "live").await;
    let forged = key.replace("_consumer_", "_admin_");
    assert_eq!(harness.call("GET", "/v1/admin/consumers", Some(&forged), None).await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_is_dead_within_30_seconds() {
    let harness = Harness::new();
    let key = harness.consumer_key("a", "live").await;
    let list = || harness.call("GET", "/v1/webhook-endpoints", Some(&key), None);
    assert_eq!(list().await.status, 200);
    let keys = harness.admin("GET", "/v1/admin/consumers/a/keys", None).await;
    let key_id = keys.body["data"][0]["key_id"].as_str().unwrap();
    let path = format!("/v1/admin/consumers/a/keys/{key_id}");
    let revoked = harness.admin("DELETE", &path, None).await;
    assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(list().await.status, 401);
    let keys = harness.admin("GET", "/v1/admin/consumers/a/keys", None).await;
    assert_eq!(keys.body["data"][0]["revoked_from"], "2027-01-01T00:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn storage_that_fails_is_a_problem_to_be_repeated() {
    let harness = Harness::new();
    let key = harness.consumer_key("a", "live").await;
    harness.store.faults().next("settings.load", Fault::FailBefore);
    let answer = harness.call("GET", "/v1/webhook-endpoints", Some(&key), None).await;
    assert_eq!((answer.status, answer.code()), (503, "temporarily_unavailable"));
    assert_eq!(answer.headers["retry-after"], "1");
}
