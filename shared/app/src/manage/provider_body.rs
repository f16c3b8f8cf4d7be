//! What an administrator writes of a provider, from the body to the settings.
//!
//! A setting that does not belong to the provider's protocol and mode is refused where it stands: whoever
//! wrote it expects something of it that would not happen.

use std::collections::BTreeMap;

use holdfast_domain::{ConfirmationMode, Mode, ProviderId, RetryPolicy, RetryPolicyError};
use secrecy::SecretString;
use serde::Deserialize;

use super::check::{self, TargetRules, UrlKind};
use crate::bookings::{MAX_ID_CHARS, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS};
use crate::parse::{FieldErrors, escape};
use crate::settings::{
    AvailabilitySource, DEFAULT_ATTEMPT_TIMEOUT_MS, DEFAULT_NOTIFICATION_SCHEDULE_S, MAX_ATTEMPT_TIMEOUT_MS,
    MAX_REAL_TIME_TIMEOUT_MS, MIN_ATTEMPT_TIMEOUT_MS, Protocol, ProviderAuth, ProviderSettings,
};

/// The shortest that a gate may be given, in milliseconds: a connection over TLS has to fit into it.
const MIN_REAL_TIME_TIMEOUT_MS: u64 = 500;

/// The most further attempts that a schedule of notifications may have.
const MAX_SCHEDULE_ENTRIES: usize = 10;

/// The latest further attempt of a notification, in seconds after it was first due: a day.
const MAX_SCHEDULE_DELAY_S: u32 = 86_400;

/// The most codes of refusal that may have a text.
const MAX_DECLINE_MESSAGES: usize = 50;

/// The most calls a second that can be configured: what one item in DynamoDB can count.
const MAX_REQUESTS_PER_SECOND: u32 = 1_000;

/// The most attempts in flight that can be configured: what fits into one small item.
const MAX_ATTEMPTS_IN_FLIGHT: u32 = 100;

