//! Secrets that sign requests to providers and deliveries to consumers, in the form that Standard Webhooks
//! gives them: `whsec_` and base64. Signing itself is the adapters' affair.

use data_encoding::BASE64;
use secrecy::{ExposeSecret, SecretString};

use crate::ports::Entropy;

/// What every secret begins with.
const PREFIX: &str = "whsec_";

/// The fewest bytes that a secret may have (Standard Webhooks, "Signature scheme").
const MIN_BYTES: usize = 24;

/// The most bytes that a secret may have.
const MAX_BYTES: usize = 64;

/// Why a text is not a signing secret. It never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {PREFIX} and the base64 of {MIN_BYTES} to {MAX_BYTES} random bytes")]
pub struct SecretError;

/// The key that a secret holds.
pub fn decode(secret: &SecretString) -> Result<Vec<u8>, SecretError> {
    let encoded = secret.expose_secret().strip_prefix(PREFIX).ok_or(SecretError)?;
    let key = BASE64.decode(encoded.as_bytes()).map_err(|_| SecretError)?;
    if (MIN_BYTES..=MAX_BYTES).contains(&key.len()) { Ok(key) } else { Err(SecretError) }
}

/// A new secret of 256 random bits.
pub fn generate(entropy: &impl Entropy) -> SecretString {
    let key = [entropy.bytes16(), entropy.bytes16()].concat();
    SecretString::from(format!("{PREFIX}{}", BASE64.encode(&key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::SeededEntropy;

    fn of_length(bytes: usize) -> SecretString {
        SecretString::from(format!("{PREFIX}{}", BASE64.encode(&vec![7; bytes])))
    }

    #[test]
    fn secrets_have_the_form_and_length_that_the_standard_asks_for() {
        for (secret, expected) in [
            (of_length(24), Ok(vec![7; 24])),
            (of_length(64), Ok(vec![7; 64])),
            (of_length(23), Err(SecretError)),
            (of_length(65), Err(SecretError)),
            (SecretString::from(BASE64.encode(&[7; 32])), Err(SecretError)),
            (SecretString::from("whsec_***".to_owned()), Err(SecretError)),
        ] {
            assert_eq!(decode(&secret), expected);
        }
    }

    #[test]
    fn a_generated_secret_is_usable_and_new_each_time() {
        let entropy = SeededEntropy::new(1);
        let (first, second) = (generate(&entropy), generate(&entropy));
        assert_eq!(decode(&first).unwrap().len(), 32);
        assert_ne!(first.expose_secret(), second.expose_secret());
    }
}
