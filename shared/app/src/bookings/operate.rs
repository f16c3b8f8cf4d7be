//! A consumer withdraws a booking: the first attempt to cancel it at the provider runs inside the request,
//! all others in the background.
//!
//! The idempotency record of an operation is part of the booking's item, so that the change and its record
//! are one conditional write.

use std::time::Duration;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, BookingId, CancelRequest, Command, Refused, Status, Tenant,
    Timestamp, transition,
};
use tokio::time::sleep;

use super::answer::{Answer, Asked, RequestName};
use super::attempt::{answer_from, not_sent};
use super::create::LEASE_GRACE_MS;
use super::{
    Engine, MAX_CONFLICTS, POLL_MS, Permit, ValidCancel, contention_problem, in_flight_problem,
    key_reused_problem, store_problem,
};
use crate::idempotency::KEY_RETENTION_MS;
use crate::ports::{
    BookingStore, BreakerStore, Clock, Entropy, ProviderGateway, Replaced, SettingsReader, StoreError, Wanted,
};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::settings::ProviderSettings;
use crate::settings_cache::SettingsCache;
use crate::stored::{Fingerprint, OperationKey, OperationRecord, StoredBooking};

/// How many bytes of responses a booking keeps for the keys of its operations before a new key is refused:
/// what the item may hold (400 KB) less the largest booking, the create's response and one more.
const MAX_KEPT_BYTES: usize = 131_072;

/// A cancel, as it came.
#[derive(Clone, Debug)]
pub struct CancelCall<'a> {
    /// Who asks, from the verified key.
    pub tenant: Tenant,
    /// Which booking.
    pub booking_id: BookingId,
    /// The idempotency key, if there is one.
    pub key: Option<OperationKey>,
    /// The fingerprint of the body.
    pub fingerprint: Fingerprint,
    /// For how long a repetition waits for the first request, in seconds.
    pub prefer_wait_s: Option<u64>,
    /// What is asked for.
    pub cancel: ValidCancel,
    /// When the request reached the service. The time limit runs from here.
    pub received_at: Timestamp,
    /// The request's path, for problems.
    pub path: &'a str,
    /// The request's id, for problems.
    pub request_id: &'a str,
}

/// What a cancel led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// The response.
    pub answer: Answer,
    /// Whether the response is that of an earlier request.
    pub replayed: bool,
}

