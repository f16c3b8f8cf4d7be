//! The limits that a provider asks for: calls a second and attempts in flight, shared by all instances.
//!
//! Calls are counted in fixed windows of one second. An instance takes a few at once, by one conditional
//! write, and spends them by itself; what it has left at the window's end lapses. How many it takes follows
//! what it spent: an instance that makes one call a second takes one, so that many small instances do not
//! starve each other. Attempts in flight hold places under leases, so that a worker that dies frees its place.
//!
//! A store that does not answer is passed over: limits protect, they must not harm. A provider without
//! limits costs nothing. Two windows side by side may let through twice the limit within one second around
//! their border.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_domain::{ProviderId, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::ports::{Entropy, LimitStore, MAX_WINDOW_LEAD_S, PlaceLease, StoreError, TakenCalls, WantedCalls};
use crate::settings::ProviderSettings;

/// How long admission may hold up an attempt altogether.
const STORE_LIMIT: Duration = Duration::from_millis(250);

/// A window's length, in milliseconds.
const WINDOW_MS: i64 = 1_000;

/// An instance takes at most this part of a window's calls at once.
const MAX_CHUNK_PART: u32 = 10;

/// After how many milliseconds a place is asked for again. Most places come free long before their leases end.
const PLACE_RETRY_MS: u64 = 1_000;

/// The most providers whose windows a process remembers.
const MAX_REMEMBERED: usize = 10_000;

/// Whether something may be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go on, and give the ticket back afterwards ([`Limits::release`]).
    Admitted(Ticket),
    /// The provider has had enough.
    Refused {
        /// When to ask again. Many may be told the same time.
        until: Timestamp,
    },
}

/// What an attempt holds while it is under way. Empty if its provider does not limit attempts in flight.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "a place that is not given back is taken until its lease is over"]
pub struct Ticket(Option<String>);

/// The limits, as far as this process knows. Clones share what they know.
#[derive(Clone, Default)]
pub struct Limits {
    windows: Arc<Mutex<HashMap<ProviderId, Arc<tokio::sync::Mutex<Held>>>>>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Limits")
    }
}

impl Limits {
    /// Asks for a place and a call at a provider, in this order. The place is held until the ticket is given
    /// back, and at the latest until `lease_until`. Takes at most 250 ms, and as long again where a place that was
    /// taken has to be given back for want of a call. Makes no call to the store for a provider without limits.
    pub async fn admit<L: LimitStore>(
        &self,
        store: &L,
        provider: &ProviderSettings,
        entropy: &impl Entropy,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Admission {
        let deadline = Instant::now() + STORE_LIMIT;
        let provider_id = &provider.provider_id;
        let held = provider.requests_per_second.map(|_| self.held(provider_id));
        let window_s = window_of(now);
        // Whoever finds the window full needs no place first.
        let known_full = held.as_ref().and_then(|held| held.try_lock().ok()?.full(window_s));
        if let Some(full) = known_full {
            return Admission::Refused { until: full.over_at(now) };
        }
        let mut ticket = Ticket::default();
        if let Some(places) = provider.max_attempts_in_flight {
            let lease = PlaceLease { id: format!("{:016x}", entropy.u64()), until: lease_until };
            let take = store.take_place(provider_id, &lease, places, now);
            if within(deadline, provider_id, "Taking a place for an attempt", take).await == Some(false) {
                return Admission::Refused { until: now.plus_ms(PLACE_RETRY_MS) };
            }
            // A write that was not answered may have been done.
            ticket = Ticket(Some(lease.id));
        }
        if let (Some(capacity), Some(held)) = (provider.requests_per_second, held)
            && let Err(full) = spend(store, provider_id, &held, capacity, window_s, deadline).await
        {
            self.release(store, provider_id, ticket).await;
            return Admission::Refused { until: full.over_at(now) };
        }
        Admission::Admitted(ticket)
    }

    /// Gives back what an attempt held. A store that does not answer leaves the place to its lease.
    pub async fn release<L: LimitStore>(&self, store: &L, provider_id: &ProviderId, ticket: Ticket) {
        let Some(lease_id) = ticket.0 else { return };
        let deadline = Instant::now() + STORE_LIMIT;
        let give = store.give_place_back(provider_id, &lease_id);
        within(deadline, provider_id, "Giving back an attempt's place", give).await;
    }

    fn held(&self, provider_id: &ProviderId) -> Arc<tokio::sync::Mutex<Held>> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_REMEMBERED && !windows.contains_key(provider_id) {
            // What is lost are calls of the current second.
            windows.clear();
        }
        Arc::clone(windows.entry(provider_id.clone()).or_default())
    }
}

