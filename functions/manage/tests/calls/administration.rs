//! Consumers, providers and their keys.

use holdfast_app::manage::{MAX_KEYS_PER_OWNER, TargetRules};
use holdfast_app::test_util::Fault;
use serde_json::{Value, json};

use crate::harness::Harness;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn provider() -> Value {
    json!({"name": "Demo clinic", "mode": "test", "base_url": "https://clinic.example/holdfast/"})
}

#[tokio::test(start_paused = true)]
async fn consumers_are_made_listed_and_removed() {
    let harness = Harness::new();
    let path = "/v1/admin/consumers/demo";
    assert_eq!(harness.admin("GET", path, None).await.code(), "not_found");
    let made = harness.admin("PUT", path, Some(json!({"name": "Demo"}))).await;
    assert_eq!((made.status, &made.body), (200, &json!({"id": "demo", "name": "Demo"})));
    harness.admin("PUT", path, Some(json!({"name": "Demo 2"}))).await;
    assert_eq!(harness.admin("GET", path, None).await.body["name"], "Demo 2");
    let list = harness.admin("GET", "/v1/admin/consumers", None).await;
    assert_eq!(list.body, json!({"data": [{"id": "demo", "name": "Demo 2"}], "next_cursor": null}));
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
async fn a_provider_has_defaults_and_shows_no_secret() {
    let harness = Harness::new();
    let path = "/v1/admin/providers/clinic";
    let made = harness.admin("PUT", path, Some(provider())).await;
    let expected = json!({
        "id": "clinic",
        "name": "Demo clinic",
        "mode": "test",
        "base_url": "https://clinic.example/holdfast",
        "protocol": "holdfast",
        "confirmation": "confirm",
        "auth": {"type": "none"},
        "signing_secret_set": false,
        "retry": {"first_delay_millisecond": 5000, "factor": 2, "max_delay_millisecond": 300_000},
        "attempt_timeout_millisecond": 30000,
    });
    assert_eq!((made.status, &made.body), (200, &expected));

    let mut full = provider();
    full["protocol"] = json!("holdfast");
    full["confirmation"] = json!("confirm");
    full["signing_secret"] = json!(SECRET);
    full["retry"] = json!({"first_delay_millisecond": 100, "max_delay_millisecond": 1000});
    full["attempt_timeout_millisecond"] = json!(60_000);
    for (auth, kind) in [
        (json!({"type": "bearer", "token": "hush-token"}), "bearer"),
        (json!({"type": "api_key", "header": "X-Api-Key", "value": "hush-value"}), "api_key"),
        (json!({"type": "basic", "username": "hush-user", "password": "hush-word"}), "basic"),
    ] {
        full["auth"] = auth;
        let made = harness.admin("PUT", path, Some(full.clone())).await;
        assert_eq!(made.status, 200, "{made:?}");
        let shown = harness.admin("GET", path, None).await;
        let list = harness.admin("GET", "/v1/admin/providers", None).await;
        assert_eq!(shown.body["auth"], json!({"type": kind}));
        assert_eq!(shown.body["signing_secret_set"], true);
        assert_eq!(shown.body["retry"]["first_delay_millisecond"], 100);
        assert_eq!(list.body["data"][0], shown.body);
        for text in [made.text, shown.text, list.text] {
            assert!(!text.contains("hush") && !text.contains("MfKQ"), "{text}");
        }
    }
    assert_eq!(harness.admin("DELETE", path, None).await.status, 204);
    assert_eq!(harness.admin("GET", path, None).await.code(), "not_found");
}

#[tokio::test(start_paused = true)]
async fn every_field_of_a_provider_is_checked() {
    let harness = Harness::new();
    for (field, value, pointers) in [
        ("name", json!(" "), vec!["/name"]),
        ("mode", json!("prod"), vec!["/mode"]),
        ("base_url", json!("http://clinic.example"), vec!["/base_url"]),
        ("base_url", json!("https://clinic.example/?a=b"), vec!["/base_url"]),
        ("protocol", json!("octo"), vec!["/protocol"]),
        ("confirmation", json!("notify"), vec!["/confirmation"]),
        ("signing_secret", json!("whsec_c2hvcnQ="), vec!["/signing_secret"]),
        ("attempt_timeout_millisecond", json!(999), vec!["/attempt_timeout_millisecond"]),
        ("attempt_timeout_millisecond", json!(60_001), vec!["/attempt_timeout_millisecond"]),
        ("requests_per_second", json!(5), vec!["/requests_per_second"]),
        ("auth", json!("none"), vec!["/auth"]),
        ("auth", json!({"type": "digest"}), vec!["/auth/type"]),
        ("auth", json!({"type": "bearer"}), vec!["/auth/token"]),
        ("auth", json!({"type": "bearer", "token": "a\nb"}), vec!["/auth/token"]),
        ("auth", json!({"type": "none", "token": "t"}), vec!["/auth/token"]),
        ("auth", json!({"type": "api_key"}), vec!["/auth/header", "/auth/value"]),
        ("auth", json!({"type": "api_key", "header": "Host", "value": "v"}), vec!["/auth/header"]),
        ("auth", json!({"type": "basic", "username": "a:b", "password": "p"}), vec!["/auth/username"]),
        (
            "retry",
            json!({"factor": 0, "first_delay_millisecond": 9999}),
            vec!["/retry/factor", "/retry/first_delay_millisecond"],
        ),
        ("retry", json!({"max_delay_millisecond": 1}), vec!["/retry/max_delay_millisecond"]),
        ("retry", json!({"factor": 1.5}), vec!["/retry/factor"]),
    ] {
        let mut body = provider();
        body[field] = value.clone();
        let answer = harness.admin("PUT", "/v1/admin/providers/clinic", Some(body)).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"), "{field}: {value}");
        assert_eq!(answer.pointers(), pointers, "{field}: {value}");
    }
    assert_eq!(harness.admin("GET", "/v1/admin/providers/clinic", None).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn all_errors_come_in_one_answer() {
    let harness = Harness::new();
    let body = json!({
        "name": 1, "mode": "prod", "base_url": "ftp://x", "protocol": "octo", "auth": {"type": 5, "extra": 1},
        "retry": {"factor": "two"}, "attempt_timeout_millisecond": 1, "what": null
    });
    let answer = harness.admin("PUT", "/v1/admin/providers/clinic", Some(body)).await;
    let expected = [
        "/attempt_timeout_millisecond",
        "/auth/extra",
        "/auth/type",
        "/base_url",
        "/mode",
        "/name",
        "/protocol",
        "/retry/factor",
        "/what",
    ];
    assert_eq!(answer.pointers(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_may_allow_http_and_a_mode_stays() {
    let harness = Harness::with_rules(TargetRules { allow_plain_http: true });
    let mut body = provider();
    body["base_url"] = json!("http://127.0.0.1:9999");
    let path = "/v1/admin/providers/clinic";
    assert_eq!(harness.admin("PUT", path, Some(body.clone())).await.status, 200);
    body["mode"] = json!("live");
    assert_eq!(harness.admin("PUT", path, Some(body)).await.pointers(), ["/mode"]);
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
