//! Deliveries that are made again.

use super::*;
use crate::manage::replay;
use crate::ports::ReplayMessage;
use serde_json::{Value, json};

async fn ask(world: &World, since: Timestamp, only_failed: bool) -> Value {
    let body = json!({"since": since, "only_failed": only_failed});
    let (store, queue) = (&world.deliveries.endpoints, &world.deliveries.queue);
    let id = endpoint(1).id;
    replay(store, queue, &tenant(), id.as_str(), &body, world.now()).await.unwrap()
}

fn numbered(number: u32) -> IncomingEvent {
    IncomingEvent { id: EventId::derived("bkg", number, "booking.confirmed"), ..event() }
}

/// The events of some of the posts, sorted.
fn posted(world: &World, posts: std::ops::Range<usize>) -> Vec<String> {
    let mut ids: Vec<String> =
        world.receivers.posts()[posts].iter().map(|(_, id, body)| format!("{id} {body}")).collect();
    ids.sort();
    ids
}

#[tokio::test(start_paused = true)]
async fn a_replay_sends_the_same_events_and_bytes_of_its_time_alone() {
    let world = World::new([endpoint(1)]);
    world.fan_out().await;
    world.run().await;
    sleep(Duration::from_mins(1)).await;
    let since = world.now();
    for number in 1..=3 {
        world.deliveries.fan_out(&numbered(number)).await.unwrap();
    }
    world.run().await;
    sleep(Duration::from_secs(1)).await;
    ask(&world, since, false).await;
    world.run().await;
    assert_eq!(posted(&world, 4..7), posted(&world, 1..4));
    assert_eq!(world.receivers.posts().len(), 7);
    let item =
        world.deliveries.store.items().into_iter().find(|item| item.event_id == numbered(1).id).unwrap();
    assert_eq!((item.round, item.attempts, item.earlier_attempts), (2, 1, 1));
    assert!(world.deliveries.store.log().iter().any(|entry| entry.attempt == 2));
}

