//! A seeded simulation: random providers in every confirmation mode, consumers with second thoughts, dying
//! workers, failing stores, lost and doubled timers and skewed clocks; once the faults stop, everything has to
//! be as it is reported.
//!
//! A failing seed is named in the panic; everything about its world follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_app::bookings::{Created, Operated, erase_customer};
use holdfast_app::ports::Entropy;
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::settings::ProviderSettings;
use holdfast_app::test_util::{Deed, Fault, Reply, Request, Script, SeededEntropy};
use holdfast_domain::{
    Booking, BookingId, Cancellation, Cause, ConfirmationMode, OperationKind, State, Status, Timestamp,
};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bench::{Bench, body, tenant};
use crate::timers::Chaos;

/// The first world's seed. To play one world again, begin with its seed and play one.
const FIRST_SEED: u64 = 0;
/// How many worlds are played.
const SEEDS: usize = 200;
/// How many keys a world's consumers use.
const KEYS: u64 = 4;
/// How often a consumer has second thoughts, less one at the most.
const MAX_REGRETS: u64 = 13;
/// How often a consumer asks under one key at the most.
const MAX_TRIES: u64 = 12;
/// For how long things go wrong, in milliseconds.
const FAULTS_LAST_MS: u64 = 300_000;
/// The largest skew of a clock, in milliseconds.
const MAX_SKEW_MS: i64 = 300_000;
/// How long a provider that remembers no cancel may go on with a request after its caller hung up, in
/// milliseconds. "No such booking" is believed a minute after the last send.
const MAX_LATE_DEED_MS: u64 = 55_000;

struct Dice(SeededEntropy);

impl Dice {
    fn u64(&self) -> u64 {
        self.0.u64()
    }

    fn below(&self, bound: u64) -> u64 {
        self.0.u64() % bound
    }

    fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn script(&self) -> Script {
        let deed = match self.below(10) {
            0 => Deed::Decline,
            1 => Deed::Reserve { hold_ms: self.below(900_000) },
            2 | 3 => Deed::Nothing,
            _ => Deed::Book,
        };
        let reply = match self.below(10) {
            0 => Reply::Accepted,
            1 => Reply::Status(503),
            2 => Reply::Broken,
            3 | 4 => Reply::Silence,
            5 => Reply::NoConnection,
            _ => Reply::Truth,
        };
        let deed_after_ms = if self.percent(50) { self.below(3_000) } else { self.below(MAX_LATE_DEED_MS) };
        Script {
            deed,
            deed_after_ms,
            reply,
            reply_after_ms: self.below(4_000),
            calls_back: reply == Reply::Accepted || self.percent(10),
        }
    }

    fn fault(&self) -> Fault {
        match self.below(6) {
            0 => Fault::FailBefore,
            1 => Fault::FailAfter,
            2 => Fault::DelayBefore(self.below(8_000)),
            3 => Fault::DelayAfter(self.below(8_000)),
            4 => Fault::StopBefore,
            _ => Fault::StopAfter,
        }
    }
}

/// What a consumer was told under a key, by the booking's identifier.
type Told = BTreeMap<BookingId, (u16, Vec<u8>)>;

/// A consumer that repeats its request until it has a response, and sometimes when it has one; sometimes
/// its worker dies.
async fn consume(bench: Arc<Bench>, key: String, wish: Value, dice: Dice) -> Told {
    let mut told = Told::new();
    for _ in 0..MAX_TRIES {
        sleep(Duration::from_millis(dice.below(6_000))).await;
        let cold = bench.cold_engine();
        let engine = if dice.percent(30) { &cold } else { &*bench.engine };
        let life_ms = if dice.percent(25) { dice.below(4_000) } else { 29_000 };
        let prefer_wait_s = dice.percent(30).then(|| dice.below(11));
        let create = bench.create_at(engine, Some(&key), &wish, prefer_wait_s);
        match timeout(Duration::from_millis(life_ms), create).await {
            Ok(Ok(created)) => hear(&mut told, created),
            Ok(Err(problem)) => check_problem(&problem),
            Err(_) => {}
        }
    }
    told
}

