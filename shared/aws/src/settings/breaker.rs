//! Breakers: every change is one conditional write, so that all instances see one breaker.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use holdfast_app::ports::{BreakerStore, StoreError};
use holdfast_app::settings::BreakerState;
use holdfast_domain::{ProviderId, Timestamp};

use super::records::{BREAKER_SK, FAILURES, OPEN_UNTIL, PROBE_UNTIL, breaker_of, breaker_pk};
use super::{DynamoSettings, Updated, update};
use crate::item::{NONCE, PK, binary, key, nonce, number, written_by};

/// How often counting a failure is tried, where another instance moves the count over the threshold and
/// back in between.
const MAX_COUNT_ATTEMPTS: usize = 4;

impl DynamoSettings {
    fn update_breaker(&self, provider_id: &ProviderId) -> UpdateItemFluentBuilder {
        let update = self.client.update_item().table_name(&self.table);
        update.set_key(Some(key(breaker_pk(provider_id), BREAKER_SK)))
    }

    /// Counts a failure that leaves the circuit as it is.
    fn count(&self, provider_id: &ProviderId, threshold: u32) -> UpdateItemFluentBuilder {
        self.update_breaker(provider_id)
            .update_expression("ADD #failures :one")
            .condition_expression("attribute_not_exists(#failures) OR #failures < :last")
            .expression_attribute_names("#failures", FAILURES)
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":last", number(threshold.saturating_sub(1)))
    }

    /// Counts the failure that opens the circuit.
    fn open(
        &self,
        provider_id: &ProviderId,
        threshold: u32,
        open_until: Timestamp,
    ) -> UpdateItemFluentBuilder {
        let update = self
            .update_breaker(provider_id)
            .update_expression("ADD #failures :one SET #open = :open REMOVE #probe, #nonce")
            .expression_attribute_names("#failures", FAILURES)
            .expression_attribute_names("#open", OPEN_UNTIL)
            .expression_attribute_names("#probe", PROBE_UNTIL)
            .expression_attribute_names("#nonce", NONCE)
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":open", number(open_until.as_unix_ms()));
        if threshold <= 1 {
            return update;
        }
        update
            .condition_expression("#failures >= :last")
            .expression_attribute_values(":last", number(threshold.saturating_sub(1)))
    }
}

impl BreakerStore for DynamoSettings {
    async fn read(&self, provider_id: &ProviderId) -> Result<BreakerState, StoreError> {
        let item = self.get(&breaker_pk(provider_id), BREAKER_SK).await?;
        item.map_or_else(|| Ok(BreakerState::default()), breaker_of)
    }

    /// A failure whose answer was lost may count twice: the circuit then opens one failure early.
    async fn record_failure(
        &self,
        provider_id: &ProviderId,
        threshold: u32,
        open_until: Timestamp,
    ) -> Result<BreakerState, StoreError> {
        for _ in 0..MAX_COUNT_ATTEMPTS {
            if threshold > 1
                && let Updated::Done(item) = update(self.count(provider_id, threshold)).await?
            {
                return breaker_of(item);
            }
            if let Updated::Done(item) = update(self.open(provider_id, threshold, open_until)).await? {
                return breaker_of(item);
            }
        }
        Err(StoreError::Unavailable("the breaker changes all the time".to_owned()))
    }

    async fn close(&self, provider_id: &ProviderId) -> Result<(), StoreError> {
        let close = self
            .update_breaker(provider_id)
            .update_expression("REMOVE #failures, #open, #probe, #nonce")
            .condition_expression("attribute_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#failures", FAILURES)
            .expression_attribute_names("#open", OPEN_UNTIL)
            .expression_attribute_names("#probe", PROBE_UNTIL)
            .expression_attribute_names("#nonce", NONCE);
        match update(close).await? {
            // Without an item the circuit is closed already.
            Updated::Done(_) | Updated::Refused(_) => Ok(()),
        }
    }

    async fn forget_failures(&self, provider_id: &ProviderId) -> Result<(), StoreError> {
        let forget = self
            .update_breaker(provider_id)
            .update_expression("REMOVE #failures")
            .condition_expression("attribute_exists(#failures) AND attribute_not_exists(#open)")
            .expression_attribute_names("#failures", FAILURES)
            .expression_attribute_names("#open", OPEN_UNTIL);
        match update(forget).await? {
            // Where nothing is counted or the circuit is open, there is nothing to forget.
            Updated::Done(_) | Updated::Refused(_) => Ok(()),
        }
    }

    async fn release_probe(
        &self,
        provider_id: &ProviderId,
        probe_until: Timestamp,
    ) -> Result<(), StoreError> {
        let release = self
            .update_breaker(provider_id)
            .update_expression("REMOVE #probe, #nonce")
            .condition_expression("#probe = :until")
            .expression_attribute_names("#probe", PROBE_UNTIL)
            .expression_attribute_names("#nonce", NONCE)
            .expression_attribute_values(":until", number(probe_until.as_unix_ms()));
        match update(release).await? {
            // Somebody else's lease, or none, is not ours to end.
            Updated::Done(_) | Updated::Refused(_) => Ok(()),
        }
    }

    async fn try_probe(
        &self,
        provider_id: &ProviderId,
        now: Timestamp,
        probe_until: Timestamp,
    ) -> Result<bool, StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        let take = self
            .update_breaker(provider_id)
            .update_expression("SET #probe = :until, #nonce = :nonce")
            .condition_expression("#open <= :now AND (attribute_not_exists(#probe) OR #probe <= :now)")
            .expression_attribute_names("#open", OPEN_UNTIL)
            .expression_attribute_names("#probe", PROBE_UNTIL)
            .expression_attribute_names("#nonce", NONCE)
            .expression_attribute_values(":until", number(probe_until.as_unix_ms()))
            .expression_attribute_values(":now", number(now.as_unix_ms()))
            .expression_attribute_values(":nonce", binary(&nonce));
        match update(take).await? {
            Updated::Done(_) => Ok(true),
            Updated::Refused(found) => Ok(written_by(&found, &nonce)),
        }
    }
}
