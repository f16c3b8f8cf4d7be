//! Bodies of what consumers ask for: creates and operations, over the whole function.
//!
//! Input: a digit (`0` create, `1` confirm, `2` extend, `3` cancel, `4` reschedule, `5` a create of many that wait)
//! and the body.

use booking::{Route, Service, router};
use holdfast_app::auth::new_key;
use holdfast_app::bookings::{Breakers, Engine};
use holdfast_app::ports::ConfigurationStore;
use holdfast_app::rates::RequestRates;
use holdfast_app::settings::{KeyOwner, ProviderSettings};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::{
    Deed, MemoryAvailability, MemoryBookingStore, MemoryProvider, MemorySettings, Request, Script,
    SeededEntropy, TestClock,
};
use holdfast_domain::{BookingId, BookingRequest, ConsumerId, Mode, ProviderId, Slot, Timestamp};
use holdfast_lambda::http::Router;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::http::{Answer, Call, names_marker};
use super::{MARKER, choice, now, run};

type TestService = Service<
    MemoryBookingStore,
    MemoryProvider,
    MemorySettings,
    MemorySettings,
    MemoryAvailability,
    TestClock,
    SeededEntropy,
>;

const OPERATIONS: [&str; 4] = ["confirm", "extend", "cancel", "reschedule"];

struct World {
    service: TestService,
    provider: MemoryProvider,
    router: Router<Route>,
    key: String,
    clock: TestClock,
}

impl World {
    async fn new() -> Self {
        let clock = TestClock::starting_at(now());
        let settings = MemorySettings::new();
        let id = ProviderId::parse("clinic").expect("a name");
        settings.add_provider(ProviderSettings::usual(id, Mode::Test, "https://clinic.example"));
        let owner = KeyOwner::Consumer(ConsumerId::parse("shop").expect("a name"));
        let (key, record) = new_key(owner, Mode::Test, now(), &SeededEntropy::new(1));
        settings.put_key(&record).await.expect("nothing fails");
        let provider = MemoryProvider::new(clock);
        let breakers = Breakers::new(settings.clone());
        let entropy = SeededEntropy::new(2);
        let engine = Engine::new(MemoryBookingStore::new(), provider.clone(), breakers, clock, entropy);
        let (availability, rates) = (MemoryAvailability::new(), RequestRates::default());
        let (settings, counter) = (SettingsCache::new(settings.clone()), settings);
        let service = Service { engine, settings, availability, rates, counter, clock };
        let router = router().expect("the routes are sound");
        Self { service, provider, router, key: key.expose_secret().to_owned(), clock }
    }

    async fn post(&self, path: &str, idempotency_key: &str, body: &[u8]) -> Answer {
        let mut call = Call::new("POST", path, &self.key, body);
        call.headers.push(("idempotency-key", idempotency_key));
        let handler = |request, routed| self.service.handle(request, routed);
        let answer = call.make(&self.router, &handler, self.clock).await;
        tell_nothing_personal(body, &answer);
        answer
    }

    /// Asks again: whatever made a booking or changed it is answered by the same bytes, without the provider.
    async fn again(&self, path: &str, body: &[u8], first: &Answer) {
        let asked = self.provider.seen().len();
        let second = self.post(path, "k-1", body).await;
        assert_eq!((second.status, &second.text), (first.status, &first.text));
        assert_eq!(second.headers["idempotency-replayed"], "true");
        let other = self.post(path, "k-1", &altered(body)).await;
        assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));
        assert_eq!(self.provider.seen().len(), asked, "a repetition is not passed on");
    }
}

/// Another body that is read alike.
fn altered(body: &[u8]) -> Vec<u8> {
    const LIMIT: &str = "sync_confirmation_timeout_millisecond";
    let mut body: Value =
        if body.is_empty() { json!({}) } else { serde_json::from_slice(body).expect("it was read") };
    let asked = body[LIMIT].as_u64().unwrap_or(2_500);
    body[LIMIT] = json!(if asked == 4_321 { 4_322 } else { 4_321 });
    body.to_string().into_bytes()
}

/// What is known of the customer is in no answer to a POST.
fn tell_nothing_personal(body: &[u8], answer: &Answer) {
    let Ok(mut given) = serde_json::from_slice::<Value>(body) else { return };
    if names_marker(&given) {
        return;
    }
    let Some(members) = given.as_object_mut() else { return };
    members.remove("customer");
    members.remove("notes");
    if !given.to_string().contains(MARKER) {
        assert!(!answer.text.contains(MARKER), "the customer is told of: {}", answer.text);
    }
}