/// What beginning came to.
enum Begun {
    /// The provider is to be asked.
    Asking(Box<StoredBooking>),
    /// There is an answer.
    Answered(Cancelled),
}

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore,
    C: Clock,
    E: Entropy,
{
    /// Cancels a booking, or returns what an earlier request with the same key led to.
    pub async fn cancel<R: SettingsReader>(
        &self,
        call: CancelCall<'_>,
        settings: &SettingsCache<R>,
    ) -> Result<Cancelled, Problem> {
        let seen = match self.begin_cancel(&call).await? {
            Begun::Answered(cancelled) => return Ok(cancelled),
            Begun::Asking(seen) => *seen,
        };
        let name = RequestName { path: call.path, request_id: call.request_id };
        let Some(operation) = seen.booking.operation.clone() else {
            return Err(Problem::new(ProblemCode::Internal, "The booking has no operation."));
        };
        let asked = Asked::Operation { key: call.key, number: operation.number };
        let provider_id = seen.booking.request.provider_id.clone();
        let wanted = Wanted { key_id: None, provider_id: Some(provider_id) };
        let known = match settings.load(&wanted, self.clock.now()).await {
            Ok(known) => known.provider,
            Err(error) => {
                tracing::warn!(booking.id = %seen.booking.id, %error, "A booking's provider cannot be read.");
                None
            }
        };
        let Some(provider) = known else {
            // Nobody can be asked now. The timer goes on with it when the lease is over.
            let (_, answer) = self.settle_and_answer(seen, None, asked, name).await?;
            return Ok(Cancelled { answer, replayed: false });
        };
        let limit = call.received_at.plus_ms(call.cancel.sync_timeout_ms);
        let permit = self.fresh_permit(&provider, call.cancel.sync_timeout_ms).await;
        let report = match permit {
            Permit::Open { .. } => not_sent(AttemptError::CircuitOpen),
            Permit::Closed | Permit::Probe { .. } => self.attempt(&provider, &seen, &operation, limit).await,
        };
        if report.outcome == AttemptOutcome::Unknown(AttemptError::AcceptedForLater) {
            self.await_callback(&seen.booking.id, seen.booking.status(), limit).await;
        }
        let command = self.record_command(&provider, &operation, report.clone());
        let (settled, ()) = tokio::join!(
            self.settle_and_answer(seen, Some(command), asked, name),
            self.breakers.record(&provider.provider_id, &report, permit, self.clock.now()),
        );
        let (stored, answer) = settled?;
        log_outcome(&stored.booking, &provider, answer.status);
        Ok(Cancelled { answer, replayed: false })
    }

    /// Writes that the booking is being cancelled, with the key's record, unless the key was used.
    async fn begin_cancel(&self, call: &CancelCall<'_>) -> Result<Begun, Problem> {
        let name = RequestName { path: call.path, request_id: call.request_id };
        let mut seen = self.owned_item(call).await?;
        for _ in 0..MAX_CONFLICTS {
            let now = self.clock.now();
            if let Some(record) = record_of(&seen, call.key, now) {
                let number = record.number;
                return self.replay_cancel(call, seen, number).await.map(Begun::Answered);
            }
            let command = Command::Cancel(CancelRequest {
                withdrawal: call.cancel.withdrawal.clone(),
                lease_until: call.received_at.plus_ms(call.cancel.sync_timeout_ms + LEASE_GRACE_MS),
                deadline_at: call.received_at.plus_ms(call.cancel.async_timeout_ms),
            });
            let booking = match transition(&seen.booking, command, now) {
                Ok(transition) => transition.booking,
                // It is as the caller wants it. With a key even that is written, for the key to stand for it.
                Err(Refused::Settled { status: Status::Cancelled }) => seen.booking.clone(),
                Err(refused) => return Err(refusal(&seen.booking, refused)),
            };
            let number = booking.operation.as_ref().map_or(0, |operation| operation.number);
            let asked = Asked::Operation { key: call.key, number };
            let answer = answer_from(&booking, asked, name, now)?;
            let is_asked = booking.operation.is_some();
            if call.key.is_none() && booking == seen.booking {
                return Ok(Begun::Answered(Cancelled { answer, replayed: false }));
            }
            if call.key.is_some() && kept_bytes(&seen, now) >= MAX_KEPT_BYTES {
                let detail = "The booking has as many idempotency records as it may have.";
                return Err(Problem::new(ProblemCode::TooManyChanges, detail).about(&call.booking_id));
            }
            let mut next = with_record(seen.with_booking(booking), call, number, now);
            if !is_asked {
                next = next.freezing(asked, &answer);
            }
            match self.store.replace(seen.rev, &next).await {
                Ok(Replaced::Done) if is_asked => return Ok(Begun::Asking(Box::new(next))),
                Ok(Replaced::Done) => return Ok(Begun::Answered(Cancelled { answer, replayed: false })),
                Ok(Replaced::Conflict(current)) => seen = *current,
                Ok(Replaced::Gone) => return Err(not_found()),
                Err(error) => {
                    let side_effects = begin_side_effects(&error);
                    return Err(store_problem(&error, side_effects).about(&call.booking_id));
                }
            }
        }
        Err(contention_problem(SideEffects::None).about(&call.booking_id))
    }

    /// Answers a repetition from the item of the first request.
    async fn replay_cancel(
        &self,
        call: &CancelCall<'_>,
        mut found: StoredBooking,
        number: u32,
    ) -> Result<Cancelled, Problem> {
        let name = RequestName { path: call.path, request_id: call.request_id };
        let asked = Asked::Operation { key: call.key, number };
        let wait_until = self.clock.now().plus_ms(call.prefer_wait_s.unwrap_or(0) * 1000);
        loop {
            let now = self.clock.now();
            let Some(record) = record_of(&found, call.key, now) else {
                return Err(Problem::new(ProblemCode::Internal, "The key's record is gone."));
            };
            if record.fingerprint != call.fingerprint {
                return Err(key_reused_problem());
            }
            if let Some(response) = &record.response {
                let answer = Answer::frozen(response, &found.booking, now);
                return Ok(Cancelled { answer, replayed: true });
            }
            let is_at_work = found.booking.operation.as_ref().is_some_and(|operation| {
                operation.number == number && operation.attempts == 1 && operation.phase.is_leased(now)
            });
            if !is_at_work {
                let (_, answer) = self.settle_and_answer(found, None, asked, name).await?;
                return Ok(Cancelled { answer, replayed: true });
            }
            if now >= wait_until {
                return Err(in_flight_problem(&call.booking_id));
            }
            sleep(Duration::from_millis(POLL_MS.min(now.ms_until(wait_until)))).await;
            let looked = self.owned_item(call).await;
            found = looked.map_err(|problem| problem.with_side_effects(SideEffects::Unknown))?;
        }
    }

    async fn owned_item(&self, call: &CancelCall<'_>) -> Result<StoredBooking, Problem> {
        match self.store.read(&call.booking_id).await {
            Ok(Some(stored)) if stored.booking.tenant == call.tenant => Ok(stored),
            Ok(_) => Err(not_found()),
            Err(error) => Err(store_problem(&error, SideEffects::None)),
        }
    }
}

