//! What a change of a booking's item makes happen elsewhere, computed from the two images alone.
//!
//! The table's stream is the outbox: whoever reads it carries these effects out, as often as it takes.

use std::ops::RangeInclusive;

use crate::{
    Booking, Cause, EventId, HistoryEntry, Notification, NotificationRoute, SlotChange, Status, Step,
    Timestamp, next_step, slot_changes,
};

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
    /// `booking.rescheduled`
    BookingRescheduled,
    /// `booking.operation_failed`
    BookingOperationFailed,
    /// `booking.compensated`
    BookingCompensated,
    /// `booking.compensation_failed`
    BookingCompensationFailed,
    /// `provider.notification_failed`
    ProviderNotificationFailed,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 13] = [
        Self::BookingCreated,
        Self::BookingReserved,
        Self::BookingConfirmed,
        Self::BookingRejected,
        Self::BookingCancelled,
        Self::BookingExpired,
        Self::BookingCompleted,
        Self::BookingNoShow,
        Self::BookingRescheduled,
        Self::BookingOperationFailed,
        Self::BookingCompensated,
        Self::BookingCompensationFailed,
        Self::ProviderNotificationFailed,
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
            Self::BookingRescheduled => "booking.rescheduled",
            Self::BookingOperationFailed => "booking.operation_failed",
            Self::BookingCompensated => "booking.compensated",
            Self::BookingCompensationFailed => "booking.compensation_failed",
            Self::ProviderNotificationFailed => "provider.notification_failed",
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
    /// Nobody could find out whether the provider made a change.
    OperationUnresolved,
    /// The provider was not told of a change.
    NotificationFailed,
}

impl DeadLetterReason {
    /// Why somebody has to look at a version with this cause; `None` if nobody has to.
    pub fn of(cause: Cause) -> Option<Self> {
        match cause {
            Cause::CompensationFailed => Some(Self::CompensationFailed),
            Cause::OperationUnresolved => Some(Self::OperationUnresolved),
            Cause::NotificationFailed => Some(Self::NotificationFailed),
            Cause::Created
            | Cause::Accepted
            | Cause::ProviderAcknowledged
            | Cause::ProviderDeclined
            | Cause::ProviderEnded
            | Cause::GivenUp
            | Cause::HoldExpired
            | Cause::LateAcknowledgement
            | Cause::Compensated
            | Cause::OperationBegun
            | Cause::OperationDeclined
            | Cause::OperationGivenUp
            | Cause::WithdrawnByConsumer
            | Cause::WithdrawnByProvider
            | Cause::CancelledByOperator
            | Cause::RetriedByOperator
            | Cause::AttendanceTold
            | Cause::CustomerErased
            | Cause::Rescheduled => None,
        }
    }

    /// The name that the dead letter carries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CompensationFailed => "compensation_failed",
            Self::OperationUnresolved => "operation_unresolved",
            Self::NotificationFailed => "notification_failed",
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
    /// Keep a notification for its provider to fetch.
    Keep(Notification),
    /// Correct what is known of the open slots of its location.
    Occupy(SlotChange),
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
    effects.extend(dead_letters_since(new, known_version));
    if new.route == NotificationRoute::Pull
        && let Some(current) = new.notifications.first()
        && old.and_then(|old| old.notifications.first()).map(|before| before.number) != Some(current.number)
    {
        effects.push(Effect::Keep(current.clone()));
    }
    effects.extend(slot_changes(old, new).into_iter().map(Effect::Occupy));
    if let Some((due_at, step)) = due(new)
        && old.and_then(due) != Some((due_at, step))
    {
        effects.push(Effect::ArmTimer { due_at });
    }
    effects
}

/// What these versions of `booking` have made happen, for whoever does not know whether it did. All of it may happen
/// twice, and the event of a version that others have followed on says less than it did at its time: what only the
/// current version knows is not in the history. Slots are not among it: what is known of them is corrected by asking
/// their provider.
pub fn effects_again(booking: &Booking, versions: RangeInclusive<u32>) -> Vec<Effect> {
    let known_version = versions.start().saturating_sub(1);
    let events = events_since(booking, known_version).into_iter();
    let mut effects: Vec<Effect> =
        events.filter(|event| versions.contains(&event.version)).map(Effect::Emit).collect();
    let is_wanted = |effect: &Effect| match effect {
        Effect::DeadLetter { version, .. } => versions.contains(version),
        _ => false,
    };
    effects.extend(dead_letters_since(booking, known_version).filter(is_wanted));
    if booking.route == NotificationRoute::Pull {
        effects.extend(booking.notifications.first().cloned().map(Effect::Keep));
    }
    effects.extend(booking.due_at().map(|due_at| Effect::ArmTimer { due_at }));
    effects
}

