//! What those who operate the system do to a booking: have what waits done now, and end it for good.

use super::book::end_pending;
use super::cancel::end_told;
use super::compensation::begin_compensation;
use super::{Refused, advance};
use crate::{
    Booking, Cancellation, CancellationReason, Cause, Compensation, HistoryEntry, NotificationKind,
    NotificationRoute, Phase, State, Status, Timestamp,
};

/// What waits is due now, and what was given up begins anew: a compensation that failed, and the last word to a
/// provider that could not be told.
pub(super) fn retry_now(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    let mut in_flight = None;
    let mut is_hurried = false;
    for (phase, earliest_at) in phases(booking) {
        if phase.is_leased(now) {
            in_flight = Some(phase.due_at());
        }
        is_hurried |= bring_forward(phase, earliest_at.max(now));
    }
    let undoes_again = booking.compensation == Compensation::Failed;
    let tells_again = booking.notifications.is_empty() && was_told_in_vain(booking);
    if undoes_again || tells_again {
        advance(booking, None, Cause::RetriedByOperator, 0, now);
        is_hurried = true;
    }
    if undoes_again {
        // Whatever was sent, it was sent before.
        begin_compensation(booking, now, now, now);
    }
    if tells_again {
        let kind = match booking.status() {
            Status::Pending | Status::Reserved | Status::Confirmed | Status::Completed | Status::NoShow => {
                NotificationKind::Booked
            }
            Status::Rejected | Status::Cancelled | Status::Expired => NotificationKind::Cancelled,
        };
        booking.tell(kind, now);
    }
    match (is_hurried, in_flight) {
        (true, _) => Ok(()),
        (false, Some(until)) => Err(Refused::LeaseHeld { until }),
        (false, None) => Err(Refused::NothingWaits),
    }
}

/// What Holdfast itself goes on with, and until when somebody who was overtaken may send.
fn phases(booking: &mut Booking) -> impl Iterator<Item = (&mut Phase, Timestamp)> {
    let Booking { operation, compensation, notifications, route, .. } = booking;
    let operation = operation.as_mut().map(|operation| {
        let sent_at = operation.unanswered_send_at.unwrap_or(Timestamp::EPOCH);
        (&mut operation.phase, sent_at)
    });
    let run = match compensation {
        Compensation::Underway(run) => Some((&mut run.phase, run.unanswered_send_at)),
        Compensation::NotNeeded | Compensation::Done | Compensation::Failed => None,
    };
    // What a provider fetches waits for the provider.
    let sent = if *route == NotificationRoute::Push { notifications.first_mut() } else { None };
    let sent = sent.map(|notification| (&mut notification.phase, Timestamp::EPOCH));
    operation.into_iter().chain(run).chain(sent)
}

fn bring_forward(phase: &mut Phase, to: Timestamp) -> bool {
    match phase {
        Phase::Waiting { next_attempt_at } if *next_attempt_at > to => {
            *next_attempt_at = to;
            true
        }
        Phase::Waiting { .. } | Phase::InFlight { .. } => false,
    }
}

/// Whether the last thing that the provider was to be told did not reach it. What reaches it leaves no version.
fn was_told_in_vain(booking: &Booking) -> bool {
    let is_about_telling = |entry: &&HistoryEntry| match entry.cause {
        Cause::NotificationFailed
        | Cause::Accepted
        | Cause::ProviderAcknowledged
        | Cause::Rescheduled
        | Cause::WithdrawnByConsumer
        | Cause::CancelledByOperator
        | Cause::RetriedByOperator
        | Cause::LateAcknowledgement => true,
        Cause::Created
        | Cause::ProviderDeclined
        | Cause::ProviderEnded
        | Cause::GivenUp
        | Cause::HoldExpired
        | Cause::Compensated
        | Cause::CompensationFailed
        | Cause::OperationBegun
        | Cause::OperationDeclined
        | Cause::OperationGivenUp
        | Cause::OperationUnresolved
        | Cause::WithdrawnByProvider
        | Cause::AttendanceTold
        | Cause::CustomerErased => false,
    };
    let last = booking.history.iter().rfind(is_about_telling);
    last.is_some_and(|entry| entry.cause == Cause::NotificationFailed)
}

/// The booking ends, whatever its provider says; what the provider may hold is compensated, or it is told.
pub(super) fn cancel_by_operator(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    let state = State::Cancelled(Cancellation::BySystem(CancellationReason::Operator));
    match booking.status() {
        Status::Pending => end_pending(booking, state, Cause::CancelledByOperator, None, now),
        Status::Reserved | Status::Confirmed if booking.confirmation.tells() => {
            end_told(booking, state, Cause::CancelledByOperator, now);
            Ok(())
        }
        Status::Reserved | Status::Confirmed => {
            let operation = booking.operation.take();
            let attempts = operation.as_ref().map_or(0, |operation| operation.attempts);
            let lease_until = operation.and_then(|operation| match operation.phase {
                Phase::InFlight { lease_until } => Some(lease_until),
                Phase::Waiting { .. } => None,
            });
            advance(booking, Some(state), Cause::CancelledByOperator, attempts, now);
            // An attempt in flight may send until its lease is over; the provider holds the booking anyway.
            let from = lease_until.unwrap_or(now).max(now);
            begin_compensation(booking, from, from, now);
            Ok(())
        }
        status @ (Status::Rejected
        | Status::Cancelled
        | Status::Expired
        | Status::Completed
        | Status::NoShow) => Err(Refused::Settled { status }),
    }
}
