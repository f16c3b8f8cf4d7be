//! Keys and providers, remembered by the process for a short time, so that a warm process reads nothing.
//!
//! Ages are told by the wall clock: a process that was frozen wakes with the right time of day, whereas
//! its monotonic clock may have stood still, and a revoked key must not live on through that. What does
//! not exist is never remembered, so that a new key works at once. Breakers are not kept here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_domain::{KeyId, ProviderId, Timestamp};

use crate::auth::{PresentedKey, presented_key};
use crate::availability::BookingKeySecret;
use crate::ports::{Loaded, SettingsReader, StoreError, Wanted};
use crate::problem::{Problem, ProblemCode};
use crate::settings::{BreakerState, KeyRecord, ProviderSettings};

/// For how long a key or a provider is believed unread, in milliseconds. A revoked key must be dead
/// everywhere within 30 s.
pub const SETTINGS_MAX_AGE_MS: u64 = 30_000;

/// How old the secrets of booking keys are at least before they are read because of a key, in milliseconds.
const SECRETS_MIN_AGE_MS: u64 = 1_000;

/// The most keys, and the most providers, that a process remembers.
const MAX_REMEMBERED: usize = 4_096;

/// After how many seconds a caller may ask again when the configuration could not be read.
const RETRY_AFTER_S: u64 = 1;

/// What is known of the configuration.
#[derive(Clone, Debug, Default)]
pub struct KnownSettings {
    /// The key, if it was wanted and exists.
    pub key: Option<KeyRecord>,
    /// The provider, if it was wanted and exists.
    pub provider: Option<ProviderSettings>,
    /// The provider's breaker, if this very call read it from the store.
    pub breaker: Option<BreakerReading>,
    /// The secrets of booking keys, if they were wanted and there are any.
    pub booking_key_secrets: Vec<BookingKeySecret>,
}

/// A breaker as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerReading {
    /// What was read.
    pub state: BreakerState,
    /// When reading it began; it may be older by no more than the read took.
    pub read_at: Timestamp,
}

/// A reader of settings that remembers.
#[derive(Debug)]
pub struct SettingsCache<R> {
    reader: R,
    keys: Mutex<Remembered<KeyId, KeyRecord>>,
    providers: Mutex<Remembered<ProviderId, ProviderSettings>>,
    booking_key_secrets: Mutex<Remembered<(), Vec<BookingKeySecret>>>,
}

impl<R: SettingsReader> SettingsCache<R> {
    /// A cache that knows nothing yet.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            keys: Mutex::default(),
            providers: Mutex::default(),
            booking_key_secrets: Mutex::default(),
        }
    }

    /// Gives everything wanted. What is not remembered is read at once, in one round trip.
    pub async fn load(&self, wanted: &Wanted, now: Timestamp) -> Result<KnownSettings, StoreError> {
        let key = wanted.key_id.as_ref().and_then(|id| recall(&self.keys, id, now));
        self.load_beside(key, wanted, now).await
    }

    /// The same for whoever has looked for the key in memory already.
    async fn load_beside(
        &self,
        key: Option<KeyRecord>,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<KnownSettings, StoreError> {
        let mut known = KnownSettings {
            key,
            provider: wanted.provider_id.as_ref().and_then(|id| recall(&self.providers, id, now)),
            breaker: None,
            booking_key_secrets: Vec::new(),
        };
        if wanted.booking_key_secrets {
            known.booking_key_secrets = recall(&self.booking_key_secrets, &(), now).unwrap_or_default();
        }
        let missing = Wanted {
            key_id: wanted.key_id.clone().filter(|_| known.key.is_none()),
            provider_id: wanted.provider_id.clone().filter(|_| known.provider.is_none()),
            booking_key_secrets: wanted.booking_key_secrets && known.booking_key_secrets.is_empty(),
        };
        if missing == Wanted::default() {
            return Ok(known);
        }
        let Loaded { key, provider, breaker, booking_key_secrets } = self.reader.load(&missing).await?;
        if let Some(key) = key {
            remember(&self.keys, &key.key_id, &key, now);
            known.key = Some(key);
        }
        if let Some(provider) = provider {
            remember(&self.providers, &provider.provider_id, &provider, now);
            known.provider = Some(provider);
        }
        if !booking_key_secrets.is_empty() {
            remember(&self.booking_key_secrets, &(), &booking_key_secrets, now);
            known.booking_key_secrets = booking_key_secrets;
        }
        known.breaker = missing.provider_id.map(|_| BreakerReading { state: breaker, read_at: now });
        Ok(known)
    }

    /// The secrets of booking keys, for whoever met one that is not remembered: as they were within the last second,
    /// since anybody can make up keys. None if there are none.
    pub async fn other_booking_key_secrets(
        &self,
        now: Timestamp,
    ) -> Result<Vec<BookingKeySecret>, StoreError> {
        match recall_within(&self.booking_key_secrets, &(), now, SECRETS_MIN_AGE_MS) {
            Some(secrets) => Ok(secrets),
            None => self.reload_booking_key_secrets(now).await,
        }
    }

    /// The secrets of booking keys as they are now, whatever is remembered; none if there are none.
    pub async fn reload_booking_key_secrets(
        &self,
        now: Timestamp,
    ) -> Result<Vec<BookingKeySecret>, StoreError> {
        let wanted = Wanted { booking_key_secrets: true, ..Wanted::default() };
        let secrets = self.reader.load(&wanted).await?.booking_key_secrets;
        if !secrets.is_empty() {
            remember(&self.booking_key_secrets, &(), &secrets, now);
        }
        Ok(secrets)
    }

    /// Verifies the key of an `Authorization` header, and loads the provider that the request names, in
    /// the same read. Which role the key must have is for the caller to ask.
    pub async fn authenticate(
        &self,
        authorization: Option<&str>,
        provider_id: Option<&ProviderId>,
        now: Timestamp,
    ) -> Result<Authenticated, Problem> {
        self.verify(&presented_key(authorization)?, provider_id, now).await
    }

    /// The same for a key that was taken from its header already.
    pub async fn verify(
        &self,
        presented: &PresentedKey,
        provider_id: Option<&ProviderId>,
        now: Timestamp,
    ) -> Result<Authenticated, Problem> {
        let wanted = Wanted { provider_id: provider_id.cloned(), ..Wanted::default() };
        self.verify_with(presented, wanted, now).await
    }

    /// The same, with all else that is wanted.
    pub async fn verify_with(
        &self,
        presented: &PresentedKey,
        wanted: Wanted,
        now: Timestamp,
    ) -> Result<Authenticated, Problem> {
        let wanted = Wanted { key_id: Some(presented.key_id.clone()), ..wanted };
        // Nobody is refused by memory: a wrong secret costs the read that an unknown key costs, so that the time
        // does not tell whose key is in use.
        let remembered = recall(&self.keys, &presented.key_id, now);
        let opening = presented.verify(remembered.as_ref(), now).ok();
        let known = self.load_beside(opening, &wanted, now).await;
        let known = known.map_err(|error| configuration_problem(&error))?;
        let key = presented.verify(known.key.as_ref(), now)?;
        Ok(Authenticated {
            key,
            provider: known.provider,
            breaker: known.breaker,
            booking_key_secrets: known.booking_key_secrets,
        })
    }
}

