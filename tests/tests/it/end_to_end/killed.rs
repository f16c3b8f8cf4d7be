//! Functions that are killed, or frozen until others have taken their work over, while a provider, a receiver or
//! the database is about to answer them. Whoever asked repeats the request with its key until there is an answer.
//! Then the provider holds exactly what the consumer is told, and all answers to one key are the same.
//!
//! The process that waits for the answer is found by its connection. It is an ordinary process of a function, as
//! the emulator starts it; what else it had in hand, such as the other messages of its batch, comes again.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::cases::{ALL, Ambush, Case, Harm, MOMENTS, Moment, all_cases, line_of};
use super::processes::Process;
use super::reply::Reply;
use super::sockets::{Ending, Fault, Wire};
use super::stack::rough;
use super::world::{ASK_AGAIN, SETTLED, SHORT_MS, SOON, World, list, text, until};

/// Who freezes the emulator has the stack to itself.
static CALM: RwLock<()> = RwLock::const_new(());

/// Keeps the emulator as it is for as long as this is kept.
pub(super) async fn calm() -> RwLockReadGuard<'static, ()> {
    CALM.read().await
}

#[tokio::test]
async fn what_a_killed_request_had_begun_is_found_out_and_its_key_answered() {
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    all_cases(&world, &consumer, &ALL, async |case, moment| {
        let mut ambush = case.ambush(moment, Harm::Kill);
        let (first, _) = tokio::join!(Reply::for_good(case.request(), SETTLED), ambush.strike());
        case.settle(&first).await;
    })
    .await;
}

#[tokio::test]
async fn a_request_that_thaws_after_its_lease_changes_nothing() {
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    all_cases(&world, &consumer, &["book", "cancel"], async |case, moment| {
        let mut ambush = case.ambush(moment, Harm::Freeze);
        let frozen = async {
            let frozen = ambush.strike().await;
            // The client has hung up and repeats; others do the work meanwhile.
            let answer = Reply::for_good(case.request(), SETTLED).await;
            case.consumer.until_settled(&case.booking_id(), SETTLED).await;
            let sent = case.provider.calls(case.operation).await.len();
            drop(frozen);
            (answer, sent)
        };
        let (thawed, (answer, sent)) = tokio::join!(Reply::for_good(case.request(), SETTLED), frozen);
        thawed.assert_same(&answer);
        case.settle(&answer).await;
        assert_eq!(case.provider.calls(case.operation).await.len(), sent, "it was sent again");
    })
    .await;
}

/// Frozen between its claim and the provider, by the answer to the claim.
#[tokio::test]
async fn a_request_that_thaws_after_its_lease_sends_nothing() {
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    join_all([false, true].map(async |in_background| {
        let case = Case::of(&world, &consumer, "book", in_background).await;
        let key = format!("BKG#{}\"", case.booking_id());
        let mut ambush = Ambush::at(&rough().aws, &["PutItem", &key], Moment::Decided, Harm::Freeze);
        let frozen = async {
            let frozen = ambush.strike().await;
            let answer = Reply::for_good(case.request(), SETTLED).await;
            case.consumer.until_settled(&case.booking_id(), SETTLED).await;
            let sent = case.provider.calls("book").await.len();
            drop(frozen);
            (answer, sent)
        };
        let (thawed, (answer, sent)) = tokio::join!(Reply::for_good(case.request(), SETTLED), frozen);
        thawed.assert_same(&answer);
        case.settle(&answer).await;
        let calls = case.provider.calls("book").await;
        assert_eq!(
            (calls.len(), sent),
            (usize::from(in_background), usize::from(in_background)),
            "{calls:?}"
        );
    }))
    .await;
}

/// Killed between its claim and the provider, by the answer to the claim. On a busy machine the claim's answer may be
/// so late that the claim was repeated, and the provider called, before: then it is a move as any other.
#[tokio::test]
async fn a_move_whose_request_is_killed_before_it_is_sent_may_be_called_off() {
    const TRIES: usize = 3;
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    for _ in 0..TRIES {
        let case = Case::of(&world, &consumer, "reschedule", false).await;
        let key = format!("BKG#{}\"", case.booking_id());
        let mut ambush = Ambush::at(&rough().aws, &["UpdateItem", &key], Moment::Decided, Harm::Kill);
        let (first, _) = tokio::join!(Reply::for_good(case.request(), SETTLED), ambush.strike());
        if case.is_a_move_unheard_of().await {
            return case.call_off(&first).await;
        }
        case.settle(&first).await;
    }
    panic!("the provider was called {TRIES} times before the request was killed");
}