/// What a process holds of a provider's windows. The lock around it is held while more is fetched, so that
/// those who wait spend what comes instead of fetching each their own.
#[derive(Debug, Default)]
struct Held {
    /// The window that everything else is about.
    window_s: i64,
    /// Calls that were taken and are not spent.
    left: u32,
    /// Calls that were spent.
    spent: u32,
    /// Calls that were spent in the window before.
    spent_before: u32,
    /// Whether anything was taken of it.
    is_begun: bool,
    /// Whether nothing is left in the store.
    is_used_up: bool,
}

impl Held {
    /// Whether what is held is of use in this window: it is of the same one, or of one that somebody else's
    /// clock has begun.
    fn is_of(&self, window_s: i64) -> bool {
        (window_s..=window_s.saturating_add(MAX_WINDOW_LEAD_S)).contains(&self.window_s)
    }

    /// The window, if it is known to have no more.
    fn full(&self, window_s: i64) -> Option<FullWindow> {
        let is_full = self.is_of(window_s) && self.left == 0 && self.is_used_up;
        is_full.then_some(FullWindow(self.window_s))
    }

    /// Goes to another window; what was held of the last one lapses.
    fn go_to(&mut self, window_s: i64) {
        let spent_before = if self.window_s == window_s - 1 { self.spent } else { 0 };
        *self = Self { window_s, spent_before, ..Self::default() };
    }

    /// What to take: as many calls as were needed so far.
    fn wanted(&self, capacity: u32) -> WantedCalls {
        let most = capacity.div_ceil(MAX_CHUNK_PART).max(1);
        let calls = self.spent.max(self.spent_before).clamp(1, most);
        WantedCalls { window_s: self.window_s, is_begun: self.is_begun, calls, capacity }
    }

    fn take_note(&mut self, taken: TakenCalls, wanted: &WantedCalls) {
        if taken.window_s != self.window_s {
            self.go_to(taken.window_s);
        }
        self.is_begun = true;
        self.left = taken.taken;
        self.is_used_up = taken.taken < wanted.calls;
    }

    fn spend_one(&mut self) -> bool {
        let has_one = self.left > 0;
        if has_one {
            self.left -= 1;
            self.spent = self.spent.saturating_add(1);
        }
        has_one
    }
}

/// A window that has no more calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FullWindow(i64);

impl FullWindow {
    /// When the next one begins.
    fn over_at(self, now: Timestamp) -> Timestamp {
        let over_ms = self.0.saturating_add(1).saturating_mul(WINDOW_MS);
        Timestamp::from_unix_ms(over_ms).unwrap_or_else(|_| now.plus_ms(WINDOW_MS.unsigned_abs()))
    }
}

/// Spends a call, and takes more if none is left.
async fn spend<L: LimitStore>(
    store: &L,
    provider_id: &ProviderId,
    held: &tokio::sync::Mutex<Held>,
    capacity: u32,
    window_s: i64,
    deadline: Instant,
) -> Result<(), FullWindow> {
    let Ok(mut held) = timeout_at(deadline, held.lock()).await else {
        // Whoever holds the lock waits for the store, and it does not answer.
        return Ok(());
    };
    if !held.is_of(window_s) {
        held.go_to(window_s);
    }
    if let Some(full) = held.full(window_s) {
        return Err(full);
    }
    if held.spend_one() {
        return Ok(());
    }
    let wanted = held.wanted(capacity);
    let take = store.take_calls(provider_id, &wanted);
    let Some(taken) = within(deadline, provider_id, "Taking calls of a provider's limit", take).await else {
        return Ok(());
    };
    held.take_note(taken, &wanted);
    if held.spend_one() { Ok(()) } else { Err(FullWindow(held.window_s)) }
}

fn window_of(now: Timestamp) -> i64 {
    now.as_unix_ms().div_euclid(WINDOW_MS)
}

