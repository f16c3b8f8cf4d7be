//! A booking, the time, and the truth about its attempts, which the booking itself can only guess at.

use std::collections::BTreeMap;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, Change, ChangeRequest, Command, Compensation, CompensationRecord,
    HistoryEntry, NotificationRecord, Operation, OperationKind, Patience, Phase, Refused, Slot, State,
    Status, Step, Timestamp, Transition, UnchangedRecord, Withdrawal, next_step, transition,
};
use proptest::sample::Index;

use crate::beginning::{booking_of, slot};
use crate::moves::{BEGINNING_UNIX_MS, Beginning, Move, Names, Wish, no, yes};

/// The number of the operation that makes a booking.
pub(crate) const BOOK: u32 = 1;

/// What one applied command did.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) before: Booking,
    pub(crate) command: Command,
    pub(crate) now: Timestamp,
    pub(crate) result: Result<Transition, Refused>,
}

/// One booking and what truly happened to it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) booking: Booking,
    pub(crate) now: Timestamp,
    /// The leases of attempts whose worker has not reported, by operation and attempt.
    silent: BTreeMap<(u32, u32), Timestamp>,
    /// Attempts of compensations that nobody has reported on: operation number and attempt.
    silent_compensations: Vec<(u32, u32)>,
    /// Attempts to tell the provider that nobody has reported on: notification number and attempt.
    silent_tellers: Vec<(u32, u32)>,
    /// The slot at each version.
    pub(crate) slots: Vec<Slot>,
    /// The latest moment at which a request may have reached the provider without a usable answer.
    pub(crate) last_doubtful_send: Option<Timestamp>,
    /// Whether the provider said yes to a booking that had ended.
    pub(crate) late_yes: bool,
}

impl World {
    pub(crate) fn new(beginning: &Beginning) -> Self {
        let now = Timestamp::from_unix_ms(BEGINNING_UNIX_MS).unwrap();
        let booking = booking_of(beginning, now);
        let mut silent = BTreeMap::new();
        if let Some(Operation { attempts: 1, phase: Phase::InFlight { lease_until }, .. }) = booking.operation
        {
            silent.insert((BOOK, 1), lease_until);
        }
        let slots = booking.history.iter().map(|_| booking.slot.clone()).collect();
        Self {
            booking,
            now,
            silent,
            silent_compensations: Vec::new(),
            silent_tellers: Vec::new(),
            slots,
            last_doubtful_send: None,
            late_yes: false,
        }
    }

    /// A world after many moves.
    pub(crate) fn after(beginning: &Beginning, moves: &[Move]) -> Self {
        let mut world = Self::new(beginning);
        for next in moves {
            world.play(next);
        }
        world
    }

    /// Plays one move; `None` if it leads to no command.
    pub(crate) fn play(&mut self, next: &Move) -> Option<Applied> {
        let command = self.command_of(next)?;
        Some(self.apply(command))
    }

    /// Applies a command now.
    pub(crate) fn apply(&mut self, command: Command) -> Applied {
        let before = self.booking.clone();
        let result = transition(&before, command.clone(), self.now);
        if let Ok(transition) = &result {
            self.booking = transition.booking.clone();
            self.slots.resize(self.booking.history.len(), self.booking.slot.clone());
        }
        self.remember(&before, &command, result.is_ok());
        Applied { before, command, now: self.now, result }
    }

