//! The versions of a booking: one entry each, and why it came to be.

use crate::{Slot, Status, Timestamp};

/// Why a version came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The consumer asked for it.
    Created,
    /// It counts as confirmed without the provider's word; the provider is told.
    Accepted,
    /// The provider said yes.
    ProviderAcknowledged,
    /// The provider said no.
    ProviderDeclined,
    /// The provider ended a booking that it had.
    ProviderEnded,
    /// The provider failed or was silent, and there was no time left.
    GivenUp,
    /// The hold ran out.
    HoldExpired,
    /// The provider said yes after the booking had ended; a compensation began.
    LateAcknowledgement,
    /// The compensation succeeded.
    Compensated,
    /// The compensation failed for good.
    CompensationFailed,
    /// The consumer asked for a change; the provider is being asked.
    OperationBegun,
    /// The provider refused the change; the booking is as it was.
    OperationDeclined,
    /// The consumer withdrew the booking.
    WithdrawnByConsumer,
    /// The provider withdrew the booking.
    WithdrawnByProvider,
    /// The provider told whether the customer came.
    AttendanceTold,
    /// The consumer had the customer's data erased.
    CustomerErased,
    /// The booking moved to another slot.
    Rescheduled,
    /// The provider did not make the change in time; the booking is as it was.
    OperationGivenUp,
    /// Nobody could find out whether the provider made the change.
    OperationUnresolved,
    /// The provider could not be told.
    NotificationFailed,
    /// Whoever operates the system ended the booking.
    CancelledByOperator,
    /// Whoever operates the system began anew what had been given up.
    RetriedByOperator,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 22] = [
        Self::Created,
        Self::Accepted,
        Self::ProviderAcknowledged,
        Self::ProviderDeclined,
        Self::ProviderEnded,
        Self::GivenUp,
        Self::HoldExpired,
        Self::LateAcknowledgement,
        Self::Compensated,
        Self::CompensationFailed,
        Self::OperationBegun,
        Self::OperationDeclined,
        Self::WithdrawnByConsumer,
        Self::WithdrawnByProvider,
        Self::AttendanceTold,
        Self::CustomerErased,
        Self::Rescheduled,
        Self::OperationGivenUp,
        Self::OperationUnresolved,
        Self::NotificationFailed,
        Self::CancelledByOperator,
        Self::RetriedByOperator,
    ];

    /// The name that the API shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Accepted => "accepted",
            Self::ProviderAcknowledged => "provider_acknowledged",
            Self::ProviderDeclined => "provider_declined",
            Self::ProviderEnded => "provider_ended",
            Self::GivenUp => "given_up",
            Self::HoldExpired => "hold_expired",
            Self::LateAcknowledgement => "late_acknowledgement",
            Self::Compensated => "compensated",
            Self::CompensationFailed => "compensation_failed",
            Self::OperationBegun => "operation_begun",
            Self::OperationDeclined => "operation_declined",
            Self::WithdrawnByConsumer => "withdrawn_by_consumer",
            Self::WithdrawnByProvider => "withdrawn_by_provider",
            Self::AttendanceTold => "attendance_told",
            Self::CustomerErased => "customer_erased",
            Self::Rescheduled => "rescheduled",
            Self::OperationGivenUp => "operation_given_up",
            Self::OperationUnresolved => "operation_unresolved",
            Self::NotificationFailed => "notification_failed",
            Self::CancelledByOperator => "cancelled_by_operator",
            Self::RetriedByOperator => "retried_by_operator",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

/// One version of a booking: what an event about it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The status from this version on.
    pub status: Status,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Attempts that the operation, compensation or notification which led here had made.
    pub attempts: u32,
    /// The slot until this version, where this version moved the booking.
    pub moved_from: Option<Slot>,
}

impl HistoryEntry {
    /// A version that did not move the booking.
    pub fn new(status: Status, at: Timestamp, cause: Cause, attempts: u32) -> Self {
        Self { status, at, cause, attempts, moved_from: None }
    }
}
