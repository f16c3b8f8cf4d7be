//! What a timer that rings has to do: the item decides, never the message.

use crate::{
    Booking, Compensation, CompensationRun, Notification, Operation, OperationKind, Patience, Phase, State,
    Timestamp,
};

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
    /// The provider is not asked for the change any more, but what became of it is not known: a look-up is
    /// due.
    Resolve,
    /// The operation's time is over.
    GiveUp,
    /// An attempt of the compensation is due.
    Compensate,
    /// The compensation's time is over.
    GiveUpCompensation,
    /// An attempt to tell the provider is due.
    Notify,
    /// The provider has not fetched a notification in time, or could not be told in it.
    GiveUpNotification,
    /// The hold has run out.
    ExpireHold,
}

/// What is due for `booking` at `now`: of several things the one that has waited longest.
pub fn next_step(booking: &Booking, now: Timestamp) -> Step {
    let operation = booking.operation.as_ref();
    let compensation = match &booking.compensation {
        Compensation::Underway(run) => Some(run),
        Compensation::NotNeeded | Compensation::Done | Compensation::Failed => None,
    };
    let hold = match booking.state {
        // A hold does not run out while the provider is being asked for a change of it.
        State::Reserved { expires_at } if operation.is_none() => Some((expires_at, Step::ExpireHold)),
        _ => None,
    };
    let notification = booking.notifications.first();
    let due = [
        operation.map(|operation| (operation.phase.due_at(), operation_step(operation, now))),
        compensation.map(|run| (run.phase.due_at(), compensation_step(run, now))),
        notification.map(|notification| (notification.phase.due_at(), notification_step(notification, now))),
        hold,
    ];
    match due.into_iter().flatten().min_by_key(|(due_at, _)| *due_at) {
        None => Step::Nothing,
        Some((due_at, _)) if due_at > now => Step::WaitUntil(due_at),
        Some((_, step)) => step,
    }
}

fn operation_step(operation: &Operation, now: Timestamp) -> Step {
    if operation.is_resolving() {
        return if operation.ends_at() <= now { Step::GiveUp } else { Step::Resolve };
    }
    if operation.patience == Patience::Synchronous || operation.deadline_at <= now {
        return Step::GiveUp;
    }
    let worker_lost = matches!(operation.phase, Phase::InFlight { .. });
    let may_have_arrived = worker_lost || operation.unanswered_send_at.is_some();
    // A cancel may be asked for again without harm: its answer is the same.
    let look_up_first = may_have_arrived && operation.change.kind() != OperationKind::Cancel;
    Step::Attempt { look_up_first }
}

fn notification_step(notification: &Notification, now: Timestamp) -> Step {
    // What is fetched is due only when it is over.
    if notification.ends_at() <= now { Step::GiveUpNotification } else { Step::Notify }
}

fn compensation_step(run: &CompensationRun, now: Timestamp) -> Step {
    if run.give_up_at <= now { Step::GiveUpCompensation } else { Step::Compensate }
}
