//! Every endpoint hears of every event, whatever fails, always under the same identifier.

use super::*;

const FAULTS: [Fault; 5] =
    [Fault::FailBefore, Fault::FailAfter, Fault::StopBefore, Fault::StopAfter, Fault::FailEntry(0)];

/// How many calls an event makes that fails once at each of two endpoints and is then taken.
async fn calls_without_faults() -> usize {
    let world = World::new([endpoint(1), endpoint(2)]);
    deliver_twice(&world).await;
    world.faults.calls().len()
}

async fn deliver_twice(world: &World) {
    world.receivers.will_answer(replies(&status(500), 2));
    world.fan_out_until_done().await;
    world.run().await;
}

fn assert_all_delivered(world: &World, faults: &[(usize, Fault)]) {
    let items = world.deliveries.store.items();
    assert_eq!(items.len(), 2, "{faults:?}");
    for item in items {
        assert!(matches!(item.state, DeliveryState::Delivered { .. }), "{faults:?}: {item:?}");
    }
    let posts = world.receivers.posts();
    for url in ["https://1.example", "https://2.example"] {
        assert!(posts.iter().any(|(to, _, _)| to == url), "{faults:?}");
    }
    // Faults repeat attempts at most once each, and never change what is posted.
    assert!(posts.len() <= 4 + faults.len(), "{faults:?}");
    assert!(posts.iter().all(|(_, id, body)| *id == event().id.to_string() && body == BODY));
}

#[tokio::test(start_paused = true)]
async fn every_endpoint_hears_of_the_event_whatever_two_faults_happen() {
    let calls = calls_without_faults().await;
    assert!(calls > 15);
    for first in 1..=calls {
        for second in first + 1..=calls + 3 {
            for first_fault in FAULTS {
                for second_fault in FAULTS {
                    let world = World::new([endpoint(1), endpoint(2)]);
                    world.faults.on_call(first, first_fault);
                    world.faults.on_call(second, second_fault);
                    deliver_twice(&world).await;
                    assert_all_delivered(&world, &[(first, first_fault), (second, second_fault)]);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_answers_of_500_and_everything_else_that_goes_wrong_change_neither_id_nor_bytes() {
    let mut stubborn = endpoint(1);
    stubborn.retry_schedule_seconds = std::iter::once(0).chain(std::iter::repeat_n(60, 25)).collect();
    let world = World::new([stubborn, endpoint(2)]);
    // The event arrives twice, the invocation that takes it in is killed, and a hint is lost on the way.
    world.faults.on("deliveries.create", 2, Fault::StopAfter);
    world.faults.on("delivery_queue.send", 1, Fault::FailEntry(0));
    world.fan_out_until_done().await;
    world.fan_out().await;
    *world.receivers.failing.lock().unwrap() = Some((endpoint(1).url, 500, 20));
    // Later an invocation is killed before it has written down what came of an attempt.
    world.faults.on("deliveries.replace", 9, Fault::StopBefore);
    world.run().await;
    for url in [endpoint(1).url, endpoint(2).url] {
        let posts: Vec<_> = world.receivers.posts().into_iter().filter(|(to, _, _)| *to == url).collect();
        assert!(posts.iter().all(|(_, id, body)| *id == event().id.to_string() && body == BODY));
        assert!(!posts.is_empty());
    }
    for item in world.deliveries.store.items() {
        assert!(matches!(item.state, DeliveryState::Delivered { .. }), "{item:?}");
    }
    let log = world.deliveries.store.log();
    let failed = log.iter().filter(|entry| entry.error.as_deref() == Some("http_500")).count();
    assert!((20..=21).contains(&failed), "{failed}");
}
