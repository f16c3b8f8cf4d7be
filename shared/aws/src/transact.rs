//! Transactions over a table: all of it or nothing, tried again where others are in the way.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
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
    /// A condition failed, and nothing is written.
    Refused,
}

/// How one try of a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// All of it is written.
    Done,
    /// A condition failed, and nothing is written.
    Refused,
    /// Others were in the way, and nothing is written.
    Busy,
}

enum Verdict {
    Refused,
    Again,
    Failed,
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
            Tried::Done => return Ok(Transacted::Done),
            Tried::Refused => return Ok(Transacted::Refused),
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
    let transaction = client.transact_write_items().set_transact_items(Some(actions));
    let Err(error) = transaction.client_request_token(token).send().await else {
        return Ok(Tried::Done);
    };
    match verdict(&error) {
        Verdict::Refused => Ok(Tried::Refused),
        Verdict::Again => Ok(Tried::Busy),
        Verdict::Failed => Err(store_error(CALL, &error)),
    }
}

fn verdict<R>(error: &SdkError<TransactWriteItemsError, R>) -> Verdict {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            of_reasons(cancelled.cancellation_reasons())
        }
        Some(TransactWriteItemsError::TransactionInProgressException(_)) => Verdict::Again,
        _ => Verdict::Failed,
    }
}

fn of_reasons(reasons: &[CancellationReason]) -> Verdict {
    let has = |wanted: &[&str]| {
        let mut codes = reasons.iter().filter_map(CancellationReason::code);
        codes.any(|code| wanted.contains(&code))
    };
    if has(&[CONDITION_FAILED]) {
        Verdict::Refused
    } else if has(&PASSING_REASONS) {
        Verdict::Again
    } else {
        Verdict::Failed
    }
}
