//! Providers.

use holdfast_app::manage::TargetRules;
use serde_json::{Value, json};

use crate::harness::{Answer, Harness};

const PATH: &str = "/v1/admin/providers/clinic";

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) fn provider() -> Value {
    json!({"name": "Demo clinic", "mode": "test", "base_url": "https://clinic.example/holdfast/"})
}

/// Configures the provider with these settings beside what has to be; null takes one away.
async fn put(harness: &Harness, settings: &Value) -> Answer {
    let mut body = provider();
    for (name, value) in settings.as_object().unwrap() {
        body[name] = value.clone();
    }
    harness.admin("PUT", PATH, Some(body)).await
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
        "real_time_timeout_millisecond": null,
        "notification_schedule_seconds": null,
        "exclusive_slots": false,
        "default_unit_id": null,
        "decline_messages": {},
        "requests_per_second": null,
        "max_attempts_in_flight": null,
        "availability": "ask",
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
    let many_messages: serde_json::Map<String, Value> =
        (0..51).map(|code| (code.to_string(), json!("Late."))).collect();
    let many_messages = Value::from(many_messages);
    for (field, value, pointers) in [
        ("name", json!(" "), vec!["/name"]),
        ("mode", json!("prod"), vec!["/mode"]),
        ("base_url", json!("http://clinic.example"), vec!["/base_url"]),
        ("base_url", json!("https://clinic.example/?a=b"), vec!["/base_url"]),
        ("base_url", json!(null), vec!["/base_url"]),
        ("base_url", json!(5), vec!["/base_url"]),
        ("protocol", json!("soap"), vec!["/protocol"]),
        ("confirmation", json!("maybe"), vec!["/confirmation"]),
        ("confirmation", json!("real_time"), vec!["/confirmation"]),
        ("signing_secret", json!("whsec_c2hvcnQ="), vec!["/signing_secret"]),
        ("attempt_timeout_millisecond", json!(999), vec!["/attempt_timeout_millisecond"]),
        ("attempt_timeout_millisecond", json!(60_001), vec!["/attempt_timeout_millisecond"]),
        ("real_time_timeout_millisecond", json!(1_000), vec!["/real_time_timeout_millisecond"]),
        ("notification_schedule_seconds", json!([60]), vec!["/notification_schedule_seconds"]),
        ("default_unit_id", json!("adult"), vec!["/default_unit_id"]),
        ("exclusive_slots", json!("yes"), vec!["/exclusive_slots"]),
        ("requests_per_second", json!(0), vec!["/requests_per_second"]),
        ("requests_per_second", json!(1_001), vec!["/requests_per_second"]),
        ("requests_per_second", json!(0.5), vec!["/requests_per_second"]),
        ("max_attempts_in_flight", json!(0), vec!["/max_attempts_in_flight"]),
        ("max_attempts_in_flight", json!(101), vec!["/max_attempts_in_flight"]),
        ("decline_messages", json!(["late"]), vec!["/decline_messages"]),
        ("decline_messages", json!({"1": 5}), vec!["/decline_messages/1"]),
        (
            "decline_messages",
            json!({"1": "", "a/b": "x\u{7}"}),
            vec!["/decline_messages/1", "/decline_messages/a~1b"],
        ),
        ("decline_messages", json!({" ": "Late."}), vec!["/decline_messages/ "]),
        ("decline_messages", json!({"1": "x".repeat(501)}), vec!["/decline_messages/1"]),
        ("decline_messages", many_messages, vec!["/decline_messages"]),
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
        "name": 1, "mode": "prod", "base_url": "ftp://x", "protocol": "soap", "auth": {"type": 5, "extra": 1},
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
async fn every_kind_of_provider_has_its_settings() {
    let harness = Harness::new();
    let schedule = json!([60, 300, 900]);
    for (settings, shown) in [
        (
            json!({"protocol": "octo"}),
            json!({"confirmation": "confirm", "notification_schedule_seconds": null}),
        ),
        (
            json!({"protocol": "octo", "default_unit_id": "adult"}),
            json!({"confirmation": "confirm", "default_unit_id": "adult"}),
        ),
        (
            json!({"protocol": "docplanner"}),
            json!({"confirmation": "notify", "notification_schedule_seconds": schedule,
                "real_time_timeout_millisecond": null}),
        ),
        (
            json!({"protocol": "docplanner", "confirmation": "real_time"}),
            json!({"notification_schedule_seconds": schedule, "real_time_timeout_millisecond": 5_000}),
        ),
        (
            json!({"protocol": "docplanner", "confirmation": "real_time", "real_time_timeout_millisecond": 500,
                "notification_schedule_seconds": [], "exclusive_slots": true,
                "decline_messages": {"7": "The doctor is away."}}),
            json!({"notification_schedule_seconds": [], "real_time_timeout_millisecond": 500,
                "exclusive_slots": true, "decline_messages": {"7": "The doctor is away."}}),
        ),
        (
            json!({"confirmation": "notify", "notification_schedule_seconds": [1, 2, 86_400],
                "requests_per_second": 1_000, "max_attempts_in_flight": 100}),
            json!({"protocol": "holdfast", "notification_schedule_seconds": [1, 2, 86_400],
                "requests_per_second": 1_000, "max_attempts_in_flight": 100}),
        ),
        (
            json!({"confirmation": "notify", "base_url": null, "exclusive_slots": true}),
            json!({"base_url": null, "notification_schedule_seconds": null, "exclusive_slots": true}),
        ),
        (json!({"protocol": "docplanner", "base_url": null}), json!({"base_url": null})),
    ] {
        let made = put(&harness, &settings).await;
        assert_eq!(made.status, 200, "{settings}: {made:?}");
        let read = harness.admin("GET", PATH, None).await;
        assert_eq!(read.body, made.body, "{settings}");
        for (name, value) in shown.as_object().unwrap() {
            assert_eq!(read.body[name], *value, "{settings}: {name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mode_that_the_protocol_lacks_is_refused_with_those_it_has() {
    let harness = Harness::new();
    for (protocol, confirmation, possible) in [
        ("holdfast", "real_time", "confirm, notify"),
        ("docplanner", "confirm", "notify, real_time"),
        ("octo", "notify", "confirm"),
        ("octo", "real_time", "confirm"),
    ] {
        let answer = put(&harness, &json!({"protocol": protocol, "confirmation": confirmation})).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"), "{protocol} {confirmation}");
        assert_eq!(answer.pointers(), ["/confirmation"], "{protocol} {confirmation}");
        let detail = answer.body["errors"][0]["detail"].as_str().unwrap();
        let expected = format!("is not possible with protocol {protocol}; possible: {possible}");
        assert_eq!(detail, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_that_do_not_belong_are_refused_where_they_stand() {
    let harness = Harness::new();
    let pulling = json!({
        "confirmation": "notify", "base_url": null, "auth": {"type": "bearer", "token": "t"},
        "signing_secret": SECRET, "retry": {"factor": 3}, "attempt_timeout_millisecond": 5_000,
        "notification_schedule_seconds": [60], "requests_per_second": 5, "max_attempts_in_flight": 5
    });
    for (settings, pointers) in [
        (
            json!({"confirmation": "notify", "real_time_timeout_millisecond": 600}),
            vec!["/real_time_timeout_millisecond"],
        ),
        (
            json!({"protocol": "octo", "notification_schedule_seconds": [60]}),
            vec!["/notification_schedule_seconds"],
        ),
        (json!({"protocol": "docplanner", "default_unit_id": "adult"}), vec!["/default_unit_id"]),
        (json!({"protocol": "octo", "base_url": null}), vec!["/base_url"]),
        (json!({"protocol": "docplanner", "confirmation": "real_time", "base_url": null}), vec!["/base_url"]),
        (
            pulling,
            vec![
                "/attempt_timeout_millisecond",
                "/auth",
                "/max_attempts_in_flight",
                "/notification_schedule_seconds",
                "/requests_per_second",
                "/retry",
                "/signing_secret",
            ],
        ),
    ] {
        let answer = put(&harness, &settings).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"), "{settings}");
        assert_eq!(answer.pointers(), pointers, "{settings}");
    }
}

#[tokio::test(start_paused = true)]
async fn times_of_gates_and_notifications_are_bounded() {
    let harness = Harness::new();
    for (field, value, pointers) in [
        ("real_time_timeout_millisecond", json!(499), vec!["/real_time_timeout_millisecond"]),
        ("real_time_timeout_millisecond", json!(5_001), vec!["/real_time_timeout_millisecond"]),
        ("notification_schedule_seconds", json!([0]), vec!["/notification_schedule_seconds/0"]),
        ("notification_schedule_seconds", json!([60, 60]), vec!["/notification_schedule_seconds/1"]),
        ("notification_schedule_seconds", json!([60, 30, 90]), vec!["/notification_schedule_seconds/1"]),
        ("notification_schedule_seconds", json!([60, 86_401]), vec!["/notification_schedule_seconds/1"]),
        ("notification_schedule_seconds", json!([1.5]), vec!["/notification_schedule_seconds/0"]),
        (
            "notification_schedule_seconds",
            json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
            vec!["/notification_schedule_seconds"],
        ),
    ] {
        let mut settings = json!({"protocol": "docplanner", "confirmation": "real_time"});
        settings[field] = value.clone();
        let answer = put(&harness, &settings).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid_request"), "{field}: {value}");
        assert_eq!(answer.pointers(), pointers, "{field}: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_can_be_asked_what_is_open_is_asked_unless_it_wants_to_tell() {
    let harness = Harness::new();
    for (settings, source) in [
        (json!({}), "ask"),
        (json!({"protocol": "octo"}), "ask"),
        (json!({"protocol": "docplanner"}), "push"),
        (json!({"confirmation": "notify", "base_url": null}), "push"),
        (json!({"availability": "push"}), "push"),
    ] {
        let made = put(&harness, &settings).await;
        assert_eq!((made.status, &made.body["availability"]), (200, &json!(source)), "{settings}");
    }
    for settings in [
        json!({"availability": "sometimes"}),
        json!({"availability": "ask", "protocol": "docplanner"}),
        json!({"availability": "ask", "confirmation": "notify", "base_url": null}),
    ] {
        assert_eq!(put(&harness, &settings).await.pointers(), ["/availability"], "{settings}");
    }
}
