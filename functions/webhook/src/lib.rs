//! Messages of three queues: events from the bus, hints of deliveries to quick and to slow endpoints, and
//! replays.
//!
//! A message is read and handed to the use case. One that cannot be read fails, so that it ends in its
//! queue's dead-letter queue; nothing of its body is logged.

use std::sync::Arc;

use holdfast_app::deliveries::{Deliveries, DeliveryError, HintOutcome, IncomingEvent, Lane};
use holdfast_app::feed::FeedAppender;
use holdfast_app::ports::{
    AttemptLog, Clock, DeliveryHint, DeliveryQueue, DeliveryStore, EndpointStore, Entropy, EventBus,
    EventFeed, NewEntry, ReplayMessage, ReplayQueue, StoreError, WebhookSender,
};
use holdfast_aws::{EVENT_SOURCE, booking_of_resources, endpoint_of_resources, tenant_of_resources};
use holdfast_domain::EventId;
use holdfast_lambda::batch::QueueMessage;
use holdfast_lambda::telemetry::record_booking;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Why a message was not worked on. It has to come again. It holds nothing of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The message is neither an event of Holdfast's bus nor a hint nor a replay.
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
    /// The event could not be appended to the feed. Its endpoints may have it all the same.
    #[error("an event could not be appended to the feed: {0}")]
    Feed(#[source] StoreError),
    /// The event could not be given to all endpoints.
    #[error("an event could not be given to all endpoints: {0}")]
    FanOut(#[source] StoreError),
    /// The delivery could not be worked on.
    #[error("a delivery could not be worked on: {0}")]
    Delivery(#[source] DeliveryError),
    /// The replay could not be worked on.
    #[error("a replay could not be worked on: {0}")]
    Replay(#[source] DeliveryError),
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// An event, as EventBridge's rule passes it on.
    Event(IncomingEvent),
    /// A delivery to look at.
    Hint(DeliveryHint),
    /// Deliveries to make again.
    Replay(ReplayMessage),
}

/// Tells an event and a replay from a hint, which has no such member.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    #[serde(default)]
    replay: Option<ReplayMessage>,
}

/// The envelope of an event (EventBridge user guide, "Event structure").
#[derive(Deserialize)]
struct Envelope<'a> {
    source: String,
    resources: Vec<String>,
    /// The event's body, of which not a byte is changed, since it is signed and compared as it is.
    #[serde(borrow)]
    detail: &'a RawValue,
}

/// Of an event's body, what its delivery goes by.
#[derive(Deserialize)]
struct Detail {
    id: String,
}

/// Reads a message's body.
pub fn read(body: &str) -> Result<Incoming, MessageError> {
    let kind: Kind = serde_json::from_str(body).map_err(|_| MessageError::Malformed("no JSON object"))?;
    match (kind.detail_type, kind.replay) {
        (Some(event_type), _) => read_event(body, event_type).map(Incoming::Event),
        (None, Some(replay)) => Ok(Incoming::Replay(replay)),
        (None, None) => serde_json::from_str(body)
            .map(Incoming::Hint)
            .map_err(|_| MessageError::Malformed("neither an event nor a hint")),
    }
}

fn read_event(body: &str, event_type: String) -> Result<IncomingEvent, MessageError> {
    let malformed = MessageError::Malformed;
    let envelope: Envelope<'_> = serde_json::from_str(body)
        .map_err(|_| malformed("an envelope without source, resources or detail"))?;
    if envelope.source != EVENT_SOURCE {
        return Err(malformed("an event of another source"));
    }
    let detail = envelope.detail.get();
    let resources = || envelope.resources.iter().map(String::as_str);
    let id = serde_json::from_str::<Detail>(detail).map_err(|_| malformed("an event without an id"))?.id;
    Ok(IncomingEvent {
        tenant: tenant_of_resources(resources()).ok_or(malformed("an event without a tenant"))?,
        id: EventId::parse(&id).map_err(|_| malformed("an event with a malformed id"))?,
        event_type,
        about_booking: booking_of_resources(resources()),
        about_endpoint: endpoint_of_resources(resources()),
        body: detail.to_owned(),
    })
}

/// The name of a queue, which is the end of its URL as of its ARN.
pub fn queue_name(queue_url: &str) -> String {
    queue_url.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Service<F, E, S, Q, W, B, C, R> {
    /// Appends events to the feed.
    pub feed: FeedAppender<F, C>,
    /// Takes events to endpoints.
    pub deliveries: Deliveries<E, S, Q, W, B, C, R>,
    /// The queue whose hints are of slow endpoints.
    pub slow_queue_name: String,
}

impl<F, E, S, Q, W, B, C, R> Service<F, E, S, Q, W, B, C, R>
where
    F: EventFeed,
    E: EndpointStore,
    S: DeliveryStore + AttemptLog,
    Q: DeliveryQueue + ReplayQueue,
    W: WebhookSender,
    B: EventBus,
    C: Clock,
    R: Entropy,
{
    /// Works on one message. An error means that it has to come again.
    pub async fn on_message(self: Arc<Self>, message: QueueMessage) -> Result<(), MessageError> {
        match read(&message.body)? {
            Incoming::Event(event) => {
                if let Some(booking_id) = &event.about_booking {
                    record_booking(booking_id);
                }
                // Neither waits for the other; both take an event once, however often it comes.
                let (appended, endpoints) = tokio::join!(
                    self.feed.append(&event.tenant, entry(&event)),
                    self.deliveries.fan_out(&event)
                );
                let endpoints = endpoints.map_err(MessageError::FanOut)?;
                appended.map_err(MessageError::Feed)?;
                tracing::info!(
                    event.id = %event.id,
                    event.r#type = event.event_type,
                    webhook_endpoint.count = endpoints,
                    "An event is on its way to its endpoints."
                );
            }
            Incoming::Hint(hint) => {
                let is_slow = message.queue_name == self.slow_queue_name;
                let lane = if is_slow { Lane::Slow } else { Lane::Quick };
                let outcome = self.deliveries.deliver(&hint, lane).await.map_err(MessageError::Delivery)?;
                log_quiet(&hint, outcome);
            }
            Incoming::Replay(replay) => {
                let begun = self.deliveries.replay(&replay).await.map_err(MessageError::Replay)?;
                tracing::info!(
                    webhook_endpoint.id = replay.endpoint_id,
                    delivery.count = begun,
                    "Deliveries are made again."
                );
            }
        }
        Ok(())
    }
}

fn entry(event: &IncomingEvent) -> NewEntry {
    NewEntry { event_id: event.id.clone(), event_type: event.event_type.clone(), body: event.body.clone() }
}

/// Attempts and ends are logged where they happen; what did nothing is only for whoever looks closely.
fn log_quiet(hint: &DeliveryHint, outcome: HintOutcome) {
    match outcome {
        HintOutcome::Nothing | HintOutcome::PassedOn => {
            tracing::debug!(
                webhook_endpoint.id = hint.endpoint_id,
                event.id = hint.event_id,
                hint.outcome = ?outcome,
                "A hint did nothing by itself."
            );
        }
        HintOutcome::Delivered | HintOutcome::Failed | HintOutcome::Exhausted => {}
    }
}

#[cfg(test)]
mod queue_tests;

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT_ID: &str = "evt_00000000000000000000000000";

    fn envelope(source: &str, resource: &str, detail: &str) -> String {
        format!(
            r#"{{"version":"0","id":"x","detail-type":"booking.confirmed","source":"{source}","account":"1",
            "time":"2027-01-15T09:00:00Z","region":"eu-central-1","resources":["urn:other","{resource}"],
            "detail":{detail}}}"#
        )
    }

    #[test]
    fn the_bytes_of_an_event_stay_as_they_are() {
        let detail = format!(r#"{{ "id": "{EVENT_ID}",  "n": 1.00, "text": "\u00e9 é", "z": 1, "a": 2 }}"#);
        let Ok(Incoming::Event(event)) =
            read(&envelope("holdfast", "urn:holdfast:tenant:live:shop", &detail))
        else {
            panic!("an event is an event");
        };
        assert_eq!(event.body, detail);
        assert_eq!(event.id.as_str(), EVENT_ID);
        assert_eq!(event.event_type, "booking.confirmed");
        assert_eq!(event.tenant.to_string(), "live:shop");
    }

    #[test]
    fn a_hint_is_a_hint() {
        let hint = r#"{"tenant":"live:shop","endpoint_id":"whe_x","event_id":"evt_x",
            "not_before":"2027-01-15T09:00:00Z"}"#;
        assert!(matches!(read(hint), Ok(Incoming::Hint(hint)) if hint.tenant == "live:shop"));
    }

    #[test]
    fn a_replay_is_a_replay() {
        let replay = r#"{"replay":{"tenant":"live:shop","endpoint_id":"whe_x","only_failed":true,"after":null,
            "since":"2027-01-15T09:00:00Z","until":"2027-01-16T09:00:00Z",
            "requested_at":"2027-01-16T09:00:00Z"}}"#;
        assert!(matches!(read(replay), Ok(Incoming::Replay(replay)) if replay.only_failed));
    }

    #[test]
    fn an_event_says_which_endpoint_it_is_about() {
        let about = |resource: &str| {
            let detail = format!(r#"{{"id":"{EVENT_ID}"}}"#);
            let body = envelope("holdfast", "urn:holdfast:tenant:live:shop", &detail);
            match read(&body.replace("urn:other", resource)) {
                Ok(Incoming::Event(event)) => event.about_endpoint.map(|id| id.to_string()),
                other => panic!("{other:?} is no event"),
            }
        };
        let id = "whe_00000000000000000000000000";
        assert_eq!(about(&format!("urn:holdfast:webhook-endpoint:{id}")).as_deref(), Some(id));
        assert_eq!(about("urn:holdfast:booking:x"), None);
        let booking = "bkg_00000000000000000000000000";
        let body =
            envelope("holdfast", "urn:holdfast:tenant:live:shop", &format!(r#"{{"id":"{EVENT_ID}"}}"#));
        let Ok(Incoming::Event(event)) =
            read(&body.replace("urn:other", &format!("urn:holdfast:booking:{booking}")))
        else {
            panic!("an event is an event")
        };
        assert_eq!(event.about_booking.map(|id| id.to_string()).as_deref(), Some(booking));
    }

    #[test]
    fn what_is_malformed_fails_without_a_word_of_it() {
        let tenant = "urn:holdfast:tenant:live:shop";
        let detail = format!(r#"{{"id":"{EVENT_ID}"}}"#);
        for body in [
            String::new(),
            "secret".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"detail-type":"secret"}"#.to_owned(),
            envelope("aws.events", tenant, &detail),
            envelope("holdfast", "urn:holdfast:tenant:secret", &detail),
            envelope("holdfast", tenant, r#"{"name":"secret"}"#),
            envelope("holdfast", tenant, r#"{"id":"secret"}"#),
            envelope("holdfast", tenant, "7"),
        ] {
            let Err(error) = read(&body) else { panic!("{body} is malformed") };
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn a_queue_is_known_by_its_name() {
        assert_eq!(queue_name("https://sqs.eu-central-1.amazonaws.com/123/stack-Slow-1X"), "stack-Slow-1X");
    }
}
