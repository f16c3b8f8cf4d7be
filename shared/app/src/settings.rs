//! What administrators configure: consumers, providers and keys, as the use cases read them.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_domain::{
    ConfirmationMode, ConsumerId, KeyId, LocationId, Mode, ProviderId, RetryPolicy, Tenant, Timestamp, Zone,
};
use secrecy::SecretString;

/// How long a background attempt waits for the provider unless configured, in milliseconds.
pub const DEFAULT_ATTEMPT_TIMEOUT_MS: u64 = 30_000;

/// The longest that a background attempt may wait for the provider, in milliseconds.
pub const MAX_ATTEMPT_TIMEOUT_MS: u64 = 60_000;

/// The shortest that a background attempt may wait for the provider, in milliseconds.
pub const MIN_ATTEMPT_TIMEOUT_MS: u64 = 1_000;

/// The longest that the gate of a provider may take, in milliseconds, and what it takes unless configured.
pub const MAX_REAL_TIME_TIMEOUT_MS: u64 = 5_000;

/// When a notification is sent again, in seconds after it was first due, unless configured: Docplanner's
/// schedule of 1, 5 and 15 minutes.
pub const DEFAULT_NOTIFICATION_SCHEDULE_S: [u32; 3] = [60, 300, 900];

/// The wire protocol that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Holdfast's own, documented for providers in `infra/provider-openapi.yaml`.
    Holdfast,
    /// The callbacks of the Docplanner Integrations API.
    Docplanner,
    /// OCTO, Open Connectivity for Tourism.
    Octo,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Holdfast, Self::Docplanner, Self::Octo];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
            Self::Docplanner => "docplanner",
            Self::Octo => "octo",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == text)
    }

    /// The modes in which a booking can be confirmed over this protocol, the usual one first.
    pub fn confirmation_modes(self) -> &'static [ConfirmationMode] {
        match self {
            Self::Holdfast => &[ConfirmationMode::Confirm, ConfirmationMode::Notify],
            // Its gate books nothing, and nothing in it acknowledges a booking.
            Self::Docplanner => &[ConfirmationMode::Notify, ConfirmationMode::RealTime],
            // A booking is there only by the supplier's own confirmation.
            Self::Octo => &[ConfirmationMode::Confirm],
        }
    }
}

/// How it becomes known what is open at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvailabilitySource {
    /// The provider is asked.
    Ask,
    /// The provider tells.
    Push,
}

impl AvailabilitySource {
    /// Every source.
    pub const ALL: [Self; 2] = [Self::Ask, Self::Push];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Push => "push",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }

    /// What is usual: who can be asked is. The callbacks of Docplanner have no question for it.
    pub fn usual(protocol: Protocol, has_url: bool) -> Self {
        match protocol {
            Protocol::Holdfast | Protocol::Octo if has_url => Self::Ask,
            Protocol::Holdfast | Protocol::Octo | Protocol::Docplanner => Self::Push,
        }
    }
}

/// How Holdfast authenticates itself at a provider. Secrets cannot be printed.
#[derive(Clone, Debug)]
pub enum ProviderAuth {
    /// Not at all (the signature alone).
    None,
    /// `Authorization: Bearer <token>`.
    Bearer {
        /// The token.
        token: SecretString,
    },
    /// A header of the provider's choice.
    ApiKey {
        /// The header's name, lower case.
        header: String,
        /// Its value.
        value: SecretString,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user name; no colon.
        username: String,
        /// The password.
        password: SecretString,
    },
}

/// A provider as it is configured.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// Its name in URLs.
    pub provider_id: ProviderId,
    /// Its name for people.
    pub display_name: String,
    /// Which keys reach it.
    pub mode: Mode,
    /// Where its protocol's paths begin; no trailing slash. `None`: the provider fetches its notifications
    /// itself ([`ConfirmationMode::Notify`] alone).
    pub base_url: Option<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// When a booking counts as confirmed.
    pub confirmation: ConfirmationMode,
    /// How Holdfast authenticates itself there.
    pub auth: ProviderAuth,
    /// The secret with which requests to it are signed (Standard Webhooks, `whsec_…`).
    pub signing_secret: Option<SecretString>,
    /// When failed attempts are made again.
    pub retry: RetryPolicy,
    /// What a background attempt waits, in milliseconds.
    pub attempt_timeout_ms: u64,
    /// What the gate may take, in milliseconds ([`ConfirmationMode::RealTime`] alone).
    pub real_time_timeout_ms: u64,
    /// When a notification is sent again, in milliseconds after it was first due, the first first.
    pub notification_schedule_ms: Vec<u64>,
    /// Whether two bookings never get the same slot: provider, location, resource and start.
    pub exclusive_slots: bool,
    /// The unit that is booked where the consumer names none ([`Protocol::Octo`]).
    pub default_unit_id: Option<String>,
    /// What users are told for a provider's codes of refusal.
    pub decline_messages: BTreeMap<String, String>,
    /// How often it may be called a second; `None`: as often as wanted.
    pub requests_per_second: Option<u32>,
    /// How many attempts may be under way at once; `None`: as many as wanted.
    pub max_attempts_in_flight: Option<u32>,
    /// How it becomes known what is open there.
    pub availability: AvailabilitySource,
}