#[tokio::test(start_paused = true)]
async fn failed_deliveries_can_be_made_again_alone() {
    let world = World::new([endpoint(1)]);
    let since = world.now();
    // One is taken, one is given up, and one waits for its next attempt.
    world.fan_out().await;
    world.run().await;
    world.receivers.will_answer(replies(&status(500), 9));
    world.deliveries.fan_out(&other_event()).await.unwrap();
    world.run().await;
    world.deliveries.fan_out(&numbered(1)).await.unwrap();
    let (hint, lane) = world.hint();
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::Failed));
    sleep(Duration::from_millis(1)).await;
    let asked = ask(&world, since, true).await;
    assert_eq!(asked["only_failed"], true);
    let before = world.receivers.posts().len();
    for replay in world.deliveries.queue.receive_replays(world.now()) {
        assert_eq!(world.deliveries.replay(&replay).await, Ok(2));
    }
    assert_eq!(world.deliveries.queue.waiting(true).len(), 2, "behind what is new");
    world.run().await;
    let mut expected = [other_event().id, numbered(1).id].map(|id| format!("{id} {BODY}"));
    expected.sort();
    assert_eq!(posted(&world, before..before + 2), expected);
    assert_eq!(world.receivers.posts().len(), before + 2);
    for item in world.deliveries.store.items() {
        assert!(matches!(item.state, DeliveryState::Delivered { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_given_up_replay_starts_the_schedule_anew_and_is_told_of_again() {
    let mut brief = endpoint(1);
    brief.retry_schedule_seconds = vec![0, 10];
    let world = World::new([brief]);
    let since = world.now();
    world.receivers.will_answer(replies(&status(500), 4));
    world.fan_out().await;
    world.run().await;
    ask(&world, since, true).await;
    world.run().await;
    assert_eq!(world.receivers.posts().len(), 4);
    let told: Vec<Value> =
        world.published().iter().map(|event| serde_json::from_str(&event.body).unwrap()).collect();
    let [first, second] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&first["data"]["attempts"], &second["data"]["attempts"]), (&json!(2), &json!(4)));
    assert_ne!(first["id"], second["id"]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_comes_twice_or_fails_half_way_begins_no_delivery_twice() {
    for fault in [Fault::FailBefore, Fault::FailAfter, Fault::FailEntry(1)] {
        for operation in ["deliveries.replace", "delivery_queue.send", "delivery_queue.ask"] {
            let world = World::new([endpoint(1)]);
            let since = world.now();
            for number in 1..=120 {
                world.deliveries.fan_out(&numbered(number)).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
            world.run().await;
            ask(&world, since, false).await;
            let [message] = world.deliveries.queue.receive_replays(world.now()).try_into().unwrap();
            world.faults.next(operation, fault);
            let mut tries = 0;
            while world.deliveries.replay(&message).await.is_err() {
                tries += 1;
            }
            world.deliveries.replay(&message).await.unwrap();
            assert!(tries <= 1);
            world.run().await;
            assert_eq!(world.receivers.posts().len(), 240, "{operation} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_replay_makes_them_again_and_one_that_comes_late_does_not() {
    let world = World::new([endpoint(1)]);
    let since = world.now();
    world.fan_out().await;
    world.run().await;
    let mut messages = Vec::new();
    for round in [2, 3] {
        sleep(Duration::from_secs(1)).await;
        ask(&world, since, false).await;
        let [message] = world.deliveries.queue.receive_replays(world.now()).try_into().unwrap();
        world.deliveries.replay(&message).await.unwrap();
        world.run().await;
        assert_eq!((world.item().round, world.item().round_at), (round, message.requested_at));
        messages.push(message);
    }
    assert_eq!(world.receivers.posts().len(), 3);
    for late in messages {
        world.deliveries.replay(&late).await.unwrap();
        world.run().await;
    }
    assert_eq!(world.receivers.posts().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_replay_may_begin_now_and_not_later() {
    let world = World::new([endpoint(1)]);
    assert_eq!(ask(&world, world.now(), false).await["since"], json!(world.now()));
    let body = json!({"since": world.now().plus_ms(1)});
    let (store, queue) = (&world.deliveries.endpoints, &world.deliveries.queue);
    let refused = replay(store, queue, &tenant(), endpoint(1).id.as_str(), &body, world.now()).await;
    assert_eq!(refused.unwrap_err().errors[0].pointer, "/since");
}

#[tokio::test(start_paused = true)]
async fn a_long_replay_goes_on_in_small_steps() {
    let world = World::new([endpoint(1)]);
    let since = world.now();
    for number in 0..1_050 {
        world.deliveries.fan_out(&numbered(number)).await.unwrap();
    }
    world.run().await;
    sleep(Duration::from_secs(1)).await;
    ask(&world, since, false).await;
    let begun = Instant::now();
    world.run().await;
    assert_eq!(world.receivers.posts().len(), 2_100);
    // Eleven messages, a second apart.
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_again_for_an_endpoint_that_was_disabled_since() {
    let world = World::new([endpoint(1)]);
    let since = world.now();
    world.fan_out().await;
    world.run().await;
    sleep(Duration::from_secs(1)).await;
    ask(&world, since, false).await;
    let mut disabled = endpoint(1);
    disabled.enabled = false;
    world.deliveries.endpoints.add_endpoint(disabled);
    world.run().await;
    assert_eq!(world.receivers.posts().len(), 1);
    let [message] = [ReplayMessage {
        tenant: "nobody".to_owned(),
        endpoint_id: endpoint(1).id.to_string(),
        since,
        until: since,
        only_failed: false,
        requested_at: since,
        after: None,
    }];
    assert_eq!(world.deliveries.replay(&message).await, Err(DeliveryError::Malformed));
}

#[tokio::test(start_paused = true)]
async fn a_replay_revives_what_lost_its_hint() {
    for is_in_flight in [false, true] {
        let world = World::new([endpoint(1)]);
        let since = world.now();
        world.fan_out().await;
        let (hint, lane) = world.hint();
        if is_in_flight {
            world.receivers.will_answer([Reply::Never]);
            let worker = timeout(Duration::from_millis(100), world.deliveries.deliver(&hint, lane));
            assert!(worker.await.is_err());
        }
        assert_eq!(world.deliveries.queue.next_at(), None);
        sleep(Duration::from_hours(1)).await;
        ask(&world, since, true).await;
        assert_eq!(world.run().await, [(3_600, HintOutcome::Delivered)]);
        assert_eq!(world.item().round, 1, "it is still what it was");
    }
}
