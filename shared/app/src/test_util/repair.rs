//! Dead letters and the log of repairs in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use holdfast_domain::Timestamp;

use super::{Faults, locked};
use crate::ports::{
    AuditEntry, AuditLog, AuditPage, AuditPlace, DeadLetter, DeadLetterQueue, DeadLetters, StoreError,
};

/// The most letters that one call takes, as SQS has it.
const MAX_TAKEN: usize = 10;

#[derive(Debug, Default)]
struct Letters {
    put: u64,
    bodies: BTreeMap<(DeadLetterQueue, u64), String>,
    taken: BTreeSet<u64>,
    sent_again: Vec<(DeadLetterQueue, String)>,
}

/// Queues of dead letters in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetters {
    letters: Arc<Mutex<Letters>>,
    faults: Faults,
}

impl MemoryDeadLetters {
    /// Empty queues without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty queues with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { letters: Arc::default(), faults }
    }

    /// Puts a letter into a queue, without a call.
    pub fn put(&self, queue: DeadLetterQueue, body: &str) {
        let mut letters = locked(&self.letters);
        letters.put += 1;
        let place = (queue, letters.put);
        letters.bodies.insert(place, body.to_owned());
    }

    /// The letters that wait in a queue, taken or not, in the order in which they came.
    pub fn waiting(&self, queue: DeadLetterQueue) -> Vec<String> {
        let letters = locked(&self.letters);
        let of_queue = letters.bodies.iter().filter(|((of, _), _)| *of == queue);
        of_queue.map(|(_, body)| body.clone()).collect()
    }

    /// What was sent to where it failed, in order.
    pub fn sent_again(&self) -> Vec<(DeadLetterQueue, String)> {
        locked(&self.letters).sent_again.clone()
    }

    /// Lets time pass: what was taken and is still there may be taken again.
    pub fn give_back(&self) {
        locked(&self.letters).taken.clear();
    }
}

impl DeadLetters for MemoryDeadLetters {
    async fn count(&self, queue: DeadLetterQueue) -> Result<u32, StoreError> {
        let count = || self.waiting(queue).len();
        let count = self.faults.run("letters.count", count).await?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    async fn take(&self, queue: DeadLetterQueue, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let take = || {
            let mut letters = locked(&self.letters);
            let there = letters
                .bodies
                .iter()
                .filter(|((of, number), _)| *of == queue && !letters.taken.contains(number));
            let found: Vec<(u64, DeadLetter)> = there
                .take(limit.min(MAX_TAKEN))
                .map(|((_, number), body)| {
                    (*number, DeadLetter { body: body.clone(), receipt: number.to_string() })
                })
                .collect();
            letters.taken.extend(found.iter().map(|(number, _)| *number));
            found.into_iter().map(|(_, letter)| letter).collect()
        };
        self.faults.run("letters.take", take).await
    }

    async fn send_again(&self, queue: DeadLetterQueue, letter: &DeadLetter) -> Result<(), StoreError> {
        let send = || locked(&self.letters).sent_again.push((queue, letter.body.clone()));
        self.faults.run("letters.send_again", send).await
    }

    async fn remove(&self, queue: DeadLetterQueue, letter: &DeadLetter) -> Result<(), StoreError> {
        let remove = || {
            if let Ok(number) = letter.receipt.parse() {
                locked(&self.letters).bodies.remove(&(queue, number));
            }
        };
        self.faults.run("letters.remove", remove).await
    }
}

/// The log of repairs in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryAudit {
    /// By time and nonce.
    entries: Arc<Mutex<BTreeMap<(Timestamp, String), AuditEntry>>>,
    faults: Faults,
}

impl MemoryAudit {
    /// An empty log without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty log with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { entries: Arc::default(), faults }
    }
}

impl AuditLog for MemoryAudit {
    async fn add(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let add = || {
            let place = (entry.at, entry.nonce.clone());
            locked(&self.entries).insert(place, entry.clone());
        };
        self.faults.run("audit.add", add).await
    }

    async fn entries(&self, after: Option<&AuditPlace>, limit: usize) -> Result<AuditPage, StoreError> {
        let read = || {
            let mut entries: Vec<AuditEntry> = locked(&self.entries).values().rev().cloned().collect();
            if let Some(after) = after {
                entries.retain(|entry| (entry.at, &entry.nonce) < (after.at, &after.nonce));
            }
            let is_more = entries.len() > limit;
            entries.truncate(limit);
            let last = entries.last().filter(|_| is_more);
            let next = last.map(|last| AuditPlace { at: last.at, nonce: last.nonce.clone() });
            AuditPage { entries, next }
        };
        self.faults.run("audit.entries", read).await
    }
}
