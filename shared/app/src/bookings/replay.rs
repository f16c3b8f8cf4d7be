//! Answering the repetition of a create from the item of the first request.

use std::time::Duration;

use holdfast_domain::{Command, Patience};
use tokio::time::sleep;

use super::answer::{Answer, Asked, RequestName};
use super::{CreateCall, Created, Engine, POLL_MS, in_flight_problem, key_reused_problem, store_problem};
use crate::idempotency::{KEY_RETENTION_MS, MAX_GENERATIONS};
use crate::ports::{BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::stored::StoredBooking;

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// A request that is refused before anything is written: unless its key has been used, in which case
    /// the first response stands, whatever has changed since.
    pub(super) async fn replay_or(
        &self,
        call: &CreateCall<'_>,
        problem: Problem,
    ) -> Result<Created, Problem> {
        match self.find_used(call).await? {
            Some(used) => self.replay(call, used).await,
            None => Err(problem),
        }
    }

    /// The item of the first request with this request's key, if the key still stands for it.
    pub(super) async fn find_used(&self, call: &CreateCall<'_>) -> Result<Option<StoredBooking>, Problem> {
        let Some(key) = &call.key else { return Ok(None) };
        let mut generation = 0;
        for _ in 0..MAX_GENERATIONS {
            let id = key.booking_id(&call.tenant, generation);
            let found = match self.store.read(&id).await {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(error) => return Err(store_problem(&error, SideEffects::None)),
            };
            let expires_at = found.booking.created_at().plus_ms(KEY_RETENTION_MS);
            match found.create.as_ref().and_then(|create| create.superseded_by) {
                Some(next) => generation = next,
                None if self.clock.now() < expires_at => return Ok(Some(found)),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Answers a repetition from the item of the first request.
    pub(super) async fn replay(
        &self,
        call: &CreateCall<'_>,
        mut found: StoredBooking,
    ) -> Result<Created, Problem> {
        let name = RequestName { path: call.path, request_id: call.request_id };
        let wait_until = self.clock.now().plus_ms(call.prefer_wait_s.unwrap_or(0) * 1000);
        loop {
            // Without a key the item is this request's own: the answer to its claim was lost, and somebody
            // else has written since.
            if found.create.as_ref().is_some_and(|create| create.fingerprint != call.fingerprint) {
                return Err(key_reused_problem());
            }
            let now = self.clock.now();
            let id = found.booking.id.clone();
            if let Some(response) = found.response(Asked::Create) {
                let answer = Answer::frozen(response, &found.booking, now);
                return Ok(Created { booking_id: id, answer, replayed: true });
            }
            if found.create.as_ref().is_some_and(|create| create.superseded_by.is_some()) {
                // The first request gave its claim up; the key is free for the next one.
                let detail = "The first request with this key has just been refused; repeat it.";
                return Err(Problem::new(ProblemCode::RequestInFlight, detail).retry_after_s(1));
            }
            let Some(operation) = &found.booking.operation else {
                return self.answer_now(found, None, name).await;
            };
            if !operation.phase.is_leased(now) || !found.booking.is_within_its_request() {
                // Its worker is gone. The deadline of a caller who waits is the end of the lease.
                let give_up = (operation.patience == Patience::Synchronous).then_some(Command::GiveUp);
                return self.answer_now(found, give_up, name).await;
            }
            if now >= wait_until {
                return Err(in_flight_problem(&id));
            }
            sleep(Duration::from_millis(POLL_MS.min(now.ms_until(wait_until)))).await;
            found = match self.store.read(&id).await {
                Ok(Some(current)) => current,
                Ok(None) => return Err(Problem::new(ProblemCode::Internal, "The booking is gone.")),
                Err(error) => return Err(store_problem(&error, SideEffects::Unknown).about(&id)),
            };
        }
    }

    /// Freezes the answer that the booking's state calls for, after `command` if there is one.
    async fn answer_now(
        &self,
        found: StoredBooking,
        command: Option<Command>,
        name: RequestName<'_>,
    ) -> Result<Created, Problem> {
        let (stored, answer) = self.settle_and_answer(found, command, Asked::Create, name).await?;
        Ok(Created { booking_id: stored.booking.id, answer, replayed: true })
    }
}
