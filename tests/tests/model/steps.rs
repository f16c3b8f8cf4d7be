//! What workers do, step by step, as the engine's use cases do it.

use std::sync::Arc;

use holdfast_domain::{
    AttemptError, Change, ChangeRequest, Command, LookUpOutcome, Patience, Step, Timestamp, Withdrawal,
};

use crate::bounds::{
    ASYNC_MS, ATTEMPT_MS, BACKGROUND_GRACE_MS, Bounds, LOOK_UP_MS, MAX_UNDERWAY_MS, REQUEST_GRACE_MS,
    SHUT_MS, SYNC_MS, Wish,
};
use crate::item::{Item, claimed};
use crate::provider::{Ask, Word, no, yes};
use crate::rules::{self, Wrong};
use crate::worker::{Purpose, Role, Stage, Task, Worker};
use crate::world::{Call, CallBack, Lateness, Underway, World, due};

/// How a worker's step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// As it should.
    Well,
    /// The provider says no.
    Declined,
    /// The provider cannot be reached, and nothing is sent.
    Shut,
    /// The request arrives and is decided upon, but the answer is lost: the connection breaks or stays
    /// silent.
    Unheard { is_willing: bool, breaks: bool },
    /// The request is sent, and arrives later or never: the connection breaks or stays silent.
    Later { breaks: bool },
    /// The provider takes the request, decides later, and calls back.
    Accepted,
    /// The provider is down, as it is its habit: nothing arrives, and nothing is heard.
    Ignored,
}

impl Fate {
    /// How many things go otherwise than they should.
    pub(crate) fn cost(self) -> u8 {
        match self {
            Self::Well | Self::Ignored => 0,
            Self::Unheard { is_willing: false, .. } => 2,
            Self::Declined
            | Self::Shut
            | Self::Unheard { is_willing: true, .. }
            | Self::Later { .. }
            | Self::Accepted => 1,
        }
    }
}

const SENDING: [Fate; 9] = [
    Fate::Well,
    Fate::Declined,
    Fate::Shut,
    Fate::Unheard { is_willing: true, breaks: true },
    Fate::Unheard { is_willing: true, breaks: false },
    Fate::Unheard { is_willing: false, breaks: true },
    Fate::Unheard { is_willing: false, breaks: false },
    Fate::Later { breaks: true },
    Fate::Later { breaks: false },
];
const SENDING_FOR_AN_ANSWER: [Fate; 1] = [Fate::Accepted];

impl World {
    /// How the next step of a worker may go.
    pub(crate) fn fates(&self, worker: &Worker, bounds: &Bounds) -> Vec<Fate> {
        let mut fates = match &worker.stage {
            Stage::Send(task) if task.waits_until(self.now).is_none() => vec![Fate::Well],
            Stage::Send(task) if task.purpose == Purpose::Compensate && bounds.habits.is_down_for_cancels => {
                return vec![Fate::Ignored];
            }
            Stage::Send(task) if task.request().ask == Ask::Cancel => SENDING.to_vec(),
            Stage::Send(_) => [&SENDING[..], &SENDING_FOR_AN_ANSWER[..]].concat(),
            Stage::LookUp(_) => vec![Fate::Well, Fate::Shut],
            Stage::Decide { seen } => match due(seen, self.now) {
                Step::Attempt { .. } | Step::Resolve => vec![Fate::Well, Fate::Shut],
                _ => vec![Fate::Well],
            },
            Stage::Claim { .. }
            | Stage::Begin { .. }
            | Stage::Replay { .. }
            | Stage::Wait { .. }
            | Stage::Report { .. } => vec![Fate::Well],
        };
        fates.retain(|fate| fate.cost() <= self.faults_left);
        fates
    }

    /// A worker does what it does next. It is on the list no more, and comes back if it has more to do.
    pub(crate) fn step(&mut self, mut worker: Worker, fate: Fate, bounds: &Bounds) {
        let next = match worker.stage {
            Stage::Claim { received_at } => self.claim(received_at, bounds),
            Stage::Begin { received_at } => self.begin(worker.role, received_at),
            Stage::Replay { seen } => {
                self.replay(&seen);
                None
            }
            Stage::Decide { seen } => self.decide(&seen, fate),
            Stage::LookUp(task) => Some(self.look_up(task, fate, bounds)),
            Stage::Send(task) => Some(self.send(&task, fate, bounds)),
            Stage::Wait { task, .. } => {
                Some(Stage::Report { command: task.failed(AttemptError::TimedOut, true, bounds.retry_ms) })
            }
            Stage::Report { command } => {
                self.settle(Some(&command), worker.role == Role::Create);
                None
            }
        };
        if let Some(stage) = next {
            worker.stage = stage;
            self.workers.push(worker);
        }
    }

