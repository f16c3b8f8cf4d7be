//! What happens when a timer rings: the item decides what is due, and a conditional write claims it
//! before the provider is called, so that duplicates, reordering and late messages do nothing.

use holdfast_domain::{AttemptError, Booking, BookingId, Command, Step, Timestamp, next_step, transition};

use super::attempt::log_refused;
use super::pass::{Pass, Shut};
use super::{Engine, MAX_CONFLICTS};
use crate::metrics::DUE_LATENESS;
use crate::ports::{
    BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway, Replaced, SettingsReader,
    StoreError, TimerMessage, Wanted,
};
use crate::settings::ProviderSettings;
use crate::stored::{StoredBooking, replace};

/// How long a look-up may take, in milliseconds.
pub(super) const LOOK_UP_LIMIT_MS: u64 = 10_000;
/// By how much a background lease outlasts the calls made under it, in milliseconds.
pub(super) const LEASE_GRACE_MS: u64 = 5_000;
/// The longest that chance adds to a time at which many wait for one provider, in milliseconds.
pub(super) const MAX_JITTER_MS: u64 = 5_000;
/// How late a booking must be before the sweep takes it for forgotten, in milliseconds: timers come
/// within a second or two when all is well.
const OVERDUE_AFTER_MS: u64 = 60_000;
/// The most bookings that one sweep re-arms.
pub const SWEEP_LIMIT: usize = 1_000;

/// What a timer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerOutcome {
    /// What was due is done; what follows is armed from the item's change.
    Done,
    /// The message came early, because no queue delays for so long: it has to be passed on.
    PassOn(TimerMessage),
    /// Nothing was due.
    Nothing,
}

