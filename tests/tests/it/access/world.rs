//! The API's functions in one process, over one embedded DynamoDB, with callers and things of theirs.

use std::collections::BTreeMap;

use holdfast_app::ports::{BookingStore, Claim, Clock, Entropy, EventFeed, NewEntry};
use holdfast_app::test_util::{TestClock, open_slot};
use holdfast_aws::{AwsHooks, CallLog};
use holdfast_domain::{BookingId, EventId, KeyId, ProviderId, Tenant, Timestamp, WebhookEndpointId};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::calls::{Call, Names, Role, START, create_body};
use super::counting;
use super::process::{Around, Process, is_repair};
use crate::contract::embedded::{
    AVAILABILITY_TABLE, BOOKING_TABLE, CONFIG_TABLE, DELIVERY_TABLE, Embedded, entropy,
};
use crate::contract::fixtures::now;
use crate::contract::outside::Asked;

/// A key whose hash the deployment was given.
pub(super) const ADMIN: &str = "hf_live_admin_k00000000000000000000000000_secret";

/// How often two sequences of calls are compared that differ: on a busy machine the SDK repeats a call.
pub(super) const MAX_TRIES: usize = 10;

/// An answer, as whoever compares answers sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u64,
    headers: BTreeMap<String, String>,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Whether it is a problem of this kind.
    pub(super) fn is_problem(&self, status: u64, code: &str) -> bool {
        (self.status, &self.json()["code"]) == (status, &json!(code))
    }

    /// The same with what was named put out.
    pub(super) fn without(self, named: &str) -> Self {
        Self { text: self.text.replace(named, "{id}"), ..self }
    }

    /// A header; empty if there is none.
    pub(super) fn header(&self, name: &str) -> String {
        self.headers.get(name).cloned().unwrap_or_default()
    }
}

/// What there is, by whose it is. The caller is the consumer `acme` with its test key, or the provider `clinic`.
#[derive(Clone, Debug, Default)]
pub(super) struct Things {
    pub(super) booking: String,
    pub(super) live_booking: String,
    pub(super) booking_of_other: String,
    pub(super) booking_at_rival: String,
    pub(super) live_booking_at_clinic: String,
    pub(super) endpoint: String,
    pub(super) live_endpoint: String,
    pub(super) endpoint_of_other: String,
}

/// A key, and what names it.
#[derive(Clone, Debug, Default)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) key: String,
}

/// The keys that there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub(super) acme: Key,
    pub(super) acme_live: Key,
    pub(super) other: Key,
    pub(super) clinic: Key,
    pub(super) rival: Key,
    revoked_acme: Key,
    revoked_clinic: Key,
}

/// What a test has to itself.
pub(super) struct World {
    pub(super) things: Things,
    pub(super) keys: Keys,
    /// Every call of the store.
    pub(super) log: CallLog,
    embedded: Embedded,
    client: holdfast_aws::DynamoDb,
    clock: TestClock,
    around: Around,
    process: Process,
    _place: SemaphorePermit<'static>,
}

/// How many worlds there are at once: each is busy all of its time, and others' tests have time limits.
static PLACES: Semaphore = Semaphore::const_new(1);

impl World {
    pub(super) async fn new() -> Self {
        let place = PLACES.acquire().await.unwrap();
        let embedded = Embedded::start().await;
        let log = CallLog::new();
        let hooks = AwsHooks { call_log: Some(log.clone()), ..AwsHooks::default() };
        let client = embedded.clients(&hooks).dynamodb;
        let (clock, around) = (TestClock::starting_at(now()), Around::default());
        around.openings.open("main-street", vec![open_slot(Timestamp::parse_rfc3339(START).unwrap())]);
        let process = Process::start(&client, clock, &around);
        let (things, keys) = (Things::default(), Keys::default());
        let mut world = Self { things, keys, log, embedded, client, clock, around, process, _place: place };
        world.configure().await;
        world.fill().await;
        // What was done to make all that is not what the test is about.
        world.around.outside.take();
        world.restarted()
    }

    /// The same, with processes that remember nothing.
    pub(super) fn restarted(self) -> Self {
        let process = Process::start(&self.client, self.clock, &self.around);
        Self { process, ..self }
    }

    async fn configure(&mut self) {
        for consumer in ["acme", "other"] {
            self.made("PUT", &format!("consumers/{consumer}"), json!({"name": "A marketplace"})).await;
        }
        for (provider, mode) in [("clinic", "test"), ("rival", "test"), ("live-clinic", "live")] {
            let body = json!({"name": "A clinic", "mode": mode, "base_url": "https://clinic.example.com"});
            self.made("PUT", &format!("providers/{provider}"), body).await;
        }
        let place = json!({"name": "A place", "time_zone": "Europe/Berlin"});
        for path in ["clinic/locations/main-street", "rival/locations/rivals-place"] {
            self.made("PUT", &format!("providers/{path}"), place.clone()).await;
        }
        self.keys = Keys {
            acme: self.key("consumers/acme", "test").await,
            acme_live: self.key("consumers/acme", "live").await,
            other: self.key("consumers/other", "test").await,
            clinic: self.key("providers/clinic", "test").await,
            rival: self.key("providers/rival", "test").await,
            revoked_acme: self.key("consumers/acme", "test").await,
            revoked_clinic: self.key("providers/clinic", "test").await,
        };
        for (owner, key) in
            [("consumers/acme", &self.keys.revoked_acme), ("providers/clinic", &self.keys.revoked_clinic)]
        {
            let path = format!("/v1/admin/{owner}/keys/{}", key.id);
            assert_eq!(self.call("DELETE", &path, Some(&bearer(ADMIN)), None).await.status, 204);
        }
    }

