//! What goes wrong, and when: a plan that the in-memory ports ask before every call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::{SeededEntropy, locked};
use crate::ports::{Entropy, StoreError};

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
    /// The worker dies when half of the batch is done. Calls that are no batch are done before it dies.
    StopHalfWay,
    /// The whole worker stands still for so many milliseconds before the call, its own time limits included,
    /// if whoever runs it listens to [`Moment::Freezes`]; otherwise the call is done so much later.
    FreezeBefore(u64),
    /// The same after the call.
    FreezeAfter(u64),
    /// Somebody else writes the same item right before, and changes nothing but its revision. Calls that
    /// replace no item are done.
    Overtaken,
    /// The answer is that of a moment before the last change. Calls that read no index are done.
    Stale,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It begins.
    Begins,
    /// It was done, and the worker hears of it.
    Done,
    /// The worker hears that it failed.
    Failed,
    /// The worker dies.
    Stops,
    /// The worker stands still for so many milliseconds.
    Freezes(u64),
}

/// Hears of every call, in the task that makes it.
pub trait Watcher: std::fmt::Debug + Send + Sync {
    /// Something happens to a call; `fault` is what is planned for it.
    fn call(&self, operation: &'static str, moment: Moment, fault: Option<Fault>);

    /// Something else happens that whoever reads about the calls has to know. `tell` is called only if it is
    /// written down.
    fn event(&self, who: &str, tell: &dyn Fn() -> String);
}

/// How long calls take: up to so many milliseconds before and after the effect, so that those of several
/// workers come in any order.
#[derive(Clone, Debug)]
struct Pace {
    entropy: SeededEntropy,
    max_ms: u64,
}

#[derive(Debug, Default)]
struct Plan {
    /// It is not kept alive: watchers know the ports that they hear of, and these know the plan.
    watcher: Option<Weak<dyn Watcher>>,
    pace: Option<Pace>,
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

    /// Tells a watcher of every call from now on, for as long as it is there.
    pub fn watch(&self, watcher: Weak<dyn Watcher>) {
        locked(&self.0).watcher = Some(watcher);
    }

    /// From now on every call takes up to `max_ms` milliseconds before and after its effect.
    pub fn pace(&self, entropy: SeededEntropy, max_ms: u64) {
        locked(&self.0).pace = Some(Pace { entropy, max_ms });
    }

