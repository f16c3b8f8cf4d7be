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

#[cfg(test)]
mod tests {
    use holdfast_domain::{Tenant, Timestamp, WebhookEndpointId};
    use serde_json::json;

    use super::*;
    use crate::webhook::DisabledReason;

    fn faults(judge: impl Fn(&mut FieldErrors)) -> Vec<String> {
        let mut errors = FieldErrors::default();
        judge(&mut errors);
        errors.as_slice().iter().map(|error| error.pointer.clone()).collect()
    }

    #[test]
    fn headers_are_few_and_each_is_there_once() {
        let headers = |count: usize| -> BTreeMap<String, String> {
            (0..count).map(|number| (format!("x-{number}"), "a".to_owned())).collect()
        };
        assert_eq!(faults(|errors| judge_headers(&headers(MAX_HEADERS), errors)), [""; 0]);
        assert_eq!(faults(|errors| judge_headers(&headers(MAX_HEADERS + 1), errors)), ["/headers"]);
        let twice = ["X-A", "x-a"].map(|name| (name.to_owned(), "a".to_owned())).into();
        assert_eq!(faults(|errors| judge_headers(&twice, errors)), ["/headers/x-a"]);
    }

    #[test]
    fn a_schedule_has_so_many_entries_each_of_a_day_and_all_of_fourteen() {
        const POINTER: &str = "/retry_schedule_seconds";
        let judged = |schedule: &[u32]| faults(|errors| judge_schedule(schedule, errors));
        for fine in [&[0; MAX_SCHEDULE_ENTRIES][..], &[0], &[MAX_SCHEDULE_DELAY_S; 14]] {
            assert_eq!(judged(fine), [""; 0]);
        }
        for odd in [&[][..], &[0; MAX_SCHEDULE_ENTRIES + 1]] {
            assert_eq!(judged(odd), [POINTER]);
        }
        assert_eq!(judged(&[0, MAX_SCHEDULE_DELAY_S + 1]), [format!("{POINTER}/1")]);
        let a_second_too_long = [&[MAX_SCHEDULE_DELAY_S; 14][..], &[1]].concat();
        assert_eq!(judged(&a_second_too_long), [POINTER]);
    }

    #[test]
    fn all_types_of_event_may_be_named_each_once() {
        let judged = |names: &[String]| faults(|errors| judge_event_types(names, errors));
        let own = [ENDPOINT_DISABLED, DELIVERY_EXHAUSTED];
        let all: Vec<String> =
            EventType::ALL.iter().map(|known| known.as_str()).chain(own).map(str::to_owned).collect();
        assert_eq!(judged(&all), [""; 0]);
        assert_eq!(judged(&[all.clone(), all[..1].to_vec()].concat()), ["/event_types"]);
        assert_eq!(judged(&[all[..2].to_vec(), all[..1].to_vec()].concat()), ["/event_types/2"]);
        assert_eq!(judged(&["booking.imagined".to_owned()]), ["/event_types/0"]);
    }

    /// What is known of how it answers is of its URL, and of the time since somebody last said that it works.
    #[test]
    fn what_is_known_of_an_endpoint_is_forgotten_when_it_moves_or_is_revived() {
        let at = |ms| Timestamp::EPOCH.plus_ms(ms);
        let tenant = Tenant::parse("live:shop").unwrap();
        let id = WebhookEndpointId::from_bytes([1; 16]);
        let mut failing = WebhookEndpoint::new(id, tenant, "https://a", "a".into(), at(0));
        failing.failing_since = Some(at(1));
        failing.speed = Speed { slow_until: Some(at(2)), ..Speed::default() };
        let mut disabled = failing.clone();
        (disabled.enabled, disabled.disabled_reason) = (false, Some(DisabledReason::Failing));
        let patched = |endpoint: &WebhookEndpoint, body| {
            serde_json::from_value::<PatchBody>(body).unwrap().applied(endpoint)
        };
        let is_forgotten = |endpoint: &WebhookEndpoint, body| {
            let changed = patched(endpoint, body);
            (changed.failing_since.is_none(), changed.speed == Speed::default())
        };
        assert_eq!(is_forgotten(&failing, json!({"url": "https://b"})), (true, true));
        assert_eq!(is_forgotten(&failing, json!({"url": "https://a"})), (false, false));
        assert_eq!(is_forgotten(&failing, json!({"enabled": true})), (false, false));
        assert_eq!(is_forgotten(&failing, json!({"enabled": false})), (false, false));
        assert_eq!(is_forgotten(&failing, json!({})), (false, false));
        assert_eq!(is_forgotten(&disabled, json!({"enabled": true})), (true, true));
        assert_eq!(is_forgotten(&disabled, json!({})), (false, false));
        assert_eq!(patched(&disabled, json!({"enabled": true})).disabled_reason, None);
        assert_eq!(
            patched(&disabled, json!({"enabled": false})).disabled_reason,
            Some(DisabledReason::Failing)
        );
    }
}
