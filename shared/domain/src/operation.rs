//! The operation in flight: one change that a provider is asked for, its attempts and its limits.

use crate::{Rejection, Slot, State, Timestamp, Withdrawal};

/// What a provider is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// Book the slot, or reserve it if the consumer asked for a hold.
    Book,
    /// Turn a hold into a booking.
    Confirm,
    /// Let a hold live longer.
    Extend,
    /// Give the slot back.
    Cancel,
    /// Move to another slot.
    Reschedule,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Book, Self::Confirm, Self::Extend, Self::Cancel, Self::Reschedule];

    /// The name that the API shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Book => "book",
            Self::Confirm => "confirm",
            Self::Extend => "extend",
            Self::Cancel => "cancel",
            Self::Reschedule => "reschedule",
        }
    }
}

/// A change of a booking, with what only this kind of change needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Book the slot, or reserve it.
    Book,
    /// Turn the hold into a booking.
    Confirm,
    /// Let the hold live longer.
    Extend {
        /// Until when; later than the hold's end so far.
        expires_at: Timestamp,
    },
    /// Give the slot back.
    Cancel(Withdrawal),
    /// Move to this slot. The old one stays until the provider has taken the new one.
    Reschedule(Slot),
}

impl Change {
    /// The change's kind.
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Book => OperationKind::Book,
            Self::Confirm => OperationKind::Confirm,
            Self::Extend { .. } => OperationKind::Extend,
            Self::Cancel(_) => OperationKind::Cancel,
            Self::Reschedule(_) => OperationKind::Reschedule,
        }
    }
}

/// Whether an operation goes on after the request that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Patience {
    /// The consumer wants an answer within the synchronous limit; after it the booking is cancelled
    /// (`async_confirmation: false`).
    Synchronous,
    /// The operation is retried until its deadline (`async_confirmation: true`).
    Background,
}

/// What goes on with an operation or a compensation at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// A worker holds the lease for an attempt. It sends nothing once the lease is over, so that from
    /// then on the attempt's outcome is unknown and another worker may take over.
    InFlight {
        /// The end of the lease.
        lease_until: Timestamp,
    },
    /// Nobody is working on it.
    Waiting {
        /// When the next attempt is due.
        next_attempt_at: Timestamp,
    },
}

impl Phase {
    /// When something has to be done if nothing happens before.
    pub fn due_at(self) -> Timestamp {
        match self {
            Self::InFlight { lease_until } => lease_until,
            Self::Waiting { next_attempt_at } => next_attempt_at,
        }
    }

    /// Whether a worker holds a lease at `now`.
    pub fn is_leased(self, now: Timestamp) -> bool {
        match self {
            Self::InFlight { lease_until } => lease_until > now,
            Self::Waiting { .. } => false,
        }
    }
}

/// A change that a provider is being asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// What is asked for.
    pub change: Change,
    /// Counts the booking's operations, compensations included, from 1. It is part of the provider's
    /// idempotency key.
    pub number: u32,
    /// Whether it goes on after the request.
    pub patience: Patience,
    /// When it is given up. For [`Patience::Synchronous`] this is the end of the request's lease.
    pub deadline_at: Timestamp,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Why the last attempt that failed did so.
    pub last_error: Option<AttemptError>,
    /// The latest moment at which a request that has no usable answer may have been sent. `None` means
    /// that the provider surely holds nothing.
    pub unanswered_send_at: Option<Timestamp>,
    /// Set once the provider is not asked for the change any more but may have made it: until this time it
    /// is asked which it was.
    pub resolve_until: Option<Timestamp>,
    /// The change that this one, a cancel, overtook and whose outcome is not known.
    pub overtaken: Option<Overtaken>,
    /// What goes on with it now.
    pub phase: Phase,
}

