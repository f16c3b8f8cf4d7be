//! Timers: attempts in the background, deadlines, hold expiry, notifications, compensations. And the sweep, which
//! re-arms what a lost timer left behind.

use holdfast_app::bookings::{Engine, TimerOutcome};
use holdfast_app::metrics::OVERDUE_BOOKINGS;
use holdfast_app::ports::{
    BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway, SettingsReader, StoreError,
    TimerMessage, TimerQueue,
};
use holdfast_domain::BookingId;
use holdfast_lambda::telemetry::record_booking;

/// How long a timer waits after its first failure, in milliseconds; the wait grows with each further one.
const FIRST_FAILURE_DELAY_MS: u64 = 15_000;

/// The longest that a timer waits after a failure, in milliseconds.
const MAX_FAILURE_DELAY_MS: u64 = 300_000;

/// Why a message has to come again, or ends in the dead-letter queue.
#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    /// The message is not a timer. The parser's words may quote it, so the place alone is told.
    #[error("the message is not a timer at line {line}, column {column}")]
    Malformed {
        /// The line at which reading failed, from 1 on.
        line: usize,
        /// The column in it.
        column: usize,
    },
    /// The message is a timer of no booking, and would never be one.
    #[error("the timer names no booking")]
    NoBooking,
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
    B: BreakerStore + LimitStore,
    R: SettingsReader,
    T: TimerQueue,
    C: Clock,
    E: Entropy,
{
    /// Handles a timer's message.
    pub async fn on_message(&self, body: &str) -> Result<(), TimerError> {
        let message: TimerMessage = serde_json::from_str(body)
            .map_err(|error| TimerError::Malformed { line: error.line(), column: error.column() })?;
        // Armed anew, it would ring for ever. This way it ends in the dead-letter queue.
        record_booking(&BookingId::parse(&message.booking_id).map_err(|_| TimerError::NoBooking)?);
        match self.engine.on_timer(&message, &self.settings).await {
            Ok(TimerOutcome::Done | TimerOutcome::Nothing) => Ok(()),
            Ok(TimerOutcome::PassOn(message)) => Ok(self.arm(&[message]).await?),
            Err(error) => {
                match &error {
                    StoreError::Unavailable(_) => {
                        tracing::warn!(booking.id = message.booking_id, %error, "A timer rings again.");
                    }
                    StoreError::Corrupt(_) | StoreError::Refused(_) => {
                        tracing::error!(booking.id = message.booking_id, %error, "A timer rings again.");
                    }
                }
                Ok(self.arm(&[self.again(message)]).await?)
            }
        }
    }

    /// A timer that could not be served. It is armed anew rather than left to the queue, whose visibility
    /// time-out is long, and whose count of receipts would end it in the dead-letter queue while the booking
    /// it guards is still pending.
    fn again(&self, message: TimerMessage) -> TimerMessage {
        let failures = message.failures.saturating_add(1);
        let delay_ms = FIRST_FAILURE_DELAY_MS.saturating_mul(failures.into()).min(MAX_FAILURE_DELAY_MS);
        TimerMessage { not_before: self.clock.now().plus_ms(delay_ms), failures, ..message }
    }

    /// Re-arms what is overdue.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let overdue = self.engine.overdue().await?;
        OVERDUE_BOOKINGS.record([], u64::try_from(overdue.len()).unwrap_or(u64::MAX));
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
