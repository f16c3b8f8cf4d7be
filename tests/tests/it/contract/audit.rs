//! What every log of repairs promises.

use holdfast_app::ports::{AuditEntry, AuditLog, AuditPlace};
use holdfast_app::test_util::MemoryAudit;

use super::fixtures::now;

on_both!(
    MemoryAudit::new(), settings;
    entries_are_read_the_newest_first,
    pages_make_up_the_whole,
    entries_of_one_moment_are_told_apart,
);

pub(crate) fn entry(ms: u64, nonce: &str) -> AuditEntry {
    AuditEntry {
        at: now().plus_ms(ms),
        nonce: nonce.to_owned(),
        key_id: "ops1".to_owned(),
        action: "redrive".to_owned(),
        subject: "deliveries".to_owned(),
        reason: "Żagle were down".to_owned(),
    }
}

async fn entries_are_read_the_newest_first(log: &impl AuditLog) {
    assert_eq!(log.entries(None, 10).await.unwrap().entries, []);
    for ms in [5, 1, 9] {
        log.add(&entry(ms, "a")).await.unwrap();
    }
    let page = log.entries(None, 10).await.unwrap();
    assert_eq!(page.entries, [entry(9, "a"), entry(5, "a"), entry(1, "a")]);
    assert_eq!(page.next, None);
}

async fn pages_make_up_the_whole(log: &impl AuditLog) {
    for ms in 0..7 {
        log.add(&entry(ms, "a")).await.unwrap();
    }
    let (mut after, mut all): (Option<AuditPlace>, _) = (None, Vec::new());
    loop {
        let page = log.entries(after.as_ref(), 3).await.unwrap();
        assert!(page.entries.len() <= 3);
        all.extend(page.entries);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(all, (0..7).rev().map(|ms| entry(ms, "a")).collect::<Vec<_>>());
}

async fn entries_of_one_moment_are_told_apart(log: &impl AuditLog) {
    for nonce in ["b", "a"] {
        log.add(&entry(3, nonce)).await.unwrap();
    }
    // Its repetition is the same entry.
    log.add(&entry(3, "b")).await.unwrap();
    assert_eq!(log.entries(None, 10).await.unwrap().entries, [entry(3, "b"), entry(3, "a")]);
}
