//! Availability: what providers say of their open slots, where it is remembered, and what keeps it fresh.

use std::future::Future;

use holdfast_domain::{AttemptError, LocationId, OpenSlot, ProviderId, SlotChange, Timestamp, Window, Zone};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::availability::{BookingKeySecret, ContentId};
use crate::settings::{LocationSettings, ProviderSettings};

/// For how long what was noted of slots that changed hands can be read, in milliseconds: longer than anything
/// in the cache is shown.
pub const SLOT_CHANGES_KEPT_MS: u64 = 20 * 60 * 1_000;

/// A provider is asked what is open at one of its locations.
#[derive(Clone, Copy, Debug)]
pub struct AvailabilityCall<'a> {
    /// Whom to ask.
    pub provider: &'a ProviderSettings,
    /// Where.
    pub location: &'a LocationSettings,
    /// When the slots begin.
    pub window: Window,
    /// How long it may take altogether, in milliseconds.
    pub limit_ms: u64,
}

/// A provider did not say what is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvailabilityFailure {
    /// Why.
    pub error: AttemptError,
    /// How long the provider asks to be left alone, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// Asks providers for their open slots.
pub trait AvailabilityGateway: Send + Sync {
    /// The open slots that begin within the window, in their order ([`OpenSlot::order`]), none twice. An
    /// answer of which a part cannot be used MUST be a failure: a part of what is open looks like all of it.
    /// The call MUST end within its limit.
    fn open_slots(
        &self,
        call: AvailabilityCall<'_>,
    ) -> impl Future<Output = Result<Vec<OpenSlot>, AvailabilityFailure>> + Send;
}

/// A location of a provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The provider.
    pub provider_id: ProviderId,
    /// The provider's own name for the location. Bookings may name locations that are not configured.
    pub location_id: String,
}

/// What a provider said is open at a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAvailability {
    /// When whoever asked began to. Everything that happened before is in it.
    pub as_of: Timestamp,
    /// When its slots begin. Nothing is known of other times.
    pub window: Window,
    /// The location's time zone.
    pub zone: Zone,
    /// The slots, in their order.
    pub slots: Vec<OpenSlot>,
}

impl KnownAvailability {
    /// What it says, but for when.
    pub fn content_id(&self) -> ContentId {
        ContentId::of(self)
    }
}

/// How asking for a location's availability goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefreshState {
    /// Failures since the last success.
    pub failures: u32,
    /// Before this time it is not asked again; `None` after a success.
    pub not_before: Option<Timestamp>,
}

/// All that is remembered of a location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// What was said last; `None` if nothing ever was.
    pub availability: Option<KnownAvailability>,
    /// What bookings did to slots since, and what they have claimed, whenever that was.
    pub changes: Vec<SlotChange>,
    /// How asking goes.
    pub refresh: RefreshState,
}

/// Where availability is remembered.
///
/// A reader MUST NOT ever see parts of two answers together, whatever writers do or wherever they stop: what
/// it sees was said as a whole, and at the time that it is told.
pub trait AvailabilityStore: Send + Sync {
    /// All that is remembered of a location, in one round trip but for thousands of changes. Changes MUST be
    /// there that happened at `since` or later, if that is not longer ago than [`SLOT_CHANGES_KEPT_MS`]; others
    /// MAY be. What is claimed ([`Hold::Claimed`](holdfast_domain::Hold::Claimed)) MUST be there
    /// until it is settled, for four days. What was written within the last second MAY be missing.
    ///
    /// What was said but cannot be read is [`StoreError::Corrupt`], and MUST NOT be in the way of [`replace`]
    /// and [`forget`].
    ///
    /// [`replace`]: Self::replace
    /// [`forget`]: Self::forget
    fn read(
        &self,
        place: &Place,
        since: Timestamp,
    ) -> impl Future<Output = Result<Remembered, StoreError>> + Send;

    /// Remembers what was said. What was said of a later time MUST stay, and failures of that time or before
    /// are forgotten. What was said earlier and was only confirmed of a later time MAY give way, since the two
    /// are not written together: what is read then is older, and was said at the time that it is told.
    ///
    /// More than the store can keep of one location is [`StoreError::Refused`].
    fn replace(
        &self,
        place: &Place,
        said: &KnownAvailability,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Remembers that the same was said again at a time. MUST be one small write, whatever there is to say. A
    /// later time MUST stay. If something else is remembered meanwhile, that MUST stay; what confirmed it MAY be
    /// lost, so that it is told again of the time when it was new. Failures of that time or before are forgotten.
    fn confirm(
        &self,
        place: &Place,
        content: ContentId,
        as_of: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Remembers how asking goes, which failed for whoever began to at `asked_at`. What is known MUST stay as it
    /// is. Whatever was said at that time or later forgets it, in whichever order the two are written; of two
    /// failures the later one stays.
    fn record_failure(
        &self,
        place: &Place,
        state: RefreshState,
        asked_at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets what was said and how asking goes. Changes MAY stay.
    fn forget(&self, place: &Place) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Takes note of slots that change hands.
pub trait SlotChangeLog: Send + Sync {
    /// Notes a change, so that it is read with its location. One that settles what was claimed puts an end to the
    /// claim; changes of one booking are noted in their order. Noting it again MUST change nothing. Where nobody
    /// remembers availability, it MAY be left out.
    fn note(
        &self,
        provider_id: &ProviderId,
        change: &SlotChange,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The message that a location has to be asked for. It is a hint: whoever receives it looks at what is
/// configured and remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshMessage {
    /// The provider, in its text form.
    pub provider_id: String,
    /// The location, in its text form.
    pub location_id: String,
    /// Not before this time.
    pub not_before: Timestamp,
    /// How often it was put off because the provider may not be called so often.
    #[serde(default)]
    pub postponed: u32,
}

/// The queue of refreshes.
pub trait RefreshQueue: Send + Sync {
    /// Sends each message so that it arrives no earlier than `not_before` or the queue's longest delay,
    /// whichever is sooner. Returns one result a message, in order: batches MUST be read entry by entry.
    fn send(
        &self,
        messages: &[RefreshMessage],
        now: Timestamp,
    ) -> impl Future<Output = Vec<Result<(), StoreError>>> + Send;
}

/// Where locations are kept.
pub trait LocationStore: Send + Sync {
    /// Writes a location, new or not.
    fn put_location(
        &self,
        provider_id: &ProviderId,
        location: &LocationSettings,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads some of a provider's locations, each once and in any order; those that do not exist are left out.
    /// MUST be complete: what a batch read leaves unprocessed is asked for again.
    fn locations_named(
        &self,
        provider_id: &ProviderId,
        ids: &[LocationId],
    ) -> impl Future<Output = Result<Vec<LocationSettings>, StoreError>> + Send;

    /// All locations of a provider, by name.
    fn locations(
        &self,
        provider_id: &ProviderId,
    ) -> impl Future<Output = Result<Vec<LocationSettings>, StoreError>> + Send;

    /// Removes a location. Returns whether there was one.
    fn delete_location(
        &self,
        provider_id: &ProviderId,
        id: &LocationId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Where the secrets are kept that booking keys are signed with. They are read with the settings
/// ([`SettingsReader`](super::SettingsReader)).
pub trait BookingKeySecretStore: Send + Sync {
    /// Replaces the secrets (the newest first) if the newest is still `seen` (`None`: there are none).
    /// Returns whether it did; a write of its own whose answer was lost MAY be reported as not done.
    fn replace_booking_key_secrets(
        &self,
        seen: Option<u32>,
        secrets: &[BookingKeySecret],
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
