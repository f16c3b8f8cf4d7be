//! Consumers who poll hear of every change, once and in order.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Consumer, SOON, World, list, text, until};

const LOOK_AGAIN: Duration = Duration::from_millis(600);

/// What the feed says behind a cursor, and where it ends.
async fn events(consumer: &Consumer<'_>, query: &str) -> (Vec<Value>, String) {
    let page = consumer.get(&format!("/v1/events{query}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    (list(&page.json), text(&page.json["next_cursor"]))
}

fn types(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| text(&event["type"])).collect()
}

/// Waits until so many events are behind the cursor.
async fn until_events(consumer: &Consumer<'_>, cursor: &str, count: usize) -> (Vec<Value>, String) {
    let what = format!("{count} events in the feed");
    until(SOON, LOOK_AGAIN, &what, async || {
        let (events, next) = events(consumer, &format!("?after={cursor}")).await;
        if events.len() >= count { Ok((events, next)) } else { Err(json!(events)) }
    })
    .await
}

#[tokio::test]
async fn every_change_is_in_the_feed_as_webhooks_tell_it() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    let (none, begin) = events(&consumer, "").await;
    assert!(none.is_empty());
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let (seen, middle) = until_events(&consumer, &begin, 2).await;
    let mut names = types(&seen);
    names.sort();
    assert_eq!(names, ["booking.confirmed", "booking.created"]);
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    for message in hook.messages(&id).await {
        assert!(seen.contains(&message["body"]), "{message}");
    }
    // A cursor goes on from where it is; the one before shows the same again and more.
    let other = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let (later, end) = until_events(&consumer, &middle, 2).await;
    assert!(later.iter().all(|event| event["data"]["id"] == json!(other)), "{later:?}");
    let (all, again) = events(&consumer, &format!("?after={begin}&limit=100")).await;
    assert_eq!((all, &again), ([seen, later].concat(), &end));
    let (page, _) = events(&consumer, "?limit=3&type=booking.confirmed").await;
    assert_eq!(types(&page), ["booking.confirmed", "booking.confirmed"]);
    assert_eq!(events(&consumer, "?after=latest").await, (Vec::new(), end));
}

#[tokio::test]
async fn a_feed_is_its_consumers_own() {
    let world = World::new();
    let (consumer, other) = (world.consumer().await, world.consumer().await);
    let provider = world.provider().await;
    let (_, begin) = events(&consumer, "").await;
    consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    until_events(&consumer, &begin, 2).await;
    assert!(events(&other, "").await.0.is_empty());
    let stolen = other.get(&format!("/v1/events?after={begin}")).await;
    stolen.assert_problem(400, "invalid_parameter", "none");
    assert_eq!(stolen.pointers(), ["after"]);
}
