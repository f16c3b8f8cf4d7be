//! Booking keys: what a consumer hands back to book a slot that it was shown.
//!
//! A key names the provider, the slot and when it expires, and is signed, so that whoever made one up is found
//! out without a look into any table. It is not secret and opens nothing by itself: whoever books needs an API
//! key. It holds no personal data.
//!
//! Its form is `bk_` and, in base64url, the body (postcard) followed by half of its HMAC-SHA256 (RFC 2104,
//! section 5, lets half of it stand for all).

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use holdfast_domain::{Mode, OpenSlot, ProviderId, Slot, Timestamp};
use secrecy::zeroize::Zeroize;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::problem::{FieldError, Problem, ProblemCode};

/// The bytes of a secret: as many as the hash that uses it has.
pub const BOOKING_KEY_SECRET_BYTES: usize = 32;

/// What every booking key begins with.
const PREFIX: &str = "bk_";

/// The form of the body. Another one gets another number.
const FORM: u8 = 1;

/// The bytes of a signature.
const SIGNATURE_BYTES: usize = 16;

/// The longest booking key that is looked at, in characters: longer than what the longest identifiers make.
pub const MAX_BOOKING_KEY_CHARS: usize = 4_096;

/// The fewest milliseconds that a key is good for: 1 h.
const MIN_LIFE_MS: i64 = MS_PER_HOUR;

const MS_PER_HOUR: i64 = 60 * 60 * 1_000;

/// A secret that booking keys are signed with. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct BookingKeySecret {
    /// Tells it from those before and after it.
    pub id: u32,
    /// The secret itself.
    pub key: [u8; BOOKING_KEY_SECRET_BYTES],
    /// When it was made.
    pub created_at: Timestamp,
}

impl fmt::Debug for BookingKeySecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BookingKeySecret({}, [secret])", self.id)
    }
}

impl Drop for BookingKeySecret {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl BookingKeySecret {
    fn mac(&self) -> Option<Hmac<Sha256>> {
        Hmac::new_from_slice(&self.key).ok()
    }
}

/// What a key says.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    form: u8,
    is_live: bool,
    secret: u32,
    /// Hours since the Unix epoch.
    expires_h: u32,
    provider: &'a str,
    location: &'a str,
    start_ms: i64,
    length_ms: u64,
    resource: Option<&'a str>,
    service: Option<&'a str>,
    availability: Option<&'a str>,
}

/// When a key expires that is shown at `now`: on the hour, so that what is shown stays the same for an hour,
/// and at least [`MIN_LIFE_MS`] ahead.
pub fn key_expiry(now: Timestamp) -> Timestamp {
    let good_until = now.as_unix_ms().saturating_add(MIN_LIFE_MS);
    let hours = good_until.div_euclid(MS_PER_HOUR).saturating_add(1);
    Timestamp::from_unix_ms(hours.saturating_mul(MS_PER_HOUR)).unwrap_or(now)
}

/// Makes the keys of one location's slots.
pub struct KeyMaker<'a> {
    mac: Hmac<Sha256>,
    secret: u32,
    mode: Mode,
    provider_id: &'a ProviderId,
    location_id: &'a str,
    expires_h: u32,
}

impl fmt::Debug for KeyMaker<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyMaker({}, {})", self.provider_id, self.location_id)
    }
}

impl<'a> KeyMaker<'a> {
    /// Makes keys that expire at `expires_at`, a whole hour. `None` if the time cannot be written.
    pub fn new(
        secret: &BookingKeySecret,
        mode: Mode,
        provider_id: &'a ProviderId,
        location_id: &'a str,
        expires_at: Timestamp,
    ) -> Option<Self> {
        let expires_h = u32::try_from(expires_at.as_unix_ms().div_euclid(MS_PER_HOUR)).ok()?;
        Some(Self { mac: secret.mac()?, secret: secret.id, mode, provider_id, location_id, expires_h })
    }

