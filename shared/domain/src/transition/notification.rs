//! Telling the provider: one notification after the other, by a schedule that the caller knows.

use super::{NotificationRecord, Refused, advance};
use crate::{AttemptError, Booking, Cause, Notification, NotificationRoute, Phase, Timestamp};

/// The notification that is due to be sent.
fn due(booking: &mut Booking, now: Timestamp) -> Result<&mut Notification, Refused> {
    if booking.route == NotificationRoute::Pull {
        // Nobody sends what the provider fetches.
        return Err(Refused::NothingToTell);
    }
    let notification = booking.notifications.first_mut().ok_or(Refused::NothingToTell)?;
    match notification.phase {
        Phase::InFlight { lease_until } if lease_until > now => {
            return Err(Refused::LeaseHeld { until: lease_until });
        }
        Phase::Waiting { next_attempt_at } if next_attempt_at > now => {
            return Err(Refused::NotDue { at: next_attempt_at });
        }
        Phase::InFlight { .. } | Phase::Waiting { .. } if notification.ends_at() <= now => {
            return Err(Refused::DeadlinePassed);
        }
        Phase::InFlight { .. } => notification.last_error = Some(AttemptError::WorkerLost),
        Phase::Waiting { .. } => {}
    }
    Ok(notification)
}

/// It cannot be sent now.
pub(super) fn postpone_notification(
    booking: &mut Booking,
    until: Option<Timestamp>,
    error: AttemptError,
    is_skipped: bool,
    now: Timestamp,
) -> Result<(), Refused> {
    let notification = due(booking, now)?;
    notification.last_error = Some(error);
    notification.skipped = notification.skipped.saturating_add(u32::from(is_skipped));
    let (attempts, ends_at) = (notification.attempts, notification.ends_at());
    if let Some(until) = until {
        notification.phase = Phase::Waiting { next_attempt_at: until.min(ends_at) };
    } else {
        end_current(booking, now);
        advance(booking, None, Cause::NotificationFailed, attempts, now);
    }
    Ok(())
}

pub(super) fn claim_notification(
    booking: &mut Booking,
    lease_until: Timestamp,
    now: Timestamp,
) -> Result<(), Refused> {
    let notification = due(booking, now)?;
    notification.attempts = notification.attempts.saturating_add(1);
    notification.phase = Phase::InFlight { lease_until };
    Ok(())
}

pub(super) fn record_notification(
    booking: &mut Booking,
    record: NotificationRecord,
    now: Timestamp,
) -> Result<(), Refused> {
    let NotificationRecord { number, attempt, error, retry_at } = record;
    let current = current(booking, number)?;
    let attempts = current.attempts;
    match (error, retry_at) {
        // The provider heard it, whichever attempt it was.
        (None, _) => end_current(booking, now),
        (Some(_), _) if attempts != attempt => return Err(Refused::Superseded),
        (Some(error), Some(retry_at)) => {
            current.last_error = Some(error);
            current.phase = Phase::Waiting { next_attempt_at: retry_at.min(current.ends_at()) };
        }
        (Some(_), None) => {
            end_current(booking, now);
            advance(booking, None, Cause::NotificationFailed, attempts, now);
        }
    }
    Ok(())
}

/// The provider fetched it.
pub(super) fn acknowledge_notification(
    booking: &mut Booking,
    number: u32,
    now: Timestamp,
) -> Result<(), Refused> {
    current(booking, number)?;
    end_current(booking, now);
    Ok(())
}

/// The provider has not fetched it in time, or every worker that should have told it was lost.
pub(super) fn give_up_notification(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    let current = booking.notifications.first().ok_or(Refused::NothingToTell)?;
    if current.phase.is_leased(now) {
        return Err(Refused::LeaseHeld { until: current.phase.due_at() });
    }
    if current.ends_at() > now {
        return Err(Refused::NotDue { at: current.ends_at() });
    }
    let attempts = current.attempts;
    end_current(booking, now);
    advance(booking, None, Cause::NotificationFailed, attempts, now);
    Ok(())
}

fn current(booking: &mut Booking, number: u32) -> Result<&mut Notification, Refused> {
    booking
        .notifications
        .first_mut()
        .filter(|notification| notification.number == number)
        .ok_or(Refused::NothingToTell)
}

/// The first notification is over; the next one's schedule begins.
fn end_current(booking: &mut Booking, now: Timestamp) {
    booking.notifications.remove(0);
    if let Some(next) = booking.notifications.first_mut() {
        next.begun_at = now;
        next.phase = booking.route.first_phase(now);
    }
}
