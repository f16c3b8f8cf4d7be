//! What followed from the changes of a stretch of time is carried out once more, whoever's the bookings are: after the
//! stream gave records up, nobody knows any more which they were of.
//!
//! All bookings are looked at, and each that changed then is read anew. So is each for which something is due: not every
//! change makes a version, and what such a change had to arm or to keep may be lost too. A call ends after a while, or
//! when the store no longer answers, and says where the next one goes on, so that it works for any number of them.

use std::ops::{Range, RangeInclusive};

use futures_util::{StreamExt, stream};
use holdfast_domain::{BookingId, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Operator, Repair, TIME_LIMIT, check_reason, problem};
use crate::paging::Cursors;
use crate::parse::parse_checked;
use crate::ports::{
    AuditLog, BookingScan, BookingStore, Clock, Entropy, EventBus, FEED_RETENTION_MS, NotificationMailbox,
    RecordParking, ScanPlace, ScannedBooking, ScannedChanges, StoreError, TimerQueue,
};
use crate::problem::Problem;

/// The longest stretch of time of a call, in milliseconds: a week. A stream keeps what it has for a day.
const MAX_PERIOD_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// How many bookings are looked at in one call of the store.
const SCANNED_AT_ONCE: usize = 1_000;

/// For how many bookings things are carried out at once. What is left of the gateway's 30 s has to suffice for these.
const CONCURRENT: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeriodBody {
    reason: String,
    from: Timestamp,
    to: Timestamp,
    cursor: Option<String>,
}

/// What is asked for.
struct Asked {
    period: Range<Timestamp>,
    after: Option<ScanPlace>,
    reason: String,
    /// The cursors of this period's calls.
    cursors: Cursors,
}

/// How far a call has come.
#[derive(Default)]
struct Progress {
    after: Option<ScanPlace>,
    has_moved: bool,
    is_done: bool,
    bookings: usize,
    events: usize,
    failed: usize,
}

impl Progress {
    fn move_to(&mut self, place: ScanPlace) {
        self.after = Some(place);
        self.has_moved = true;
    }
}

/// What is meant of a booking.
#[derive(Clone)]
enum Meant {
    /// The versions from the first to the last that it got within the period, and what is due for it.
    Versions(RangeInclusive<u32>),
    /// This version of the code cannot tell.
    Unreadable,
}

/// What became of a booking.
enum Again {
    /// So many events were published.
    Done(usize),
    /// It cannot be read, or what followed from it is refused, as it will be next time.
    Failed,
}

