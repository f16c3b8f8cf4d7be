//! The key that opens the API, and the key that makes a request safe to repeat.

use std::fmt;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use sfv::{ItemSerializer, StringRef};

/// The longest idempotency key, in characters.
pub const MAX_IDEMPOTENCY_KEY_CHARS: usize = 255;

/// Bytes of chance in an idempotency key that is made up: 128 bits.
const RANDOM_BYTES: usize = 16;

/// A consumer's API key. It cannot be printed, and is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct ApiKey(SecretString);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// An API key has visible ASCII characters alone. Which one was wrong is not told, since it is a secret.
    #[error("an API key has one or more visible ASCII characters, and no other")]
    ApiKey,
    /// An idempotency key has another form.
    #[error("an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY_CHARS} visible ASCII characters")]
    IdempotencyKey,
    /// The system has no random numbers to make a key of.
    #[error("the system has no random numbers")]
    NoRandomness,
}

impl ApiKey {
    /// Takes a key, `hf_<live|test>_consumer_…`. Whether it opens anything is for Holdfast to say.
    pub fn new(key: impl Into<String>) -> Result<Self, KeyError> {
        let key = SecretString::from(key.into());
        let text = key.expose_secret();
        let is_visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_visible { Ok(Self(key)) } else { Err(KeyError::ApiKey) }
    }

    /// The value of the header `Authorization`, marked so that nothing prints it.
    pub(crate) fn authorization(&self) -> Result<HeaderValue, KeyError> {
        let text = SecretString::from(format!("Bearer {}", self.0.expose_secret()));
        let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| KeyError::ApiKey)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(…)")
    }
}

/// What a request is known by when it is repeated. Holdfast keeps it for 14 days.
///
/// Take something that is stored with what is booked, such as the id of an order, **before** the first
/// request: then the key is the same after a crash, and the next run books nothing twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Takes 1 to [`MAX_IDEMPOTENCY_KEY_CHARS`] visible ASCII characters. No personal data.
    pub fn new(key: impl Into<String>) -> Result<Self, KeyError> {
        let key = key.into();
        let is_key = (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_graphic());
        if is_key { Ok(Self(key)) } else { Err(KeyError::IdempotencyKey) }
    }

    /// Makes a key up. Store it before it is used: one that is lost with its process repeats nothing.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(bytes))))
    }

    /// The key, to be stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the header: a quoted string (RFC 8941, section 3.3.3).
    pub(crate) fn header(&self) -> Result<HeaderValue, KeyError> {
        let text = StringRef::from_str(&self.0).map_err(|_| KeyError::IdempotencyKey)?;
        let quoted = ItemSerializer::new().bare_item(text).finish();
        HeaderValue::from_str(&quoted).map_err(|_| KeyError::IdempotencyKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_key_is_not_printed() {
        let key = ApiKey::new("hf_test_consumer_k1_secret").unwrap();
        assert!(!format!("{key:?} {:?}", key.authorization().unwrap()).contains("secret"));
        for wrong in ["", "with space", "line\n", "ä"] {
            assert_eq!(ApiKey::new(wrong).unwrap_err(), KeyError::ApiKey);
        }
    }

    #[test]
    fn an_idempotency_key_is_quoted() {
        let header = |key: &str| IdempotencyKey::new(key).unwrap().header().unwrap();
        assert_eq!(header("order-1001"), r#""order-1001""#);
        assert_eq!(header(r#"a"b\c"#), r#""a\"b\\c""#);
        let long = "k".repeat(MAX_IDEMPOTENCY_KEY_CHARS + 1);
        for wrong in ["", "a b", "ä", "a\u{7f}", &long] {
            assert_eq!(IdempotencyKey::new(wrong), Err(KeyError::IdempotencyKey), "{wrong}");
        }
        assert!(IdempotencyKey::new(&long[1..]).is_ok());
    }

    #[test]
    fn keys_that_are_made_up_differ() {
        let made: Vec<_> = (0..4).map(|_| IdempotencyKey::random().unwrap()).collect();
        assert!(made.windows(2).all(|two| two[0] != two[1] && two[0].as_str().len() == 32), "{made:?}");
    }
}
