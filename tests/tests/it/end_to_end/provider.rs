//! The provider of a test, which the simulator plays: what it is told to do, what it got, and what it holds.

use std::time::Duration;

use holdfast_app::ports::Clock;
use holdfast_domain::Timestamp;
use holdfast_lambda::SystemClock;
use reqwest::Method;
use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{Consumer, LOOK_AGAIN, World, list, merge, next_actor, text, until};

pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const HOUR_MS: u64 = 60 * 60 * 1000;
const SLOT_MS: u64 = 30 * 60 * 1000;

/// The synchronous limit of a request that is not about it, in milliseconds: the longest there is, so that a
/// busy machine changes no outcome.
pub(super) const PATIENT_MS: u64 = 10_000;

/// When a provider of a test is told again, in seconds.
pub(super) const SCHEDULE_S: [u64; 3] = [2, 4, 6];

/// The statuses in which a provider keeps others out of a booking's slot.
const LIVE: [&str; 3] = ["pending", "reserved", "confirmed"];

/// The protocols that the simulator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Native,
    Docplanner,
    Octo,
}

impl Protocol {
    /// As an administrator names it.
    fn name(self) -> &'static str {
        match self {
            Self::Native => "holdfast",
            Self::Docplanner => "docplanner",
            Self::Octo => "octo",
        }
    }

    /// Where the simulator speaks it.
    fn folder(self) -> &'static str {
        match self {
            Self::Native => "providers",
            Self::Docplanner => "docplanner",
            Self::Octo => "octo",
        }
    }
}

/// A provider that the simulator plays.
pub(super) struct Provider<'a> {
    world: &'a World,
    pub(super) id: String,
    protocol: Protocol,
    signing_secret: &'static str,
}

impl<'a> Provider<'a> {
    /// A provider that the deployment does not know yet.
    pub(super) async fn named(world: &'a World) -> Self {
        Self::speaking(world, Protocol::Native).await
    }

    /// A provider of this protocol that the deployment does not know yet.
    pub(super) async fn speaking(world: &'a World, protocol: Protocol) -> Self {
        let id = format!("provider-{}", next_actor());
        let signing_secret = "whsec_ZW5kLXRvLWVuZC1zaWduaW5nLXNlY3JldC0wMQ==";
        let provider = Self { world, id, protocol, signing_secret };
        let known = json!({"signing_secret": signing_secret, "api_url": world.stack.api_url});
        world.put(provider.control(""), &known).await;
        provider
    }

    /// What an administrator configures of it, with these fields in place of the usual ones.
    pub(super) fn settings(&self, changes: &Value) -> Value {
        let simulator = &self.world.stack.provider_simulator_url;
        let mut settings = json!({
            "name": "A clinic",
            "mode": "test",
            "base_url": format!("{simulator}/{}/{}", self.protocol.folder(), self.id),
            "protocol": self.protocol.name(),
            "confirmation": "confirm",
            "auth": {"type": "bearer", "token": "a-token"},
            "signing_secret": self.signing_secret,
            "retry": {"first_delay_millisecond": 500, "factor": 2, "max_delay_millisecond": 2_000},
            "attempt_timeout_millisecond": 5_000,
        });
        if self.protocol == Protocol::Octo {
            settings["default_unit_id"] = json!("adult");
        }
        if matches!(changes["confirmation"].as_str(), Some("notify" | "real_time")) {
            settings["notification_schedule_seconds"] = json!(SCHEDULE_S);
        }
        merge(&mut settings, changes);
        settings
    }

    /// Has an administrator configure it, with these fields in place of the usual ones.
    pub(super) async fn configure(&self, changes: &Value) {
        let path = format!("/v1/admin/providers/{}", self.id);
        let put = Reply::of(self.world.admin(Method::PUT, &path).json(&self.settings(changes))).await;
        assert!(matches!(put.status, 200 | 201), "{put:?}");
    }

    /// A key of this provider's, which its call-backs use from now on.
    pub(super) async fn key(&self) -> String {
        let (_, key) = self.world.key(&format!("/v1/admin/providers/{}", self.id)).await;
        self.world.put(self.control(""), &json!({"callback_key": key})).await;
        key
    }

