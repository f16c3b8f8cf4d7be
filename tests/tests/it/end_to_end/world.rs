//! The actors of a test: consumers, providers and receivers of webhooks, each made for one test alone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holdfast_local::stack_file::StackFile;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::pace;
pub(super) use super::provider::{PATIENT_MS, Protocol, Provider};
use super::reply::Reply;
use super::stack::{rough, stack, tell_failures_at_once};

/// What goes on in the background follows within this unless a test says otherwise. It is no promise of the
/// product's, only far longer than a busy machine takes.
pub(super) const SOON: Duration = Duration::from_secs(25);
/// How long a compensation takes whose provider says that it knows no such booking: that is believed a minute
/// after the request was sent at the earliest.
pub(super) const SETTLED: Duration = Duration::from_secs(100);

/// How often the simulator and the inbox are looked at. They answer from memory.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often the API is asked, which costs the emulator a good deal.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(600);
/// Beyond API Gateway's own limit.
const CALL_LIMIT: Duration = Duration::from_secs(45);

/// A synchronous limit that a test waits out, in milliseconds: not the shortest, because on a busy machine
/// nothing might be sent before it.
pub(super) const SHORT_MS: u64 = 4_000;

/// Numbers the actors of this process.
static ACTORS: AtomicUsize = AtomicUsize::new(1);
/// Tests that are under way, and those of them that wait for the others.
static WORLDS: AtomicUsize = AtomicUsize::new(0);
/// How many were made in all.
static MADE: AtomicUsize = AtomicUsize::new(0);
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// Which of those that have waited goes on.
static TURN: Mutex<()> = Mutex::const_new(());
/// The longest that all other tests take.
const OTHERS_LIMIT: Duration = Duration::from_mins(20);

/// How many tests are under way that do not wait for the others.
fn others() -> usize {
    WORLDS.load(Ordering::Relaxed).saturating_sub(WAITING.load(Ordering::Relaxed))
}

/// What a test has to itself.
pub(super) struct World {
    pub(super) stack: &'static StackFile,
    http: reqwest::Client,
    stands_back: AtomicBool,
}

impl Drop for World {
    fn drop(&mut self) {
        if self.stands_back.load(Ordering::Relaxed) {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
        WORLDS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl World {
    /// A world on the shared stack, which is started for the first.
    pub(super) fn new() -> Self {
        Self::on(stack())
    }

    /// A world on the stack for tests that do harm.
    pub(super) fn rough() -> Self {
        Self::on(&rough().file)
    }

    fn on(stack: &'static StackFile) -> Self {
        // A client belongs to its test: its connections live on that test's runtime.
        let http = reqwest::Client::builder().no_proxy().timeout(CALL_LIMIT).build().unwrap();
        tell_failures_at_once();
        WORLDS.fetch_add(1, Ordering::Relaxed);
        MADE.fetch_add(1, Ordering::Relaxed);
        pace::hold_back(others);
        Self { stack, http, stands_back: AtomicBool::new(false) }
    }

    /// Lets those who wait for the other tests not wait for this one. Once for each test.
    pub(super) fn stand_back(&self) {
        self.stands_back.store(true, Ordering::Relaxed);
        WAITING.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until the tests that do not wait themselves are over and the stack is calm, so that this one has the machine
    /// to itself for as long as it keeps what is returned.
    pub(super) async fn turn(&self) -> MutexGuard<'static, ()> {
        self.stand_back();
        until(OTHERS_LIMIT, ASK_AGAIN, "the other tests are over", async || {
            let others = others();
            if others == 0 { Ok(()) } else { Err(json!(others)) }
        })
        .await;
        let turn = TURN.lock().await;
        pace::calm(self.stack).await;
        turn
    }

    /// How many tests are under way, this one included.
    pub(super) fn count() -> usize {
        WORLDS.load(Ordering::Relaxed)
    }

    /// How many tests have begun in all, this one included.
    pub(super) fn made() -> usize {
        MADE.load(Ordering::Relaxed)
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
        self.provider_of(Protocol::Native, &json!({})).await
    }

    /// A new provider of this protocol with a key, configured with these fields in place of the usual ones.
    pub(super) async fn provider_of(&self, protocol: Protocol, settings: &Value) -> Provider<'_> {
        let provider = Provider::speaking(self, protocol).await;
        provider.configure(settings).await;
        provider
    }

    /// What the simulator or the inbox answers.
    pub(super) async fn get(&self, url: String) -> Value {
        let response = self.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// Tells the simulator or the inbox something.
    pub(super) async fn put(&self, url: String, body: &Value) {
        let response = self.http.put(url).json(body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{body}");
    }

    /// The same, of something that adds up.
    pub(super) async fn post(&self, url: String, body: &Value) {
        let response = self.http.post(url).json(body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{body}");
    }
}

/// A consumer with one key.
pub(super) struct Consumer<'a> {
    pub(super) world: &'a World,
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

    /// An operation (`confirm`, `extend`, `cancel` or `reschedule`), for headers to be added to.
    pub(super) fn operating(&self, id: &str, operation: &str, body: &Value) -> RequestBuilder {
        self.call(Method::POST, &format!("/v1/bookings/{id}/{operation}")).json(body)
    }

    /// Changes a booking without an idempotency key.
    pub(super) async fn operate(&self, id: &str, operation: &str, body: &Value) -> Reply {
        Reply::of(self.operating(id, operation, body)).await
    }

    /// Changes a booking with an idempotency key.
    pub(super) async fn operate_with_key(&self, id: &str, operation: &str, key: &str, body: &Value) -> Reply {
        Reply::of(self.operating(id, operation, body).header("idempotency-key", key)).await
    }

    /// A cancel, for headers to be added to.
    pub(super) fn cancelling(&self, id: &str, body: &Value) -> RequestBuilder {
        self.operating(id, "cancel", body)
    }

    /// Cancels a booking with an idempotency key.
    pub(super) async fn cancel_with_key(&self, id: &str, key: &str, body: &Value) -> Reply {
        self.operate_with_key(id, "cancel", key, body).await
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

    /// The booking as soon as no operation of it is in flight.
    pub(super) async fn until_settled(&self, id: &str, limit: Duration) -> Value {
        until(limit, ASK_AGAIN, &format!("{id} is settled"), async || {
            let booking = self.booking(id).await;
            if booking["operation"].is_null() { Ok(booking) } else { Err(booking) }
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
        self.hook_at(&self.world.stack.webhook_inbox_url, settings).await
    }

    /// The same, with the inbox reached at this URL.
    pub(super) async fn hook_at(&self, inbox_url: &str, settings: Value) -> Hook<'_> {
        let name = format!("hook-{}", next_actor());
        let mut body = settings;
        body["url"] = json!(format!("{inbox_url}/hooks/{name}"));
        let made = Reply::of(self.call(Method::POST, "/v1/webhook-endpoints").json(&body)).await;
        assert_eq!(made.status, 201, "{made:?}");
        let hook = Hook { world: self.world, name, id: text(&made.json["id"]), created: made.json };
        hook.behave(&json!({"secret": hook.created["secret"]})).await;
        hook
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
pub(super) fn merge(target: &mut Value, changes: &Value) {
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

pub(super) fn next_actor() -> usize {
    ACTORS.fetch_add(1, Ordering::Relaxed)
}
