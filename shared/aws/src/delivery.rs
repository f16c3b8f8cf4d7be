//! Deliveries in DynamoDB, and the log of attempts: one item each. An attempt is removed by its
//! TTL after 30 days; a delivery so long after its last round could be over, so that none goes midway.
//!
//! | partition key | sort key | item |
//! |---|---|---|
//! | `EP#<endpoint>` | event id | a delivery |
//! | `EPL#<endpoint>` | time, event id, number | an attempt |
//!
//! A delivery is found by its event, so that an event that arrives twice finds it. Replays want deliveries by
//! time: that is an index of keys alone over an attribute that never changes, so that a delivery is written to
//! it once, when it is made.

mod log;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use holdfast_app::ports::{
    DeliveryClaim, DeliveryPage, DeliveryPlace, DeliveryQuery, DeliveryStore, DeliveryUpdate, Entropy,
    StoreError,
};
use holdfast_app::webhook::{DELIVERY_KEPT_MS, Delivery, DeliveryState, MAX_SCHEDULE_S};
use holdfast_domain::{EventId, Tenant, Timestamp, WebhookEndpointId};
use serde::{Deserialize, Serialize};

use crate::DynamoDb;
use crate::batch::{MAX_BATCH_KEYS, batch_get};
use crate::error::store_error;
use crate::item::{
    Bytes, NONCE, PK, SK, SdkItem, binary, from_sdk_item, is_zero, key, nonce, number, text, to_sdk_item,
    written_by,
};

const WHAT: &str = "delivery";
const MS_PER_SECOND: i64 = 1_000;

/// The index of deliveries by endpoint and time.
pub const CREATED_INDEX: &str = "by_created";

/// The attribute of the time that the index has.
const CREATED_AT: &str = "ca";

/// Deliveries in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoDeliveryStore {
    client: DynamoDb,
    table: String,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for DynamoDeliveryStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoDeliveryStore").field("table", &self.table).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct DeliveryItem {
    pk: String,
    sk: String,
    tenant: String,
    event_type: String,
    body: String,
    created_at: i64,
    /// The same, for the index. What a version wrote that had none is in no index until its next write.
    #[serde(default)]
    ca: i64,
    attempts: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    earlier_attempts: u32,
    /// Absent in what was never made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    round: Option<RoundItem>,
    state: StateItem,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    rev: u64,
    ttl: i64,
}

