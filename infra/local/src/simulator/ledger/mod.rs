//! The providers' own books: a correct provider as a state machine over booking ids, whichever protocol it speaks.
//! Knows nothing of HTTP, delays or faults, apart from the two ways in which a provider's memory may fail.

mod entry;
mod list;
mod notices;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

pub(super) use self::{
    entry::{Entry, SlotId, Status, Waiting},
    notices::Notice,
};
use super::behaviour::{Behaviour, CallbackStatus};

/// The most bookings and remembered cancels, each, before the simulator asks to be emptied.
const MAX_ENTRIES: usize = 100_000;

/// Which booking at which provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) provider_id: String,
    pub(super) booking_id: String,
}

/// What a booking asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) slot: Value,
    pub(super) hold: bool,
    /// Kept with the booking for the protocol's answers. Must not hold the customer.
    pub(super) details: Value,
}

/// What is asked of a booking that there is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Confirm,
    Extend { expires_at: Timestamp },
    Cancel { reason: Option<String> },
    Reschedule { slot: Value },
}

/// On what terms the provider works at the moment, as it was told to.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts about one call, each named where it is set"
)]
pub(super) struct Terms {
    /// The provider's staff decides later.
    pub(super) undecided: bool,
    pub(super) reference: Option<String>,
    pub(super) expires_in_seconds: Option<u32>,
    pub(super) forget_cancels: bool,
    pub(super) forget_keys: bool,
    /// A slot that a live booking holds is refused to others.
    pub(super) one_per_slot: bool,
    /// What would be possible is refused so.
    pub(super) decline: Option<Refusal>,
}

impl Terms {
    pub(super) fn new(behaviour: &Behaviour) -> Self {
        Self {
            reference: behaviour.reference.clone(),
            expires_in_seconds: behaviour.expires_in_seconds,
            forget_cancels: behaviour.forget_cancels,
            forget_keys: behaviour.forget_keys,
            ..Self::default()
        }
    }
}

/// A no, in the words of the native protocol.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// `None`: a failure rather than a no.
    pub(super) code: Option<String>,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: Some(code.to_owned()), message: message.to_owned() }
    }

    fn conflict(code: &str, message: &str) -> Self {
        Self::new(409, code, message)
    }

    pub(super) fn unknown_booking() -> Self {
        Self::new(404, "unknown_booking", "There is no booking with this id.")
    }

    pub(super) fn slot_taken() -> Self {
        Self::conflict("slot_taken", "Another booking has this slot.")
    }

    fn stale_operation() -> Self {
        Self::conflict("stale_operation", "A later operation of this booking has been seen.")
    }

    fn key_reused() -> Self {
        Self::new(422, "idempotency_key_reused", "This key came with another request before.")
    }

    fn rejected() -> Self {
        Self::conflict("rejected", "The provider has rejected this.")
    }

    fn full() -> Self {
        let message = "The simulator is full: DELETE /control/state empties it.".to_owned();
        Self { status: 503, code: None, message }
    }
}

/// A booking as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) booking_id: String,
    /// Knows that holds run out, which the entry's own status does not.
    pub(super) status: Status,
    /// The last operation that was carried out or refused.
    pub(super) operation: u64,
    pub(super) entry: Entry,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// Booked, now or before.
    Made(Box<View>),
    /// As asked, now or before; or what a look-up found.
    Done(Box<View>),
    /// Taken; to be decided under this number.
    Undecided(Box<View>, u64),
    Refused(Refusal),
}

/// How something undecided was decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    pub(super) number: u64,
    pub(super) outcome: Result<Box<View>, Refusal>,
}

/// The last change of a booking and what it was answered, for its repetition.
#[derive(Debug, Clone)]
struct Settled {
    number: u64,
    change: Change,
    outcome: Outcome,
}

/// The books of all providers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<Key, Entry>,
    settled: BTreeMap<Key, Settled>,
    /// Cancels for bookings that were unknown, and when they came. A later booking under the id is refused.
    tombstones: BTreeMap<Key, Timestamp>,
    references_given: u64,
}

