//! A consumer changes a booking: confirms, extends, cancels or reschedules it. The first attempt at the
//! provider runs inside the request, all others in the background.
//!
//! The idempotency record of an operation is part of the booking's item, so that the change and its record
//! are one conditional write.

use std::time::Duration;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, BookingId, Change, ChangeRequest, Command, ConfirmationMode,
    Operation, Patience, Refused, RetryPolicy, Status, Tenant, Timestamp, transition,
};
use tokio::time::sleep;

use super::answer::{Answer, Asked, AskedOperation, RequestName, provider_unavailable};
use super::attempt::{answer_from, not_sent, note_outcome};
use super::change_request::ValidChange;
use super::create::LEASE_GRACE_MS;
use super::pass::{Pass, Shut};
use super::request::invalid;
use super::{
    Engine, MAX_CONFLICTS, POLL_MS, contention_problem, in_flight_problem, key_reused_problem,
    slot_taken_problem, slot_unavailable_problem, store_problem,
};
use crate::availability::{SlotWord, slot_word};
use crate::idempotency::KEY_RETENTION_MS;
use crate::ports::{
    AvailabilityStore, BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway, Replaced,
    SettingsReader, StoreError, Wanted,
};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::settings::ProviderSettings;
use crate::settings_cache::SettingsCache;
use crate::stored::{Fingerprint, OperationKey, OperationRecord, StoredBooking, replace};

/// How many bytes of responses a booking keeps for the keys of its operations before a new key is refused:
/// what the item may hold (400 KB) less the largest booking, the create's response and one more.
const MAX_KEPT_BYTES: usize = 131_072;

/// A change, as it came.
#[derive(Clone, Debug)]
pub struct OperationCall<'a> {
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
    pub wish: ValidChange,
    /// When the request reached the service. The time limit runs from here.
    pub received_at: Timestamp,
    /// The request's path, for problems.
    pub path: &'a str,
    /// The request's id, for problems.
    pub request_id: &'a str,
}

/// What a change led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operated {
    /// The response.
    pub answer: Answer,
    /// Whether the response is that of an earlier request.
    pub replayed: bool,
}

/// A provider, and the leave to call it.
type ProviderPass = (ProviderSettings, Result<Pass, Shut>);

