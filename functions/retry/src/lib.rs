//! Timers: attempts in the background, deadlines, hold expiry, compensations. And the sweep, which
//! re-arms what a lost timer left behind.

use holdfast_app::bookings::{Engine, TimerOutcome};
use holdfast_app::ports::{
    BookingStore, BreakerStore, Clock, Entropy, ProviderGateway, SettingsReader, StoreError, TimerMessage,
    TimerQueue,
};

/// Why a message has to come again, or ends in the dead-letter queue.
#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    /// The message is not a timer.
    #[error("the message is not a timer: {0}")]
    Malformed(#[source] serde_json::Error),
    /// The store or the queue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Service<S, G, B, R, T, C, E> {
    /// Makes attempts.
    pub engine: Engine<S, G, B, C, E>,
    /// Providers.
    pub settings: R,
    /// Where timers that came early go on waiting.
    pub timers: T,
    /// The time of day.
    pub clock: C,
}

impl<S, G, B, R, T, C, E> Service<S, G, B, R, T, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore,
    R: SettingsReader,
    T: TimerQueue,
    C: Clock,
    E: Entropy,
{
    /// Handles a timer's message.
    pub async fn on_message(&self, body: &str) -> Result<(), TimerError> {
        let message: TimerMessage = serde_json::from_str(body).map_err(TimerError::Malformed)?;
        match self.engine.on_timer(&message, &self.settings).await? {
            TimerOutcome::Done | TimerOutcome::Nothing => Ok(()),
            TimerOutcome::PassOn(message) => Ok(self.arm(&[message]).await?),
        }
    }

    /// Re-arms what is overdue.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let overdue = self.engine.overdue().await?;
        if !overdue.is_empty() {
            tracing::warn!(
                overdue.count = overdue.len(),
                "Bookings are overdue; their timers are armed again."
            );
        }
        self.arm(&overdue).await
    }

    /// Arms timers; every entry of a batch that failed is an error.
    async fn arm(&self, timers: &[TimerMessage]) -> Result<(), StoreError> {
        if timers.is_empty() {
            return Ok(());
        }
        self.timers.arm(timers, self.clock.now()).await.into_iter().collect()
    }
}
