//! The attempts of an operation: how one is claimed, what comes of it, and when there are no more.

use super::Refused;
use super::book::{acknowledge_book, end_pending};
use super::cancel::{cancel_declined, cancelled_at_provider, give_up_cancel};
use super::change::{decline_change, give_up_change, make_change, record_overtaken};
use super::compensation::note_send_after_end;
use crate::{
    AttemptError, AttemptOutcome, Booking, Cancellation, CancellationReason, Cause, OperationKind, Patience,
    Phase, State, Timestamp,
};

/// The number of the operation that makes a booking.
const BOOK_OPERATION: u32 = 1;

pub(super) fn claim_attempt(
    booking: &mut Booking,
    lease_until: Timestamp,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_mut().ok_or(Refused::Settled { status })?;
    match operation.phase {
        Phase::InFlight { lease_until } if lease_until > now => {
            return Err(Refused::LeaseHeld { until: lease_until });
        }
        Phase::Waiting { next_attempt_at } if next_attempt_at > now => {
            return Err(Refused::NotDue { at: next_attempt_at });
        }
        Phase::InFlight { .. } => {
            // Its worker did not report. It may have sent the request until the very end of its lease.
            operation.unanswered_send_at = operation.may_be_sent_at();
            operation.last_error = Some(AttemptError::WorkerLost);
        }
        Phase::Waiting { .. } => {}
    }
    let is_over = operation.patience == Patience::Synchronous && !operation.is_resolving();
    if is_over || operation.ends_at() <= now {
        return Err(Refused::DeadlinePassed);
    }
    operation.attempts = operation.attempts.saturating_add(1);
    operation.phase = Phase::InFlight { lease_until };
    Ok(())
}

pub(super) fn postpone(
    booking: &mut Booking,
    until: Timestamp,
    error: AttemptError,
    now: Timestamp,
) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_mut().ok_or(Refused::Settled { status })?;
    if operation.patience == Patience::Synchronous && !operation.is_resolving() {
        return Err(Refused::DeadlinePassed);
    }
    if operation.phase.is_leased(now) {
        return Err(Refused::LeaseHeld { until: operation.phase.due_at() });
    }
    operation.unanswered_send_at = operation.may_be_sent_at();
    operation.last_error = Some(error);
    operation.phase = Phase::Waiting { next_attempt_at: until.min(operation.ends_at()) };
    Ok(())
}

/// Which attempt reports.
#[derive(Clone, Copy)]
pub(super) struct Report {
    pub(super) operation: u32,
    pub(super) attempt: u32,
    pub(super) retry_delay_ms: u64,
}

pub(super) fn record_attempt(
    booking: &mut Booking,
    report: Report,
    outcome: AttemptOutcome,
    now: Timestamp,
) -> Result<(), Refused> {
    let Report { attempt, .. } = report;
    let in_flight = booking.operation.as_ref();
    if in_flight.and_then(|operation| operation.overtaken.as_ref()).map(|overtaken| overtaken.number)
        == Some(report.operation)
    {
        return record_overtaken(booking, outcome, now);
    }
    let kind = match in_flight.filter(|operation| operation.number == report.operation) {
        Some(operation) => operation.change.kind(),
        // What came of the booking itself is never too late to be heard.
        None if report.operation == BOOK_OPERATION => OperationKind::Book,
        None => return Err(Refused::Superseded),
    };
    match (kind, outcome) {
        (_, AttemptOutcome::NotSent(error)) => record_failure(booking, report, error, None, now),
        (_, AttemptOutcome::Unknown(error)) => record_failure(booking, report, error, Some(now), now),
        (OperationKind::Book, AttemptOutcome::Acknowledged(yes)) => acknowledge_book(booking, yes, now),
        (OperationKind::Book, AttemptOutcome::Declined(no)) => {
            end_pending(booking, State::Rejected(no), Cause::ProviderDeclined, Some(attempt), now)
        }
        (OperationKind::Cancel, AttemptOutcome::Acknowledged(_)) => cancelled_at_provider(booking, now),
        (OperationKind::Cancel, AttemptOutcome::Declined(no)) => {
            cancel_declined(booking, Some(attempt), no, now)
        }
        (
            OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule,
            AttemptOutcome::Acknowledged(yes),
        ) => {
            // A hold that is still one was not confirmed, whatever the answer calls itself.
            if kind == OperationKind::Confirm && yes.reserved_until.is_some() {
                return record_failure(booking, report, AttemptError::UnusableAnswer, Some(now), now);
            }
            make_change(booking, yes, now)
        }
        (
            OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule,
            AttemptOutcome::Declined(no),
        ) => decline_change(booking, Some(attempt), no, now),
    }
}

/// An attempt failed. `unanswered_send_at` is set if the provider may have received it.
fn record_failure(
    booking: &mut Booking,
    report: Report,
    error: AttemptError,
    unanswered_send_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Refused> {
    let Report { attempt, retry_delay_ms, .. } = report;
    let Some(operation) = booking.operation.as_mut() else {
        return match unanswered_send_at {
            Some(sent_at) => note_send_after_end(booking, sent_at),
            None => Err(Refused::Settled { status: booking.status() }),
        };
    };
    if operation.number != report.operation {
        return Err(Refused::Superseded);
    }
    if operation.attempts != attempt {
        let known_send_at = operation.unanswered_send_at;
        operation.unanswered_send_at = known_send_at.max(unanswered_send_at);
        return if operation.unanswered_send_at == known_send_at { Err(Refused::Superseded) } else { Ok(()) };
    }
    operation.unanswered_send_at = operation.unanswered_send_at.max(unanswered_send_at);
    operation.last_error = Some(error);
    let kind = operation.change.kind();
    let goes_on = operation.patience == Patience::Background || operation.is_resolving();
    if kind == OperationKind::Book && !goes_on {
        // The lease stays as it is: a compensation begins only when it is over.
        let state = State::Cancelled(Cancellation::BySystem(synchronous_reason(error)));
        return end_pending(booking, state, Cause::GivenUp, Some(attempt), now);
    }
    // Nobody works on it any more.
    let next_attempt_at = now.plus_ms(retry_delay_ms).min(operation.ends_at());
    operation.phase = Phase::Waiting { next_attempt_at };
    match kind {
        OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule if !goes_on => {
            give_up_change(booking, now.plus_ms(retry_delay_ms), now)
        }
        _ => Ok(()),
    }
}

fn synchronous_reason(error: AttemptError) -> CancellationReason {
    match error {
        AttemptError::CircuitOpen | AttemptError::LimitReached => CancellationReason::ProviderUnavailable,
        error if error.is_timeout() => CancellationReason::ProviderTimeout,
        _ => CancellationReason::ProviderFailed,
    }
}

pub(super) fn give_up(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_ref().ok_or(Refused::Settled { status })?;
    if let Phase::InFlight { lease_until } = operation.phase
        && lease_until > now
    {
        return Err(Refused::LeaseHeld { until: lease_until });
    }
    if operation.ends_at() > now {
        return Err(Refused::NotDue { at: operation.ends_at() });
    }
    match operation.change.kind() {
        OperationKind::Cancel => give_up_cancel(booking, now),
        OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule => {
            give_up_change(booking, now, now)
        }
        OperationKind::Book => {
            let reason = match operation.patience {
                Patience::Background => CancellationReason::ConfirmationTimeout,
                Patience::Synchronous => CancellationReason::ProviderTimeout,
            };
            end_pending(booking, State::Cancelled(Cancellation::BySystem(reason)), Cause::GivenUp, None, now)
        }
    }
}