impl Ledger {
    pub(super) fn book(&mut self, key: &Key, order: &Order, terms: &Terms, now: Timestamp) -> Outcome {
        let cancelled =
            || Refusal::conflict("booking_cancelled", "This booking was cancelled before it was made.");
        if self.tombstones.contains_key(key) {
            if !terms.forget_cancels {
                return Outcome::Refused(cancelled());
            }
            self.tombstones.remove(key);
        }
        let next_reference = self.references_given + 1;
        let Some(entry) = self.entries.get_mut(key) else {
            return self.book_anew(key, order, terms, now);
        };
        match entry.status {
            Status::Cancelled => return Outcome::Refused(cancelled()),
            Status::Rejected => return Outcome::Refused(Refusal::rejected()),
            Status::Pending | Status::Confirmed | Status::Reserved | Status::Expired => {}
        }
        if terms.forget_keys {
            entry.provider_reference = format!("SIM-{next_reference:06}");
            entry.settle_as_booked(terms.expires_in_seconds, now);
            let view = entry.view(key, now);
            self.references_given = next_reference;
            return Outcome::Made(view);
        }
        if order.number < entry.last_seen {
            return Outcome::Refused(Refusal::stale_operation());
        }
        if entry.slot != order.slot {
            return Outcome::Refused(Refusal::key_reused());
        }
        entry.last_seen = order.number;
        if entry.status == Status::Pending {
            return Outcome::Undecided(entry.view(key, now), order.number);
        }
        Outcome::Made(entry.view(key, now))
    }

    fn book_anew(&mut self, key: &Key, order: &Order, terms: &Terms, now: Timestamp) -> Outcome {
        if self.entries.len() >= MAX_ENTRIES {
            return Outcome::Refused(Refusal::full());
        }
        if terms.one_per_slot && self.is_taken(key, &order.slot, now) {
            return Outcome::Refused(Refusal::slot_taken());
        }
        self.references_given += 1;
        let reference =
            terms.reference.clone().unwrap_or_else(|| format!("SIM-{:06}", self.references_given));
        let mut entry = Entry::new(order, reference, now);
        if !terms.undecided {
            entry.settle_as_booked(terms.expires_in_seconds, now);
        }
        let view = entry.view(key, now);
        self.entries.insert(key.clone(), entry);
        if terms.undecided { Outcome::Undecided(view, order.number) } else { Outcome::Made(view) }
    }

    /// Makes a change, once for each number. Without a number, as of a protocol that has none, each call is a
    /// change of its own.
    pub(super) fn change(
        &mut self,
        key: &Key,
        number: Option<u64>,
        change: &Change,
        terms: &Terms,
        now: Timestamp,
    ) -> Outcome {
        let Some(entry) = self.entries.get(key).filter(|entry| entry.status != Status::Rejected) else {
            if matches!(change, Change::Cancel { .. }) {
                self.bury(key, now);
            }
            return Outcome::Refused(Refusal::unknown_booking());
        };
        let number = number.unwrap_or(entry.last_seen + 1);
        if let Some(settled) = self.settled.get(key).filter(|settled| settled.number == number) {
            let is_the_same = settled.change == *change;
            return if is_the_same {
                settled.outcome.clone()
            } else {
                Outcome::Refused(Refusal::key_reused())
            };
        }
        match &entry.undecided {
            Some(waiting) if waiting.number == number && waiting.change != *change => {
                return Outcome::Refused(Refusal::key_reused());
            }
            Some(waiting) if waiting.number == number => {
                return Outcome::Undecided(entry.view(key, now), number);
            }
            // Something later takes the place of what still waits.
            Some(_) | None => {}
        }
        if number < entry.last_seen {
            return Outcome::Refused(Refusal::stale_operation());
        }
        let refusal = self.judge(key, entry, change, terms, now).or_else(|| terms.decline.clone());
        if refusal.is_none() && terms.undecided {
            return self.postpone(key, Waiting { number, change: change.clone() }, now);
        }
        self.settle(key, &Waiting { number, change: change.clone() }, refusal, terms, now)
    }

    /// Leaves a change to be decided later.
    fn postpone(&mut self, key: &Key, waiting: Waiting, now: Timestamp) -> Outcome {
        let Some(entry) = self.entries.get_mut(key) else {
            return Outcome::Refused(Refusal::unknown_booking());
        };
        let number = waiting.number;
        entry.last_seen = number;
        entry.undecided = Some(waiting);
        Outcome::Undecided(entry.view(key, now), number)
    }

    /// Carries a change out, or refuses it, and remembers the answer.
    fn settle(
        &mut self,
        key: &Key,
        asked: &Waiting,
        refusal: Option<Refusal>,
        terms: &Terms,
        now: Timestamp,
    ) -> Outcome {
        let Some(entry) = self.entries.get_mut(key) else {
            return Outcome::Refused(Refusal::unknown_booking());
        };
        entry.undecided = None;
        entry.last_seen = asked.number;
        entry.last_settled = asked.number;
        if refusal.is_none() {
            entry.carry_out(&asked.change, terms, now);
        }
        let outcome = match refusal {
            Some(refusal) => Outcome::Refused(refusal),
            None => Outcome::Done(entry.view(key, now)),
        };
        let settled =
            Settled { number: asked.number, change: asked.change.clone(), outcome: outcome.clone() };
        self.settled.insert(key.clone(), settled);
        outcome
    }

