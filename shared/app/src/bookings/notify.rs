//! Telling a provider of a booking that is confirmed without it.

use std::time::Duration;

use holdfast_domain::{AttemptError, Command, Notification, NotificationRecord, Timestamp};
use tokio::time::timeout;

use super::Engine;
use super::pass::Shut;
use super::timers::{LEASE_GRACE_MS, Work};
use crate::ports::{
    BookingStore, BreakerStore, Clock, Entropy, LimitStore, NotificationCall, NotificationReport,
    ProviderGateway, SettingsReader, StoreError,
};
use crate::settings::{DEFAULT_ATTEMPT_TIMEOUT_MS, DEFAULT_NOTIFICATION_SCHEDULE_S, ProviderSettings};
use crate::stored::StoredBooking;

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Makes the attempt to tell the provider that is due. What cannot be sent for want of the provider's
    /// circuit, limits or configuration counts as an attempt that failed: the schedule bounds them all.
    pub(super) async fn try_notify(
        &self,
        seen: &StoredBooking,
        settings: &impl SettingsReader,
    ) -> Result<Work, StoreError> {
        let provider = self.provider_of(&seen.booking, settings).await?;
        let limit_ms =
            provider.as_ref().map_or(DEFAULT_ATTEMPT_TIMEOUT_MS, |provider| provider.attempt_timeout_ms);
        let now = self.clock.now();
        let claim = Command::ClaimNotification { lease_until: now.plus_ms(limit_ms + LEASE_GRACE_MS) };
        let claimed = match self.write(seen, claim, now).await? {
            Ok(claimed) => claimed,
            Err(Some(current)) => return Ok(Work::Overtaken(Box::new(current))),
            Err(None) => return Ok(Work::Done),
        };
        let Some(notification) = claimed.booking.notifications.first().cloned() else {
            return Ok(Work::Done);
        };
        let report = match &provider {
            Some(provider) => self.notify(provider, &claimed, &notification, limit_ms).await,
            None => NotificationReport { error: Some(AttemptError::TargetRefused), retry_after_ms: None },
        };
        let retry_at = retry_at(provider.as_ref(), &notification, report.retry_after_ms, self.clock.now());
        let command = Command::RecordNotification(NotificationRecord {
            number: notification.number,
            attempt: notification.attempts,
            error: report.error,
            retry_at,
        });
        let booking = self.write_outcome(claimed, command).await?;
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

    async fn notify(
        &self,
        provider: &ProviderSettings,
        claimed: &StoredBooking,
        notification: &Notification,
        limit_ms: u64,
    ) -> NotificationReport {
        let pass = match self.enter(provider, limit_ms).await {
            Ok(pass) => pass,
            Err(Shut { error, until }) => {
                let retry_after_ms = Some(self.clock.now().ms_until(until));
                return NotificationReport { error: Some(error), retry_after_ms };
            }
        };
        let call = NotificationCall { provider, booking: &claimed.booking, notification, limit_ms };
        let report = timeout(Duration::from_millis(limit_ms), self.gateway.notify(call))
            .await
            .unwrap_or(NotificationReport { error: Some(AttemptError::TimedOut), retry_after_ms: None });
        self.leave_call(provider, report.error, pass).await;
        report
    }
}

/// When a notification is sent again whose attempt failed; `None` if that was the last. The schedule counts
/// from when it was first due; what the provider asks for counts from now.
fn retry_at(
    provider: Option<&ProviderSettings>,
    notification: &Notification,
    retry_after_ms: Option<u64>,
    now: Timestamp,
) -> Option<Timestamp> {
    let made = usize::try_from(notification.attempts).unwrap_or(usize::MAX).checked_sub(1)?;
    let delay_ms = match provider {
        Some(provider) => *provider.notification_schedule_ms.get(made)?,
        None => u64::from(*DEFAULT_NOTIFICATION_SCHEDULE_S.get(made)?) * 1_000,
    };
    let due_at = notification.begun_at.plus_ms(delay_ms);
    Some(due_at.max(now.plus_ms(retry_after_ms.unwrap_or(0))))
}
