//! That consumers' requests are counted is the same for all calls, and shows in some: it is taken out of what is
//! compared.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::contract::embedded::{CONFIG_TABLE, Embedded};

/// What a consumer is told of its limit.
pub(super) const HEADERS: [&str; 2] = ["ratelimit", "ratelimit-policy"];

/// What a report of requests does: it adds to the count, and reads what the consumer may do.
const REPORT: [&str; 2] = ["UpdateItem", "GetItem"];

pub(super) fn is_count(item: &HashMap<String, AttributeValue>) -> bool {
    item["pk"].as_s().is_ok_and(|pk| pk.starts_with("REQUESTS#"))
}

/// How many requests have been reported.
pub(super) async fn requests(embedded: &Embedded) -> u64 {
    let scanned = embedded.client.scan().table_name(CONFIG_TABLE).send().await.unwrap();
    assert!(scanned.last_evaluated_key.is_none(), "the table is too large for one page");
    let items = scanned.items.unwrap_or_default().into_iter().filter(is_count);
    items.map(|item| item["requests"].as_n().unwrap().parse::<u64>().unwrap()).sum()
}

/// Takes a report out of the calls that were made beside it.
pub(super) fn take_out_a_report(calls: &mut Vec<String>) {
    for name in REPORT {
        let place = calls.iter().rposition(|call| call == name);
        calls.remove(place.unwrap_or_else(|| panic!("no {name} in {calls:?}")));
    }
}
