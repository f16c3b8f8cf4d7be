//! The item of a booking: its attributes, under names so short that the item of an ordinary booking
//! stays under 1 KiB, the size that one write unit pays for.
//!
//! All times are milliseconds since the Unix epoch: DynamoDB does not count trailing zeros, so that whole
//! seconds cost no more than seconds would. What is empty or has its usual value is absent. The fields
//! hold personal data, so that nothing here can be printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::item::{Bytes, TTL, is_false, is_zero};

/// The format of items that this version writes. It reads this and all lower ones.
pub const ITEM_FORMAT: u32 = 1;

/// The partition key of the sparse index of overdue bookings.
pub(super) const DUE_SHARD: &str = "due_shard";

/// The sort key of the sparse index of overdue bookings.
pub(super) const DUE_AT: &str = "due_at";

/// The attribute that counts the item's writes.
pub(super) const REV: &str = "rev";

/// Every attribute of [`BookingItem`] but the key: what a replacement sets or removes. Attributes beyond
/// these belong to other versions of the code and stay as they are.
pub(super) const ATTRIBUTES: [&str; 40] = [
    "cw", "rf", "or", "v", "rev", "n", "t", "p", "s", "l", "a", "e", "y", "ob", "li", "ls", "cn", "ce", "ct",
    "cb", "cl", "f", "o", "m", "u", "h", "x", "rj", "cr", "pr", "op", "cp", "fp", "g", "sb", "rs", "rb",
    DUE_SHARD, DUE_AT, TTL,
];

/// A booking's item.
#[derive(Serialize, Deserialize)]
pub(super) struct BookingItem {
    /// `BKG#` and the booking's identifier.
    pub(super) pk: String,
    /// The item's format.
    #[serde(rename = "v")]
    pub(super) format: u32,
    /// Counts the item's writes, from 1.
    pub(super) rev: u64,
    /// The nonce of the last write.
    #[serde(rename = "n")]
    pub(super) nonce: Bytes,
    /// The tenant.
    #[serde(rename = "t")]
    pub(super) tenant: String,
    /// The provider.
    #[serde(rename = "p")]
    pub(super) provider_id: String,
    /// The status, one letter.
    #[serde(rename = "s")]
    pub(super) status: String,
    /// The slot's location.
    #[serde(rename = "l")]
    pub(super) location_id: String,
    /// The slot's start.
    #[serde(rename = "a")]
    pub(super) start: i64,
    /// The slot's end.
    #[serde(rename = "e")]
    pub(super) end: i64,
    /// The history, one compact text a version.
    #[serde(rename = "y")]
    pub(super) history: Vec<String>,
    /// The number of the operation begun last.
    #[serde(rename = "ob")]
    pub(super) operations_begun: u32,
    /// The slot's resource.
    #[serde(rename = "li", default, skip_serializing_if = "Option::is_none")]
    pub(super) resource_id: Option<String>,
    /// The slot's service.
    #[serde(rename = "ls", default, skip_serializing_if = "Option::is_none")]
    pub(super) service_id: Option<String>,
    /// The customer's name; absent once it was erased.
    #[serde(rename = "cn", default, skip_serializing_if = "Option::is_none")]
    pub(super) customer_name: Option<String>,
    /// The customer's e-mail address.
    #[serde(rename = "ce", default, skip_serializing_if = "Option::is_none")]
    pub(super) customer_email: Option<String>,
    /// The customer's telephone number.
    #[serde(rename = "ct", default, skip_serializing_if = "Option::is_none")]
    pub(super) customer_phone: Option<String>,
    /// The customer's date of birth.
    #[serde(rename = "cb", default, skip_serializing_if = "Option::is_none")]
    pub(super) customer_birth_date: Option<String>,
    /// The customer's language.
    #[serde(rename = "cl", default, skip_serializing_if = "Option::is_none")]
    pub(super) customer_language: Option<String>,
    /// The consumer's own reference.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
    /// The notes.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub(super) notes: Option<String>,
    /// The consumer's labels.
    #[serde(rename = "m", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
    /// The units.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) units: Vec<UnitItem>,
    /// Only reserve.
    #[serde(rename = "h", default, skip_serializing_if = "is_false")]
    pub(super) hold: bool,
    /// The end of a hold; with status reserved alone.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    /// The provider's no; with status rejected alone.
    #[serde(rename = "rj", default, skip_serializing_if = "Option::is_none")]
    pub(super) rejection: Option<RejectionItem>,
    /// Why Holdfast cancelled; with status cancelled alone.
    #[serde(rename = "cr", default, skip_serializing_if = "Option::is_none")]
    pub(super) cancelled_by_system: Option<String>,
    /// Who else cancelled, and why; with status cancelled alone.
    #[serde(rename = "cw", default, skip_serializing_if = "Option::is_none")]
    pub(super) withdrawal: Option<WithdrawalItem>,
    /// The provider's last no to a change.
    #[serde(rename = "rf", default, skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<RefusalItem>,
    /// The idempotency records of operations.
    #[serde(rename = "or", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) operation_records: Vec<OperationRecordItem>,
    /// The provider's own name for the booking.
    #[serde(rename = "pr", default, skip_serializing_if = "Option::is_none")]
    pub(super) provider_reference: Option<String>,
    /// The operation in flight.
    #[serde(rename = "op", default, skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<OperationItem>,
    /// The compensation, if one was ever needed.
    #[serde(rename = "cp", default, skip_serializing_if = "Option::is_none")]
    pub(super) compensation: Option<CompensationItem>,
    /// SHA-256 of the keyed request; it also says that there was a key.
    #[serde(rename = "fp", default, skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint: Option<Bytes>,
    /// The key's generation.
    #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
    pub(super) generation: u32,
    /// The next generation, once the key is used afresh.
    #[serde(rename = "sb", default, skip_serializing_if = "Option::is_none")]
    pub(super) superseded_by: Option<u32>,
    /// The frozen response's status.
    #[serde(rename = "rs", default, skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<u16>,
    /// The frozen response's body, packed.
    #[serde(rename = "rb", default, skip_serializing_if = "Option::is_none")]
    pub(super) response_body: Option<Bytes>,
    /// See [`DUE_SHARD`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) due_shard: Option<String>,
    /// See [`DUE_AT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) due_at: Option<i64>,
    /// When DynamoDB may remove the item, seconds since the epoch. Nothing depends on it.
    #[serde(default)]
    pub(super) ttl: i64,
}

