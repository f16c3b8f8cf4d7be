//! What all items have in common: binary attributes, the writer's nonce, conversion from and to the SDK.

use std::collections::HashMap;
use std::fmt::Display;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{Entropy, StoreError};
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An item as the SDK has it.
pub(crate) type SdkItem = HashMap<String, AttributeValue>;

/// The partition key of every table.
pub(crate) const PK: &str = "pk";

/// The sort key, where a table has one.
pub(crate) const SK: &str = "sk";

/// The attribute by which DynamoDB removes items, seconds since the epoch.
pub(crate) const TTL: &str = "ttl";

/// Which write wrote an item last. A repeated write that finds its own nonce has succeeded before.
pub(crate) const NONCE: &str = "n";

/// The bytes of a nonce: a collision within the life of one request is out of the question.
const NONCE_BYTES: usize = 8;

/// A binary attribute (type B). Serde would write a plain vector as a list of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("binary data")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

/// A nonce for one write.
pub(crate) fn nonce(entropy: &dyn Entropy) -> Bytes {
    Bytes(entropy.bytes16()[..NONCE_BYTES].to_vec())
}

/// Whether the write with `nonce` is the one that wrote `item`.
pub(crate) fn written_by(item: &SdkItem, nonce: &Bytes) -> bool {
    matches!(item.get(NONCE), Some(AttributeValue::B(blob)) if blob.as_ref() == nonce.0)
}

/// A text attribute.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(crate) fn number(value: impl Display + Copy) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A binary attribute.
pub(crate) fn binary(bytes: &Bytes) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes.0.clone()))
}

/// A key of a table with a sort key.
pub(crate) fn key(pk: impl Into<String>, sk: impl Into<String>) -> SdkItem {
    HashMap::from([(PK.to_owned(), text(pk)), (SK.to_owned(), text(sk))])
}

/// Writes a storage struct as an item.
pub(crate) fn to_sdk_item<T: Serialize>(what: &str, value: &T) -> Result<SdkItem, StoreError> {
    let item = serde_dynamo::to_item::<_, serde_dynamo::Item>(value);
    // The error's text may repeat a value.
    item.map(Into::into).map_err(|_| StoreError::Corrupt(format!("{what} cannot be written as an item")))
}

/// Reads a storage struct from an item. An error names the first attribute that does not fit.
pub(crate) fn from_sdk_item<T: DeserializeOwned>(what: &str, item: SdkItem) -> Result<T, StoreError> {
    from_item(item.into()).map_err(|attribute| StoreError::Corrupt(format!("{what}: attribute {attribute}")))
}

/// Reads a storage struct; an error is the name of the top-level attribute that is missing or does not
/// have its type, without any value.
pub(crate) fn from_item<T: DeserializeOwned>(item: serde_dynamo::Item) -> Result<T, String> {
    let map = serde_dynamo::AttributeValue::M(item.into());
    let deserializer = serde_dynamo::Deserializer::from_attribute_value(map);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // Only this kind of message is sure to repeat nothing but a name of the code's own.
        let message = error.inner().to_string();
        if let Some(name) = message.strip_prefix("missing field `") {
            return name.trim_end_matches('`').to_owned();
        }
        let path = error.path().to_string();
        path.split(['.', '[']).next().unwrap_or_default().to_owned()
    })
}

/// For attributes that are written only when they are set.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields in by reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

/// For attributes that are written only when they are not zero.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields in by reference")]
pub(crate) fn is_zero(value: &u32) -> bool {
    *value == 0
}
