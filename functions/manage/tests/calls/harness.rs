//! A function over memory, and callers of it.

use std::sync::{Arc, Mutex};

use holdfast_app::auth::{hash_key, new_key};
use holdfast_app::manage::TargetRules;
use holdfast_app::ports::{Clock, ConfigurationStore, PostOutcome, WebhookPost, WebhookSender};
use holdfast_app::settings::KeyOwner;
use holdfast_app::test_util::{
    MemoryAvailability, MemoryDeliveries, MemoryDeliveryStore, MemoryFeed, MemorySettings, SeededEntropy,
    TestClock,
};
use holdfast_domain::{Mode, Timestamp};
use holdfast_lambda::Context;
use holdfast_lambda::http::{Router, serve};
use manage::{Manage, Route, Stores, Webhooks, router};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// A key whose hash the deployment was given.
pub(crate) const ADMIN: &str = "hf_live_admin_k00000000000000000000000000_secret";

/// What was posted to an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) message_id: String,
    pub(crate) body: String,
    pub(crate) secrets: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) limit_ms: u64,
}

/// Endpoints that answer 204 until they are told otherwise; `None` is silence.
#[derive(Clone, Debug)]
pub(crate) struct Receivers {
    pub(crate) reply: Arc<Mutex<Option<PostOutcome>>>,
    pub(crate) posts: Arc<Mutex<Vec<Posted>>>,
}

impl Receivers {
    fn new() -> Self {
        let outcome = PostOutcome::Answered { status: 204, retry_after_ms: None, body: String::new() };
        Self { reply: Arc::new(Mutex::new(Some(outcome))), posts: Arc::default() }
    }

    pub(crate) fn will(&self, reply: Option<PostOutcome>) {
        *self.reply.lock().unwrap() = reply;
    }
}

impl WebhookSender for Receivers {
    async fn post(&self, post: WebhookPost<'_>) -> PostOutcome {
        self.posts.lock().unwrap().push(Posted {
            message_id: post.message_id.to_owned(),
            body: post.body.to_owned(),
            secrets: post.secrets.iter().map(|secret| exposed(secret).to_owned()).collect(),
            headers: post.headers.keys().cloned().collect(),
            limit_ms: post.limit_ms,
        });
        let reply = self.reply.lock().unwrap().clone();
        match reply {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

type TestManage = Manage<
    MemorySettings,
    MemoryAvailability,
    MemoryFeed,
    MemoryDeliveryStore,
    MemoryDeliveries,
    Receivers,
    TestClock,
    SeededEntropy,
>;

pub(crate) struct Harness {
    pub(crate) store: MemorySettings,
    pub(crate) availability: MemoryAvailability,
    pub(crate) log: MemoryDeliveryStore,
    pub(crate) replays: MemoryDeliveries,
    pub(crate) receivers: Receivers,
    pub(crate) feed: MemoryFeed,
    pub(crate) clock: TestClock,
    entropy: SeededEntropy,
    manage: TestManage,
    router: Router<Route>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) headers: Value,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The pointers of the field errors, sorted.
    pub(crate) fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut pointers: Vec<&str> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
        pointers.sort_unstable();
        pointers
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with_rules(TargetRules { allow_plain_http: false })
    }

    pub(crate) fn with_rules(rules: TargetRules) -> Self {
        let store = MemorySettings::new();
        let feed = MemoryFeed::new();
        let clock = TestClock::starting_at(Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").unwrap());
        let entropy = SeededEntropy::new(1);
        let admins = vec![hash_key("another"), hash_key(ADMIN)];
        let (log, replays) = (MemoryDeliveryStore::new(), MemoryDeliveries::new());
        let receivers = Receivers::new();
        let webhooks = Webhooks { log: log.clone(), replays: replays.clone(), sender: receivers.clone() };
        let availability = MemoryAvailability::new();
        let stores =
            Stores { settings: store.clone(), availability: availability.clone(), feed: feed.clone() };
        let manage = Manage::new(stores, webhooks, admins, rules, clock, entropy.clone());
        let router = router().unwrap();
        Self { store, availability, log, replays, receivers, feed, clock, entropy, manage, router }
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut headers = json!({"content-type": "application/json"});
        if let Some(key) = key {
            headers["authorization"] = json!(format!("Bearer {key}"));
        }
        self.call_with(method, path, &headers, body).await
    }

    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &Value,
        body: Option<Value>,
    ) -> Answer {
        let event = json!({
            "rawPath": path.split('?').next(),
            "rawQueryString": path.split_once('?').map_or("", |(_, query)| query),
            "headers": headers,
            "requestContext": {"http": {"method": method}, "requestId": "request-1"},
            "body": body.map(|body| body.to_string()),
        });
        let deadline_unix_ms = u64::try_from(self.clock.now().as_unix_ms()).unwrap() + 29_000;
        let context = Context { deadline_unix_ms, ..Context::default() };
        let handler = |request, routed| self.manage.handle(request, routed);
        let event = event.to_string();
        let answer = serve(&self.router, &handler, event.as_bytes(), &context, &self.clock).await;
        let answer = serde_json::to_value(answer).unwrap();
        let text = answer["body"].as_str().unwrap_or_default().to_owned();
        Answer {
            status: answer["statusCode"].as_u64().unwrap(),
            headers: answer["headers"].clone(),
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    /// Calls as an administrator.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call(method, path, Some(ADMIN), body).await
    }

    /// A key of this owner, as if it had been made before.
    pub(crate) async fn key_of(&self, owner: KeyOwner, mode: Mode) -> SecretString {
        let (secret, record) = new_key(owner, mode, self.clock.now(), &self.entropy);
        self.store.put_key(&record).await.unwrap();
        secret
    }

    /// A consumer's key, made through the API.
    pub(crate) async fn consumer_key(&self, id: &str, mode: &str) -> String {
        self.admin("PUT", &format!("/v1/admin/consumers/{id}"), Some(json!({"name": "A"}))).await;
        let path = format!("/v1/admin/consumers/{id}/keys");
        let answer = self.admin("POST", &path, Some(json!({"mode": mode}))).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["key"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn exposed(key: &SecretString) -> &str {
    key.expose_secret()
}