/// Who calls, and what was loaded with the key.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The caller's key, verified.
    pub key: KeyRecord,
    /// The provider that the request names, if it exists.
    pub provider: Option<ProviderSettings>,
    /// The provider's breaker, if it was read just now.
    pub breaker: Option<BreakerReading>,
    /// The secrets of booking keys, if they were wanted and there are any.
    pub booking_key_secrets: Vec<BookingKeySecret>,
}

/// What a caller is told when the configuration cannot be read or written. The failure is logged here.
pub fn configuration_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "The configuration store is not available.");
            Problem::new(ProblemCode::StoreUnavailable, "Storage is not available at the moment.")
                .retry_after_s(RETRY_AFTER_S)
        }
        StoreError::Corrupt(_) | StoreError::Refused(_) => {
            tracing::error!(%error, "The configuration store failed.");
            Problem::new(ProblemCode::Internal, "The request could not be completed.")
        }
    }
}

impl<R: SettingsReader> SettingsReader for Arc<R> {
    fn load(&self, wanted: &Wanted) -> impl Future<Output = Result<Loaded, StoreError>> + Send {
        self.as_ref().load(wanted)
    }
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    read_at: Timestamp,
}

impl<V> Entry<V> {
    /// Whether it may still be believed.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.is_younger(now, SETTINGS_MAX_AGE_MS)
    }

    /// Whether it is so young. One from the future, as after a clock was set back, is not.
    fn is_younger(&self, now: Timestamp, max_age_ms: u64) -> bool {
        self.read_at <= now && self.read_at.ms_until(now) < max_age_ms
    }
}

#[derive(Debug)]
struct Remembered<K, V>(HashMap<K, Entry<V>>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

fn recall<K: Eq + Hash, V: Clone>(
    remembered: &Mutex<Remembered<K, V>>,
    key: &K,
    now: Timestamp,
) -> Option<V> {
    recall_within(remembered, key, now, SETTINGS_MAX_AGE_MS)
}

/// A value that was read less than `max_age_ms` milliseconds ago.
fn recall_within<K: Eq + Hash, V: Clone>(
    remembered: &Mutex<Remembered<K, V>>,
    key: &K,
    now: Timestamp,
    max_age_ms: u64,
) -> Option<V> {
    let remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    remembered.0.get(key).filter(|entry| entry.is_younger(now, max_age_ms)).map(|entry| entry.value.clone())
}

/// Keeps a value that was asked for at `read_at`: the time before the read, so that whatever changed
/// during it counts as not yet seen.
fn remember<K: Eq + Hash + Clone, V: Clone>(
    remembered: &Mutex<Remembered<K, V>>,
    key: &K,
    value: &V,
    read_at: Timestamp,
) {
    let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    if remembered.0.len() >= MAX_REMEMBERED && !remembered.0.contains_key(key) {
        remembered.0.retain(|_, entry| entry.is_fresh(read_at));
        if remembered.0.len() >= MAX_REMEMBERED {
            // More is in use than is kept: starting over is simpler than ordering, and as correct.
            remembered.0.clear();
        }
    }
    remembered.0.insert(key.clone(), Entry { value: value.clone(), read_at });
}

#[cfg(test)]
mod tests;
