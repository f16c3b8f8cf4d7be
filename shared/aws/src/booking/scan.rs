//! All bookings, a part of the table at a time: when each changed, and whether something is due for it. Nothing that
//! people wrote leaves the table by a scan, and the role of the function that scans may ask for no other attributes.
//!
//! The table has other items too, which a filter leaves out. DynamoDB counts what it looked at, not what it returns.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use holdfast_app::ports::{BookingScan, ScanPlace, ScannedBooking, ScannedChanges, StoreError};

use super::decode::booking_id_of;
use super::encode::PK_PREFIX;
use super::history::entry_of;
use super::item::{DUE_AT, FORMAT, HISTORY, ITEM_FORMAT, NOTIFICATIONS, OPERATION};
use crate::error::store_error;
use crate::item::{PK, SdkItem, text};

/// The attributes of which something is asked for. The template names the same.
const ATTRIBUTES: [&str; 6] = [PK, FORMAT, HISTORY, OPERATION, NOTIFICATIONS, DUE_AT];

/// What is asked for. An operation's kind (`k`) says that there is one, and nothing of the words that it may have; so it is
/// with the first notification.
const PROJECTION: &str = "#pk, #v, #y, #op.k, #nt[0].k, #due_at";

/// Bookings from a place on; not more than `limit` items are looked at.
pub(super) async fn scan(
    client: &Client,
    table: &str,
    after: Option<&ScanPlace>,
    limit: usize,
) -> Result<BookingScan, StoreError> {
    let scan = client
        .scan()
        .table_name(table)
        .select(Select::SpecificAttributes)
        .projection_expression(PROJECTION)
        .set_expression_attribute_names(Some(HashMap::from(
            ATTRIBUTES.map(|attribute| (format!("#{attribute}"), attribute.to_owned())),
        )))
        .filter_expression(format!("begins_with(#{PK}, :bookings)"))
        .expression_attribute_values(":bookings", text(PK_PREFIX))
        .set_exclusive_start_key(after.map(|place| SdkItem::from([(PK.to_owned(), text(&place.0))])))
        .limit(i32::try_from(limit).unwrap_or(i32::MAX));
    let answer = Box::pin(scan.send()).await.map_err(|error| store_error("Scan", &error))?;
    let next = answer.last_evaluated_key.as_ref().and_then(place_of);
    let bookings = answer.items.unwrap_or_default().into_iter().filter_map(scanned).collect();
    Ok(BookingScan { bookings, next })
}

fn place_of(key: &SdkItem) -> Option<ScanPlace> {
    key.get(PK)?.as_s().ok().cloned().map(ScanPlace)
}

/// An item without a booking's key was not made by this code.
fn scanned(item: SdkItem) -> Option<ScannedBooking> {
    let (place, changes) = (place_of(&item)?, changes(&item));
    Some(ScannedBooking { id: booking_id_of(&item.into())?, place, changes })
}

fn changes(item: &SdkItem) -> Option<ScannedChanges> {
    let format: u32 = item.get(FORMAT)?.as_n().ok()?.parse().ok()?;
    if format > ITEM_FORMAT {
        return None;
    }
    let at = |entry: &AttributeValue| Some(entry_of(entry.as_s().ok()?)?.at);
    let versions_at: Option<Vec<_>> = item.get(HISTORY)?.as_l().ok()?.iter().map(at).collect();
    // While the request that makes a booking is at work, the index of what is due does not have it.
    let is_under_way =
        [OPERATION, NOTIFICATIONS, DUE_AT].iter().any(|attribute| item.contains_key(*attribute));
    Some(ScannedChanges { versions_at: versions_at?, is_under_way })
}
