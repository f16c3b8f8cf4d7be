//! What the inbox remembers: endpoints and the deliveries they got, both bounded. Knows nothing of serving.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_TIMESTAMP};

use crate::signature::{self, Signature};

/// The most deliveries kept. Older ones are forgotten.
const MAX_MESSAGES: usize = 10_000;
/// The most bytes of bodies kept, as they arrived. Older deliveries are forgotten.
const MAX_STORED_BYTES: usize = 64 * 1024 * 1024;
/// The most endpoints that can be configured.
const MAX_ENDPOINTS: usize = 1_000;
/// The longest delay that can be asked for.
const MAX_LATENCY_MS: u64 = 10 * 60 * 1000;

/// How an endpoint is to behave. The secret stays if it is left out; everything else goes back to normal.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EndpointSettings {
    secret: Option<String>,
    status: Option<u16>,
    fail_next: Option<u32>,
    retry_after_seconds: Option<u32>,
    latency_ms: u64,
    hang: bool,
}

impl EndpointSettings {
    fn check(&self) -> Result<(), String> {
        if self.secret.as_deref().is_some_and(|secret| !signature::is_usable_secret(secret)) {
            return Err("secret must be whsec_ and base64".to_owned());
        }
        if self.status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err("a status must be from 200 to 599".to_owned());
        }
        if self.latency_ms > MAX_LATENCY_MS {
            return Err(format!("latency_ms may be at most {MAX_LATENCY_MS}"));
        }
        Ok(())
    }

    fn shown(&self, name: &str) -> Value {
        json!({
            "endpoint": name,
            "has_secret": self.secret.is_some(),
            "status": self.status,
            "fail_next": self.fail_next,
            "retry_after_seconds": self.retry_after_seconds,
            "latency_ms": self.latency_ms,
            "hang": self.hang,
        })
    }

    /// The status for the next delivery, which uses up one of `fail_next`.
    fn next_status(&mut self) -> u16 {
        match (self.fail_next, self.status) {
            (None, status) => status.unwrap_or(200),
            (Some(0), _) => 200,
            (Some(left), status) => {
                self.fail_next = Some(left - 1);
                status.unwrap_or(500)
            }
        }
    }
}

/// One delivery as it arrived.
pub(super) struct Delivery {
    pub(super) endpoint: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) signature: Signature,
    pub(super) at: Timestamp,
}

/// How to answer a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnswerPlan {
    pub(super) sequence: u64,
    pub(super) status: u16,
    pub(super) retry_after_seconds: Option<u32>,
    pub(super) latency: Duration,
    pub(super) hang: bool,
}

/// A delivery as it is shown.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Message {
    /// Counts all deliveries since the start, so that gaps show what was forgotten.
    sequence: u64,
    received_at: String,
    endpoint: String,
    webhook_id: Option<String>,
    /// The `webhook-timestamp` header, in seconds.
    timestamp: Option<i64>,
    /// `None` if the endpoint's secret is not known.
    signature_valid: Option<bool>,
    signature_error: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    booking_id: Option<String>,
    /// Counts the deliveries of one `webhook_id` to one endpoint.
    attempt_number: u32,
    /// `None` if the sender got no answer, or has not got it yet.
    answered_status: Option<u16>,
    /// The body as JSON, or as a string if it is none.
    body: Value,
    #[serde(skip)]
    body_bytes: usize,
}

/// Which messages are shown. Absent: all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filter {
    endpoint: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    booking_id: Option<String>,
    webhook_id: Option<String>,
}

impl Filter {
    fn lets_through(&self, message: &Message) -> bool {
        let matches = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == found)
        };
        matches(&self.endpoint, Some(&message.endpoint))
            && matches(&self.event_type, message.event_type.as_deref())
            && matches(&self.booking_id, message.booking_id.as_deref())
            && matches(&self.webhook_id, message.webhook_id.as_deref())
    }
}

#[derive(Default)]
struct Inner {
    endpoints: BTreeMap<String, EndpointSettings>,
    messages: VecDeque<Message>,
    stored_bytes: usize,
    received: u64,
}

