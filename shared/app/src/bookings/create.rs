//! Creating a booking: one conditional write claims it, one more settles it, and between the two the
//! provider is asked. A repetition of a request with a key is the one failed claim.

use std::time::Duration;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, BookingId, Change, Command, ConfirmationMode, Operation,
    OperationKind, Patience, Phase, Status, Tenant, Timestamp, transition,
};
use tokio::time::{sleep, timeout};
use uuid::Builder;

use super::answer::{Answer, Asked, RequestName, provider_unavailable};
use super::attempt::{answer_from, not_sent, note_outcome};
use super::pass::{Pass, Shut};
use super::{
    Engine, MAX_CONFLICTS, POLL_MS, ValidCreate, contention_problem, slot_taken_problem, store_problem,
};
use crate::availability::SlotWord;
use crate::idempotency::{IdempotencyKey, KEY_RETENTION_MS, MAX_GENERATIONS};
use crate::metrics::CALL_BACK_WAIT;
use crate::ports::{
    BookingStore, BreakerStore, Claim, Clock, Entropy, LimitStore, ProviderGateway, Replaced, StoreError,
};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::settings::ProviderSettings;
use crate::stored::{CreateRecord, Fingerprint, StoredBooking, claim, replace};

/// By how much the lease of a request's attempt outlasts its synchronous limit, in milliseconds: time to
/// write the outcome before somebody else takes over.
pub(super) const LEASE_GRACE_MS: u64 = 1_000;

/// A create, as it came.
#[derive(Clone, Debug)]
pub struct CreateCall<'a> {
    /// Who asks, from the verified key.
    pub tenant: Tenant,
    /// The idempotency key, if there is one.
    pub key: Option<IdempotencyKey>,
    /// The fingerprint of the body.
    pub fingerprint: Fingerprint,
    /// For how long a repetition waits for the first request, in seconds.
    pub prefer_wait_s: Option<u64>,
    /// What is asked for.
    pub create: ValidCreate,
    /// What is known of its slot, where a provider is only told of bookings.
    pub slot_word: SlotWord,
    /// The provider, if there is one of this name for the tenant's mode.
    pub provider: Option<&'a ProviderSettings>,
    /// When the request reached the service. The time limit runs from here.
    pub received_at: Timestamp,
    /// The request's path, for problems.
    pub path: &'a str,
    /// The request's id, for problems.
    pub request_id: &'a str,
}

/// What a create led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The booking.
    pub booking_id: BookingId,
    /// The response.
    pub answer: Answer,
    /// Whether the response is that of an earlier request.
    pub replayed: bool,
}

