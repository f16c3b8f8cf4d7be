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
    assert_eq!((caller.key, caller.provider.map(|provider| provider.provider_id)), (record, Some(clinic)));
    let forged = header.replace("Bearer hf_test", "Bearer hf_live");
    assert!(cache.authenticate(Some(&forged), None, at(0)).await.is_err());
    assert!(cache.authenticate(None, None, at(0)).await.is_err());
    // What is refused is read as if nobody knew it.
    assert_eq!(reads(&cache), 2);
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
