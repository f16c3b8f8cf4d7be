//! How large DynamoDB takes an item to be.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

/// An item's size in bytes ("Item sizes and formats" in DynamoDB's developer guide).
pub(crate) fn item_size(item: &HashMap<String, AttributeValue>) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        // A byte for two digits but for zeros at the end, and one more.
        AttributeValue::N(number) => number.trim_end_matches('0').len().div_ceil(2) + 1,
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + value_size(value)).sum::<usize>(),
        AttributeValue::M(members) => 3 + members.len() + item_size(members),
        AttributeValue::Ss(texts) => texts.iter().map(String::len).sum(),
        other => panic!("{other:?}"),
    }
}