    /// The key of a slot; `None` if it cannot be written, which no slot is the reason of.
    pub fn key(&self, slot: &OpenSlot) -> Option<String> {
        let body = Body {
            form: FORM,
            is_live: self.mode == Mode::Live,
            secret: self.secret,
            expires_h: self.expires_h,
            provider: self.provider_id.as_str(),
            location: self.location_id,
            start_ms: slot.start.as_unix_ms(),
            length_ms: slot.start.ms_until(slot.end),
            resource: slot.resource_id.as_deref(),
            service: slot.service_id.as_deref(),
            availability: slot.availability_id.as_deref(),
        };
        let mut bytes = postcard::to_allocvec(&body).ok()?;
        let mut mac = self.mac.clone();
        mac.update(&bytes);
        bytes.extend_from_slice(&mac.finalize().into_bytes()[..SIGNATURE_BYTES]);
        let mut key = String::with_capacity(PREFIX.len() + BASE64URL_NOPAD.encode_len(bytes.len()));
        key.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(&bytes, &mut key);
        Some(key)
    }
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedSlot {
    /// The provider.
    pub provider_id: ProviderId,
    /// When the key expires. It is not good from then on, but for a repetition of what was asked for before.
    pub expires_at: Timestamp,
    /// The slot.
    pub slot: Slot,
    /// The provider's own name for it, if it has one.
    pub availability_id: Option<String>,
}

/// Why a key is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// It was made up or altered, or is of another form.
    Forged,
    /// It is signed with a secret that is not among those that were given: it was made up, or is much too old,
    /// or so new that its secret has to be read first.
    UnknownSecret,
    /// It is for another provider, or for keys of the other mode.
    Elsewhere,
    /// Its time is over.
    Expired,
}

impl KeyFault {
    /// What a caller is told.
    pub fn problem(self) -> Problem {
        let (code, detail) = match self {
            Self::Forged | Self::UnknownSecret => {
                (ProblemCode::InvalidBookingKey, "is not a booking key as availability shows it")
            }
            Self::Elsewhere => {
                (ProblemCode::InvalidBookingKey, "is not for this provider and the mode of this API key")
            }
            Self::Expired => (ProblemCode::BookingKeyExpired, "has expired"),
        };
        let error = FieldError::new("/booking_key", detail);
        Problem::new(code, format!("{} {}.", error.pointer, error.detail)).with_errors(vec![error])
    }
}

/// Whether a key has the form of one, but is signed with a secret that is not among these.
pub fn needs_another_secret(key: &str, secrets: &[BookingKeySecret]) -> bool {
    // The mode is looked at last, so that any does.
    open_key(key, secrets, Mode::Test) == Err(KeyFault::UnknownSecret)
}

