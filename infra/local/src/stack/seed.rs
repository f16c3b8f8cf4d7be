//! The demo data of a local stack: two consumers, a provider of each protocol and confirmation mode, their
//! locations, keys and webhook endpoints. All of it goes in through the API, as an administrator's and a
//! consumer's own calls would.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::error::StackError;
use super::keys;

/// The demo consumers and the name of each one's hook at the inbox.
const CONSUMER: Consumer = Consumer { id: "demo-marketplace", name: "Demo Marketplace", hook: "demo" };
const OTHER_CONSUMER: Consumer =
    Consumer { id: "other-marketplace", name: "Other Marketplace", hook: "other" };

/// The demo providers, one of each kind.
const PROVIDERS: [Kind; 6] = [
    Kind {
        id: "demo-clinic",
        name: "Demo Clinic",
        protocol: "holdfast",
        confirmation: "confirm",
        pulls: false,
        locations: &[
            Location { id: "main-street", name: "Main Street", time_zone: "Europe/Rome", service_id: None },
            Location { id: "station", name: "At the Station", time_zone: "Europe/Rome", service_id: None },
        ],
    },
    Kind {
        id: "demo-tours",
        name: "Demo Tours",
        protocol: "octo",
        confirmation: "confirm",
        pulls: false,
        locations: &[Location {
            id: "pier",
            name: "The Pier",
            time_zone: "Europe/London",
            service_id: Some("fossil-walk"),
        }],
    },
    Kind {
        id: "demo-lab",
        name: "Demo Laboratory",
        protocol: "holdfast",
        confirmation: "notify",
        pulls: false,
        locations: &[Location { id: "main", name: "Laboratory", time_zone: "Europe/Rome", service_id: None }],
    },
    Kind {
        id: "demo-practice",
        name: "Demo Practice",
        protocol: "docplanner",
        confirmation: "notify",
        pulls: false,
        locations: &[Location { id: "main", name: "Practice", time_zone: "Europe/Rome", service_id: None }],
    },
    Kind {
        id: "demo-hospital",
        name: "Demo Hospital",
        protocol: "docplanner",
        confirmation: "real_time",
        pulls: false,
        locations: &[],
    },
    Kind {
        id: "demo-physio",
        name: "Demo Physio",
        protocol: "holdfast",
        confirmation: "notify",
        pulls: true,
        locations: &[],
    },
];

/// The unit that is booked at an OCTO provider where the consumer names none.
const DEFAULT_UNIT_ID: &str = "adult";

/// When the demo providers are told again, in seconds: soon enough to watch.
const NOTIFICATION_SCHEDULE_S: [u32; 3] = [5, 15, 30];

/// Background retries of the demo providers: quick enough to watch.
const FIRST_DELAY_MS: u32 = 1_000;
const DELAY_FACTOR: u32 = 2;
const MAX_DELAY_MS: u32 = 10_000;

/// When the demo providers are open, in UTC.
const OPENS_AT_HOUR: u32 = 9;
const CLOSES_AT_HOUR: u32 = 17;

/// The longest part of an unexpected answer that a message repeats, in characters.
const QUOTED_ANSWER_LIMIT: usize = 300;

/// How often a call is made again that a busy machine had no time for, and how long is waited before.
const MAX_BUSY_ANSWERS: usize = 10;
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// A demo consumer.
#[derive(Debug)]
struct Consumer {
    id: &'static str,
    name: &'static str,
    hook: &'static str,
}

/// How a demo provider is configured.
#[derive(Clone, Copy, Debug)]
struct Kind {
    id: &'static str,
    name: &'static str,
    protocol: &'static str,
    confirmation: &'static str,
    /// It fetches its notifications itself.
    pulls: bool,
    /// Where it can be asked what is open; who cannot be asked can tell.
    locations: &'static [Location],
}