    /// Has it refuse slots that a booking has.
    pub(super) async fn sell_each_slot_once(&self) {
        self.world.put(self.control(""), &json!({"one_per_slot": true})).await;
    }

    /// Sets its clocks so many minutes ahead of UTC.
    pub(super) async fn live_at(&self, utc_offset_minutes: i32) {
        self.world.put(self.control(""), &json!({"utc_offset_minutes": utc_offset_minutes})).await;
    }

    /// The body of a patient create, with these fields added or changed.
    pub(super) fn body(&self, changes: &Value) -> Value {
        let mut body = json!({
            "provider_id": self.id,
            "slot": self.slot(0),
            "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
            "sync_confirmation_timeout_millisecond": PATIENT_MS,
        });
        merge(&mut body, changes);
        body
    }

    /// A slot of this provider's so many hours after the usual one.
    pub(super) fn slot(&self, hours_later: u64) -> Value {
        let day = SystemClock.now().plus_ms(30 * DAY_MS).as_unix_ms();
        // By the day, so that a test which goes on past an hour meets the same slots.
        let midnight = Timestamp::from_unix_ms(day - day % DAY_MS.cast_signed()).unwrap();
        let start = midnight.plus_ms((9 + hours_later) * HOUR_MS);
        let mut slot = json!({
            "location_id": "main-street",
            "start": start.to_string(),
            "end": start.plus_ms(SLOT_MS).to_string(),
        });
        if self.protocol == Protocol::Octo {
            slot["service_id"] = json!("city-tour");
        }
        slot
    }

    /// A slot within the next three weeks, of another day.
    pub(super) fn near_slot(&self, days_ahead: u64) -> Value {
        let day = SystemClock.now().plus_ms(days_ahead * DAY_MS).as_unix_ms();
        let midnight = Timestamp::from_unix_ms(day - day % DAY_MS.cast_signed()).unwrap();
        let start = midnight.plus_ms(10 * HOUR_MS);
        let mut slot = self.slot(0);
        slot["start"] = json!(start.to_string());
        slot["end"] = json!(start.plus_ms(SLOT_MS).to_string());
        slot
    }

    fn control(&self, what: &str) -> String {
        format!("{}/control/providers/{}{what}", self.world.stack.provider_simulator_url, self.id)
    }

    async fn listed(&self, what: &str, filter: &str) -> Vec<Value> {
        let base = &self.world.stack.provider_simulator_url;
        list(&self.world.get(format!("{base}/control/{what}?provider_id={}{filter}", self.id)).await)
    }

    /// Has it behave so from now on; `{}` is correctly.
    pub(super) async fn behave(&self, behaviour: &Value) {
        self.world.put(self.control("/behaviour"), behaviour).await;
    }

    /// Has it behave so for the next calls of this kind: `book`, `cancel`, `look_up`, … or `any`.
    pub(super) async fn next(&self, count: u32, operation: &str, behaviour: &Value) {
        let url = format!("{}/control/next", self.world.stack.provider_simulator_url);
        let next =
            json!({"count": count, "behaviour": behaviour, "provider_id": self.id, "operation": operation});
        self.world.post(url, &next).await;
    }

    /// The calls of a kind that it got, the first first. All were signed.
    pub(super) async fn calls(&self, operation: &str) -> Vec<Value> {
        self.signed(&format!("&operation={operation}")).await
    }

    /// All calls that it got, the first first. All were signed.
    pub(super) async fn all_calls(&self) -> Vec<Value> {
        self.signed("").await
    }

    /// The kinds of all calls that it got, the first first.
    pub(super) async fn asked(&self) -> Vec<String> {
        self.all_calls().await.iter().map(|call| text(&call["operation"])).collect()
    }

    async fn signed(&self, filter: &str) -> Vec<Value> {
        let calls = self.listed("calls", filter).await;
        assert!(calls.iter().all(|call| call["signature_valid"] != false), "{calls:?}");
        calls
    }

    /// The calls of a kind as soon as there are so many.
    pub(super) async fn until_calls(&self, operation: &str, count: usize, limit: Duration) -> Vec<Value> {
        let what = format!("{} got {count} calls to {operation}", self.id);
        until(limit, LOOK_AGAIN, &what, async || {
            let calls = self.calls(operation).await;
            if calls.len() >= count { Ok(calls) } else { Err(json!(calls)) }
        })
        .await
    }

