//! Timers, events and parked records in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use holdfast_domain::Timestamp;

use super::{Faults, locked};
use crate::ports::{
    EventBus, OutgoingEvent, ParkedRecord, RecordParking, StoreError, TimerMessage, TimerQueue,
};

/// The longest delay of a message, in milliseconds, as SQS has it.
const MAX_DELAY_MS: u64 = 900_000;

/// Messages of a queue, by the time from which on each may be received, and by the order in which they were
/// sent.
#[derive(Debug)]
pub(super) struct Delayed<M> {
    messages: BTreeMap<(Timestamp, u64), M>,
    sent: u64,
}

impl<M> Default for Delayed<M> {
    fn default() -> Self {
        Self { messages: BTreeMap::new(), sent: 0 }
    }
}

impl<M: Clone> Delayed<M> {
    pub(super) fn send(&mut self, message: M, not_before: Timestamp, now: Timestamp) {
        let visible_at = not_before.max(now).min(now.plus_ms(MAX_DELAY_MS));
        self.sent += 1;
        self.messages.insert((visible_at, self.sent), message);
    }

    pub(super) fn receive(&mut self, now: Timestamp) -> Vec<M> {
        let later = self.messages.split_off(&(now.plus_ms(1), 0));
        std::mem::replace(&mut self.messages, later).into_values().collect()
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.messages.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn messages(&self) -> Vec<M> {
        let mut messages: Vec<(&u64, &M)> =
            self.messages.iter().map(|((_, nth), message)| (nth, message)).collect();
        messages.sort_by_key(|(nth, _)| *nth);
        messages.into_iter().map(|(_, message)| message.clone()).collect()
    }
}

/// The queue of timers in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryTimers {
    queue: Arc<Mutex<Delayed<TimerMessage>>>,
    faults: Faults,
}

impl MemoryTimers {
    /// An empty queue without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty queue with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { queue: Arc::default(), faults }
    }

    /// Takes the messages that may be received at `now`, the earliest first.
    pub fn receive(&self, now: Timestamp) -> Vec<TimerMessage> {
        locked(&self.queue).receive(now)
    }

    /// When the next message may be received; `None` if there is none.
    pub fn next_at(&self) -> Option<Timestamp> {
        locked(&self.queue).next_at()
    }

    /// The messages that are waiting, in the order in which they were sent.
    pub fn waiting(&self) -> Vec<TimerMessage> {
        locked(&self.queue).messages()
    }
}

impl TimerQueue for MemoryTimers {
    async fn arm(&self, timers: &[TimerMessage], now: Timestamp) -> Vec<Result<(), StoreError>> {
        let send = |timer: &TimerMessage| locked(&self.queue).send(timer.clone(), timer.not_before, now);
        self.faults.run_batch("timers.arm", timers, send).await
    }
}

/// The event bus in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryBus {
    events: Arc<Mutex<Vec<OutgoingEvent>>>,
    faults: Faults,
}

impl MemoryBus {
    /// A bus without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A bus with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { events: Arc::default(), faults }
    }

    /// What was published so far, in order.
    pub fn events(&self) -> Vec<OutgoingEvent> {
        locked(&self.events).clone()
    }
}

impl EventBus for MemoryBus {
    async fn publish(&self, events: &[OutgoingEvent]) -> Vec<Result<(), StoreError>> {
        let publish = |event: &OutgoingEvent| locked(&self.events).push(event.clone());
        self.faults.run_batch("bus.publish", events, publish).await
    }
}

#[derive(Debug, Default)]
struct Parked {
    records: Vec<ParkedRecord>,
    dead_letters: Vec<ParkedRecord>,
}

/// Parked records in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryParking {
    parked: Arc<Mutex<Parked>>,
    faults: Faults,
}

impl MemoryParking {
    /// An empty parking without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty parking with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { parked: Arc::default(), faults }
    }

    /// The records parked so far.
    pub fn records(&self) -> Vec<ParkedRecord> {
        locked(&self.parked).records.clone()
    }

    /// The bookings raised so far.
    pub fn dead_letters(&self) -> Vec<ParkedRecord> {
        locked(&self.parked).dead_letters.clone()
    }
}

impl RecordParking for MemoryParking {
    async fn park(&self, record: &ParkedRecord) -> Result<(), StoreError> {
        let park = || locked(&self.parked).records.push(record.clone());
        self.faults.run("parking.park", park).await
    }

    async fn dead_letter(&self, record: &ParkedRecord) -> Result<(), StoreError> {
        let raise = || locked(&self.parked).dead_letters.push(record.clone());
        self.faults.run("parking.dead_letter", raise).await
    }
}