/// A change that a cancel overtook. If the cancel is refused, what became of this one has to be found out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Overtaken {
    /// What was asked for.
    pub change: Change,
    /// Its number.
    pub number: u32,
    /// Whether it went on after its request.
    pub patience: Patience,
    /// Attempts begun.
    pub attempts: u32,
    /// The latest moment at which a request for it may have been sent.
    pub unanswered_send_at: Timestamp,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    /// The provider did it.
    Acknowledged(Acknowledgement),
    /// The provider said a definite no.
    Declined(Rejection),
    /// No byte of the request was written: the provider surely knows nothing of this attempt.
    NotSent(AttemptError),
    /// The request was, or may have been, sent and there is no usable answer.
    Unknown(AttemptError),
}

/// A provider's yes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acknowledgement {
    /// The provider's own name for the booking.
    pub provider_reference: Option<String>,
    /// When a reservation lapses; `None` for a confirmed booking.
    pub reserved_until: Option<Timestamp>,
}

impl Acknowledgement {
    /// The booking's state after this acknowledgement.
    pub fn state(&self) -> State {
        match self.reserved_until {
            Some(expires_at) => State::Reserved { expires_at },
            None => State::Confirmed,
        }
    }
}

/// What the provider says of a booking when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUpOutcome {
    /// It holds the booking.
    Found(Found),
    /// It knows the booking and has not decided.
    StillPending,
    /// It had the booking, and cancelled it or let it expire.
    Ended,
    /// It knows no such booking.
    NotFound,
    /// It could not be asked.
    Unavailable {
        /// Why.
        error: AttemptError,
        /// How long the provider asks to be left alone, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Its protocol has no look-up.
    Unsupported,
}

/// What the provider's word about a booking says of the change in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The change was made.
    Made(Acknowledgement),
    /// It was not made. Unless it is `decided`, a request under way may still make it.
    NotMade {
        /// Whether the provider has decided on this very operation.
        decided: bool,
    },
    /// The word does not tell.
    Unclear,
}

impl Operation {
    /// Whether the provider is only asked what became of the change, and not for the change any more.
    pub fn is_resolving(&self) -> bool {
        self.resolve_until.is_some()
    }

    /// When nothing more is tried: the deadline or, of a change that is being resolved, the end of that.
    pub fn ends_at(&self) -> Timestamp {
        self.resolve_until.unwrap_or(self.deadline_at)
    }

    /// The latest moment at which a request for the change may have been, or may yet be, sent by a worker
    /// who does not report.
    pub fn may_be_sent_at(&self) -> Option<Timestamp> {
        match self.phase {
            // Look-ups ask for nothing.
            Phase::InFlight { lease_until } if !self.is_resolving() => {
                self.unanswered_send_at.max(Some(lease_until))
            }
            Phase::InFlight { .. } | Phase::Waiting { .. } => self.unanswered_send_at,
        }
    }

    /// What a provider that holds the booking as `found` says of this operation; `slot` is where the
    /// booking was before, and `expires_at` the end of its hold so far, if it is one.
    pub fn judge(&self, slot: &Slot, expires_at: Option<Timestamp>, found: &Found) -> Judgement {
        let yes = &found.acknowledgement;
        let not_made =
            Judgement::NotMade { decided: found.operation.is_some_and(|last| last >= self.number) };
        let is_made = match &self.change {
            Change::Book => true,
            Change::Cancel(_) => false,
            Change::Confirm => yes.reserved_until.is_none(),
            // A provider may grant less than was asked for.
            Change::Extend { .. } => yes.reserved_until.is_none_or(|until| Some(until) > expires_at),
            Change::Reschedule(wanted) => match &found.slot {
                Some(found) if found == wanted => true,
                Some(found) if found == slot => false,
                Some(_) | None => return Judgement::Unclear,
            },
        };
        if is_made { Judgement::Made(yes.clone()) } else { not_made }
    }
}

/// A booking as the provider holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its reference, and whether it is confirmed or reserved.
    pub acknowledgement: Acknowledgement,
    /// Its slot; `None` if the provider does not tell.
    pub slot: Option<Slot>,
    /// The number of the last operation that the provider has decided; `None` if it does not tell.
    pub operation: Option<u32>,
}

