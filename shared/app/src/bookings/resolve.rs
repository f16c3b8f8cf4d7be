//! Finding out what became of a change that ended unknown: the provider is asked, and its truth adopted.

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, Command, Judgement, LookUpOutcome, Operation, Timestamp,
    UnchangedRecord,
};

use super::Engine;
use super::attempt::not_sent;
use super::timers::{LEASE_GRACE_MS, LOOK_UP_LIMIT_MS, Work};
use crate::ports::{
    AttemptReport, BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway, SettingsReader,
    StoreError,
};
use crate::settings::ProviderSettings;
use crate::stored::StoredBooking;

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Makes the look-up that is due.
    pub(super) async fn try_resolve(
        &self,
        seen: &StoredBooking,
        settings: &impl SettingsReader,
    ) -> Result<Work, StoreError> {
        let Some(provider) = self.provider_of(&seen.booking, settings).await? else {
            return self.postpone(seen, self.without_provider()).await;
        };
        let pass = match self.enter(&provider, LOOK_UP_LIMIT_MS).await {
            Ok(pass) => pass,
            Err(shut) => return self.postpone(seen, shut).await,
        };
        let now = self.clock.now();
        let claim = Command::ClaimAttempt { lease_until: now.plus_ms(LOOK_UP_LIMIT_MS + LEASE_GRACE_MS) };
        let (claimed, pass) = match self.claim_for(seen, &provider, pass, claim).await? {
            Ok(claimed) => claimed,
            Err(work) => return Ok(work),
        };
        let Some(operation) = claimed.booking.operation.clone() else { return Ok(Work::Done) };
        let asked_at = self.clock.now();
        let found = self.look_up(&provider, &claimed.booking, LOOK_UP_LIMIT_MS).await;
        let error = match &found {
            LookUpOutcome::Unavailable { error, .. } => Some(*error),
            _ => None,
        };
        let command = self.finding(&provider, &claimed.booking, &operation, found, asked_at);
        let written = self.write_outcome(claimed, command);
        let (written, ()) = tokio::join!(written, self.leave_call(&provider, error, pass));
        let booking = written?;
        tracing::info!(
            booking.id = %booking.id,
            provider.id = %provider.provider_id,
            operation.kind = operation.change.kind().as_str(),
            attempt.number = operation.attempts,
            operation.is_resolved = booking.operation.is_none(),
            "The provider was asked what became of a change."
        );
        Ok(Work::Done)
    }

    /// The command that tells a booking what the provider says of the change.
    fn finding(
        &self,
        provider: &ProviderSettings,
        booking: &Booking,
        operation: &Operation,
        found: LookUpOutcome,
        asked_at: Timestamp,
    ) -> Command {
        let report = match found {
            LookUpOutcome::Found(found) => match booking.judge(operation, &found) {
                Judgement::Made(acknowledgement) => AttemptReport {
                    outcome: AttemptOutcome::Acknowledged(acknowledgement),
                    retry_after_ms: None,
                },
                Judgement::NotMade { decided } => {
                    return Command::AdoptUnchanged(UnchangedRecord {
                        operation: operation.number,
                        attempt: operation.attempts,
                        asked_at,
                        decided,
                        settle_window_ms: provider.attempt_timeout_ms,
                    });
                }
                Judgement::Unclear => not_sent(AttemptError::UnusableAnswer),
            },
            LookUpOutcome::Ended => return Command::AdoptEnded { attempt: operation.attempts },
            LookUpOutcome::StillPending => not_sent(AttemptError::AcceptedForLater),
            LookUpOutcome::Unavailable { error, retry_after_ms } => {
                AttemptReport { outcome: AttemptOutcome::NotSent(error), retry_after_ms }
            }
            // It held the booking by its own word: that it knows none now is nothing to act upon.
            LookUpOutcome::NotFound | LookUpOutcome::Unsupported => not_sent(AttemptError::UnusableAnswer),
        };
        self.record_command(provider, operation, report)
    }
}