impl<S, L, D, T, B, M, P, C, E> Repair<S, L, D, T, B, M, P, C, E>
where
    S: BookingStore,
    L: AuditLog,
    T: TimerQueue,
    B: EventBus,
    M: NotificationMailbox,
    P: RecordParking,
    C: Clock,
    E: Entropy,
{
    /// Carries out once more what followed from all changes from `from` on and before `to`: events are published with
    /// the ids that they have, and what somebody has to look at is raised. Of these bookings, and of all others for
    /// which something is due, timers are armed and notifications kept. `next_cursor` of the answer is for the next
    /// call; it is null when all bookings were looked at. After a problem the next call has the cursor that this one
    /// had; what this one did all the same is done again, without harm.
    pub async fn emit_period_again(&self, operator: &Operator, body: &Value) -> Result<Value, Problem> {
        let Asked { period, after, reason, cursors } = read(body, self.clock.now())?;
        // Two times with a slash between them: ISO 8601's interval.
        let subject = format!("{}/{}", period.start, period.end);
        self.note(operator, "re_emit", &subject, &reason).await?;
        let deadline = Instant::now() + TIME_LIMIT;
        let mut progress = Progress { after, ..Progress::default() };
        while !progress.is_done && Instant::now() < deadline {
            match self.go_on(&period, &mut progress, deadline).await {
                Ok(()) => {}
                // What was done counts, and the next call hears of the failure if there is one still.
                Err(error) if progress.has_moved => {
                    tracing::warn!(%error, "A repair of a stretch of time is broken off.");
                    break;
                }
                Err(error) => return Err(problem(&error)),
            }
        }
        let Progress { after, is_done, bookings, events, failed, .. } = progress;
        let next = after.filter(|_| !is_done).map(|place| cursors.cursor(&place.0));
        Ok(json!({ "bookings": bookings, "events": events, "failed": failed, "next_cursor": next }))
    }

    /// Looks at a part of all bookings, as far as the time suffices; however slow it is, a call moves.
    async fn go_on(
        &self,
        period: &Range<Timestamp>,
        progress: &mut Progress,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let BookingScan { bookings, next } =
            self.bookings.scan(progress.after.as_ref(), SCANNED_AT_ONCE).await?;
        let meant: Vec<(&ScannedBooking, Meant)> =
            bookings.iter().filter_map(|booking| Some((booking, meant(booking, period)?))).collect();
        for some in meant.chunks(CONCURRENT) {
            if progress.has_moved && Instant::now() >= deadline {
                return Ok(());
            }
            // A list of them may move between threads; the compiler cannot tell that of what makes it.
            let all: Vec<_> =
                some.iter().map(|(booking, meant)| self.once_more(&booking.id, meant.clone())).collect();
            let all: Vec<_> = stream::iter(all).buffered(CONCURRENT).collect().await;
            for again in all.into_iter().collect::<Result<Vec<Again>, StoreError>>()? {
                match again {
                    Again::Done(published) => {
                        progress.bookings = progress.bookings.saturating_add(1);
                        progress.events = progress.events.saturating_add(published);
                    }
                    Again::Failed => progress.failed = progress.failed.saturating_add(1),
                }
            }
            if let Some((last, _)) = some.last() {
                progress.move_to(last.place.clone());
            }
        }
        match next {
            Some(next) => progress.move_to(next),
            None => progress.is_done = true,
        }
        Ok(())
    }

    /// The booking is read anew: a scan may show it as it was a moment ago.
    async fn once_more(&self, id: &BookingId, meant: Meant) -> Result<Again, StoreError> {
        let failed = |error: &StoreError| {
            tracing::warn!(booking.id = id.as_str(), %error, "What followed from a booking is not repeated.");
            Ok(Again::Failed)
        };
        let Meant::Versions(versions) = meant else {
            return failed(&StoreError::Corrupt("its history".to_owned()));
        };
        let again = match self.bookings.read(id).await {
            Ok(Some(seen)) => self.carry_out_again(&seen, versions, true).await,
            // It was removed meanwhile, and what followed from it goes with it.
            Ok(None) => Ok(0),
            Err(error) => Err(error),
        };
        match again {
            Ok(events) => Ok(Again::Done(events)),
            Err(error @ (StoreError::Corrupt(_) | StoreError::Refused(_))) => failed(&error),
            Err(error @ StoreError::Unavailable(_)) => Err(error),
        }
    }
}

/// What is meant of a booking, if it is meant at all.
fn meant(booking: &ScannedBooking, period: &Range<Timestamp>) -> Option<Meant> {
    /// Versions are counted from 1.
    const NONE: RangeInclusive<u32> = 0..=0;
    let Some(ScannedChanges { versions_at, is_under_way }) = &booking.changes else {
        return Some(Meant::Unreadable);
    };
    let versions = (1_u32..).zip(versions_at);
    let mut within = versions.filter(|(_, at)| period.contains(at)).map(|(version, _)| version);
    match within.next() {
        Some(first) => Some(Meant::Versions(first..=within.last().unwrap_or(first))),
        None => is_under_way.then_some(Meant::Versions(NONE)),
    }
}

fn read(body: &Value, now: Timestamp) -> Result<Asked, Problem> {
    let (body, mut errors) = parse_checked::<PeriodBody>(body)?.into_parts();
    let PeriodBody { reason, from, to, cursor } = body;
    // A time that could not be read is made up, and says nothing about the other one.
    if errors.is_empty() {
        if to <= from {
            errors.push("/to", "must be later than from");
        } else if to > from.plus_ms(MAX_PERIOD_MS) {
            errors.push("/to", "must be a week after from at the latest");
        }
        // Who was told longer ago would take it for new: the feed and endpoints know their events for so long.
        if from < now.minus_ms(FEED_RETENTION_MS) {
            errors.push("/from", "must be within the last 30 days");
        }
    }
    check_reason(&mut errors, &reason);
    let period = from..to;
    let cursors =
        Cursors::of(&[Some("re-emit"), Some(&period.start.to_string()), Some(&period.end.to_string())]);
    let after = cursor.as_deref().map(|cursor| cursors.place(cursor).map(ScanPlace));
    if after == Some(None) {
        errors.push("/cursor", "is none that a call with these times gave");
    }
    errors.finish()?;
    Ok(Asked { period, after: after.flatten(), reason, cursors })
}
