//! A provider that fetches its notifications, over ports in memory.

#![cfg(test)]

use std::collections::BTreeMap;

use holdfast_app::auth::new_key;
use holdfast_app::ports::{BookingStore, Clock, ConfigurationStore, KeptNotification, NotificationMailbox};
use holdfast_app::settings::{KeyOwner, Protocol, ProviderSettings};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::{
    MemoryAvailability, MemoryBookingStore, MemoryMailbox, MemorySettings, SeededEntropy, TestClock,
};
use holdfast_domain::{
    Booking, BookingId, BookingRequest, ConfirmationMode, ConsumerId, Customer, Mode, NotificationRoute,
    Personal, ProviderId, Slot, Tenant, Timestamp,
};
use holdfast_lambda::Context;
use holdfast_lambda::http::serve;
use provider_callback::{Service, router};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

type TestService = Service<MemoryBookingStore, MemoryMailbox, MemoryAvailability, MemorySettings, TestClock>;

struct Harness {
    service: TestService,
    settings: MemorySettings,
    entropy: SeededEntropy,
    key: String,
}

struct Answer {
    status: u64,
    headers: Value,
    body: Value,
}

fn provider_id() -> ProviderId {
    ProviderId::parse("clinic").unwrap()
}

fn id(seed: u8) -> BookingId {
    BookingId::from_bytes([seed; 16])
}

impl Harness {
    async fn new(protocol: Protocol) -> Self {
        let (store, mailbox) = (MemoryBookingStore::new(), MemoryMailbox::new());
        let settings = MemorySettings::new();
        let clock = TestClock::starting_at(Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap());
        let mut provider = ProviderSettings::usual(provider_id(), Mode::Test, "");
        (provider.base_url, provider.protocol) = (None, protocol);
        provider.confirmation = ConfirmationMode::Notify;
        settings.put_provider(&provider).await.unwrap();
        let cache = SettingsCache::new(settings.clone());
        let (availability, locations) = (MemoryAvailability::new(), settings.clone());
        let service = Service { store, mailbox, availability, settings: cache, locations, clock };
        let mut harness = Self { service, settings, entropy: SeededEntropy::new(1), key: String::new() };
        harness.key = harness.key_of(KeyOwner::Provider(provider_id()), Mode::Test).await;
        harness
    }

    async fn key_of(&self, owner: KeyOwner, mode: Mode) -> String {
        let (secret, record) = new_key(owner, mode, self.service.clock.now(), &self.entropy);
        self.settings.put_key(&record).await.unwrap();
        secret.expose_secret().to_owned()
    }

    /// A booking that waits to be fetched.
    async fn accept(&self, seed: u8) {
        let at = self.service.clock.now();
        let start = at.plus_ms(86_400_000);
        let slot = Slot {
            location_id: "main-street".to_owned(),
            start,
            end: start.plus_ms(1_800_000),
            resource_id: None,
            service_id: None,
        };
        let customer = Customer {
            name: "Ada Lovelace".to_owned(),
            email: None,
            phone: None,
            birth_date: None,
            language: None,
        };
        let request = BookingRequest {
            provider_id: provider_id(),
            customer: Some(Personal::new(customer)),
            reference: None,
            notes: None,
            metadata: BTreeMap::new(),
            units: Vec::new(),
            hold: false,
            availability_id: None,
        };
        let tenant = Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Test };
        let booking = Booking::accepted(id(seed), tenant, request, slot, NotificationRoute::Pull, at);
        let kept = KeptNotification {
            provider_id: provider_id(),
            booking_id: id(seed),
            notification: booking.notifications[0].clone(),
            released: false,
        };
        let stored =
            StoredBooking { booking, create: None, operations: Vec::new(), exclusive_slots: false, rev: 1 };
        self.service.store.claim(&stored).await.unwrap();
        self.service.mailbox.keep(&kept).await.unwrap();
    }

    async fn call_as(&self, key: &str, method: &str, path: &str, query: &str, body: Option<&str>) -> Answer {
        let event = json!({
            "rawPath": path,
            "rawQueryString": query,
            "headers": {"content-type": "application/json", "authorization": format!("Bearer {key}")},
            "requestContext": {"http": {"method": method}, "requestId": "request-1"},
            "body": body,
        });
        let deadline_unix_ms = u64::try_from(self.service.clock.now().as_unix_ms()).unwrap() + 29_000;
        let context = Context { deadline_unix_ms, ..Context::default() };
        let handler = |request, routed| self.service.handle(request, routed);
        let event = event.to_string();
        let answer =
            serve(&router().unwrap(), &handler, event.as_bytes(), &context, &self.service.clock).await;
        let answer = serde_json::to_value(answer).unwrap();
        Answer {
            status: answer["statusCode"].as_u64().unwrap(),
            headers: answer["headers"].clone(),
            body: serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default(),
        }
    }

    async fn fetch(&self, query: &str) -> Answer {
        self.call_as(&self.key, "GET", "/v1/provider/notifications", query, None).await
    }

    async fn release(&self, body: Option<&str>) -> Answer {
        self.call_as(&self.key, "POST", "/v1/provider/notifications/release", "", body).await
    }
}

