//! What must hold: of every command, of every write, and of the world once it is quiet.
//!
//! The rules are the contract's, in the model's own words: what the domain says of itself (such as which status
//! may follow) is not asked.

use holdfast_domain::{
    AttemptOutcome, Booking, Cause, Command, Compensation, CompensationRecord, OperationKind, Patience,
    Phase, Refused, State, Status, Timestamp, Transition,
};

use crate::bounds::{BACKGROUND_GRACE_MS, Habits};
use crate::provider::{Ask, Held};
use crate::worker::{Purpose, Stage, Task, Worker};
use crate::world::{Lateness, World};

/// What went wrong in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wrong {
    /// A status that does not follow on the one before.
    IllegalStatus,
    /// A write with more than one version, a change without one, or a rewritten past.
    BrokenHistory,
    /// Two operations under one number.
    RepeatedNumber,
    /// The events that a transition returns are not those that the images yield.
    EventsDiffer,
    /// Two attempts within their leases.
    SecondLease,
    /// A compensation while somebody may still send the request that it is to undo.
    CompensationUnderLease,
    /// A request that was sent again without having asked what became of the first.
    BlindRepetition,
    /// A request that was sent when its operation's time was over.
    SentTooLate,
    /// A yes to a booking that had ended, and nothing came of it.
    LateYesDropped,
    /// A compensation although nothing can have been sent.
    NeedlessCompensation,
    /// A change of a hold that is asked for beyond the hold's end.
    BeyondTheHold,
    /// A report of another attempt, or of another compensation, that ended this one.
    ForeignReport,
    /// A booking that stands here, because it has ended at the provider.
    EndTakenForYes,
    /// Something that was due and that nobody was told to do, although nobody was late.
    Forgotten,
    /// An item that is written again and again.
    Endless,
    /// The world came back to where it was.
    InCircles,
}

/// Looks at a command and what came of it.
pub(crate) fn of_command(
    world: &mut World,
    seen: &Booking,
    command: &Command,
    result: Result<&Transition, &Refused>,
) {
    let is_lost = |booking: &Booking| {
        booking.operation.as_ref().is_some_and(|operation| matches!(operation.phase, Phase::InFlight { .. }))
    };
    let is_yes_to_the_booking = match command {
        Command::Acknowledge { operation, .. } => operation.is_none(),
        Command::RecordAttempt { operation: 1, outcome, .. } => {
            matches!(outcome, AttemptOutcome::Acknowledged(_))
        }
        _ => false,
    };
    let has_ended = matches!(seen.status(), Status::Rejected | Status::Cancelled | Status::Expired);
    let after = result.map(|transition| &transition.booking).ok();
    let is_compensating =
        after.is_some_and(|booking| matches!(booking.compensation, Compensation::Underway(_)));
    if is_yes_to_the_booking && has_ended {
        world.has_late_yes = true;
        if !is_compensating {
            world.blame(Wrong::LateYesDropped);
        }
        return;
    }
    let stands = |booking: &Booking| matches!(booking.status(), Status::Confirmed | Status::Reserved);
    if matches!(command, Command::AdoptEnded { .. }) && after.is_some_and(stands) {
        world.blame(Wrong::EndTakenForYes);
    }
    if let Command::RecordCompensation(CompensationRecord { number, attempt, .. }) = command {
        let is_its_own = matches!(&seen.compensation, Compensation::Underway(run)
            if (run.number, run.attempts) == (*number, *attempt));
        if after.is_some() && !is_its_own {
            world.blame(Wrong::ForeignReport);
        }
        return;
    }
    if matches!(command, Command::RecordAttempt { .. }) {
        let was_compensating = matches!(seen.compensation, Compensation::Underway(_));
        if is_compensating && !was_compensating && !world.is_doubtful {
            world.blame(Wrong::NeedlessCompensation);
        }
        return;
    }
    // Nobody knows whether a worker that does not report has sent anything.
    world.is_doubtful |= after.is_some() && is_lost(seen);
}

