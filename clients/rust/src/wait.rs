//! Waiting for what is pending.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::calls::MAX_WAIT_S;
use crate::client::Answered;
use crate::error::Error;
use crate::headers::ETag;
use crate::types::PersonalBooking;

/// The least time between two reads, so that answers which come at once never make a busy loop.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// How a booking is looked at until it is settled: first by reads that answer as soon as it changes, then every so
/// often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollSchedule {
    /// For how long reads wait for a change.
    pub waiting_reads_for: Duration,
    /// What follows, one after the other.
    pub stages: Vec<PollStage>,
}

/// A part of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollStage {
    /// How often the booking is looked at.
    pub every: Duration,
    /// For how long.
    pub during: Duration,
}

impl Default for PollSchedule {
    /// What Holdfast recommends: reads that wait, for two minutes; then once a minute for five minutes, then every 15
    /// minutes for an hour.
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            waiting_reads_for: minutes(2),
            stages: vec![
                PollStage { every: minutes(1), during: minutes(5) },
                PollStage { every: minutes(15), during: minutes(60) },
            ],
        }
    }
}

impl PollSchedule {
    /// Reads that wait, and nothing else.
    pub fn waiting_for(duration: Duration) -> Self {
        Self { waiting_reads_for: duration, stages: Vec::new() }
    }
}

/// Looks at a booking until it is settled or the schedule is over. `look` reads it: with a number, it waits so many
/// seconds for a change, and `None` is none.
pub(crate) async fn until_settled<F>(
    schedule: &PollSchedule,
    first: Answered<PersonalBooking>,
    mut look: impl FnMut(Option<ETag>, Option<u64>) -> F,
) -> Result<Answered<PersonalBooking>, Error>
where
    F: Future<Output = Result<Option<Answered<PersonalBooking>>, Error>>,
{
    let mut seen = first;
    let mut stage_ends = Instant::now() + schedule.waiting_reads_for;
    while !seen.is_settled() && Instant::now() < stage_ends {
        let begun = Instant::now();
        let wait_s = stage_ends.duration_since(begun).as_secs().clamp(1, MAX_WAIT_S);
        if let Some(changed) = look(seen.etag.clone(), Some(wait_s)).await? {
            seen = changed;
        }
        if !seen.is_settled() {
            sleep_until(begun + LEAST_PAUSE).await;
        }
    }
    for stage in &schedule.stages {
        let mut look_at = stage_ends;
        stage_ends += stage.during;
        while !seen.is_settled() {
            look_at += stage.every.max(LEAST_PAUSE);
            if look_at > stage_ends {
                break;
            }
            sleep_until(look_at).await;
            if let Some(now) = look(None, None).await? {
                seen = now;
            }
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests;
