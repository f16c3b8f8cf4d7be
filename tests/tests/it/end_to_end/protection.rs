//! Providers are protected from us, and their consumers from each other's providers.
//!
//! How many callers there are is what the emulator can take on a small machine, where each request under way is
//! a process of its own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_domain::Timestamp;
use serde_json::{Value, json};

use super::compensation::elapsed_ms;
use super::operations::{booked, held, wish};
use super::pace::let_in;
use super::provider::time;
use super::reply::Reply;
use super::stack::passed_over;
use super::world::{ASK_AGAIN, Consumer, PATIENT_MS, Protocol, Provider, SOON, World, until};

/// How many ask at once for a provider that hangs; every fourth of them has patience.
const CROWD: usize = 40;
const PATIENT_EVERY: usize = 4;
/// How many book at another provider meanwhile, one after the other.
const NEIGHBOURS: usize = 8;
/// For how long a circuit is open, and some more for a busy machine.
const OPEN_AND_MORE: Duration = Duration::from_secs(90);
/// How long the probe takes, in milliseconds.
const PROBE_MS: u64 = 1_500;
/// When all that waited for a slow or limited provider is settled.
const LATER: Duration = Duration::from_secs(90);

/// The limits of these tests.
const CALLS_PER_SECOND: usize = 2;
const IN_FLIGHT: usize = 2;

/// A crowd at a provider: the answers to those who wait, and to those who have patience.
async fn crowd(consumer: &Consumer<'_>, provider: &Provider<'_>) -> (Vec<Reply>, Vec<Reply>) {
    let replies = join_all((0..CROWD).map(async |number| {
        let_in(consumer.world.stack).await;
        let is_patient = number % PATIENT_EVERY == 0;
        (consumer.create(&provider.body(&json!({"async_confirmation": is_patient}))).await, is_patient)
    }));
    let (patient, waiting): (Vec<_>, Vec<_>) =
        replies.await.into_iter().partition(|(_, is_patient)| *is_patient);
    let replies = |all: Vec<(Reply, bool)>| all.into_iter().map(|(reply, _)| reply).collect();
    (replies(waiting), replies(patient))
}

/// Bookings at a provider that is well, none of which may fail.
async fn neighbours(consumer: &Consumer<'_>, provider: &Provider<'_>) {
    for _ in 0..NEIGHBOURS {
        let booked = consumer.create(&provider.body(&json!({}))).await;
        booked.assert_booking(201, "confirmed");
        assert!(booked.took < Duration::from_millis(PATIENT_MS), "{booked:?}");
    }
}

