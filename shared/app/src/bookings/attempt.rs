//! One attempt at a provider, and the write that settles it.

use std::time::Duration;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, Command, ConfirmationMode, Operation, OperationKind, Phase,
    Refused, Timestamp, transition,
};
use tokio::time::timeout;

use super::answer::{Answer, Asked, RequestName};
use super::{Engine, MAX_CONFLICTS, contention_problem, store_problem};
use crate::metrics::{AttemptNote, PROVIDER_CALL_TIME, note_attempt};
use crate::ports::{
    AttemptReport, BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderCall, ProviderGateway,
    Replaced,
};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::settings::ProviderSettings;
use crate::stored::{StoredBooking, replace};

/// An attempt that nothing was sent for.
pub(super) fn not_sent(error: AttemptError) -> AttemptReport {
    AttemptReport { outcome: AttemptOutcome::NotSent(error), retry_after_ms: None }
}

/// Notes for the log how the attempt went that a caller waited for, and what the booking has become by it.
pub(super) fn note_outcome(
    booking: &Booking,
    kind: OperationKind,
    provider: &ProviderSettings,
    report: &AttemptReport,
) {
    let outcome = match &report.outcome {
        AttemptOutcome::Acknowledged(_) => "acknowledged".to_owned(),
        AttemptOutcome::Declined(_) => "declined".to_owned(),
        AttemptOutcome::NotSent(error) => format!("not_sent:{}", error.code()),
        AttemptOutcome::Unknown(error) => format!("unknown:{}", error.code()),
    };
    note_attempt(AttemptNote {
        operation_kind: kind.as_str(),
        provider_id: provider.provider_id.clone(),
        outcome,
        booking_status: booking.status().as_str(),
    });
}

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Makes the attempt that `seen` holds the lease for, until `until` at the latest.
    pub(super) async fn attempt(
        &self,
        provider: &ProviderSettings,
        seen: &StoredBooking,
        operation: &Operation,
        until: Timestamp,
    ) -> AttemptReport {
        let now = self.clock.now();
        let lease_ms = match operation.phase {
            Phase::InFlight { lease_until } => now.ms_until(lease_until),
            Phase::Waiting { .. } => 0,
        };
        // A worker that was frozen between its claim and this line must not send: somebody else may.
        let mut limit_ms = now.ms_until(until).min(lease_ms);
        let is_gate = seen.booking.confirmation == ConfirmationMode::RealTime;
        if is_gate {
            limit_ms = limit_ms.min(provider.real_time_timeout_ms);
        }
        if limit_ms == 0 {
            return not_sent(AttemptError::LeaseOver);
        }
        let call = ProviderCall {
            provider,
            booking: &seen.booking,
            operation_number: operation.number,
            attempt: operation.attempts,
            limit_ms,
        };
        let attempt = timeout(Duration::from_millis(limit_ms), self.gateway.attempt(call));
        let mut report = attempt.await.unwrap_or(AttemptReport {
            outcome: AttemptOutcome::Unknown(AttemptError::TimedOut),
            retry_after_ms: None,
        });
        self.measure_call(operation.change.kind().as_str(), attempt_outcome(&report.outcome), now);
        if let AttemptOutcome::Unknown(error) = report.outcome
            && is_gate
        {
            // A gate books nothing, so that its silence is as good as not having asked.
            report.outcome = AttemptOutcome::NotSent(error);
        }
        report
    }

    /// Records how long a call of a provider took that began at `begun_at`.
    pub(super) fn measure_call(&self, call: &'static str, outcome: &'static str, begun_at: Timestamp) {
        PROVIDER_CALL_TIME.record([call, outcome], begun_at.ms_until(self.clock.now()));
    }

    /// The command that tells a booking what came of an attempt.
    pub(super) fn record_command(
        &self,
        provider: &ProviderSettings,
        operation: &Operation,
        report: AttemptReport,
    ) -> Command {
        let attempt = operation.attempts;
        let retry_delay_ms = provider.retry.delay_ms(attempt, self.entropy.u64(), report.retry_after_ms);
        Command::RecordAttempt {
            operation: operation.number,
            attempt,
            outcome: report.outcome,
            retry_delay_ms,
        }
    }

    /// Writes what came of an attempt, and the answer to the request that made it. Whoever loses a race
    /// applies its outcome to the item as it is then; at the end the item decides the answer.
    pub(super) async fn settle_and_answer(
        &self,
        mut seen: StoredBooking,
        mut command: Option<Command>,
        asked: Asked<'_>,
        name: RequestName<'_>,
    ) -> Result<(StoredBooking, Answer), Problem> {
        for _ in 0..MAX_CONFLICTS {
            let now = self.clock.now();
            let changed = command.clone().and_then(|command| match transition(&seen.booking, command, now) {
                Ok(transition) => Some(transition.booking),
                Err(refused) => {
                    log_refused(&seen, refused);
                    None
                }
            });
            let lacks_response = seen.lacks_response(asked);
            let is_changed = changed.is_some();
            let booking = changed.unwrap_or_else(|| seen.booking.clone());
            let answer = match seen.response(asked) {
                Some(response) => Answer::frozen(response, &booking, now),
                None => answer_from(&booking, asked, name, now)?,
            };
            if !is_changed && !lacks_response {
                return Ok((seen, answer));
            }
            let next = seen.with_booking(booking).freezing(asked, &answer);
            match replace(&self.store, &seen, &next).await {
                Ok(Replaced::Done) => return Ok((next, answer)),
                Ok(Replaced::Conflict(current)) => {
                    if !is_changed {
                        command = None;
                    }
                    seen = *current;
                }
                // What settles a booking takes no slot that it did not have.
                Ok(Replaced::Gone | Replaced::SlotTaken) => return Err(answer_gone(&seen)),
                Err(error) => {
                    return Err(store_problem(&error, SideEffects::Unknown).about(&seen.booking.id));
                }
            }
        }
        Err(contention_problem(SideEffects::Unknown).about(&seen.booking.id))
    }
}

/// What came of an attempt, as it is measured.
fn attempt_outcome(outcome: &AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Acknowledged(_) => "acknowledged",
        AttemptOutcome::Declined(_) => "declined",
        AttemptOutcome::NotSent(_) => "not_sent",
        AttemptOutcome::Unknown(AttemptError::AcceptedForLater) => "accepted_for_later",
        AttemptOutcome::Unknown(AttemptError::TimedOut) => "timed_out",
        AttemptOutcome::Unknown(_) => "unknown",
    }
}

/// A command that does not apply any more is no error: the item says what became of the booking.
pub(super) fn log_refused(seen: &StoredBooking, refused: Refused) {
    tracing::info!(booking.id = %seen.booking.id, reason = %refused, "An outcome changes nothing any more.");
}

/// The answer that a booking's state calls for.
pub(super) fn answer_from(
    booking: &Booking,
    asked: Asked<'_>,
    name: RequestName<'_>,
    now: Timestamp,
) -> Result<Answer, Problem> {
    Answer::from_state(booking, asked, name, now).map_err(|error| {
        tracing::error!(%error, "An answer could not be written as JSON.");
        Problem::new(ProblemCode::Internal, "The request could not be completed.")
            .with_side_effects(SideEffects::Unknown)
    })
}

fn answer_gone(seen: &StoredBooking) -> Problem {
    tracing::error!(booking.id = %seen.booking.id, "A booking's item is gone.");
    Problem::new(ProblemCode::Internal, "The request could not be completed.")
        .with_side_effects(SideEffects::Unknown)
        .about(&seen.booking.id)
}