// The bodies have no Debug: they hold secrets in the clear.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderBody {
    name: String,
    mode: String,
    base_url: Option<String>,
    protocol: Option<String>,
    confirmation: Option<String>,
    #[serde(default)]
    auth: AuthBody,
    signing_secret: Option<String>,
    retry: Option<RetryBody>,
    attempt_timeout_millisecond: Option<u64>,
    real_time_timeout_millisecond: Option<u64>,
    notification_schedule_seconds: Option<Vec<u32>>,
    exclusive_slots: Option<bool>,
    default_unit_id: Option<String>,
    decline_messages: Option<BTreeMap<String, String>>,
    requests_per_second: Option<u32>,
    max_attempts_in_flight: Option<u32>,
    availability: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthBody {
    #[serde(rename = "type")]
    kind: String,
    token: Option<String>,
    header: Option<String>,
    value: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Default for AuthBody {
    fn default() -> Self {
        let kind = AUTH_NONE.to_owned();
        Self { kind, token: None, header: None, value: None, username: None, password: None }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    first_delay_millisecond: Option<u64>,
    factor: Option<u32>,
    max_delay_millisecond: Option<u64>,
}

const AUTH_NONE: &str = "none";
const AUTH_BEARER: &str = "bearer";
const AUTH_API_KEY: &str = "api_key";
const AUTH_BASIC: &str = "basic";

/// The name of the kind of credentials.
pub(super) fn auth_name(auth: &ProviderAuth) -> &'static str {
    match auth {
        ProviderAuth::None => AUTH_NONE,
        ProviderAuth::Bearer { .. } => AUTH_BEARER,
        ProviderAuth::ApiKey { .. } => AUTH_API_KEY,
        ProviderAuth::Basic { .. } => AUTH_BASIC,
    }
}

/// How bookings at the provider come about.
#[derive(Clone, Copy)]
struct Kind {
    protocol: Protocol,
    confirmation: ConfirmationMode,
}

impl Kind {
    /// What everything else is read by while the kind itself is not known.
    const UNKNOWN: Self = Self { protocol: Protocol::Holdfast, confirmation: ConfirmationMode::Confirm };
}

/// Reads a body. What is wrong is added to the errors and stands as something harmless in the result.
pub(super) fn read(
    body: ProviderBody,
    provider_id: ProviderId,
    rules: TargetRules,
    errors: &mut FieldErrors,
) -> ProviderSettings {
    check::display_name(errors, "/name", &body.name);
    let mode = Mode::parse(&body.mode).unwrap_or_else(|| {
        errors.push("/mode", "must be live or test");
        Mode::Test
    });
    let kind = read_kind(body.protocol.as_deref(), body.confirmation.as_deref(), errors);
    if let Some(kind) = kind {
        refuse_foreign(&body, kind, errors);
    }
    let signing_secret = body.signing_secret.map(SecretString::from);
    if let Some(secret) = &signing_secret {
        check::secret(errors, "/signing_secret", secret);
    }
    let attempt_timeout_ms = body.attempt_timeout_millisecond.unwrap_or(DEFAULT_ATTEMPT_TIMEOUT_MS);
    let (least, most) = (MIN_ATTEMPT_TIMEOUT_MS, MAX_ATTEMPT_TIMEOUT_MS);
    check::range(errors, "/attempt_timeout_millisecond", attempt_timeout_ms, least, most);
    let real_time_timeout_ms = body.real_time_timeout_millisecond.unwrap_or(MAX_REAL_TIME_TIMEOUT_MS);
    let (least, most) = (MIN_REAL_TIME_TIMEOUT_MS, MAX_REAL_TIME_TIMEOUT_MS);
    check::range(errors, "/real_time_timeout_millisecond", real_time_timeout_ms, least, most);
    if let Some(unit_id) = &body.default_unit_id {
        check::name(errors, "/default_unit_id", unit_id, MAX_ID_CHARS);
    }
    limit(errors, "/requests_per_second", body.requests_per_second, MAX_REQUESTS_PER_SECOND);
    limit(errors, "/max_attempts_in_flight", body.max_attempts_in_flight, MAX_ATTEMPTS_IN_FLIGHT);
    let Kind { protocol, confirmation } = kind.unwrap_or(Kind::UNKNOWN);
    let base_url = read_base_url(body.base_url, kind, rules, errors);
    let availability = read_availability(body.availability.as_deref(), protocol, base_url.is_some(), errors);
    ProviderSettings {
        provider_id,
        display_name: body.name,
        mode,
        base_url,
        protocol,
        confirmation,
        auth: read_auth(body.auth, errors),
        signing_secret,
        retry: read_retry(&body.retry.unwrap_or_default(), errors),
        attempt_timeout_ms,
        real_time_timeout_ms,
        notification_schedule_ms: read_schedule(body.notification_schedule_seconds, errors),
        exclusive_slots: body.exclusive_slots.unwrap_or_default(),
        default_unit_id: body.default_unit_id,
        decline_messages: read_decline_messages(body.decline_messages, errors),
        requests_per_second: body.requests_per_second,
        max_attempts_in_flight: body.max_attempts_in_flight,
        availability,
    }
}

/// How it becomes known what is open: as it is named, or as is usual.
fn read_availability(
    named: Option<&str>,
    protocol: Protocol,
    has_url: bool,
    errors: &mut FieldErrors,
) -> AvailabilitySource {
    const POINTER: &str = "/availability";
    let usual = AvailabilitySource::usual(protocol, has_url);
    let Some(named) = named else { return usual };
    let Some(source) = AvailabilitySource::parse(named) else {
        let sources = AvailabilitySource::ALL.map(AvailabilitySource::as_str);
        errors.push(POINTER, format!("must be one of {}", sources.join(", ")));
        return usual;
    };
    if source == AvailabilitySource::Ask && usual == AvailabilitySource::Push {
        errors.push(POINTER, "cannot be ask: nobody can be asked by this protocol, or without base_url");
    }
    source
}

/// The kind as it is named, even if such a pair is not possible: the other errors are told by it.
fn read_kind(protocol: Option<&str>, confirmation: Option<&str>, errors: &mut FieldErrors) -> Option<Kind> {
    let protocol = match protocol {
        None => Some(Protocol::Holdfast),
        Some(name) => Protocol::parse(name),
    };
    if protocol.is_none() {
        errors
            .push("/protocol", format!("must be one of {}", Protocol::ALL.map(Protocol::as_str).join(", ")));
    }
    let named = confirmation.map(ConfirmationMode::parse);
    if named == Some(None) {
        let modes = ConfirmationMode::ALL.map(ConfirmationMode::as_str);
        errors.push("/confirmation", format!("must be one of {}", modes.join(", ")));
    }
    let protocol = protocol?;
    let possible = protocol.confirmation_modes();
    let confirmation = match named {
        Some(named) => named?,
        None => *possible.first()?,
    };
    if !possible.contains(&confirmation) {
        let possible: Vec<&str> = possible.iter().map(|mode| mode.as_str()).collect();
        let detail =
            format!("is not possible with protocol {}; possible: {}", protocol.as_str(), possible.join(", "));
        errors.push("/confirmation", detail);
    }
    Some(Kind { protocol, confirmation })
}

/// Refuses what does not belong to the kind of provider.
fn refuse_foreign(body: &ProviderBody, kind: Kind, errors: &mut FieldErrors) {
    if body.real_time_timeout_millisecond.is_some() && kind.confirmation != ConfirmationMode::RealTime {
        errors.push("/real_time_timeout_millisecond", "belongs to confirmation real_time alone");
    }
    if body.notification_schedule_seconds.is_some() && !kind.confirmation.tells() {
        errors.push("/notification_schedule_seconds", "belongs to confirmation notify and real_time alone");
    }
    if body.default_unit_id.is_some() && kind.protocol != Protocol::Octo {
        errors.push("/default_unit_id", "belongs to protocol octo alone");
    }
    if body.base_url.is_some() || kind.confirmation != ConfirmationMode::Notify {
        return;
    }
    let of_calls = [
        ("/auth", body.auth.kind != AUTH_NONE),
        ("/signing_secret", body.signing_secret.is_some()),
        ("/retry", body.retry.is_some()),
        ("/attempt_timeout_millisecond", body.attempt_timeout_millisecond.is_some()),
        ("/notification_schedule_seconds", body.notification_schedule_seconds.is_some()),
        ("/requests_per_second", body.requests_per_second.is_some()),
        ("/max_attempts_in_flight", body.max_attempts_in_flight.is_some()),
    ];
    for (pointer, is_given) in of_calls {
        if is_given {
            errors.push(pointer, "does not belong to a provider without base_url, which is never called");
        }
    }
}

fn read_base_url(
    base_url: Option<String>,
    kind: Option<Kind>,
    rules: TargetRules,
    errors: &mut FieldErrors,
) -> Option<String> {
    let Some(base_url) = base_url else {
        if kind.is_some_and(|kind| kind.confirmation != ConfirmationMode::Notify) {
            errors.push("/base_url", "is required, but with confirmation notify");
        }
        return None;
    };
    check::target_url(errors, "/base_url", &base_url, UrlKind::Base, rules);
    Some(base_url.trim_end_matches('/').to_owned())
}

/// The schedule in milliseconds. Each entry is a time after the notification was first due, so that they rise.
fn read_schedule(schedule_s: Option<Vec<u32>>, errors: &mut FieldErrors) -> Vec<u64> {
    const POINTER: &str = "/notification_schedule_seconds";
    let schedule_s = schedule_s.unwrap_or_else(|| DEFAULT_NOTIFICATION_SCHEDULE_S.to_vec());
    if schedule_s.len() > MAX_SCHEDULE_ENTRIES {
        errors.push(POINTER, format!("must have at most {MAX_SCHEDULE_ENTRIES} entries"));
    }
    let mut before_s = 0;
    for (index, delay_s) in schedule_s.iter().enumerate().take(MAX_SCHEDULE_ENTRIES) {
        if *delay_s <= before_s || *delay_s > MAX_SCHEDULE_DELAY_S {
            let detail = format!("must be more than the entry before, from 1 to {MAX_SCHEDULE_DELAY_S}");
            errors.push(format!("{POINTER}/{index}"), detail);
        }
        before_s = *delay_s;
    }
    schedule_s.into_iter().map(|delay_s| u64::from(delay_s) * 1_000).collect()
}

fn read_decline_messages(
    messages: Option<BTreeMap<String, String>>,
    errors: &mut FieldErrors,
) -> BTreeMap<String, String> {
    let messages = messages.unwrap_or_default();
    if messages.len() > MAX_DECLINE_MESSAGES {
        let detail = format!("has {} entries; at most {MAX_DECLINE_MESSAGES} are allowed", messages.len());
        errors.push("/decline_messages", detail);
    }
    for (code, message) in messages.iter().take(MAX_DECLINE_MESSAGES) {
        let pointer = format!("/decline_messages/{}", escape(code));
        check::field_name(errors, &pointer, code, MAX_PROVIDER_CODE_CHARS);
        check::text(errors, &pointer, message, MAX_PROVIDER_MESSAGE_CHARS);
    }
    messages
}

fn limit(errors: &mut FieldErrors, pointer: &str, value: Option<u32>, most: u32) {
    if let Some(value) = value {
        check::range(errors, pointer, value.into(), 1, most.into());
    }
}

/// Reads the credentials: what the type needs, and nothing else.
fn read_auth(body: AuthBody, errors: &mut FieldErrors) -> ProviderAuth {
    let needed: &[&str] = match body.kind.as_str() {
        AUTH_NONE => &[],
        AUTH_BEARER => &["token"],
        AUTH_API_KEY => &["header", "value"],
        AUTH_BASIC => &["username", "password"],
        _ => {
            errors.push("/auth/type", "must be one of none, bearer, api_key, basic");
            return ProviderAuth::None;
        }
    };
    let given = [
        ("token", &body.token),
        ("header", &body.header),
        ("value", &body.value),
        ("username", &body.username),
        ("password", &body.password),
    ];
    for (name, value) in given {
        let pointer = format!("/auth/{name}");
        match (needed.contains(&name), value) {
            (true, None) => errors.push(pointer, format!("is required with type {}", body.kind)),
            (false, Some(_)) => errors.push(pointer, format!("does not belong to type {}", body.kind)),
            (true, Some(value)) if name == "header" => check::header_name(errors, &pointer, value),
            (true, Some(value)) => check::header_value(errors, &pointer, value),
            (false, None) => {}
        }
    }
    let secret = |value: Option<String>| SecretString::from(value.unwrap_or_default());
    match body.kind.as_str() {
        AUTH_BEARER => ProviderAuth::Bearer { token: secret(body.token) },
        AUTH_API_KEY => ProviderAuth::ApiKey {
            header: body.header.unwrap_or_default().to_ascii_lowercase(),
            value: secret(body.value),
        },
        AUTH_BASIC => {
            let username = body.username.unwrap_or_default();
            if username.contains(':') {
                errors.push("/auth/username", "must not have a colon");
            }
            ProviderAuth::Basic { username, password: secret(body.password) }
        }
        _ => ProviderAuth::None,
    }
}

/// Reads the policy; what is left out is as by default. Each number at fault is named.
fn read_retry(body: &RetryBody, errors: &mut FieldErrors) -> RetryPolicy {
    let default = RetryPolicy::DEFAULT;
    let mut first_delay_ms = body.first_delay_millisecond.unwrap_or(default.first_delay_ms());
    let mut factor = body.factor.unwrap_or(default.factor());
    let mut max_delay_ms = body.max_delay_millisecond.unwrap_or(default.max_delay_ms());
    loop {
        let error = match RetryPolicy::new(first_delay_ms, factor, max_delay_ms) {
            Ok(policy) => return policy,
            Err(error) => error,
        };
        // The policy names one number at a time; with that one put right it names the next.
        let field = match error {
            RetryPolicyError::FirstDelay => {
                first_delay_ms = 1;
                "first_delay_millisecond"
            }
            RetryPolicyError::Factor => {
                factor = default.factor();
                "factor"
            }
            RetryPolicyError::MaxDelay => {
                max_delay_ms = default.max_delay_ms();
                "max_delay_millisecond"
            }
        };
        let message = error.to_string();
        errors.push(format!("/retry/{field}"), message.trim_start_matches(field).trim_start());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(change: impl FnOnce(&mut Value)) -> (ProviderSettings, Vec<String>) {
        let mut body = json!({"name": "Clinic", "mode": "test", "base_url": "https://clinic.example"});
        change(&mut body);
        let mut errors = FieldErrors::default();
        let rules = TargetRules { allow_plain_http: false };
        let id = ProviderId::parse("clinic").unwrap();
        let settings = read(serde_json::from_value(body).unwrap(), id, rules, &mut errors);
        (settings, errors.as_slice().iter().map(|error| error.pointer.clone()).collect())
    }

    fn faults(change: impl FnOnce(&mut Value)) -> Vec<String> {
        judged(change).1
    }

    #[test]
    fn a_schedule_of_notifications_rises_within_a_day() {
        let notify = |schedule: &[u32]| {
            let schedule = json!(schedule);
            faults(|body| {
                body["confirmation"] = json!("notify");
                body["notification_schedule_seconds"] = schedule;
            })
        };
        let rising = |count: u32| (1..=count).collect::<Vec<u32>>();
        let most = u32::try_from(MAX_SCHEDULE_ENTRIES).unwrap();
        for fine in [rising(0), rising(most), vec![MAX_SCHEDULE_DELAY_S]] {
            assert_eq!(notify(&fine), [""; 0]);
        }
        assert_eq!(notify(&rising(most + 1)), ["/notification_schedule_seconds"]);
        for odd in [[1, 1], [2, 1], [1, MAX_SCHEDULE_DELAY_S + 1]] {
            assert_eq!(notify(&odd), ["/notification_schedule_seconds/1"]);
        }
        assert_eq!(notify(&[0]), ["/notification_schedule_seconds/0"]);
    }

    #[test]
    fn so_many_codes_of_refusal_have_a_text() {
        let messages = |count: usize| {
            let texts: BTreeMap<String, &str> = (0..count).map(|code| (code.to_string(), "No.")).collect();
            faults(|body| body["decline_messages"] = json!(texts))
        };
        assert_eq!(messages(MAX_DECLINE_MESSAGES), [""; 0]);
        assert_eq!(messages(MAX_DECLINE_MESSAGES + 1), ["/decline_messages"]);
    }

    #[test]
    fn credentials_are_judged_as_what_they_are() {
        let auth = |auth: Value| faults(|body| body["auth"] = auth);
        assert_eq!(
            auth(json!({"type": "bearer", "token": "a=b c"})),
            [""; 0],
            "a value may have what no name may"
        );
        assert_eq!(auth(json!({"type": "api_key", "header": "X-Key", "value": "a=b"})), [""; 0]);
        assert_eq!(auth(json!({"type": "api_key", "header": "X Key", "value": "a"})), ["/auth/header"]);
    }

    #[test]
    fn only_who_can_be_asked_what_is_open_may_be_asked() {
        let source = |named: &str, has_url: bool| {
            let named = json!(named);
            let (settings, faults) = judged(|body| {
                body["confirmation"] = json!("notify");
                body["availability"] = named;
                if !has_url {
                    body.as_object_mut().unwrap().remove("base_url");
                }
            });
            (settings.availability, faults.is_empty())
        };
        assert_eq!(source("ask", true), (AvailabilitySource::Ask, true));
        assert_eq!(source("push", true), (AvailabilitySource::Push, true));
        assert_eq!(source("push", false), (AvailabilitySource::Push, true));
        assert!(!source("ask", false).1);
        assert!(!source("guess", true).1);
    }
}
