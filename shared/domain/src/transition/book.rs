//! What makes or ends a booking: the provider's yes and no, and the compensation that an end may need.

use super::cancel::cancel_declined;
use super::change::{answer_change, decline_change};
use super::compensation::{begin_compensation, late_acknowledgement};
use super::{Refused, advance};
use crate::{
    Acknowledgement, Booking, Cancellation, Cause, NotificationKind, Operation, OperationKind, Phase,
    Rejection, State, Status, Timestamp, Withdrawal,
};

/// Why a booking ended that its provider does not hold any more.
const ENDED_BY_PROVIDER: &str = "ended_by_provider";

/// The provider calls us with a yes: to the change in flight, or to the booking itself.
pub(super) fn acknowledge(
    booking: &mut Booking,
    acknowledgement: Acknowledgement,
    operation: Option<u32>,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    match status {
        Status::Reserved | Status::Confirmed => answer_change(booking, acknowledgement, operation, now),
        Status::Rejected | Status::Cancelled | Status::Expired if booking.confirmation.tells() => {
            // It holds what it was told of at the most; it is told that nothing is left of it.
            if booking.notifications.iter().any(|told| told.kind == NotificationKind::Cancelled) {
                return Err(Refused::Settled { status });
            }
            advance(booking, None, Cause::LateAcknowledgement, 0, now);
            booking.tell(NotificationKind::Cancelled, now);
            Ok(())
        }
        Status::Pending
        | Status::Rejected
        | Status::Cancelled
        | Status::Expired
        | Status::Completed
        | Status::NoShow => acknowledge_book(booking, acknowledgement, now),
    }
}

/// The provider says yes to the booking itself.
pub(super) fn acknowledge_book(
    booking: &mut Booking,
    acknowledgement: Acknowledgement,
    now: Timestamp,
) -> Result<(), Refused> {
    match booking.status() {
        Status::Pending => {
            // A provider that is told of bookings holds none.
            let state = if booking.confirmation.tells() { State::Confirmed } else { acknowledgement.state() };
            let attempts = booking.operation.as_ref().map_or(0, |operation| operation.attempts);
            advance(booking, Some(state), Cause::ProviderAcknowledged, attempts, now);
            booking.provider_reference = acknowledgement.provider_reference;
            booking.operation = None;
            if booking.confirmation.tells() {
                booking.tell(NotificationKind::Booked, now);
            }
            Ok(())
        }
        // A gate lets through; it holds nothing that would have to be undone.
        status @ (Status::Rejected | Status::Cancelled | Status::Expired) if booking.confirmation.tells() => {
            Err(Refused::Settled { status })
        }
        Status::Rejected | Status::Cancelled | Status::Expired => {
            late_acknowledgement(booking, acknowledgement, now);
            Ok(())
        }
        status @ (Status::Reserved | Status::Confirmed | Status::Completed | Status::NoShow) => {
            Err(Refused::Settled { status })
        }
    }
}

/// The provider calls us with a no: to the operation that it names, or to the booking itself.
pub(super) fn decline(
    booking: &mut Booking,
    rejection: Rejection,
    operation: Option<u32>,
    now: Timestamp,
) -> Result<(), Refused> {
    let named = booking.operation.as_ref().filter(|in_flight| Some(in_flight.number) == operation);
    match named.map(|in_flight| in_flight.change.kind()) {
        Some(OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule) => {
            decline_change(booking, None, rejection, now)
        }
        Some(OperationKind::Cancel) => cancel_declined(booking, None, rejection, now),
        Some(OperationKind::Book) | None => {
            end_pending(booking, State::Rejected(rejection), Cause::ProviderDeclined, None, now)
        }
    }
}

/// A look-up found that the provider had the booking and ended it.
pub(super) fn adopt_ended(booking: &mut Booking, attempt: u32, now: Timestamp) -> Result<(), Refused> {
    match booking.state {
        State::Pending => {
            let rejection =
                Rejection { code: ENDED_BY_PROVIDER.to_owned(), message: None, provider_code: None };
            end_pending(booking, State::Rejected(rejection), Cause::ProviderEnded, Some(attempt), now)
        }
        State::Reserved { .. } | State::Confirmed => {
            let status = booking.status();
            let operation = booking.operation.as_ref().ok_or(Refused::Settled { status })?;
            if operation.attempts != attempt {
                return Err(Refused::Superseded);
            }
            let state = match booking.state {
                State::Reserved { expires_at } if expires_at <= now => State::Expired,
                _ => State::Cancelled(Cancellation::ByProvider(Withdrawal {
                    reason: Some(ENDED_BY_PROVIDER.to_owned()),
                    note: None,
                })),
            };
            let attempts = operation.attempts;
            booking.operation = None;
            advance(booking, Some(state), Cause::ProviderEnded, attempts, now);
            Ok(())
        }
        State::Rejected(_) | State::Cancelled(_) | State::Expired | State::Completed | State::NoShow => {
            Err(Refused::Settled { status: booking.status() })
        }
    }
}

/// Ends a pending booking other than by an acknowledgement, and begins the compensation if a request
/// may have reached the provider. `reporter` is the attempt whose own report ends it, if one does.
pub(super) fn end_pending(
    booking: &mut Booking,
    state: State,
    cause: Cause,
    reporter: Option<u32>,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    if status != Status::Pending {
        return Err(Refused::Settled { status });
    }
    let attempts = booking.operation.as_ref().map_or(0, |operation| operation.attempts);
    advance(booking, Some(state), cause, attempts, now);
    if let Some(operation) = booking.operation.take() {
        compensate_if_sent(booking, &operation, reporter, now);
    }
    Ok(())
}

fn compensate_if_sent(booking: &mut Booking, operation: &Operation, reporter: Option<u32>, now: Timestamp) {
    if booking.confirmation.tells() {
        // A gate books nothing.
        return;
    }
    let lease_until = match operation.phase {
        Phase::InFlight { lease_until } => Some(lease_until),
        Phase::Waiting { .. } => None,
    };
    // An attempt that did not itself report this end may send until its lease is over.
    let overtaken = if reporter == Some(operation.attempts) { None } else { lease_until };
    if let Some(unanswered_send_at) = operation.unanswered_send_at.max(overtaken) {
        // A compensation starts only when the attempt's lease is over.
        let start_at = lease_until.unwrap_or(now).max(now);
        begin_compensation(booking, unanswered_send_at, start_at, now);
    }
}
