//! A booking together with its provider, whose answers get lost, come late or never, and with workers that
//! die: what Holdfast does here it does as its engine would.

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, Change, Command, Compensation, CompensationOutcome,
    CompensationRecord, Judgement, LookUpOutcome, MIN_SETTLE_WINDOW_MS, Notification, NotificationRecord,
    NotificationRoute, Operation, Step, Timestamp, UnchangedRecord, Withdrawal, next_step, transition,
};

use crate::beginning::booking_of;
use crate::moves::{BEGINNING_UNIX_MS, Beginning, Wish};
use crate::provider::{Ask, Habits, Held, Provider, Request};
use crate::world::begin;

/// For how long a request may be under way, in milliseconds: less than is waited for it.
pub(crate) const MAX_UNDERWAY_MS: u64 = MIN_SETTLE_WINDOW_MS - 1;
const LEASE_MS: u64 = 32_000;
const RETRY_DELAY_MS: u64 = 20_000;
const SCHEDULE_MS: [u64; 3] = [60_000, 300_000, 900_000];

/// What becomes of a request and of the worker that sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It arrives, and the answer comes back.
    Answered,
    /// It arrives late or (`None`) never, and no answer comes back.
    Lost { arrives_after_ms: Option<u64> },
    /// Nothing was written.
    NotSent,
    /// The worker dies; it may have sent the request at the very end of its lease.
    Dead { arrives_after_ms: Option<u64> },
    /// It arrives, and the worker reports the answer late.
    Frozen { reports_after_ms: u64 },
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    Wait(u64),
    /// What is due next is done; the provider says yes if it is `willing`, and can be looked up if it is
    /// `reachable`.
    Due {
        fate: Fate,
        willing: bool,
        reachable: bool,
    },
    Begin {
        wish: Wish,
        patience: holdfast_domain::Patience,
        fate: Fate,
        willing: bool,
    },
    /// The provider tells what it decided, or (not `named`) how it holds the booking; or it fetches.
    CallBack {
        named: bool,
    },
    Withdraw,
    /// An operator has what waits done now.
    RetryNow,
    /// An operator ends the booking.
    EndByOperator,
}

/// How a world with a provider begins.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) beginning: Beginning,
    pub(crate) hold: bool,
    pub(crate) fate: Fate,
    pub(crate) willing: bool,
    pub(crate) habits: Habits,
}

/// A booking, its provider, and what is under way between them.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) booking: Booking,
    pub(crate) provider: Provider,
    pub(crate) now: Timestamp,
    hold: bool,
    underway: Vec<(Timestamp, Request)>,
    reports: Vec<(Timestamp, Command)>,
    /// What went wrong, in words.
    pub(crate) wrongs: Vec<String>,
}

impl Truth {
    pub(crate) fn new(opening: &Opening) -> Self {
        let now = Timestamp::from_unix_ms(BEGINNING_UNIX_MS).unwrap();
        let mut truth = Self {
            booking: booking_of(&opening.beginning, now),
            provider: Provider::new(opening.habits),
            now,
            hold: opening.hold,
            underway: Vec::new(),
            reports: Vec::new(),
            wrongs: Vec::new(),
        };
        if truth.booking.operation.as_ref().is_some_and(|operation| operation.attempts == 1) {
            truth.send(opening.fate, opening.willing);
        }
        truth
    }

    pub(crate) fn play(&mut self, turn: &Turn) {
        self.advance(self.now);
        match turn {
            Turn::Wait(ms) => self.advance(self.now.plus_ms(*ms)),
            Turn::Due { fate, willing, reachable } => self.do_what_is_due(*fate, *willing, *reachable),
            Turn::Begin { wish, patience, fate, willing } => {
                let before = self.booking.operations_begun;
                let command = begin(&self.booking, *wish, *patience, (3_500, 900_000), self.now);
                let is_begun = self.apply(command) && self.booking.operations_begun > before;
                if is_begun && self.booking.operation.is_some() {
                    self.send(*fate, *willing);
                }
            }
            Turn::CallBack { named } => self.call_back(*named),
            Turn::RetryNow => {
                self.apply(Command::RetryNow);
            }
            Turn::EndByOperator => {
                self.apply(Command::CancelByOperator);
            }
            Turn::Withdraw => {
                if self.provider.withdraw(self.now) {
                    self.apply(Command::CancelByProvider(Withdrawal::default()));
                }
            }
        }
    }