    fn command_of(&mut self, next: &Move) -> Option<Command> {
        let now = self.now;
        Some(match next {
            Move::Sleep(span_ms) => {
                self.now = now.plus_ms(*span_ms);
                return None;
            }
            Move::DoWhatIsDue { lease_ms, circuit_open } => match self.due_command(*lease_ms)? {
                Command::ClaimAttempt { lease_until } if *circuit_open => postpone(lease_until),
                command => command,
            },
            Move::Claim { lease_ms } => Command::ClaimAttempt { lease_until: now.plus_ms(*lease_ms) },
            Move::Postpone { delay_ms } => postpone(now.plus_ms(*delay_ms)),
            Move::CallYes { hold_ms, names } => {
                Command::Acknowledge { acknowledgement: yes(now, *hold_ms), operation: self.named(*names) }
            }
            Move::CallNo { names } => Command::Decline { rejection: no(), operation: self.named(*names) },
            Move::GiveUp => Command::GiveUp,
            Move::ClaimCompensation { lease_ms } => {
                Command::ClaimCompensation { lease_until: now.plus_ms(*lease_ms) }
            }
            Move::GiveUpCompensation => Command::GiveUpCompensation,
            Move::ExpireHold => Command::ExpireHold,
            Move::Begin { wish, patience, lease_ms, async_ms } => {
                self.begin(*wish, *patience, *lease_ms, *async_ms)
            }
            Move::Withdraw => Command::CancelByProvider(Withdrawal::default()),
            Move::TellAttendance { attended } => Command::TellAttendance { attended: *attended },
            Move::Erase => Command::EraseCustomer,
            Move::RetryNow => Command::RetryNow,
            Move::EndByOperator => Command::CancelByOperator,
            Move::ClaimNotification { lease_ms } => {
                Command::ClaimNotification { lease_until: now.plus_ms(*lease_ms) }
            }
            Move::PutOffNotification { delay_ms, error, is_skipped } => Command::PostponeNotification {
                until: delay_ms.map(|delay_ms| now.plus_ms(delay_ms)),
                error: *error,
                is_skipped: *is_skipped,
            },
            Move::GiveUpNotification => Command::GiveUpNotification,
            Move::Fetch { earlier } => {
                let number = self.booking.notifications.first()?.number;
                Command::AcknowledgeNotification { number: number - u32::from(*earlier) }
            }
            Move::Report { .. }
            | Move::FindEnded { .. }
            | Move::FindUnchanged { .. }
            | Move::ReportCompensation { .. }
            | Move::ReportNotification { .. } => return self.report_of(next),
        })
    }

    /// The report that a worker makes who has not made one.
    fn report_of(&mut self, next: &Move) -> Option<Command> {
        let now = self.now;
        Some(match next {
            Move::Report { which, outcome, retry_delay_ms } => {
                let (operation, attempt) = self.a_silent_one(*which)?;
                let (outcome, retry_delay_ms) = (outcome.clone(), *retry_delay_ms);
                Command::RecordAttempt { operation, attempt, outcome, retry_delay_ms }
            }
            Move::FindEnded { which } => match self.a_silent_one(*which)? {
                // A cancel is not looked up.
                (operation, _) if self.is_cancel(operation) => return None,
                (_, attempt) => Command::AdoptEnded { attempt },
            },
            Move::FindUnchanged { which, asked_ago_ms, decided, settle_window_ms } => {
                let (operation, attempt) = self.a_silent_one(*which)?;
                if operation == BOOK {
                    // What is not made there is asked for again.
                    return None;
                }
                Command::AdoptUnchanged(UnchangedRecord {
                    operation,
                    attempt,
                    asked_at: now.minus_ms(*asked_ago_ms),
                    decided: *decided,
                    settle_window_ms: *settle_window_ms,
                })
            }
            Move::ReportCompensation { which, asked_ago_ms, outcome, retry_delay_ms, settle_window_ms } => {
                let (number, attempt) = take(&mut self.silent_compensations, *which)?;
                Command::RecordCompensation(CompensationRecord {
                    number,
                    attempt,
                    asked_at: now.minus_ms(*asked_ago_ms),
                    outcome: *outcome,
                    retry_delay_ms: *retry_delay_ms,
                    settle_window_ms: *settle_window_ms,
                })
            }
            Move::ReportNotification { which, error, retry_ms } => {
                let (number, attempt) = take(&mut self.silent_tellers, *which)?;
                Command::RecordNotification(NotificationRecord {
                    number,
                    attempt,
                    error: *error,
                    retry_at: retry_ms.map(|retry_ms| now.plus_ms(retry_ms)),
                })
            }
            _ => return None,
        })
    }

    /// A consumer's request for a change, as the engine would make it.
    pub(crate) fn begin(&self, wish: Wish, patience: Patience, lease_ms: u64, async_ms: u64) -> Command {
        begin(&self.booking, wish, patience, (lease_ms, async_ms), self.now)
    }

