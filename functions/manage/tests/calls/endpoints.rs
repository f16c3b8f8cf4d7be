//! Webhook endpoints.

use data_encoding::BASE64;
use holdfast_app::webhook::{DEFAULT_RETRY_SCHEDULE_SECONDS, MAX_ENDPOINTS_PER_CONSUMER};
use serde_json::{Value, json};

use crate::harness::{Answer, Harness};

const PATH: &str = "/v1/webhook-endpoints";

async fn post(harness: &Harness, key: &str, body: Value) -> Answer {
    harness.call("POST", PATH, Some(key), Some(body)).await
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_shows_its_secret_once() {
    let harness = Harness::new();
    let key = harness.consumer_key("shop", "live").await;
    let body = json!({
        "url": "https://shop.example/hook?a=b",
        "event_types": ["booking.confirmed", "webhook.exhausted"],
        "headers": {"X-Token": "hush"},
        "retry_schedule_seconds": [0, 60],
        "enabled": false
    });
    let made = post(&harness, &key, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    let bytes = BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
    assert_eq!(bytes.len(), 32);
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(made.headers["location"], format!("{PATH}/{id}"));

    let shown = harness.call("GET", &format!("{PATH}/{id}"), Some(&key), None).await;
    assert_eq!(
        shown.body,
        json!({
            "id": id,
            "url": "https://shop.example/hook?a=b",
            "event_types": ["booking.confirmed", "webhook.exhausted"],
            "header_names": ["x-token"],
            "retry_schedule_seconds": [0, 60],
            "enabled": false,
            "disabled_reason": null,
            "failing_since": null,
            "previous_secret_valid_until": null,
            "created_at": "2027-01-01T00:00:00Z",
        })
    );
    let list = harness.call("GET", PATH, Some(&key), None).await;
    assert_eq!(list.body, json!({"data": [shown.body], "next_cursor": null}));
    assert!(!made.text.contains("hush") && !list.text.contains(&secret));

    assert_eq!(harness.call("DELETE", &format!("{PATH}/{id}"), Some(&key), None).await.status, 204);
    assert_eq!(harness.call("DELETE", &format!("{PATH}/{id}"), Some(&key), None).await.code(), "not_found");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_as_by_default() {
    let harness = Harness::new();
    let key = harness.consumer_key("shop", "live").await;
    let made = post(&harness, &key, json!({"url": "https://shop.example"})).await;
    assert_eq!(made.body["url"], "https://shop.example");
    assert_eq!(made.body["event_types"], json!([]));
    assert_eq!(made.body["retry_schedule_seconds"], json!(DEFAULT_RETRY_SCHEDULE_SECONDS));
    assert_eq!(made.body["enabled"], true);
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_other_tenants_do_not_exist() {
    let harness = Harness::new();
    let live = harness.consumer_key("shop", "live").await;
    let made = post(&harness, &live, json!({"url": "https://shop.example"})).await;
    let path = format!("{PATH}/{}", made.body["id"].as_str().unwrap());
    for other in [harness.consumer_key("shop", "test").await, harness.consumer_key("rival", "live").await] {
        for method in ["GET", "DELETE"] {
            assert_eq!(harness.call(method, &path, Some(&other), None).await.status, 404);
        }
        assert_eq!(harness.call("GET", PATH, Some(&other), None).await.body["data"], json!([]));
    }
    assert_eq!(harness.call("GET", &path, Some(&live), None).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn every_field_is_checked() {
    let harness = Harness::new();
    let key = harness.consumer_key("shop", "live").await;
    let headers: Value =
        (0..21).map(|number| (format!("x-{number}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    for (field, value, pointers) in [
        ("url", json!("http://shop.example"), vec!["/url"]),
        ("url", json!("https://u:p@shop.example"), vec!["/url"]),
        ("url", json!("https://shop.example/#a"), vec!["/url"]),
        ("url", json!(format!("https://shop.example/{}", "x".repeat(2_048))), vec!["/url"]),
        ("url", json!(null), vec!["/url"]),
        (
            "event_types",
            json!(["booking.confirmed", "booking.eaten", 5]),
            vec!["/event_types/1", "/event_types/2"],
        ),
        ("event_types", json!(["booking.created", "booking.created"]), vec!["/event_types/1"]),
        ("event_types", json!("booking.created"), vec!["/event_types"]),
        ("event_types", json!(vec!["booking.created"; 100]), vec!["/event_types"]),
        (
            "headers",
            json!({"webhook-id": "1", "X-A": "b\nc", "ok": "v"}),
            vec!["/headers/X-A", "/headers/webhook-id"],
        ),
        ("headers", json!({"a/b": "1"}), vec!["/headers/a~1b"]),
        ("headers", json!({"X-A": "1", "x-a": "2"}), vec!["/headers/x-a"]),
        ("headers", json!({"X-A": 1}), vec!["/headers/X-A"]),
        ("headers", headers, vec!["/headers"]),
        ("retry_schedule_seconds", json!([]), vec!["/retry_schedule_seconds"]),
        ("retry_schedule_seconds", json!(vec![0; 31]), vec!["/retry_schedule_seconds"]),
        ("retry_schedule_seconds", json!(vec![86_400; 15]), vec!["/retry_schedule_seconds"]),
        (
            "retry_schedule_seconds",
            json!([0, 86_401, -1]),
            vec!["/retry_schedule_seconds/1", "/retry_schedule_seconds/2"],
        ),
        ("enabled", json!("yes"), vec!["/enabled"]),
        ("secret", json!("whsec_"), vec!["/secret"]),
    ] {
        let mut body = json!({"url": "https://shop.example"});
        body[field] = value.clone();
        let answer = post(&harness, &key, body).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"), "{field}: {value}");
        assert_eq!(answer.pointers(), pointers, "{field}: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn their_number_is_bounded() {
    let harness = Harness::new();
    let key = harness.consumer_key("shop", "live").await;
    let body = json!({"url": "https://shop.example"});
    for _ in 0..MAX_ENDPOINTS_PER_CONSUMER {
        assert_eq!(post(&harness, &key, body.clone()).await.status, 201);
    }
    let answer = post(&harness, &key, body).await;
    assert_eq!((answer.status, answer.code()), (409, "limit_reached"));
}
