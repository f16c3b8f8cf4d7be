//! OCTO, Open Connectivity for Tourism: which requests an operation takes, and in which order. A single
//! request is in [`talk`], what answers mean is in [`answers`], the bodies are in [`wire`]. What is open is asked
//! in [`availability`], which has nothing to do with any booking.
//!
//! A booking takes three requests: the availability check finds the slot's `availabilityId`, the reservation
//! holds it, and the confirmation books it; a hold stops after the second. All of them are made in one
//! attempt. A later attempt first asks how far an earlier one came and goes on from there. A look-up takes
//! a reservation where a booking is wanted for nothing found, so that such an attempt is made.
//!
//! Suppliers differ in how they answer what they were asked before: with the booking, or with an error. So an
//! error that may mean this is settled by asking for the booking.

mod answers;
mod availability;
mod talk;
mod wire;

use holdfast_app::ports::{
    AttemptReport, Clock, CompensationCall, CompensationReport, NotificationReport, ProviderCall,
};
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, Change, CompensationOutcome, LookUpOutcome, Slot, Timestamp,
};

use self::answers::{INVALID_AVAILABILITY_ID, INVALID_BOOKING_UUID, Known, No, Reply};
use self::talk::Talk;
use self::wire::{BookingAnswer, Order, Status};
use crate::calling::{Caller, message_id};
use crate::outcomes::CancelOutcome;

/// Calls suppliers that speak OCTO.
pub(crate) struct Octo<'c, C>(pub(crate) &'c Caller<C>);

impl<C: Clock> Octo<'_, C> {
    pub(crate) async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        let ProviderCall { provider, booking, operation_number, attempt, limit_ms } = call;
        let message_id = message_id(booking, operation_number, attempt);
        let mut talk = Talk::new(self.0, provider, booking, message_id, limit_ms);
        let is_repeated = attempt > 1;
        let change = booking.operation.as_ref().map_or(&Change::Book, |operation| &operation.change);
        let outcome = match change {
            Change::Book => talk.book(is_repeated).await,
            Change::Confirm => talk.confirm_hold().await,
            Change::Extend { expires_at } => talk.extend_hold(*expires_at).await,
            Change::Reschedule(slot) => talk.move_to(slot, is_repeated).await,
            Change::Cancel(_) => match talk.withdraw().await {
                Ok(outcome) => outcome.of_attempt(),
                Err(error) => AttemptOutcome::NotSent(error),
            },
        };
        AttemptReport { outcome, retry_after_ms: talk.retry_after_ms }
    }

    pub(crate) async fn look_up(
        &self,
        provider: &ProviderSettings,
        booking: &Booking,
        limit_ms: u64,
    ) -> LookUpOutcome {
        let message_id = format!("{}:look_up:{}", booking.id, self.0.now().as_unix_ms());
        let mut talk = Talk::new(self.0, provider, booking, message_id, limit_ms);
        let known = talk.get().await;
        answers::look_up(known, booking, talk.hold_end(), talk.retry_after_ms)
    }

    pub(crate) async fn compensate(&self, call: CompensationCall<'_>) -> CompensationReport {
        let CompensationCall { provider, booking, operation_number, attempt, limit_ms } = call;
        let message_id = message_id(booking, operation_number, attempt);
        let mut talk = Talk::new(self.0, provider, booking, message_id, limit_ms);
        let outcome = match talk.withdraw().await {
            Ok(outcome) => outcome.of_compensation(),
            Err(error) => CompensationOutcome::Failed(error),
        };
        CompensationReport { outcome, retry_after_ms: talk.retry_after_ms }
    }

    /// There is no message in OCTO that tells a supplier of a booking: it books itself, and a provider that
    /// is told cannot be configured with this protocol. Nothing is sent.
    pub(crate) fn notify() -> NotificationReport {
        NotificationReport { error: Some(AttemptError::UnusableAnswer), retry_after_ms: None }
    }
}