    /// Lets everything come to its end with a provider that answers. Stops first (`false`) while a hold
    /// stands and nothing else is open.
    pub(crate) fn settle(&mut self, willing: bool) -> bool {
        for _ in 0..MAX_STEPS {
            match next_step(&self.booking, self.now) {
                Step::Nothing if self.underway.is_empty() && self.reports.is_empty() => return true,
                Step::Nothing => self.advance(self.now.plus_ms(MAX_UNDERWAY_MS)),
                Step::WaitUntil(until) => {
                    if self.is_quiet() {
                        return false;
                    }
                    self.advance(until);
                }
                _ => self.do_what_is_due(Fate::Answered, willing, true),
            }
        }
        self.wrongs.push("it never ends".to_owned());
        true
    }

    fn is_quiet(&self) -> bool {
        let compensating = matches!(self.booking.compensation, Compensation::Underway(_));
        let told = self.booking.notifications.is_empty();
        let nothing_comes = self.underway.is_empty() && self.reports.is_empty();
        self.booking.operation.is_none() && !compensating && told && nothing_comes
    }

    /// Applies a command; whether it was accepted.
    fn apply(&mut self, command: Command) -> bool {
        let Ok(transition) = transition(&self.booking, command, self.now) else { return false };
        let has_moved = self.booking.slot != transition.booking.slot;
        self.booking = transition.booking;
        let (Some((_, slot)), false) = (&self.provider.held, self.booking.confirmation.tells()) else {
            return true;
        };
        if has_moved && *slot != self.booking.slot {
            self.wrongs.push("it moved before the provider had taken the new slot".to_owned());
        }
        true
    }

    /// Time passes; what is under way arrives.
    pub(crate) fn advance(&mut self, until: Timestamp) {
        loop {
            let arrival = self.underway.iter().map(|(at, _)| *at).min();
            let report = self.reports.iter().map(|(at, _)| *at).min();
            let Some(at) = arrival.into_iter().chain(report).min().filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            if let Some(first) = self.underway.iter().position(|(due, _)| *due == at) {
                let (_, request) = self.underway.remove(first);
                self.arrive(&request);
            } else if let Some(first) = self.reports.iter().position(|(due, _)| *due == at) {
                let (_, command) = self.reports.remove(first);
                self.apply(command);
            }
        }
        self.now = self.now.max(until);
    }

    fn arrive(&mut self, request: &Request) -> AttemptOutcome {
        if request.ask == Ask::Compensate {
            self.provider.compensate(request.number, request.willing, self.now);
            return AttemptOutcome::Unknown(AttemptError::TimedOut);
        }
        self.provider.receive(request, self.now)
    }

    fn do_what_is_due(&mut self, fate: Fate, willing: bool, reachable: bool) {
        if let Step::WaitUntil(until) = next_step(&self.booking, self.now) {
            self.advance(until);
        }
        let lease_until = self.now.plus_ms(LEASE_MS);
        let step = next_step(&self.booking, self.now);
        let command = match step {
            Step::Nothing | Step::WaitUntil(_) => return,
            Step::Attempt { .. } | Step::Resolve => Command::ClaimAttempt { lease_until },
            Step::GiveUp => Command::GiveUp,
            Step::Compensate => Command::ClaimCompensation { lease_until },
            Step::GiveUpCompensation => Command::GiveUpCompensation,
            Step::Notify => Command::ClaimNotification { lease_until },
            Step::GiveUpNotification => Command::GiveUpNotification,
            Step::ExpireHold => Command::ExpireHold,
        };
        if !self.apply(command) {
            self.wrongs.push(format!("{step:?} was due and refused"));
        }
        match step {
            Step::Attempt { look_up_first } => self.attempt(look_up_first, fate, willing, reachable),
            Step::Resolve => self.resolve(reachable),
            Step::Compensate => self.compensate(fate, willing),
            Step::Notify => self.tell(fate),
            _ => {}
        }
    }

    fn operation(&self) -> Operation {
        self.booking.operation.clone().unwrap()
    }

    fn look_up(&self, reachable: bool) -> LookUpOutcome {
        if self.booking.confirmation.tells() {
            LookUpOutcome::Unsupported
        } else if reachable {
            self.provider.look_up(self.now)
        } else {
            LookUpOutcome::Unavailable { error: AttemptError::TimedOut, retry_after_ms: None }
        }
    }

