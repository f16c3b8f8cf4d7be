//! What one exploration is about, and where it ends.

use holdfast_domain::{OperationKind, Patience, Timestamp};

/// When every world begins, in milliseconds since the epoch: 2027-01-15T08:00:00Z.
const BEGINNING_UNIX_MS: u64 = 1_800_000_000_000;

/// The synchronous limit of every request, in milliseconds.
pub(crate) const SYNC_MS: u64 = 2_500;
/// By how much the lease of a request's attempt outlasts its limit, in milliseconds, as in the engine.
pub(crate) const REQUEST_GRACE_MS: u64 = 1_000;
/// By how much a background lease outlasts its calls, in milliseconds, as in the engine.
pub(crate) const BACKGROUND_GRACE_MS: u64 = 5_000;
/// How long a look-up may take, in milliseconds, as in the engine.
pub(crate) const LOOK_UP_MS: u64 = 10_000;
/// How long a background attempt waits for its answer, in milliseconds: the default of the settings.
pub(crate) const ATTEMPT_MS: u64 = 30_000;
/// The background limit of every request, in milliseconds. It leaves room for three attempts.
pub(crate) const ASYNC_MS: u64 = 100_000;
/// For how long an open circuit keeps an attempt back, in milliseconds, as in the engine.
pub(crate) const SHUT_MS: u64 = 30_000;
/// How late a booking is when the sweep takes it for forgotten, in milliseconds, as in the engine.
pub(crate) const OVERDUE_MS: u64 = 60_000;
/// When a queue hands a message out again whose worker is gone, in milliseconds. A message that nothing
/// else stands in for is late by no more than this.
pub(crate) const REDELIVERY_MS: u64 = 900_000;
/// For how long the provider holds a slot, in milliseconds: less than the background limit, so that a hold
/// ends while its change is in flight.
pub(crate) const HOLD_MS: u64 = 80_000;
/// How late a request may arrive at a provider that does not remember cancels, in milliseconds: "no such
/// booking" is believed one millisecond later.
pub(crate) const MAX_UNDERWAY_MS: u64 = holdfast_domain::MIN_SETTLE_WINDOW_MS - 1;

/// How many timers are worked on at once. Workers that are frozen do not count.
pub(crate) const RETRY_WORKERS: usize = 2;
/// How often the sweep re-arms a booking that does not change. Each of its timers can be lost, but there are
/// fewer faults than that: if it has not changed by then, it never will.
pub(crate) const MAX_USELESS_SWEEPS: u8 = 8;

/// How often an item is written at the most. None needs half as many: one that does comes to no end.
pub(crate) const MAX_WRITES: u32 = 100;

/// In what providers differ. All of them honour the idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Habits {
    /// Whether it keeps a cancel of a booking that it does not know in mind, takes no operation that is older than
    /// what it has decided, and tells in a look-up what that was, as the native protocol wants it. Others take
    /// whatever arrives.
    pub(crate) remembers: bool,
    /// Whether it may make a booking that it has declined, and withdraw what it holds.
    pub(crate) is_moody: bool,
    /// Whether it never answers a compensating cancel.
    pub(crate) is_down_for_cancels: bool,
}

impl Habits {
    /// A provider of the native protocol.
    pub(crate) const NATIVE: Self = Self { remembers: true, is_moody: false, is_down_for_cancels: false };

    /// A provider that only honours the idempotency key.
    pub(crate) const FORGETFUL: Self = Self { remembers: false, ..Self::NATIVE };
}

/// What the consumer asks for after the create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wish {
    /// The hold is to become a booking.
    Confirm(Patience),
    /// The booking is to be withdrawn.
    Cancel,
}

impl Wish {
    pub(crate) fn kind(self) -> OperationKind {
        match self {
            Self::Confirm(_) => OperationKind::Confirm,
            Self::Cancel => OperationKind::Cancel,
        }
    }
}

/// One exploration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// What the consumer who books waits for.
    pub(crate) patience: Patience,
    /// Whether only a hold is asked for.
    pub(crate) hold: bool,
    /// How many requests come under the create's idempotency key, the first included.
    pub(crate) creates: u8,
    /// What is asked for afterwards, in this order, each at any moment.
    pub(crate) wishes: &'static [Wish],
    /// How many things go otherwise than they should.
    pub(crate) faults: u8,
    /// The delay before the next attempt, in milliseconds.
    pub(crate) retry_ms: u64,
    pub(crate) habits: Habits,
}

impl Bounds {
    /// A booking alone.
    pub(crate) const fn book(patience: Patience, faults: u8, habits: Habits) -> Self {
        Self { patience, hold: false, creates: 1, wishes: &[], faults, retry_ms: 20_000, habits }
    }
}

/// The first moment of every world.
pub(crate) fn beginning() -> Timestamp {
    Timestamp::EPOCH.plus_ms(BEGINNING_UNIX_MS)
}
