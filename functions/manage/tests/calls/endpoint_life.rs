//! Webhook endpoints, once they are made: changes, secrets, trials, the log, replays.

use std::time::Duration;

use futures_util::future::join_all;
use holdfast_app::ports::{AttemptEntry, AttemptLog, Clock, EndpointStore, PostOutcome};
use holdfast_app::webhook::DisabledReason;
use holdfast_domain::{EventId, Tenant, WebhookEndpointId};
use serde_json::{Value, json};

use crate::harness::{Answer, Harness};

const PATH: &str = "/v1/webhook-endpoints";

/// A consumer with one endpoint.
struct World {
    harness: Harness,
    key: String,
    path: String,
    made: Value,
}

impl World {
    async fn new() -> Self {
        let harness = Harness::new();
        let key = harness.consumer_key("shop", "live").await;
        let body = json!({"url": "https://shop.example/hook", "headers": {"X-Token": "hush"}});
        let made = harness.call("POST", PATH, Some(&key), Some(body)).await.body;
        let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
        Self { harness, key, path, made }
    }

    async fn call(&self, method: &str, more: &str, body: Option<Value>) -> Answer {
        self.harness.call(method, &format!("{}{more}", self.path), Some(&self.key), body).await
    }

    async fn patch(&self, body: Value) -> Answer {
        self.call("PATCH", "", Some(body)).await
    }

    fn id(&self) -> (Tenant, WebhookEndpointId) {
        let id = WebhookEndpointId::parse(self.made["id"].as_str().unwrap()).unwrap();
        (Tenant::parse("live:shop").unwrap(), id)
    }

