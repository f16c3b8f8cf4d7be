//! Everything around the use cases: ports in memory, the stream that is drained through the outbox, timers
//! that ring, callbacks that are passed on, and what has to hold when all is quiet.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use holdfast_app::availability::SlotWord;
use holdfast_app::bookings::{
    Breakers, CreateCall, Created, Engine, Operated, OperationCall, ProviderCaller, TimerOutcome,
    acknowledge, read_change, read_create,
};
use holdfast_app::idempotency::{IdempotencyKey, fingerprint};
use holdfast_app::outbox::{Change, Outbox};
use holdfast_app::ports::{Clock, Entropy, TimerMessage};
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::settings::ProviderSettings;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::{
    Faults, MemoryAvailability, MemoryBookingStore, MemoryBus, MemoryMailbox, MemoryParking, MemoryProvider,
    MemorySettings, SeededEntropy, TestClock,
};
use holdfast_domain::{
    Booking, BookingId, Cause, Compensation, ConsumerId, Mode, OperationKind, ProviderId, State, Status,
    Tenant, Timestamp, events_since,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::timers::{Chaos, MAX_DELAY_MS, Timers};

/// When all tests begin.
pub(super) const BEGINNING: &str = "2027-01-15T08:00:00Z";
/// How long a function may run for one timer, in milliseconds; then it is ended.
const WORKER_LIMIT_MS: u64 = 150_000;
/// How long a provider waits for the answer to a callback, in milliseconds.
const CALLBACK_LIMIT_MS: u64 = 10_000;
/// How long the function that drains the stream may run, in milliseconds.
const DISPATCH_LIMIT_MS: u64 = 10_000;
/// After how long a message that failed comes again, in milliseconds.
const REDELIVERY_MS: u64 = 30_000;
/// How often the world is looked at while something is under way, in milliseconds.
const TICK_MS: u64 = 200;
/// How often it is looked at while nothing is, in milliseconds.
const IDLE_MS: u64 = 1_000;
/// How often forgotten bookings are looked for, in milliseconds.
const SWEEP_MS: u64 = 300_000;
/// How long a test may last in virtual time, in milliseconds: four days.
const MAX_RUN_MS: u64 = 4 * 24 * 60 * 60 * 1_000;

pub(super) type MemoryEngine =
    Engine<MemoryBookingStore, MemoryProvider, MemorySettings, TestClock, SeededEntropy>;

/// The world of a test.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) store: MemoryBookingStore,
    pub(super) settings: MemorySettings,
    pub(super) provider: MemoryProvider,
    pub(super) clock: TestClock,
    pub(super) bus: MemoryBus,
    pub(super) parking: MemoryParking,
    pub(super) timers: Timers,
    pub(super) faults: Faults,
    pub(super) provider_settings: ProviderSettings,
    pub(super) engine: Arc<MemoryEngine>,
    /// The engines of the functions that timers run in.
    workers: Vec<Arc<MemoryEngine>>,
    pub(super) mailbox: MemoryMailbox,
    pub(super) availability: MemoryAvailability,
    outbox: Outbox<Timers, MemoryBus, MemoryParking, MemoryMailbox, MemoryAvailability, TestClock>,
    entropy: SeededEntropy,
    changes_seen: AtomicUsize,
    running: Arc<AtomicUsize>,
}

pub(super) fn provider_id() -> ProviderId {
    ProviderId::parse("clinic").unwrap()
}

pub(super) fn caller() -> ProviderCaller {
    ProviderCaller { provider_id: provider_id(), mode: Mode::Test }
}

pub(super) fn tenant(name: &str) -> Tenant {
    Tenant { consumer_id: ConsumerId::parse(name).unwrap(), mode: Mode::Test }
}

/// The body of a create.
pub(super) fn body(in_background: bool) -> Value {
    json!({
        "provider_id": "clinic",
        "slot": {"location_id": "main", "start": "2027-03-01T09:00:00Z", "end": "2027-03-01T09:30:00Z"},
        "customer": {"name": "Ada Lovelace"},
        "async_confirmation": in_background,
    })
}

/// The body of a response, as JSON.
pub(super) fn json_of(created: &Created) -> Value {
    serde_json::from_slice(&created.answer.body).unwrap()
}

impl Bench {
    pub(super) fn new() -> Arc<Self> {
        Self::with(0, &[0])
    }

    /// A world with this seed, and one function for timers a clock skew.
    pub(super) fn with(seed: u64, skews_ms: &[i64]) -> Arc<Self> {
        Self::with_provider(seed, skews_ms, |_| {})
    }

