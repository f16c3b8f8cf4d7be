//! A consumer confirms, extends, reschedules and cancels, and a provider answers as it should.

use std::time::Duration;

use holdfast_app::ports::Clock;
use holdfast_lambda::SystemClock;
use reqwest::Method;
use serde_json::{Value, json};

use super::compensation::elapsed_ms;
use super::provider::time;
use super::reply::Reply;
use super::world::{Consumer, PATIENT_MS, Provider, SHORT_MS, SOON, World, merge};

/// The operations that change what a hold is, but for its end.
pub(super) const CHANGES: [&str; 3] = ["confirm", "extend", "reschedule"];

/// To when the holds of these tests are extended, in milliseconds from now: half an hour, twice what they
/// have.
const EXTENDED_MS: u64 = 30 * 60 * 1000;

/// How long a hold of these tests lives that runs out, in seconds.
const SHORT_HOLD_S: u64 = 6;
/// Its end, and some more for a busy machine.
const OUTLIVED: Duration = Duration::from_secs(45);

/// The time so many milliseconds from now.
pub(super) fn in_ms(delay_ms: u64) -> Value {
    json!(SystemClock.now().plus_ms(delay_ms).to_string())
}

/// The body of an operation with these fields added or changed.
pub(super) fn wish(provider: &Provider<'_>, operation: &str, changes: &Value) -> Value {
    let mut body = json!({"sync_confirmation_timeout_millisecond": PATIENT_MS});
    match operation {
        "extend" => body["expires_at"] = in_ms(EXTENDED_MS),
        "reschedule" => body["slot"] = provider.slot(2),
        _ => {}
    }
    merge(&mut body, changes);
    body
}

/// Checks that a booking is as the operation's body has it.
pub(super) fn assert_made(operation: &str, body: &Value, booking: &Value) {
    match operation {
        "confirm" => assert_eq!(booking["status"], "confirmed", "{booking}"),
        "extend" => {
            assert_eq!(booking["status"], "reserved", "{booking}");
            assert_eq!(booking["expires_at"], body["expires_at"], "{booking}");
        }
        "reschedule" => assert_eq!(booking["slot"], body["slot"], "{booking}"),
        "cancel" => assert_eq!(booking["status"], "cancelled", "{booking}"),
        other => panic!("there is no operation {other}"),
    }
}

pub(super) async fn held(consumer: &Consumer<'_>, provider: &Provider<'_>) -> String {
    consumer.create(&provider.body(&json!({"hold": true}))).await.assert_booking(201, "reserved")
}

pub(super) async fn booked(consumer: &Consumer<'_>, provider: &Provider<'_>) -> String {
    consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed")
}

#[tokio::test]
async fn a_hold_is_extended_moved_confirmed_moved_again_and_cancelled() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    let id = held(&consumer, &provider).await;
    let path = format!("/v1/bookings/{id}");
    let mut told: Vec<(Value, Reply)> = Vec::new();
    let again = json!({"slot": provider.slot(4)});
    let course = [
        ("extend", "reserved", json!({})),
        ("reschedule", "reserved", json!({})),
        ("confirm", "confirmed", json!({})),
        ("reschedule", "confirmed", again),
        ("cancel", "cancelled", json!({})),
    ];
    for (number, (operation, status, changes)) in (2_u64..).zip(&course) {
        let body = wish(&provider, operation, changes);
        // One key for all: each has a path of its own, but for the second move.
        let key = if number == 5 { "again" } else { "k" };
        let done = consumer.operate_with_key(&id, operation, key, &body).await;
        done.assert_booking(200, status);
        assert_made(operation, &body, &done.json);
        // Begun and done, each a version.
        assert_eq!((&done.json["operation"], &done.json["version"]), (&Value::Null, &json!(2 * number)));
        provider.assert_agrees(&consumer, &[&id]).await;

        let calls = provider.calls(operation).await;
        let call = calls.last().unwrap();
        assert_eq!(
            (&call["idempotency_key"], &call["attempt"]),
            (&json!(format!("{id}:{number}")), &json!(1))
        );
        let tag = format!("W/\"{}\"", 2 * number);
        let read = consumer.get(&path).await;
        assert_eq!(read.header("etag"), tag);
        for (known, answer) in [(tag.as_str(), 304), ("W/\"2\"", 200)] {
            let read = consumer.call(Method::GET, &path).header("if-none-match", known);
            assert_eq!(Reply::of(read).await.status, answer, "{known}");
        }
        told.push((body, done));
    }
    let calls = provider.all_calls().await.len();
    for ((operation, _, _), (body, first)) in course.iter().zip(&told) {
        let key = if body["slot"] == provider.slot(4) { "again" } else { "k" };
        consumer.operate_with_key(&id, operation, key, body).await.assert_replays(first);
        let mut other = body.clone();
        merge(&mut other, &json!({"sync_confirmation_timeout_millisecond": 1_000}));
        let reused = consumer.operate_with_key(&id, operation, key, &other).await;
        reused.assert_problem(422, "idempotency_key_reused", "none");
    }
    assert_eq!(provider.all_calls().await.len(), calls, "nothing is sent twice");

    let types = ["created", "reserved", "reserved", "rescheduled", "confirmed", "rescheduled", "cancelled"];
    let types = types.map(|event| format!("booking.{event}"));
    hook.until_types(&id, &types.each_ref().map(String::as_str), SOON).await;
    let messages = hook.messages(&id).await;
    for (_, done) in &told {
        let message =
            messages.iter().find(|message| message["body"]["data"]["version"] == done.json["version"]);
        assert_eq!(message.unwrap()["body"]["data"], done.json, "an event shows what its consumer was told");
    }
    let causes = consumer.until_cause(&id, "withdrawn_by_consumer", SOON).await;
    let ends = [
        "provider_acknowledged",
        "provider_acknowledged",
        "rescheduled",
        "provider_acknowledged",
        "rescheduled",
    ];
    assert_eq!(causes.iter().skip(1).step_by(2).take(5).collect::<Vec<_>>(), ends, "{causes:?}");
}

