//! Random beginnings and random moves. A move is relative to the booking that it meets, so that most
//! moves mean something and shrinking keeps them meaningful.

use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, CompensationOutcome, ConfirmationMode, NotificationRoute,
    Patience, Rejection, Timestamp,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// When the worlds begin: 2027-01-15T08:00:00Z, in milliseconds since the Unix epoch.
pub(crate) const BEGINNING_UNIX_MS: i64 = 1_800_000_000_000;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many slots the worlds know.
pub(crate) const SLOTS: u8 = 3;

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
    pub(crate) mode: ConfirmationMode,
    pub(crate) route: NotificationRoute,
}

impl Beginning {
    /// A booking that its provider confirms, begun with an attempt.
    pub(crate) fn confirmed_by_provider(patience: Patience, async_ms: u64) -> Self {
        Self {
            patience,
            lease_ms: 3_500,
            async_ms,
            circuit_open: false,
            mode: ConfirmationMode::Confirm,
            route: NotificationRoute::Push,
        }
    }

    /// The patience that the engine gives such a booking: one that waits cannot be synchronous.
    pub(crate) fn patience(&self) -> Patience {
        if self.circuit_open { Patience::Background } else { self.patience }
    }
}

/// What a consumer wishes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    Confirm,
    /// From the end of the hold so far, or from now.
    Extend {
        by_ms: u64,
    },
    Reschedule {
        to: u8,
    },
    Cancel,
}

/// Which operation a provider's call names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Names {
    None,
    InFlight,
    /// The one before.
    Earlier,
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
    /// A worker's look-up finds that the provider has not made the change.
    FindUnchanged { which: Index, asked_ago_ms: u64, decided: bool, settle_window_ms: u64 },
    /// The provider calls back with a yes.
    CallYes { hold_ms: Option<u64>, names: Names },
    /// The provider calls back with a no.
    CallNo { names: Names },
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
    /// The consumer asks for a change; the request's lease and the deadline, later than it.
    Begin { wish: Wish, patience: Patience, lease_ms: u64, async_ms: u64 },
    /// The provider withdraws.
    Withdraw,
    /// The provider tells whether the customer came.
    TellAttendance { attended: bool },
    /// The consumer has the customer's data erased.
    Erase,
    /// A worker claims the next attempt to tell the provider, due or not.
    ClaimNotification { lease_ms: u64 },
    /// The provider cannot be told now; with `None` that was the last time.
    PutOffNotification { delay_ms: Option<u64>, error: AttemptError, is_skipped: bool },
    /// A worker that tells the provider reports; it failed if there is an error.
    ReportNotification { which: Index, error: Option<AttemptError>, retry_ms: Option<u64> },
    /// Somebody finds that the provider has not fetched in time.
    GiveUpNotification,
    /// The provider fetches what it is to be told, or acknowledges what it fetched before.
    Fetch { earlier: bool },
    /// An operator has what waits done now.
    RetryNow,
    /// An operator ends the booking.
    EndByOperator,
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

fn any_window_ms() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0_u64..=120_000, 1 => Just(u64::MAX)]
}

fn any_lease_ms() -> impl Strategy<Value = u64> {
    1_u64..=75_000
}

pub(crate) fn any_patience() -> impl Strategy<Value = Patience> {
    prop_oneof![Just(Patience::Synchronous), Just(Patience::Background)]
}

fn any_mode() -> impl Strategy<Value = ConfirmationMode> {
    prop_oneof![
        4 => Just(ConfirmationMode::Confirm),
        1 => Just(ConfirmationMode::Notify),
        1 => Just(ConfirmationMode::RealTime),
    ]
}

pub(crate) fn any_beginning() -> impl Strategy<Value = Beginning> {
    (
        any_patience(),
        1_000_u64..=11_000,
        60_000_u64..=2 * DAY_MS,
        prop::bool::weighted(0.2),
        any_mode(),
        prop_oneof![2 => Just(NotificationRoute::Push), 1 => Just(NotificationRoute::Pull)],
    )
        .prop_map(|(patience, lease_ms, async_ms, circuit_open, mode, route)| Beginning {
            patience,
            lease_ms,
            async_ms,
            circuit_open,
            mode,
            route,
        })
}

/// A beginning of a booking whose provider is told.
pub(crate) fn any_told_beginning() -> impl Strategy<Value = Beginning> {
    (any_beginning(), any::<bool>()).prop_map(|(beginning, notify)| Beginning {
        mode: if notify { ConfirmationMode::Notify } else { ConfirmationMode::RealTime },
        ..beginning
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

pub(crate) fn any_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        2 => Just(Wish::Confirm),
        2 => (0_u64..DAY_MS).prop_map(|by_ms| Wish::Extend { by_ms }),
        3 => (0..SLOTS).prop_map(|to| Wish::Reschedule { to }),
        2 => Just(Wish::Cancel),
    ]
}

fn any_names() -> impl Strategy<Value = Names> {
    prop_oneof![Just(Names::None), Just(Names::InFlight), Just(Names::Earlier)]
}

/// A move that a provider, a consumer or the time makes.
fn any_outside_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => any_span_ms().prop_map(Move::Sleep),
        2 => (prop::option::of(any_span_ms()), any_names())
            .prop_map(|(hold_ms, names)| Move::CallYes { hold_ms, names }),
        2 => any_names().prop_map(|names| Move::CallNo { names }),
        10 => (any_wish(), any_patience(), any_lease_ms(), 60_000_u64..=2 * DAY_MS).prop_map(
            |(wish, patience, lease_ms, async_ms)| Move::Begin { wish, patience, lease_ms, async_ms }
        ),
        1 => Just(Move::Withdraw),
        1 => any::<bool>().prop_map(|attended| Move::TellAttendance { attended }),
        1 => Just(Move::Erase),
        2 => any::<bool>().prop_map(|earlier| Move::Fetch { earlier }),
        2 => Just(Move::RetryNow),
        1 => Just(Move::EndByOperator),
    ]
}

