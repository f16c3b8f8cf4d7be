//! One booking as its provider has it: its status, its slot, and the slots that it had before.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Change, Key, Order, Terms, View};

/// How long a hold lives unless the behaviour or the caller says otherwise.
const DEFAULT_HOLD_SECONDS: u32 = 900;
/// The most given-up slots that are remembered of one booking, the oldest being forgotten first.
const MAX_FORMER_SLOTS: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::simulator) enum Status {
    Pending,
    Confirmed,
    Reserved,
    Cancelled,
    Rejected,
    Expired,
}

impl Status {
    /// Whether a booking in this status keeps others out of its slot.
    pub(super) fn holds_a_slot(self) -> bool {
        matches!(self, Self::Pending | Self::Confirmed | Self::Reserved)
    }
}

/// A slot that a booking has given up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FormerSlot {
    pub(super) slot: Value,
    pub(super) given_up_at: Timestamp,
}

/// A change that the provider's staff still has to decide.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::simulator) struct Waiting {
    pub(super) number: u64,
    pub(super) change: Change,
}

impl Waiting {
    pub(in crate::simulator) fn is_confirm(&self) -> bool {
        self.change == Change::Confirm
    }
}

/// The customer is deliberately not kept.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::simulator) struct Entry {
    pub(super) status: Status,
    pub(in crate::simulator) slot: Value,
    pub(super) former_slots: Vec<FormerSlot>,
    pub(super) hold: bool,
    pub(in crate::simulator) provider_reference: String,
    pub(in crate::simulator) expires_at: Option<Timestamp>,
    /// The highest operation number that came.
    pub(super) last_seen: u64,
    /// The last operation number that was carried out or refused; of a booking without changes, its own.
    pub(super) last_settled: u64,
    pub(in crate::simulator) undecided: Option<Waiting>,
    pub(super) book_count: u32,
    pub(in crate::simulator) created_at: Timestamp,
    pub(in crate::simulator) updated_at: Timestamp,
    pub(in crate::simulator) confirmed_at: Option<Timestamp>,
    pub(in crate::simulator) cancelled_at: Option<Timestamp>,
    /// What a protocol needs besides to answer, such as the units that were booked. No customer.
    pub(in crate::simulator) details: Value,
}

impl Entry {
    /// A booking that nobody has decided yet.
    pub(super) fn new(order: &Order, provider_reference: String, now: Timestamp) -> Self {
        Self {
            status: Status::Pending,
            slot: order.slot.clone(),
            former_slots: Vec::new(),
            hold: order.hold,
            provider_reference,
            expires_at: None,
            last_seen: order.number,
            last_settled: order.number,
            undecided: None,
            book_count: 0,
            created_at: now,
            updated_at: now,
            confirmed_at: None,
            cancelled_at: None,
            details: order.details.clone(),
        }
    }

    pub(super) fn status_at(&self, now: Timestamp) -> Status {
        match (self.status, self.expires_at) {
            (Status::Reserved, Some(expires_at)) if expires_at <= now => Status::Expired,
            (status, _) => status,
        }
    }

    /// How many units of its slot it has: those of its details, or one.
    pub(super) fn units(&self) -> u32 {
        let items = self.details.get("unit_items").and_then(Value::as_array).map(|items| items.len() as u64);
        let units = items.or_else(|| self.details.get("units")?.as_u64()).unwrap_or(1);
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    pub(super) fn view(&self, key: &Key, now: Timestamp) -> Box<View> {
        Box::new(View {
            booking_id: key.booking_id.clone(),
            status: self.status_at(now),
            operation: self.last_settled,
            entry: self.clone(),
        })
    }

    pub(super) fn settle_as_booked(&mut self, life_seconds: Option<u32>, now: Timestamp) {
        self.book_count += 1;
        self.updated_at = now;
        if self.hold {
            self.status = Status::Reserved;
            self.expires_at = after(now, life_seconds.unwrap_or(DEFAULT_HOLD_SECONDS));
        } else {
            self.status = Status::Confirmed;
            self.confirmed_at = Some(now);
        }
    }

    /// Makes a change that was found to be possible.
    pub(super) fn carry_out(&mut self, change: &Change, terms: &Terms, now: Timestamp) {
        match change {
            Change::Confirm => self.confirm(terms, now),
            Change::Extend { expires_at } => {
                // What the behaviour grants wins over what was asked for; a hold is never shortened.
                let granted = terms.expires_in_seconds.and_then(|seconds| after(now, seconds));
                let asked = granted.unwrap_or(*expires_at);
                self.expires_at = Some(self.expires_at.map_or(asked, |known| known.max(asked)));
            }
            Change::Cancel { reason } => self.cancel(reason.as_deref(), now),
            Change::Reschedule { slot } => self.move_to(slot, now),
        }
        self.updated_at = now;
    }

    fn confirm(&mut self, terms: &Terms, now: Timestamp) {
        self.status = Status::Confirmed;
        self.expires_at = None;
        self.confirmed_at = Some(now);
        if let Some(reference) = &terms.reference {
            self.provider_reference.clone_from(reference);
        }
    }

    pub(super) fn cancel(&mut self, reason: Option<&str>, now: Timestamp) {
        if self.status == Status::Cancelled {
            return;
        }
        self.status = Status::Cancelled;
        self.cancelled_at = Some(now);
        self.updated_at = now;
        if let (Some(details), Some(reason)) = (self.details.as_object_mut(), reason) {
            details.insert("cancel_reason".to_owned(), json!(reason));
        }
    }

    pub(super) fn move_to(&mut self, slot: &Value, now: Timestamp) {
        if self.slot == *slot {
            return;
        }
        if self.former_slots.len() >= MAX_FORMER_SLOTS {
            self.former_slots.remove(0);
        }
        let given_up = std::mem::replace(&mut self.slot, slot.clone());
        self.former_slots.push(FormerSlot { slot: given_up, given_up_at: now });
        self.updated_at = now;
    }
}

fn after(now: Timestamp, seconds: u32) -> Option<Timestamp> {
    now.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

/// What makes two slots the same: place, room or person, and start. Overlaps are not looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulator) struct SlotId {
    /// Where a protocol knows no locations, the service.
    pub(super) place: String,
    resource_id: String,
    start: String,
}

impl SlotId {
    pub(in crate::simulator) fn of(slot: &Value) -> Self {
        let text = |name: &str| slot.get(name).and_then(Value::as_str).map(str::to_owned);
        let start = text("start").unwrap_or_default();
        Self {
            place: text("location_id").or_else(|| text("service_id")).unwrap_or_default(),
            resource_id: text("resource_id").unwrap_or_default(),
            // The same moment may be written in several ways.
            start: start.parse::<Timestamp>().map_or(start, |at| at.to_string()),
        }
    }
}