#[tokio::test]
async fn a_refused_change_changes_nothing_and_tells_why() {
    let world = World::new();
    let consumer = world.consumer().await;
    let hook = consumer.hook(json!({})).await;
    for operation in CHANGES {
        let provider = world.provider().await;
        let id = held(&consumer, &provider).await;
        let before = consumer.booking(&id).await;
        let decline = json!({"code": "full", "message": "We are full.", "status": 422});
        provider.behave(&json!({"decline": decline, "operations": [operation]})).await;
        let body = wish(&provider, operation, &json!({}));
        let declined = consumer.operate_with_key(&id, operation, "o", &body).await;
        declined.assert_problem(409, "operation_declined", "none");
        let rejection =
            json!({"code": "declined_by_provider", "message": "We are full.", "provider_code": "full"});
        assert_eq!((&declined.json["rejection"], declined.booking_id()), (&rejection, id.as_str()));
        let mut after = consumer.booking(&id).await;
        assert_eq!(after["version"], 4);
        for changed in ["version", "updated_at"] {
            after[changed] = before[changed].clone();
        }
        assert_eq!(after, before);
        provider.assert_agrees(&consumer, &[&id]).await;
        hook.until_types(&id, &["booking.created", "booking.reserved", "booking.operation_failed"], SOON)
            .await;
        let messages = hook.messages(&id).await;
        let failed = messages.iter().find(|message| message["type"] == "booking.operation_failed").unwrap();
        assert_eq!(failed["body"]["data"]["rejection"], rejection);

        provider.behave(&json!({})).await;
        consumer.operate_with_key(&id, operation, "o", &body).await.assert_replays(&declined);
        let done = consumer.operate_with_key(&id, operation, "p", &body).await;
        assert_made(operation, &body, &done.json);
        provider.assert_agrees(&consumer, &[&id]).await;
    }
}

