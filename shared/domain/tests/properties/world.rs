//! A booking, the time, and the truth about its attempts, which the booking itself can only guess at.

use std::collections::BTreeMap;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, BookingId, BookingRequest, CancelRequest, Change, Command,
    Compensation, CompensationRecord, ConsumerId, Customer, HistoryEntry, Mode, Operation, OperationKind,
    Patience, Personal, Phase, ProviderId, Refused, Slot, State, Status, Step, Tenant, Timestamp, Transition,
    Withdrawal, next_step, transition,
};
use proptest::sample::Index;

use crate::moves::{BEGINNING_UNIX_MS, Beginning, Move, no, yes};

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
    /// The latest moment at which a request may have reached the provider without a usable answer.
    pub(crate) last_doubtful_send: Option<Timestamp>,
    /// Whether the provider said yes to a booking that had ended.
    pub(crate) late_yes: bool,
}

fn booking_of(beginning: &Beginning, now: Timestamp) -> Booking {
    let lease_until = now.plus_ms(beginning.lease_ms);
    let patience = beginning.patience();
    let deadline_at = match patience {
        Patience::Synchronous => lease_until,
        Patience::Background => now.plus_ms(beginning.async_ms),
    };
    let (attempts, phase) = if beginning.circuit_open {
        (0, Phase::Waiting { next_attempt_at: lease_until.min(deadline_at) })
    } else {
        (1, Phase::InFlight { lease_until })
    };
    let operation = Operation {
        change: Change::Book,
        number: 1,
        patience,
        deadline_at,
        attempts,
        last_error: beginning.circuit_open.then_some(AttemptError::CircuitOpen),
        unanswered_send_at: None,
        phase,
    };
    let tenant = Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Test };
    let customer =
        Customer { name: "Ada".to_owned(), email: None, phone: None, birth_date: None, language: None };
    let request = BookingRequest {
        provider_id: ProviderId::parse("clinic").unwrap(),
        customer: Some(Personal::new(customer)),
        reference: None,
        notes: Some(Personal::new("By the window".to_owned())),
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold: false,
    };
    let start = now.plus_ms(7 * 24 * 60 * 60 * 1_000);
    let slot = Slot {
        location_id: "main".to_owned(),
        start,
        end: start.plus_ms(1_800_000),
        resource_id: None,
        service_id: None,
    };
    Booking::claimed(BookingId::derived(&tenant, "key", 0), tenant, request, slot, operation, now)
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
        Self {
            booking,
            now,
            silent,
            silent_compensations: Vec::new(),
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
                Command::ClaimAttempt { lease_until } if *circuit_open => {
                    Command::Postpone { until: lease_until }
                }
                command => command,
            },
            Move::Claim { lease_ms } => Command::ClaimAttempt { lease_until: now.plus_ms(*lease_ms) },
            Move::Postpone { delay_ms } => Command::Postpone { until: now.plus_ms(*delay_ms) },
            Move::Report { which, outcome, retry_delay_ms } => {
                let (operation, attempt) = self.a_silent_one(*which)?;
                let (outcome, retry_delay_ms) = (outcome.clone(), *retry_delay_ms);
                Command::RecordAttempt { operation, attempt, outcome, retry_delay_ms }
            }
            Move::FindEnded { which } => match self.a_silent_one(*which)? {
                (BOOK, attempt) => Command::AdoptEnded { attempt },
                // A cancel is not looked up.
                _ => return None,
            },
            Move::CallYes { hold_ms } => Command::Acknowledge(yes(now, *hold_ms)),
            Move::CallNo => Command::Decline(no()),
            Move::GiveUp => Command::GiveUp,
            Move::ClaimCompensation { lease_ms } => {
                Command::ClaimCompensation { lease_until: now.plus_ms(*lease_ms) }
            }
            Move::ReportCompensation { which, asked_ago_ms, outcome, retry_delay_ms, settle_window_ms } => {
                if self.silent_compensations.is_empty() {
                    return None;
                }
                let position = which.index(self.silent_compensations.len());
                let (number, attempt) = self.silent_compensations.remove(position);
                Command::RecordCompensation(CompensationRecord {
                    number,
                    attempt,
                    asked_at: now.minus_ms(*asked_ago_ms),
                    outcome: *outcome,
                    retry_delay_ms: *retry_delay_ms,
                    settle_window_ms: *settle_window_ms,
                })
            }
            Move::GiveUpCompensation => Command::GiveUpCompensation,
            Move::ExpireHold => Command::ExpireHold,
            Move::Cancel { lease_ms, async_ms } => cancel(now, *lease_ms, *async_ms),
            Move::Withdraw => Command::CancelByProvider(Withdrawal::default()),
            Move::TellAttendance { attended } => Command::TellAttendance { attended: *attended },
            Move::Erase => Command::EraseCustomer,
        })
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
            Step::Attempt { .. } => Some(Command::ClaimAttempt { lease_until }),
            Step::GiveUp => Some(Command::GiveUp),
            Step::Compensate => Some(Command::ClaimCompensation { lease_until }),
            Step::GiveUpCompensation => Some(Command::GiveUpCompensation),
            Step::ExpireHold => Some(Command::ExpireHold),
        }
    }

    /// Whether an attempt to book was claimed that nobody has reported on.
    pub(crate) fn somebody_is_silent(&self) -> bool {
        self.silent.keys().any(|(operation, _)| *operation == BOOK)
    }

    fn a_silent_one(&self, which: Index) -> Option<(u32, u32)> {
        if self.silent.is_empty() {
            return None;
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
                self.silent.remove(&(BOOK, *attempt));
            }
            Command::Acknowledge(_) if applied && ended => self.hear_late_yes(),
            Command::ClaimAttempt { lease_until } if applied => {
                if let Some(operation) = &self.booking.operation {
                    self.silent.insert((operation.number, operation.attempts), *lease_until);
                }
            }
            Command::Cancel(request) if applied => {
                if let Some(operation) = &self.booking.operation {
                    self.silent.insert((operation.number, operation.attempts), request.lease_until);
                }
            }
            // A cancel that came to nothing: the provider still holds what it said yes to.
            Command::GiveUp if applied && is_cancelling(before) => self.doubt(self.now),
            Command::ClaimCompensation { .. } if applied => {
                if let Compensation::Underway(run) = &self.booking.compensation {
                    self.silent_compensations.push((run.number, run.attempts));
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
        if let Some(latest) = overtaken.map(|(_, lease_until)| *lease_until).max() {
            self.doubt(latest);
        }
    }

    fn doubt(&mut self, sent_at: Timestamp) {
        self.last_doubtful_send = self.last_doubtful_send.max(Some(sent_at));
    }

    fn hear_late_yes(&mut self) {
        self.late_yes = true;
        self.doubt(self.now);
    }
}

/// A consumer's cancel at `now`.
pub(crate) fn cancel(now: Timestamp, lease_ms: u64, async_ms: u64) -> Command {
    Command::Cancel(CancelRequest {
        withdrawal: Withdrawal { reason: Some("ill".to_owned()), note: None },
        lease_until: now.plus_ms(lease_ms),
        deadline_at: now.plus_ms(lease_ms.max(async_ms)),
    })
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