/// Checks that what was sent beyond what may be is no more than what the functions have logged: what
/// protects a provider is passed over rather than waited for when its store is slow. On a machine that has
/// nothing else to do, it is nothing.
pub(super) async fn assert_passed_over(provider: &Provider<'_>, too_many: usize) {
    let what = format!("{too_many} calls too many to {}", provider.id);
    until(SOON, ASK_AGAIN, &what, async || {
        let passed_over = passed_over(&provider.id);
        if too_many <= passed_over { Ok(()) } else { Err(json!(passed_over)) }
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_hangs_is_left_alone_and_nobody_else_notices() {
    let world = World::new();
    let _turn = world.turn().await;
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let neighbour = world.provider().await;
    provider.behave(&json!({"hang": true})).await;
    let ((waiting, patient), ()) =
        tokio::join!(crowd(&consumer, &provider), neighbours(&consumer, &neighbour));
    for reply in &waiting {
        // Whoever comes when the first have given up finds the circuit open.
        assert!(matches!(reply.status, 503 | 504), "{reply:?}");
    }
    let mut pending: Vec<String> = patient.iter().map(|reply| reply.assert_booking(202, "pending")).collect();

    // What an instance knows of a circuit is at most a second old.
    let refused = until(SOON, ASK_AGAIN, "the circuit is known to be open", async || {
        let reply = consumer.create(&provider.body(&json!({}))).await;
        if reply.status == 503 { Ok(reply) } else { Err(json!(format!("{reply:?}"))) }
    })
    .await;
    refused.retry_after_s();
    let sent = provider.all_calls().await.len();
    let ((waiting, patient), ()) =
        tokio::join!(crowd(&consumer, &provider), neighbours(&consumer, &neighbour));
    let limit = Duration::from_millis(PATIENT_MS);
    let (at_once, late): (Vec<_>, Vec<_>) =
        waiting.iter().chain(&patient).partition(|reply| reply.took < limit);
    for reply in &at_once {
        if reply.status == 202 {
            reply.assert_booking(202, "pending");
        } else {
            reply.assert_problem(503, "provider_unavailable", "none");
        }
    }
    pending.extend(patient.iter().map(|reply| reply.assert_booking(202, "pending")));
    let calls = provider.all_calls().await;
    let sent_all_the_same = calls.len() - sent;
    assert!(late.len() <= sent_all_the_same, "the limit was waited for: {late:?}");
    assert_passed_over(&provider, sent_all_the_same).await;
    let sent = calls.len();

    provider.behave(&json!({"latency_ms": PROBE_MS})).await;
    let what = "the probe was made, and others after it";
    let calls = until(OPEN_AND_MORE, ASK_AGAIN, what, async || {
        let calls = provider.all_calls().await;
        if calls.len() > sent + 1 { Ok(calls) } else { Err(json!(calls.len())) }
    })
    .await;
    let (probe, next) = (&calls[sent], &calls[sent + 1]);
    assert!(elapsed_ms(&probe["at"], &next["at"]) >= PROBE_MS, "two probes at once: {probe} {next}");
    provider.behave(&json!({})).await;
    for id in &pending {
        consumer.until_status(id, "confirmed", LATER).await;
    }
    neighbours(&consumer, &neighbour).await;
    let again = consumer.create(&provider.body(&json!({}))).await;
    again.assert_booking(201, "confirmed");
    assert_eq!(neighbour.live().await.len(), 3 * NEIGHBOURS);
}

#[tokio::test]
async fn while_a_circuit_is_open_changes_wait_for_it_or_are_refused() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let (hold, booking) = (held(&consumer, &provider).await, booked(&consumer, &provider).await);
    provider.behave(&json!({"status": 500, "operations": ["book"]})).await;
    until(SOON, Duration::ZERO, "the circuit is known to be open", async || {
        let reply = consumer.create(&provider.body(&json!({}))).await;
        if reply.status == 503 { Ok(()) } else { Err(json!(format!("{reply:?}"))) }
    })
    .await;
    let confirm = wish(&provider, "confirm", &json!({}));
    let refused = consumer.operate_with_key(&hold, "confirm", "k", &confirm).await;
    refused.assert_problem(503, "provider_unavailable", "none");
    refused.retry_after_s();
    assert_eq!(consumer.booking(&hold).await["version"], 2, "nothing was begun");
    let patient = wish(&provider, "confirm", &json!({"async_confirmation": true}));
    // A refusal is not stored, so that its key is free.
    let waiting = consumer.operate_with_key(&hold, "confirm", "k", &patient).await;
    waiting.assert_booking(202, "reserved");
    // A cancel goes on in the background in any case.
    let cancelling = consumer.cancelling(&booking, &wish(&provider, "cancel", &json!({})));
    Reply::of(cancelling).await.assert_booking(202, "confirmed");
    assert!(provider.calls("confirm").await.is_empty(), "nothing is sent while the circuit is open");
    provider.behave(&json!({})).await;
    consumer.until_status(&hold, "confirmed", LATER).await;
    consumer.until_status(&booking, "cancelled", LATER).await;
    provider.assert_agrees(&consumer, &[&hold, &booking]).await;
    consumer.operate_with_key(&hold, "confirm", "k", &patient).await.assert_replays(&waiting);
}

/// Bookings in the background at a provider with limits, until all of them are confirmed there.
async fn patient_bookings(consumer: &Consumer<'_>, provider: &Provider<'_>, count: usize) {
    let body = provider.body(&json!({"async_confirmation": true}));
    let replies = join_all((0..count).map(|_| consumer.create(&body))).await;
    for reply in &replies {
        assert!(matches!(reply.status, 201 | 202), "{reply:?}");
    }
    for reply in &replies {
        consumer.until_status(reply.booking_id(), "confirmed", LATER).await;
    }
    let ids: Vec<&str> = replies.iter().map(Reply::booking_id).collect();
    provider.assert_agrees(consumer, &ids).await;
}

/// Somebody who does not want to wait is turned away while a provider has as much as it wants.
async fn turned_away(consumer: &Consumer<'_>, provider: &Provider<'_>) {
    let refused = until(SOON, Duration::ZERO, "the limit is reached", async || {
        let body = provider.body(&json!({}));
        let replies = join_all((0..6).map(|_| consumer.create(&body))).await;
        let refused = replies.iter().find(|reply| reply.status == 503).cloned();
        refused.ok_or_else(|| json!(format!("{replies:?}")))
    })
    .await;
    refused.assert_problem(503, "provider_unavailable", "none");
    refused.retry_after_s();
    assert!(refused.json.get("booking_id").is_none(), "no booking was made: {refused:?}");
}

/// Consumers who do not want to wait ask again at once, until so many of them have been served.
async fn press(consumer: &Consumer<'_>, provider: &Provider<'_>, count: usize) {
    let served = Cell::new(0);
    until(LATER, Duration::ZERO, "enough of those who press are served", async || {
        let body = provider.body(&json!({}));
        let replies = join_all((0..3 * CALLS_PER_SECOND).map(|_| consumer.create(&body))).await;
        served.set(served.get() + replies.iter().filter(|reply| reply.status == 201).count());
        if served.get() >= count { Ok(()) } else { Err(json!(format!("{replies:?}"))) }
    })
    .await;
}

#[tokio::test]
async fn calls_a_second_are_limited_over_all_instances() {
    let world = World::new();
    // It counts by the second, which a busy machine blurs.
    let _turn = world.turn().await;
    let consumer = world.consumer().await;
    let limit = json!({"requests_per_second": CALLS_PER_SECOND});
    let provider = world.provider_of(Protocol::Native, &limit).await;
    patient_bookings(&consumer, &provider, 5 * CALLS_PER_SECOND).await;
    turned_away(&consumer, &provider).await;
    // As many as could be let through are, so that a limit that is too high would show.
    press(&consumer, &provider, 6 * CALLS_PER_SECOND).await;
    let mut by_second: BTreeMap<i64, usize> = BTreeMap::new();
    for call in provider.all_calls().await {
        *by_second.entry(time(&call["at"]).as_unix_ms() / 1_000).or_default() += 1;
    }
    assert_passed_over(&provider, too_many(&by_second)).await;
}

/// How many calls no second can have let through. Calls are counted when they are let through, and a busy machine sends
/// them a moment later, so that one that arrives may be of the second before.
fn too_many(by_second: &BTreeMap<i64, usize>) -> usize {
    let (mut too_many, mut last) = (0, (i64::MIN, 0));
    for (&second, &calls) in by_second {
        let left_before = match last {
            (previous, left) if previous == second - 1 => left,
            _ => CALLS_PER_SECOND,
        };
        let own = calls.saturating_sub(left_before);
        too_many += own.saturating_sub(CALLS_PER_SECOND);
        last = (second, CALLS_PER_SECOND.saturating_sub(own));
    }
    too_many
}

#[test]
fn no_second_lends_its_calls_twice() {
    let of = |calls: &[(i64, usize)]| too_many(&calls.iter().copied().collect());
    assert_eq!(of(&[(1, 2), (2, 2), (3, 2)]), 0);
    assert_eq!(of(&[(1, 4), (2, 2), (9, 4)]), 0, "they may be of the seconds before");
    assert_eq!(of(&[(1, 1), (2, 1), (3, 4)]), 0, "the second before has one left, of which none came then");
    assert_eq!(of(&[(1, 5)]), 1);
    assert_eq!(of(&[(1, 4), (2, 4)]), 2);
    assert_eq!(of(&[(1, 4), (2, 4), (10, 1), (20, 1)]), 2, "seconds far away do not make up for it");
}

#[tokio::test]
async fn attempts_in_flight_are_limited_over_all_instances() {
    let world = World::new();
    let consumer = world.consumer().await;
    let limit = json!({"max_attempts_in_flight": IN_FLIGHT});
    let provider = world.provider_of(Protocol::Native, &limit).await;
    provider.behave(&json!({"latency_ms": 1_000, "operations": ["book"]})).await;
    patient_bookings(&consumer, &provider, 4 * IN_FLIGHT).await;
    turned_away(&consumer, &provider).await;
    let calls = provider.calls("book").await;
    let open_at = |at: Timestamp| {
        let is_open = |call: &&Value| {
            let begun = time(&call["at"]);
            begun <= at && begun.plus_ms(call["latency_ms"].as_u64().unwrap_or_default()) > at
        };
        calls.iter().filter(is_open).count()
    };
    let most = calls.iter().map(|call| open_at(time(&call["at"]))).max().unwrap_or_default();
    assert_passed_over(&provider, most.saturating_sub(IN_FLIGHT)).await;
}
