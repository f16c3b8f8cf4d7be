//! What a timer that rings has to do: the item decides, never the message.

use crate::{Booking, Compensation, OperationKind, Patience, Phase, State, Timestamp};

/// What is due for a booking at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing will ever be due unless something else happens first.
    Nothing,
    /// Something is due later.
    WaitUntil(Timestamp),
    /// An attempt of the operation is due.
    Attempt {
        /// The provider has to be asked first, because an earlier request may have reached it.
        look_up_first: bool,
    },
    /// The operation's time is over.
    GiveUp,
    /// An attempt of the compensation is due.
    Compensate,
    /// The compensation's time is over.
    GiveUpCompensation,
    /// The hold has run out.
    ExpireHold,
}

/// What is due for `booking` at `now`.
pub fn next_step(booking: &Booking, now: Timestamp) -> Step {
    if let Some(operation) = &booking.operation {
        return match operation.phase {
            Phase::InFlight { lease_until } if lease_until > now => Step::WaitUntil(lease_until),
            Phase::Waiting { next_attempt_at } if next_attempt_at > now => Step::WaitUntil(next_attempt_at),
            Phase::InFlight { .. } | Phase::Waiting { .. } => {
                if operation.patience == Patience::Synchronous || operation.deadline_at <= now {
                    Step::GiveUp
                } else {
                    let worker_lost = matches!(operation.phase, Phase::InFlight { .. });
                    let may_have_arrived = worker_lost || operation.unanswered_send_at.is_some();
                    // A cancel may be asked for again without harm: its answer is the same.
                    let look_up_first = may_have_arrived && operation.change.kind() == OperationKind::Book;
                    Step::Attempt { look_up_first }
                }
            }
        };
    }
    if let Compensation::Underway(run) = &booking.compensation {
        return match run.phase {
            Phase::InFlight { lease_until } if lease_until > now => Step::WaitUntil(lease_until),
            Phase::Waiting { next_attempt_at } if next_attempt_at > now => Step::WaitUntil(next_attempt_at),
            Phase::InFlight { .. } | Phase::Waiting { .. } => {
                if run.give_up_at <= now {
                    Step::GiveUpCompensation
                } else {
                    Step::Compensate
                }
            }
        };
    }
    match booking.state {
        State::Reserved { expires_at } if expires_at <= now => Step::ExpireHold,
        State::Reserved { expires_at } => Step::WaitUntil(expires_at),
        State::Pending
        | State::Confirmed
        | State::Rejected(_)
        | State::Cancelled(_)
        | State::Expired
        | State::Completed
        | State::NoShow => Step::Nothing,
    }
}
