//! Repairs of single bookings: retry, end, emit again.

use holdfast_domain::{Command, Refused, Status, transition};
use serde::Deserialize;
use serde_json::{Value, json};

use super::view::operator_view;
use super::{Operator, ReasonBody, Repair, booking_id, check_reason, no_booking, problem};
use crate::bookings::{MAX_CONFLICTS, contention_problem};
use crate::parse::parse_checked;
use crate::ports::{
    AuditLog, BookingStore, Clock, Entropy, EventBus, NotificationMailbox, RecordParking, Replaced,
    TimerQueue,
};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::stored::{StoredBooking, replace};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmitBody {
    reason: String,
    from_version: Option<u32>,
}

/// What came of a command.
pub(super) enum Changed {
    /// The booking is as it is now.
    Done(StoredBooking),
    /// The command does not apply to the booking as it is.
    Refused(StoredBooking, Refused),
    /// There is no such booking.
    Gone,
}

impl<S, L, D, T, B, M, P, C, E> Repair<S, L, D, T, B, M, P, C, E>
where
    S: BookingStore,
    L: AuditLog,
    T: TimerQueue,
    B: EventBus,
    M: NotificationMailbox,
    P: RecordParking,
    C: Clock,
    E: Entropy,
{
    /// A booking as operators see it.
    pub async fn booking(&self, id: &str) -> Result<Value, Problem> {
        let seen = self.seen(id).await?;
        Ok(operator_view(&seen.booking, self.clock.now()))
    }

    /// What waits for a booking is due now, and what was given up begins anew: a compensation that failed, the last
    /// word to a provider that could not be told. A repetition changes nothing more.
    pub async fn retry(&self, operator: &Operator, id: &str, body: &Value) -> Result<Value, Problem> {
        let seen = self.asked(operator, "retry", id, body).await?;
        match self.change(seen, Command::RetryNow).await? {
            Changed::Done(now) => Ok(self.answer(&now, true)),
            Changed::Refused(_, Refused::TooManyVersions) => Err(too_many_versions()),
            Changed::Refused(now, _) => Ok(self.answer(&now, false)),
            Changed::Gone => Err(no_booking()),
        }
    }

    /// A booking ends as cancelled, whatever its provider says, and what the provider may hold is compensated. One
    /// that is cancelled already stays as it is.
    pub async fn cancel(&self, operator: &Operator, id: &str, body: &Value) -> Result<Value, Problem> {
        let seen = self.asked(operator, "cancel", id, body).await?;
        match self.change(seen, Command::CancelByOperator).await? {
            Changed::Done(now) => Ok(self.answer(&now, true)),
            Changed::Refused(now, Refused::Settled { status: Status::Cancelled }) => {
                Ok(self.answer(&now, false))
            }
            Changed::Refused(_, Refused::TooManyVersions) => Err(too_many_versions()),
            Changed::Refused(now, refused) => {
                let detail = format!("The booking cannot be cancelled: {refused}.");
                Err(Problem::new(ProblemCode::StatusConflict, detail).about(&now.booking.id))
            }
            Changed::Gone => Err(no_booking()),
        }
    }

    /// Publishes the events of a booking again, from a version on, with the ids that they have: who knows one takes
    /// it for a repetition. Those of earlier versions say less than they did: see
    /// [`effects_again`](holdfast_domain::effects_again).
    pub async fn emit_again(&self, operator: &Operator, id: &str, body: &Value) -> Result<Value, Problem> {
        let (body, mut errors) = parse_checked::<EmitBody>(body)?.into_parts();
        check_reason(&mut errors, &body.reason);
        let from_version = body.from_version.unwrap_or(1);
        if from_version == 0 {
            errors.push("/from_version", "must be 1 or more");
        }
        errors.finish()?;
        let seen = self.seen(id).await?;
        self.note(operator, "re_emit", seen.booking.id.as_str(), &body.reason).await?;
        let events = self.carry_out_again(&seen, from_version..=u32::MAX, false).await;
        let events = events.map_err(|error| problem(&error))?;
        Ok(json!({ "booking_id": seen.booking.id.as_str(), "events": events }))
    }

    async fn seen(&self, id: &str) -> Result<StoredBooking, Problem> {
        let seen = self.bookings.read(&booking_id(id)?).await.map_err(|error| problem(&error))?;
        seen.ok_or_else(no_booking)
    }

    /// Reads the body of a repair and the booking, and writes down that it is about to be repaired.
    async fn asked(
        &self,
        operator: &Operator,
        action: &str,
        id: &str,
        body: &Value,
    ) -> Result<StoredBooking, Problem> {
        let (body, mut errors) = parse_checked::<ReasonBody>(body)?.into_parts();
        check_reason(&mut errors, &body.reason);
        errors.finish()?;
        let seen = self.seen(id).await?;
        self.note(operator, action, seen.booking.id.as_str(), &body.reason).await?;
        Ok(seen)
    }

    /// Applies a command to a booking as it is, however often others write meanwhile.
    pub(super) async fn change(&self, mut seen: StoredBooking, command: Command) -> Result<Changed, Problem> {
        for _ in 0..MAX_CONFLICTS {
            let changed = match transition(&seen.booking, command.clone(), self.clock.now()) {
                Ok(transition) => transition.booking,
                Err(refused) => return Ok(Changed::Refused(seen, refused)),
            };
            let next = seen.with_booking(changed);
            match replace(&self.bookings, &seen, &next).await {
                Ok(Replaced::Done) => return Ok(Changed::Done(next)),
                Ok(Replaced::Conflict(current)) => seen = *current,
                // A repair takes no slot that the booking does not have.
                Ok(Replaced::Gone | Replaced::SlotTaken) => return Ok(Changed::Gone),
                Err(error) => return Err(problem(&error)),
            }
        }
        Err(contention_problem(SideEffects::None))
    }

    fn answer(&self, now: &StoredBooking, changed: bool) -> Value {
        json!({ "changed": changed, "booking": operator_view(&now.booking, self.clock.now()) })
    }
}

fn too_many_versions() -> Problem {
    Problem::new(ProblemCode::TooManyChanges, "The booking has as many versions as it may have.")
}
