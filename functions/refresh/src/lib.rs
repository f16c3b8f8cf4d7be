//! Keeps what is remembered of availability fresh: every minute the locations are planned whose moment comes, and
//! each of them is asked for by a message of its own.

use holdfast_app::availability::{Availability, Refreshed, refresh_messages};
use holdfast_app::metrics::PLANNED_REFRESHES;
use holdfast_app::ports::{
    AvailabilityGateway, AvailabilityStore, BreakerStore, Clock, ConfigurationStore, Entropy, LimitStore,
    LocationStore, RefreshMessage, RefreshQueue, SettingsReader, StoreError,
};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_domain::Timestamp;

/// How long after its schedule a planned minute begins, in milliseconds: as long as planning usually takes.
const LEAD_MS: u64 = 15_000;

/// How far a schedule's time may be from ours to be believed, in milliseconds.
const MAX_LATENESS_MS: u64 = 5 * 60 * 1_000;

/// Why a message has to come again, or ends in the dead-letter queue.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The message does not say what has to be asked for. The parser's words may quote it, so the place alone is
    /// told.
    #[error("the message is not one of a refresh at line {line}, column {column}")]
    Malformed {
        /// The line at which reading failed, from 1 on.
        line: usize,
        /// The column in it.
        column: usize,
    },
    /// The store or the queue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Service<A, G, S, Q, C, E> {
    /// Asks providers and remembers what they say.
    pub availability: Availability<A, G, S, C, E>,
    /// Providers and locations, as they are now.
    pub configuration: S,
    /// Providers, remembered.
    pub settings: SettingsCache<S>,
    /// Where refreshes are sent.
    pub refreshes: Q,
    /// The time of day.
    pub clock: C,
}

impl<A, G, S, Q, C, E> Service<A, G, S, Q, C, E>
where
    A: AvailabilityStore,
    G: AvailabilityGateway,
    S: BreakerStore + ConfigurationStore + LimitStore + LocationStore + SettingsReader + Clone,
    Q: RefreshQueue,
    C: Clock,
    E: Entropy,
{
    /// Handles a message.
    ///
    /// One that cannot be served is not sent again: the location is planned again within five minutes, and until
    /// then what is remembered of it is as old as it is.
    pub async fn on_message(&self, body: &str) -> Result<(), RefreshError> {
        let message: RefreshMessage = serde_json::from_str(body)
            .map_err(|error| RefreshError::Malformed { line: error.line(), column: error.column() })?;
        match Box::pin(self.availability.refresh(&message, &self.settings)).await {
            Ok(Refreshed::Asked(_) | Refreshed::NotNeeded | Refreshed::Failed) => Ok(()),
            Ok(Refreshed::PassOn(message)) => Ok(self.send(&[message]).await?),
            Err(error) => {
                tracing::warn!(
                    provider.id = message.provider_id, location.id = message.location_id, %error,
                    "A location could not be refreshed."
                );
                Ok(())
            }
        }
    }

    /// Plans a minute, given the time that the schedule says it is. Schedules tell times that are a minute apart,
    /// however late they come, so that the planned minutes follow on one another. The minute begins a little later,
    /// so that nothing planned is due already.
    pub async fn plan(&self, scheduled_at: Option<Timestamp>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let is_credible =
            |at: &Timestamp| at.ms_until(now) <= MAX_LATENESS_MS && now.ms_until(*at) <= MAX_LATENESS_MS;
        let from = scheduled_at.filter(is_credible).unwrap_or(now).plus_ms(LEAD_MS);
        let (messages, failure) = refresh_messages(&self.configuration, from).await;
        let sent = self.send(&messages).await;
        PLANNED_REFRESHES.record([], u64::try_from(messages.len()).unwrap_or(u64::MAX));
        tracing::info!(refreshes = messages.len(), "Planned the refreshes of a minute.");
        // What could be planned is under way. That something could not fails the invocation, for the alarm to see.
        failure.map_or(sent, Err)
    }

    /// Sends messages; every entry of a batch that failed is an error.
    async fn send(&self, messages: &[RefreshMessage]) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        self.refreshes.send(messages, self.clock.now()).await.into_iter().collect()
    }
}
