//! Events on their way to consumers' webhook endpoints.
//!
//! An event becomes one delivery for each endpoint that wants it. A delivery is an item; its messages are
//! hints, and the item decides: an attempt is claimed by a conditional write before anything is posted, so
//! that duplicates, reordering and late messages do nothing. A delivery happens at least once, with the
//! same identifier and the same bytes each time. What an event says is of no interest here.

mod attempt;
mod health;
mod replay;

use futures_util::{StreamExt, stream};
use holdfast_domain::{BookingId, EventId, Tenant, Timestamp, WebhookEndpointId};

pub use crate::webhook::POST_LIMIT_MS;
pub(crate) use health::{event_body, outcome_code};

use crate::metrics::DELIVERIES_EXHAUSTED;
use crate::ports::{
    AttemptLog, Clock, DeliveryClaim, DeliveryHint, DeliveryQueue, DeliveryStore, DeliveryUpdate,
    EndpointStore, Entropy, EventBus, ReplayQueue, StoreError, WebhookSender,
};
use crate::webhook::{Delivery, DeliveryState, WebhookEndpoint};

/// By how much the lease of an attempt outlasts it, in milliseconds: time for the writes before and after.
const LEASE_GRACE_MS: u64 = 10_000;

/// Attempts that a delivery may have beyond its endpoint's schedule, because the worker of its last one
/// was lost. Without an end to it, a delivery that kills its workers would go on for ever.
const MAX_REPLACED_ATTEMPTS: u32 = 1;

/// How often a write is tried against others who write at the same time.
const MAX_CONFLICTS: usize = 4;

/// How many deliveries of one event are created at once.
const MAX_CONCURRENT_WRITES: usize = 10;

/// By how much a delay may differ from the schedule, in thousandths either way.
const JITTER_PERMILLE: u64 = 200;

/// How long an endpoint that did not answer is left alone between two attempts, in milliseconds. One that
/// answers nothing holds a worker for the whole limit, so that no more than eight are held by it.
const TURN_MS: u64 = 2_000;

/// When those try again that did not get a turn, in milliseconds. There may be very many of them, and each
/// costs a message and two reads.
const TURN_AGAIN_MS: u64 = 60_000;

/// Over how much more time those spread that did not get a turn, in milliseconds.
const TURN_SPREAD_MS: u64 = 60_000;

/// An event as it arrived from the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingEvent {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its identifier, the same however often it arrives.
    pub id: EventId,
    /// Its type.
    pub event_type: String,
    /// The booking that it is about, if it is about one.
    pub about_booking: Option<BookingId>,
    /// The endpoint that it is about, which does not hear of it.
    pub about_endpoint: Option<WebhookEndpointId>,
    /// Its body, exactly as it arrived and as it will be posted.
    pub body: String,
}

/// Which queue a hint came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// That of endpoints that answer quickly.
    Quick,
    /// That of endpoints that take their time or do not answer, so that they hold up nobody else.
    Slow,
}

impl Lane {
    fn of(endpoint: &WebhookEndpoint, now: Timestamp) -> Self {
        let is_slow = endpoint.speed.slow_until.is_some_and(|slow_until| now < slow_until);
        if is_slow { Self::Slow } else { Self::Quick }
    }
}

/// What a hint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintOutcome {
    /// There is nothing to do any more, or nothing was ever to be done.
    Nothing,
    /// It is not time yet, somebody else is at work, or it belongs into the other queue: the hint was
    /// sent again.
    PassedOn,
    /// An attempt was made, and the endpoint took the event.
    Delivered,
    /// An attempt was made and failed; the next one is on its way.
    Failed,
    /// No attempt will follow.
    Exhausted,
}

/// Why a hint could not be worked on. It has to come again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The hint names no delivery.
    #[error("the hint is malformed")]
    Malformed,
    /// A port failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes events to endpoints.
