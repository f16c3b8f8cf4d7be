//! Providers that speak OCTO: each operation, in the requests that the protocol has for it, and what becomes of
//! it when they are refused, lost or put off. Docplanner's callbacks are in [`super::modes`].

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::operations::{CHANGES, assert_made, booked, held, wish};
use super::provider::time;
use super::reply::Reply;
use super::world::{Consumer, Protocol, Provider, SHORT_MS, SOON, World, merge};

/// The requests of a booking.
const BOOKING: [&str; 3] = ["availability", "book", "confirm"];
/// When a supplier decides what it put off, in milliseconds: after the caller was told.
const LATE_MS: u64 = SHORT_MS + 2_000;

async fn supplier(world: &World) -> Provider<'_> {
    let settings = json!({"decline_messages": {"SOLD": "This tour is sold out."}});
    world.provider_of(Protocol::Octo, &settings).await
}

fn in_background() -> Value {
    json!({"async_confirmation": true, "sync_confirmation_timeout_millisecond": SHORT_MS})
}

fn rejection(code: &str, message: &str) -> Value {
    json!({"code": "declined_by_provider", "message": message, "provider_code": code})
}

/// Checks that a change at a supplier was made. It grants holds by whole minutes.
fn assert_granted(operation: &str, body: &Value, booking: &Value) {
    if operation == "extend" {
        assert_eq!(booking["status"], "reserved", "{booking}");
        let past_ms = time(&body["expires_at"]).ms_until(time(&booking["expires_at"]));
        assert!(past_ms < 60_000 + SHORT_MS, "{body} {booking}");
    } else {
        assert_made(operation, body, booking);
    }
}

#[tokio::test]
async fn a_tour_is_booked_moved_and_cancelled() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, supplier(&world).await);
    let hook = consumer.hook(json!({})).await;
    let body = provider.body(&json!({}));
    let first = consumer.create_with_key("k", &body).await;
    let id = first.assert_booking(201, "confirmed");
    assert!(first.json["provider_reference"].as_str().unwrap().starts_with("SIM-"), "{first:?}");
    assert_eq!(provider.asked().await, BOOKING);
    provider.assert_agrees(&consumer, &[&id]).await;
    let move_on = wish(&provider, "reschedule", &json!({}));
    let moved = consumer.operate_with_key(&id, "reschedule", "k", &move_on).await;
    moved.assert_booking(200, "confirmed");
    assert_made("reschedule", &move_on, &moved.json);
    assert_eq!(provider.asked().await[3..], ["availability", "reschedule"]);
    provider.assert_agrees(&consumer, &[&id]).await;
    let cancel = wish(&provider, "cancel", &json!({"reason": "ill"}));
    let cancelled = consumer.cancel_with_key(&id, "k", &cancel).await;
    cancelled.assert_booking(200, "cancelled");
    assert_eq!(provider.asked().await[5..], ["cancel"]);
    provider.assert_agrees(&consumer, &[&id]).await;

    consumer.create_with_key("k", &body).await.assert_replays(&first);
    consumer.operate_with_key(&id, "reschedule", "k", &move_on).await.assert_replays(&moved);
    consumer.cancel_with_key(&id, "k", &cancel).await.assert_replays(&cancelled);
    let calls = provider.all_calls().await;
    assert_eq!(calls.len(), 6, "nothing is sent twice");
    let uuids: Vec<&Value> =
        calls.iter().filter_map(|call| call.get("booking_id")).filter(|id| !id.is_null()).collect();
    assert!(uuids.len() == 4 && uuids.iter().all(|uuid| *uuid == uuids[0]), "one uuid for all: {calls:?}");
    let types = ["booking.created", "booking.confirmed", "booking.rescheduled", "booking.cancelled"];
    hook.until_types(&id, &types, SOON).await;
}

