//! Bookings: creating, reading, confirming in the background, hearing from providers.
//!
//! One [`Engine`] makes every attempt, over ports. The booking function runs the first inside the request,
//! the retry function all others, and both go through the same code. Reading and hearing from providers
//! need the store alone.

mod accept;
mod acknowledge;
mod answer;
mod attempt;
mod background;
mod breakers;
mod change_request;
mod create;
mod fetch;
mod limits;
mod list;
mod notify;
mod operate;
mod pass;
mod read;
mod replay;
mod request;
mod resolve;
mod timers;

pub use acknowledge::{
    Acknowledged, DECLINED_BY_PROVIDER, DEFAULT_HOLD_MS, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS,
    ProviderAnswer, ProviderCaller, ProviderVerdict, acknowledge, cancel_by_provider, read_provider_answer,
    tell_attendance,
};
pub use answer::Answer;
pub use breakers::{Breakers, FAILURE_THRESHOLD, OPEN_MS, Permit};
pub use change_request::{
    KeyTerms, ReadChange, ValidChange, read_attendance, read_change, read_provider_cancel,
};
pub use create::{CreateCall, Created};
pub use fetch::{
    DEFAULT_FETCHED, FetchCall, Fetched, MAX_FETCHED, fetch_notifications, release_notifications,
};
pub use limits::{Admission, Limits, Ticket};
pub use list::{
    DEFAULT_LIST_LIMIT, ListParameters, Listed, MAX_LIST_LIMIT, MAX_LOOKED_AT, ValidList, list, read_list,
};
pub use operate::{Operated, OperationCall};
pub use read::{MAX_WAIT_S, Read, erase_customer, owned, read, retry_after_s};
pub use request::{
    DEFAULT_ASYNC_TIMEOUT_MS, DEFAULT_SYNC_TIMEOUT_MS, MAX_ASYNC_TIMEOUT_MS, MAX_ID_CHARS, MAX_SLOT_AHEAD_MS,
    MAX_SYNC_TIMEOUT_MS, MIN_ASYNC_TIMEOUT_MS, MIN_SYNC_TIMEOUT_MS, NamedSlot, ReadCreate, ValidCreate,
    read_create,
};
pub use timers::{SWEEP_LIMIT, TimerOutcome};

pub(crate) use request::MAX_SLOT_LENGTH_MS;

use holdfast_domain::BookingId;

use crate::ports::{BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway, StoreError};
use crate::problem::{Problem, ProblemCode, SideEffects};

/// How often a write that lost against others is tried on the item as it is then. Every loser sees a
/// newer item, and an item has a bounded number of writers.
pub(crate) const MAX_CONFLICTS: u32 = 20;

/// How often an item is looked at while somebody else is at work on it, in milliseconds.
const POLL_MS: u64 = 250;

/// The use cases of bookings, over what they need of the world.
#[derive(Debug)]
pub struct Engine<S, G, B, C, E> {
    store: S,
    gateway: G,
    breakers: Breakers<B>,
    limits: Limits,
    clock: C,
    entropy: E,
}

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// An engine over these ports.
    pub fn new(store: S, gateway: G, breakers: Breakers<B>, clock: C, entropy: E) -> Self {
        Self { store, gateway, breakers, limits: Limits::default(), clock, entropy }
    }

    /// The store of bookings.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The breakers, so that whoever reads one together with something else can pass it on.
    pub fn breakers(&self) -> &Breakers<B> {
        &self.breakers
    }
}

/// What a caller is told when the store fails. `side_effects` says whether something was sent before.
pub(crate) fn store_problem(error: &StoreError, side_effects: SideEffects) -> Problem {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "The booking store is not available.");
            Problem::new(ProblemCode::StoreUnavailable, "Storage is not available at the moment.")
                .with_side_effects(side_effects)
                .retry_after_s(1)
        }
        StoreError::Corrupt(_) | StoreError::Refused(_) => {
            tracing::error!(%error, "The booking store failed.");
            Problem::new(ProblemCode::Internal, "The request could not be completed.")
                .with_side_effects(side_effects)
        }
    }
}

/// The key of a repetition was used with another body.
fn key_reused_problem() -> Problem {
    let detail = "The key stands for another request; this one was not passed on.";
    Problem::new(ProblemCode::IdempotencyKeyReused, detail)
}

/// The first request with the key of a repetition has no answer yet.
fn in_flight_problem(id: &BookingId) -> Problem {
    Problem::new(ProblemCode::RequestInFlight, "The first request with this key is still being worked on.")
        .with_side_effects(SideEffects::Unknown)
        .retry_after_s(1)
        .about(id)
}

/// Another booking has the slot.
fn slot_taken_problem() -> Problem {
    Problem::new(ProblemCode::SlotTaken, "Another booking has this slot.")
}

/// The provider said not long ago that the slot cannot be booked.
fn slot_unavailable_problem() -> Problem {
    Problem::new(ProblemCode::SlotUnavailable, "The provider does not offer this slot.")
}

/// An item that loses every race is a fault of ours, not of the caller's.
pub(crate) fn contention_problem(side_effects: SideEffects) -> Problem {
    tracing::warn!("A booking's item was changed by others too often.");
    Problem::new(ProblemCode::StoreUnavailable, "The booking is being changed by many at once.")
        .with_side_effects(side_effects)
        .retry_after_s(1)
}
