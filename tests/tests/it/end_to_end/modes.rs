//! Providers that are told of bookings, at once or after they let them through, and exclusive slots.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::compensation::elapsed_ms;
use super::operations::{booked, wish};
use super::provider::SCHEDULE_S;
use super::reply::Reply;
use super::world::{Consumer, PATIENT_MS, Protocol, Provider, SHORT_MS, SOON, World};
use super::wrap_up::dead_letters_about;

/// How long the gates of these tests are waited for, in milliseconds.
const GATE_MS: u64 = 3_000;
/// How many ask for the same slot at once.
const CROWD: usize = 20;

/// The calls that tell of a booking, of a move and of a cancellation.
const TOLD_NATIVELY: [&str; 3] = ["book", "reschedule", "cancel"];
const TOLD_TO_DOCPLANNER: [&str; 3] = ["slot_booked", "booking_moved", "booking_canceled"];

fn told_by(protocol: Protocol) -> [&'static str; 3] {
    if protocol == Protocol::Docplanner { TOLD_TO_DOCPLANNER } else { TOLD_NATIVELY }
}

/// A provider that is told of bookings, in each protocol that has it.
async fn telling(world: &World) -> [(Provider<'_>, [&'static str; 3]); 2] {
    let settings = json!({"confirmation": "notify"});
    let of = async |protocol| (world.provider_of(protocol, &settings).await, told_by(protocol));
    [of(Protocol::Native).await, of(Protocol::Docplanner).await]
}

async fn gated<'a>(world: &'a World, changes: &Value) -> Provider<'a> {
    let mut settings = json!({"confirmation": "real_time", "real_time_timeout_millisecond": GATE_MS});
    super::world::merge(&mut settings, changes);
    world.provider_of(Protocol::Docplanner, &settings).await
}

async fn moved(consumer: &Consumer<'_>, provider: &Provider<'_>, id: &str) -> Reply {
    consumer.operate(id, "reschedule", &wish(provider, "reschedule", &json!({}))).await
}

async fn cancelled(consumer: &Consumer<'_>, provider: &Provider<'_>, id: &str) -> Reply {
    consumer.operate(id, "cancel", &wish(provider, "cancel", &json!({}))).await
}

#[tokio::test]
async fn a_booking_is_accepted_at_once_and_the_provider_told() {
    let world = World::new();
    let consumer = world.consumer().await;
    let hook = consumer.hook(json!({})).await;
    for (provider, [booked, _, _]) in telling(&world).await {
        // Whatever the provider does, nobody waits for it.
        provider.next(1, booked, &json!({"latency_ms": PATIENT_MS})).await;
        let body = provider.body(&json!({"sync_confirmation_timeout_millisecond": PATIENT_MS}));
        let first = consumer.create_with_key(&provider.id, &body).await;
        let id = first.assert_booking(201, "confirmed");
        assert_eq!((&first.json["version"], &first.json["operation"]), (&json!(2), &Value::Null));
        assert!(first.took < Duration::from_millis(PATIENT_MS), "{first:?}");
        provider.until_status("confirmed", SOON).await;
        consumer.create_with_key(&provider.id, &body).await.assert_replays(&first);
        hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
        // Its answer takes longer than an attempt may, so that it is told once more.
        let calls = provider.until_calls(booked, 2, SOON).await;
        assert_eq!(calls[0]["idempotency_key"], calls[1]["idempotency_key"]);
        provider.assert_agrees(&consumer, &[&id]).await;
        assert_eq!(consumer.until_cause(&id, "accepted", SOON).await, ["created", "accepted"]);
    }
}