#[derive(Serialize, Deserialize)]
struct RoundItem {
    number: u32,
    at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateItem {
    Waiting(i64),
    InFlight(i64),
    Delivered(i64),
    Exhausted(i64),
}

fn endpoint_key(id: &WebhookEndpointId) -> String {
    format!("EP#{id}")
}

fn item_of(delivery: &Delivery) -> DeliveryItem {
    DeliveryItem {
        pk: endpoint_key(&delivery.endpoint_id),
        sk: delivery.event_id.as_str().to_owned(),
        tenant: delivery.tenant.to_string(),
        event_type: delivery.event_type.clone(),
        body: delivery.body.clone(),
        created_at: delivery.created_at.as_unix_ms(),
        ca: delivery.created_at.as_unix_ms(),
        attempts: delivery.attempts,
        earlier_attempts: delivery.earlier_attempts,
        round: (delivery.round > 1)
            .then(|| RoundItem { number: delivery.round, at: delivery.round_at.as_unix_ms() }),
        state: match delivery.state {
            DeliveryState::Waiting { next_attempt_at } => StateItem::Waiting(next_attempt_at.as_unix_ms()),
            DeliveryState::InFlight { lease_until } => StateItem::InFlight(lease_until.as_unix_ms()),
            DeliveryState::Delivered { at } => StateItem::Delivered(at.as_unix_ms()),
            DeliveryState::Exhausted { at } => StateItem::Exhausted(at.as_unix_ms()),
        },
        last_error: delivery.last_error.clone(),
        rev: delivery.rev,
        ttl: removed_from(delivery).as_unix_ms() / MS_PER_SECOND,
    }
}

/// From when on a delivery may be removed: not while its last round goes on, however late that began. What is
/// shown or made again is judged by the clock, and not by what is still there.
fn removed_from(delivery: &Delivery) -> Timestamp {
    let begun_at = delivery.created_at.max(delivery.round_at);
    begun_at.plus_ms(DELIVERY_KEPT_MS + u64::from(MAX_SCHEDULE_S) * 1_000)
}

fn corrupt(attribute: &str) -> StoreError {
    StoreError::Corrupt(format!("{WHAT}: attribute {attribute}"))
}

fn time(attribute: &str, unix_ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_unix_ms(unix_ms).map_err(|_| corrupt(attribute))
}

fn delivery_of(item: SdkItem) -> Result<Delivery, StoreError> {
    let item: DeliveryItem = from_sdk_item(WHAT, item)?;
    let endpoint_id = item.pk.strip_prefix("EP#").and_then(|id| WebhookEndpointId::parse(id).ok());
    let created_at = time("created_at", item.created_at)?;
    let (round, round_at) = match item.round {
        Some(round) => (round.number, time("round", round.at)?),
        None => (1, created_at),
    };
    Ok(Delivery {
        endpoint_id: endpoint_id.ok_or_else(|| corrupt("pk"))?,
        tenant: Tenant::parse(&item.tenant).ok_or_else(|| corrupt("tenant"))?,
        event_id: EventId::parse(&item.sk).map_err(|_| corrupt("sk"))?,
        event_type: item.event_type,
        body: item.body,
        created_at,
        attempts: item.attempts,
        earlier_attempts: item.earlier_attempts,
        round,
        round_at,
        state: match item.state {
            StateItem::Waiting(at) => DeliveryState::Waiting { next_attempt_at: time("state", at)? },
            StateItem::InFlight(at) => DeliveryState::InFlight { lease_until: time("state", at)? },
            StateItem::Delivered(at) => DeliveryState::Delivered { at: time("state", at)? },
            StateItem::Exhausted(at) => DeliveryState::Exhausted { at: time("state", at)? },
        },
        last_error: item.last_error,
        rev: item.rev,
    })
}

/// What a conditional put found.
enum Put {
    Done,
    /// The condition failed on this item; `None` if there is none.
    Refused(Option<SdkItem>),
}

impl DynamoDeliveryStore {
    /// The deliveries in `table`.
    pub fn new(client: DynamoDb, table: impl Into<String>, entropy: Arc<dyn Entropy>) -> Self {
        Self { client, table: table.into(), entropy }
    }

    fn put(&self, delivery: &Delivery) -> Result<(PutItemFluentBuilder, Bytes), StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        let mut item = to_sdk_item(WHAT, &item_of(delivery))?;
        item.insert(NONCE.to_owned(), binary(&nonce));
        Ok((self.client.put_item().table_name(&self.table).set_item(Some(item)), nonce))
    }
}

async fn send(put: PutItemFluentBuilder, nonce: &Bytes) -> Result<Put, StoreError> {
    let put = put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let Err(error) = put.send().await else {
        return Ok(Put::Done);
    };
    match error.as_service_error() {
        Some(PutItemError::ConditionalCheckFailedException(failure)) => match failure.item() {
            Some(found) if written_by(found, nonce) => Ok(Put::Done),
            found => Ok(Put::Refused(found.cloned())),
        },
        _ => Err(store_error("PutItem", &error)),
    }
}

impl DeliveryStore for DynamoDeliveryStore {
    async fn create(&self, delivery: &Delivery) -> Result<DeliveryClaim, StoreError> {
        let (put, nonce) = self.put(delivery)?;
        let put = put.condition_expression("attribute_not_exists(#pk)").expression_attribute_names("#pk", PK);
        match send(put, &nonce).await? {
            Put::Done => Ok(DeliveryClaim::Created),
            Put::Refused(found) => {
                Ok(DeliveryClaim::Existing(Box::new(delivery_of(found.unwrap_or_default())?)))
            }
        }
    }

