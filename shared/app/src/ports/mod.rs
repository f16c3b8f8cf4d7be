//! What the use cases need of the world. Each port is named for its role; its obligations are marked
//! MUST, and one contract suite checks them on every implementation.
//!
//! All futures are `Send`, and every call ends within a time limit of the implementation's own.

mod admin;
mod availability;
mod delivery;
mod feed;
mod mailbox;
mod outside;
mod repair;
mod requests;
mod signals;
mod store;

pub use admin::{ConfigurationStore, EndpointStore, EndpointUpdate, PutEndpoint};
pub use availability::{
    AvailabilityCall, AvailabilityFailure, AvailabilityGateway, AvailabilityStore, BookingKeySecretStore,
    KnownAvailability, LocationStore, Place, RefreshMessage, RefreshQueue, RefreshState, Remembered,
    SLOT_CHANGES_KEPT_MS, SlotChangeLog,
};
pub use delivery::{
    AttemptEntry, AttemptLog, AttemptPage, AttemptPlace, DeliveryClaim, DeliveryHint, DeliveryPage,
    DeliveryPlace, DeliveryQuery, DeliveryQueue, DeliveryStore, DeliveryUpdate, ReplayMessage, ReplayQueue,
};
pub use feed::{EventFeed, FEED_RETENTION_MS, FeedEntry, FeedPage, MAX_APPENDED, NewEntry, SETTLE_LIMIT_MS};
pub use mailbox::{
    FETCHED_KEPT_MS, KeptNotification, NotificationMailbox, RELEASE_PAUSE_MS, Release, ReleaseWindow,
    Waiting, fetched_at,
};
pub use outside::{
    AttemptReport, CompensationCall, CompensationReport, NotificationCall, NotificationReport, PostOutcome,
    ProviderCall, ProviderGateway, WebhookPost, WebhookSender,
};
pub use repair::{
    AUDIT_KEPT_MS, AuditEntry, AuditLog, AuditPage, AuditPlace, DeadLetter, DeadLetterQueue, DeadLetters,
};
pub use requests::{CountedRequests, RequestCounter};
pub use signals::{EventBus, OutgoingEvent, ParkedRecord, RecordParking, TimerMessage, TimerQueue};
pub use store::{
    BookingPage, BookingQuery, BookingScan, BookingStore, BreakerStore, Claim, LimitStore, ListPlace, Loaded,
    MAX_WINDOW_LEAD_S, PlaceLease, Replaced, ScanPlace, ScannedBooking, ScannedChanges, SettingsReader,
    SlotExchange, StoreError, TakenCalls, Wanted, WantedCalls,
};

use holdfast_domain::Timestamp;

/// The time of day.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// Random numbers.
pub trait Entropy: Send + Sync {
    /// Sixteen random bytes.
    fn bytes16(&self) -> [u8; 16];

    /// An evenly distributed random number.
    fn u64(&self) -> u64 {
        let bytes = self.bytes16();
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[..8]);
        u64::from_be_bytes(eight)
    }
}