#[tokio::test]
async fn a_tour_is_held_extended_moved_and_confirmed() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, supplier(&world).await);
    let hook = consumer.hook(json!({})).await;
    let id = held(&consumer, &provider).await;
    assert_eq!(provider.asked().await, ["availability", "book"]);
    provider.assert_agrees(&consumer, &[&id]).await;
    let before = consumer.booking(&id).await;
    for (operation, status) in [("extend", "reserved"), ("reschedule", "reserved"), ("confirm", "confirmed")]
    {
        let body = wish(&provider, operation, &json!({}));
        let done = consumer.operate_with_key(&id, operation, "k", &body).await;
        done.assert_booking(200, status);
        assert_granted(operation, &body, &done.json);
        provider.assert_agrees(&consumer, &[&id]).await;
        consumer.operate_with_key(&id, operation, "k", &body).await.assert_replays(&done);
    }
    assert!(time(&before["expires_at"]) < time(&wish(&provider, "extend", &json!({}))["expires_at"]));
    assert_eq!(provider.asked().await[2..], ["extend", "availability", "reschedule", "confirm"]);
    let types =
        ["created", "reserved", "reserved", "rescheduled", "confirmed"].map(|of| format!("booking.{of}"));
    hook.until_types(&id, &types.each_ref().map(String::as_str), SOON).await;
}

#[tokio::test]
async fn a_supplier_declines_a_booking_in_its_own_words() {
    let world = World::new();
    let consumer = world.consumer().await;
    let (worded, coded) = (json!({"code": "FULL", "message": "No seats."}), json!({"code": "SOLD"}));
    for (step, decline, told) in [
        ("book", &worded, rejection("FULL", "No seats.")),
        ("book", &coded, rejection("SOLD", "This tour is sold out.")),
        ("confirm", &worded, rejection("FULL", "No seats.")),
        ("availability", &coded, rejection("SOLD", "This tour is sold out.")),
    ] {
        let provider = supplier(&world).await;
        provider.next(1, step, &json!({"decline": decline})).await;
        let declined = consumer.create(&provider.body(&json!({}))).await;
        declined.assert_problem(409, "booking_declined", "none");
        assert_eq!(declined.json["rejection"], told, "{step}");
        let id = declined.booking_id();
        assert_eq!(consumer.booking(id).await["status"], "rejected");
        provider.assert_agrees(&consumer, &[id]).await;
    }
}

#[tokio::test]
async fn what_a_supplier_does_not_offer_is_declined() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, supplier(&world).await);
    provider.sell_each_slot_once().await;
    let id = booked(&consumer, &provider).await;
    let without = json!({"slot": {"service_id": null}});
    for (body, code) in [
        (provider.body(&json!({})), "slot_unavailable"),
        (
            provider.body(&json!({"slot": {"start": "2027-06-01T09:07:00Z", "end": "2027-06-01T09:37:00Z"}})),
            "slot_unavailable",
        ),
        (provider.body(&without), "service_id_missing"),
    ] {
        let declined = consumer.create(&body).await;
        declined.assert_problem(409, "booking_declined", "none");
        assert_eq!(declined.json["rejection"]["code"], code, "{declined:?}");
    }
    provider.assert_agrees(&consumer, &[&id]).await;
    assert_eq!(provider.calls("book").await.len(), 1);
}

#[tokio::test]
async fn a_supplier_far_away_tells_its_own_time() {
    let world = World::new();
    let consumer = world.consumer().await;
    for utc_offset_minutes in [-600, 330, 825] {
        let provider = supplier(&world).await;
        provider.live_at(utc_offset_minutes).await;
        let id = booked(&consumer, &provider).await;
        let moved = consumer.operate(&id, "reschedule", &wish(&provider, "reschedule", &json!({}))).await;
        moved.assert_booking(200, "confirmed");
        provider.assert_agrees(&consumer, &[&id]).await;
    }
}

#[tokio::test]
async fn a_reservation_runs_out_at_the_supplier_and_here() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, supplier(&world).await);
    provider.next(1, "book", &json!({"expires_in_seconds": 6})).await;
    let id = held(&consumer, &provider).await;
    consumer.until_status(&id, "expired", SOON).await;
    provider.until_status("expired", SOON).await;
    provider.assert_agrees(&consumer, &[&id]).await;
}

#[tokio::test]
async fn a_supplier_refuses_a_change_and_nothing_changes() {
    let world = World::new();
    let consumer = world.consumer().await;
    for operation in ["confirm", "extend", "reschedule", "cancel"] {
        let provider = supplier(&world).await;
        let id = held(&consumer, &provider).await;
        let before = consumer.booking(&id).await;
        provider.next(1, operation, &json!({"decline": {"code": "NO", "message": "Too late."}})).await;
        let body = wish(&provider, operation, &json!({}));
        let declined = consumer.operate_with_key(&id, operation, "k", &body).await;
        declined.assert_problem(409, "operation_declined", "none");
        assert_eq!(declined.json["rejection"], rejection("NO", "Too late."), "{operation}");
        let after = consumer.booking(&id).await;
        for unchanged in ["status", "slot", "expires_at", "operation"] {
            assert_eq!(after[unchanged], before[unchanged], "{operation}");
        }
        provider.assert_agrees(&consumer, &[&id]).await;
        consumer.operate_with_key(&id, operation, "k", &body).await.assert_replays(&declined);
    }
}

