//! Hashes that stand in keys for what is too long, or nobody's business, to be a key itself.

use aws_lc_rs::digest::{Context, SHA256};

/// The bytes of a digest. Two of 2^64 things of one kind would share one.
pub(crate) const DIGEST_BYTES: usize = 16;

/// The digest of `fields` for a purpose. Each field is preceded by its length, so that no two lists of
/// fields have the same bytes.
pub(crate) fn digest(purpose: &str, fields: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut hasher = Context::new(&SHA256);
    for field in std::iter::once(&purpose.as_bytes()).chain(fields) {
        hasher.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(field);
    }
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(&hasher.finish().as_ref()[..DIGEST_BYTES]);
    digest
}
