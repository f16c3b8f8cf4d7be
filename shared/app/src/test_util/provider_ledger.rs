//! The books of the provider in memory: what is booked or held there, and what it decided about each change.

use std::collections::BTreeMap;

use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, BookingId, Change, CompensationOutcome, Found,
    LookUpOutcome, Notification, NotificationKind, Rejection, Slot, Timestamp,
};

use super::provider_script::Deed;

/// A booking that the provider has.
#[derive(Clone, Debug)]
struct Held {
    yes: Acknowledgement,
    slot: Slot,
    /// The number of the last operation that it decided.
    operation: u32,
}

impl Held {
    fn is_live(&self, now: Timestamp) -> bool {
        self.yes.reserved_until.is_none_or(|reserved_until| reserved_until > now)
    }
}

/// Where a booking stands at the provider.
#[derive(Clone, Debug)]
enum Entry {
    Live(Held),
    Declined,
    Cancelled,
}

/// The provider's books.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<BookingId, Entry>,
    /// What it answered to each change, so that a repetition gets the same.
    answers: BTreeMap<(BookingId, u32), AttemptOutcome>,
    /// How often a slot was taken for a booking; more than once is a double booking.
    taken: BTreeMap<BookingId, u32>,
    /// The number of the last notification that it heard of a booking.
    heard: BTreeMap<BookingId, u32>,
    pub(super) forgets_cancels: bool,
    pub(super) refuses_cancels: bool,
}

impl Ledger {
    pub(super) fn live(&self, now: Timestamp) -> Vec<BookingId> {
        self.entries.keys().filter(|id| self.holds(id, now).is_some()).cloned().collect()
    }

    pub(super) fn holds(&self, id: &BookingId, now: Timestamp) -> Option<(Slot, Option<Timestamp>)> {
        match self.entries.get(id) {
            Some(Entry::Live(held)) if held.is_live(now) => {
                Some((held.slot.clone(), held.yes.reserved_until))
            }
            Some(Entry::Live(_) | Entry::Declined | Entry::Cancelled) | None => None,
        }
    }

    pub(super) fn times_taken(&self, id: &BookingId) -> u32 {
        self.taken.get(id).copied().unwrap_or(0)
    }

    pub(super) fn withdraw(&mut self, id: &BookingId) {
        // What it hears of it from now on was said before it told of that.
        self.heard.insert(id.clone(), u32::MAX);
        self.entries.insert(id.clone(), Entry::Cancelled);
    }

    pub(super) fn book(&mut self, id: &BookingId, slot: Slot, deed: Deed, now: Timestamp) {
        if self.entries.contains_key(id) {
            return;
        }
        let reserved_until = match deed {
            Deed::Nothing => return,
            Deed::Decline => {
                self.entries.insert(id.clone(), Entry::Declined);
                return;
            }
            Deed::Book => None,
            Deed::Reserve { hold_ms } => Some(now.plus_ms(hold_ms)),
        };
        *self.taken.entry(id.clone()).or_default() += 1;
        let yes = acknowledgement(id, reserved_until);
        self.entries.insert(id.clone(), Entry::Live(Held { yes, slot, operation: 1 }));
    }

    /// Decides about a change, unless it has already.
    pub(super) fn change(
        &mut self,
        id: &BookingId,
        number: u32,
        change: &Change,
        deed: Deed,
        now: Timestamp,
    ) {
        let key = (id.clone(), number);
        if deed == Deed::Nothing || self.answers.contains_key(&key) {
            return;
        }
        let answer = match self.entries.get_mut(id) {
            Some(Entry::Live(held)) if held.is_live(now) && held.operation < number => {
                held.operation = number;
                if deed == Deed::Decline || !apply(held, change) {
                    AttemptOutcome::Declined(rejection())
                } else {
                    AttemptOutcome::Acknowledged(held.yes.clone())
                }
            }
            _ => AttemptOutcome::Declined(rejection()),
        };
        self.answers.insert(key, answer);
    }

