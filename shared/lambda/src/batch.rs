//! Batches: messages of queues, records of streams, and the schedule.
//!
//! Each message is handled for itself, all of a batch concurrently; one that fails, panics or runs out of
//! time comes again alone. Bodies are never logged. What a message means is the handler's affair.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::dynamodb::{Event as StreamEvent, EventRecord};
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use futures_util::{FutureExt, StreamExt, stream};
use holdfast_app::ports::Clock;
use holdfast_domain::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::http::deadline;
use crate::log_output::together;
use crate::observed::{Work, observed};
use crate::runtime::{self, Context};
use crate::{RunError, SystemClock};

/// The most messages that are handled at once; batches are usually smaller.
const MAX_CONCURRENT_MESSAGES: usize = 100;

/// As what invocations and messages are traced.
const INVOCATION: &str = "invocation";
const MESSAGE: &str = "message";

/// The invocation that brought a batch.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// As what it is observed.
    work: Work,
    /// When everything has to be done: the end of the invocation less a margin for the answer.
    pub deadline: Timestamp,
}

impl Invocation {
    /// One that is logged under `request_id`, of no trace.
    pub fn new(request_id: &str, deadline: Timestamp) -> Self {
        Self { work: Work::untraced(INVOCATION, request_id), deadline }
    }

    fn of(context: &Context) -> Self {
        let work = Work::new(INVOCATION, &context.request_id, context);
        Self { work, deadline: deadline(context, SystemClock.now()) }
    }

    /// Under which it is logged.
    pub fn request_id(&self) -> &str {
        self.work.request_id()
    }
}

/// A message of a queue.
#[derive(Clone, PartialEq, Eq)]
pub struct QueueMessage {
    /// The queue's own identifier of it.
    pub id: String,
    /// The body.
    pub body: String,
    /// The name of the queue that it came from; empty if it is not told.
    pub queue_name: String,
    /// How often it was received, this time included.
    pub receive_count: u32,
}

impl fmt::Debug for QueueMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "QueueMessage({})", self.id)
    }
}

impl QueueMessage {
    fn new(message: SqsMessage) -> Self {
        let receive_count = message.attributes.get("ApproximateReceiveCount");
        Self {
            id: message.message_id.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
            queue_name: message
                .event_source_arn
                .and_then(|arn| arn.rsplit(':').next().map(str::to_owned))
                .unwrap_or_default(),
            receive_count: receive_count.and_then(|count| count.parse().ok()).unwrap_or(1),
        }
    }
}

/// What a function for messages was invoked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Messages of a queue.
    Messages(Vec<QueueMessage>),
    /// A schedule: it is time.
    Schedule {
        /// The time that it says it is; `None` if it says none that can be read.
        time: Option<Timestamp>,
    },
}

/// An event that a function does not know: its wiring is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is of a kind that this function does not know")]
pub struct UnknownEvent;

impl Trigger {
    /// Reads an event of SQS or of a schedule.
    pub fn read(event: Value) -> Result<Self, UnknownEvent> {
        if event.get("Records").is_some() {
            let event = SqsEvent::deserialize(event).map_err(|_| UnknownEvent)?;
            return Ok(Self::Messages(event.records.into_iter().map(QueueMessage::new).collect()));
        }
        let is_schedule = event.get("detail-type").and_then(Value::as_str) == Some("Scheduled Event")
            || event.get("source").and_then(Value::as_str) == Some("aws.events");
        let time = event.get("time").and_then(Value::as_str);
        let time = time.and_then(|time| Timestamp::parse_rfc3339(time).ok());
        if is_schedule { Ok(Self::Schedule { time }) } else { Err(UnknownEvent) }
    }
}

/// Runs a function for messages of queues until Lambda ends it. An error of the handler means that the
/// message has to come again.
pub async fn run_queue<F, Fut, E>(on_message: F) -> Result<(), RunError>
where
    F: Fn(QueueMessage, Invocation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    let no_schedule = |_, _| async { Err::<(), RunError>(UnknownEvent.into()) };
    run_queue_and_schedule(on_message, no_schedule).await
}

