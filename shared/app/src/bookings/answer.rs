//! What the caller of a create or an operation is told, derived from the item alone.
//!
//! No response to a keyed request leaves before its bytes are in the item. Whoever must answer and finds
//! none writes them; whoever finds some returns those.

use holdfast_domain::{
    AttemptError, Booking, Cancellation, CancellationReason, Change, Compensation, Patience, Phase,
    RefusalReason, State, Status, Timestamp,
};
use serde_json::json;

use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::stored::{FrozenResponse, OperationKey, OperationRecord, StoredBooking};
use crate::view::{RejectionView, booking_view};

/// The status of a booking that was made and is settled.
const CREATED: u16 = 201;
/// The status of a booking that is still pending.
const ACCEPTED: u16 = 202;

/// A response to a create or an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, exactly. A problem if the status is 400 or more.
    pub body: Vec<u8>,
    /// After how many seconds it makes sense to look again, for a pending booking.
    pub retry_after_s: Option<u64>,
}

/// The status of an operation that is done.
const OK: u16 = 200;

/// What a response is to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    /// The create.
    Create,
    /// An operation after the create.
    Operation(AskedOperation<'a>),
}

/// Which operation a response is to.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskedOperation<'a> {
    /// Its idempotency key, if it came with one.
    pub(super) key: Option<OperationKey>,
    /// What was asked for.
    pub(super) change: &'a Change,
    /// Its number; zero if the provider did not have to be asked.
    pub(super) number: u32,
}

/// Under which request an answer is given; a problem's body names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestName<'a> {
    pub(super) path: &'a str,
    pub(super) request_id: &'a str,
}

impl Answer {
    /// The response that was given to the first request.
    pub(super) fn frozen(response: &FrozenResponse, booking: &Booking, now: Timestamp) -> Self {
        let retry_after_s = (response.status == ACCEPTED).then(|| retry_after_s(booking, now));
        Self { status: response.status, body: response.body.clone(), retry_after_s }
    }

    /// The response that a booking's state calls for.
    pub(super) fn from_state(
        booking: &Booking,
        asked: Asked<'_>,
        name: RequestName<'_>,
        now: Timestamp,
    ) -> Result<Self, serde_json::Error> {
        match asked {
            Asked::Create => Self::to_create(booking, name, now),
            Asked::Operation(operation) => Self::to_operation(booking, operation, name, now),
        }
    }

    fn to_operation(
        booking: &Booking,
        operation: AskedOperation<'_>,
        name: RequestName<'_>,
        now: Timestamp,
    ) -> Result<Self, serde_json::Error> {
        let AskedOperation { change, number, .. } = operation;
        let in_flight = booking.operation.as_ref().filter(|in_flight| in_flight.number == number);
        let refusal = booking.refusal.as_ref().filter(|refusal| refusal.operation == number);
        let problem = match (in_flight, refusal) {
            (Some(in_flight), _) if in_flight.patience == Patience::Synchronous => {
                Some(unresolved(in_flight.last_error).with_side_effects(SideEffects::Unknown))
            }
            (Some(_), _) => None,
            (None, Some(refusal)) => Some(refused(&refusal.reason)),
            (None, None) => unsaid_end(booking, change, number),
        };
        if let Some(problem) = problem {
            return Self::problem(&problem.about(&booking.id), name);
        }
        let body = serde_json::to_vec(&booking_view(booking))?;
        Ok(if in_flight.is_some() {
            Self { status: ACCEPTED, body, retry_after_s: Some(retry_after_s(booking, now)) }
        } else {
            Self { status: OK, body, retry_after_s: None }
        })
    }

    fn problem(problem: &Problem, name: RequestName<'_>) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_vec(&problem.body(name.path, name.request_id))?;
        Ok(Self { status: problem.code.status(), body, retry_after_s: None })
    }

    fn to_create(
        booking: &Booking,
        name: RequestName<'_>,
        now: Timestamp,
    ) -> Result<Self, serde_json::Error> {
        let problem = match &booking.state {
            State::Pending => {
                let body = serde_json::to_vec(&booking_view(booking))?;
                return Ok(Self { status: ACCEPTED, body, retry_after_s: Some(retry_after_s(booking, now)) });
            }
            State::Reserved { .. } | State::Confirmed | State::Completed | State::NoShow | State::Expired => {
                let body = serde_json::to_vec(&booking_view(booking))?;
                return Ok(Self { status: CREATED, body, retry_after_s: None });
            }
            State::Rejected(rejection) => {
                let detail = rejection.message.as_deref().unwrap_or("The provider declined the booking.");
                Problem::new(ProblemCode::BookingDeclined, detail)
                    .with_extension("rejection", json!(RejectionView::new(rejection)))
            }
            // It was made, as this late answer has to say, and withdrawn since.
            State::Cancelled(_) if was_acknowledged(booking) => {
                let body = serde_json::to_vec(&booking_view(booking))?;
                return Ok(Self { status: CREATED, body, retry_after_s: None });
            }
            State::Cancelled(Cancellation::BySystem(reason)) => given_up(*reason),
            State::Cancelled(Cancellation::ByConsumer(_) | Cancellation::ByProvider(_)) => Problem::new(
                ProblemCode::StatusConflict,
                "The booking was cancelled before it was confirmed.",
            ),
        };
        Self::problem(&problem.about(&booking.id).with_side_effects(side_effects(booking)), name)
    }

