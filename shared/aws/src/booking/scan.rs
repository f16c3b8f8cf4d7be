//! All bookings, a part of the table at a time.
//!
//! The table has other items too, which a filter leaves out: only bookings say when they were made. DynamoDB counts
//! what it looked at, not what it returns.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{BookingScan, ScanPlace, StoreError};
use holdfast_domain::Timestamp;

use super::decode::stored_from_image;
use super::item::CREATED_AT;
use crate::error::store_error;
use crate::item::{PK, SdkItem, number, text};

/// Bookings that were made before a time, from a place on; not more than `limit` items are looked at.
pub(super) async fn scan(
    client: &Client,
    table: &str,
    after: Option<&ScanPlace>,
    created_before: Timestamp,
    limit: usize,
) -> Result<BookingScan, StoreError> {
    let scan = client
        .scan()
        .table_name(table)
        .filter_expression(format!("{CREATED_AT} < :before"))
        .expression_attribute_values(":before", number(created_before.as_unix_ms()))
        .set_exclusive_start_key(after.map(|place| SdkItem::from([(PK.to_owned(), text(&place.0))])))
        .limit(i32::try_from(limit).unwrap_or(i32::MAX));
    let answer = Box::pin(scan.send()).await.map_err(|error| store_error("Scan", &error))?;
    let next = match answer.last_evaluated_key.as_ref().and_then(|key| key.get(PK)) {
        Some(AttributeValue::S(key)) => Some(ScanPlace(key.clone())),
        _ => None,
    };
    let mut part = BookingScan { next, ..BookingScan::default() };
    for item in answer.items.unwrap_or_default() {
        match stored_from_image(item.into()) {
            Ok(stored) => part.bookings.push(stored),
            // An item without a booking's key was not made by this code.
            Err(unreadable) => part.unreadable.extend(unreadable.booking_id),
        }
    }
    Ok(part)
}