    fn named(&self, names: Names) -> Option<u32> {
        let in_flight = number_in_flight(&self.booking).unwrap_or(self.booking.operations_begun);
        match names {
            Names::None => None,
            Names::InFlight => Some(in_flight),
            Names::Earlier => Some(in_flight.saturating_sub(1)),
        }
    }

    fn is_cancel(&self, number: u32) -> bool {
        number_in_flight(&self.booking) == Some(number) && is_cancelling(&self.booking)
    }

    /// Waits until something is due, and does it as a timer would.
    pub(crate) fn due_command(&mut self, lease_ms: u64) -> Option<Command> {
        let mut step = next_step(&self.booking, self.now);
        if let Step::WaitUntil(at) = step {
            self.now = at;
            step = next_step(&self.booking, self.now);
        }
        let lease_until = self.now.plus_ms(lease_ms);
        match step {
            Step::Nothing | Step::WaitUntil(_) => None,
            Step::Attempt { .. } | Step::Resolve => Some(Command::ClaimAttempt { lease_until }),
            Step::GiveUp => Some(Command::GiveUp),
            Step::Compensate => Some(Command::ClaimCompensation { lease_until }),
            Step::GiveUpCompensation => Some(Command::GiveUpCompensation),
            Step::ExpireHold => Some(Command::ExpireHold),
            Step::Notify => Some(Command::ClaimNotification { lease_until }),
            Step::GiveUpNotification => Some(Command::GiveUpNotification),
        }
    }

    /// Whether an attempt to book was claimed that nobody has reported on.
    pub(crate) fn somebody_is_silent(&self) -> bool {
        self.silent.keys().any(|(operation, _)| *operation == BOOK)
    }

    /// A worker that has not reported: mostly the one that holds the lease.
    fn a_silent_one(&self, which: Index) -> Option<(u32, u32)> {
        if self.silent.is_empty() {
            return None;
        }
        let current = self.booking.operation.as_ref().map(|operation| (operation.number, operation.attempts));
        if let Some(current) =
            current.filter(|current| which.index(3) > 0 && self.silent.contains_key(current))
        {
            return Some(current);
        }
        self.silent.keys().copied().nth(which.index(self.silent.len()))
    }

    /// Keeps the truth.
    fn remember(&mut self, before: &Booking, command: &Command, applied: bool) {
        let ended = matches!(before.status(), Status::Rejected | Status::Cancelled | Status::Expired);
        match command {
            Command::RecordAttempt { operation, attempt, outcome, .. } => {
                self.silent.remove(&(*operation, *attempt));
                match outcome {
                    // What came of a cancel books nothing.
                    _ if *operation != BOOK => {}
                    // A report that came after the compensation's end changes nothing: the window has passed.
                    AttemptOutcome::Unknown(_)
                        if number_in_flight(before) == Some(BOOK)
                            || matches!(before.compensation, Compensation::Underway(_)) =>
                    {
                        self.doubt(self.now);
                    }
                    AttemptOutcome::Acknowledged(_) if applied && ended => self.hear_late_yes(),
                    AttemptOutcome::Acknowledged(_)
                    | AttemptOutcome::Declined(_)
                    | AttemptOutcome::NotSent(_)
                    | AttemptOutcome::Unknown(_) => {}
                }
            }
            Command::AdoptEnded { attempt } => {
                let number = number_in_flight(before).unwrap_or(BOOK);
                self.silent.remove(&(number, *attempt));
            }
            Command::AdoptUnchanged(record) => {
                self.silent.remove(&(record.operation, record.attempt));
            }
            Command::Acknowledge { .. } if applied && ended => self.hear_late_yes(),
            Command::ClaimAttempt { lease_until } if applied => {
                if let Some(operation) = &self.booking.operation {
                    self.silent.insert((operation.number, operation.attempts), *lease_until);
                }
            }
            Command::Begin(request) if applied => {
                if let Some(operation) = &self.booking.operation {
                    self.silent.insert((operation.number, operation.attempts), request.lease_until);
                }
            }
            // A cancel that came to nothing: the provider still holds what it said yes to.
            Command::GiveUp if applied && is_cancelling(before) => self.doubt(self.now),
            // The provider holds what it said yes to.
            Command::CancelByOperator if applied && before.status() != Status::Pending => {
                self.doubt(self.now);
            }
            Command::ClaimCompensation { .. } if applied => {
                if let Compensation::Underway(run) = &self.booking.compensation {
                    self.silent_compensations.push((run.number, run.attempts));
                }
            }
            Command::ClaimNotification { .. } if applied => {
                if let Some(first) = self.booking.notifications.first() {
                    self.silent_tellers.push((first.number, first.attempts));
                }
            }
            _ => {}
        }
        self.doubt_the_overtaken();
    }

