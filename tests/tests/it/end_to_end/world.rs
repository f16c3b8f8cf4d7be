//! The actors of a test: consumers, providers and receivers of webhooks, each made for one test alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holdfast_app::ports::Clock;
use holdfast_domain::Timestamp;
use holdfast_lambda::SystemClock;
use holdfast_local::stack_file::StackFile;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::reply::Reply;
use super::stack::stack;

/// What goes on in the background follows within this unless a test says otherwise. It is no promise of the
/// product's, only far longer than a busy machine takes.
pub(super) const SOON: Duration = Duration::from_secs(25);
/// How long a compensation takes whose provider says that it knows no such booking: that is believed a minute
/// after the request was sent at the earliest.
pub(super) const SETTLED: Duration = Duration::from_secs(100);

/// How often the simulator and the inbox are looked at. They answer from memory.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often the API is asked, which costs the emulator a good deal.
const ASK_AGAIN: Duration = Duration::from_millis(600);
/// Beyond API Gateway's own limit.
const CALL_LIMIT: Duration = Duration::from_secs(45);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The synchronous limit of a create that is not about it, in milliseconds: the longest there is, so that a
/// busy machine changes no outcome.
const PATIENT_MS: u64 = 10_000;

/// A synchronous limit that a test waits out, in milliseconds: not the shortest, because on a busy machine
/// nothing might be sent before it.
pub(super) const SHORT_MS: u64 = 4_000;

/// Numbers the actors of this process.
static ACTORS: AtomicUsize = AtomicUsize::new(1);
/// Tests that are under way.
static WORLDS: AtomicUsize = AtomicUsize::new(0);

/// What a test has to itself.
pub(super) struct World {
    pub(super) stack: &'static StackFile,
    http: reqwest::Client,
}

impl Drop for World {
    fn drop(&mut self) {
        WORLDS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl World {
    /// A world on the shared stack, which is started for the first.
    pub(super) fn new() -> Self {
        let stack = stack();
        // A client belongs to its test: its connections live on that test's runtime.
        let http = reqwest::Client::builder().no_proxy().timeout(CALL_LIMIT).build().unwrap();
        WORLDS.fetch_add(1, Ordering::Relaxed);
        Self { stack, http }
    }

    /// How many tests are under way, this one included.
    pub(super) fn count() -> usize {
        WORLDS.load(Ordering::Relaxed)
    }

    /// A call to the API without a key.
    pub(super) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.stack.api_url))
    }

    /// A call with an administrator's key.
    pub(super) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.call(method, path).bearer_auth(&self.stack.admin_key)
    }

    /// Makes a key for the consumer or provider at `path`: its id and the key.
    pub(super) async fn key(&self, path: &str) -> (String, String) {
        let made =
            Reply::of(self.admin(Method::POST, &format!("{path}/keys")).json(&json!({"mode": "test"}))).await;
        assert_eq!(made.status, 201, "{made:?}");
        (text(&made.json["key_id"]), text(&made.json["key"]))
    }

    /// A new consumer with a key.
    pub(super) async fn consumer(&self) -> Consumer<'_> {
        let id = format!("consumer-{}", next_actor());
        let path = format!("/v1/admin/consumers/{id}");
        let put = Reply::of(self.admin(Method::PUT, &path).json(&json!({"name": "A marketplace"}))).await;
        assert!(matches!(put.status, 200 | 201), "{put:?}");
        let (key_id, key) = self.key(&path).await;
        Consumer { world: self, id, key_id, key }
    }

    /// A new provider with a key, which the simulator plays; it behaves correctly until told otherwise.
    pub(super) async fn provider(&self) -> Provider<'_> {
        let provider = Provider::named(self).await;
        provider.configure(&json!({})).await;
        provider
    }

    async fn get(&self, url: String) -> Value {
        let response = self.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    async fn put(&self, url: String, body: &Value) {
        let response = self.http.put(url).json(body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{body}");
    }
}

/// A consumer with one key.
pub(super) struct Consumer<'a> {
    world: &'a World,
    pub(super) id: String,
    pub(super) key_id: String,
    pub(super) key: String,
}

