//! Webhook endpoints and the deliveries to them, as values.

use std::collections::BTreeMap;

use holdfast_domain::{EventId, Tenant, Timestamp, WebhookEndpointId};
use secrecy::SecretString;
use serde_json::{Value, json};

/// The most endpoints that a consumer may have.
pub const MAX_ENDPOINTS_PER_CONSUMER: usize = 50;

/// The delays before each attempt of a delivery unless the endpoint has its own, in seconds: at once,
/// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h.
pub const DEFAULT_RETRY_SCHEDULE_SECONDS: [u32; 8] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];

/// How long an endpoint has to answer, in milliseconds.
pub const POST_LIMIT_MS: u64 = 15_000;

/// For how long a secret that was replaced still signs, in milliseconds: 24 hours.
pub const OLD_SECRET_VALID_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many secrets that were replaced may still sign. Two, so that whoever lost the answer of a rotation and
/// rotates again goes on with the secret that is in use.
pub const MAX_OLD_SECRETS: usize = 2;

/// The longest that a schedule may take from the first attempt to the last, in seconds: 14 days.
pub const MAX_SCHEDULE_S: u32 = 14 * 24 * 60 * 60;

/// After so long of nothing but failures an endpoint is disabled, in milliseconds: five days.
pub const FAILING_LIMIT_MS: u64 = 5 * 24 * 60 * 60 * 1_000;

/// For how long a delivery and its attempts are kept, in milliseconds: 30 days.
pub const DELIVERY_KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// The type of the event that an endpoint was disabled.
pub const ENDPOINT_DISABLED: &str = "webhook_endpoint.disabled";

/// The type of the event that a delivery is given up.
pub const DELIVERY_EXHAUSTED: &str = "webhook.exhausted";

/// The type of the event that is sent to try an endpoint. It is never on the bus.
pub const ENDPOINT_TEST: &str = "webhook_endpoint.test";

/// Why an endpoint was disabled by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledReason {
    /// It answered 410.
    Gone,
    /// It failed for [`FAILING_LIMIT_MS`].
    Failing,
}

impl DisabledReason {
    /// The text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Gone, Self::Failing].into_iter().find(|reason| reason.as_str() == text)
    }
}

/// A secret that was replaced.
#[derive(Clone, Debug)]
pub struct OldSecret {
    /// The secret, `whsec_…`.
    pub secret: SecretString,
    /// From when on it signs no more.
    pub valid_until: Timestamp,
}

/// How fast an endpoint answers, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// Until when its deliveries go through the slow queue, because it took too long to answer one.
    pub slow_until: Option<Timestamp>,
    /// Until when it is tried a little at a time, because it did not answer one at all.
    pub hung_until: Option<Timestamp>,
}

/// Where a consumer wants to hear of events.
#[derive(Clone, Debug)]
pub struct WebhookEndpoint {
    /// Its identifier.
    pub id: WebhookEndpointId,
    /// Whose it is.
    pub tenant: Tenant,
    /// Where deliveries go.
    pub url: String,
    /// Which types of event; empty means all.
    pub event_types: Vec<String>,
    /// Headers that are sent with every delivery.
    pub headers: BTreeMap<String, SecretString>,
    /// The delays before each attempt, in seconds; never empty.
    pub retry_schedule_seconds: Vec<u32>,
    /// Whether anything is delivered.
    pub enabled: bool,
    /// Why it was disabled, unless its consumer did it.
    pub disabled_reason: Option<DisabledReason>,
    /// How often it was disabled by itself.
    pub times_disabled: u32,
    /// The secret that signs deliveries, `whsec_…`.
    pub secret: SecretString,
    /// Secrets that were replaced, the newest first.
    pub old_secrets: Vec<OldSecret>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How fast it answers.
    pub speed: Speed,
    /// The first failure since the last success.
    pub failing_since: Option<Timestamp>,
    /// Before when nobody takes a turn. It is read alone: writing an endpoint does not write it.
    pub next_turn_at: Option<Timestamp>,
    /// Counts the changes, from 1.
    pub rev: u64,
}

impl WebhookEndpoint {
    /// A new endpoint that is enabled and wants every event, by the usual schedule.
    pub fn new(
        id: WebhookEndpointId,
        tenant: Tenant,
        url: impl Into<String>,
        secret: SecretString,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            tenant,
            url: url.into(),
            event_types: Vec::new(),
            headers: BTreeMap::new(),
            retry_schedule_seconds: DEFAULT_RETRY_SCHEDULE_SECONDS.to_vec(),
            enabled: true,
            disabled_reason: None,
            times_disabled: 0,
            secret,
            old_secrets: Vec::new(),
            created_at,
            speed: Speed::default(),
            failing_since: None,
            next_turn_at: None,
            rev: 1,
        }
    }

    /// The secrets that sign at `now`, the newest first.
    pub fn secrets_at(&self, now: Timestamp) -> Vec<&SecretString> {
        let valid = self.old_secrets.iter().filter(|old| now < old.valid_until);
        std::iter::once(&self.secret).chain(valid.map(|old| &old.secret)).collect()
    }

    /// When the secret may be replaced again; `None` if at once. As many as may be still sign, and none of them
    /// ends before its time.
    pub fn next_rotation_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = || self.old_secrets.iter().map(|old| old.valid_until).filter(|until| now < *until);
        ends().min().filter(|_| ends().count() >= MAX_OLD_SECRETS)
    }

    /// The endpoint with a new secret; the one before signs as well for [`OLD_SECRET_VALID_MS`].
    #[must_use]
    pub fn with_secret(&self, secret: SecretString, now: Timestamp) -> Self {
        let replaced =
            OldSecret { secret: self.secret.clone(), valid_until: now.plus_ms(OLD_SECRET_VALID_MS) };
        let valid = self.old_secrets.iter().filter(|old| now < old.valid_until).cloned();
        let old_secrets = std::iter::once(replaced).chain(valid).collect();
        Self { secret, old_secrets, ..self.clone() }
    }

    /// The endpoint, disabled by itself.
    #[must_use]
    pub fn disabled(&self, reason: DisabledReason) -> Self {
        Self { enabled: false, disabled_reason: Some(reason), ..self.clone() }
    }

    /// Whether it has done nothing but fail for so long that it is to be disabled.
    pub fn has_failed_too_long(&self, now: Timestamp) -> bool {
        self.failing_since.is_some_and(|since| since.ms_until(now) >= FAILING_LIMIT_MS)
    }
}

