//! Everything around the use cases: ports in memory, the stream that is drained through the outbox, timers
//! that ring, callbacks that are passed on, and the sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_app::bookings::{Breakers, Engine, ProviderCaller, TimerOutcome, acknowledge};
use holdfast_app::outbox::{Change, Outbox};
use holdfast_app::ports::{Clock, Entropy, ParkedRecord};
use holdfast_app::problem::ProblemCode;
use holdfast_app::settings::ProviderSettings;
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::{
    Faults, MemoryAvailability, MemoryBookingStore, MemoryBus, MemoryMailbox, MemoryParking, MemoryProvider,
    MemorySettings, SeededEntropy, TestClock, Watcher,
};
use holdfast_domain::{Booking, BookingId, ConsumerId, Mode, ProviderId, Tenant, Timestamp};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::actors::Actor;
use crate::journal::Journal;
use crate::plan::Fate;
use crate::timers::{MAX_DELAY_MS, Queued, Timers};

/// When all tests begin.
pub(crate) const BEGINNING: &str = "2027-01-15T08:00:00Z";
/// How long a function may run for one timer, in milliseconds; then it is ended.
const WORKER_LIMIT_MS: u64 = 150_000;
/// How long a provider waits for the answer to a callback, in milliseconds.
const CALLBACK_LIMIT_MS: u64 = 10_000;
/// How long the function that drains the stream may run, in milliseconds.
const DISPATCH_LIMIT_MS: u64 = 10_000;
/// After how long a message that failed comes again, in milliseconds.
const REDELIVERY_MS: u64 = 30_000;
/// How long after a change the world looks at it, in milliseconds.
const TICK_MS: u64 = 200;
/// After how long the stream shows again what could not be carried out, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// How often forgotten bookings are looked for, in milliseconds.
const SWEEP_MS: u64 = 300_000;
/// How long a test may last in virtual time, in milliseconds: four days.
const MAX_RUN_MS: u64 = 4 * 24 * 60 * 60 * 1_000;

pub(crate) type MemoryEngine =
    Engine<MemoryBookingStore, MemoryProvider, MemorySettings, TestClock, SeededEntropy>;

/// What a world is made of.
#[derive(Clone, Debug)]
pub(crate) struct Terms<'a> {
    /// Of identifiers, delays, and which worker a timer rings at.
    pub(crate) seed: u64,
    /// One booking function each.
    pub(crate) function_skews_ms: &'a [i64],
    /// One function for timers each.
    pub(crate) worker_skews_ms: &'a [i64],
    /// Whether faults are planned for calls of the provider too.
    pub(crate) has_provider_faults: bool,
    /// Whether what happens is written down.
    pub(crate) is_written: bool,
}

/// A process of the booking function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) clock: TestClock,
}

/// The world of a test.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) store: MemoryBookingStore,
    pub(crate) settings: MemorySettings,
    pub(crate) provider: MemoryProvider,
    pub(crate) clock: TestClock,
    pub(crate) bus: MemoryBus,
    pub(crate) parking: MemoryParking,
    pub(crate) timers: Timers,
    pub(crate) faults: Faults,
    pub(crate) provider_settings: ProviderSettings,
    pub(crate) functions: Vec<Function>,
    /// The first booking function's.
    pub(crate) engine: Arc<MemoryEngine>,
    /// The engines of the functions that timers run in.
    workers: Vec<Arc<MemoryEngine>>,
    pub(crate) mailbox: MemoryMailbox,
    pub(crate) availability: MemoryAvailability,
    pub(crate) journal: Arc<Journal>,
    /// What becomes of records of the stream, by their place from 1, instead of being carried out.
    pub(crate) fates: Mutex<BTreeMap<usize, Fate>>,
    /// The times that the changes are of whose records were given up, as far as nobody has made up for them.
    pub(crate) given_up: Mutex<Vec<Range<Timestamp>>>,
    /// When the stream had nothing more to show.
    pub(crate) drained_at: Mutex<Timestamp>,
    /// How far clocks may be apart, in milliseconds.
    pub(crate) largest_skew_ms: u64,
    /// Whether an operator has told of a whole stretch of time again.
    pub(crate) is_told_again: AtomicBool,
    /// Whether nobody reads what failed: a story is long.
    pub(crate) is_quiet: AtomicBool,
    outbox: Outbox<Timers, MemoryBus, MemoryParking, MemoryMailbox, MemoryAvailability, TestClock>,
    pub(crate) entropy: SeededEntropy,
    pub(crate) changes_seen: AtomicUsize,
    running: Arc<AtomicUsize>,
    rung: AtomicUsize,
    wake: Arc<Notify>,
}