#[tokio::test]
async fn it_is_told_by_its_schedule_and_then_given_up_with_an_event_and_a_dead_letter() {
    let world = World::new();
    let consumer = world.consumer().await;
    let hook = consumer.hook(json!({})).await;
    let [native, docplanner] = telling(&world).await;
    let gated = (gated(&world, &json!({})).await, TOLD_TO_DOCPLANNER);
    let given_up = async |(provider, [booked, moving, _]): (Provider<'_>, [&'static str; 3])| {
        provider.behave(&json!({"status": 500, "operations": [booked]})).await;
        let created = consumer.create(&provider.body(&json!({}))).await;
        let id = created.assert_booking(201, "confirmed");
        let types = ["booking.created", "booking.confirmed", "provider.notification_failed"];
        hook.until_types(&id, &types, SOON).await;
        let calls = provider.calls(booked).await;
        assert_eq!(calls.len(), 1 + SCHEDULE_S.len(), "{calls:?}");
        for (call, due_s) in calls[1..].iter().zip(SCHEDULE_S) {
            // It is first due with the booking itself.
            let after_ms = elapsed_ms(&created.json["created_at"], &call["at"]);
            assert!(after_ms >= due_s * 1_000, "{due_s} s: {calls:?}");
        }
        dead_letters_about(&world, &id, SOON).await;
        let causes = consumer.until_cause(&id, "notification_failed", SOON).await;
        assert_eq!(causes.len(), 3, "{causes:?}");
        assert_eq!(consumer.booking(&id).await["status"], "confirmed", "it is the consumer's all the same");

        // What comes later is told all the same.
        provider.behave(&json!({})).await;
        moved(&consumer, &provider, &id).await.assert_booking(200, "confirmed");
        provider.until_calls(moving, 1, SOON).await;
        if moving == "booking_moved" {
            // Its message says all that there is to know of the booking; the native one only where it goes.
            provider.until_status("confirmed", SOON).await;
            provider.assert_agrees(&consumer, &[&id]).await;
        }
    };
    tokio::join!(given_up(native), given_up(docplanner), given_up(gated));
}

#[tokio::test]
async fn what_was_not_taken_is_told_again_until_it_is() {
    let world = World::new();
    let consumer = world.consumer().await;
    let hook = consumer.hook(json!({})).await;
    let delivered = async |(provider, [booked, _, _]): (Provider<'_>, [&'static str; 3])| {
        provider.next(1, booked, &json!({"status": 503})).await;
        // Taken, which nobody learns.
        provider.next(1, booked, &json!({"drop_answer": true})).await;
        let created = consumer.create(&provider.body(&json!({}))).await;
        let id = created.assert_booking(201, "confirmed");
        let calls = provider.until_calls(booked, 3, SOON).await;
        assert!(calls.iter().all(|call| call["idempotency_key"] == calls[0]["idempotency_key"]), "{calls:?}");
        // Nothing is due any more, so that the customer's data may go.
        super::world::until(SOON, Duration::from_millis(600), "it is delivered", async || {
            let erased = consumer.erase_customer(&id).await;
            if erased.status == 204 { Ok(()) } else { Err(erased.json) }
        })
        .await;
        hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
        provider.assert_agrees(&consumer, &[&id]).await;
        assert_eq!(provider.calls(booked).await.len(), 3);
    };
    join_all(telling(&world).await.map(delivered)).await;
}

