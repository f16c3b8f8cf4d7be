//! The secrets that booking keys are signed with: one item, replaced as a whole.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use holdfast_app::availability::BookingKeySecret;
use holdfast_app::ports::{BookingKeySecretStore, StoreError};
use holdfast_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::DynamoSettings;
use super::records::{corrupt, time};
use crate::error::store_error;
use crate::item::{Bytes, SdkItem, from_sdk_item, number, to_sdk_item};

const WHAT: &str = "secrets of booking keys";

/// The partition of the secrets.
pub(super) const BOOKING_KEYS: &str = "BOOKING_KEYS";

/// Their sort key.
pub(super) const SECRETS_SK: &str = "SECRETS";

/// The attribute of the list of them.
const SECRETS: &str = "secrets";

/// The attribute of a secret's number.
const ID: &str = "id";

#[derive(Serialize, Deserialize)]
struct SecretItem {
    id: u32,
    key: Bytes,
    created_at: i64,
}

#[derive(Serialize, Deserialize)]
struct SecretsItem {
    pk: String,
    sk: String,
    /// The newest first.
    secrets: Vec<SecretItem>,
}

fn secrets_item(secrets: &[BookingKeySecret]) -> Result<SdkItem, StoreError> {
    let secrets = secrets.iter().map(|secret| SecretItem {
        id: secret.id,
        key: Bytes(secret.key.to_vec()),
        created_at: secret.created_at.as_unix_ms(),
    });
    let (pk, sk) = (BOOKING_KEYS.to_owned(), SECRETS_SK.to_owned());
    to_sdk_item(WHAT, &SecretsItem { pk, sk, secrets: secrets.collect() })
}

pub(super) fn secrets_of(item: SdkItem) -> Result<Vec<BookingKeySecret>, StoreError> {
    let item: SecretsItem = from_sdk_item(WHAT, item)?;
    let secret = |item: SecretItem| {
        let key = item.key.0.as_slice().try_into().map_err(|_| corrupt(WHAT, SECRETS))?;
        let created_at: Timestamp = time(WHAT, SECRETS, item.created_at)?;
        Ok(BookingKeySecret { id: item.id, key, created_at })
    };
    item.secrets.into_iter().map(secret).collect()
}

impl BookingKeySecretStore for DynamoSettings {
    async fn replace_booking_key_secrets(
        &self,
        seen: Option<u32>,
        secrets: &[BookingKeySecret],
    ) -> Result<bool, StoreError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(secrets_item(secrets)?));
        let put = put.expression_attribute_names("#secrets", SECRETS);
        let put = match seen {
            None => put.condition_expression("attribute_not_exists(#secrets[0])"),
            Some(seen) => put
                .condition_expression("#secrets[0].#id = :seen")
                .expression_attribute_names("#id", ID)
                .expression_attribute_values(":seen", number(seen)),
        };
        let Err(error) = Box::pin(put.send()).await else { return Ok(true) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(false),
            _ => Err(store_error("PutItem", &error)),
        }
    }
}
