//! API keys: their form, and whether one opens a door.
//!
//! A key is `hf_<live|test>_<consumer|provider|admin>_<key id>_<secret>`. Only the SHA-256 of the whole
//! key is stored; with 256 random bits in it, no slow hash is needed.

use std::fmt;

use data_encoding::BASE32_DNSSEC;
use holdfast_domain::{KeyId, Mode, ProviderId, Tenant, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ports::Entropy;
use crate::problem::{Problem, ProblemCode};
use crate::settings::{KeyHash, KeyOwner, KeyRecord};

/// The longest `Authorization` header that is looked at, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// What is compared with where there is no key of an id, so that it takes the time of a wrong secret. No key that
/// anybody could find hashes to it.
const NO_KEY: KeyHash = KeyHash([0; 32]);

/// A key as a caller presents it. Its secret cannot be printed.
pub struct PresentedKey {
    /// By which its record is found.
    pub key_id: KeyId,
    /// The mode it says it has.
    pub mode: Mode,
    /// The role it says it has.
    pub role: String,
    hash: KeyHash,
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PresentedKey({})", self.key_id)
    }
}

/// The SHA-256 of a whole key.
pub fn hash_key(key: &str) -> KeyHash {
    KeyHash(Sha256::digest(key.as_bytes()).into())
}

/// Compares two hashes in constant time.
pub fn same_hash(left: &KeyHash, right: &KeyHash) -> bool {
    left.0.ct_eq(&right.0).into()
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(ProblemCode::Unauthenticated, detail)
}

/// Reads the key out of an `Authorization` header.
pub fn presented_key(authorization: Option<&str>) -> Result<PresentedKey, Problem> {
    let header = authorization.ok_or_else(|| {
        unauthenticated("There is no Authorization header; send Authorization: Bearer <key>.")
    })?;
    let (scheme, key) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") || header.len() > MAX_KEY_BYTES {
        return Err(unauthenticated("The Authorization header is not of the form Bearer <key>."));
    }
    let malformed = || unauthenticated("The key is not of the form hf_<mode>_<role>_<key id>_<secret>.");
    let key = key.trim();
    let parts: Vec<&str> = key.split('_').collect();
    let ["hf", mode, role, key_id, _secret] = parts.as_slice() else {
        return Err(malformed());
    };
    Ok(PresentedKey {
        key_id: KeyId::parse(key_id).map_err(|_| malformed())?,
        mode: Mode::parse(mode).ok_or_else(malformed)?,
        role: (*role).to_owned(),
        hash: hash_key(key),
    })
}

impl PresentedKey {
    /// Whether this is the key of `record` and it is valid at `now`. An unknown key and a wrong secret are told
    /// alike, after the same work.
    pub fn verify(&self, record: Option<&KeyRecord>, now: Timestamp) -> Result<KeyRecord, Problem> {
        let is_genuine = same_hash(&self.hash, record.map_or(&NO_KEY, |record| &record.hash));
        let opens = |record: &&KeyRecord| {
            is_genuine
                && record.mode == self.mode
                && record.owner.role() == self.role
                && record.is_valid_at(now)
        };
        record.filter(opens).cloned().ok_or_else(|| self.refused())
    }

    /// Says what was presented, and nothing of what there is.
    fn refused(&self) -> Problem {
        // The deployment's own administrators have no record, and only administration knows their hashes.
        if self.role == KeyOwner::Admin.role() {
            unauthenticated("The key is unknown, or this call does not take an administrator's key.")
        } else {
            unauthenticated("The key is unknown or revoked.")
        }
    }

    /// Whether this is one of the administrators' keys whose hashes the deployment was given.
    pub fn is_bootstrap_admin(&self, hashes: &[KeyHash]) -> bool {
        // Every hash is compared, so that the time does not tell which one matched.
        let matches = hashes.iter().filter(|hash| same_hash(&self.hash, hash)).count();
        matches > 0 && self.role == KeyOwner::Admin.role()
    }
}

