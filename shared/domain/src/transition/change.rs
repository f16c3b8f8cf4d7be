//! A change of a booking that exists: how it begins, is made, is refused, and what happens when nobody knows
//! whether it was made.
//!
//! A change that ends unknown leaves the booking as it was. Its operation stays, and the provider is asked
//! what became of it until it says so or [`RESOLUTION_LIMIT_MS`] are over.

use super::cancel::begin_cancel;
use super::{
    CLOCK_SKEW_MS, ChangeRequest, MIN_SETTLE_WINDOW_MS, RESOLUTION_LIMIT_MS, Refused, UnchangedRecord,
    advance,
};
use crate::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, Cause, Change, ConfirmationMode,
    NotificationKind, Operation, OperationKind, Overtaken, Patience, Phase, Refusal, RefusalReason,
    Rejection, Slot, State, Status, Timestamp,
};

/// The shortest pause between two look-ups for a change that is not made, in milliseconds. Otherwise it is as
/// long as has passed since the change was asked for.
const MIN_LOOK_AGAIN_MS: u64 = 1_000;

/// The consumer asks for a change: it is written down before the provider is asked. What a provider is
/// only told of is made at once.
pub(super) fn begin(booking: &mut Booking, request: ChangeRequest, now: Timestamp) -> Result<(), Refused> {
    let status = booking.status();
    if let Change::Cancel(withdrawal) = request.change.clone() {
        return begin_cancel(booking, withdrawal, &request, now);
    }
    let checked = check_change(booking, &request.change, now);
    if booking.operation.is_some() && matches!(checked, Ok(()) | Err(Refused::NothingToChange)) {
        return Err(Refused::OperationInFlight);
    }
    checked?;
    if booking.confirmation == ConfirmationMode::Notify {
        return match request.change {
            Change::Reschedule(slot) => {
                move_to(booking, slot, 0, now);
                Ok(())
            }
            Change::Book | Change::Confirm | Change::Extend { .. } | Change::Cancel(_) => {
                Err(Refused::Settled { status })
            }
        };
    }
    let ChangeRequest { change, patience, lease_until, deadline_at } = request;
    let deadline_at = match booking.state {
        State::Reserved { expires_at } => deadline_at.min(expires_at),
        _ => deadline_at,
    };
    begin_operation(booking, Asked { change, patience, deadline_at, overtaken: None }, lease_until, now);
    Ok(())
}

/// Whether the booking, as it is, can be changed so.
fn check_change(booking: &Booking, change: &Change, now: Timestamp) -> Result<(), Refused> {
    let status = booking.status();
    match (&booking.state, change) {
        (State::Reserved { expires_at }, Change::Confirm | Change::Extend { .. } | Change::Reschedule(_))
            if *expires_at <= now =>
        {
            // It has run out, and only nobody has written so yet.
            Err(Refused::Settled { status: Status::Expired })
        }
        (State::Reserved { expires_at: until }, Change::Extend { expires_at }) if expires_at <= until => {
            Err(Refused::NotLonger { until: *until })
        }
        (State::Confirmed, Change::Confirm) => Err(Refused::NothingToChange),
        (State::Reserved { .. } | State::Confirmed, Change::Reschedule(slot)) if *slot == booking.slot => {
            Err(Refused::NothingToChange)
        }
        (State::Reserved { .. }, Change::Confirm | Change::Extend { .. })
        | (State::Reserved { .. } | State::Confirmed, Change::Reschedule(_)) => Ok(()),
        _ => Err(Refused::Settled { status }),
    }
}

/// What an operation that begins asks for.
pub(super) struct Asked {
    pub(super) change: Change,
    pub(super) patience: Patience,
    pub(super) deadline_at: Timestamp,
    pub(super) overtaken: Option<Overtaken>,
}

pub(super) fn begin_operation(booking: &mut Booking, asked: Asked, lease_until: Timestamp, now: Timestamp) {
    advance(booking, None, Cause::OperationBegun, 0, now);
    booking.operations_begun = booking.operations_begun.saturating_add(1);
    let Asked { change, patience, deadline_at, overtaken } = asked;
    booking.operation = Some(Operation {
        change,
        number: booking.operations_begun,
        patience,
        deadline_at,
        attempts: 1,
        last_error: None,
        unanswered_send_at: None,
        resolve_until: None,
        overtaken,
        phase: Phase::InFlight { lease_until },
    });
}