/// Looks at the claim of a call that is about to be written; `claimed` is the booking that it makes.
///
/// A compensation waits for whoever may still send what it is to undo. A booking that the provider has made
/// already is not made again by the same key, and a change that comes after the compensation finds nothing to
/// change. An attempt waits for the one before; a look-up alone does not, since it asks for nothing.
pub(crate) fn of_claim(world: &World, purpose: Purpose, claimed: &Booking) -> Option<Wrong> {
    let number = claimed.operation.as_ref().map(|operation| operation.number);
    let mut tasks =
        world.workers.iter().filter_map(Worker::task).filter(|task| task.lease_until() > world.now);
    let is_in_the_way = |task: &Task| match purpose {
        Purpose::Attempt => task.operation().is_some_and(|operation| Some(operation.number) == number),
        Purpose::Resolve => false,
        Purpose::Compensate => {
            matches!(task.request().ask, Ask::Book | Ask::Hold) && !world.provider.has_taken()
        }
    };
    let is_compensation = purpose == Purpose::Compensate;
    let wrong = if is_compensation { Wrong::CompensationUnderLease } else { Wrong::SecondLease };
    tasks.any(is_in_the_way).then_some(wrong)
}

/// Looks at a write.
pub(crate) fn of_write(old: Option<&Booking>, new: &Booking, now: Timestamp) -> Option<Wrong> {
    let Some(last) = new.history.last() else { return Some(Wrong::BrokenHistory) };
    let Some(old) = old else {
        let is_first = new.history.len() == 1 && last.status == Status::Pending;
        return (!is_first).then_some(Wrong::BrokenHistory);
    };
    let is_new_version = new.history.len() == old.history.len() + 1;
    let has_past = new.history.starts_with(&old.history)
        && (is_new_version || new.history == old.history)
        && last.status == new.status()
        && (!is_new_version || last.at == now);
    // Whatever listeners can see of a booking is a version: status, slot, hold, and that an operation or a
    // compensation begins or ends.
    let number = |booking: &Booking| booking.operation.as_ref().map(|operation| operation.number);
    let is_shown = (&old.state, &old.slot, number(old)) != (&new.state, &new.slot, number(new))
        || std::mem::discriminant(&old.compensation) != std::mem::discriminant(&new.compensation);
    if !has_past || (is_shown && !is_new_version) {
        return Some(Wrong::BrokenHistory);
    }
    if !may_follow(old.status(), new.status()) {
        return Some(Wrong::IllegalStatus);
    }
    if let (State::Reserved { expires_at }, Some(operation)) = (&new.state, &new.operation)
        && operation.change.kind() == OperationKind::Confirm
        && operation.deadline_at > *expires_at
    {
        return Some(Wrong::BeyondTheHold);
    }
    let overtaken = old.operation.as_ref().and_then(|operation| operation.overtaken.as_ref());
    let is_taken_up = number(new).is_some() && number(new) == overtaken.map(|overtaken| overtaken.number);
    let run = |booking: &Booking| match &booking.compensation {
        Compensation::Underway(run) => Some(run.number),
        Compensation::NotNeeded | Compensation::Done | Compensation::Failed => None,
    };
    let is_fresh = |before: Option<u32>, after: Option<u32>| {
        after.is_none() || after == before || after > Some(old.operations_begun)
    };
    let are_fresh = (is_taken_up || is_fresh(number(old), number(new))) && is_fresh(run(old), run(new));
    (!are_fresh || new.operations_begun < old.operations_begun).then_some(Wrong::RepeatedNumber)
}

/// The contract's section 1.
fn may_follow(old: Status, new: Status) -> bool {
    use Status::{Cancelled, Completed, Confirmed, Expired, NoShow, Pending, Rejected, Reserved};
    old == new
        || match old {
            Pending => matches!(new, Confirmed | Reserved | Rejected | Cancelled),
            Reserved => matches!(new, Confirmed | Cancelled | Expired),
            Confirmed => matches!(new, Cancelled | Completed | NoShow),
            Rejected | Cancelled | Expired | Completed | NoShow => false,
        }
}

