//! What happens when a timer rings: the item decides what is due, and a conditional write claims it
//! before the provider is called, so that duplicates, reordering and late messages do nothing.

use std::time::Duration;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, BookingId, Command, Compensation, CompensationOutcome,
    CompensationRecord, CompensationRun, LookUpOutcome, Operation, RetryPolicy, Step, Timestamp, next_step,
    transition,
};
use tokio::time::timeout;

use super::attempt::{log_refused, not_sent};
use super::{Engine, MAX_CONFLICTS, Permit};
use crate::ports::{
    AttemptReport, BookingStore, BreakerStore, Clock, CompensationCall, CompensationReport, Entropy,
    ProviderGateway, Replaced, SettingsReader, StoreError, TimerMessage, Wanted,
};
use crate::settings::{DEFAULT_ATTEMPT_TIMEOUT_MS, ProviderSettings};
use crate::stored::StoredBooking;

/// How long a look-up may take, in milliseconds.
const LOOK_UP_LIMIT_MS: u64 = 10_000;
/// By how much a background lease outlasts the calls made under it, in milliseconds.
const LEASE_GRACE_MS: u64 = 5_000;
/// How late a booking must be before the sweep takes it for forgotten, in milliseconds: timers come
/// within a second or two when all is well.
const OVERDUE_AFTER_MS: u64 = 60_000;
/// The most bookings that one sweep re-arms.
pub const SWEEP_LIMIT: usize = 1_000;

