//! Bodies of what administrators and consumers configure: `PUT`, `POST` and `PATCH`, over the whole function.
//!
//! Input: a digit that chooses the call, and the body.

use holdfast_app::auth::{hash_key, new_key};
use holdfast_app::manage::TargetRules;
use holdfast_app::ports::{ConfigurationStore, PostOutcome, WebhookPost, WebhookSender};
use holdfast_app::settings::KeyOwner;
use holdfast_app::test_util::{
    MemoryAvailability, MemoryDeliveries, MemoryDeliveryStore, MemoryFeed, MemorySettings, SeededEntropy,
    TestClock,
};
use holdfast_domain::{ConsumerId, Mode};
use holdfast_lambda::http::Router;
use manage::{Manage, Route, Stores, Webhooks, router};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::http::{Answer, Call};
use super::{MARKER, choice, now, run};

const ADMIN: &str = "hf_live_admin_k00000000000000000000000000_secret";

const CONSUMER: &str = "/v1/admin/consumers/shop";
const PROVIDER: &str = "/v1/admin/providers/clinic";
const LOCATION: &str = "/v1/admin/providers/clinic/locations/main";
const KEYS: &str = "/v1/admin/consumers/shop/keys";
const ENDPOINTS: &str = "/v1/webhook-endpoints";

/// What is told of a provider just as it was said.
const PLAIN_SETTINGS: [&str; 9] = [
    "name",
    "mode",
    "protocol",
    "confirmation",
    "exclusive_slots",
    "requests_per_second",
    "max_attempts_in_flight",
    "attempt_timeout_millisecond",
    "availability",
];

/// A receiver that takes everything.
#[derive(Clone, Debug)]
struct Receiver;

impl WebhookSender for Receiver {
    async fn post(&self, _: WebhookPost<'_>) -> PostOutcome {
        PostOutcome::Answered { status: 204, retry_after_ms: None, body: String::new() }
    }
}

type TestManage = Manage<
    MemorySettings,
    MemoryAvailability,
    MemoryFeed,
    MemoryDeliveryStore,
    MemoryDeliveries,
    Receiver,
    TestClock,
    SeededEntropy,
>;

struct World {
    manage: TestManage,
    router: Router<Route>,
    clock: TestClock,
    consumer_key: String,
}

impl World {
    async fn new() -> Self {
        let clock = TestClock::starting_at(now());
        let settings = MemorySettings::new();
        let owner = KeyOwner::Consumer(ConsumerId::parse("shop").expect("a name"));
        let (key, record) = new_key(owner, Mode::Test, now(), &SeededEntropy::new(1));
        settings.put_key(&record).await.expect("nothing fails");
        let webhooks =
            Webhooks { log: MemoryDeliveryStore::new(), replays: MemoryDeliveries::new(), sender: Receiver };
        let (availability, feed) = (MemoryAvailability::new(), MemoryFeed::new());
        let stores = Stores { settings, availability, feed };
        let (admins, rules) = (vec![hash_key(ADMIN)], TargetRules { allow_plain_http: false });
        let manage = Manage::new(stores, webhooks, admins, rules, clock, SeededEntropy::new(2));
        let router = router().expect("the routes are sound");
        Self { manage, router, clock, consumer_key: key.expose_secret().to_owned() }
    }

    async fn call(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let key = if path.starts_with("/v1/admin") { ADMIN } else { &self.consumer_key };
        let handler = |request, routed| self.manage.handle(request, routed);
        Call::new(method, path, key, body).make(&self.router, &handler, self.clock).await
    }

