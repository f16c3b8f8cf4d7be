//! Mailboxes of providers in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use holdfast_domain::{BookingId, FETCH_LIMIT_MS, ProviderId, Timestamp};

use super::{Faults, locked};
use crate::ports::{
    KeptNotification, NotificationMailbox, Release, ReleaseWindow, StoreError, Waiting, fetched_at,
};

/// How many more entries are counted at the most, as the real one does.
const MAX_COUNTED: usize = 1_000;

#[derive(Debug)]
struct Entry {
    kept: KeptNotification,
    fetched_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Mailbox {
    /// By booking and number.
    entries: BTreeMap<(BookingId, u32), Entry>,
    last_release: Option<ReleaseWindow>,
}

impl Mailbox {
    fn is_released(&self, entry: &Entry, now: Timestamp) -> bool {
        let release = self.last_release.as_ref();
        entry.fetched_at.zip(release).is_some_and(|(at, release)| release.covers(at, now))
    }

    fn waiting(&self, limit: usize, now: Timestamp) -> Waiting {
        let mut found: Vec<(&Entry, bool)> = self
            .entries
            .values()
            .filter_map(|entry| {
                let begun_at = entry.kept.notification.begun_at;
                let is_fresh = entry.fetched_at.is_none() && begun_at.plus_ms(FETCH_LIMIT_MS) > now;
                let is_released = self.is_released(entry, now);
                (is_fresh || is_released).then_some((entry, is_released))
            })
            .collect();
        found.sort_by_key(|(entry, is_released)| {
            (!is_released, entry.fetched_at, entry.kept.notification.begun_at)
        });
        let shown = found.iter().take(limit);
        let notifications = shown
            .map(|(entry, is_released)| KeptNotification { released: *is_released, ..entry.kept.clone() })
            .collect();
        Waiting { notifications, remaining: found.len().saturating_sub(limit).min(MAX_COUNTED) }
    }

    fn mark_fetched(&mut self, kept: &KeptNotification, now: Timestamp) -> bool {
        let key = (kept.booking_id.clone(), kept.notification.number);
        let waits = self.entries.get(&key).is_some_and(|entry| {
            if kept.released { self.is_released(entry, now) } else { entry.fetched_at.is_none() }
        });
        let at = fetched_at(self.last_release, now);
        match self.entries.get_mut(&key) {
            Some(entry) if waits => {
                entry.fetched_at = Some(at);
                true
            }
            Some(_) | None => false,
        }
    }

    fn release(&mut self, now: Timestamp) -> Release {
        match ReleaseWindow::following(self.last_release, now) {
            Err(again_at) => Release::TooSoon { again_at },
            Ok(release) => {
                self.last_release = Some(release);
                let entries = self.entries.values();
                let released = entries.filter(|entry| self.is_released(entry, now)).count();
                Release::Done(released.min(MAX_COUNTED))
            }
        }
    }
}

/// Mailboxes in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryMailbox {
    mailboxes: Arc<Mutex<BTreeMap<ProviderId, Mailbox>>>,
    faults: Faults,
}

impl MemoryMailbox {
    /// Empty mailboxes without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty mailboxes with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { mailboxes: Arc::default(), faults }
    }

    /// Everything that was ever kept for a provider, by booking and number, without a call.
    pub fn entries(&self, provider_id: &ProviderId) -> Vec<KeptNotification> {
        let mailboxes = locked(&self.mailboxes);
        let entries = mailboxes.get(provider_id).map(|mailbox| mailbox.entries.values());
        entries.into_iter().flatten().map(|entry| entry.kept.clone()).collect()
    }

    fn with<T>(&self, provider_id: &ProviderId, act: impl FnOnce(&mut Mailbox) -> T) -> T {
        act(locked(&self.mailboxes).entry(provider_id.clone()).or_default())
    }
}

impl NotificationMailbox for MemoryMailbox {
    async fn keep(&self, kept: &KeptNotification) -> Result<(), StoreError> {
        let effect = || {
            self.with(&kept.provider_id, |mailbox| {
                let key = (kept.booking_id.clone(), kept.notification.number);
                let new = || Entry { kept: kept.clone(), fetched_at: None };
                mailbox.entries.entry(key).or_insert_with(new);
            });
        };
        self.faults.run("mailbox.keep", effect).await
    }

    async fn waiting(
        &self,
        provider_id: &ProviderId,
        limit: usize,
        now: Timestamp,
    ) -> Result<Waiting, StoreError> {
        let effect = || self.with(provider_id, |mailbox| mailbox.waiting(limit, now));
        self.faults.run("mailbox.waiting", effect).await
    }

    async fn mark_fetched(&self, kept: &[KeptNotification], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        let places: Vec<(usize, &KeptNotification)> = kept.iter().enumerate().collect();
        let mut marked = vec![false; kept.len()];
        let mark = |(place, kept): &(usize, &KeptNotification)| {
            let is_marked = self.with(&kept.provider_id, |mailbox| mailbox.mark_fetched(kept, now));
            if let Some(slot) = marked.get_mut(*place) {
                *slot = is_marked;
            }
        };
        let results = self.faults.run_batch("mailbox.mark_fetched", &places, mark).await;
        results.into_iter().zip(marked).map(|(result, is_marked)| result.map(|()| is_marked)).collect()
    }

    async fn release(&self, provider_id: &ProviderId, now: Timestamp) -> Result<Release, StoreError> {
        let effect = || self.with(provider_id, |mailbox| mailbox.release(now));
        self.faults.run("mailbox.release", effect).await
    }
}
