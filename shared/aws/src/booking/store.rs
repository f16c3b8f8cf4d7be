//! The store of bookings.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update};
use holdfast_app::ports::{
    BookingPage, BookingQuery, BookingScan, BookingStore, Claim, Clock, Entropy, Replaced, ScanPlace,
    SlotExchange, StoreError,
};
use holdfast_app::stored::{SlotKey, StoredBooking};
use holdfast_domain::{BookingId, Tenant, Timestamp};

use super::calls::{Claiming, NOBODY_YET, Replacement, Replacing, Writing};
use super::decode::stored_from_image;
use super::encode::{kept_until, partition_key};
use super::list::Lists;
use super::overdue::overdue;
use super::scan::scan;
use super::transaction::{SlotWrite, Tries, Written};
use crate::DynamoDb;
use crate::error::{incomplete_request, store_error};
use crate::item::{Bytes, SdkItem, nonce, written_by};
use crate::reading::Reading;
use crate::transact::CALL;

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1_000;

/// The least number of days that an item is kept: an idempotency key stands for its request for 14 days,
/// whatever else the deployment wants.
const MIN_RETENTION_DAYS: u32 = 15;

/// Bookings in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoBookingStore {
    client: DynamoDb,
    table: String,
    retention_ms: u64,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for DynamoBookingStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoBookingStore").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DynamoBookingStore {
    /// The store of bookings in `table`. DynamoDB may remove an item `retention_days` after the end of its
    /// slot; fewer than 15 count as 15. Removing may take it days, but from that moment on by `clock` nobody
    /// reads any more whom the booking was for.
    pub fn new(
        client: DynamoDb,
        table: impl Into<String>,
        retention_days: u32,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let retention_ms = u64::from(retention_days.max(MIN_RETENTION_DAYS)).saturating_mul(MS_PER_DAY);
        Self { client, table: table.into(), retention_ms, clock, entropy }
    }

    /// The booking without whom it was for, if that is not to be kept any more.
    fn without_what_is_over(&self, mut stored: StoredBooking) -> StoredBooking {
        if kept_until(&stored, self.retention_ms) <= self.clock.now() {
            stored.booking.request.customer = None;
            stored.booking.request.notes = None;
        }
        stored
    }

    fn writing<'a>(&'a self, stored: &'a StoredBooking, nonce: &'a Bytes) -> Writing<'a> {
        Writing { table: &self.table, stored, retention_ms: self.retention_ms, nonce }
    }

    /// A write of the booking's item together with its slots.
    fn slot_write<'a>(
        &'a self,
        booking: TransactWriteItem,
        id: &'a BookingId,
        nonce: &'a Bytes,
    ) -> SlotWrite<'a> {
        SlotWrite {
            client: &self.client,
            table: &self.table,
            entropy: self.entropy.as_ref(),
            retention_ms: self.retention_ms,
            booking,
            id,
            nonce,
        }
    }
}

pub(super) fn decoded(item: SdkItem) -> Result<StoredBooking, StoreError> {
    stored_from_image(item.into()).map_err(|unreadable| {
        let id = unreadable.booking_id.map_or_else(|| "booking".to_owned(), |id| id.to_string());
        StoreError::Corrupt(format!("{id}: {}", unreadable.error))
    })
}

impl DynamoBookingStore {
    fn claimed(found: SdkItem, nonce: &Bytes) -> Result<Claim, StoreError> {
        if written_by(&found, nonce) {
            return Ok(Claim::Claimed);
        }
        Ok(Claim::Taken(Box::new(decoded(found)?)))
    }

    fn replaced(found: SdkItem, nonce: &Bytes) -> Result<Replaced, StoreError> {
        if found.is_empty() {
            return Ok(Replaced::Gone);
        }
        if written_by(&found, nonce) {
            return Ok(Replaced::Done);
        }
        Ok(Replaced::Conflict(Box::new(decoded(found)?)))
    }
}

impl BookingStore for DynamoBookingStore {
    async fn claim(&self, new: &StoredBooking) -> Result<Claim, StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        // Another try is rare, and writes the same item anew; a copy would cost every booking.
        let claiming = Claiming(self.writing(new, &nonce));
        let mut tries = Tries::begin();
        loop {
            let Err(error) = Box::pin(self.client.call(&claiming)).await? else {
                return Ok(Claim::Claimed);
            };
            match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failure)) => {
                    return Self::claimed(failure.item().cloned().unwrap_or_default(), &nonce);
                }
                Some(PutItemError::TransactionConflictException(_))
                    if tries.again(self.entropy.as_ref()).await => {}
                _ => return Err(store_error("PutItem", &error)),
            }
        }
    }

    async fn read(&self, id: &BookingId) -> Result<Option<StoredBooking>, StoreError> {
        let reading = Reading { table: &self.table, pk: &partition_key(id), sk: None };
        let found = reading.by(&self.client).await?.map(decoded).transpose()?;
        Ok(found.map(|stored| self.without_what_is_over(stored)))
    }

    async fn replace(&self, seen_rev: u64, next: &StoredBooking) -> Result<Replaced, StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        let replacing = Replacing { seen_rev, next: self.writing(next, &nonce) };
        let mut tries = Tries::begin();
        loop {
            let Err(error) = Box::pin(self.client.call(&replacing)).await? else {
                return Ok(Replaced::Done);
            };
            match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failure)) => {
                    return Self::replaced(failure.item().cloned().unwrap_or_default(), &nonce);
                }
                Some(UpdateItemError::TransactionConflictException(_))
                    if tries.again(self.entropy.as_ref()).await => {}
                _ => return Err(store_error("UpdateItem", &error)),
            }
        }
    }

    async fn claim_with_slots(&self, new: &StoredBooking, take: &[SlotKey]) -> Result<Claim, StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        let item = self.writing(new, &nonce).sdk_item()?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(NOBODY_YET)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|_| incomplete_request(CALL))?;
        let booking = TransactWriteItem::builder().put(put).build();
        let exchange = SlotExchange { take: take.to_vec(), free: Vec::new() };
        match self.slot_write(booking, &new.booking.id, &nonce).write(exchange).await? {
            Written::Done => Ok(Claim::Claimed),
            Written::Unmet(found) => Self::claimed(found, &nonce),
            Written::SlotTaken => Ok(Claim::SlotTaken),
        }
    }

    async fn replace_with_slots(
        &self,
        seen_rev: u64,
        next: &StoredBooking,
        exchange: &SlotExchange,
    ) -> Result<Replaced, StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        let item = self.writing(next, &nonce).sdk_item()?;
        let Replacement { key, update, condition, names, values } = Replacement::new(seen_rev, item);
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|_| incomplete_request(CALL))?;
        let booking = TransactWriteItem::builder().update(update).build();
        match self.slot_write(booking, &next.booking.id, &nonce).write(exchange.clone()).await? {
            Written::Done => Ok(Replaced::Done),
            Written::Unmet(found) => Self::replaced(found, &nonce),
            Written::SlotTaken => Ok(Replaced::SlotTaken),
        }
    }

    async fn list(&self, tenant: &Tenant, query: &BookingQuery) -> Result<BookingPage, StoreError> {
        Lists { client: &self.client, table: &self.table, entropy: self.entropy.as_ref() }
            .page(tenant, query)
            .await
    }

    async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<BookingId>, StoreError> {
        overdue(&self.client, &self.table, before, limit).await
    }

    async fn scan(&self, after: Option<&ScanPlace>, limit: usize) -> Result<BookingScan, StoreError> {
        scan(&self.client, &self.table, after, limit).await
    }
}
