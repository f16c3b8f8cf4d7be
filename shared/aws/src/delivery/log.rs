//! The log of attempts.

use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{AttemptEntry, AttemptLog, AttemptPage, AttemptPlace, StoreError};
use holdfast_app::webhook::DELIVERY_KEPT_MS;
use holdfast_domain::{EventId, Timestamp, WebhookEndpointId};
use serde::{Deserialize, Serialize};

use super::{DynamoDeliveryStore, MS_PER_SECOND};
use crate::error::store_error;
use crate::item::{PK, SK, SdkItem, from_sdk_item, key, text, to_sdk_item};

const WHAT: &str = "attempt";

/// Behind every place of the log: digits come before it.
const END: &str = "~";

#[derive(Serialize, Deserialize)]
struct AttemptItem {
    pk: String,
    sk: String,
    event_type: String,
    latency_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response_body: Option<String>,
    ttl: i64,
}

fn log_key(id: &WebhookEndpointId) -> String {
    format!("EPL#{id}")
}

/// A time with as many digits as the last representable one has.
fn digits(at: Timestamp) -> String {
    format!("{:015}", at.as_unix_ms())
}

fn sort_key(place: &AttemptPlace) -> String {
    format!("{}#{}#{:010}", digits(place.at), place.event_id, place.attempt)
}

fn corrupt(attribute: &str) -> StoreError {
    StoreError::Corrupt(format!("{WHAT}: attribute {attribute}"))
}

fn place_of(sort_key: &str) -> Option<AttemptPlace> {
    let mut parts = sort_key.splitn(3, '#');
    Some(AttemptPlace {
        at: Timestamp::from_unix_ms(parts.next()?.parse().ok()?).ok()?,
        event_id: EventId::parse(parts.next()?).ok()?,
        attempt: parts.next()?.parse().ok()?,
    })
}

fn item_of(entry: &AttemptEntry) -> AttemptItem {
    AttemptItem {
        pk: log_key(&entry.endpoint_id),
        sk: sort_key(&entry.place()),
        event_type: entry.event_type.clone(),
        latency_ms: entry.latency_ms,
        status: entry.status,
        error: entry.error.clone(),
        response_body: entry.response_body.clone(),
        ttl: entry.at.plus_ms(DELIVERY_KEPT_MS).as_unix_ms() / MS_PER_SECOND,
    }
}

fn entry_of(item: SdkItem) -> Result<AttemptEntry, StoreError> {
    let item: AttemptItem = from_sdk_item(WHAT, item)?;
    let endpoint_id = item.pk.strip_prefix("EPL#").and_then(|id| WebhookEndpointId::parse(id).ok());
    let place = place_of(&item.sk).ok_or_else(|| corrupt(SK))?;
    Ok(AttemptEntry {
        endpoint_id: endpoint_id.ok_or_else(|| corrupt(PK))?,
        event_id: place.event_id,
        event_type: item.event_type,
        attempt: place.attempt,
        at: place.at,
        latency_ms: item.latency_ms,
        status: item.status,
        error: item.error,
        response_body: item.response_body,
    })
}

impl AttemptLog for DynamoDeliveryStore {
    async fn append(&self, entry: &AttemptEntry) -> Result<(), StoreError> {
        let item = to_sdk_item(WHAT, &item_of(entry))?;
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        put.send().await.map_err(|error| store_error("PutItem", &error))?;
        Ok(())
    }

    async fn attempts(
        &self,
        endpoint_id: &WebhookEndpointId,
        since: Timestamp,
        after: Option<&AttemptPlace>,
        limit: usize,
    ) -> Result<AttemptPage, StoreError> {
        // DynamoDB refuses to go on from outside of the range. Nothing is behind it.
        if limit == 0 || after.is_some_and(|after| after.at < since) {
            return Ok(AttemptPage { entries: Vec::new(), next: None });
        }
        let pk = log_key(endpoint_id);
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :since AND :end")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", text(pk.clone()))
            .expression_attribute_values(":since", text(digits(since)))
            .expression_attribute_values(":end", text(END))
            .set_exclusive_start_key(after.map(|place| key(pk, sort_key(place))))
            .scan_index_forward(false)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| store_error("Query", &error))?;
        let next = match answer.last_evaluated_key.as_ref().and_then(|key| key.get(SK)) {
            Some(AttributeValue::S(sort_key)) => Some(place_of(sort_key).ok_or_else(|| corrupt(SK))?),
            _ => None,
        };
        let entries = answer.items.unwrap_or_default().into_iter().map(entry_of);
        Ok(AttemptPage { entries: entries.collect::<Result<_, _>>()?, next })
    }
}
