//! Messages to SQS: timers, refreshes, deliveries, and what was parked. Batches are read entry by entry.

use std::collections::HashMap;
use std::fmt;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, SendMessageBatchRequestEntry,
};
use futures_util::{StreamExt, stream};
use holdfast_app::ports::{
    DeliveryHint, DeliveryQueue, ParkedRecord, RecordParking, RefreshMessage, RefreshQueue, ReplayMessage,
    ReplayQueue, StoreError, TimerMessage, TimerQueue,
};
use holdfast_domain::Timestamp;
use serde::Serialize;

use crate::error::{coded_error, incomplete_request, store_error};
use crate::trace::trace_header;

/// The most entries of a batch (`SendMessageBatch` in the SQS API reference).
const MAX_BATCH_ENTRIES: usize = 10;

/// The most bytes of a batch's bodies together. The service takes 1 MiB by now; 256 KiB is what it has
/// always taken.
const MAX_BATCH_BYTES: usize = 262_144;

/// The longest delay of a message, in seconds (`DelaySeconds` in the SQS API reference).
const MAX_DELAY_S: u64 = 900;

/// How many batches are sent at once.
const CONCURRENT_BATCHES: usize = 4;

/// The status that the failure of a batch's entry stands for where it is the sender's fault.
const STATUS_BAD_REQUEST: u16 = 400;

/// The status that the failure of a batch's entry stands for where it is the service's fault.
const STATUS_UNAVAILABLE: u16 = 503;

const MS_PER_SECOND: u64 = 1_000;
const BATCH_CALL: &str = "SendMessageBatch";

/// A message to be sent.
struct Outgoing {
    body: String,
    delay_s: i32,
}

/// The delay from `now` to `not_before`: whole seconds, rounded up so that the message is not early, and
/// not more than the queue allows.
fn delay_s(now: Timestamp, not_before: Timestamp) -> i32 {
    let delay_s = now.ms_until(not_before).div_ceil(MS_PER_SECOND).min(MAX_DELAY_S);
    i32::try_from(delay_s).unwrap_or(0)
}

fn outgoing(message: &impl Serialize, not_before: Timestamp, now: Timestamp) -> Result<Outgoing, StoreError> {
    Ok(Outgoing { body: json(message)?, delay_s: delay_s(now, not_before) })
}

fn json(message: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(message).map_err(|_| StoreError::Corrupt("a message is not JSON".to_owned()))
}

/// Splits messages into batches of as many as one call may take. A message that is itself too large
/// makes a batch of its own, which the service refuses.
fn batches(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0_usize;
    for message in messages {
        let size = message.body.len();
        match batches.last_mut() {
            Some(batch)
                if batch.len() < MAX_BATCH_ENTRIES && bytes.saturating_add(size) <= MAX_BATCH_BYTES =>
            {
                bytes = bytes.saturating_add(size);
                batch.push(message);
            }
            _ => {
                bytes = size;
                batches.push(vec![message]);
            }
        }
    }
    batches
}

/// Sends all messages; one result each, in order.
async fn send_all(client: &Client, queue_url: &str, messages: Vec<Outgoing>) -> Vec<Result<(), StoreError>> {
    let calls: Vec<_> =
        batches(messages).into_iter().map(|batch| send_batch(client, queue_url, batch)).collect();
    let results: Vec<Vec<_>> = stream::iter(calls).buffered(CONCURRENT_BATCHES).collect().await;
    results.into_iter().flatten().collect()
}

async fn send_batch(client: &Client, queue_url: &str, batch: Vec<Outgoing>) -> Vec<Result<(), StoreError>> {
    let count = batch.len();
    let trace = trace_attribute();
    let entry = |(position, message): (usize, Outgoing)| {
        SendMessageBatchRequestEntry::builder()
            .id(position.to_string())
            .message_body(message.body)
            .delay_seconds(message.delay_s)
            .set_message_system_attributes(trace.clone())
            .build()
            .map_err(|_| incomplete_request(BATCH_CALL))
    };
    let entries: Vec<_> = match batch.into_iter().enumerate().map(entry).collect() {
        Ok(entries) => entries,
        Err(error) => return vec![Err(error); count],
    };
    let call = client.send_message_batch().queue_url(queue_url).set_entries(Some(entries));
    let answer = match call.send().await {
        Ok(answer) => answer,
        Err(error) => return vec![Err(store_error(BATCH_CALL, &error)); count],
    };
    // What the answer does not mention was not surely sent.
    let mut results = vec![Err(StoreError::Unavailable(format!("{BATCH_CALL}: no word on an entry"))); count];
    for sent in answer.successful() {
        set(&mut results, sent.id(), Ok(()));
    }
    for failed in answer.failed() {
        let status = if failed.sender_fault() { STATUS_BAD_REQUEST } else { STATUS_UNAVAILABLE };
        set(&mut results, failed.id(), Err(coded_error(BATCH_CALL, failed.code(), status)));
    }
    results
}