/// What a timer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerOutcome {
    /// What was due is done; what follows is armed from the item's change.
    Done,
    /// The message came early, because no queue delays for so long: it has to be passed on.
    PassOn(TimerMessage),
    /// Nothing was due.
    Nothing,
}

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore,
    C: Clock,
    E: Entropy,
{
    /// Does what is due for the booking of a timer.
    ///
    /// An error means that nothing is known to be done: the message has to come again.
    pub async fn on_timer(
        &self,
        message: &TimerMessage,
        settings: &impl SettingsReader,
    ) -> Result<TimerOutcome, StoreError> {
        if message.not_before > self.clock.now() {
            return Ok(TimerOutcome::PassOn(message.clone()));
        }
        let Ok(id) = BookingId::parse(&message.booking_id) else {
            return Err(StoreError::Corrupt("a timer names no booking".to_owned()));
        };
        let Some(mut seen) = self.store.read(&id).await? else { return Ok(TimerOutcome::Nothing) };
        for _ in 0..MAX_CONFLICTS {
            let now = self.clock.now();
            let write = match next_step(&seen.booking, now) {
                // The clock was set back since the message was found to be on time.
                Step::WaitUntil(at) if at <= message.not_before => {
                    return Ok(TimerOutcome::PassOn(TimerMessage { not_before: at, ..message.clone() }));
                }
                // A change of the due time has armed a timer of its own.
                Step::Nothing | Step::WaitUntil(_) => return Ok(TimerOutcome::Nothing),
                Step::GiveUp => Command::GiveUp,
                Step::GiveUpCompensation => Command::GiveUpCompensation,
                Step::ExpireHold => Command::ExpireHold,
                Step::Attempt { look_up_first } => {
                    match Box::pin(self.try_attempt(&seen, look_up_first, settings)).await? {
                        Ok(()) => return Ok(TimerOutcome::Done),
                        Err(current) => {
                            seen = current;
                            continue;
                        }
                    }
                }
                Step::Compensate => match Box::pin(self.try_compensation(&seen, settings)).await? {
                    Ok(()) => return Ok(TimerOutcome::Done),
                    Err(current) => {
                        seen = current;
                        continue;
                    }
                },
            };
            match self.write(&seen, write, now).await? {
                Ok(_) => return Ok(TimerOutcome::Done),
                Err(Some(current)) => seen = current,
                Err(None) => return Ok(TimerOutcome::Nothing),
            }
        }
        Err(StoreError::Unavailable("a booking was changed by others too often".to_owned()))
    }

    /// Identifiers of bookings whose timer seems to be lost.
    pub async fn overdue(&self) -> Result<Vec<TimerMessage>, StoreError> {
        let now = self.clock.now();
        let overdue = self.store.overdue(now.minus_ms(OVERDUE_AFTER_MS), SWEEP_LIMIT).await?;
        Ok(overdue.iter().map(|id| TimerMessage::new(id, now)).collect())
    }

    /// One conditional write of a command. `Err(Some)` is the item that somebody else wrote meanwhile;
    /// `Err(None)` means that there is nothing to write any more.
    async fn write(
        &self,
        seen: &StoredBooking,
        command: Command,
        now: Timestamp,
    ) -> Result<Result<StoredBooking, Option<StoredBooking>>, StoreError> {
        let changed = match transition(&seen.booking, command, now) {
            Ok(transition) => transition.booking,
            Err(refused) => {
                log_refused(seen, refused);
                return Ok(Err(None));
            }
        };
        let next = seen.with_booking(changed);
        Ok(match self.store.replace(seen.rev, &next).await? {
            Replaced::Done => Ok(next),
            Replaced::Conflict(current) => Err(Some(*current)),
            Replaced::Gone => Err(None),
        })
    }

    /// Writes an outcome until it is taken: a loser never drops one.
    async fn write_outcome(&self, mut seen: StoredBooking, command: Command) -> Result<Booking, StoreError> {
        for _ in 0..MAX_CONFLICTS {
            match self.write(&seen, command.clone(), self.clock.now()).await? {
                Ok(written) => return Ok(written.booking),
                Err(Some(current)) => seen = current,
                Err(None) => return Ok(seen.booking),
            }
        }
        Err(StoreError::Unavailable("a booking was changed by others too often".to_owned()))
    }

    /// Makes the attempt that is due. `Err` is the item that somebody else wrote before it could begin.
    async fn try_attempt(
        &self,
        seen: &StoredBooking,
        look_up_first: bool,
        settings: &impl SettingsReader,
    ) -> Result<Result<(), StoredBooking>, StoreError> {
        let Some(provider) = self.provider_of(&seen.booking, settings).await? else {
            return self.postpone(seen, super::OPEN_MS).await;
        };
        let budget_ms = LOOK_UP_LIMIT_MS + provider.attempt_timeout_ms + LEASE_GRACE_MS;
        let permit = self.fresh_permit(&provider, budget_ms).await;
        if let Permit::Open { until } = permit {
            // Jitter spreads the crowd that waits for the circuit to close.
            let jitter_ms = self.entropy.u64() % provider.retry.first_delay_ms();
            return self.postpone(seen, self.clock.now().ms_until(until) + jitter_ms).await;
        }
        let now = self.clock.now();
        // A lease that outlasted the deadline would keep the booking pending if its worker died.
        let deadline_at = seen.booking.operation.as_ref().map_or(now, |operation| operation.deadline_at);
        let lease_until = now.plus_ms(budget_ms).min(deadline_at.plus_ms(LEASE_GRACE_MS));
        let claim = Command::ClaimAttempt { lease_until };
        let claimed = match self.write(seen, claim, now).await {
            Ok(Ok(claimed)) => claimed,
            not_claimed => {
                self.breakers.release(&provider.provider_id, permit).await;
                return match not_claimed? {
                    Ok(current) | Err(Some(current)) => Ok(Err(current)),
                    Err(None) => Ok(Ok(())),
                };
            }
        };
        let Some(operation) = claimed.booking.operation.clone() else { return Ok(Ok(())) };
        let (command, report) = self.claimed_attempt(&provider, &claimed, &operation, look_up_first).await;
        let now = self.clock.now();
        let (written, ()) = tokio::join!(
            self.write_outcome(claimed, command),
            self.breakers.record(&provider.provider_id, &report, permit, now),
        );
        let booking = written?;
        tracing::info!(
            booking.id = %booking.id,
            booking.status = booking.status().as_str(),
            provider.id = %provider.provider_id,
            attempt.number = operation.attempts,
            "An attempt is over."
        );
        Ok(Ok(()))
    }

    /// The calls of one attempt: the look-up where an earlier request may have arrived, and the request
    /// itself only if the provider knows of none.
    async fn claimed_attempt(
        &self,
        provider: &ProviderSettings,
        claimed: &StoredBooking,
        operation: &Operation,
        look_up_first: bool,
    ) -> (Command, AttemptReport) {
        let attempt = operation.attempts;
        if look_up_first {
            // The last attempt, its look-up included, ends by the deadline.
            let limit_ms = LOOK_UP_LIMIT_MS.min(self.clock.now().ms_until(operation.deadline_at));
            let look_up = self.gateway.look_up(provider, &claimed.booking, limit_ms);
            let found = timeout(Duration::from_millis(limit_ms), look_up).await.unwrap_or(
                LookUpOutcome::Unavailable { error: AttemptError::TimedOut, retry_after_ms: None },
            );
            let report = match found {
                LookUpOutcome::Found(acknowledgement) => AttemptReport {
                    outcome: AttemptOutcome::Acknowledged(acknowledgement),
                    retry_after_ms: None,
                },
                LookUpOutcome::StillPending => not_sent(AttemptError::AcceptedForLater),
                LookUpOutcome::Unavailable { error, retry_after_ms } => {
                    AttemptReport { outcome: AttemptOutcome::NotSent(error), retry_after_ms }
                }
                LookUpOutcome::Ended => {
                    return (Command::AdoptEnded { attempt }, not_sent(AttemptError::AcceptedForLater));
                }
                LookUpOutcome::NotFound | LookUpOutcome::Unsupported => {
                    return self.send(provider, claimed, operation).await;
                }
            };
            return (self.record_command(provider, operation, report.clone()), report);
        }
        self.send(provider, claimed, operation).await
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

    async fn postpone(
        &self,
        seen: &StoredBooking,
        delay_ms: u64,
    ) -> Result<Result<(), StoredBooking>, StoreError> {
        let now = self.clock.now();
        match self.write(seen, Command::Postpone { until: now.plus_ms(delay_ms) }, now).await? {
            Ok(_) | Err(None) => Ok(Ok(())),
            Err(Some(current)) => Ok(Err(current)),
        }
    }

    /// Makes the compensating cancel that is due.
    async fn try_compensation(
        &self,
        seen: &StoredBooking,
        settings: &impl SettingsReader,
    ) -> Result<Result<(), StoredBooking>, StoreError> {
        let provider = self.provider_of(&seen.booking, settings).await?;
        let attempt_timeout_ms =
            provider.as_ref().map_or(DEFAULT_ATTEMPT_TIMEOUT_MS, |provider| provider.attempt_timeout_ms);
        let budget_ms = LOOK_UP_LIMIT_MS + attempt_timeout_ms;
        let now = self.clock.now();
        let claim = Command::ClaimCompensation { lease_until: now.plus_ms(budget_ms + LEASE_GRACE_MS) };
        let claimed = match self.write(seen, claim, now).await? {
            Ok(claimed) => claimed,
            Err(Some(current)) => return Ok(Err(current)),
            Err(None) => return Ok(Ok(())),
        };
        let Compensation::Underway(run) = claimed.booking.compensation.clone() else { return Ok(Ok(())) };
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
        Ok(Ok(()))
    }

    /// Asks the provider to cancel, if its circuit lets it through.
    async fn compensate(
        &self,
        provider: &ProviderSettings,
        claimed: &StoredBooking,
        run: &CompensationRun,
        limit_ms: u64,
    ) -> CompensationReport {
        let permit = self.fresh_permit(provider, limit_ms).await;
        if let Permit::Open { until } = permit {
            let wait_ms = self.clock.now().ms_until(until);
            return not_compensated(AttemptError::CircuitOpen, Some(wait_ms));
        }
        let call = CompensationCall {
            provider,
            booking: &claimed.booking,
            operation_number: run.number,
            attempt: run.attempts,
            limit_ms,
        };
        let limit = Duration::from_millis(limit_ms);
        let report = timeout(limit, self.gateway.compensate(call))
            .await
            .unwrap_or(not_compensated(AttemptError::TimedOut, None));
        self.breakers.record_compensation(&provider.provider_id, &report, permit, self.clock.now()).await;
        report
    }

    async fn provider_of(
        &self,
        booking: &Booking,
        settings: &impl SettingsReader,
    ) -> Result<Option<ProviderSettings>, StoreError> {
        let provider_id = booking.request.provider_id.clone();
        let wanted = Wanted { key_id: None, provider_id: Some(provider_id.clone()) };
        let asked_at = self.clock.now();
        let loaded = settings.load(&wanted).await?;
        self.breakers.remember(&provider_id, loaded.breaker, asked_at);
        if loaded.provider.is_none() {
            tracing::error!(
                booking.id = %booking.id,
                provider.id = %provider_id,
                "A booking's provider is not configured any more."
            );
        }
        Ok(loaded.provider)
    }
}

/// A compensation that was not, or may not have been, carried out.
fn not_compensated(error: AttemptError, retry_after_ms: Option<u64>) -> CompensationReport {
    CompensationReport { outcome: CompensationOutcome::Failed(error), retry_after_ms }
}
