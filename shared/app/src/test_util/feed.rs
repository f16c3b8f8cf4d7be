//! Feeds in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use holdfast_domain::{Tenant, Timestamp};

use super::{Faults, locked};
use crate::ports::{EventFeed, FeedEntry, FeedPage, NewEntry, StoreError};

type Feeds = BTreeMap<String, Vec<FeedEntry>>;

/// Feeds in memory. Nothing is ever removed.
#[derive(Clone, Debug, Default)]
pub struct MemoryFeed {
    feeds: Arc<Mutex<Feeds>>,
    faults: Faults,
}

impl MemoryFeed {
    /// Empty feeds without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty feeds with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { feeds: Arc::default(), faults }
    }

    /// All entries of a tenant, without a call.
    pub fn entries(&self, tenant: &Tenant) -> Vec<FeedEntry> {
        locked(&self.feeds).get(&tenant.to_string()).cloned().unwrap_or_default()
    }

    /// Removes entries that `kept` does not want, as time or a hand does in a table, or as if they were still
    /// being written.
    pub fn retain(&self, tenant: &Tenant, kept: impl Fn(&FeedEntry) -> bool) {
        if let Some(entries) = locked(&self.feeds).get_mut(&tenant.to_string()) {
            entries.retain(kept);
        }
    }
}

fn append(entries: &mut Vec<FeedEntry>, event: &NewEntry, now: Timestamp) {
    if entries.iter().any(|entry| entry.event.event_id == event.event_id) {
        return;
    }
    let last = entries.last();
    let at = last.map_or(now, |last| now.max(last.at));
    let previous_at = last.map_or(at, |last| last.at);
    let number = last.map_or(0, |last| last.number).saturating_add(1);
    entries.push(FeedEntry { number, at, previous_at, event: event.clone() });
}

impl EventFeed for MemoryFeed {
    async fn append(&self, tenant: &Tenant, events: &[NewEntry], now: Timestamp) -> Result<(), StoreError> {
        let effect = || {
            let mut feeds = locked(&self.feeds);
            let entries = feeds.entry(tenant.to_string()).or_default();
            for event in events {
                append(entries, event, now);
            }
        };
        self.faults.run("feed.append", effect).await
    }

    async fn read(&self, tenant: &Tenant, after: u64, limit: usize) -> Result<FeedPage, StoreError> {
        let effect = || {
            let mut behind = self.entries(tenant);
            behind.retain(|entry| entry.number > after);
            let has_more = behind.len() > limit;
            behind.truncate(limit);
            FeedPage { entries: behind, has_more }
        };
        self.faults.run("feed.read", effect).await
    }

    async fn last_number(&self, tenant: &Tenant) -> Result<u64, StoreError> {
        let effect = || self.entries(tenant).last().map_or(0, |last| last.number);
        self.faults.run("feed.last_number", effect).await
    }
}
