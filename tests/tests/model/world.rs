//! All that there is: the item, the provider, the workers, what is under way between them, and the time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use holdfast_domain::{
    Booking, Command, Effect, Operation, Refused, Status, Step, Timestamp, effects, next_step, transition,
};

use crate::bounds::{
    Bounds, MAX_USELESS_SWEEPS, MAX_WRITES, OVERDUE_MS, REDELIVERY_MS, RETRY_WORKERS, beginning,
};
use crate::item::Item;
use crate::provider::{Provider, Request, Word};
use crate::rules::{self, Wrong};
use crate::worker::{Role, Stage, Worker};

/// A message of the timer queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Timer {
    pub(crate) not_before: Timestamp,
    pub(crate) lateness: Lateness,
}

/// By how much a message may be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lateness {
    /// It comes when it is due.
    OnTime,
    /// It comes at any time, at this one at the latest.
    Until(Timestamp),
    /// It comes at any time or, if it is lost, never.
    Any,
}

impl Lateness {
    /// From when on nothing else may happen before it comes, if it is due at `due_at`.
    pub(crate) fn comes_by(self, due_at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::OnTime => Some(due_at),
            Self::Until(latest) => Some(latest.max(due_at)),
            Self::Any => None,
        }
    }
}

/// A request whose sender hears no answer, and that has not arrived yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Underway {
    pub(crate) request: Request,
    pub(crate) lateness: Lateness,
}

/// What a provider wants to tell by calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// Its word on a request.
    Answer(Request, Word),
    /// That it withdraws the booking.
    Withdrawal,
}

/// A call of the provider. It comes when the provider likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallBack {
    pub(crate) call: Call,
    pub(crate) lateness: Lateness,
}

/// The state of an exploration.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) item: Option<Arc<Item>>,
    pub(crate) provider: Provider,
    pub(crate) workers: Vec<Worker>,
    pub(crate) timers: Vec<Timer>,
    pub(crate) underway: Vec<Underway>,
    pub(crate) callbacks: Vec<CallBack>,
    /// Requests for the create that are still to come.
    pub(crate) creates_left: u8,
    /// How many of the consumer's wishes were uttered.
    pub(crate) wishes_uttered: u8,
    pub(crate) faults_left: u8,
    /// How often the sweep has re-armed the item since its last write.
    pub(crate) sweeps: u8,
    /// The operations for which a request was ever sent, a bit each.
    pub(crate) sent: u32,
    /// Whether anybody may have sent a request, as far as Holdfast can know.
    pub(crate) is_doubtful: bool,
    /// Whether a dead letter was raised.
    pub(crate) has_alarm: bool,
    /// Whether the provider said yes to a booking that had ended.
    pub(crate) has_late_yes: bool,
    pub(crate) wrong: Option<Wrong>,
}

