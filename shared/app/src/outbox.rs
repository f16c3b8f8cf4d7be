//! The stream is the outbox: carries out what a change of a booking's item makes happen elsewhere.
//!
//! Everything is sent at least once and may be sent again; events carry ids that never change, and
//! timers are hints, so that repeating does no harm.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use holdfast_domain::{
    Booking, BookingId, Compensation, DeadLetterReason, Effect, Event, Hold, Notification, ProviderId,
    SlotChange, Status, effects,
};
use tokio::time::sleep;

use crate::metrics::{COMPENSATIONS, DEAD_LETTERS, PARKED_RECORDS, PENDING_AGE};
use crate::ports::{
    Clock, EventBus, KeptNotification, NotificationMailbox, OutgoingEvent, ParkedRecord, RecordParking,
    SlotChangeLog, StoreError, TimerMessage, TimerQueue,
};
use crate::view::event_body;

/// When a booking is looked at whose change could not be read, in milliseconds after the change was seen.
const LOOK_AFTER_PARKING_MS: u64 = 60_000;

/// How long is waited before a slot that could not be noted is noted again, in milliseconds.
const NOTE_PAUSES_MS: [u64; 2] = [500, 2_000];

/// How many slots are noted at once.
const CONCURRENT_NOTES: usize = 10;

/// One change, as the stream tells it.
#[derive(Clone, Debug)]
pub enum Change {
    /// The item before (`None`: it is new) and after.
    Images {
        /// Before.
        old: Option<Box<Booking>>,
        /// After.
        new: Box<Booking>,
    },
    /// A record that cannot be read.
    Unreadable(ParkedRecord),
}

/// Where the effects go.
#[derive(Debug)]
pub struct Outbox<T, B, P, M, O, C> {
    /// The timers.
    pub timers: T,
    /// The event bus.
    pub bus: B,
    /// Where what cannot be processed is kept.
    pub parking: P,
    /// Where notifications are kept for providers that fetch them.
    pub mailbox: M,
    /// Where slots that change hands are noted.
    pub slots: O,
    /// Tells timers how far away they are.
    pub clock: C,
}