/// What came of a piece of work.
pub(super) enum Work {
    /// It is done, or somebody else has done it.
    Done,
    /// There is nothing to do any more.
    Over,
    /// Somebody else wrote before it could begin, and this is the item now.
    Overtaken(Box<StoredBooking>),
}

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Does what is due for the booking of a timer.
    ///
    /// An error means that nothing is known to be done: the message has to come again.
    pub async fn on_timer(
        &self,
        message: &TimerMessage,
        settings: &impl SettingsReader,
    ) -> Result<TimerOutcome, StoreError> {
        if message.not_before > self.clock.now() {
            return Ok(TimerOutcome::PassOn(message.clone()));
        }
        let Ok(id) = BookingId::parse(&message.booking_id) else {
            return Err(StoreError::Corrupt("a timer names no booking".to_owned()));
        };
        let Some(mut seen) = self.store.read(&id).await? else { return Ok(TimerOutcome::Nothing) };
        for _ in 0..MAX_CONFLICTS {
            let now = self.clock.now();
            let step = next_step(&seen.booking, now);
            if let (Step::Attempt { .. } | Step::Resolve | Step::Compensate | Step::Notify, Some(due_at)) =
                (&step, seen.booking.due_at())
            {
                DUE_LATENESS.record([], due_at.ms_until(now));
            }
            let work = match step {
                // The clock was set back since the message was found to be on time.
                Step::WaitUntil(at) if at <= message.not_before => {
                    return Ok(TimerOutcome::PassOn(TimerMessage { not_before: at, ..message.clone() }));
                }
                // A change of the due time has armed a timer of its own.
                Step::Nothing | Step::WaitUntil(_) => return Ok(TimerOutcome::Nothing),
                Step::GiveUp => self.do_write(&seen, Command::GiveUp).await?,
                Step::GiveUpCompensation => self.do_write(&seen, Command::GiveUpCompensation).await?,
                Step::GiveUpNotification => self.do_write(&seen, Command::GiveUpNotification).await?,
                Step::ExpireHold => self.do_write(&seen, Command::ExpireHold).await?,
                Step::Attempt { look_up_first } => {
                    Box::pin(self.try_attempt(&seen, look_up_first, settings)).await?
                }
                Step::Resolve => Box::pin(self.try_resolve(&seen, settings)).await?,
                Step::Compensate => Box::pin(self.try_compensation(&seen, settings)).await?,
                Step::Notify => Box::pin(self.try_notify(&seen, settings)).await?,
            };
            match work {
                Work::Done => return Ok(TimerOutcome::Done),
                Work::Over => return Ok(TimerOutcome::Nothing),
                Work::Overtaken(current) => seen = *current,
            }
        }
        Err(StoreError::Unavailable("a booking was changed by others too often".to_owned()))
    }

    /// Identifiers of bookings whose timer seems to be lost.
    pub async fn overdue(&self) -> Result<Vec<TimerMessage>, StoreError> {
        let now = self.clock.now();
        let overdue = self.store.overdue(now.minus_ms(OVERDUE_AFTER_MS), SWEEP_LIMIT).await?;
        Ok(overdue.iter().map(|id| TimerMessage::new(id, now)).collect())
    }

    /// One conditional write of a command, and nothing else.
    pub(super) async fn do_write(&self, seen: &StoredBooking, command: Command) -> Result<Work, StoreError> {
        Ok(match self.write(seen, command, self.clock.now()).await? {
            Ok(_) => Work::Done,
            Err(Some(current)) => Work::Overtaken(Box::new(current)),
            Err(None) => Work::Over,
        })
    }

    /// One conditional write of a command. `Err(Some)` is the item that somebody else wrote meanwhile;
    /// `Err(None)` means that there is nothing to write any more.
    pub(super) async fn write(
        &self,
        seen: &StoredBooking,
        command: Command,
        now: Timestamp,
    ) -> Result<Result<StoredBooking, Option<StoredBooking>>, StoreError> {
        let changed = match transition(&seen.booking, command, now) {
            Ok(transition) => transition.booking,
            Err(refused) => {
                log_refused(seen, refused);
                return Ok(Err(None));
            }
        };
        let next = seen.with_booking(changed);
        Ok(match replace(&self.store, seen, &next).await? {
            Replaced::Done => Ok(next),
            Replaced::Conflict(current) => Err(Some(*current)),
            // What is done in the background takes no slot that the booking does not have.
            Replaced::Gone | Replaced::SlotTaken => Err(None),
        })
    }

    /// Takes the lease for a call that `pass` permits. `Err` is what came of it otherwise; the pass is given
    /// back then.
    pub(super) async fn claim_for(
        &self,
        seen: &StoredBooking,
        provider: &ProviderSettings,
        pass: Pass,
        claim: Command,
    ) -> Result<Result<(StoredBooking, Pass), Work>, StoreError> {
        let not_claimed = match self.write(seen, claim, self.clock.now()).await {
            Ok(Ok(claimed)) => return Ok(Ok((claimed, pass))),
            Ok(Err(Some(current))) => Ok(Err(Work::Overtaken(Box::new(current)))),
            Ok(Err(None)) => Ok(Err(Work::Done)),
            Err(error) => Err(error),
        };
        self.leave_unused(provider, pass).await;
        not_claimed
    }

    /// Writes an outcome until it is taken: a loser never drops one.
    pub(super) async fn write_outcome(
        &self,
        mut seen: StoredBooking,
        command: Command,
    ) -> Result<Booking, StoreError> {
        for _ in 0..MAX_CONFLICTS {
            match self.write(&seen, command.clone(), self.clock.now()).await? {
                Ok(written) => return Ok(written.booking),
                Err(Some(current)) => seen = current,
                Err(None) => return Ok(seen.booking),
            }
        }
        Err(StoreError::Unavailable("a booking was changed by others too often".to_owned()))
    }

    /// Puts an attempt off because nobody may call the provider now.
    pub(super) async fn postpone(&self, seen: &StoredBooking, shut: Shut) -> Result<Work, StoreError> {
        // Jitter spreads the crowd that waits for the same moment.
        let jitter_ms = self.entropy.u64() % MAX_JITTER_MS;
        let until = shut.until.plus_ms(jitter_ms);
        let postponed = self.do_write(seen, Command::Postpone { until, error: shut.error }).await?;
        Ok(match postponed {
            Work::Over => Work::Done,
            done_or_overtaken => done_or_overtaken,
        })
    }

    /// The provider is not configured any more: it may be so again.
    pub(super) fn without_provider(&self) -> Shut {
        Shut { error: AttemptError::CircuitOpen, until: self.clock.now().plus_ms(super::OPEN_MS) }
    }

    pub(super) async fn provider_of(
        &self,
        booking: &Booking,
        settings: &impl SettingsReader,
    ) -> Result<Option<ProviderSettings>, StoreError> {
        let provider_id = booking.request.provider_id.clone();
        let wanted = Wanted { provider_id: Some(provider_id.clone()), ..Wanted::default() };
        let asked_at = self.clock.now();
        let loaded = settings.load(&wanted).await?;
        self.breakers.remember(&provider_id, loaded.breaker, asked_at);
        // Another provider may have got the name since, in the other mode.
        let provider = loaded.provider.filter(|provider| provider.mode == booking.tenant.mode);
        if provider.is_none() {
            tracing::error!(
                booking.id = %booking.id,
                provider.id = %provider_id,
                "A booking's provider is not configured any more."
            );
        }
        Ok(provider)
    }
}