/// A location of a demo provider.
#[derive(Clone, Copy, Debug)]
struct Location {
    id: &'static str,
    name: &'static str,
    time_zone: &'static str,
    /// What is offered there, at an OCTO provider.
    service_id: Option<&'static str>,
}

impl Kind {
    /// Where the simulator speaks the provider's protocol for it.
    fn base_url(&self, simulator_url: &str) -> String {
        let folder = match self.protocol {
            "docplanner" => "docplanner",
            "octo" => "octo",
            _ => "providers",
        };
        format!("{simulator_url}/{folder}/{}", self.id)
    }
}

/// A demo provider, with the secrets it shares with Holdfast.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) id: &'static str,
    kind: Kind,
    token: String,
    signing_secret: String,
}

/// The keys that the API gave out.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) consumer: String,
    pub(super) other_consumer: String,
    pub(super) providers: BTreeMap<String, String>,
}

/// The demo providers with new secrets.
pub(super) fn providers() -> Result<Vec<Provider>, StackError> {
    let provider = |kind: Kind| {
        Ok(Provider { id: kind.id, kind, token: keys::token()?, signing_secret: keys::signing_secret()? })
    };
    PROVIDERS.into_iter().map(provider).collect()
}

/// Sets up the demo data.
#[derive(Debug)]
pub(super) struct Seeder<'a> {
    /// Its time limits apply to each call.
    pub(super) client: &'a reqwest::Client,
    pub(super) api_url: &'a str,
    pub(super) simulator_url: &'a str,
    pub(super) inbox_url: &'a str,
    pub(super) admin_key: &'a str,
    /// Named in messages.
    pub(super) logs: PathBuf,
}

