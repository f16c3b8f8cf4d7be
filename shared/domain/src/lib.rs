//! The pure core of Holdfast: bookings, the operation in flight, what may follow what, and when.
//!
//! Everything here is a value or a total function of values. There is no clock, no randomness, no
//! network and no storage: times and random numbers are handed in, and what has to happen in the world
//! comes out as data ([`effects`], [`next_step`]). The functions, the simulation and the model checker
//! all run this very code.

mod availability;
mod booking;
mod effects;
mod history;
mod ids;
mod notification;
mod operation;
mod personal;
mod schedule;
mod step;
mod time;
mod transition;
mod zone;

pub use availability::{Hold, OpenSlot, Price, SlotChange, open_after, slot_changes};
pub use booking::{
    Booking, BookingRequest, Cancellation, CancellationReason, Compensation, CompensationRun, Customer,
    MAX_VERSIONS, Refusal, RefusalReason, Rejection, Slot, State, Status, UnitQuantity, Withdrawal,
};
pub use effects::{DeadLetterReason, Effect, Event, EventType, effects, effects_again, events_since};
pub use history::{Cause, HistoryEntry};
pub use ids::{
    BookingId, ConsumerId, EventId, IdError, KeyId, LocationId, MAX_LOCATION_ID_CHARS, MAX_NAME_CHARS, Mode,
    ProviderId, Tenant, WebhookEndpointId,
};
pub use notification::{ConfirmationMode, FETCH_LIMIT_MS, Notification, NotificationKind, NotificationRoute};
pub use operation::{
    Acknowledgement, AttemptError, AttemptOutcome, Change, CompensationOutcome, Found, Judgement,
    LookUpOutcome, Operation, OperationKind, Overtaken, Patience, Phase,
};
pub use personal::Personal;
pub use schedule::{RetryPolicy, RetryPolicyError};
pub use step::{Step, next_step};
pub use time::{Timestamp, TimestampError};
pub use transition::{
    CLOCK_SKEW_MS, COMPENSATION_LIMIT_MS, ChangeRequest, Command, CompensationRecord, MIN_SETTLE_WINDOW_MS,
    NotificationRecord, RESOLUTION_LIMIT_MS, Refused, Transition, UnchangedRecord, transition,
};
pub use zone::{DateError, LocalDate, Window, Zone, ZoneError};