impl ProviderSettings {
    /// A provider of the native protocol with nothing configured but what has to be.
    pub fn usual(provider_id: ProviderId, mode: Mode, base_url: impl Into<String>) -> Self {
        Self {
            display_name: provider_id.as_str().to_owned(),
            provider_id,
            mode,
            base_url: Some(base_url.into()),
            protocol: Protocol::Holdfast,
            confirmation: ConfirmationMode::Confirm,
            auth: ProviderAuth::None,
            signing_secret: None,
            retry: RetryPolicy::DEFAULT,
            attempt_timeout_ms: DEFAULT_ATTEMPT_TIMEOUT_MS,
            real_time_timeout_ms: MAX_REAL_TIME_TIMEOUT_MS,
            notification_schedule_ms: DEFAULT_NOTIFICATION_SCHEDULE_S
                .map(|seconds| u64::from(seconds) * 1_000)
                .to_vec(),
            exclusive_slots: false,
            default_unit_id: None,
            decline_messages: BTreeMap::new(),
            requests_per_second: None,
            max_attempts_in_flight: None,
            availability: AvailabilitySource::Ask,
        }
    }

    /// How long one attempt of an operation may take at the most, in milliseconds.
    pub fn attempt_limit_ms(&self) -> u64 {
        match self.confirmation {
            ConfirmationMode::RealTime => self.real_time_timeout_ms.min(self.attempt_timeout_ms),
            ConfirmationMode::Confirm | ConfirmationMode::Notify => self.attempt_timeout_ms,
        }
    }

    /// Whether it may be called only so often, or by so many at once.
    pub fn is_limited(&self) -> bool {
        self.requests_per_second.is_some() || self.max_attempts_in_flight.is_some()
    }

    /// Whether the provider fetches its notifications.
    pub fn pulls(&self) -> bool {
        self.base_url.is_none()
    }
}

/// A location as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationSettings {
    /// The provider's own name for it.
    pub location_id: LocationId,
    /// Its name for people.
    pub display_name: String,
    /// Where it is, as far as clocks are concerned.
    pub zone: Zone,
    /// What is offered there, where the provider has to be asked for each service by itself
    /// ([`Protocol::Octo`]); empty otherwise.
    pub services: Vec<OfferedService>,
}

/// A service of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedService {
    /// The provider's product.
    pub service_id: String,
    /// The product's option; `None`: it has only one.
    pub resource_id: Option<String>,
}

/// A consumer as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// Its name in URLs.
    pub consumer_id: ConsumerId,
    /// Its name for people.
    pub display_name: String,
    /// How many requests it may make a second, on average over a minute; `None`: as many as is usual.
    pub requests_per_second: Option<u32>,
}

/// Whom a key belongs to, and so what it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOwner {
    /// A consumer's key.
    Consumer(ConsumerId),
    /// A provider's key.
    Provider(ProviderId),
    /// An administrator's key.
    Admin,
}

impl KeyOwner {
    /// The role's name inside a key: `consumer`, `provider` or `admin`.
    pub fn role(&self) -> &'static str {
        match self {
            Self::Consumer(_) => "consumer",
            Self::Provider(_) => "provider",
            Self::Admin => "admin",
        }
    }
}

/// SHA-256 of a whole API key. Keys carry 256 random bits, so that a plain hash suffices.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[key hash]")
    }
}

/// An API key as it is stored: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// By which it is found.
    pub key_id: KeyId,
    /// Whom it belongs to.
    pub owner: KeyOwner,
    /// Live or test.
    pub mode: Mode,
    /// What the presented key must hash to.
    pub hash: KeyHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it opens nothing; `None` while it is not revoked.
    pub revoked_from: Option<Timestamp>,
}

