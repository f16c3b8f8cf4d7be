//! Since when endpoints fail, when they are disabled, and what is told of it.

use serde_json::{Value, json};

use super::*;
use crate::manage::{TargetRules, patch_endpoint, rotate_secret};
use crate::problem::ProblemCode;
use crate::webhook::{DisabledReason, FAILING_LIMIT_MS};

const RULES: TargetRules = TargetRules { allow_plain_http: false };

fn patient() -> WebhookEndpoint {
    // A day between two attempts, so that six failures take five days.
    let mut endpoint = endpoint(1);
    endpoint.retry_schedule_seconds = vec![0, 86_400, 86_400, 86_400, 86_400, 86_400, 86_400];
    endpoint
}

fn bodies(world: &World) -> Vec<Value> {
    world.published().iter().map(|event| serde_json::from_str(&event.body).unwrap()).collect()
}

/// The types that were published, each once.
fn types(world: &World) -> Vec<String> {
    let mut types: Vec<String> = world.published().into_iter().map(|event| event.event_type).collect();
    types.sort();
    types.dedup();
    types
}

#[tokio::test(start_paused = true)]
async fn five_days_of_nothing_but_failures_disable_an_endpoint() {
    for (just_under_ms, is_enabled) in [(1, true), (0, false)] {
        let world = World::new([patient()]);
        world.receivers.will_answer(replies(&status(500), 20));
        world.fan_out().await;
        world.run().await;
        // The first failure was at zero; the attempt that is looked at is so long after it.
        let mut failing = patient();
        failing.failing_since = Some(world.now());
        world.deliveries.endpoints.add_endpoint(failing);
        sleep(Duration::from_millis(FAILING_LIMIT_MS - just_under_ms)).await;
        world.deliveries.fan_out(&other_event()).await.unwrap();
        let (hint, lane) = world.hint();
        let outcome = world.deliveries.deliver(&hint, lane).await;
        let expected = if is_enabled { HintOutcome::Failed } else { HintOutcome::Exhausted };
        assert_eq!(outcome, Ok(expected), "{just_under_ms}");
        assert_eq!(world.endpoint(1).await.enabled, is_enabled);
    }
}

#[tokio::test(start_paused = true)]
async fn the_days_are_counted_from_the_first_failure_and_a_success_ends_them() {
    let world = World::new([patient()]);
    let begun_at = world.now();
    world.receivers.will_answer(replies(&status(500), 5));
    world.fan_out().await;
    // Five failures within four days, and a success on the fifth.
    let outcomes = world.run().await;
    assert_eq!(outcomes.last(), Some(&(5 * 86_400, HintOutcome::Delivered)));
    assert_eq!(world.endpoint(1).await.failing_since, None);
    // Six more of another event, of which the last is five days after the first.
    world.receivers.will_answer(replies(&status(500), 6));
    world.deliveries.fan_out(&other_event()).await.unwrap();
    world.run().await;
    let after = world.endpoint(1).await;
    assert!(!after.enabled && after.disabled_reason == Some(DisabledReason::Failing));
    assert_eq!(after.failing_since, Some(begun_at.plus_ms(5 * 86_400_000)));
    assert_eq!(after.times_disabled, 1);
    let told = bodies(&world).into_iter().find(|body| body["type"] == "webhook_endpoint.disabled").unwrap();
    assert_eq!(told["data"]["reason"], "failing");
    assert_eq!((&told["data"]["enabled"], &told["data"]["id"]), (&json!(false), &json!(after.id.as_str())));
}