#[derive(Default)]
pub(super) struct Inbox {
    inner: Mutex<Inner>,
}

impl Inbox {
    // A panic elsewhere leaves no half-made change behind that would matter more than an answer.
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn configure(&self, name: String, mut settings: EndpointSettings) -> Result<Value, String> {
        settings.check()?;
        self.with(|inner| {
            if inner.endpoints.len() >= MAX_ENDPOINTS && !inner.endpoints.contains_key(&name) {
                return Err(format!("at most {MAX_ENDPOINTS} endpoints can be configured"));
            }
            let known_secret = inner.endpoints.get(&name).and_then(|known| known.secret.clone());
            settings.secret = settings.secret.or(known_secret);
            let shown = settings.shown(&name);
            inner.endpoints.insert(name, settings);
            Ok(shown)
        })
    }

    pub(super) fn endpoints(&self) -> Vec<Value> {
        self.with(|inner| inner.endpoints.iter().map(|(name, settings)| settings.shown(name)).collect())
    }

    pub(super) fn secret(&self, name: &str) -> Option<String> {
        self.with(|inner| inner.endpoints.get(name)?.secret.clone())
    }

    /// Keeps a delivery and says how to answer it.
    pub(super) fn receive(&self, delivery: Delivery) -> AnswerPlan {
        self.with(|inner| {
            inner.received += 1;
            let mut unknown = EndpointSettings::default();
            let settings = inner.endpoints.get_mut(&delivery.endpoint).unwrap_or(&mut unknown);
            let plan = AnswerPlan {
                sequence: inner.received,
                status: settings.next_status(),
                retry_after_seconds: settings.retry_after_seconds,
                latency: Duration::from_millis(settings.latency_ms),
                hang: settings.hang,
            };
            let message = message_of(delivery, plan.sequence, &inner.messages);
            inner.stored_bytes += message.body_bytes;
            inner.messages.push_back(message);
            while inner.messages.len() > MAX_MESSAGES || inner.stored_bytes > MAX_STORED_BYTES {
                let Some(oldest) = inner.messages.pop_front() else { break };
                inner.stored_bytes -= oldest.body_bytes;
            }
            plan
        })
    }

    pub(super) fn record_answer(&self, sequence: u64, status: u16) {
        self.with(|inner| {
            if let Some(message) = inner.messages.iter_mut().rev().find(|m| m.sequence == sequence) {
                message.answered_status = Some(status);
            }
        });
    }

    pub(super) fn messages(&self, filter: &Filter) -> Vec<Message> {
        self.with(|inner| {
            inner.messages.iter().filter(|message| filter.lets_through(message)).cloned().collect()
        })
    }

    pub(super) fn clear(&self) {
        self.with(|inner| {
            inner.messages.clear();
            inner.stored_bytes = 0;
        });
    }
}

fn message_of(delivery: Delivery, sequence: u64, earlier: &VecDeque<Message>) -> Message {
    let header =
        |name: &str| delivery.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let webhook_id = header(HEADER_WEBHOOK_ID);
    let timestamp = header(HEADER_WEBHOOK_TIMESTAMP).and_then(|value| value.parse().ok());
    let earlier_attempt = earlier.iter().rev().find(|message| {
        webhook_id.is_some() && message.webhook_id == webhook_id && message.endpoint == delivery.endpoint
    });
    let body = serde_json::from_slice(&delivery.body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&delivery.body).into_owned()));
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Message {
        sequence,
        received_at: delivery.at.to_string(),
        attempt_number: earlier_attempt.map_or(1, |message| message.attempt_number + 1),
        webhook_id,
        timestamp,
        signature_valid: delivery.signature.is_valid(),
        signature_error: match delivery.signature {
            Signature::Invalid(reason) => Some(reason),
            Signature::Valid | Signature::NotChecked => None,
        },
        event_type: text("/type"),
        booking_id: text("/data/id"),
        answered_status: None,
        body_bytes: delivery.body.len(),
        body,
        endpoint: delivery.endpoint,
    }
}
