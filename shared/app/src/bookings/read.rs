//! Reading a booking, and waiting for it to change.

use std::time::Duration;

use holdfast_domain::{Booking, BookingId, Status, Tenant, Timestamp};
use tokio::time::{Instant, sleep};

use super::{POLL_MS, store_problem};
use crate::ports::BookingStore;
use crate::problem::{Problem, ProblemCode, SideEffects};

/// The longest wait for a change, in seconds. API Gateway itself ends a call after 30 s.
pub const MAX_WAIT_S: u64 = 25;

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The booking as it is.
    Found(Box<Booking>),
    /// It still has the version that the caller knows.
    Unchanged,
}

/// Reads a booking of `tenant`. Another tenant's is told like one that does not exist.
///
/// With a `known_version` it answers [`Read::Unchanged`] while that is the current one. It waits up to
/// `wait` for the version to change or, without a known version, for the booking to leave `pending`.
pub async fn read(
    store: &impl BookingStore,
    tenant: &Tenant,
    id: &BookingId,
    known_version: Option<u32>,
    wait: Duration,
) -> Result<Read, Problem> {
    let give_up_at = Instant::now() + wait.min(Duration::from_secs(MAX_WAIT_S));
    loop {
        let booking = owned(store, tenant, id).await?;
        let changed = match known_version {
            Some(version) => booking.version() != version,
            None => booking.status() != Status::Pending,
        };
        let remaining = give_up_at.saturating_duration_since(Instant::now());
        if changed || remaining.is_zero() {
            return Ok(if changed || known_version.is_none() {
                Read::Found(Box::new(booking))
            } else {
                Read::Unchanged
            });
        }
        sleep(remaining.min(Duration::from_millis(POLL_MS))).await;
    }
}

/// Reads a booking of `tenant` as it is now.
pub async fn owned(store: &impl BookingStore, tenant: &Tenant, id: &BookingId) -> Result<Booking, Problem> {
    match store.read(id).await {
        Ok(Some(stored)) if stored.booking.tenant == *tenant => Ok(stored.booking),
        Ok(_) => Err(Problem::new(ProblemCode::NotFound, "There is no such booking.")),
        Err(error) => Err(store_problem(&error, SideEffects::None)),
    }
}

/// After how many seconds it makes sense to read a pending booking again; `None` if it is settled.
pub fn retry_after_s(booking: &Booking, now: Timestamp) -> Option<u64> {
    (booking.status() == Status::Pending).then(|| super::answer::retry_after_s(booking, now))
}