pub(super) fn check(data: &[u8]) {
    match choice(data, 6) {
        Some((0 | 5, body)) => run(create(body)),
        Some((operation, body)) => run(operate(OPERATIONS[operation - 1], body)),
        None => run(create(b"")),
    }
}

async fn create(body: &[u8]) {
    let world = World::new().await;
    let answer = world.post("/v1/bookings", "k-1", body).await;
    let items = world.service.engine.store().items();
    if answer.status >= 400 {
        assert!(
            items.is_empty() && world.provider.seen().is_empty(),
            "what is refused leaves nothing behind"
        );
        return;
    }
    assert_eq!(answer.status, 201, "the provider says yes at once");
    let [item] = items.as_slice() else { panic!("one booking") };
    assert_eq!(answer.body["id"], item.booking.id.as_str());
    let given: Value = serde_json::from_slice(body).expect("it was read");
    says_the_same(&given, &item.booking.request, &item.booking.slot);
    world.again("/v1/bookings", body, &answer).await;
    assert_eq!(world.provider.live(), std::slice::from_ref(&item.booking.id));
}

async fn operate(operation: &str, body: &[u8]) {
    let world = World::new().await;
    let is_of_hold = matches!(operation, "confirm" | "extend");
    let deed = if is_of_hold { Deed::Reserve { hold_ms: 600_000 } } else { Deed::Book };
    world.provider.plan(Request::Attempt, Script::doing(deed));
    let made = json!({
        "provider_id": "clinic", "hold": is_of_hold, "customer": {"name": "Ada"},
        "slot": {"location_id": "main", "start": "2027-01-15T09:00:00Z", "end": "2027-01-15T09:30:00Z"},
    });
    let made = world.post("/v1/bookings", "k-0", made.to_string().as_bytes()).await;
    let id = BookingId::parse(made.body["id"].as_str().expect("it was made")).expect("an id");
    let before = world.service.engine.store().item(&id).expect("it is there");
    let path = format!("/v1/bookings/{id}/{operation}");
    let answer = world.post(&path, "k-1", body).await;
    let after = world.service.engine.store().item(&id).expect("it is there");
    if answer.status >= 400 {
        assert_eq!(after, before, "what is refused changes nothing");
        return;
    }
    assert_eq!(answer.status, 200, "the provider says yes at once");
    assert!(after.booking.version() > before.booking.version());
    assert!(after.booking.operation.is_none());
    let given: Value =
        if body.is_empty() { json!({}) } else { serde_json::from_slice(body).expect("it was read") };
    if operation == "reschedule" {
        same_slot(&given["slot"], &after.booking.slot);
    }
    world.again(&path, body, &answer).await;
    assert_eq!(world.service.engine.store().item(&id).map(|item| item.booking), Some(after.booking));
}

/// What was taken is what was said.
fn says_the_same(given: &Value, request: &BookingRequest, slot: &Slot) {
    assert_eq!(given["provider_id"], request.provider_id.as_str());
    assert_eq!(given["reference"].as_str(), request.reference.as_deref());
    assert_eq!(given["notes"].as_str(), request.notes.as_ref().map(|notes| notes.expose().as_str()));
    assert_eq!(given["hold"].as_bool().unwrap_or_default(), request.hold);
    let customer = request.customer.as_ref().expect("a booking has a customer").expose();
    let told = &given["customer"];
    assert_eq!(told["name"], customer.name);
    for (name, value) in [
        ("email", &customer.email),
        ("phone", &customer.phone),
        ("birth_date", &customer.birth_date),
        ("language", &customer.language),
    ] {
        assert_eq!(told[name].as_str(), value.as_deref(), "{name}");
    }
    let metadata = given.get("metadata").cloned().unwrap_or_else(|| json!({}));
    assert_eq!(metadata, json!(request.metadata));
    let units = given["units"].as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(units.len(), request.units.len());
    for (told, unit) in units.iter().zip(&request.units) {
        assert_eq!(
            (told["unit_id"].as_str(), told["quantity"].as_u64()),
            (Some(unit.unit_id.as_str()), Some(unit.quantity.into()))
        );
    }
    same_slot(&given["slot"], slot);
}

fn same_slot(told: &Value, slot: &Slot) {
    let time = |name: &str| told[name].as_str().and_then(|text| Timestamp::parse_rfc3339(text).ok());
    assert_eq!((time("start"), time("end")), (Some(slot.start), Some(slot.end)));
    assert!(slot.start < slot.end);
    assert_eq!(told["location_id"], slot.location_id);
    assert_eq!(told["resource_id"].as_str(), slot.resource_id.as_deref());
    assert_eq!(told["service_id"].as_str(), slot.service_id.as_deref());
}
