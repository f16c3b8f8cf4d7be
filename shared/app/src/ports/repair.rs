//! What those who operate the system look at and set right: dead letters, and the log of who did what.

use std::fmt;
use std::future::Future;

use holdfast_domain::Timestamp;

use super::StoreError;

/// The queues of messages that could not be served, or that somebody has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadLetterQueue {
    /// Timers that failed again and again.
    Timers,
    /// Events that could not be taken into the feed and to endpoints.
    Events,
    /// Events that the bus could not hand over to their queue.
    UndeliveredEvents,
    /// Hints to deliveries.
    Deliveries,
    /// Locations to be asked for what is open there.
    Refreshes,
    /// Changes of bookings that could not be read.
    ParkedRecords,
    /// Bookings that somebody has to look at.
    Bookings,
    /// Changes of bookings that were not read for as long as the stream keeps them.
    StreamFailures,
}

impl DeadLetterQueue {
    /// Every queue.
    pub const ALL: [Self; 8] = [
        Self::Timers,
        Self::Events,
        Self::UndeliveredEvents,
        Self::Deliveries,
        Self::Refreshes,
        Self::ParkedRecords,
        Self::Bookings,
        Self::StreamFailures,
    ];

    /// The name that the API shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timers => "timers",
            Self::Events => "events",
            Self::UndeliveredEvents => "undelivered_events",
            Self::Deliveries => "deliveries",
            Self::Refreshes => "refreshes",
            Self::ParkedRecords => "parked_records",
            Self::Bookings => "bookings",
            Self::StreamFailures => "stream_failures",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.as_str() == text)
    }
}

/// A message of such a queue, taken for a while.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What it says.
    pub body: String,
    /// By which it is put away or given back.
    pub receipt: String,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DeadLetter")
    }
}

/// The queues of dead letters.
///
/// A letter that was taken and neither removed nor given back MUST come again, after a minute or so.
pub trait DeadLetters: Send + Sync {
    /// About how many letters wait in a queue.
    fn count(&self, queue: DeadLetterQueue) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Takes some letters, not more than `limit` and not more than ten. None means that there are none, or that
    /// all are taken.
    fn take(
        &self,
        queue: DeadLetterQueue,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Sends a letter to where it failed, to be served once more. MUST NOT be called for queues whose letters were
    /// never messages: [`ParkedRecords`](DeadLetterQueue::ParkedRecords), [`Bookings`](DeadLetterQueue::Bookings)
    /// and [`StreamFailures`](DeadLetterQueue::StreamFailures).
    fn send_again(
        &self,
        queue: DeadLetterQueue,
        letter: &DeadLetter,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes a letter that was taken.
    fn remove(
        &self,
        queue: DeadLetterQueue,
        letter: &DeadLetter,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What an operator did, or was about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Tells entries of one moment apart.
    pub nonce: String,
    /// Whose key it was: its id, or `bootstrap`.
    pub key_id: String,
    /// What was done.
    pub action: String,
    /// To what: a booking's id, or a queue's name.
    pub subject: String,
    /// Why, in the operator's words.
    pub reason: String,
}

/// Where entries are, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPlace {
    /// When it was made.
    pub at: Timestamp,
    /// Which of that moment.
    pub nonce: String,
}

/// A part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries, the newest first.
    pub entries: Vec<AuditEntry>,
    /// The place of the last one, if there may be more behind it.
    pub next: Option<AuditPlace>,
}

/// For how long entries are kept, in milliseconds: 400 days.
pub const AUDIT_KEPT_MS: u64 = 400 * 24 * 60 * 60 * 1_000;

/// The log of what operators did.
pub trait AuditLog: Send + Sync {
    /// Adds an entry. MUST be durable when it is reported done.
    fn add(&self, entry: &AuditEntry) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Entries that follow on a place, the newest first.
    fn entries(
        &self,
        after: Option<&AuditPlace>,
        limit: usize,
    ) -> impl Future<Output = Result<AuditPage, StoreError>> + Send;
}