/// Runs a function for messages of queues and for a schedule, whose handler gets the time that the schedule says it
/// is. An error of that handler fails the invocation.
pub async fn run_queue_and_schedule<F, Fut, E, S, SFut, SE>(
    on_message: F,
    on_schedule: S,
) -> Result<(), RunError>
where
    F: Fn(QueueMessage, Invocation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: fmt::Display + Send + 'static,
    S: Fn(Option<Timestamp>, Invocation) -> SFut + Send + Sync + 'static,
    SFut: Future<Output = Result<(), SE>> + Send + 'static,
    SE: Into<RunError> + 'static,
{
    let handlers = Arc::new((on_message, on_schedule));
    run_events(move |event, invocation| {
        let handlers = Arc::clone(&handlers);
        async move {
            let (on_message, on_schedule) = &*handlers;
            match Trigger::read(event)? {
                Trigger::Messages(messages) => {
                    let response = handle_messages(messages, &invocation, &SystemClock, on_message).await;
                    Ok(serde_json::to_value(response)?)
                }
                Trigger::Schedule { time } => {
                    on_schedule(time, invocation).await.map_err(Into::into)?;
                    Ok(json!({}))
                }
            }
        }
    })
    .await
}

/// Runs a function for a table's stream until Lambda ends it. The handler gets all records in order and
/// returns the sequence number of the first that failed, from which on they come again.
pub async fn run_stream<F, Fut>(on_records: F) -> Result<(), RunError>
where
    F: Fn(Vec<EventRecord>, Invocation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Option<String>> + Send + 'static,
{
    let handler = Arc::new(on_records);
    run_events(move |event, invocation| {
        let handler = Arc::clone(&handler);
        async move {
            let event = StreamEvent::deserialize(event).map_err(|_| UnknownEvent)?;
            let first_failed = handler(event.records, invocation).await;
            Ok(serde_json::to_value(stream_response(first_failed))?)
        }
    })
    .await
}

/// The answer to a batch of a stream: everything is done, or all from a sequence number on comes again.
pub fn stream_response(first_failed: Option<String>) -> DynamoDbEventResponse {
    let mut response = DynamoDbEventResponse::default();
    if let Some(sequence_number) = first_failed {
        let mut failure = DynamoDbBatchItemFailure::default();
        failure.item_identifier = Some(sequence_number);
        response.batch_item_failures.push(failure);
    }
    response
}

/// Handles the messages of a batch concurrently, each until the invocation's deadline. A message without
/// an identifier that fails makes the whole batch come again, as Lambda defines it.
pub async fn handle_messages<F, Fut, E>(
    messages: Vec<QueueMessage>,
    invocation: &Invocation,
    clock: &impl Clock,
    on_message: &F,
) -> SqsBatchResponse
where
    F: Fn(QueueMessage, Invocation) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let mut outcomes = stream::iter(messages)
        .map(|message| {
            let id = message.id.clone();
            let limit = Duration::from_millis(clock.now().ms_until(invocation.deadline));
            async move {
                let handled = handle_message(message, invocation.clone(), limit, on_message).await;
                (id, handled)
            }
        })
        .buffer_unordered(MAX_CONCURRENT_MESSAGES);
    let mut response = SqsBatchResponse::default();
    while let Some((id, is_done)) = outcomes.next().await {
        if !is_done {
            response.add_failure(id);
        }
    }
    response
}

/// Handles one message. Returns whether it is done with.
async fn handle_message<F, Fut, E>(
    message: QueueMessage,
    invocation: Invocation,
    limit: Duration,
    on_message: &F,
) -> bool
where
    F: Fn(QueueMessage, Invocation) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let work = invocation.work.part(MESSAGE);
    let (id, receive_count) = (message.id.clone(), message.receive_count);
    let handled = async move {
        // What a panic leaves behind is behind locks that tolerate it; the other messages go on.
        let guarded = AssertUnwindSafe(async move { on_message(message, invocation).await }).catch_unwind();
        match timeout(limit, guarded).await {
            Ok(Ok(Ok(()))) => return true,
            Ok(Ok(Err(error))) => {
                tracing::warn!(message.id = id, message.receive_count = receive_count, %error, "A message has to come again.");
            }
            Ok(Err(_panic)) => {
                tracing::error!(
                    message.id = id,
                    message.receive_count = receive_count,
                    "A message's handler panicked."
                );
            }
            Err(_) => {
                tracing::error!(
                    message.id = id,
                    message.receive_count = receive_count,
                    "A message was not done in time."
                );
            }
        }
        false
    };
    // Others may take long: what this one says does not wait for them.
    together(observed(work, handled)).await
}