/// Reads a key that comes with an API key of `mode`. Whether it has expired, and whether it is for the right provider,
/// is for the caller to ask.
pub fn open_key(key: &str, secrets: &[BookingKeySecret], mode: Mode) -> Result<KeyedSlot, KeyFault> {
    if key.len() > MAX_BOOKING_KEY_CHARS {
        return Err(KeyFault::Forged);
    }
    let encoded = key.strip_prefix(PREFIX).ok_or(KeyFault::Forged)?;
    let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| KeyFault::Forged)?;
    let body_bytes = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or(KeyFault::Forged)?;
    let (signed, signature) = bytes.split_at(body_bytes);
    // What it says is believed only after its signature; that which secret to look for is said in it is all
    // that is used before.
    let (body, rest): (Body<'_>, &[u8]) = postcard::take_from_bytes(signed).map_err(|_| KeyFault::Forged)?;
    if body.form != FORM || !rest.is_empty() {
        return Err(KeyFault::Forged);
    }
    let secret = secrets.iter().find(|secret| secret.id == body.secret).ok_or(KeyFault::UnknownSecret)?;
    let mac = secret.mac().ok_or(KeyFault::Forged)?.chain_update(signed);
    mac.verify_truncated_left(signature).map_err(|_| KeyFault::Forged)?;
    if body.is_live != (mode == Mode::Live) {
        return Err(KeyFault::Elsewhere);
    }
    let time = |unix_ms| Timestamp::from_unix_ms(unix_ms).map_err(|_| KeyFault::Forged);
    let start = time(body.start_ms)?;
    Ok(KeyedSlot {
        provider_id: ProviderId::parse(body.provider).map_err(|_| KeyFault::Forged)?,
        expires_at: time(i64::from(body.expires_h).saturating_mul(MS_PER_HOUR))?,
        slot: Slot {
            location_id: body.location.to_owned(),
            start,
            end: start.plus_ms(body.length_ms),
            resource_id: body.resource.map(str::to_owned),
            service_id: body.service.map(str::to_owned),
        },
        availability_id: body.availability.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "2027-01-15T08:20:00Z";

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn secret(id: u32) -> BookingKeySecret {
        let byte = u8::try_from(id).unwrap();
        BookingKeySecret { id, key: [byte; BOOKING_KEY_SECRET_BYTES], created_at: at(NOW) }
    }

    fn clinic() -> ProviderId {
        ProviderId::parse("clinic").unwrap()
    }

    fn slot() -> OpenSlot {
        OpenSlot {
            start: at("2027-01-16T09:00:00Z"),
            end: at("2027-01-16T09:30:00Z"),
            resource_id: Some(Arc::from("dr-a")),
            service_id: None,
            capacity: Some(3),
            price: None,
            availability_id: Some(Arc::from("av-1")),
        }
    }

    fn key_of(slot: &OpenSlot, signed_with: u32) -> String {
        let (secret, provider) = (secret(signed_with), clinic());
        let maker = KeyMaker::new(&secret, Mode::Test, &provider, "main", key_expiry(at(NOW))).unwrap();
        maker.key(slot).unwrap()
    }

    fn open(key: &str) -> Result<KeyedSlot, KeyFault> {
        open_key(key, &[secret(2), secret(1)], Mode::Test)
    }

    #[test]
    fn a_key_stands_for_its_slot() {
        let keyed = KeyedSlot {
            provider_id: clinic(),
            expires_at: at("2027-01-15T10:00:00Z"),
            slot: Slot {
                location_id: "main".to_owned(),
                start: at("2027-01-16T09:00:00Z"),
                end: at("2027-01-16T09:30:00Z"),
                resource_id: Some("dr-a".to_owned()),
                service_id: None,
            },
            availability_id: Some("av-1".to_owned()),
        };
        for signed_with in [1, 2] {
            let key = key_of(&slot(), signed_with);
            assert_eq!(open(&key), Ok(keyed.clone()));
        }
    }

    #[test]
    fn what_is_shown_within_an_hour_is_the_same_and_lasts_an_hour() {
        assert_eq!(key_expiry(at("2027-01-15T08:00:00Z")), at("2027-01-15T10:00:00Z"));
        assert_eq!(key_expiry(at("2027-01-15T08:59:59.999Z")), at("2027-01-15T10:00:00Z"));
        assert_eq!(key_expiry(at("2027-01-15T09:00:00Z")), at("2027-01-15T11:00:00Z"));
        assert_eq!(key_of(&slot(), 1), key_of(&OpenSlot { capacity: None, ..slot() }, 1));
    }

    #[test]
    fn a_key_is_good_for_its_mode_and_secrets_alone() {
        let key = key_of(&slot(), 1);
        assert_eq!(open_key(&key, &[secret(1)], Mode::Live), Err(KeyFault::Elsewhere));
        assert_eq!(open_key(&key, &[secret(3)], Mode::Test), Err(KeyFault::UnknownSecret));
        let impostor = BookingKeySecret { id: 1, ..secret(9) };
        assert_eq!(open_key(&key, &[impostor], Mode::Test), Err(KeyFault::Forged));
        assert_eq!(KeyFault::Expired.problem().code.as_str(), "booking_key_expired");
        assert_eq!(KeyFault::Forged.problem().errors[0].pointer, "/booking_key");
    }

    #[test]
    fn another_secret_is_needed_for_a_key_that_is_signed_with_one_and_for_nothing_else() {
        let key = key_of(&slot(), 1);
        assert!(needs_another_secret(&key, &[secret(3)]));
        assert!(!needs_another_secret(&key, &[secret(3), secret(1)]));
        assert!(!needs_another_secret("made-up", &[secret(3)]));
    }

    /// A key of ours that says `form` and has `behind` at its end, with the right signature.
    fn signed(form: u8, behind: &[u8]) -> String {
        let body = Body {
            form,
            is_live: false,
            secret: 1,
            expires_h: 500_000,
            provider: "clinic",
            location: "main",
            start_ms: 0,
            length_ms: 1,
            resource: None,
            service: None,
            availability: None,
        };
        let mut bytes = postcard::to_allocvec(&body).unwrap();
        bytes.extend_from_slice(behind);
        let mac = secret(1).mac().unwrap().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..SIGNATURE_BYTES]);
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }

    #[test]
    fn a_signature_does_not_make_up_for_another_form_or_for_more_than_a_key_says() {
        assert!(open(&signed(FORM, &[])).is_ok());
        assert_eq!(open(&signed(FORM + 1, &[])), Err(KeyFault::Forged));
        assert_eq!(open(&signed(FORM, &[0])), Err(KeyFault::Forged));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", secret(1)), "BookingKeySecret(1, [secret])");
        let (secret, provider) = (secret(1), clinic());
        let maker = KeyMaker::new(&secret, Mode::Test, &provider, "main", key_expiry(at(NOW))).unwrap();
        assert_eq!(format!("{maker:?}"), "KeyMaker(clinic, main)");
    }

    #[test]
    fn no_altered_key_is_good() {
        let key = key_of(&slot(), 1);
        let bytes = BASE64URL_NOPAD.decode(key.strip_prefix(PREFIX).unwrap().as_bytes()).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[position] ^= 1 << bit;
                let altered = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&altered));
                assert!(open(&altered).is_err(), "byte {position}, bit {bit}");
            }
            let shortened = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes[..position]));
            assert_eq!(open(&shortened).err(), Some(KeyFault::Forged));
        }
        for text in ["", "bk_", "bk_!", "BK_AAAA", key.trim_start_matches(PREFIX), &"x".repeat(5_000)] {
            assert_eq!(open(text), Err(KeyFault::Forged), "{text}");
        }
        assert_eq!(open(&format!("{key}A")), Err(KeyFault::Forged));
    }

    proptest! {
        #[test]
        fn every_slot_survives_its_key(
            start_ms in 0..4_000_000_000_000_i64,
            length_ms in 1..100_000_000_u64,
            resource in prop::option::of("\\PC{1,40}"),
            service in prop::option::of("\\PC{1,40}"),
            availability in prop::option::of("\\PC{1,40}"),
        ) {
            let start = Timestamp::from_unix_ms(start_ms).unwrap();
            let slot = OpenSlot {
                start,
                end: start.plus_ms(length_ms),
                resource_id: resource.as_deref().map(Arc::from),
                service_id: service.as_deref().map(Arc::from),
                availability_id: availability.as_deref().map(Arc::from),
                ..slot()
            };
            let keyed = open(&key_of(&slot, 2)).unwrap();
            prop_assert!(slot.is_taken_by(&keyed.slot, false));
            prop_assert_eq!((keyed.slot.end, keyed.slot.service_id), (slot.end, service));
            prop_assert_eq!(keyed.availability_id, availability);
        }

        #[test]
        fn reading_is_total(text in "(bk_)?[A-Za-z0-9_-]{0,120}|\\PC{0,60}") {
            prop_assert!(open(&text).is_err());
        }
    }
}