/// What beginning came to.
enum Begun {
    /// The provider is to be asked.
    Asking(Box<StoredBooking>),
    /// There is an answer.
    Answered(Operated),
}

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Changes a booking, or returns what an earlier request with the same key led to.
    ///
    /// `availability` is asked whether a slot is open where a provider is only told of changes.
    pub async fn operate<R: SettingsReader, A: AvailabilityStore>(
        &self,
        call: OperationCall<'_>,
        settings: &SettingsCache<R>,
        availability: &A,
    ) -> Result<Operated, Problem> {
        let first = self.owned_item(&call).await?;
        if self.is_gone(&call, &first, availability).await {
            return Err(slot_unavailable_problem().about(&call.booking_id));
        }
        let early = self.early_pass(&call, &first, settings).await;
        let shut = early.as_ref().and_then(|(_, pass)| pass.as_ref().err().copied());
        let answered = match self.begin(&call, first, shut).await {
            Ok(Begun::Asking(seen)) => return self.ask(&call, *seen, early, settings).await,
            Ok(Begun::Answered(operated)) => Ok(operated),
            Err(problem) => Err(problem),
        };
        if let Some((provider, Ok(pass))) = early {
            self.leave_unused(&provider, pass).await;
        }
        answered
    }

    /// Whether a provider that is only told of a move has said that the slot cannot be booked. A repetition is
    /// answered in any case.
    async fn is_gone<A: AvailabilityStore>(
        &self,
        call: &OperationCall<'_>,
        first: &StoredBooking,
        availability: &A,
    ) -> bool {
        let (booking, now) = (&first.booking, self.clock.now());
        let Change::Reschedule(slot) = &call.wish.change else { return false };
        // Its own slot is not open to others, but a longer one or another service at the same time is for its provider
        // to refuse.
        let own = &booking.slot;
        let is_own_time = (&slot.location_id, &slot.resource_id, slot.start)
            == (&own.location_id, &own.resource_id, own.start);
        let is_told = booking.confirmation == ConfirmationMode::Notify && !is_own_time;
        if !is_told || record_of(first, call.key, now).is_some() {
            return false;
        }
        let provider_id = &booking.request.provider_id;
        let word =
            slot_word(availability, provider_id, slot, booking.units(), now, first.exclusive_slots).await;
        word == SlotWord::Gone
    }

    /// The attempt inside the request, and its outcome's write.
    async fn ask<R: SettingsReader>(
        &self,
        call: &OperationCall<'_>,
        seen: StoredBooking,
        early: Option<ProviderPass>,
        settings: &SettingsCache<R>,
    ) -> Result<Operated, Problem> {
        let name = RequestName { path: call.path, request_id: call.request_id };
        let Some(operation) = seen.booking.operation.clone() else {
            return Err(Problem::new(ProblemCode::Internal, "The booking has no operation."));
        };
        let asked = asked(call, operation.number);
        let with_pass = match early {
            Some(early) => Some(early),
            None => self.pass_now(call, &seen.booking, settings).await,
        };
        let Some((provider, pass)) = with_pass else {
            // Nobody can be asked now. The timer goes on with it when the lease is over.
            let command = self.unreachable_command(&operation);
            let (_, answer) = self.settle_and_answer(seen, command, asked, name).await?;
            return Ok(Operated { answer, replayed: false });
        };
        let limit = call.received_at.plus_ms(call.wish.sync_timeout_ms).min(operation.deadline_at);
        let report = match &pass {
            Err(shut) => not_sent(shut.error),
            Ok(_) => self.attempt(&provider, &seen, &operation, limit).await,
        };
        if report.outcome == AttemptOutcome::Unknown(AttemptError::AcceptedForLater) {
            let number = operation.number;
            let is_answered = |booking: &Booking| {
                booking.operation.as_ref().is_none_or(|operation| operation.number != number)
            };
            let kind = operation.change.kind();
            self.await_callback(&seen.booking.id, kind, is_answered, limit).await;
        }
        let command = self.record_command(&provider, &operation, report.clone());
        let (settled, ()) = tokio::join!(self.settle_and_answer(seen, Some(command), asked, name), async {
            if let Ok(pass) = pass {
                self.leave(&provider, &report, pass).await;
            }
        });
        let (stored, answer) = settled?;
        note_outcome(&stored.booking, operation.change.kind(), &provider, &report);
        Ok(Operated { answer, replayed: false })
    }

    /// The leave to ask the provider, before anything is written: a caller who does not want to wait is
    /// refused without a trace where it is not given. `None` where that does not matter: a cancel goes on in
    /// any case, what a provider is only told of needs no leave, and a repetition asks nobody.
    async fn early_pass<R: SettingsReader>(
        &self,
        call: &OperationCall<'_>,
        first: &StoredBooking,
        settings: &SettingsCache<R>,
    ) -> Option<ProviderPass> {
        let booking = &first.booking;
        let is_at_once = booking.confirmation == ConfirmationMode::Notify;
        let is_repeated = record_of(first, call.key, self.clock.now()).is_some();
        if call.wish.patience == Patience::Background || is_at_once || is_repeated {
            return None;
        }
        self.pass_now(call, booking, settings).await
    }

    /// Asks for the leave to ask the provider; `None` if nobody knows it.
    async fn pass_now<R: SettingsReader>(
        &self,
        call: &OperationCall<'_>,
        booking: &Booking,
        settings: &SettingsCache<R>,
    ) -> Option<ProviderPass> {
        let provider = self.provider_to_ask(booking, settings).await?;
        let pass = self.enter(&provider, call.wish.sync_timeout_ms).await;
        Some((provider, pass))
    }

    async fn provider_to_ask<R: SettingsReader>(
        &self,
        booking: &Booking,
        settings: &SettingsCache<R>,
    ) -> Option<ProviderSettings> {
        let wanted = Wanted { provider_id: Some(booking.request.provider_id.clone()), ..Wanted::default() };
        match settings.load(&wanted, self.clock.now()).await {
            // Another provider may have got the name since, in the other mode.
            Ok(known) => known.provider.filter(|provider| provider.mode == booking.tenant.mode),
            Err(error) => {
                tracing::warn!(booking.id = %booking.id, %error, "A booking's provider cannot be read.");
                None
            }
        }
    }

    /// What is written when the provider is not known. A caller who waits is told that nothing was sent.
    fn unreachable_command(&self, operation: &Operation) -> Option<Command> {
        (operation.patience == Patience::Synchronous).then(|| Command::RecordAttempt {
            operation: operation.number,
            attempt: operation.attempts,
            outcome: AttemptOutcome::NotSent(AttemptError::TargetRefused),
            retry_delay_ms: RetryPolicy::DEFAULT.delay_ms(operation.attempts, self.entropy.u64(), None),
        })
    }

    /// Writes that the booking is being changed, with the key's record, unless the key was used.
    async fn begin(
        &self,
        call: &OperationCall<'_>,
        first: StoredBooking,
        shut: Option<Shut>,
    ) -> Result<Begun, Problem> {
        let name = RequestName { path: call.path, request_id: call.request_id };
        let mut seen = first;
        for _ in 0..MAX_CONFLICTS {
            let now = self.clock.now();
            if let Some(record) = record_of(&seen, call.key, now) {
                let number = record.number;
                return self.replay_operation(call, seen, number).await.map(Begun::Answered);
            }
            let refused = call.wish.refused_by(&seen.booking.request.provider_id);
            if let Some(problem) = refused.or_else(|| call.wish.refused_at(now)) {
                return Err(problem.about(&call.booking_id));
            }
            let booking = match transition(&seen.booking, begin_command(call), now) {
                Ok(transition) => transition.booking,
                // It is as the caller wants it. With a key even that is written, for the key to stand for it.
                Err(refused) if is_so_already(&call.wish.change, refused) => seen.booking.clone(),
                Err(refused) => return Err(refusal(&seen.booking, &call.wish.change, refused)),
            };
            let begun = booking.operation.as_ref().filter(|operation| {
                // An operation that was in flight before is another one.
                operation.number > seen.booking.operations_begun
            });
            let number = begun.map_or(0, |operation| operation.number);
            if let (Some(shut), true) = (shut, number > 0) {
                let retry_after_s = now.ms_until(shut.until).div_ceil(1000).max(1);
                return Err(provider_unavailable().retry_after_s(retry_after_s).about(&call.booking_id));
            }
            let asked = asked(call, number);
            let answer = answer_from(&booking, asked, name, now)?;
            if call.key.is_none() && booking == seen.booking {
                return Ok(Begun::Answered(Operated { answer, replayed: false }));
            }
            if call.key.is_some() && kept_bytes(&seen, now) >= MAX_KEPT_BYTES {
                let detail = "The booking has as many idempotency records as it may have.";
                return Err(Problem::new(ProblemCode::TooManyChanges, detail).about(&call.booking_id));
            }
            let mut next = with_record(seen.with_booking(booking), call, number, now);
            if number == 0 {
                next = next.freezing(asked, &answer);
            }
            match replace(&self.store, &seen, &next).await {
                Ok(Replaced::Done) if number > 0 => return Ok(Begun::Asking(Box::new(next))),
                Ok(Replaced::Done) => return Ok(Begun::Answered(Operated { answer, replayed: false })),
                Ok(Replaced::Conflict(current)) => seen = *current,
                Ok(Replaced::Gone) => return Err(not_found()),
                Ok(Replaced::SlotTaken) => return Err(slot_taken_problem().about(&call.booking_id)),
                Err(error) => {
                    let side_effects = begin_side_effects(&error);
                    return Err(store_problem(&error, side_effects).about(&call.booking_id));
                }
            }
        }
        Err(contention_problem(SideEffects::None).about(&call.booking_id))
    }

    /// Answers a repetition from the item of the first request.
    async fn replay_operation(
        &self,
        call: &OperationCall<'_>,
        mut found: StoredBooking,
        number: u32,
    ) -> Result<Operated, Problem> {
        let name = RequestName { path: call.path, request_id: call.request_id };
        let asked = asked(call, number);
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
                return Ok(Operated { answer, replayed: true });
            }
            let in_flight = found.booking.operation.as_ref().filter(|operation| operation.number == number);
            let is_at_work =
                in_flight.is_some_and(|operation| operation.attempts == 1 && operation.phase.is_leased(now));
            if !is_at_work {
                // Its worker is gone. The deadline of a caller who waits is the end of the lease.
                let is_over = in_flight.is_some_and(|operation| {
                    operation.patience == Patience::Synchronous && !operation.is_resolving()
                });
                let give_up = is_over.then_some(Command::GiveUp);
                let (_, answer) = self.settle_and_answer(found, give_up, asked, name).await?;
                return Ok(Operated { answer, replayed: true });
            }
            if now >= wait_until {
                return Err(in_flight_problem(&call.booking_id));
            }
            sleep(Duration::from_millis(POLL_MS.min(now.ms_until(wait_until)))).await;
            let looked = self.owned_item(call).await;
            found = looked.map_err(|problem| problem.with_side_effects(SideEffects::Unknown))?;
        }
    }

    async fn owned_item(&self, call: &OperationCall<'_>) -> Result<StoredBooking, Problem> {
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
    call: &OperationCall<'_>,
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
/// and then the change goes on in the background, or is given up by its guard without having been sent.
fn begin_side_effects(error: &StoreError) -> SideEffects {
    match error {
        StoreError::Unavailable(_) => SideEffects::Unknown,
        StoreError::Corrupt(_) | StoreError::Refused(_) => SideEffects::None,
    }
}

fn asked<'a>(call: &'a OperationCall<'_>, number: u32) -> Asked<'a> {
    Asked::Operation(AskedOperation { key: call.key, change: &call.wish.change, number })
}

fn begin_command(call: &OperationCall<'_>) -> Command {
    let ValidChange { change, patience, sync_timeout_ms, async_timeout_ms, .. } = call.wish.clone();
    let lease_until = call.received_at.plus_ms(sync_timeout_ms + LEASE_GRACE_MS);
    let deadline_at = match patience {
        // The consumer waits for the answer, and no longer than for that.
        Patience::Synchronous => lease_until,
        Patience::Background => call.received_at.plus_ms(async_timeout_ms),
    };
    Command::Begin(ChangeRequest { change, patience, lease_until, deadline_at })
}

/// Whether a booking that refuses a change is as the change would make it.
fn is_so_already(change: &Change, refused: Refused) -> bool {
    match (change, refused) {
        (Change::Cancel(_), Refused::Settled { status }) => status == Status::Cancelled,
        (_, Refused::NothingToChange) => true,
        _ => false,
    }
}

/// Why a booking cannot be changed.
fn refusal(booking: &Booking, change: &Change, refused: Refused) -> Problem {
    let problem = match (refused, change) {
        (Refused::OperationInFlight, Change::Cancel(_)) => {
            Problem::new(ProblemCode::OperationInFlight, "The booking is being cancelled already.")
                .retry_after_s(1)
        }
        (Refused::OperationInFlight, _) => {
            Problem::new(ProblemCode::OperationInFlight, "Another change of the booking is in flight.")
                .retry_after_s(1)
        }
        (Refused::TooManyVersions, _) => {
            Problem::new(ProblemCode::TooManyChanges, "The booking has as many versions as it may have.")
        }
        (Refused::NotLonger { until }, _) => {
            invalid("/expires_at", format!("must be later than {until}, when the hold ends already"))
        }
        (refused, change) => {
            let status = match refused {
                Refused::Settled { status } => status,
                _ => booking.status(),
            };
            let verb = match change {
                Change::Book => "booked",
                Change::Confirm => "confirmed",
                Change::Extend { .. } => "extended",
                Change::Cancel(_) => "cancelled",
                Change::Reschedule(_) => "rescheduled",
            };
            let detail = format!("The booking is {}; it cannot be {verb}.", status.as_str());
            Problem::new(ProblemCode::StatusConflict, detail)
        }
    };
    problem.about(&booking.id)
}

fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such booking.")
}
