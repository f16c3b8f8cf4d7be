//! What cannot be understood or is not allowed is refused, named field by field, and nobody is called.

use reqwest::Method;
use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{Consumer, Provider, World};

/// One byte more than a body may have.
const TOO_LARGE: usize = 64 * 1024 + 1;

async fn post(consumer: &Consumer<'_>, content_type: Option<&str>, body: Vec<u8>) -> Reply {
    let request = consumer.call(Method::POST, "/v1/bookings").body(body);
    Reply::of(match content_type {
        Some(content_type) => request.header("content-type", content_type),
        None => request,
    })
    .await
}

async fn assert_nothing_happened(provider: &Provider<'_>) {
    assert!(provider.calls("book").await.is_empty());
    assert!(provider.bookings().await.is_empty());
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let valid = provider.body(&json!({})).to_string();
    let json = Some("application/json");
    for (content_type, body, status, code) in [
        (json, b"{\"provider_id\": ".to_vec(), 400, "malformed_json"),
        (json, b"\xff\xfe".to_vec(), 400, "malformed_json"),
        (json, vec![b'['; 1_000], 400, "malformed_json"),
        (json, format!("{valid} x").into_bytes(), 400, "malformed_json"),
        (json, Vec::new(), 400, "missing_body"),
        (Some("text/plain"), valid.clone().into_bytes(), 415, "unsupported_media_type"),
        (Some("application/json; charset=latin1"), valid.clone().into_bytes(), 415, "unsupported_media_type"),
        (None, valid.clone().into_bytes(), 415, "unsupported_media_type"),
        (json, vec![b' '; TOO_LARGE], 413, "body_too_large"),
        (json, b"[]".to_vec(), 422, "invalid_request"),
        (json, b"null".to_vec(), 422, "invalid_request"),
    ] {
        post(&consumer, content_type, body).await.assert_problem(status, code, "none");
    }
    let reply = post(&consumer, json, b"{\n  \"provider_id\": clinic }".to_vec()).await;
    let detail = reply.json["detail"].as_str().unwrap();
    assert!(detail.contains("line 2") && !detail.contains("clinic"), "{detail}");
    assert_nothing_happened(&provider).await;
}

#[tokio::test]
async fn the_largest_body_is_read_and_one_byte_more_is_not() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let mut body = provider.body(&json!({})).to_string();
    body.push_str(&" ".repeat(TOO_LARGE - 1 - body.len()));
    post(&consumer, Some("application/json"), format!("{body} ").into_bytes()).await.assert_problem(
        413,
        "body_too_large",
        "none",
    );
    assert_nothing_happened(&provider).await;
    post(&consumer, Some("application/json"), body.into_bytes()).await.assert_booking(201, "confirmed");
}

#[tokio::test]
async fn each_field_at_fault_is_named() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let (start, end) = ("2020-01-01T09:00:00Z", "2020-01-01T09:30:00Z");
    let cases: [(Value, &[&str]); 24] = [
        (json!({"provider_id": null}), &["/provider_id"]),
        (json!({"provider_id": "Not A Name"}), &["/provider_id"]),
        (json!({"provider_id": 7}), &["/provider_id"]),
        (json!({"slot": null}), &["/slot"]),
        (json!({"slot": {"start": null}}), &["/slot/start"]),
        (json!({"slot": {"start": "tomorrow"}}), &["/slot/start"]),
        (json!({"slot": {"start": start, "end": end}}), &["/slot/start"]),
        (json!({"slot": {"end": end}}), &["/slot/end"]),
        (json!({"slot": {"start": "2999-01-01T09:00:00Z", "end": "2999-01-01T09:30:00Z"}}), &["/slot/start"]),
        (json!({"slot": {"location_id": ""}}), &["/slot/location_id"]),
        (json!({"customer": null}), &["/customer"]),
        (json!({"customer": {"name": " "}}), &["/customer/name"]),
        (json!({"customer": {"email": "ada"}}), &["/customer/email"]),
        (json!({"customer": {"shoe_size": 38}}), &["/customer/shoe_size"]),
        (json!({"colour": "blue"}), &["/colour"]),
        (json!({"notes": "x".repeat(1_001)}), &["/notes"]),
        (json!({"reference": "x".repeat(129)}), &["/reference"]),
        (json!({"metadata": {"a/b": 5}}), &["/metadata/a~1b"]),
        (json!({"units": [{"unit_id": "adult", "quantity": 0}]}), &["/units/0/quantity"]),
        (json!({"async_confirmation": "yes"}), &["/async_confirmation"]),
        (json!({"sync_confirmation_timeout_millisecond": 999}), &["/sync_confirmation_timeout_millisecond"]),
        (
            json!({"sync_confirmation_timeout_millisecond": 10_001}),
            &["/sync_confirmation_timeout_millisecond"],
        ),
        (
            json!({"async_confirmation_timeout_millisecond": 59_999}),
            &["/async_confirmation_timeout_millisecond"],
        ),
        (
            json!({"async_confirmation_timeout_millisecond": 172_800_001}),
            &["/async_confirmation_timeout_millisecond"],
        ),
    ];
    for (change, pointers) in cases {
        let reply = consumer.create(&provider.body(&change)).await;
        reply.assert_problem(422, "invalid_request", "none");
        assert_eq!(reply.pointers(), pointers, "{change}: {reply:?}");
    }
    assert_nothing_happened(&provider).await;
}

#[tokio::test]
async fn all_fields_at_fault_are_named_at_once() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let change = json!({
        "colour": "blue",
        "slot": {"end": "never"},
        "customer": {"email": "ada"},
        "sync_confirmation_timeout_millisecond": 1,
    });
    let reply = consumer.create(&provider.body(&change)).await;
    reply.assert_problem(422, "invalid_request", "none");
    let mut pointers = reply.pointers();
    pointers.sort_unstable();
    let expected = ["/colour", "/customer/email", "/slot/end", "/sync_confirmation_timeout_millisecond"];
    assert_eq!(pointers, expected, "{reply:?}");
    let text = String::from_utf8_lossy(&reply.bytes).into_owned();
    assert!(!text.contains("Lovelace") && !text.contains("blue"), "what was sent is not repeated: {text}");
    assert_nothing_happened(&provider).await;
}

#[tokio::test]
async fn a_provider_that_nobody_configured_is_named() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let reply = consumer.create(&provider.body(&json!({"provider_id": "nobody-knows-it"}))).await;
    reply.assert_problem(422, "unknown_provider", "none");
    assert_nothing_happened(&provider).await;
}