impl<T, B, P, M, O, C> Outbox<T, B, P, M, O, C>
where
    T: TimerQueue,
    B: EventBus,
    P: RecordParking,
    M: NotificationMailbox,
    O: SlotChangeLog,
    C: Clock,
{
    /// Carries out the effects of `changes`, which are in the stream's order. Returns one result a
    /// change, in order; a failed one has to come again, and whatever was sent for it is sent again.
    pub async fn carry_out(&self, changes: &[Change]) -> Vec<Result<(), StoreError>> {
        let mut results: Vec<Result<(), StoreError>> = changes.iter().map(|_| Ok(())).collect();
        let mut events = Vec::new();
        let mut timers = Vec::new();
        let mut slots = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            if let Err(error) = self.collect(index, change, &mut events, &mut timers, &mut slots).await {
                results[index] = Err(error);
            }
        }
        let (event_owners, events): (Vec<usize>, Vec<OutgoingEvent>) = events.into_iter().unzip();
        let (timer_owners, timers): (Vec<usize>, Vec<TimerMessage>) = timers.into_iter().unzip();
        let now = self.clock.now();
        let (sent_events, sent_timers, ()) = tokio::join!(
            async { if events.is_empty() { Vec::new() } else { self.bus.publish(&events).await } },
            async { if timers.is_empty() { Vec::new() } else { self.timers.arm(&timers, now).await } },
            self.note(slots),
        );
        let sent = event_owners.into_iter().zip(sent_events).chain(timer_owners.into_iter().zip(sent_timers));
        for (index, result) in sent {
            if let Err(error) = result
                && results[index].is_ok()
            {
                results[index] = Err(error);
            }
        }
        // All from the first failure on comes again, and is measured then.
        for (change, _) in changes.iter().zip(&results).take_while(|(_, result)| result.is_ok()) {
            measure(change);
        }
        results
    }

    /// Collects the events and timers of one change, and sends at once what goes one by one.
    async fn collect(
        &self,
        index: usize,
        change: &Change,
        events: &mut Vec<(usize, OutgoingEvent)>,
        timers: &mut Vec<(usize, TimerMessage)>,
        slots: &mut Vec<(ProviderId, SlotChange)>,
    ) -> Result<(), StoreError> {
        let (old, new) = match change {
            Change::Images { old, new } => (old.as_deref(), new),
            Change::Unreadable(record) => {
                tracing::error!(
                    booking.id = record.booking_id,
                    reason = record.reason,
                    "A record is parked."
                );
                self.parking.park(record).await?;
                // What was due is not known, but whoever looks at the item will know.
                if let Ok(id) = BookingId::parse(&record.booking_id) {
                    let look_at = self.clock.now().plus_ms(LOOK_AFTER_PARKING_MS);
                    timers.push((index, TimerMessage::new(&id, look_at)));
                }
                return Ok(());
            }
        };
        for effect in effects(old, new) {
            match effect {
                Effect::Emit(event) => match outgoing(new, &event) {
                    Ok(event) => events.push((index, event)),
                    Err(error) => {
                        tracing::error!(booking.id = %new.id, %error, "An event cannot be written as JSON.");
                        let record = record(new, event.version, event.version, "event_not_serialisable");
                        self.parking.park(&record).await?;
                        PARKED_RECORDS.record([], 1);
                    }
                },
                Effect::ArmTimer { due_at } => timers.push((index, TimerMessage::new(&new.id, due_at))),
                Effect::Keep(notification) => self.keep(new, notification).await?,
                Effect::Occupy(change) => {
                    // That a provider was told is no version, and the item does not say when it was.
                    let is_later = old.is_some_and(|old| old.version() == new.version());
                    let at = if is_later { self.clock.now() } else { change.at };
                    slots.push((new.request.provider_id.clone(), SlotChange { at, ..change }));
                }
                Effect::DeadLetter { reason, version } => {
                    tracing::error!(booking.id = %new.id, reason = reason.as_str(), "A booking needs a look.");
                    self.parking.dead_letter(&record(new, version, version, reason.as_str())).await?;
                }
            }
        }
        Ok(())
    }

    /// Notes the slots that changed hands, all at once. Of the same word on a slot of a booking, said several times
    /// in a row, the last is noted, and what is claimed only if nothing follows on it.
    ///
    /// What cannot be noted after several tries holds up nothing else and does not come again: until the location's
    /// provider is asked the next time, a slot is shown that is taken, or is not shown that is open.
    async fn note(&self, changes: Vec<(ProviderId, SlotChange)>) {
        let is_noted = |place: usize, change: &SlotChange| {
            let mut later = changes.iter().skip(place.saturating_add(1));
            let next =
                later.find(|(_, other)| other.booking_id == change.booking_id && other.slot == change.slot);
            next.is_none_or(|(_, next)| next.hold != change.hold && change.hold != Hold::Claimed)
        };
        let last = changes.iter().enumerate().filter(|(place, (_, change))| is_noted(*place, change));
        let notes = last.map(|(_, (provider_id, change))| self.note_one(provider_id, change));
        // A list of them may move between threads; the compiler cannot tell that of what makes it.
        let notes: Vec<_> = notes.collect();
        stream::iter(notes).buffer_unordered(CONCURRENT_NOTES).collect::<()>().await;
    }

    async fn note_one(&self, provider_id: &ProviderId, change: &SlotChange) {
        let mut pauses = NOTE_PAUSES_MS.into_iter();
        loop {
            match (self.slots.note(provider_id, change).await, pauses.next()) {
                (Ok(()), _) => return,
                (Err(StoreError::Unavailable(_)), Some(pause_ms)) => {
                    sleep(Duration::from_millis(pause_ms)).await;
                }
                (Err(error), _) => {
                    tracing::error!(booking.id = %change.booking_id, %error, "A slot's change is not noted.");
                    return;
                }
            }
        }
    }

    /// Keeps a notification for its provider to fetch.
    async fn keep(&self, booking: &Booking, notification: Notification) -> Result<(), StoreError> {
        let kept = kept(booking, notification);
        match self.mailbox.keep(&kept).await {
            // It would fail again, and hold up all that follow.
            Err(error @ (StoreError::Corrupt(_) | StoreError::Refused(_))) => {
                tracing::error!(booking.id = %booking.id, %error, "A notification cannot be kept.");
                let version = kept.notification.version;
                PARKED_RECORDS.record([], 1);
                self.parking.park(&record(booking, version, version, "notification_not_kept")).await
            }
            kept_or_unavailable => kept_or_unavailable,
        }
    }
}

