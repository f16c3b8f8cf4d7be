//! Notifications that providers fetch for themselves.

use std::future::Future;

use holdfast_domain::{BookingId, FETCH_LIMIT_MS, Notification, ProviderId, Timestamp};

use super::StoreError;

/// How long a provider waits before it may ask again for what it has fetched, in milliseconds: an hour.
pub const RELEASE_PAUSE_MS: u64 = 60 * 60 * 1000;

/// For how long what a provider fetched is kept at the least, in milliseconds: it may be released for
/// [`FETCH_LIMIT_MS`], and then waits as long once more.
pub const FETCHED_KEPT_MS: u64 = 2 * FETCH_LIMIT_MS;

/// A notification in its provider's mailbox. It names the booking and holds nothing of the customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNotification {
    /// Whose mailbox.
    pub provider_id: ProviderId,
    /// The booking that it tells of.
    pub booking_id: BookingId,
    /// What it says.
    pub notification: Notification,
    /// Whether the provider asked for it again after it had been fetched.
    pub released: bool,
}

/// The last release of a mailbox. It moves nothing: what was fetched since `from` and before `at` waits again,
/// until it is fetched after `at` or the release is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseWindow {
    /// When it was.
    pub at: Timestamp,
    /// What was fetched earlier stays fetched.
    pub from: Timestamp,
}

impl ReleaseWindow {
    /// A release at `now` that follows on `previous`, or when it may be done.
    pub fn following(previous: Option<Self>, now: Timestamp) -> Result<Self, Timestamp> {
        let Some(previous) = previous else {
            return Ok(Self { at: now, from: now.minus_ms(FETCH_LIMIT_MS) });
        };
        let again_at = previous.at.plus_ms(RELEASE_PAUSE_MS);
        if now < again_at {
            return Err(again_at);
        }
        // What waits by the previous release goes on waiting, as long as it is surely kept.
        let from = now.minus_ms(FETCH_LIMIT_MS);
        let from = if previous.is_open(now) { from.min(previous.from) } else { from };
        Ok(Self { at: now, from: from.max(now.minus_ms(FETCHED_KEPT_MS)) })
    }

    /// Whether something may wait by this release at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        now < self.at.plus_ms(FETCH_LIMIT_MS)
    }

    /// Whether what was fetched at `fetched_at` waits again at `now`.
    pub fn covers(&self, fetched_at: Timestamp, now: Timestamp) -> bool {
        self.is_open(now) && self.from <= fetched_at && fetched_at < self.at
    }
}

/// When something counts as fetched that is fetched at `now`: never before the last release, even by a clock
/// that is behind, for it would wait again at once.
pub fn fetched_at(last_release: Option<ReleaseWindow>, now: Timestamp) -> Timestamp {
    last_release.map_or(now, |release| now.max(release.at))
}

/// What is waiting in a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// First those that were released, in the order in which they were fetched; then the others, by when they
    /// were first due.
    pub notifications: Vec<KeptNotification>,
    /// How many more there are; counted up to a bound of the implementation's.
    pub remaining: usize,
}

/// What asking for a release came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// So many fetched notifications wait again.
    Done(usize),
    /// It was done less than an hour ago.
    TooSoon {
        /// When it may be done again.
        again_at: Timestamp,
    },
}

/// The mailboxes of providers that fetch their notifications.
///
/// What is kept for longer than [`FETCH_LIMIT_MS`](holdfast_domain::FETCH_LIMIT_MS) is not shown any more, by
/// the clock, and is removed later.
pub trait NotificationMailbox: Send + Sync {
    /// Keeps a notification. Keeping it again changes nothing, fetched or not.
    fn keep(&self, kept: &KeptNotification) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What waits for a provider at `now`, at most `limit` of it. An entry that cannot be read is passed over.
    fn waiting(
        &self,
        provider_id: &ProviderId,
        limit: usize,
        now: Timestamp,
    ) -> impl Future<Output = Result<Waiting, StoreError>> + Send;

    /// Marks notifications of one provider as fetched. Returns one result a notification, in order; `false`
    /// means that somebody else has fetched it.
    fn mark_fetched(
        &self,
        kept: &[KeptNotification],
        now: Timestamp,
    ) -> impl Future<Output = Vec<Result<bool, StoreError>>> + Send;

    /// Lets all that was fetched within the last [`FETCH_LIMIT_MS`] wait again, for as long once more, if that
    /// was not done within the last [`RELEASE_PAUSE_MS`].
    fn release(
        &self,
        provider_id: &ProviderId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Release, StoreError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;

    fn at(hours: u64) -> Timestamp {
        Timestamp::EPOCH.plus_ms(hours * HOUR_MS)
    }

    #[test]
    fn a_release_covers_three_days_before_it_and_lasts_three_days() {
        let release = ReleaseWindow::following(None, at(1_000)).unwrap();
        assert!(release.covers(at(1_000 - 72), at(1_000)));
        assert!(!release.covers(at(1_000 - 72).minus_ms(1), at(1_000)));
        assert!(!release.covers(at(1_000), at(1_001)));
        assert!(release.covers(at(999), at(1_072).minus_ms(1)));
        assert!(!release.covers(at(999), at(1_072)));
        assert_eq!(fetched_at(Some(release), at(999)), at(1_000));
        assert_eq!(fetched_at(Some(release), at(1_001)), at(1_001));
    }

    #[test]
    fn a_release_takes_back_nothing_that_waits_by_the_one_before() {
        let first = ReleaseWindow::following(None, at(1_000)).unwrap();
        assert_eq!(ReleaseWindow::following(Some(first), at(1_001).minus_ms(1)), Err(at(1_001)));
        let second = ReleaseWindow::following(Some(first), at(1_001)).unwrap();
        assert!(second.covers(at(1_000 - 72), at(1_001)));
        // Yet nothing waits for ever: what may be gone from the store is not promised.
        let mut release = second;
        for hour in 2..200 {
            release = ReleaseWindow::following(Some(release), at(1_000 + hour)).unwrap();
            assert!(!release.covers(at(1_000 + hour - 145), at(1_000 + hour)));
        }
        let late = ReleaseWindow::following(Some(first), at(1_100)).unwrap();
        assert!(!late.covers(at(1_000 - 72), at(1_100)) && late.covers(at(1_028), at(1_100)));
    }
}