/// The record of a key that still stands for its first request.
fn record_of(stored: &StoredBooking, key: Option<OperationKey>, now: Timestamp) -> Option<&OperationRecord> {
    stored.operations.iter().find(|record| Some(record.key) == key && is_kept(record, now))
}

fn is_kept(record: &OperationRecord, now: Timestamp) -> bool {
    now < record.at.plus_ms(KEY_RETENTION_MS)
}

/// The item with the record of this request's key, without those whose time is over.
fn with_record(
    mut stored: StoredBooking,
    call: &CancelCall<'_>,
    number: u32,
    now: Timestamp,
) -> StoredBooking {
    stored.operations.retain(|record| is_kept(record, now));
    if let Some(key) = call.key {
        let fingerprint = call.fingerprint;
        stored.operations.push(OperationRecord { key, fingerprint, number, at: now, response: None });
    }
    stored
}

/// The bytes of the responses that are kept for keys.
fn kept_bytes(stored: &StoredBooking, now: Timestamp) -> usize {
    let kept = stored.operations.iter().filter(|record| is_kept(record, now));
    kept.filter_map(|record| record.response.as_ref()).map(|response| response.body.len()).sum()
}

/// Whether something may come of a beginning whose write failed. The write may have happened all the same,
/// and then the cancel goes on in the background.
fn begin_side_effects(error: &StoreError) -> SideEffects {
    match error {
        StoreError::Unavailable(_) => SideEffects::Unknown,
        StoreError::Corrupt(_) | StoreError::Refused(_) => SideEffects::None,
    }
}

/// Why a booking cannot be cancelled.
fn refusal(booking: &Booking, refused: Refused) -> Problem {
    let problem = match refused {
        Refused::OperationInFlight => {
            Problem::new(ProblemCode::OperationInFlight, "The booking is being cancelled already.")
                .retry_after_s(1)
        }
        Refused::TooManyVersions => {
            Problem::new(ProblemCode::TooManyChanges, "The booking has as many versions as it may have.")
        }
        _ => Problem::new(
            ProblemCode::StatusConflict,
            format!("The booking is {}; it cannot be cancelled.", booking.status().as_str()),
        ),
    };
    problem.about(&booking.id)
}

fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such booking.")
}

fn log_outcome(booking: &Booking, provider: &ProviderSettings, answered_status: u16) {
    tracing::info!(
        booking.id = %booking.id,
        booking.status = booking.status().as_str(),
        provider.id = %provider.provider_id,
        http.status = answered_status,
        "The first attempt to cancel a booking is over."
    );
}
