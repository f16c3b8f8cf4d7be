//! What goes wrong, and when: a plan that the in-memory ports ask before every call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::locked;
use crate::ports::StoreError;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing was done.
    FailBefore,
    /// It is done, and its answer is lost: an error is reported.
    FailAfter,
    /// It is done this many milliseconds later.
    DelayBefore(u64),
    /// It is done at once and answered this many milliseconds later.
    DelayAfter(u64),
    /// The worker dies before the call: it never goes on.
    StopBefore,
    /// The worker dies after the call: it is done, and the worker never goes on.
    StopAfter,
    /// Of a batch, the entry at this place (from 0) fails and the others are done. Calls that are no
    /// batch are done.
    FailEntry(usize),
}

#[derive(Debug, Default)]
struct Plan {
    calls: Vec<&'static str>,
    made: BTreeMap<&'static str, usize>,
    by_place: BTreeMap<usize, Fault>,
    by_operation: BTreeMap<(&'static str, usize), Fault>,
    always: BTreeMap<&'static str, Fault>,
}

/// A plan of faults and a log of calls. Several ports may share one, so that calls have one order.
///
/// Operations are named after port and method: `bookings.claim`, `bookings.read`, `bookings.replace`,
/// `bookings.overdue`, `settings.load`, `breaker.read`, `breaker.record_failure`,
/// `breaker.close`, `breaker.forget_failures`, `breaker.try_probe`, `breaker.release_probe`,
/// `limits.take_calls`, `limits.take_place`, `limits.give_place_back`, `configuration.<method>`, `endpoints.<method>`,
/// `deliveries.create`, `deliveries.read`, `deliveries.replace`, `deliveries.created_between`,
/// `attempts.append`, `attempts.attempts`, `delivery_queue.send`, `delivery_queue.ask`, `timers.arm`,
/// `feed.append`, `feed.read`, `feed.last_number`, `bus.publish`, `parking.park`, `parking.dead_letter`,
/// `mailbox.keep`, `mailbox.waiting`,
/// `mailbox.mark_fetched`, `mailbox.release`, `availability.read`, `availability.replace`,
/// `availability.confirm`, `availability.record_failure`, `availability.forget`, `availability.note`,
/// `locations.<method>`, `booking_key_secrets.replace`, `refreshes.send`.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// A plan without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a fault for the `nth` call (from 1) of an operation, counted from the beginning.
    pub fn on(&self, operation: &'static str, nth: usize, fault: Fault) {
        locked(&self.0).by_operation.insert((operation, nth), fault);
    }

    /// Plans a fault for the next call of an operation.
    pub fn next(&self, operation: &'static str, fault: Fault) {
        let mut plan = locked(&self.0);
        let made = plan.made.get(operation).copied().unwrap_or(0);
        plan.by_operation.insert((operation, made.saturating_add(1)), fault);
    }

    /// Plans a fault for the `nth` call (from 1) of all.
    pub fn on_call(&self, nth: usize, fault: Fault) {
        locked(&self.0).by_place.insert(nth, fault);
    }

    /// Plans a fault for every call of an operation that no other plan is for.
    pub fn always(&self, operation: &'static str, fault: Fault) {
        locked(&self.0).always.insert(operation, fault);
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        let mut plan = locked(&self.0);
        plan.by_place.clear();
        plan.by_operation.clear();
        plan.always.clear();
    }

    /// The calls made so far, in order.
    pub fn calls(&self) -> Vec<&'static str> {
        locked(&self.0).calls.clone()
    }

    fn begin(&self, operation: &'static str) -> Option<Fault> {
        let mut plan = locked(&self.0);
        plan.calls.push(operation);
        let place = plan.calls.len();
        let made = plan.made.entry(operation).or_default();
        *made += 1;
        let nth = *made;
        let planned = plan.by_place.get(&place).or_else(|| plan.by_operation.get(&(operation, nth)));
        planned.or_else(|| plan.always.get(operation)).copied()
    }

    /// Makes a call whose effect is `effect`.
    pub(super) async fn run<T>(
        &self,
        operation: &'static str,
        effect: impl FnOnce() -> T,
    ) -> Result<T, StoreError> {
        let fault = self.begin(operation);
        carry_out(operation, fault, effect).await
    }

    /// Makes a batch call whose effect for each entry is `effect`; one result each, in order.
    pub(super) async fn run_batch<E>(
        &self,
        operation: &'static str,
        entries: &[E],
        mut effect: impl FnMut(&E),
    ) -> Vec<Result<(), StoreError>> {
        let fault = self.begin(operation);
        let all = || {
            let each = |(position, entry)| {
                if fault == Some(Fault::FailEntry(position)) {
                    return Err(injected(operation));
                }
                effect(entry);
                Ok(())
            };
            entries.iter().enumerate().map(each).collect()
        };
        let results: Result<Vec<_>, StoreError> = carry_out(operation, fault, all).await;
        results.unwrap_or_else(|error| vec![Err(error); entries.len()])
    }
}

async fn carry_out<T>(
    operation: &str,
    fault: Option<Fault>,
    effect: impl FnOnce() -> T,
) -> Result<T, StoreError> {
    // Every call is a point where others may go first.
    tokio::task::yield_now().await;
    match fault {
        None | Some(Fault::FailEntry(_)) => Ok(effect()),
        Some(Fault::FailBefore) => Err(injected(operation)),
        Some(Fault::FailAfter) => {
            effect();
            Err(injected(operation))
        }
        Some(Fault::DelayBefore(delay_ms)) => {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            Ok(effect())
        }
        Some(Fault::DelayAfter(delay_ms)) => {
            let done = effect();
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            Ok(done)
        }
        Some(Fault::StopBefore) => std::future::pending().await,
        Some(Fault::StopAfter) => {
            effect();
            std::future::pending().await
        }
    }
}

fn injected(operation: &str) -> StoreError {
    StoreError::Unavailable(format!("{operation}: an injected fault"))
}
