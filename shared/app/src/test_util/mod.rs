//! In-memory ports for tests, which keep the same promises as the real ones and can be told to fail.
//!
//! All handles are cheap to clone, and clones share what they hold, so that a test keeps one and hands
//! another to the code under test. Nothing here is compiled into a function.

mod availability;
mod booking;
mod bookings;
mod deliveries;
mod faults;
mod feed;
mod mailbox;
mod openings;
mod provider;
mod provider_ledger;
mod provider_script;
mod repair;
mod settings;
mod signals;
mod time;

pub use availability::{MemoryAvailability, MemoryRefreshes};
pub use booking::{PENDING_LEASE_MS, pending, stored};
pub use bookings::{Change, MemoryBookingStore};
pub use deliveries::{MemoryDeliveries, MemoryDeliveryStore};
pub use faults::{Fault, Faults, Moment, Watcher};
pub use feed::MemoryFeed;
pub use mailbox::MemoryMailbox;
pub use openings::{MemoryOpenings, open_slot};
pub use provider::{MemoryProvider, Seen, Told};
pub use provider_script::{Calls, Deed, Reply, Request, Script};
pub use repair::{MemoryAudit, MemoryDeadLetters};
pub use settings::MemorySettings;
pub use signals::{MemoryBus, MemoryParking, MemoryTimers};
pub use time::{SeededEntropy, TestClock};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic of another test thread does not matter, for every critical section is one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