impl<C: Clock> Talk<'_, C> {
    async fn book(&mut self, is_repeated: bool) -> AttemptOutcome {
        let order = match Order::new(self.provider, self.booking, &self.booking.slot) {
            Ok(order) => order,
            Err(rejection) => return AttemptOutcome::Declined(rejection),
        };
        if is_repeated {
            match self.get().await {
                Known::Booking(answer) => return self.go_on_from(answer).await,
                Known::Nothing => {}
                Known::Failed(error) => return AttemptOutcome::NotSent(error),
            }
        }
        let reply = match self.reserve_as_shown(&order, is_repeated).await {
            Some(reply) => reply,
            None => match self.find_availability(&order).await {
                Ok(availability_id) => self.reserve(&order, &availability_id).await,
                Err(outcome) => return outcome,
            },
        };
        match reply {
            Reply::Yes(answer) => self.go_on_from(answer).await,
            Reply::No(no) if no.is_senseless() => AttemptOutcome::Declined(no.rejection(self.provider)),
            Reply::No(no) => match self.get().await {
                Known::Booking(answer) => self.go_on_from(answer).await,
                Known::Nothing => AttemptOutcome::Declined(no.rejection(self.provider)),
                Known::Failed(error) => AttemptOutcome::Unknown(error),
            },
            Reply::Later => AttemptOutcome::Unknown(AttemptError::AcceptedForLater),
            Reply::NotSent(error) => AttemptOutcome::NotSent(error),
            Reply::Unknown(error) => AttemptOutcome::Unknown(error),
        }
    }

    /// Reserves by the supplier's own name for the slot, if the consumer was shown it: that spares a request. `None` if
    /// it was not, or if the supplier does not know that name any more.
    async fn reserve_as_shown(
        &mut self,
        order: &Order<'_>,
        is_repeated: bool,
    ) -> Option<Reply<BookingAnswer>> {
        let availability_id = self.booking.request.availability_id.as_deref().filter(|_| !is_repeated)?;
        match self.reserve(order, availability_id).await {
            Reply::No(no) if no.code == INVALID_AVAILABILITY_ID => None,
            reply => Some(reply),
        }
    }

    /// The booking is there. If it is held where a booking is wanted, it is confirmed.
    async fn go_on_from(&mut self, answer: BookingAnswer) -> AttemptOutcome {
        let wants_hold = self.booking.request.hold;
        if answer.status != Status::OnHold || wants_hold {
            return answer.outcome(self.provider, Some(self.hold_end()));
        }
        // From here on something is held, so that nothing counts as not sent any more.
        match self.confirm().await {
            Reply::Yes(answer) => answer.outcome(self.provider, None),
            Reply::No(no) => match self.get().await {
                Known::Booking(answer) if answer.status == Status::OnHold => self.release(no).await,
                Known::Booking(answer) => answer.outcome(self.provider, None),
                Known::Nothing => AttemptOutcome::Declined(no.rejection(self.provider)),
                Known::Failed(error) => AttemptOutcome::Unknown(error),
            },
            Reply::Later => AttemptOutcome::Unknown(AttemptError::AcceptedForLater),
            Reply::NotSent(error) | Reply::Unknown(error) => AttemptOutcome::Unknown(error),
        }
    }

    /// Gives back what is held for a booking whose confirmation was refused. Only then is that a definite
    /// no; otherwise the next attempt, or the compensation, has to see to it.
    async fn release(&mut self, no: No) -> AttemptOutcome {
        match self.withdraw().await {
            Ok(CancelOutcome::Done | CancelOutcome::NoSuchBooking) => {
                AttemptOutcome::Declined(no.rejection(self.provider))
            }
            Ok(CancelOutcome::Declined(_)) => AttemptOutcome::Unknown(AttemptError::HttpStatus(no.status)),
            Ok(CancelOutcome::Unknown(error)) | Err(error) => AttemptOutcome::Unknown(error),
        }
    }

    /// Confirms what the consumer has held.
    async fn confirm_hold(&mut self) -> AttemptOutcome {
        match self.confirm().await {
            Reply::Yes(answer) => answer.outcome(self.provider, None),
            Reply::No(no) => match self.get().await {
                Known::Booking(answer) if answer.status == Status::OnHold => {
                    AttemptOutcome::Declined(no.rejection(self.provider))
                }
                Known::Booking(answer) => answer.outcome(self.provider, None),
                Known::Nothing => AttemptOutcome::Declined(no.rejection(self.provider)),
                Known::Failed(error) => AttemptOutcome::Unknown(error),
            },
            other => self.without_answer(other),
        }
    }

    async fn extend_hold(&mut self, expires_at: Timestamp) -> AttemptOutcome {
        match self.extend(expires_at).await {
            Reply::Yes(answer) => answer.outcome(self.provider, Some(expires_at)),
            other => self.without_answer(other),
        }
    }

    async fn move_to(&mut self, slot: &Slot, is_repeated: bool) -> AttemptOutcome {
        let order = match Order::new(self.provider, self.booking, slot) {
            Ok(order) => order,
            Err(rejection) => return AttemptOutcome::Declined(rejection),
        };
        if is_repeated {
            match self.get().await {
                Known::Booking(answer) if answer.is_at(&order) => {
                    return answer.outcome(self.provider, Some(self.hold_end()));
                }
                Known::Booking(_) | Known::Nothing => {}
                Known::Failed(error) => return AttemptOutcome::NotSent(error),
            }
        }
        let availability_id = match self.find_availability(&order).await {
            Ok(id) => id,
            Err(outcome) => return outcome,
        };
        match self.reschedule(&order, &availability_id).await {
            Reply::Yes(answer) if answer.is_at(&order) || answer.is_ended() => {
                answer.outcome(self.provider, Some(self.hold_end()))
            }
            Reply::Yes(_) => AttemptOutcome::Unknown(AttemptError::UnusableAnswer),
            Reply::No(no) => match self.get().await {
                Known::Booking(answer) if answer.is_at(&order) => {
                    answer.outcome(self.provider, Some(self.hold_end()))
                }
                Known::Booking(_) | Known::Nothing => AttemptOutcome::Declined(no.rejection(self.provider)),
                Known::Failed(error) => AttemptOutcome::Unknown(error),
            },
            other => self.without_answer(other),
        }
    }

    /// What comes of a single request that was not answered with a booking.
    fn without_answer(&self, reply: Reply<BookingAnswer>) -> AttemptOutcome {
        match reply {
            Reply::No(no) => AttemptOutcome::Declined(no.rejection(self.provider)),
            Reply::Later => AttemptOutcome::Unknown(AttemptError::AcceptedForLater),
            Reply::NotSent(error) => AttemptOutcome::NotSent(error),
            Reply::Yes(_) => AttemptOutcome::Unknown(AttemptError::UnusableAnswer),
            Reply::Unknown(error) => AttemptOutcome::Unknown(error),
        }
    }

    /// Cancels, whatever there is. Fails only if nothing was sent.
    async fn withdraw(&mut self) -> Result<CancelOutcome, AttemptError> {
        let (refusal, error) = match self.cancel().await {
            Reply::Yes(answer) if answer.is_ended() => return Ok(CancelOutcome::Done),
            Reply::Later => return Ok(CancelOutcome::Unknown(AttemptError::AcceptedForLater)),
            Reply::NotSent(error) => return Err(error),
            // A uuid that the supplier knows after all: it contradicts itself.
            Reply::No(no) if no.code == INVALID_BOOKING_UUID => (None, AttemptError::UnusableAnswer),
            Reply::No(no) => {
                let error = AttemptError::HttpStatus(no.status);
                (Some(no), error)
            }
            Reply::Yes(_) => (None, AttemptError::UnusableAnswer),
            Reply::Unknown(error @ (AttemptError::UnusableAnswer | AttemptError::HttpStatus(404))) => {
                (None, error)
            }
            Reply::Unknown(error) => return Ok(CancelOutcome::Unknown(error)),
        };
        // Whether it was cancelled before, was never there or is refused is not told apart by codes.
        Ok(match (self.get().await, refusal) {
            (Known::Booking(answer), _) if answer.is_ended() => CancelOutcome::Done,
            (Known::Nothing, _) => CancelOutcome::NoSuchBooking,
            (Known::Booking(_), Some(no)) => CancelOutcome::Declined(no.rejection(self.provider)),
            (Known::Booking(_), None) => CancelOutcome::Unknown(error),
            (Known::Failed(error), _) => CancelOutcome::Unknown(error),
        })
    }
}

#[cfg(test)]
mod tests;
