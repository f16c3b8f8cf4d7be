//! A tenant's bookings, the newest first: two indexes say which and in what order, the items say what they
//! are.
//!
//! Both indexes hold keys alone, none of which ever changes, so that a booking is written to them once,
//! when it is made. They run behind the table by moments, and what an index says is a hint: each item is
//! read consistently, and whether it is wanted is decided by what it says.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_app::ports::{BookingPage, BookingQuery, Entropy, ListPlace, StoreError};
use holdfast_domain::{Booking, BookingId, Tenant, Timestamp};

use super::decode::booking_id_of;
use super::encode::partition_key;
use super::item::{CREATED_AT, REFERENCE_DIGEST, TENANT};
use super::store::decoded;
use crate::DynamoDb;
use crate::batch::{MAX_BATCH_KEYS, batch_get};
use crate::digest::digest;
use crate::error::store_error;
use crate::item::{Bytes, PK, SdkItem, binary, number, text};

/// The index of bookings by tenant and time.
pub const TENANT_INDEX: &str = "by_tenant";

/// The sparse index of bookings by tenant, reference and time.
pub const REFERENCE_INDEX: &str = "by_reference";

/// How many batches are read at once.
const CONCURRENT_BATCHES: usize = 4;

/// What stands for a reference in the index: it may be anybody's name, and a key is no place for that.
pub(super) fn reference_digest(tenant: &Tenant, reference: &str) -> Bytes {
    let fields = [tenant.mode.as_str(), tenant.consumer_id.as_str(), reference].map(str::as_bytes);
    Bytes(digest("holdfast/reference", &fields).to_vec())
}

/// Reads lists.
pub(super) struct Lists<'a> {
    /// The client.
    pub(super) client: &'a DynamoDb,
    /// The table of bookings.
    pub(super) table: &'a str,
    /// For the delays between two rounds of a batch.
    pub(super) entropy: &'a dyn Entropy,
}

/// An index, and the partition of it that a list is in.
struct Partition {
    index: &'static str,
    attribute: &'static str,
    value: AttributeValue,
}

impl Partition {
    fn of(tenant: &Tenant, query: &BookingQuery) -> Self {
        match &query.reference {
            None => Self { index: TENANT_INDEX, attribute: TENANT, value: text(tenant.to_string()) },
            Some(reference) => Self {
                index: REFERENCE_INDEX,
                attribute: REFERENCE_DIGEST,
                value: binary(&reference_digest(tenant, reference)),
            },
        }
    }

    /// The key of an entry, from which a query goes on.
    fn start_key(&self, place: &ListPlace) -> SdkItem {
        SdkItem::from([
            (PK.to_owned(), text(partition_key(&place.booking_id))),
            (self.attribute.to_owned(), self.value.clone()),
            (CREATED_AT.to_owned(), number(place.created_at.as_unix_ms())),
        ])
    }
}

impl Lists<'_> {
    /// A part of a tenant's list.
    pub(super) async fn page(
        &self,
        tenant: &Tenant,
        query: &BookingQuery,
    ) -> Result<BookingPage, StoreError> {
        let mut places = self.places(&Partition::of(tenant, query), query).await?;
        // One more was asked for, which tells whether there is more.
        let is_more = places.len() > query.limit;
        places.truncate(query.limit);
        let mut found = self.read(&places).await?;
        let bookings = places.iter().filter_map(|place| found.remove(&place.booking_id));
        let bookings = bookings.filter(|booking| {
            let reference = query.reference.as_ref();
            booking.tenant == *tenant
                && reference.is_none_or(|wanted| booking.request.reference.as_ref() == Some(wanted))
        });
        let bookings = bookings.collect();
        Ok(BookingPage { bookings, next: places.pop().filter(|_| is_more) })
    }

    /// The places that the index has, one more than the limit if there are.
    async fn places(
        &self,
        partition: &Partition,
        query: &BookingQuery,
    ) -> Result<Vec<ListPlace>, StoreError> {
        // DynamoDB refuses to go on from a place that the condition excludes. Nothing is behind it.
        let is_over = query.after.as_ref().zip(query.created_after);
        if query.limit == 0 || is_over.is_some_and(|(place, after)| place.created_at <= after) {
            return Ok(Vec::new());
        }
        let mut condition = "#partition = :partition".to_owned();
        let mut names = HashMap::from([("#partition".to_owned(), partition.attribute.to_owned())]);
        let mut values = SdkItem::from([(":partition".to_owned(), partition.value.clone())]);
        if let Some(after) = query.created_after {
            condition.push_str(" AND #created > :after");
            names.insert("#created".to_owned(), CREATED_AT.to_owned());
            values.insert(":after".to_owned(), number(after.as_unix_ms()));
        }
        let wanted = self
            .client
            .query()
            .table_name(self.table)
            .index_name(partition.index)
            .key_condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .set_exclusive_start_key(query.after.as_ref().map(|place| partition.start_key(place)))
            .scan_index_forward(false)
            .limit(i32::try_from(query.limit.saturating_add(1)).unwrap_or(i32::MAX));
        let answer = Box::pin(wanted.send()).await.map_err(|error| store_error("Query", &error))?;
        // An entry without a booking's key was not made by this code.
        Ok(answer.items.unwrap_or_default().into_iter().filter_map(place_of).collect())
    }

    /// The bookings at these places, without those that are gone.
    async fn read(&self, places: &[ListPlace]) -> Result<HashMap<BookingId, Booking>, StoreError> {
        let batches: Vec<Vec<SdkItem>> = places
            .chunks(MAX_BATCH_KEYS)
            .map(|chunk| {
                let keys = chunk.iter().map(|place| text(partition_key(&place.booking_id)));
                keys.map(|key| SdkItem::from([(PK.to_owned(), key)])).collect()
            })
            .collect();
        let items: Vec<Vec<SdkItem>> = stream::iter(batches)
            .map(|keys| batch_get(self.client, self.table, self.entropy, keys))
            .buffered(CONCURRENT_BATCHES)
            .try_collect()
            .await?;
        let bookings = items.into_iter().flatten().filter_map(|item| match decoded(item) {
            Ok(stored) => Some((stored.booking.id.clone(), stored.booking)),
            // One that cannot be read must not hide all the others.
            Err(error) => {
                tracing::error!(%error, "A booking is missing in a list.");
                None
            }
        });
        Ok(bookings.collect())
    }
}

fn place_of(entry: SdkItem) -> Option<ListPlace> {
    let created_at = match entry.get(CREATED_AT) {
        Some(AttributeValue::N(unix_ms)) => Timestamp::from_unix_ms(unix_ms.parse().ok()?).ok()?,
        _ => return None,
    };
    Some(ListPlace { created_at, booking_id: booking_id_of(&entry.into())? })
}