    /// Every booking in its books. None was made twice.
    pub(super) async fn bookings(&self) -> Vec<Value> {
        let bookings = self.listed("bookings", "").await;
        assert!(bookings.iter().all(|booking| booking["book_count"].as_u64() <= Some(1)), "{bookings:?}");
        bookings
    }

    /// The ids of the bookings that it will honour.
    pub(super) async fn live(&self) -> Vec<String> {
        let bookings = self.bookings().await;
        let live = bookings
            .iter()
            .filter(|booking| booking["status"] == "confirmed" || booking["status"] == "reserved");
        live.map(|booking| text(&booking["booking_id"])).collect()
    }

    /// Waits until its only booking has this status in its books.
    pub(super) async fn until_status(&self, status: &str, limit: Duration) {
        let what = format!("the booking at {} is {status}", self.id);
        until(limit, LOOK_AGAIN, &what, async || {
            let bookings = self.bookings().await;
            let is_so = bookings.len() == 1 && bookings[0]["status"] == status;
            if is_so { Ok(()) } else { Err(json!(bookings)) }
        })
        .await;
    }

    /// Checks that it holds what the consumer is told of these bookings, its only ones, and nothing more: no
    /// other booking, no other slot, nothing that is undecided.
    pub(super) async fn assert_agrees(&self, consumer: &Consumer<'_>, ids: &[&str]) {
        let books = self.bookings().await;
        let live: Vec<&Value> =
            books.iter().filter(|entry| LIVE.iter().any(|s| entry["status"] == *s)).collect();
        let mut stand = 0;
        for id in ids {
            let told = consumer.booking(id).await;
            assert_eq!(told["operation"], Value::Null, "{told}");
            if told["status"] != "reserved" && told["status"] != "confirmed" {
                continue;
            }
            stand += 1;
            // A protocol without names of its own has the consumer's, one without those has its own.
            let is_it = |entry: &&&Value| {
                entry["booking_id"] == *id || entry["provider_reference"] == told["provider_reference"]
            };
            let held = live.iter().find(is_it).unwrap_or_else(|| panic!("{told} is not in {books:?}"));
            self.assert_same(&told, held);
        }
        assert_eq!(live.len(), stand, "more is held than is told: {books:?}");
        let slots = self.listed("slots", "").await;
        let holders: usize = slots.iter().map(|slot| slot["bookings"].as_array().unwrap().len()).sum();
        assert_eq!(holders, stand, "{slots:?}");
    }

    fn assert_same(&self, told: &Value, held: &Value) {
        let about = format!("told: {told}, held: {held}");
        assert_eq!(told["status"], held["status"], "{about}");
        assert_eq!(held["undecided_operation"], Value::Null, "{about}");
        for name in ["start", "end"] {
            assert_eq!(time(&told["slot"][name]), time(&held["slot"][name]), "{about}");
        }
        let place = if self.protocol == Protocol::Octo { "service_id" } else { "location_id" };
        assert_eq!(told["slot"][place], held["slot"][place], "{about}");
        if told["status"] == "reserved" {
            let (ours, theirs) = (time(&told["expires_at"]), time(&held["expires_at"]));
            // OCTO tells whole seconds.
            let precision_ms = if self.protocol == Protocol::Octo { 1_000 } else { 1 };
            assert!(ours <= theirs && ours.ms_until(theirs) < precision_ms, "{about}");
        }
    }

    /// Answers a booking by calling the API, with this key.
    pub(super) async fn acknowledge(&self, key: &str, booking_id: &str, answer: &Value) -> Reply {
        self.tell(key, booking_id, "acknowledge", answer).await
    }

    /// Tells of a booking by calling the API: `acknowledge`, `cancel` or `attendance`.
    pub(super) async fn tell(&self, key: &str, booking_id: &str, what: &str, body: &Value) -> Reply {
        let path = format!("/v1/provider/bookings/{booking_id}/{what}");
        Reply::of(self.world.call(Method::POST, &path).bearer_auth(key).json(body)).await
    }
}

/// A time as JSON has it.
pub(super) fn time(value: &Value) -> Timestamp {
    Timestamp::parse_rfc3339(&text(value)).unwrap_or_else(|_| panic!("no time: {value}"))
}