#[tokio::test]
async fn notifications_go_one_at_a_time_in_the_order_of_versions() {
    let world = World::new();
    let consumer = world.consumer().await;
    let hook = consumer.hook(json!({})).await;
    let in_order = async |(provider, told): (Provider<'_>, [&'static str; 3])| {
        let [booked, moving, cancelling] = told;
        provider.next(1, booked, &json!({"status": 503})).await;
        provider.next(1, booked, &json!({"latency_ms": 2_000})).await;
        let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
        // Cancelled before that, it would not be told at all.
        provider.until_calls(booked, 1, SOON).await;
        let at_once = moved(&consumer, &provider, &id).await;
        at_once.assert_booking(200, "confirmed");
        assert_eq!(at_once.json["version"], 3);
        let needed = consumer.erase_customer(&id).await;
        needed.assert_problem(409, "operation_in_flight", "none");
        let at_once = cancelled(&consumer, &provider, &id).await;
        at_once.assert_booking(200, "cancelled");
        assert_eq!(at_once.json["version"], 4);
        let calls = provider.until_calls(cancelling, 1, SOON).await;
        assert_eq!(provider.asked().await, [booked, booked, moving, cancelling]);
        let (taken, then) = (&provider.calls(booked).await[1], &provider.calls(moving).await[0]);
        assert!(elapsed_ms(&taken["at"], &then["at"]) >= 2_000, "before it was taken: {taken} {then}");
        let keys: Vec<Value> =
            provider.all_calls().await.iter().map(|call| call["idempotency_key"].clone()).collect();
        assert!(keys[0] == keys[1] && keys[1] != keys[2] && keys[2] != keys[3], "{keys:?}");
        assert_eq!(calls.len(), 1);
        let types = ["booking.created", "booking.confirmed", "booking.rescheduled", "booking.cancelled"];
        hook.until_types(&id, &types, SOON).await;
        provider.until_status("cancelled", SOON).await;
        provider.assert_agrees(&consumer, &[&id]).await;
    };
    join_all(telling(&world).await.map(in_order)).await;
}

#[tokio::test]
async fn who_is_told_takes_no_holds_and_withdraws_without_being_told() {
    let world = World::new();
    let consumer = world.consumer().await;
    let [(native, _), (docplanner, _)] = telling(&world).await;
    for provider in [native, docplanner, gated(&world, &json!({})).await] {
        let refused = consumer.create_with_key("k", &provider.body(&json!({"hold": true}))).await;
        refused.assert_problem(422, "invalid_request", "none");
        assert_eq!(refused.pointers(), ["/hold"]);
        let key = provider.key().await;
        let id = booked(&consumer, &provider).await;
        provider.until_status("confirmed", SOON).await;
        consumer.operate(&id, "confirm", &json!({})).await.assert_booking(200, "confirmed");
        let extended = consumer.operate(&id, "extend", &wish(&provider, "extend", &json!({}))).await;
        extended.assert_problem(409, "status_conflict", "none");
        let asked = provider.asked().await;
        let withdrawn = provider.tell(&key, &id, "cancel", &json!({"reason": "ill"})).await;
        assert_eq!((withdrawn.status, &withdrawn.json["status"]), (200, &json!("cancelled")));
        let booking = consumer.booking(&id).await;
        assert_eq!(booking["cancellation"]["by"], "provider", "{booking}");
        assert_eq!(consumer.erase_customer(&id).await.status, 204, "nothing is left to be told");
        assert_eq!(provider.asked().await, asked);
    }
}

#[tokio::test]
async fn a_gate_lets_a_booking_through_and_hears_of_it() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, gated(&world, &json!({})).await);
    let hook = consumer.hook(json!({})).await;
    let body = provider.body(&json!({}));
    let first = consumer.create_with_key("k", &body).await;
    let id = first.assert_booking(201, "confirmed");
    provider.until_status("confirmed", SOON).await;
    assert_eq!(provider.asked().await, ["slot_booking", "slot_booked"]);
    consumer.create_with_key("k", &body).await.assert_replays(&first);
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    provider.assert_agrees(&consumer, &[&id]).await;
    cancelled(&consumer, &provider, &id).await.assert_booking(200, "cancelled");
    provider.until_status("cancelled", SOON).await;
    assert_eq!(provider.asked().await, ["slot_booking", "slot_booked", "booking_canceled"]);
}