/// What the claim came to.
pub(super) enum Start {
    /// The booking is ours to make.
    Fresh(Box<StoredBooking>),
    /// The key has been used for this booking.
    Used(Box<StoredBooking>),
}

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Creates a booking, or returns what an earlier request with the same key led to.
    ///
    /// What is not a fresh booking's way is on the heap: all of it would be moved with each of them otherwise.
    pub async fn create(&self, call: CreateCall<'_>) -> Result<Created, Problem> {
        if let Some(problem) = call.create.refused_at(self.clock.now()) {
            return Box::pin(self.replay_or(&call, problem)).await;
        }
        let Some(provider) = call.provider else {
            let detail = format!(
                "No provider {} is configured for {} keys.",
                call.create.request.provider_id,
                call.tenant.mode.as_str()
            );
            let problem = Problem::new(ProblemCode::UnknownProvider, detail);
            return Box::pin(self.replay_or(&call, problem)).await;
        };
        if let Some(problem) = call.create.refused_by(provider) {
            return Box::pin(self.replay_or(&call, problem)).await;
        }
        if provider.confirmation == ConfirmationMode::Notify {
            return Box::pin(self.accept(&call, provider)).await;
        }
        let mut known_pass = None;
        let is_open = self.breakers.known_open(&provider.provider_id).is_some();
        // A repetition needs no provider, and must not use up the probe.
        if is_open && let Some(used) = self.find_used(&call).await? {
            return Box::pin(self.replay(&call, used)).await;
        }
        // Who is refused for the limits makes no booking, so that these are asked before the claim.
        if is_open || provider.is_limited() {
            match self.enter(provider, call.create.sync_timeout_ms).await {
                Err(shut) => return Box::pin(self.create_while_shut(&call, provider, shut)).await,
                Ok(pass) => known_pass = Some(pass),
            }
        }
        let lease_until = call.received_at.plus_ms(call.create.sync_timeout_ms + LEASE_GRACE_MS);
        let phase = Phase::InFlight { lease_until };
        let claim =
            self.claim(&call, |generation| self.new_booking(&call, provider, generation, phase, None));
        // The breaker is asked beside the first write, before anything is sent.
        let (start, pass) = tokio::join!(claim, async {
            match known_pass {
                Some(pass) => Ok(pass),
                None => self.enter(provider, call.create.sync_timeout_ms).await,
            }
        });
        let seen = match start {
            Ok(Start::Fresh(seen)) => *seen,
            not_fresh => {
                if let Ok(pass) = pass {
                    self.leave_unused(provider, pass).await;
                }
                return match not_fresh? {
                    Start::Used(seen) | Start::Fresh(seen) => Box::pin(self.replay(&call, *seen)).await,
                };
            }
        };
        self.first_attempt(&call, provider, seen, pass).await
    }

    /// The attempt inside the request, and its outcome's write.
    async fn first_attempt(
        &self,
        call: &CreateCall<'_>,
        provider: &ProviderSettings,
        seen: StoredBooking,
        pass: Result<Pass, Shut>,
    ) -> Result<Created, Problem> {
        let name = RequestName { path: call.path, request_id: call.request_id };
        let limit = call.received_at.plus_ms(call.create.sync_timeout_ms);
        let Some(operation) = seen.booking.operation.clone() else {
            return Err(Problem::new(ProblemCode::Internal, "The booking has no operation."));
        };
        let mut seen = seen;
        if let Err(shut) = &pass
            && call.create.patience == Patience::Synchronous
        {
            match self.withdraw_claim(&seen, &operation, *shut).await? {
                Ok(refused) => return Err(refused),
                Err(current) => seen = current,
            }
        }
        let report = match &pass {
            // The circuit opened within the last moment.
            Err(shut) => not_sent(shut.error),
            Ok(_) => self.attempt(provider, &seen, &operation, limit).await,
        };
        if report.outcome == AttemptOutcome::Unknown(AttemptError::AcceptedForLater) {
            let is_answered = |booking: &Booking| booking.status() != Status::Pending;
            self.await_callback(&seen.booking.id, OperationKind::Book, is_answered, limit).await;
        }
        let command = self.record_command(provider, &operation, report.clone());
        let (settled, ()) =
            tokio::join!(self.settle_and_answer(seen, Some(command), Asked::Create, name), async {
                if let Ok(pass) = pass {
                    self.leave(provider, &report, pass).await;
                }
            });
        let (stored, answer) = settled?;
        note_outcome(&stored.booking, OperationKind::Book, provider, &report);
        Ok(Created { booking_id: stored.booking.id, answer, replayed: false })
    }

    /// The circuit turned out to be open after the booking was claimed for a caller who wants the answer at
    /// once. The booking is cancelled, and its key is marked as free in the same write, so that the caller
    /// is refused as if the circuit had been known to be open: the same key books afresh. Returns the
    /// refusal, or the item that somebody else wrote meanwhile.
    async fn withdraw_claim(
        &self,
        seen: &StoredBooking,
        operation: &Operation,
        shut: Shut,
    ) -> Result<Result<Problem, StoredBooking>, Problem> {
        let now = self.clock.now();
        let command = Command::RecordAttempt {
            operation: operation.number,
            attempt: operation.attempts,
            outcome: AttemptOutcome::NotSent(shut.error),
            retry_delay_ms: 0,
        };
        let Ok(cancelled) = transition(&seen.booking, command, now) else { return Ok(Err(seen.clone())) };
        let mut next = seen.with_booking(cancelled.booking);
        if let Some(create) = &mut next.create {
            create.superseded_by = Some(create.generation.saturating_add(1));
        }
        match replace(&self.store, seen, &next).await {
            Ok(Replaced::Done) => {
                let retry_after_s = now.ms_until(shut.until).div_ceil(1000).max(1);
                Ok(Ok(provider_unavailable().retry_after_s(retry_after_s)))
            }
            Ok(Replaced::Conflict(current)) => Ok(Err(*current)),
            Ok(Replaced::Gone | Replaced::SlotTaken) => Ok(Ok(provider_unavailable().retry_after_s(1))),
            Err(error) => Err(store_problem(&error, SideEffects::None)),
        }
    }

    /// The provider will call back: looks until the limit whether it has, so that the booking
    /// `is_answered`.
    pub(super) async fn await_callback(
        &self,
        id: &BookingId,
        kind: OperationKind,
        is_answered: impl Fn(&Booking) -> bool + Send,
        limit: Timestamp,
    ) {
        let begun_at = self.clock.now();
        self.look_for_callback(id, is_answered, limit).await;
        CALL_BACK_WAIT.record([kind.as_str()], begun_at.ms_until(self.clock.now()));
    }

    async fn look_for_callback(
        &self,
        id: &BookingId,
        is_answered: impl Fn(&Booking) -> bool + Send,
        limit: Timestamp,
    ) {
        loop {
            let remaining_ms = self.clock.now().ms_until(limit);
            if remaining_ms == 0 {
                return;
            }
            sleep(Duration::from_millis(remaining_ms.min(POLL_MS))).await;
            let remaining_ms = self.clock.now().ms_until(limit);
            match timeout(Duration::from_millis(remaining_ms), self.store.read(id)).await {
                Ok(Ok(Some(stored))) if is_answered(&stored.booking) => return,
                Ok(Ok(_)) => {}
                // The outcome is written in any case; a look that fails only tells nothing.
                Ok(Err(error)) => tracing::warn!(booking.id = %id, %error, "A look for a callback failed."),
                Err(_) => return,
            }
        }
    }

    /// The provider may not be called now: nothing is sent.
    async fn create_while_shut(
        &self,
        call: &CreateCall<'_>,
        provider: &ProviderSettings,
        shut: Shut,
    ) -> Result<Created, Problem> {
        let now = self.clock.now();
        if call.create.patience == Patience::Synchronous {
            let retry_after_s = now.ms_until(shut.until).div_ceil(1000).max(1);
            return self.replay_or(call, provider_unavailable().retry_after_s(retry_after_s)).await;
        }
        let deadline_at = call.received_at.plus_ms(call.create.async_timeout_ms);
        let phase = Phase::Waiting { next_attempt_at: shut.until.max(now).min(deadline_at) };
        let error = Some(shut.error);
        let new_item = |generation| self.new_booking(call, provider, generation, phase, error);
        match self.claim(call, new_item).await? {
            Start::Used(seen) => self.replay(call, *seen).await,
            Start::Fresh(stored) => {
                let name = RequestName { path: call.path, request_id: call.request_id };
                let answer = answer_from(&stored.booking, Asked::Create, name, now)?;
                Ok(Created { booking_id: stored.booking.id, answer, replayed: false })
            }
        }
    }

    /// Writes the booking, unless its key has been used. A key whose retention is over is used afresh:
    /// the old item is first marked with the next generation, and only then is that one written, so that
    /// a repetition follows the marks whatever its own clock says.
    pub(super) async fn claim(
        &self,
        call: &CreateCall<'_>,
        new_item: impl Fn(u32) -> Result<StoredBooking, Problem> + Send,
    ) -> Result<Start, Problem> {
        let mut generation = 0;
        for _ in 0..MAX_GENERATIONS {
            let new = new_item(generation)?;
            let taken = match claim(&self.store, &new).await {
                Ok(Claim::Claimed) => return Ok(Start::Fresh(Box::new(new))),
                Ok(Claim::Taken(taken)) => taken,
                Ok(Claim::SlotTaken) => return Err(slot_taken_problem()),
                Err(error) => return Err(store_problem(&error, claim_side_effects(&error, call))),
            };
            match self.next_generation(*taken).await? {
                Ok(next) => generation = next,
                Err(current) => return Ok(Start::Used(Box::new(current))),
            }
        }
        Err(contention_problem(SideEffects::None))
    }

    /// Follows, or makes, the mark of an item whose key is being used afresh. Returns the item itself if
    /// its key still stands for it.
    async fn next_generation(&self, mut found: StoredBooking) -> Result<Result<u32, StoredBooking>, Problem> {
        for _ in 0..MAX_CONFLICTS {
            let Some(create) = &found.create else { return Ok(Err(found)) };
            if let Some(next) = create.superseded_by {
                return Ok(Ok(next));
            }
            let expires_at = found.booking.created_at().plus_ms(KEY_RETENTION_MS);
            if self.clock.now() < expires_at {
                return Ok(Err(found));
            }
            let next_generation = create.generation.saturating_add(1);
            let mut marked = found.with_booking(found.booking.clone());
            if let Some(create) = &mut marked.create {
                create.superseded_by = Some(next_generation);
            }
            match replace(&self.store, &found, &marked).await {
                Ok(Replaced::Done) => return Ok(Ok(next_generation)),
                // An item that is gone meanwhile is claimed anew. Its successor must not be: without the
                // mark no repetition would find it.
                Ok(Replaced::Gone | Replaced::SlotTaken) => return Ok(Ok(create.generation)),
                Ok(Replaced::Conflict(current)) => found = *current,
                Err(error) => return Err(store_problem(&error, SideEffects::None)),
            }
        }
        Err(contention_problem(SideEffects::None))
    }

    fn new_booking(
        &self,
        call: &CreateCall<'_>,
        provider: &ProviderSettings,
        generation: u32,
        phase: Phase,
        error: Option<AttemptError>,
    ) -> Result<StoredBooking, Problem> {
        let create = &call.create;
        let deadline_at = match (create.patience, phase) {
            // The consumer waits for the answer, and no longer than for that.
            (Patience::Synchronous, Phase::InFlight { lease_until }) => lease_until,
            (Patience::Synchronous, Phase::Waiting { next_attempt_at }) => next_attempt_at,
            (Patience::Background, _) => call.received_at.plus_ms(create.async_timeout_ms),
        };
        let (attempts, last_error) = match phase {
            Phase::InFlight { .. } => (1, None),
            Phase::Waiting { .. } => (0, error),
        };
        let operation = Operation {
            change: Change::Book,
            number: 1,
            patience: create.patience,
            deadline_at,
            attempts,
            last_error,
            unanswered_send_at: None,
            resolve_until: None,
            overtaken: None,
            phase,
        };
        let booking = Booking::claimed(
            self.new_id(call, generation),
            call.tenant.clone(),
            create.request.clone(),
            create.slot.clone(),
            operation,
            call.received_at,
        );
        let stored = StoredBooking {
            booking: booking.in_mode(provider.confirmation),
            create: create_record(call, generation),
            operations: Vec::new(),
            exclusive_slots: provider.exclusive_slots,
            rev: 1,
        };
        if attempts > 0 {
            return Ok(stored);
        }
        // Nothing is attempted inside this request, so that its answer goes into the same write.
        let name = RequestName { path: call.path, request_id: call.request_id };
        let answer = answer_from(&stored.booking, Asked::Create, name, self.clock.now())?;
        Ok(stored.freezing(Asked::Create, &answer))
    }

    /// The identifier of a booking: the key's, or a new one.
    pub(super) fn new_id(&self, call: &CreateCall<'_>, generation: u32) -> BookingId {
        match &call.key {
            Some(key) => key.booking_id(&call.tenant, generation),
            None => self.random_id(call.received_at),
        }
    }

    /// An identifier for a booking without a key: a `UUIDv7` (RFC 9562, section 5.7).
    fn random_id(&self, now: Timestamp) -> BookingId {
        let mut random = [0; 10];
        random.copy_from_slice(&self.entropy.bytes16()[..10]);
        let unix_ms = u64::try_from(now.as_unix_ms()).unwrap_or(0);
        let uuid = Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid();
        BookingId::from_bytes(uuid.into_bytes())
    }
}

/// The record of a create that came with a key.
pub(super) fn create_record(call: &CreateCall<'_>, generation: u32) -> Option<CreateRecord> {
    call.key.as_ref().map(|_| CreateRecord {
        fingerprint: call.fingerprint,
        generation,
        superseded_by: None,
        response: None,
    })
}

/// Whether something may come of a claim that failed. The item may be there all the same; what is then
/// done about it depends on who waits: a booking that is confirmed in the background goes on, one whose
/// caller wanted the answer at once is cancelled by its guard without having been sent.
fn claim_side_effects(error: &StoreError, call: &CreateCall<'_>) -> SideEffects {
    // What is accepted at once is confirmed by that very write.
    let is_accepted = call.provider.is_some_and(|provider| provider.confirmation == ConfirmationMode::Notify);
    match (error, call.create.patience) {
        (StoreError::Unavailable(_), _) if is_accepted => SideEffects::Unknown,
        (StoreError::Unavailable(_), Patience::Background) => SideEffects::Unknown,
        (StoreError::Unavailable(_), Patience::Synchronous)
        | (StoreError::Corrupt(_) | StoreError::Refused(_), _) => SideEffects::None,
    }
}