    /// The same, at a provider that is configured as `configure` says.
    pub(super) fn with_provider(
        seed: u64,
        skews_ms: &[i64],
        configure: impl FnOnce(&mut ProviderSettings),
    ) -> Arc<Self> {
        let clock = TestClock::starting_at(Timestamp::parse_rfc3339(BEGINNING).unwrap());
        let faults = Faults::new();
        let store = MemoryBookingStore::with_faults(faults.clone());
        let settings = MemorySettings::with_faults(faults.clone());
        let provider = MemoryProvider::new(clock);
        let entropy = SeededEntropy::new(seed);
        let mut provider_settings =
            ProviderSettings::usual(provider_id(), Mode::Test, "http://provider.invalid");
        configure(&mut provider_settings);
        settings.add_provider(provider_settings.clone());
        let engine_of = |clock: TestClock| {
            let breakers = Breakers::new(settings.clone());
            Arc::new(Engine::new(store.clone(), provider.clone(), breakers, clock, entropy.clone()))
        };
        let timers = Timers { queue: Arc::default(), clock, chaos: Arc::default(), entropy: entropy.clone() };
        let (bus, parking) = (MemoryBus::with_faults(faults.clone()), MemoryParking::new());
        let mailbox = MemoryMailbox::new();
        let availability = MemoryAvailability::new();
        let outbox = Outbox {
            timers: timers.clone(),
            bus: bus.clone(),
            parking: parking.clone(),
            mailbox: mailbox.clone(),
            slots: availability.clone(),
            clock,
        };
        Arc::new(Self {
            engine: engine_of(clock),
            workers: skews_ms.iter().map(|skew_ms| engine_of(clock.skewed_by_ms(*skew_ms))).collect(),
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
            outbox,
            entropy,
            changes_seen: AtomicUsize::new(0),
            running: Arc::default(),
        })
    }

    /// Another process of the booking function: it knows nothing yet.
    pub(super) fn cold_engine(&self) -> MemoryEngine {
        let breakers = Breakers::new(self.settings.clone());
        Engine::new(self.store.clone(), self.provider.clone(), breakers, self.clock, self.entropy.clone())
    }

    /// A process whose clock is behind by so many milliseconds.
    pub(super) fn engine_behind_ms(&self, behind_ms: i64) -> MemoryEngine {
        let breakers = Breakers::new(self.settings.clone());
        let clock = self.clock.skewed_by_ms(-behind_ms);
        Engine::new(self.store.clone(), self.provider.clone(), breakers, clock, self.entropy.clone())
    }

    pub(super) fn wreak(&self, chaos: Chaos) {
        *self.timers.chaos.lock().unwrap_or_else(PoisonError::into_inner) = chaos;
    }

    /// Creates a booking, or replays one, at the engine of this world.
    pub(super) async fn create(&self, key: Option<&str>, body: &Value) -> Result<Created, Problem> {
        self.create_at(&self.engine, key, body, None).await
    }

    /// The same at any engine, waiting for the first request if asked.
    pub(super) async fn create_at(
        &self,
        engine: &MemoryEngine,
        key: Option<&str>,
        body: &Value,
        prefer_wait_s: Option<u64>,
    ) -> Result<Created, Problem> {
        self.create_with(engine, &self.provider_settings, key, body, prefer_wait_s).await
    }

    /// The same at any provider.
    pub(super) async fn create_with(
        &self,
        engine: &MemoryEngine,
        provider: &ProviderSettings,
        key: Option<&str>,
        body: &Value,
        prefer_wait_s: Option<u64>,
    ) -> Result<Created, Problem> {
        let call = CreateCall {
            tenant: tenant("shop"),
            key: key.map(|key| IdempotencyKey::parse("Idempotency-Key", key).unwrap()),
            fingerprint: fingerprint(body).unwrap(),
            prefer_wait_s,
            create: read_create(body).unwrap().with_slot(&[], Mode::Test).unwrap(),
            slot_word: SlotWord::Unknown,
            provider: Some(provider),
            received_at: self.clock.now(),
            path: "/v1/bookings",
            request_id: "request",
        };
        engine.create(call).await
    }

