//! The calls that a booking is claimed and replaced by, in the two forms in which each may be made.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::put_item::builders::PutItemInputBuilder;
use aws_sdk_dynamodb::operation::put_item::{PutItem, PutItemInput};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemInputBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItem, UpdateItemInput};
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use holdfast_app::ports::StoreError;
use holdfast_app::stored::StoredBooking;

use super::encode::item_of;
use super::item::{ATTRIBUTES, REV};
use crate::direct::Call;
use crate::item::{Bytes, PK, SdkItem, TTL, number, to_sdk_item};
use crate::json::{JsonItem, push, push_text};

/// Those of our attributes that are words of DynamoDB's expressions ("Reserved words" in its developer guide).
pub(super) const RESERVED: [&str; 2] = ["or", TTL];

/// The value of the revision that was seen. No attribute has this name.
const SEEN: &str = ":seen";

/// The condition of a claim.
pub(super) const NOBODY_YET: &str = "attribute_not_exists(pk)";

/// The end of a body whose write, if its condition fails, is answered with the item.
const ELSE_THE_ITEM: &str = r#","ReturnValuesOnConditionCheckFailure":"ALL_OLD"}"#;

/// Room for a body besides its item, in bytes.
const AROUND_BYTES: usize = 1_024;

/// A booking to be written.
pub(super) struct Writing<'a> {
    pub(super) table: &'a str,
    pub(super) stored: &'a StoredBooking,
    pub(super) retention_ms: u64,
    pub(super) nonce: &'a Bytes,
}

impl Writing<'_> {
    pub(super) fn sdk_item(&self) -> Result<SdkItem, StoreError> {
        to_sdk_item("booking", &item_of(self.stored, self.retention_ms, self.nonce.clone()))
    }

    fn json_item(&self) -> Result<JsonItem, StoreError> {
        JsonItem::of("booking", &item_of(self.stored, self.retention_ms, self.nonce.clone()))
    }

    /// The beginning of a body, with room for the rest.
    fn begin(&self, item: &JsonItem) -> Vec<u8> {
        let mut body = Vec::with_capacity(item.length() + AROUND_BYTES);
        push(&mut body, r#"{"TableName":"#);
        push_text(&mut body, self.table);
        body
    }
}

/// Makes a booking, if there is none of its identifier.
pub(super) struct Claiming<'a>(pub(super) Writing<'a>);

impl Call<PutItem> for Claiming<'_> {
    fn body(&self) -> Result<Vec<u8>, StoreError> {
        let item = self.0.json_item()?;
        let mut body = self.0.begin(&item);
        push(&mut body, r#","Item":"#);
        push_members(&mut body, item.attributes().map(|(name, value)| ("", name, value)));
        push(&mut body, r#","ConditionExpression":"#);
        push_text(&mut body, NOBODY_YET);
        push(&mut body, ELSE_THE_ITEM);
        Ok(body)
    }

    fn request(&self) -> Result<PutItemInputBuilder, StoreError> {
        let put = PutItemInput::builder()
            .table_name(self.0.table)
            .set_item(Some(self.0.sdk_item()?))
            .condition_expression(NOBODY_YET)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        Ok(put)
    }
}

/// Replaces a booking, if nobody has written it since.
pub(super) struct Replacing<'a> {
    pub(super) seen_rev: u64,
    pub(super) next: Writing<'a>,
}

impl Call<UpdateItem> for Replacing<'_> {
    fn body(&self) -> Result<Vec<u8>, StoreError> {
        let item = self.next.json_item()?;
        let mut body = self.next.begin(&item);
        push(&mut body, r#","Key":"#);
        push_members(&mut body, item.get(PK).map(|value| ("", PK, value)).into_iter());
        push(&mut body, r#","UpdateExpression":"#);
        push_text(&mut body, &update_expression(item.attributes().map(|(name, _)| name)));
        push(&mut body, r#","ConditionExpression":"#);
        push_text(&mut body, &unchanged());
        push(&mut body, r#","ExpressionAttributeNames":"#);
        let names = RESERVED.map(|name| (name, format!(r#""{name}""#)));
        push_members(&mut body, names.iter().map(|(name, text)| ("#", *name, text.as_bytes())));
        push(&mut body, r#","ExpressionAttributeValues":"#);
        let seen = format!(r#"{{"N":"{}"}}"#, self.seen_rev);
        let values = item.attributes().filter(|(name, _)| *name != PK);
        let values = values.map(|(name, value)| (":", name, value));
        push_members(&mut body, values.chain([("", SEEN, seen.as_bytes())]));
        push(&mut body, ELSE_THE_ITEM);
        Ok(body)
    }

    fn request(&self) -> Result<UpdateItemInputBuilder, StoreError> {
        let Replacement { key, update, condition, names, values } =
            Replacement::new(self.seen_rev, self.next.sdk_item()?);
        let update = UpdateItemInput::builder()
            .table_name(self.next.table)
            .set_key(Some(key))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        Ok(update)
    }
}

/// An update that sets every attribute that an item has, removes the other known ones, and leaves those
/// alone that only other versions of the code know; all if the revision is still the one that was seen.
pub(super) struct Replacement {
    pub(super) key: SdkItem,
    pub(super) update: String,
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: SdkItem,
}

impl Replacement {
    pub(super) fn new(seen_rev: u64, mut item: SdkItem) -> Self {
        let update = update_expression(item.keys().map(String::as_str));
        let known = ATTRIBUTES.into_iter();
        let set = known.filter_map(|attribute| Some((format!(":{attribute}"), item.remove(attribute)?)));
        let mut values: SdkItem = set.collect();
        values.insert(SEEN.to_owned(), number(seen_rev));
        let names = RESERVED.map(|name| (format!("#{name}"), name.to_owned())).into();
        Self { key: item, update, condition: unchanged(), names, values }
    }
}

/// The condition that nobody has written the item since.
fn unchanged() -> String {
    format!("{REV} = {SEEN}")
}

/// Attributes go by their own names, which are short, but for those that are words of DynamoDB's: names for
/// names would be a third of the request, which is hashed and paid for on every booking.
fn update_expression<'a>(present: impl Iterator<Item = &'a str>) -> String {
    let mut is_set = [false; ATTRIBUTES.len()];
    let mut next = 0;
    for name in present {
        // Items are written in nearly the same order, so that what comes next is mostly found at once.
        let mut places = (next..ATTRIBUTES.len()).chain(0..next);
        if let Some(place) = places.find(|place| ATTRIBUTES[*place] == name) {
            is_set[place] = true;
            next = place + 1;
        }
    }
    let (mut update, mut removals) = (String::with_capacity(AROUND_BYTES / 2), String::new());
    for (attribute, is_set) in ATTRIBUTES.into_iter().zip(is_set) {
        let mark = if RESERVED.contains(&attribute) { "#" } else { "" };
        if is_set {
            let separator = if update.is_empty() { "SET " } else { "," };
            update.extend([separator, mark, attribute, "=:", attribute]);
        } else {
            let separator = if removals.is_empty() { " REMOVE " } else { "," };
            removals.extend([separator, mark, attribute]);
        }
    }
    update + &removals
}

/// Writes values under their names, each with what goes before it. Names are our own, and need no escapes.
fn push_members<'a>(body: &mut Vec<u8>, members: impl Iterator<Item = (&'a str, &'a str, &'a [u8])>) {
    body.push(b'{');
    let mut separator = "\"";
    for (mark, name, value) in members {
        for part in [separator, mark, name, "\":"] {
            push(body, part);
        }
        body.extend_from_slice(value);
        separator = ",\"";
    }
    body.push(b'}');
}
