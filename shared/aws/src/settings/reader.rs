//! What a request needs of the configuration, in one batched read.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use holdfast_app::ports::{Entropy, Loaded, SettingsReader, StoreError, Wanted};

use super::DynamoSettings;
use super::records::{BREAKER_SK, KEY_SK, PROVIDERS, breaker_of, breaker_pk, key_of, key_pk, provider_of};
use crate::error::{incomplete_request, store_error};
use crate::item::{PK, SdkItem, key};

/// How many keys one batch may have (`BatchGetItem` in the DynamoDB API reference).
pub(super) const MAX_BATCH_KEYS: usize = 100;

/// How often what a batch leaves unprocessed is asked for again.
const MAX_ROUNDS: u32 = 5;

/// The bound of the first delay before asking again, in milliseconds; it doubles, with full jitter.
const FIRST_ROUND_DELAY_MS: u64 = 20;

/// A delay with full jitter before round `round` (from 1), so that many callers do not come back at once.
pub(super) async fn pause(entropy: &dyn Entropy, round: u32) {
    let bound_ms = FIRST_ROUND_DELAY_MS.saturating_mul(1_u64.checked_shl(round).unwrap_or(u64::MAX));
    tokio::time::sleep(Duration::from_millis(entropy.u64() % bound_ms.max(1))).await;
}

impl DynamoSettings {
    /// Reads the items of up to [`MAX_BATCH_KEYS`] keys, all of them, in any order.
    pub(super) async fn batch_get(&self, keys: Vec<SdkItem>) -> Result<Vec<SdkItem>, StoreError> {
        const CALL: &str = "BatchGetItem";
        let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let mut wanted = wanted.map_err(|_| incomplete_request(CALL))?;
        let mut found = Vec::new();
        for round in 1..=MAX_ROUNDS {
            let request = HashMap::from([(self.table.clone(), wanted)]);
            let batch = self.client.batch_get_item().set_request_items(Some(request));
            let answer = batch.send().await.map_err(|error| store_error(CALL, &error))?;
            found.extend(answer.responses.unwrap_or_default().into_values().flatten());
            let rest = answer.unprocessed_keys.unwrap_or_default().into_values().next();
            match rest.filter(|rest| !rest.keys().is_empty()) {
                None => return Ok(found),
                Some(rest) => wanted = rest,
            }
            pause(self.entropy.as_ref(), round).await;
        }
        Err(StoreError::Unavailable(format!("{CALL}: keys stay unprocessed")))
    }
}

fn has_pk(item: &SdkItem, pk: &str) -> bool {
    matches!(item.get(PK), Some(AttributeValue::S(found)) if found == pk)
}

impl SettingsReader for DynamoSettings {
    async fn load(&self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        let mut keys = Vec::new();
        if let Some(key_id) = &wanted.key_id {
            keys.push(key(key_pk(key_id), KEY_SK));
        }
        if let Some(provider_id) = &wanted.provider_id {
            keys.push(key(PROVIDERS, provider_id.as_str()));
            keys.push(key(breaker_pk(provider_id), BREAKER_SK));
        }
        let mut loaded = Loaded::default();
        if keys.is_empty() {
            return Ok(loaded);
        }
        for item in self.batch_get(keys).await? {
            if has_pk(&item, PROVIDERS) {
                loaded.provider = Some(provider_of(item)?);
            } else if wanted.key_id.as_ref().is_some_and(|key_id| has_pk(&item, &key_pk(key_id))) {
                loaded.key = Some(key_of(item)?);
            } else {
                loaded.breaker = breaker_of(item)?;
            }
        }
        Ok(loaded)
    }
}
