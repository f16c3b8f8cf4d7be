//! What is open: asked of providers, remembered, corrected by what was booked here, and shown.

mod booking_key;
mod content;

pub use booking_key::{BOOKING_KEY_SECRET_BYTES, BookingKeySecret};
pub use content::ContentId;
