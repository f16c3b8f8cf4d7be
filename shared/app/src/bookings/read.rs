//! Reading a booking, waiting for it to change, and erasing whom it is for.

use std::time::Duration;

use holdfast_domain::{Booking, BookingId, Command, Refused, Status, Tenant, Timestamp, transition};
use tokio::time::{Instant, sleep};

use super::{MAX_CONFLICTS, POLL_MS, contention_problem, store_problem};
use crate::ports::{BookingStore, Clock, Replaced};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::stored::replace;

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
        Ok(_) => Err(not_found()),
        Err(error) => Err(store_problem(&error, SideEffects::None)),
    }
}

/// Erases the customer's data and the notes of a booking of `tenant`. What is erased already stays so.
/// While a change is in flight the provider may still need them.
pub async fn erase_customer(
    store: &impl BookingStore,
    clock: &impl Clock,
    tenant: &Tenant,
    id: &BookingId,
) -> Result<(), Problem> {
    for _ in 0..MAX_CONFLICTS {
        let seen = match store.read(id).await {
            Ok(Some(seen)) if seen.booking.tenant == *tenant => seen,
            Ok(_) => return Err(not_found()),
            Err(error) => return Err(store_problem(&error, SideEffects::None)),
        };
        let erased = match transition(&seen.booking, Command::EraseCustomer, clock.now()) {
            Ok(transition) => transition.booking,
            Err(Refused::NothingToChange) => return Ok(()),
            Err(Refused::OperationInFlight) => {
                let detail = "The provider may still need the customer's data.";
                return Err(Problem::new(ProblemCode::OperationInFlight, detail).retry_after_s(1).about(id));
            }
            Err(_) => {
                let detail = "The booking has as many versions as it may have.";
                return Err(Problem::new(ProblemCode::TooManyChanges, detail).about(id));
            }
        };
        match replace(store, &seen, &seen.with_booking(erased)).await {
            Ok(Replaced::Done) => return Ok(()),
            Ok(Replaced::Conflict(_)) => {}
            Ok(Replaced::Gone | Replaced::SlotTaken) => return Err(not_found()),
            Err(error) => return Err(store_problem(&error, SideEffects::None)),
        }
    }
    Err(contention_problem(SideEffects::None))
}

fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such booking.")
}

/// After how many seconds it makes sense to read a pending booking again; `None` if it is settled.
pub fn retry_after_s(booking: &Booking, now: Timestamp) -> Option<u64> {
    (booking.status() == Status::Pending).then(|| super::answer::retry_after_s(booking, now))
}