    fn attempt(&mut self, look_up_first: bool, fate: Fate, willing: bool, reachable: bool) {
        if !look_up_first {
            return self.send(fate, willing);
        }
        let operation = self.operation();
        match self.look_up(reachable) {
            LookUpOutcome::Found(found) => match self.booking.judge(&operation, &found) {
                Judgement::Made(yes) => self.report(AttemptOutcome::Acknowledged(yes)),
                Judgement::Unclear => self.report(AttemptOutcome::NotSent(AttemptError::UnusableAnswer)),
                Judgement::NotMade { .. } => self.send(fate, willing),
            },
            LookUpOutcome::Ended => {
                self.apply(Command::AdoptEnded { attempt: operation.attempts });
            }
            LookUpOutcome::NotFound | LookUpOutcome::Unsupported => self.send(fate, willing),
            LookUpOutcome::StillPending | LookUpOutcome::Unavailable { .. } => {
                self.report(AttemptOutcome::NotSent(AttemptError::TimedOut));
            }
        }
    }

    fn resolve(&mut self, reachable: bool) {
        let operation = self.operation();
        match self.look_up(reachable) {
            LookUpOutcome::Found(found) => match self.booking.judge(&operation, &found) {
                Judgement::Made(yes) => self.report(AttemptOutcome::Acknowledged(yes)),
                Judgement::NotMade { decided } => {
                    self.apply(Command::AdoptUnchanged(UnchangedRecord {
                        operation: operation.number,
                        attempt: operation.attempts,
                        asked_at: self.now,
                        decided,
                        settle_window_ms: 0,
                    }));
                }
                Judgement::Unclear => self.report(AttemptOutcome::NotSent(AttemptError::UnusableAnswer)),
            },
            LookUpOutcome::Ended => {
                self.apply(Command::AdoptEnded { attempt: operation.attempts });
            }
            _ => self.report(AttemptOutcome::NotSent(AttemptError::TimedOut)),
        }
    }

    fn report(&mut self, outcome: AttemptOutcome) {
        let command = self.report_of(outcome);
        self.apply(command);
    }

    fn report_of(&self, outcome: AttemptOutcome) -> Command {
        let Operation { number, attempts, .. } = self.operation();
        Command::RecordAttempt {
            operation: number,
            attempt: attempts,
            outcome,
            retry_delay_ms: RETRY_DELAY_MS,
        }
    }

    /// Sends the request for the operation in flight.
    fn send(&mut self, fate: Fate, willing: bool) {
        let operation = self.operation();
        if operation.is_resolving() {
            self.wrongs.push("asked for again after its patience was over".to_owned());
        }
        if self.booking.confirmation.tells() {
            return self.ask_the_gate(fate, willing);
        }
        let ask = match &operation.change {
            Change::Book => Ask::Book { slot: self.booking.slot.clone(), hold: self.hold },
            change => Ask::Change(change.clone()),
        };
        let request = Request { number: operation.number, ask, willing };
        let unknown = AttemptOutcome::Unknown(AttemptError::TimedOut);
        match fate {
            Fate::NotSent => self.report(AttemptOutcome::NotSent(AttemptError::ConnectionFailed)),
            Fate::Answered => {
                let outcome = self.arrive(&request);
                self.report(outcome);
            }
            Fate::Frozen { reports_after_ms } => {
                let outcome = self.arrive(&request);
                let report = self.report_of(outcome);
                self.reports.push((self.now.plus_ms(reports_after_ms), report));
            }
            Fate::Lost { arrives_after_ms } => {
                self.leave_underway(self.now, arrives_after_ms, request);
                self.report(unknown);
            }
            Fate::Dead { arrives_after_ms } => {
                let lease_until = operation.phase.due_at();
                self.leave_underway(lease_until, arrives_after_ms, request);
            }
        }
    }

    /// A gate books nothing, whatever it says: a request without an answer counts as not sent.
    fn ask_the_gate(&mut self, fate: Fate, willing: bool) {
        let yes = holdfast_domain::Acknowledgement { provider_reference: None, reserved_until: None };
        let word = if willing {
            AttemptOutcome::Acknowledged(yes)
        } else {
            AttemptOutcome::Declined(crate::moves::no())
        };
        match fate {
            Fate::Answered => self.report(word),
            Fate::Frozen { reports_after_ms } => {
                let report = self.report_of(word);
                self.reports.push((self.now.plus_ms(reports_after_ms), report));
            }
            Fate::Dead { .. } => {}
            Fate::NotSent | Fate::Lost { .. } => {
                self.report(AttemptOutcome::NotSent(AttemptError::TimedOut));
            }
        }
    }

