//! Who may see and do what, and what is answered to everybody else.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::reply::Reply;
use super::world::{Provider, World, until};

/// Within 30 s a revoked key opens nothing any more, anywhere. The rest is for the clocks' granularity.
const REVOKED_EVERYWHERE: Duration = Duration::from_secs(31);
const REVOKED_AND_MORE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_booking_of_somebody_else_does_not_exist() {
    let world = World::new();
    let (consumer, other) = (world.consumer().await, world.consumer().await);
    let provider = world.provider().await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    for path in [format!("/v1/bookings/{id}"), format!("/v1/bookings/{id}/events")] {
        assert_eq!(consumer.get(&path).await.status, 200);
        other.get(&path).await.assert_problem(404, "not_found", "none");
        let theirs = other.get(&path).await;
        let nobodys = other.get(&path.replace(&id, "bkg_aaaaaaaaaaaaaaaaaaaaaaaaaa")).await;
        assert_eq!(theirs.json["detail"], nobodys.json["detail"], "the two must not be told apart");
    }
    for malformed in ["bkg_", "nothing", "bkg_..", &id.to_uppercase()] {
        consumer.get(&format!("/v1/bookings/{malformed}")).await.assert_problem(404, "not_found", "none");
    }
}

#[tokio::test]
async fn without_a_valid_key_nothing_opens() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let body = provider.body(&json!({}));
    let (rest, _) = consumer.key.rsplit_once('_').unwrap();
    for (method, path) in [
        (Method::POST, "/v1/bookings"),
        (Method::GET, "/v1/bookings/bkg_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
        (Method::GET, "/v1/webhook-endpoints"),
        (Method::GET, "/v1/admin/consumers"),
        (Method::POST, "/v1/provider/bookings/bkg_aaaaaaaaaaaaaaaaaaaaaaaaaa/acknowledge"),
    ] {
        let call = || world.call(method.clone(), path).json(&body);
        for request in [
            call(),
            call().header("authorization", "Basic dXNlcjpwYXNz"),
            call().bearer_auth("hf_test_consumer_no_such"),
            call().bearer_auth(format!("{rest}_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")),
            call().bearer_auth(consumer.key.replace("hf_test_", "hf_live_")),
        ] {
            let reply = Reply::of(request).await;
            reply.assert_problem(401, "unauthenticated", "none");
            assert!(!reply.header("www-authenticate").is_empty(), "{reply:?}");
        }
    }
    assert!(provider.calls("book").await.is_empty());
}

#[tokio::test]
async fn a_key_opens_what_its_role_is_for() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let provider_key = provider.key().await;
    let body = provider.body(&json!({}));
    let id = "bkg_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (method, path, key) in [
        (Method::POST, "/v1/bookings".to_owned(), &provider_key),
        (Method::GET, format!("/v1/bookings/{id}"), &provider_key),
        (Method::GET, "/v1/webhook-endpoints".to_owned(), &provider_key),
        (Method::GET, "/v1/webhook-endpoints".to_owned(), &world.stack.admin_key),
        (Method::GET, "/v1/admin/consumers".to_owned(), &provider_key),
        (Method::PUT, format!("/v1/admin/consumers/{}", consumer.id), &consumer.key),
        (Method::POST, format!("/v1/admin/consumers/{}/keys", consumer.id), &consumer.key),
        (Method::POST, format!("/v1/provider/bookings/{id}/acknowledge"), &consumer.key),
    ] {
        let reply = Reply::of(world.call(method, &path).bearer_auth(key).json(&body)).await;
        reply.assert_problem(403, "forbidden", "none");
    }
    assert!(provider.calls("book").await.is_empty());
}

#[tokio::test]
async fn unknown_calls_are_answered_as_problems() {
    let world = World::new();
    let consumer = world.consumer().await;
    for path in ["/", "/v1", "/v2/bookings", "/v1/nothing", "/v1/provider/nothing", "/favicon.ico"] {
        Reply::of(world.call(Method::GET, path)).await.assert_problem(404, "route_not_found", "none");
    }
    for (method, path, allowed) in [
        (Method::PATCH, "/v1/webhook-endpoints".to_owned(), "GET, HEAD, POST"),
        (Method::POST, format!("/v1/admin/consumers/{}", consumer.id), "DELETE, GET, HEAD, PUT"),
        (Method::GET, "/v1/provider/bookings/bkg_a/acknowledge".to_owned(), "POST"),
        (Method::DELETE, "/v1/bookings".to_owned(), "GET, HEAD, POST"),
        (Method::DELETE, "/v1/bookings/bkg_a".to_owned(), "GET, HEAD"),
    ] {
        let reply = Reply::of(consumer.call(method, &path)).await;
        reply.assert_problem(405, "method_not_allowed", "none");
        assert_eq!(reply.header("allow"), allowed);
    }
}

#[tokio::test]
async fn what_needs_no_key_needs_none() {
    let world = World::new();
    let health = Reply::of(world.call(Method::GET, "/health")).await;
    assert_eq!(health.status, 200, "{health:?}");
}

#[tokio::test]
async fn a_revoked_key_ends_everywhere_and_the_other_goes_on() {
    let world = World::new();
    let (mut consumer, provider) = (world.consumer().await, world.provider().await);
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let path = format!("/v1/bookings/{id}");
    let keys = format!("/v1/admin/consumers/{}/keys", consumer.id);
    let (_, new_key) = world.key(&format!("/v1/admin/consumers/{}", consumer.id)).await;
    let listed = Reply::of(world.admin(Method::GET, &keys)).await;
    let shown = String::from_utf8_lossy(&listed.bytes).into_owned();
    assert!(listed.status == 200 && shown.contains(&consumer.key_id), "{shown}");
    assert!(!shown.contains(&consumer.key) && !shown.contains(&new_key), "a key is shown once");

    let revoked = Reply::of(world.admin(Method::DELETE, &format!("{keys}/{}", consumer.key_id))).await;
    assert_eq!(revoked.status, 204, "{revoked:?}");
    let revoked_at = Instant::now();
    // Every instance has its own memory of the key. Using it meanwhile must not keep it alive.
    until(REVOKED_AND_MORE, Duration::from_secs(1), "the time is over", async || {
        let read = consumer.get(&path).await;
        if revoked_at.elapsed() > REVOKED_EVERYWHERE { Ok(()) } else { Err(json!(read.status)) }
    })
    .await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        calls.spawn(Reply::of(consumer.call(Method::GET, &path)));
        calls.spawn(Reply::of(consumer.creating(&provider.body(&json!({})))));
    }
    for reply in calls.join_all().await {
        reply.assert_problem(401, "unauthenticated", "none");
    }
    assert_eq!(provider.calls("book").await.len(), 1);
    consumer.key = new_key;
    assert_eq!(consumer.get(&path).await.status, 200, "the other key of the same consumer is not concerned");
}

#[tokio::test]
async fn test_keys_reach_test_providers_alone() {
    let world = World::new();
    let consumer = world.consumer().await;
    let provider = Provider::named(&world).await;
    provider.configure(&json!({"mode": "live"})).await;
    let reply = consumer.create(&provider.body(&json!({}))).await;
    reply.assert_problem(422, "unknown_provider", "none");
    assert!(provider.calls("book").await.is_empty());
}
