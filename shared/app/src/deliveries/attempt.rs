//! One attempt to deliver an event: the post, and what is written down of it.

use std::pin::pin;
use std::time::Duration;

use holdfast_domain::{BookingId, Timestamp};
use serde::Deserialize;
use tokio::time::timeout;

use super::health::{Disabling, outcome_code, patience_ms};
use super::{
    Deliveries, DeliveryError, HintOutcome, Lane, MAX_CONFLICTS, POST_LIMIT_MS, due_at, log_exhausted, next,
    too_many_conflicts,
};
use crate::metrics::{DELIVERY_LAG, DELIVERY_TIME, record_booking};
use crate::ports::{
    AttemptEntry, AttemptLog, Clock, DeliveryHint, DeliveryQueue, DeliveryStore, DeliveryUpdate,
    EndpointStore, Entropy, EventBus, PostOutcome, ReplayQueue, WebhookPost, WebhookSender,
};
use crate::webhook::{Delivery, DeliveryState, DisabledReason, WebhookEndpoint};

/// An attempt that is over.
pub(super) struct Attempt {
    pub(super) outcome: PostOutcome,
    pub(super) begun_at: Timestamp,
    pub(super) ended_at: Timestamp,
}

impl Attempt {
    pub(super) fn latency_ms(&self) -> u64 {
        self.begun_at.ms_until(self.ended_at)
    }

    /// How long the endpoint asks to be left alone, in milliseconds.
    fn asked_delay_ms(&self) -> u64 {
        match self.outcome {
            PostOutcome::Answered { status: 429 | 503, retry_after_ms, .. } => retry_after_ms.unwrap_or(0),
            PostOutcome::Answered { .. }
            | PostOutcome::TimedOut
            | PostOutcome::ConnectionFailed
            | PostOutcome::TargetRefused => 0,
        }
    }
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
    /// Makes the attempt that is claimed, and writes down what came of it.
    pub(super) async fn attempt(
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
        let happened_at = note_subject(&claimed);
        let outcome = self.post(&claimed, endpoint, begun_at, limit_ms).await;
        let attempt = Attempt { outcome, begun_at, ended_at: self.clock.now() };
        tracing::info!(
            webhook_endpoint.id = %claimed.endpoint_id,
            event.id = %claimed.event_id,
            event.r#type = claimed.event_type,
            attempt.number = claimed.attempt_number(),
            attempt.outcome = outcome_code(&attempt.outcome),
            attempt.duration_ms = attempt.latency_ms(),
            "An attempt to deliver an event is over."
        );
        DELIVERY_TIME.record([measured_outcome(&attempt.outcome)], attempt.latency_ms());
        let entry = entry(&claimed, &attempt);
        let ((), recorded) =
            tokio::join!(self.append(&entry), self.record(claimed, endpoint, &attempt, happened_at));
        recorded
    }

    async fn post(
        &self,
        delivery: &Delivery,
        endpoint: &WebhookEndpoint,
        now: Timestamp,
        limit_ms: u64,
    ) -> PostOutcome {
        let secrets = endpoint.secrets_at(now);
        let mut post = pin!(self.sender.post(WebhookPost {
            url: &endpoint.url,
            headers: &endpoint.headers,
            secrets: &secrets,
            message_id: delivery.event_id.as_str(),
            timestamp_unix_s: now.as_unix_ms() / 1_000,
            body: &delivery.body,
            limit_ms,
        }));
        let patience_ms = patience_ms(endpoint, now).min(limit_ms);
        if let Ok(outcome) = timeout(Duration::from_millis(patience_ms), post.as_mut()).await {
            return outcome;
        }
        // The lease counts on the limit, so it does not depend on the sender's keeping it. The endpoint
        // counts as slow, and is tried little, from now on, and not only when the limit is over: each of its other deliveries
        // that is begun meanwhile would hold up those of others for as long.
        let rest = Duration::from_millis(limit_ms.saturating_sub(patience_ms));
        let ((), outcome) = tokio::join!(self.mark_slow(endpoint), timeout(rest, post));
        outcome.unwrap_or(PostOutcome::TimedOut)
    }

    /// Writes an attempt into the log. The log is for people to read, so that a failure to write it fails
    /// nothing else.
    async fn append(&self, entry: &AttemptEntry) {
        if let Err(error) = self.store.append(entry).await {
            tracing::warn!(
                webhook_endpoint.id = %entry.endpoint_id,
                event.id = %entry.event_id,
                %error,
                "An attempt could not be written into the log of attempts."
            );
        }
    }