#[tokio::test(start_paused = true)]
async fn a_410_is_told_and_other_endpoints_hear_of_it_but_not_this_one() {
    let world = World::new([endpoint(1), endpoint(2)]);
    *world.receivers.failing.lock().unwrap() = Some((endpoint(1).url, 410, 1));
    world.fan_out().await;
    world.run().await;
    assert_eq!(types(&world), ["webhook.exhausted", "webhook_endpoint.disabled"]);
    for event in world.published() {
        assert_eq!((event.subject, event.tenant), (endpoint(1).id.to_string(), tenant()));
        let body: Value = serde_json::from_str(&event.body).unwrap();
        assert_eq!(body["type"], json!(event.event_type));
        assert_eq!(body["data"]["disabled_reason"], "gone");
        assert!(!event.body.contains("whsec_"));
        let id = EventId::parse(body["id"].as_str().unwrap()).unwrap();
        let about_endpoint = Some(endpoint(1).id);
        let incoming = IncomingEvent {
            id,
            event_type: event.event_type,
            about_booking: None,
            about_endpoint,
            body: event.body,
            ..super::event()
        };
        // Enabled again, it does not hear of itself either.
        world.deliveries.endpoints.add_endpoint(endpoint(1));
        assert_eq!(world.deliveries.fan_out(&incoming).await, Ok(1));
        let hints = world.hints();
        assert_eq!(hints[0].0.endpoint_id, endpoint(2).id.as_str());
    }
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_delivery_is_told_once_a_round_unless_it_is_about_endpoints() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer(replies(&status(500), 16));
    world.fan_out().await;
    world.run().await;
    let own = IncomingEvent { event_type: "webhook.exhausted".to_owned(), ..other_event() };
    world.deliveries.fan_out(&own).await.unwrap();
    assert_eq!(world.run().await.last().unwrap().1, HintOutcome::Exhausted);
    let told = bodies(&world);
    let [told] = told.as_slice() else { panic!("{told:?}") };
    let data = &told["data"];
    assert_eq!(told["type"], "webhook.exhausted");
    assert_eq!(data["event_id"], json!(event().id.as_str()));
    assert_eq!(
        (&data["event_type"], &data["attempts"], &data["last_error"], &data["id"]),
        (&json!("booking.confirmed"), &json!(8), &json!("http_500"), &json!(endpoint(1).id.as_str()))
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_told_before_it_is_written_and_the_same_each_time() {
    for fault in [Fault::FailBefore, Fault::FailAfter, Fault::StopBefore, Fault::StopAfter] {
        for operation in ["bus.publish", "endpoints.disable"] {
            for nth in 1..=2 {
                let world = World::new([endpoint(1)]);
                world.faults.on(operation, nth, fault);
                world.receivers.will_answer(replies(&status(410), 3));
                world.fan_out().await;
                world.run().await;
                assert!(!world.endpoint(1).await.enabled);
                assert_eq!(world.endpoint(1).await.times_disabled, 1);
                let mut ids: Vec<(String, String)> = bodies(&world)
                    .iter()
                    .map(|body| (body["type"].to_string(), body["id"].to_string()))
                    .collect();
                ids.sort();
                ids.dedup();
                assert!(
                    types(&world).contains(&"webhook_endpoint.disabled".to_owned()),
                    "{operation} {fault:?}"
                );
                assert_eq!(ids.len(), types(&world).len(), "{operation} {fault:?}: one identifier each");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_delivery_is_given_up_untold_and_each_is_told_under_one_id() {
    let mut once = endpoint(1);
    once.retry_schedule_seconds = vec![0];
    for (operation, nth) in [("bus.publish", 1), ("deliveries.replace", 1), ("deliveries.replace", 2)] {
        for fault in [Fault::FailBefore, Fault::FailAfter, Fault::StopBefore, Fault::StopAfter] {
            let world = World::new([once.clone()]);
            world.faults.on(operation, nth, fault);
            world.receivers.will_answer(replies(&status(500), 5));
            world.fan_out().await;
            world.run().await;
            assert!(matches!(world.item().state, DeliveryState::Exhausted { .. }));
            assert_eq!(types(&world), ["webhook.exhausted"], "{operation} {nth} {fault:?}");
            let mut ids: Vec<String> = bodies(&world).iter().map(|body| body["id"].to_string()).collect();
            ids.dedup();
            assert_eq!(ids.len(), 1, "{operation} {nth} {fault:?}");
        }
    }
}

async fn patch(world: &World, body: Value) -> WebhookEndpoint {
    let id = endpoint(1).id;
    let store = &world.deliveries.endpoints;
    patch_endpoint(store, RULES, &tenant(), id.as_str(), &body, world.now()).await.unwrap();
    world.endpoint(1).await
}

#[tokio::test(start_paused = true)]
async fn enabling_forgets_the_failures() {
    let world = World::new([patient()]);
    world.receivers.will_answer(replies(&status(410), 1));
    world.fan_out().await;
    world.run().await;
    let enabled = patch(&world, json!({"enabled": true})).await;
    assert!(enabled.enabled);
    assert_eq!((enabled.failing_since, enabled.disabled_reason), (None, None));
    world.receivers.will_answer(replies(&status(410), 1));
    world.deliveries.fan_out(&other_event()).await.unwrap();
    world.run().await;
    let disabled: Vec<Value> =
        bodies(&world).into_iter().filter(|body| body["type"] == "webhook_endpoint.disabled").collect();
    assert_eq!(disabled.len(), 2);
    assert_ne!(disabled[0]["id"], disabled[1]["id"], "it was disabled twice");
}

#[tokio::test(start_paused = true)]
async fn neither_a_change_nor_the_end_of_an_endpoint_is_lost_when_they_meet() {
    // The change is made while the worker that got the 410 is about to disable the endpoint.
    for (body, is_disabled) in [
        (json!({"event_types": ["booking.created"]}), true),
        (json!({"headers": {"x-a": "1"}}), true),
        (json!({"url": "https://new.example"}), false),
    ] {
        let world = World::new([endpoint(1)]);
        world.receivers.will_answer(replies(&status(410), 1));
        world.fan_out().await;
        let (hint, lane) = world.hint();
        world.faults.next("endpoints.disable", Fault::DelayBefore(100));
        let changes = async {
            sleep(Duration::from_millis(50)).await;
            patch(&world, body.clone()).await
        };
        let (outcome, _) = tokio::join!(world.deliveries.deliver(&hint, lane), changes);
        let after = world.endpoint(1).await;
        assert_eq!(after.enabled, !is_disabled, "{body}");
        assert_eq!(outcome, Ok(if is_disabled { HintOutcome::Exhausted } else { HintOutcome::Failed }));
        match body.as_object().unwrap().keys().next().unwrap().as_str() {
            "event_types" => assert_eq!(after.event_types, ["booking.created"]),
            "headers" => assert_eq!(after.headers.len(), 1),
            _ => assert_eq!(after.url, "https://new.example"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_changes_at_once_are_all_made() {
    let world = World::new([endpoint(1)]);
    let (tenant, id, store) = (&tenant(), &endpoint(1).id, &world.deliveries.endpoints);
    let entropy = SeededEntropy::new(1);
    let now = world.now();
    let (url, types, secret, (), ()) = tokio::join!(
        patch(&world, json!({"url": "https://new.example"})),
        patch(&world, json!({"event_types": ["booking.created"]})),
        rotate_secret(store, &entropy, tenant, id.as_str(), now),
        async { store.mark_failing(tenant, id, Some(now)).await.unwrap() },
        async {
            let seen = store.endpoint(tenant, id).await.unwrap().unwrap();
            // It may lose, and then it is seen that it did.
            store.disable(tenant, id, seen.rev, DisabledReason::Gone).await.unwrap();
        },
    );
    drop((url, types));
    let after = world.endpoint(1).await;
    assert_eq!((after.url.as_str(), after.event_types.len()), ("https://new.example", 1));
    assert_eq!(after.secret.expose_secret(), secret.unwrap()["secret"].as_str().unwrap());
    assert_eq!(after.old_secrets.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_post_is_signed_by_the_replaced_secret_too_for_24_hours() {
    let world = World::new([endpoint(1)]);
    let rotated = endpoint(1).with_secret("whsec_new".into(), world.now());
    world.deliveries.endpoints.add_endpoint(rotated);
    for (wait_ms, event) in [(86_399_999, event()), (1, other_event())] {
        sleep(Duration::from_millis(wait_ms)).await;
        world.deliveries.fan_out(&event).await.unwrap();
        world.run().await;
    }
    let secrets = world.receivers.secrets.lock().unwrap().clone();
    assert_eq!(secrets, [vec!["whsec_new".to_owned(), "whsec_".to_owned()], vec!["whsec_new".to_owned()]]);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_in_the_log_and_one_that_is_not_fails_nothing() {
    let world = World::new([endpoint(1)]);
    let busy = PostOutcome::Answered { status: 503, retry_after_ms: None, body: "busy".to_owned() };
    world.receivers.will_answer([
        Reply::After(Duration::from_millis(70), busy),
        Reply::At(PostOutcome::ConnectionFailed),
        Reply::Never,
    ]);
    world.fan_out().await;
    world.run().await;
    let told: Vec<Value> = world
        .deliveries
        .store
        .log()
        .iter()
        .map(|entry| json!([entry.attempt, entry.latency_ms, entry.status, entry.error, entry.response_body]))
        .collect();
    assert_eq!(
        told,
        [
            json!([1, 70, 503, "http_503", "busy"]),
            json!([2, 0, null, "connection_failed", null]),
            json!([3, 15_000, null, "timed_out", null]),
            json!([4, 0, 200, null, null]),
        ]
    );
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let world = World::new([endpoint(1)]);
        world.faults.always("attempts.append", fault);
        world.receivers.will_answer(replies(&status(500), 1));
        world.fan_out().await;
        assert_eq!(world.run().await, [(0, HintOutcome::Failed), (5, HintOutcome::Delivered)]);
    }
}

/// An event after the consumer did something while the 410 was on its way.
async fn meanwhile(change: impl AsyncFnOnce(&World)) -> World {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer([Reply::After(Duration::from_millis(100), status(410))]);
    world.fan_out().await;
    let (hint, lane) = world.hint();
    let (outcome, ()) = tokio::join!(world.deliveries.deliver(&hint, lane), async {
        sleep(Duration::from_millis(50)).await;
        change(&world).await;
    });
    assert_eq!(outcome, Ok(HintOutcome::Exhausted));
    world
}

#[tokio::test(start_paused = true)]
async fn what_ends_because_its_consumer_ended_the_endpoint_is_not_told() {
    let disabled = meanwhile(async |world: &World| {
        patch(world, json!({"enabled": false})).await;
    });
    assert_eq!(types(&disabled.await), [""; 0]);
    let removed = meanwhile(async |world: &World| {
        world.deliveries.endpoints.delete_endpoint(&tenant(), &endpoint(1).id).await.unwrap();
    });
    assert_eq!(types(&removed.await), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_told_and_did_not_come_to_pass_takes_no_identifier_from_the_next_time() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer(replies(&status(410), 1));
    world.fan_out().await;
    let (hint, lane) = world.hint();
    // Between the event and the write the endpoint moves, so that it is not disabled.
    world.faults.next("endpoints.disable", Fault::DelayBefore(100));
    let (outcome, _) = tokio::join!(world.deliveries.deliver(&hint, lane), async {
        sleep(Duration::from_millis(50)).await;
        patch(&world, json!({"url": "https://new.example"})).await
    });
    assert_eq!(outcome, Ok(HintOutcome::Failed));
    world.receivers.will_answer(replies(&status(410), 1));
    world.run().await;
    assert!(!world.endpoint(1).await.enabled);
    let ids: Vec<Value> = bodies(&world)
        .into_iter()
        .filter(|body| body["type"] == "webhook_endpoint.disabled")
        .map(|body| body["id"].clone())
        .collect();
    let [first, second] = ids.as_slice() else { panic!("{ids:?}") };
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_would_end_a_valid_secret_is_refused() {
    let world = World::new([endpoint(1)]);
    let (tenant, id, store) = (&tenant(), &endpoint(1).id, &world.deliveries.endpoints);
    let entropy = SeededEntropy::new(1);
    let rotate = || rotate_secret(store, &entropy, tenant, id.as_str(), world.now());
    rotate().await.unwrap();
    rotate().await.unwrap();
    let refused = rotate().await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::LimitReached);
    assert_eq!(world.endpoint(1).await.old_secrets.len(), 2);
    sleep(Duration::from_hours(24)).await;
    rotate().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_does_not_answer_counts_as_slow_for_a_day_and_as_hung_for_an_hour() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer([Reply::Never]);
    world.fan_out().await;
    let (hint, lane) = world.hint();
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::Failed));
    let speed = world.endpoint(1).await.speed;
    assert_eq!(speed.slow_until, Some(world.now().plus_ms(86_400_000)));
    assert_eq!(speed.hung_until, Some(world.now().plus_ms(3_600_000)));
}