/// What takes the trace along with a message (SQS developer guide, "Message system attributes").
fn trace_attribute() -> Option<HashMap<MessageSystemAttributeNameForSends, MessageSystemAttributeValue>> {
    let value = MessageSystemAttributeValue::builder().data_type("String").string_value(trace_header()?);
    Some(HashMap::from([(MessageSystemAttributeNameForSends::AwsTraceHeader, value.build().ok()?)]))
}

fn set(results: &mut [Result<(), StoreError>], id: &str, result: Result<(), StoreError>) {
    if let Some(slot) = id.parse().ok().and_then(|position: usize| results.get_mut(position)) {
        *slot = result;
    }
}

/// Sends the messages that could be written; one result each, in order.
async fn send_written(
    client: &Client,
    queue_url: &str,
    messages: Vec<Result<Outgoing, StoreError>>,
) -> Vec<Result<(), StoreError>> {
    let mut results = Vec::with_capacity(messages.len());
    let mut written = Vec::with_capacity(messages.len());
    for message in messages {
        results.push(message.map(|message| written.push(message)));
    }
    let mut sent = send_all(client, queue_url, written).await.into_iter();
    for result in results.iter_mut().filter(|result| result.is_ok()) {
        *result = sent.next().unwrap_or_else(|| Err(incomplete_request(BATCH_CALL)));
    }
    results
}

macro_rules! debug_by_name {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(stringify!($name))
            }
        }
    };
}

/// The queue of timers.
#[derive(Clone)]
pub struct SqsTimers {
    client: Client,
    queue_url: String,
}

debug_by_name!(SqsTimers);

impl SqsTimers {
    /// Timers through the queue at `queue_url`.
    pub fn new(client: Client, queue_url: impl Into<String>) -> Self {
        Self { client, queue_url: queue_url.into() }
    }
}

impl TimerQueue for SqsTimers {
    async fn arm(&self, timers: &[TimerMessage], now: Timestamp) -> Vec<Result<(), StoreError>> {
        let messages = timers.iter().map(|timer| outgoing(timer, timer.not_before, now)).collect();
        send_written(&self.client, &self.queue_url, messages).await
    }
}

/// The queue of refreshes.
#[derive(Clone)]
pub struct SqsRefreshes {
    client: Client,
    queue_url: String,
}

debug_by_name!(SqsRefreshes);

impl SqsRefreshes {
    /// Refreshes through the queue at `queue_url`.
    pub fn new(client: Client, queue_url: impl Into<String>) -> Self {
        Self { client, queue_url: queue_url.into() }
    }
}

impl RefreshQueue for SqsRefreshes {
    async fn send(&self, messages: &[RefreshMessage], now: Timestamp) -> Vec<Result<(), StoreError>> {
        let messages = messages.iter().map(|message| outgoing(message, message.not_before, now)).collect();
        send_written(&self.client, &self.queue_url, messages).await
    }
}

/// The queues of deliveries.
#[derive(Clone)]
pub struct SqsDeliveries {
    client: Client,
    queue_url: String,
    slow_queue_url: String,
}

debug_by_name!(SqsDeliveries);

impl SqsDeliveries {
    /// Deliveries through the queue at `queue_url`, those of slow endpoints through `slow_queue_url`.
    pub fn new(client: Client, queue_url: impl Into<String>, slow_queue_url: impl Into<String>) -> Self {
        Self { client, queue_url: queue_url.into(), slow_queue_url: slow_queue_url.into() }
    }
}

