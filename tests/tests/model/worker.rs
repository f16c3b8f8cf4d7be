//! A worker: what it is about to do next, as far as the engine's use cases are that.
//!
//! Each stage is a point at which a worker can be frozen, and a worker that is never thawed is one that
//! crashed there.

use std::sync::Arc;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, Change, Command, Compensation, CompensationOutcome,
    CompensationRecord, Judgement, LookUpOutcome, Operation, Phase, Timestamp, UnchangedRecord,
};

use crate::bounds::{ATTEMPT_MS, LOOK_UP_MS, Wish};
use crate::item::Item;
use crate::provider::{Ask, Request, Word, no, yes};

/// Whose work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// A create, or its repetition.
    Create,
    /// A change that the consumer asks for.
    Change(Wish),
    /// A timer.
    Retry,
}

/// Where a worker stands: what it does next.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Stage {
    /// It writes the booking, unless there is one under the key.
    Claim { received_at: Timestamp },
    /// It writes that the booking is being changed.
    Begin { received_at: Timestamp },
    /// It has read the item of the first request with its key, and answers from it.
    Replay { seen: Arc<Item> },
    /// It has read the item for a timer, and writes what is due.
    Decide { seen: Arc<Item> },
    /// It asks the provider what it knows.
    LookUp(Task),
    /// It looks at its lease, and sends its request.
    Send(Task),
    /// It hears nothing until then.
    Wait { task: Task, until: Timestamp },
    /// It writes what came of the attempt.
    Report { command: Command },
}

/// Why the provider is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Attempt,
    Resolve,
    Compensate,
}

/// A call that a worker holds the lease for.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Task {
    pub(crate) purpose: Purpose,
    /// The item as it was claimed.
    pub(crate) claimed: Arc<Item>,
    /// When the call ends at the latest, whatever the lease allows.
    pub(crate) until: Timestamp,
    /// When it was claimed: from then on the provider is asked.
    pub(crate) claimed_at: Timestamp,
    /// Whether the provider was asked first what it knows.
    pub(crate) has_looked: bool,
}

impl Task {
    /// The operation that was claimed; `None` for a compensation.
    pub(crate) fn operation(&self) -> Option<&Operation> {
        match self.purpose {
            Purpose::Attempt | Purpose::Resolve => self.claimed.booking.operation.as_ref(),
            Purpose::Compensate => None,
        }
    }

    /// The end of the lease.
    pub(crate) fn lease_until(&self) -> Timestamp {
        let phase = match (&self.claimed.booking.compensation, self.operation()) {
            (_, Some(operation)) => Some(operation.phase),
            (Compensation::Underway(run), None) => Some(run.phase),
            _ => None,
        };
        match phase {
            Some(Phase::InFlight { lease_until }) => lease_until,
            Some(Phase::Waiting { .. }) | None => Timestamp::EPOCH,
        }
    }

