//! Pulls over ports in memory: what a provider gets, and what it still gets when something fails.

use std::collections::BTreeMap;

use holdfast_domain::{
    BookingId, BookingRequest, Change, ChangeRequest, ConsumerId, Effect, FETCH_LIMIT_MS, Mode,
    NotificationRoute, Patience, ProviderId, Slot, Tenant, Withdrawal, effects,
};
use serde_json::json;

use super::*;
use crate::bookings::ProviderCaller;
use crate::ports::RELEASE_PAUSE_MS;
use crate::test_util::{Fault, Faults, MemoryBookingStore, MemoryMailbox, TestClock};

struct Bench {
    store: MemoryBookingStore,
    mailbox: MemoryMailbox,
    faults: Faults,
    clock: TestClock,
}

fn beginning() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap()
}

fn clinic() -> ProviderCaller {
    ProviderCaller { provider_id: ProviderId::parse("clinic").unwrap(), mode: Mode::Test }
}

fn id(seed: u8) -> BookingId {
    BookingId::from_bytes([seed; 16])
}

#[expect(clippy::unnecessary_wraps, reason = "the form of what makes bodies, which may fail")]
fn name_of(booking: &Booking, told: &Notification) -> Result<Value, serde_json::Error> {
    Ok(json!(format!("{}:{}", booking.id, told.number)))
}

fn named(seed: u8, number: u32) -> Value {
    json!(format!("{}:{number}", id(seed)))
}

impl Bench {
    fn new() -> Self {
        let faults = Faults::new();
        Self {
            store: MemoryBookingStore::with_faults(faults.clone()),
            mailbox: MemoryMailbox::with_faults(faults.clone()),
            faults,
            clock: TestClock::starting_at(beginning()),
        }
    }

    /// The same, `ms` later.
    fn after_ms(self, ms: i64) -> Self {
        Self { clock: self.clock.skewed_by_ms(ms), ..self }
    }

