//! Events on their way to consumers' webhook endpoints.
//!
//! An event becomes one delivery for each endpoint that wants it. A delivery is an item; its messages are
//! hints, and the item decides: an attempt is claimed by a conditional write before anything is posted, so
//! that duplicates, reordering and late messages do nothing. A delivery happens at least once, with the
//! same identifier and the same bytes each time. What an event says is of no interest here.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use holdfast_domain::{EventId, Tenant, Timestamp};
use tokio::time::timeout;

use crate::ports::{
    Clock, DeliveryClaim, DeliveryHint, DeliveryQueue, DeliveryStore, DeliveryUpdate, EndpointStore, Entropy,
    PostOutcome, StoreError, WebhookPost, WebhookSender,
};
use crate::webhook::{Delivery, DeliveryState, WebhookEndpoint};

/// How long an endpoint has to answer, in milliseconds.
pub const POST_LIMIT_MS: u64 = 15_000;

/// By how much the lease of an attempt outlasts it, in milliseconds: time for the writes before and after.
const LEASE_GRACE_MS: u64 = 10_000;

/// For how long an endpoint that let a delivery time out is served from the queue of the slow, in
/// milliseconds.
const SLOW_FOR_MS: u64 = 15 * 60 * 1_000;

/// Attempts that a delivery may have beyond its endpoint's schedule, because the worker of its last one
/// was lost. Without an end to it, a delivery that kills its workers would go on for ever.
const MAX_REPLACED_ATTEMPTS: u32 = 1;

/// How often a write is tried against others who write at the same time.
const MAX_CONFLICTS: usize = 4;

/// How many deliveries of one event are created at once.
const MAX_CONCURRENT_WRITES: usize = 10;

/// By how much a delay may differ from the schedule, in thousandths either way.
const JITTER_PERMILLE: u64 = 200;

/// An event as it arrived from the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingEvent {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its identifier, the same however often it arrives.
    pub id: EventId,
    /// Its type.
    pub event_type: String,
    /// Its body, exactly as it arrived and as it will be posted.
    pub body: String,
}

/// Which queue a hint came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// That of endpoints that answer in time.
    Quick,
    /// That of endpoints that let a delivery time out, so that they hold up nobody else.
    Slow,
}

