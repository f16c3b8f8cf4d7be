//! The one function that changes a booking.
//!
//! [`transition`] is pure and total: for every booking, command and time it returns the next booking or
//! says why the command does not apply. Whoever calls it writes the result conditionally on the item
//! that it read, and asks again with the item that it finds instead.

mod cancel;
mod compensation;

use cancel::{cancel, cancel_by_provider, cancel_declined, cancelled_at_provider, give_up_cancel};
use compensation::{
    begin_compensation, claim_compensation, give_up_compensation, late_acknowledgement, note_send_after_end,
    record_compensation,
};

use crate::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, Cancellation, CancellationReason, Cause,
    Compensation, CompensationOutcome, Event, HistoryEntry, MAX_VERSIONS, Operation, OperationKind, Patience,
    Phase, Rejection, State, Status, Timestamp, Withdrawal, events_since,
};

/// For how long a compensation is tried, in milliseconds: 24 h.
pub const COMPENSATION_LIMIT_MS: u64 = 24 * 60 * 60 * 1000;

/// The least time after the last unanswered request before "no such booking" is believed, in
/// milliseconds. A provider's attempt time-out may raise it.
pub const MIN_SETTLE_WINDOW_MS: u64 = 60_000;

/// Something that happens to a booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A worker takes the lease for the next attempt of the operation.
    ClaimAttempt {
        /// The end of its lease.
        lease_until: Timestamp,
    },
    /// An attempt that is due cannot be made now, for reasons that have nothing to do with the booking:
    /// the provider's circuit is open.
    Postpone {
        /// When to try again.
        until: Timestamp,
    },
    /// A worker reports what came of an attempt.
    RecordAttempt {
        /// The number of the operation that the attempt belongs to.
        operation: u32,
        /// Which attempt: the count at the time it was claimed.
        attempt: u32,
        /// What came of it.
        outcome: AttemptOutcome,
        /// How long to wait before the next one, in milliseconds.
        retry_delay_ms: u64,
    },
    /// The provider says yes by calling us.
    Acknowledge(Acknowledgement),
    /// The provider says no by calling us.
    Decline(Rejection),
    /// A look-up found that the provider had the booking and ended it.
    AdoptEnded {
        /// The attempt that looked.
        attempt: u32,
    },
    /// The operation's deadline has passed.
    GiveUp,
    /// A worker takes the lease for the next attempt of the compensation.
    ClaimCompensation {
        /// The end of its lease.
        lease_until: Timestamp,
    },
    /// A worker reports what came of a compensating cancel.
    RecordCompensation(CompensationRecord),
    /// The compensation's time is over.
    GiveUpCompensation,
    /// The hold's end has come.
    ExpireHold,
    /// The consumer withdraws the booking.
    Cancel(CancelRequest),
    /// The provider withdraws the booking by calling us.
    CancelByProvider(Withdrawal),
    /// The provider tells whether the customer came.
    TellAttendance {
        /// Whether the customer came.
        attended: bool,
    },
    /// The consumer has the customer's data erased.
    EraseCustomer,
}

/// A consumer's wish to withdraw a booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRequest {
    /// Why.
    pub withdrawal: Withdrawal,
    /// The end of the lease of the attempt that the request itself makes.
    pub lease_until: Timestamp,
    /// When the provider is not asked any more and the rest is compensation.
    pub deadline_at: Timestamp,
}

/// What a worker reports of a compensating cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompensationRecord {
    /// Which compensation: its operation number. A booking may be compensated more than once, and what
    /// came of an earlier compensation says nothing of a later one.
    pub number: u32,
    /// Which attempt: the count at the time it was claimed.
    pub attempt: u32,
    /// When the provider was asked.
    pub asked_at: Timestamp,
    /// What came of it.
    pub outcome: CompensationOutcome,
    /// How long to wait before the next one, in milliseconds.
    pub retry_delay_ms: u64,
    /// How long after the last unanswered request "no such booking" is not believed, in milliseconds.
    /// Values below [`MIN_SETTLE_WINDOW_MS`] count as that.
    pub settle_window_ms: u64,
}