impl KeyRecord {
    /// Whether the key opens anything at `now`.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.revoked_from.is_none_or(|revoked_from| now < revoked_from)
    }

    /// The tenant that a consumer's key speaks for.
    pub fn tenant(&self) -> Option<Tenant> {
        match &self.owner {
            KeyOwner::Consumer(consumer_id) => {
                Some(Tenant { consumer_id: consumer_id.clone(), mode: self.mode })
            }
            KeyOwner::Provider(_) | KeyOwner::Admin => None,
        }
    }
}

/// A provider's circuit breaker, as all instances share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerState {
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Set while the circuit is not closed. Until this time nothing is sent; from it on one probe is.
    pub open_until: Option<Timestamp>,
    /// The end of the lease of the probe that is under way.
    pub probe_until: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::WebhookEndpoint;

    const MARK: &str = "zq-secret";

    fn secret() -> SecretString {
        SecretString::from(MARK)
    }

    #[test]
    fn no_credential_is_printed() {
        let usual =
            ProviderSettings::usual(ProviderId::parse("clinic").unwrap(), Mode::Test, "https://a.example");
        for auth in [
            ProviderAuth::Bearer { token: secret() },
            ProviderAuth::ApiKey { header: "x-key".to_owned(), value: secret() },
            ProviderAuth::Basic { username: "u".to_owned(), password: secret() },
        ] {
            let provider = ProviderSettings { auth, signing_secret: Some(secret()), ..usual.clone() };
            assert!(!format!("{provider:?}").contains(MARK));
        }
        let tenant = Tenant::parse("test:shop").unwrap();
        let id = holdfast_domain::WebhookEndpointId::from_bytes([1; 16]);
        let endpoint = WebhookEndpoint::new(id, tenant, "https://a.example", secret(), Timestamp::EPOCH);
        let headers = BTreeMap::from([("x-key".to_owned(), secret())]);
        let endpoint = WebhookEndpoint { headers, ..endpoint.with_secret(secret(), Timestamp::EPOCH) };
        assert!(!format!("{endpoint:?}").contains(MARK));
    }

    #[test]
    fn names_in_the_configuration_are_read_back() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::parse(protocol.as_str()), Some(protocol));
        }
        for source in AvailabilitySource::ALL {
            assert_eq!(AvailabilitySource::parse(source.as_str()), Some(source));
        }
        assert_eq!((Protocol::parse("xyzzy"), AvailabilitySource::parse("")), (None, None));
    }

    #[test]
    fn who_can_be_asked_what_is_open_is_asked() {
        use AvailabilitySource::{Ask, Push};
        let usual = |protocol| [true, false].map(|has_url| AvailabilitySource::usual(protocol, has_url));
        assert_eq!(usual(Protocol::Holdfast), [Ask, Push]);
        assert_eq!(usual(Protocol::Octo), [Ask, Push]);
        assert_eq!(usual(Protocol::Docplanner), [Push, Push]);
    }

    #[test]
    fn each_protocol_confirms_in_modes_of_its_own() {
        use ConfirmationMode::{Confirm, Notify, RealTime};
        assert_eq!(Protocol::Holdfast.confirmation_modes(), [Confirm, Notify]);
        assert_eq!(Protocol::Docplanner.confirmation_modes(), [Notify, RealTime]);
        assert_eq!(Protocol::Octo.confirmation_modes(), [Confirm]);
    }

    #[test]
    fn a_gate_is_waited_for_no_longer_than_its_own_limit() {
        let id = ProviderId::parse("clinic").unwrap();
        let usual = ProviderSettings::usual(id, Mode::Test, "https://clinic.example");
        let limit = |confirmation, real_time_timeout_ms| {
            let settings = ProviderSettings { confirmation, real_time_timeout_ms, ..usual.clone() };
            settings.attempt_limit_ms()
        };
        let long = usual.attempt_timeout_ms;
        assert_eq!(limit(ConfirmationMode::RealTime, 1_500), 1_500);
        assert_eq!(limit(ConfirmationMode::RealTime, long + 1), long);
        assert_eq!(limit(ConfirmationMode::Confirm, 1_500), long);
        assert_eq!(limit(ConfirmationMode::Notify, 1_500), long);
    }
}
