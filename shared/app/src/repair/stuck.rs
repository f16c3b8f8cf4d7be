//! What is stuck: bookings that have been due for long, and the queues of dead letters.

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use holdfast_domain::BookingId;
use serde_json::{Value, json};

use super::view::operator_view;
use super::{Repair, problem};
use crate::paging::{invalid_parameters, read_limit};
use crate::ports::{BookingStore, Clock, DeadLetterQueue, DeadLetters, StoreError};
use crate::problem::{FieldError, Problem};

/// The most bookings of an answer.
const MAX_LIMIT: usize = 100;

/// The bookings of an answer unless asked otherwise.
const DEFAULT_LIMIT: usize = 50;

/// For how long a booking has to have been due to be told of unless asked otherwise, in seconds. Timers come within a
/// second or two, and the sweep makes up for lost ones within six minutes.
const DEFAULT_OVERDUE_S: u64 = 600;

/// The least and the most that may be asked for, in seconds.
const OVERDUE_RANGE_S: std::ops::RangeInclusive<u64> = 10..=604_800;

/// How many bookings are read at once.
const CONCURRENT_READS: usize = 10;

/// The query's parameters as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct StuckParameters<'a> {
    /// For how long a booking has to have been due, in seconds.
    pub overdue_seconds: Option<&'a str>,
    /// How many bookings are told of at the most, from 1 to 100.
    pub limit: Option<&'a str>,
}

impl StuckParameters<'_> {
    /// The parameters' names.
    pub const NAMES: [&'static str; 2] = ["overdue_seconds", "limit"];

    fn read(&self) -> Result<(u64, usize), Problem> {
        let mut errors = Vec::new();
        let limit = read_limit(&mut errors, self.limit, DEFAULT_LIMIT, MAX_LIMIT);
        let overdue_s = self.overdue_seconds.map_or(Some(DEFAULT_OVERDUE_S), |text| {
            text.parse().ok().filter(|seconds| OVERDUE_RANGE_S.contains(seconds))
        });
        if overdue_s.is_none() {
            let (least, most) = (OVERDUE_RANGE_S.start(), OVERDUE_RANGE_S.end());
            errors.push(FieldError::new(
                "overdue_seconds",
                format!("must be a whole number from {least} to {most}"),
            ));
        }
        match (overdue_s, limit) {
            (Some(overdue_s), Some(limit)) => Ok((overdue_s, limit)),
            _ => Err(invalid_parameters(errors)),
        }
    }
}

impl<S, L, D, T, B, M, P, C, E> Repair<S, L, D, T, B, M, P, C, E>
where
    S: BookingStore,
    D: DeadLetters,
    C: Clock,
{
    /// The bookings that have been due for long, and about how many letters wait in each queue of dead letters.
    pub async fn stuck(&self, parameters: &StuckParameters<'_>) -> Result<Value, Problem> {
        let (overdue_s, limit) = parameters.read()?;
        let now = self.clock.now();
        let before = now.minus_ms(overdue_s.saturating_mul(1_000));
        // One more than is told of says whether there are more.
        let overdue = self.bookings.overdue(before, limit.saturating_add(1)).await;
        let overdue = overdue.map_err(|error| problem(&error))?;
        let has_more = overdue.len() > limit;
        let counting = join_all(DeadLetterQueue::ALL.map(|queue| self.letters.count(queue)));
        // A list of them may move between threads; the compiler cannot tell that of what makes it.
        let reads: Vec<_> = overdue.iter().take(limit).map(|id| self.bookings.read(id)).collect();
        let reading = stream::iter(reads).buffered(CONCURRENT_READS).collect::<Vec<_>>();
        let (counts, read) = tokio::join!(counting, reading);
        let mut stuck = Vec::new();
        for (id, seen) in overdue.iter().zip(read) {
            match seen {
                // The index may be behind.
                Ok(Some(seen)) if seen.booking.due_at().is_some_and(|due_at| due_at <= before) => {
                    stuck.push(operator_view(&seen.booking, now));
                }
                Ok(_) => {}
                Err(StoreError::Corrupt(_)) => stuck.push(unreadable(id)),
                Err(error) => return Err(problem(&error)),
            }
        }
        let mut queues = Vec::new();
        for (queue, count) in DeadLetterQueue::ALL.into_iter().zip(counts) {
            let count = count.map_err(|error| problem(&error))?;
            queues.push(json!({ "queue": queue.as_str(), "messages": count }));
        }
        Ok(json!({ "bookings": stuck, "has_more": has_more, "dead_letters": queues }))
    }
}

/// A booking whose item this version of the code does not understand.
fn unreadable(id: &BookingId) -> Value {
    json!({ "id": id.as_str(), "unreadable": true })
}