/// The provider has made the change that is in flight.
pub(super) fn make_change(
    booking: &mut Booking,
    acknowledgement: Acknowledgement,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.take().ok_or(Refused::Settled { status })?;
    apply(booking, operation.change, acknowledgement, operation.attempts, now);
    Ok(())
}

fn apply(booking: &mut Booking, change: Change, yes: Acknowledgement, attempts: u32, now: Timestamp) {
    let state = match booking.state {
        // What is confirmed does not become a hold again.
        State::Reserved { .. } => yes.state(),
        _ => booking.state.clone(),
    };
    match change {
        Change::Reschedule(slot) => {
            booking.state = state;
            move_to(booking, slot, attempts, now);
        }
        Change::Book | Change::Confirm | Change::Extend { .. } | Change::Cancel(_) => {
            advance(booking, Some(state), Cause::ProviderAcknowledged, attempts, now);
        }
    }
    if yes.provider_reference.is_some() {
        booking.provider_reference = yes.provider_reference;
    }
}

fn move_to(booking: &mut Booking, slot: Slot, attempts: u32, now: Timestamp) {
    let from = std::mem::replace(&mut booking.slot, slot);
    advance(booking, None, Cause::Rescheduled, attempts, now);
    if let Some(entry) = booking.history.last_mut() {
        entry.moved_from = Some(from.clone());
    }
    if booking.confirmation.tells() {
        booking.tell(NotificationKind::Moved { from }, now);
    }
}

/// The provider answers the change in flight by calling us. Without a number it counts only if what it
/// says can be said of the change alone.
pub(super) fn answer_change(
    booking: &mut Booking,
    yes: Acknowledgement,
    number: Option<u32>,
    now: Timestamp,
) -> Result<(), Refused> {
    let refused = Refused::Settled { status: booking.status() };
    let Some(operation) = &booking.operation else { return Err(refused) };
    let is_named = number == Some(operation.number);
    let is_meant = match &operation.change {
        Change::Confirm => yes.reserved_until.is_none(),
        Change::Extend { expires_at } => {
            is_named || yes.reserved_until.is_some_and(|until| until >= *expires_at)
        }
        Change::Reschedule(_) => is_named,
        Change::Book | Change::Cancel(_) => false,
    };
    if !is_meant || (number.is_some() && !is_named) {
        return Err(refused);
    }
    make_change(booking, yes, now)
}

/// The provider refuses: nothing changes. `attempt` is the one that reports it; a provider that calls us
/// reports none.
pub(super) fn decline_change(
    booking: &mut Booking,
    attempt: Option<u32>,
    rejection: Rejection,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_ref().ok_or(Refused::Settled { status })?;
    if attempt.is_some_and(|attempt| attempt != operation.attempts) {
        return Err(Refused::Superseded);
    }
    end_unchanged(booking, Cause::OperationDeclined, RefusalReason::Declined(rejection), now);
    Ok(())
}

/// Ends the operation in flight with the booking as it was.
pub(super) fn end_unchanged(booking: &mut Booking, cause: Cause, reason: RefusalReason, now: Timestamp) {
    let Some(operation) = booking.operation.take() else { return };
    advance(booking, None, cause, operation.attempts, now);
    booking.refusal = Some(Refusal { operation: operation.number, reason });
}

/// There is no time left to ask for the change. If the provider may have made it, it is asked from
/// `look_at` on which it was; if that has been done long enough, somebody has to look.
pub(super) fn give_up_change(
    booking: &mut Booking,
    look_at: Timestamp,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_mut().ok_or(Refused::Settled { status })?;
    let worker_lost = matches!(operation.phase, Phase::InFlight { .. });
    if worker_lost {
        operation.last_error = Some(AttemptError::WorkerLost);
    }
    let failed = RefusalReason::Failed(operation.last_error.unwrap_or(AttemptError::TimedOut));
    if operation.is_resolving() {
        end_unchanged(booking, Cause::OperationUnresolved, RefusalReason::Unresolved, now);
        return Ok(());
    }
    // A gate makes nothing, so that nothing has to be found out.
    let sent_at = operation.may_be_sent_at().filter(|_| !booking.confirmation.tells());
    let Some(sent_at) = sent_at else {
        end_unchanged(booking, Cause::OperationGivenUp, failed, now);
        return Ok(());
    };
    resolve(operation, sent_at, look_at, now);
    Ok(())
}