    /// A booking that its provider will hear of.
    async fn accept(&self, seed: u8) {
        let start = beginning().plus_ms(86_400_000);
        let slot = Slot {
            location_id: "main-street".to_owned(),
            start,
            end: start.plus_ms(1_800_000),
            resource_id: None,
            service_id: None,
        };
        let request = BookingRequest {
            provider_id: clinic().provider_id,
            customer: None,
            reference: None,
            notes: None,
            metadata: BTreeMap::new(),
            units: Vec::new(),
            hold: false,
            availability_id: None,
        };
        let tenant = Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Test };
        let at = beginning().plus_ms(seed.into());
        let booking = Booking::accepted(id(seed), tenant, request, slot, NotificationRoute::Pull, at);
        let stored =
            StoredBooking { booking, create: None, operations: Vec::new(), exclusive_slots: false, rev: 1 };
        self.store.claim(&stored).await.unwrap();
    }

    async fn change(&self, seed: u8, command: Command) {
        let before = self.store.item(&id(seed)).unwrap();
        let next = transition(&before.booking, command, self.clock.now()).unwrap().booking;
        assert_eq!(self.store.replace(before.rev, &before.with_booking(next)).await, Ok(Replaced::Done));
    }

    async fn cancel(&self, seed: u8) {
        let now = self.clock.now();
        let request = ChangeRequest {
            change: Change::Cancel(Withdrawal::default()),
            patience: Patience::Background,
            lease_until: now.plus_ms(1_000),
            deadline_at: now.plus_ms(60_000),
        };
        self.change(seed, Command::Begin(request)).await;
    }

    /// What dispatch does with all changes so far, as often as it is called.
    async fn dispatch(&self) {
        for change in self.store.changes_from(0) {
            let old = change.old.as_ref().map(|stored| &stored.booking);
            for effect in effects(old, &change.new.booking) {
                if let Effect::Keep(notification) = effect {
                    let kept = KeptNotification {
                        provider_id: change.new.booking.request.provider_id.clone(),
                        booking_id: change.new.booking.id.clone(),
                        notification,
                        released: false,
                    };
                    self.mailbox.keep(&kept).await.unwrap();
                }
            }
        }
    }

    async fn fetch_as(&self, caller: &ProviderCaller, limit: usize) -> Result<Fetched, Problem> {
        let call = FetchCall { caller, limit, until: self.clock.now().plus_ms(10_000) };
        fetch_notifications(&self.store, &self.mailbox, &self.clock, call, &name_of).await
    }

    async fn fetch(&self) -> Vec<Value> {
        let fetched = self.fetch_as(&clinic(), MAX_FETCHED).await.unwrap();
        assert_eq!(fetched.remaining, 0);
        fetched.notifications
    }

    fn waits(&self, seed: u8) -> Vec<u32> {
        let booking = self.store.item(&id(seed)).unwrap().booking;
        booking.notifications.iter().map(|notification| notification.number).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_booking_s_notifications_are_fetched_one_after_the_other() {
    let bench = Bench::new();
    bench.accept(2).await;
    bench.accept(1).await;
    bench.dispatch().await;
    assert_eq!(bench.fetch().await, [named(1, 1), named(2, 1)]);
    assert!(bench.waits(1).is_empty());
    bench.dispatch().await;
    assert_eq!(bench.fetch().await, [] as [Value; 0]);
    bench.cancel(1).await;
    bench.dispatch().await;
    assert_eq!(bench.fetch().await, [named(1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_booking_that_was_cancelled_unheard_is_never_told() {
    let bench = Bench::new();
    bench.accept(1).await;
    bench.dispatch().await;
    bench.cancel(1).await;
    bench.dispatch().await;
    bench.accept(2).await;
    bench.dispatch().await;
    // It does not take the place of what is there to be told.
    let fetched = bench.fetch_as(&clinic(), 1).await.unwrap();
    assert_eq!(fetched, Fetched { notifications: vec![named(2, 1)], remaining: 0 });
    assert_eq!(bench.fetch().await, [] as [Value; 0]);
    // Nor when the provider asks for everything once more.
    let bench = bench.after_ms(1_000);
    assert_eq!(release_notifications(&bench.mailbox, &bench.clock, &clinic()).await, Ok(2));
    assert_eq!(bench.fetch().await, [named(2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn nobody_fetches_what_is_another_s() {
    let bench = Bench::new();
    bench.accept(1).await;
    bench.dispatch().await;
    let other = ProviderCaller { provider_id: ProviderId::parse("other").unwrap(), mode: Mode::Test };
    assert_eq!(bench.fetch_as(&other, MAX_FETCHED).await, Ok(Fetched::default()));
    assert_eq!(bench.waits(1), [1]);
    let live = ProviderCaller { mode: Mode::Live, ..clinic() };
    assert_eq!(bench.fetch_as(&live, MAX_FETCHED).await.unwrap().notifications, [] as [Value; 0]);
    assert_eq!(bench.waits(1), [1]);
    assert_eq!(bench.fetch().await, [named(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn of_several_pulls_at_once_one_gets_each() {
    let bench = Bench::new();
    for seed in 1..=40 {
        bench.accept(seed).await;
    }
    bench.dispatch().await;
    let caller = clinic();
    let pulls = join_all((0..4).map(|_| bench.fetch_as(&caller, 30))).await;
    let mut all: Vec<String> = Vec::new();
    for pull in pulls {
        all.extend(pull.unwrap().notifications.into_iter().map(|name| name.to_string()));
    }
    all.extend(bench.fetch().await.into_iter().map(|name| name.to_string()));
    all.sort();
    let mut expected: Vec<String> = (1..=40).map(|seed| named(seed, 1).to_string()).collect();
    expected.sort();
    assert_eq!(all, expected);
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_kept_and_the_rest_is_counted() {
    let bench = Bench::new();
    for seed in 1..=25 {
        bench.accept(seed).await;
    }
    bench.dispatch().await;
    let first = bench.fetch_as(&clinic(), 12).await.unwrap();
    assert_eq!((first.notifications.len(), first.remaining), (12, 13));
    let second = bench.fetch_as(&clinic(), 12).await.unwrap();
    assert_eq!((second.notifications.first(), second.remaining), (Some(&named(13, 1)), 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_large_comes_in_parts() {
    let bench = Bench::new();
    for seed in 1..=25 {
        bench.accept(seed).await;
    }
    bench.dispatch().await;
    let large = |_: &Booking, _: &Notification| Ok(json!("x".repeat(200_000)));
    let caller = clinic();
    let until = bench.clock.now().plus_ms(10_000);
    let call = FetchCall { caller: &caller, limit: MAX_FETCHED, until };
    let fetched =
        fetch_notifications(&bench.store, &bench.mailbox, &bench.clock, call, &large).await.unwrap();
    assert_eq!((fetched.notifications.len(), fetched.remaining), (CONCURRENT, 15));
    let late = FetchCall { until: bench.clock.now(), ..call };
    let fetched = fetch_notifications(&bench.store, &bench.mailbox, &bench.clock, late, &large).await;
    assert_eq!(fetched.unwrap().notifications.len(), 0);
    assert_eq!(bench.fetch().await.len(), 15);
}

#[tokio::test(start_paused = true)]
async fn what_is_small_comes_at_once() {
    let bench = Bench::new();
    for seed in 1..=25 {
        bench.accept(seed).await;
    }
    bench.dispatch().await;
    let small = |_: &Booking, _: &Notification| Ok(json!("x".repeat(1_000)));
    let caller = clinic();
    let until = bench.clock.now().plus_ms(10_000);
    let call = FetchCall { caller: &caller, limit: MAX_FETCHED, until };
    let fetched =
        fetch_notifications(&bench.store, &bench.mailbox, &bench.clock, call, &small).await.unwrap();
    assert_eq!((fetched.notifications.len(), fetched.remaining), (25, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_loses_no_notification() {
    let bench = Bench::new();
    bench.accept(1).await;
    bench.dispatch().await;
    bench.faults.next("bookings.replace", Fault::FailAfter);
    assert_eq!(bench.fetch().await, [named(1, 1)]);
    assert!(bench.waits(1).is_empty());
    // A mailbox that cannot be written shows it on, but the booking does not want it told again.
    bench.accept(2).await;
    bench.dispatch().await;
    bench.faults.next("mailbox.mark_fetched", Fault::FailBefore);
    assert_eq!(bench.fetch().await, [named(2, 1)]);
    assert_eq!(bench.fetch().await, [] as [Value; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_fetched_later() {
    for operation in ["bookings.read", "bookings.replace", "mailbox.waiting"] {
        let bench = Bench::new();
        bench.accept(1).await;
        bench.accept(2).await;
        bench.dispatch().await;
        bench.faults.always(operation, Fault::FailBefore);
        let problem = bench.fetch_as(&clinic(), MAX_FETCHED).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::StoreUnavailable, "{operation}");
        bench.faults.heal();
        assert_eq!(bench.fetch().await, [named(1, 1), named(2, 1)], "{operation}");
    }
    // Whatever was taken before the failure is handed out.
    let bench = Bench::new();
    for seed in 1..=15 {
        bench.accept(seed).await;
    }
    bench.dispatch().await;
    bench.faults.on("bookings.read", CONCURRENT + 3, Fault::FailBefore);
    let fetched = bench.fetch_as(&clinic(), MAX_FETCHED).await.unwrap();
    assert_eq!((fetched.notifications.len(), fetched.remaining), (14, 1));
    assert_eq!(bench.fetch().await, [named(13, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_holds_up_nobody() {
    let bench = Bench::new();
    for seed in 1..=3 {
        bench.accept(seed).await;
    }
    bench.dispatch().await;
    let render = |booking: &Booking, told: &Notification| {
        if booking.id == id(1) { serde_json::from_str("no json") } else { name_of(booking, told) }
    };
    let caller = clinic();
    let call = FetchCall { caller: &caller, limit: 1, until: bench.clock.now().plus_ms(10_000) };
    let fetched =
        fetch_notifications(&bench.store, &bench.mailbox, &bench.clock, call, &render).await.unwrap();
    assert_eq!(fetched, Fetched { notifications: vec![named(2, 1)], remaining: 2 });
    assert_eq!(bench.waits(1), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_told_after_a_release_alone() {
    let bench = Bench::new();
    bench.accept(1).await;
    bench.accept(2).await;
    bench.dispatch().await;
    let bench = bench.after_ms(1_000);
    // The clock that gave it up was ahead of the one that shows it.
    let late = beginning().plus_ms(FETCH_LIMIT_MS + 1);
    let seen = bench.store.item(&id(1)).unwrap();
    let given_up = transition(&seen.booking, Command::GiveUpNotification, late).unwrap().booking;
    bench.store.replace(seen.rev, &seen.with_booking(given_up)).await.unwrap();
    assert_eq!(bench.fetch().await, [named(2, 1)]);

    let hour = i64::try_from(RELEASE_PAUSE_MS).unwrap();
    let bench = bench.after_ms(hour);
    assert_eq!(release_notifications(&bench.mailbox, &bench.clock, &clinic()).await, Ok(2));
    assert_eq!(bench.fetch().await, [named(1, 1), named(2, 1)]);
    assert_eq!(bench.fetch().await, [] as [Value; 0]);
    let bench = bench.after_ms(hour - 1_500);
    let problem = release_notifications(&bench.mailbox, &bench.clock, &clinic()).await.unwrap_err();
    assert_eq!((problem.code, problem.retry_after_s), (ProblemCode::ReleaseTooSoon, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn of_several_pulls_at_once_one_gets_what_was_released() {
    let bench = Bench::new();
    for seed in 1..=20 {
        bench.accept(seed).await;
    }
    bench.dispatch().await;
    let bench = bench.after_ms(1_000);
    assert_eq!(bench.fetch().await.len(), 20);
    let bench = bench.after_ms(1_000);
    assert_eq!(release_notifications(&bench.mailbox, &bench.clock, &clinic()).await, Ok(20));
    let caller = clinic();
    let pulls = join_all((0..3).map(|_| bench.fetch_as(&caller, MAX_FETCHED))).await;
    let told: usize = pulls.into_iter().map(|pull| pull.unwrap().notifications.len()).sum();
    assert_eq!(told, 20);
}
