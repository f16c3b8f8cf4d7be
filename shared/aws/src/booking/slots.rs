//! Exclusive slots: an item each, that says which booking has the slot.
//!
//! A slot changes hands in the transaction that writes the booking, and only there. Slots that merely
//! overlap have different items.

use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};
use data_encoding::HEXLOWER;
use holdfast_app::ports::{SlotExchange, StoreError};
use holdfast_app::stored::SlotKey;
use holdfast_domain::BookingId;

use crate::digest::digest;
use crate::error::incomplete_request;
use crate::item::{PK, SdkItem, TTL, number, text};
use crate::transact::CALL;

/// What every partition key of a slot begins with. The stream's filter passes over it.
const PK_PREFIX: &str = "SLT#";

/// The attribute that says which booking has the slot.
const OWNER: &str = "b";

/// The longest that a slot may last, in milliseconds: a year. A slot's key has its start alone.
const LONGEST_SLOT_MS: u64 = 366 * 24 * 60 * 60 * 1_000;

const MS_PER_SECOND: i64 = 1_000;

fn partition_key(slot: &SlotKey) -> String {
    let resource = slot.resource_id.as_ref();
    let id = digest(
        "holdfast/slot",
        &[
            slot.mode.as_str().as_bytes(),
            slot.provider_id.as_str().as_bytes(),
            slot.location_id.as_bytes(),
            // No resource is another thing than a resource with an empty name.
            &[u8::from(resource.is_some())],
            resource.map(String::as_bytes).unwrap_or_default(),
            &slot.start.as_unix_ms().to_be_bytes(),
        ],
    );
    format!("{PK_PREFIX}{}", HEXLOWER.encode(&id))
}

fn slot_item(slot: &SlotKey, owner: &BookingId, retention_ms: u64) -> SdkItem {
    let kept_until = slot.start.plus_ms(LONGEST_SLOT_MS).plus_ms(retention_ms);
    SdkItem::from([
        (PK.to_owned(), text(partition_key(slot))),
        (OWNER.to_owned(), text(owner.as_str())),
        (TTL.to_owned(), number(kept_until.as_unix_ms() / MS_PER_SECOND)),
    ])
}

/// The part of a transaction that exchanges slots: first those that are taken, then those that are given
/// up. A slot that nobody has is taken and given up all the same; one that another booking has is neither.
pub(super) fn exchange_of(
    table: &str,
    exchange: &SlotExchange,
    owner: &BookingId,
    retention_ms: u64,
) -> Result<Vec<TransactWriteItem>, StoreError> {
    const NOBODY_ELSE: &str = "attribute_not_exists(#pk) OR #owner = :owner";
    let taken = exchange.take.iter().map(|slot| {
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(slot_item(slot, owner, retention_ms)))
            .condition_expression(NOBODY_ELSE)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#owner", OWNER)
            .expression_attribute_values(":owner", text(owner.as_str()))
            .build();
        put.map(|put| TransactWriteItem::builder().put(put).build())
    });
    let freed = exchange.free.iter().map(|slot| {
        let delete = Delete::builder()
            .table_name(table)
            .key(PK, text(partition_key(slot)))
            .condition_expression(NOBODY_ELSE)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#owner", OWNER)
            .expression_attribute_values(":owner", text(owner.as_str()))
            .build();
        delete.map(|delete| TransactWriteItem::builder().delete(delete).build())
    });
    taken.chain(freed).collect::<Result<_, _>>().map_err(|_| incomplete_request(CALL))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use holdfast_domain::{Mode, ProviderId, Timestamp};

    use super::*;

    #[test]
    fn slots_have_the_same_key_only_if_they_are_the_same() {
        let slot = |provider: &str, location: &str, resource: Option<&str>, start_ms: i64| SlotKey {
            mode: Mode::Test,
            provider_id: ProviderId::parse(provider).unwrap(),
            location_id: location.to_owned(),
            resource_id: resource.map(str::to_owned),
            start: Timestamp::from_unix_ms(start_ms).unwrap(),
        };
        let slots = [
            slot("clinic", "main", None, 1_000),
            slot("clinic", "main", Some(""), 1_000),
            slot("clinic", "main", Some("room"), 1_000),
            slot("clinic", "mainroom", None, 1_000),
            slot("clinicm", "ain", None, 1_000),
            slot("clinic", "main", None, 1_001),
        ];
        let keys: BTreeSet<String> = slots.iter().map(partition_key).collect();
        assert_eq!(keys.len(), slots.len());
        assert!(keys.iter().all(|key| key.len() == PK_PREFIX.len() + 32 && !key.contains("main")));
        assert_eq!(partition_key(&slots[0]), partition_key(&slots[0].clone()));
    }

    /// The booking's item may be kept for years by then; its slots must not outlive the wait for it.
    #[test]
    fn a_slot_is_kept_until_it_is_surely_over() {
        let start = Timestamp::from_unix_ms(1_795_257_665_123).unwrap();
        let slot = SlotKey {
            mode: Mode::Test,
            provider_id: ProviderId::parse("clinic").unwrap(),
            location_id: "main".to_owned(),
            resource_id: None,
            start,
        };
        let item = slot_item(&slot, &BookingId::from_bytes([1; 16]), 1_000);
        let kept_until_s = (start.as_unix_ms() + i64::try_from(LONGEST_SLOT_MS).unwrap() + 1_000) / 1_000;
        assert_eq!(item[TTL], number(kept_until_s));
    }
}
