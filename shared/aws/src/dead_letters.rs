//! The queues of dead letters in SQS: how many wait, taking some, sending them to where they failed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use holdfast_app::ports::{DeadLetter, DeadLetterQueue, DeadLetters, StoreError};

use crate::error::store_error;

/// The most messages that one call receives (`ReceiveMessage` in the SQS API reference).
const MAX_RECEIVED: usize = 10;

/// For how long letters that were taken are nobody else's, in seconds: longer than a call of the API lasts.
const TAKEN_FOR_S: i32 = 60;

/// How long taking waits for letters, in seconds. Without waiting only some of SQS's servers are asked, so that a
/// queue that holds letters may look empty ("short polling" in the SQS developer guide).
const WAIT_S: i32 = 1;

/// How long a call that waits may take.
const WAITING_LIMIT: Duration = Duration::from_secs(4);

/// The dead-letter queues, and the queues that their letters came from.
#[derive(Clone)]
pub struct SqsDeadLetters {
    client: Client,
    letter_urls: BTreeMap<DeadLetterQueue, String>,
    source_urls: BTreeMap<DeadLetterQueue, String>,
}

impl fmt::Debug for SqsDeadLetters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SqsDeadLetters")
    }
}

impl SqsDeadLetters {
    /// The queues at these URLs: each queue of dead letters, and where its letters go to be served again.
    pub fn new(
        client: Client,
        letter_urls: impl IntoIterator<Item = (DeadLetterQueue, String)>,
        source_urls: impl IntoIterator<Item = (DeadLetterQueue, String)>,
    ) -> Self {
        Self {
            client,
            letter_urls: letter_urls.into_iter().collect(),
            source_urls: source_urls.into_iter().collect(),
        }
    }

    fn url(&self, queue: DeadLetterQueue) -> Result<&str, StoreError> {
        let url = self.letter_urls.get(&queue).map(String::as_str);
        url.ok_or_else(|| StoreError::Refused(format!("no queue of {} is configured", queue.as_str())))
    }
}

impl DeadLetters for SqsDeadLetters {
    async fn count(&self, queue: DeadLetterQueue) -> Result<u32, StoreError> {
        const CALL: &str = "GetQueueAttributes";
        let waiting = QueueAttributeName::ApproximateNumberOfMessages;
        let call = self.client.get_queue_attributes().queue_url(self.url(queue)?);
        let answer = call.attribute_names(waiting.clone()).send().await;
        let answer = answer.map_err(|error| store_error(CALL, &error))?;
        let count = answer.attributes().and_then(|attributes| attributes.get(&waiting)?.parse().ok());
        count.ok_or_else(|| StoreError::Corrupt(format!("{CALL}: no number of messages")))
    }

    async fn take(&self, queue: DeadLetterQueue, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let limits = TimeoutConfig::builder()
            .read_timeout(WAITING_LIMIT)
            .operation_attempt_timeout(WAITING_LIMIT)
            .operation_timeout(WAITING_LIMIT)
            .build();
        let call = self
            .client
            .receive_message()
            .queue_url(self.url(queue)?)
            .max_number_of_messages(i32::try_from(limit.clamp(1, MAX_RECEIVED)).unwrap_or(1))
            .visibility_timeout(TAKEN_FOR_S)
            .wait_time_seconds(WAIT_S)
            .customize()
            .config_override(aws_sdk_sqs::Config::builder().timeout_config(limits));
        let answer = call.send().await.map_err(|error| store_error("ReceiveMessage", &error))?;
        let letters =
            answer.messages.unwrap_or_default().into_iter().filter_map(|message| {
                Some(DeadLetter { body: message.body?, receipt: message.receipt_handle? })
            });
        Ok(letters.collect())
    }

    async fn send_again(&self, queue: DeadLetterQueue, letter: &DeadLetter) -> Result<(), StoreError> {
        let url = self.source_urls.get(&queue);
        let url = url.ok_or_else(|| {
            StoreError::Refused(format!("letters of {} were never messages", queue.as_str()))
        })?;
        let call = self.client.send_message().queue_url(url).message_body(&letter.body);
        call.send().await.map_err(|error| store_error("SendMessage", &error))?;
        Ok(())
    }

    async fn remove(&self, queue: DeadLetterQueue, letter: &DeadLetter) -> Result<(), StoreError> {
        let call = self.client.delete_message().queue_url(self.url(queue)?).receipt_handle(&letter.receipt);
        call.send().await.map_err(|error| store_error("DeleteMessage", &error))?;
        Ok(())
    }
}
