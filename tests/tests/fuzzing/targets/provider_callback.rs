//! Bodies of what providers tell by calling, over the whole function.
//!
//! Input: a digit (`0` acknowledge, `1` the same of a hold that is being confirmed, `2` cancel, `3` attendance,
//! `4` release, `5` availability) and the body.

use std::collections::BTreeMap;

use holdfast_app::auth::new_key;
use holdfast_app::bookings::{MAX_ID_CHARS, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS};
use holdfast_app::ports::{AvailabilityStore, ConfigurationStore, Place};
use holdfast_app::settings::{KeyOwner, LocationSettings, ProviderSettings};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::{
    MemoryAvailability, MemoryBookingStore, MemoryMailbox, MemorySettings, SeededEntropy, TestClock,
};
use holdfast_domain::{
    Booking, BookingId, BookingRequest, Cause, Change, HistoryEntry, LocationId, Mode, Operation, Patience,
    Phase, ProviderId, Slot, State, Status, Tenant, Zone,
};
use holdfast_lambda::http::Router;
use provider_callback::{Route, Service, router};
use secrecy::ExposeSecret;

use super::http::{Answer, Call};
use super::{choice, now, run};

type TestService = Service<MemoryBookingStore, MemoryMailbox, MemoryAvailability, MemorySettings, TestClock>;

struct World {
    service: TestService,
    router: Router<Route>,
    key: String,
}

fn provider_id() -> ProviderId {
    ProviderId::parse("clinic").expect("a name")
}

fn booking_id() -> BookingId {
    BookingId::from_bytes([7; 16])
}

fn pending() -> Booking {
    let request = BookingRequest {
        provider_id: provider_id(),
        customer: None,
        reference: None,
        notes: None,
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold: false,
        availability_id: None,
    };
    let start = now().plus_ms(86_400_000);
    let (location_id, end) = ("main".to_owned(), start.plus_ms(1_800_000));
    let slot = Slot { location_id, start, end, resource_id: None, service_id: None };
    let tenant = Tenant::parse("test:shop").expect("a tenant");
    Booking::claimed(booking_id(), tenant, request, slot, operation(Change::Book, 1), now())
}

fn operation(change: Change, number: u32) -> Operation {
    Operation {
        change,
        number,
        patience: Patience::Background,
        deadline_at: now().plus_ms(900_000),
        attempts: 1,
        last_error: None,
        unanswered_send_at: Some(now()),
        resolve_until: None,
        overtaken: None,
        phase: Phase::Waiting { next_attempt_at: now().plus_ms(5_000) },
    }
}

/// A hold whose confirmation is under way.
fn being_confirmed() -> Booking {
    let entry = |status, cause| HistoryEntry::new(status, now(), cause, 1);
    let mut booking = Booking {
        state: State::Reserved { expires_at: now().plus_ms(1_800_000) },
        operation: Some(operation(Change::Confirm, 2)),
        operations_begun: 2,
        ..pending()
    };
    booking.history.push(entry(Status::Reserved, Cause::ProviderAcknowledged));
    booking.history.push(entry(Status::Reserved, Cause::OperationBegun));
    booking
}

impl World {
    async fn new(booking: Booking) -> Self {
        let settings = MemorySettings::new();
        settings.add_provider(ProviderSettings::usual(provider_id(), Mode::Test, "https://clinic.example"));
        let location_id = LocationId::parse("main").expect("a name");
        let (display_name, zone) = ("Main".to_owned(), Zone::utc());
        let location = LocationSettings { location_id, display_name, zone, services: Vec::new() };
        settings.add_location(&provider_id(), location);
        let owner = KeyOwner::Provider(provider_id());
        let (key, record) = new_key(owner, Mode::Test, now(), &SeededEntropy::new(1));
        settings.put_key(&record).await.expect("nothing fails");
        let store = MemoryBookingStore::new();
        store.put(&StoredBooking {
            booking,
            create: None,
            operations: Vec::new(),
            exclusive_slots: false,
            rev: 1,
        });
        let service = Service {
            store,
            mailbox: MemoryMailbox::new(),
            availability: MemoryAvailability::new(),
            settings: SettingsCache::new(settings.clone()),
            locations: settings,
            clock: TestClock::starting_at(now()),
        };
        let router = router().expect("the routes are sound");
        Self { service, router, key: key.expose_secret().to_owned() }
    }

