//! The pure core of Holdfast: bookings, the operation in flight, what may follow what, and when.
//!
//! Everything here is a value or a total function of values. There is no clock, no randomness, no
//! network and no storage: times and random numbers are handed in, and what has to happen in the world
//! comes out as data ([`effects`], [`next_step`]). The functions, the simulation and the model checker
//! all run this very code.

mod booking;
mod effects;
mod ids;
mod operation;
mod personal;
mod schedule;
mod step;
mod time;
mod transition;

pub use booking::{
    Booking, BookingRequest, Cancellation, CancellationReason, Cause, Compensation, CompensationRun,
    Customer, HistoryEntry, MAX_VERSIONS, Refusal, Rejection, Slot, State, Status, UnitQuantity, Withdrawal,
};
pub use effects::{DeadLetterReason, Effect, Event, EventType, effects, events_since};
pub use ids::{
    BookingId, ConsumerId, EventId, IdError, KeyId, MAX_NAME_CHARS, Mode, ProviderId, Tenant,
    WebhookEndpointId,
};
pub use operation::{
    Acknowledgement, AttemptError, AttemptOutcome, Change, CompensationOutcome, LookUpOutcome, Operation,
    OperationKind, Patience, Phase,
};
pub use personal::Personal;
pub use schedule::{RetryPolicy, RetryPolicyError};
pub use step::{Step, next_step};
pub use time::{Timestamp, TimestampError};
pub use transition::{
    COMPENSATION_LIMIT_MS, CancelRequest, Command, CompensationRecord, MIN_SETTLE_WINDOW_MS, Refused,
    Transition, transition,
};
