//! Webhook endpoints. A counter beside them, written in the same transactions, keeps their limit without
//! a race.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem, Update};
use holdfast_app::ports::{EndpointStore, PutEndpoint, StoreError};
use holdfast_app::webhook::WebhookEndpoint;
use holdfast_domain::{Tenant, Timestamp, WebhookEndpointId};

use super::DynamoSettings;
use super::reader::pause;
use super::records::{ENABLED, SLOW_UNTIL, endpoint_item, endpoint_of, endpoints_pk};
use crate::error::{incomplete_request, store_error};
use crate::item::{PK, key, number};

/// The sort key of the counter. It sorts before every endpoint.
const COUNTER_SK: &str = "#COUNT";

/// The counter's attribute.
const COUNT: &str = "count";

/// How often a transaction is tried that conflicts with another one.
const MAX_TRANSACTION_ATTEMPTS: u32 = 6;

const CALL: &str = "TransactWriteItems";

/// How a transaction ended.
enum Transacted {
    Done,
    /// The condition of the action at this place failed.
    Refused(usize),
}

impl DynamoSettings {
    fn counter(&self, tenant: &Tenant) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(endpoints_pk(tenant), COUNTER_SK)))
            .expression_attribute_names("#count", COUNT)
    }

    async fn transact(&self, actions: &[TransactWriteItem]) -> Result<Transacted, StoreError> {
        for attempt in 1..=MAX_TRANSACTION_ATTEMPTS {
            let transaction = self.client.transact_write_items();
            let Err(error) = transaction.set_transact_items(Some(actions.to_vec())).send().await else {
                return Ok(Transacted::Done);
            };
            match refused_action(&error) {
                Some(position) => return Ok(Transacted::Refused(position)),
                None if is_conflict(&error) => pause(self.entropy.as_ref(), attempt).await,
                None => return Err(store_error(CALL, &error)),
            }
        }
        Err(StoreError::Unavailable(format!("{CALL}: conflicts with others")))
    }

    async fn update_endpoint(&self, update: UpdateItemFluentBuilder) -> Result<(), StoreError> {
        let update = update.table_name(&self.table).condition_expression("attribute_exists(#pk)");
        match update.expression_attribute_names("#pk", PK).send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                // The endpoint is gone and stays gone.
                Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
                _ => Err(store_error("UpdateItem", &error)),
            },
        }
    }
}

type TransactionError = SdkError<TransactWriteItemsError, aws_sdk_dynamodb::config::http::HttpResponse>;

fn reasons(error: &TransactionError) -> Vec<&str> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or_default()).collect()
        }
        _ => Vec::new(),
    }
}

fn refused_action(error: &TransactionError) -> Option<usize> {
    reasons(error).iter().position(|code| *code == "ConditionalCheckFailed")
}

fn is_conflict(error: &TransactionError) -> bool {
    const PASSING: [&str; 3] = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
    let in_progress =
        matches!(error.as_service_error(), Some(TransactWriteItemsError::TransactionInProgressException(_)));
    in_progress || reasons(error).iter().any(|code| PASSING.contains(code))
}

impl EndpointStore for DynamoSettings {
    async fn put_endpoint(
        &self,
        endpoint: &WebhookEndpoint,
        limit: usize,
    ) -> Result<PutEndpoint, StoreError> {
        if limit == 0 {
            return Ok(PutEndpoint::LimitReached);
        }
        let count = self
            .counter(&endpoint.tenant)
            .update_expression("ADD #count :one")
            .condition_expression("attribute_not_exists(#count) OR #count < :limit")
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":limit", number(limit))
            .build()
            .map_err(|_| incomplete_request(CALL))?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(endpoint_item(endpoint)?))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .build()
            .map_err(|_| incomplete_request(CALL))?;
        let actions = [
            TransactWriteItem::builder().update(count).build(),
            TransactWriteItem::builder().put(put).build(),
        ];
        match self.transact(&actions).await? {
            // An endpoint of this very identifier is there: an earlier write of it was done.
            Transacted::Done | Transacted::Refused(1) => Ok(PutEndpoint::Done),
            Transacted::Refused(_) => Ok(PutEndpoint::LimitReached),
        }
    }

    async fn endpoints(&self, tenant: &Tenant) -> Result<Vec<WebhookEndpoint>, StoreError> {
        let items = self.list(&endpoints_pk(tenant), WebhookEndpointId::PREFIX).await?;
        let mut endpoints: Vec<WebhookEndpoint> =
            items.into_iter().map(endpoint_of).collect::<Result<_, _>>()?;
        endpoints.sort_by(|left, right| (left.created_at, &left.id).cmp(&(right.created_at, &right.id)));
        Ok(endpoints)
    }

    async fn endpoint(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        self.get(&endpoints_pk(tenant), id.as_str()).await?.map(endpoint_of).transpose()
    }

    async fn delete_endpoint(&self, tenant: &Tenant, id: &WebhookEndpointId) -> Result<bool, StoreError> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(endpoints_pk(tenant), id.as_str())))
            .condition_expression("attribute_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .build()
            .map_err(|_| incomplete_request(CALL))?;
        let count = self
            .counter(tenant)
            .update_expression("ADD #count :less")
            .expression_attribute_values(":less", number(-1))
            .build()
            .map_err(|_| incomplete_request(CALL))?;
        let actions = [
            TransactWriteItem::builder().delete(delete).build(),
            TransactWriteItem::builder().update(count).build(),
        ];
        Ok(matches!(self.transact(&actions).await?, Transacted::Done))
    }

    async fn mark_slow(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        slow_until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .set_key(Some(key(endpoints_pk(tenant), id.as_str())))
            .expression_attribute_names("#slow", SLOW_UNTIL);
        let update = match slow_until {
            Some(until) => update
                .update_expression("SET #slow = :until")
                .expression_attribute_values(":until", number(until.as_unix_ms())),
            None => update.update_expression("REMOVE #slow"),
        };
        self.update_endpoint(update).await
    }

    async fn disable(&self, tenant: &Tenant, id: &WebhookEndpointId) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .set_key(Some(key(endpoints_pk(tenant), id.as_str())))
            .update_expression("SET #enabled = :no")
            .expression_attribute_names("#enabled", ENABLED)
            .expression_attribute_values(":no", aws_sdk_dynamodb::types::AttributeValue::Bool(false));
        self.update_endpoint(update).await
    }
}
