//! What is done for an operation or a compensation when its timer rings: claim, call, record.

use std::time::Duration;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, Command, Compensation, CompensationOutcome, CompensationRecord,
    CompensationRun, Judgement, LookUpOutcome, Operation, RetryPolicy,
};
use tokio::time::timeout;

use super::Engine;
use super::attempt::not_sent;
use super::pass::Shut;
use super::timers::{LEASE_GRACE_MS, LOOK_UP_LIMIT_MS, Work};
use crate::ports::{
    AttemptReport, BookingStore, BreakerStore, Clock, CompensationCall, CompensationReport, Entropy,
    LimitStore, ProviderGateway, SettingsReader, StoreError,
};
use crate::settings::{DEFAULT_ATTEMPT_TIMEOUT_MS, ProviderSettings};
use crate::stored::StoredBooking;

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Makes the attempt that is due.
    pub(super) async fn try_attempt(
        &self,
        seen: &StoredBooking,
        look_up_first: bool,
        settings: &impl SettingsReader,
    ) -> Result<Work, StoreError> {
        let Some(provider) = self.provider_of(&seen.booking, settings).await? else {
            return self.postpone(seen, self.without_provider()).await;
        };
        let budget_ms = LOOK_UP_LIMIT_MS + provider.attempt_timeout_ms + LEASE_GRACE_MS;
        let pass = match self.enter(&provider, budget_ms).await {
            Ok(pass) => pass,
            Err(shut) => return self.postpone(seen, shut).await,
        };
        let now = self.clock.now();
        // A lease that outlasted the deadline would keep the booking pending if its worker died.
        let deadline_at = seen.booking.operation.as_ref().map_or(now, |operation| operation.deadline_at);
        let lease_until = now.plus_ms(budget_ms).min(deadline_at.plus_ms(LEASE_GRACE_MS));
        let claim = Command::ClaimAttempt { lease_until };
        let (claimed, pass) = match self.claim_for(seen, &provider, pass, claim).await? {
            Ok(claimed) => claimed,
            Err(work) => return Ok(work),
        };
        let Some(operation) = claimed.booking.operation.clone() else { return Ok(Work::Done) };
        let (command, report) = self.claimed_attempt(&provider, &claimed, &operation, look_up_first).await;
        let (written, ()) =
            tokio::join!(self.write_outcome(claimed, command), self.leave(&provider, &report, pass));
        let booking = written?;
        tracing::info!(
            booking.id = %booking.id,
            booking.status = booking.status().as_str(),
            provider.id = %provider.provider_id,
            operation.kind = operation.change.kind().as_str(),
            attempt.number = operation.attempts,
            "An attempt is over."
        );
        Ok(Work::Done)
    }

    /// The calls of one attempt: the look-up where an earlier request may have arrived, and the request
    /// itself only if the provider has not done what it asks for.
    async fn claimed_attempt(
        &self,
        provider: &ProviderSettings,
        claimed: &StoredBooking,
        operation: &Operation,
        look_up_first: bool,
    ) -> (Command, AttemptReport) {
        if !look_up_first {
            return self.send(provider, claimed, operation).await;
        }
        // The last attempt, its look-up included, ends by the deadline.
        let limit_ms = LOOK_UP_LIMIT_MS.min(self.clock.now().ms_until(operation.deadline_at));
        let report = match self.look_up(provider, &claimed.booking, limit_ms).await {
            LookUpOutcome::Found(found) => {
                match claimed.booking.judge(operation, &found) {
                    Judgement::Made(acknowledgement) => AttemptReport {
                        outcome: AttemptOutcome::Acknowledged(acknowledgement),
                        retry_after_ms: None,
                    },
                    Judgement::Unclear => not_sent(AttemptError::UnusableAnswer),
                    // The same request under the same key.
                    Judgement::NotMade { .. } => return self.send(provider, claimed, operation).await,
                }
            }
            LookUpOutcome::StillPending => not_sent(AttemptError::AcceptedForLater),
            LookUpOutcome::Unavailable { error, retry_after_ms } => {
                AttemptReport { outcome: AttemptOutcome::NotSent(error), retry_after_ms }
            }
            LookUpOutcome::Ended => {
                let command = Command::AdoptEnded { attempt: operation.attempts };
                return (command, not_sent(AttemptError::AcceptedForLater));
            }
            LookUpOutcome::NotFound | LookUpOutcome::Unsupported => {
                return self.send(provider, claimed, operation).await;
            }
        };
        (self.record_command(provider, operation, report.clone()), report)
    }

    /// Asks the provider what it knows of a booking.
    pub(super) async fn look_up(
        &self,
        provider: &ProviderSettings,
        booking: &Booking,
        limit_ms: u64,
    ) -> LookUpOutcome {
        let begun_at = self.clock.now();
        let look_up = self.gateway.look_up(provider, booking, limit_ms);
        let found = timeout(Duration::from_millis(limit_ms), look_up)
            .await
            .unwrap_or(LookUpOutcome::Unavailable { error: AttemptError::TimedOut, retry_after_ms: None });
        let outcome = match found {
            LookUpOutcome::Unavailable { .. } => "failed",
            LookUpOutcome::Found(_)
            | LookUpOutcome::StillPending
            | LookUpOutcome::Ended
            | LookUpOutcome::NotFound
            | LookUpOutcome::Unsupported => "answered",
        };
        self.measure_call("look_up", outcome, begun_at);
        found
    }

    async fn send(
        &self,
        provider: &ProviderSettings,
        claimed: &StoredBooking,
        operation: &Operation,
    ) -> (Command, AttemptReport) {
        // The last attempt ends by the deadline.
        let until = self.clock.now().plus_ms(provider.attempt_timeout_ms).min(operation.deadline_at);
        let report = self.attempt(provider, claimed, operation, until).await;
        (self.record_command(provider, operation, report.clone()), report)
    }

    /// Makes the compensating cancel that is due.
    pub(super) async fn try_compensation(
        &self,
        seen: &StoredBooking,
        settings: &impl SettingsReader,
    ) -> Result<Work, StoreError> {
        let provider = self.provider_of(&seen.booking, settings).await?;
        let attempt_timeout_ms =
            provider.as_ref().map_or(DEFAULT_ATTEMPT_TIMEOUT_MS, |provider| provider.attempt_timeout_ms);
        let budget_ms = LOOK_UP_LIMIT_MS + attempt_timeout_ms;
        let now = self.clock.now();
        let claim = Command::ClaimCompensation { lease_until: now.plus_ms(budget_ms + LEASE_GRACE_MS) };
        let claimed = match self.write(seen, claim, now).await? {
            Ok(claimed) => claimed,
            Err(Some(current)) => return Ok(Work::Overtaken(Box::new(current))),
            Err(None) => return Ok(Work::Done),
        };
        let Compensation::Underway(run) = claimed.booking.compensation.clone() else { return Ok(Work::Done) };
        let asked_at = self.clock.now();
        let (report, retry) = match &provider {
            Some(provider) => (self.compensate(provider, &claimed, &run, budget_ms).await, provider.retry),
            // Nobody can be asked until the provider is configured again.
            None => (not_compensated(AttemptError::TargetRefused, None), RetryPolicy::DEFAULT),
        };
        let command = Command::RecordCompensation(CompensationRecord {
            number: run.number,
            attempt: run.attempts,
            asked_at,
            outcome: report.outcome,
            retry_delay_ms: retry.delay_ms(run.attempts, self.entropy.u64(), report.retry_after_ms),
            settle_window_ms: attempt_timeout_ms,
        });
        let booking = self.write_outcome(claimed, command).await?;
        tracing::info!(
            booking.id = %booking.id,
            provider.id = %booking.request.provider_id,
            compensation.attempts = run.attempts,
            compensation.outcome = ?report.outcome,
            "An attempt to compensate is over."
        );
        Ok(Work::Done)
    }

    /// Asks the provider to cancel, if its circuit lets it through.
    async fn compensate(
        &self,
        provider: &ProviderSettings,
        claimed: &StoredBooking,
        run: &CompensationRun,
        limit_ms: u64,
    ) -> CompensationReport {
        let pass = match self.enter(provider, limit_ms).await {
            Ok(pass) => pass,
            Err(Shut { error, until }) => {
                return not_compensated(error, Some(self.clock.now().ms_until(until)));
            }
        };
        // A worker that was frozen since its claim must not send: somebody else may.
        let lease_ms = self.clock.now().ms_until(run.phase.due_at());
        if lease_ms == 0 {
            self.leave_unused(provider, pass).await;
            return not_compensated(AttemptError::LeaseOver, None);
        }
        let limit_ms = limit_ms.min(lease_ms);
        let call = CompensationCall {
            provider,
            booking: &claimed.booking,
            operation_number: run.number,
            attempt: run.attempts,
            limit_ms,
        };
        let limit = Duration::from_millis(limit_ms);
        let begun_at = self.clock.now();
        let report = timeout(limit, self.gateway.compensate(call))
            .await
            .unwrap_or(not_compensated(AttemptError::TimedOut, None));
        self.measure_call("compensate", compensation_outcome(report.outcome), begun_at);
        let error = match report.outcome {
            CompensationOutcome::Failed(error) => Some(error),
            CompensationOutcome::Acknowledged
            | CompensationOutcome::NoSuchBooking
            | CompensationOutcome::Declined => None,
        };
        self.leave_call(provider, error, pass).await;
        report
    }
}

/// What came of a compensating cancel, as it is measured.
fn compensation_outcome(outcome: CompensationOutcome) -> &'static str {
    match outcome {
        CompensationOutcome::Acknowledged | CompensationOutcome::NoSuchBooking => "acknowledged",
        CompensationOutcome::Declined => "declined",
        CompensationOutcome::Failed(_) => "failed",
    }
}

/// A compensation that was not, or may not have been, carried out.
fn not_compensated(error: AttemptError, retry_after_ms: Option<u64>) -> CompensationReport {
    CompensationReport { outcome: CompensationOutcome::Failed(error), retry_after_ms }
}
