//! The item of a booking: its attributes, under names so short that the item of an ordinary booking
//! stays under 1 KiB, the size that one write unit pays for.
//!
//! All times are milliseconds since the Unix epoch: DynamoDB does not count trailing zeros, so that whole
//! seconds cost no more than seconds would. What is empty or has its usual value is absent. The fields
//! hold personal data, so that nothing here can be printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::item::{Bytes, TTL, is_false, is_zero};

/// The latest format of items that this version reads and writes. It reads all lower ones too, and writes
/// each item in the lowest that says everything in it: [`FIRST_FORMAT`], unless older code would read the
/// item and misunderstand it.
pub const ITEM_FORMAT: u32 = OPERATOR_FORMAT;

/// The format of bookings that are confirmed by their provider's word and have no slot to themselves.
pub(super) const FIRST_FORMAT: u32 = 1;

/// The format of bookings that their providers are told of, that have a slot to themselves, or that are changed.
pub(super) const TELLING_FORMAT: u32 = 2;

/// The format of bookings that an operator has ended or had begun anew.
pub(super) const OPERATOR_FORMAT: u32 = 3;

/// The attribute that says whose a booking is, the partition key of the index of tenants.
pub(super) const TENANT: &str = "t";

/// The attribute that says when a booking was made, the sort key of the indexes that lists read.
pub(super) const CREATED_AT: &str = "ca";

/// The digest of tenant and reference, the partition key of the index of references.
pub(super) const REFERENCE_DIGEST: &str = "fd";

/// The partition key of the sparse index of overdue bookings.
pub(super) const DUE_SHARD: &str = "due_shard";

/// The sort key of the sparse index of overdue bookings.
pub(super) const DUE_AT: &str = "due_at";

/// The attribute that counts the item's writes.
pub(super) const REV: &str = "rev";

/// The attribute that says the item's format.
pub(super) const FORMAT: &str = "v";

/// The attribute with the versions.
pub(super) const HISTORY: &str = "y";

/// The attribute of an operation that is under way.
pub(super) const OPERATION: &str = "op";

/// The attribute of what the provider is to be told.
pub(super) const NOTIFICATIONS: &str = "nt";

/// Every attribute of [`BookingItem`] but the key: what a replacement sets or removes. Attributes beyond
/// these belong to other versions of the code and stay as they are.
#[rustfmt::skip]
pub(super) const ATTRIBUTES: [&str; 48] = [
    "cw", "rf", "or", "v", "rev", "n", TENANT, "p", "s", "l", "a", "e", "y", "ob", "li", "ls", "cn", "ce",
    "ct", "cb", "cl", "f", "o", "m", "u", "h", "x", "rj", "cr", "pr", "op", "cp", "fp", "g", "sb", "rs", "rb",
    "cm", "pl", "nt", "mv", "xs", "ai", CREATED_AT, REFERENCE_DIGEST, DUE_SHARD, DUE_AT, TTL,
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
    /// The provider's own name for the slot, from the booking key.
    #[serde(rename = "ai", default, skip_serializing_if = "Option::is_none")]
    pub(super) availability_id: Option<String>,
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
    /// How it is confirmed, a letter; absent if by the provider's word.
    #[serde(rename = "cm", default, skip_serializing_if = "Option::is_none")]
    pub(super) confirmation: Option<String>,
    /// The provider fetches what it is told.
    #[serde(rename = "pl", default, skip_serializing_if = "is_false")]
    pub(super) is_pulled: bool,
    /// What the provider has still to be told.
    #[serde(rename = "nt", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notifications: Vec<NotificationItem>,
    /// The slots that the booking has had, beside the versions that moved it.
    #[serde(rename = "mv", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) moves: Vec<MoveItem>,
    /// It has its slots to itself.
    #[serde(rename = "xs", default, skip_serializing_if = "is_false")]
    pub(super) exclusive_slots: bool,
    /// See [`CREATED_AT`]; the history says the same. Items that older code wrote last have none.
    #[serde(rename = "ca", default, skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<i64>,
    /// See [`REFERENCE_DIGEST`].
    #[serde(rename = "fd", default, skip_serializing_if = "Option::is_none")]
    pub(super) reference_digest: Option<Bytes>,
    /// Why the last change that came to nothing did so.
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

/// Why a change came to nothing: the provider's no, or else an error.
#[derive(Serialize, Deserialize)]
pub(super) struct RefusalItem {
    #[serde(rename = "n")]
    pub(super) operation: u32,
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub(super) rejection: Option<RejectionItem>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Nobody could find out.
    #[serde(rename = "u", default, skip_serializing_if = "is_false")]
    pub(super) unresolved: bool,
}

/// A slot other than the booking's own.
#[derive(Serialize, Deserialize)]
pub(super) struct SlotItem {
    #[serde(rename = "l")]
    pub(super) location_id: String,
    #[serde(rename = "a")]
    pub(super) start: i64,
    #[serde(rename = "e")]
    pub(super) end: i64,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub(super) resource_id: Option<String>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) service_id: Option<String>,
}

/// The slot that a booking had until a version.
#[derive(Serialize, Deserialize)]
pub(super) struct MoveItem {
    #[serde(rename = "v")]
    pub(super) version: u32,
    #[serde(rename = "f")]
    pub(super) from: SlotItem,
}

/// What a provider has still to be told.
#[derive(Serialize, Deserialize)]
pub(crate) struct NotificationItem {
    /// A letter.
    #[serde(rename = "k")]
    pub(super) kind: String,
    /// The slot before, of a move.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<SlotItem>,
    /// The slot that it tells of; absent if it is the booking's.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) slot: Option<SlotItem>,
    #[serde(rename = "v")]
    pub(super) version: u32,
    #[serde(rename = "n")]
    pub(super) number: u32,
    #[serde(rename = "b")]
    pub(super) begun_at: i64,
    #[serde(rename = "a", default, skip_serializing_if = "is_zero")]
    pub(super) attempts: u32,
    #[serde(rename = "o", default, skip_serializing_if = "is_zero")]
    pub(super) skipped: u32,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
    #[serde(rename = "ph")]
    pub(super) phase: PhaseItem,
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
    /// The end of the hold that an extension asks for.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    /// The slot that a reschedule asks for.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) slot: Option<SlotItem>,
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
    /// Until when the provider is asked which it was.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(super) resolve_until: Option<i64>,
    /// The change that this cancel overtook.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub(super) overtaken: Option<OvertakenItem>,
    #[serde(rename = "ph")]
    pub(super) phase: PhaseItem,
}

/// A change that a cancel overtook.
#[derive(Serialize, Deserialize)]
pub(super) struct OvertakenItem {
    #[serde(rename = "k")]
    pub(super) kind: String,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(super) withdrawal: Option<WithdrawalItem>,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) slot: Option<SlotItem>,
    #[serde(rename = "n")]
    pub(super) number: u32,
    /// It went on after its request.
    #[serde(rename = "b", default, skip_serializing_if = "is_false")]
    pub(super) background: bool,
    #[serde(rename = "a", default, skip_serializing_if = "is_zero")]
    pub(super) attempts: u32,
    #[serde(rename = "u")]
    pub(super) unanswered_send_at: i64,
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
