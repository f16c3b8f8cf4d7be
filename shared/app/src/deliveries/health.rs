//! How endpoints fare: how fast they answer, since when they fail, when they are disabled; and the events
//! that tell of it.
//!
//! An event is published before the write that it tells of. Its identifier is derived, so that doing both
//! again tells nothing new; and nothing that happened stays untold. No event about an endpoint goes to that
//! endpoint, and that an event of this kind could not be delivered is not told.

use holdfast_domain::{EventId, Timestamp};
use serde_json::{Map, Value, json};

use super::attempt::Attempt;
use super::{Deliveries, Lane, MAX_CONFLICTS, too_many_conflicts};
use crate::metrics::ENDPOINTS_DISABLED;
use crate::ports::{
    AttemptLog, Clock, DeliveryQueue, DeliveryStore, EndpointStore, EndpointUpdate, Entropy, EventBus,
    OutgoingEvent, PostOutcome, ReplayQueue, StoreError, WebhookSender,
};
use crate::webhook::{
    DELIVERY_EXHAUSTED, Delivery, DisabledReason, ENDPOINT_DISABLED, POST_LIMIT_MS, Speed, WebhookEndpoint,
    endpoint_view,
};

/// How long an endpoint may take to answer and still count as quick, in milliseconds. When one stops to answer,
/// the attempts that are begun in this time hold their workers of the quick queue until the limit, and no
/// others do.
const PATIENCE_MS: u64 = 500;

/// How long an endpoint that is known to be slow may take before it is tried a little at a time, in
/// milliseconds. More than [`PATIENCE_MS`], so that one that answers slowly, but answers, is not held back.
const SLOW_PATIENCE_MS: u64 = 2_000;

/// For how long an endpoint counts as slow that does not answer quickly again, in milliseconds: a day.
const SLOW_FOR_MS: u64 = 24 * 60 * 60 * 1_000;

/// For how long an endpoint that did not answer at all is tried a little at a time, in milliseconds: an hour.
/// An answer ends it.
const HUNG_FOR_MS: u64 = 60 * 60 * 1_000;

/// What the types of events about endpoints and deliveries begin with.
const OWN_EVENTS: &str = "webhook";

