//! A pending booking is confirmed in the background, once, or ends at its deadline.

use std::time::Duration;

use serde_json::{Value, json};

use super::compensation::elapsed_ms;
use super::world::{SHORT_MS, SOON, World};

/// The shortest background deadline.
const DEADLINE_MS: u64 = 60_000;
const DEADLINE_AND_MORE: Duration = Duration::from_secs(150);

fn in_background(changes: &Value) -> Value {
    let mut wishes = json!({"async_confirmation": true});
    for (name, value) in changes.as_object().unwrap() {
        wishes[name] = value.clone();
    }
    wishes
}

#[tokio::test]
async fn a_provider_that_was_down_is_asked_until_it_is_up() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.next(4, "any", &json!({"status": 503})).await;
    let reply = consumer.create(&provider.body(&in_background(&json!({})))).await;
    let id = reply.assert_booking(202, "pending");
    consumer.until_status(&id, "confirmed", SOON).await;
    assert_eq!(provider.live().await, [id.as_str()]);
    // The first request may have arrived: it is not repeated before the provider has said that it did not.
    assert_eq!(provider.calls("book").await.len(), 2);
    assert_eq!(provider.calls("look_up").await.len(), 4);
    let history = consumer.history(&id).await;
    assert_eq!(history.len(), 2, "attempts are no versions: {history:?}");
    assert_eq!((&history[1]["status"], &history[1]["attempts"]), (&json!("confirmed"), &json!(5)));
}

#[tokio::test]
async fn a_lost_answer_is_found_and_nothing_is_sent_twice() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    for behaviour in [json!({"drop_answer": true}), json!({"garbage": true})] {
        provider.next(1, "book", &behaviour).await;
        let before = provider.calls("book").await.len();
        let reply = consumer.create(&provider.body(&in_background(&json!({})))).await;
        let id = reply.assert_booking(202, "pending");
        let booking = consumer.until_status(&id, "confirmed", SOON).await;
        let bookings = provider.bookings().await;
        let made = bookings.iter().find(|made| made["booking_id"] == id.as_str()).unwrap();
        assert_eq!(booking["provider_reference"], made["provider_reference"]);
        assert_eq!(provider.calls("book").await.len(), before + 1, "after {behaviour}");
    }
    assert_eq!(provider.live().await.len(), 2);
}

#[tokio::test]
async fn a_provider_is_left_alone_for_as_long_as_it_asks() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.next(1, "book", &json!({"status": 429, "retry_after_seconds": 5})).await;
    let reply = consumer.create(&provider.body(&in_background(&json!({})))).await;
    let id = reply.assert_booking(202, "pending");
    assert!((4..=5).contains(&reply.retry_after_s()), "{reply:?}");
    consumer.until_status(&id, "confirmed", SOON).await;
    let (first, look_up) = (&provider.calls("book").await[0], &provider.calls("look_up").await[0]);
    assert!(elapsed_ms(&first["at"], &look_up["at"]) >= 4_900, "{first} {look_up}");
}

#[tokio::test]
async fn what_is_pending_at_its_deadline_is_cancelled_and_undone() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    // It is booked there, but nobody can learn that before the deadline.
    provider.next(1, "book", &json!({"drop_answer": true})).await;
    provider.behave(&json!({"status": 503, "operations": ["look_up"]})).await;
    let wishes = in_background(&json!({"async_confirmation_timeout_millisecond": DEADLINE_MS}));
    let id = consumer.create(&provider.body(&wishes)).await.assert_booking(202, "pending");
    hook.until_types(
        &id,
        &["booking.created", "booking.cancelled", "booking.compensated"],
        DEADLINE_AND_MORE,
    )
    .await;
    let booking = consumer.booking(&id).await;
    assert_eq!(
        booking["cancellation"],
        json!({"by": "system", "reason": "confirmation_timeout", "note": null})
    );
    let history = consumer.history(&id).await;
    let pending_ms = elapsed_ms(&history[0]["at"], &history[1]["at"]);
    assert!((DEADLINE_MS..DEADLINE_MS + 15_000).contains(&pending_ms), "{history:?}");
    assert_eq!(provider.calls("book").await.len(), 1);
    assert_eq!(provider.bookings().await[0]["status"], "cancelled");
}

#[tokio::test]
async fn a_provider_that_says_no_later_rejects() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    provider.key().await;
    let behaviour =
        json!({"accept_202": true, "callback_after_ms": SHORT_MS + 2_000, "callback_status": "rejected"});
    provider.behave(&behaviour).await;
    let wishes = in_background(&json!({"sync_confirmation_timeout_millisecond": SHORT_MS}));
    let id = consumer.create(&provider.body(&wishes)).await.assert_booking(202, "pending");
    let booking = consumer.until_status(&id, "rejected", SOON).await;
    assert_eq!(booking["rejection"]["provider_code"], "rejected");
    hook.until_types(&id, &["booking.created", "booking.rejected"], SOON).await;
    assert!(provider.live().await.is_empty());
}

#[tokio::test]
async fn the_first_definite_answer_of_a_provider_stands() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let key = provider.key().await;
    provider.behave(&json!({"accept_202": true})).await;
    let wishes = in_background(&json!({"sync_confirmation_timeout_millisecond": SHORT_MS}));
    let id = consumer.create(&provider.body(&wishes)).await.assert_booking(202, "pending");

    let yes = json!({"status": "confirmed", "provider_reference": "REF-7"});
    let first = provider.acknowledge(&key, &id, &yes).await;
    assert_eq!((first.status, &first.json["status"]), (200, &json!("confirmed")), "{first:?}");
    assert_eq!(consumer.booking(&id).await["provider_reference"], "REF-7");
    let same = provider.acknowledge(&key, &id, &yes).await;
    assert_eq!((same.status, &same.json), (200, &first.json), "{same:?}");
    let no = json!({"status": "rejected", "rejection": {"code": "full", "message": "Full"}});
    provider.acknowledge(&key, &id, &no).await.assert_problem(409, "contradiction", "none");
    let booking = consumer.booking(&id).await;
    assert_eq!((&booking["status"], &booking["version"]), (&json!("confirmed"), &json!(2)));
}

#[tokio::test]
async fn only_the_provider_itself_answers_for_its_bookings() {
    let world = World::new();
    let (consumer, provider, other) =
        (world.consumer().await, world.provider().await, world.provider().await);
    let (key, other_key) = (provider.key().await, other.key().await);
    provider.behave(&json!({"accept_202": true})).await;
    let wishes = in_background(&json!({"sync_confirmation_timeout_millisecond": SHORT_MS}));
    let id = consumer.create(&provider.body(&wishes)).await.assert_booking(202, "pending");

    let yes = json!({"status": "confirmed"});
    provider.acknowledge(&other_key, &id, &yes).await.assert_problem(404, "not_found", "none");
    provider.acknowledge(&consumer.key, &id, &yes).await.assert_problem(403, "forbidden", "none");
    provider.acknowledge("hf_test_provider_no_such", &id, &yes).await.assert_problem(
        401,
        "unauthenticated",
        "none",
    );
    provider.acknowledge(&key, "bkg_nothing", &yes).await.assert_problem(404, "not_found", "none");
    let odd = provider.acknowledge(&key, &id, &json!({"status": "perhaps"})).await;
    odd.assert_problem(422, "invalid_request", "none");
    assert_eq!(odd.pointers(), ["/status"]);
    assert_eq!(consumer.booking(&id).await["status"], "pending");
    assert_eq!(provider.acknowledge(&key, &id, &yes).await.status, 200);
    consumer.until_status(&id, "confirmed", SOON).await;
}
