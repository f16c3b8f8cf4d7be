//! The configuration in DynamoDB: consumers, providers, locations, keys, the secrets of booking keys, breakers,
//! limits and webhook endpoints, in one table.
//!
//! | partition key | sort key | item |
//! |---|---|---|
//! | `CONSUMERS` | consumer | a consumer |
//! | `PROVIDERS` | provider | a provider |
//! | `LOCATIONS#<provider>` | location | a location |
//! | `KEY#<key id>` | `KEY` | a key |
//! | `KEYS#<role>#<owner>` | key id | that the owner has this key |
//! | `BOOKING_KEYS` | `SECRETS` | the secrets that booking keys are signed with |
//! | `BREAKER#<provider>` | `BREAKER` | a provider's breaker |
//! | `LIMIT#<provider>` | `CALLS` | the second that calls are counted in, and how many are taken |
//! | `LIMIT#<provider>` | `PLACES` | the leases of the attempts in flight |
//! | `REQUESTS#<tenant>` | the beginning of a window | how many requests were reported of it |
//! | `AUDIT` | time and nonce | what an operator did, and why |
//! | `ENDPOINTS#<tenant>` | endpoint id | a webhook endpoint |
//! | `ENDPOINTS#<tenant>` | `#COUNT` | how many endpoints the tenant has |
//!
//! A request's key, provider, breaker and secrets have keys that are known beforehand, so that one batch reads
//! all of them. Lists are one partition each: nothing ever scans the table.

mod audit;
mod booking_keys;
mod breaker;
mod configuration;
mod endpoints;
mod limits;
mod locations;
mod reader;
mod records;
mod requests;

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use holdfast_app::ports::{Entropy, StoreError};

use crate::DynamoDb;
use crate::error::store_error;
use crate::item::{PK, SK, SdkItem, key, text};
use crate::reading::Reading;

/// What a conditional update found.
enum Updated {
    /// It is done, and this is the item now.
    Done(SdkItem),
    /// The condition failed on this item; empty if there is none.
    Refused(SdkItem),
}

async fn update(builder: UpdateItemFluentBuilder) -> Result<Updated, StoreError> {
    let update = builder
        .return_values(ReturnValue::AllNew)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    match Box::pin(update.send()).await {
        Ok(answer) => Ok(Updated::Done(answer.attributes.unwrap_or_default())),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failure)) => {
                Ok(Updated::Refused(failure.item().cloned().unwrap_or_default()))
            }
            _ => Err(store_error("UpdateItem", &error)),
        },
    }
}

/// The configuration in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoSettings {
    client: DynamoDb,
    table: String,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for DynamoSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoSettings").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DynamoSettings {
    /// The configuration in `table`.
    pub fn new(client: DynamoDb, table: impl Into<String>, entropy: Arc<dyn Entropy>) -> Self {
        Self { client, table: table.into(), entropy }
    }

    async fn put(&self, item: SdkItem) -> Result<(), StoreError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        Box::pin(put.send()).await.map_err(|error| store_error("PutItem", &error))?;
        Ok(())
    }

    async fn get(&self, pk: &str, sk: &str) -> Result<Option<SdkItem>, StoreError> {
        Reading { table: &self.table, pk, sk: Some(sk) }.by(&self.client).await
    }

    async fn delete(&self, pk: &str, sk: &str) -> Result<bool, StoreError> {
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(key(pk, sk)));
        let answer = Box::pin(delete.return_values(ReturnValue::AllOld).send()).await;
        Ok(answer.map_err(|error| store_error("DeleteItem", &error))?.attributes.is_some())
    }

    /// All items of a partition whose sort keys begin with `prefix`, in the order of their sort keys.
    async fn list(&self, pk: &str, prefix: &str) -> Result<Vec<SdkItem>, StoreError> {
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", text(pk))
            .key_condition_expression("#pk = :pk");
        if !prefix.is_empty() {
            query = query
                .key_condition_expression("#pk = :pk AND begins_with(#sk, :prefix)")
                .expression_attribute_names("#sk", SK)
                .expression_attribute_values(":prefix", text(prefix));
        }
        let items = query.into_paginator().items().send();
        items.try_collect().await.map_err(|error| store_error("Query", &error))
    }
}