/// What came of one compensating cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompensationOutcome {
    /// The provider cancelled, or had already.
    Acknowledged,
    /// The provider knows no such booking.
    NoSuchBooking,
    /// The provider refuses to cancel.
    Declined,
    /// No usable answer, sent or not.
    Failed(AttemptError),
}

/// Why an attempt failed. It holds no text from outside, so that it can be logged and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptError {
    /// No connection could be made: refused, unresolvable, or TLS failed.
    ConnectionFailed,
    /// The target is an address that the deployment does not allow.
    TargetRefused,
    /// The provider's circuit is open; nothing was sent.
    CircuitOpen,
    /// The provider is called as often, or by as many at once, as it may be; nothing was sent.
    LimitReached,
    /// The lease was over before the request could be sent.
    LeaseOver,
    /// No answer within the time limit.
    TimedOut,
    /// The connection broke before the answer was complete.
    ConnectionLost,
    /// A status that is neither a yes nor a definite no.
    HttpStatus(u16),
    /// A status that says that Holdfast is misconfigured at this provider: 401, 403, 405 or 415.
    Misconfigured(u16),
    /// An answer that the protocol does not allow, or one that is too large.
    UnusableAnswer,
    /// The provider took the request and will call back.
    AcceptedForLater,
    /// The worker that held the lease did not report.
    WorkerLost,
}

impl AttemptError {
    /// Whether the caller is told of a time-out (504) rather than a failure (502).
    pub fn is_timeout(self) -> bool {
        match self {
            Self::TimedOut | Self::AcceptedForLater | Self::WorkerLost | Self::LeaseOver => true,
            Self::ConnectionFailed
            | Self::TargetRefused
            | Self::CircuitOpen
            | Self::LimitReached
            | Self::ConnectionLost
            | Self::HttpStatus(_)
            | Self::Misconfigured(_)
            | Self::UnusableAnswer => false,
        }
    }

    /// The code that the API shows and the store keeps.
    pub fn code(self) -> String {
        match self {
            Self::ConnectionFailed => "connection_failed".to_owned(),
            Self::TargetRefused => "target_refused".to_owned(),
            Self::CircuitOpen => "circuit_open".to_owned(),
            Self::LimitReached => "limit_reached".to_owned(),
            Self::LeaseOver => "lease_over".to_owned(),
            Self::TimedOut => "timed_out".to_owned(),
            Self::ConnectionLost => "connection_lost".to_owned(),
            Self::HttpStatus(status) => format!("http_{status}"),
            Self::Misconfigured(status) => format!("misconfigured_{status}"),
            Self::UnusableAnswer => "unusable_answer".to_owned(),
            Self::AcceptedForLater => "accepted_for_later".to_owned(),
            Self::WorkerLost => "worker_lost".to_owned(),
        }
    }

