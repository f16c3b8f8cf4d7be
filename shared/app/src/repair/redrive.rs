//! Dead letters are served once more: messages go back to where they failed, what was parked is told, and bookings
//! that somebody had to look at are retried.

use holdfast_domain::{BookingId, Command, Refused};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::booking::Changed;
use super::{Operator, Repair, TIME_LIMIT, check_reason, problem};
use crate::parse::parse_checked;
use crate::ports::{
    AuditLog, BookingStore, Clock, DeadLetter, DeadLetterQueue, DeadLetters, Entropy, EventBus,
    NotificationMailbox, ParkedRecord, RecordParking, StoreError, TimerQueue,
};
use crate::problem::Problem;
use crate::stored::StoredBooking;

/// The most letters that one call serves.
const MAX_LETTERS: usize = 100;

/// How many letters are taken at once.
const TAKEN_AT_ONCE: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedriveBody {
    queue: String,
    limit: Option<usize>,
    reason: String,
}

/// Why a letter stays.
enum Kept {
    /// It cannot be served as it is, or not by this version of the code.
    Unserved(&'static str),
    /// A store is not available.
    Store(StoreError),
}

impl From<StoreError> for Kept {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(_) => Self::Unserved("unreadable"),
            error => Self::Store(error),
        }
    }
}

impl<S, L, D, T, B, M, P, C, E> Repair<S, L, D, T, B, M, P, C, E>
where
    S: BookingStore,
    L: AuditLog,
    D: DeadLetters,
    T: TimerQueue,
    B: EventBus,
    M: NotificationMailbox,
    P: RecordParking,
    C: Clock,
    E: Entropy,
{
    /// Serves letters of a queue again, a hundred at the most. What cannot be served stays and comes again after a
    /// minute or so; the rest is for another call.
    pub async fn redrive(&self, operator: &Operator, body: &Value) -> Result<Value, Problem> {
        let (queue, limit, reason) = read(body)?;
        self.note(operator, "redrive", queue.as_str(), &reason).await?;
        let deadline = Instant::now() + TIME_LIMIT;
        let (mut redriven, mut kept) = (0, 0);
        while redriven + kept < limit && Instant::now() < deadline {
            let wanted = limit.saturating_sub(redriven + kept).min(TAKEN_AT_ONCE);
            let letters = self.letters.take(queue, wanted).await.map_err(|error| problem(&error))?;
            if letters.is_empty() {
                break;
            }
            for letter in &letters {
                match self.serve(queue, letter).await {
                    Ok(()) => redriven += 1,
                    Err(Kept::Unserved(reason)) => {
                        tracing::warn!(queue = queue.as_str(), reason, "A dead letter stays.");
                        kept += 1;
                    }
                    Err(Kept::Store(error)) => return Err(problem(&error)),
                }
            }
        }
        let waiting = self.letters.count(queue).await.map_err(|error| problem(&error))?;
        Ok(json!({ "queue": queue.as_str(), "redriven": redriven, "kept": kept, "waiting": waiting }))
    }

    /// Serves a letter and removes it; a letter whose removal is lost is served again, which does no harm.
    async fn serve(&self, queue: DeadLetterQueue, letter: &DeadLetter) -> Result<(), Kept> {
        match queue {
            DeadLetterQueue::Timers
            | DeadLetterQueue::Events
            | DeadLetterQueue::UndeliveredEvents
            | DeadLetterQueue::Deliveries
            | DeadLetterQueue::Refreshes => self.letters.send_again(queue, letter).await?,
            DeadLetterQueue::ParkedRecords => {
                let (record, seen) = self.named(letter).await?;
                if let Some(seen) = seen {
                    let versions = record.from_version.unwrap_or(1)..=record.to_version.unwrap_or(u32::MAX);
                    self.carry_out_again(&seen, versions, true).await?;
                }
            }
            DeadLetterQueue::Bookings => {
                let (_, seen) = self.named(letter).await?;
                if let Some(seen) = seen {
                    let changed = self.change(seen, Command::RetryNow).await;
                    let changed = changed.map_err(|_| Kept::Unserved("contended"))?;
                    if matches!(changed, Changed::Refused(_, Refused::TooManyVersions)) {
                        return Err(Kept::Unserved("too_many_versions"));
                    }
                }
            }
            DeadLetterQueue::StreamFailures => return Err(Kept::Unserved("not_a_message")),
        }
        Ok(self.letters.remove(queue, letter).await?)
    }

    /// The booking that a letter names; `None` if it is gone.
    async fn named(&self, letter: &DeadLetter) -> Result<(ParkedRecord, Option<StoredBooking>), Kept> {
        let record: ParkedRecord =
            serde_json::from_str(&letter.body).map_err(|_| Kept::Unserved("malformed"))?;
        let id = BookingId::parse(&record.booking_id).map_err(|_| Kept::Unserved("no_booking_named"))?;
        let seen = self.bookings.read(&id).await?;
        Ok((record, seen))
    }
}

fn read(body: &Value) -> Result<(DeadLetterQueue, usize, String), Problem> {
    let (body, mut errors) = parse_checked::<RedriveBody>(body)?.into_parts();
    let RedriveBody { queue, limit, reason } = body;
    check_reason(&mut errors, &reason);
    let limit = limit.unwrap_or(MAX_LETTERS);
    if !(1..=MAX_LETTERS).contains(&limit) {
        errors.push("/limit", format!("must be 1 to {MAX_LETTERS}"));
    }
    let queue = DeadLetterQueue::parse(&queue).filter(|queue| *queue != DeadLetterQueue::StreamFailures);
    let Some(queue) = queue else {
        let redriven =
            DeadLetterQueue::ALL.into_iter().filter(|queue| *queue != DeadLetterQueue::StreamFailures);
        let names: Vec<&str> = redriven.map(DeadLetterQueue::as_str).collect();
        errors.push("/queue", format!("must be one of {}", names.join(", ")));
        return Err(errors.into_problem());
    };
    errors.finish()?;
    Ok((queue, limit, reason))
}
