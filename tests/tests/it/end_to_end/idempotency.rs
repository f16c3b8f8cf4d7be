//! What an idempotency key is, whose it is, and what it does not stand for.

use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{Consumer, Provider, World};

async fn create_under(consumer: &Consumer<'_>, headers: &[(&str, &str)], body: &Value) -> Reply {
    let request =
        headers.iter().fold(consumer.creating(body), |request, (name, value)| request.header(*name, *value));
    Reply::of(request).await
}

#[tokio::test]
async fn every_spelling_of_a_key_is_the_same_key() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let body = provider.body(&json!({}));
    let first = create_under(&consumer, &[("idempotency-key", "\"order-1\"")], &body).await;
    let id = first.assert_booking(201, "confirmed");
    for headers in [
        &[("idempotency-key", "order-1")][..],
        &[("x-idempotency-key", "order-1")],
        &[("X-Idempotency-Key", "\"order-1\"")],
        &[("idempotency-key", "\"order-1\""), ("x-idempotency-key", "order-1")],
    ] {
        create_under(&consumer, headers, &body).await.assert_replays(&first);
    }
    assert_eq!(provider.live().await, [id]);
    assert_eq!(provider.calls("book").await.len(), 1);
}

#[tokio::test]
async fn two_different_keys_contradict_each_other() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let headers = [("idempotency-key", "one"), ("x-idempotency-key", "other")];
    let reply = create_under(&consumer, &headers, &provider.body(&json!({}))).await;
    reply.assert_problem(400, "idempotency_key_conflict", "none");
    assert!(provider.calls("book").await.is_empty());
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let longest = "k".repeat(255);
    let too_long = "k".repeat(256);
    for value in ["\"\"", "two words", "\"open", too_long.as_str()] {
        let reply = create_under(&consumer, &[("idempotency-key", value)], &provider.body(&json!({}))).await;
        reply.assert_problem(400, "invalid_idempotency_key", "none");
        assert_eq!(reply.pointers(), ["Idempotency-Key"], "{value}");
    }
    assert!(provider.calls("book").await.is_empty());
    let reply = create_under(&consumer, &[("idempotency-key", &longest)], &provider.body(&json!({}))).await;
    reply.assert_booking(201, "confirmed");
}

#[tokio::test]
async fn the_same_key_with_another_body_never_reaches_the_provider() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let first = consumer.create_with_key("key-1", &provider.body(&json!({}))).await;
    first.assert_booking(201, "confirmed");
    for change in [
        json!({"notes": "something else"}),
        json!({"customer": {"name": "Grace Hopper"}}),
        json!({"async_confirmation": true}),
        json!({"hold": false}),
    ] {
        let reply = consumer.create_with_key("key-1", &provider.body(&change)).await;
        reply.assert_problem(422, "idempotency_key_reused", "none");
    }
    assert_eq!(provider.calls("book").await.len(), 1);
    consumer.create_with_key("key-1", &provider.body(&json!({}))).await.assert_replays(&first);
}

#[tokio::test]
async fn a_body_that_says_the_same_in_other_words_is_the_same() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let body = provider.body(&json!({"reference": "é/A"}));
    let first = consumer.create_with_key("key-1", &body).await;
    first.assert_booking(201, "confirmed");
    let mut members: Vec<String> =
        body.as_object().unwrap().iter().map(|(name, value)| format!("{name:?}  :\n {value}")).collect();
    members.reverse();
    let spelled = format!(" {{ {} }}\n", members.join(" ,\t")).replace("\"é/A\"", r#""\u00e9\/\u0041""#);
    assert!(spelled.contains("\\u00e9"));
    let request = consumer.creating(&Value::Null).header("idempotency-key", "key-1").body(spelled);
    Reply::of(request).await.assert_replays(&first);
    assert_eq!(provider.calls("book").await.len(), 1);
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let world = World::new();
    let consumer = world.consumer().await;
    let provider = Provider::named(&world).await;
    let body = provider.body(&json!({}));
    let unknown = consumer.create_with_key("key-1", &body).await;
    unknown.assert_problem(422, "unknown_provider", "none");
    let invalid = consumer.create_with_key("key-1", &provider.body(&json!({"hold": "yes"}))).await;
    invalid.assert_problem(422, "invalid_request", "none");
    let past = json!({"slot": {"start": "2020-01-01T09:00:00Z", "end": "2020-01-01T09:30:00Z"}});
    let past = consumer.create_with_key("key-1", &provider.body(&past)).await;
    past.assert_problem(422, "invalid_request", "none");

    provider.configure(&json!({})).await;
    let first = consumer.create_with_key("key-1", &body).await;
    let id = first.assert_booking(201, "confirmed");
    assert_eq!(first.header("idempotency-replayed"), "");
    assert_eq!(provider.live().await, [id]);
}

#[tokio::test]
async fn a_key_belongs_to_its_consumer() {
    let world = World::new();
    let (consumer, other) = (world.consumer().await, world.consumer().await);
    let provider = world.provider().await;
    let body = provider.body(&json!({}));
    let first = consumer.create_with_key("key-1", &body).await;
    let second = other.create_with_key("key-1", &body).await;
    assert_eq!(second.header("idempotency-replayed"), "");
    assert_ne!(first.assert_booking(201, "confirmed"), second.assert_booking(201, "confirmed"));
    // Another body under it is no matter of the first consumer's either.
    let third = other.create_with_key("key-2", &provider.body(&json!({"reference": "theirs"}))).await;
    third.assert_booking(201, "confirmed");
    consumer.create_with_key("key-2", &body).await.assert_booking(201, "confirmed");
    assert_eq!(provider.live().await.len(), 4);
}

#[tokio::test]
async fn without_a_key_each_request_books() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let body = provider.body(&json!({}));
    let (first, second) = (consumer.create(&body).await, consumer.create(&body).await);
    assert_ne!(first.assert_booking(201, "confirmed"), second.assert_booking(201, "confirmed"));
    assert_eq!(provider.live().await.len(), 2);
}
