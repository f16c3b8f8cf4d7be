//! Booking keys: what a consumer hands back to book a slot that it was shown.
//!
//! A key names the provider, the slot and when it expires, and is signed, so that whoever made one up is found
//! out without a look into any table. It is not secret, and opens nothing by itself: whoever books needs an
//! API key. It holds no personal data.

use std::fmt;

use holdfast_domain::Timestamp;
use secrecy::zeroize::Zeroize;

/// The bytes of a secret: as many as the hash that uses it has.
pub const BOOKING_KEY_SECRET_BYTES: usize = 32;

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
