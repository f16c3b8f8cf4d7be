//! The providers' own books: a correct provider of the native protocol as a state machine over booking ids.
//! Knows nothing of HTTP, delays or faults, apart from the two ways in which a provider's memory may fail.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::behaviour::CallbackStatus;

/// The most bookings and remembered cancels, each, before the simulator asks to be emptied.
const MAX_ENTRIES: usize = 100_000;
/// How long a hold lives unless the behaviour says otherwise.
const DEFAULT_HOLD_SECONDS: u32 = 900;

/// A status and a JSON body, as the native protocol has them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn refusal(status: u16, code: &str, message: &str) -> Self {
        Self { status, body: json!({"code": code, "message": message}) }
    }

    fn unknown_booking() -> Self {
        Self::refusal(404, "unknown_booking", "There is no booking with this id.")
    }

    fn stale_operation() -> Self {
        Self::refusal(409, "stale_operation", "A later operation of this booking has been seen.")
    }
}

/// Which booking at which provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) provider_id: String,
    pub(super) booking_id: String,
}

/// What a `book` asks for.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts about one call, each named where it is set"
)]
pub(super) struct BookCommand {
    pub(super) operation: u64,
    pub(super) slot: Value,
    pub(super) hold: bool,
    /// The booking waits for a decision of the provider's staff, made known by a call-back.
    pub(super) undecided: bool,
    pub(super) reference: Option<String>,
    pub(super) expires_in_seconds: Option<u32>,
    pub(super) forget_cancels: bool,
    pub(super) forget_keys: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pending,
    Confirmed,
    Reserved,
    Cancelled,
    Rejected,
    Expired,
}

/// One booking as the provider has it. The customer is deliberately not kept.
#[derive(Debug, Clone)]
struct Entry {
    status: Status,
    slot: Value,
    hold: bool,
    provider_reference: String,
    expires_at: Option<Timestamp>,
    last_operation: u64,
    book_count: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Entry {
    fn status_at(&self, now: Timestamp) -> Status {
        match (self.status, self.expires_at) {
            (Status::Reserved, Some(expires_at)) if expires_at <= now => Status::Expired,
            (status, _) => status,
        }
    }

    fn answer(&self, status: u16, booking_id: &str, now: Timestamp) -> Answer {
        let body = json!({
            "booking_id": booking_id,
            "status": self.status_at(now),
            "slot": self.slot,
            "provider_reference": self.provider_reference,
            "expires_at": self.expires_at.map(|at| at.to_string()),
            "operation": self.last_operation,
        });
        Answer { status, body }
    }

    fn settle_as_booked(&mut self, expires_in_seconds: Option<u32>, now: Timestamp) {
        self.book_count += 1;
        self.updated_at = now;
        self.status = if self.hold { Status::Reserved } else { Status::Confirmed };
        if self.hold {
            let life_seconds = expires_in_seconds.unwrap_or(DEFAULT_HOLD_SECONDS);
            self.expires_at = now.checked_add(SignedDuration::from_secs(i64::from(life_seconds))).ok();
        }
    }
}

/// The books of all providers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<Key, Entry>,
    /// Cancels for bookings that were unknown, and when they came. A later booking under the id is refused.
    tombstones: BTreeMap<Key, Timestamp>,
    references_given: u64,
}

impl Ledger {
    pub(super) fn book(&mut self, key: &Key, command: &BookCommand, now: Timestamp) -> Answer {
        let cancelled =
            || Answer::refusal(409, "booking_cancelled", "This booking was cancelled before it was made.");
        if self.tombstones.contains_key(key) {
            if !command.forget_cancels {
                return cancelled();
            }
            self.tombstones.remove(key);
        }
        let next_reference = self.references_given + 1;
        let Some(entry) = self.entries.get_mut(key) else {
            return self.book_anew(key, command, now);
        };
        match entry.status {
            Status::Cancelled => return cancelled(),
            Status::Rejected => {
                return Answer::refusal(409, "rejected", "The provider has rejected this booking.");
            }
            Status::Pending | Status::Confirmed | Status::Reserved | Status::Expired => {}
        }
        if command.forget_keys {
            entry.provider_reference = format!("SIM-{next_reference:06}");
            entry.settle_as_booked(command.expires_in_seconds, now);
            let answer = entry.answer(201, &key.booking_id, now);
            self.references_given = next_reference;
            return answer;
        }
        if entry.slot != command.slot {
            return Answer::refusal(422, "idempotency_key_reused", "This key came with another slot before.");
        }
        if command.operation < entry.last_operation {
            return Answer::stale_operation();
        }
        entry.last_operation = command.operation;
        let status = if entry.status == Status::Pending { 202 } else { 201 };
        entry.answer(status, &key.booking_id, now)
    }

