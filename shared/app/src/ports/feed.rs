//! Feeds of events that consumers poll.

use std::future::Future;

use holdfast_domain::{EventId, Tenant, Timestamp};

use super::StoreError;

/// The most events that one call appends: as many as the largest batch of the events' queue, and few enough
/// that one transaction takes them at any size.
pub const MAX_APPENDED: usize = 10;

/// For how long an event is shown, in milliseconds: 30 days.
pub const FEED_RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// For how long an event waits for one of a smaller number that is missing, in milliseconds. A write that is
/// being committed takes far less; what is missing for longer is lost.
pub const SETTLE_LIMIT_MS: u64 = 5 * 60 * 1_000;

/// An event to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// The same however often the event is appended.
    pub event_id: EventId,
    /// Its type.
    pub event_type: String,
    /// Its body, of which not a byte is changed.
    pub body: String,
}

/// An event in a tenant's feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// Its place, from 1. Numbers of one tenant follow on each other.
    pub number: u64,
    /// When it was appended, never before the entry of the number before it.
    pub at: Timestamp,
    /// When the entry of the number before it was appended; its own time for the first.
    pub previous_at: Timestamp,
    /// The event.
    pub event: NewEntry,
}

/// Part of a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedPage {
    /// The entries, by number.
    pub entries: Vec<FeedEntry>,
    /// Whether there may be more behind the last of them.
    pub has_more: bool,
}

/// The events of each tenant, numbered in the order in which they were appended.
///
/// Numbers and entries MUST be written together, and a number MUST be given only once everything with a
/// smaller one is sure to be written. A reader that sees an entry may yet miss one of a smaller number for a
/// moment, while that is being committed: [`FeedEntry::previous_at`] tells it so.
pub trait EventFeed: Send + Sync {
    /// Appends up to [`MAX_APPENDED`] events of a tenant, all or none, except for those that were appended
    /// before: these keep their number. They are known again for [`FEED_RETENTION_MS`] at the least.
    fn append(
        &self,
        tenant: &Tenant,
        events: &[NewEntry],
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads entries behind the number `after`, at most `limit`, strongly consistent. Those that are too old to
    /// be shown are among them until they are removed.
    fn read(
        &self,
        tenant: &Tenant,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<FeedPage, StoreError>> + Send;

    /// The last number that was given, strongly consistent; 0 if none was.
    fn last_number(&self, tenant: &Tenant) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