    async fn read(
        &self,
        endpoint_id: &WebhookEndpointId,
        event_id: &EventId,
    ) -> Result<Option<Delivery>, StoreError> {
        let key = key(endpoint_key(endpoint_id), event_id.as_str());
        let get = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true);
        let answer = get.send().await.map_err(|error| store_error("GetItem", &error))?;
        answer.item.map(delivery_of).transpose()
    }

    async fn replace(&self, seen_rev: u64, next: &Delivery) -> Result<DeliveryUpdate, StoreError> {
        let (put, nonce) = self.put(next)?;
        let put = put
            .condition_expression("#rev = :seen")
            .expression_attribute_names("#rev", "rev")
            .expression_attribute_values(":seen", number(seen_rev));
        match send(put, &nonce).await? {
            Put::Done => Ok(DeliveryUpdate::Done),
            Put::Refused(_) => Ok(DeliveryUpdate::Conflict),
        }
    }

    async fn created_between(
        &self,
        endpoint_id: &WebhookEndpointId,
        query: &DeliveryQuery,
    ) -> Result<DeliveryPage, StoreError> {
        let limit = query.limit.min(MAX_BATCH_KEYS);
        // DynamoDB refuses a range that ends before it begins, and to go on from outside of it.
        let is_over = query.after.as_ref().is_some_and(|after| after.created_at >= query.until);
        if limit == 0 || is_over || query.until <= query.since {
            return Ok(DeliveryPage { deliveries: Vec::new(), next: None });
        }
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(CREATED_INDEX)
            .key_condition_expression("#pk = :pk AND #created BETWEEN :since AND :last")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#created", CREATED_AT)
            .expression_attribute_values(":pk", text(endpoint_key(endpoint_id)))
            .expression_attribute_values(":since", number(query.since.as_unix_ms()))
            .expression_attribute_values(":last", number(query.until.minus_ms(1).as_unix_ms()))
            .set_exclusive_start_key(query.after.as_ref().map(|place| index_key(endpoint_id, place)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| store_error("Query", &error))?;
        let next = answer.last_evaluated_key.as_ref().map(place_of).transpose()?;
        let places: Vec<DeliveryPlace> =
            answer.items.unwrap_or_default().iter().map(place_of).collect::<Result<_, _>>()?;
        let mut found = self.read_all(endpoint_id, &places).await?;
        let deliveries = places.iter().filter_map(|place| found.remove(&place.event_id)).collect();
        Ok(DeliveryPage { deliveries, next })
    }
}

impl DynamoDeliveryStore {
    /// Reads deliveries, strongly consistent, without those that are gone.
    async fn read_all(
        &self,
        endpoint_id: &WebhookEndpointId,
        places: &[DeliveryPlace],
    ) -> Result<HashMap<EventId, Delivery>, StoreError> {
        if places.is_empty() {
            return Ok(HashMap::new());
        }
        let key = |place: &DeliveryPlace| key(endpoint_key(endpoint_id), place.event_id.as_str());
        let keys = places.iter().map(key).collect();
        let items = batch_get(&self.client, &self.table, self.entropy.as_ref(), keys).await?;
        let deliveries = items.into_iter().map(|item| {
            let delivery = delivery_of(item)?;
            Ok((delivery.event_id.clone(), delivery))
        });
        deliveries.collect()
    }
}

/// The whole key of an index's entry, from which a query goes on.
fn index_key(endpoint_id: &WebhookEndpointId, place: &DeliveryPlace) -> SdkItem {
    let mut entry = key(endpoint_key(endpoint_id), place.event_id.as_str());
    entry.insert(CREATED_AT.to_owned(), number(place.created_at.as_unix_ms()));
    entry
}

fn place_of(entry: &SdkItem) -> Result<DeliveryPlace, StoreError> {
    let created_at = match entry.get(CREATED_AT) {
        Some(AttributeValue::N(unix_ms)) => unix_ms.parse().ok(),
        _ => None,
    };
    let event_id = match entry.get(SK) {
        Some(AttributeValue::S(event_id)) => EventId::parse(event_id).ok(),
        _ => None,
    };
    Ok(DeliveryPlace {
        created_at: time(CREATED_AT, created_at.ok_or_else(|| corrupt(CREATED_AT))?)?,
        event_id: event_id.ok_or_else(|| corrupt(SK))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_outlasts_the_longest_schedule_of_its_last_round() {
        const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
        let created_at = Timestamp::EPOCH;
        let mut delivery = Delivery {
            endpoint_id: WebhookEndpointId::from_bytes([1; 16]),
            tenant: Tenant::parse("live:shop").unwrap(),
            event_id: EventId::from_bytes([2; 16]),
            event_type: "booking.confirmed".to_owned(),
            body: "{}".to_owned(),
            created_at,
            attempts: 0,
            earlier_attempts: 0,
            round: 1,
            round_at: created_at,
            state: DeliveryState::Waiting { next_attempt_at: created_at },
            last_error: None,
            rev: 1,
        };
        assert_eq!(removed_from(&delivery), created_at.plus_ms(44 * DAY_MS));
        delivery.round_at = created_at.plus_ms(29 * DAY_MS);
        assert_eq!(removed_from(&delivery), created_at.plus_ms(73 * DAY_MS));
    }
}
