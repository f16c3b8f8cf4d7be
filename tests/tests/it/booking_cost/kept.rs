//! What the tables keep of bookings, for how long, and what that costs.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;

use super::deployment::Deployment;
use super::work::{float, prices};
use crate::contract::embedded::{BOOKING_TABLE, DELIVERY_TABLE};
use crate::contract::item_size::item_size;
use crate::observability::resources_of;

/// What DynamoDB takes besides of each item, and of each entry of an index, in bytes (developer guide, "Secondary
/// indexes: storage considerations", and the service's page of prices).
const OVERHEAD_BYTES: usize = 100;

const SECONDS_PER_MONTH: f64 = 30.4 * 24.0 * 60.0 * 60.0;

type Item = HashMap<String, AttributeValue>;

/// What all that this deployment keeps will have cost when it is forgotten, in USD.
pub(super) async fn usd_until_forgotten(deployment: &Deployment) -> f64 {
    let mut usd = 0.0;
    for (resource, table) in [("BookingTable", BOOKING_TABLE), ("DeliveryTable", DELIVERY_TABLE)] {
        let properties = &resources_of("AWS::DynamoDB::Table")[resource];
        for item in items(deployment, table).await {
            // The feed's counters stay for ever, one for a consumer.
            let Some(AttributeValue::N(until)) = item.get("ttl") else { continue };
            let kept_s = until.parse::<f64>().unwrap() - float(deployment.now_s());
            assert!(kept_s > 0.0, "{table}: {item:?}");
            usd += usd_a_month(properties, &item) * kept_s / SECONDS_PER_MONTH;
        }
    }
    usd
}

async fn items(deployment: &Deployment, table: &str) -> Vec<Item> {
    let scanned = deployment.embedded.client.scan().table_name(table).send().await.unwrap();
    assert_eq!(scanned.last_evaluated_key, None, "{table} has more");
    scanned.items.unwrap()
}

/// An item with its places in the table's indexes, which are not backed up.
fn usd_a_month(table: &Value, item: &Item) -> f64 {
    let in_table = item_size(item) + OVERHEAD_BYTES;
    let indexes = table["GlobalSecondaryIndexes"].as_array().into_iter().flatten();
    let in_indexes: usize = indexes.filter_map(|index| entry_size(table, index, item)).sum();
    let bytes = |count: usize| float(count.try_into().unwrap());
    let backed_up = if table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] == true {
        1.0
    } else {
        0.0
    };
    let stored = bytes(in_table + in_indexes) * prices::STORED_GB_MONTH;
    let backups = bytes(in_table) * backed_up * prices::BACKED_UP_GB_MONTH;
    (stored + backups) / 1e9
}

/// What an index of keys holds of an item; nothing if the item lacks one of them.
fn entry_size(table: &Value, index: &Value, item: &Item) -> Option<usize> {
    assert_eq!(index["Projection"]["ProjectionType"], "KEYS_ONLY");
    let keys = [table, index].into_iter().flat_map(|of| of["KeySchema"].as_array().unwrap());
    let names = keys.map(|key| key["AttributeName"].as_str().unwrap());
    let entry: Option<Item> = names.map(|name| Some((name.to_owned(), item.get(name)?.clone()))).collect();
    entry.map(|entry| item_size(&entry) + OVERHEAD_BYTES)
}
