//! Transactions over a table: all of it or nothing, tried again where others are in the way.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, TransactWriteItem};
use data_encoding::HEXLOWER;
use holdfast_app::ports::{Entropy, StoreError};

use crate::batch::jittered_ms;
use crate::error::store_error;

pub(crate) const CALL: &str = "TransactWriteItems";

/// How often a transaction is tried that meets another one.
const MAX_TRIES: u32 = 6;

/// The bound of the first delay between two tries, in milliseconds; it doubles, with full jitter.
const FIRST_PAUSE_MS: u64 = 10;

pub(crate) const CONDITION_FAILED: &str = "ConditionalCheckFailed";

/// Reasons that pass by themselves (`CancellationReason` in the DynamoDB API reference).
pub(crate) const PASSING_REASONS: [&str; 3] =
    ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transacted {
    /// All of it is written.
    Done,
    /// The condition of the action at this place failed, and nothing is written.
    Refused(usize),
}

/// How one try of a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It ended.
    Over(Transacted),
    /// Others were in the way, and nothing is written.
    Busy,
}

/// What the table says to a transaction.
#[derive(Debug)]
pub(crate) enum Reply {
    /// All of it is written.
    Done,
    /// The very same transaction is under way.
    InProgress,
    /// Nothing is written; one reason an action, in order.
    Cancelled(Vec<CancellationReason>),
}

/// Writes all `actions` or none. One whose answer is lost and which the SDK repeats is done once.
pub(crate) async fn transact(
    client: &Client,
    entropy: &dyn Entropy,
    actions: Vec<TransactWriteItem>,
) -> Result<Transacted, StoreError> {
    let token = token(entropy);
    for tried in 0..MAX_TRIES {
        match try_transact(client, &token, actions.clone()).await? {
            Tried::Over(transacted) => return Ok(transacted),
            Tried::Busy => {
                let pause_ms = jittered_ms(entropy, FIRST_PAUSE_MS, tried);
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
        }
    }
    Err(StoreError::Unavailable(format!("{CALL}: conflicts with others")))
}

/// By what a transaction is known that is tried again unchanged.
pub(crate) fn token(entropy: &dyn Entropy) -> String {
    HEXLOWER.encode(&entropy.bytes16())
}

/// Writes all `actions` or none, once. One whose answer is lost and which the SDK repeats is done once.
pub(crate) async fn try_transact(
    client: &Client,
    token: &str,
    actions: Vec<TransactWriteItem>,
) -> Result<Tried, StoreError> {
    let reasons = match send(client, token, actions).await? {
        Reply::Done => return Ok(Tried::Over(Transacted::Done)),
        Reply::InProgress => return Ok(Tried::Busy),
        Reply::Cancelled(reasons) => reasons,
    };
    let codes: Vec<&str> = reasons.iter().map(|reason| reason.code().unwrap_or_default()).collect();
    if let Some(position) = codes.iter().position(|code| *code == CONDITION_FAILED) {
        Ok(Tried::Over(Transacted::Refused(position)))
    } else if codes.iter().any(|code| PASSING_REASONS.contains(code)) {
        Ok(Tried::Busy)
    } else {
        // Bad values and sizes: it would be cancelled again.
        Err(StoreError::Refused(format!("{CALL}: {}", codes.join(", "))))
    }
}

/// Sends a transaction. A repetition under the same token, which has to be the very same transaction, is
/// done once.
pub(crate) async fn send(
    client: &Client,
    token: impl Into<String>,
    actions: Vec<TransactWriteItem>,
) -> Result<Reply, StoreError> {
    let transaction = client.transact_write_items().set_transact_items(Some(actions));
    let Err(error) = Box::pin(transaction.client_request_token(token).send()).await else {
        return Ok(Reply::Done);
    };
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            Ok(Reply::Cancelled(cancelled.cancellation_reasons().to_vec()))
        }
        Some(TransactWriteItemsError::TransactionInProgressException(_)) => Ok(Reply::InProgress),
        _ => Err(store_error(CALL, &error)),
    }
}
