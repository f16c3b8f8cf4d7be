//! Makes the secrets of a local stack: the first administrator key and what the demo providers share with
//! Holdfast. All other keys come from the API.

use data_encoding::{BASE32_DNSSEC, BASE64};

use super::error::StackError;

/// As in the keys that the API makes.
const KEY_ID_BYTES: usize = 16;
const KEY_SECRET_BYTES: usize = 32;
const TOKEN_BYTES: usize = 16;
/// Standard Webhooks asks for 24 to 64.
const SIGNING_SECRET_BYTES: usize = 32;

/// A new administrator key, in the form of the API's own keys.
pub(super) fn admin_key() -> Result<String, StackError> {
    let id = BASE32_DNSSEC.encode(&random::<KEY_ID_BYTES>()?);
    let secret = BASE32_DNSSEC.encode(&random::<KEY_SECRET_BYTES>()?);
    Ok(format!("hf_test_admin_k{id}_{secret}"))
}

/// A new signing secret in the form of Standard Webhooks.
pub(super) fn signing_secret() -> Result<String, StackError> {
    Ok(format!("whsec_{}", BASE64.encode(&random::<SIGNING_SECRET_BYTES>()?)))
}

/// A new token, for example the one that a provider asks for.
pub(super) fn token() -> Result<String, StackError> {
    Ok(BASE32_DNSSEC.encode(&random::<TOKEN_BYTES>()?))
}

fn random<const N: usize>() -> Result<[u8; N], StackError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StackError::Random)?;
    Ok(bytes)
}
