//! What a provider tells of a booking that stands, and the erasure of the customer's data.

use serde_json::{Value, json};

use super::world::{SOON, World};

#[tokio::test]
async fn a_provider_withdraws_a_booking() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let key = provider.key().await;
    let hook = consumer.hook(json!({})).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let stranger = world.provider().await;
    let strangers_key = stranger.key().await;
    let told = stranger.tell(&strangers_key, &id, "cancel", &json!({})).await;
    told.assert_problem(404, "not_found", "none");
    for _ in 0..2 {
        let told = provider.tell(&key, &id, "cancel", &json!({"reason": "doctor_ill"})).await;
        let expected = json!({"booking_id": id, "status": "cancelled", "version": 3});
        assert_eq!((told.status, &told.json), (200, &expected), "{told:?}");
    }
    hook.until_types(&id, &["booking.created", "booking.confirmed", "booking.cancelled"], SOON).await;
    let booking = consumer.booking(&id).await;
    assert_eq!(booking["cancellation"], json!({"by": "provider", "reason": "doctor_ill", "note": null}));
    assert!(provider.calls("cancel").await.is_empty(), "it knows already");
    let told = provider.tell(&key, &id, "attendance", &json!({"status": "attended"})).await;
    told.assert_problem(409, "status_conflict", "none");
    let told = provider.tell(&key, &id, "cancel", &json!({"because": "ill"})).await;
    told.assert_problem(422, "invalid_request", "none");
}

#[tokio::test]
async fn a_provider_tells_who_came() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let key = provider.key().await;
    let hook = consumer.hook(json!({})).await;
    for (word, other, status) in [("attended", "no_show", "completed"), ("no_show", "attended", "no_show")] {
        let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
        for _ in 0..2 {
            let told = provider.tell(&key, &id, "attendance", &json!({"status": word})).await;
            assert_eq!(
                (told.status, &told.json["status"], &told.json["version"]),
                (200, &json!(status), &json!(3))
            );
        }
        let told = provider.tell(&key, &id, "attendance", &json!({"status": other})).await;
        told.assert_problem(409, "status_conflict", "none");
        let event = format!("booking.{status}");
        hook.until_types(&id, &["booking.created", "booking.confirmed", &event], SOON).await;
        let cancel = consumer.cancel_with_key(&id, "c", &json!({})).await;
        cancel.assert_problem(409, "status_conflict", "none");
        let told = provider.tell(&key, &id, "attendance", &json!({"status": "late"})).await;
        told.assert_problem(422, "invalid_request", "none");
        assert_eq!(told.pointers(), ["/status"]);
    }
}

#[tokio::test]
async fn what_is_erased_is_gone_and_the_rest_stays() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let body = provider.body(&json!({"notes": "By the window.", "reference": "order-9"}));
    let created = consumer.create_with_key("k", &body).await;
    let id = created.assert_booking(201, "confirmed");
    let before = consumer.booking(&id).await;
    assert_eq!(before["customer"]["name"], "Ada Lovelace");
    for _ in 0..2 {
        let erased = consumer.erase_customer(&id).await;
        assert_eq!((erased.status, erased.bytes.len()), (204, 0), "{erased:?}");
    }
    let mut after = consumer.booking(&id).await;
    assert_eq!(
        (&after["customer"], &after["notes"], &after["version"]),
        (&Value::Null, &Value::Null, &json!(3))
    );
    for changed in ["customer", "notes", "version", "updated_at"] {
        after[changed] = before[changed].clone();
    }
    assert_eq!(after, before);
    consumer.create_with_key("k", &body).await.assert_replays(&created);
    let wish = json!({"sync_confirmation_timeout_millisecond": 10_000});
    consumer.cancel_with_key(&id, "c", &wish).await.assert_booking(200, "cancelled");
    assert_eq!(consumer.booking(&id).await["customer"], Value::Null);
}
