//! The queue of timers, with what may go wrong on its way.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_app::ports::{Clock, Entropy, StoreError, TimerMessage, TimerQueue};
use holdfast_app::test_util::{SeededEntropy, TestClock};
use holdfast_domain::Timestamp;

/// The longest delay of a queue, in milliseconds, as SQS has it.
pub(super) const MAX_DELAY_MS: u64 = 900_000;

/// What goes wrong around the use cases, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chaos {
    pub(super) lost_timers: u64,
    pub(super) doubled_timers: u64,
    pub(super) killed_workers: u64,
}

/// A queue of timers with relative delays, so that the clocks of sender and queue may differ.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    pub(super) queue: Arc<Mutex<Vec<(Timestamp, TimerMessage)>>>,
    pub(super) clock: TestClock,
    pub(super) chaos: Arc<Mutex<Chaos>>,
    pub(super) entropy: SeededEntropy,
}

impl Timers {
    pub(super) fn send(&self, message: TimerMessage, delay_ms: u64) {
        let at = self.clock.now().plus_ms(delay_ms.min(MAX_DELAY_MS));
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push((at, message));
    }

    pub(super) fn receive(&self) -> Vec<TimerMessage> {
        let now = self.clock.now();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, later) = queue.drain(..).partition(|(at, _)| *at <= now);
        *queue = later;
        let due: Vec<(Timestamp, TimerMessage)> = due;
        due.into_iter().map(|(_, message)| message).collect()
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(at, _)| *at).min()
    }

    pub(super) fn chances(&self) -> Chaos {
        *self.chaos.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn happens(&self, percent: u64) -> bool {
        percent > 0 && self.entropy.u64() % 100 < percent
    }
}

impl TimerQueue for Timers {
    async fn arm(&self, timers: &[TimerMessage], now: Timestamp) -> Vec<Result<(), StoreError>> {
        let chances = self.chances();
        for timer in timers {
            let delay_ms = now.ms_until(timer.not_before);
            if self.happens(chances.doubled_timers) {
                self.send(timer.clone(), delay_ms + self.entropy.u64() % 60_000);
            }
            self.send(timer.clone(), delay_ms);
        }
        timers.iter().map(|_| Ok(())).collect()
    }
}
