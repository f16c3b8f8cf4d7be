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

/// How far back every read looks, in hours: 48 h, the longest background deadline, 24 h, the longest
/// compensation, and three hours for an outage of the sweep itself.
const HOURS_BACK: i64 = 75;

/// How many older days take turns: each read looks at one of them besides, so that what an outage of
/// days left behind is found all the same.
const OLDER_DAYS: i64 = 60;

/// For how long it is one older day's turn, in milliseconds: the sweep's own interval, five minutes.
const TURN_MS: i64 = 5 * 60 * 1_000;

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
    let partitions = hours_back(before)
        .map(|back| this_hour.saturating_sub(back))
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

/// How many hours back a read looks, the latest first.
fn hours_back(before: Timestamp) -> impl Iterator<Item = i64> {
    const HOURS_PER_DAY: i64 = 24;
    let turn = before.as_unix_ms() / TURN_MS % OLDER_DAYS;
    let older = HOURS_BACK.saturating_add(1).saturating_add(turn.saturating_mul(HOURS_PER_DAY));
    (0..=HOURS_BACK).chain(older..older.saturating_add(HOURS_PER_DAY))
}

async fn query(
    client: &Client,
    table: &str,
    partition: String,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<BookingId>, StoreError> {
    let query = client
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
        .limit(i32::try_from(limit).unwrap_or(i32::MAX));
    let answer = Box::pin(query.send()).await.map_err(|error| store_error("Query", &error))?;
    // An entry without a booking's key was not made by this code; it is none of the sweep's business.
    Ok(answer.items.unwrap_or_default().into_iter().filter_map(|item| booking_id_of(&item.into())).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_older_hour_has_its_turn() {
        let begin = 1_795_257_665_123;
        let looked_at: BTreeSet<i64> = (0..OLDER_DAYS)
            .flat_map(|turn| hours_back(Timestamp::from_unix_ms(begin + turn * TURN_MS).unwrap()))
            .collect();
        assert_eq!(looked_at, (0..=HOURS_BACK + OLDER_DAYS * 24).collect());
    }
}
