//! The queue of timers, with what may go wrong on its way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_app::ports::{Clock, StoreError, TimerMessage, TimerQueue};
use holdfast_app::test_util::{Faults, TestClock};
use holdfast_domain::Timestamp;
use tokio::sync::Notify;

/// The longest delay of a queue, in milliseconds, as SQS has it.
pub(crate) const MAX_DELAY_MS: u64 = 900_000;

/// What goes wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// It is lost for good, unless it guards a request: what does so is not in the index that is swept, so that
    /// the queue has to keep it.
    Lost,
    /// It comes so many milliseconds late.
    Late(u64),
    /// It comes, and so many milliseconds later once more.
    Twice(u64),
    /// It comes at once.
    Early,
}

/// A message in the queue.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    visible_at: Timestamp,
    pub(crate) message: TimerMessage,
    pub(crate) is_lost: bool,
}

#[derive(Debug, Default)]
struct Queue {
    messages: Vec<Queued>,
    /// How many calls of all ports had begun when each message was armed.
    armed_after: Vec<usize>,
    mishaps: BTreeMap<usize, Mishap>,
}

/// A queue of timers with relative delays, so that the clocks of sender and queue may differ.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    queue: Arc<Mutex<Queue>>,
    clock: TestClock,
    faults: Faults,
    wake: Arc<Notify>,
}

impl Timers {
    pub(crate) fn new(clock: TestClock, faults: Faults, wake: Arc<Notify>) -> Self {
        Self { queue: Arc::default(), clock, faults, wake }
    }

    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans what goes wrong with the `nth` message (from 1) that is armed.
    pub(crate) fn mishap(&self, nth: usize, mishap: Mishap) {
        self.locked().mishaps.insert(nth, mishap);
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&self) {
        self.locked().mishaps.clear();
    }

    /// How many calls of all ports had begun when each message was armed.
    pub(crate) fn armed_after(&self) -> Vec<usize> {
        self.locked().armed_after.clone()
    }

    pub(crate) fn send(&self, message: TimerMessage, delay_ms: u64) {
        self.enqueue(message, delay_ms.min(MAX_DELAY_MS), false);
    }

    fn enqueue(&self, message: TimerMessage, delay_ms: u64, is_lost: bool) {
        let visible_at = self.clock.now().plus_ms(delay_ms);
        self.locked().messages.push(Queued { visible_at, message, is_lost });
        self.wake.notify_one();
    }

    pub(crate) fn receive(&self) -> Vec<Queued> {
        let now = self.clock.now();
        let mut queue = self.locked();
        if queue.messages.iter().all(|queued| queued.visible_at > now) {
            return Vec::new();
        }
        let (due, later) = queue.messages.drain(..).partition(|queued| queued.visible_at <= now);
        queue.messages = later;
        due
    }

    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.locked().messages.iter().map(|queued| queued.visible_at).min()
    }

    fn arm_one(&self, message: &TimerMessage, now: Timestamp) {
        let mishap = {
            let mut queue = self.locked();
            queue.armed_after.push(self.faults.count());
            let nth = queue.armed_after.len();
            queue.mishaps.get(&nth).copied()
        };
        let delay_ms = now.ms_until(message.not_before).min(MAX_DELAY_MS);
        match mishap {
            None => self.enqueue(message.clone(), delay_ms, false),
            Some(Mishap::Lost) => self.enqueue(message.clone(), delay_ms, true),
            Some(Mishap::Late(by_ms)) => self.enqueue(message.clone(), delay_ms + by_ms, false),
            Some(Mishap::Twice(again_after_ms)) => {
                self.enqueue(message.clone(), delay_ms, false);
                self.enqueue(message.clone(), delay_ms + again_after_ms, false);
            }
            Some(Mishap::Early) => self.enqueue(message.clone(), 0, false),
        }
    }
}

impl TimerQueue for Timers {
    async fn arm(&self, timers: &[TimerMessage], now: Timestamp) -> Vec<Result<(), StoreError>> {
        self.faults.run_batch("timers.arm", timers, |timer| self.arm_one(timer, now)).await
    }
}
