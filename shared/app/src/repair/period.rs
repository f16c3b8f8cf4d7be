//! What followed from the changes of a stretch of time is carried out once more, whoever's the bookings are: after the
//! stream gave records up, nobody knows any more which they were of.
//!
//! All bookings are looked at, a part at a time, and each that changed then is read anew. A call ends after a while and
//! says where the next one goes on, so that it works for any number of them.

use std::ops::{Range, RangeInclusive};

use futures_util::{StreamExt, stream};
use holdfast_domain::{Booking, BookingId, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Operator, Repair, TIME_LIMIT, check_reason, problem};
use crate::paging::Cursors;
use crate::parse::parse_checked;
use crate::ports::{
    AuditLog, BookingStore, Clock, Entropy, EventBus, NotificationMailbox, RecordParking, ScanPlace,
    StoreError, TimerQueue,
};
use crate::problem::Problem;
use crate::stored::StoredBooking;

/// The longest stretch of time of a call, in milliseconds: a week. A stream keeps what it has for a day.
const MAX_PERIOD_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// How many bookings are looked at before a call may end.
const SCANNED_AT_ONCE: usize = 200;

/// For how many bookings things are carried out at once.
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

/// What became of a booking.
enum Again {
    /// So many events were published.
    Done(usize),
    /// This version of the code cannot read it.
    Unreadable,
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
    /// the ids that they have, timers are armed, providers' notifications kept, and what somebody has to look at is
    /// raised. `next_cursor` of the answer is for the next call; it is null when all bookings were looked at.
    pub async fn emit_period_again(&self, operator: &Operator, body: &Value) -> Result<Value, Problem> {
        let Asked { period, mut after, reason, cursors } = read(body)?;
        // Two times with a slash between them: ISO 8601's interval.
        let subject = format!("{}/{}", period.start, period.end);
        self.note(operator, "re_emit", &subject, &reason).await?;
        let deadline = Instant::now() + TIME_LIMIT;
        let (mut bookings, mut events, mut unreadable) = (0_usize, 0_usize, 0_usize);
        loop {
            let part = self.bookings.scan(after.as_ref(), period.end, SCANNED_AT_ONCE).await;
            let part = part.map_err(|error| problem(&error))?;
            part.unreadable.iter().for_each(tell_unreadable);
            unreadable = unreadable.saturating_add(part.unreadable.len());
            for again in self.carry_out_all(&part.bookings, &period).await {
                match again.map_err(|error| problem(&error))? {
                    Again::Done(published) => {
                        bookings = bookings.saturating_add(1);
                        events = events.saturating_add(published);
                    }
                    Again::Unreadable => unreadable = unreadable.saturating_add(1),
                }
            }
            after = part.next;
            if after.is_none() || Instant::now() >= deadline {
                break;
            }
        }
        let next = after.map(|place| cursors.cursor(&place.0));
        Ok(json!({ "bookings": bookings, "events": events, "unreadable": unreadable, "next_cursor": next }))
    }

    async fn carry_out_all(
        &self,
        bookings: &[StoredBooking],
        period: &Range<Timestamp>,
    ) -> Vec<Result<Again, StoreError>> {
        let changed = bookings.iter().filter_map(|stored| {
            let versions = versions_within(&stored.booking, period)?;
            Some(self.carry_out_versions(&stored.booking.id, versions))
        });
        // A list of them may move between threads; the compiler cannot tell that of what makes it.
        let all: Vec<_> = changed.collect();
        stream::iter(all).buffered(CONCURRENT).collect().await
    }

    /// The booking is read anew: a scan may show it as it was a moment ago.
    async fn carry_out_versions(
        &self,
        id: &BookingId,
        versions: RangeInclusive<u32>,
    ) -> Result<Again, StoreError> {
        let again = match self.bookings.read(id).await {
            Ok(Some(seen)) => self.carry_out_again(&seen, versions, true).await,
            // It was removed meanwhile, and what followed from it goes with it.
            Ok(None) => Ok(0),
            Err(error) => Err(error),
        };
        match again {
            Ok(events) => Ok(Again::Done(events)),
            Err(StoreError::Corrupt(_)) => {
                tell_unreadable(id);
                Ok(Again::Unreadable)
            }
            Err(error) => Err(error),
        }
    }
}

fn tell_unreadable(id: &BookingId) {
    tracing::warn!(booking.id = id.as_str(), "A booking cannot be read, and nothing is repeated.");
}

/// The versions that a booking got within a period, if any: from the first to the last of them.
fn versions_within(booking: &Booking, period: &Range<Timestamp>) -> Option<RangeInclusive<u32>> {
    let versions = (1_u32..).zip(&booking.history);
    let mut within = versions.filter(|(_, entry)| period.contains(&entry.at)).map(|(version, _)| version);
    let first = within.next()?;
    Some(first..=within.last().unwrap_or(first))
}

fn read(body: &Value) -> Result<Asked, Problem> {
    let (body, mut errors) = parse_checked::<PeriodBody>(body)?.into_parts();
    let PeriodBody { reason, from, to, cursor } = body;
    // A time that could not be read is made up, and says nothing about the other one.
    if errors.is_empty() {
        if to <= from {
            errors.push("/to", "must be later than from");
        } else if to > from.plus_ms(MAX_PERIOD_MS) {
            errors.push("/to", "must be a week after from at the latest");
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
