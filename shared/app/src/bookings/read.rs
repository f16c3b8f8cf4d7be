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

#[cfg(test)]
mod tests {
    use holdfast_domain::{Acknowledgement, Command, Phase, transition};

    use super::*;
    use crate::stored;
    use crate::test_util::{self, MemoryBookingStore};

    const SECOND_MS: u64 = 1_000;

    fn made_at() -> Timestamp {
        Timestamp::EPOCH.plus_ms(1_800_000_000_000)
    }

    fn id() -> BookingId {
        BookingId::from_bytes([1; 16])
    }

    fn shop() -> Tenant {
        Tenant::parse("test:shop").unwrap()
    }

    /// A store with one pending booking in its first version.
    async fn store() -> MemoryBookingStore {
        let store = MemoryBookingStore::new();
        let new = test_util::stored(test_util::pending(id(), made_at()));
        stored::claim(&store, &new).await.unwrap();
        store
    }

    async fn confirm(store: &MemoryBookingStore) {
        let seen = store.read(&id()).await.unwrap().unwrap();
        let acknowledgement = Acknowledgement { provider_reference: None, reserved_until: None };
        let yes = Command::Acknowledge { acknowledgement, operation: None };
        let confirmed = transition(&seen.booking, yes, made_at()).unwrap().booking;
        replace(store, &seen, &seen.with_booking(confirmed)).await.unwrap();
    }

    /// What is read, and after how many milliseconds, if the booking is confirmed after `confirmed_after_ms`.
    async fn read_with(
        known_version: Option<u32>,
        wait_s: u64,
        confirmed_after_ms: u64,
    ) -> (Option<Status>, u64) {
        let store = store().await;
        let begun = Instant::now();
        let later = async {
            sleep(Duration::from_millis(confirmed_after_ms)).await;
            confirm(&store).await;
        };
        let reading = async {
            let read = read(&store, &shop(), &id(), known_version, Duration::from_secs(wait_s)).await;
            (read, u64::try_from(begun.elapsed().as_millis()).unwrap())
        };
        let ((read, took_ms), ()) = tokio::join!(reading, later);
        match read.unwrap() {
            Read::Found(booking) => (Some(booking.status()), took_ms),
            Read::Unchanged => (None, took_ms),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_until_the_booking_is_not_pending_any_more() {
        assert_eq!(read_with(None, 0, 1).await, (Some(Status::Pending), 0));
        let (status, took_ms) = read_with(None, 10, 2 * SECOND_MS).await;
        assert_eq!(status, Some(Status::Confirmed));
        assert!((2 * SECOND_MS..=2 * SECOND_MS + POLL_MS).contains(&took_ms), "{took_ms}");
        assert_eq!(read_with(None, 3, 5 * SECOND_MS).await, (Some(Status::Pending), 3 * SECOND_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_until_the_version_is_another_than_the_known_one() {
        assert_eq!(read_with(Some(1), 0, 1).await, (None, 0), "not modified");
        assert_eq!(read_with(Some(7), 10, SECOND_MS).await, (Some(Status::Pending), 0), "any other will do");
        let (status, took_ms) = read_with(Some(1), 10, 2 * SECOND_MS).await;
        assert_eq!(status, Some(Status::Confirmed));
        assert!(took_ms >= 2 * SECOND_MS, "{took_ms}");
        assert_eq!(read_with(Some(1), 3, 5 * SECOND_MS).await, (None, 3 * SECOND_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_longest_wait() {
        let too_long = MAX_WAIT_S + 10;
        assert_eq!(
            read_with(None, too_long, too_long * SECOND_MS).await,
            (Some(Status::Pending), MAX_WAIT_S * SECOND_MS)
        );
    }

    #[tokio::test]
    async fn another_tenant_s_booking_is_told_like_none() {
        let store = store().await;
        let none =
            read(&store, &shop(), &BookingId::from_bytes([2; 16]), None, Duration::ZERO).await.unwrap_err();
        for other in ["test:mall", "live:shop"] {
            let other = Tenant::parse(other).unwrap();
            let told = read(&store, &other, &id(), None, Duration::ZERO).await.unwrap_err();
            assert_eq!(told, none);
        }
    }

    #[test]
    fn a_pending_booking_tells_when_to_read_it_again_in_whole_seconds() {
        let now = made_at();
        let mut booking = test_util::pending(id(), now);
        assert_eq!(retry_after_s(&booking, now), Some(1), "while it is being asked for: soon");
        for (wait_ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            let next_attempt_at = now.plus_ms(wait_ms);
            booking.operation.as_mut().unwrap().phase = Phase::Waiting { next_attempt_at };
            assert_eq!(retry_after_s(&booking, now), Some(seconds), "{wait_ms} ms");
        }
        booking.state = holdfast_domain::State::Confirmed;
        assert_eq!(retry_after_s(&booking, now), None);
    }
}