    /// Cancels a booking as its consumer, at the engine of this world.
    pub(super) async fn cancel(
        &self,
        id: &BookingId,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Operated, Problem> {
        self.cancel_at(&self.engine, id, key, body, None).await
    }

    /// The same at any engine, waiting for the first request if asked.
    pub(super) async fn cancel_at(
        &self,
        engine: &MemoryEngine,
        id: &BookingId,
        key: Option<&str>,
        body: &Value,
        prefer_wait_s: Option<u64>,
    ) -> Result<Operated, Problem> {
        self.operate_at(engine, OperationKind::Cancel, id, key, body, prefer_wait_s).await
    }

    /// Changes a booking as its consumer, at the engine of this world.
    pub(super) async fn operate(
        &self,
        kind: OperationKind,
        id: &BookingId,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Operated, Problem> {
        self.operate_at(&self.engine, kind, id, key, body, None).await
    }

    /// The same at any engine, waiting for the first request if asked.
    pub(super) async fn operate_at(
        &self,
        engine: &MemoryEngine,
        kind: OperationKind,
        id: &BookingId,
        key: Option<&str>,
        body: &Value,
        prefer_wait_s: Option<u64>,
    ) -> Result<Operated, Problem> {
        let key = key.map(|key| IdempotencyKey::parse("Idempotency-Key", key).unwrap());
        let call = OperationCall {
            tenant: tenant("shop"),
            booking_id: id.clone(),
            key: key.map(|key| key.operation_key(kind)),
            fingerprint: fingerprint(body).unwrap(),
            prefer_wait_s,
            wish: read_change(kind, body).unwrap().with_slot(&[], Mode::Test).unwrap(),
            received_at: self.clock.now(),
            path: "/v1/bookings/the-booking/change",
            request_id: "request",
        };
        let settings = SettingsCache::new(self.settings.clone());
        engine.operate(call, &settings, &self.availability).await
    }

    pub(super) fn booking(&self, id: &BookingId) -> Booking {
        self.store.item(id).unwrap().booking
    }

    pub(super) fn only_booking(&self) -> Booking {
        let [item] = <[StoredBooking; 1]>::try_from(self.store.items()).unwrap();
        item.booking
    }

    /// The types of all events so far, the first first, without repetitions.
    pub(super) fn event_types(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let events = self.bus.events().into_iter().filter(|event| seen.insert(event.body.clone()));
        events.map(|event| event.event_type).collect()
    }

    /// Lets the world go on until nothing is left to be done.
    pub(super) async fn run_until_quiet(self: &Arc<Self>) {
        let give_up_at = self.clock.now().plus_ms(MAX_RUN_MS);
        while self.step().await {
            assert!(self.clock.now() < give_up_at, "never quiet: {:?}", self.store.items());
        }
    }

    /// Lets the world go on for a time.
    pub(super) async fn run_for_ms(self: &Arc<Self>, span_ms: u64) {
        let end = self.clock.now().plus_ms(span_ms);
        while self.clock.now() < end {
            if !self.step().await {
                sleep(Duration::from_millis(IDLE_MS.min(self.clock.now().ms_until(end)))).await;
            }
        }
    }

    /// One look at the world: stream, timers, callbacks, sweep; then some time passes. Returns whether
    /// anything may still happen by itself.
    async fn step(self: &Arc<Self>) -> bool {
        let streamed = self.drain_stream().await;
        for message in self.timers.receive() {
            self.ring(message);
        }
        self.pass_callbacks_on().await;
        let busy = !streamed || self.running.load(Ordering::Relaxed) > 0 || self.provider.is_at_work();
        if !busy && !self.store.items().iter().any(|item| item.booking.due_at().is_some()) {
            return self.changes_seen.load(Ordering::Relaxed) < self.store.changes_from(0).len();
        }
        let now = self.clock.now();
        let to_sweep_ms = SWEEP_MS - now.as_unix_ms().unsigned_abs() % SWEEP_MS;
        let to_timer_ms = self.timers.next_at().map_or(u64::MAX, |at| now.ms_until(at));
        let pause_ms = if busy { TICK_MS } else { to_sweep_ms.min(to_timer_ms).max(1) };
        sleep(Duration::from_millis(pause_ms)).await;
        if pause_ms >= to_sweep_ms {
            self.sweep().await;
        }
        true
    }

    /// Takes the provider's callbacks in. It repeats those that no definite answer came to.
    async fn pass_callbacks_on(&self) {
        let limit = Duration::from_millis(CALLBACK_LIMIT_MS);
        for (id, answer) in self.provider.take_callbacks() {
            let caller = caller();
            let call = acknowledge(&self.store, &self.clock, &caller, &id, &answer);
            match timeout(limit, call).await {
                Ok(Ok(_)) => {}
                Ok(Err(problem)) if problem.code != ProblemCode::StoreUnavailable => {
                    assert!(matches!(problem.code, ProblemCode::Contradiction), "{problem:?}");
                }
                Ok(Err(_)) | Err(_) => self.provider.call_again(id, answer),
            }
        }
    }

    /// Carries out what the stream shows. A change that failed comes again, with all that follow it.
    async fn drain_stream(&self) -> bool {
        let seen = self.changes_seen.load(Ordering::Relaxed);
        let changes: Vec<Change> = self
            .store
            .changes_from(seen)
            .into_iter()
            .map(|change| Change::Images {
                old: change.old.map(|old| Box::new(old.booking)),
                new: Box::new(change.new.booking),
            })
            .collect();
        let limit = Duration::from_millis(DISPATCH_LIMIT_MS);
        let Ok(results) = timeout(limit, self.outbox.carry_out(&changes)).await else { return false };
        let done = results.iter().take_while(|result| result.is_ok()).count();
        self.changes_seen.store(seen + done, Ordering::Relaxed);
        done == changes.len()
    }

    /// Runs the function for one timer, which may be killed at any moment.
    fn ring(self: &Arc<Self>, message: TimerMessage) {
        let chances = self.timers.chances();
        let within_request = BookingId::parse(&message.booking_id)
            .ok()
            .and_then(|id| self.store.item(&id))
            .is_some_and(|item| item.booking.is_within_its_request());
        // What guards a request is not in the index that is swept: the queue has to keep it.
        if !within_request && self.timers.happens(chances.lost_timers) {
            return;
        }
        let number = usize::try_from(self.entropy.u64()).unwrap_or(0) % self.workers.len();
        let engine = Arc::clone(&self.workers[number]);
        let killed = self.timers.happens(chances.killed_workers);
        let limit_ms = if killed { self.entropy.u64() % 40_000 } else { WORKER_LIMIT_MS };
        let world = Arc::clone(self);
        self.running.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let work = engine.on_timer(&message, &world.settings);
            match timeout(Duration::from_millis(limit_ms), work).await {
                Ok(Ok(TimerOutcome::Done | TimerOutcome::Nothing)) => {}
                Ok(Ok(TimerOutcome::PassOn(message))) => {
                    // It rang by another clock, or after a hop.
                    let delay_ms = world.clock.now().ms_until(message.not_before).max(1_000);
                    world.timers.send(message, delay_ms);
                }
                Ok(Err(_)) => world.timers.send(message, REDELIVERY_MS),
                Err(_) => world.timers.send(message, MAX_DELAY_MS),
            }
            world.running.fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn sweep(&self) {
        let limit = Duration::from_millis(DISPATCH_LIMIT_MS);
        let Ok(Ok(overdue)) = timeout(limit, self.engine.overdue()).await else { return };
        for message in overdue {
            self.timers.send(message, 0);
        }
    }

    /// What has to hold when all is quiet.
    pub(super) fn check(&self) {
        let mut known = BTreeSet::new();
        for item in self.store.items() {
            let booking = &item.booking;
            assert_ne!(booking.status(), Status::Pending, "{booking:?}");
            assert_eq!(booking.operation, None, "{booking:?}");
            assert!(!matches!(booking.compensation, Compensation::Underway(_)), "{booking:?}");
            assert!(self.provider.times_taken(&booking.id) <= 1, "booked twice: {booking:?}");
            let held = match booking.state {
                State::Confirmed => Some((booking.slot.clone(), None)),
                State::Reserved { expires_at } => {
                    (expires_at > self.clock.now()).then(|| (booking.slot.clone(), Some(expires_at)))
                }
                _ if booking.compensation == Compensation::Failed => self.provider.holds(&booking.id),
                _ => None,
            };
            let is_told = booking
                .history
                .iter()
                .all(|entry| !matches!(entry.cause, Cause::NotificationFailed | Cause::OperationUnresolved));
            if is_told {
                let truth = self.provider.holds(&booking.id);
                assert_eq!(held, truth, "reported and held:\n{}", self.story(&booking.id));
            }
            self.check_versions(booking);
            known.insert(booking.id.clone());
        }
        let live = self.provider.live();
        assert!(live.iter().all(|id| known.contains(id)), "held, and not known here: {live:?}");
    }

    /// Everything that happened to a booking, for whoever has to find out why.
    pub(super) fn story(&self, id: &BookingId) -> String {
        let seen = self.provider.seen().into_iter().filter(|seen| seen.booking_id == *id);
        let requests = seen.map(|seen| format!("{} {:?} {:?}", seen.at, seen.request, seen.operation));
        let changes = self.store.changes_from(0).into_iter().filter(|change| change.new.booking.id == *id);
        let items = changes.map(|change| {
            let StoredBooking { booking, create, rev, .. } = change.new;
            let Booking { state, operation, compensation, history, refusal, .. } = booking;
            let cause = history.last().map(|entry| entry.cause);
            let frozen = create.and_then(|create| create.response).map(|response| response.status);
            format!("{rev}: {cause:?} {state:?} {operation:?} {refusal:?} {compensation:?} {frozen:?}")
        });
        requests.chain(items).collect::<Vec<_>>().join("\n")
    }

    /// Every version has a legal predecessor and has told its events.
    fn check_versions(&self, booking: &Booking) {
        for pair in booking.history.windows(2) {
            let (from, to) = (pair[0].status, pair[1].status);
            assert!(from == to || from.may_become(to), "{booking:?}");
        }
        let told: BTreeSet<String> = self.bus.events().iter().map(|event| event_id(&event.body)).collect();
        for event in events_since(booking, 0) {
            assert!(told.contains(event.id.as_str()), "{event:?} was never told");
        }
    }
}

fn event_id(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["id"].as_str().unwrap().to_owned()
}
