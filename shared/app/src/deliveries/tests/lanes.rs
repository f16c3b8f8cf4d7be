//! Endpoints that take their time, and that they hold up nobody else.

use super::*;
use crate::webhook::Speed;

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_moves_to_the_slow_queue_and_back() {
    let world = World::new([endpoint(1), endpoint(2)]);
    world.fan_out().await;
    let hints = world.hints();
    let of = |number: u8| {
        let id = endpoint(number).id;
        hints.iter().find(|(hint, _)| hint.endpoint_id == id.as_str()).unwrap().0.clone()
    };
    // Before it is known to be slow, its delivery takes the whole limit; the other's is not delayed.
    let (hung, prompt) = (of(1), of(2));
    *world.receivers.hung.lock().unwrap() = Some(endpoint(1).url);
    let (slow, quick) = tokio::join!(world.deliveries.deliver(&hung, Lane::Quick), async {
        let outcome = world.deliveries.deliver(&prompt, Lane::Quick).await;
        (outcome, world.begun.elapsed())
    });
    assert_eq!(slow, Ok(HintOutcome::Failed));
    assert_eq!(quick, (Ok(HintOutcome::Delivered), Duration::ZERO));
    assert_eq!(world.begun.elapsed(), Duration::from_millis(POST_LIMIT_MS));
    assert!(world.endpoint(1).await.speed.hung_until.is_some());

    // New events go to the slow queue at once, as does the next attempt.
    world.deliveries.fan_out(&other_event()).await.unwrap();
    let endpoints_of = |slow: bool| -> Vec<String> {
        world.deliveries.queue.waiting(slow).into_iter().map(|hint| hint.endpoint_id).collect()
    };
    let (first, second) = (endpoint(1).id.to_string(), endpoint(2).id.to_string());
    assert_eq!(endpoints_of(true), [first.clone(), first]);
    assert_eq!(endpoints_of(false), [second]);

    // What is still in the quick queue for it moves without an attempt.
    let moved = world.deliveries.deliver(&DeliveryHint::new(&world.item(), world.now()), Lane::Quick).await;
    assert_eq!((moved, endpoints_of(true).len()), (Ok(HintOutcome::PassedOn), 3));
    *world.receivers.hung.lock().unwrap() = None;
    world.run().await;
    assert_eq!(world.endpoint(1).await.speed, Speed::default());
}

