//! The one function that changes a booking.
//!
//! [`transition`] is pure and total: for every booking, command and time it returns the next booking or
//! says why the command does not apply. Whoever calls it writes the result conditionally on the item
//! that it read, and asks again with the item that it finds instead.

mod attempt;
mod book;
mod cancel;
mod change;
mod compensation;
mod notification;
mod operator;

use attempt::{claim_attempt, give_up, postpone, record_attempt};
use book::{acknowledge, adopt_ended, decline};
use cancel::cancel_by_provider;
use change::{adopt_unchanged, begin};
use compensation::{claim_compensation, give_up_compensation, record_compensation};
use notification::{
    acknowledge_notification, claim_notification, give_up_notification, postpone_notification,
    record_notification,
};
use operator::{cancel_by_operator, retry_now};

use crate::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, Cause, Change, Compensation, CompensationOutcome,
    Event, HistoryEntry, MAX_VERSIONS, Patience, Rejection, State, Status, Timestamp, Withdrawal,
    events_since,
};

/// For how long a compensation is tried, in milliseconds: 24 h.
pub const COMPENSATION_LIMIT_MS: u64 = 24 * 60 * 60 * 1000;

/// For how long a provider is asked whether it made a change that it did not answer to, in milliseconds:
/// 24 h.
pub const RESOLUTION_LIMIT_MS: u64 = 24 * 60 * 60 * 1000;

/// The least time after the last unanswered request before "no such booking" is believed, in
/// milliseconds. A provider's attempt time-out may raise it.
pub const MIN_SETTLE_WINDOW_MS: u64 = 60_000;

/// How far apart the clocks of two workers may be, in milliseconds: each 5 min off. That a change was not
/// made is believed only when this much more time has passed: unlike a compensating cancel, a change that is
/// given up leaves nothing at the provider that would keep a late request from being carried out.
pub const CLOCK_SKEW_MS: u64 = 2 * 5 * 60 * 1000;

/// Something that happens to a booking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// A worker takes the lease for the next attempt of the operation.
    ClaimAttempt {
        /// The end of its lease.
        lease_until: Timestamp,
    },
    /// An attempt that is due cannot be made now, for reasons that have nothing to do with the booking,
    /// such as that the provider's circuit is open.
    Postpone {
        /// When to try again.
        until: Timestamp,
        /// Why.
        error: AttemptError,
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
    Acknowledge {
        /// What it says.
        acknowledgement: Acknowledgement,
        /// Which operation it answers; `None` if it does not say.
        operation: Option<u32>,
    },
    /// The provider says no by calling us.
    Decline {
        /// What it says.
        rejection: Rejection,
        /// Which operation it answers; `None` means the booking itself.
        operation: Option<u32>,
    },
    /// A look-up found that the provider has not made a change that it is not asked for any more.
    AdoptUnchanged(UnchangedRecord),
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
    /// The consumer asks for a change of the booking.
    Begin(ChangeRequest),
    /// The provider withdraws the booking by calling us.
    CancelByProvider(Withdrawal),
    /// The provider tells whether the customer came.
    TellAttendance {
        /// Whether the customer came.
        attended: bool,
    },
    /// The consumer has the customer's data erased.
    EraseCustomer,
    /// The provider cannot be told now, for reasons that have nothing to do with the booking.
    PostponeNotification {
        /// When to try again; `None` if that was the last time.
        until: Option<Timestamp>,
        /// Why.
        error: AttemptError,
        /// Whether it stands for an attempt of the schedule.
        is_skipped: bool,
    },
    /// A worker takes the lease for the next attempt to tell the provider.
    ClaimNotification {
        /// The end of its lease.
        lease_until: Timestamp,
    },
    /// A worker reports what came of telling the provider.
    RecordNotification(NotificationRecord),
    /// The provider has not fetched in time what it is to be told.
    GiveUpNotification,
    /// The provider has fetched what it is to be told.
    AcknowledgeNotification {
        /// Which.
        number: u32,
    },
    /// Whoever operates the system wants what waits done now, and what was given up begun anew.
    RetryNow,
    /// Whoever operates the system ends the booking without asking its provider.
    CancelByOperator,
}

/// A consumer's wish to change a booking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChangeRequest {
    /// What is asked for; never [`Change::Book`].
    pub change: Change,
    /// Whether it goes on after the request. A cancel always does.
    pub patience: Patience,
    /// The end of the lease of the attempt that the request itself makes.
    pub lease_until: Timestamp,
    /// When the provider is not asked any more. What changes a hold is not asked for beyond its end.
    pub deadline_at: Timestamp,
}

/// What a worker reports of a look-up that found a change not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnchangedRecord {
    /// The operation's number.
    pub operation: u32,
    /// Which attempt: the count at the time it was claimed.
    pub attempt: u32,
    /// When the provider was asked.
    pub asked_at: Timestamp,
    /// Whether the provider has decided on this operation, so that nothing may follow.
    pub decided: bool,
    /// How long after the last unanswered request it is not believed otherwise, in milliseconds.
    /// Values below [`MIN_SETTLE_WINDOW_MS`] count as that.
    pub settle_window_ms: u64,
}

