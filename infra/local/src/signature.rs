//! Checks Standard Webhooks signatures for the simulator and the inbox, with the public reference crate rather
//! than the code that makes the signatures, so that a mistake there cannot hide itself here.

use http::HeaderMap;
use standardwebhooks::{HEADER_WEBHOOK_SIGNATURE, Webhook};

/// What a check of one message found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signature {
    /// There is no secret to check with, or the message is not signed at all and need not be.
    NotChecked,
    Valid,
    /// Why it is not valid. Holds neither the secret nor the expected signature.
    Invalid(String),
}

impl Signature {
    /// `None` if nothing was checked.
    pub(crate) fn is_valid(&self) -> Option<bool> {
        match self {
            Self::NotChecked => None,
            Self::Valid => Some(true),
            Self::Invalid(_) => Some(false),
        }
    }
}

/// Checks the signature of `body`, including that its timestamp is within five minutes of now.
pub(crate) fn check(secret: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Signature {
    let Some(secret) = secret else { return Signature::NotChecked };
    match Webhook::new(secret).and_then(|webhook| webhook.verify(body, headers)) {
        Ok(()) => Signature::Valid,
        Err(error) => Signature::Invalid(error.to_string()),
    }
}

/// Whether the message claims to be signed.
pub(crate) fn is_present(headers: &HeaderMap) -> bool {
    headers.contains_key(HEADER_WEBHOOK_SIGNATURE)
}

/// Whether `secret` can be used at all: `whsec_` and base64.
pub(crate) fn is_usable_secret(secret: &str) -> bool {
    Webhook::new(secret).is_ok()
}