    /// Why a change is not possible, if it is not.
    fn judge(
        &self,
        key: &Key,
        entry: &Entry,
        change: &Change,
        terms: &Terms,
        now: Timestamp,
    ) -> Option<Refusal> {
        match (change, entry.status_at(now)) {
            (Change::Cancel { .. }, _) => None,
            (_, Status::Cancelled) => {
                Some(Refusal::conflict("booking_cancelled", "This booking has been cancelled."))
            }
            (_, Status::Expired) => Some(Refusal::conflict("hold_expired", "This hold has run out.")),
            (_, Status::Rejected) => Some(Refusal::rejected()),
            (_, Status::Pending) => {
                Some(Refusal::conflict("not_decided", "This booking has not been decided yet."))
            }
            (Change::Confirm, Status::Confirmed) => {
                Some(Refusal::conflict("already_confirmed", "This booking has been confirmed before."))
            }
            (Change::Extend { .. }, Status::Confirmed) => {
                Some(Refusal::conflict("not_reserved", "This booking is not a hold."))
            }
            (Change::Extend { expires_at }, Status::Reserved) if *expires_at <= now => {
                Some(Refusal::conflict("expires_at_passed", "This time has passed."))
            }
            (Change::Reschedule { slot }, Status::Confirmed | Status::Reserved) => {
                (terms.one_per_slot && self.is_taken(key, slot, now)).then(Refusal::slot_taken)
            }
            (Change::Confirm | Change::Extend { .. }, Status::Reserved) => None,
        }
    }

    pub(super) fn look_up(&self, key: &Key, now: Timestamp) -> Outcome {
        match self.entries.get(key).filter(|entry| entry.status != Status::Rejected) {
            Some(entry) => Outcome::Done(entry.view(key, now)),
            None => Outcome::Refused(Refusal::unknown_booking()),
        }
    }

    /// Decides what waits under `number`: a pending booking, or a change. `None` if nothing does any more.
    pub(super) fn decide(
        &mut self,
        key: &Key,
        number: u64,
        status: CallbackStatus,
        terms: &Terms,
        now: Timestamp,
    ) -> Option<Decision> {
        let entry = self.entries.get_mut(key)?;
        if entry.status == Status::Pending {
            let outcome = match status {
                CallbackStatus::Confirmed => {
                    entry.settle_as_booked(None, now);
                    Ok(entry.view(key, now))
                }
                CallbackStatus::Rejected => {
                    entry.status = Status::Rejected;
                    entry.updated_at = now;
                    Err(Refusal::rejected())
                }
            };
            return Some(Decision { number, outcome });
        }
        let waiting = entry.undecided.clone().filter(|waiting| waiting.number == number)?;
        let refusal = match status {
            CallbackStatus::Confirmed => self.judge(key, self.entries.get(key)?, &waiting.change, terms, now),
            CallbackStatus::Rejected => Some(Refusal::rejected()),
        };
        let outcome = match self.settle(key, &waiting, refusal, terms, now) {
            Outcome::Refused(refusal) => Err(refusal),
            Outcome::Made(view) | Outcome::Done(view) | Outcome::Undecided(view, _) => Ok(view),
        };
        Some(Decision { number, outcome })
    }

    /// Whether a live booking other than `key`'s has the slot.
    pub(super) fn is_taken(&self, key: &Key, slot: &Value, now: Timestamp) -> bool {
        let wanted = SlotId::of(slot);
        let first = Key { provider_id: key.provider_id.clone(), booking_id: String::new() };
        self.entries.range(first..).take_while(|(other, _)| other.provider_id == key.provider_id).any(
            |(other, entry)| {
                other != key && entry.status_at(now).holds_a_slot() && SlotId::of(&entry.slot) == wanted
            },
        )
    }

    /// A booking as it is, also one that the provider rejected.
    pub(super) fn find(&self, key: &Key, now: Timestamp) -> Option<Box<View>> {
        Some(self.entries.get(key)?.view(key, now))
    }

    /// Replaces what the protocol keeps with a booking.
    pub(super) fn set_details(&mut self, key: &Key, details: Value) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.details = details;
        }
    }

    /// Where a known booking takes place; where the protocol knows no locations, its service.
    pub(super) fn location_id(&self, key: &Key) -> Option<String> {
        Some(SlotId::of(&self.entries.get(key)?.slot).place).filter(|place| !place.is_empty())
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.settled.clear();
        self.tombstones.clear();
    }

    /// Remembers the cancel of a booking that there is not. Full, it forgets rather than grows.
    fn bury(&mut self, key: &Key, now: Timestamp) {
        if self.tombstones.len() < MAX_ENTRIES {
            self.tombstones.entry(key.clone()).or_insert(now);
        }
    }
}
