//! Bookings, settings and breakers: what the hot path reads and writes.

use std::future::Future;

use holdfast_domain::{Booking, BookingId, KeyId, ProviderId, Tenant, Timestamp};

use crate::availability::BookingKeySecret;
use crate::settings::{BreakerState, KeyRecord, ProviderSettings};
use crate::stored::{SlotKey, StoredBooking};

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
    /// Another booking has the slot.
    SlotTaken,
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
    /// Another booking has one of the slots that were to be taken; nothing is written.
    SlotTaken,
}

/// Which exclusive slots change hands with a booking's write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotExchange {
    /// Taken, if no other booking has them.
    pub take: Vec<SlotKey>,
    /// Given up, if they are this booking's.
    pub free: Vec<SlotKey>,
}

/// Where a scan of all bookings goes on. Only the store that gave it knows what it says; it names no person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPlace(pub String);

/// When a booking changed, as a scan shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedChanges {
    /// When it got each of its versions, the first first.
    pub versions_at: Vec<Timestamp>,
    /// Whether something is due for it, now or later.
    pub is_under_way: bool,
}

/// A booking, as a scan shows it: nothing of whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedBooking {
    /// Which.
    pub id: BookingId,
    /// From here on, the scan is behind it.
    pub place: ScanPlace,
    /// When it changed; `None` if this version of the code cannot read it.
    pub changes: Option<ScannedChanges>,
}

/// A part of all bookings, in no order that means anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookingScan {
    /// The bookings.
    pub bookings: Vec<ScannedBooking>,
    /// Where the next part begins, if there may be more. A part may be empty and not the last.
    pub next: Option<ScanPlace>,
}

/// Which bookings of a tenant are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookingQuery {
    /// With this reference of the consumer's alone.
    pub reference: Option<String>,
    /// Made after this time alone.
    pub created_after: Option<Timestamp>,
    /// Those alone that follow on this place.
    pub after: Option<ListPlace>,
    /// How many to look at, at the most.
    pub limit: usize,
}

/// A booking's place in the list of its tenant: the newest first, and those of one moment in an order that
/// stays the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPlace {
    /// When it was made.
    pub created_at: Timestamp,
    /// Which it is.
    pub booking_id: BookingId,
}

/// A part of a tenant's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookingPage {
    /// The bookings, the newest first.
    pub bookings: Vec<Booking>,
    /// The place of the last one looked at, if there may be more behind it.
    pub next: Option<ListPlace>,
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

    /// As [`claim`](Self::claim), and takes these slots in the same transaction. If the item was there
    /// already, that is what MUST be told, whoever has the slots.
    fn claim_with_slots(
        &self,
        new: &StoredBooking,
        take: &[SlotKey],
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send;

    /// As [`replace`](Self::replace), and exchanges these slots in the same transaction. A conflict MUST be
    /// told before a slot that is taken.
    fn replace_with_slots(
        &self,
        seen_rev: u64,
        next: &StoredBooking,
        exchange: &SlotExchange,
    ) -> impl Future<Output = Result<Replaced, StoreError>> + Send;

    /// Bookings of a tenant, the newest first. What was written within the last seconds MAY be missing
    /// or be listed as it was.
    fn list(
        &self,
        tenant: &Tenant,
        query: &BookingQuery,
    ) -> impl Future<Output = Result<BookingPage, StoreError>> + Send;

    /// Identifiers of bookings that have been due since before `before`, not more than `limit`. It MAY
    /// be stale in both directions; every booking that stays overdue MUST appear eventually if it has
    /// left the request that made it (until then the guard timer alone watches over it).
    fn overdue(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<BookingId>, StoreError>> + Send;

    /// All bookings, whoever's they are, a part at a time: from `after` on, looking at not more than about `limit`. It
    /// costs what reading the whole store costs. What it shows MAY be stale; a booking that is there from the first
    /// part's time to the last one's MUST be in one part.
    fn scan(
        &self,
        after: Option<&ScanPlace>,
        limit: usize,
    ) -> impl Future<Output = Result<BookingScan, StoreError>> + Send;
}

/// What a request needs to know of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The key that it came with.
    pub key_id: Option<KeyId>,
    /// The provider that it names. Its breaker is read with it.
    pub provider_id: Option<ProviderId>,
    /// The secrets of booking keys.
    pub booking_key_secrets: bool,
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
    /// The secrets of booking keys, the newest first; none if none were made yet.
    pub booking_key_secrets: Vec<BookingKeySecret>,
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

/// How far the clocks of instances may be apart, in windows of a second. What lies further ahead was written
/// by a clock gone wrong.
pub const MAX_WINDOW_LEAD_S: i64 = 5;

/// Which calls of a provider's are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedCalls {
    /// The window, one second long, in seconds since the Unix epoch.
    pub window_s: i64,
    /// Whether somebody is known to have begun it: a hint that may spare a round trip.
    pub is_begun: bool,
    /// How many, at the most.
    pub calls: u32,
    /// How many the window has altogether.
    pub capacity: u32,
}

/// What was taken of a window's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenCalls {
    /// The window they are of, in seconds since the Unix epoch. It is the one that was asked for, or a later one
    /// that somebody else, by a clock that is ahead, has begun.
    pub window_s: i64,
    /// How many; 0 if the window has no more.
    pub taken: u32,
}

/// Where the limits on calls to providers are kept, for all instances.
pub trait LimitStore: Send + Sync {
    /// Takes calls of a window. All who ask together MUST NOT get more than its capacity, and MUST get all of it
    /// if they ask often enough. If a later window was begun, up to [`MAX_WINDOW_LEAD_S`] ahead, the calls MUST be of that one;
    /// a window further ahead MUST be given up for the one that is asked for. Calls whose taking is reported
    /// as an error MAY be lost to the window.
    fn take_calls(
        &self,
        provider_id: &ProviderId,
        wanted: &WantedCalls,
    ) -> impl Future<Output = Result<TakenCalls, StoreError>> + Send;

    /// Takes one of `places` for attempts in flight, under a lease until `lease_until`. Whoever asks with a
    /// lease that has a place already keeps it. Leases that are over at `now` MUST NOT be in the way. Returns
    /// whether there was a place.
    fn take_place(
        &self,
        provider_id: &ProviderId,
        lease: &PlaceLease,
        places: u32,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives a place back. One that is not held is nothing to give back.
    fn give_place_back(
        &self,
        provider_id: &ProviderId,
        lease_id: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a place for an attempt in flight is held by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceLease {
    /// Which lease it is, among all of the provider.
    pub id: String,
    /// Until when it holds: a worker that dies frees its place then.
    pub until: Timestamp,
}
