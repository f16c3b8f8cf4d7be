//! Exclusive slots: two bookings never get the same one.

use futures_util::future::join_all;
use serde_json::json;

use super::world::World;

#[tokio::test]
async fn one_of_many_bookings_gets_an_exclusive_slot_until_it_is_withdrawn() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.configure(&json!({"exclusive_slots": true})).await;
    let body = provider.body(&json!({}));
    let replies = join_all((0..12).map(|_| consumer.create(&body))).await;
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
    let [winner] = won.as_slice() else { panic!("{} bookings: {replies:?}", won.len()) };
    for reply in lost {
        reply.assert_problem(409, "slot_taken", "none");
    }
    assert_eq!(provider.calls("book").await.len(), 1, "the others were never asked for");
    // Another slot is another matter.
    let elsewhere = provider.body(&json!({"slot": {"location_id": "side-street"}}));
    consumer.create(&elsewhere).await.assert_booking(201, "confirmed");
    let withdrawn = consumer.cancel_with_key(winner.booking_id(), "cancel", &json!({})).await;
    assert_eq!(withdrawn.status, 200, "{withdrawn:?}");
    consumer.create(&body).await.assert_booking(201, "confirmed");
}