    async fn put(&self, path: &str, body: Value) {
        let answer = self.call("PUT", path, body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    async fn configured(self) -> Self {
        let body = json!({"name": "Clinic", "mode": "test", "base_url": "https://clinic.example"});
        self.put(PROVIDER, body).await;
        self.put(CONSUMER, json!({"name": "Shop"})).await;
        self
    }

    /// An endpoint, by its path.
    async fn endpoint(&self) -> String {
        let answer = self.call("POST", ENDPOINTS, br#"{"url": "https://shop.example/hook"}"#).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        format!("{ENDPOINTS}/{}", answer.body["id"].as_str().expect("it was made"))
    }
}

pub(super) fn check(data: &[u8]) {
    let Some((call, body)) = choice(data, 8) else { return };
    run(async {
        let world = World::new().await.configured().await;
        match call {
            0 => replaced(&world, CONSUMER, body, &["name"]).await,
            1 | 2 => replaced(&world, PROVIDER, body, &PLAIN_SETTINGS).await,
            3 => replaced(&world, LOCATION, body, &["name", "time_zone"]).await,
            4 => made_key(&world, body).await,
            5 => made_endpoint(&world, body).await,
            6 => changed_endpoint(&world, body).await,
            _ => {
                let path = format!("{}/replay", world.endpoint().await);
                let answer = world.call("POST", &path, body).await;
                assert!(matches!(answer.status, 202 | 400..), "{}", answer.text);
            }
        }
    });
}

/// What was put is what is told, the same again and again, but for secrets.
async fn replaced(world: &World, path: &str, body: &[u8], plain: &[&str]) {
    let before = world.call("GET", path, b"").await;
    let put = world.call("PUT", path, body).await;
    let got = world.call("GET", path, b"").await;
    if put.status >= 400 {
        assert_eq!(got.text, before.text, "what is refused changes nothing");
        return;
    }
    assert_eq!((put.status, &put.text), (200, &got.text));
    assert_eq!(world.call("PUT", path, body).await.text, put.text);
    let given: Value = serde_json::from_slice(body).expect("it was read");
    for name in plain {
        if !given[*name].is_null() {
            assert_eq!(got.body[*name], given[*name], "{name}");
        }
    }
    let mut public = given;
    if let Some(members) = public.as_object_mut() {
        members.remove("auth");
        members.remove("signing_secret");
    }
    assert!(public.to_string().contains(MARKER) || !got.text.contains(MARKER), "a secret is told");
}

async fn made_key(world: &World, body: &[u8]) {
    let answer = world.call("POST", KEYS, body).await;
    let listed = world.call("GET", KEYS, b"").await;
    let keys = listed.body["data"].as_array().map_or(0, Vec::len);
    // One is there from the beginning, in no list.
    assert_eq!(keys, usize::from(answer.status == 201) + 1, "{}", listed.text);
    if let Some(key) = answer.body["key"].as_str() {
        assert!(!listed.text.contains(key));
    }
}

async fn made_endpoint(world: &World, body: &[u8]) {
    let made = world.call("POST", ENDPOINTS, body).await;
    let listed = world.call("GET", ENDPOINTS, b"").await;
    let endpoints = listed.body["data"].as_array().expect("a list");
    assert_eq!(endpoints.len(), usize::from(made.status < 400));
    if made.status >= 400 {
        return;
    }
    let given: Value = serde_json::from_slice(body).expect("it was read");
    shows(&given, &made.body);
    let secret = made.body["secret"].as_str().expect("it is told once");
    assert!(!listed.text.contains(secret), "a secret is told twice");
}

async fn changed_endpoint(world: &World, body: &[u8]) {
    let path = world.endpoint().await;
    let before = world.call("GET", &path, b"").await;
    let patched = world.call("PATCH", &path, body).await;
    let after = world.call("GET", &path, b"").await;
    if patched.status >= 400 {
        assert_eq!(after.text, before.text, "what is refused changes nothing");
        return;
    }
    assert_eq!(patched.text, after.text);
    let given: Value = serde_json::from_slice(body).expect("it was read");
    shows(&given, &after.body);
    for name in ["id", "created_at"] {
        assert_eq!(before.body[name], after.body[name]);
    }
    let again = world.call("PATCH", &path, body).await;
    assert_eq!((again.status, again.text), (200, after.text));
}

/// What was said of an endpoint is what is shown of it, but for the values of its headers.
fn shows(given: &Value, endpoint: &Value) {
    for name in ["url", "event_types", "retry_schedule_seconds", "enabled"] {
        if let Some(value) = given.get(name).filter(|value| !value.is_null()) {
            assert_eq!(endpoint[name], *value, "{name}");
        }
    }
    let mut public = given.clone();
    let headers = public.as_object_mut().and_then(|members| members.remove("headers"));
    let names = headers
        .and_then(|headers| headers.as_object().map(|headers| headers.keys().cloned().collect::<Vec<_>>()));
    let may_show = public.to_string().contains(MARKER)
        || names.is_some_and(|names| names.iter().any(|name| name.to_ascii_lowercase().contains(MARKER)));
    assert!(may_show || !endpoint.to_string().contains(MARKER), "a header's value is told");
}
