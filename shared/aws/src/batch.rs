//! Batched reads that are complete: what DynamoDB leaves unprocessed is asked for again.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use holdfast_app::ports::{Entropy, StoreError};

use crate::error::{incomplete_request, store_error};
use crate::item::SdkItem;

/// How many keys one batch may have (`BatchGetItem` in the DynamoDB API reference).
pub(crate) const MAX_BATCH_KEYS: usize = 100;

/// How often what a batch leaves unprocessed is asked for again.
const MAX_ROUNDS: u32 = 5;

/// The bound of the first delay before asking again, in milliseconds; it doubles, with full jitter.
const FIRST_ROUND_DELAY_MS: u64 = 20;

/// Reads the items of up to [`MAX_BATCH_KEYS`] keys, strongly consistent: all that there are, in any order.
pub(crate) async fn batch_get(
    client: &Client,
    table: &str,
    entropy: &dyn Entropy,
    keys: Vec<SdkItem>,
) -> Result<Vec<SdkItem>, StoreError> {
    const CALL: &str = "BatchGetItem";
    let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
    let mut wanted = wanted.map_err(|_| incomplete_request(CALL))?;
    let mut found = Vec::new();
    for round in 1..=MAX_ROUNDS {
        let request = HashMap::from([(table.to_owned(), wanted)]);
        let batch = client.batch_get_item().set_request_items(Some(request));
        let answer = Box::pin(batch.send()).await.map_err(|error| store_error(CALL, &error))?;
        found.extend(answer.responses.unwrap_or_default().into_values().flatten());
        let rest = answer.unprocessed_keys.unwrap_or_default().into_values().next();
        match rest.filter(|rest| !rest.keys().is_empty()) {
            None => return Ok(found),
            Some(rest) => wanted = rest,
        }
        tokio::time::sleep(Duration::from_millis(jittered_ms(entropy, FIRST_ROUND_DELAY_MS, round))).await;
    }
    Err(StoreError::Unavailable(format!("{CALL}: keys stay unprocessed")))
}

/// A delay with full jitter, in milliseconds, under a bound that begins with `first_ms` and doubles with
/// every `doublings`, so that many callers do not come back at once.
pub(crate) fn jittered_ms(entropy: &dyn Entropy, first_ms: u64, doublings: u32) -> u64 {
    let bound_ms = first_ms.saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX));
    entropy.u64() % bound_ms.max(1)
}