    /// Until when an answer to what is sent `now` is waited for; `None` if it must not be sent any more.
    pub(crate) fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.purpose == Purpose::Compensate {
            // A cancel may be repeated without harm, so that nobody looks at the lease.
            return Some(now.plus_ms(LOOK_UP_MS + ATTEMPT_MS));
        }
        let until = self.until.min(self.lease_until()).min(now.plus_ms(ATTEMPT_MS));
        (until > now).then_some(until)
    }

    /// What the provider is asked for.
    pub(crate) fn request(&self) -> Request {
        let Some(operation) = self.operation() else {
            return Request { number: self.compensation().0, ask: Ask::Cancel };
        };
        let ask = match operation.change {
            Change::Book if self.claimed.booking.request.hold => Ask::Hold,
            Change::Book => Ask::Book,
            Change::Confirm => Ask::Confirm,
            Change::Cancel(_) => Ask::Cancel,
            Change::Extend { .. } | Change::Reschedule(_) => unreachable!("nobody asks for it"),
        };
        Request { number: operation.number, ask }
    }

    /// The compensation's number and the attempt's.
    fn compensation(&self) -> (u32, u32) {
        match &self.claimed.booking.compensation {
            Compensation::Underway(run) => (run.number, run.attempts),
            Compensation::NotNeeded | Compensation::Done | Compensation::Failed => {
                unreachable!("it was claimed")
            }
        }
    }

    /// The report of what the provider said to the request.
    pub(crate) fn heard(&self, word: Word, retry_ms: u64) -> Command {
        if self.purpose == Purpose::Compensate {
            let outcome = match word {
                Word::Yes(_) => CompensationOutcome::Acknowledged,
                Word::No => CompensationOutcome::Declined,
                Word::NoSuchBooking => CompensationOutcome::NoSuchBooking,
            };
            return self.compensated(outcome, retry_ms);
        }
        let outcome = match word {
            Word::Yes(reserved_until) => AttemptOutcome::Acknowledged(yes(reserved_until)),
            Word::No => AttemptOutcome::Declined(no()),
            // What is not known there is not booked there: that is what a cancel asks for.
            Word::NoSuchBooking => AttemptOutcome::Acknowledged(yes(None)),
        };
        self.attempted(outcome, retry_ms)
    }

    /// The report of a failure; `is_sent` if the provider may have got the request.
    pub(crate) fn failed(&self, error: AttemptError, is_sent: bool, retry_ms: u64) -> Command {
        match (self.purpose, is_sent) {
            (Purpose::Compensate, _) => self.compensated(CompensationOutcome::Failed(error), retry_ms),
            (Purpose::Attempt | Purpose::Resolve, true) => {
                self.attempted(AttemptOutcome::Unknown(error), retry_ms)
            }
            (Purpose::Attempt | Purpose::Resolve, false) => {
                self.attempted(AttemptOutcome::NotSent(error), retry_ms)
            }
        }
    }

    fn attempted(&self, outcome: AttemptOutcome, retry_delay_ms: u64) -> Command {
        let (operation, attempt) =
            self.operation().map_or((0, 0), |claimed| (claimed.number, claimed.attempts));
        Command::RecordAttempt { operation, attempt, outcome, retry_delay_ms }
    }

    fn compensated(&self, outcome: CompensationOutcome, retry_delay_ms: u64) -> Command {
        let (number, attempt) = self.compensation();
        Command::RecordCompensation(CompensationRecord {
            number,
            attempt,
            asked_at: self.claimed_at,
            outcome,
            retry_delay_ms,
            settle_window_ms: ATTEMPT_MS,
        })
    }

    /// What a look-up's answer leads to: a report, or (`None`) the request itself.
    pub(crate) fn looked_up(&self, found: LookUpOutcome, retry_ms: u64) -> Option<Command> {
        let operation = self.operation()?;
        let booking: &Booking = &self.claimed.booking;
        let is_resolving = self.purpose == Purpose::Resolve;
        let not_sent = |error| Some(self.failed(error, false, retry_ms));
        match found {
            LookUpOutcome::Found(found) => match booking.judge(operation, &found) {
                Judgement::Made(yes) => Some(self.attempted(AttemptOutcome::Acknowledged(yes), retry_ms)),
                Judgement::NotMade { decided } if is_resolving => {
                    Some(Command::AdoptUnchanged(UnchangedRecord {
                        operation: operation.number,
                        attempt: operation.attempts,
                        asked_at: self.claimed_at,
                        decided,
                        settle_window_ms: ATTEMPT_MS,
                    }))
                }
                Judgement::NotMade { .. } => None,
                Judgement::Unclear => not_sent(AttemptError::UnusableAnswer),
            },
            LookUpOutcome::Ended => Some(Command::AdoptEnded { attempt: operation.attempts }),
            LookUpOutcome::StillPending => not_sent(AttemptError::AcceptedForLater),
            LookUpOutcome::Unavailable { error, .. } => not_sent(error),
            LookUpOutcome::NotFound | LookUpOutcome::Unsupported if is_resolving => {
                not_sent(AttemptError::UnusableAnswer)
            }
            LookUpOutcome::NotFound | LookUpOutcome::Unsupported => None,
        }
    }
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Worker {
    pub(crate) role: Role,
    pub(crate) stage: Stage,
    /// Whether it is frozen: it goes on when it likes, or never.
    pub(crate) is_frozen: bool,
}

impl Worker {
    pub(crate) fn new(role: Role, stage: Stage) -> Self {
        Self { role, stage, is_frozen: false }
    }

    /// Whether it can do something at `now`.
    pub(crate) fn is_ready(&self, now: Timestamp) -> bool {
        match &self.stage {
            Stage::Wait { until, .. } => *until <= now,
            _ => true,
        }
    }

    /// The call that it holds a lease for and has not reported on.
    pub(crate) fn task(&self) -> Option<&Task> {
        match &self.stage {
            Stage::LookUp(task) | Stage::Send(task) | Stage::Wait { task, .. } => Some(task),
            Stage::Claim { .. }
            | Stage::Begin { .. }
            | Stage::Replay { .. }
            | Stage::Decide { .. }
            | Stage::Report { .. } => None,
        }
    }

    /// How many things it can still do; see [`crate::world::World::left_to_do`].
    pub(crate) fn left_to_do(&self, rev: u32) -> u32 {
        match &self.stage {
            Stage::Claim { .. } | Stage::Begin { .. } => 20,
            Stage::Replay { .. } => 16,
            // Whoever has read what is out of date decides once more.
            Stage::Decide { seen } => 16 + u32::from(seen.rev != rev),
            Stage::LookUp(_) => 14,
            Stage::Send(_) => 12,
            Stage::Wait { .. } => 4,
            Stage::Report { .. } => 2,
        }
    }
}