#[tokio::test]
async fn what_does_not_fit_a_booking_is_refused_and_nobody_asked() {
    let world = World::new();
    let (consumer, other, provider) =
        (world.consumer().await, world.consumer().await, world.provider().await);
    let (hold, booking) = (held(&consumer, &provider).await, booked(&consumer, &provider).await);
    for (operation, body, pointer) in [
        ("extend", json!({}), "/expires_at"),
        ("extend", json!({"expires_at": "soon"}), "/expires_at"),
        ("extend", json!({"expires_at": in_ms(60_000)}), "/expires_at"),
        ("extend", json!({"expires_at": "2020-01-01T00:00:00Z"}), "/expires_at"),
        ("reschedule", json!({}), "/slot"),
        ("reschedule", json!({"slot": {"location_id": "x", "start": "2027-01-01T00:00:00Z"}}), "/slot/end"),
        ("confirm", json!({"why": "because"}), "/why"),
        (
            "confirm",
            json!({"sync_confirmation_timeout_millisecond": 10}),
            "/sync_confirmation_timeout_millisecond",
        ),
    ] {
        let reply = consumer.operate_with_key(&hold, operation, "k", &body).await;
        reply.assert_problem(422, "invalid_request", "none");
        assert_eq!(reply.pointers(), [pointer], "{operation} {body}");
    }
    for operation in CHANGES {
        let body = wish(&provider, operation, &json!({}));
        for (whose, id) in [(&other, hold.as_str()), (&consumer, "bkg_00000000000000000000000000")] {
            whose.operate_with_key(id, operation, "k", &body).await.assert_problem(404, "not_found", "none");
        }
    }
    // It is so already.
    let confirmed = consumer.operate(&booking, "confirm", &json!({})).await;
    assert_eq!((confirmed.status, &confirmed.json["version"]), (200, &json!(2)), "{confirmed:?}");
    let there = consumer.operate(&booking, "reschedule", &json!({"slot": provider.slot(0)})).await;
    assert_eq!((there.status, &there.json["version"]), (200, &json!(2)), "{there:?}");
    let extend = wish(&provider, "extend", &json!({}));
    let extended = consumer.operate_with_key(&booking, "extend", "k", &extend).await;
    extended.assert_problem(409, "status_conflict", "none");
    assert_eq!(provider.asked().await, ["book", "book"]);

    consumer.cancelling(&hold, &json!({})).send().await.unwrap();
    for operation in CHANGES {
        let body = wish(&provider, operation, &json!({}));
        let late = consumer.operate_with_key(&hold, operation, "k", &body).await;
        late.assert_problem(409, "status_conflict", "none");
    }
    assert_eq!(provider.asked().await, ["book", "book", "cancel"]);
    provider.assert_agrees(&consumer, &[&hold, &booking]).await;
}

#[tokio::test]
async fn a_hold_runs_out_when_it_was_said_to_and_later_if_it_was_extended() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let hook = consumer.hook(json!({})).await;
    for extended in [false, true] {
        provider.next(1, "book", &json!({"expires_in_seconds": SHORT_HOLD_S})).await;
        let id = held(&consumer, &provider).await;
        let first_end = consumer.booking(&id).await["expires_at"].clone();
        let mut types = vec!["booking.created", "booking.reserved"];
        if extended {
            let body = wish(&provider, "extend", &json!({"expires_at": in_ms(12_000)}));
            let done = consumer.operate(&id, "extend", &body).await;
            done.assert_booking(200, "reserved");
            assert!(time(&done.json["expires_at"]) > time(&first_end));
            types.push("booking.reserved");
        }
        let end = consumer.booking(&id).await["expires_at"].clone();
        let expired = consumer.until_status(&id, "expired", OUTLIVED).await;
        assert!(time(&expired["updated_at"]) >= time(&end), "too early: {expired}");
        assert!(elapsed_ms(&end, &expired["updated_at"]) < 20_000, "too late: {expired}");
        assert_eq!(expired["expires_at"], Value::Null, "{expired}");
        types.push("booking.expired");
        hook.until_types(&id, &types, SOON).await;
        provider.assert_agrees(&consumer, &[&id]).await;
        let late = consumer.operate(&id, "confirm", &json!({})).await;
        late.assert_problem(409, "status_conflict", "none");
    }
    assert!(provider.calls("cancel").await.is_empty(), "a hold runs out by itself");
}

#[tokio::test]
async fn a_cancel_overtakes_a_move_in_flight() {
    let world = World::new();
    let consumer = world.consumer().await;
    // Made and answered late; or made when all is over.
    for behaviour in
        [json!({"latency_ms": 3_000}), json!({"hang": true, "process_after_ms": SHORT_MS + 2_000})]
    {
        let provider = world.provider().await;
        let id = booked(&consumer, &provider).await;
        provider.next(1, "reschedule", &behaviour).await;
        let wish = wish(&provider, "reschedule", &json!({"sync_confirmation_timeout_millisecond": SHORT_MS}));
        let overtaking = async {
            provider.until_calls("reschedule", 1, SOON).await;
            let second = consumer.operate(&id, "reschedule", &json!({"slot": provider.slot(4)})).await;
            second.assert_problem(409, "operation_in_flight", "none");
            consumer
                .cancel_with_key(&id, "c", &json!({"sync_confirmation_timeout_millisecond": PATIENT_MS}))
                .await
        };
        let (moved, cancelled) =
            tokio::join!(consumer.operate_with_key(&id, "reschedule", "o", &wish), overtaking);
        cancelled.assert_booking(200, "cancelled");
        moved.assert_problem(409, "status_conflict", "unknown");
        consumer.operate_with_key(&id, "reschedule", "o", &wish).await.assert_replays(&moved);
        let keys: Vec<Value> =
            provider.calls("cancel").await.iter().map(|call| call["idempotency_key"].clone()).collect();
        assert_eq!(keys, [json!(format!("{id}:3"))]);
        provider.assert_agrees(&consumer, &[&id]).await;
        // The move that comes when all is over finds nothing.
        let came_late = behaviour["process_after_ms"].as_u64().unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(came_late.saturating_sub(SHORT_MS) + 500)).await;
        provider.assert_agrees(&consumer, &[&id]).await;
    }
}