impl DeliveryQueue for SqsDeliveries {
    async fn send(&self, hints: &[DeliveryHint], slow: bool, now: Timestamp) -> Vec<Result<(), StoreError>> {
        let queue_url = if slow { &self.slow_queue_url } else { &self.queue_url };
        let messages = hints.iter().map(|hint| outgoing(hint, hint.not_before, now)).collect();
        send_written(&self.client, queue_url, messages).await
    }
}

impl ReplayQueue for SqsDeliveries {
    async fn ask(&self, replay: &ReplayMessage, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        ask(&self.client, &self.slow_queue_url, replay, at, now).await
    }
}

/// The queue of the slow, for whoever asks for replays and sends no deliveries.
#[derive(Clone)]
pub struct SqsReplays {
    client: Client,
    slow_queue_url: String,
}

debug_by_name!(SqsReplays);

impl SqsReplays {
    /// Replays through the queue at `slow_queue_url`.
    pub fn new(client: Client, slow_queue_url: impl Into<String>) -> Self {
        Self { client, slow_queue_url: slow_queue_url.into() }
    }
}

impl ReplayQueue for SqsReplays {
    async fn ask(&self, replay: &ReplayMessage, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        ask(&self.client, &self.slow_queue_url, replay, at, now).await
    }
}

/// A replay as a message, which is told from a hint by its only member.
#[derive(Serialize)]
struct Replay<'a> {
    replay: &'a ReplayMessage,
}

async fn ask(
    client: &Client,
    queue_url: &str,
    replay: &ReplayMessage,
    not_before: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let call = client.send_message().queue_url(queue_url).message_body(json(&Replay { replay })?);
    let call = call.delay_seconds(delay_s(now, not_before));
    call.send().await.map_err(|error| store_error("SendMessage", &error))?;
    Ok(())
}

/// The queues of parked records and of bookings that somebody has to look at.
#[derive(Clone)]
pub struct SqsParking {
    client: Client,
    parked_queue_url: String,
    dead_letter_queue_url: String,
}

debug_by_name!(SqsParking);

impl SqsParking {
    /// Parks records in one queue and raises bookings in the other.
    pub fn new(
        client: Client,
        parked_queue_url: impl Into<String>,
        dead_letter_queue_url: impl Into<String>,
    ) -> Self {
        Self {
            client,
            parked_queue_url: parked_queue_url.into(),
            dead_letter_queue_url: dead_letter_queue_url.into(),
        }
    }

    async fn send(&self, queue_url: &str, record: &ParkedRecord) -> Result<(), StoreError> {
        let call = self.client.send_message().queue_url(queue_url).message_body(json(record)?);
        call.send().await.map_err(|error| store_error("SendMessage", &error))?;
        Ok(())
    }
}

impl RecordParking for SqsParking {
    async fn park(&self, record: &ParkedRecord) -> Result<(), StoreError> {
        self.send(&self.parked_queue_url, record).await
    }

    async fn dead_letter(&self, record: &ParkedRecord) -> Result<(), StoreError> {
        self.send(&self.dead_letter_queue_url, record).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms).unwrap()
    }

    #[test]
    fn a_delay_is_never_short_and_never_longer_than_allowed() {
        let now = at(1_000_000);
        for (not_before, expected_s) in
            [(0, 0), (1_000_000, 0), (1_000_001, 1), (1_001_000, 1), (1_001_001, 2), (9_000_000_000, 900)]
        {
            assert_eq!(delay_s(now, at(not_before)), expected_s, "{not_before}");
        }
    }

    #[test]
    fn batches_keep_both_limits_and_the_order() {
        let messages = |sizes: &[usize]| {
            sizes.iter().map(|size| Outgoing { body: "x".repeat(*size), delay_s: 0 }).collect::<Vec<_>>()
        };
        let sizes = |sizes: &[usize]| -> Vec<Vec<usize>> {
            let batches = batches(messages(sizes));
            batches.iter().map(|batch| batch.iter().map(|message| message.body.len()).collect()).collect()
        };
        assert_eq!(sizes(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(sizes(&[1; 25]).iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(sizes(&[200_000, 62_144, 1]), [vec![200_000, 62_144], vec![1]]);
        assert_eq!(sizes(&[1, 300_000, 1]), [vec![1], vec![300_000], vec![1]]);
    }
}
