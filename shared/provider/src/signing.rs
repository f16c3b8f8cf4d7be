//! Signatures as Standard Webhooks says: `v1`, an HMAC-SHA256 over `id.timestamp.body`.
//!
//! Requests to providers and deliveries to consumers are signed alike. Nothing is verified here; that is
//! the receiver's part.

use std::fmt;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use holdfast_app::ports::Entropy;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// What every secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// The fewest bytes that a secret may have (Standard Webhooks, "Signature scheme").
const MIN_SECRET_BYTES: usize = 24;

/// The most bytes that a secret may have.
const MAX_SECRET_BYTES: usize = 64;

/// The header with the message's identifier.
pub(crate) const ID_HEADER: &str = "webhook-id";

/// The header with the time of this attempt, in seconds since the Unix epoch.
pub(crate) const TIMESTAMP_HEADER: &str = "webhook-timestamp";

/// The header with the signature.
pub(crate) const SIGNATURE_HEADER: &str = "webhook-signature";

/// Why a text is not a signing secret. It never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not begin as secrets do.
    #[error("must begin with whsec_")]
    Prefix,
    /// What follows is not padded, standard base64.
    #[error("must be base64 after whsec_")]
    Encoding,
    /// It is too short or too long.
    #[error("must be {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, base64-encoded after whsec_")]
    Length,
}

/// A secret that is ready to sign. It cannot be printed.
pub struct SigningKey(Hmac<Sha256>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[signing key]")
    }
}

impl SigningKey {
    /// Reads a secret of the form `whsec_<base64>`, 24 to 64 bytes.
    pub fn parse(secret: &SecretString) -> Result<Self, SecretError> {
        let encoded = secret.expose_secret().strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| SecretError::Encoding)?;
        if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&bytes.len()) {
            return Err(SecretError::Length);
        }
        let mac = Hmac::<Sha256>::new_from_slice(&bytes).map_err(|_| SecretError::Length)?;
        Ok(Self(mac))
    }

    /// The `webhook-signature` of a message: `v1,<base64>`.
    pub fn sign(&self, message_id: &str, timestamp_unix_s: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(message_id.as_bytes());
        mac.update(b".");
        mac.update(timestamp_unix_s.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
    }
}

/// Makes a secret of 32 random bytes.
pub fn generate_secret(entropy: &impl Entropy) -> SecretString {
    let bytes = [entropy.bytes16(), entropy.bytes16()].concat();
    SecretString::from(format!("{SECRET_PREFIX}{}", BASE64.encode(&bytes)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    const SPEC_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn key(secret: &str) -> Result<SigningKey, SecretError> {
        SigningKey::parse(&SecretString::from(secret.to_owned()))
    }

    #[test]
    fn signs_the_vector_of_the_specification() {
        let signature = key(SPEC_SECRET).unwrap().sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn signs_as_the_reference_implementation_does() {
        let reference = standardwebhooks::Webhook::new(SPEC_SECRET).unwrap();
        for (id, timestamp, body) in
            [("evt_1", 1_700_000_000, "{}"), ("bkg_a:1:2", 1, r#"{"name":"Zoë"}"#), ("x", 0, "")]
        {
            assert_eq!(
                key(SPEC_SECRET).unwrap().sign(id, timestamp, body.as_bytes()),
                reference.sign(id, timestamp, body.as_bytes()).unwrap()
            );
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_secret() {
        let of_length = |bytes: usize| format!("whsec_{}", BASE64.encode(&vec![7; bytes]));
        assert_eq!(key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap_err(), SecretError::Prefix);
        assert_eq!(key("whsec_not base64").unwrap_err(), SecretError::Encoding);
        assert_eq!(key("whsec_").unwrap_err(), SecretError::Length);
        assert_eq!(key(&of_length(23)).unwrap_err(), SecretError::Length);
        assert_eq!(key(&of_length(65)).unwrap_err(), SecretError::Length);
        assert!(key(&of_length(24)).is_ok());
        assert!(key(&of_length(64)).is_ok());
    }

    #[test]
    fn a_generated_secret_is_usable_and_new_each_time() {
        struct Counting(AtomicU8);
        impl Entropy for Counting {
            fn bytes16(&self) -> [u8; 16] {
                [self.0.fetch_add(1, Ordering::Relaxed); 16]
            }
        }
        let entropy = Counting(AtomicU8::new(0));
        let (first, second) = (generate_secret(&entropy), generate_secret(&entropy));
        assert!(SigningKey::parse(&first).is_ok());
        assert_ne!(first.expose_secret(), second.expose_secret());
    }

    #[test]
    fn a_key_cannot_be_printed() {
        assert_eq!(format!("{:?}", key(SPEC_SECRET).unwrap()), "[signing key]");
    }
}
