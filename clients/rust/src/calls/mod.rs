//! The calls of the API that consumers make.

mod availability;
mod bookings;
mod endpoints;
mod events;

pub use bookings::{BookingPages, MAX_WAIT_S};