    async fn call(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let handler = |request, routed| self.service.handle(request, routed);
        Call::new(method, path, &self.key, body).make(&self.router, &handler, self.service.clock).await
    }

    fn booking(&self) -> Booking {
        self.service.store.item(&booking_id()).expect("it is there").booking
    }
}

pub(super) fn check(data: &[u8]) {
    let Some((call, body)) = choice(data, 6) else { return };
    run(async {
        match call {
            0 => told(pending(), "acknowledge", body).await,
            1 => told(being_confirmed(), "acknowledge", body).await,
            2 => told(being_confirmed(), "cancel", body).await,
            3 => {
                let mut confirmed = Booking { state: State::Confirmed, operation: None, ..pending() };
                // Attendance is told of what has begun.
                (confirmed.slot.start, confirmed.slot.end) = (now().minus_ms(1_800_000), now());
                let entry = HistoryEntry::new(Status::Confirmed, now(), Cause::ProviderAcknowledged, 1);
                confirmed.history.push(entry);
                told(confirmed, "attendance", body).await;
            }
            4 => released(body).await,
            _ => told_availability(body).await,
        }
    });
}

/// A provider says something of a booking, and says it again.
async fn told(booking: Booking, call: &str, body: &[u8]) {
    let world = World::new(booking.clone()).await;
    let path = format!("/v1/provider/bookings/{}/{call}", booking_id());
    let answer = world.call("POST", &path, body).await;
    let after = world.booking();
    if answer.status >= 400 {
        let is_settled = after.operation.is_none() || after == booking;
        assert!(is_settled, "what is refused leaves the booking as it was");
        return;
    }
    assert_eq!(answer.body["status"], after.status().as_str());
    assert_eq!(answer.body["version"], after.version());
    assert!(booking.status() == after.status() || booking.status().may_become(after.status()));
    assert!(after.version() >= booking.version());
    bounded(&after);
    let again = world.call("POST", &path, body).await;
    assert_eq!((again.status, again.text), (200, answer.text), "what is said twice is heard once");
    assert_eq!(world.booking(), after);
}

/// What a provider says is of bounded length and without control characters.
fn bounded(booking: &Booking) {
    let fits = |text: Option<&String>, most: usize| {
        let is_fit = |text: &String| text.chars().count() <= most && !text.chars().any(char::is_control);
        assert!(text.is_none_or(is_fit), "{text:?}");
    };
    fits(booking.provider_reference.as_ref(), MAX_ID_CHARS);
    if let State::Rejected(rejection) = &booking.state {
        fits(rejection.message.as_ref(), MAX_PROVIDER_MESSAGE_CHARS);
        fits(rejection.provider_code.as_ref(), MAX_PROVIDER_CODE_CHARS);
    }
}

async fn released(body: &[u8]) {
    let world = World::new(pending()).await;
    let answer = world.call("POST", "/v1/provider/notifications/release", body).await;
    assert_eq!(answer.status == 200, body.is_empty() || is_empty_object(body), "{}", answer.text);
}

fn is_empty_object(body: &[u8]) -> bool {
    let text = body.trim_ascii();
    let inner = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}"));
    inner.is_some_and(|inner| inner.iter().all(|byte| b" \t\r\n".contains(byte)))
        && text.len() == body.trim_ascii().len()
}

async fn told_availability(body: &[u8]) {
    let world = World::new(pending()).await;
    let answer = world.call("PUT", "/v1/provider/availability", body).await;
    let place = Place { provider_id: provider_id(), location_id: "main".to_owned() };
    let known = world.service.availability.read(&place, now()).await.expect("nothing fails").availability;
    if answer.status >= 400 {
        assert_eq!(known, None, "what is refused is not remembered");
        return;
    }
    let known = known.expect("what was told is remembered");
    assert_eq!(answer.body["slots"], known.slots.len());
    assert!(known.as_of <= now());
    for pair in known.slots.windows(2) {
        assert!(pair[0].order() < pair[1].order(), "in order, none twice");
    }
    for slot in &known.slots {
        assert!(known.window.has(slot.start) && slot.start > known.as_of && slot.end > slot.start);
        assert_ne!(slot.capacity, Some(0));
    }
}