/// The second attempt, which is made in the background.
async fn harmed_in_background(harm: Harm) {
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    join_all(
        [("book", Moment::Undecided), ("book", Moment::Decided), ("cancel", Moment::Decided)]
            .into_iter()
            .map(async |(operation, moment)| {
                let case = Case::of(&world, &consumer, operation, true).await;
                case.provider.next(1, operation, &json!({"status": 503})).await;
                let line = line_of(&case.provider, operation);
                let _first = case.wire.plan(&[&line], 1, Fault::served(Ending::Answer));
                let mut ambush = case.ambush(moment, harm);
                let first = Reply::for_good(case.request(), SOON).await;
                assert_eq!(first.status, 202, "{first:?}");
                let frozen = ambush.strike().await;
                case.consumer.until_settled(&case.booking_id(), SETTLED).await;
                drop(frozen);
                case.settle(&first).await;
            }),
    )
    .await;
}

#[tokio::test]
async fn what_a_killed_retry_had_begun_is_taken_over() {
    harmed_in_background(Harm::Kill).await;
}

#[tokio::test]
async fn a_retry_that_thaws_after_its_lease_changes_nothing() {
    harmed_in_background(Harm::Freeze).await;
}

#[tokio::test]
async fn a_compensation_whose_worker_is_killed_or_frozen_is_made() {
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    join_all([Harm::Kill, Harm::Freeze].into_iter().flat_map(|harm| MOMENTS.map(|at| (harm, at))).map(
        async |(harm, moment)| {
            let case = Case::of(&world, &consumer, "book", false).await;
            let line = line_of(&case.provider, "book");
            let _lost = case.wire.plan(&[&line], 1, Fault::served(Ending::Reset));
            let mut ambush = Ambush::at(&case.wire, &[&line_of(&case.provider, "cancel")], moment, harm);
            let first = Reply::for_good(case.request(), SETTLED).await;
            first.assert_problem(502, "provider_failed", "unknown");
            let frozen = ambush.strike().await;
            consumer.until_cause(&case.booking_id(), "compensated", SETTLED).await;
            drop(frozen);
            case.settle(&first).await;
            assert!(case.provider.live().await.is_empty());
        },
    ))
    .await;
}

#[tokio::test]
async fn what_a_killed_or_frozen_dispatch_had_to_tell_is_told() {
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    let hook = consumer.hook(json!({})).await;
    join_all([Harm::Kill, Harm::Freeze].into_iter().flat_map(|harm| MOMENTS.map(|at| (harm, at))).map(
        async |(harm, moment)| {
            // Its events, and the timer of its next attempt.
            let case = Case::of(&world, &consumer, "book", true).await;
            case.provider.next(1, "book", &json!({"status": 503})).await;
            let event = format!("{}\\\"", case.provider.id);
            let mut events = Ambush::at(&rough().aws, &["AWSEvents.PutEvents", &event], moment, harm);
            let id = case.booking_id();
            let mut timers = Ambush::at(&rough().aws, &["SendMessageBatch", &id], moment, harm);
            let strikes = async {
                let (events, timers) = tokio::join!(events.strike(), timers.strike());
                // Long enough for what it had in hand to be somebody else's.
                tokio::time::sleep(Duration::from_millis(SHORT_MS)).await;
                drop((events, timers));
            };
            let (first, ()) = tokio::join!(Reply::for_good(case.request(), SETTLED), strikes);
            case.consumer.until_status(&id, "confirmed", SETTLED).await;
            case.settle(&first).await;
            hook.until_types(&id, &["booking.created", "booking.confirmed"], SETTLED).await;
        },
    ))
    .await;
}

#[tokio::test]
async fn a_delivery_whose_worker_is_killed_or_frozen_is_made() {
    let world = World::rough();
    let (_calm, provider) = (calm().await, world.provider().await);
    join_all([Harm::Kill, Harm::Freeze].into_iter().flat_map(|harm| MOMENTS.map(|at| (harm, at))).map(
        async |(harm, moment)| {
            // Of its own, so that its endpoint is told of this one booking alone.
            let consumer = world.consumer().await;
            let (wire, inbox) = Wire::before_url(&world.stack.webhook_inbox_url).await;
            let hook = consumer.hook_at(&inbox, json!({"retry_schedule_seconds": [0, 1, 1, 1]})).await;
            let mut ambush = Ambush::at(&wire, &["POST /hooks/", "booking.confirmed"], moment, harm);
            let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
            let frozen = ambush.strike().await;
            let posts = || wire.requests().len();
            let path = format!("/v1/webhook-endpoints/{}/deliveries?status=succeeded", hook.id);
            until(SETTLED, ASK_AGAIN, "both events are delivered, as we see it", async || {
                let log = consumer.get(&path).await;
                let events: Vec<String> = list(&log.json)
                    .iter()
                    .filter(|entry| entry["type"] != "webhook_endpoint.test")
                    .map(|entry| text(&entry["event_id"]))
                    .collect();
                if events.len() >= 2 { Ok(()) } else { Err(json!([events, posts()])) }
            })
            .await;
            drop(frozen);
            hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
            let messages = hook.messages(&id).await;
            let ids = messages.iter().map(|message| (text(&message["type"]), text(&message["webhook_id"])));
            let mut ids: Vec<_> = ids.collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 2, "a repetition has its first one's id: {messages:?}");
        },
    ))
    .await;
}