    fn freeze(&self) -> FrozenResponse {
        FrozenResponse { status: self.status, body: self.body.clone() }
    }
}

/// Why an operation came to nothing.
fn refused(reason: &RefusalReason) -> Problem {
    match reason {
        RefusalReason::Declined(rejection) => {
            let detail = rejection.message.as_deref().unwrap_or("The provider refused the change.");
            Problem::new(ProblemCode::OperationDeclined, detail)
                .with_extension("rejection", json!(RejectionView::new(rejection)))
        }
        RefusalReason::Unresolved => Problem::new(
            ProblemCode::ProviderTimeout,
            "The provider did not answer, and nobody could find out whether it made the change.",
        )
        .with_side_effects(SideEffects::Unknown),
        RefusalReason::Failed(AttemptError::CircuitOpen | AttemptError::LimitReached) => {
            provider_unavailable()
        }
        RefusalReason::Failed(error) if error.is_timeout() => Problem::new(
            ProblemCode::ProviderTimeout,
            "The provider did not make the change in time; the booking is as it was.",
        ),
        RefusalReason::Failed(_) => {
            Problem::new(ProblemCode::ProviderFailed, "The provider failed; the booking is as it was.")
        }
    }
}

/// The provider was asked for a change and did not answer; whether it made the change is being found out.
fn unresolved(error: Option<AttemptError>) -> Problem {
    let found_out = "The booking stays as it is until the provider has said what became of the change.";
    match error {
        Some(error) if !error.is_timeout() => {
            Problem::new(ProblemCode::ProviderFailed, format!("The provider failed. {found_out}"))
        }
        Some(_) | None => Problem::new(
            ProblemCode::ProviderTimeout,
            format!("The provider did not answer in time. {found_out}"),
        ),
    }
}

/// The problem with an operation that is over without a refusal, if it was not made.
fn unsaid_end(booking: &Booking, change: &Change, number: u32) -> Option<Problem> {
    let in_flight = booking.operation.as_ref();
    let is_overtaken = in_flight.is_some_and(|operation| {
        operation.overtaken.as_ref().is_some_and(|overtaken| overtaken.number == number)
    });
    let has_ended = matches!(booking.status(), Status::Rejected | Status::Cancelled | Status::Expired);
    let is_cancel = matches!(change, Change::Cancel(_));
    if !is_cancel && (is_overtaken || has_ended) {
        let how = if is_overtaken { "being cancelled" } else { booking.status().as_str() };
        let problem = Problem::new(ProblemCode::StatusConflict, format!("The booking was {how} meanwhile."));
        // The request may have reached the provider, unless that only lets through; the cancel undoes what
        // it did.
        let side_effects =
            if booking.confirmation.tells() { SideEffects::None } else { SideEffects::Unknown };
        return Some(problem.with_side_effects(side_effects));
    }
    // A later refusal has taken the place of this one's.
    let is_refused = number > 0 && !was_made(booking, change);
    is_refused.then(|| Problem::new(ProblemCode::OperationDeclined, "The provider refused the change."))
}

/// Whether the booking is, or was, as a change makes it.
fn was_made(booking: &Booking, change: &Change) -> bool {
    match change {
        Change::Cancel(_) => booking.status() == Status::Cancelled,
        Change::Confirm => booking.status() != Status::Reserved,
        // The provider may have granted less time than was asked for.
        Change::Book | Change::Extend { .. } => true,
        Change::Reschedule(slot) => {
            let mut left = booking.history.iter().filter_map(|entry| entry.moved_from.as_ref());
            booking.slot == *slot || left.any(|left| left == slot)
        }
    }
}

fn was_acknowledged(booking: &Booking) -> bool {
    booking.history.iter().any(|entry| matches!(entry.status, Status::Reserved | Status::Confirmed))
}

fn given_up(reason: CancellationReason) -> Problem {
    match reason {
        CancellationReason::ProviderFailed => {
            Problem::new(ProblemCode::ProviderFailed, "The provider failed; the booking is cancelled.")
        }
        CancellationReason::ProviderUnavailable => provider_unavailable(),
        CancellationReason::Operator => {
            Problem::new(ProblemCode::StatusConflict, "The booking was cancelled before it was confirmed.")
        }
        CancellationReason::ProviderTimeout | CancellationReason::ConfirmationTimeout => Problem::new(
            ProblemCode::ProviderTimeout,
            "The provider did not answer in time; the booking is cancelled.",
        ),
    }
}

/// The provider's circuit is open.
pub(super) fn provider_unavailable() -> Problem {
    Problem::new(
        ProblemCode::ProviderUnavailable,
        "The provider failed several times in a row, or is called as often as it may be, and is not called \
         for a moment.",
    )
}