/// Why a command does not apply to a booking as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no operation in flight (any more).
    #[error("the booking is {} and has no operation in flight", .status.as_str())]
    Settled {
        /// Its status.
        status: Status,
    },
    /// A worker holds the lease.
    #[error("an attempt is in flight until {until}")]
    LeaseHeld {
        /// The end of the lease.
        until: Timestamp,
    },
    /// It is too early.
    #[error("not due before {at}")]
    NotDue {
        /// When it is due.
        at: Timestamp,
    },
    /// The operation's time is over; no further attempt may begin.
    #[error("the deadline has passed")]
    DeadlinePassed,
    /// Another attempt was begun since; a failure of this one says nothing new.
    #[error("a later attempt has begun")]
    Superseded,
    /// No compensation is under way.
    #[error("no compensation is under way")]
    NoCompensation,
    /// The booking cannot be changed so while an operation is in flight.
    #[error("an operation is in flight")]
    OperationInFlight,
    /// The booking is as the command wants it.
    #[error("nothing is left to change")]
    NothingToChange,
    /// The booking is not held.
    #[error("the booking is not reserved")]
    NotReserved,
    /// The booking would have more versions than it may have, those included that must still be possible.
    #[error("the booking has no room for more of its {MAX_VERSIONS} versions")]
    TooManyVersions,
}

/// The booking after a command, and what listeners hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The booking as it is now.
    pub booking: Booking,
    /// The events of its new versions, as [`crate::effects`] will derive them from the images.
    pub events: Vec<Event>,
}

/// Applies `command` to `booking` at `now`.
pub fn transition(booking: &Booking, command: Command, now: Timestamp) -> Result<Transition, Refused> {
    let mut next = booking.clone();
    match command {
        Command::ClaimAttempt { lease_until } => claim_attempt(&mut next, lease_until, now)?,
        Command::Postpone { until } => postpone(&mut next, until, now)?,
        Command::RecordAttempt { operation, attempt, outcome, retry_delay_ms } => {
            record_attempt(&mut next, Report { operation, attempt, retry_delay_ms }, outcome, now)?;
        }
        Command::Acknowledge(acknowledgement) => acknowledge(&mut next, acknowledgement, now)?,
        Command::Decline(rejection) => {
            end_pending(&mut next, State::Rejected(rejection), Cause::ProviderDeclined, None, now)?;
        }
        Command::AdoptEnded { attempt } => {
            let rejection =
                Rejection { code: "ended_by_provider".to_owned(), message: None, provider_code: None };
            end_pending(&mut next, State::Rejected(rejection), Cause::ProviderEnded, Some(attempt), now)?;
        }
        Command::GiveUp => give_up(&mut next, now)?,
        Command::ClaimCompensation { lease_until } => claim_compensation(&mut next, lease_until, now)?,
        Command::RecordCompensation(record) => record_compensation(&mut next, record, now)?,
        Command::GiveUpCompensation => give_up_compensation(&mut next, now)?,
        Command::ExpireHold => expire_hold(&mut next, now)?,
        Command::Cancel(request) => cancel(&mut next, request, now)?,
        Command::CancelByProvider(withdrawal) => cancel_by_provider(&mut next, withdrawal, now)?,
        Command::TellAttendance { attended } => tell_attendance(&mut next, attended, now)?,
        Command::EraseCustomer => erase_customer(&mut next, now)?,
    }
    if next.version() > booking.version() && next.history.len() + versions_owed(&next) > MAX_VERSIONS {
        return Err(Refused::TooManyVersions);
    }
    let events = events_since(&next, booking.version());
    Ok(Transition { booking: next, events })
}