#[derive(Debug)]
pub struct Deliveries<E, S, Q, W, B, C, R> {
    /// The endpoints.
    pub endpoints: E,
    /// The deliveries' items, and the log of attempts.
    pub store: S,
    /// The deliveries' hints.
    pub queue: Q,
    /// Posts.
    pub sender: W,
    /// The bus, on which is told what becomes of endpoints and deliveries.
    pub bus: B,
    /// The time of day.
    pub clock: C,
    /// Jitter.
    pub entropy: R,
}

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
    /// Makes a delivery for every enabled endpoint of the tenant that wants this type of event, and sends
    /// its first hint. Returns how many endpoints those are.
    ///
    /// An error means that some may be missing: the event has to come again. Doing this again repeats no
    /// delivery that is over.
    pub async fn fan_out(&self, event: &IncomingEvent) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let endpoints = self.endpoints.endpoints(&event.tenant).await?;
        let wanting: Vec<WebhookEndpoint> =
            endpoints.into_iter().filter(|endpoint| wants(endpoint, event)).collect();
        let count = wanting.len();
        let creations = wanting.into_iter().map(|endpoint| self.create(event, endpoint, now));
        let claims: Vec<Result<Option<(Lane, DeliveryHint)>, StoreError>> =
            stream::iter(creations).buffer_unordered(MAX_CONCURRENT_WRITES).collect().await;
        // Whoever failed holds up nobody: the others' hints go out before the failure is reported.
        let (created, failed): (Vec<_>, Vec<_>) = claims.into_iter().partition(Result::is_ok);
        let hints: Vec<(Lane, DeliveryHint)> = created.into_iter().flatten().flatten().collect();
        let (slow, quick): (Vec<_>, Vec<_>) = hints.into_iter().partition(|(lane, _)| *lane == Lane::Slow);
        let hints_of = |lane: Vec<(Lane, DeliveryHint)>| -> Vec<DeliveryHint> {
            lane.into_iter().map(|(_, hint)| hint).collect()
        };
        let (slow, quick) = (hints_of(slow), hints_of(quick));
        let (quick, slow) =
            tokio::join!(self.send(&quick, Lane::Quick, now), self.send(&slow, Lane::Slow, now));
        quick.and(slow)?;
        match failed.into_iter().find_map(Result::err) {
            Some(error) => Err(error),
            None => Ok(count),
        }
    }

    async fn create(
        &self,
        event: &IncomingEvent,
        endpoint: WebhookEndpoint,
        now: Timestamp,
    ) -> Result<Option<(Lane, DeliveryHint)>, StoreError> {
        let next_attempt_at = now.plus_ms(self.delay_before_ms(&endpoint, 0).unwrap_or(0));
        let delivery = Delivery {
            endpoint_id: endpoint.id.clone(),
            tenant: event.tenant.clone(),
            event_id: event.id.clone(),
            event_type: event.event_type.clone(),
            body: event.body.clone(),
            created_at: now,
            attempts: 0,
            earlier_attempts: 0,
            round: 1,
            round_at: now,
            state: DeliveryState::Waiting { next_attempt_at },
            last_error: None,
            rev: 1,
        };
        let due_at = match self.store.create(&delivery).await? {
            DeliveryClaim::Created => Some(next_attempt_at),
            // The event arrived before. Its hint may not have been sent, so it is sent now.
            DeliveryClaim::Existing(existing) => due_at(existing.state),
        };
        Ok(due_at.map(|due_at| (Lane::of(&endpoint, now), DeliveryHint::new(&delivery, due_at))))
    }

    /// Does what is due for the delivery that a hint names.
    ///
    /// An error means that the hint has to come again.
    pub async fn deliver(&self, hint: &DeliveryHint, lane: Lane) -> Result<HintOutcome, DeliveryError> {
        let (tenant, endpoint_id, event_id) = hint.parse().ok_or(DeliveryError::Malformed)?;
        for _ in 0..MAX_CONFLICTS {
            let Some(seen) = self.store.read(&endpoint_id, &event_id).await? else {
                return Ok(HintOutcome::Nothing);
            };
            let now = self.clock.now();
            match due_at(seen.state) {
                None => return Ok(HintOutcome::Nothing),
                Some(due_at) if due_at > now => return self.pass_on(&seen, due_at, lane, now).await,
                Some(_) => {}
            }
            let endpoint = match self.endpoints.endpoint(&tenant, &endpoint_id).await? {
                Some(endpoint) if endpoint.enabled => endpoint,
                refusing => {
                    if self.end(&seen, refusing.as_ref(), refusal(refusing.as_ref()), now).await? {
                        return Ok(HintOutcome::Exhausted);
                    }
                    continue;
                }
            };
            if let Some((lane, not_before)) = self.elsewhere(&endpoint, lane, now).await {
                return self.pass_on(&seen, not_before, lane, now).await;
            }
            if !may_begin(&seen, &endpoint) {
                if self.end(&seen, Some(&endpoint), WORKER_LOST, now).await? {
                    return Ok(HintOutcome::Exhausted);
                }
                continue;
            }
            let lease_until = now.plus_ms(POST_LIMIT_MS + LEASE_GRACE_MS);
            let claimed = Delivery {
                attempts: seen.attempts.saturating_add(1),
                ..next(&seen, DeliveryState::InFlight { lease_until })
            };
            if self.store.replace(seen.rev, &claimed).await? == DeliveryUpdate::Done {
                return self.attempt(claimed, &endpoint, lease_until).await;
            }
        }
        Err(too_many_conflicts().into())
    }

    /// Where and when a hint is worked on, if not here and now: one of a slow endpoint in the slow queue, and
    /// one of an endpoint that does not answer when it is its turn.
    async fn elsewhere(
        &self,
        endpoint: &WebhookEndpoint,
        lane: Lane,
        now: Timestamp,
    ) -> Option<(Lane, Timestamp)> {
        if Lane::of(endpoint, now) == Lane::Quick {
            return None;
        }
        if lane == Lane::Quick {
            return Some((Lane::Slow, now));
        }
        if endpoint.speed.hung_until.is_none_or(|hung_until| hung_until <= now) {
            return None;
        }
        if self.takes_turn(endpoint, now).await {
            return None;
        }
        let again_ms = TURN_AGAIN_MS + self.entropy.u64() % TURN_SPREAD_MS;
        Some((Lane::Slow, now.plus_ms(again_ms)))
    }

    /// Takes the turn of an endpoint that does not answer, if it is free. Whether it is was read with the
    /// endpoint, mostly: a write of every hint that waits would be too much for one item.
    async fn takes_turn(&self, endpoint: &WebhookEndpoint, now: Timestamp) -> bool {
        let next = now.plus_ms(TURN_MS);
        // What is further away than a turn is long, the write judges.
        if endpoint.next_turn_at.is_some_and(|taken_until| now < taken_until && taken_until <= next) {
            return false;
        }
        match self.endpoints.take_turn(&endpoint.tenant, &endpoint.id, now, next).await {
            Ok(is_taken) => is_taken,
            Err(error) => {
                // A store that is asked too much is not asked again at once, as a hint that fails would.
                tracing::warn!(webhook_endpoint.id = %endpoint.id, %error, "An endpoint's turn could not be taken.");
                false
            }
        }
    }

    /// Ends a delivery that cannot go on. Returns whether it was written; if not, somebody else wrote.
    async fn end(
        &self,
        seen: &Delivery,
        endpoint: Option<&WebhookEndpoint>,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let ended = Delivery {
            last_error: Some(reason.to_owned()),
            ..next(seen, DeliveryState::Exhausted { at: now })
        };
        // What ends with its endpoint is not told of one by one: who disabled or removed it knows, and of
        // one that was disabled by itself there was an event.
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.enabled) {
            self.publish_exhausted(&ended, endpoint, now).await?;
        }
        let is_written = self.store.replace(seen.rev, &ended).await? == DeliveryUpdate::Done;
        if is_written {
            log_exhausted(&ended);
        }
        Ok(is_written)
    }

    async fn pass_on(
        &self,
        delivery: &Delivery,
        not_before: Timestamp,
        lane: Lane,
        now: Timestamp,
    ) -> Result<HintOutcome, DeliveryError> {
        self.send(&[DeliveryHint::new(delivery, not_before)], lane, now).await?;
        Ok(HintOutcome::PassedOn)
    }

    async fn send(&self, hints: &[DeliveryHint], lane: Lane, now: Timestamp) -> Result<(), StoreError> {
        if hints.is_empty() {
            return Ok(());
        }
        self.queue.send(hints, lane == Lane::Slow, now).await.into_iter().collect()
    }

    /// The delay before the next attempt, in milliseconds, when `attempts` have been made; `None` if the
    /// endpoint's schedule is used up.
    fn delay_before_ms(&self, endpoint: &WebhookEndpoint, attempts: u32) -> Option<u64> {
        let index = usize::try_from(attempts).ok()?;
        let seconds = u64::from(*endpoint.retry_schedule_seconds.get(index)?);
        let permille = 1_000 - JITTER_PERMILLE + self.entropy.u64() % (2 * JITTER_PERMILLE + 1);
        // Seconds times thousandths are milliseconds.
        Some(seconds * permille)
    }
}

