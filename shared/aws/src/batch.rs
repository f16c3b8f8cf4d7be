//! Batched reads that are complete: what DynamoDB leaves unprocessed is asked for again.

use std::time::Duration;

use aws_sdk_dynamodb::operation::batch_get_item::builders::BatchGetItemInputBuilder;
use aws_sdk_dynamodb::operation::batch_get_item::{BatchGetItem, BatchGetItemInput};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use holdfast_app::ports::{Entropy, StoreError};
use serde_json::{Map, json};

use crate::DynamoDb;
use crate::direct::Call;
use crate::error::{incomplete_request, store_error};
use crate::item::SdkItem;

const CALL: &str = "BatchGetItem";

/// How many keys one batch may have (`BatchGetItem` in the DynamoDB API reference).
pub(crate) const MAX_BATCH_KEYS: usize = 100;

/// How often what a batch leaves unprocessed is asked for again.
const MAX_ROUNDS: u32 = 5;

/// The bound of the first delay before asking again, in milliseconds; it doubles, with full jitter.
const FIRST_ROUND_DELAY_MS: u64 = 20;

/// One batch: the call, in the two forms in which it may be made.
struct Batch<'a> {
    table: &'a str,
    keys: &'a [SdkItem],
}

impl Call<BatchGetItem> for Batch<'_> {
    fn body(&self) -> Result<Vec<u8>, StoreError> {
        let mut keys = Vec::with_capacity(self.keys.len());
        for key in self.keys {
            let mut members = Map::new();
            for (name, value) in key {
                // The keys of all tables are texts.
                let AttributeValue::S(text) = value else { return Err(incomplete_request(CALL)) };
                members.insert(name.clone(), json!({ "S": text }));
            }
            keys.push(members);
        }
        let body = json!({ "RequestItems": { self.table: { "Keys": keys, "ConsistentRead": true } } });
        Ok(body.to_string().into_bytes())
    }

    fn request(&self) -> Result<BatchGetItemInputBuilder, StoreError> {
        let wanted = KeysAndAttributes::builder().set_keys(Some(self.keys.to_vec())).consistent_read(true);
        let wanted = wanted.build().map_err(|_| incomplete_request(CALL))?;
        Ok(BatchGetItemInput::builder().request_items(self.table, wanted))
    }
}

/// Reads the items of up to [`MAX_BATCH_KEYS`] keys, strongly consistent: all that there are, in any order.
pub(crate) async fn batch_get(
    client: &DynamoDb,
    table: &str,
    entropy: &dyn Entropy,
    mut keys: Vec<SdkItem>,
) -> Result<Vec<SdkItem>, StoreError> {
    let mut found = Vec::new();
    for round in 1..=MAX_ROUNDS {
        let answer = Box::pin(client.call(&Batch { table, keys: &keys })).await?;
        let answer = answer.map_err(|error| store_error(CALL, &error))?;
        found.extend(answer.responses.unwrap_or_default().into_values().flatten());
        let rest = answer.unprocessed_keys.unwrap_or_default().into_values().next();
        match rest.filter(|rest| !rest.keys().is_empty()) {
            None => return Ok(found),
            Some(rest) => keys = rest.keys,
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