    /// The answer to a request to book.
    pub(super) fn answer(&self, id: &BookingId) -> AttemptOutcome {
        match self.entries.get(id) {
            Some(Entry::Live(held)) => AttemptOutcome::Acknowledged(held.yes.clone()),
            Some(Entry::Declined | Entry::Cancelled) => AttemptOutcome::Declined(rejection()),
            None => AttemptOutcome::Unknown(AttemptError::HttpStatus(500)),
        }
    }

    /// The answer to a change.
    pub(super) fn answer_to(&self, id: &BookingId, number: u32) -> AttemptOutcome {
        let answer = self.answers.get(&(id.clone(), number)).cloned();
        answer.unwrap_or(AttemptOutcome::Unknown(AttemptError::HttpStatus(500)))
    }

    /// Cancels, or refuses to for good: a repetition gets the same answer.
    pub(super) fn cancel(&mut self, id: &BookingId, number: u32, refuses: bool) -> CompensationOutcome {
        let key = (id.clone(), number);
        let is_live = matches!(self.entries.get(id), Some(Entry::Live(_)));
        if self.answers.contains_key(&key) || self.refuses_cancels || (refuses && is_live) {
            self.answers.insert(key, AttemptOutcome::Declined(rejection()));
            return CompensationOutcome::Declined;
        }
        match self.entries.get_mut(id) {
            Some(entry @ (Entry::Live(_) | Entry::Cancelled)) => {
                *entry = Entry::Cancelled;
                CompensationOutcome::Acknowledged
            }
            Some(Entry::Declined) => CompensationOutcome::NoSuchBooking,
            None => {
                if !self.forgets_cancels {
                    self.entries.insert(id.clone(), Entry::Cancelled);
                }
                CompensationOutcome::NoSuchBooking
            }
        }
    }

    /// It hears of a booking that it is told of.
    /// What it hears after something newer changes nothing, as the contract for providers says.
    pub(super) fn hear(&mut self, id: &BookingId, notification: &Notification) {
        let last = self.heard.entry(id.clone()).or_default();
        if notification.number < *last {
            return;
        }
        *last = notification.number;
        let entry = match &notification.kind {
            NotificationKind::Booked | NotificationKind::Moved { .. } => {
                let (yes, slot) = (acknowledgement(id, None), notification.slot.clone());
                Entry::Live(Held { yes, slot, operation: 1 })
            }
            NotificationKind::Cancelled => Entry::Cancelled,
        };
        self.entries.insert(id.clone(), entry);
    }

    pub(super) fn look_up(&self, id: &BookingId, now: Timestamp) -> LookUpOutcome {
        match self.entries.get(id) {
            Some(Entry::Live(held)) if held.is_live(now) => LookUpOutcome::Found(Found {
                acknowledgement: held.yes.clone(),
                slot: Some(held.slot.clone()),
                operation: Some(held.operation),
            }),
            Some(Entry::Live(_) | Entry::Cancelled) => LookUpOutcome::Ended,
            Some(Entry::Declined) | None => LookUpOutcome::NotFound,
        }
    }
}

/// Makes a change; `false` if the booking does not permit it.
fn apply(held: &mut Held, change: &Change) -> bool {
    match change {
        Change::Confirm => held.yes.reserved_until.take().is_some(),
        Change::Extend { expires_at } => {
            let is_hold = held.yes.reserved_until.is_some();
            if is_hold {
                held.yes.reserved_until = Some(*expires_at);
            }
            is_hold
        }
        Change::Reschedule(slot) => {
            held.slot = slot.clone();
            true
        }
        Change::Book | Change::Cancel(_) => false,
    }
}

pub(super) fn acknowledgement(id: &BookingId, reserved_until: Option<Timestamp>) -> Acknowledgement {
    Acknowledgement { provider_reference: Some(format!("at-provider-{id}")), reserved_until }
}

pub(super) fn rejection() -> Rejection {
    Rejection {
        code: "declined_by_provider".to_owned(),
        message: Some("The slot is taken.".to_owned()),
        provider_code: Some("slot_taken".to_owned()),
    }
}