    fn leave_underway(&mut self, sent_at: Timestamp, arrives_after_ms: Option<u64>, request: Request) {
        if let Some(after_ms) = arrives_after_ms {
            self.underway.push((sent_at.plus_ms(after_ms), request));
        }
    }

    fn compensate(&mut self, fate: Fate, willing: bool) {
        let Compensation::Underway(run) = self.booking.compensation.clone() else { return };
        let request = Request { number: run.number, ask: Ask::Compensate, willing };
        let record = |outcome: CompensationOutcome, asked_at: Timestamp| {
            Command::RecordCompensation(CompensationRecord {
                number: run.number,
                attempt: run.attempts,
                asked_at,
                outcome,
                retry_delay_ms: RETRY_DELAY_MS,
                settle_window_ms: 0,
            })
        };
        let failed = record(CompensationOutcome::Failed(AttemptError::TimedOut), self.now);
        match fate {
            Fate::Answered => {
                let outcome = self.provider.compensate(run.number, willing, self.now);
                self.apply(record(outcome, self.now));
            }
            Fate::Frozen { reports_after_ms } => {
                let outcome = self.provider.compensate(run.number, willing, self.now);
                self.reports.push((self.now.plus_ms(reports_after_ms), record(outcome, self.now)));
            }
            Fate::NotSent => {
                self.apply(failed);
            }
            Fate::Lost { arrives_after_ms } => {
                self.leave_underway(self.now, arrives_after_ms, request);
                self.apply(failed);
            }
            Fate::Dead { arrives_after_ms } => {
                self.leave_underway(run.phase.due_at(), arrives_after_ms, request);
            }
        }
    }

    fn tell(&mut self, fate: Fate) {
        let Some(first) = self.booking.notifications.first().cloned() else { return };
        let retry_at = usize::try_from(first.attempts)
            .ok()
            .and_then(|attempts| SCHEDULE_MS.get(attempts - 1))
            .map(|delay_ms| first.begun_at.plus_ms(*delay_ms));
        let record = |error: Option<AttemptError>| {
            let (number, attempt) = (first.number, first.attempts);
            Command::RecordNotification(NotificationRecord { number, attempt, error, retry_at })
        };
        let request = told(&first);
        match fate {
            Fate::Answered => {
                self.arrive(&request);
                self.apply(record(None));
            }
            Fate::Frozen { reports_after_ms } => {
                self.arrive(&request);
                self.reports.push((self.now.plus_ms(reports_after_ms), record(None)));
            }
            Fate::NotSent => {
                self.apply(record(Some(AttemptError::ConnectionFailed)));
            }
            Fate::Lost { arrives_after_ms } => {
                self.leave_underway(self.now, arrives_after_ms, request);
                self.apply(record(Some(AttemptError::TimedOut)));
            }
            Fate::Dead { arrives_after_ms } => {
                self.leave_underway(first.phase.due_at(), arrives_after_ms, request);
            }
        }
    }

    fn call_back(&mut self, named: bool) {
        if self.booking.confirmation.tells() {
            if self.booking.route == NotificationRoute::Pull
                && let Some(first) = self.booking.notifications.first().cloned()
            {
                self.arrive(&told(&first));
                self.apply(Command::AcknowledgeNotification { number: first.number });
            }
            return;
        }
        let operation = self.booking.operation.as_ref().map(|operation| operation.number).filter(|_| named);
        if let Some(number) = operation {
            match self.provider.answer_to(number) {
                Some(AttemptOutcome::Acknowledged(acknowledgement)) => {
                    self.apply(Command::Acknowledge { acknowledgement, operation });
                }
                Some(AttemptOutcome::Declined(rejection)) => {
                    self.apply(Command::Decline { rejection, operation });
                }
                _ => {}
            }
        } else if let Some((Held::Reserved(_) | Held::Confirmed, _)) = self.provider.holds(self.now) {
            self.apply(Command::Acknowledge { acknowledgement: self.provider.word(), operation: None });
        }
    }
}

/// The most steps that a booking may need to come to rest with a provider that answers.
const MAX_STEPS: u32 = 5_000;

fn told(notification: &Notification) -> Request {
    let (kind, slot) = (notification.kind.clone(), notification.slot.clone());
    Request { number: notification.number, ask: Ask::Tell { kind, slot }, willing: true }
}
