//! Random beginnings and random moves. A move is relative to the booking that it meets, so that most
//! moves mean something and shrinking keeps them meaningful.

use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, CompensationOutcome, Patience, Rejection, Timestamp,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// When the worlds begin: 2027-01-15T08:00:00Z, in milliseconds since the Unix epoch.
pub(crate) const BEGINNING_UNIX_MS: i64 = 1_800_000_000_000;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How a booking is claimed.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    pub(crate) patience: Patience,
    /// How long the request's lease lasts.
    pub(crate) lease_ms: u64,
    /// The background deadline, later than the lease.
    pub(crate) async_ms: u64,
    /// Whether the provider's circuit was open, so that nothing is attempted within the request.
    pub(crate) circuit_open: bool,
}

impl Beginning {
    /// The patience that the engine gives such a booking: one that waits cannot be synchronous.
    pub(crate) fn patience(&self) -> Patience {
        if self.circuit_open { Patience::Background } else { self.patience }
    }
}

/// Something that happens in a world.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    /// Time passes.
    Sleep(u64),
    /// Time passes until something is due, and whatever is due is claimed or done; an attempt is put off
    /// if the circuit is open.
    DoWhatIsDue { lease_ms: u64, circuit_open: bool },
    /// A worker claims the next attempt, due or not.
    Claim { lease_ms: u64 },
    /// The circuit is open.
    Postpone { delay_ms: u64 },
    /// A worker that has not reported yet does so; each reports once.
    Report { which: Index, outcome: AttemptOutcome, retry_delay_ms: u64 },
    /// A worker's look-up finds that the provider has ended the booking.
    FindEnded { which: Index },
    /// The provider calls back with a yes.
    CallYes { hold_ms: Option<u64> },
    /// The provider calls back with a no.
    CallNo,
    /// Somebody finds the deadline passed.
    GiveUp,
    /// A worker claims the next attempt of the compensation, due or not.
    ClaimCompensation { lease_ms: u64 },
    /// A worker of the compensation reports, how long ago it asked and what came of it.
    ReportCompensation {
        which: Index,
        asked_ago_ms: u64,
        outcome: CompensationOutcome,
        retry_delay_ms: u64,
        settle_window_ms: u64,
    },
    /// Somebody finds the compensation's time over.
    GiveUpCompensation,
    /// Somebody finds the hold run out.
    ExpireHold,
    /// The consumer withdraws; the request's lease and the deadline, later than it.
    Cancel { lease_ms: u64, async_ms: u64 },
    /// The provider withdraws.
    Withdraw,
    /// The provider tells whether the customer came.
    TellAttendance { attended: bool },
    /// The consumer has the customer's data erased.
    Erase,
}

fn any_span_ms() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0_u64),
        2 => Just(1_u64),
        4 => 1_u64..=10_000,
        4 => 10_000_u64..=130_000,
        1 => 130_000_u64..=2 * DAY_MS,
    ]
}

fn any_lease_ms() -> impl Strategy<Value = u64> {
    1_u64..=75_000
}

pub(crate) fn any_beginning() -> impl Strategy<Value = Beginning> {
    (
        prop_oneof![Just(Patience::Synchronous), Just(Patience::Background)],
        1_000_u64..=11_000,
        60_000_u64..=2 * DAY_MS,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(patience, lease_ms, async_ms, circuit_open)| Beginning {
            patience,
            lease_ms,
            async_ms,
            circuit_open,
        })
}

pub(crate) fn any_error() -> impl Strategy<Value = AttemptError> {
    prop_oneof![
        Just(AttemptError::ConnectionFailed),
        Just(AttemptError::CircuitOpen),
        Just(AttemptError::LeaseOver),
        Just(AttemptError::TimedOut),
        Just(AttemptError::ConnectionLost),
        any::<u16>().prop_map(AttemptError::HttpStatus),
        Just(AttemptError::AcceptedForLater),
        Just(AttemptError::WorkerLost),
    ]
}

pub(crate) fn yes(now: Timestamp, hold_ms: Option<u64>) -> Acknowledgement {
    Acknowledgement {
        provider_reference: Some("R-1".to_owned()),
        reserved_until: hold_ms.map(|hold_ms| now.plus_ms(hold_ms)),
    }
}

pub(crate) fn no() -> Rejection {
    Rejection { code: "declined".to_owned(), message: None, provider_code: Some("full".to_owned()) }
}

fn any_outcome() -> impl Strategy<Value = AttemptOutcome> {
    let beginning = Timestamp::EPOCH.plus_ms(BEGINNING_UNIX_MS.unsigned_abs());
    prop_oneof![
        2 => prop::option::of(0_u64..DAY_MS)
            .prop_map(move |hold_ms| AttemptOutcome::Acknowledged(yes(beginning, hold_ms))),
        1 => Just(AttemptOutcome::Declined(no())),
        3 => any_error().prop_map(AttemptOutcome::NotSent),
        4 => any_error().prop_map(AttemptOutcome::Unknown),
    ]
}

pub(crate) fn any_compensation_outcome() -> impl Strategy<Value = CompensationOutcome> {
    prop_oneof![
        2 => Just(CompensationOutcome::Acknowledged),
        4 => Just(CompensationOutcome::NoSuchBooking),
        1 => Just(CompensationOutcome::Declined),
        3 => any_error().prop_map(CompensationOutcome::Failed),
    ]
}

pub(crate) fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => any_span_ms().prop_map(Move::Sleep),
        8 => (any_lease_ms(), prop::bool::weighted(0.2))
            .prop_map(|(lease_ms, circuit_open)| Move::DoWhatIsDue { lease_ms, circuit_open }),
        2 => any_lease_ms().prop_map(|lease_ms| Move::Claim { lease_ms }),
        2 => any_span_ms().prop_map(|delay_ms| Move::Postpone { delay_ms }),
        8 => (any::<Index>(), any_outcome(), any_span_ms())
            .prop_map(|(which, outcome, retry_delay_ms)| Move::Report { which, outcome, retry_delay_ms }),
        1 => any::<Index>().prop_map(|which| Move::FindEnded { which }),
        1 => prop::option::of(any_span_ms()).prop_map(|hold_ms| Move::CallYes { hold_ms }),
        1 => Just(Move::CallNo),
        1 => Just(Move::GiveUp),
        1 => any_lease_ms().prop_map(|lease_ms| Move::ClaimCompensation { lease_ms }),
        6 => (any::<Index>(), any_span_ms(), any_compensation_outcome(), any_span_ms(), 0_u64..=120_000)
            .prop_map(|(which, asked_ago_ms, outcome, retry_delay_ms, settle_window_ms)| {
                Move::ReportCompensation { which, asked_ago_ms, outcome, retry_delay_ms, settle_window_ms }
            }),
        1 => Just(Move::GiveUpCompensation),
        1 => Just(Move::ExpireHold),
        2 => (any_lease_ms(), 60_000_u64..=2 * DAY_MS)
            .prop_map(|(lease_ms, async_ms)| Move::Cancel { lease_ms, async_ms }),
        1 => Just(Move::Withdraw),
        1 => any::<bool>().prop_map(|attended| Move::TellAttendance { attended }),
        1 => Just(Move::Erase),
    ]
}

pub(crate) fn any_moves() -> impl Strategy<Value = Vec<Move>> {
    prop::collection::vec(any_move(), 0..60)
}