/// Records what a change says of the booking's life.
fn measure(change: &Change) {
    let (old, new) = match change {
        Change::Images { old, new } => (old.as_deref(), new),
        Change::Unreadable(_) => return PARKED_RECORDS.record([], 1),
    };
    let known = usize::try_from(old.map_or(0, Booking::version)).unwrap_or(usize::MAX);
    for (place, entry) in new.history.iter().enumerate().skip(known.max(1)) {
        let was_pending =
            new.history.get(place.saturating_sub(1)).map(|before| before.status) == Some(Status::Pending);
        if was_pending && entry.status != Status::Pending {
            PENDING_AGE.record([entry.status.as_str()], new.created_at().ms_until(entry.at));
        }
        if let Some(reason) = DeadLetterReason::of(entry.cause) {
            DEAD_LETTERS.record([reason.as_str()], 1);
        }
    }
    let outcome = |compensation: &Compensation| match compensation {
        Compensation::NotNeeded => None,
        Compensation::Underway(_) => Some("begun"),
        Compensation::Done => Some("done"),
        Compensation::Failed => Some("failed"),
    };
    if let Some(now) = outcome(&new.compensation)
        && old.and_then(|old| outcome(&old.compensation)) != Some(now)
    {
        COMPENSATIONS.record([now], 1);
    }
}

/// An event about a booking, as the bus takes it.
pub(crate) fn outgoing(booking: &Booking, event: &Event) -> Result<OutgoingEvent, serde_json::Error> {
    Ok(OutgoingEvent {
        event_type: event.event_type.as_str().to_owned(),
        at: event.at,
        tenant: booking.tenant.clone(),
        subject: booking.id.as_str().to_owned(),
        body: event_body(booking, event)?,
    })
}

/// A notification, as its provider's mailbox takes it.
pub(crate) fn kept(booking: &Booking, notification: Notification) -> KeptNotification {
    KeptNotification {
        provider_id: booking.request.provider_id.clone(),
        booking_id: booking.id.clone(),
        notification,
        released: false,
    }
}

