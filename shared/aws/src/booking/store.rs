//! The store of bookings.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use holdfast_app::ports::{BookingStore, Claim, Entropy, Replaced, StoreError};
use holdfast_app::stored::StoredBooking;
use holdfast_domain::{BookingId, Timestamp};

use super::decode::stored_from_image;
use super::encode::{item_of, partition_key};
use super::item::{ATTRIBUTES, REV};
use super::overdue::overdue;
use crate::error::store_error;
use crate::item::{Bytes, PK, SdkItem, nonce, number, text, to_sdk_item, written_by};

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1_000;

/// The least number of days that an item is kept: an idempotency key stands for its request for 14 days,
/// whatever else the deployment wants.
const MIN_RETENTION_DAYS: u32 = 15;

/// Bookings in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoBookingStore {
    client: Client,
    table: String,
    retention_ms: u64,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for DynamoBookingStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoBookingStore").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DynamoBookingStore {
    /// The store of bookings in `table`. DynamoDB may remove an item `retention_days` after the end of its
    /// slot; fewer than 15 count as 15.
    pub fn new(
        client: Client,
        table: impl Into<String>,
        retention_days: u32,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let retention_ms = u64::from(retention_days.max(MIN_RETENTION_DAYS)).saturating_mul(MS_PER_DAY);
        Self { client, table: table.into(), retention_ms, entropy }
    }

    fn encode(&self, stored: &StoredBooking) -> Result<(SdkItem, Bytes), StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        let item = to_sdk_item("booking", &item_of(stored, self.retention_ms, nonce.clone()))?;
        Ok((item, nonce))
    }

    /// The update that sets every attribute that `item` has, removes the other known ones, and leaves
    /// those alone that only other versions of the code know; all if the revision is still `seen_rev`.
    fn replacement(&self, seen_rev: u64, mut item: SdkItem) -> UpdateItemFluentBuilder {
        let mut update = self.client.update_item().table_name(&self.table);
        let mut sets = Vec::new();
        let mut removals = Vec::new();
        for (position, attribute) in ATTRIBUTES.into_iter().enumerate() {
            let (name, value_name) = (format!("#a{position}"), format!(":a{position}"));
            update = update.expression_attribute_names(&name, attribute);
            if attribute == REV {
                update = update
                    .condition_expression(format!("{name} = :seen"))
                    .expression_attribute_values(":seen", number(seen_rev));
            }
            if let Some(value) = item.remove(attribute) {
                sets.push(format!("{name} = {value_name}"));
                update = update.expression_attribute_values(value_name, value);
            } else {
                removals.push(name);
            }
        }
        let removal =
            if removals.is_empty() { String::new() } else { format!(" REMOVE {}", removals.join(", ")) };
        update.set_key(Some(item)).update_expression(format!("SET {}{removal}", sets.join(", ")))
    }
}

fn decoded(item: SdkItem) -> Result<StoredBooking, StoreError> {
    stored_from_image(item.into()).map_err(|unreadable| {
        let id = unreadable.booking_id.map_or_else(|| "booking".to_owned(), |id| id.to_string());
        StoreError::Corrupt(format!("{id}: {}", unreadable.error))
    })
}

impl BookingStore for DynamoBookingStore {
    async fn claim(&self, new: &StoredBooking) -> Result<Claim, StoreError> {
        let (item, nonce) = self.encode(new)?;
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else {
            return Ok(Claim::Claimed);
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failure)) => {
                let found = failure.item().cloned().unwrap_or_default();
                if written_by(&found, &nonce) {
                    return Ok(Claim::Claimed);
                }
                Ok(Claim::Taken(Box::new(decoded(found)?)))
            }
            _ => Err(store_error("PutItem", &error)),
        }
    }

    async fn read(&self, id: &BookingId) -> Result<Option<StoredBooking>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, text(partition_key(id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| store_error("GetItem", &error))?;
        answer.item.map(decoded).transpose()
    }

    async fn replace(&self, seen_rev: u64, next: &StoredBooking) -> Result<Replaced, StoreError> {
        let (item, nonce) = self.encode(next)?;
        let result = self
            .replacement(seen_rev, item)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else {
            return Ok(Replaced::Done);
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failure)) => match failure.item() {
                None => Ok(Replaced::Gone),
                Some(found) if found.is_empty() => Ok(Replaced::Gone),
                Some(found) if written_by(found, &nonce) => Ok(Replaced::Done),
                Some(found) => Ok(Replaced::Conflict(Box::new(decoded(HashMap::clone(found))?))),
            },
            _ => Err(store_error("UpdateItem", &error)),
        }
    }

    async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<BookingId>, StoreError> {
        overdue(&self.client, &self.table, before, limit).await
    }
}
