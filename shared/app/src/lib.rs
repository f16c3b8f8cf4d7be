//! The use cases of Holdfast, over ports.
//!
//! A use case reads a clock, draws random numbers, stores, calls and sends only through what it is
//! handed, so that the functions, the contract suite and the simulation run the same code. Nothing here
//! knows Amazon or HTTP.

pub mod auth;
pub mod availability;
pub mod bookings;
pub mod callers;
pub mod deliveries;
pub mod feed;
pub mod idempotency;
pub mod manage;
pub mod metrics;
pub mod outbox;
mod paging;
pub mod parse;
pub mod ports;
pub mod problem;
#[cfg(test)]
mod promised;
pub mod rates;
pub mod repair;
pub mod settings;
pub mod settings_cache;
pub mod signing_secret;
pub mod stored;
pub mod text;
pub mod view;
pub mod webhook;

#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
