//! What a change of a booking's item makes happen elsewhere, computed from the two images alone.
//!
//! The table's stream is the outbox: whoever reads it carries these effects out, as often as it takes.

use crate::{Booking, Cause, EventId, HistoryEntry, Status, Timestamp};

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// `booking.created`
    BookingCreated,
    /// `booking.reserved`
    BookingReserved,
    /// `booking.confirmed`
    BookingConfirmed,
    /// `booking.rejected`
    BookingRejected,
    /// `booking.cancelled`
    BookingCancelled,
    /// `booking.expired`
    BookingExpired,
    /// `booking.completed`
    BookingCompleted,
    /// `booking.no_show`
    BookingNoShow,
    /// `booking.operation_failed`
    BookingOperationFailed,
    /// `booking.compensated`
    BookingCompensated,
    /// `booking.compensation_failed`
    BookingCompensationFailed,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::BookingCreated,
        Self::BookingReserved,
        Self::BookingConfirmed,
        Self::BookingRejected,
        Self::BookingCancelled,
        Self::BookingExpired,
        Self::BookingCompleted,
        Self::BookingNoShow,
        Self::BookingOperationFailed,
        Self::BookingCompensated,
        Self::BookingCompensationFailed,
    ];

    /// The name that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BookingCreated => "booking.created",
            Self::BookingReserved => "booking.reserved",
            Self::BookingConfirmed => "booking.confirmed",
            Self::BookingRejected => "booking.rejected",
            Self::BookingCancelled => "booking.cancelled",
            Self::BookingExpired => "booking.expired",
            Self::BookingCompleted => "booking.completed",
            Self::BookingNoShow => "booking.no_show",
            Self::BookingOperationFailed => "booking.operation_failed",
            Self::BookingCompensated => "booking.compensated",
            Self::BookingCompensationFailed => "booking.compensation_failed",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event_type| event_type.as_str() == text)
    }
}

/// An event about one version of a booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The same however often the event is emitted.
    pub id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// The version that it shows.
    pub version: u32,
    /// When it happened.
    pub at: Timestamp,
    /// The status at that version.
    pub status: Status,
}

/// Why somebody has to look at a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterReason {
    /// The provider may hold a booking that Holdfast reports as ended.
    CompensationFailed,
}

impl DeadLetterReason {
    /// The name that the dead letter carries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CompensationFailed => "compensation_failed",
        }
    }
}

/// Something to be done elsewhere because a booking changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the listeners.
    Emit(Event),
    /// Look at the booking again at this time.
    ArmTimer {
        /// When.
        due_at: Timestamp,
    },
    /// Raise an alarm.
    DeadLetter {
        /// Why.
        reason: DeadLetterReason,
        /// The version that says so.
        version: u32,
    },
}

/// What the change from `old` (`None`: the booking is new) to `new` makes happen.
pub fn effects(old: Option<&Booking>, new: &Booking) -> Vec<Effect> {
    let known_version = old.map_or(0, Booking::version);
    let mut effects: Vec<Effect> = events_since(new, known_version).into_iter().map(Effect::Emit).collect();
    for (version, entry) in versions_since(new, known_version) {
        if entry.cause == Cause::CompensationFailed {
            effects.push(Effect::DeadLetter { reason: DeadLetterReason::CompensationFailed, version });
        }
    }
    if let Some(due_at) = new.due_at()
        && old.and_then(Booking::due_at) != Some(due_at)
    {
        effects.push(Effect::ArmTimer { due_at });
    }
    effects
}

/// The events of every version of `booking` after `known_version`.
pub fn events_since(booking: &Booking, known_version: u32) -> Vec<Event> {
    versions_since(booking, known_version)
        .filter_map(|(version, entry)| {
            let event_type = event_type(entry)?;
            Some(Event {
                id: EventId::derived(booking.id.as_str(), version, event_type.as_str()),
                event_type,
                version,
                at: entry.at,
                status: entry.status,
            })
        })
        .collect()
}

fn versions_since(booking: &Booking, known_version: u32) -> impl Iterator<Item = (u32, &HistoryEntry)> {
    (1_u32..).zip(&booking.history).filter(move |(version, _)| *version > known_version)
}

fn event_type(entry: &HistoryEntry) -> Option<EventType> {
    match entry.cause {
        Cause::Created => Some(EventType::BookingCreated),
        Cause::Compensated => Some(EventType::BookingCompensated),
        Cause::CompensationFailed => Some(EventType::BookingCompensationFailed),
        Cause::OperationDeclined => Some(EventType::BookingOperationFailed),
        // The status stays as it was; listeners hear of the end of the compensation or operation.
        Cause::LateAcknowledgement | Cause::OperationBegun | Cause::CustomerErased => None,
        Cause::ProviderAcknowledged
        | Cause::ProviderDeclined
        | Cause::ProviderEnded
        | Cause::GivenUp
        | Cause::WithdrawnByConsumer
        | Cause::WithdrawnByProvider
        | Cause::AttendanceTold
        | Cause::HoldExpired => match entry.status {
            Status::Pending => None,
            Status::Reserved => Some(EventType::BookingReserved),
            Status::Confirmed => Some(EventType::BookingConfirmed),
            Status::Rejected => Some(EventType::BookingRejected),
            Status::Cancelled => Some(EventType::BookingCancelled),
            Status::Expired => Some(EventType::BookingExpired),
            Status::Completed => Some(EventType::BookingCompleted),
            Status::NoShow => Some(EventType::BookingNoShow),
        },
    }
}