impl Seeder<'_> {
    pub(super) async fn seed(&self, providers: &[Provider]) -> Result<Keys, StackError> {
        let consumer = self.consumer(&CONSUMER).await?;
        let other_consumer = self.consumer(&OTHER_CONSUMER).await?;
        let mut provider_keys = BTreeMap::new();
        for provider in providers {
            provider_keys.insert(provider.id.to_owned(), self.provider(provider).await?);
        }
        self.endpoint(&CONSUMER, &consumer).await?;
        self.endpoint(&OTHER_CONSUMER, &other_consumer).await?;
        Ok(Keys { consumer, other_consumer, providers: provider_keys })
    }

    async fn consumer(&self, consumer: &Consumer) -> Result<String, StackError> {
        let path = format!("/v1/admin/consumers/{}", consumer.id);
        self.api_patiently(Method::PUT, &path, &json!({"name": consumer.name})).await?;
        self.key(&path).await
    }

    async fn provider(&self, provider: &Provider) -> Result<String, StackError> {
        let path = format!("/v1/admin/providers/{}", provider.id);
        let kind = provider.kind;
        let mut settings = json!({
            "name": kind.name,
            "mode": "test",
            "protocol": kind.protocol,
            "confirmation": kind.confirmation,
        });
        // Who fetches its notifications is never called.
        if !kind.pulls {
            settings["base_url"] = json!(kind.base_url(self.simulator_url));
            settings["auth"] = json!({"type": "bearer", "token": provider.token});
            settings["signing_secret"] = json!(provider.signing_secret);
            settings["retry"] = json!({
                "first_delay_millisecond": FIRST_DELAY_MS,
                "factor": DELAY_FACTOR,
                "max_delay_millisecond": MAX_DELAY_MS,
            });
            if kind.confirmation != "confirm" {
                settings["notification_schedule_seconds"] = json!(NOTIFICATION_SCHEDULE_S);
            }
        }
        if kind.protocol == "octo" {
            settings["default_unit_id"] = json!(DEFAULT_UNIT_ID);
        }
        if kind.protocol == "docplanner" {
            settings["exclusive_slots"] = json!(true);
            settings["decline_messages"] = json!({"1": "The slot is taken.", "2": "The doctor is away."});
        }
        self.api_patiently(Method::PUT, &path, &settings).await?;
        for location in kind.locations {
            self.location(&path, location).await?;
        }
        let key = self.key(&path).await?;
        let simulator = format!("{}/control/providers/{}", self.simulator_url, provider.id);
        let known = json!({
            "callback_key": key,
            "signing_secret": provider.signing_secret,
            "opens_at_hour": OPENS_AT_HOUR,
            "closes_at_hour": CLOSES_AT_HOUR,
        });
        self.call(self.client.put(&simulator).json(&known), &simulator).await?;
        Ok(key)
    }

    async fn location(&self, provider: &str, location: &Location) -> Result<(), StackError> {
        let mut body = json!({"name": location.name, "time_zone": location.time_zone});
        if let Some(service_id) = location.service_id {
            body["services"] = json!([{"service_id": service_id}]);
        }
        let path = format!("{provider}/locations/{}", location.id);
        self.api_patiently(Method::PUT, &path, &body).await?;
        Ok(())
    }

    /// Makes a test key for the consumer or provider at `path`.
    async fn key(&self, path: &str) -> Result<String, StackError> {
        let path = format!("{path}/keys");
        // Of two the first is told to nobody.
        let answer = self.api_patiently(Method::POST, &path, &json!({"mode": "test"})).await?;
        self.text(&answer, "key", &path)
    }

    /// Has the consumer's events delivered to its hook, and the inbox check their signatures.
    async fn endpoint(&self, consumer: &Consumer, key: &str) -> Result<(), StackError> {
        let path = "/v1/webhook-endpoints";
        let url = format!("{}/hooks/{}", self.inbox_url, consumer.hook);
        let answer = self.api(Method::POST, path, key, &json!({"url": url, "event_types": []})).await?;
        let secret = self.text(&answer, "secret", path)?;
        let inbox = format!("{}/endpoints/{}", self.inbox_url, consumer.hook);
        self.call(self.client.put(&inbox).json(&json!({"secret": secret})), &inbox).await?;
        Ok(())
    }

    async fn api(&self, method: Method, path: &str, key: &str, body: &Value) -> Result<Value, StackError> {
        let url = format!("{}{path}", self.api_url);
        let request = self.client.request(method.clone(), url).bearer_auth(key).json(body);
        self.call(request, &format!("{method} {path}")).await
    }

    /// The same, of what does no harm if it is done twice: a busy machine may not have done it in time.
    async fn api_patiently(&self, method: Method, path: &str, body: &Value) -> Result<Value, StackError> {
        for _ in 0..MAX_BUSY_ANSWERS {
            match self.api(method.clone(), path, self.admin_key, body).await {
                Err(StackError::Seed { status: Some(StatusCode::SERVICE_UNAVAILABLE), .. }) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                other => return other,
            }
        }
        self.api(method, path, self.admin_key, body).await
    }

    /// The answer's JSON; an error unless the status is 2xx.
    async fn call(&self, request: reqwest::RequestBuilder, name: &str) -> Result<Value, StackError> {
        let answer = request.send().await.map_err(|error| self.failed(name, None, error.to_string()))?;
        let status = answer.status();
        let failed = |detail| self.failed(name, Some(status), detail);
        let body = answer.text().await.map_err(|error| failed(error.to_string()))?;
        if !status.is_success() {
            // A problem names no secret; a success may, and is never quoted.
            let quoted: String = body.chars().take(QUOTED_ANSWER_LIMIT).collect();
            return Err(failed(format!("{status}: {quoted}")));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&body).map_err(|error| failed(format!("{status} and no JSON ({error})")))
    }

    fn text(&self, answer: &Value, field: &str, call: &str) -> Result<String, StackError> {
        let missing = || self.failed(call, None, format!("no field {field:?}"));
        answer[field].as_str().map(str::to_owned).ok_or_else(missing)
    }

    fn failed(&self, call: &str, status: Option<StatusCode>, detail: String) -> StackError {
        StackError::Seed { call: call.to_owned(), status, detail, logs: self.logs.join("functions") }
    }
}