    async fn disable(&self, reason: DisabledReason) {
        let (tenant, id) = self.id();
        let seen = self.harness.store.endpoint(&tenant, &id).await.unwrap().unwrap();
        self.harness.store.mark_failing(&tenant, &id, Some(self.harness.clock.now())).await.unwrap();
        self.harness.store.disable(&tenant, &id, seen.rev + 1, reason).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let world = World::new().await;
    let mut expected = world.made.clone();
    expected.as_object_mut().unwrap().remove("secret");
    assert_eq!(world.patch(json!({})).await.body, expected);
    for (field, value, shown) in [
        ("url", json!("https://new.example/"), ("url", json!("https://new.example/"))),
        ("event_types", json!(["booking.created"]), ("event_types", json!(["booking.created"]))),
        ("headers", json!({"X-New": "hush"}), ("header_names", json!(["x-new"]))),
        ("headers", json!({}), ("header_names", json!([]))),
        ("retry_schedule_seconds", json!([0, 7]), ("retry_schedule_seconds", json!([0, 7]))),
        ("event_types", json!([]), ("event_types", json!([]))),
        ("enabled", json!(false), ("enabled", json!(false))),
    ] {
        let answer = world.patch(json!({field: value})).await;
        expected[shown.0] = shown.1;
        assert_eq!((answer.status, &answer.body), (200, &expected), "{field}");
        assert_eq!(world.call("GET", "", None).await.body, expected);
    }
    assert_eq!(world.patch(json!({"enabled": true, "url": "https://a.example"})).await.body["enabled"], true);
}

#[tokio::test(start_paused = true)]
async fn every_field_of_a_patch_is_checked() {
    let world = World::new().await;
    for (field, value, pointer) in [
        ("url", json!(null), "/url"),
        ("url", json!("http://shop.example"), "/url"),
        ("event_types", json!(["webhook.eaten"]), "/event_types/0"),
        ("event_types", json!(null), "/event_types"),
        ("headers", json!({"webhook-id": "1"}), "/headers/webhook-id"),
        ("headers", json!(null), "/headers"),
        ("retry_schedule_seconds", json!([]), "/retry_schedule_seconds"),
        ("enabled", json!("yes"), "/enabled"),
        ("enabled", json!(null), "/enabled"),
        ("secret", json!("whsec_"), "/secret"),
        ("id", json!("whe_"), "/id"),
    ] {
        let answer = world.patch(json!({"event_types": ["booking.created"], field: value})).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"), "{field}: {value}");
        assert_eq!(answer.pointers(), [pointer], "{field}: {value}");
    }
    assert_eq!(world.call("GET", "", None).await.body["event_types"], json!([]), "nothing was changed");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_was_disabled_by_itself_can_be_enabled() {
    let world = World::new().await;
    world.disable(DisabledReason::Failing).await;
    let shown = world.call("GET", "", None).await.body;
    assert_eq!(
        (&shown["enabled"], &shown["disabled_reason"], &shown["failing_since"]),
        (&json!(false), &json!("failing"), &json!("2027-01-01T00:00:00Z"))
    );
    let refused = world.call("POST", "/replay", Some(json!({"since": "2026-12-31T00:00:00Z"}))).await;
    assert_eq!((refused.status, refused.code()), (409, "endpoint_disabled"));
    let enabled = world.patch(json!({"enabled": true})).await.body;
    assert_eq!(
        (&enabled["enabled"], &enabled["disabled_reason"], &enabled["failing_since"]),
        (&json!(true), &json!(null), &json!(null))
    );
}

#[tokio::test(start_paused = true)]
async fn calls_for_endpoints_of_others_find_nothing() {
    let world = World::new().await;
    let other = world.harness.consumer_key("rival", "live").await;
    for (method, more, body) in [
        ("PATCH", "", Some(json!({"enabled": false}))),
        ("POST", "/rotate-secret", None),
        ("POST", "/test", None),
        ("GET", "/deliveries", None),
        ("POST", "/replay", Some(json!({"since": "2026-12-31T00:00:00Z"}))),
    ] {
        let path = format!("{}{more}", world.path);
        let answer = world.harness.call(method, &path, Some(&other), body.clone()).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{method} {more}");
        let answer = world.harness.call(method, &format!("{PATH}/whe_x{more}"), Some(&other), body).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{method} {more}");
    }
    assert!(world.harness.receivers.posts.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_is_shown_once_and_the_old_one_signs_for_24_hours() {
    let world = World::new().await;
    let rotated = world.call("POST", "/rotate-secret", None).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(rotated.body["previous_secret_valid_until"], "2027-01-02T00:00:00Z");
    let (old, new) = (world.made["secret"].as_str().unwrap(), rotated.body["secret"].as_str().unwrap());
    assert_ne!(old, new);
    assert!(!world.call("GET", "", None).await.text.contains("whsec_"));
    let signed_by = async || {
        assert_eq!(world.call("POST", "/test", None).await.body["succeeded"], true);
        world.harness.receivers.posts.lock().unwrap().pop().unwrap().secrets
    };
    tokio::time::sleep(Duration::from_millis(24 * 3_600_000 - 1)).await;
    assert_eq!(signed_by().await, [new, old]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(signed_by().await, [new]);
    assert_eq!(world.call("GET", "", None).await.body["previous_secret_valid_until"], json!(null));
}

#[tokio::test(start_paused = true)]
async fn whoever_lost_the_answer_of_a_rotation_can_rotate_again() {
    let world = World::new().await;
    world.call("POST", "/rotate-secret", None).await;
    world.call("POST", "/rotate-secret", None).await;
    world.call("POST", "/test", None).await;
    let secrets = world.harness.receivers.posts.lock().unwrap().pop().unwrap().secrets;
    assert_eq!(secrets.len(), 3);
    assert_eq!(secrets[2], world.made["secret"].as_str().unwrap());
    // A third time would end the first one before its time.
    let refused = world.call("POST", "/rotate-secret", None).await;
    assert_eq!((refused.status, refused.code()), (409, "limit_reached"));
    assert!(refused.text.contains("2027-01-02T00:00:00Z"), "{refused:?}");
    tokio::time::sleep(Duration::from_hours(24)).await;
    assert_eq!(world.call("POST", "/rotate-secret", None).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn changes_at_the_same_time_are_all_made() {
    let world = World::new().await;
    let changes = (0..6).map(|number| {
        let body = match number % 3 {
            0 => json!({"event_types": ["booking.created"]}),
            1 => json!({"retry_schedule_seconds": [0, 9]}),
            _ => json!({"headers": {"x-new": "1"}}),
        };
        world.patch(body)
    });
    let (patched, rotated) = tokio::join!(join_all(changes), world.call("POST", "/rotate-secret", None));
    assert!(patched.iter().all(|answer| answer.status == 200) && rotated.status == 200);
    let shown = world.call("GET", "", None).await.body;
    assert_eq!(
        (&shown["event_types"], &shown["retry_schedule_seconds"], &shown["header_names"]),
        (&json!(["booking.created"]), &json!([0, 9]), &json!(["x-new"]))
    );
    assert_eq!(shown["previous_secret_valid_until"], "2027-01-02T00:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn a_trial_says_what_the_endpoint_answered() {
    let world = World::new().await;
    let receivers = &world.harness.receivers;
    let tried = world.call("POST", "/test", None).await;
    let post = receivers.posts.lock().unwrap().pop().unwrap();
    assert_eq!(
        tried.body,
        json!({
            "event_id": post.message_id, "succeeded": true, "status": 204, "latency_ms": 0,
            "response_body": null, "error": null,
        })
    );
    assert_eq!((post.headers, post.limit_ms), (vec!["x-token".to_owned()], 15_000));
    let body: Value = serde_json::from_str(&post.body).unwrap();
    assert_eq!((&body["type"], &body["id"]), (&json!("webhook_endpoint.test"), &json!(post.message_id)));
    assert_eq!(body["data"], world.call("GET", "", None).await.body);
    let refused = PostOutcome::Answered { status: 500, retry_after_ms: None, body: "no".to_owned() };
    for (reply, status, latency_ms, response_body, error) in [
        (Some(refused), json!(500), 0, json!("no"), "http_500"),
        (Some(PostOutcome::ConnectionFailed), json!(null), 0, json!(null), "connection_failed"),
        (Some(PostOutcome::TargetRefused), json!(null), 0, json!(null), "target_refused"),
        (None, json!(null), 15_000, json!(null), "timed_out"),
    ] {
        receivers.will(reply);
        let tried = world.call("POST", "/test", None).await;
        let mut expected = json!({
            "succeeded": false, "status": status, "latency_ms": latency_ms, "response_body": response_body,
            "error": error,
        });
        expected["event_id"] = tried.body["event_id"].clone();
        assert_eq!((tried.status, &tried.body), (200, &expected));
    }
    assert!(world.harness.log.log().is_empty(), "a trial is no delivery");
    assert_eq!(world.call("GET", "", None).await.body["failing_since"], json!(null));
    world.patch(json!({"enabled": false})).await;
    receivers.will(Some(PostOutcome::ConnectionFailed));
    assert_eq!(world.call("POST", "/test", None).await.status, 200, "before it is enabled");
}

#[tokio::test(start_paused = true)]
async fn the_log_is_read_a_page_at_a_time() {
    let world = World::new().await;
    for number in 1..=3_u8 {
        let entry = AttemptEntry {
            endpoint_id: world.id().1,
            event_id: EventId::from_bytes([number; 16]),
            event_type: "booking.created".to_owned(),
            attempt: 1,
            at: world.harness.clock.now().plus_ms(number.into()),
            latency_ms: 5,
            status: Some(500),
            error: Some("http_500".to_owned()),
            response_body: None,
        };
        world.harness.log.append(&entry).await.unwrap();
    }
    let first = world.call_query("limit=2").await;
    assert_eq!(first.body["data"].as_array().unwrap().len(), 2);
    assert_eq!(first.body["data"][0]["event_id"], EventId::from_bytes([3; 16]).as_str());
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let second = world.call_query(&format!("limit=2&cursor={cursor}")).await;
    assert_eq!(second.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(second.body["next_cursor"], json!(null));
    assert_eq!(world.call_query("status=succeeded").await.body["data"], json!([]));
    for query in ["limit=0", "cursor=x", "status=bad", "event_id=x", "page=2"] {
        assert_eq!(world.call_query(query).await.code(), "invalid_parameter", "{query}");
    }
}

impl World {
    async fn call_query(&self, query: &str) -> Answer {
        self.call("GET", &format!("/deliveries?{query}"), None).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_asked_for_and_happens_elsewhere() {
    let world = World::new().await;
    let now = world.harness.clock.now();
    let asked = world.call("POST", "/replay", Some(json!({"since": "2026-12-31T00:00:00Z"}))).await;
    let expected = json!({
        "endpoint_id": world.made["id"], "since": "2026-12-31T00:00:00Z", "until": "2027-01-01T00:00:00Z",
        "only_failed": false,
    });
    assert_eq!((asked.status, asked.body), (202, expected));
    let body = json!({"since": "2026-01-01T00:00:00Z", "until": "2027-06-01T00:00:00Z", "only_failed": true});
    let asked = world.call("POST", "/replay", Some(body)).await.body;
    // No delivery is older than 30 days, and none is in the future.
    assert_eq!(
        (&asked["since"], &asked["until"]),
        (&json!("2026-12-02T00:00:00Z"), &json!("2027-01-01T00:00:00Z"))
    );
    let messages = world.harness.replays.receive_replays(now);
    assert_eq!((messages.len(), messages[1].only_failed, messages[1].requested_at), (2, true, now));
    for (body, pointers) in [
        (json!({}), vec!["/since"]),
        (json!({"since": "yesterday"}), vec!["/since"]),
        (json!({"since": "2027-01-01T00:00:01Z"}), vec!["/since"]),
        (json!({"since": "2026-12-31T00:00:00Z", "until": "2026-12-31T00:00:00Z"}), vec!["/until"]),
        (
            json!({"since": "2026-12-31T00:00:00Z", "only_failed": 1, "limit": 5}),
            vec!["/limit", "/only_failed"],
        ),
    ] {
        let refused = world.call("POST", "/replay", Some(body.clone())).await;
        assert_eq!((refused.status, refused.pointers()), (422, pointers), "{body}");
    }
    assert!(world.harness.replays.receive_replays(now).is_empty());
}