/// Why a delivery ends whose workers are lost again and again.
const WORKER_LOST: &str = "worker_lost";

/// Why an endpoint that is gone or disabled takes nothing.
fn refusal(endpoint: Option<&WebhookEndpoint>) -> &'static str {
    if endpoint.is_some() { "endpoint_disabled" } else { "endpoint_gone" }
}

fn wants(endpoint: &WebhookEndpoint, event: &IncomingEvent) -> bool {
    let types = &endpoint.event_types;
    endpoint.enabled
        && event.about_endpoint.as_ref() != Some(&endpoint.id)
        && (types.is_empty() || types.contains(&event.event_type))
}

/// When something has to be done for a delivery; `None` if it is over.
fn due_at(state: DeliveryState) -> Option<Timestamp> {
    match state {
        DeliveryState::Waiting { next_attempt_at } => Some(next_attempt_at),
        DeliveryState::InFlight { lease_until } => Some(lease_until),
        DeliveryState::Delivered { .. } | DeliveryState::Exhausted { .. } => None,
    }
}

/// Whether another attempt may begin. One whose worker was lost counts, but does not take the last chance.
fn may_begin(delivery: &Delivery, endpoint: &WebhookEndpoint) -> bool {
    let scheduled = u32::try_from(endpoint.retry_schedule_seconds.len()).unwrap_or(u32::MAX);
    let allowed = match delivery.state {
        DeliveryState::InFlight { .. } => scheduled.saturating_add(MAX_REPLACED_ATTEMPTS),
        DeliveryState::Waiting { .. } | DeliveryState::Delivered { .. } | DeliveryState::Exhausted { .. } => {
            // An endpoint's schedule may have become shorter since; what is waiting gets its attempt.
            scheduled.max(delivery.attempts.saturating_add(1))
        }
    };
    delivery.attempts < allowed
}

/// The delivery as the next write leaves it.
fn next(delivery: &Delivery, state: DeliveryState) -> Delivery {
    Delivery { state, rev: delivery.rev.saturating_add(1), ..delivery.clone() }
}

fn too_many_conflicts() -> StoreError {
    StoreError::Unavailable("it was changed by others too often".to_owned())
}

fn log_exhausted(delivery: &Delivery) {
    DELIVERIES_EXHAUSTED.record([], 1);
    tracing::warn!(
        webhook_endpoint.id = %delivery.endpoint_id,
        event.id = %delivery.event_id,
        event.r#type = delivery.event_type,
        attempt.number = delivery.attempt_number(),
        attempt.outcome = delivery.last_error,
        "An event is not delivered to an endpoint any more."
    );
}

#[cfg(test)]
mod tests;