/// What came of the wish to disable an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disabling {
    /// It is disabled now, and that was told.
    Done,
    /// There is no reason for it, or none any more.
    NotNeeded,
    /// Somebody else disabled or removed it meanwhile.
    AlreadyOff,
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
    /// Notes that an endpoint does not answer in time, unless that was noted lately.
    pub(super) async fn mark_slow(&self, endpoint: &WebhookEndpoint) {
        let now = self.clock.now();
        let known_until = endpoint.speed.slow_until.filter(|_| is_known_slow(endpoint, now));
        let is_held_back = endpoint.speed.hung_until.is_some_and(|until| until > now);
        if known_until.is_none() || !is_held_back {
            let slow_until = known_until.or_else(|| Some(now.plus_ms(SLOW_FOR_MS)));
            // Whether it hangs is known when the limit is over; until then it is tried little.
            let hung_until = Some(now.plus_ms(POST_LIMIT_MS));
            self.mark_speed(endpoint, Speed { slow_until, hung_until }).await;
        }
    }

    /// Notes how fast an endpoint was. Returns the queue for its next deliveries.
    pub(super) async fn note_speed(&self, endpoint: &WebhookEndpoint, attempt: &Attempt) -> Lane {
        let now = attempt.ended_at;
        let is_quick = attempt.latency_ms() < PATIENCE_MS;
        match attempt.outcome {
            PostOutcome::TimedOut => {
                let until = |for_ms| Some(now.plus_ms(for_ms));
                let speed = Speed { slow_until: until(SLOW_FOR_MS), hung_until: until(HUNG_FOR_MS) };
                self.mark_speed(endpoint, speed).await;
                Lane::Slow
            }
            PostOutcome::Answered { .. } if is_quick => {
                if endpoint.speed != Speed::default() {
                    self.mark_speed(endpoint, Speed::default()).await;
                }
                Lane::Quick
            }
            PostOutcome::Answered { .. } => {
                // This very attempt held it back if it took so long.
                let was_held_back = attempt.latency_ms() >= patience_ms(endpoint, attempt.begun_at);
                if endpoint.speed.hung_until.is_some() || was_held_back {
                    let slow_until = Some(now.plus_ms(SLOW_FOR_MS));
                    self.mark_speed(endpoint, Speed { slow_until, hung_until: None }).await;
                }
                Lane::Slow
            }
            PostOutcome::ConnectionFailed | PostOutcome::TargetRefused => {
                if is_quick {
                    Lane::of(endpoint, now)
                } else {
                    Lane::Slow
                }
            }
        }
    }

    /// Which queue serves an endpoint is a matter of speed alone, so that a failure to write it down fails
    /// nothing else.
    async fn mark_speed(&self, endpoint: &WebhookEndpoint, speed: Speed) {
        if let Err(error) = self.endpoints.mark_speed(&endpoint.tenant, &endpoint.id, speed).await {
            tracing::warn!(webhook_endpoint.id = %endpoint.id, %error, "An endpoint's speed could not be noted.");
        }
    }

    /// Notes since when an endpoint fails. The next attempt notes it if this one cannot, so that a failure to
    /// write it down fails nothing else.
    pub(super) async fn mark_failing(&self, endpoint: &WebhookEndpoint, since: Option<Timestamp>) {
        if let Err(error) = self.endpoints.mark_failing(&endpoint.tenant, &endpoint.id, since).await {
            tracing::warn!(
                webhook_endpoint.id = %endpoint.id,
                %error,
                "An endpoint's failing or recovery could not be noted."
            );
        }
    }

    /// Notes that an attempt failed, and disables the endpoint if it has failed for too long.
    pub(super) async fn note_failure(
        &self,
        endpoint: &WebhookEndpoint,
        now: Timestamp,
    ) -> Result<Disabling, StoreError> {
        if endpoint.failing_since.is_none() {
            self.mark_failing(endpoint, Some(now)).await;
            return Ok(Disabling::NotNeeded);
        }
        if !endpoint.has_failed_too_long(now) {
            return Ok(Disabling::NotNeeded);
        }
        self.disable(endpoint, DisabledReason::Failing, now).await
    }

    /// Disables an endpoint if it still is what it was when `attempted`: whoever gave it another URL, or
    /// heard a success from it, has made the reason void.
    pub(super) async fn disable(
        &self,
        attempted: &WebhookEndpoint,
        reason: DisabledReason,
        now: Timestamp,
    ) -> Result<Disabling, StoreError> {
        let (tenant, id) = (&attempted.tenant, &attempted.id);
        for _ in 0..MAX_CONFLICTS {
            let Some(current) = self.endpoints.endpoint(tenant, id).await?.filter(|current| current.enabled)
            else {
                return Ok(Disabling::AlreadyOff);
            };
            let holds = match reason {
                DisabledReason::Gone => true,
                DisabledReason::Failing => current.has_failed_too_long(now),
            };
            if !holds || current.url != attempted.url {
                return Ok(Disabling::NotNeeded);
            }
            self.publish_disabled(&current, reason, now).await?;
            if self.endpoints.disable(tenant, id, current.rev, reason).await? == EndpointUpdate::Done {
                let reason = reason.as_str();
                ENDPOINTS_DISABLED.record([reason], 1);
                tracing::warn!(webhook_endpoint.id = %id, reason, "An endpoint is disabled.");
                return Ok(Disabling::Done);
            }
        }
        Err(too_many_conflicts())
    }

    async fn publish_disabled(
        &self,
        endpoint: &WebhookEndpoint,
        reason: DisabledReason,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // How often it was disabled tells this time from others, whoever and how many find it out. What is told
        // may not come to pass, and then the next time has the same number; since when it fails, and where it
        // is, tell those apart.
        let nth = endpoint.times_disabled.saturating_add(1);
        let failing_since_ms = endpoint.failing_since.map_or(0, Timestamp::as_unix_ms);
        let subject = format!("{}/{failing_since_ms}/{}", endpoint.id, endpoint.url);
        let id = EventId::derived(&subject, nth, ENDPOINT_DISABLED);
        let more = [("reason", json!(reason.as_str()))];
        self.publish(&id, ENDPOINT_DISABLED, &endpoint.disabled(reason), more, now).await
    }

    /// Tells that a delivery is given up.
    pub(super) async fn publish_exhausted(
        &self,
        delivery: &Delivery,
        endpoint: &WebhookEndpoint,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if delivery.event_type.starts_with(OWN_EVENTS) {
            return Ok(());
        }
        let subject = format!("{}/{}", delivery.endpoint_id, delivery.event_id);
        let id = EventId::derived(&subject, delivery.round, DELIVERY_EXHAUSTED);
        let more = [
            ("event_id", json!(delivery.event_id.as_str())),
            ("event_type", json!(delivery.event_type)),
            ("attempts", json!(delivery.attempt_number())),
            ("last_error", json!(delivery.last_error)),
        ];
        self.publish(&id, DELIVERY_EXHAUSTED, endpoint, more, now).await
    }

    async fn publish<const N: usize>(
        &self,
        id: &EventId,
        event_type: &str,
        endpoint: &WebhookEndpoint,
        more: [(&str, Value); N],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut data = endpoint_view(endpoint, now);
        if let Value::Object(members) = &mut data {
            members.extend(
                more.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Map<_, _>>(),
            );
        }
        let event = OutgoingEvent {
            event_type: event_type.to_owned(),
            at: now,
            tenant: endpoint.tenant.clone(),
            subject: endpoint.id.as_str().to_owned(),
            body: event_body(id, event_type, now, &data),
        };
        self.bus.publish(&[event]).await.into_iter().collect()
    }
}

/// How long an attempt at an endpoint may take before something is noted of it, in milliseconds.
pub(super) fn patience_ms(endpoint: &WebhookEndpoint, now: Timestamp) -> u64 {
    if is_known_slow(endpoint, now) { SLOW_PATIENCE_MS } else { PATIENCE_MS }
}

/// Whether an endpoint was lately noted to be slow.
fn is_known_slow(endpoint: &WebhookEndpoint, now: Timestamp) -> bool {
    endpoint.speed.slow_until.is_some_and(|until| until >= now.plus_ms(SLOW_FOR_MS / 2))
}

/// The body of an event, as it is everywhere.
pub(crate) fn event_body(id: &EventId, event_type: &str, at: Timestamp, data: &Value) -> String {
    json!({"id": id.as_str(), "type": event_type, "timestamp": at, "data": data}).to_string()
}

/// A short code for what came of a post.
pub(crate) fn outcome_code(outcome: &PostOutcome) -> String {
    match outcome {
        PostOutcome::Answered { status, .. } => format!("http_{status}"),
        PostOutcome::TimedOut => "timed_out".to_owned(),
        PostOutcome::ConnectionFailed => "connection_failed".to_owned(),
        PostOutcome::TargetRefused => "target_refused".to_owned(),
    }
}
