//! The requests of consumers: an item for each window, which is only ever added to.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemInputBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItem, UpdateItemInput};
use aws_sdk_dynamodb::types::ReturnValue;
use holdfast_app::ports::{ConfigurationStore, CountedRequests, RequestCounter, StoreError};
use holdfast_domain::{Tenant, Timestamp};
use serde_json::json;
use tokio::try_join;

use super::DynamoSettings;
use super::records::corrupt;
use crate::direct::Call;
use crate::error::store_error;
use crate::item::{PK, SK, TTL, key, number};

/// The attribute of how many requests were reported.
const REQUESTS: &str = "requests";

/// How long an item is kept after its window began, in milliseconds: an hour, far longer than anyone counts in it.
const KEPT_MS: u64 = 60 * 60 * 1_000;

/// What a report does to the item of its window.
const ADD: &str = "ADD #requests :requests SET #ttl = :ttl";

/// Adds requests to a window, and asks for its sum.
struct Adding<'a> {
    table: &'a str,
    pk: String,
    sk: String,
    requests: u32,
    kept_until_s: i64,
}

impl Call<UpdateItem> for Adding<'_> {
    fn body(&self) -> Result<Vec<u8>, StoreError> {
        let body = json!({
            "TableName": self.table,
            "Key": { PK: { "S": self.pk }, SK: { "S": self.sk } },
            "UpdateExpression": ADD,
            "ExpressionAttributeNames": { "#requests": REQUESTS, "#ttl": TTL },
            "ExpressionAttributeValues": {
                ":requests": { "N": self.requests.to_string() },
                ":ttl": { "N": self.kept_until_s.to_string() },
            },
            "ReturnValues": "UPDATED_NEW",
        });
        Ok(body.to_string().into_bytes())
    }

    fn request(&self) -> Result<UpdateItemInputBuilder, StoreError> {
        let add = UpdateItemInput::builder()
            .table_name(self.table)
            .set_key(Some(key(&self.pk, &self.sk)))
            .update_expression(ADD)
            .expression_attribute_names("#requests", REQUESTS)
            .expression_attribute_names("#ttl", TTL)
            .expression_attribute_values(":requests", number(self.requests))
            .expression_attribute_values(":ttl", number(self.kept_until_s))
            .return_values(ReturnValue::UpdatedNew);
        Ok(add)
    }
}

impl RequestCounter for DynamoSettings {
    /// Requests whose report was answered to nobody may be counted twice by its repetition.
    async fn count_requests(
        &self,
        tenant: &Tenant,
        window_begins_at: Timestamp,
        requests: u32,
    ) -> Result<CountedRequests, StoreError> {
        let adding = Adding {
            table: &self.table,
            pk: format!("REQUESTS#{tenant}"),
            sk: format!("{:013}", window_begins_at.as_unix_ms()),
            requests,
            kept_until_s: window_begins_at.plus_ms(KEPT_MS).as_unix_ms() / 1_000,
        };
        let add = async {
            let answer = Box::pin(self.client.call(&adding)).await?;
            answer.map_err(|error| store_error("UpdateItem", &error))
        };
        let (added, consumer) = try_join!(add, self.consumer(&tenant.consumer_id))?;
        let total =
            added.attributes.as_ref().and_then(|item| item.get(REQUESTS)?.as_n().ok()?.parse::<u64>().ok());
        let total = total.ok_or_else(|| corrupt("requests", REQUESTS))?;
        Ok(CountedRequests {
            total: u32::try_from(total).unwrap_or(u32::MAX),
            requests_per_second: consumer.and_then(|consumer| consumer.requests_per_second),
        })
    }
}