    /// Makes bookings, endpoints and events, which take the places of those before.
    pub(super) async fn fill(&mut self) {
        let Keys { acme, acme_live, other, .. } = self.keys.clone();
        self.things = Things {
            booking: self.booked(&acme, "clinic").await,
            live_booking: self.booked(&acme_live, "live-clinic").await,
            booking_of_other: self.booked(&other, "clinic").await,
            booking_at_rival: self.booked(&other, "rival").await,
            live_booking_at_clinic: self.live_booking_at_clinic().await,
            endpoint: self.endpoint(&acme).await,
            live_endpoint: self.endpoint(&acme_live).await,
            endpoint_of_other: self.endpoint(&other).await,
        };
        let feeds = [
            ("test:acme", &self.things.booking),
            ("live:acme", &self.things.live_booking),
            ("test:other", &self.things.booking_of_other),
        ];
        for (tenant, booking) in feeds {
            // Two, so that there is a page after the first.
            let events = [1, 2].map(|version| {
                let event_type = "booking.created".to_owned();
                let event_id = EventId::derived(booking, version, &event_type);
                let body = json!({"id": event_id.as_str(), "type": event_type, "data": {"id": booking}});
                NewEntry { event_id, event_type, body: body.to_string() }
            });
            let tenant = Tenant::parse(tenant).unwrap();
            self.embedded.feed().append(&tenant, &events, self.clock.now()).await.unwrap();
        }
    }

    async fn made(&self, method: &str, path: &str, body: Value) -> Value {
        let path = format!("/v1/admin/{path}");
        let answer = self.call(method, &path, Some(&bearer(ADMIN)), Some(&body)).await;
        assert!(answer.status < 300, "{answer:?}");
        answer.json()
    }

    async fn key(&self, owner: &str, mode: &str) -> Key {
        let answer = self.made("POST", &format!("{owner}/keys"), json!({"mode": mode})).await;
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Key { id: text("key_id"), key: text("key") }
    }