    /// The first write, unless the key is used.
    fn claim(&mut self, received_at: Timestamp, bounds: &Bounds) -> Option<Stage> {
        if let Some(seen) = self.item.clone() {
            return Some(Stage::Replay { seen });
        }
        self.write(claimed(bounds, received_at).booking, None);
        let until = received_at.plus_ms(SYNC_MS);
        Some(Stage::Send(self.task(Purpose::Attempt, until)?))
    }

    /// The call that the item, as it was just claimed, is leased for.
    fn task(&self, purpose: Purpose, until: Timestamp) -> Option<Task> {
        let claimed = self.item.clone()?;
        Some(Task { purpose, claimed, until, claimed_at: self.now, has_looked: false })
    }

    /// The write by which the consumer's change begins. What needs no provider is done by it.
    fn begin(&mut self, role: Role, received_at: Timestamp) -> Option<Stage> {
        let Role::Change(wish) = role else { return None };
        let item = self.item.clone()?;
        let lease_until = received_at.plus_ms(SYNC_MS + REQUEST_GRACE_MS);
        let (change, patience) = match wish {
            Wish::Confirm(patience) => (Change::Confirm, patience),
            Wish::Cancel => (Change::Cancel(Withdrawal::default()), Patience::Background),
        };
        let deadline_at = match patience {
            Patience::Synchronous => lease_until,
            Patience::Background => received_at.plus_ms(ASYNC_MS),
        };
        let command = Command::Begin(ChangeRequest { change, patience, lease_until, deadline_at });
        let booking = self.changed(&item.booking, &command).ok()?;
        let begun = booking.operation.as_ref().filter(|begun| begun.number > item.booking.operations_begun);
        let until = begun.map(|begun| begun.deadline_at.min(received_at.plus_ms(SYNC_MS)));
        self.write(booking, item.response);
        Some(Stage::Send(self.task(Purpose::Attempt, until?)?))
    }

    /// Answers a repetition of the create from the item that it has read.
    fn replay(&mut self, seen: &Item) {
        let Some(operation) = &seen.booking.operation else { return self.settle(None, true) };
        if seen.response.is_some() {
            return;
        }
        if !operation.phase.is_leased(self.now) || !seen.booking.is_within_its_request() {
            let give_up = (operation.patience == Patience::Synchronous).then_some(Command::GiveUp);
            self.settle(give_up.as_ref(), true);
        }
    }

    /// The conditional write of what is due for the item that a timer's worker has read.
    fn decide(&mut self, seen: &Arc<Item>, fate: Fate) -> Option<Stage> {
        let step = due(seen, self.now);
        let deadline_at = seen.booking.operation.as_ref().map_or(self.now, |operation| operation.deadline_at);
        let budget_ms = LOOK_UP_MS + ATTEMPT_MS + BACKGROUND_GRACE_MS;
        let lease_until = self.now.plus_ms(budget_ms);
        let command = match step {
            Step::Nothing | Step::WaitUntil(_) | Step::Notify | Step::GiveUpNotification => return None,
            Step::Attempt { .. } | Step::Resolve if fate == Fate::Shut => {
                Command::Postpone { until: self.now.plus_ms(SHUT_MS), error: AttemptError::CircuitOpen }
            }
            Step::Attempt { .. } => {
                let capped = lease_until.min(deadline_at.plus_ms(BACKGROUND_GRACE_MS));
                Command::ClaimAttempt { lease_until: capped }
            }
            Step::Resolve => {
                Command::ClaimAttempt { lease_until: self.now.plus_ms(LOOK_UP_MS + BACKGROUND_GRACE_MS) }
            }
            Step::GiveUp => Command::GiveUp,
            Step::Compensate => Command::ClaimCompensation { lease_until },
            Step::GiveUpCompensation => Command::GiveUpCompensation,
            Step::ExpireHold => Command::ExpireHold,
        };
        let booking = self.changed(&seen.booking, &command).ok()?;
        let current = self.item.clone()?;
        if current.rev != seen.rev {
            // Somebody else has written: what is due is decided anew.
            return Some(Stage::Decide { seen: current });
        }
        let (purpose, looks_up) = match (step, command) {
            (Step::Attempt { look_up_first }, Command::ClaimAttempt { .. }) => {
                (Purpose::Attempt, look_up_first)
            }
            (Step::Resolve, Command::ClaimAttempt { .. }) => (Purpose::Resolve, true),
            (Step::Compensate, _) => (Purpose::Compensate, false),
            _ => {
                self.write(booking, current.response);
                return None;
            }
        };
        if let Some(wrong) = rules::of_claim(self, purpose, &booking) {
            self.blame(wrong);
        }
        self.write(booking, current.response);
        let task = self.task(purpose, deadline_at)?;
        Some(if looks_up { Stage::LookUp(task) } else { Stage::Send(task) })
    }