/// An endpoint as its consumer sees it: headers by name alone, the secrets not at all.
pub fn endpoint_view(endpoint: &WebhookEndpoint, now: Timestamp) -> Value {
    let valid_until = endpoint.old_secrets.iter().map(|old| old.valid_until).max();
    json!({
        "id": endpoint.id.as_str(),
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "header_names": endpoint.headers.keys().collect::<Vec<_>>(),
        "retry_schedule_seconds": endpoint.retry_schedule_seconds,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason.map(DisabledReason::as_str),
        "failing_since": endpoint.failing_since,
        "previous_secret_valid_until": valid_until.filter(|until| now < *until),
        "created_at": endpoint.created_at,
    })
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// To which endpoint.
    pub endpoint_id: WebhookEndpointId,
    /// Whose endpoint it is.
    pub tenant: Tenant,
    /// Which event; it is also the `webhook-id`.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: String,
    /// The body, exactly as it is posted every time.
    pub body: String,
    /// When the event was taken up.
    pub created_at: Timestamp,
    /// Attempts begun so far in this round.
    pub attempts: u32,
    /// Attempts of the rounds before.
    pub earlier_attempts: u32,
    /// Which round it is, from 1: every replay begins one.
    pub round: u32,
    /// When this round began.
    pub round_at: Timestamp,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why the last attempt failed: a short code, never text from outside.
    pub last_error: Option<String>,
    /// Counts the item's writes, from 1.
    pub rev: u64,
}

impl Delivery {
    /// The number of the attempt begun last, over all rounds.
    pub fn attempt_number(&self) -> u32 {
        self.earlier_attempts.saturating_add(self.attempts)
    }
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Nobody is at work on it.
    Waiting {
        /// When the next attempt is due.
        next_attempt_at: Timestamp,
    },
    /// A worker holds the lease for an attempt.
    InFlight {
        /// The end of the lease.
        lease_until: Timestamp,
    },
    /// The receiver answered 2xx.
    Delivered {
        /// When.
        at: Timestamp,
    },
    /// The schedule is used up, or the endpoint is gone or disabled.
    Exhausted {
        /// When.
        at: Timestamp,
    },
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms).unwrap()
    }

    fn endpoint() -> WebhookEndpoint {
        let tenant = Tenant::parse("live:shop").unwrap();
        WebhookEndpoint::new(WebhookEndpointId::from_bytes([1; 16]), tenant, "https://a", "a".into(), at(0))
    }

    fn signing(endpoint: &WebhookEndpoint, now: i64) -> Vec<&str> {
        endpoint.secrets_at(at(now)).into_iter().map(ExposeSecret::expose_secret).collect()
    }

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn reasons_of_being_disabled_are_read_back() {
        for reason in [DisabledReason::Gone, DisabledReason::Failing] {
            assert_eq!(DisabledReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(DisabledReason::parse("xyzzy"), None);
    }

    #[test]
    fn a_replaced_secret_signs_for_24_hours_exactly() {
        let rotated = endpoint().with_secret("b".into(), at(1_000));
        assert_eq!(signing(&rotated, 1_000), ["b", "a"]);
        assert_eq!(signing(&rotated, 1_000 + DAY_MS - 1), ["b", "a"]);
        assert_eq!(signing(&rotated, 1_000 + DAY_MS), ["b"]);
        let shown = |now| endpoint_view(&rotated, at(now))["previous_secret_valid_until"].clone();
        assert_eq!(shown(1_000 + DAY_MS - 1), json!(at(1_000 + DAY_MS)));
        assert_eq!(shown(1_000 + DAY_MS), json!(null));
    }

    #[test]
    fn two_replaced_secrets_sign_each_for_its_own_time() {
        let once = endpoint().with_secret("b".into(), at(0));
        assert_eq!(once.next_rotation_at(at(10)), None);
        let twice = once.with_secret("c".into(), at(10));
        assert_eq!(signing(&twice, 10), ["c", "b", "a"]);
        assert_eq!(signing(&twice, DAY_MS), ["c", "b"]);
        assert_eq!(twice.next_rotation_at(at(DAY_MS - 1)), Some(at(DAY_MS)));
        assert_eq!(twice.next_rotation_at(at(DAY_MS)), None);
        let much_later = twice.with_secret("d".into(), at(10 + DAY_MS));
        assert_eq!(signing(&much_later, 10 + DAY_MS), ["d", "c"]);
        assert_eq!(much_later.old_secrets.len(), 1, "what signs no more is not kept");
    }

    #[test]
    fn five_days_of_failures_are_too_long() {
        let failing = WebhookEndpoint { failing_since: Some(at(7)), ..endpoint() };
        assert!(!failing.has_failed_too_long(at(7 + 5 * DAY_MS - 1)));
        assert!(failing.has_failed_too_long(at(7 + 5 * DAY_MS)));
        assert!(!endpoint().has_failed_too_long(at(50 * DAY_MS)));
    }
}
