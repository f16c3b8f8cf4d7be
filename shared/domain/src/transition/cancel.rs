//! Withdrawing a booking: by the consumer, who has the provider asked, or by the provider itself.

use super::book::end_pending;
use super::change::{Asked, begin_operation, end_unchanged, overtake, take_up_overtaken};
use super::compensation::begin_compensation;
use super::{ChangeRequest, Refused, advance};
use crate::{
    Booking, Cancellation, Cause, Change, NotificationKind, OperationKind, Patience, RefusalReason,
    Rejection, State, Status, Timestamp, Withdrawal,
};

/// The consumer withdraws. What the provider has not confirmed yet ends at once, and an attempt in flight
/// is overtaken and compensated; what the provider was only told of ends at once, and it is told of that;
/// otherwise the provider is asked, in the background if need be. Any other change in flight is overtaken.
pub(super) fn begin_cancel(
    booking: &mut Booking,
    withdrawal: Withdrawal,
    request: &ChangeRequest,
    now: Timestamp,
) -> Result<(), Refused> {
    let state = State::Cancelled(Cancellation::ByConsumer(withdrawal.clone()));
    match booking.status() {
        Status::Pending => end_pending(booking, state, Cause::WithdrawnByConsumer, None, now),
        Status::Reserved | Status::Confirmed if booking.confirmation.tells() => {
            end_told(booking, state, Cause::WithdrawnByConsumer, now);
            Ok(())
        }
        Status::Reserved | Status::Confirmed => {
            let in_flight = booking.operation.as_ref().map(|operation| operation.change.kind());
            if in_flight == Some(OperationKind::Cancel) {
                return Err(Refused::OperationInFlight);
            }
            let overtaken = overtake(booking);
            let asked = Asked {
                change: Change::Cancel(withdrawal),
                // A cancel always goes on after its synchronous limit.
                patience: Patience::Background,
                deadline_at: request.deadline_at,
                overtaken,
            };
            begin_operation(booking, asked, request.lease_until, now);
            Ok(())
        }
        status @ (Status::Rejected
        | Status::Cancelled
        | Status::Expired
        | Status::Completed
        | Status::NoShow) => Err(Refused::Settled { status }),
    }
}

/// A booking that its provider is told of ends at once, and the provider has to hear of that, unless it never heard of
/// the booking.
pub(super) fn end_told(booking: &mut Booking, state: State, cause: Cause, now: Timestamp) {
    booking.operation = None;
    advance(booking, Some(state), cause, 0, now);
    let is_unheard = booking
        .notifications
        .first()
        .is_some_and(|first| first.kind == NotificationKind::Booked && first.attempts == 0);
    if is_unheard {
        booking.notifications.clear();
    } else {
        booking.tell(NotificationKind::Cancelled, now);
    }
}

/// The provider has cancelled as it was asked.
pub(super) fn cancelled_at_provider(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    end_by_consumer(booking, Cause::WithdrawnByConsumer, now)
}

/// The provider refuses: nothing changes. `attempt` is the one that reports it; a provider that calls us
/// reports none.
pub(super) fn cancel_declined(
    booking: &mut Booking,
    attempt: Option<u32>,
    rejection: Rejection,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_mut().ok_or(Refused::Settled { status })?;
    if attempt.is_some_and(|attempt| attempt != operation.attempts) {
        return Err(Refused::Superseded);
    }
    let overtaken = operation.overtaken.take();
    end_unchanged(booking, Cause::OperationDeclined, RefusalReason::Declined(rejection), now);
    if let Some(overtaken) = overtaken {
        take_up_overtaken(booking, overtaken, now);
    }
    Ok(())
}

/// A cancel is never abandoned: at its deadline the booking is cancelled, and the rest is compensation.
pub(super) fn give_up_cancel(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    end_by_consumer(booking, Cause::GivenUp, now)?;
    // The provider held the booking by its own word.
    begin_compensation(booking, now, now, now);
    Ok(())
}

fn end_by_consumer(booking: &mut Booking, cause: Cause, now: Timestamp) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.take().ok_or(Refused::Settled { status })?;
    let withdrawal = match operation.change {
        Change::Cancel(withdrawal) => withdrawal,
        Change::Book | Change::Confirm | Change::Extend { .. } | Change::Reschedule(_) => {
            Withdrawal::default()
        }
    };
    let state = State::Cancelled(Cancellation::ByConsumer(withdrawal));
    advance(booking, Some(state), cause, operation.attempts, now);
    Ok(())
}

/// The provider withdraws: what it held is gone.
pub(super) fn cancel_by_provider(
    booking: &mut Booking,
    withdrawal: Withdrawal,
    now: Timestamp,
) -> Result<(), Refused> {
    let state = State::Cancelled(Cancellation::ByProvider(withdrawal));
    match booking.status() {
        Status::Pending => end_pending(booking, state, Cause::WithdrawnByProvider, None, now),
        Status::Reserved | Status::Confirmed => {
            // It has heard of what it tells us.
            booking.notifications.clear();
            let operation = booking.operation.as_ref();
            // A cancel in flight is what the provider answers.
            if operation.is_some_and(|operation| operation.change.kind() == OperationKind::Cancel) {
                return end_by_consumer(booking, Cause::WithdrawnByConsumer, now);
            }
            booking.operation = None;
            advance(booking, Some(state), Cause::WithdrawnByProvider, 0, now);
            Ok(())
        }
        Status::Cancelled => Err(Refused::NothingToChange),
        status @ (Status::Rejected | Status::Expired | Status::Completed | Status::NoShow) => {
            Err(Refused::Settled { status })
        }
    }
}