/// The outcome of a call to the store, unless it fails or takes too long; then that is logged and that is all.
async fn within<T>(
    deadline: Instant,
    provider_id: &ProviderId,
    what: &str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Option<T> {
    if Instant::now() >= deadline {
        // A call that is begun only to be dropped might take something all the same.
        tracing::warn!(provider.id = %provider_id, "{what} was left out; the store is too slow.");
        return None;
    }
    match timeout_at(deadline, call).await {
        Ok(Ok(outcome)) => Some(outcome),
        Ok(Err(error)) => {
            tracing::warn!(provider.id = %provider_id, %error, "{what} failed.");
            None
        }
        Err(_) => {
            tracing::warn!(provider.id = %provider_id, "{what} took too long.");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use holdfast_domain::Mode;

    use super::*;
    use crate::ports::Clock;
    use crate::test_util::{Fault, MemorySettings, SeededEntropy, TestClock};

    const LEASE_MS: u64 = 40_000;

    struct World {
        store: MemorySettings,
        clock: TestClock,
        entropy: SeededEntropy,
        provider: ProviderSettings,
    }

    impl World {
        fn new(requests_per_second: Option<u32>, max_attempts_in_flight: Option<u32>) -> Self {
            let id = ProviderId::parse("clinic").unwrap();
            let usual = ProviderSettings::usual(id, Mode::Test, "https://clinic.example");
            Self {
                store: MemorySettings::new(),
                clock: TestClock::starting_at(Timestamp::from_unix_ms(1_800_000_000_250).unwrap()),
                entropy: SeededEntropy::new(1),
                provider: ProviderSettings { requests_per_second, max_attempts_in_flight, ..usual },
            }
        }

        async fn admit(&self, limits: &Limits) -> Admission {
            self.admit_at(limits, self.clock.now()).await
        }

        async fn admit_at(&self, limits: &Limits, now: Timestamp) -> Admission {
            limits.admit(&self.store, &self.provider, &self.entropy, now, now.plus_ms(LEASE_MS)).await
        }

        async fn release(&self, limits: &Limits, admission: Admission) {
            let Admission::Admitted(ticket) = admission else { panic!("{admission:?}") };
            limits.release(&self.store, &self.provider.provider_id, ticket).await;
        }

        fn calls(&self) -> Vec<&'static str> {
            self.store.faults().calls()
        }

        fn places_taken(&self) -> usize {
            self.store.places_taken(&self.provider.provider_id)
        }
    }

    fn is_admitted(admission: &Admission) -> bool {
        matches!(admission, Admission::Admitted(_))
    }

    async fn admitted(world: &World, limits: &Limits, times: usize) -> usize {
        let admissions = join_all((0..times).map(|_| world.admit(limits))).await;
        admissions.iter().filter(|admission| is_admitted(admission)).count()
    }

    async fn advance(ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_without_limits_costs_no_call() {
        let (world, limits) = (World::new(None, None), Limits::default());
        let admission = world.admit(&limits).await;
        assert_eq!(admission, Admission::Admitted(Ticket::default()));
        world.release(&limits, admission).await;
        assert!(world.calls().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_admits_what_it_has_and_the_next_one_again() {
        let (world, limits) = (World::new(Some(25), None), Limits::default());
        assert_eq!(admitted(&world, &limits, 60).await, 25);
        let calls = world.calls().len();
        let next = Timestamp::from_unix_ms(1_800_000_001_000).unwrap();
        assert_eq!(world.admit(&limits).await, Admission::Refused { until: next });
        assert_eq!(world.calls().len(), calls, "a window that is known to be full needs no call");
        advance(749).await;
        assert!(!is_admitted(&world.admit(&limits).await));
        advance(1).await;
        assert_eq!(admitted(&world, &limits, 60).await, 25);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_at_once_grows_with_what_is_spent() {
        let (world, limits) = (World::new(Some(1_000), None), Limits::default());
        assert_eq!(admitted(&world, &limits, 1).await, 1);
        assert_eq!(world.calls().len(), 1);
        assert_eq!(admitted(&world, &limits, 999).await, 999);
        // 1, 1, 2, 4, …, 64, then 100 at once and the rest.
        assert_eq!(world.calls().len(), 17);
        advance(1_000).await;
        assert_eq!(admitted(&world, &limits, 1_000).await, 1_000);
        assert_eq!(world.calls().len(), 27, "the next window begins with what the last one needed");
        advance(2_000).await;
        assert_eq!(admitted(&world, &limits, 1).await, 1);
        let window_s = window_of(world.clock.now());
        let rest = WantedCalls { window_s, is_begun: true, calls: 1_000, capacity: 1_000 };
        let taken = world.store.take_calls(&world.provider.provider_id, &rest);
        assert_eq!(taken.await.unwrap().taken, 999, "after a pause one is taken for one");
    }

    #[tokio::test(start_paused = true)]
    async fn instances_share_a_window_without_starving_each_other() {
        let world = World::new(Some(40), None);
        let instances: Vec<Limits> = (0..100).map(|_| Limits::default()).collect();
        let admissions = join_all(instances.iter().map(|limits| world.admit(limits))).await;
        assert_eq!(admissions.iter().filter(|admission| is_admitted(admission)).count(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_behind_spends_of_the_window_that_is_begun() {
        let world = World::new(Some(2), None);
        let (ahead, behind) = (Limits::default(), Limits::default());
        let now = world.clock.now();
        assert!(is_admitted(&world.admit_at(&ahead, now.plus_ms(1_000)).await));
        assert!(is_admitted(&world.admit_at(&behind, now).await));
        let over = Timestamp::from_unix_ms(1_800_000_002_000).unwrap();
        assert_eq!(world.admit_at(&behind, now).await, Admission::Refused { until: over });
        assert_eq!(world.admit_at(&behind, now.plus_ms(1_000)).await, Admission::Refused { until: over });
        assert!(is_admitted(&world.admit_at(&behind, over).await));
        // A clock that was set back by an hour does not wait for an hour.
        assert!(is_admitted(&world.admit_at(&behind, now.minus_ms(3_600_000)).await));
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_held_given_back_and_over_with_their_leases() {
        let (world, limits) = (World::new(None, Some(2)), Limits::default());
        let first = world.admit(&limits).await;
        let second = world.admit(&limits).await;
        assert_ne!(first, second);
        let until = world.clock.now().plus_ms(PLACE_RETRY_MS);
        assert_eq!(world.admit(&limits).await, Admission::Refused { until });
        world.release(&limits, first).await;
        let third = world.admit(&limits).await;
        assert!(is_admitted(&third));
        assert!(!is_admitted(&world.admit(&Limits::default()).await));
        // Nobody gives these back.
        drop((second, third));
        advance(LEASE_MS - 1).await;
        assert!(!is_admitted(&world.admit(&limits).await));
        advance(1).await;
        assert!(is_admitted(&world.admit(&limits).await));
        assert_eq!(world.places_taken(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_place_spends_no_call_and_a_refused_call_holds_no_place() {
        let (world, limits) = (World::new(Some(2), Some(1)), Limits::default());
        let first = world.admit(&limits).await;
        for _ in 0..5 {
            assert!(!is_admitted(&world.admit(&limits).await));
        }
        world.release(&limits, first).await;
        let second = world.admit(&limits).await;
        world.release(&limits, second).await;
        assert!(!is_admitted(&world.admit(&limits).await));
        assert_eq!(world.places_taken(), 0);
        advance(1_000).await;
        assert!(is_admitted(&world.admit(&limits).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_or_is_silent_is_passed_over_in_time() {
        for fault in [Fault::FailBefore, Fault::FailAfter, Fault::StopBefore, Fault::StopAfter] {
            for operation in ["limits.take_place", "limits.take_calls"] {
                let (world, limits) = (World::new(Some(1), Some(1)), Limits::default());
                world.store.faults().always(operation, fault);
                let began = Instant::now();
                let admission = world.admit(&limits).await;
                assert!(is_admitted(&admission), "{operation} {fault:?}");
                assert!(began.elapsed() <= STORE_LIMIT, "{operation} {fault:?}");
                world.release(&limits, admission).await;
                assert_eq!(
                    world.places_taken(),
                    0,
                    "{operation} {fault:?}: a place is given back in any case"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_a_silent_store_wait_no_longer_than_one() {
        let (world, limits) = (World::new(Some(1), None), Limits::default());
        world.store.faults().always("limits.take_calls", Fault::StopBefore);
        let began = Instant::now();
        assert_eq!(admitted(&world, &limits, 20).await, 20);
        assert!(began.elapsed() <= STORE_LIMIT, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (mut world, limits) = (World::new(Some(1), None), Limits::default());
        for number in 0..=MAX_REMEMBERED {
            world.provider.provider_id = ProviderId::parse(&format!("p{number}")).unwrap();
            assert!(is_admitted(&world.admit(&limits).await));
        }
        assert_eq!(limits.windows.lock().unwrap().len(), 1, "one more than there is room for starts over");
    }

    #[test]
    fn what_is_remembered_takes_no_room_of_its_own() {
        let limits = Limits::default();
        let id = |number: usize| ProviderId::parse(&format!("p{number}")).unwrap();
        for number in 0..MAX_REMEMBERED {
            limits.held(&id(number));
        }
        let held = limits.held(&id(7));
        assert!(Arc::ptr_eq(&held, &limits.held(&id(7))));
        assert_eq!(limits.windows.lock().unwrap().len(), MAX_REMEMBERED);
    }
}