/// The tenant that a verified key speaks for; a problem if it is not a consumer's.
pub fn consumer_of(record: &KeyRecord) -> Result<Tenant, Problem> {
    record.tenant().ok_or_else(|| Problem::new(ProblemCode::Forbidden, "This call needs a consumer's key."))
}

/// The provider that a verified key speaks for; a problem if it is not a provider's.
pub fn provider_of(record: &KeyRecord) -> Result<ProviderId, Problem> {
    match &record.owner {
        KeyOwner::Provider(provider_id) => Ok(provider_id.clone()),
        KeyOwner::Consumer(_) | KeyOwner::Admin => {
            Err(Problem::new(ProblemCode::Forbidden, "This call needs a provider's key."))
        }
    }
}

/// Makes a key for `owner`. The key itself is in the answer alone; the record is what is stored.
pub fn new_key(
    owner: KeyOwner,
    mode: Mode,
    now: Timestamp,
    entropy: &impl Entropy,
) -> (SecretString, KeyRecord) {
    let key_id = KeyId::from_bytes(entropy.bytes16());
    let secret = SecretString::from(format!(
        "hf_{}_{}_{key_id}_{}{}",
        mode.as_str(),
        owner.role(),
        BASE32_DNSSEC.encode(&entropy.bytes16()),
        BASE32_DNSSEC.encode(&entropy.bytes16()),
    ));
    let hash = hash_key(secret.expose_secret());
    let record = KeyRecord { key_id, owner, mode, hash, created_at: now, revoked_from: None };
    (secret, record)
}

#[cfg(test)]
mod tests {
    use holdfast_domain::ConsumerId;

    use super::*;
    use crate::test_util::SeededEntropy;

    fn at(unix_ms: u64) -> Timestamp {
        Timestamp::EPOCH.plus_ms(unix_ms)
    }

    fn consumer() -> KeyOwner {
        KeyOwner::Consumer(ConsumerId::parse("shop").unwrap())
    }

    fn made(owner: KeyOwner) -> (String, KeyRecord) {
        let (secret, record) = new_key(owner, Mode::Test, at(0), &SeededEntropy::new(1));
        (secret.expose_secret().to_owned(), record)
    }

    fn presented(key: &str) -> PresentedKey {
        presented_key(Some(&format!("Bearer {key}"))).unwrap()
    }

    #[test]
    fn a_key_opens_what_it_was_made_for_until_it_is_revoked() {
        let (key, record) = made(consumer());
        assert_eq!(presented(&key).key_id, record.key_id);
        assert_eq!(presented(&key).verify(Some(&record), at(1)), Ok(record.clone()));
        let revoked = KeyRecord { revoked_from: Some(at(1_000)), ..record };
        assert!(presented(&key).verify(Some(&revoked), at(999)).is_ok());
        assert!(presented(&key).verify(Some(&revoked), at(1_000)).is_err());
    }

    /// Each part that differs is enough to refuse, and all refusals are alike: nobody learns which part was right.
    #[test]
    fn whatever_differs_from_the_record_is_refused_alike() {
        let (key, record) = made(consumer());
        let refused = presented(&key).verify(None, at(1)).unwrap_err();
        let provider = KeyOwner::Provider(ProviderId::parse("clinic").unwrap());
        for other in [
            KeyRecord { hash: KeyHash([0; 32]), ..record.clone() },
            KeyRecord { mode: Mode::Live, ..record.clone() },
            KeyRecord { owner: provider, ..record.clone() },
            KeyRecord { revoked_from: Some(at(0)), ..record.clone() },
        ] {
            assert_eq!(presented(&key).verify(Some(&other), at(1)), Err(refused.clone()), "{other:?}");
        }
        let mut guessed = key.clone();
        guessed.pop();
        assert_eq!(presented(&guessed).verify(Some(&record), at(1)), Err(refused));
    }

    #[test]
    fn an_administrator_without_a_record_is_told_so_and_nobody_else_is() {
        let (consumers, _) = made(consumer());
        let (admins, record) = made(KeyOwner::Admin);
        let detail = |key: &str| presented(key).verify(None, at(1)).unwrap_err().detail;
        assert!(detail(&admins).contains("administrator"));
        assert!(!detail(&consumers).contains("administrator"));
        assert!(presented(&admins).verify(Some(&record), at(1)).is_ok());
    }

