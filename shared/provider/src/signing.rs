//! Signatures as Standard Webhooks says: `v1`, an HMAC-SHA256 over `id.timestamp.body`.
//!
//! Requests to providers and deliveries to consumers are signed alike. Nothing is verified here; that is
//! the receiver's part.

use std::fmt;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use data_encoding::BASE64;
use holdfast_app::signing_secret::{SecretError, decode};
use secrecy::SecretString;

/// The header with the message's identifier.
pub(crate) const ID_HEADER: &str = "webhook-id";

/// The header with the time of this attempt, in seconds since the Unix epoch.
pub(crate) const TIMESTAMP_HEADER: &str = "webhook-timestamp";

/// The header with the signature.
pub(crate) const SIGNATURE_HEADER: &str = "webhook-signature";

/// A secret that is ready to sign. It cannot be printed.
pub struct SigningKey(Key);

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[signing key]")
    }
}

impl SigningKey {
    /// Reads a secret of the form `whsec_<base64>`, 24 to 64 bytes.
    pub fn parse(secret: &SecretString) -> Result<Self, SecretError> {
        Ok(Self(Key::new(HMAC_SHA256, &decode(secret)?)))
    }

    /// The `webhook-signature` of a message: `v1,<base64>`.
    pub fn sign(&self, message_id: &str, timestamp_unix_s: i64, body: &[u8]) -> String {
        let mut mac = Context::with_key(&self.0);
        mac.update(message_id.as_bytes());
        mac.update(b".");
        mac.update(timestamp_unix_s.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap_err(), SecretError);
        assert_eq!(key("whsec_not base64").unwrap_err(), SecretError);
        assert_eq!(key("whsec_").unwrap_err(), SecretError);
        assert_eq!(key(&of_length(23)).unwrap_err(), SecretError);
        assert_eq!(key(&of_length(65)).unwrap_err(), SecretError);
        assert!(key(&of_length(24)).is_ok());
        assert!(key(&of_length(64)).is_ok());
    }

    #[test]
    fn a_key_cannot_be_printed() {
        assert_eq!(format!("{:?}", key(SPEC_SECRET).unwrap()), "[signing key]");
    }
}