/// Looks at a booking that the sweep finds: as long as every message comes when it should, it finds none.
pub(crate) fn of_sweep(world: &World) -> Option<Wrong> {
    let is_late = world.timers.iter().any(|timer| timer.lateness != Lateness::OnTime);
    let is_held_up = world.workers.iter().any(|worker| matches!(worker.stage, Stage::Decide { .. }));
    (!is_late && !is_held_up).then_some(Wrong::Forgotten)
}

fn booking(world: &World) -> Option<&Booking> {
    world.item.as_ref().map(|item| &item.booking)
}

fn has_cause(booking: &Booking, cause: Cause) -> bool {
    booking.history.iter().any(|entry| entry.cause == cause)
}

/// I1, at every moment.
pub(crate) fn holds_at_most_one(world: &World) -> bool {
    world.provider.live(world.now).count() <= 1
}

/// I1, in the end: the provider holds what the booking says, unless somebody was told to look.
pub(crate) fn agrees_with_provider(world: &World) -> bool {
    let Some(booking) = booking(world) else { return true };
    if !world.is_quiet() {
        return true;
    }
    let is_given_up =
        booking.compensation == Compensation::Failed || has_cause(booking, Cause::OperationUnresolved);
    if is_given_up {
        return world.has_alarm;
    }
    let mut live = world.provider.live(world.now);
    match booking.status() {
        Status::Confirmed => live.next() == Some(Held::Confirmed),
        // A hold that has lapsed here is not live there either.
        _ => live.next().is_none(),
    }
}

/// I2, in the end: nothing is left that anybody waits for.
pub(crate) fn is_settled(world: &World) -> bool {
    let Some(booking) = booking(world) else { return true };
    let is_open = matches!(booking.status(), Status::Pending | Status::Reserved)
        || booking.operation.is_some()
        || matches!(booking.compensation, Compensation::Underway(_))
        || !booking.notifications.is_empty();
    !(world.is_quiet() && is_open)
}

/// I2, in time: while no message and no worker is late, an operation ends by its deadline or, if an attempt is
/// still at work then, by the end of its lease.
pub(crate) fn ends_by_its_deadline(world: &World) -> bool {
    let operation = booking(world).and_then(|booking| booking.operation.as_ref());
    let Some(operation) = operation else { return true };
    let is_over = operation.ends_at().plus_ms(BACKGROUND_GRACE_MS) < world.now;
    let is_late = world.timers.iter().any(|timer| timer.lateness != Lateness::OnTime)
        || world.workers.iter().any(|worker| worker.is_frozen);
    !is_over || is_late || world.is_busy()
}

/// Who waits for the answer is not told that there is none yet: by then the booking has ended.
pub(crate) fn is_definite_for_who_waits(world: &World, patience: Patience) -> bool {
    let response = world.item.as_ref().and_then(|item| item.response);
    patience == Patience::Background || response != Some(Status::Pending)
}

/// An alarm is for what nobody could find out or undo: here every look-up is answered in the end, and so is every
/// cancel, unless the provider never answers one.
pub(crate) fn raises_no_false_alarm(world: &World, habits: Habits) -> bool {
    let Some(booking) = booking(world) else { return true };
    let is_refused = world.provider.has_refused(Ask::Cancel) || habits.is_down_for_cancels;
    let is_unresolved = has_cause(booking, Cause::OperationUnresolved);
    !is_unresolved && (booking.compensation != Compensation::Failed || is_refused)
}

/// I6.
pub(crate) fn late_yes_is_undone(world: &World) -> bool {
    let Some(booking) = booking(world) else { return true };
    let is_undone = match booking.compensation {
        Compensation::Done => true,
        Compensation::Failed => world.has_alarm,
        Compensation::NotNeeded | Compensation::Underway(_) => false,
    };
    !(world.is_quiet() && world.has_late_yes) || is_undone
}
