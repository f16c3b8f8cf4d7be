//! Webhook endpoints. A counter beside them, written in the same transactions, keeps their limit without
//! a race.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use holdfast_app::ports::{EndpointStore, EndpointUpdate, PutEndpoint, StoreError};
use holdfast_app::webhook::{DisabledReason, Speed, WebhookEndpoint};
use holdfast_domain::{Tenant, Timestamp, WebhookEndpointId};

use super::records::{
    DISABLED_REASON, ENABLED, FAILING_SINCE, HUNG_UNTIL, NEXT_TURN_AT, REV, SLOW_UNTIL, TIMES_DISABLED,
    endpoint_item, endpoint_of, endpoints_pk,
};
use super::{DynamoSettings, Updated, update};
use crate::error::{incomplete_request, store_error};
use crate::item::{NONCE, PK, binary, key, nonce, number, text, written_by};
use crate::transact::{CALL, Transacted, transact};

/// The sort key of the counter. It sorts before every endpoint.
const COUNTER_SK: &str = "#COUNT";

/// The counter's attribute.
const COUNT: &str = "count";

/// A turn this much further away than the one that is asked for is not believed, in milliseconds.
const FARTHEST_TURN_MS: u64 = 60_000;

impl DynamoSettings {
    fn counter(&self, tenant: &Tenant) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(endpoints_pk(tenant), COUNTER_SK)))
            .expression_attribute_names("#count", COUNT)
    }

    fn endpoint_update(&self, tenant: &Tenant, id: &WebhookEndpointId) -> UpdateItemFluentBuilder {
        let key = key(endpoints_pk(tenant), id.as_str());
        self.client.update_item().table_name(&self.table).set_key(Some(key))
    }

    /// Carries out the clauses of an update, and counts it, if the endpoint is there; one that is gone stays
    /// gone. A rev that is absent counts as zero.
    async fn mark(&self, change: UpdateItemFluentBuilder, clauses: &str) -> Result<(), StoreError> {
        let change = change
            .update_expression(format!("{clauses}ADD #rev :one"))
            .condition_expression("attribute_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#rev", REV)
            .expression_attribute_values(":one", number(1));
        update(change).await.map(drop)
    }
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
        // In this order, because the first refusal counts: one that is there already is the last that fits in.
        let actions = vec![
            TransactWriteItem::builder().put(put).build(),
            TransactWriteItem::builder().update(count).build(),
        ];
        match transact(&self.client, self.entropy.as_ref(), actions).await? {
            // An endpoint of this very identifier is there: an earlier write of it was done.
            Transacted::Done | Transacted::Refused(0) => Ok(PutEndpoint::Done),
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
        let actions = vec![
            TransactWriteItem::builder().delete(delete).build(),
            TransactWriteItem::builder().update(count).build(),
        ];
        Ok(matches!(transact(&self.client, self.entropy.as_ref(), actions).await?, Transacted::Done))
    }

    async fn replace_endpoint(
        &self,
        seen_rev: u64,
        next: &WebhookEndpoint,
    ) -> Result<EndpointUpdate, StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        let mut item = endpoint_item(next)?;
        item.insert(NONCE.to_owned(), binary(&nonce));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        let put = put
            .condition_expression(seen_condition(seen_rev))
            .expression_attribute_names("#rev", REV)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match seen_rev {
            0 => put.expression_attribute_names("#pk", PK),
            _ => put.expression_attribute_values(":seen", number(seen_rev)),
        };
        let Err(error) = Box::pin(put.send()).await else { return Ok(EndpointUpdate::Done) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failure)) => {
                let is_own = failure.item().is_some_and(|found| written_by(found, &nonce));
                Ok(if is_own { EndpointUpdate::Done } else { EndpointUpdate::Conflict })
            }
            _ => Err(store_error("PutItem", &error)),
        }
    }

    async fn disable(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        seen_rev: u64,
        reason: DisabledReason,
    ) -> Result<EndpointUpdate, StoreError> {
        let change = self
            .endpoint_update(tenant, id)
            .update_expression("SET #enabled = :no, #reason = :reason ADD #times :one, #rev :one")
            .condition_expression(seen_condition(seen_rev))
            .expression_attribute_names("#enabled", ENABLED)
            .expression_attribute_names("#reason", DISABLED_REASON)
            .expression_attribute_names("#times", TIMES_DISABLED)
            .expression_attribute_names("#rev", REV)
            .expression_attribute_values(":no", AttributeValue::Bool(false))
            .expression_attribute_values(":reason", text(reason.as_str()))
            .expression_attribute_values(":one", number(1));
        let change = match seen_rev {
            0 => change.expression_attribute_names("#pk", PK),
            _ => change.expression_attribute_values(":seen", number(seen_rev)),
        };
        Ok(match update(change).await? {
            Updated::Done(_) => EndpointUpdate::Done,
            Updated::Refused(_) => EndpointUpdate::Conflict,
        })
    }

    async fn mark_speed(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        speed: Speed,
    ) -> Result<(), StoreError> {
        let marks = [(SLOW_UNTIL, speed.slow_until), (HUNG_UNTIL, speed.hung_until)];
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        let mut change = self.endpoint_update(tenant, id);
        for (attribute, until) in marks {
            let name = format!("#{attribute}");
            change = change.expression_attribute_names(&name, attribute);
            match until {
                Some(until) => {
                    let value = format!(":{attribute}");
                    set.push(format!("{name} = {value}"));
                    change = change.expression_attribute_values(value, number(until.as_unix_ms()));
                }
                None => removed.push(name),
            }
        }
        let clause = |verb: &str, of: &[String]| {
            if of.is_empty() { String::new() } else { format!("{verb} {} ", of.join(", ")) }
        };
        let marks = format!("{}{}", clause("SET", &set), clause("REMOVE", &removed));
        self.mark(change, &marks).await
    }

    async fn mark_failing(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let change = self.endpoint_update(tenant, id).expression_attribute_names("#failing", FAILING_SINCE);
        match since {
            Some(since) => {
                let change = change.expression_attribute_values(":since", number(since.as_unix_ms()));
                self.mark(change, "SET #failing = if_not_exists(#failing, :since) ").await
            }
            None => self.mark(change, "REMOVE #failing ").await,
        }
    }

    async fn take_turn(
        &self,
        tenant: &Tenant,
        id: &WebhookEndpointId,
        now: Timestamp,
        next: Timestamp,
    ) -> Result<bool, StoreError> {
        // A turn that is further away than any is taken was written by a clock that is wrong.
        let change = self
            .endpoint_update(tenant, id)
            .update_expression("SET #turn = :next")
            .condition_expression(
                "attribute_exists(#pk) AND (attribute_not_exists(#turn) OR #turn <= :now OR #turn > :far)",
            )
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#turn", NEXT_TURN_AT)
            .expression_attribute_values(":next", number(next.as_unix_ms()))
            .expression_attribute_values(":now", number(now.as_unix_ms()))
            .expression_attribute_values(":far", number(next.plus_ms(FARTHEST_TURN_MS).as_unix_ms()));
        Ok(matches!(update(change).await?, Updated::Done(_)))
    }
}

/// That an endpoint has the revision that was seen. Zero stands for one that a version wrote which had none.
fn seen_condition(seen_rev: u64) -> &'static str {
    match seen_rev {
        0 => "attribute_exists(#pk) AND attribute_not_exists(#rev)",
        _ => "#rev = :seen",
    }
}