impl Lane {
    fn of(endpoint: &WebhookEndpoint, now: Timestamp) -> Self {
        if endpoint.slow_until.is_some_and(|slow_until| now < slow_until) { Self::Slow } else { Self::Quick }
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
pub struct Deliveries<E, S, Q, W, C, R> {
    /// The endpoints.
    pub endpoints: E,
    /// The deliveries' items.
    pub store: S,
    /// The deliveries' hints.
    pub queue: Q,
    /// Posts.
    pub sender: W,
    /// The time of day.
    pub clock: C,
    /// Jitter.
    pub entropy: R,
}

/// What follows a failed attempt.
struct Failure {
    /// A short code, never text from outside.
    code: String,
    retry_after_ms: Option<u64>,
    /// Whether no attempt may follow whatever the schedule says.
    is_final: bool,
}

impl<E, S, Q, W, C, R> Deliveries<E, S, Q, W, C, R>
where
    E: EndpointStore,
    S: DeliveryStore,
    Q: DeliveryQueue,
    W: WebhookSender,
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
            endpoints.into_iter().filter(|endpoint| wants(endpoint, &event.event_type)).collect();
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
            let endpoint = self.endpoints.endpoint(&tenant, &endpoint_id).await?;
            let Some(endpoint) = endpoint.filter(|endpoint| endpoint.enabled) else {
                if self.end(&seen, "endpoint_gone", now).await? {
                    return Ok(HintOutcome::Exhausted);
                }
                continue;
            };
            if lane == Lane::Quick && Lane::of(&endpoint, now) == Lane::Slow {
                return self.pass_on(&seen, now, Lane::Slow, now).await;
            }
            if !may_begin(&seen, &endpoint) {
                if self.end(&seen, "worker_lost", now).await? {
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
        Err(StoreError::Unavailable("a delivery was changed by others too often".to_owned()).into())
    }

    /// Makes the attempt that is claimed, and writes down what came of it.
    async fn attempt(
        &self,
        claimed: Delivery,
        endpoint: &WebhookEndpoint,
        lease_until: Timestamp,
    ) -> Result<HintOutcome, DeliveryError> {
        let begun_at = self.clock.now();
        // A worker that was frozen since its claim must not post: somebody else may be at it.
        let limit_ms = begun_at.ms_until(lease_until).min(POST_LIMIT_MS);
        if limit_ms == 0 {
            return self.pass_on(&claimed, lease_until, Lane::of(endpoint, begun_at), begun_at).await;
        }
        let outcome = self.post(&claimed, endpoint, begun_at, limit_ms).await;
        let now = self.clock.now();
        tracing::info!(
            webhook_endpoint.id = %claimed.endpoint_id,
            event.id = %claimed.event_id,
            event.r#type = claimed.event_type,
            attempt.number = claimed.attempts,
            attempt.outcome = outcome_code(&outcome),
            attempt.duration_ms = begun_at.ms_until(now),
            "An attempt to deliver an event is over."
        );
        let failure = match outcome {
            PostOutcome::Answered { status: 200..=299, .. } => {
                return self.record_delivered(claimed, endpoint, now).await;
            }
            PostOutcome::Answered { status: 410, .. } => {
                tracing::warn!(webhook_endpoint.id = %endpoint.id, "An endpoint is gone and is disabled.");
                self.endpoints.disable(&endpoint.tenant, &endpoint.id).await?;
                Failure { code: outcome_code(&outcome), retry_after_ms: None, is_final: true }
            }
            PostOutcome::Answered { status: 429 | 503, retry_after_ms } => {
                Failure { code: outcome_code(&outcome), retry_after_ms, is_final: false }
            }
            PostOutcome::Answered { .. }
            | PostOutcome::TimedOut
            | PostOutcome::ConnectionFailed
            | PostOutcome::TargetRefused => {
                Failure { code: outcome_code(&outcome), retry_after_ms: None, is_final: false }
            }
        };
        let lane = if outcome == PostOutcome::TimedOut {
            self.mark_slow(endpoint, Some(now.plus_ms(SLOW_FOR_MS))).await;
            Lane::Slow
        } else {
            Lane::of(endpoint, now)
        };
        self.record_failed(claimed, endpoint, failure, lane, now).await
    }

    async fn post(
        &self,
        delivery: &Delivery,
        endpoint: &WebhookEndpoint,
        now: Timestamp,
        limit_ms: u64,
    ) -> PostOutcome {
        let post = WebhookPost {
            url: &endpoint.url,
            headers: &endpoint.headers,
            secret: &endpoint.secret,
            message_id: delivery.event_id.as_str(),
            timestamp_unix_s: now.as_unix_ms() / 1_000,
            body: &delivery.body,
            limit_ms,
        };
        // The lease counts on the limit, so it does not depend on the sender's keeping it.
        let limit = Duration::from_millis(limit_ms);
        timeout(limit, self.sender.post(post)).await.unwrap_or(PostOutcome::TimedOut)
    }

    /// Writes that the endpoint took the event, also if somebody else took the delivery over meanwhile.
    async fn record_delivered(
        &self,
        claimed: Delivery,
        endpoint: &WebhookEndpoint,
        at: Timestamp,
    ) -> Result<HintOutcome, DeliveryError> {
        if endpoint.slow_until.is_some() {
            self.mark_slow(endpoint, None).await;
        }
        let mut seen = claimed;
        for _ in 0..MAX_CONFLICTS {
            let delivered = Delivery { last_error: None, ..next(&seen, DeliveryState::Delivered { at }) };
            if self.store.replace(seen.rev, &delivered).await? == DeliveryUpdate::Done {
                return Ok(HintOutcome::Delivered);
            }
            match self.store.read(&seen.endpoint_id, &seen.event_id).await? {
                Some(current) if !matches!(current.state, DeliveryState::Delivered { .. }) => seen = current,
                Some(_) | None => return Ok(HintOutcome::Delivered),
            }
        }
        Err(StoreError::Unavailable("a delivery was changed by others too often".to_owned()).into())
    }

    /// Writes that the attempt failed, and sends the hint of the next one if there is one.
    async fn record_failed(
        &self,
        claimed: Delivery,
        endpoint: &WebhookEndpoint,
        failure: Failure,
        lane: Lane,
        now: Timestamp,
    ) -> Result<HintOutcome, DeliveryError> {
        let delay_ms = self.delay_before_ms(endpoint, claimed.attempts).filter(|_| !failure.is_final);
        let state = match delay_ms {
            Some(delay_ms) => DeliveryState::Waiting {
                next_attempt_at: now.plus_ms(delay_ms.max(failure.retry_after_ms.unwrap_or(0))),
            },
            None => DeliveryState::Exhausted { at: now },
        };
        let failed = Delivery { last_error: Some(failure.code), ..next(&claimed, state) };
        if self.store.replace(claimed.rev, &failed).await? == DeliveryUpdate::Conflict {
            // The lease ended and another worker took over; how it goes on is its affair.
            return Ok(HintOutcome::Nothing);
        }
        let Some(due_at) = due_at(failed.state) else {
            log_exhausted(&failed);
            return Ok(HintOutcome::Exhausted);
        };
        self.send(&[DeliveryHint::new(&failed, due_at)], lane, now).await?;
        Ok(HintOutcome::Failed)
    }

    /// Ends a delivery that cannot go on. Returns whether it was written; if not, somebody else wrote.
    async fn end(&self, seen: &Delivery, reason: &str, now: Timestamp) -> Result<bool, StoreError> {
        let ended = Delivery {
            last_error: Some(reason.to_owned()),
            ..next(seen, DeliveryState::Exhausted { at: now })
        };
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

    /// Marks an endpoint as slow or quick. Which queue serves it is a matter of speed alone, so that a
    /// failure to write it down fails nothing else.
    async fn mark_slow(&self, endpoint: &WebhookEndpoint, slow_until: Option<Timestamp>) {
        if let Err(error) = self.endpoints.mark_slow(&endpoint.tenant, &endpoint.id, slow_until).await {
            tracing::warn!(webhook_endpoint.id = %endpoint.id, %error, "An endpoint's speed could not be noted.");
        }
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

fn wants(endpoint: &WebhookEndpoint, event_type: &str) -> bool {
    let types = &endpoint.event_types;
    endpoint.enabled && (types.is_empty() || types.iter().any(|wanted| wanted == event_type))
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

fn outcome_code(outcome: &PostOutcome) -> String {
    match outcome {
        PostOutcome::Answered { status, .. } => format!("http_{status}"),
        PostOutcome::TimedOut => "timed_out".to_owned(),
        PostOutcome::ConnectionFailed => "connection_failed".to_owned(),
        PostOutcome::TargetRefused => "target_refused".to_owned(),
    }
}

fn log_exhausted(delivery: &Delivery) {
    tracing::warn!(
        webhook_endpoint.id = %delivery.endpoint_id,
        event.id = %delivery.event_id,
        event.r#type = delivery.event_type,
        attempt.number = delivery.attempts,
        attempt.outcome = delivery.last_error,
        "An event is not delivered to an endpoint any more."
    );
}

#[cfg(test)]
mod tests;
