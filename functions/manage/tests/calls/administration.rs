//! Consumers, and the keys of consumers and providers.

use holdfast_app::manage::MAX_KEYS_PER_OWNER;
use holdfast_app::test_util::Fault;
use serde_json::{Value, json};

use crate::harness::Harness;
use crate::providers::provider;

#[tokio::test(start_paused = true)]
async fn consumers_are_made_listed_and_removed() {
    let harness = Harness::new();
    let path = "/v1/admin/consumers/demo";
    assert_eq!(harness.admin("GET", path, None).await.code(), "not_found");
    let made = harness.admin("PUT", path, Some(json!({"name": "Demo"}))).await;
    assert_eq!(
        (made.status, &made.body),
        (200, &json!({"id": "demo", "name": "Demo", "requests_per_second": 50}))
    );
    harness.admin("PUT", path, Some(json!({"name": "Demo 2", "requests_per_second": 7}))).await;
    assert_eq!(harness.admin("GET", path, None).await.body["name"], "Demo 2");
    let list = harness.admin("GET", "/v1/admin/consumers", None).await;
    assert_eq!(
        list.body,
        json!({"data": [{"id": "demo", "name": "Demo 2", "requests_per_second": 7}], "next_cursor": null})
    );
    assert_eq!(harness.admin("DELETE", path, None).await.status, 204);
    assert_eq!(harness.admin("DELETE", path, None).await.code(), "not_found");
}