/// The most versions that a booking must still be able to make: the ends of what is under way, and the
/// erasure. What begins something finds room for all of these or is refused, so that no end ever is.
fn versions_owed(booking: &Booking) -> usize {
    let end = match (booking.status(), &booking.operation) {
        // Its end, and a compensation's or, of a hold that stays, the hold's.
        (Status::Pending | Status::Reserved | Status::Confirmed, Some(_)) => 2,
        (Status::Pending | Status::Reserved | Status::Confirmed, None) => 1,
        (Status::Rejected | Status::Cancelled | Status::Expired | Status::Completed | Status::NoShow, _) => {
            match &booking.compensation {
                Compensation::Underway(_) => 1,
                Compensation::NotNeeded | Compensation::Done | Compensation::Failed => 0,
            }
        }
    };
    end + usize::from(has_personal_data(booking))
}

fn has_personal_data(booking: &Booking) -> bool {
    booking.request.customer.is_some() || booking.request.notes.is_some()
}

fn claim_attempt(booking: &mut Booking, lease_until: Timestamp, now: Timestamp) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_mut().ok_or(Refused::Settled { status })?;
    match operation.phase {
        Phase::InFlight { lease_until } if lease_until > now => {
            return Err(Refused::LeaseHeld { until: lease_until });
        }
        Phase::Waiting { next_attempt_at } if next_attempt_at > now => {
            return Err(Refused::NotDue { at: next_attempt_at });
        }
        Phase::InFlight { lease_until: lost } => {
            // Its worker did not report. It may have sent the request until the very end of its lease.
            operation.unanswered_send_at = operation.unanswered_send_at.max(Some(lost));
            operation.last_error = Some(AttemptError::WorkerLost);
        }
        Phase::Waiting { .. } => {}
    }
    if operation.deadline_at <= now || operation.patience == Patience::Synchronous {
        return Err(Refused::DeadlinePassed);
    }
    operation.attempts = operation.attempts.saturating_add(1);
    operation.phase = Phase::InFlight { lease_until };
    Ok(())
}

fn postpone(booking: &mut Booking, until: Timestamp, now: Timestamp) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_mut().ok_or(Refused::Settled { status })?;
    if operation.patience == Patience::Synchronous {
        return Err(Refused::DeadlinePassed);
    }
    if operation.phase.is_leased(now) {
        return Err(Refused::LeaseHeld { until: operation.phase.due_at() });
    }
    if let Phase::InFlight { lease_until: lost } = operation.phase {
        operation.unanswered_send_at = operation.unanswered_send_at.max(Some(lost));
    }
    operation.last_error = Some(AttemptError::CircuitOpen);
    operation.phase = Phase::Waiting { next_attempt_at: until.min(operation.deadline_at) };
    Ok(())
}

/// The number of the operation that makes a booking.
const BOOK_OPERATION: u32 = 1;

/// Which attempt reports.
#[derive(Clone, Copy)]
struct Report {
    operation: u32,
    attempt: u32,
    retry_delay_ms: u64,
}

