//! The sparse index of bookings that are due after their request: where an item goes in it, and how the
//! sweep reads it.
//!
//! The partition is a shard and an hour, never the status itself, so that no partition grows hot. Reads
//! are hints: whoever gets an identifier reads the item.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast_app::ports::StoreError;
use holdfast_domain::{BookingId, Timestamp};

use super::decode::booking_id_of;
use super::item::{DUE_AT, DUE_SHARD};
use crate::error::store_error;
use crate::item::{number, text};

/// The index's name in the table.
pub const OVERDUE_INDEX: &str = "overdue";

/// Into how many partitions the bookings of an hour are spread.
const SHARDS: u8 = 4;

/// How far back the sweep looks, in hours: 48 h, the longest background deadline, 24 h, the longest
/// compensation, and three hours for an outage of the sweep itself.
const HOURS_BACK: i64 = 75;

/// How many partitions are asked at once.
const CONCURRENT_QUERIES: usize = 8;

const MS_PER_HOUR: i64 = 60 * 60 * 1_000;

/// The index's partition of a booking that is due at a time.
pub(super) fn shard_of(id: &BookingId, due_at: Timestamp) -> String {
    // The identifier is a hash or ends in random bits, so that any sum over it spreads evenly.
    let sum = id.as_str().bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    shard_name(sum % SHARDS, due_at.as_unix_ms() / MS_PER_HOUR)
}

fn shard_name(shard: u8, hour: i64) -> String {
    format!("{shard}#{hour}")
}

/// Bookings that have been due since before `before`, the latest hours first, not more than `limit`.
///
/// The latest first, because what has been due for a short time can still be saved, while anything
/// older that fills up a read is found again by the next one.
pub(super) async fn overdue(
    client: &Client,
    table: &str,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<BookingId>, StoreError> {
    let this_hour = before.as_unix_ms() / MS_PER_HOUR;
    let partitions = (0..=HOURS_BACK)
        .filter_map(|back| this_hour.checked_sub(back))
        .flat_map(|hour| (0..SHARDS).map(move |shard| shard_name(shard, hour)));
    let mut pages = stream::iter(partitions)
        .map(|partition| query(client, table, partition, before, limit))
        .buffered(CONCURRENT_QUERIES);
    let mut found = Vec::new();
    while let Some(page) = pages.try_next().await? {
        found.extend(page);
        if found.len() >= limit {
            found.truncate(limit);
            break;
        }
    }
    Ok(found)
}

async fn query(
    client: &Client,
    table: &str,
    partition: String,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<BookingId>, StoreError> {
    let answer = client
        .query()
        .table_name(table)
        .index_name(OVERDUE_INDEX)
        .key_condition_expression("#shard = :shard AND #due < :before")
        .set_expression_attribute_names(Some(HashMap::from([
            ("#shard".to_owned(), DUE_SHARD.to_owned()),
            ("#due".to_owned(), DUE_AT.to_owned()),
        ])))
        .expression_attribute_values(":shard", text(partition))
        .expression_attribute_values(":before", number(before.as_unix_ms()))
        .limit(i32::try_from(limit).unwrap_or(i32::MAX))
        .send()
        .await
        .map_err(|error| store_error("Query", &error))?;
    // An entry without a booking's key was not made by this code; it is none of the sweep's business.
    Ok(answer.items.unwrap_or_default().into_iter().filter_map(|item| booking_id_of(&item.into())).collect())
}
