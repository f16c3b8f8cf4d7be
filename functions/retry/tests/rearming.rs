//! A timer that cannot be served is armed anew: the booking that it guards must not wait for the queue.

#![cfg(test)]

use holdfast_app::bookings::{Breakers, Engine};
use holdfast_app::ports::{
    AttemptReport, CompensationCall, CompensationReport, NotificationCall, NotificationReport, ProviderCall,
    ProviderGateway, TimerMessage,
};
use holdfast_app::settings::ProviderSettings;
use holdfast_app::test_util::{
    Fault, Faults, MemoryBookingStore, MemorySettings, MemoryTimers, SeededEntropy, TestClock,
};
use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, BookingId, CompensationOutcome, LookUpOutcome, Timestamp,
};
use retry::{Service, TimerError};

/// A provider that must not be called.
struct Unreachable;

impl ProviderGateway for Unreachable {
    async fn attempt(&self, _: ProviderCall<'_>) -> AttemptReport {
        AttemptReport {
            outcome: AttemptOutcome::NotSent(AttemptError::ConnectionFailed),
            retry_after_ms: None,
        }
    }

    async fn look_up(&self, _: &ProviderSettings, _: &Booking, _: u64) -> LookUpOutcome {
        LookUpOutcome::Unsupported
    }

    async fn compensate(&self, _: CompensationCall<'_>) -> CompensationReport {
        let outcome = CompensationOutcome::Failed(AttemptError::ConnectionFailed);
        CompensationReport { outcome, retry_after_ms: None }
    }

    async fn notify(&self, _: NotificationCall<'_>) -> NotificationReport {
        NotificationReport { error: Some(AttemptError::ConnectionFailed), retry_after_ms: None }
    }
}

type TestService = Service<
    MemoryBookingStore,
    Unreachable,
    MemorySettings,
    MemorySettings,
    MemoryTimers,
    TestClock,
    SeededEntropy,
>;

fn start() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap()
}

fn service(faults: Faults) -> TestService {
    let clock = TestClock::starting_at(start());
    let store = MemoryBookingStore::with_faults(faults);
    let breakers = Breakers::new(MemorySettings::new());
    let engine = Engine::new(store, Unreachable, breakers, clock, SeededEntropy::new(1));
    Service { engine, settings: MemorySettings::new(), timers: MemoryTimers::new(), clock }
}

fn timer(not_before: Timestamp, failures: u32) -> TimerMessage {
    TimerMessage { failures, ..TimerMessage::new(&BookingId::from_bytes([7; 16]), not_before) }
}

async fn handle(service: &TestService, message: &TimerMessage) {
    service.on_message(&serde_json::to_string(message).unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_makes_the_timer_ring_again_later_each_time() {
    let faults = Faults::new();
    faults.always("bookings.read", Fault::FailBefore);
    let service = service(faults);
    handle(&service, &timer(start(), 0)).await;
    assert_eq!(service.timers.waiting(), [timer(start().plus_ms(15_000), 1)]);
    let later = self::service({
        let faults = Faults::new();
        faults.always("bookings.read", Fault::FailBefore);
        faults
    });
    handle(&later, &timer(start(), 1_000)).await;
    assert_eq!(later.timers.waiting(), [timer(start().plus_ms(300_000), 1_001)]);
}

#[tokio::test(start_paused = true)]
async fn a_timer_of_a_booking_that_is_gone_does_nothing() {
    let service = service(Faults::new());
    handle(&service, &timer(start(), 0)).await;
    assert_eq!(service.timers.waiting(), []);
}

#[tokio::test(start_paused = true)]
async fn an_early_timer_is_passed_on_as_it_is() {
    let service = service(Faults::new());
    let early = timer(start().plus_ms(1), 3);
    handle(&service, &early).await;
    assert_eq!(service.timers.waiting(), [early]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_timer_has_to_come_again() {
    let service = service(Faults::new());
    assert!(service.on_message("{}").await.is_err());
    assert!(service.on_message(r#"{"booking_id": "bkg_x"}"#).await.is_err());
    let odd = r#"{"booking_id": "bkg_x", "not_before": "2027-01-01T00:00:00Z", "failures": "secret"}"#;
    let error = service.on_message(odd).await.unwrap_err();
    assert!(!error.to_string().contains("secret"), "nothing of the message is logged: {error}");
}

/// Its booking will never be found, so that arming it anew would be for ever.
#[tokio::test(start_paused = true)]
async fn a_timer_that_names_no_booking_is_left_to_the_dead_letter_queue() {
    let service = service(Faults::new());
    for not_before in [start(), start().plus_ms(60_000)] {
        let nameless = TimerMessage { booking_id: "bkg_x".to_owned(), ..timer(not_before, 0) };
        let outcome = service.on_message(&serde_json::to_string(&nameless).unwrap()).await;
        assert!(matches!(outcome, Err(TimerError::NoBooking)), "{outcome:?}");
    }
    assert_eq!(service.timers.waiting(), []);
}
