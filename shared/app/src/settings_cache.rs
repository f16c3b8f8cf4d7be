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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use holdfast_domain::{ConsumerId, Mode};
    use secrecy::ExposeSecret;

    use super::*;
    use crate::auth::new_key;
    use crate::settings::{KeyHash, KeyOwner};
    use crate::test_util::SeededEntropy;

    struct Reader {
        key: Mutex<Option<KeyRecord>>,
        secrets: Mutex<Vec<BookingKeySecret>>,
        reads: AtomicUsize,
    }

    impl SettingsReader for Reader {
        async fn load(&self, wanted: &Wanted) -> Result<Loaded, StoreError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let key = wanted.key_id.as_ref().and_then(|_| self.key.lock().unwrap().clone());
            let named = |id: &ProviderId| ProviderSettings::usual(id.clone(), Mode::Test, "https://a");
            let secrets = wanted.booking_key_secrets.then(|| self.secrets.lock().unwrap().clone());
            Ok(Loaded {
                key,
                provider: wanted.provider_id.as_ref().map(named),
                booking_key_secrets: secrets.unwrap_or_default(),
                ..Loaded::default()
            })
        }
    }

    fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms).unwrap()
    }

    fn key(number: u8) -> KeyRecord {
        KeyRecord {
            key_id: KeyId::from_bytes([number; 16]),
            owner: KeyOwner::Consumer(ConsumerId::parse("c").unwrap()),
            mode: Mode::Test,
            hash: KeyHash([0; 32]),
            created_at: at(0),
            revoked_from: None,
        }
    }

    fn cache(key: Option<KeyRecord>) -> SettingsCache<Arc<Reader>> {
        let secrets = Mutex::default();
        SettingsCache::new(Arc::new(Reader { key: Mutex::new(key), secrets, reads: AtomicUsize::new(0) }))
    }

    fn reads(cache: &SettingsCache<Arc<Reader>>) -> usize {
        cache.reader.reads.load(Ordering::Relaxed)
    }

    fn wanting(key: &KeyRecord) -> Wanted {
        Wanted { key_id: Some(key.key_id.clone()), ..Wanted::default() }
    }

    #[tokio::test]
    async fn a_warm_cache_reads_nothing_and_forgets_after_its_time() {
        let cache = cache(Some(key(1)));
        for (now, expected_reads) in [(0, 1), (1, 1), (29_999, 1), (30_000, 2), (59_999, 2)] {
            let known = cache.load(&wanting(&key(1)), at(now)).await.unwrap();
            assert_eq!(known.key, Some(key(1)));
            assert_eq!(reads(&cache), expected_reads, "at {now}");
        }
    }

    #[tokio::test]
    async fn a_revoked_key_is_seen_within_its_time_even_if_the_clock_was_set_back() {
        let cache = cache(Some(key(1)));
        cache.load(&wanting(&key(1)), at(600_000)).await.unwrap();
        let revoked = KeyRecord { revoked_from: Some(at(1)), ..key(1) };
        *cache.reader.key.lock().unwrap() = Some(revoked.clone());
        let known = cache.load(&wanting(&key(1)), at(300_000)).await.unwrap();
        assert_eq!(known.key, Some(revoked));
    }

    #[tokio::test]
    async fn what_does_not_exist_is_asked_for_again() {
        let cache = cache(None);
        assert!(cache.load(&wanting(&key(1)), at(0)).await.unwrap().key.is_none());
        *cache.reader.key.lock().unwrap() = Some(key(1));
        assert!(cache.load(&wanting(&key(1)), at(1)).await.unwrap().key.is_some());
        assert_eq!(reads(&cache), 2);
    }

    #[tokio::test]
    async fn a_breaker_is_given_only_when_it_was_read() {
        let cache = cache(Some(key(1)));
        let wanted = Wanted { provider_id: Some(ProviderId::parse("p").unwrap()), ..wanting(&key(1)) };
        let known = cache.load(&wanted, at(5)).await.unwrap();
        assert_eq!(known.breaker, Some(BreakerReading { state: BreakerState::default(), read_at: at(5) }));
        assert_eq!(cache.load(&wanting(&key(1)), at(6)).await.unwrap().breaker, None);
        assert_eq!(reads(&cache), 1);
    }

    fn secret(id: u32) -> BookingKeySecret {
        BookingKeySecret { id, key: [7; crate::availability::BOOKING_KEY_SECRET_BYTES], created_at: at(0) }
    }

    #[tokio::test]
    async fn secrets_are_remembered_like_the_rest_and_none_are_asked_for_again() {
        let cache = cache(None);
        let wanted = Wanted { booking_key_secrets: true, ..Wanted::default() };
        let known = async |now| cache.load(&wanted, at(now)).await.unwrap().booking_key_secrets;
        assert_eq!((known(0).await, reads(&cache)), (vec![], 1));
        *cache.reader.secrets.lock().unwrap() = vec![secret(1)];
        assert_eq!((known(1).await, reads(&cache)), (vec![secret(1)], 2));
        assert_eq!((known(30_000).await, reads(&cache)), (vec![secret(1)], 2));
        assert_eq!((known(30_001).await, reads(&cache)), (vec![secret(1)], 3));
    }

    #[tokio::test]
    async fn a_key_with_another_secret_makes_them_be_read_at_most_once_a_second() {
        let cache = cache(None);
        *cache.reader.secrets.lock().unwrap() = vec![secret(1)];
        let others = async |now| cache.other_booking_key_secrets(at(now)).await.unwrap();
        assert_eq!((others(0).await, reads(&cache)), (vec![secret(1)], 1));
        *cache.reader.secrets.lock().unwrap() = vec![secret(2), secret(1)];
        assert_eq!((others(999).await, reads(&cache)), (vec![secret(1)], 1));
        assert_eq!((others(1_000).await, reads(&cache)), (vec![secret(2), secret(1)], 2));
        // That there are none is nothing to remember in their place.
        cache.reader.secrets.lock().unwrap().clear();
        assert_eq!(cache.reload_booking_key_secrets(at(1_001)).await.unwrap(), []);
        assert_eq!((others(1_002).await, reads(&cache)), (vec![secret(2), secret(1)], 3));
    }

    #[tokio::test]
    async fn a_caller_is_verified_and_gets_the_provider_that_it_names() {
        let entropy = crate::test_util::SeededEntropy::new(1);
        let (secret, record) = crate::auth::new_key(key(1).owner, Mode::Test, at(0), &entropy);
        let cache = cache(Some(record.clone()));
        let header = format!("Bearer {}", secrecy::ExposeSecret::expose_secret(&secret));
        let clinic = ProviderId::parse("clinic").unwrap();
        let caller = cache.authenticate(Some(&header), Some(&clinic), at(0)).await.unwrap();
        assert_eq!(
            (caller.key, caller.provider.map(|provider| provider.provider_id)),
            (record, Some(clinic))
        );
        let forged = header.replace("Bearer hf_test", "Bearer hf_live");
        assert!(cache.authenticate(Some(&forged), None, at(0)).await.is_err());
        assert!(cache.authenticate(None, None, at(0)).await.is_err());
        assert_eq!(reads(&cache), 1);
    }

    /// A key of this owner, made then, and its record.
    fn made(number: u64, created_at: Timestamp) -> (PresentedKey, KeyRecord) {
        let owner = KeyOwner::Consumer(ConsumerId::parse("c").unwrap());
        let (key, record) = new_key(owner, Mode::Test, created_at, &SeededEntropy::new(number));
        let presented = presented_key(Some(&format!("Bearer {}", key.expose_secret()))).unwrap();
        (presented, record)
    }

    async fn opens(cache: &SettingsCache<Arc<Reader>>, key: &PresentedKey, now: Timestamp) -> bool {
        cache.verify(key, None, now).await.is_ok()
    }

    #[tokio::test]
    async fn a_key_that_is_revoked_opens_nothing_within_thirty_seconds_however_much_it_is_used() {
        let (presented, record) = made(1, at(0));
        let cache = cache(Some(record.clone()));
        assert!(opens(&cache, &presented, at(100_000)).await);
        *cache.reader.key.lock().unwrap() = Some(KeyRecord { revoked_from: Some(at(100_001)), ..record });
        let mut refused_from = None;
        for now in (100_001..140_000).step_by(500) {
            let is_open = opens(&cache, &presented, at(now)).await;
            assert!(!(is_open && refused_from.is_some()), "what is shut stays shut: {now}");
            refused_from = refused_from.or((!is_open).then_some(now));
        }
        // It was remembered until then, and using it did not prolong that.
        assert!(matches!(refused_from, Some(129_501..=130_001)), "{refused_from:?}");
    }

    #[tokio::test]
    async fn a_revocation_is_believed_for_as_long_as_it_stands_in_memory_and_beyond() {
        let (presented, record) = made(1, at(0));
        let cache = cache(Some(KeyRecord { revoked_from: Some(at(50)), ..record }));
        for now in [50, 51, 29_999, 30_050, 90_000] {
            assert!(!opens(&cache, &presented, at(now)).await, "{now}");
        }
    }

    #[tokio::test]
    async fn of_two_keys_that_overlap_both_open_and_the_old_ones_end_is_its_own() {
        let (old, old_record) = made(1, at(0));
        let (new, new_record) = made(2, at(1_000));
        let both = Arc::new(Both(Mutex::new(vec![old_record.clone(), new_record])));
        let cache = SettingsCache::new(Arc::clone(&both));
        for now in [2_000, 40_000, 100_000] {
            assert!(cache.verify(&old, None, at(now)).await.is_ok(), "{now}");
            assert!(cache.verify(&new, None, at(now)).await.is_ok(), "{now}");
        }
        both.0.lock().unwrap()[0] = KeyRecord { revoked_from: Some(at(100_000)), ..old_record };
        assert!(cache.verify(&old, None, at(130_000)).await.is_err());
        assert!(cache.verify(&new, None, at(130_000)).await.is_ok());
    }

    /// Several keys.
    struct Both(Mutex<Vec<KeyRecord>>);

    impl SettingsReader for Both {
        async fn load(&self, wanted: &Wanted) -> Result<Loaded, StoreError> {
            let known = self.0.lock().unwrap();
            let key = known.iter().find(|key| Some(&key.key_id) == wanted.key_id.as_ref()).cloned();
            Ok(Loaded { key, ..Loaded::default() })
        }
    }

    #[tokio::test]
    async fn a_refusal_costs_one_read_whether_the_key_is_unknown_or_in_use() {
        let (presented, record) = made(1, at(0));
        let wrong = {
            let key = format!("hf_test_consumer_{}_wrong", record.key_id);
            presented_key(Some(&format!("Bearer {key}"))).unwrap()
        };
        let (in_use, unknown) = (cache(Some(record)), cache(None));
        assert!(opens(&in_use, &presented, at(0)).await);
        for cache in [&in_use, &unknown] {
            for now in 1..4 {
                let before = reads(cache);
                let provider_id = ProviderId::parse("p").unwrap();
                assert!(cache.verify(&wrong, Some(&provider_id), at(now)).await.is_err());
                assert_eq!(reads(cache), before + 1);
            }
        }
        let before = reads(&in_use);
        assert!(opens(&in_use, &presented, at(5)).await);
        assert_eq!(reads(&in_use), before, "whose key it is is not slowed down by who guesses");
    }

    #[test]
    fn memory_is_bounded_and_what_is_old_goes_first() {
        let remembered = Mutex::new(Remembered::default());
        let size = || remembered.lock().unwrap().0.len();
        for number in 0..MAX_REMEMBERED {
            remember(&remembered, &number, &(), at(i64::from(number > 0)));
        }
        assert_eq!(size(), MAX_REMEMBERED);
        // What is there already takes no room of its own.
        remember(&remembered, &1, &(), at(2));
        assert_eq!(size(), MAX_REMEMBERED);
        let max_age_ms = i64::try_from(SETTINGS_MAX_AGE_MS).unwrap();
        remember(&remembered, &MAX_REMEMBERED, &(), at(max_age_ms));
        assert_eq!(size(), MAX_REMEMBERED, "one was too old, and one came");
        assert_eq!(recall(&remembered, &0, at(max_age_ms)), None);
        assert_eq!(recall(&remembered, &2, at(max_age_ms)), Some(()));
        // All are in use: it starts over.
        remember(&remembered, &(MAX_REMEMBERED + 1), &(), at(max_age_ms));
        assert_eq!(size(), 1);
        assert_eq!(recall(&remembered, &(MAX_REMEMBERED + 1), at(max_age_ms)), Some(()));
    }
}
