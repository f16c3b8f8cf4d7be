//! A provider as the contract wants it. It answers an operation once and for all, whoever asks how often;
//! whether it remembers more than that is a matter of its habits.

use std::collections::BTreeMap;

use holdfast_domain::{Acknowledgement, Found, LookUpOutcome, Rejection, Slot, Timestamp};

use crate::bounds::{HOLD_MS, Habits};

/// What a provider is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ask {
    Book,
    Hold,
    Confirm,
    /// For the consumer, or as a compensation: the provider cannot tell.
    Cancel,
}

/// A request to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Request {
    /// The operation's number.
    pub(crate) number: u32,
    pub(crate) ask: Ask,
}

/// What a provider says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// Yes; `Some` is the end of the hold.
    Yes(Option<Timestamp>),
    No,
    NoSuchBooking,
}

/// How a provider holds a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Reserved(Timestamp),
    Confirmed,
    Ended,
}

impl Held {
    /// What is left of it at `now`: a hold lapses by itself.
    fn at(self, now: Timestamp) -> Self {
        match self {
            Self::Reserved(until) if until <= now => Self::Ended,
            held => held,
        }
    }
}

/// The provider and what it truly holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Provider {
    /// What it made, by the operation's number under which it was asked for. A second number would be a
    /// second booking, although the provider honours its key.
    held: BTreeMap<u32, Held>,
    /// What it said to each operation: whether it was a yes.
    answers: BTreeMap<Request, bool>,
    /// A request that it has taken and not decided.
    pub(crate) undecided: Option<Request>,
    /// Whether it was asked to cancel what it did not know.
    remembers_cancel: bool,
    /// Whether a request came again under its key.
    pub(crate) was_asked_again: bool,
}

impl Provider {
    /// The bookings that are live at `now`.
    pub(crate) fn live(&self, now: Timestamp) -> impl Iterator<Item = Held> {
        self.held.values().map(move |held| held.at(now)).filter(|held| *held != Held::Ended)
    }

    /// When a hold lapses, if there is one.
    pub(crate) fn hold_end(&self) -> Option<Timestamp> {
        self.held.values().find_map(|held| match held {
            Held::Reserved(until) => Some(*until),
            Held::Confirmed | Held::Ended => None,
        })
    }

    /// A request arrives. Where it is free to decide, it decides as it is `willing`.
    pub(crate) fn receive(
        &mut self,
        request: Request,
        is_willing: bool,
        habits: Habits,
        now: Timestamp,
    ) -> Word {
        if let Some(is_yes) = self.answers.get(&request) {
            self.was_asked_again = true;
            return if *is_yes { self.yes() } else { Word::No };
        }
        if habits.remembers && self.is_stale(request) {
            return Word::No;
        }
        // A higher number takes the place of what is still undecided.
        if self.undecided.is_some_and(|undecided| undecided.number < request.number) {
            self.undecided = None;
            if request.ask == Ask::Cancel && self.held.is_empty() {
                self.held.insert(1, Held::Ended);
            }
        }
        if self.undecided == Some(request) {
            self.undecided = None;
        }
        let Some(word) = self.decide(request, is_willing, habits, now) else { return Word::NoSuchBooking };
        self.answers.insert(request, word != Word::No);
        word
    }

    /// Takes a request to decide on it later; `false` if it has nothing to decide.
    pub(crate) fn accept(&mut self, request: Request, habits: Habits) -> bool {
        let is_decided = self.answers.contains_key(&request) || (habits.remembers && self.is_stale(request));
        if is_decided || self.remembers_cancel || self.undecided.is_some() {
            return false;
        }
        self.undecided = Some(request);
        true
    }

    fn is_stale(&self, request: Request) -> bool {
        self.answers.keys().any(|answered| answered.number > request.number)
    }