impl Consumer<'_> {
    /// A call with this consumer's key.
    pub(super) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.world.call(method, path).bearer_auth(&self.key)
    }

    /// A create, for headers to be added to.
    pub(super) fn creating(&self, body: &Value) -> RequestBuilder {
        self.call(Method::POST, "/v1/bookings").json(body)
    }

    /// Creates a booking without an idempotency key.
    pub(super) async fn create(&self, body: &Value) -> Reply {
        Reply::of(self.creating(body)).await
    }

    /// Creates a booking with an idempotency key.
    pub(super) async fn create_with_key(&self, key: &str, body: &Value) -> Reply {
        Reply::of(self.creating(body).header("idempotency-key", key)).await
    }

    /// A cancel, for headers to be added to.
    pub(super) fn cancelling(&self, id: &str, body: &Value) -> RequestBuilder {
        self.call(Method::POST, &format!("/v1/bookings/{id}/cancel")).json(body)
    }

    /// Cancels a booking with an idempotency key.
    pub(super) async fn cancel_with_key(&self, id: &str, key: &str, body: &Value) -> Reply {
        Reply::of(self.cancelling(id, body).header("idempotency-key", key)).await
    }

    /// Has the customer's data of a booking erased.
    pub(super) async fn erase_customer(&self, id: &str) -> Reply {
        Reply::of(self.call(Method::DELETE, &format!("/v1/bookings/{id}/customer"))).await
    }

    /// Reads what is at `path`.
    pub(super) async fn get(&self, path: &str) -> Reply {
        Reply::of(self.call(Method::GET, path)).await
    }

    /// Reads a booking of this consumer's.
    pub(super) async fn booking(&self, id: &str) -> Value {
        let read = self.get(&format!("/v1/bookings/{id}")).await;
        assert_eq!(read.status, 200, "{read:?}");
        read.json
    }

    /// The booking as soon as it has this status.
    pub(super) async fn until_status(&self, id: &str, status: &str, limit: Duration) -> Value {
        let what = format!("{id} is {status}");
        until(limit, ASK_AGAIN, &what, async || {
            let booking = self.booking(id).await;
            if booking["status"] == status { Ok(booking) } else { Err(booking) }
        })
        .await
    }

    /// The causes of a booking's versions, once the last is `cause`.
    pub(super) async fn until_cause(&self, id: &str, cause: &str, limit: Duration) -> Vec<String> {
        let what = format!("{id} has the cause {cause}");
        until(limit, ASK_AGAIN, &what, async || {
            let history = self.history(id).await;
            let causes: Vec<String> = history.iter().map(|version| text(&version["cause"])).collect();
            if causes.last().is_some_and(|last| last == cause) { Ok(causes) } else { Err(json!(causes)) }
        })
        .await
    }

    /// The versions of a booking.
    pub(super) async fn history(&self, id: &str) -> Vec<Value> {
        let events = self.get(&format!("/v1/bookings/{id}/events")).await;
        assert_eq!(events.status, 200, "{events:?}");
        list(&events.json)
    }

    /// A new webhook endpoint of this consumer's at the inbox, which knows its secret. `settings` are the
    /// endpoint's fields besides its URL.
    pub(super) async fn hook(&self, settings: Value) -> Hook<'_> {
        let name = format!("hook-{}", next_actor());
        let mut body = settings;
        body["url"] = json!(format!("{}/hooks/{name}", self.world.stack.webhook_inbox_url));
        let made = Reply::of(self.call(Method::POST, "/v1/webhook-endpoints").json(&body)).await;
        assert_eq!(made.status, 201, "{made:?}");
        let hook = Hook { world: self.world, name, id: text(&made.json["id"]), created: made.json };
        hook.behave(&json!({"secret": hook.created["secret"]})).await;
        hook
    }
}

/// A provider that the simulator plays.
pub(super) struct Provider<'a> {
    world: &'a World,
    pub(super) id: String,
    signing_secret: &'static str,
}

impl<'a> Provider<'a> {
    /// A provider that the deployment does not know yet.
    pub(super) async fn named(world: &'a World) -> Self {
        let id = format!("provider-{}", next_actor());
        let provider = Self { world, id, signing_secret: "whsec_ZW5kLXRvLWVuZC1zaWduaW5nLXNlY3JldC0wMQ==" };
        let known = json!({"signing_secret": provider.signing_secret, "api_url": world.stack.api_url});
        world.put(provider.control(""), &known).await;
        provider
    }

    /// Has an administrator configure it, with these fields in place of the usual ones.
    pub(super) async fn configure(&self, changes: &Value) {
        let mut settings = json!({
            "name": "A clinic",
            "mode": "test",
            "base_url": format!("{}/providers/{}", self.world.stack.provider_simulator_url, self.id),
            "protocol": "holdfast",
            "confirmation": "confirm",
            "auth": {"type": "bearer", "token": "a-token"},
            "signing_secret": self.signing_secret,
            "retry": {"first_delay_millisecond": 500, "factor": 2, "max_delay_millisecond": 2_000},
            "attempt_timeout_millisecond": 5_000,
        });
        merge(&mut settings, changes);
        let path = format!("/v1/admin/providers/{}", self.id);
        let put = Reply::of(self.world.admin(Method::PUT, &path).json(&settings)).await;
        assert!(matches!(put.status, 200 | 201), "{put:?}");
    }

    /// A key of this provider's, which its call-backs use from now on.
    pub(super) async fn key(&self) -> String {
        let (_, key) = self.world.key(&format!("/v1/admin/providers/{}", self.id)).await;
        self.world.put(self.control(""), &json!({"callback_key": key})).await;
        key
    }

    /// The body of a patient create, with these fields added or changed.
    pub(super) fn body(&self, changes: &Value) -> Value {
        let day = SystemClock.now().plus_ms(30 * DAY_MS).as_unix_ms();
        let start = Timestamp::from_unix_ms(day - day % 3_600_000).unwrap();
        let mut body = json!({
            "provider_id": self.id,
            "slot": {
                "location_id": "main-street",
                "start": start.to_string(),
                "end": start.plus_ms(30 * 60 * 1000).to_string(),
            },
            "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
            "sync_confirmation_timeout_millisecond": PATIENT_MS,
        });
        merge(&mut body, changes);
        body
    }