    fn look_up(&mut self, mut task: Task, fate: Fate, bounds: &Bounds) -> Stage {
        let is_too_late = task.purpose == Purpose::Attempt && task.until <= self.now;
        let found = if fate == Fate::Shut || is_too_late {
            LookUpOutcome::Unavailable { error: AttemptError::TimedOut, retry_after_ms: None }
        } else {
            self.provider.look_up(&task.claimed.booking.slot, bounds.habits, self.now)
        };
        task.has_looked = true;
        match task.looked_up(found, bounds.retry_ms) {
            Some(command) => Stage::Report { command },
            None => Stage::Send(task),
        }
    }

    /// The look at the lease, the request, and what its sender hears of it.
    fn send(&mut self, task: &Task, fate: Fate, bounds: &Bounds) -> Stage {
        let Some(until) = task.waits_until(self.now) else {
            return Stage::Report { command: task.failed(AttemptError::LeaseOver, false, bounds.retry_ms) };
        };
        if fate == Fate::Shut {
            let command = task.failed(AttemptError::ConnectionFailed, false, bounds.retry_ms);
            return Stage::Report { command };
        }
        let request = task.request();
        self.note_sent(task);
        let lost = |breaks: bool| {
            if breaks {
                let command = task.failed(AttemptError::ConnectionLost, true, bounds.retry_ms);
                Stage::Report { command }
            } else {
                Stage::Wait { task: task.clone(), until }
            }
        };
        match fate {
            Fate::Well | Fate::Declined | Fate::Shut => {
                let is_willing = fate == Fate::Well;
                let word = self.provider.receive(request, is_willing, bounds.habits, self.now);
                Stage::Report { command: task.heard(word, bounds.retry_ms) }
            }
            Fate::Ignored => lost(false),
            Fate::Unheard { is_willing, breaks } => {
                self.provider.receive(request, is_willing, bounds.habits, self.now);
                lost(breaks)
            }
            Fate::Later { breaks } => {
                let lateness = if bounds.habits.remembers {
                    Lateness::Any
                } else {
                    Lateness::Until(self.now.plus_ms(MAX_UNDERWAY_MS))
                };
                self.underway.push(Underway { request, lateness });
                lost(breaks)
            }
            Fate::Accepted => {
                if self.provider.accept(request, bounds.habits) {
                    return lost(false);
                }
                // It has decided already, and says so.
                let word = self.provider.receive(request, true, bounds.habits, self.now);
                Stage::Report { command: task.heard(word, bounds.retry_ms) }
            }
        }
    }

    fn note_sent(&mut self, task: &Task) {
        self.is_doubtful = true;
        let bit = 1 << task.request().number.min(31);
        let is_blind = self.sent & bit != 0 && !task.has_looked && task.request().ask != Ask::Cancel;
        if is_blind {
            self.blame(Wrong::BlindRepetition);
        }
        if task.operation().is_some_and(|operation| operation.deadline_at <= self.now) {
            self.blame(Wrong::SentTooLate);
        }
        self.sent |= bit;
    }

    /// A request arrives whose sender does not hear the answer.
    pub(crate) fn arrive(&mut self, underway: Underway, is_willing: bool, bounds: &Bounds) {
        self.provider.receive(underway.request, is_willing, bounds.habits, self.now);
    }

    /// The provider decides on what it has accepted, and will call to say so.
    pub(crate) fn decide_accepted(&mut self, is_willing: bool, bounds: &Bounds) {
        let Some(request) = self.provider.undecided else { return };
        let word = self.provider.receive(request, is_willing, bounds.habits, self.now);
        self.callbacks.push(CallBack { call: Call::Answer(request, word), lateness: Lateness::Any });
    }

    /// The provider calls, and its word is written.
    pub(crate) fn hear(&mut self, call: Call) {
        let command = match call {
            Call::Withdrawal => Command::CancelByProvider(Withdrawal::default()),
            Call::Answer(request, word) => {
                let operation = (request.ask == Ask::Confirm).then_some(request.number);
                match word {
                    Word::Yes(reserved_until) => {
                        let acknowledgement = yes(reserved_until);
                        Command::Acknowledge { acknowledgement, operation }
                    }
                    Word::No | Word::NoSuchBooking => Command::Decline { rejection: no(), operation },
                }
            }
        };
        self.settle(Some(&command), false);
    }
}