/// A create at a supplier of its own, of whose requests one meets a fault.
async fn create(
    world: &World,
    consumer: &Consumer<'_>,
    step: &str,
    fault: &Value,
    limits: &Value,
    status: u16,
) {
    let provider = supplier(world).await;
    provider.next(1, step, fault).await;
    let body = provider.body(limits);
    let first = consumer.create_with_key(&provider.id, &body).await;
    assert_eq!(first.status, status, "{step} {fault}: {first:?}");
    let id = first.booking_id();
    if status == 202 {
        consumer.until_status(id, "confirmed", SOON).await;
    } else {
        assert_eq!(first.json["side_effects"], "unknown", "{first:?}");
        consumer.until_cause(id, "compensated", SOON).await;
    }
    provider.assert_agrees(consumer, &[id]).await;
    consumer.create_with_key(&provider.id, &body).await.assert_replays(&first);
}

#[tokio::test]
async fn a_lost_answer_to_a_booking_is_found_out() {
    let world = World::new();
    let consumer = world.consumer().await;
    let (lost, unreadable) = (json!({"drop_answer": true}), json!({"garbage": true}));
    let (patient, background) = (json!({}), in_background());
    join_all(
        [&lost, &unreadable].into_iter().flat_map(|fault| ["book", "confirm"].map(|step| (step, fault))).map(
            async |(step, fault)| {
                create(&world, &consumer, step, fault, &patient, 502).await;
                create(&world, &consumer, step, fault, &background, 202).await;
            },
        ),
    )
    .await;
}

#[tokio::test]
async fn a_booking_that_is_made_after_its_caller_gave_up_is_made_once() {
    let world = World::new();
    let consumer = world.consumer().await;
    let late = json!({"hang": true, "process_after_ms": LATE_MS});
    let background = in_background();
    tokio::join!(
        create(&world, &consumer, "book", &late, &background, 202),
        create(&world, &consumer, "confirm", &late, &background, 202),
    );
}

/// A change of a hold at a supplier of its own that meets a fault.
async fn change(
    world: &World,
    consumer: &Consumer<'_>,
    operation: &str,
    fault: &Value,
    limits: &Value,
    status: u16,
) {
    let provider = supplier(world).await;
    let id = held(consumer, &provider).await;
    provider.next(1, operation, fault).await;
    let mut body = wish(&provider, operation, &json!({}));
    merge(&mut body, limits);
    let first = consumer.operate_with_key(&id, operation, "k", &body).await;
    assert_eq!(first.status, status, "{operation} {fault}: {first:?}");
    if status >= 500 {
        assert_eq!(first.json["side_effects"], "unknown", "{first:?}");
    }
    let settled = consumer.until_settled(&id, SOON).await;
    assert_granted(operation, &body, &settled);
    provider.assert_agrees(consumer, &[&id]).await;
    consumer.operate_with_key(&id, operation, "k", &body).await.assert_replays(&first);
}

#[tokio::test]
async fn a_lost_answer_to_a_change_is_found_out() {
    let world = World::new();
    let consumer = world.consumer().await;
    let (lost, patient, background) = (json!({"drop_answer": true}), json!({}), in_background());
    join_all(CHANGES.map(async |operation| {
        change(&world, &consumer, operation, &lost, &patient, 502).await;
        change(&world, &consumer, operation, &lost, &background, 202).await;
    }))
    .await;
    change(&world, &consumer, "cancel", &lost, &patient, 202).await;
}

#[tokio::test]
async fn a_change_that_is_made_after_its_caller_gave_up_is_found_out() {
    let world = World::new();
    let consumer = world.consumer().await;
    let late = json!({"hang": true, "process_after_ms": LATE_MS});
    let (short, background) = (json!({"sync_confirmation_timeout_millisecond": SHORT_MS}), in_background());
    // An extension is a time from when it is made, so that one which is made twice is longer by a moment.
    join_all(["confirm", "reschedule"].map(async |operation| {
        change(&world, &consumer, operation, &late, &short, 504).await;
        change(&world, &consumer, operation, &late, &background, 202).await;
    }))
    .await;
    change(&world, &consumer, "extend", &late, &short, 504).await;
    change(&world, &consumer, "cancel", &late, &short, 202).await;
}

