//! The EventBridge bus. Batches are read entry by entry.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use futures_util::{StreamExt, stream};
use holdfast_app::ports::{EventBus, OutgoingEvent, StoreError};
use holdfast_domain::{BookingId, Tenant, WebhookEndpointId};

use crate::error::{coded_error, store_error};
use crate::trace::trace_header;

/// The `source` of every event.
pub const EVENT_SOURCE: &str = "holdfast";

/// What the resource begins with that names an event's tenant.
const TENANT_RESOURCE: &str = "urn:holdfast:tenant:";

const BOOKING_RESOURCE: &str = "urn:holdfast:booking:";
const ENDPOINT_RESOURCE: &str = "urn:holdfast:webhook-endpoint:";
const OTHER_RESOURCE: &str = "urn:holdfast:subject:";

/// The most entries of a batch (`PutEvents` in the EventBridge API reference).
const MAX_BATCH_ENTRIES: usize = 10;

/// The most bytes of a batch's entries together: the size that the service has always taken.
const MAX_BATCH_BYTES: usize = 262_144;

/// What the time of an entry counts, in bytes (EventBridge user guide, "Calculating `PutEvents` event entry
/// size").
const TIME_BYTES: usize = 14;

/// How many batches are sent at once.
const CONCURRENT_BATCHES: usize = 4;

/// The status that the failure of a batch's entry stands for, unless its code says otherwise.
const STATUS_BAD_REQUEST: u16 = 400;

/// Codes of entries that failed for a moment only.
const PASSING_ENTRY_CODES: [&str; 2] = ["InternalException", "InternalFailure"];

const CALL: &str = "PutEvents";

/// The tenant that the resources of an event name.
pub fn tenant_of_resources<'a>(resources: impl IntoIterator<Item = &'a str>) -> Option<Tenant> {
    resources.into_iter().find_map(|resource| Tenant::parse(resource.strip_prefix(TENANT_RESOURCE)?))
}

/// The webhook endpoint that the resources of an event name, if it is about one.
pub fn endpoint_of_resources<'a>(resources: impl IntoIterator<Item = &'a str>) -> Option<WebhookEndpointId> {
    let named = |resource: &'a str| WebhookEndpointId::parse(resource.strip_prefix(ENDPOINT_RESOURCE)?).ok();
    resources.into_iter().find_map(named)
}

/// The booking that an event's resources name, if they name one.
pub fn booking_of_resources<'a>(resources: impl IntoIterator<Item = &'a str>) -> Option<BookingId> {
    let named = |resource: &'a str| BookingId::parse(resource.strip_prefix(BOOKING_RESOURCE)?).ok();
    resources.into_iter().find_map(named)
}

fn resources(event: &OutgoingEvent) -> [String; 2] {
    let subject = event.subject.as_str();
    let kind = if subject.starts_with(BookingId::PREFIX) {
        BOOKING_RESOURCE
    } else if subject.starts_with(WebhookEndpointId::PREFIX) {
        ENDPOINT_RESOURCE
    } else {
        OTHER_RESOURCE
    };
    [format!("{TENANT_RESOURCE}{}", event.tenant), format!("{kind}{subject}")]
}

fn size_bytes(event: &OutgoingEvent) -> usize {
    let resources: usize = resources(event).iter().map(String::len).sum();
    TIME_BYTES + EVENT_SOURCE.len() + event.event_type.len() + event.body.len() + resources
}

/// Splits events into batches of as many as one call may take.
fn batches(events: &[OutgoingEvent]) -> Vec<&[OutgoingEvent]> {
    let mut batches = Vec::new();
    let (mut begin, mut bytes) = (0, 0_usize);
    for (position, event) in events.iter().enumerate() {
        let size = size_bytes(event);
        let full = position - begin >= MAX_BATCH_ENTRIES || bytes.saturating_add(size) > MAX_BATCH_BYTES;
        if full && position > begin {
            batches.push(&events[begin..position]);
            (begin, bytes) = (position, 0);
        }
        bytes = bytes.saturating_add(size);
    }
    if begin < events.len() {
        batches.push(&events[begin..]);
    }
    batches
}

/// The bus.
#[derive(Clone)]
pub struct EventBridgeBus {
    client: Client,
    bus_name: String,
}

impl fmt::Debug for EventBridgeBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventBridgeBus").field("bus", &self.bus_name).finish_non_exhaustive()
    }
}