impl World {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            now: beginning(),
            item: None,
            provider: Provider::default(),
            workers: Vec::new(),
            timers: Vec::new(),
            underway: Vec::new(),
            callbacks: Vec::new(),
            creates_left: bounds.creates,
            wishes_uttered: 0,
            faults_left: bounds.faults,
            sweeps: 0,
            sent: 0,
            is_doubtful: false,
            has_alarm: false,
            has_late_yes: false,
            wrong: None,
        }
    }

    /// Writes down the first thing that is wrong.
    pub(crate) fn blame(&mut self, wrong: Wrong) {
        self.wrong.get_or_insert(wrong);
    }

    /// Applies a command to a booking that was read, by the domain's own transition. Nothing is written yet.
    pub(crate) fn changed(&mut self, seen: &Booking, command: &Command) -> Result<Booking, Refused> {
        let result = transition(seen, command.clone(), self.now);
        rules::of_command(self, seen, command, result.as_ref());
        let transition = result?;
        let told = effects(Some(seen), &transition.booking).into_iter().filter_map(|effect| match effect {
            Effect::Emit(event) => Some(event),
            Effect::ArmTimer { .. } | Effect::Keep(_) | Effect::Occupy(_) | Effect::DeadLetter { .. } => None,
        });
        if !told.eq(transition.events.iter().cloned()) {
            self.blame(Wrong::EventsDiffer);
        }
        Ok(transition.booking)
    }

    /// One successful write, and what the stream makes of it.
    pub(crate) fn write(&mut self, booking: Booking, response: Option<Status>) {
        let before = self.item.take();
        let old = before.as_ref().map(|item| &item.booking);
        let wrong = rules::of_write(old, &booking, self.now);
        for effect in effects(old, &booking) {
            match effect {
                Effect::ArmTimer { due_at } => self.arm(due_at),
                Effect::DeadLetter { .. } => self.has_alarm = true,
                Effect::Emit(_) | Effect::Keep(_) | Effect::Occupy(_) => {}
            }
        }
        if let Some(wrong) = wrong {
            self.blame(wrong);
        }
        let rev = before.map_or(1, |item| item.rev + 1);
        if rev > MAX_WRITES {
            self.blame(Wrong::Endless);
        }
        self.item = Some(Arc::new(Item::new(booking, rev, response)));
        self.sweeps = 0;
    }

    /// Applies a command to the item until the write is taken, as whoever reports something does. Nobody can
    /// come between, since a loser applies it to the item that it finds.
    pub(crate) fn settle(&mut self, command: Option<&Command>, freezes_response: bool) {
        let Some(item) = self.item.clone() else { return };
        let changed = command.and_then(|command| self.changed(&item.booking, command).ok());
        let has_changed = changed.is_some();
        let booking = changed.unwrap_or_else(|| item.booking.clone());
        let response = item.response.or(freezes_response.then_some(booking.status()));
        if has_changed || response != item.response {
            self.write(booking, response);
        }
    }

    pub(crate) fn arm(&mut self, not_before: Timestamp) {
        self.timers.push(Timer { not_before, lateness: Lateness::OnTime });
    }

    /// Whether the sweep's index lists the booking.
    pub(crate) fn is_indexed(&self) -> bool {
        self.item.as_ref().is_some_and(|item| !item.booking.is_within_its_request())
    }

    /// How late a message is that is lost. What nothing else would find is handed out again.
    pub(crate) fn lateness_of_a_lost_timer(&self, not_before: Timestamp) -> Lateness {
        if self.is_indexed() { Lateness::Any } else { Lateness::Until(not_before.plus_ms(REDELIVERY_MS)) }
    }

    /// When the sweep finds the booking, if it does; a timer that will still come is left to it.
    pub(crate) fn sweep_at(&self) -> Option<Timestamp> {
        let due_at = self.item.as_ref()?.booking.due_at()?;
        let is_awaited = self.timers.iter().any(|timer| timer.lateness != Lateness::Any)
            || self.workers.iter().any(|worker| worker.role == Role::Retry && !worker.is_frozen);
        let is_swept = self.is_indexed() && !is_awaited && self.sweeps < MAX_USELESS_SWEEPS;
        is_swept.then(|| due_at.plus_ms(OVERDUE_MS))
    }

    /// Whether one more timer can be worked on.
    pub(crate) fn has_free_worker(&self) -> bool {
        let is_busy = |worker: &&Worker| worker.role == Role::Retry && !worker.is_frozen;
        self.workers.iter().filter(is_busy).count() < RETRY_WORKERS
    }

    /// Whether something is due that is on time, so that no time passes before it happens.
    pub(crate) fn is_busy(&self) -> bool {
        let has_come = |at: Option<Timestamp>| at.is_some_and(|at| at <= self.now);
        let rings = self.timers.iter().any(|timer| has_come(timer.lateness.comes_by(timer.not_before)));
        self.workers.iter().any(|worker| !worker.is_frozen && worker.is_ready(self.now))
            || (rings && self.has_free_worker())
            || self.underway.iter().any(|request| has_come(request.lateness.comes_by(self.now)))
            || self.callbacks.iter().any(|callback| has_come(callback.lateness.comes_by(self.now)))
            || has_come(self.sweep_at())
    }

    /// The next moment at which something may become due.
    pub(crate) fn next_moment(&self) -> Option<Timestamp> {
        let timers = self
            .timers
            .iter()
            .flat_map(|timer| [Some(timer.not_before), timer.lateness.comes_by(timer.not_before)]);
        let waits = self.workers.iter().map(|worker| match &worker.stage {
            Stage::Wait { until, .. } => Some(*until),
            _ => None,
        });
        let underway = self.underway.iter().map(|request| request.lateness.comes_by(self.now));
        let callbacks = self.callbacks.iter().map(|callback| callback.lateness.comes_by(self.now));
        let booking = self.item.as_ref().map(|item| &item.booking);
        let ends_at = booking.and_then(|booking| booking.operation.as_ref()).map(Operation::ends_at);
        let others = [booking.and_then(Booking::due_at), ends_at, self.sweep_at(), self.provider.hold_end()];
        let moments = timers.chain(waits).chain(underway).chain(callbacks).chain(others);
        moments.flatten().filter(|moment| *moment > self.now).min()
    }

    /// Whether nothing will happen any more, unless somebody wants something or is late.
    pub(crate) fn is_quiet(&self) -> bool {
        self.item.is_some() && !self.is_busy() && self.next_moment().is_none()
    }

    /// Falls with everything that happens without a write and before the clock moves. Together with the
    /// clock and the writes it makes sure that no world comes back to where it was.
    pub(crate) fn left_to_do(&self) -> u32 {
        let count = |length: usize| u32::try_from(length).unwrap();
        let workers: u32 = self.workers.iter().map(|worker| worker.left_to_do(self.rev())).sum();
        let wishes = u32::from(u8::MAX - self.wishes_uttered);
        let sweeps = u32::from(MAX_USELESS_SWEEPS - self.sweeps.min(MAX_USELESS_SWEEPS));
        100 * (u32::from(self.faults_left) + u32::from(self.creates_left) + wishes + sweeps)
            + workers
            + 20 * count(self.timers.len())
            + 4 * count(self.underway.len())
            + count(self.callbacks.len())
            + 3 * u32::from(self.provider.undecided.is_some())
    }

    /// How often the item was written.
    pub(crate) fn rev(&self) -> u32 {
        self.item.as_ref().map_or(0, |item| item.rev)
    }

    /// Brings what has no order into one, so that worlds which differ in nothing else are one.
    pub(crate) fn sort(&mut self) {
        sort(&mut self.workers);
        sort(&mut self.timers);
        sort(&mut self.underway);
        sort(&mut self.callbacks);
    }
}

fn sort<T: Hash>(list: &mut [T]) {
    if list.len() > 1 {
        list.sort_by_cached_key(|element| {
            let mut hasher = DefaultHasher::new();
            element.hash(&mut hasher);
            hasher.finish()
        });
    }
}

/// What is due for an item, as a timer finds it.
pub(crate) fn due(item: &Item, now: Timestamp) -> Step {
    next_step(&item.booking, now)
}
