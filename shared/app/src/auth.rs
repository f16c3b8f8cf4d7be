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
    /// Whether this is the key of `record` and it is valid at `now`. An unknown key and a wrong secret
    /// are told alike.
    pub fn verify(&self, record: Option<&KeyRecord>, now: Timestamp) -> Result<KeyRecord, Problem> {
        let refused = || unauthenticated("The key is unknown or revoked.");
        // The deployment's own administrators have no record, and only administration knows their hashes.
        if record.is_none() && self.role == KeyOwner::Admin.role() {
            return Err(unauthenticated("This call does not take an administrator's key."));
        }
        let record = record.ok_or_else(refused)?;
        let genuine = same_hash(&self.hash, &record.hash);
        if !genuine
            || record.mode != self.mode
            || record.owner.role() != self.role
            || !record.is_valid_at(now)
        {
            return Err(refused());
        }
        Ok(record.clone())
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