    /// Reads a [`Self::code`].
    pub fn parse(code: &str) -> Option<Self> {
        if let Some(status) = code.strip_prefix("http_") {
            return status.parse().ok().map(Self::HttpStatus);
        }
        if let Some(status) = code.strip_prefix("misconfigured_") {
            return status.parse().ok().map(Self::Misconfigured);
        }
        [
            Self::ConnectionFailed,
            Self::TargetRefused,
            Self::CircuitOpen,
            Self::LimitReached,
            Self::LeaseOver,
            Self::TimedOut,
            Self::ConnectionLost,
            Self::UnusableAnswer,
            Self::AcceptedForLater,
            Self::WorkerLost,
        ]
        .into_iter()
        .find(|error| error.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRES_AT_MS: u64 = 1_800_000_900_000;

    fn at(unix_ms: u64) -> Timestamp {
        Timestamp::EPOCH.plus_ms(unix_ms)
    }

    fn slot(start_ms: u64) -> Slot {
        Slot {
            location_id: "main".to_owned(),
            start: at(start_ms),
            end: at(start_ms + 1),
            resource_id: None,
            service_id: None,
        }
    }

    fn operation(change: Change) -> Operation {
        Operation {
            change,
            number: 2,
            patience: Patience::Background,
            deadline_at: at(0),
            attempts: 1,
            last_error: None,
            unanswered_send_at: None,
            resolve_until: None,
            overtaken: None,
            phase: Phase::Waiting { next_attempt_at: at(0) },
        }
    }

    fn judged(
        change: Change,
        reserved_until: Option<u64>,
        slot_ms: Option<u64>,
        last: Option<u32>,
    ) -> Judgement {
        let operation = operation(change);
        let acknowledgement =
            Acknowledgement { provider_reference: None, reserved_until: reserved_until.map(at) };
        let found = Found { acknowledgement, slot: slot_ms.map(slot), operation: last };
        operation.judge(&slot(1), Some(at(EXPIRES_AT_MS)), &found)
    }

    #[test]
    fn a_worker_may_send_until_its_lease_ends_unless_it_only_looks() {
        let leased = Operation {
            unanswered_send_at: Some(at(10)),
            phase: Phase::InFlight { lease_until: at(20) },
            ..operation(Change::Confirm)
        };
        assert_eq!(leased.may_be_sent_at(), Some(at(20)));
        let looking = Operation { resolve_until: Some(at(100)), ..leased.clone() };
        assert_eq!(looking.may_be_sent_at(), Some(at(10)));
        let waiting = Operation { phase: Phase::Waiting { next_attempt_at: at(20) }, ..leased };
        assert_eq!(waiting.may_be_sent_at(), Some(at(10)));
    }

    #[test]
    fn a_hold_that_is_still_one_was_not_confirmed() {
        let unchanged = judged(Change::Confirm, Some(EXPIRES_AT_MS), Some(1), None);
        assert_eq!(unchanged, Judgement::NotMade { decided: false });
        assert!(matches!(judged(Change::Confirm, None, Some(1), None), Judgement::Made(_)));
    }

    #[test]
    fn a_no_is_decided_once_the_provider_has_answered_this_operation_or_a_later_one() {
        for (last, decided) in [(None, false), (Some(1), false), (Some(2), true), (Some(3), true)] {
            let judgement = judged(Change::Confirm, Some(EXPIRES_AT_MS), Some(1), last);
            assert_eq!(judgement, Judgement::NotMade { decided });
        }
    }

    #[test]
    fn a_hold_was_extended_if_it_ends_later_than_before_even_if_earlier_than_asked_for() {
        let extend = || Change::Extend { expires_at: at(EXPIRES_AT_MS + 1_000) };
        let same = judged(extend(), Some(EXPIRES_AT_MS), Some(1), None);
        assert_eq!(same, Judgement::NotMade { decided: false });
        for until in [Some(EXPIRES_AT_MS + 1), Some(EXPIRES_AT_MS + 1_000), None] {
            assert!(matches!(judged(extend(), until, Some(1), None), Judgement::Made(_)));
        }
    }

    #[test]
    fn a_reschedule_is_judged_by_the_slot_alone() {
        let to_two = |slot_ms| judged(Change::Reschedule(slot(2)), None, slot_ms, Some(2));
        assert!(matches!(to_two(Some(2)), Judgement::Made(_)));
        assert_eq!(to_two(Some(1)), Judgement::NotMade { decided: true });
        assert_eq!(to_two(Some(3)), Judgement::Unclear, "a third slot");
        assert_eq!(to_two(None), Judgement::Unclear, "a provider that does not tell");
    }

    #[test]
    fn a_booking_that_is_found_was_made_and_is_not_cancelled() {
        assert!(matches!(judged(Change::Book, None, None, None), Judgement::Made(_)));
        let cancel = judged(Change::Cancel(Withdrawal::default()), None, None, None);
        assert_eq!(cancel, Judgement::NotMade { decided: false });
    }

    #[test]
    fn codes_of_errors_are_read_back() {
        for error in [
            AttemptError::LimitReached,
            AttemptError::CircuitOpen,
            AttemptError::WorkerLost,
            AttemptError::HttpStatus(503),
            AttemptError::Misconfigured(401),
        ] {
            assert_eq!(AttemptError::parse(&error.code()), Some(error));
        }
        assert_eq!(AttemptError::parse("http_"), None);
    }
}
