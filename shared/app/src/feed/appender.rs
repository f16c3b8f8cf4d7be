//! Writes events to the feed, those of one tenant together that arrive at the same time.
//!
//! All events of a tenant need its one counter, so that writers of one tenant are in each other's way. Within
//! a process one of them writes at a time, and it writes for all that wait.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_domain::Tenant;
use tokio::sync::{Mutex as Turn, oneshot};

use crate::ports::{Clock, EventFeed, MAX_APPENDED, NewEntry, StoreError};

type Waiting = (NewEntry, oneshot::Sender<Result<(), StoreError>>);

/// The events of one tenant that wait, and whose turn it is to write them.
#[derive(Debug, Default)]
struct Lane {
    waiting: Mutex<Vec<Waiting>>,
    turn: Turn<()>,
}

impl Lane {
    fn push(&self, waiting: Waiting) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
    }

    /// Takes as many as one call appends, the oldest first.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(MAX_APPENDED);
        let rest = waiting.split_off(count);
        mem::replace(&mut *waiting, rest)
    }
}

/// Appends events to the feed.
#[derive(Debug)]
pub struct FeedAppender<F, C> {
    store: F,
    clock: C,
    /// The lanes of tenants that somebody is at work for.
    lanes: Mutex<BTreeMap<String, Arc<Lane>>>,
}

impl<F: EventFeed, C: Clock> FeedAppender<F, C> {
    /// Appends to `store`.
    pub fn new(store: F, clock: C) -> Self {
        Self { store, clock, lanes: Mutex::default() }
    }

    /// What it appends to.
    pub fn store(&self) -> &F {
        &self.store
    }

    /// Appends an event, possibly together with others that arrive at the same time. An error means that it
    /// may be missing and has to come again; appending it again gives it no second number.
    pub async fn append(&self, tenant: &Tenant, event: NewEntry) -> Result<(), StoreError> {
        let lane = self.lane(tenant);
        let (sender, mut outcome) = oneshot::channel();
        lane.push((event, sender));
        // The other messages of a batch go first, so that they are written with this one.
        tokio::task::yield_now().await;
        loop {
            let _turn = lane.turn.lock().await;
            match outcome.try_recv() {
                Ok(written) => {
                    self.leave(tenant, &lane);
                    return written;
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
                // Whoever was writing it was stopped half-way.
                Err(oneshot::error::TryRecvError::Closed) => {
                    self.leave(tenant, &lane);
                    return Err(StoreError::Unavailable("the event's writer was stopped".to_owned()));
                }
            }
            self.write(tenant, lane.take()).await;
        }
    }

    async fn write(&self, tenant: &Tenant, waiting: Vec<Waiting>) {
        let (events, senders): (Vec<NewEntry>, Vec<_>) = waiting.into_iter().unzip();
        let written = self.store.append(tenant, &events, self.clock.now()).await;
        for sender in senders {
            if sender.send(written.clone()).is_err() {
                tracing::debug!(tenant = %tenant, "Nobody waits for an event any more.");
            }
        }
    }

    fn lane(&self, tenant: &Tenant) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(tenant.to_string()).or_default())
    }

    /// Forgets a lane that nobody else uses, so that a process does not remember every tenant.
    fn leave(&self, tenant: &Tenant, lane: &Arc<Lane>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's, one this caller's. Under the lock nobody takes another.
        if Arc::strong_count(lane) == 2 {
            lanes.remove(&tenant.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::{join, join_all};
    use holdfast_domain::{EventId, Timestamp};

    use super::*;
    use crate::test_util::{Fault, Faults, MemoryFeed, TestClock};

    fn tenant() -> Tenant {
        Tenant::parse("test:shop").unwrap()
    }

    fn event(number: u32) -> NewEntry {
        NewEntry {
            event_id: EventId::derived("bkg", number, "booking.created"),
            event_type: "booking.created".to_owned(),
            body: number.to_string(),
        }
    }

    fn appender(faults: &Faults) -> FeedAppender<MemoryFeed, TestClock> {
        FeedAppender::new(MemoryFeed::with_faults(faults.clone()), TestClock::starting_at(Timestamp::EPOCH))
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_arrive_together_are_written_together() {
        let faults = Faults::new();
        let appender = appender(&faults);
        let tenant = tenant();
        let appends = (1..=25).map(|number| appender.append(&tenant, event(number)));
        assert!(join_all(appends).await.iter().all(Result::is_ok));
        assert_eq!(faults.calls(), ["feed.append"; 3], "ten at a time");
        let order: Vec<NewEntry> =
            appender.store().entries(&tenant).into_iter().map(|entry| entry.event).collect();
        assert_eq!(order, (1..=25).map(event).collect::<Vec<_>>());
        assert_eq!(appender.lanes.lock().unwrap().len(), 0, "tenants are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_all_whom_it_concerns_and_to_nobody_else() {
        let faults = Faults::new();
        let appender = appender(&faults);
        let (shop, rival) = (tenant(), Tenant::parse("test:rival").unwrap());
        faults.on("feed.append", 1, Fault::FailBefore);
        let (first, second, other) = tokio::join!(
            appender.append(&shop, event(1)),
            appender.append(&shop, event(2)),
            appender.append(&rival, event(3)),
        );
        assert!(first.is_err() && second.is_err());
        assert_eq!(other, Ok(()));
        assert_eq!(appender.append(&shop, event(1)).await, Ok(()));
        assert_eq!(appender.store().entries(&shop).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_is_stopped_half_way_stops_nobody() {
        let faults = Faults::new();
        let appender = appender(&faults);
        let tenant = tenant();
        faults.on("feed.append", 1, Fault::StopAfter);
        let stopped = tokio::time::timeout(Duration::from_secs(1), appender.append(&tenant, event(1)));
        // The first is asked first, so that it writes for both.
        let (stopped, second) = join(stopped, appender.append(&tenant, event(2))).await;
        assert!(stopped.is_err());
        assert!(second.is_err(), "what was written for it is not known");
        assert_eq!(appender.append(&tenant, event(2)).await, Ok(()));
        assert_eq!(appender.append(&tenant, event(1)).await, Ok(()));
        assert_eq!(appender.store().entries(&tenant).len(), 2);
    }
}