    fn book_anew(&mut self, key: &Key, command: &BookCommand, now: Timestamp) -> Answer {
        if self.entries.len() >= MAX_ENTRIES {
            return Answer {
                status: 503,
                body: json!({"message": "The simulator is full: DELETE /control/state empties it."}),
            };
        }
        self.references_given += 1;
        let mut entry = Entry {
            status: Status::Pending,
            slot: command.slot.clone(),
            hold: command.hold,
            provider_reference: command
                .reference
                .clone()
                .unwrap_or_else(|| format!("SIM-{:06}", self.references_given)),
            expires_at: None,
            last_operation: command.operation,
            book_count: 0,
            created_at: now,
            updated_at: now,
        };
        if !command.undecided {
            entry.settle_as_booked(command.expires_in_seconds, now);
        }
        let answer = entry.answer(if command.undecided { 202 } else { 201 }, &key.booking_id, now);
        self.entries.insert(key.clone(), entry);
        answer
    }

    pub(super) fn cancel(&mut self, key: &Key, operation: u64, now: Timestamp) -> Answer {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.status != Status::Rejected) else {
            // Full, it forgets rather than grows; the answer to this call is the same.
            if self.tombstones.len() < MAX_ENTRIES {
                self.tombstones.entry(key.clone()).or_insert(now);
            }
            return Answer::unknown_booking();
        };
        if operation < entry.last_operation {
            return Answer::stale_operation();
        }
        entry.last_operation = operation;
        if entry.status != Status::Cancelled {
            entry.status = Status::Cancelled;
            entry.updated_at = now;
        }
        entry.answer(200, &key.booking_id, now)
    }

    pub(super) fn look_up(&self, key: &Key, now: Timestamp) -> Answer {
        match self.entries.get(key).filter(|entry| entry.status != Status::Rejected) {
            Some(entry) => entry.answer(200, &key.booking_id, now),
            None => Answer::unknown_booking(),
        }
    }

    /// Decides a pending booking. The provider's reference if it was pending, so that it can be called back.
    pub(super) fn decide(&mut self, key: &Key, status: CallbackStatus, now: Timestamp) -> Option<String> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.status == Status::Pending)?;
        match status {
            CallbackStatus::Confirmed => entry.settle_as_booked(None, now),
            CallbackStatus::Rejected => {
                entry.status = Status::Rejected;
                entry.updated_at = now;
            }
        }
        Some(entry.provider_reference.clone())
    }

    /// Where a known booking takes place.
    pub(super) fn location_id(&self, key: &Key) -> Option<&str> {
        self.entries.get(key)?.slot.get("location_id")?.as_str()
    }

    /// Every booking and every remembered cancel that `wanted` lets through, for the control interface.
    pub(super) fn list(&self, wanted: impl Fn(&Key) -> bool, now: Timestamp) -> Value {
        let bookings: Vec<Value> = self
            .entries
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(key, entry)| {
                json!({
                    "provider_id": key.provider_id,
                    "booking_id": key.booking_id,
                    "status": entry.status_at(now),
                    "slot": entry.slot,
                    "provider_reference": entry.provider_reference,
                    "expires_at": entry.expires_at.map(|at| at.to_string()),
                    "operation": entry.last_operation,
                    "book_count": entry.book_count,
                    "created_at": entry.created_at.to_string(),
                    "updated_at": entry.updated_at.to_string(),
                })
            })
            .collect();
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

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.tombstones.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { provider_id: "p".to_owned(), booking_id: "bkg_1".to_owned() }
    }

    fn command(operation: u64) -> BookCommand {
        BookCommand {
            operation,
            slot: json!({"location_id": "l", "start": "2026-12-01T09:00:00Z"}),
            hold: false,
            undecided: false,
            reference: None,
            expires_in_seconds: None,
            forget_cancels: false,
            forget_keys: false,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn code(answer: &Answer) -> (u16, &str) {
        (answer.status, answer.body["code"].as_str().unwrap_or_default())
    }

    fn book_count(ledger: &Ledger) -> u64 {
        ledger.list(|_| true, at(0))["data"][0]["book_count"].as_u64().unwrap()
    }

    #[test]
    fn a_repeated_booking_answers_the_same_and_books_once() {
        let mut ledger = Ledger::default();
        let first = ledger.book(&key(), &command(1), at(0));
        let second = ledger.book(&key(), &command(1), at(5));
        assert_eq!(first.status, 201);
        assert_eq!(first, second);
        assert_eq!(book_count(&ledger), 1);
    }

    #[test]
    fn a_cancel_for_an_unknown_booking_is_remembered() {
        let mut ledger = Ledger::default();
        assert_eq!(code(&ledger.cancel(&key(), 2, at(0))), (404, "unknown_booking"));
        assert_eq!(code(&ledger.book(&key(), &command(1), at(1))), (409, "booking_cancelled"));
        assert_eq!(code(&ledger.look_up(&key(), at(2))), (404, "unknown_booking"));
        let forgetful = BookCommand { forget_cancels: true, ..command(1) };
        assert_eq!(ledger.book(&key(), &forgetful, at(3)).status, 201);
    }

    #[test]
    fn stale_operations_change_nothing() {
        let mut ledger = Ledger::default();
        ledger.book(&key(), &command(3), at(0));
        assert_eq!(code(&ledger.cancel(&key(), 2, at(1))), (409, "stale_operation"));
        assert_eq!(ledger.look_up(&key(), at(2)).body["status"], "confirmed");
        assert_eq!(ledger.cancel(&key(), 4, at(3)).body["status"], "cancelled");
        assert_eq!(ledger.cancel(&key(), 4, at(4)).status, 200);
        assert_eq!(code(&ledger.book(&key(), &command(3), at(5))), (409, "booking_cancelled"));
    }

    #[test]
    fn another_slot_under_the_same_key_is_refused() {
        let mut ledger = Ledger::default();
        ledger.book(&key(), &command(1), at(0));
        let other = BookCommand { slot: json!({"location_id": "elsewhere"}), ..command(1) };
        assert_eq!(code(&ledger.book(&key(), &other, at(1))), (422, "idempotency_key_reused"));
    }

    #[test]
    fn a_provider_that_forgets_keys_books_twice_and_shows_it() {
        let mut ledger = Ledger::default();
        ledger.book(&key(), &command(1), at(0));
        ledger.book(&key(), &BookCommand { forget_keys: true, ..command(1) }, at(1));
        assert_eq!(book_count(&ledger), 2);
    }

    #[test]
    fn an_undecided_booking_waits_for_its_decision() {
        let mut ledger = Ledger::default();
        let undecided = BookCommand { undecided: true, ..command(1) };
        assert_eq!(ledger.book(&key(), &undecided, at(0)).status, 202);
        assert_eq!(ledger.book(&key(), &command(1), at(1)).status, 202);
        assert_eq!(ledger.look_up(&key(), at(2)).body["status"], "pending");
        assert!(ledger.decide(&key(), CallbackStatus::Confirmed, at(3)).is_some());
        assert!(ledger.decide(&key(), CallbackStatus::Rejected, at(4)).is_none());
        assert_eq!(ledger.look_up(&key(), at(5)).body["status"], "confirmed");
        assert_eq!(book_count(&ledger), 1);
    }

    #[test]
    fn a_rejected_booking_stays_rejected_and_is_not_found() {
        let mut ledger = Ledger::default();
        ledger.book(&key(), &BookCommand { undecided: true, ..command(1) }, at(0));
        ledger.decide(&key(), CallbackStatus::Rejected, at(1));
        assert_eq!(code(&ledger.look_up(&key(), at(2))), (404, "unknown_booking"));
        assert_eq!(code(&ledger.book(&key(), &command(1), at(3))), (409, "rejected"));
    }

    #[test]
    fn a_hold_runs_out() {
        let mut ledger = Ledger::default();
        let hold = BookCommand { hold: true, expires_in_seconds: Some(60), ..command(1) };
        assert_eq!(ledger.book(&key(), &hold, at(0)).body["status"], "reserved");
        assert_eq!(ledger.look_up(&key(), at(59)).body["status"], "reserved");
        assert_eq!(ledger.look_up(&key(), at(60)).body["status"], "expired");
    }
}
