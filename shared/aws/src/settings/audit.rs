//! The log of repairs: one partition, since repairs are few.

use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{AUDIT_KEPT_MS, AuditEntry, AuditLog, AuditPage, AuditPlace, StoreError};
use holdfast_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::DynamoSettings;
use super::records::corrupt;
use crate::error::store_error;
use crate::item::{PK, SK, SdkItem, from_sdk_item, key, text, to_sdk_item};

const WHAT: &str = "repair";

/// The partition of all entries.
const AUDIT: &str = "AUDIT";

const MS_PER_SECOND: i64 = 1_000;

#[derive(Serialize, Deserialize)]
struct AuditItem {
    pk: String,
    sk: String,
    key_id: String,
    action: String,
    subject: String,
    reason: String,
    ttl: i64,
}

/// Places sort as times do: the last representable one has fifteen digits.
fn sort_key(at: Timestamp, nonce: &str) -> String {
    format!("{:015}#{nonce}", at.as_unix_ms())
}

fn place_of(sort_key: &str) -> Result<AuditPlace, StoreError> {
    let place = sort_key.split_once('#').and_then(|(at, nonce)| {
        let at = Timestamp::from_unix_ms(at.parse().ok()?).ok()?;
        Some(AuditPlace { at, nonce: nonce.to_owned() })
    });
    place.ok_or_else(|| corrupt(WHAT, SK))
}

fn entry_of(item: SdkItem) -> Result<AuditEntry, StoreError> {
    let AuditItem { sk, key_id, action, subject, reason, .. } = from_sdk_item(WHAT, item)?;
    let AuditPlace { at, nonce } = place_of(&sk)?;
    Ok(AuditEntry { at, nonce, key_id, action, subject, reason })
}

impl AuditLog for DynamoSettings {
    async fn add(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let AuditEntry { at, nonce, key_id, action, subject, reason } = entry.clone();
        let item = AuditItem {
            pk: AUDIT.to_owned(),
            sk: sort_key(at, &nonce),
            key_id,
            action,
            subject,
            reason,
            ttl: at.plus_ms(AUDIT_KEPT_MS).as_unix_ms() / MS_PER_SECOND,
        };
        let put = self.client.put_item().table_name(&self.table).set_item(Some(to_sdk_item(WHAT, &item)?));
        put.send().await.map_err(|error| store_error("PutItem", &error))?;
        Ok(())
    }

    async fn entries(&self, after: Option<&AuditPlace>, limit: usize) -> Result<AuditPage, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", text(AUDIT))
            .set_exclusive_start_key(after.map(|place| key(AUDIT, sort_key(place.at, &place.nonce))))
            .scan_index_forward(false)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = query.send().await.map_err(|error| store_error("Query", &error))?;
        let next = match answer.last_evaluated_key.as_ref().and_then(|key| key.get(SK)) {
            Some(AttributeValue::S(sort_key)) => Some(place_of(sort_key)?),
            _ => None,
        };
        let entries = answer.items.unwrap_or_default().into_iter().map(entry_of);
        Ok(AuditPage { entries: entries.collect::<Result<_, _>>()?, next })
    }
}