    #[test]
    fn an_administrator_of_the_deployment_is_one_whose_hash_it_was_given() {
        let (key, _) = made(KeyOwner::Admin);
        let (own, other) = (hash_key(&key), KeyHash([0; 32]));
        assert!(presented(&key).is_bootstrap_admin(&[other, own]));
        assert!(presented(&key).is_bootstrap_admin(&[own]));
        assert!(!presented(&key).is_bootstrap_admin(&[other]));
        assert!(!presented(&key).is_bootstrap_admin(&[]));
        let (key, _) = made(consumer());
        assert!(
            !presented(&key).is_bootstrap_admin(&[hash_key(&key)]),
            "a consumer's key, whatever its hash"
        );
    }

    #[test]
    fn a_header_has_one_form() {
        let (key, _) = made(consumer());
        assert!(presented_key(Some(&format!("bearer  {key}"))).is_ok());
        let longest = |bytes: usize| {
            let front = format!("Bearer {key}");
            format!("{front}{}", "a".repeat(bytes - front.len()))
        };
        assert!(presented_key(Some(&longest(MAX_KEY_BYTES))).is_ok());
        for odd in [
            String::new(),
            key.clone(),
            format!("Basic {key}"),
            longest(MAX_KEY_BYTES + 1),
            longest(MAX_KEY_BYTES + 2),
            format!("Bearer {key}_more"),
            format!("Bearer {}", key.replacen("hf_", "fh_", 1)),
            format!("Bearer {}", key.replacen("test", "trial", 1)),
        ] {
            let refused = presented_key(Some(&odd)).map(|key| key.key_id).unwrap_err();
            assert_eq!(refused.code, ProblemCode::Unauthenticated, "{odd}");
        }
        assert!(presented_key(None).is_err());
    }

    #[test]
    fn a_key_that_is_printed_does_not_tell_its_secret() {
        let (key, record) = made(consumer());
        assert_eq!(format!("{:?}", presented(&key)), format!("PresentedKey({})", record.key_id));
        assert_eq!(format!("{:?}", record.hash), "[key hash]");
    }

    #[test]
    fn a_key_speaks_for_its_owner_alone() {
        let (_, consumers) = made(consumer());
        let (_, providers) = made(KeyOwner::Provider(ProviderId::parse("clinic").unwrap()));
        let (_, admins) = made(KeyOwner::Admin);
        assert_eq!(consumer_of(&consumers).map(|tenant| tenant.to_string()), Ok("test:shop".to_owned()));
        assert_eq!(provider_of(&providers).map(|id| id.to_string()), Ok("clinic".to_owned()));
        for refused in [consumer_of(&providers), consumer_of(&admins)] {
            assert_eq!(refused.unwrap_err().code, ProblemCode::Forbidden);
        }
        for refused in [provider_of(&consumers), provider_of(&admins)] {
            assert_eq!(refused.unwrap_err().code, ProblemCode::Forbidden);
        }
    }

    #[test]
    fn nothing_tells_an_unknown_key_from_a_wrong_secret() {
        let (key, record) = made(consumer());
        let (rest, _) = key.rsplit_once('_').unwrap();
        for altered in [
            format!("{rest}_{}", "a".repeat(52)),
            key.replace("_test_", "_live_"),
            key.replace("_consumer_", "_provider_"),
            key.replace("_consumer_", "_admin_"),
            key.replace("_consumer_", "_owner_"),
            format!("{key}a"),
        ] {
            let refused = |record| presented(&altered).verify(record, at(5)).unwrap_err();
            assert_eq!(refused(Some(&record)), refused(None), "{altered}");
        }
    }

    #[test]
    fn no_key_has_the_hash_that_stands_for_none() {
        let (key, record) = made(consumer());
        let nobodys = KeyRecord { hash: NO_KEY, ..record };
        assert!(presented(&key).verify(Some(&nobodys), at(5)).is_err());
    }
}