fn record_attempt(
    booking: &mut Booking,
    report: Report,
    outcome: AttemptOutcome,
    now: Timestamp,
) -> Result<(), Refused> {
    let in_flight = booking.operation.as_ref().filter(|operation| operation.number == report.operation);
    let kind = match in_flight {
        Some(operation) => operation.change.kind(),
        // What came of the booking itself is never too late to be heard.
        None if report.operation == BOOK_OPERATION => OperationKind::Book,
        None => return Err(Refused::Superseded),
    };
    let Report { attempt, .. } = report;
    match (kind, outcome) {
        (OperationKind::Book, AttemptOutcome::Acknowledged(yes)) => acknowledge(booking, yes, now),
        (OperationKind::Book, AttemptOutcome::Declined(no)) => {
            end_pending(booking, State::Rejected(no), Cause::ProviderDeclined, Some(attempt), now)
        }
        (OperationKind::Cancel, AttemptOutcome::Acknowledged(_)) => cancelled_at_provider(booking, now),
        (OperationKind::Cancel, AttemptOutcome::Declined(no)) => cancel_declined(booking, attempt, no, now),
        (_, AttemptOutcome::NotSent(error)) => record_failure(booking, report, error, None, now),
        (_, AttemptOutcome::Unknown(error)) => record_failure(booking, report, error, Some(now), now),
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
    match operation.patience {
        Patience::Background => {
            let next_attempt_at = now.plus_ms(retry_delay_ms).min(operation.deadline_at);
            operation.phase = Phase::Waiting { next_attempt_at };
            Ok(())
        }
        Patience::Synchronous => {
            let state = State::Cancelled(Cancellation::BySystem(synchronous_reason(error)));
            end_pending(booking, state, Cause::GivenUp, Some(attempt), now)
        }
    }
}

fn synchronous_reason(error: AttemptError) -> CancellationReason {
    match error {
        AttemptError::CircuitOpen => CancellationReason::ProviderUnavailable,
        error if error.is_timeout() => CancellationReason::ProviderTimeout,
        _ => CancellationReason::ProviderFailed,
    }
}

fn acknowledge(
    booking: &mut Booking,
    acknowledgement: Acknowledgement,
    now: Timestamp,
) -> Result<(), Refused> {
    match booking.status() {
        Status::Pending => {
            let state = acknowledgement.state();
            let attempts = booking.operation.as_ref().map_or(0, |operation| operation.attempts);
            advance(booking, Some(state), Cause::ProviderAcknowledged, attempts, now);
            booking.provider_reference = acknowledgement.provider_reference;
            booking.operation = None;
            Ok(())
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

/// Ends a pending booking other than by an acknowledgement, and begins the compensation if a request
/// may have reached the provider. `reporter` is the attempt whose own report ends it, if one does.
fn end_pending(
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

fn give_up(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    let status = booking.status();
    let operation = booking.operation.as_ref().ok_or(Refused::Settled { status })?;
    if let Phase::InFlight { lease_until } = operation.phase
        && lease_until > now
    {
        return Err(Refused::LeaseHeld { until: lease_until });
    }
    if operation.deadline_at > now {
        return Err(Refused::NotDue { at: operation.deadline_at });
    }
    if operation.change.kind() == OperationKind::Cancel {
        return give_up_cancel(booking, now);
    }
    let reason = match operation.patience {
        Patience::Background => CancellationReason::ConfirmationTimeout,
        Patience::Synchronous => CancellationReason::ProviderTimeout,
    };
    end_pending(booking, State::Cancelled(Cancellation::BySystem(reason)), Cause::GivenUp, None, now)
}

fn tell_attendance(booking: &mut Booking, attended: bool, now: Timestamp) -> Result<(), Refused> {
    let status = booking.status();
    let state = if attended { State::Completed } else { State::NoShow };
    if status == state.status() {
        return Err(Refused::NothingToChange);
    }
    if status != Status::Confirmed {
        return Err(Refused::Settled { status });
    }
    if booking.operation.is_some() {
        return Err(Refused::OperationInFlight);
    }
    advance(booking, Some(state), Cause::AttendanceTold, 0, now);
    Ok(())
}

fn erase_customer(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    if booking.operation.is_some() {
        return Err(Refused::OperationInFlight);
    }
    if !has_personal_data(booking) {
        return Err(Refused::NothingToChange);
    }
    advance(booking, None, Cause::CustomerErased, 0, now);
    booking.request.customer = None;
    booking.request.notes = None;
    Ok(())
}

fn expire_hold(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    let State::Reserved { expires_at } = booking.state else {
        return Err(Refused::NotReserved);
    };
    if booking.operation.is_some() {
        return Err(Refused::OperationInFlight);
    }
    if expires_at > now {
        return Err(Refused::NotDue { at: expires_at });
    }
    advance(booking, Some(State::Expired), Cause::HoldExpired, 0, now);
    Ok(())
}

/// Makes the next version, in a new state or (`None`) the same.
fn advance(booking: &mut Booking, state: Option<State>, cause: Cause, attempts: u32, now: Timestamp) {
    if let Some(state) = state {
        booking.state = state;
    }
    booking.history.push(HistoryEntry { status: booking.status(), at: now, cause, attempts });
}