#[tokio::test(start_paused = true)]
async fn notifications_are_fetched_in_their_order_and_once() {
    let harness = Harness::new(Protocol::Holdfast).await;
    for seed in 1..=25 {
        harness.accept(seed).await;
    }
    let answer = harness.fetch("limit=1").await;
    assert_eq!((answer.status, &answer.body["remaining"]), (200, &json!(24)));
    assert_eq!(answer.headers["cache-control"], "no-store");
    let [told] = answer.body["notifications"].as_array().unwrap().as_slice() else { panic!("one is told") };
    assert_eq!(told["name"], "booked");
    assert_eq!(told["booking_id"], json!(id(1).as_str()));
    assert_eq!((&told["number"], &told["version"]), (&json!(1), &json!(2)));
    assert_eq!(told["created_at"], "2026-11-21T12:00:00Z");
    assert_eq!(told["data"]["customer"], json!({"name": "Ada Lovelace"}));
    assert_eq!(told["data"]["slot"]["location_id"], "main-street");

    let answer = harness.fetch("").await;
    assert_eq!(answer.body["notifications"].as_array().unwrap().len(), 20);
    assert_eq!(answer.body["remaining"], 4);
    assert_eq!(harness.fetch("limit=100").await.body["notifications"].as_array().unwrap().len(), 4);
    let nothing = harness.fetch("").await;
    assert_eq!((nothing.status, nothing.body), (200, json!({"notifications": [], "remaining": 0})));
}

#[tokio::test(start_paused = true)]
async fn docplanner_s_providers_fetch_docplanner_s_callbacks() {
    let harness = Harness::new(Protocol::Docplanner).await;
    harness.accept(1).await;
    let answer = harness.fetch("").await;
    let told = &answer.body["notifications"][0];
    assert_eq!((&told["name"], &told["created_at"]), (&json!("slot-booked"), &json!("2026-11-21T12:00:00Z")));
    assert_eq!(told["data"]["facility"]["id"], "clinic");
    assert_eq!(told["data"]["visit_booking"]["id"], json!(id(1).as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_release_is_for_once_an_hour() {
    let harness = Harness::new(Protocol::Holdfast).await;
    harness.accept(1).await;
    let first = harness.fetch("").await.body;
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let answer = harness.release(None).await;
    assert_eq!((answer.status, answer.body), (200, json!({"released": 1})));
    assert_eq!(harness.fetch("").await.body, first);
    tokio::time::advance(std::time::Duration::from_mins(10)).await;
    let answer = harness.release(Some("{}")).await;
    assert_eq!((answer.status, &answer.body["code"]), (429, &json!("release_too_soon")));
    assert_eq!(answer.headers["retry-after"], "3000");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    tokio::time::advance(std::time::Duration::from_mins(50)).await;
    assert_eq!(harness.release(Some("{}")).await.body, json!({"released": 1}));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_so_is_refused_and_takes_nothing() {
    let harness = Harness::new(Protocol::Holdfast).await;
    harness.accept(1).await;
    for query in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "max=3"] {
        let answer = harness.fetch(query).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("invalid_parameter")), "{query}");
    }
    for (body, status) in [(r#"{"since":1}"#, 422), ("[]", 422), ("{", 400)] {
        assert_eq!(harness.release(Some(body)).await.status, status, "{body}");
    }
    let path = "/v1/provider/notifications";
    let consumer = KeyOwner::Consumer(ConsumerId::parse("shop").unwrap());
    let other = KeyOwner::Provider(ProviderId::parse("other").unwrap());
    for (owner, mode, status) in [
        (consumer, Mode::Test, 403),
        (other, Mode::Test, 404),
        (KeyOwner::Provider(provider_id()), Mode::Live, 404),
    ] {
        let key = harness.key_of(owner, mode).await;
        assert_eq!(harness.call_as(&key, "GET", path, "", None).await.status, status);
    }
    let answer = harness.call_as(&harness.key, "POST", path, "", None).await;
    assert_eq!((answer.status, &answer.headers["allow"]), (405, &json!("GET, HEAD")));
    assert_eq!(harness.call_as(&harness.key, "HEAD", path, "", None).await.status, 200);
    assert_eq!(harness.call_as("hf_x", "GET", path, "", None).await.status, 401);
    assert_eq!(harness.fetch("").await.body["notifications"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_booking_is_told_of_as_before() {
    let harness = Harness::new(Protocol::Holdfast).await;
    harness.accept(1).await;
    let path = format!("/v1/provider/bookings/{}/cancel", id(1));
    let answer = harness.call_as(&harness.key, "POST", &path, "", None).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("cancelled")));
}
