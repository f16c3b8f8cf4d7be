//! What administrators configure: consumers, providers and keys, as the use cases read them.

use std::fmt;

use holdfast_domain::{ConsumerId, KeyId, Mode, ProviderId, RetryPolicy, Tenant, Timestamp};
use secrecy::SecretString;

/// How long a background attempt waits for the provider unless configured, in milliseconds.
pub const DEFAULT_ATTEMPT_TIMEOUT_MS: u64 = 30_000;

/// The longest that a background attempt may wait for the provider, in milliseconds.
pub const MAX_ATTEMPT_TIMEOUT_MS: u64 = 60_000;

/// The shortest that a background attempt may wait for the provider, in milliseconds.
pub const MIN_ATTEMPT_TIMEOUT_MS: u64 = 1_000;

/// The wire protocol that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Holdfast's own, documented for providers in `infra/provider-openapi.yaml`.
    Holdfast,
}

impl Protocol {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        (text == Self::Holdfast.as_str()).then_some(Self::Holdfast)
    }
}

/// When a booking at a provider counts as confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmationMode {
    /// When the provider acknowledges it.
    Confirm,
}

impl ConfirmationMode {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        (text == Self::Confirm.as_str()).then_some(Self::Confirm)
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
    /// Where its protocol's paths begin; no trailing slash.
    pub base_url: String,
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
}

/// A consumer as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// Its name in URLs.
    pub consumer_id: ConsumerId,
    /// Its name for people.
    pub display_name: String,
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
