//! One item as it is now: the call, in the two forms in which it may be made.

use aws_sdk_dynamodb::operation::get_item::builders::GetItemInputBuilder;
use aws_sdk_dynamodb::operation::get_item::{GetItem, GetItemInput};
use holdfast_app::ports::StoreError;

use crate::DynamoDb;
use crate::direct::Call;
use crate::error::store_error;
use crate::item::{PK, SK, SdkItem, text};
use crate::json::{push, push_text};

/// Room for a body, in bytes.
const USUAL_BYTES: usize = 256;

/// Reads an item by its key.
pub(crate) struct Reading<'a> {
    pub(crate) table: &'a str,
    /// The partition's key.
    pub(crate) pk: &'a str,
    /// The sort key, if the table has one.
    pub(crate) sk: Option<&'a str>,
}

impl Reading<'_> {
    /// The item, if there is one.
    pub(crate) async fn by(&self, client: &DynamoDb) -> Result<Option<SdkItem>, StoreError> {
        let answer = Box::pin(client.call(self)).await?;
        Ok(answer.map_err(|error| store_error("GetItem", &error))?.item)
    }
}

impl Call<GetItem> for Reading<'_> {
    fn body(&self) -> Result<Vec<u8>, StoreError> {
        let mut body = Vec::with_capacity(USUAL_BYTES);
        push(&mut body, r#"{"TableName":"#);
        push_text(&mut body, self.table);
        push(&mut body, r#","Key":{"pk":{"S":"#);
        push_text(&mut body, self.pk);
        if let Some(sk) = self.sk {
            push(&mut body, r#"},"sk":{"S":"#);
            push_text(&mut body, sk);
        }
        push(&mut body, r#"}},"ConsistentRead":true}"#);
        Ok(body)
    }

    fn request(&self) -> Result<GetItemInputBuilder, StoreError> {
        let get = GetItemInput::builder().table_name(self.table).consistent_read(true).key(PK, text(self.pk));
        Ok(match self.sk {
            Some(sk) => get.key(SK, text(sk)),
            None => get,
        })
    }
}