    fn control(&self, what: &str) -> String {
        format!("{}/control/providers/{}{what}", self.world.stack.provider_simulator_url, self.id)
    }

    /// Has it behave so from now on; `{}` is correctly.
    pub(super) async fn behave(&self, behaviour: &Value) {
        self.world.put(self.control("/behaviour"), behaviour).await;
    }

    /// Has it behave so for the next calls of this kind: `book`, `cancel`, `look_up` or `any`.
    pub(super) async fn next(&self, count: u32, operation: &str, behaviour: &Value) {
        let url = format!("{}/control/next", self.world.stack.provider_simulator_url);
        let next =
            json!({"count": count, "behaviour": behaviour, "provider_id": self.id, "operation": operation});
        let response = self.world.http.post(url).json(&next).send().await.unwrap();
        assert_eq!(response.status(), 200, "{next}");
    }

    /// The calls of a kind that it got, the first first. All were signed.
    pub(super) async fn calls(&self, operation: &str) -> Vec<Value> {
        let base = &self.world.stack.provider_simulator_url;
        let url = format!("{base}/control/calls?provider_id={}&operation={operation}", self.id);
        let calls = list(&self.world.get(url).await);
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
        let base = &self.world.stack.provider_simulator_url;
        let bookings =
            list(&self.world.get(format!("{base}/control/bookings?provider_id={}", self.id)).await);
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

/// A webhook endpoint, received by the inbox.
pub(super) struct Hook<'a> {
    world: &'a World,
    name: String,
    pub(super) id: String,
    /// The answer to its creation.
    pub(super) created: Value,
}

impl Hook<'_> {
    /// Has it answer so from now on; `{}` is correctly.
    pub(super) async fn behave(&self, behaviour: &Value) {
        let url = format!("{}/endpoints/{}", self.world.stack.webhook_inbox_url, self.name);
        self.world.put(url, behaviour).await;
    }

    /// What it got about a booking, in the order of arrival. All of it was signed with the endpoint's secret
    /// and free of personal data.
    pub(super) async fn messages(&self, booking_id: &str) -> Vec<Value> {
        let base = &self.world.stack.webhook_inbox_url;
        let url = format!("{base}/messages?endpoint={}&booking_id={booking_id}", self.name);
        let messages = list(&self.world.get(url).await);
        for message in &messages {
            assert_eq!(message["signature_valid"], true, "{message}");
            assert_eq!(message["webhook_id"], message["body"]["id"], "{message}");
            assert!(message["body"]["data"].get("customer").is_none(), "{message}");
            let body = message["body"].to_string();
            assert!(!body.contains("Lovelace") && !body.contains("example.com"), "{message}");
        }
        messages
    }

    /// What it got about a booking as soon as there are so many.
    pub(super) async fn until_messages(&self, booking_id: &str, count: usize, limit: Duration) -> Vec<Value> {
        let what = format!("{} got {count} messages about {booking_id}", self.name);
        until(limit, LOOK_AGAIN, &what, async || {
            let messages = self.messages(booking_id).await;
            if messages.len() >= count { Ok(messages) } else { Err(json!(messages)) }
        })
        .await
    }

    /// Waits until the types of the events about a booking, by version, are these. Nothing is said about the
    /// order of their arrival, nor how often each came.
    pub(super) async fn until_types(&self, booking_id: &str, types: &[&str], limit: Duration) {
        let what = format!("{} got {types:?} about {booking_id}", self.name);
        until(limit, LOOK_AGAIN, &what, async || {
            let messages = self.messages(booking_id).await;
            let event =
                |message: &Value| (message["body"]["data"]["version"].as_u64(), text(&message["type"]));
            let mut events: Vec<_> = messages.iter().map(event).collect();
            events.sort();
            events.dedup();
            let seen: Vec<String> = events.into_iter().map(|(_, event_type)| event_type).collect();
            if seen == types { Ok(()) } else { Err(json!(seen)) }
        })
        .await;
    }
}

/// Looks until it finds, panics at the deadline with what was seen last.
pub(super) async fn until<T>(
    limit: Duration,
    pause: Duration,
    what: &str,
    look: impl AsyncFn() -> Result<T, Value>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => {
                panic!("not within {limit:?}: {what}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
    }
}

/// A JSON string.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The entries of a list's body.
pub(super) fn list(body: &Value) -> Vec<Value> {
    body["data"].as_array().unwrap_or_else(|| panic!("no list: {body}")).clone()
}

/// Sets the fields of `changes` in `target`; null removes one (RFC 7396).
fn merge(target: &mut Value, changes: &Value) {
    let Some(changes) = changes.as_object() else {
        *target = changes.clone();
        return;
    };
    for (name, value) in changes {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else if value.is_object() && target[name].is_object() {
            merge(&mut target[name], value);
        } else {
            target[name] = value.clone();
        }
    }
}

fn next_actor() -> usize {
    ACTORS.fetch_add(1, Ordering::Relaxed)
}