/// What is put where somebody looks for it.
pub(crate) fn record(booking: &Booking, from_version: u32, to_version: u32, reason: &str) -> ParkedRecord {
    ParkedRecord {
        booking_id: booking.id.as_str().to_owned(),
        from_version: Some(from_version),
        to_version: Some(to_version),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use holdfast_domain::{
        Acknowledgement, AttemptOutcome, Command, CompensationRun, Phase, Slot, Timestamp, transition,
    };

    use super::*;
    use crate::metrics::{Recorded, Sample, collected};
    use crate::test_util::{
        self, Fault, Faults, MemoryBus, MemoryMailbox, MemoryParking, MemoryTimers, TestClock,
    };

    /// Booking, version, and what became of the slot.
    type Note = (u8, u32, Hold);

    /// A log that keeps what it is told.
    #[derive(Default)]
    struct Noted(Mutex<Vec<Note>>);

    impl SlotChangeLog for Noted {
        async fn note(&self, _: &ProviderId, change: &SlotChange) -> Result<(), StoreError> {
            let booking = u8::from(change.booking_id == id(2)) + 1;
            let noted = (booking, change.version, change.hold);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
            Ok(())
        }
    }

    fn id(number: u8) -> BookingId {
        BookingId::from_bytes([number; 16])
    }

    fn at() -> Timestamp {
        Timestamp::EPOCH.plus_ms(1_800_000_000_000)
    }

    fn change(booking: u8, version: u32, hold: Hold, location: &str) -> (ProviderId, SlotChange) {
        let slot = Slot { location_id: location.to_owned(), ..test_util::pending(id(1), at()).slot };
        let change =
            SlotChange { booking_id: id(booking), version, at: at(), slot, units: 1, hold, settles: false };
        (ProviderId::parse("clinic").unwrap(), change)
    }

    async fn noted(changes: Vec<(ProviderId, SlotChange)>) -> Vec<Note> {
        let outbox = Outbox {
            timers: MemoryTimers::new(),
            bus: MemoryBus::new(),
            parking: MemoryParking::new(),
            mailbox: MemoryMailbox::new(),
            slots: Noted::default(),
            clock: TestClock::starting_at(at()),
        };
        outbox.note(changes).await;
        outbox.slots.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each note is a write. What follows on it at once makes a claim, and a repeated word, needless.
    #[tokio::test]
    async fn of_what_happened_to_a_slot_only_what_lasts_is_noted() {
        use Hold::{Claimed, Dropped, GivenBack, Taken};
        let of = |holds: &[Hold]| {
            (1..).zip(holds).map(|(version, hold)| change(1, version, *hold, "main")).collect()
        };
        let cases: [(&[Hold], &[Note]); 7] = [
            (&[Claimed], &[(1, 1, Claimed)]),
            (&[Claimed, Taken], &[(1, 2, Taken)]),
            (&[Claimed, Claimed], &[(1, 2, Claimed)]),
            (&[Claimed, Dropped], &[(1, 2, Dropped)]),
            (&[Taken, Taken], &[(1, 2, Taken)]),
            (&[Taken, GivenBack], &[(1, 1, Taken), (1, 2, GivenBack)]),
            (&[Taken, GivenBack, Taken], &[(1, 1, Taken), (1, 2, GivenBack), (1, 3, Taken)]),
        ];
        for (holds, expected) in cases {
            assert_eq!(noted(of(holds)).await, expected, "{holds:?}");
        }
    }

    #[tokio::test]
    async fn what_happened_to_another_slot_or_by_another_booking_is_noted_besides() {
        use Hold::{Claimed, Taken};
        let slots = vec![change(1, 1, Claimed, "main"), change(1, 2, Taken, "other")];
        assert_eq!(noted(slots).await, [(1, 1, Claimed), (1, 2, Taken)]);
        let bookings = vec![change(1, 1, Claimed, "main"), change(2, 1, Taken, "main")];
        assert_eq!(noted(bookings).await, [(1, 1, Claimed), (2, 1, Taken)]);
    }

    /// An outbox whose bus fails as planned.
    fn outbox(
        faults: Faults,
    ) -> Outbox<MemoryTimers, MemoryBus, MemoryParking, MemoryMailbox, Noted, TestClock> {
        Outbox {
            timers: MemoryTimers::new(),
            bus: MemoryBus::with_faults(faults),
            parking: MemoryParking::new(),
            mailbox: MemoryMailbox::new(),
            slots: Noted::default(),
            clock: TestClock::starting_at(at()),
        }
    }

    fn confirmed(pending: &Booking, after_ms: u64) -> Booking {
        let acknowledgement = Acknowledgement { provider_reference: None, reserved_until: None };
        let command = Command::RecordAttempt {
            operation: 1,
            attempt: 1,
            outcome: AttemptOutcome::Acknowledged(acknowledgement),
            retry_delay_ms: 0,
        };
        transition(pending, command, at().plus_ms(after_ms)).unwrap().booking
    }

    fn told(samples: &[Sample]) -> Vec<(&'static str, Vec<&'static str>, u64)> {
        let told = |sample: &Sample| {
            let values = sample.dimensions().map(|(_, value)| value).collect();
            (sample.metric().name, values, sample.value())
        };
        samples.iter().map(told).collect()
    }

    #[tokio::test]
    async fn a_booking_s_life_is_measured_when_its_changes_are_carried_out() {
        let pending = test_util::pending(id(1), at());
        let confirmed = confirmed(&pending, 400);
        let run = CompensationRun {
            number: 2,
            give_up_at: at(),
            attempts: 0,
            unanswered_send_at: at(),
            last_error: None,
            phase: Phase::Waiting { next_attempt_at: at() },
        };
        let compensating = Booking { compensation: Compensation::Underway(run), ..confirmed.clone() };
        let done = Booking { compensation: Compensation::Done, ..confirmed.clone() };
        let images = |old: &Booking, new: &Booking| Change::Images {
            old: Some(Box::new(old.clone())),
            new: Box::new(new.clone()),
        };
        let changes = [
            Change::Images { old: None, new: Box::new(pending.clone()) },
            images(&pending, &confirmed),
            // A write that is no version says nothing new.
            images(&confirmed, &confirmed),
            images(&confirmed, &compensating),
            images(&compensating, &compensating),
            images(&compensating, &done),
        ];
        let (results, Recorded { samples, .. }) = collected(outbox(Faults::new()).carry_out(&changes)).await;
        assert!(results.iter().all(Result::is_ok));
        let expected = [
            ("PendingAge", vec!["confirmed"], 400),
            ("Compensations", vec!["begun"], 1),
            ("Compensations", vec!["done"], 1),
        ];
        assert_eq!(told(&samples), expected);
    }

    #[tokio::test]
    async fn what_comes_again_is_measured_when_it_comes_again() {
        let pending = test_util::pending(id(1), at());
        let change =
            Change::Images { old: Some(Box::new(pending.clone())), new: Box::new(confirmed(&pending, 1)) };
        let faults = Faults::new();
        faults.always("bus.publish", Fault::FailBefore);
        let outbox = outbox(faults.clone());
        let (results, Recorded { samples, .. }) =
            collected(outbox.carry_out(std::slice::from_ref(&change))).await;
        assert!(results[0].is_err() && samples.is_empty(), "{samples:?}");
        faults.heal();
        let (_, Recorded { samples, .. }) = collected(outbox.carry_out(&[change])).await;
        assert_eq!(told(&samples), [("PendingAge", vec!["confirmed"], 1)]);
    }
}
