//! Deliveries in DynamoDB: one item each, removed by its TTL after 30 days.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use holdfast_app::ports::{DeliveryClaim, DeliveryStore, DeliveryUpdate, Entropy, StoreError};
use holdfast_app::webhook::{Delivery, DeliveryState};
use holdfast_domain::{EventId, Tenant, Timestamp, WebhookEndpointId};
use serde::{Deserialize, Serialize};

use crate::error::store_error;
use crate::item::{
    Bytes, NONCE, PK, SdkItem, binary, from_sdk_item, key, nonce, number, to_sdk_item, written_by,
};

const WHAT: &str = "delivery";
const MS_PER_SECOND: i64 = 1_000;

/// For how long a delivery is kept, in milliseconds: 30 days.
const RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Deliveries in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoDeliveryStore {
    client: Client,
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
    attempts: u32,
    state: StateItem,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    rev: u64,
    ttl: i64,
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
        attempts: delivery.attempts,
        state: match delivery.state {
            DeliveryState::Waiting { next_attempt_at } => StateItem::Waiting(next_attempt_at.as_unix_ms()),
            DeliveryState::InFlight { lease_until } => StateItem::InFlight(lease_until.as_unix_ms()),
            DeliveryState::Delivered { at } => StateItem::Delivered(at.as_unix_ms()),
            DeliveryState::Exhausted { at } => StateItem::Exhausted(at.as_unix_ms()),
        },
        last_error: delivery.last_error.clone(),
        rev: delivery.rev,
        ttl: delivery.created_at.plus_ms(RETENTION_MS).as_unix_ms() / MS_PER_SECOND,
    }
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
    Ok(Delivery {
        endpoint_id: endpoint_id.ok_or_else(|| corrupt("pk"))?,
        tenant: Tenant::parse(&item.tenant).ok_or_else(|| corrupt("tenant"))?,
        event_id: EventId::parse(&item.sk).map_err(|_| corrupt("sk"))?,
        event_type: item.event_type,
        body: item.body,
        created_at: time("created_at", item.created_at)?,
        attempts: item.attempts,
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
    pub fn new(client: Client, table: impl Into<String>, entropy: Arc<dyn Entropy>) -> Self {
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
}