fn hear(told: &mut Told, created: Created) {
    let response = (created.answer.status, created.answer.body);
    let first = told.entry(created.booking_id).or_insert_with(|| response.clone());
    assert_eq!(*first, response, "two responses under one key");
}

fn check_problem(problem: &Problem) {
    let expected = [
        ProblemCode::RequestInFlight,
        ProblemCode::StoreUnavailable,
        ProblemCode::ProviderUnavailable,
        ProblemCode::SlotTaken,
    ];
    assert!(expected.contains(&problem.code), "{problem:?}");
}

/// What a consumer was told of its changes, by booking, kind and key.
type ToldOfChanges = BTreeMap<(BookingId, &'static str, String), (u16, Vec<u8>)>;

/// The body of a change. One kind and key always have the same.
fn change(kind: OperationKind, key: u64) -> Value {
    let mut wish = json!({"async_confirmation": key.is_multiple_of(2)});
    match kind {
        OperationKind::Extend => {
            wish["expires_at"] = json!(format!("2027-01-15T08:{:02}:00Z", 10 + 15 * key));
        }
        OperationKind::Reschedule => {
            let (start, end) =
                (format!("2027-03-0{}T10:00:00Z", 2 + key), format!("2027-03-0{}T11:00:00Z", 2 + key));
            wish["slot"] = json!({"location_id": "main", "start": start, "end": end});
        }
        OperationKind::Book | OperationKind::Confirm | OperationKind::Cancel => {}
    }
    wish
}

/// A consumer that has second thoughts: changes whatever is there, repeats itself, and erases some of it;
/// sometimes its worker dies. Returns what it was told and what is erased.
async fn regret(bench: Arc<Bench>, dice: Dice) -> (ToldOfChanges, Vec<BookingId>) {
    let (mut told, mut erased) = (ToldOfChanges::new(), Vec::new());
    for _ in 0..dice.below(MAX_REGRETS) {
        sleep(Duration::from_millis(dice.below(30_000))).await;
        let items = bench.store.items();
        if items.is_empty() {
            continue;
        }
        let nth = usize::try_from(dice.u64()).unwrap_or(0) % items.len();
        let id = items[nth].booking.id.clone();
        let kind = match dice.below(10) {
            0..=2 => OperationKind::Cancel,
            3..=5 => OperationKind::Reschedule,
            6 | 7 => OperationKind::Extend,
            _ => OperationKind::Confirm,
        };
        let number = dice.below(3);
        let key = format!("key-{number}");
        let life_ms = if dice.percent(25) { dice.below(4_000) } else { 29_000 };
        let prefer_wait_s = dice.percent(30).then(|| dice.below(11));
        let wish = change(kind, number);
        let operate = bench.operate_at(&bench.engine, kind, &id, Some(&key), &wish, prefer_wait_s);
        match timeout(Duration::from_millis(life_ms), operate).await {
            Ok(Ok(operated)) => hear_of_change(&mut told, &id, kind, &key, operated),
            Ok(Err(problem)) => check_change_problem(&problem),
            Err(_) => {}
        }
        if dice.percent(20)
            && let Ok(Ok(())) = timeout(
                Duration::from_secs(4),
                erase_customer(&bench.store, &bench.clock, &tenant("shop"), &id),
            )
            .await
        {
            erased.push(id);
        }
    }
    (told, erased)
}

fn hear_of_change(told: &mut ToldOfChanges, id: &BookingId, kind: OperationKind, key: &str, heard: Operated) {
    let response = (heard.answer.status, heard.answer.body);
    let name = (id.clone(), kind.as_str(), key.to_owned());
    let first = told.entry(name).or_insert_with(|| response.clone());
    assert_eq!(*first, response, "two responses to a change under one key");
}

fn check_change_problem(problem: &Problem) {
    let expected = [
        ProblemCode::RequestInFlight,
        ProblemCode::OperationInFlight,
        ProblemCode::StatusConflict,
        ProblemCode::StoreUnavailable,
        ProblemCode::ProviderUnavailable,
        ProblemCode::SlotTaken,
        // A hold that lasts as long already, or a time that has passed.
        ProblemCode::InvalidRequest,
    ];
    assert!(expected.contains(&problem.code), "{problem:?}");
}

/// Whether a change was ever made. Of the kinds that a booking may reach in other ways it is enough that it
/// did: an extension may be followed by another, a hold be confirmed under another key.
fn was_made(booking: &Booking, kind: OperationKind, number: u64) -> bool {
    match kind {
        OperationKind::Confirm => booking.history.iter().any(|entry| entry.status == Status::Confirmed),
        OperationKind::Reschedule => {
            let wanted = change(kind, number)["slot"]["start"].as_str().unwrap().to_owned();
            let wanted = Timestamp::parse_rfc3339(&wanted).unwrap();
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

fn is_told_of_none(response: &[u8]) -> bool {
    let response: Value = serde_json::from_slice(response).unwrap();
    response["side_effects"] == "none"
}

/// What a consumer was told of a change is what became of it, and is still told.
async fn check_changes(bench: &Arc<Bench>, mut told: ToldOfChanges) {
    for ((id, name, key), (status, response)) in told.clone() {
        let kind = OperationKind::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap();
        let number = key.strip_prefix("key-").unwrap().parse().unwrap();
        let booking = bench.booking(&id);
        let came_to_nothing = booking.history.iter().any(|entry| {
            matches!(
                entry.cause,
                Cause::OperationDeclined | Cause::OperationGivenUp | Cause::OperationUnresolved
            )
        });
        let has_ended = booking.status().is_final();
        let fits = match (kind, status) {
            (OperationKind::Cancel, 200) => booking.status() == Status::Cancelled,
            (OperationKind::Cancel, 202) => came_to_nothing || booking.status() == Status::Cancelled,
            (OperationKind::Cancel, 409) => came_to_nothing,
            (OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule, 200) => {
                was_made(&booking, kind, number)
            }
            (OperationKind::Reschedule, 502 | 504) if is_told_of_none(&response) => {
                !was_made(&booking, kind, number)
            }
            // What became of it is found out, and the story's end is held against the provider's books.
            (OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule, 202 | 502..=504) => {
                true
            }
            (OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule, 409) => {
                came_to_nothing || has_ended || booking.history.len() > 2
            }
            _ => false,
        };
        let response = String::from_utf8_lossy(&response);
        assert!(fits, "told {status} of a {name}: {response}\n{}", bench.story(&id));
        let again = bench.operate(kind, &id, Some(&key), &change(kind, number)).await.unwrap();
        hear_of_change(&mut told, &id, kind, &key, again);
    }
}

fn prepare(bench: &Bench, dice: &Dice) {
    for _ in 0..dice.below(12) {
        bench.provider.plan(Request::Attempt, dice.script());
    }
    for _ in 0..dice.below(6) {
        bench.provider.plan(Request::LookUp, dice.script());
        bench.provider.plan(Request::Cancel, dice.script());
        bench.provider.plan(Request::Change, dice.script());
        bench.provider.plan(Request::Notify, dice.script());
    }
    for _ in 0..dice.below(12) {
        let nth = usize::try_from(dice.below(120)).unwrap();
        bench.faults.on_call(nth, dice.fault());
    }
    bench.wreak(Chaos {
        lost_timers: dice.below(20),
        doubled_timers: dice.below(20),
        killed_workers: dice.below(20),
    });
}

/// A world whose clocks agree may have a provider that remembers no cancel; under skew the contract needs
/// one that does.
fn world(seed: u64, dice: &Dice) -> Arc<Bench> {
    let confirmation = match dice.below(10) {
        0 | 1 => ConfirmationMode::Notify,
        2 | 3 => ConfirmationMode::RealTime,
        _ => ConfirmationMode::Confirm,
    };
    let exclusive_slots = dice.percent(30);
    let configure = |provider: &mut ProviderSettings| {
        provider.confirmation = confirmation;
        provider.exclusive_slots = exclusive_slots;
    };
    if dice.percent(50) {
        let bench = Bench::with_provider(seed, &[0, 0], configure);
        if dice.percent(50) {
            bench.provider.forget_cancels();
        }
        return bench;
    }
    let skew = || {
        let span = u64::try_from(2 * MAX_SKEW_MS).unwrap();
        i64::try_from(dice.below(span)).unwrap() - MAX_SKEW_MS
    };
    Bench::with_provider(seed, &[0, skew(), skew()], configure)
}

async fn play(seed: u64) {
    let dice = Dice(SeededEntropy::new(seed));
    let bench = world(seed, &dice);
    prepare(&bench, &dice);
    let mut consumers = JoinSet::new();
    let mut wishes = Vec::new();
    for number in 0..KEYS {
        let (key, wish) = (format!("key-{number}"), body(dice.percent(60)));
        wishes.push((key.clone(), wish.clone()));
        let dice = Dice(SeededEntropy::new(seed ^ (number + 1) << 32));
        consumers.spawn(consume(Arc::clone(&bench), key, wish, dice));
    }
    if dice.percent(10) {
        bench.provider.refuse_cancels();
    }
    let regrets = tokio::spawn(regret(Arc::clone(&bench), Dice(SeededEntropy::new(!seed))));
    bench.run_for_ms(FAULTS_LAST_MS).await;
    bench.faults.heal();
    bench.provider.heal();
    bench.provider.accept_cancels();
    bench.wreak(Chaos::default());
    let mut told = Told::new();
    for heard in consumers.join_all().await {
        told.extend(heard);
    }
    let (told_of_changes, erased) = regrets.await.unwrap();
    bench.run_until_quiet().await;
    for (key, wish) in wishes {
        match bench.create(Some(&key), &wish).await {
            Ok(created) => hear(&mut told, created),
            // Another one got the slot.
            Err(problem) => assert_eq!(problem.code, ProblemCode::SlotTaken),
        }
    }
    // A hold that a clock which was ahead took for expired lapses at the provider by itself.
    bench.run_for_ms(2 * MAX_SKEW_MS.unsigned_abs()).await;
    bench.run_until_quiet().await;
    bench.check();
    for (id, (status, response)) in told {
        check_response(&bench, &id, status, &response);
    }
    Box::pin(check_changes(&bench, told_of_changes)).await;
    for id in erased {
        let request = bench.booking(&id).request;
        assert_eq!((request.customer, request.notes), (None, None));
    }
}

/// What a consumer was told is what became of the booking.
fn check_response(bench: &Bench, id: &BookingId, status: u16, response: &[u8]) {
    let booking = bench.booking(id);
    let withdrawn = matches!(booking.state, State::Cancelled(Cancellation::ByConsumer(_)));
    let fits = match status {
        201 => {
            withdrawn || matches!(booking.status(), Status::Confirmed | Status::Reserved | Status::Expired)
        }
        202 => true,
        409 => withdrawn || booking.status() == Status::Rejected,
        502 | 504 => booking.status() == Status::Cancelled,
        _ => false,
    };
    assert!(fits, "told {status}, and it is {:?}", booking.status());
    let response: Value = serde_json::from_slice(response).unwrap();
    if response["side_effects"] == "none" {
        assert_eq!(bench.provider.times_taken(id), 0, "told of none:\n{}", bench.story(id));
    }
}

fn run(seed: u64) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play(seed));
}

/// Plays every seed of `seeds`; returns those that failed.
fn failing(seeds: impl Iterator<Item = u64>) -> Vec<u64> {
    seeds.filter(|seed| std::panic::catch_unwind(|| run(*seed)).is_err()).collect()
}

#[test]
fn whatever_goes_wrong_in_the_end_all_is_as_reported() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let plays: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || failing((FIRST_SEED..).take(SEEDS).skip(thread).step_by(threads)))
            })
            .collect();
        plays.into_iter().flat_map(|play| play.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
}