/// Whether the provider may have acted. What was undone has happened all the same, and a replay that is
/// answered late says what an early one would have said.
fn side_effects(booking: &Booking) -> SideEffects {
    match booking.compensation {
        Compensation::NotNeeded => SideEffects::None,
        Compensation::Underway(_) | Compensation::Done | Compensation::Failed => SideEffects::Unknown,
    }
}

/// After how many seconds a pending booking may have changed; at least one.
pub(super) fn retry_after_s(booking: &Booking, now: Timestamp) -> u64 {
    let next = match booking.operation.as_ref().map(|operation| operation.phase) {
        Some(Phase::Waiting { next_attempt_at }) => now.ms_until(next_attempt_at),
        Some(Phase::InFlight { .. }) | None => 0,
    };
    next.div_ceil(1000).max(1)
}

impl StoredBooking {
    /// The item with `answer` frozen in it, where the request came with a key and has none yet.
    pub(super) fn freezing(mut self, asked: Asked<'_>, answer: &Answer) -> Self {
        if let Some(response) = self.response_slot(asked)
            && response.is_none()
        {
            *response = Some(answer.freeze());
        }
        self
    }

    fn response_slot(&mut self, asked: Asked<'_>) -> Option<&mut Option<FrozenResponse>> {
        match asked {
            Asked::Create => self.create.as_mut().map(|create| &mut create.response),
            Asked::Operation(operation) => self
                .operations
                .iter_mut()
                .find(|record| Some(record.key) == operation.key)
                .map(|record| &mut record.response),
        }
    }

    /// The frozen response, if there is one.
    pub(super) fn response(&self, asked: Asked<'_>) -> Option<&FrozenResponse> {
        match asked {
            Asked::Create => self.create.as_ref()?.response.as_ref(),
            Asked::Operation(operation) => self.operation_record(operation.key)?.response.as_ref(),
        }
    }

    /// Whether the request came with a key and its response has to be frozen before it may leave.
    pub(super) fn lacks_response(&self, asked: Asked<'_>) -> bool {
        let is_keyed = match asked {
            Asked::Create => self.create.is_some(),
            Asked::Operation(operation) => self.operation_record(operation.key).is_some(),
        };
        is_keyed && self.response(asked).is_none()
    }

    fn operation_record(&self, key: Option<OperationKey>) -> Option<&OperationRecord> {
        self.operations.iter().find(|record| Some(record.key) == key)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::{BookingId, HistoryEntry, Slot, Withdrawal};

    use super::*;
    use crate::stored::{CreateRecord, Fingerprint};
    use crate::test_util;

    fn now() -> Timestamp {
        Timestamp::EPOCH.plus_ms(1_800_000_000_000)
    }

    fn pending() -> Booking {
        test_util::pending(BookingId::from_bytes([1; 16]), now())
    }

    fn confirmed() -> Booking {
        Booking { state: State::Confirmed, operation: None, ..pending() }
    }

    #[test]
    fn a_replay_of_an_answer_that_asked_for_patience_does_so_again() {
        let frozen = |status| {
            let response = FrozenResponse { status, body: b"{}".to_vec() };
            Answer::frozen(&response, &pending(), now())
        };
        assert_eq!(frozen(ACCEPTED).retry_after_s, Some(1));
        assert_eq!(frozen(201).retry_after_s, None);
    }

    #[test]
    fn only_an_answer_to_a_key_has_to_be_frozen_and_only_once() {
        let unkeyed = test_util::stored(pending());
        assert!(!unkeyed.lacks_response(Asked::Create));
        let response = FrozenResponse { status: 201, body: Vec::new() };
        let with = |response| {
            let fingerprint = Fingerprint([0; 32]);
            let create = CreateRecord { fingerprint, generation: 0, superseded_by: None, response };
            StoredBooking { create: Some(create), ..unkeyed.clone() }
        };
        assert!(with(None).lacks_response(Asked::Create));
        assert!(!with(Some(response)).lacks_response(Asked::Create));
    }

    #[test]
    fn a_change_was_made_if_the_booking_is_as_it_makes_it() {
        let booking = confirmed();
        let elsewhere = Slot { location_id: "other".to_owned(), ..booking.slot.clone() };
        let reserved = Booking { state: State::Reserved { expires_at: now() }, ..booking.clone() };
        assert!(was_made(&booking, &Change::Confirm) && !was_made(&reserved, &Change::Confirm));
        assert!(was_made(&booking, &Change::Reschedule(booking.slot.clone())));
        assert!(!was_made(&booking, &Change::Reschedule(elsewhere.clone())));
        let mut moved_on = booking.clone();
        let entry = moved_on.history[0].clone();
        moved_on.history.push(HistoryEntry { moved_from: Some(elsewhere.clone()), ..entry });
        assert!(was_made(&moved_on, &Change::Reschedule(elsewhere)), "it was there once");
        assert!(!was_made(&booking, &Change::Cancel(Withdrawal::default())));
        // What did not have to be asked for, number zero, is never refused.
        let said = |number| unsaid_end(&booking, &Change::Cancel(Withdrawal::default()), number);
        assert_eq!(said(2).map(|problem| problem.code), Some(ProblemCode::OperationDeclined));
        assert_eq!(said(0), None);
    }
}
