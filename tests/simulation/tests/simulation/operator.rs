//! Operators, who mend what cannot mend itself: records that nobody could read, and records that were given up.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_app::ports::{Clock, DeadLetterQueue};
use holdfast_app::repair::{Operator, Repair};
use holdfast_app::test_util::{
    MemoryAudit, MemoryBookingStore, MemoryBus, MemoryDeadLetters, MemoryMailbox, MemoryParking,
    SeededEntropy, TestClock,
};
use serde_json::json;
use tokio::time::timeout;

use crate::actors::Actor;
use crate::bench::Bench;
use crate::plan::Fate;
use crate::timers::Timers;

/// How long after a record was given up an operator makes up for it, in milliseconds.
const OPERATOR_COMES_MS: u64 = 900_000;
/// How much more than clocks may be apart an operator takes a time to be longer, in milliseconds.
const MARGIN_MS: u64 = 1_000;
/// How long an operator waits for an answer, in milliseconds.
const REPAIR_LIMIT_MS: u64 = 30_000;

type MemoryRepair = Repair<
    MemoryBookingStore,
    MemoryAudit,
    MemoryDeadLetters,
    Timers,
    MemoryBus,
    MemoryMailbox,
    MemoryParking,
    TestClock,
    SeededEntropy,
>;

fn operator() -> Operator {
    Operator { key_id: "ops".to_owned() }
}

impl Bench {
    /// An operator has all that was parked told, as it can be read by now.
    pub(crate) async fn redrive_parked(&self) {
        const QUEUE: DeadLetterQueue = DeadLetterQueue::ParkedRecords;
        let letters = MemoryDeadLetters::new();
        for record in self.parking.records() {
            letters.put(QUEUE, &serde_json::to_string(&record).unwrap());
        }
        let repair = self.repair(&letters);
        let operator = operator();
        let body = json!({"queue": QUEUE.as_str(), "reason": "what was written is understood by now"});
        while !letters.waiting(QUEUE).is_empty() {
            let redriven = repair.redrive(&operator, &body).await.unwrap();
            assert_eq!(redriven["kept"], 0, "{redriven}");
        }
    }

    /// Whether an operator has told of a whole stretch of time again.
    pub(crate) fn is_told_again(&self) -> bool {
        self.is_told_again.load(Ordering::Relaxed)
    }

    /// What operators call.
    fn repair(&self, letters: &MemoryDeadLetters) -> MemoryRepair {
        Repair {
            bookings: self.store.clone(),
            audit: MemoryAudit::new(),
            letters: letters.clone(),
            timers: self.timers.clone(),
            bus: self.bus.clone(),
            mailbox: self.mailbox.clone(),
            parking: self.parking.clone(),
            clock: self.clock,
            entropy: self.entropy.clone(),
        }
    }

    /// An operator who was called because records were given up has told again what changed at their time. Whether
    /// nobody waits for that any more.
    pub(crate) async fn make_up_for_given_up(&self) -> bool {
        let times = self.given_up.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return true };
        if self.clock.now() < last.end.plus_ms(OPERATOR_COMES_MS) {
            return false;
        }
        self.is_told_again.store(true, Ordering::Relaxed);
        let margin_ms = self.largest_skew_ms + MARGIN_MS;
        let (from, to) = (first.start.minus_ms(margin_ms), last.end.plus_ms(margin_ms));
        let mut body = json!({"from": from, "to": to, "reason": "the stream gave records up"});
        loop {
            let (letters, operator) = (MemoryDeadLetters::new(), operator());
            let repair = self.repair(&letters);
            let work =
                timeout(Duration::from_millis(REPAIR_LIMIT_MS), repair.emit_period_again(&operator, &body));
            // Whoever hears of a failure, or of nothing, calls again.
            let Some(Ok(Ok(answer))) = Actor::new("operator").live(work).await else { return false };
            assert_eq!(answer["failed"], 0, "{answer}");
            body["cursor"] = answer["next_cursor"].clone();
            if body["cursor"].is_null() {
                break;
            }
        }
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).retain(|time| !times.contains(time));
        true
    }

    /// Records that come next and are given up are passed over, and an operator is called. Returns how many were seen.
    pub(crate) fn pass_over_given_up(&self) -> usize {
        let mut seen = self.changes_seen.load(Ordering::Relaxed);
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        while seen < self.store.changes_made() && fates.get(&(seen + 1)) == Some(&Fate::GivenUp) {
            seen += 1;
            self.journal.say(&|| format!("the stream gives its record {seen} up"));
            // The last time that there was nothing to show, the change had not been made.
            let drained_at = *self.drained_at.lock().unwrap_or_else(PoisonError::into_inner);
            let time = drained_at..self.clock.now();
            self.given_up.lock().unwrap_or_else(PoisonError::into_inner).push(time);
        }
        self.changes_seen.store(seen, Ordering::Relaxed);
        seen
    }
}
