//! What is the same in every protocol: how a no and a cancel are told, and how long a hold lasts whose end
//! nobody tells.

use holdfast_app::bookings::{DECLINED_BY_PROVIDER, DEFAULT_HOLD_MS};
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, Cancellation, Change, CompensationOutcome,
    Rejection, State, Timestamp,
};

/// Why a booking is cancelled if the consumer gave no reason.
const BY_CONSUMER: &str = "cancelled_by_consumer";

/// What came of asking a provider to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CancelOutcome {
    /// It is cancelled there.
    Done,
    /// The provider knows no such booking.
    NoSuchBooking,
    /// The provider refuses.
    Declined(Rejection),
    /// The request was sent, or may have been, and there is no usable answer.
    Unknown(AttemptError),
}

impl CancelOutcome {
    /// What this says of a consumer's cancel: what the provider does not know of is as good as cancelled.
    pub(crate) fn of_attempt(self) -> AttemptOutcome {
        match self {
            Self::Done | Self::NoSuchBooking => AttemptOutcome::Acknowledged(Acknowledgement {
                provider_reference: None,
                reserved_until: None,
            }),
            Self::Declined(rejection) => AttemptOutcome::Declined(rejection),
            Self::Unknown(error) => AttemptOutcome::Unknown(error),
        }
    }

    /// What this says of a compensation.
    pub(crate) fn of_compensation(&self) -> CompensationOutcome {
        match self {
            Self::Done => CompensationOutcome::Acknowledged,
            Self::NoSuchBooking => CompensationOutcome::NoSuchBooking,
            Self::Declined(_) => CompensationOutcome::Declined,
            Self::Unknown(error) => CompensationOutcome::Failed(*error),
        }
    }
}

/// The reason that a provider is given for a cancel: the consumer's, or what ended the booking here.
pub(crate) fn cancel_reason(booking: &Booking) -> &str {
    let asked_for = booking.operation.as_ref().and_then(|operation| match &operation.change {
        Change::Cancel(withdrawal) => Some(withdrawal.reason.as_deref().unwrap_or(BY_CONSUMER)),
        Change::Book | Change::Confirm | Change::Extend { .. } | Change::Reschedule(_) => None,
    });
    asked_for.unwrap_or_else(|| match &booking.state {
        State::Cancelled(Cancellation::BySystem(reason)) => reason.as_str(),
        State::Cancelled(Cancellation::ByConsumer(withdrawal)) => {
            withdrawal.reason.as_deref().unwrap_or(BY_CONSUMER)
        }
        State::Cancelled(Cancellation::ByProvider(_))
        | State::Pending
        | State::Reserved { .. }
        | State::Confirmed
        | State::Rejected(_)
        | State::Expired
        | State::Completed
        | State::NoShow => booking.status().as_str(),
    })
}

/// A provider's definite no: in the words that are configured for its code, else in its own.
pub(crate) fn rejection(
    provider: &ProviderSettings,
    provider_code: String,
    message: Option<String>,
) -> Rejection {
    let message = provider.decline_messages.get(&provider_code).cloned().or(message);
    Rejection { code: DECLINED_BY_PROVIDER.to_owned(), message, provider_code: Some(provider_code) }
}

/// A no that no provider had to be asked for, or that follows from what it said.
pub(crate) fn own_rejection(code: &str, message: &str) -> Rejection {
    Rejection { code: code.to_owned(), message: Some(message.to_owned()), provider_code: None }
}

/// When the booking's reservation ends if the provider does not say: when it ended so far, or after
/// [`DEFAULT_HOLD_MS`].
pub(crate) fn hold_end(booking: &Booking, now: Timestamp) -> Timestamp {
    match booking.state {
        State::Reserved { expires_at } => expires_at,
        State::Pending
        | State::Confirmed
        | State::Rejected(_)
        | State::Cancelled(_)
        | State::Expired
        | State::Completed
        | State::NoShow => now.plus_ms(DEFAULT_HOLD_MS),
    }
}