    async fn record(
        &self,
        claimed: Delivery,
        endpoint: &WebhookEndpoint,
        attempt: &Attempt,
        happened_at: Option<Timestamp>,
    ) -> Result<HintOutcome, DeliveryError> {
        let lane = self.note_speed(endpoint, attempt).await;
        let now = attempt.ended_at;
        if let PostOutcome::Answered { status: 200..=299, .. } = attempt.outcome {
            if endpoint.failing_since.is_some() {
                self.mark_failing(endpoint, None).await;
            }
            // A delivery that somebody asked for again says nothing of how quick the first was.
            if let Some(happened_at) = happened_at.filter(|_| claimed.round == 1) {
                DELIVERY_LAG.record([], happened_at.ms_until(now));
            }
            return self.record_delivered(claimed, now).await;
        }
        let (reason, disabling) = match attempt.outcome {
            PostOutcome::Answered { status: 410, .. } => {
                (DisabledReason::Gone, self.disable(endpoint, DisabledReason::Gone, now).await?)
            }
            PostOutcome::Answered { .. }
            | PostOutcome::TimedOut
            | PostOutcome::ConnectionFailed
            | PostOutcome::TargetRefused => {
                (DisabledReason::Failing, self.note_failure(endpoint, now).await?)
            }
        };
        let goes_on = disabling == Disabling::NotNeeded;
        let delay_ms = self.delay_before_ms(endpoint, claimed.attempts).filter(|_| goes_on);
        let state = match delay_ms {
            Some(delay_ms) => DeliveryState::Waiting {
                next_attempt_at: now.plus_ms(delay_ms.max(attempt.asked_delay_ms())),
            },
            None => DeliveryState::Exhausted { at: now },
        };
        let failed = Delivery { last_error: Some(outcome_code(&attempt.outcome)), ..next(&claimed, state) };
        if due_at(failed.state).is_none() {
            // What ends with its endpoint is not told of if somebody else ended that, who knows.
            let told = match disabling {
                Disabling::Done => Some(endpoint.disabled(reason)),
                Disabling::NotNeeded => Some(endpoint.clone()),
                Disabling::AlreadyOff => None,
            };
            if let Some(endpoint) = told {
                self.publish_exhausted(&failed, &endpoint, now).await?;
            }
        }
        self.record_failed(claimed.rev, &failed, lane, now).await
    }

    /// Writes that the endpoint took the event, also if somebody else took the delivery over meanwhile.
    pub(super) async fn record_delivered(
        &self,
        claimed: Delivery,
        at: Timestamp,
    ) -> Result<HintOutcome, DeliveryError> {
        let round = claimed.round;
        let mut seen = claimed;
        for _ in 0..MAX_CONFLICTS {
            let delivered = Delivery { last_error: None, ..next(&seen, DeliveryState::Delivered { at }) };
            if self.store.replace(seen.rev, &delivered).await? == DeliveryUpdate::Done {
                return Ok(HintOutcome::Delivered);
            }
            match self.store.read(&seen.endpoint_id, &seen.event_id).await? {
                // Of a later round, which somebody asked for since, the success of this one says nothing.
                Some(current)
                    if current.round == round
                        && !matches!(current.state, DeliveryState::Delivered { .. }) =>
                {
                    seen = current;
                }
                Some(_) | None => return Ok(HintOutcome::Delivered),
            }
        }
        Err(too_many_conflicts().into())
    }

    /// Writes that the attempt failed, and sends the hint of the next one if there is one.
    async fn record_failed(
        &self,
        seen_rev: u64,
        failed: &Delivery,
        lane: Lane,
        now: Timestamp,
    ) -> Result<HintOutcome, DeliveryError> {
        if self.store.replace(seen_rev, failed).await? == DeliveryUpdate::Conflict {
            // The lease ended and another worker took over; how it goes on is its affair.
            return Ok(HintOutcome::Nothing);
        }
        let Some(due_at) = due_at(failed.state) else {
            log_exhausted(failed);
            return Ok(HintOutcome::Exhausted);
        };
        self.send(&[DeliveryHint::new(failed, due_at)], lane, now).await?;
        Ok(HintOutcome::Failed)
    }
}

/// What came of a post, as it is measured: statuses by their class.
fn measured_outcome(outcome: &PostOutcome) -> &'static str {
    match outcome {
        PostOutcome::Answered { status: 200..=299, .. } => "delivered",
        PostOutcome::Answered { status: 300..=399, .. } => "http_3xx",
        PostOutcome::Answered { status: 400..=499, .. } => "http_4xx",
        PostOutcome::Answered { .. } => "http_5xx",
        PostOutcome::TimedOut => "timed_out",
        PostOutcome::ConnectionFailed => "connection_failed",
        PostOutcome::TargetRefused => "target_refused",
    }
}

/// Of an event's body, when it happened and whose it is.
#[derive(Deserialize)]
struct Told {
    timestamp: Timestamp,
    data: Subject,
}

#[derive(Deserialize)]
struct Subject {
    id: String,
}

/// Notes which booking a delivery tells of. Returns when that happened; `None` if the body does not say, which is then
/// no event of ours.
fn note_subject(delivery: &Delivery) -> Option<Timestamp> {
    let told: Told = serde_json::from_str(&delivery.body).ok()?;
    if let Ok(booking_id) = BookingId::parse(&told.data.id) {
        record_booking(&booking_id);
    }
    Some(told.timestamp)
}

fn entry(claimed: &Delivery, attempt: &Attempt) -> AttemptEntry {
    let (status, body) = match &attempt.outcome {
        PostOutcome::Answered { status, body, .. } => (Some(*status), Some(body.clone())),
        PostOutcome::TimedOut | PostOutcome::ConnectionFailed | PostOutcome::TargetRefused => (None, None),
    };
    let is_success = status.is_some_and(|status| (200..=299).contains(&status));
    AttemptEntry {
        endpoint_id: claimed.endpoint_id.clone(),
        event_id: claimed.event_id.clone(),
        event_type: claimed.event_type.clone(),
        attempt: claimed.attempt_number(),
        at: attempt.begun_at,
        latency_ms: attempt.latency_ms(),
        status,
        error: (!is_success).then(|| outcome_code(&attempt.outcome)),
        response_body: body.filter(|body| !body.is_empty()),
    }
}