#[tokio::test]
async fn a_gate_declines_in_its_own_words() {
    let world = World::new();
    let consumer = world.consumer().await;
    let provider = gated(&world, &json!({"decline_messages": {"7": "The doctor is away."}})).await;
    let hook = consumer.hook(json!({})).await;
    for (decline, message, provider_code) in [
        (json!({"code": 7}), json!("The doctor is away."), json!("7")),
        (json!({"code": 8, "status": 422}), Value::Null, json!("8")),
    ] {
        provider.next(1, "slot_booking", &json!({"decline": decline})).await;
        let body = provider.body(&json!({"async_confirmation": true}));
        let declined = consumer.create(&body).await;
        declined.assert_problem(409, "booking_declined", "none");
        let rejection =
            json!({"code": "declined_by_provider", "message": message, "provider_code": provider_code});
        assert_eq!(declined.json["rejection"], rejection);
        if message.is_string() {
            assert_eq!(declined.json["detail"], message);
        }
        let booking = consumer.booking(declined.booking_id()).await;
        assert_eq!((&booking["status"], &booking["rejection"]), (&json!("rejected"), &rejection));
        hook.until_types(declined.booking_id(), &["booking.created", "booking.rejected"], SOON).await;
    }
    assert_eq!(provider.asked().await, ["slot_booking", "slot_booking"], "who declined hears nothing more");
}

#[tokio::test]
async fn a_silent_gate_has_surely_booked_nothing() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, gated(&world, &json!({})).await);
    let hook = consumer.hook(json!({})).await;
    for (behaviour, status, code) in [
        (json!({"hang": true}), 504, "provider_timeout"),
        (json!({"status": 500}), 502, "provider_failed"),
        (json!({"drop_answer": true}), 502, "provider_failed"),
    ] {
        provider.next(1, "slot_booking", &behaviour).await;
        let failed = consumer.create(&provider.body(&json!({}))).await;
        failed.assert_problem(status, code, "none");
        let limit = Duration::from_millis(PATIENT_MS);
        assert!(failed.took < limit, "a gate's own limit is shorter: {failed:?}");
        let id = failed.booking_id();
        let booking = consumer.booking(id).await;
        assert_eq!(
            (&booking["status"], &booking["cancellation"]["reason"]),
            (&json!("cancelled"), &json!(code))
        );
        hook.until_types(id, &["booking.created", "booking.cancelled"], SOON).await;
    }
    // The caller's limit counts where it is shorter.
    provider.configure(&json!({"confirmation": "real_time", "real_time_timeout_millisecond": 5_000})).await;
    provider.next(1, "slot_booking", &json!({"hang": true})).await;
    let short = provider.body(&json!({"sync_confirmation_timeout_millisecond": 1_000}));
    consumer.create(&short).await.assert_problem(504, "provider_timeout", "none");
    assert_eq!(provider.asked().await, ["slot_booking"; 4], "there is nothing to undo");
}

#[tokio::test]
async fn a_silent_gate_is_asked_again_in_the_background() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, gated(&world, &json!({})).await);
    let hook = consumer.hook(json!({})).await;
    provider.next(1, "slot_booking", &json!({"hang": true})).await;
    provider.next(1, "slot_booking", &json!({"status": 503})).await;
    let body = provider.body(&json!({"async_confirmation": true}));
    let first = consumer.create_with_key("k", &body).await;
    let id = first.assert_booking(202, "pending");
    first.retry_after_s();
    consumer.until_status(&id, "confirmed", SOON).await;
    provider.until_status("confirmed", SOON).await;
    assert_eq!(provider.asked().await, ["slot_booking", "slot_booking", "slot_booking", "slot_booked"]);
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    provider.assert_agrees(&consumer, &[&id]).await;
    consumer.create_with_key("k", &body).await.assert_replays(&first);
}