pub(crate) fn provider_id() -> ProviderId {
    ProviderId::parse("clinic").unwrap()
}

pub(crate) fn caller() -> ProviderCaller {
    ProviderCaller { provider_id: provider_id(), mode: Mode::Test }
}

pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant { consumer_id: ConsumerId::parse(name).unwrap(), mode: Mode::Test }
}

impl Bench {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(0, &[0])
    }

    /// A world with this seed, and one function for timers a clock skew.
    pub(crate) fn with(seed: u64, skews_ms: &[i64]) -> Arc<Self> {
        Self::with_provider(seed, skews_ms, |_| {})
    }

    /// The same, at a provider that is configured as `configure` says.
    pub(crate) fn with_provider(
        seed: u64,
        skews_ms: &[i64],
        configure: impl FnOnce(&mut ProviderSettings),
    ) -> Arc<Self> {
        let terms = Terms {
            seed,
            function_skews_ms: &[0],
            worker_skews_ms: skews_ms,
            has_provider_faults: false,
            is_written: false,
        };
        Self::on(&terms, configure)
    }

    /// A world on these terms.
    pub(crate) fn on(terms: &Terms<'_>, configure: impl FnOnce(&mut ProviderSettings)) -> Arc<Self> {
        let clock = TestClock::starting_at(Timestamp::parse_rfc3339(BEGINNING).unwrap());
        let faults = Faults::new();
        let store = MemoryBookingStore::with_faults(faults.clone());
        let settings = MemorySettings::with_faults(faults.clone());
        let provider = if terms.has_provider_faults {
            MemoryProvider::with_faults(clock, faults.clone())
        } else {
            MemoryProvider::new(clock)
        };
        let wake = provider.done();
        let journal = Arc::new(Journal::new(clock, store.clone(), Arc::clone(&wake), terms.is_written));
        let watcher: Arc<dyn Watcher> = journal.clone();
        faults.watch(Arc::downgrade(&watcher));
        let entropy = SeededEntropy::new(terms.seed);
        let mut provider_settings =
            ProviderSettings::usual(provider_id(), Mode::Test, "http://provider.invalid");
        configure(&mut provider_settings);
        settings.add_provider(provider_settings.clone());
        let engine_of = |clock: TestClock| {
            let breakers = Breakers::new(settings.clone());
            Arc::new(Engine::new(store.clone(), provider.clone(), breakers, clock, entropy.clone()))
        };
        let functions: Vec<Function> = terms
            .function_skews_ms
            .iter()
            .map(|skew_ms| clock.skewed_by_ms(*skew_ms))
            .map(|clock| Function { engine: engine_of(clock), clock })
            .collect();
        let timers = Timers::new(clock, faults.clone(), Arc::clone(&wake));
        let bus = MemoryBus::with_faults(faults.clone());
        let parking = MemoryParking::with_faults(faults.clone());
        let mailbox = MemoryMailbox::with_faults(faults.clone());
        let availability = MemoryAvailability::with_faults(faults.clone());
        let outbox = Outbox {
            timers: timers.clone(),
            bus: bus.clone(),
            parking: parking.clone(),
            mailbox: mailbox.clone(),
            slots: availability.clone(),
            clock,
        };
        let worker = |skew_ms: &i64| engine_of(clock.skewed_by_ms(*skew_ms));
        Arc::new(Self {
            engine: Arc::clone(&functions[0].engine),
            functions,
            workers: terms.worker_skews_ms.iter().map(worker).collect(),
            store,
            settings,
            provider,
            clock,
            bus,
            parking,
            mailbox,
            availability,
            timers,
            faults,
            provider_settings,
            journal,
            fates: Mutex::default(),
            given_up: Mutex::default(),
            drained_at: Mutex::new(clock.now()),
            largest_skew_ms: terms
                .function_skews_ms
                .iter()
                .chain(terms.worker_skews_ms)
                .map(|skew_ms| skew_ms.unsigned_abs())
                .max()
                .unwrap_or(0),
            is_told_again: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
            outbox,
            entropy,
            changes_seen: AtomicUsize::new(0),
            running: Arc::default(),
            rung: AtomicUsize::new(0),
            wake,
        })
    }

    /// Another process of the booking function: it knows nothing yet.
    pub(crate) fn cold_engine(&self) -> MemoryEngine {
        self.engine_at(self.clock)
    }

    /// A process whose clock is behind by so many milliseconds.
    pub(crate) fn engine_behind_ms(&self, behind_ms: i64) -> MemoryEngine {
        self.engine_at(self.clock.skewed_by_ms(-behind_ms))
    }

    pub(crate) fn engine_at(&self, clock: TestClock) -> MemoryEngine {
        let breakers = Breakers::new(self.settings.clone());
        Engine::new(self.store.clone(), self.provider.clone(), breakers, clock, self.entropy.clone())
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&self) {
        self.faults.heal();
        self.provider.heal();
        self.provider.accept_cancels();
        self.timers.heal();
        self.fates.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn booking(&self, id: &BookingId) -> Booking {
        self.store.item(id).unwrap().booking
    }

    pub(crate) fn only_booking(&self) -> Booking {
        let [item] = <[StoredBooking; 1]>::try_from(self.store.items()).unwrap();
        item.booking
    }

    /// The types of all events so far, the first first, without repetitions.
    pub(crate) fn event_types(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let events = self.bus.events().into_iter().filter(|event| seen.insert(event.body.clone()));
        events.map(|event| event.event_type).collect()
    }

    /// Lets the world go on until nothing is left to be done.
    pub(crate) async fn run_until_quiet(self: &Arc<Self>) {
        let give_up_at = self.clock.now().plus_ms(MAX_RUN_MS);
        while self.step(give_up_at).await {
            assert!(self.clock.now() < give_up_at, "never quiet: {:?}", self.store.items());
        }
    }

    /// Lets the world go on for a time.
    pub(crate) async fn run_for_ms(self: &Arc<Self>, span_ms: u64) {
        let end = self.clock.now().plus_ms(span_ms);
        while self.clock.now() < end {
            if !self.step(end).await {
                // Whatever somebody does ends the quiet.
                let rest = Duration::from_millis(self.clock.now().ms_until(end));
                if timeout(rest, self.wake.notified()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// One look at the world: stream, timers, callbacks, sweep; then some time passes, until `end` at the
    /// latest. Returns whether anything may still happen by itself.
    async fn step(self: &Arc<Self>, end: Timestamp) -> bool {
        let streamed = self.drain_stream().await;
        for queued in self.timers.receive() {
            self.ring(queued);
        }
        self.pass_callbacks_on().await;
        let is_made_up_for = self.make_up_for_given_up().await;
        let busy = !streamed
            || !is_made_up_for
            || self.running.load(Ordering::Relaxed) > 0
            || self.provider.is_at_work();
        if !busy && !self.store.any(|item| item.booking.due_at().is_some()) {
            return self.changes_seen.load(Ordering::Relaxed) < self.store.changes_made();
        }
        let now = self.clock.now();
        let to_sweep_ms = SWEEP_MS - now.as_unix_ms().unsigned_abs() % SWEEP_MS;
        let to_timer_ms = self.timers.next_at().map_or(u64::MAX, |at| now.ms_until(at));
        let to_retry_ms = if streamed { u64::MAX } else { RETRY_MS };
        let next_ms = to_sweep_ms.min(to_timer_ms).min(to_retry_ms).max(1);
        let pause = Duration::from_millis(next_ms.min(now.ms_until(end)).max(1));
        if timeout(pause, self.wake.notified()).await.is_ok() {
            // Stream and queue take a moment.
            sleep(Duration::from_millis(TICK_MS)).await;
        }
        if self.clock.now() >= now.plus_ms(to_sweep_ms) {
            self.sweep().await;
        }
        true
    }

    /// Takes the provider's callbacks in. It repeats those that no definite answer came to.
    async fn pass_callbacks_on(&self) {
        let limit = Duration::from_millis(CALLBACK_LIMIT_MS);
        while let Some((id, answer)) = self.provider.take_callback() {
            self.journal.say(&|| format!("the provider calls back about {id}: {answer:?}"));
            let caller = caller();
            let call = timeout(limit, acknowledge(&self.store, &self.clock, &caller, &id, &answer));
            match Actor::new("callback").live(call).await {
                Some(Ok(Ok(_))) => {}
                Some(Ok(Err(problem))) if problem.code != ProblemCode::StoreUnavailable => {
                    assert!(matches!(problem.code, ProblemCode::Contradiction), "{problem:?}");
                }
                Some(Ok(Err(_)) | Err(_)) | None => {
                    self.provider.call_again(id, answer);
                    return;
                }
            }
        }
    }

    /// Carries out what the stream shows. A change that failed comes again, with all that follow it.
    async fn drain_stream(&self) -> bool {
        let seen = self.pass_over_given_up();
        let shown = self.store.changes_from(seen);
        let shown_count = shown.len();
        let changes: Vec<Change> = {
            let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
            let records = shown.into_iter().zip(seen + 1..);
            let records = records.map(|(change, nth)| (change, fates.get(&nth)));
            records
                .take_while(|(_, fate)| *fate != Some(&Fate::GivenUp))
                .map(|(change, fate)| match fate {
                    Some(_) => Change::Unreadable(unreadable(change.old.as_ref(), &change.new)),
                    None => Change::Images {
                        old: change.old.map(|old| Box::new(old.booking)),
                        new: Box::new(change.new.booking),
                    },
                })
                .collect()
        };
        if changes.is_empty() {
            *self.drained_at.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
            return true;
        }
        let limit = Duration::from_millis(DISPATCH_LIMIT_MS);
        let work = timeout(limit, self.outbox.carry_out(&changes));
        let Some(Ok(results)) = Actor::new("dispatch").live(work).await else { return false };
        let done = results.iter().take_while(|result| result.is_ok()).count();
        self.changes_seen.store(seen + done, Ordering::Relaxed);
        done == shown_count
    }

    /// Runs the function for one timer, which may die at any moment.
    fn ring(self: &Arc<Self>, queued: Queued) {
        let Queued { message, is_lost, .. } = queued;
        let within_request = BookingId::parse(&message.booking_id)
            .ok()
            .and_then(|id| self.store.item(&id))
            .is_some_and(|item| item.booking.is_within_its_request());
        if is_lost && !within_request {
            return;
        }
        let number = usize::try_from(self.entropy.u64()).unwrap_or(0) % self.workers.len();
        let engine = Arc::clone(&self.workers[number]);
        let world = Arc::clone(self);
        self.running.fetch_add(1, Ordering::Relaxed);
        let nth = self.rung.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let limit = Duration::from_millis(WORKER_LIMIT_MS);
            let work = Box::pin(timeout(limit, engine.on_timer(&message, &world.settings)));
            let outcome = Actor::new(format!("worker-{number}.{nth}")).live(work).await;
            match outcome {
                Some(Ok(Ok(TimerOutcome::Done | TimerOutcome::Nothing))) => {}
                Some(Ok(Ok(TimerOutcome::PassOn(message)))) => {
                    // It rang by another clock, or after a hop.
                    let delay_ms = world.clock.now().ms_until(message.not_before).max(1_000);
                    world.timers.send(message, delay_ms);
                }
                Some(Ok(Err(_))) => world.timers.send(message, REDELIVERY_MS),
                Some(Err(_)) | None => world.timers.send(message, MAX_DELAY_MS),
            }
            world.running.fetch_sub(1, Ordering::Relaxed);
            world.wake.notify_one();
        });
    }

    async fn sweep(&self) {
        let now = self.clock.now();
        // It would find nothing.
        if !self.store.any(|item| item.booking.due_at().is_some_and(|due_at| due_at < now)) {
            return;
        }
        let limit = Duration::from_millis(DISPATCH_LIMIT_MS);
        let look = timeout(limit, self.engine.overdue());
        let Some(Ok(Ok(overdue))) = Actor::new("sweep").live(look).await else { return };
        for message in overdue {
            self.timers.send(message, 0);
        }
    }
}

/// The record of a change that nobody can read, as the function that drains the stream parks it.
fn unreadable(old: Option<&StoredBooking>, new: &StoredBooking) -> ParkedRecord {
    let known = old.map_or(0, |old| old.booking.version());
    ParkedRecord {
        booking_id: new.booking.id.as_str().to_owned(),
        from_version: Some(known + 1),
        to_version: Some(new.booking.version()),
        reason: "unreadable".to_owned(),
    }
}
