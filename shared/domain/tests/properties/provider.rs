//! A provider as the contract wants it: it answers an operation once and for all, whoever asks how often,
//! and takes nothing that is older than what it has decided.

use std::collections::BTreeMap;

use holdfast_domain::{
    Acknowledgement, AttemptOutcome, Change, CompensationOutcome, Found, LookUpOutcome, NotificationKind,
    Slot, Timestamp,
};

use crate::moves::no;

/// For how long a hold holds, in milliseconds.
pub(crate) const HOLD_MS: u64 = 300_000;

/// What a provider is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) number: u32,
    pub(crate) ask: Ask,
    /// Whether the provider will say yes if it can.
    pub(crate) willing: bool,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Book { slot: Slot, hold: bool },
    Change(Change),
    Compensate,
    Tell { kind: NotificationKind, slot: Slot },
}

/// How a provider holds the booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Reserved(Timestamp),
    Confirmed,
    Ended,
}

/// In what providers differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Whether its look-up tells the operation that it has decided last.
    pub(crate) tells_operation: bool,
    /// Whether it refuses to book what was cancelled before it knew of it.
    pub(crate) remembers_cancels: bool,
}

/// The provider and what it truly holds.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) held: Option<(Held, Slot)>,
    /// What it said to each operation: whether it was a yes.
    answers: BTreeMap<u32, bool>,
    habits: Habits,
    is_cancelled: bool,
}

impl Provider {
    pub(crate) fn new(habits: Habits) -> Self {
        Self { held: None, answers: BTreeMap::new(), habits, is_cancelled: false }
    }

    /// What it holds at `now`: a hold lapses by itself.
    pub(crate) fn holds(&self, now: Timestamp) -> Option<(Held, Slot)> {
        self.held.clone().map(|(held, slot)| match held {
            Held::Reserved(until) if until <= now => (Held::Ended, slot),
            held => (held, slot),
        })
    }

    /// A request arrives.
    pub(crate) fn receive(&mut self, request: &Request, now: Timestamp) -> AttemptOutcome {
        let number = request.number;
        let newest = self.answers.keys().next_back().copied().unwrap_or(0);
        // What it decided once it repeats; what is older than that it does not take.
        let is_yes = match self.answers.get(&number) {
            Some(answer) => *answer,
            None if number < newest => false,
            None => {
                let is_yes = self.decide(request, now);
                self.answers.insert(number, is_yes);
                is_yes
            }
        };
        if is_yes { AttemptOutcome::Acknowledged(self.word()) } else { AttemptOutcome::Declined(no()) }
    }

    fn decide(&mut self, request: &Request, now: Timestamp) -> bool {
        let holds = self.holds(now);
        let next = match (&request.ask, holds) {
            (Ask::Tell { kind: NotificationKind::Cancelled, slot }, _) => Some((Held::Ended, slot.clone())),
            // It knows better.
            (Ask::Tell { .. }, Some((Held::Ended, _))) => return true,
            (Ask::Tell { slot, .. }, _) => Some((Held::Confirmed, slot.clone())),
            _ if !request.willing => None,
            (Ask::Book { .. }, _) if self.habits.remembers_cancels && self.is_cancelled => None,
            (Ask::Book { slot, hold }, None) => {
                let held = if *hold { Held::Reserved(now.plus_ms(HOLD_MS)) } else { Held::Confirmed };
                Some((held, slot.clone()))
            }
            (Ask::Change(Change::Cancel(_)) | Ask::Compensate, None) => {
                self.is_cancelled = true;
                return true;
            }
            (Ask::Change(Change::Cancel(_)) | Ask::Compensate, Some((_, slot))) => Some((Held::Ended, slot)),
            (_, None | Some((Held::Ended, _))) => None,
            (Ask::Change(Change::Confirm), Some((_, slot))) => Some((Held::Confirmed, slot)),
            (Ask::Change(Change::Extend { expires_at }), Some((Held::Reserved(_), slot))) => {
                Some((Held::Reserved(*expires_at), slot))
            }
            (Ask::Change(Change::Reschedule(to)), Some((held, _))) => Some((held, to.clone())),
            (Ask::Change(Change::Book | Change::Extend { .. }) | Ask::Book { .. }, Some(_)) => None,
        };
        let is_yes = next.is_some();
        if is_yes {
            self.held = next;
        }
        is_yes
    }

    /// What came of a compensating cancel that arrived.
    pub(crate) fn compensate(&mut self, number: u32, willing: bool, now: Timestamp) -> CompensationOutcome {
        let knows = self.held.is_some();
        let request = Request { number, ask: Ask::Compensate, willing };
        match self.receive(&request, now) {
            AttemptOutcome::Acknowledged(_) if knows => CompensationOutcome::Acknowledged,
            AttemptOutcome::Acknowledged(_) => {
                // Nothing was decided: it is asked anew under the same number.
                self.answers.remove(&number);
                CompensationOutcome::NoSuchBooking
            }
            _ => CompensationOutcome::Declined,
        }
    }

    /// The provider withdraws; `false` if there is nothing to withdraw.
    pub(crate) fn withdraw(&mut self, now: Timestamp) -> bool {
        match self.holds(now) {
            Some((Held::Reserved(_) | Held::Confirmed, slot)) => {
                self.held = Some((Held::Ended, slot));
                true
            }
            Some((Held::Ended, _)) | None => false,
        }
    }

    /// Its answer to a look-up.
    pub(crate) fn look_up(&self, now: Timestamp) -> LookUpOutcome {
        match self.holds(now) {
            None => LookUpOutcome::NotFound,
            Some((Held::Ended, _)) => LookUpOutcome::Ended,
            Some((_, slot)) => LookUpOutcome::Found(Found {
                acknowledgement: self.word(),
                slot: Some(slot),
                operation: self.answers.keys().next_back().copied().filter(|_| self.habits.tells_operation),
            }),
        }
    }

    /// What it said to an operation; `None` if it has not decided.
    pub(crate) fn answer_to(&self, number: u32) -> Option<AttemptOutcome> {
        self.answers.get(&number).map(|is_yes| {
            if *is_yes { AttemptOutcome::Acknowledged(self.word()) } else { AttemptOutcome::Declined(no()) }
        })
    }

    pub(crate) fn word(&self) -> Acknowledgement {
        let reserved_until = match self.held.as_ref().map(|(held, _)| held) {
            Some(Held::Reserved(until)) => Some(*until),
            Some(Held::Confirmed | Held::Ended) | None => None,
        };
        Acknowledgement { provider_reference: Some("R-1".to_owned()), reserved_until }
    }
}
