//! Withdrawing a booking: by the consumer, who has the provider asked, or by the provider itself.

use super::{CancelRequest, Refused, advance, begin_compensation, end_pending};
use crate::{
    Booking, Cancellation, Cause, Change, Operation, Patience, Phase, Refusal, Rejection, State, Status,
    Timestamp, Withdrawal,
};

/// The consumer withdraws. What the provider has not confirmed yet ends at once, and an attempt in flight
/// is overtaken and compensated; otherwise the provider is asked, in the background if need be.
pub(super) fn cancel(booking: &mut Booking, request: CancelRequest, now: Timestamp) -> Result<(), Refused> {
    let CancelRequest { withdrawal, lease_until, deadline_at } = request;
    match booking.status() {
        Status::Pending => {
            let state = State::Cancelled(Cancellation::ByConsumer(withdrawal));
            end_pending(booking, state, Cause::WithdrawnByConsumer, None, now)
        }
        Status::Reserved | Status::Confirmed => {
            if booking.operation.is_some() {
                return Err(Refused::OperationInFlight);
            }
            advance(booking, None, Cause::OperationBegun, 0, now);
            booking.operations_begun = booking.operations_begun.saturating_add(1);
            booking.operation = Some(Operation {
                change: Change::Cancel(withdrawal),
                number: booking.operations_begun,
                // A cancel always goes on after its synchronous limit.
                patience: Patience::Background,
                deadline_at,
                attempts: 1,
                last_error: None,
                unanswered_send_at: None,
                phase: Phase::InFlight { lease_until },
            });
            Ok(())
        }
        status @ (Status::Rejected
        | Status::Cancelled
        | Status::Expired
        | Status::Completed
        | Status::NoShow) => Err(Refused::Settled { status }),
    }
}

/// The provider has cancelled as it was asked.
pub(super) fn cancelled_at_provider(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    end_by_consumer(booking, Cause::WithdrawnByConsumer, now)
}

/// The provider refuses: nothing changes.
pub(super) fn cancel_declined(
    booking: &mut Booking,
    attempt: u32,
    rejection: Rejection,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_ref().ok_or(Refused::Settled { status })?;
    if operation.attempts != attempt {
        return Err(Refused::Superseded);
    }
    let (number, attempts) = (operation.number, operation.attempts);
    advance(booking, None, Cause::OperationDeclined, attempts, now);
    booking.operation = None;
    booking.refusal = Some(Refusal { operation: number, rejection });
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
        Change::Book => Withdrawal::default(),
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
            // A cancel in flight is what the provider answers.
            if booking.operation.is_some() {
                return end_by_consumer(booking, Cause::WithdrawnByConsumer, now);
            }
            advance(booking, Some(state), Cause::WithdrawnByProvider, 0, now);
            Ok(())
        }
        Status::Cancelled => Err(Refused::NothingToChange),
        status @ (Status::Rejected | Status::Expired | Status::Completed | Status::NoShow) => {
            Err(Refused::Settled { status })
        }
    }
}
