//! The books of a provider that is told of bookings rather than asked for them. A notice says how things are, so
//! it is never refused, and told twice it changes nothing more.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Key, Ledger, MAX_ENTRIES, Order, Refusal, Status, entry::Entry};

/// What a provider is told.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::simulator) enum Notice {
    Booked { slot: Value },
    Cancelled,
    Moved { slot: Value },
}

impl Ledger {
    /// Takes a notice down. Refuses only when the books are full.
    pub(in crate::simulator) fn tell(
        &mut self,
        key: &Key,
        notice: &Notice,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        match (notice, self.entries.get_mut(key)) {
            // Told late, of what has been moved or cancelled since.
            (Notice::Booked { .. }, Some(_)) => {}
            (Notice::Cancelled, Some(entry)) => entry.cancel(None, now),
            (Notice::Moved { slot }, Some(entry)) => {
                if entry.status != Status::Cancelled {
                    entry.move_to(slot, now);
                }
            }
            (Notice::Cancelled, None) => self.bury(key, now),
            (Notice::Booked { slot } | Notice::Moved { slot }, None) => {
                if !self.tombstones.contains_key(key) {
                    self.note_booking(key, slot, now)?;
                }
            }
        }
        Ok(())
    }

    fn note_booking(&mut self, key: &Key, slot: &Value, now: Timestamp) -> Result<(), Refusal> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Refusal::full());
        }
        self.references_given += 1;
        let order = Order { number: 1, slot: slot.clone(), hold: false, details: json!({}) };
        let mut entry = Entry::new(&order, format!("SIM-{:06}", self.references_given), now);
        entry.settle_as_booked(None, now);
        self.entries.insert(key.clone(), entry);
        Ok(())
    }
}
