//! The storage structs of the configuration. They hold secrets, so that none of them can be printed.

use std::collections::BTreeMap;

use holdfast_app::ports::StoreError;
use holdfast_app::settings::{
    AvailabilitySource, BreakerState, ConsumerSettings, DEFAULT_NOTIFICATION_SCHEDULE_S, KeyHash, KeyOwner,
    KeyRecord, MAX_REAL_TIME_TIMEOUT_MS, Protocol, ProviderAuth, ProviderSettings,
};
use holdfast_app::webhook::{DisabledReason, OldSecret, Speed, WebhookEndpoint};
use holdfast_domain::{
    ConfirmationMode, ConsumerId, KeyId, Mode, ProviderId, RetryPolicy, Tenant, Timestamp, WebhookEndpointId,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::item::{Bytes, SdkItem, from_sdk_item, is_false, is_zero, to_sdk_item};

/// The partition of all consumers.
pub(super) const CONSUMERS: &str = "CONSUMERS";

/// The partition of all providers.
pub(super) const PROVIDERS: &str = "PROVIDERS";

/// The sort key of a key's record.
pub(super) const KEY_SK: &str = "KEY";

/// The sort key of a breaker.
pub(super) const BREAKER_SK: &str = "BREAKER";

pub(super) fn key_pk(id: &KeyId) -> String {
    format!("KEY#{id}")
}

pub(super) fn breaker_pk(id: &ProviderId) -> String {
    format!("BREAKER#{id}")
}

pub(super) fn limit_pk(id: &ProviderId) -> String {
    format!("LIMIT#{id}")
}

pub(super) fn endpoints_pk(tenant: &Tenant) -> String {
    format!("ENDPOINTS#{tenant}")
}

/// A key's owner in text: the role and, but for administrators, the name.
pub(super) fn owner_text(owner: &KeyOwner) -> String {
    match owner {
        KeyOwner::Consumer(id) => format!("{}#{id}", owner.role()),
        KeyOwner::Provider(id) => format!("{}#{id}", owner.role()),
        KeyOwner::Admin => owner.role().to_owned(),
    }
}

pub(super) fn owner_keys_pk(owner: &KeyOwner) -> String {
    format!("KEYS#{}", owner_text(owner))
}

fn owner_of(text: &str) -> Option<KeyOwner> {
    match text.split_once('#') {
        Some(("consumer", id)) => Some(KeyOwner::Consumer(ConsumerId::parse(id).ok()?)),
        Some(("provider", id)) => Some(KeyOwner::Provider(ProviderId::parse(id).ok()?)),
        None if text == KeyOwner::Admin.role() => Some(KeyOwner::Admin),
        _ => None,
    }
}

pub(super) fn corrupt(what: &str, attribute: &str) -> StoreError {
    StoreError::Corrupt(format!("{what}: attribute {attribute}"))
}

pub(super) fn time(what: &str, attribute: &str, unix_ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_unix_ms(unix_ms).map_err(|_| corrupt(what, attribute))
}

fn exposed(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

#[derive(Serialize, Deserialize)]
struct ConsumerItem {
    pk: String,
    sk: String,
    display_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<u32>,
}

pub(super) fn consumer_item(consumer: &ConsumerSettings) -> Result<SdkItem, StoreError> {
    let item = ConsumerItem {
        pk: CONSUMERS.to_owned(),
        sk: consumer.consumer_id.as_str().to_owned(),
        display_name: consumer.display_name.clone(),
        requests_per_second: consumer.requests_per_second,
    };
    to_sdk_item("consumer", &item)
}

pub(super) fn consumer_of(item: SdkItem) -> Result<ConsumerSettings, StoreError> {
    let item: ConsumerItem = from_sdk_item("consumer", item)?;
    let consumer_id = ConsumerId::parse(&item.sk).map_err(|_| corrupt("consumer", "sk"))?;
    let ConsumerItem { display_name, requests_per_second, .. } = item;
    Ok(ConsumerSettings { consumer_id, display_name, requests_per_second })
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AuthItem {
    None,
    Bearer { token: String },
    ApiKey { header: String, value: String },
    Basic { username: String, password: String },
}

#[derive(Serialize, Deserialize)]
struct ProviderItem {
    pk: String,
    sk: String,
    display_name: String,
    mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
    protocol: String,
    confirmation: String,
    auth: AuthItem,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
    first_delay_ms: u64,
    factor: u32,
    max_delay_ms: u64,
    attempt_timeout_ms: u64,
    // What follows, items of the first version do not have.
    #[serde(default = "default_real_time_timeout_ms")]
    real_time_timeout_ms: u64,
    #[serde(default = "default_notification_schedule_ms")]
    notification_schedule_ms: Vec<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    exclusive_slots: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_unit_id: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    decline_messages: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_attempts_in_flight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    availability: Option<String>,
}

fn default_real_time_timeout_ms() -> u64 {
    MAX_REAL_TIME_TIMEOUT_MS
}

fn default_notification_schedule_ms() -> Vec<u64> {
    DEFAULT_NOTIFICATION_SCHEDULE_S.map(|seconds| u64::from(seconds) * 1_000).to_vec()
}

fn auth_item(auth: &ProviderAuth) -> AuthItem {
    match auth {
        ProviderAuth::None => AuthItem::None,
        ProviderAuth::Bearer { token } => AuthItem::Bearer { token: exposed(token) },
        ProviderAuth::ApiKey { header, value } => {
            AuthItem::ApiKey { header: header.clone(), value: exposed(value) }
        }
        ProviderAuth::Basic { username, password } => {
            AuthItem::Basic { username: username.clone(), password: exposed(password) }
        }
    }
}

fn auth_of(item: AuthItem) -> ProviderAuth {
    match item {
        AuthItem::None => ProviderAuth::None,
        AuthItem::Bearer { token } => ProviderAuth::Bearer { token: token.into() },
        AuthItem::ApiKey { header, value } => ProviderAuth::ApiKey { header, value: value.into() },
        AuthItem::Basic { username, password } => ProviderAuth::Basic { username, password: password.into() },
    }
}

pub(super) fn provider_item(provider: &ProviderSettings) -> Result<SdkItem, StoreError> {
    let item = ProviderItem {
        pk: PROVIDERS.to_owned(),
        sk: provider.provider_id.as_str().to_owned(),
        display_name: provider.display_name.clone(),
        mode: provider.mode.as_str().to_owned(),
        base_url: provider.base_url.clone(),
        protocol: provider.protocol.as_str().to_owned(),
        confirmation: provider.confirmation.as_str().to_owned(),
        auth: auth_item(&provider.auth),
        signing_secret: provider.signing_secret.as_ref().map(exposed),
        first_delay_ms: provider.retry.first_delay_ms(),
        factor: provider.retry.factor(),
        max_delay_ms: provider.retry.max_delay_ms(),
        attempt_timeout_ms: provider.attempt_timeout_ms,
        real_time_timeout_ms: provider.real_time_timeout_ms,
        notification_schedule_ms: provider.notification_schedule_ms.clone(),
        exclusive_slots: provider.exclusive_slots,
        default_unit_id: provider.default_unit_id.clone(),
        decline_messages: provider.decline_messages.clone(),
        requests_per_second: provider.requests_per_second,
        max_attempts_in_flight: provider.max_attempts_in_flight,
        availability: Some(provider.availability.as_str().to_owned()),
    };
    to_sdk_item("provider", &item)
}

pub(super) fn provider_of(item: SdkItem) -> Result<ProviderSettings, StoreError> {
    let item: ProviderItem = from_sdk_item("provider", item)?;
    let malformed = |attribute| corrupt("provider", attribute);
    let protocol = Protocol::parse(&item.protocol).ok_or_else(|| malformed("protocol"))?;
    let availability = match &item.availability {
        Some(source) => AvailabilitySource::parse(source).ok_or_else(|| malformed("availability"))?,
        None => AvailabilitySource::usual(protocol, item.base_url.is_some()),
    };
    Ok(ProviderSettings {
        provider_id: ProviderId::parse(&item.sk).map_err(|_| malformed("sk"))?,
        display_name: item.display_name,
        mode: Mode::parse(&item.mode).ok_or_else(|| malformed("mode"))?,
        base_url: item.base_url,
        protocol,
        confirmation: ConfirmationMode::parse(&item.confirmation).ok_or_else(|| malformed("confirmation"))?,
        auth: auth_of(item.auth),
        signing_secret: item.signing_secret.map(Into::into),
        retry: RetryPolicy::new(item.first_delay_ms, item.factor, item.max_delay_ms)
            .map_err(|_| malformed("first_delay_ms"))?,
        attempt_timeout_ms: item.attempt_timeout_ms,
        real_time_timeout_ms: item.real_time_timeout_ms,
        notification_schedule_ms: item.notification_schedule_ms,
        exclusive_slots: item.exclusive_slots,
        default_unit_id: item.default_unit_id,
        decline_messages: item.decline_messages,
        requests_per_second: item.requests_per_second,
        max_attempts_in_flight: item.max_attempts_in_flight,
        availability,
    })
}

/// The attribute of a key's owner.
pub(super) const KEY_OWNER: &str = "owner";

/// The attribute of a key's end.
pub(super) const KEY_REVOKED_FROM: &str = "revoked_from";

#[derive(Serialize, Deserialize)]
struct KeyItem {
    pk: String,
    sk: String,
    key_id: String,
    owner: String,
    mode: String,
    hash: Bytes,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_from: Option<i64>,
}

pub(super) fn key_item(record: &KeyRecord) -> Result<SdkItem, StoreError> {
    let item = KeyItem {
        pk: key_pk(&record.key_id),
        sk: KEY_SK.to_owned(),
        key_id: record.key_id.as_str().to_owned(),
        owner: owner_text(&record.owner),
        mode: record.mode.as_str().to_owned(),
        hash: Bytes(record.hash.0.to_vec()),
        created_at: record.created_at.as_unix_ms(),
        revoked_from: record.revoked_from.map(Timestamp::as_unix_ms),
    };
    to_sdk_item("key", &item)
}

pub(super) fn key_of(item: SdkItem) -> Result<KeyRecord, StoreError> {
    let item: KeyItem = from_sdk_item("key", item)?;
    let malformed = |attribute| corrupt("key", attribute);
    Ok(KeyRecord {
        key_id: KeyId::parse(&item.key_id).map_err(|_| malformed("key_id"))?,
        owner: owner_of(&item.owner).ok_or_else(|| malformed("owner"))?,
        mode: Mode::parse(&item.mode).ok_or_else(|| malformed("mode"))?,
        hash: KeyHash(item.hash.0.as_slice().try_into().map_err(|_| malformed("hash"))?),
        created_at: time("key", "created_at", item.created_at)?,
        revoked_from: item.revoked_from.map(|from| time("key", "revoked_from", from)).transpose()?,
    })
}

/// The attribute of a breaker's failures.
pub(super) const FAILURES: &str = "failures";

/// The attribute of the time until which a circuit is open.
pub(super) const OPEN_UNTIL: &str = "open_until";

/// The attribute of the end of a probe's lease.
pub(super) const PROBE_UNTIL: &str = "probe_until";

#[derive(Deserialize)]
struct BreakerItem {
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    open_until: Option<i64>,
    #[serde(default)]
    probe_until: Option<i64>,
}

pub(super) fn breaker_of(item: SdkItem) -> Result<BreakerState, StoreError> {
    let item: BreakerItem = from_sdk_item("breaker", item)?;
    Ok(BreakerState {
        consecutive_failures: item.failures,
        open_until: item.open_until.map(|until| time("breaker", OPEN_UNTIL, until)).transpose()?,
        probe_until: item.probe_until.map(|until| time("breaker", PROBE_UNTIL, until)).transpose()?,
    })
}

/// The attribute that says whether an endpoint gets anything.
pub(super) const ENABLED: &str = "enabled";

/// The attribute of why an endpoint was disabled by itself.
pub(super) const DISABLED_REASON: &str = "disabled_reason";

/// The attribute that counts how often an endpoint was disabled by itself.
pub(super) const TIMES_DISABLED: &str = "times_disabled";

/// The attribute of the time until which an endpoint counts as slow.
pub(super) const SLOW_UNTIL: &str = "slow_until";

/// The attribute of the time until which an endpoint is tried a little at a time.
pub(super) const HUNG_UNTIL: &str = "hung_until";

/// The attribute of an endpoint's first failure since its last success.
pub(super) const FAILING_SINCE: &str = "failing_since";

/// The attribute of the time before which nobody takes a turn. It goes with the next change, which harms
/// nothing.
pub(super) const NEXT_TURN_AT: &str = "next_turn_at";

/// The attribute that counts an endpoint's changes.
pub(super) const REV: &str = "rev";

#[derive(Serialize, Deserialize)]
struct OldSecretItem {
    secret: String,
    valid_until: i64,
}

#[derive(Serialize, Deserialize)]
struct EndpointItem {
    pk: String,
    sk: String,
    tenant: String,
    url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    event_types: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    retry_schedule_seconds: Vec<u32>,
    enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    times_disabled: u32,
    secret: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    old_secrets: Vec<OldSecretItem>,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slow_until: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hung_until: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failing_since: Option<i64>,
    /// It is read alone.
    #[serde(default, skip_serializing)]
    next_turn_at: Option<i64>,
    /// Zero, if it is absent, is the revision of what a version wrote that had none.
    #[serde(default)]
    rev: u64,
}

pub(super) fn endpoint_item(endpoint: &WebhookEndpoint) -> Result<SdkItem, StoreError> {
    let headers = endpoint.headers.iter();
    let item = EndpointItem {
        pk: endpoints_pk(&endpoint.tenant),
        sk: endpoint.id.as_str().to_owned(),
        tenant: endpoint.tenant.to_string(),
        url: endpoint.url.clone(),
        event_types: endpoint.event_types.clone(),
        headers: headers.map(|(name, value)| (name.clone(), exposed(value))).collect(),
        retry_schedule_seconds: endpoint.retry_schedule_seconds.clone(),
        enabled: endpoint.enabled,
        disabled_reason: endpoint.disabled_reason.map(|reason| reason.as_str().to_owned()),
        times_disabled: endpoint.times_disabled,
        secret: exposed(&endpoint.secret),
        old_secrets: endpoint
            .old_secrets
            .iter()
            .map(|old| OldSecretItem {
                secret: exposed(&old.secret),
                valid_until: old.valid_until.as_unix_ms(),
            })
            .collect(),
        created_at: endpoint.created_at.as_unix_ms(),
        slow_until: endpoint.speed.slow_until.map(Timestamp::as_unix_ms),
        hung_until: endpoint.speed.hung_until.map(Timestamp::as_unix_ms),
        failing_since: endpoint.failing_since.map(Timestamp::as_unix_ms),
        next_turn_at: None,
        rev: endpoint.rev,
    };
    to_sdk_item("webhook endpoint", &item)
}

pub(super) fn endpoint_of(item: SdkItem) -> Result<WebhookEndpoint, StoreError> {
    const WHAT: &str = "webhook endpoint";
    let item: EndpointItem = from_sdk_item(WHAT, item)?;
    Ok(WebhookEndpoint {
        id: WebhookEndpointId::parse(&item.sk).map_err(|_| corrupt(WHAT, "sk"))?,
        tenant: Tenant::parse(&item.tenant).ok_or_else(|| corrupt(WHAT, "tenant"))?,
        url: item.url,
        event_types: item.event_types,
        headers: item.headers.into_iter().map(|(name, value)| (name, value.into())).collect(),
        retry_schedule_seconds: item.retry_schedule_seconds,
        enabled: item.enabled,
        disabled_reason: item
            .disabled_reason
            .map(|text| DisabledReason::parse(&text).ok_or_else(|| corrupt(WHAT, DISABLED_REASON)))
            .transpose()?,
        times_disabled: item.times_disabled,
        secret: item.secret.into(),
        old_secrets: item.old_secrets.into_iter().map(old_secret).collect::<Result<_, _>>()?,
        created_at: time(WHAT, "created_at", item.created_at)?,
        speed: Speed {
            slow_until: item.slow_until.map(|until| time(WHAT, SLOW_UNTIL, until)).transpose()?,
            hung_until: item.hung_until.map(|until| time(WHAT, HUNG_UNTIL, until)).transpose()?,
        },
        failing_since: item.failing_since.map(|since| time(WHAT, FAILING_SINCE, since)).transpose()?,
        next_turn_at: item.next_turn_at.map(|at| time(WHAT, NEXT_TURN_AT, at)).transpose()?,
        rev: item.rev,
    })
}

fn old_secret(item: OldSecretItem) -> Result<OldSecret, StoreError> {
    let valid_until = time("webhook endpoint", "old_secrets", item.valid_until)?;
    Ok(OldSecret { secret: item.secret.into(), valid_until })
}
