//! Bookings, settings and breakers: what the hot path reads and writes.

use std::future::Future;

use holdfast_domain::{BookingId, KeyId, ProviderId, Timestamp};

use crate::settings::{BreakerState, KeyRecord, ProviderSettings};
use crate::stored::StoredBooking;

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Throttled, timed out or unreachable, after the implementation's own retries. The write may or
    /// may not have happened; asking again is safe.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be read.
    #[error("a stored item cannot be read: {0}")]
    Corrupt(String),
    /// The store refuses for good: a missing table, a denied action, an item that is too large.
    #[error("the store refuses: {0}")]
    Refused(String),
}

/// What a claim found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The item is written; nobody had it before.
    Claimed,
    /// The item was there already, as it is.
    Taken(Box<StoredBooking>),
}

/// What a conditional write found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The item is written.
    Done,
    /// Somebody else wrote since, and this is the item now.
    Conflict(Box<StoredBooking>),
    /// The item is gone.
    Gone,
}

/// Where bookings are kept.
///
/// Every write MUST be durable when it is reported done, and carry a nonce of its writer: a write whose
/// answer was lost and which the implementation repeats MUST be reported as done, not as a conflict with
/// itself. Attributes that the implementation does not know MUST survive a replacement.
pub trait BookingStore: Send + Sync {
    /// Writes a new item if there is none of this identifier. MUST be one conditional write whose
    /// failure itself returns what is there.
    fn claim(&self, new: &StoredBooking) -> impl Future<Output = Result<Claim, StoreError>> + Send;

    /// Reads an item, strongly consistent.
    fn read(&self, id: &BookingId) -> impl Future<Output = Result<Option<StoredBooking>, StoreError>> + Send;

    /// Replaces the item if its revision is still `seen_rev`; `next.rev` is `seen_rev + 1`. MUST be one
    /// conditional write whose failure itself returns what is there.
    fn replace(
        &self,
        seen_rev: u64,
        next: &StoredBooking,
    ) -> impl Future<Output = Result<Replaced, StoreError>> + Send;

    /// Identifiers of bookings that have been due since before `before`, not more than `limit`. It MAY
    /// be stale in both directions; every booking that stays overdue MUST appear eventually if it has
    /// left the request that made it (until then the guard timer alone watches over it).
    fn overdue(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<BookingId>, StoreError>> + Send;
}

/// What a request needs to know of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The key that it came with.
    pub key_id: Option<KeyId>,
    /// The provider that it names. Its breaker is read with it.
    pub provider_id: Option<ProviderId>,
}

/// What is known of it. What does not exist is `None`.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The key.
    pub key: Option<KeyRecord>,
    /// The provider.
    pub provider: Option<ProviderSettings>,
    /// The provider's breaker; closed if nothing is stored.
    pub breaker: BreakerState,
}

/// Reads the configuration.
pub trait SettingsReader: Send + Sync {
    /// Reads everything wanted. MUST be one round trip, and complete: what a batch read leaves
    /// unprocessed is asked for again.
    fn load(&self, wanted: &Wanted) -> impl Future<Output = Result<Loaded, StoreError>> + Send;
}

/// Where breakers are kept, for all instances.
pub trait BreakerStore: Send + Sync {
    /// The breaker's state; closed if nothing is stored.
    fn read(&self, provider_id: &ProviderId)
    -> impl Future<Output = Result<BreakerState, StoreError>> + Send;

    /// Counts a failure. If there are now at least `threshold` of them in a row, the circuit opens until
    /// `open_until` and any probe's lease ends. Returns the state afterwards.
    fn record_failure(
        &self,
        provider_id: &ProviderId,
        threshold: u32,
        open_until: Timestamp,
    ) -> impl Future<Output = Result<BreakerState, StoreError>> + Send;

    /// The probe succeeded: closes the circuit and forgets the failures.
    fn close(&self, provider_id: &ProviderId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets the failures of a closed circuit. An open one MUST stay open: only its probe closes it.
    fn forget_failures(
        &self,
        provider_id: &ProviderId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes the lease of the one probe of a circuit that is open and whose time is over at `now`. Of
    /// all who ask at once, exactly one MUST get it; a lease that is over may be taken again.
    fn try_probe(
        &self,
        provider_id: &ProviderId,
        now: Timestamp,
        probe_until: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives back the lease of a probe that came to nothing, if it is still the one until `probe_until`.
    fn release_probe(
        &self,
        provider_id: &ProviderId,
        probe_until: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