#[tokio::test]
async fn a_move_asks_the_gate_first() {
    let world = World::new();
    let consumer = world.consumer().await;
    let provider = gated(&world, &json!({"decline_messages": {"7": "The doctor is away."}})).await;
    let id = booked(&consumer, &provider).await;
    provider.until_status("confirmed", SOON).await;
    let before = consumer.booking(&id).await;
    provider.next(1, "booking_moving", &json!({"decline": {"code": 7}})).await;
    let declined = moved(&consumer, &provider, &id).await;
    declined.assert_problem(409, "operation_declined", "none");
    assert_eq!(declined.json["rejection"]["message"], "The doctor is away.");
    provider.next(1, "booking_moving", &json!({"hang": true})).await;
    moved(&consumer, &provider, &id).await.assert_problem(504, "provider_timeout", "none");
    let after = consumer.booking(&id).await;
    assert_eq!((&after["slot"], &after["operation"]), (&before["slot"], &Value::Null));
    let done = moved(&consumer, &provider, &id).await;
    done.assert_booking(200, "confirmed");
    assert_eq!(done.json["slot"], provider.slot(2));
    provider.until_calls("booking_moved", 1, SOON).await;
    let asked = provider.asked().await;
    let moving = "booking_moving";
    assert_eq!(asked, ["slot_booking", "slot_booked", moving, moving, moving, "booking_moved"]);
    provider.assert_agrees(&consumer, &[&id]).await;

    // In the background it is asked again.
    provider.next(1, moving, &json!({"hang": true})).await;
    let back = json!({
        "slot": provider.slot(0), "async_confirmation": true,
        "sync_confirmation_timeout_millisecond": SHORT_MS,
    });
    consumer.operate(&id, "reschedule", &back).await.assert_booking(202, "confirmed");
    let settled = consumer.until_settled(&id, SOON).await;
    assert_eq!(settled["slot"], provider.slot(0));
    provider.until_calls("booking_moved", 2, SOON).await;
    provider.assert_agrees(&consumer, &[&id]).await;
}

#[tokio::test]
async fn of_twenty_simultaneous_bookings_of_an_exclusive_slot_one_gets_it() {
    let world = World::new();
    let _turn = world.turn().await;
    let consumer = world.consumer().await;
    for (protocol, mode) in
        [(Protocol::Native, "confirm"), (Protocol::Docplanner, "notify"), (Protocol::Docplanner, "real_time")]
    {
        let settings = json!({"confirmation": mode, "exclusive_slots": true});
        let provider = world.provider_of(protocol, &settings).await;
        let body = provider.body(&json!({}));
        let replies = join_all((0..CROWD).map(async |number| {
            let key = format!("{}-{number}", provider.id);
            (consumer.create_with_key(&key, &body).await, key)
        }));
        let (won, lost): (Vec<_>, Vec<_>) =
            replies.await.into_iter().partition(|(reply, _)| reply.status == 201);
        assert_eq!((won.len(), lost.len()), (1, CROWD - 1), "{mode}: {won:?} {lost:?}");
        for (reply, _) in &lost {
            reply.assert_problem(409, "slot_taken", "none");
        }
        let winner = won[0].0.booking_id();
        provider.until_status("confirmed", SOON).await;
        provider.assert_agrees(&consumer, &[winner]).await;

        // Another one gets it as soon as it is free, under a key that was refused before.
        cancelled(&consumer, &provider, winner).await.assert_booking(200, "cancelled");
        let second = consumer.create_with_key(&lost[0].1, &body).await;
        assert_eq!(second.header("idempotency-replayed"), "", "a refusal is not stored");
        let second = second.assert_booking(201, "confirmed");
        // A move takes the new slot and frees the old one.
        moved(&consumer, &provider, &second).await.assert_booking(200, "confirmed");
        let third = consumer.create(&body).await.assert_booking(201, "confirmed");
        moved(&consumer, &provider, &third).await.assert_problem(409, "slot_taken", "none");
        let told = if mode == "confirm" { "book" } else { "slot_booked" };
        provider.until_calls(told, 3, SOON).await;
        let changed = if mode == "confirm" { "reschedule" } else { "booking_moved" };
        provider.until_calls(changed, 1, SOON).await;
        provider.assert_agrees(&consumer, &[winner, &second, &third]).await;
    }
}
