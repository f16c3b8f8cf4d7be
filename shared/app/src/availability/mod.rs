//! What is open: asked of providers, remembered, corrected by what was booked here, and shown.
//!
//! [`Availability`] answers consumers and keeps what is remembered fresh, over ports. [`plan`] says who is asked
//! when. What bookings do to slots comes from the table's stream (`outbox`).

mod answer;
mod ask;
mod booking_key;
mod content;
mod memory;
mod plan;
mod push;
mod refresh;
mod secrets;
mod slots;
mod view;
mod wish;

pub use answer::{LIVE_LIMIT_MS, LocationFailure, Open, OpenLocation, Source};
pub use ask::Availability;
pub use booking_key::{
    BOOKING_KEY_SECRET_BYTES, BookingKeySecret, KeyFault, KeyMaker, KeyedSlot, MAX_BOOKING_KEY_CHARS,
    key_expiry, needs_another_secret, open_key,
};
pub use content::ContentId;
pub use memory::{Learned, MAX_AGE_MS, SlotWord, slot_word};
pub use plan::{PLANNED_MS, REFRESH_PERIOD_MS, due_within, period_ms};
pub use push::{ToldAvailability, tell_availability};
pub use refresh::{Refreshed, refresh_messages};
pub use secrets::signing_secret;
pub use slots::{MAX_SLOTS, PriceForm, Push, SlotForm, read_answer, read_push, read_slots};
pub use view::{Audience, AvailabilityAnswer, availability_answer};
pub use wish::{
    AvailabilityParameters, DEFAULT_DAYS, MAX_DAYS, MAX_LOCATIONS, ValidAvailability, read_availability,
};

#[cfg(test)]
mod tests;
