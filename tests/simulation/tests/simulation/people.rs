//! Consumers and providers who act by a plan, what they were told, and whether it was true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_app::bookings::{
    Created, FetchCall, Operated, cancel_by_provider, erase_customer, fetch_notifications, owned,
    release_notifications,
};
use holdfast_app::idempotency::IdempotencyKey;
use holdfast_app::ports::Clock;
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_domain::{
    Booking, BookingId, Cancellation, Cause, Notification, OperationKind, State, Status, Timestamp,
    Withdrawal,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::actors::Actor;
use crate::bench::{Bench, Function, MemoryEngine, caller, provider_id, tenant};
use crate::plan::{Act, ActorPlan, Step, Wish, change_body, moved_slot};
use crate::play::{Sites, sites};
use crate::requests::Asking;

/// How long a consumer waits before it repeats itself, in milliseconds.
const REPEAT_MS: u64 = 2_000;
/// After which time a provider may have what it fetched again, in milliseconds.
const RELEASE_MS: u64 = 3_601_000;
/// How often a provider fetches in a row at the most.
const MAX_FETCHES: u32 = 20;
/// How long an answer to a provider may take, in milliseconds.
const FETCH_MS: u64 = 20_000;

/// A change: of which booking, of which kind, under which key.
type ChangeName = (BookingId, &'static str, u64);

/// What everybody was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What there was before the subject.
    pub(crate) before: Sites,
    has_begun: bool,
    wishes: BTreeSet<(u64, Wish)>,
    creates: BTreeMap<BookingId, (u16, Vec<u8>)>,
    changes: BTreeMap<ChangeName, (u16, Vec<u8>)>,
    erased: Vec<BookingId>,
    /// The notifications that were handed out before any was released.
    handed_out: Vec<(String, u64)>,
    has_released: bool,
}

fn locked(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Acts step by step.
pub(crate) async fn act_by_plan(bench: Arc<Bench>, plan: ActorPlan, told: Arc<Mutex<Told>>) {
    for step in &plan.steps {
        sleep(Duration::from_millis(step.after_ms)).await;
        if step.is_subject && !std::mem::replace(&mut locked(&told).has_begun, true) {
            let before = sites(&bench);
            locked(&told).before = before;
        }
        for _ in 0..step.tries {
            let act = Box::pin(timeout(Duration::from_millis(step.life_ms), act(&bench, step, &told)));
            let acted = Actor::new(plan.name).live(act).await;
            if matches!(acted, Some(Ok(true))) {
                break;
            }
            sleep(Duration::from_millis(REPEAT_MS)).await;
        }
    }
}

/// Acts once; returns whether there was a definite answer.
async fn act(bench: &Arc<Bench>, step: &Step, told: &Mutex<Told>) -> bool {
    bench.journal.say(&|| format!("{:?}", step.act));
    let function = &bench.functions[step.function % bench.functions.len()];
    let cold = step.is_cold.then(|| bench.engine_at(function.clock));
    let engine = cold.as_ref().unwrap_or(&*function.engine);
    match step.act {
        Act::Create { key, wish } => {
            locked(told).wishes.insert((key, wish));
            let name = format!("key-{key}");
            let asking = Asking {
                tenant: &tenant("shop"),
                key: Some(&name),
                prefer_wait_s: step.prefer_wait_s,
                received_at: function.clock.now(),
            };
            let created = bench.create_for(engine, &bench.provider_settings, asking, &wish.body()).await;
            locked(told).hear(bench, created)
        }
        Act::Change { of, kind, key } => {
            let Some(id) = booking_of(bench, of) else { return true };
            let changed = change(bench, engine, function, step, &id, (kind, key)).await;
            locked(told).hear_of_change(bench, &id, (kind, key), changed)
        }
        Act::Erase { of } => {
            let Some(id) = booking_of(bench, of) else { return true };
            let erased = erase_customer(&bench.store, &function.clock, &tenant("shop"), &id).await;
            if erased.is_ok() {
                locked(told).erased.push(id);
            }
            true
        }
        Act::Withdraw { of } => {
            let Some(id) = booking_of(bench, of) else { return true };
            // It has ended what it has, and tells of it until it is heard.
            bench.provider.withdraw(&id);
            let withdrawal = Withdrawal { reason: Some("ill".to_owned()), note: None };
            let told = cancel_by_provider(&bench.store, &function.clock, &caller(), &id, &withdrawal).await;
            told.map_or_else(|problem| problem.code != ProblemCode::StoreUnavailable, |_| true)
        }
        Act::Spy { of } => {
            let Some(id) = booking_of(bench, of) else { return true };
            spy(bench, engine, function, &id).await;
            true
        }
        Act::Fetch => fetch(bench, told).await.is_ok(),
    }
}

async fn change(
    bench: &Bench,
    engine: &MemoryEngine,
    function: &Function,
    step: &Step,
    id: &BookingId,
    (kind, key): (OperationKind, u64),
) -> Result<Operated, Problem> {
    let name = format!("key-{key}");
    let asking = Asking {
        tenant: &tenant("shop"),
        key: Some(&name),
        prefer_wait_s: step.prefer_wait_s,
        received_at: function.clock.now(),
    };
    bench.operate_for(engine, kind, id, asking, &change_body(kind, key)).await
}

/// I9: nobody finds, or changes, what is somebody else's.
async fn spy(bench: &Bench, engine: &MemoryEngine, function: &Function, id: &BookingId) {
    let stranger = tenant("stranger");
    let read = owned(&bench.store, &stranger, id).await;
    let problem = read.expect_err("a stranger read it");
    let is_hidden = matches!(problem.code, ProblemCode::NotFound | ProblemCode::StoreUnavailable);
    assert!(is_hidden, "{problem:?}");
    let asking =
        Asking { tenant: &stranger, key: None, prefer_wait_s: None, received_at: function.clock.now() };
    let cancelled = bench.operate_for(engine, OperationKind::Cancel, id, asking, &json!({})).await;
    let problem = cancelled.expect_err("a stranger cancelled");
    let is_hidden = matches!(problem.code, ProblemCode::NotFound | ProblemCode::StoreUnavailable);
    assert!(is_hidden, "{problem:?}");
}

/// The booking that was made under a key: the last, if the key was given up and used afresh.
fn booking_of(bench: &Bench, key: u64) -> Option<BookingId> {
    let key = IdempotencyKey::parse("Idempotency-Key", &format!("key-{key}")).unwrap();
    let ids = (0..).map(|generation| key.booking_id(&tenant("shop"), generation));
    ids.take_while(|id| bench.store.item(id).is_some()).last()
}

/// The provider fetches what there is, and keeps its books by it.
async fn fetch(bench: &Bench, told: &Mutex<Told>) -> Result<usize, Problem> {
    let caller = caller();
    let render = |booking: &Booking, notification: &Notification| -> Result<Value, serde_json::Error> {
        Ok(json!({"booking": booking.id.as_str(), "number": notification.number}))
    };
    let call = FetchCall { caller: &caller, limit: 10, until: bench.clock.now().plus_ms(FETCH_MS) };
    let fetched = fetch_notifications(&bench.store, &bench.mailbox, &bench.clock, call, &render).await?;
    let kept = bench.mailbox.entries(&provider_id());
    for body in &fetched.notifications {
        let (id, number) = (body["booking"].as_str().unwrap().to_owned(), body["number"].as_u64().unwrap());
        let is_it = |kept: &&holdfast_app::ports::KeptNotification| {
            kept.booking_id.as_str() == id && u64::from(kept.notification.number) == number
        };
        let kept = kept.iter().find(is_it).unwrap();
        bench.provider.hear(&kept.booking_id, &kept.notification);
        let mut told = locked(told);
        if !told.has_released {
            told.handed_out.push((id, number));
        }
    }
    Ok(fetched.notifications.len())
}

/// The provider fetches until nothing is left, lets itself be given once more what it may have missed, and fetches
/// that too. What never got into its mailbox waits for its end there.
pub(crate) async fn drain_mailbox(bench: &Arc<Bench>, told: &Mutex<Told>) {
    for _ in 0..2 {
        for _ in 0..MAX_FETCHES {
            bench.run_for_ms(REPEAT_MS).await;
            let fetched = fetch(bench, told).await;
            if fetched.is_ok_and(|count| count == 0)
                && !bench.store.any(|item| !item.booking.notifications.is_empty())
            {
                break;
            }
        }
        bench.run_for_ms(RELEASE_MS).await;
        locked(told).has_released = true;
        let released = release_notifications(&bench.mailbox, &bench.clock, &caller()).await;
        assert!(released.is_ok(), "{released:?}");
    }
    while fetch(bench, told).await.unwrap() > 0 {}
    // What never got there is given up in time, and what comes after it is in the mailbox then.
    while bench.store.any(|item| !item.booking.notifications.is_empty()) {
        bench.run_for_ms(RELEASE_MS).await;
        fetch(bench, told).await.unwrap();
    }
}

impl Told {
    /// Takes an answer to a create; returns whether it is definite. I5: it is always the same. I7: what was
    /// said is in the item.
    fn hear(&mut self, bench: &Bench, created: Result<Created, Problem>) -> bool {
        bench.journal.say(&|| match &created {
            Ok(created) => format!("is told {} of {}", created.answer.status, created.booking_id),
            Err(problem) => format!("is told {:?} ({:?})", problem.code, problem.side_effects),
        });
        match created {
            Ok(created) => {
                let response = (created.answer.status, created.answer.body);
                let item = bench.store.item(&created.booking_id);
                let kept = item.and_then(|item| item.create).and_then(|create| create.response);
                let kept = kept.map(|kept| (kept.status, kept.body));
                assert_eq!(kept.as_ref(), Some(&response), "answered before it was stored");
                let first = self.creates.entry(created.booking_id).or_insert_with(|| response.clone());
                assert_eq!(*first, response, "two responses under one key");
                true
            }
            Err(problem) => match problem.code {
                ProblemCode::RequestInFlight
                | ProblemCode::StoreUnavailable
                | ProblemCode::ProviderUnavailable => false,
                ProblemCode::SlotTaken | ProblemCode::IdempotencyKeyReused => true,
                _ => panic!("{problem:?}"),
            },
        }
    }

    fn hear_of_change(
        &mut self,
        bench: &Bench,
        id: &BookingId,
        (kind, key): (OperationKind, u64),
        changed: Result<Operated, Problem>,
    ) -> bool {
        bench.journal.say(&|| match &changed {
            Ok(changed) => format!("is told {} of its {}", changed.answer.status, kind.as_str()),
            Err(problem) => format!("is told {:?} ({:?})", problem.code, problem.side_effects),
        });
        match changed {
            Ok(changed) => {
                let response = (changed.answer.status, changed.answer.body);
                let item = bench.store.item(id);
                let name = IdempotencyKey::parse("Idempotency-Key", &format!("key-{key}")).unwrap();
                let name = name.operation_key(kind);
                let is_kept = item.is_some_and(|item| {
                    item.operations.iter().any(|record| {
                        let kept = record.response.as_ref();
                        record.key == name
                            && kept.is_some_and(|kept| (kept.status, &kept.body) == (response.0, &response.1))
                    })
                });
                assert!(is_kept, "answered before it was stored");
                let name = (id.clone(), kind.as_str(), key);
                let first = self.changes.entry(name).or_insert_with(|| response.clone());
                assert_eq!(*first, response, "two responses to a change under one key");
                true
            }
            Err(problem) => match problem.code {
                ProblemCode::RequestInFlight
                | ProblemCode::OperationInFlight
                | ProblemCode::StoreUnavailable
                | ProblemCode::ProviderUnavailable => false,
                ProblemCode::StatusConflict
                | ProblemCode::SlotTaken
                // A hold that lasts as long already, or a time that has passed.
                | ProblemCode::InvalidRequest => true,
                _ => panic!("{problem:?}"),
            },
        }
    }

    /// Everybody repeats what they asked for. I8: of two bodies under one key only one was ever passed on.
    pub(crate) async fn ask_again(&mut self, bench: &Arc<Bench>) {
        let mut passed_on: BTreeMap<u64, u32> = BTreeMap::new();
        for (key, wish) in self.wishes.clone() {
            let name = format!("key-{key}");
            // Who was turned away for a moment asks once more.
            for _ in 0..3 {
                let created = bench.create(Some(&name), &wish.body()).await;
                let is_reused =
                    created.as_ref().is_err_and(|problem| problem.code == ProblemCode::IdempotencyKeyReused);
                let has_booking = created.is_ok();
                let is_definite = self.hear(bench, created);
                if has_booking {
                    *passed_on.entry(key).or_default() += 1;
                }
                if is_reused {
                    check_never_passed_on(bench, key, wish);
                }
                if is_definite {
                    break;
                }
                bench.run_for_ms(REPEAT_MS).await;
                bench.run_until_quiet().await;
            }
        }
        assert!(passed_on.values().all(|count| *count <= 1), "two bodies under one key: {passed_on:?}");
    }

    /// What everybody was told is what became of it, and is still told.
    pub(crate) async fn check(mut self, bench: &Arc<Bench>, hands_out_once: bool) {
        for (id, (status, response)) in &self.creates {
            // Who did not want to wait is told how it ended.
            let is_at_once = |wish: &Wish| !wish.in_background && passed_on_as(bench, id, *wish);
            assert!(
                *status != 202 || !self.wishes.iter().any(|(_, wish)| is_at_once(wish)),
                "told 202 at once"
            );
            check_response(bench, id, *status, response);
        }
        for ((id, name, key), (status, response)) in self.changes.clone() {
            let kind = OperationKind::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap();
            check_change(bench, &id, (kind, key), status, &response);
            let again = bench.operate(kind, &id, Some(&format!("key-{key}")), &change_body(kind, key)).await;
            assert!(again.is_ok(), "{again:?}");
            self.hear_of_change(bench, &id, (kind, key), again);
        }
        for id in &self.erased {
            let request = bench.booking(id).request;
            assert_eq!((request.customer, request.notes), (None, None));
        }
        let once: BTreeSet<_> = self.handed_out.iter().collect();
        assert!(
            !hands_out_once || once.len() == self.handed_out.len(),
            "one notification was handed out twice: {:?}",
            self.handed_out
        );
    }
}

/// Whether a booking was made by this wish.
fn passed_on_as(bench: &Bench, id: &BookingId, wish: Wish) -> bool {
    let fingerprint = holdfast_app::idempotency::fingerprint(&wish.body()).unwrap();
    let item = bench.store.item(id);
    item.and_then(|item| item.create).is_some_and(|create| create.fingerprint == fingerprint)
}

/// A body that was refused for its key has never reached the provider.
fn check_never_passed_on(bench: &Bench, key: u64, wish: Wish) {
    let Some(id) = booking_of(bench, key) else { return };
    let start = Timestamp::parse_rfc3339(&wish.start()).unwrap();
    if bench.booking(&id).history.iter().any(|entry| entry.moved_from.is_some()) {
        return;
    }
    let is_seen = bench.provider.seen().iter().any(|seen| {
        seen.booking_id == id && seen.slot.start == start && bench.booking(&id).slot.start != start
    });
    assert!(!is_seen, "a body that does not fit its key reached the provider");
}

/// What a consumer was told is what became of the booking.
fn check_response(bench: &Bench, id: &BookingId, status: u16, response: &[u8]) {
    let booking = bench.booking(id);
    let is_withdrawn =
        matches!(booking.state, State::Cancelled(Cancellation::ByConsumer(_) | Cancellation::ByProvider(_)));
    let fits = match status {
        201 => {
            is_withdrawn || matches!(booking.status(), Status::Confirmed | Status::Reserved | Status::Expired)
        }
        202 => true,
        409 => is_withdrawn || booking.status() == Status::Rejected,
        502 | 504 => booking.status() == Status::Cancelled,
        _ => false,
    };
    assert!(fits, "told {status}, and it is {:?}", booking.status());
    let response: Value = serde_json::from_slice(response).unwrap();
    if response["side_effects"] == "none" {
        assert_eq!(bench.provider.times_taken(id), 0, "told of none:\n{}", bench.story(id));
    }
}

/// Whether a change was ever made. Of the kinds that a booking may reach in other ways it is enough that it
/// did: an extension may be followed by another, a hold be confirmed under another key.
fn was_made(booking: &Booking, kind: OperationKind, key: u64) -> bool {
    match kind {
        OperationKind::Confirm => booking.history.iter().any(|entry| entry.status == Status::Confirmed),
        OperationKind::Reschedule => {
            let wanted = Timestamp::parse_rfc3339(moved_slot(key)["start"].as_str().unwrap()).unwrap();
            let left = booking.history.iter().filter_map(|entry| entry.moved_from.as_ref());
            left.chain([&booking.slot]).any(|slot| slot.start == wanted)
        }
        OperationKind::Extend => {
            let granted = booking.history.iter().filter(|entry| {
                entry.status != Status::Pending && entry.cause == Cause::ProviderAcknowledged
            });
            granted.count() > 1
        }
        OperationKind::Book | OperationKind::Cancel => false,
    }
}

/// What a consumer was told of a change is what became of it.
fn check_change(
    bench: &Bench,
    id: &BookingId,
    (kind, key): (OperationKind, u64),
    status: u16,
    response: &[u8],
) {
    let booking = bench.booking(id);
    let came_to_nothing = booking.history.iter().any(|entry| {
        matches!(entry.cause, Cause::OperationDeclined | Cause::OperationGivenUp | Cause::OperationUnresolved)
    });
    let is_told_of_none = || {
        let response: Value = serde_json::from_slice(response).unwrap();
        response["side_effects"] == "none"
    };
    let fits = match (kind, status) {
        (OperationKind::Cancel, 200) => booking.status() == Status::Cancelled,
        (OperationKind::Cancel, 202) => came_to_nothing || booking.status() == Status::Cancelled,
        (OperationKind::Cancel, 409) => came_to_nothing,
        (OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule, 200) => {
            was_made(&booking, kind, key)
        }
        (OperationKind::Reschedule, 502 | 504) if is_told_of_none() => !was_made(&booking, kind, key),
        // What became of it is found out, and the story's end is held against the provider's books.
        (OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule, 202 | 502..=504) => true,
        (OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule, 409) => {
            came_to_nothing || booking.status().is_final() || booking.history.len() > 2
        }
        _ => false,
    };
    let text = String::from_utf8_lossy(response);
    assert!(fits, "told {status} of a {}: {text}\n{}", kind.as_str(), bench.story(id));
}