#[tokio::test]
async fn a_refused_cancel_leaves_a_move_of_unknown_outcome_to_be_found_out() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let id = booked(&consumer, &provider).await;
    provider.next(1, "reschedule", &json!({"drop_answer": true})).await;
    provider.behave(&json!({"status": 503, "operations": ["look_up"]})).await;
    let body = wish(&provider, "reschedule", &json!({}));
    let lost = consumer.operate_with_key(&id, "reschedule", "o", &body).await;
    lost.assert_problem(502, "provider_failed", "unknown");
    provider.next(1, "cancel", &json!({"decline": {"code": "too_late"}})).await;
    let refused = consumer.cancel_with_key(&id, "c", &wish(&provider, "cancel", &json!({}))).await;
    refused.assert_problem(409, "operation_declined", "none");
    assert_eq!(consumer.booking(&id).await["operation"]["kind"], "reschedule");
    provider.behave(&json!({})).await;
    let settled = consumer.until_settled(&id, SOON).await;
    assert_made("reschedule", &body, &settled);
    provider.assert_agrees(&consumer, &[&id]).await;
    consumer.operate_with_key(&id, "reschedule", "o", &body).await.assert_replays(&lost);
}

/// A provider that takes a change and calls back later.
struct CallBack {
    operation: &'static str,
    after_ms: u64,
    verdict: &'static str,
    limits: Value,
    /// What the caller is answered.
    status: u16,
}

impl CallBack {
    async fn run(self, world: &World, consumer: &Consumer<'_>) {
        let Self { operation, after_ms, verdict, limits, status } = self;
        let provider = world.provider().await;
        provider.key().await;
        let id = held(consumer, &provider).await;
        let before = consumer.booking(&id).await;
        let behaviour =
            json!({"accept_202": true, "callback_after_ms": after_ms, "callback_status": verdict});
        provider.next(1, operation, &behaviour).await;
        let body = wish(&provider, operation, &limits);
        let told = consumer.operate_with_key(&id, operation, "o", &body).await;
        assert_eq!(told.status, status, "{operation} {verdict} after {after_ms} ms: {told:?}");
        let settled = consumer.until_settled(&id, SOON).await;
        if verdict == "confirmed" {
            assert_made(operation, &body, &settled);
        } else {
            for unchanged in ["status", "slot", "expires_at"] {
                assert_eq!(settled[unchanged], before[unchanged], "{operation}");
            }
        }
        provider.assert_agrees(consumer, &[&id]).await;
        consumer.operate_with_key(&id, operation, "o", &body).await.assert_replays(&told);
        assert!(status == 202 || provider.calls(operation).await.len() == 1, "it was taken");
    }
}

#[tokio::test]
async fn a_provider_answers_a_change_by_calling_back() {
    let world = World::new();
    let consumer = world.consumer().await;
    let short = json!({"sync_confirmation_timeout_millisecond": SHORT_MS});
    let patient = json!({"sync_confirmation_timeout_millisecond": SHORT_MS, "async_confirmation": true});
    let late_ms = SHORT_MS + 2_000;
    for operation in CHANGES {
        let of = |after_ms, verdict, limits: &Value, status| {
            CallBack { operation, after_ms, verdict, limits: limits.clone(), status }.run(&world, &consumer)
        };
        tokio::join!(
            of(1_000, "confirmed", &json!({}), 200),
            of(1_000, "rejected", &json!({}), 409),
            of(late_ms, "confirmed", &patient, 202),
            of(late_ms, "rejected", &patient, 202),
            of(late_ms, "confirmed", &short, 504),
        );
    }
}