#[tokio::test(start_paused = true)]
async fn a_removed_consumer_leaves_no_key_and_no_endpoint() {
    let harness = Harness::new();
    let key = harness.consumer_key("demo", "live").await;
    let body = json!({"url": "https://shop.example/hook"});
    let made = harness.call("POST", "/v1/webhook-endpoints", Some(&key), Some(body)).await;
    assert_eq!(made.status, 201);
    assert_eq!(harness.admin("DELETE", "/v1/admin/consumers/demo", None).await.status, 204);
    harness.admin("PUT", "/v1/admin/consumers/demo", Some(json!({"name": "Demo"}))).await;
    let keys = harness.admin("GET", "/v1/admin/consumers/demo/keys", None).await;
    assert!(keys.body["data"][0]["revoked_from"].is_string(), "{keys:?}");
    let key = harness.consumer_key("demo", "live").await;
    let endpoints = harness.call("GET", "/v1/webhook-endpoints", Some(&key), None).await;
    assert_eq!(endpoints.body["data"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_made_when_its_consumer_is_gone_goes_too() {
    let harness = Harness::new();
    let key = harness.consumer_key("demo", "live").await;
    // The key is known for 30 s after its end.
    harness.call("GET", "/v1/webhook-endpoints", Some(&key), None).await;
    assert_eq!(harness.admin("DELETE", "/v1/admin/consumers/demo", None).await.status, 204);
    let body = json!({"url": "https://shop.example/hook"});
    let late = harness.call("POST", "/v1/webhook-endpoints", Some(&key), Some(body)).await;
    assert_eq!((late.status, late.code()), (401, "unauthenticated"));
    let left = harness.call("GET", "/v1/webhook-endpoints", Some(&key), None).await;
    assert_eq!((left.status, &left.body["data"]), (200, &json!([])));
}

#[tokio::test(start_paused = true)]
async fn bodies_and_names_are_checked() {
    let harness = Harness::new();
    let harness = &harness;
    let put = async |id: &str, body: Value| {
        harness.admin("PUT", &format!("/v1/admin/consumers/{id}"), Some(body)).await
    };
    for (body, pointers) in [
        (json!({}), vec!["/name"]),
        (json!({"name": ""}), vec!["/name"]),
        (json!({"name": 5, "other": 1}), vec!["/name", "/other"]),
        (json!([]), vec![""]),
    ] {
        let answer = put("demo", body).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"));
        assert_eq!(answer.pointers(), pointers);
    }
    let answer = put("Demo", json!({"name": "x"})).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_parameter"));
    let empty = harness.admin("PUT", "/v1/admin/consumers/demo", None).await;
    assert_eq!(empty.code(), "missing_body");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_shown_once_and_fits_its_owner() {
    let harness = Harness::new();
    harness.admin("PUT", "/v1/admin/providers/clinic", Some(provider())).await;
    let keys = "/v1/admin/providers/clinic/keys";
    let made = harness.admin("POST", keys, Some(json!({"mode": "test"}))).await;
    assert_eq!(made.status, 201);
    let key = made.body["key"].as_str().unwrap();
    let key_id = made.body["key_id"].as_str().unwrap();
    assert!(key.starts_with(&format!("hf_test_provider_{key_id}_")), "{key}");
    assert_eq!(made.body["owner"], json!({"role": "provider", "id": "clinic"}));
    let list = harness.admin("GET", keys, None).await;
    assert_eq!(list.body["data"][0]["key_id"], key_id);
    assert!(!list.text.contains(key));
    for (body, pointers) in [
        (json!({"mode": "live"}), vec!["/mode"]),
        (json!({"mode": "x"}), vec!["/mode"]),
        (json!({}), vec!["/mode"]),
    ] {
        assert_eq!(harness.admin("POST", keys, Some(body)).await.pointers(), pointers);
    }
    for path in
        ["/v1/admin/providers/nobody/keys", "/v1/admin/consumers/clinic/keys", "/v1/admin/consumers/X/keys"]
    {
        let answer = harness.admin("POST", path, Some(json!({"mode": "test"}))).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{path}");
    }
    // Another owner's key cannot be ended under one's own name.
    harness.admin("PUT", "/v1/admin/consumers/clinic", Some(json!({"name": "x"}))).await;
    let foreign = format!("/v1/admin/consumers/clinic/keys/{key_id}");
    assert_eq!(harness.admin("DELETE", &foreign, None).await.status, 404);
    assert_eq!(harness.admin("DELETE", &format!("{keys}/{key_id}"), None).await.status, 204);
    assert_eq!(harness.admin("DELETE", &format!("{keys}/nonsense"), None).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_consumers_limit_is_checked_counted_and_replaced() {
    let harness = Harness::new();
    let path = "/v1/admin/consumers/demo";
    for wrong in [json!(0), json!(10_001), json!(-1), json!(1.5), json!("5")] {
        let body = json!({"name": "Demo", "requests_per_second": wrong});
        let answer = harness.admin("PUT", path, Some(body)).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/requests_per_second"]), "{answer:?}");
    }
    let key = harness.consumer_key("demo", "live").await;
    harness.admin("PUT", path, Some(json!({"name": "Demo", "requests_per_second": 1}))).await;
    let mut served = 0;
    let refused = loop {
        let answer = harness.call("GET", "/v1/events", Some(&key), None).await;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served <= 60, "{answer:?}");
    };
    assert_eq!((refused.status, refused.code(), served), (429, "rate_limited", 60));
    // A wrong key costs nobody anything, and administrators have no limit.
    assert_eq!(harness.call("GET", "/v1/events", Some("nonsense"), None).await.status, 401);
    harness.admin("PUT", path, Some(json!({"name": "Demo"}))).await;
    let usual = harness.admin("GET", path, None).await;
    assert_eq!(usual.body["requests_per_second"], 50);
}

#[tokio::test(start_paused = true)]
async fn valid_keys_are_bounded() {
    let harness = Harness::new();
    for _ in 0..MAX_KEYS_PER_OWNER {
        harness.consumer_key("demo", "test").await;
    }
    let body = Some(json!({"mode": "test"}));
    let answer = harness.admin("POST", "/v1/admin/consumers/demo/keys", body).await;
    assert_eq!((answer.status, answer.code()), (409, "limit_reached"));
}

#[tokio::test(start_paused = true)]
async fn a_key_made_while_its_owner_is_removed_opens_nothing() {
    let harness = Harness::new();
    harness.consumer_key("demo", "live").await;
    harness.store.faults().next("configuration.delete_consumer", Fault::DelayBefore(50));
    harness.store.faults().next("configuration.put_key", Fault::DelayBefore(100));
    let creation = harness.admin("POST", "/v1/admin/consumers/demo/keys", Some(json!({"mode": "live"})));
    let removal = harness.admin("DELETE", "/v1/admin/consumers/demo", None);
    let (created, removed) = tokio::join!(creation, removal);
    assert_eq!((created.code(), removed.status), ("not_found", 204));
    harness.admin("PUT", "/v1/admin/consumers/demo", Some(json!({"name": "Demo"}))).await;
    let keys = harness.admin("GET", "/v1/admin/consumers/demo/keys", None).await;
    let keys = keys.body["data"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| key["revoked_from"].is_string()), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_broke_off_is_finished_by_a_repetition() {
    let harness = Harness::new();
    harness.consumer_key("demo", "live").await;
    harness.store.faults().next("configuration.revoke_key", Fault::FailBefore);
    let path = "/v1/admin/consumers/demo";
    assert_eq!(harness.admin("DELETE", path, None).await.status, 503);
    assert_eq!(harness.admin("DELETE", path, None).await.status, 204);
    assert_eq!(harness.admin("DELETE", path, None).await.status, 404);
}