/// From now on the provider is only asked what became of the change.
fn resolve(operation: &mut Operation, sent_at: Timestamp, look_at: Timestamp, now: Timestamp) {
    let resolve_until = now.plus_ms(RESOLUTION_LIMIT_MS);
    operation.unanswered_send_at = Some(sent_at);
    operation.resolve_until = Some(resolve_until);
    operation.phase = Phase::Waiting { next_attempt_at: look_at.min(resolve_until) };
}

/// A look-up found that the provider has not made the change. A request that is still under way may make
/// it yet, so that this is believed only when none can be.
pub(super) fn adopt_unchanged(
    booking: &mut Booking,
    record: UnchangedRecord,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_mut().ok_or(Refused::Settled { status })?;
    let is_its_report = (operation.number, operation.attempts) == (record.operation, record.attempt);
    // While it is still asked for, that it is not made yet is nothing to end it by.
    if !is_its_report || !operation.is_resolving() {
        return Err(Refused::Superseded);
    }
    let settle_window_ms = record.settle_window_ms.max(MIN_SETTLE_WINDOW_MS).saturating_add(CLOCK_SKEW_MS);
    let believed_from = operation.unanswered_send_at.map(|sent_at| sent_at.plus_ms(settle_window_ms));
    match believed_from {
        Some(believed_from) if !record.decided && record.asked_at < believed_from => {
            // It may be made any moment, and the sooner the likelier.
            let waited_ms = operation.unanswered_send_at.map_or(0, |sent_at| sent_at.ms_until(now));
            let next_look_at = now.plus_ms(waited_ms.max(MIN_LOOK_AGAIN_MS));
            let next_attempt_at = believed_from.min(next_look_at).max(now).min(operation.ends_at());
            operation.phase = Phase::Waiting { next_attempt_at };
        }
        Some(_) | None => {
            let failed = RefusalReason::Failed(operation.last_error.unwrap_or(AttemptError::TimedOut));
            end_unchanged(booking, Cause::OperationGivenUp, failed, now);
        }
    }
    Ok(())
}

/// Takes the operation in flight for a cancel to overtake; `None` if the provider surely knows nothing of
/// it.
pub(super) fn overtake(booking: &mut Booking) -> Option<Overtaken> {
    let operation = booking.operation.take()?;
    let unanswered_send_at = operation.may_be_sent_at()?;
    let Operation { change, number, patience, attempts, .. } = operation;
    Some(Overtaken { change, number, patience, attempts, unanswered_send_at })
}

/// What came of the change that a cancel overtook, as its worker reports it.
pub(super) fn record_overtaken(
    booking: &mut Booking,
    outcome: AttemptOutcome,
    now: Timestamp,
) -> Result<(), Refused> {
    let Some(operation) = booking.operation.as_mut() else { return Err(Refused::Superseded) };
    let Some(overtaken) = operation.overtaken.as_mut() else { return Err(Refused::Superseded) };
    match outcome {
        AttemptOutcome::Acknowledged(yes)
            if overtaken.change.kind() != OperationKind::Confirm || yes.reserved_until.is_none() =>
        {
            let change = overtaken.change.clone();
            operation.overtaken = None;
            apply(booking, change, yes, 0, now);
            Ok(())
        }
        AttemptOutcome::Declined(rejection) => {
            let number = overtaken.number;
            operation.overtaken = None;
            booking.refusal = Some(Refusal { operation: number, reason: RefusalReason::Declined(rejection) });
            Ok(())
        }
        AttemptOutcome::Acknowledged(_) | AttemptOutcome::Unknown(_)
            if overtaken.unanswered_send_at < now =>
        {
            overtaken.unanswered_send_at = now;
            Ok(())
        }
        AttemptOutcome::Acknowledged(_) | AttemptOutcome::Unknown(_) | AttemptOutcome::NotSent(_) => {
            Err(Refused::Superseded)
        }
    }
}

/// The cancel that overtook a change came to nothing: what became of that change has to be found out.
pub(super) fn take_up_overtaken(booking: &mut Booking, overtaken: Overtaken, now: Timestamp) {
    let Overtaken { change, number, patience, attempts, unanswered_send_at } = overtaken;
    let mut operation = Operation {
        change,
        number,
        patience,
        deadline_at: now,
        attempts,
        last_error: None,
        unanswered_send_at: None,
        resolve_until: None,
        overtaken: None,
        phase: Phase::Waiting { next_attempt_at: now },
    };
    resolve(&mut operation, unanswered_send_at, unanswered_send_at.max(now), now);
    booking.operation = Some(operation);
}
