//! What a request needs of the configuration, in one batched read.

use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{Loaded, SettingsReader, StoreError, Wanted};

use super::DynamoSettings;
use super::booking_keys::{BOOKING_KEYS, SECRETS_SK, secrets_of};
use super::records::{BREAKER_SK, KEY_SK, PROVIDERS, breaker_of, breaker_pk, key_of, key_pk, provider_of};
pub(super) use crate::batch::MAX_BATCH_KEYS;
use crate::batch::batch_get;
use crate::item::{PK, SdkItem, key};

impl DynamoSettings {
    /// Reads the items of up to [`MAX_BATCH_KEYS`] keys, all of them, in any order.
    pub(super) async fn batch_get(&self, keys: Vec<SdkItem>) -> Result<Vec<SdkItem>, StoreError> {
        batch_get(&self.client, &self.table, self.entropy.as_ref(), keys).await
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
        if wanted.booking_key_secrets {
            keys.push(key(BOOKING_KEYS, SECRETS_SK));
        }
        let mut loaded = Loaded::default();
        if keys.is_empty() {
            return Ok(loaded);
        }
        for item in self.batch_get(keys).await? {
            if has_pk(&item, PROVIDERS) {
                loaded.provider = Some(provider_of(item)?);
            } else if has_pk(&item, BOOKING_KEYS) {
                loaded.booking_key_secrets = secrets_of(item)?;
            } else if wanted.key_id.as_ref().is_some_and(|key_id| has_pk(&item, &key_pk(key_id))) {
                loaded.key = Some(key_of(item)?);
            } else {
                loaded.breaker = breaker_of(item)?;
            }
        }
        Ok(loaded)
    }
}
