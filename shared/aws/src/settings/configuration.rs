//! Consumers, providers and keys.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use holdfast_app::ports::{ConfigurationStore, StoreError};
use holdfast_app::settings::{ConsumerSettings, KeyOwner, KeyRecord, ProviderSettings};
use holdfast_domain::{ConsumerId, KeyId, ProviderId, Timestamp};

use super::DynamoSettings;
use super::reader::MAX_BATCH_KEYS;
use super::records::{
    CONSUMERS, KEY_OWNER, KEY_REVOKED_FROM, KEY_SK, PROVIDERS, consumer_item, consumer_of, key_item, key_of,
    key_pk, owner_keys_pk, owner_text, provider_item, provider_of,
};
use crate::error::store_error;
use crate::item::{SK, SdkItem, key, number, text};

fn sort_key(item: &SdkItem) -> Option<&str> {
    item.get(SK).and_then(|value| value.as_s().ok()).map(String::as_str)
}

/// A provider, unless a later version of the code wrote it in words that this one does not know.
fn readable_provider(item: SdkItem) -> Option<ProviderSettings> {
    let provider_id = sort_key(&item).unwrap_or_default().to_owned();
    provider_of(item)
        .inspect_err(|error| tracing::error!(provider.id = provider_id, %error, "A provider is unreadable."))
        .ok()
}

impl ConfigurationStore for DynamoSettings {
    async fn put_consumer(&self, consumer: &ConsumerSettings) -> Result<(), StoreError> {
        self.put(consumer_item(consumer)?).await
    }

    async fn consumer(&self, id: &ConsumerId) -> Result<Option<ConsumerSettings>, StoreError> {
        self.get(CONSUMERS, id.as_str()).await?.map(consumer_of).transpose()
    }

    async fn consumers(&self) -> Result<Vec<ConsumerSettings>, StoreError> {
        self.list(CONSUMERS, "").await?.into_iter().map(consumer_of).collect()
    }

    async fn delete_consumer(&self, id: &ConsumerId) -> Result<bool, StoreError> {
        self.delete(CONSUMERS, id.as_str()).await
    }

    async fn put_provider(&self, provider: &ProviderSettings) -> Result<(), StoreError> {
        self.put(provider_item(provider)?).await
    }

    async fn provider(&self, id: &ProviderId) -> Result<Option<ProviderSettings>, StoreError> {
        self.get(PROVIDERS, id.as_str()).await?.map(provider_of).transpose()
    }

    async fn providers(&self) -> Result<Vec<ProviderSettings>, StoreError> {
        Ok(self.list(PROVIDERS, "").await?.into_iter().filter_map(readable_provider).collect())
    }

    async fn delete_provider(&self, id: &ProviderId) -> Result<bool, StoreError> {
        self.delete(PROVIDERS, id.as_str()).await
    }

    async fn put_key(&self, record: &KeyRecord) -> Result<(), StoreError> {
        // The list's entry goes first: a crash in between leaves an entry without a key, which lists
        // skip, but never a key that opens doors and appears in no list.
        self.put(key(owner_keys_pk(&record.owner), record.key_id.as_str())).await?;
        self.put(key_item(record)?).await
    }

    async fn keys(&self, owner: &KeyOwner) -> Result<Vec<KeyRecord>, StoreError> {
        let entries = self.list(&owner_keys_pk(owner), "").await?;
        let ids: Vec<KeyId> =
            entries.iter().filter_map(sort_key).filter_map(|id| KeyId::parse(id).ok()).collect();
        let mut records = Vec::with_capacity(ids.len());
        for batch in ids.chunks(MAX_BATCH_KEYS) {
            let wanted = batch.iter().map(|id| key(key_pk(id), KEY_SK)).collect();
            for item in self.batch_get(wanted).await? {
                records.push(key_of(item)?);
            }
        }
        records
            .sort_by(|left, right| (left.created_at, &left.key_id).cmp(&(right.created_at, &right.key_id)));
        Ok(records)
    }

    async fn revoke_key(
        &self,
        owner: &KeyOwner,
        key_id: &KeyId,
        revoked_from: Timestamp,
    ) -> Result<bool, StoreError> {
        let owner = owner_text(owner);
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(key_pk(key_id), KEY_SK)))
            .update_expression("SET #from = :from")
            .condition_expression("#owner = :owner AND (attribute_not_exists(#from) OR #from > :from)")
            .expression_attribute_names("#owner", KEY_OWNER)
            .expression_attribute_names("#from", KEY_REVOKED_FROM)
            .expression_attribute_values(":owner", text(&owner))
            .expression_attribute_values(":from", number(revoked_from.as_unix_ms()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else {
            return Ok(true);
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failure)) => {
                // It is the owner's and ends earlier already, or it is not the owner's at all.
                let found = failure.item().and_then(|item| item.get(KEY_OWNER));
                Ok(matches!(found, Some(AttributeValue::S(found)) if *found == owner))
            }
            _ => Err(store_error("UpdateItem", &error)),
        }
    }
}
