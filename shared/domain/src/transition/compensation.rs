//! The compensating cancel: how it begins, goes on and ends.

use super::{COMPENSATION_LIMIT_MS, CompensationRecord, MIN_SETTLE_WINDOW_MS, Refused, advance};
use crate::{
    Acknowledgement, Booking, Cause, Compensation, CompensationOutcome, CompensationRun, Phase, Timestamp,
};

/// The provider holds a booking that has ended here: it has to be cancelled there.
pub(super) fn late_acknowledgement(booking: &mut Booking, acknowledgement: Acknowledgement, now: Timestamp) {
    if let Compensation::Underway(run) = &mut booking.compensation {
        run.unanswered_send_at = run.unanswered_send_at.max(now);
    } else {
        advance(booking, None, Cause::LateAcknowledgement, 0, now);
        begin_compensation(booking, now, now, now);
    }
    if acknowledgement.provider_reference.is_some() {
        booking.provider_reference = acknowledgement.provider_reference;
    }
}

/// A request that turns out to have been sent although the booking has ended: a compensation that is
/// under way has to outwait it.
pub(super) fn note_send_after_end(booking: &mut Booking, sent_at: Timestamp) -> Result<(), Refused> {
    let refused = Refused::Settled { status: booking.status() };
    match &mut booking.compensation {
        Compensation::Underway(run) if run.unanswered_send_at < sent_at => {
            run.unanswered_send_at = sent_at;
            Ok(())
        }
        Compensation::Underway(_) | Compensation::NotNeeded | Compensation::Done | Compensation::Failed => {
            Err(refused)
        }
    }
}

pub(super) fn begin_compensation(
    booking: &mut Booking,
    unanswered_send_at: Timestamp,
    start_at: Timestamp,
    now: Timestamp,
) {
    booking.operations_begun = booking.operations_begun.saturating_add(1);
    booking.compensation = Compensation::Underway(CompensationRun {
        number: booking.operations_begun,
        give_up_at: now.plus_ms(COMPENSATION_LIMIT_MS),
        attempts: 0,
        unanswered_send_at,
        last_error: None,
        phase: Phase::Waiting { next_attempt_at: start_at },
    });
}

pub(super) fn claim_compensation(
    booking: &mut Booking,
    lease_until: Timestamp,
    now: Timestamp,
) -> Result<(), Refused> {
    let Compensation::Underway(run) = &mut booking.compensation else {
        return Err(Refused::NoCompensation);
    };
    match run.phase {
        Phase::InFlight { lease_until } if lease_until > now => {
            return Err(Refused::LeaseHeld { until: lease_until });
        }
        Phase::Waiting { next_attempt_at } if next_attempt_at > now => {
            return Err(Refused::NotDue { at: next_attempt_at });
        }
        Phase::InFlight { .. } | Phase::Waiting { .. } => {}
    }
    if run.give_up_at <= now {
        return Err(Refused::DeadlinePassed);
    }
    run.attempts = run.attempts.saturating_add(1);
    run.phase = Phase::InFlight { lease_until };
    Ok(())
}

pub(super) fn record_compensation(
    booking: &mut Booking,
    record: CompensationRecord,
    now: Timestamp,
) -> Result<(), Refused> {
    let Compensation::Underway(run) = &mut booking.compensation else {
        return Err(Refused::NoCompensation);
    };
    if (run.number, run.attempts) != (record.number, record.attempt) {
        return Err(Refused::Superseded);
    }
    let settle_window_ms = record.settle_window_ms.max(MIN_SETTLE_WINDOW_MS);
    let believed_from = run.unanswered_send_at.plus_ms(settle_window_ms);
    match record.outcome {
        CompensationOutcome::Acknowledged => {
            end_compensation(booking, Compensation::Done, Cause::Compensated, now);
        }
        CompensationOutcome::NoSuchBooking if record.asked_at >= believed_from => {
            end_compensation(booking, Compensation::Done, Cause::Compensated, now);
        }
        CompensationOutcome::NoSuchBooking => {
            // The request may still arrive there: ask again when it no longer can.
            run.phase = Phase::Waiting { next_attempt_at: believed_from.max(now).min(run.give_up_at) };
        }
        CompensationOutcome::Declined => {
            end_compensation(booking, Compensation::Failed, Cause::CompensationFailed, now);
        }
        CompensationOutcome::Failed(error) => {
            run.last_error = Some(error);
            run.phase =
                Phase::Waiting { next_attempt_at: now.plus_ms(record.retry_delay_ms).min(run.give_up_at) };
        }
    }
    Ok(())
}

pub(super) fn give_up_compensation(booking: &mut Booking, now: Timestamp) -> Result<(), Refused> {
    let Compensation::Underway(run) = &booking.compensation else {
        return Err(Refused::NoCompensation);
    };
    if run.phase.is_leased(now) {
        return Err(Refused::LeaseHeld { until: run.phase.due_at() });
    }
    if run.give_up_at > now {
        return Err(Refused::NotDue { at: run.give_up_at });
    }
    end_compensation(booking, Compensation::Failed, Cause::CompensationFailed, now);
    Ok(())
}

fn end_compensation(booking: &mut Booking, compensation: Compensation, cause: Cause, now: Timestamp) {
    let attempts = match &booking.compensation {
        Compensation::Underway(run) => run.attempts,
        Compensation::NotNeeded | Compensation::Done | Compensation::Failed => 0,
    };
    advance(booking, None, cause, attempts, now);
    booking.compensation = compensation;
}