/// A move of a worker of Holdfast's.
fn any_worker_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => (any_lease_ms(), prop::bool::weighted(0.2))
            .prop_map(|(lease_ms, circuit_open)| Move::DoWhatIsDue { lease_ms, circuit_open }),
        2 => any_lease_ms().prop_map(|lease_ms| Move::Claim { lease_ms }),
        2 => any_span_ms().prop_map(|delay_ms| Move::Postpone { delay_ms }),
        8 => (any::<Index>(), any_outcome(), any_span_ms())
            .prop_map(|(which, outcome, retry_delay_ms)| Move::Report { which, outcome, retry_delay_ms }),
        1 => any::<Index>().prop_map(|which| Move::FindEnded { which }),
        3 => (any::<Index>(), any_span_ms(), prop::bool::weighted(0.3), any_window_ms()).prop_map(
            |(which, asked_ago_ms, decided, settle_window_ms)| Move::FindUnchanged {
                which,
                asked_ago_ms,
                decided,
                settle_window_ms
            }
        ),
        1 => Just(Move::GiveUp),
        1 => any_lease_ms().prop_map(|lease_ms| Move::ClaimCompensation { lease_ms }),
        6 => (any::<Index>(), any_span_ms(), any_compensation_outcome(), any_span_ms(), any_window_ms())
            .prop_map(|(which, asked_ago_ms, outcome, retry_delay_ms, settle_window_ms)| {
                Move::ReportCompensation { which, asked_ago_ms, outcome, retry_delay_ms, settle_window_ms }
            }),
        1 => Just(Move::GiveUpCompensation),
        1 => Just(Move::ExpireHold),
        1 => any_lease_ms().prop_map(|lease_ms| Move::ClaimNotification { lease_ms }),
        1 => (prop::option::weighted(0.8, any_span_ms()), any_error(), any::<bool>())
            .prop_map(|(delay_ms, error, is_skipped)| Move::PutOffNotification { delay_ms, error, is_skipped }),
        3 => (any::<Index>(), prop::option::weighted(0.6, any_error()), prop::option::of(any_span_ms()))
            .prop_map(|(which, error, retry_ms)| Move::ReportNotification { which, error, retry_ms }),
        1 => Just(Move::GiveUpNotification),
    ]
}

/// A change that ends unknown and is looked up afterwards; its booking may be a hold.
fn any_resolution() -> impl Strategy<Value = Vec<Move>> {
    let unknown = any_error().prop_map(AttemptOutcome::Unknown);
    (prop::option::of(Just(DAY_MS)), any_wish(), any::<Index>(), unknown, 0_u64..1_300_000, any::<bool>())
        .prop_map(|(hold_ms, wish, which, outcome, wait_ms, decided)| {
            let begin =
                Move::Begin { wish, patience: Patience::Synchronous, lease_ms: 3_500, async_ms: 60_000 };
            vec![
                Move::CallYes { hold_ms, names: Names::None },
                begin,
                Move::Report { which, outcome, retry_delay_ms: wait_ms },
                Move::DoWhatIsDue { lease_ms: 30_000, circuit_open: false },
                Move::FindUnchanged { which, asked_ago_ms: 0, decided, settle_window_ms: 0 },
                // If nobody finds out, it is over after a day.
                Move::Sleep(if decided { 0 } else { DAY_MS }),
                Move::DoWhatIsDue { lease_ms: 30_000, circuit_open: false },
            ]
        })
}

/// A cancel that overtakes a change, and is refused or not answered; the change may be answered meanwhile.
fn any_overtaking() -> impl Strategy<Value = Vec<Move>> {
    let answer = prop_oneof![Just(AttemptOutcome::Declined(no())), any_outcome()];
    (prop::option::of(Just(DAY_MS)), any_wish(), any::<Index>(), any_outcome(), answer).prop_map(
        |(hold_ms, wish, which, outcome, answer)| {
            let begin = |wish| Move::Begin {
                wish,
                patience: Patience::Background,
                lease_ms: 3_500,
                async_ms: 900_000,
            };
            vec![
                Move::CallYes { hold_ms, names: Names::None },
                begin(wish),
                begin(Wish::Cancel),
                Move::Report { which, outcome, retry_delay_ms: 1_000 },
                Move::Report { which, outcome: answer, retry_delay_ms: 1_000 },
            ]
        },
    )
}

pub(crate) fn any_moves() -> impl Strategy<Value = Vec<Move>> {
    let scene = prop_oneof![
        12 => any_outside_move().prop_map(|next| vec![next]),
        18 => any_worker_move().prop_map(|next| vec![next]),
        1 => any_resolution(),
        1 => any_overtaking(),
    ];
    prop::collection::vec(scene, 0..55).prop_map(|scenes| scenes.concat())
}