/// When something is due for `booking`, and what. Of two things that are due at the same moment the second
/// needs a timer of its own: that of the first may have rung.
fn due(booking: &Booking) -> Option<(Timestamp, Step)> {
    booking.due_at().map(|due_at| (due_at, next_step(booking, due_at)))
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

fn dead_letters_since(booking: &Booking, known_version: u32) -> impl Iterator<Item = Effect> {
    versions_since(booking, known_version).filter_map(|(version, entry)| {
        DeadLetterReason::of(entry.cause).map(|reason| Effect::DeadLetter { reason, version })
    })
}

fn versions_since(booking: &Booking, known_version: u32) -> impl Iterator<Item = (u32, &HistoryEntry)> {
    (1_u32..).zip(&booking.history).filter(move |(version, _)| *version > known_version)
}

fn event_type(entry: &HistoryEntry) -> Option<EventType> {
    match entry.cause {
        Cause::Created => Some(EventType::BookingCreated),
        Cause::Compensated => Some(EventType::BookingCompensated),
        Cause::CompensationFailed => Some(EventType::BookingCompensationFailed),
        Cause::Rescheduled => Some(EventType::BookingRescheduled),
        Cause::OperationDeclined | Cause::OperationGivenUp | Cause::OperationUnresolved => {
            Some(EventType::BookingOperationFailed)
        }
        Cause::NotificationFailed => Some(EventType::ProviderNotificationFailed),
        // The status stays as it was; listeners hear of the end of the compensation or operation.
        Cause::LateAcknowledgement
        | Cause::OperationBegun
        | Cause::CustomerErased
        | Cause::RetriedByOperator => None,
        Cause::Accepted
        | Cause::ProviderAcknowledged
        | Cause::ProviderDeclined
        | Cause::ProviderEnded
        | Cause::GivenUp
        | Cause::WithdrawnByConsumer
        | Cause::WithdrawnByProvider
        | Cause::CancelledByOperator
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What listeners and operators hear of a version.
    fn told(cause: Cause, status: Status) -> (Option<&'static str>, Option<&'static str>) {
        let entry = HistoryEntry::new(status, Timestamp::EPOCH, cause, 0);
        (event_type(&entry).map(EventType::as_str), DeadLetterReason::of(cause).map(DeadLetterReason::as_str))
    }

    #[test]
    fn each_cause_has_its_event() {
        let failed = Some("booking.operation_failed");
        for (cause, status, event) in [
            (Cause::Created, Status::Pending, Some("booking.created")),
            (Cause::Accepted, Status::Confirmed, Some("booking.confirmed")),
            // A confirm and an extend.
            (Cause::ProviderAcknowledged, Status::Confirmed, Some("booking.confirmed")),
            (Cause::ProviderAcknowledged, Status::Reserved, Some("booking.reserved")),
            (Cause::ProviderEnded, Status::Expired, Some("booking.expired")),
            (Cause::Rescheduled, Status::Reserved, Some("booking.rescheduled")),
            (Cause::Rescheduled, Status::Confirmed, Some("booking.rescheduled")),
            (Cause::OperationBegun, Status::Confirmed, None),
            (Cause::OperationDeclined, Status::Confirmed, failed),
            (Cause::OperationGivenUp, Status::Reserved, failed),
            (Cause::WithdrawnByConsumer, Status::Cancelled, Some("booking.cancelled")),
            (Cause::CancelledByOperator, Status::Cancelled, Some("booking.cancelled")),
            (Cause::LateAcknowledgement, Status::Cancelled, None),
            (Cause::CustomerErased, Status::Cancelled, None),
            (Cause::RetriedByOperator, Status::Cancelled, None),
        ] {
            assert_eq!(told(cause, status), (event, None), "{cause:?}");
        }
    }

    #[test]
    fn what_somebody_has_to_look_at_is_an_event_and_a_dead_letter() {
        for (cause, event, letter) in [
            (Cause::CompensationFailed, "booking.compensation_failed", "compensation_failed"),
            (Cause::OperationUnresolved, "booking.operation_failed", "operation_unresolved"),
            (Cause::NotificationFailed, "provider.notification_failed", "notification_failed"),
        ] {
            assert_eq!(told(cause, Status::Confirmed), (Some(event), Some(letter)));
        }
    }
}