#[tokio::test]
async fn a_supplier_that_answers_a_repeated_uuid_with_an_error_is_asked() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, supplier(&world).await);
    provider.behave(&json!({"repeated_uuid_error": true})).await;
    provider.next(1, "book", &json!({"drop_answer": true})).await;
    // It does not see at once what it has, so that it is asked to book again.
    let unseen = json!({"decline": {"code": "INVALID_BOOKING_UUID", "message": "Unknown uuid."}});
    provider.next(2, "look_up", &unseen).await;
    let body = provider.body(&in_background());
    let id = consumer.create(&body).await.assert_booking(202, "pending");
    consumer.until_status(&id, "confirmed", SOON).await;
    assert_eq!(provider.calls("book").await.len(), 2);
    assert_eq!(provider.bookings().await.len(), 1);
    provider.assert_agrees(&consumer, &[&id]).await;
}

#[tokio::test]
async fn what_a_supplier_puts_off_is_confirmed_in_the_background() {
    let world = World::new();
    let consumer = world.consumer().await;
    let later = json!({"accept_202": true, "process_after_ms": LATE_MS});
    let background = in_background();
    // A hold is put off as a booking is.
    let of_hold = async {
        let provider = supplier(&world).await;
        let id = held(&consumer, &provider).await;
        provider.next(1, "confirm", &later).await;
        let body = wish(&provider, "confirm", &background);
        consumer.operate(&id, "confirm", &body).await.assert_booking(202, "reserved");
        consumer.until_status(&id, "confirmed", SOON).await;
        provider.assert_agrees(&consumer, &[&id]).await;
    };
    tokio::join!(
        create(&world, &consumer, "book", &later, &background, 202),
        create(&world, &consumer, "confirm", &later, &background, 202),
        of_hold,
    );
}

#[tokio::test]
async fn what_a_supplier_puts_off_for_too_long_is_undone() {
    let world = World::new();
    let consumer = world.consumer().await;
    let later = json!({"accept_202": true, "process_after_ms": LATE_MS});
    let short = json!({"sync_confirmation_timeout_millisecond": SHORT_MS});
    tokio::join!(
        create(&world, &consumer, "book", &later, &short, 504),
        create(&world, &consumer, "confirm", &later, &short, 504),
    );
}

#[tokio::test]
async fn what_a_supplier_puts_off_and_then_rejects_is_rejected() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, supplier(&world).await);
    let hook = consumer.hook(json!({})).await;
    let later = json!({"accept_202": true, "process_after_ms": LATE_MS, "callback_status": "rejected"});
    provider.next(1, "book", &later).await;
    let id = consumer.create(&provider.body(&in_background())).await.assert_booking(202, "pending");
    consumer.until_status(&id, "rejected", SOON).await;
    hook.until_types(&id, &["booking.created", "booking.rejected"], SOON).await;
    provider.assert_agrees(&consumer, &[&id]).await;
}

#[tokio::test]
async fn what_no_protocol_has_cannot_be_configured() {
    let world = World::new();
    for (protocol, changes, pointer) in [
        (Protocol::Docplanner, json!({"confirmation": "confirm"}), "/confirmation"),
        (Protocol::Octo, json!({"confirmation": "notify"}), "/confirmation"),
        (Protocol::Octo, json!({"confirmation": "real_time"}), "/confirmation"),
        (Protocol::Native, json!({"confirmation": "real_time"}), "/confirmation"),
        (Protocol::Native, json!({"default_unit_id": "adult"}), "/default_unit_id"),
        (Protocol::Octo, json!({"base_url": null}), "/base_url"),
        (Protocol::Native, json!({"notification_schedule_seconds": [60]}), "/notification_schedule_seconds"),
        (Protocol::Native, json!({"protocol": "soap"}), "/protocol"),
    ] {
        let provider = Provider::speaking(&world, protocol).await;
        let path = format!("/v1/admin/providers/{}", provider.id);
        let put = world.admin(Method::PUT, &path).json(&provider.settings(&changes));
        let refused = Reply::of(put).await;
        refused.assert_problem(422, "invalid_request", "none");
        assert!(refused.pointers().contains(&pointer), "{changes}: {refused:?}");
        let read = Reply::of(world.admin(Method::GET, &path)).await;
        read.assert_problem(404, "not_found", "none");
    }
}
