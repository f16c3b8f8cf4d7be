//! Deliveries that are made again because somebody asked for it: the same event, the same bytes.
//!
//! A replay is a message in the queue of the slow. It begins a new round for a few deliveries and passes the
//! rest on to another message, so that the longest replay holds up nobody.

use futures_util::{StreamExt, stream};

use super::{
    Deliveries, DeliveryError, Lane, MAX_CONCURRENT_WRITES, MAX_CONFLICTS, due_at, next, too_many_conflicts,
};
use crate::ports::{
    AttemptLog, Clock, DeliveryHint, DeliveryQuery, DeliveryQueue, DeliveryStore, DeliveryUpdate,
    EndpointStore, Entropy, EventBus, ReplayMessage, ReplayQueue, StoreError, WebhookSender,
};
use crate::webhook::{Delivery, DeliveryState};

/// How many deliveries one message looks at.
const MAX_REPLAYED: usize = 100;

/// When the rest follows, in milliseconds: time for what was begun.
const REST_AFTER_MS: u64 = 1_000;

/// When the rest follows if the endpoint is slow, in milliseconds.
const REST_AFTER_SLOW_MS: u64 = 60_000;

impl<E, S, Q, W, B, C, R> Deliveries<E, S, Q, W, B, C, R>
where
    E: EndpointStore,
    S: DeliveryStore + AttemptLog,
    Q: DeliveryQueue + ReplayQueue,
    W: WebhookSender,
    B: EventBus,
    C: Clock,
    R: Entropy,
{
    /// Begins a new round for the first of the deliveries that a message asks for, and asks for the rest.
    /// Returns how many hints it sent.
    ///
    /// An error means that the message has to come again. Doing this again begins no delivery twice.
    pub async fn replay(&self, message: &ReplayMessage) -> Result<usize, DeliveryError> {
        let (tenant, endpoint_id, after) = message.parse().ok_or(DeliveryError::Malformed)?;
        let endpoint = self.endpoints.endpoint(&tenant, &endpoint_id).await?;
        let Some(endpoint) = endpoint.filter(|endpoint| endpoint.enabled) else {
            return Ok(0);
        };
        let (since, until) = (message.since, message.until);
        let query = DeliveryQuery { since, until, after, limit: MAX_REPLAYED };
        let page = self.store.created_between(&endpoint_id, &query).await?;
        let rounds = page.deliveries.into_iter().map(|delivery| self.begin_round(delivery, message));
        let rounds: Vec<Result<Option<DeliveryHint>, StoreError>> =
            stream::iter(rounds).buffered(MAX_CONCURRENT_WRITES).collect().await;
        let (begun, failed): (Vec<_>, Vec<_>) = rounds.into_iter().partition(Result::is_ok);
        let hints: Vec<DeliveryHint> = begun.into_iter().flatten().flatten().collect();
        let now = self.clock.now();
        // Whatever its speed: what is made again must not go before what is new.
        self.send(&hints, Lane::Slow, now).await?;
        if let Some(error) = failed.into_iter().find_map(Result::err) {
            return Err(error.into());
        }
        if let Some(place) = page.next {
            let rest = ReplayMessage {
                after: Some((place.created_at, place.event_id.as_str().to_owned())),
                ..message.clone()
            };
            let is_slow = Lane::of(&endpoint, now) == Lane::Slow;
            let delay_ms = if is_slow { REST_AFTER_SLOW_MS } else { REST_AFTER_MS };
            self.queue.ask(&rest, now.plus_ms(delay_ms), now).await?;
        }
        Ok(hints.len())
    }

    /// Begins a new round, unless the delivery is on its way or is left alone. Returns the delivery's hint;
    /// `None` if it is over.
    async fn begin_round(
        &self,
        delivery: Delivery,
        message: &ReplayMessage,
    ) -> Result<Option<DeliveryHint>, StoreError> {
        let mut seen = delivery;
        for _ in 0..MAX_CONFLICTS {
            if seen.round > 1 && seen.round_at >= message.requested_at {
                // This message came before; its hint may not have been sent.
                return Ok(due_at(seen.state).map(|due_at| DeliveryHint::new(&seen, due_at)));
            }
            let is_wanted = match seen.state {
                DeliveryState::Delivered { .. } => !message.only_failed,
                DeliveryState::Exhausted { .. } => true,
                // Whoever fixed an endpoint does not want to wait for the next attempt by the schedule.
                DeliveryState::Waiting { .. } => seen.attempts > 0,
                DeliveryState::InFlight { .. } => false,
            };
            if !is_wanted {
                // What is on its way may have lost its hint, and a replay is all that a consumer can do for it.
                return Ok(due_at(seen.state).map(|due_at| DeliveryHint::new(&seen, due_at)));
            }
            let now = self.clock.now();
            let round = Delivery {
                attempts: 0,
                earlier_attempts: seen.attempt_number(),
                round: seen.round.saturating_add(1),
                round_at: now.max(message.requested_at),
                ..next(&seen, DeliveryState::Waiting { next_attempt_at: now })
            };
            if self.store.replace(seen.rev, &round).await? == DeliveryUpdate::Done {
                return Ok(Some(DeliveryHint::new(&round, now)));
            }
            match self.store.read(&seen.endpoint_id, &seen.event_id).await? {
                Some(current) => seen = current,
                None => return Ok(None),
            }
        }
        Err(too_many_conflicts())
    }
}
