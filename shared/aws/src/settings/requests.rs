//! The requests of consumers: an item for each window, which is only ever added to.

use aws_sdk_dynamodb::types::ReturnValue;
use holdfast_app::ports::{ConfigurationStore, CountedRequests, RequestCounter, StoreError};
use holdfast_domain::{Tenant, Timestamp};
use tokio::try_join;

use super::DynamoSettings;
use super::records::corrupt;
use crate::error::store_error;
use crate::item::{TTL, key, number};

/// The attribute of how many requests were reported.
const REQUESTS: &str = "requests";

/// How long an item is kept after its window began, in milliseconds: an hour, far longer than anyone counts in it.
const KEPT_MS: u64 = 60 * 60 * 1_000;

impl RequestCounter for DynamoSettings {
    /// Requests whose report was answered to nobody may be counted twice by the SDK's repetition.
    async fn count_requests(
        &self,
        tenant: &Tenant,
        window_begins_at: Timestamp,
        requests: u32,
    ) -> Result<CountedRequests, StoreError> {
        let ends_s = window_begins_at.plus_ms(KEPT_MS).as_unix_ms() / 1_000;
        let window = format!("{:013}", window_begins_at.as_unix_ms());
        let add = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(format!("REQUESTS#{tenant}"), window)))
            .update_expression("ADD #requests :requests SET #ttl = :ttl")
            .expression_attribute_names("#requests", REQUESTS)
            .expression_attribute_names("#ttl", TTL)
            .expression_attribute_values(":requests", number(requests))
            .expression_attribute_values(":ttl", number(ends_s))
            .return_values(ReturnValue::UpdatedNew);
        let add = async { Box::pin(add.send()).await.map_err(|error| store_error("UpdateItem", &error)) };
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
