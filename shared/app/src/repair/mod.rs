//! What those who operate the system look at and set right without writing code: what is stuck, dead letters,
//! single bookings. Each repair may be repeated, and is written down, with who asked for it and why, before it is
//! done: nothing happens that is not in the log.
//!
//! Nothing here shows or takes personal data but the operator's own words, which stay in the log.

mod audit;
mod booking;
mod period;
mod redrive;
mod stuck;
mod view;

pub use audit::AuditParameters;
pub use stuck::StuckParameters;

use std::ops::RangeInclusive;
use std::time::Duration;

use data_encoding::HEXLOWER;
use holdfast_domain::{BookingId, Effect};
use serde::Deserialize;

use crate::outbox;
use crate::parse::FieldErrors;
use crate::ports::{
    AuditEntry, AuditLog, Clock, Entropy, EventBus, NotificationMailbox, OutgoingEvent, RecordParking,
    StoreError, TimerMessage, TimerQueue,
};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::stored::StoredBooking;
use crate::text::{TextKind, judge_text};

/// The longest reason that an operator may give, in characters.
const MAX_REASON_CHARS: usize = 500;

/// When a call that works on many takes up no more of them. An answer has 30 s at the gateway.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Who repairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The id of the key that was presented, or `bootstrap`.
    pub key_id: String,
}

/// Repairs, over what they need of the world.
#[derive(Debug)]
pub struct Repair<S, L, D, T, B, M, P, C, E> {
    /// The bookings.
    pub bookings: S,
    /// The log of repairs.
    pub audit: L,
    /// The dead letters.
    pub letters: D,
    /// The timers.
    pub timers: T,
    /// The event bus.
    pub bus: B,
    /// Where notifications are kept for providers that fetch them.
    pub mailbox: M,
    /// Where bookings are raised that somebody has to look at.
    pub parking: P,
    /// Tells the time.
    pub clock: C,
    /// Tells entries of one moment apart.
    pub entropy: E,
}

/// The body of a repair that needs nothing but a reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    reason: String,
}

fn check_reason(errors: &mut FieldErrors, reason: &str) {
    if let Err(detail) = judge_text(reason, TextKind::Line, MAX_REASON_CHARS) {
        errors.push("/reason", detail);
    }
}

fn booking_id(text: &str) -> Result<BookingId, Problem> {
    BookingId::parse(text).map_err(|_| no_booking())
}

fn no_booking() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such booking.")
}

fn problem(error: &StoreError) -> Problem {
    crate::bookings::store_problem(error, SideEffects::None)
}

impl<S, L, D, T, B, M, P, C, E> Repair<S, L, D, T, B, M, P, C, E>
where
    L: AuditLog,
    T: TimerQueue,
    B: EventBus,
    M: NotificationMailbox,
    P: RecordParking,
    C: Clock,
    E: Entropy,
{
    /// Writes down what is about to be done.
    async fn note(
        &self,
        operator: &Operator,
        action: &str,
        subject: &str,
        reason: &str,
    ) -> Result<(), Problem> {
        let entry = AuditEntry {
            at: self.clock.now(),
            nonce: HEXLOWER.encode(&self.entropy.u64().to_be_bytes()),
            key_id: operator.key_id.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            reason: reason.to_owned(),
        };
        self.audit.add(&entry).await.map_err(|error| problem(&error))?;
        tracing::warn!(key.id = operator.key_id, action, subject, "An operator repairs.");
        Ok(())
    }

    /// Carries out what followed from these versions of a booking once more. Returns how many events were published.
    /// All is tried, whatever fails of it; then the first failure is the answer.
    async fn carry_out_again(
        &self,
        seen: &StoredBooking,
        versions: RangeInclusive<u32>,
        raises: bool,
    ) -> Result<usize, StoreError> {
        let booking = &seen.booking;
        let mut events: Vec<OutgoingEvent> = Vec::new();
        let mut timers = Vec::new();
        let mut results = Vec::new();
        for effect in holdfast_domain::effects_again(booking, versions) {
            match effect {
                Effect::Emit(event) => match outbox::outgoing(booking, &event) {
                    Ok(event) => events.push(event),
                    Err(_) => results.push(Err(StoreError::Corrupt("an event is not JSON".to_owned()))),
                },
                Effect::ArmTimer { due_at } => timers.push(TimerMessage::new(&booking.id, due_at)),
                Effect::Keep(notification) => {
                    results.push(self.mailbox.keep(&outbox::kept(booking, notification)).await);
                }
                Effect::DeadLetter { reason, version } if raises => {
                    let record = outbox::record(booking, version, version, reason.as_str());
                    results.push(self.parking.dead_letter(&record).await);
                }
                Effect::DeadLetter { .. } | Effect::Occupy(_) => {}
            }
        }
        if !events.is_empty() {
            results.extend(self.bus.publish(&events).await);
        }
        if !timers.is_empty() {
            results.extend(self.timers.arm(&timers, self.clock.now()).await);
        }
        // What may succeed another time comes first: then all of it is for another time.
        let for_another_time =
            |result: &Result<(), StoreError>| matches!(result, Err(StoreError::Unavailable(_)));
        results.sort_by_key(|result| !for_another_time(result));
        results.into_iter().collect::<Result<(), StoreError>>()?;
        Ok(events.len())
    }
}

#[cfg(test)]
mod tests;