    /// A worker that was overtaken before it reported may have sent until its lease's end.
    ///
    /// After a yes it can only repeat what the provider holds already: they share a key.
    fn doubt_the_overtaken(&mut self) {
        if was_acknowledged(&self.booking) {
            return;
        }
        let current = self.booking.operation.as_ref().and_then(|operation| match operation.phase {
            Phase::InFlight { .. } => Some((operation.number, operation.attempts)),
            Phase::Waiting { .. } => None,
        });
        let overtaken = self.silent.iter().filter(|(attempt, _)| Some(**attempt) != current);
        let overtaken = overtaken.filter(|((operation, _), _)| *operation == BOOK);
        if let Some(latest) = overtaken.map(|(_, lease_until)| *lease_until).max() {
            self.doubt(latest);
        }
    }

    fn doubt(&mut self, sent_at: Timestamp) {
        if self.booking.confirmation.tells() {
            // A gate books nothing.
            return;
        }
        self.last_doubtful_send = self.last_doubtful_send.max(Some(sent_at));
    }

    fn hear_late_yes(&mut self) {
        self.late_yes = true;
        self.doubt(self.now);
    }
}

/// A consumer's request for a change of `booking`, with its lease and its background limit.
pub(crate) fn begin(
    booking: &Booking,
    wish: Wish,
    patience: Patience,
    (lease_ms, async_ms): (u64, u64),
    now: Timestamp,
) -> Command {
    let change = match wish {
        Wish::Confirm => Change::Confirm,
        Wish::Extend { by_ms } => {
            let from = match booking.state {
                State::Reserved { expires_at } => expires_at,
                _ => now,
            };
            Change::Extend { expires_at: from.plus_ms(by_ms) }
        }
        Wish::Reschedule { to } => Change::Reschedule(slot(to)),
        Wish::Cancel => Change::Cancel(Withdrawal { reason: Some("ill".to_owned()), note: None }),
    };
    let patience = if matches!(wish, Wish::Cancel) { Patience::Background } else { patience };
    let lease_until = now.plus_ms(lease_ms);
    let deadline_at = match patience {
        Patience::Synchronous => lease_until,
        Patience::Background => now.plus_ms(lease_ms.max(async_ms)),
    };
    Command::Begin(ChangeRequest { change, patience, lease_until, deadline_at })
}

fn postpone(until: Timestamp) -> Command {
    Command::Postpone { until, error: AttemptError::CircuitOpen }
}

fn take(silent: &mut Vec<(u32, u32)>, which: Index) -> Option<(u32, u32)> {
    if silent.is_empty() { None } else { Some(silent.remove(which.index(silent.len()))) }
}

/// Whether the provider is being asked to cancel for the consumer.
pub(crate) fn is_cancelling(booking: &Booking) -> bool {
    booking.operation.as_ref().is_some_and(|operation| operation.change.kind() == OperationKind::Cancel)
}

fn number_in_flight(booking: &Booking) -> Option<u32> {
    booking.operation.as_ref().map(|operation| operation.number)
}

/// Whether the provider ever said yes in time.
pub(crate) fn was_acknowledged(booking: &Booking) -> bool {
    let was_yes = |entry: &HistoryEntry| matches!(entry.status, Status::Reserved | Status::Confirmed);
    booking.history.iter().any(was_yes)
}

/// Whether a booking ended, and the provider never said yes in time.
pub(crate) fn ended_without_yes(booking: &Booking) -> bool {
    match booking.state {
        State::Rejected(_) | State::Cancelled(_) => !was_acknowledged(booking),
        // A hold was a yes; it lapses at the provider by itself.
        State::Pending
        | State::Reserved { .. }
        | State::Confirmed
        | State::Expired
        | State::Completed
        | State::NoShow => false,
    }
}