/// Lambda's workers of one queue: each takes up to ten messages and is busy until all of them are done with.
async fn serve(world: &World, slow: bool, workers: usize, until: Instant) {
    let busy = Arc::new(tokio::sync::Semaphore::new(workers));
    let batches = futures_util::stream::FuturesUnordered::new();
    let mut batches = std::pin::pin!(batches);
    let lane = if slow { Lane::Slow } else { Lane::Quick };
    let mut waiting: VecDeque<DeliveryHint> = VecDeque::new();
    while Instant::now() < until || !batches.is_empty() {
        waiting.extend(world.deliveries.queue.receive(slow, world.now()));
        while Instant::now() < until
            && !waiting.is_empty()
            && let Ok(permit) = Arc::clone(&busy).try_acquire_owned()
        {
            let batch: Vec<DeliveryHint> = waiting.drain(..waiting.len().min(10)).collect();
            batches.push(async move {
                let all = batch.iter().map(|hint| world.deliveries.deliver(hint, lane));
                for outcome in futures_util::future::join_all(all).await {
                    outcome.unwrap();
                }
                drop(permit);
            });
        }
        // A moment later there may be more; whoever is done before is free then.
        let moment = sleep(Duration::from_millis(10));
        let mut moment = std::pin::pin!(moment);
        loop {
            tokio::select! {
                () = &mut moment => break,
                Some(()) = batches.next(), if !batches.is_empty() => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_hanging_endpoint_delays_no_other() {
    let mut world = World::new([endpoint(1), endpoint(2), endpoint(3)]);
    world.deliveries.entropy = Dice::Seeded(SeededEntropy::new(1));
    let world = world;
    *world.receivers.hung.lock().unwrap() = Some(endpoint(1).url);
    let until = Instant::now() + Duration::from_secs(40);
    let events = async {
        for number in 0..2_000_u32 {
            let id = EventId::derived("bkg", number, "booking.confirmed");
            world.deliveries.fan_out(&IncomingEvent { id, ..event() }).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(events, serve(&world, false, 200, until), serve(&world, true, 50, until));
    let log = world.deliveries.store.log();
    let created: std::collections::BTreeMap<_, _> = world
        .deliveries
        .store
        .items()
        .into_iter()
        .map(|item| ((item.endpoint_id.clone(), item.event_id.clone()), item.created_at))
        .collect();
    let healthy: Vec<_> = log.iter().filter(|entry| entry.endpoint_id != endpoint(1).id).collect();
    assert_eq!(healthy.len(), 4_000);
    // Each was delivered when the workers looked next, that is within 20 ms of the event.
    let waited = |entry: &&crate::ports::AttemptEntry| {
        created[&(entry.endpoint_id.clone(), entry.event_id.clone())].ms_until(entry.at)
    };
    assert_eq!(healthy.iter().map(waited).max().filter(|most| *most > 20), None);
    // The one that hangs is tried a little at a time.
    let tried = log.len() - healthy.len();
    assert!((20..600).contains(&tried), "{tried}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_answers_late_is_slow_from_half_a_second_on() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer([Reply::After(Duration::from_secs(3), status(200))]);
    world.fan_out().await;
    let (hint, lane) = world.hint();
    let (outcome, ()) = tokio::join!(world.deliveries.deliver(&hint, lane), async {
        sleep(Duration::from_millis(499)).await;
        assert_eq!(world.endpoint(1).await.speed, Speed::default());
        sleep(Duration::from_millis(2)).await;
        assert!(world.endpoint(1).await.speed.slow_until.is_some());
    });
    assert_eq!(outcome, Ok(HintOutcome::Delivered));
    // It answers, so that it is not tried a little at a time; and a quick answer makes it quick.
    let speed = world.endpoint(1).await.speed;
    assert!(speed.slow_until.is_some() && speed.hung_until.is_none());
    world.deliveries.fan_out(&other_event()).await.unwrap();
    assert_eq!(world.deliveries.queue.waiting(true).len(), 1);
    world.run().await;
    assert_eq!(world.endpoint(1).await.speed, Speed::default());
}

/// A world whose first endpoint is known to be slow, and stops to answer.
fn slow_and_silent(speed: Speed) -> World {
    let mut slow = endpoint(1);
    slow.speed = speed;
    let world = World::new([slow]);
    *world.receivers.hung.lock().unwrap() = Some(endpoint(1).url);
    world
}

fn in_a_day() -> Timestamp {
    Timestamp::EPOCH.plus_ms(1_000_000 + 86_400_000)
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_that_stops_to_answer_is_tried_little_before_the_limit() {
    let world = slow_and_silent(Speed { slow_until: Some(in_a_day()), hung_until: None });
    world.fan_out().await;
    let (hint, lane) = world.hint();
    assert_eq!(lane, Lane::Slow);
    let (outcome, ()) = tokio::join!(world.deliveries.deliver(&hint, lane), async {
        sleep(Duration::from_millis(1_999)).await;
        assert_eq!(world.endpoint(1).await.speed.hung_until, None);
        sleep(Duration::from_millis(2)).await;
        assert!(world.endpoint(1).await.speed.hung_until.is_some());
    });
    assert_eq!(outcome, Ok(HintOutcome::Failed));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_ends_that_a_slow_endpoint_is_tried_little() {
    let world = slow_and_silent(Speed { slow_until: Some(in_a_day()), hung_until: None });
    *world.receivers.hung.lock().unwrap() = None;
    world.receivers.will_answer([Reply::After(Duration::from_secs(3), status(200))]);
    world.fan_out().await;
    world.run().await;
    let speed = world.endpoint(1).await.speed;
    assert!(speed.slow_until.is_some() && speed.hung_until.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_writes_nothing_and_a_turn_that_fails_is_not_taken() {
    let world = slow_and_silent(Speed { slow_until: Some(in_a_day()), hung_until: Some(in_a_day()) });
    world.fan_out().await;
    let (hint, lane) = world.hint();
    world.faults.next("endpoints.take_turn", Fault::FailBefore);
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::PassedOn));
    let again_at = world.deliveries.queue.next_at().unwrap();
    assert!((60_000..120_000).contains(&world.now().ms_until(again_at)));
    let (tenant, id, now) = (&tenant(), &endpoint(1).id, world.now());
    assert!(world.deliveries.endpoints.take_turn(tenant, id, now, now.plus_ms(TURN_MS)).await.unwrap());
    let writes = || world.faults.calls().iter().filter(|call| **call == "endpoints.take_turn").count();
    let before = writes();
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::PassedOn));
    assert_eq!(writes(), before);
    assert_eq!(world.receivers.posts().len(), 0);
}