/// When the provider's own books follow, in milliseconds.
const DECIDED_MS: u64 = 20_000;

#[tokio::test]
async fn a_call_back_whose_worker_is_killed_or_frozen_is_taken_when_it_is_repeated() {
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    join_all([Harm::Kill, Harm::Freeze].into_iter().flat_map(|harm| MOMENTS.map(|at| (harm, at))).map(
        async |(harm, moment)| {
            let mut case = Case::of(&world, &consumer, "book", true).await;
            case.limit("sync_confirmation_timeout_millisecond", 1_000);
            // Whoever looks up meanwhile finds it undecided.
            case.provider.behave(&json!({"accept_202": true, "process_after_ms": DECIDED_MS})).await;
            let provider_key = case.provider.key().await;
            let first = Reply::for_good(case.request(), SETTLED).await;
            let id = case.booking_id();
            // Whoever calls back was called, which takes until after the answer if there was no time for it before.
            case.provider.until_calls("book", 1, SETTLED).await;
            let key = format!("BKG#{id}\"");
            let mut ambush = Ambush::at(&rough().aws, &["UpdateItem", &key, "late-"], moment, harm);
            let reference = format!("late-{}", case.provider.id);
            let yes = json!({"status": "confirmed", "provider_reference": reference});
            let telling = async || {
                let path = format!("/v1/provider/bookings/{id}/acknowledge");
                let request = world.call(reqwest::Method::POST, &path).bearer_auth(&provider_key).json(&yes);
                Reply::for_good(request, SETTLED).await
            };
            let strike = async {
                let frozen = ambush.strike().await;
                // The provider hangs up and calls back again.
                let again = telling().await;
                drop(frozen);
                again
            };
            let (told, again) = tokio::join!(telling(), strike);
            assert_eq!((told.status, again.status), (200, 200), "{told:?} {again:?}");
            let no = json!({"status": "rejected", "rejection": {"code": "full", "message": "Full"}});
            let contradiction = case.provider.acknowledge(&provider_key, &id, &no).await;
            contradiction.assert_problem(409, "contradiction", "none");
            let booking = consumer.until_settled(&id, SOON).await;
            assert_eq!(booking["status"], "confirmed", "{booking}");
            assert_eq!(first.status, 202, "{first:?}");
            case.provider.until_status("confirmed", SETTLED).await;
        },
    ))
    .await;
}

/// Freezes the emulator, with all that it stands for, in the midst of many requests.
#[tokio::test]
async fn an_emulator_that_freezes_for_seconds_loses_nothing() {
    const FREEZES: usize = 3;
    const FROZEN: Duration = Duration::from_secs(3);
    let world = World::rough();
    // Before the cases, for others may have all but one of the turns and wait for calm.
    let alone = CALM.write().await;
    let consumer = world.consumer().await;
    let hook = consumer.hook(json!({})).await;
    let mut cases = Vec::new();
    for operation in ["book", "reschedule", "cancel"] {
        for in_background in [false, true] {
            cases.push(Case::of(&world, &consumer, operation, in_background).await);
        }
    }
    for case in &cases {
        // So that requests are on their way at any moment.
        case.provider.behave(&json!({"latency_ms": 400})).await;
    }
    let asking = join_all(cases.iter().map(|case| Reply::for_good(case.request(), SETTLED)));
    let freezing = async {
        let emulator: SocketAddr =
            world.stack.aws_endpoint_url.trim_start_matches("http://").parse().unwrap();
        for pause_ms in [250, 700, 1_300].into_iter().take(FREEZES) {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            let frozen = Process::listening_at(emulator).unwrap().freeze().await.unwrap();
            tokio::time::sleep(FROZEN).await;
            drop(frozen);
        }
    };
    let (answers, ()) = tokio::join!(asking, freezing);
    for (case, first) in cases.iter().zip(&answers) {
        if case.is_a_move_unheard_of().await {
            case.call_off(first).await;
            continue;
        }
        case.settle(first).await;
        if first.status == 201 {
            let types = ["booking.created", "booking.confirmed"];
            hook.until_types(&case.booking_id(), &types, SETTLED).await;
        }
    }
    drop(alone);
}
