//! The books as the control interface shows them, and what they leave to others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Key, Ledger,
    entry::{Entry, SlotId},
};

impl Ledger {
    /// Every booking and every remembered cancel that `wanted` lets through.
    pub(in crate::simulator) fn list(&self, wanted: impl Fn(&Key) -> bool, now: Timestamp) -> Value {
        let entries = self.entries.iter().filter(|(key, _)| wanted(key));
        let bookings: Vec<Value> = entries.map(|(key, entry)| shown(key, entry, now)).collect();
        let tombstones: Vec<Value> = self
            .tombstones
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(key, at)| {
                json!({
                    "provider_id": key.provider_id,
                    "booking_id": key.booking_id,
                    "cancelled_at": at.to_string(),
                })
            })
            .collect();
        json!({"data": bookings, "tombstones": tombstones})
    }

    /// How many units the provider's live bookings have, of every slot of which they have any.
    pub(in crate::simulator) fn held_units(
        &self,
        provider_id: &str,
        now: Timestamp,
    ) -> BTreeMap<SlotId, u32> {
        let mut held: BTreeMap<SlotId, u32> = BTreeMap::new();
        for (key, entry) in &self.entries {
            if key.provider_id == provider_id && entry.status_at(now).holds_a_slot() {
                let units = held.entry(SlotId::of(&entry.slot)).or_default();
                *units = units.saturating_add(entry.units());
            }
        }
        held
    }

    /// Every slot that a live booking holds, of the providers and places that `wanted` lets through. A slot that is
    /// not listed is free.
    pub(in crate::simulator) fn held_slots(
        &self,
        wanted: impl Fn(&str, &str) -> bool,
        now: Timestamp,
    ) -> Value {
        let mut held: BTreeMap<(&str, SlotId), Vec<(&Key, &Entry)>> = BTreeMap::new();
        for (key, entry) in &self.entries {
            let id = SlotId::of(&entry.slot);
            if entry.status_at(now).holds_a_slot() && wanted(&key.provider_id, &id.place) {
                held.entry((&key.provider_id, id)).or_default().push((key, entry));
            }
        }
        let slots: Vec<Value> = held
            .into_iter()
            .map(|((provider_id, _), holders)| {
                let bookings: Vec<Value> = holders
                    .iter()
                    .map(|(key, entry)| json!({"booking_id": key.booking_id, "status": entry.status_at(now)}))
                    .collect();
                let slot = holders.first().map(|(_, entry)| &entry.slot);
                json!({"provider_id": provider_id, "slot": slot, "bookings": bookings})
            })
            .collect();
        json!({"data": slots})
    }
}

fn shown(key: &Key, entry: &Entry, now: Timestamp) -> Value {
    let former: Vec<Value> = entry
        .former_slots
        .iter()
        .map(|former| json!({"slot": former.slot, "given_up_at": former.given_up_at.to_string()}))
        .collect();
    json!({
        "provider_id": key.provider_id,
        "booking_id": key.booking_id,
        "status": entry.status_at(now),
        "slot": entry.slot,
        "former_slots": former,
        "provider_reference": entry.provider_reference,
        "expires_at": entry.expires_at.map(|at| at.to_string()),
        "operation": entry.last_settled,
        "undecided_operation": entry.undecided.as_ref().map(|waiting| waiting.number),
        "book_count": entry.book_count,
        "details": entry.details,
        "created_at": entry.created_at.to_string(),
        "updated_at": entry.updated_at.to_string(),
    })
}