    /// `None`: it knows no such booking.
    fn decide(&mut self, request: Request, is_willing: bool, habits: Habits, now: Timestamp) -> Option<Word> {
        let known = self.held.values_mut().next_back();
        let holds = known.as_ref().map(|held| held.at(now));
        let next = match (request.ask, known, holds) {
            (Ask::Cancel, None, _) => {
                self.remembers_cancel = habits.remembers;
                return None;
            }
            (Ask::Cancel, Some(_), Some(Held::Ended)) => return Some(self.yes()),
            _ if !is_willing => return Some(Word::No),
            (Ask::Book | Ask::Hold, _, _) => {
                if self.remembers_cancel || holds == Some(Held::Ended) {
                    return Some(Word::No);
                }
                let is_hold = request.ask == Ask::Hold;
                let made = if is_hold { Held::Reserved(now.plus_ms(HOLD_MS)) } else { Held::Confirmed };
                self.held.insert(request.number, made);
                return Some(self.yes());
            }
            (Ask::Cancel, Some(held), _) => (held, Held::Ended),
            (Ask::Confirm, Some(held), Some(Held::Reserved(_) | Held::Confirmed)) => (held, Held::Confirmed),
            (Ask::Confirm, _, _) => return Some(Word::No),
        };
        *next.0 = next.1;
        Some(self.yes())
    }

    /// It declined the booking, and makes it after all. `None` if it has not declined.
    pub(crate) fn change_its_mind(&mut self) -> Option<Request> {
        let declined = self.answers.iter().find(|(request, is_yes)| {
            matches!(request.ask, Ask::Book | Ask::Hold) && !**is_yes && !self.remembers_cancel
        });
        let request = *declined?.0;
        if !self.held.is_empty() {
            return None;
        }
        self.answers.insert(request, true);
        self.held.insert(request.number, Held::Confirmed);
        Some(request)
    }

    /// It withdraws what it holds; `false` if that is nothing.
    pub(crate) fn withdraw(&mut self, now: Timestamp) -> bool {
        let mut has_withdrawn = false;
        for held in self.held.values_mut() {
            has_withdrawn |= held.at(now) != Held::Ended;
            *held = Held::Ended;
        }
        has_withdrawn
    }

    /// Its answer to a look-up.
    pub(crate) fn look_up(&self, slot: &Slot, habits: Habits, now: Timestamp) -> LookUpOutcome {
        match self.held.values().next_back().map(|held| held.at(now)) {
            None if self.undecided.is_some() => LookUpOutcome::StillPending,
            None => LookUpOutcome::NotFound,
            Some(Held::Ended) => LookUpOutcome::Ended,
            Some(Held::Reserved(_) | Held::Confirmed) => {
                let last = self.answers.keys().map(|answered| answered.number).max();
                LookUpOutcome::Found(Found {
                    acknowledgement: yes(self.hold_end()),
                    slot: Some(slot.clone()),
                    operation: last.filter(|_| habits.remembers),
                })
            }
        }
    }

    /// The bookings and confirmations that it has decided, and its word on them.
    pub(crate) fn decided(&self) -> impl Iterator<Item = (Request, Word)> {
        self.answers.iter().filter(|(request, _)| request.ask != Ask::Cancel).map(|(request, is_yes)| {
            let word = if *is_yes { self.yes() } else { Word::No };
            (*request, word)
        })
    }

    /// Whether it ever took the booking.
    pub(crate) fn has_taken(&self) -> bool {
        self.answers.iter().any(|(request, is_yes)| *is_yes && request.ask != Ask::Cancel)
    }

    /// Whether it refused what it was asked for.
    pub(crate) fn has_refused(&self, ask: Ask) -> bool {
        self.answers.iter().any(|(request, is_yes)| !*is_yes && request.ask == ask)
    }

    /// Whether it has confirmed a hold.
    pub(crate) fn has_confirmed(&self) -> bool {
        self.answers.iter().any(|(request, is_yes)| *is_yes && request.ask == Ask::Confirm)
    }

    fn yes(&self) -> Word {
        Word::Yes(self.hold_end())
    }
}

/// A provider's yes, as it is told.
pub(crate) fn yes(reserved_until: Option<Timestamp>) -> Acknowledgement {
    Acknowledgement { provider_reference: Some("R-1".to_owned()), reserved_until }
}

/// A provider's no, as it is told.
pub(crate) fn no() -> Rejection {
    Rejection { code: "declined_by_provider".to_owned(), message: None, provider_code: None }
}