/// How many of which unit.
#[derive(Serialize, Deserialize)]
pub(super) struct UnitItem {
    #[serde(rename = "u")]
    pub(super) unit_id: String,
    #[serde(rename = "q")]
    pub(super) quantity: u32,
}

/// A provider's no.
#[derive(Serialize, Deserialize)]
pub(super) struct RejectionItem {
    #[serde(rename = "c")]
    pub(super) code: String,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) provider_code: Option<String>,
}

/// Who withdrew a booking, and why.
#[derive(Serialize, Deserialize)]
pub(super) struct WithdrawalItem {
    /// `c` for the consumer, `p` for the provider.
    #[serde(rename = "b")]
    pub(super) by: String,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// A provider's no to a change.
#[derive(Serialize, Deserialize)]
pub(super) struct RefusalItem {
    #[serde(rename = "n")]
    pub(super) operation: u32,
    #[serde(rename = "j")]
    pub(super) rejection: RejectionItem,
}

/// The idempotency record of an operation.
#[derive(Serialize, Deserialize)]
pub(super) struct OperationRecordItem {
    #[serde(rename = "k")]
    pub(super) key: Bytes,
    #[serde(rename = "f")]
    pub(super) fingerprint: Bytes,
    #[serde(rename = "n")]
    pub(super) number: u32,
    #[serde(rename = "a")]
    pub(super) at: i64,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<u16>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub(super) response_body: Option<Bytes>,
}

/// An operation in flight.
#[derive(Serialize, Deserialize)]
pub(super) struct OperationItem {
    #[serde(rename = "k")]
    pub(super) kind: String,
    #[serde(rename = "n")]
    pub(super) number: u32,
    /// The consumer's words to a cancel.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(super) withdrawal: Option<WithdrawalItem>,
    /// It goes on after the request.
    #[serde(rename = "b", default, skip_serializing_if = "is_false")]
    pub(super) background: bool,
    #[serde(rename = "d")]
    pub(super) deadline_at: i64,
    #[serde(rename = "a")]
    pub(super) attempts: u32,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(super) unanswered_send_at: Option<i64>,
    #[serde(rename = "ph")]
    pub(super) phase: PhaseItem,
}

/// A phase and its time.
#[derive(Serialize, Deserialize)]
pub(super) enum PhaseItem {
    /// In flight; the end of the lease.
    #[serde(rename = "l")]
    InFlight(i64),
    /// Waiting; when the next attempt is due.
    #[serde(rename = "w")]
    Waiting(i64),
}

/// A compensation that was needed.
#[derive(Serialize, Deserialize)]
pub(super) enum CompensationItem {
    #[serde(rename = "u")]
    Underway(RunItem),
    #[serde(rename = "d")]
    Done,
    #[serde(rename = "f")]
    Failed,
}

/// A compensation under way.
#[derive(Serialize, Deserialize)]
pub(super) struct RunItem {
    #[serde(rename = "n")]
    pub(super) number: u32,
    #[serde(rename = "g")]
    pub(super) give_up_at: i64,
    #[serde(rename = "a")]
    pub(super) attempts: u32,
    #[serde(rename = "u")]
    pub(super) unanswered_send_at: i64,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
    #[serde(rename = "ph")]
    pub(super) phase: PhaseItem,
}