impl EventBridgeBus {
    /// The bus of this name or ARN.
    pub fn new(client: Client, bus_name: impl Into<String>) -> Self {
        Self { client, bus_name: bus_name.into() }
    }

    fn entry(&self, event: &OutgoingEvent) -> PutEventsRequestEntry {
        let since_epoch = Duration::from_millis(u64::try_from(event.at.as_unix_ms()).unwrap_or(0));
        PutEventsRequestEntry::builder()
            .event_bus_name(&self.bus_name)
            .source(EVENT_SOURCE)
            .detail_type(&event.event_type)
            .detail(&event.body)
            .time(DateTime::from(UNIX_EPOCH + since_epoch))
            .set_resources(Some(resources(event).to_vec()))
            .set_trace_header(trace_header())
            .build()
    }

    async fn put(&self, batch: &[OutgoingEvent]) -> Vec<Result<(), StoreError>> {
        let entries = batch.iter().map(|event| self.entry(event)).collect();
        let answer = match self.client.put_events().set_entries(Some(entries)).send().await {
            Ok(answer) => answer,
            Err(error) => return vec![Err(store_error(CALL, &error)); batch.len()],
        };
        let mut results: Vec<_> =
            answer.entries().iter().map(|entry| entry_result(entry.error_code())).collect();
        // What the answer does not mention was not surely published.
        results.resize(batch.len(), Err(StoreError::Unavailable(format!("{CALL}: no word on an entry"))));
        results
    }
}

fn entry_result(error_code: Option<&str>) -> Result<(), StoreError> {
    match error_code {
        None => Ok(()),
        Some(code) if PASSING_ENTRY_CODES.contains(&code) => {
            Err(StoreError::Unavailable(format!("{CALL}: {code}")))
        }
        Some(code) => Err(coded_error(CALL, code, STATUS_BAD_REQUEST)),
    }
}

impl EventBus for EventBridgeBus {
    async fn publish(&self, events: &[OutgoingEvent]) -> Vec<Result<(), StoreError>> {
        let puts: Vec<_> = batches(events).into_iter().map(|batch| self.put(batch)).collect();
        let results: Vec<Vec<_>> = stream::iter(puts).buffered(CONCURRENT_BATCHES).collect().await;
        results.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::Timestamp;

    use super::*;

    fn event(body_bytes: usize) -> OutgoingEvent {
        OutgoingEvent {
            event_type: "booking.created".into(),
            at: Timestamp::EPOCH,
            tenant: Tenant::parse("test:demo-marketplace").unwrap(),
            subject: BookingId::from_bytes([1; 16]).to_string(),
            body: "x".repeat(body_bytes),
        }
    }

    #[test]
    fn the_tenant_travels_in_the_resources() {
        let event = event(1);
        let resources = resources(&event);
        assert_eq!(tenant_of_resources(resources.iter().map(String::as_str)), Some(event.tenant));
        assert_eq!(tenant_of_resources(["urn:holdfast:booking:x", "urn:holdfast:tenant:nobody"]), None);
    }

    #[test]
    fn the_endpoint_travels_in_the_resources() {
        let id = WebhookEndpointId::from_bytes([1; 16]);
        let about = OutgoingEvent { subject: id.to_string(), ..event(1) };
        let named = |event| endpoint_of_resources(resources(event).iter().map(String::as_str));
        assert_eq!((named(&about), named(&event(1))), (Some(id), None));
    }

    #[test]
    fn batches_keep_both_limits_and_the_order() {
        let lengths = |sizes: &[usize]| -> Vec<usize> {
            let events: Vec<_> = sizes.iter().map(|size| event(*size)).collect();
            batches(&events).iter().map(|batch| batch.len()).collect()
        };
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&[1; 25]), [10, 10, 5]);
        assert_eq!(lengths(&[200_000, 62_000, 1]), [1, 2]);
        assert_eq!(lengths(&[300_000, 1]), [1, 1]);
    }

    #[test]
    fn failed_entries_are_told_apart() {
        assert_eq!(entry_result(None), Ok(()));
        assert!(matches!(entry_result(Some("InternalFailure")), Err(StoreError::Unavailable(_))));
        assert!(matches!(entry_result(Some("ThrottlingException")), Err(StoreError::Unavailable(_))));
        assert!(matches!(entry_result(Some("MalformedDetail")), Err(StoreError::Refused(_))));
    }
}
