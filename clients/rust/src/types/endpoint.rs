//! Webhook endpoints and what was delivered to them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::EventType;
use crate::ids::{EndpointId, EventId};
use crate::open_enum::open_enum;

open_enum! {
    /// Why Holdfast has disabled an endpoint.
    DisabledReason {
        /// It answered 410.
        Gone = "gone",
        /// It did nothing but fail for five days.
        Failing = "failing",
    }
}

/// A wish to be called about events. What its `headers` say is not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewWebhookEndpoint {
    /// What is called: https, without user name, password and fragment.
    pub url: String,
    /// Which events; none named means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<EventType>,
    /// What is sent with every call, at most 20.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The delay before each attempt, in seconds; 14 days in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_schedule_seconds: Option<Vec<u32>>,
    /// Whether it is called at all (`true`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl NewWebhookEndpoint {
    /// One that hears of everything, by the usual schedule.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            event_types: Vec::new(),
            headers: BTreeMap::new(),
            retry_schedule_seconds: None,
            enabled: None,
        }
    }
}

impl fmt::Debug for NewWebhookEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("NewWebhookEndpoint");
        shown.field("url", &self.url).field("event_types", &self.event_types).finish_non_exhaustive()
    }
}

/// What is to change of an endpoint. What is left out stays. What its `headers` say is not printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEndpointChanges {
    /// What is called. Another one forgets past failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Which events; an empty list means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_types: Option<Vec<EventType>>,
    /// All that is sent with every call: these take the place of those before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// The delay before each attempt, in seconds; 14 days in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_schedule_seconds: Option<Vec<u32>>,
    /// Whether it is called at all. `true` forgets past failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl fmt::Debug for WebhookEndpointChanges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("WebhookEndpointChanges");
        shown.field("url", &self.url).field("event_types", &self.event_types);
        shown.field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WebhookEndpoint {
    /// Its identifier.
    pub id: EndpointId,
    /// What is called.
    pub url: String,
    /// Which events; none named means all.
    pub event_types: Vec<EventType>,
    /// The names of what is sent with every call.
    pub header_names: Vec<String>,
    /// The delay before each attempt, in seconds.
    pub retry_schedule_seconds: Vec<u64>,
    /// Whether it is called at all.
    pub enabled: bool,
    /// Why it is not, unless you wished it.
    pub disabled_reason: Option<DisabledReason>,
    /// The first failure since the last success.
    pub failing_since: Option<Timestamp>,
    /// Until when the secret before this one signs too.
    pub previous_secret_valid_until: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an endpoint's calls are signed with, `whsec_…`. It cannot be printed; keep it where secrets are kept.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct WebhookSecret(SecretString);

impl WebhookSecret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for WebhookSecret {
    fn from(secret: String) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WebhookSecret(…)")
    }
}

/// An endpoint with its new secret, which no other answer shows.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct WebhookEndpointWithSecret {
    /// The endpoint itself.
    #[serde(flatten)]
    pub endpoint: WebhookEndpoint,
    /// What its calls are signed with.
    pub secret: WebhookSecret,
}

impl Deref for WebhookEndpointWithSecret {
    type Target = WebhookEndpoint;

    fn deref(&self) -> &WebhookEndpoint {
        &self.endpoint
    }
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trial {
    /// The event that was sent.
    pub event_id: EventId,
    /// Whether the receiver took it.
    pub succeeded: bool,
    /// What the receiver answered.
    pub status: Option<u16>,
    /// How long that took, in milliseconds.
    pub latency_ms: u64,
    /// The first KiB of the answer.
    pub response_body: Option<String>,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// An attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeliveryAttempt {
    /// The event.
    pub event_id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// Which attempt it was, from 1.
    pub attempt: u64,
    /// When.
    pub attempted_at: Timestamp,
    /// Whether the receiver took it.
    pub succeeded: bool,
    /// What the receiver answered.
    pub status: Option<u16>,
    /// How long that took, in milliseconds.
    pub latency_ms: u64,
    /// The first KiB of the answer.
    pub response_body: Option<String>,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// The receiver took it.
    Succeeded,
    /// It did not.
    Failed,
    /// It answered so: an HTTP status.
    Answered(u16),
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => formatter.write_str("succeeded"),
            Self::Failed => formatter.write_str("failed"),
            Self::Answered(status) => write!(formatter, "{status}"),
        }
    }
}

/// Which attempts are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Those for one event.
    pub event_id: Option<EventId>,
    /// Those that ended so.
    pub status: Option<DeliveryStatus>,
    /// The most on one page: 1 to 100 (20).
    pub limit: Option<u8>,
}

/// A wish that events are delivered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// From when; deliveries are kept for 30 days.
    pub since: Timestamp,
    /// Until when; now, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only what was not taken.
    #[serde(default)]
    pub only_failed: bool,
}

/// What will be delivered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Replay {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// From when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Only what was not taken.
    pub only_failed: bool,
}
