//! The bodies that make and change endpoints. They hold secrets, so that none of them can be printed.

use std::collections::BTreeMap;

use holdfast_domain::EventType;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use crate::manage::check::{self, TargetRules, UrlKind};
use crate::parse::{FieldErrors, escape};
use crate::webhook::{DELIVERY_EXHAUSTED, ENDPOINT_DISABLED, MAX_SCHEDULE_S, Speed, WebhookEndpoint};

/// The most headers of an endpoint.
const MAX_HEADERS: usize = 20;

/// The most attempts of an endpoint's own schedule.
const MAX_SCHEDULE_ENTRIES: usize = 30;

/// The longest delay between two attempts, in seconds: a day.
const MAX_SCHEDULE_DELAY_S: u32 = 86_400;

/// What makes an endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointBody {
    url: String,
    #[serde(default)]
    event_types: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    retry_schedule_seconds: Option<Vec<u32>>,
    enabled: Option<bool>,
}

impl EndpointBody {
    pub(super) fn judge(&self, rules: TargetRules, errors: &mut FieldErrors) {
        check::target_url(errors, "/url", &self.url, UrlKind::Whole, rules);
        judge_event_types(&self.event_types, errors);
        judge_headers(&self.headers, errors);
        if let Some(schedule) = &self.retry_schedule_seconds {
            judge_schedule(schedule, errors);
        }
    }

    /// A new endpoint with what the body says.
    pub(super) fn applied(self, endpoint: &WebhookEndpoint) -> WebhookEndpoint {
        let mut made = WebhookEndpoint {
            url: self.url,
            event_types: self.event_types,
            headers: secret_headers(&self.headers),
            enabled: self.enabled.unwrap_or(true),
            ..endpoint.clone()
        };
        if let Some(schedule) = self.retry_schedule_seconds {
            made.retry_schedule_seconds = schedule;
        }
        made
    }
}

/// What changes an endpoint. What is absent stays as it is; nothing can be `null`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchBody {
    #[serde(default, deserialize_with = "present")]
    url: Option<String>,
    #[serde(default, deserialize_with = "present")]
    event_types: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "present")]
    retry_schedule_seconds: Option<Vec<u32>>,
    #[serde(default, deserialize_with = "present")]
    enabled: Option<bool>,
}

fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl PatchBody {
    pub(super) fn judge(&self, rules: TargetRules, errors: &mut FieldErrors) {
        if let Some(url) = &self.url {
            check::target_url(errors, "/url", url, UrlKind::Whole, rules);
        }
        if let Some(event_types) = &self.event_types {
            judge_event_types(event_types, errors);
        }
        if let Some(headers) = &self.headers {
            judge_headers(headers, errors);
        }
        if let Some(schedule) = &self.retry_schedule_seconds {
            judge_schedule(schedule, errors);
        }
    }

    /// The endpoint with what the body says.
    pub(super) fn applied(&self, endpoint: &WebhookEndpoint) -> WebhookEndpoint {
        let mut changed = endpoint.clone();
        let is_elsewhere = self.url.as_ref().is_some_and(|url| *url != endpoint.url);
        let is_revived = self.enabled == Some(true) && !endpoint.enabled;
        if is_elsewhere || is_revived {
            changed.failing_since = None;
            changed.speed = Speed::default();
        }
        if let Some(enabled) = self.enabled
            && enabled != endpoint.enabled
        {
            changed.enabled = enabled;
            changed.disabled_reason = None;
        }
        if let Some(url) = &self.url {
            changed.url.clone_from(url);
        }
        if let Some(event_types) = &self.event_types {
            changed.event_types.clone_from(event_types);
        }
        if let Some(headers) = &self.headers {
            changed.headers = secret_headers(headers);
        }
        if let Some(schedule) = &self.retry_schedule_seconds {
            changed.retry_schedule_seconds.clone_from(schedule);
        }
        changed
    }
}

/// Names are kept in lower case: the case of their letters does not count.
fn secret_headers(headers: &BTreeMap<String, String>) -> BTreeMap<String, SecretString> {
    headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone().into())).collect()
}

fn judge_headers(headers: &BTreeMap<String, String>, errors: &mut FieldErrors) {
    if headers.len() > MAX_HEADERS {
        let detail = format!("has {} entries; at most {MAX_HEADERS} are allowed", headers.len());
        errors.push("/headers", detail);
    }
    for (index, (name, value)) in headers.iter().enumerate().take(MAX_HEADERS) {
        let pointer = format!("/headers/{}", escape(name));
        check::header_name(errors, &pointer, name);
        check::header_value(errors, &pointer, value);
        let mut before = headers.keys().take(index);
        if before.any(|known| known.eq_ignore_ascii_case(name)) {
            errors.push(pointer, "is there twice; the case of letters does not count");
        }
    }
}

fn judge_schedule(schedule: &[u32], errors: &mut FieldErrors) {
    if schedule.is_empty() || schedule.len() > MAX_SCHEDULE_ENTRIES {
        errors.push("/retry_schedule_seconds", format!("must have 1 to {MAX_SCHEDULE_ENTRIES} entries"));
    }
    // The item of a delivery has to outlast its schedule.
    let total_s: u64 = schedule.iter().copied().map(u64::from).sum();
    if total_s > u64::from(MAX_SCHEDULE_S) {
        let detail = format!("adds up to {total_s} seconds; at most {MAX_SCHEDULE_S} (14 days) are allowed");
        errors.push("/retry_schedule_seconds", detail);
    }
    for (index, delay_s) in schedule.iter().enumerate().take(MAX_SCHEDULE_ENTRIES) {
        if *delay_s > MAX_SCHEDULE_DELAY_S {
            let detail = format!("must be at most {MAX_SCHEDULE_DELAY_S}");
            errors.push(format!("/retry_schedule_seconds/{index}"), detail);
        }
    }
}

fn judge_event_types(event_types: &[String], errors: &mut FieldErrors) {
    let own = [ENDPOINT_DISABLED, DELIVERY_EXHAUSTED];
    let known: Vec<&str> = EventType::ALL.iter().map(|known| known.as_str()).chain(own).collect();
    if event_types.len() > known.len() {
        errors.push("/event_types", format!("has more entries than the {} types there are", known.len()));
        return;
    }
    for (index, event_type) in event_types.iter().enumerate() {
        let pointer = format!("/event_types/{index}");
        if !known.contains(&event_type.as_str()) {
            errors.push(pointer, format!("is not a type of event; known are {}", known.join(", ")));
        } else if event_types[..index].contains(event_type) {
            errors.push(pointer, "is there twice");
        }
    }
}