    /// Tells the watcher, if there is one, of something that is no call.
    pub(super) fn tell(&self, who: &str, tell: &dyn Fn() -> String) {
        let watcher = locked(&self.0).watcher.as_ref().and_then(Weak::upgrade);
        if let Some(watcher) = watcher {
            watcher.event(who, tell);
        }
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

    /// How many calls were made so far.
    pub fn count(&self) -> usize {
        locked(&self.0).calls.len()
    }

    fn begin(&self, operation: &'static str) -> Call {
        let mut plan = locked(&self.0);
        plan.calls.push(operation);
        let place = plan.calls.len();
        let made = plan.made.entry(operation).or_default();
        *made += 1;
        let nth = *made;
        let planned = plan.by_place.get(&place).or_else(|| plan.by_operation.get(&(operation, nth)));
        let fault = planned.or_else(|| plan.always.get(operation)).copied();
        Call {
            operation,
            fault,
            watcher: plan.watcher.as_ref().and_then(Weak::upgrade),
            pace: plan.pace.clone(),
        }
    }

    /// Makes a call whose effect is `effect`.
    pub(super) async fn run<T>(
        &self,
        operation: &'static str,
        effect: impl FnOnce() -> T,
    ) -> Result<T, StoreError> {
        self.run_knowing(operation, |_| effect()).await
    }

    /// Makes a call whose effect depends on what goes wrong.
    pub(super) async fn run_knowing<T>(
        &self,
        operation: &'static str,
        effect: impl FnOnce(Option<Fault>) -> T,
    ) -> Result<T, StoreError> {
        let call = self.begin(operation);
        let fault = call.fault;
        call.carry_out(|| effect(fault)).await
    }

    /// Makes a batch call whose effect for each entry is `effect`; one result each, in order.
    pub async fn run_batch<E>(
        &self,
        operation: &'static str,
        entries: &[E],
        mut effect: impl FnMut(&E),
    ) -> Vec<Result<(), StoreError>> {
        let call = self.begin(operation);
        let fault = call.fault;
        let all = || {
            let each = |(position, entry)| {
                if fault == Some(Fault::FailEntry(position)) {
                    return Err(injected(operation));
                }
                if fault != Some(Fault::StopHalfWay) || position < entries.len().div_ceil(2) {
                    effect(entry);
                }
                Ok(())
            };
            entries.iter().enumerate().map(each).collect()
        };
        let results: Result<Vec<_>, StoreError> = call.carry_out(all).await;
        results.unwrap_or_else(|error| vec![Err(error); entries.len()])
    }

    /// Lets a worker die or stand still before or after a call that fails in ways of its own.
    pub(super) async fn around<T>(&self, operation: &'static str, work: impl Future<Output = T>) -> T {
        let call = self.begin(operation);
        call.before().await;
        if call.fault == Some(Fault::StopAfter) {
            // It is sent, and goes on without its caller.
            let mut work = std::pin::pin!(work);
            std::future::poll_fn(|context| {
                let _answer = work.as_mut().poll(context);
                std::task::Poll::Ready(())
            })
            .await;
            return call.stop().await;
        }
        let done = work.await;
        call.after().await;
        call.tell(Moment::Done);
        done
    }
}

/// A call that has begun.
struct Call {
    operation: &'static str,
    fault: Option<Fault>,
    watcher: Option<Arc<dyn Watcher>>,
    pace: Option<Pace>,
}

impl Call {
    fn tell(&self, moment: Moment) {
        if let Some(watcher) = &self.watcher {
            watcher.call(self.operation, moment, self.fault);
        }
    }

    async fn stop<T>(&self) -> T {
        self.tell(Moment::Stops);
        std::future::pending().await
    }

    async fn freeze(&self, for_ms: u64) {
        self.tell(Moment::Freezes(for_ms));
        tokio::time::sleep(Duration::from_millis(for_ms)).await;
    }

    async fn wait_by_pace(&self) {
        if let Some(Pace { entropy, max_ms }) = &self.pace {
            let for_ms = entropy.u64() % max_ms.saturating_add(1);
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
        }
    }

    async fn before(&self) {
        self.tell(Moment::Begins);
        self.wait_by_pace().await;
        // Every call is a point where others may go first.
        tokio::task::yield_now().await;
        match self.fault {
            Some(Fault::StopBefore) => self.stop().await,
            Some(Fault::FreezeBefore(for_ms)) => self.freeze(for_ms).await,
            Some(Fault::DelayBefore(delay_ms)) => {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            }
            _ => {}
        }
    }

    async fn after(&self) {
        match self.fault {
            Some(Fault::StopAfter | Fault::StopHalfWay) => self.stop().await,
            Some(Fault::FreezeAfter(for_ms)) => self.freeze(for_ms).await,
            Some(Fault::DelayAfter(delay_ms)) => {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            }
            _ => {}
        }
        self.wait_by_pace().await;
    }

    async fn carry_out<T>(&self, effect: impl FnOnce() -> T) -> Result<T, StoreError> {
        self.before().await;
        if self.fault == Some(Fault::FailBefore) {
            self.tell(Moment::Failed);
            return Err(injected(self.operation));
        }
        let done = effect();
        if self.fault == Some(Fault::FailAfter) {
            self.tell(Moment::Failed);
            return Err(injected(self.operation));
        }
        self.after().await;
        self.tell(Moment::Done);
        Ok(done)
    }
}

fn injected(operation: &str) -> StoreError {
    StoreError::Unavailable(format!("{operation}: an injected fault"))
}
