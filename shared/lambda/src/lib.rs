//! What every function shares: the loop that Lambda drives, configuration from the environment and the stores it names,
//! the clock, random numbers, telemetry, HTTP as API Gateway brings it, and batches of messages.
//!
//! Nothing here knows bookings. Which key opens what is decided in `holdfast_app`; this crate carries
//! requests to a handler and answers back, and never lets a raw Lambda error reach a caller.

pub mod batch;
pub mod config;
mod emf;
pub mod http;
mod log_output;
mod observed;
mod runtime;
pub mod stores;
mod system;
pub mod telemetry;
#[cfg(test)]
mod test_util;
mod xray;

/// What every function's program allocates with: infra/decisions/0013-a-lean-process.md.
pub use mimalloc::MiMalloc as Allocator;
pub use runtime::Context;
pub use system::{SystemClock, SystemEntropy};

/// Why a function could not start or had to stop.
pub type RunError = Box<dyn std::error::Error + Send + Sync>;