/// Runs a function for events of any kind. Here an error is Lambda's to see: the event comes again.
async fn run_events<F, Fut>(handler: F) -> Result<(), RunError>
where
    F: Fn(Value, Invocation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, RunError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    runtime::run(move |event, context| {
        let handler = Arc::clone(&handler);
        async move {
            let invocation = Invocation::of(&context);
            let work = invocation.work.clone();
            let handling = async {
                let event = serde_json::from_slice(&event)?;
                Ok(serde_json::to_vec(&handler(event, invocation).await?)?)
            };
            let outcome: Result<_, RunError> = observed(work, handling).await;
            if let Err(error) = &outcome {
                tracing::error!(request.id = context.request_id, %error, "An event could not be handled.");
            }
            outcome
        }
        // A boxed future ends the chain of nested types, which gets too deep for the compiler otherwise.
        .boxed()
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Now;

    impl Clock for Now {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }
    }

    fn invocation() -> Invocation {
        Invocation::new("r", Timestamp::EPOCH.plus_ms(5_000))
    }

    fn messages(ids: &[&str]) -> Vec<QueueMessage> {
        let records: Vec<Value> = ids
            .iter()
            .map(|id| {
                json!({
                    "messageId": id,
                    "body": id,
                    "eventSourceARN": "arn:aws:sqs:eu-central-1:1:stack-TimerQueue",
                    "attributes": {"ApproximateReceiveCount": "3"}
                })
            })
            .collect();
        match Trigger::read(json!({"Records": records})).unwrap() {
            Trigger::Messages(messages) => messages,
            Trigger::Schedule { .. } => panic!("messages are no schedule"),
        }
    }

    #[test]
    fn events_are_told_apart() {
        let message = &messages(&["a"])[0];
        assert_eq!((message.queue_name.as_str(), message.receive_count), ("stack-TimerQueue", 3));
        let scheduled = |time: Value| json!({"source": "aws.events", "detail-type": "Scheduled Event", "time": time, "detail": {}});
        let time = Timestamp::parse_rfc3339("2026-11-21T17:45:45Z").ok();
        assert_eq!(Trigger::read(scheduled(json!("2026-11-21T17:45:45Z"))), Ok(Trigger::Schedule { time }));
        for odd in [json!(null), json!("noon"), json!(5)] {
            assert_eq!(Trigger::read(scheduled(odd)), Ok(Trigger::Schedule { time: None }));
        }
        assert_eq!(Trigger::read(json!({"rawPath": "/"})), Err(UnknownEvent));
        assert_eq!(Trigger::read(json!({"Records": 1})), Err(UnknownEvent));
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_succeeds_and_fails_for_itself() {
        let on_message = |message: QueueMessage, _| async move {
            match message.body.as_str() {
                "fails" => Err("no".to_owned()),
                "panics" => panic!("ouch"),
                "hangs" => std::future::pending().await,
                _ => Ok(()),
            }
        };
        let begun = tokio::time::Instant::now();
        let batch = messages(&["ok", "fails", "panics", "hangs", "fine"]);
        let response = handle_messages(batch, &invocation(), &Now, &on_message).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        let mut failed: Vec<String> =
            response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
        failed.sort();
        assert_eq!(failed, ["fails", "hangs", "panics"]);
    }

    #[test]
    fn a_stream_goes_back_to_its_first_failure() {
        let written = |first| serde_json::to_value(stream_response(first)).unwrap();
        assert_eq!(written(None), json!({"batchItemFailures": []}));
        assert_eq!(written(Some("17".into())), json!({"batchItemFailures": [{"itemIdentifier": "17"}]}));
    }
}