    async fn booked(&self, key: &Key, provider_id: &str) -> String {
        let mut body = create_body(provider_id);
        body["reference"] = json!("order-1001");
        let answer = self.call("POST", "/v1/bookings", Some(&bearer(&key.key)), Some(&body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// A live booking at a provider that takes test bookings now, as when its mode was changed.
    async fn live_booking_at_clinic(&self) -> String {
        let store = self.embedded.bookings();
        let live = self.booked(&self.keys.acme_live, "live-clinic").await;
        let mut stored = store.read(&BookingId::parse(&live).unwrap()).await.unwrap().unwrap();
        stored.booking.id = BookingId::from_bytes(Entropy::bytes16(entropy().as_ref()));
        stored.booking.tenant = Tenant::parse("live:former").unwrap();
        stored.booking.request.provider_id = ProviderId::parse("clinic").unwrap();
        assert_eq!(store.claim(&stored).await.unwrap(), Claim::Claimed);
        stored.booking.id.as_str().to_owned()
    }

    async fn endpoint(&self, key: &Key) -> String {
        let body = json!({"url": "https://shop.example.com/hooks"});
        let answer = self.call("POST", "/v1/webhook-endpoints", Some(&bearer(&key.key)), Some(&body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The key that opens the calls of a role.
    pub(super) fn key_for(&self, role: Role) -> &str {
        match role {
            Role::Consumer => &self.keys.acme.key,
            Role::Provider => &self.keys.clinic.key,
            Role::Admin => ADMIN,
            Role::Open => "",
        }
    }

    /// A key of the same owner that was revoked. An administrator's is one whose hash was taken from the deployment.
    pub(super) fn revoked_key_for(&self, role: Role) -> String {
        match role {
            Role::Consumer => self.keys.revoked_acme.key.clone(),
            Role::Provider => self.keys.revoked_clinic.key.clone(),
            Role::Admin | Role::Open => ADMIN.replace("_secret", "_former"),
        }
    }

    /// The path of a call, with what is the caller's.
    pub(super) fn own_path(&self, call: &Call) -> String {
        let is_consumers = call.template.contains("/consumers/");
        let owner = if is_consumers { "acme" } else { "clinic" };
        let key_id = if is_consumers { &self.keys.acme.id } else { &self.keys.clinic.id };
        match call.names {
            Names::Booking | Names::BookingAtProvider | Names::AnyBooking => {
                call.path(&[&self.things.booking])
            }
            Names::Endpoint => call.path(&[&self.things.endpoint]),
            Names::Key => call.path(&[owner, key_id]),
            // The more a path has no place for are not looked at.
            Names::Owner | Names::Location => call.path(&[owner, "main-street"]),
            Names::Nothing if call.template.contains("{code}") => call.path(&["not_found"]),
            Names::Nothing if call.template.contains("{asset}") => call.path(&["swagger-ui.css"]),
            Names::Nothing | Names::Provider => call.path(&[]),
        }
    }

    /// A call of this role that changes nothing, in each of the functions that a path may belong to.
    pub(super) fn harmless_path(path: &str, role: Role) -> &'static str {
        match role {
            Role::Admin if is_repair(path) => "/v1/admin/stuck",
            Role::Admin => "/v1/admin/consumers",
            Role::Provider => "/v1/provider/notifications",
            Role::Consumer if path.starts_with("/v1/bookings") => "/v1/bookings",
            Role::Consumer if path.starts_with("/v1/availability") => {
                "/v1/availability?provider_id=clinic&location_ids=main-street"
            }
            Role::Consumer => "/v1/webhook-endpoints",
            Role::Open => "/health",
        }
    }

    /// Whether the function that knows the deployment's administrators answers this path.
    pub(super) fn is_administration(path: &str) -> bool {
        !["/v1/bookings", "/v1/provider", "/v1/availability"].iter().any(|prefix| path.starts_with(prefix))
    }

    /// What providers and receivers were asked.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.around.outside.asked()
    }

    /// An answer, and the calls of the store that it took.
    pub(super) async fn observed(
        &self,
        call: &Call,
        path: &str,
        authorization: &str,
    ) -> (Answer, Vec<String>) {
        let counted = counting::requests(&self.embedded).await;
        self.log.take();
        let mut answer = self.call(call.method, path, Some(authorization), call.body.as_ref()).await;
        answer.headers.retain(|name, _| !counting::HEADERS.contains(&name.as_str()));
        let mut calls: Vec<String> = self.log.take();
        if counting::requests(&self.embedded).await != counted {
            counting::take_out_a_report(&mut calls);
        }
        (answer, calls)
    }

    /// All that is stored anywhere, what waits to be replayed, and what providers and receivers were asked.
    pub(super) async fn everything(&self) -> Vec<String> {
        let mut all: Vec<String> = self.asked().iter().map(|asked| format!("{asked:?}")).collect();
        for table in [BOOKING_TABLE, CONFIG_TABLE, DELIVERY_TABLE, AVAILABILITY_TABLE] {
            let scanned = self.embedded.client.scan().table_name(table).send().await.unwrap();
            assert!(scanned.last_evaluated_key.is_none(), "{table} is too large for one page");
            let items = scanned.items.unwrap_or_default().into_iter();
            let mut items: Vec<String> = items
                .filter(|item| !counting::is_count(item))
                .map(|item| format!("{table}: {:?}", item.into_iter().collect::<BTreeMap<_, _>>()))
                .collect();
            items.sort();
            all.extend(items);
        }
        let replays = self.around.replays.receive_replays(self.clock.now());
        all.extend(replays.into_iter().map(|replay| format!("{replay:?}")));
        all
    }

    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let headers = match authorization {
            Some(authorization) => json!({"authorization": authorization}),
            None => json!({}),
        };
        self.call_with(method, path, headers, body).await
    }

    /// Makes a call of whichever function the template gives it to.
    pub(super) async fn call_with(
        &self,
        method: &str,
        path: &str,
        mut headers: Value,
        body: Option<&Value>,
    ) -> Answer {
        if body.is_some() {
            headers["content-type"] = json!("application/json");
        }
        let (raw_path, query) = path.split_once('?').unwrap_or((path, ""));
        let event = json!({
            "rawPath": raw_path,
            "rawQueryString": query,
            "headers": headers,
            "requestContext": {"http": {"method": method}, "requestId": "request-1"},
            "body": body.map(ToString::to_string),
        });
        let answer = self.process.answer(raw_path, &event, self.clock).await;
        let answer = serde_json::to_value(answer).unwrap();
        Answer {
            status: answer["statusCode"].as_u64().unwrap(),
            headers: serde_json::from_value(answer["headers"].clone()).unwrap(),
            text: answer["body"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// Ids that are well formed and nobody's.
#[derive(Debug)]
pub(super) struct Nobodys {
    pub(super) booking: String,
    pub(super) endpoint: String,
    pub(super) key: String,
}

pub(super) fn nobodys() -> Nobodys {
    const BYTES: [u8; 16] = [9; 16];
    Nobodys {
        booking: BookingId::from_bytes(BYTES).to_string(),
        endpoint: WebhookEndpointId::from_bytes(BYTES).to_string(),
        key: KeyId::from_bytes(BYTES).to_string(),
    }
}

/// The header of a key.
pub(super) fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}
