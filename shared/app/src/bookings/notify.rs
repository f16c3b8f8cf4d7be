//! Telling a provider of a booking that is confirmed without it.

use std::time::Duration;

use holdfast_domain::{AttemptError, Command, Notification, NotificationRecord, Timestamp};
use tokio::time::timeout;

use super::Engine;
use super::pass::Shut;
use super::timers::{LEASE_GRACE_MS, MAX_JITTER_MS, Work};
use crate::ports::{
    BookingStore, BreakerStore, Clock, Entropy, LimitStore, NotificationCall, NotificationReport,
    ProviderGateway, SettingsReader, StoreError,
};
use crate::settings::{DEFAULT_NOTIFICATION_SCHEDULE_S, ProviderSettings};
use crate::stored::StoredBooking;

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Makes the attempt to tell the provider that is due. One that cannot be made because the provider is
    /// known to be down is skipped; what only our own limits keep from being sent is put off.
    pub(super) async fn try_notify(
        &self,
        seen: &StoredBooking,
        settings: &impl SettingsReader,
    ) -> Result<Work, StoreError> {
        let Some(provider) = self.provider_of(&seen.booking, settings).await? else {
            return self.skip_notification(seen, None, AttemptError::TargetRefused).await;
        };
        let limit_ms = provider.attempt_timeout_ms;
        let pass = match self.enter(&provider, limit_ms).await {
            Ok(pass) => pass,
            Err(Shut { error: AttemptError::LimitReached, until }) => {
                let until = Some(until.plus_ms(self.entropy.u64() % MAX_JITTER_MS));
                let error = AttemptError::LimitReached;
                let postpone = Command::PostponeNotification { until, error, is_skipped: false };
                return self.do_write(seen, postpone).await;
            }
            Err(Shut { error, .. }) => return self.skip_notification(seen, Some(&provider), error).await,
        };
        let now = self.clock.now();
        let claim = Command::ClaimNotification { lease_until: now.plus_ms(limit_ms + LEASE_GRACE_MS) };
        let (claimed, pass) = match self.claim_for(seen, &provider, pass, claim).await? {
            Ok(claimed) => claimed,
            Err(work) => return Ok(work),
        };
        let Some(notification) = claimed.booking.notifications.first().cloned() else {
            return Ok(Work::Done);
        };
        // A worker that was frozen since its claim must not send: somebody else may.
        let lease_ms = self.clock.now().ms_until(notification.phase.due_at());
        if lease_ms == 0 {
            self.leave_unused(&provider, pass).await;
            return Ok(Work::Done);
        }
        let limit_ms = limit_ms.min(lease_ms);
        let call = NotificationCall {
            provider: &provider,
            booking: &claimed.booking,
            notification: &notification,
            limit_ms,
        };
        let begun_at = self.clock.now();
        let report = timeout(Duration::from_millis(limit_ms), self.gateway.notify(call))
            .await
            .unwrap_or(NotificationReport { error: Some(AttemptError::TimedOut), retry_after_ms: None });
        let outcome = if report.error.is_none() { "acknowledged" } else { "failed" };
        self.measure_call("notify", outcome, begun_at);
        let now = self.clock.now();
        let next = next_at(Some(&provider), &notification);
        let command = Command::RecordNotification(NotificationRecord {
            number: notification.number,
            attempt: notification.attempts,
            error: report.error,
            retry_at: next.map(|next| next.max(now.plus_ms(report.retry_after_ms.unwrap_or(0)))),
        });
        let (written, ()) = tokio::join!(
            self.write_outcome(claimed, command),
            self.leave_call(&provider, report.error, pass)
        );
        let booking = written?;
        tracing::info!(
            booking.id = %booking.id,
            provider.id = %booking.request.provider_id,
            notification.version = notification.version,
            notification.attempts = notification.attempts,
            notification.error = report.error.map(AttemptError::code),
            "An attempt to tell a provider is over."
        );
        Ok(Work::Done)
    }

    /// Lets an attempt of the schedule pass by.
    async fn skip_notification(
        &self,
        seen: &StoredBooking,
        provider: Option<&ProviderSettings>,
        error: AttemptError,
    ) -> Result<Work, StoreError> {
        let Some(notification) = seen.booking.notifications.first() else { return Ok(Work::Over) };
        // As if it had been made.
        let skipped =
            Notification { skipped: notification.skipped.saturating_add(1), ..notification.clone() };
        let until = next_at(provider, &skipped);
        self.do_write(seen, Command::PostponeNotification { until, error, is_skipped: true }).await
    }
}

/// When a notification is sent again whose attempt has failed; `None` if that was the last. The schedule
/// counts from when it was first due.
fn next_at(provider: Option<&ProviderSettings>, notification: &Notification) -> Option<Timestamp> {
    let made = notification.attempts.saturating_add(notification.skipped);
    let index = usize::try_from(made).ok()?.checked_sub(1)?;
    let delay_ms = match provider {
        Some(provider) => *provider.notification_schedule_ms.get(index)?,
        None => u64::from(*DEFAULT_NOTIFICATION_SCHEDULE_S.get(index)?) * 1_000,
    };
    Some(notification.begun_at.plus_ms(delay_ms))
}

#[cfg(test)]
mod tests {
    use holdfast_domain::{Mode, NotificationKind, Phase, ProviderId};

    use super::*;

    #[test]
    fn a_notification_comes_again_by_the_provider_s_schedule_or_the_usual_one_from_when_it_was_due() {
        let begun_at = Timestamp::EPOCH.plus_ms(1_800_000_000_000);
        let slot = crate::test_util::pending(holdfast_domain::BookingId::from_bytes([1; 16]), begun_at).slot;
        let after = |attempts, skipped| Notification {
            kind: NotificationKind::Booked,
            slot: slot.clone(),
            version: 2,
            number: 1,
            attempts,
            skipped,
            last_error: None,
            begun_at,
            phase: Phase::Waiting { next_attempt_at: begun_at },
        };
        let usual = [60, 300, 900].map(|seconds| Some(begun_at.plus_ms(seconds * 1_000)));
        for (made, expected) in (1..).zip(usual.into_iter().chain([None])) {
            assert_eq!(next_at(None, &after(made, 0)), expected);
            assert_eq!(next_at(None, &after(0, made)), expected, "as if it had been made");
        }
        let id = ProviderId::parse("clinic").unwrap();
        let settings = ProviderSettings::usual(id, Mode::Test, "https://clinic.example");
        let own = ProviderSettings { notification_schedule_ms: vec![7], ..settings };
        assert_eq!(next_at(Some(&own), &after(1, 0)), Some(begun_at.plus_ms(7)));
        assert_eq!(next_at(Some(&own), &after(2, 0)), None);
    }
}