/// What a worker reports of telling the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotificationRecord {
    /// The notification's number.
    pub number: u32,
    /// Which attempt: the count at the time it was claimed.
    pub attempt: u32,
    /// Why it failed; `None` if the provider was told.
    pub error: Option<AttemptError>,
    /// When it is tried again; `None` if it is not.
    pub retry_at: Option<Timestamp>,
}

/// What a worker reports of a compensating cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// The hold would not live longer.
    #[error("the hold lasts until {until} already")]
    NotLonger {
        /// Its end.
        until: Timestamp,
    },
    /// Nothing has to be told, or not this any more.
    #[error("nothing is to be told")]
    NothingToTell,
    /// The booking is as the command wants it.
    #[error("nothing is left to change")]
    NothingToChange,
    /// Nothing waits, and nothing was given up that could begin anew.
    #[error("nothing waits to be done")]
    NothingWaits,
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
    let room = room_to_leave(&command);
    match command {
        Command::ClaimAttempt { lease_until } => claim_attempt(&mut next, lease_until, now)?,
        Command::Postpone { until, error } => postpone(&mut next, until, error, now)?,
        Command::RecordAttempt { operation, attempt, outcome, retry_delay_ms } => {
            let report = attempt::Report { operation, attempt, retry_delay_ms };
            record_attempt(&mut next, report, outcome, now)?;
        }
        Command::Acknowledge { acknowledgement, operation } => {
            acknowledge(&mut next, acknowledgement, operation, now)?;
        }
        Command::Decline { rejection, operation } => decline(&mut next, rejection, operation, now)?,
        Command::AdoptUnchanged(record) => adopt_unchanged(&mut next, record, now)?,
        Command::AdoptEnded { attempt } => adopt_ended(&mut next, attempt, now)?,
        Command::GiveUp => give_up(&mut next, now)?,
        Command::ClaimCompensation { lease_until } => claim_compensation(&mut next, lease_until, now)?,
        Command::RecordCompensation(record) => record_compensation(&mut next, record, now)?,
        Command::GiveUpCompensation => give_up_compensation(&mut next, now)?,
        Command::ExpireHold => expire_hold(&mut next, now)?,
        Command::Begin(request) => begin(&mut next, request, now)?,
        Command::CancelByProvider(withdrawal) => cancel_by_provider(&mut next, withdrawal, now)?,
        Command::TellAttendance { attended } => tell_attendance(&mut next, attended, now)?,
        Command::EraseCustomer => erase_customer(&mut next, now)?,
        Command::PostponeNotification { until, error, is_skipped } => {
            postpone_notification(&mut next, until, error, is_skipped, now)?;
        }
        Command::ClaimNotification { lease_until } => claim_notification(&mut next, lease_until, now)?,
        Command::RecordNotification(record) => record_notification(&mut next, record, now)?,
        Command::GiveUpNotification => give_up_notification(&mut next, now)?,
        Command::AcknowledgeNotification { number } => acknowledge_notification(&mut next, number, now)?,
        Command::RetryNow => retry_now(&mut next, now)?,
        Command::CancelByOperator => cancel_by_operator(&mut next, now)?,
    }
    let needs_room = next.version() > booking.version() || versions_owed(&next) > versions_owed(booking);
    if needs_room && next.history.len() + versions_owed(&next) + room > MAX_VERSIONS {
        return Err(Refused::TooManyVersions);
    }
    let events = events_since(&next, booking.version());
    Ok(Transition { booking: next, events })
}

/// The versions of a cancel: that it began, its end, and the compensation's.
const CANCEL_VERSIONS: usize = 3;

/// How many versions a command has to leave beyond those that are owed: whoever changes a booking again and
/// again must still be able to cancel it.
fn room_to_leave(command: &Command) -> usize {
    match command {
        Command::Begin(request) if !matches!(request.change, Change::Cancel(_)) => CANCEL_VERSIONS,
        _ => 0,
    }
}

/// The most versions that a booking must still be able to make: the ends of what is under way, and the
/// erasure. What begins something finds room for all of these or is refused, so that no end ever is.
fn versions_owed(booking: &Booking) -> usize {
    let end = match (booking.status(), &booking.operation) {
        // Its end, and a compensation's or, of a hold that stays, the hold's; the end of what it overtook;
        // and the failure of the notification that follows on it.
        (Status::Pending | Status::Reserved | Status::Confirmed, Some(operation)) => {
            2 + usize::from(operation.overtaken.is_some()) + usize::from(booking.confirmation.tells())
        }
        (Status::Pending | Status::Reserved | Status::Confirmed, None) => 1,
        (Status::Rejected | Status::Cancelled | Status::Expired | Status::Completed | Status::NoShow, _) => {
            match &booking.compensation {
                Compensation::Underway(_) => 1,
                Compensation::NotNeeded | Compensation::Done | Compensation::Failed => 0,
            }
        }
    };
    end + booking.notifications.len() + usize::from(has_personal_data(booking))
}

fn has_personal_data(booking: &Booking) -> bool {
    booking.request.customer.is_some() || booking.request.notes.is_some()
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
    if booking.operation.is_some() || !booking.notifications.is_empty() {
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
    booking.history.push(HistoryEntry::new(booking.status(), now, cause, attempts));
}
