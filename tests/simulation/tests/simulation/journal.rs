//! What happened in a world, line by line, for whoever has to find out why something went wrong: when, who, what,
//! what came of it, and what the booking was like afterwards.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_app::ports::Clock;
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::{Fault, MemoryBookingStore, Moment, TestClock, Watcher};
use holdfast_domain::{Booking, Compensation, Phase, State, Timestamp};
use tokio::sync::Notify;

use crate::actors::Actor;

/// The widths of the columns of who and what, in characters.
const WHO_WIDTH: usize = 14;
const WHAT_WIDTH: usize = 26;

/// Watches every call: lets actors die and stand still, wakes the world, and writes down what happens if
/// anybody wants to read it.
#[derive(Debug)]
pub(crate) struct Journal {
    clock: TestClock,
    begun_at: Timestamp,
    store: MemoryBookingStore,
    wake: Arc<Notify>,
    /// Whether a worker stood still right before it sent something.
    froze_a_send: AtomicBool,
    lines: Option<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    written: Vec<String>,
    changes_told: usize,
}

impl Journal {
    pub(crate) fn new(
        clock: TestClock,
        store: MemoryBookingStore,
        wake: Arc<Notify>,
        is_written: bool,
    ) -> Self {
        let lines = is_written.then(Mutex::default);
        Self { clock, begun_at: clock.now(), store, wake, froze_a_send: AtomicBool::new(false), lines }
    }

    /// Whether a worker stood still right before it sent something: nothing can keep it from sending it then.
    pub(crate) fn froze_a_send(&self) -> bool {
        self.froze_a_send.load(Ordering::Relaxed)
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Some(lines) = &self.lines else { return Vec::new() };
        lines.lock().unwrap_or_else(PoisonError::into_inner).written.clone()
    }

    /// Writes a line of the actor whose work this is.
    pub(crate) fn say(&self, tell: &dyn Fn() -> String) {
        if self.lines.is_some() {
            let actor = Actor::current();
            self.write(actor.as_ref().map_or("world", Actor::name), "", &tell());
        }
    }

    fn write(&self, who: &str, what: &str, outcome: &str) {
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line =
            format!("{}  {who:<WHO_WIDTH$}  {what:<WHAT_WIDTH$}  {outcome}", self.at(self.clock.now()));
        let changes = self.store.changes_from(lines.changes_told);
        lines.changes_told += changes.len();
        for change in changes {
            let _written =
                write!(line, "\n{:>12}  {:<WHO_WIDTH$}  => {}", "", "", self.describe(&change.new));
        }
        lines.written.push(line);
    }

    /// A moment, counted from the beginning.
    fn at(&self, moment: Timestamp) -> String {
        let (sign, ms) = if moment < self.begun_at {
            ('-', moment.ms_until(self.begun_at))
        } else {
            ('+', self.begun_at.ms_until(moment))
        };
        format!(
            "{sign}{:02}:{:02}:{:02}.{:03}",
            ms / 3_600_000,
            ms / 60_000 % 60,
            ms / 1_000 % 60,
            ms % 1_000
        )
    }

    fn phase(&self, phase: Phase) -> String {
        match phase {
            Phase::InFlight { lease_until } => format!("leased until {}", self.at(lease_until)),
            Phase::Waiting { next_attempt_at } => format!("next at {}", self.at(next_attempt_at)),
        }
    }

    fn describe(&self, item: &StoredBooking) -> String {
        let Booking { id, state, operation, compensation, notifications, history, slot, .. } = &item.booking;
        let state = match state {
            State::Reserved { expires_at } => format!("reserved until {}", self.at(*expires_at)),
            State::Cancelled(how) => format!("cancelled ({how:?})"),
            state => state.status().as_str().to_owned(),
        };
        let version = history.len();
        let cause = history.last().map_or("", |entry| entry.cause.as_str());
        let mut text = format!("{id} rev {} v{version} ({cause}) {state}, slot {}", item.rev, slot.start);
        if let Some(operation) = operation {
            let kind = operation.change.kind().as_str();
            let phase = self.phase(operation.phase);
            let _written =
                write!(text, "; {kind} #{} attempt {} {phase}", operation.number, operation.attempts);
            if let Some(sent_at) = operation.unanswered_send_at {
                let _written = write!(text, ", unanswered since {}", self.at(sent_at));
            }
            if operation.is_resolving() {
                text.push_str(", being resolved");
            }
        }
        match compensation {
            Compensation::Underway(run) => {
                let phase = self.phase(run.phase);
                let _written = write!(text, "; compensation attempt {} {phase}", run.attempts);
            }
            Compensation::Done => text.push_str("; compensated"),
            Compensation::Failed => text.push_str("; compensation failed"),
            Compensation::NotNeeded => {}
        }
        if let Some(first) = notifications.first() {
            let phase = self.phase(first.phase);
            let waiting = notifications.len();
            let _written = write!(
                text,
                "; {waiting} to tell, first {:?} of v{} attempt {} {phase}",
                first.kind, first.version, first.attempts
            );
        }
        if let Some(response) = item.create.as_ref().and_then(|create| create.response.as_ref()) {
            let _written = write!(text, "; frozen {}", response.status);
        }
        text
    }
}

impl Watcher for Journal {
    fn call(&self, operation: &'static str, moment: Moment, fault: Option<Fault>) {
        let actor = Actor::current();
        match (&actor, moment) {
            (Some(actor), Moment::Stops) => actor.die(),
            (Some(actor), Moment::Freezes(for_ms)) => actor.freeze(for_ms),
            _ => {}
        }
        if matches!((moment, fault), (Moment::Freezes(_), Some(Fault::FreezeBefore(_))))
            && operation.starts_with("provider.")
        {
            self.froze_a_send.store(true, Ordering::Relaxed);
        }
        if operation.starts_with("bookings.") && moment != Moment::Begins {
            self.wake.notify_one();
        }
        if self.lines.is_none() || (moment == Moment::Begins && !operation.starts_with("provider.")) {
            return;
        }
        let outcome = match (moment, fault) {
            (Moment::Begins, _) => "is asked".to_owned(),
            (Moment::Done, None) => "done".to_owned(),
            (Moment::Done, Some(fault)) => format!("done ({fault:?})"),
            (Moment::Failed, Some(Fault::FailAfter)) => "done, and its answer is lost".to_owned(),
            (Moment::Failed, _) => "fails".to_owned(),
            (Moment::Stops, fault) => format!("the worker DIES ({fault:?})"),
            (Moment::Freezes(for_ms), fault) => format!("the worker FREEZES for {for_ms} ms ({fault:?})"),
        };
        self.write(actor.as_ref().map_or("world", Actor::name), operation, &outcome);
    }

    fn event(&self, who: &str, tell: &dyn Fn() -> String) {
        if self.lines.is_some() {
            self.write(who, "", &tell());
        }
    }
}
