//! Providers that fetch what they are told, instead of being called.
//!
//! A notification is handed out by the conditional write that takes it off its booking's queue, so that of
//! several pulls at once one gets it, and the booking's next one begins. The mailbox only says where to look.
//! What is handed out and lost on the way is there again after a release.

use std::collections::HashSet;

use futures_util::future::join_all;
use holdfast_domain::{
    Booking, BookingId, Command, Notification, NotificationKind, Status, Timestamp, transition,
};
use serde_json::Value;

use super::{MAX_CONFLICTS, ProviderCaller, store_problem};
use crate::ports::{
    BookingStore, Clock, KeptNotification, NotificationMailbox, Release, Replaced, StoreError,
};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::stored::{StoredBooking, replace};

/// The most notifications that one call fetches.
pub const MAX_FETCHED: usize = 100;

/// How many it fetches if it does not say.
pub const DEFAULT_FETCHED: usize = 20;

/// How often the mailbox is looked into for one call: what nobody waits for any more makes room for others.
const MAX_ROUNDS: u32 = 8;

/// How many bookings are worked on at once.
const CONCURRENT: usize = 10;

/// No further notification is taken once those that are have so many bytes: a function's answer may have
/// 6 MB, and what is under way then may add [`CONCURRENT`] times the size of a request.
const ENOUGH_BYTES: usize = 1024 * 1024;

const MS_PER_SECOND: u64 = 1_000;

/// A provider's wish for its notifications.
#[derive(Clone, Copy, Debug)]
pub struct FetchCall<'a> {
    /// Who calls.
    pub caller: &'a ProviderCaller,
    /// How many it wants at the most.
    pub limit: usize,
    /// From when on no further ones are taken: what is taken has to reach the caller.
    pub until: Timestamp,
}

/// What a provider fetched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetched {
    /// The bodies, in the order in which the notifications are to be read.
    pub notifications: Vec<Value>,
    /// How many more wait; counted up to a bound of the mailbox's.
    pub remaining: usize,
}

/// Takes notifications out of the caller's mailbox. `render` makes the body of one from the booking as it is
/// now.
///
/// It fails only if nothing was taken: what is taken is handed out.
pub async fn fetch_notifications(
    store: &impl BookingStore,
    mailbox: &impl NotificationMailbox,
    clock: &impl Clock,
    call: FetchCall<'_>,
    render: &(impl Fn(&Booking, &Notification) -> Result<Value, serde_json::Error> + Sync),
) -> Result<Fetched, Problem> {
    let FetchCall { caller, limit, until } = call;
    let pull = Pull { store, mailbox, clock, caller, render };
    let is_enough =
        |taken: &Taken| taken.bytes >= ENOUGH_BYTES || taken.failure.is_some() || clock.now() >= until;
    let mut taken = Taken::default();
    let mut remaining = 0;
    for _ in 0..MAX_ROUNDS {
        let wanted = limit.saturating_sub(taken.bodies.len());
        if wanted == 0 || is_enough(&taken) {
            break;
        }
        // What was left before is still at the front.
        let look_at = wanted.saturating_add(taken.left.len());
        let waiting = match mailbox.waiting(&caller.provider_id, look_at, clock.now()).await {
            Ok(waiting) => waiting,
            Err(error) => {
                taken.failure = Some(error);
                break;
            }
        };
        let new = waiting.notifications.into_iter().filter(|kept| !taken.left.contains(&name(kept)));
        let new: Vec<KeptNotification> = new.take(wanted).collect();
        remaining = waiting.remaining.saturating_add(taken.left.len()).saturating_add(new.len());
        if new.is_empty() {
            break;
        }
        for chunk in new.chunks(CONCURRENT) {
            if is_enough(&taken) {
                break;
            }
            remaining = remaining.saturating_sub(pull.take(chunk, &mut taken).await);
        }
    }
    match taken.failure {
        Some(error) if taken.bodies.is_empty() => Err(store_problem(&error, SideEffects::None)),
        _ => {
            tracing::info!(
                provider.id = %caller.provider_id,
                notifications.fetched = taken.bodies.len(),
                notifications.remaining = remaining,
                "A provider looked for notifications."
            );
            Ok(Fetched { notifications: taken.bodies, remaining })
        }
    }
}

/// Lets what the caller has fetched wait again. Returns how many notifications that are.
pub async fn release_notifications(
    mailbox: &impl NotificationMailbox,
    clock: &impl Clock,
    caller: &ProviderCaller,
) -> Result<usize, Problem> {
    let now = clock.now();
    match mailbox.release(&caller.provider_id, now).await {
        Ok(Release::Done(released)) => {
            tracing::info!(
                provider.id = %caller.provider_id,
                notifications.released = released,
                "A provider asked for its notifications again."
            );
            Ok(released)
        }
        Ok(Release::TooSoon { again_at }) => {
            let detail = "Notifications are released once an hour at the most.";
            let seconds = now.ms_until(again_at).div_ceil(MS_PER_SECOND).max(1);
            Err(Problem::new(ProblemCode::ReleaseTooSoon, detail).retry_after_s(seconds))
        }
        Err(error) => Err(store_problem(&error, SideEffects::None)),
    }
}

fn name(kept: &KeptNotification) -> (BookingId, u32) {
    (kept.booking_id.clone(), kept.notification.number)
}

/// What one call has taken so far.
#[derive(Debug, Default)]
struct Taken {
    bodies: Vec<Value>,
    bytes: usize,
    /// What could not be taken now, and waits on.
    left: HashSet<(BookingId, u32)>,
    /// Why it is no use to go on.
    failure: Option<StoreError>,
}

/// What a booking says to a notification.
enum Verdict {
    /// It is off the booking's queue, by this call.
    Ours(Value),
    /// The booking does not wait for it, but the provider wants it again.
    Again(Value),
    /// Nobody wants it any more.
    Over,
    /// It cannot be told now.
    Left(Option<StoreError>),
}

struct Pull<'a, S, M, C, R> {
    store: &'a S,
    mailbox: &'a M,
    clock: &'a C,
    caller: &'a ProviderCaller,
    render: &'a R,
}

impl<S, M, C, R> Pull<'_, S, M, C, R>
where
    S: BookingStore,
    M: NotificationMailbox,
    C: Clock,
    R: Fn(&Booking, &Notification) -> Result<Value, serde_json::Error> + Sync,
{
    /// Takes what can be taken of these. Returns how many do not wait any more.
    async fn take(&self, chunk: &[KeptNotification], taken: &mut Taken) -> usize {
        let verdicts = join_all(chunk.iter().map(|kept| self.judge(kept))).await;
        let mut settled = Vec::with_capacity(chunk.len());
        for (kept, verdict) in chunk.iter().zip(verdicts) {
            match verdict {
                Verdict::Left(failure) => {
                    taken.left.insert(name(kept));
                    taken.failure = taken.failure.take().or(failure);
                }
                verdict => settled.push((kept, verdict)),
            }
        }
        let marked: Vec<KeptNotification> = settled.iter().map(|(kept, _)| (*kept).clone()).collect();
        let marked = self.mailbox.mark_fetched(&marked, self.clock.now()).await;
        let mut gone: usize = 0;
        for ((kept, verdict), marked) in settled.into_iter().zip(marked) {
            if let Err(error) = &marked {
                tracing::warn!(booking.id = %kept.booking_id, %error, "A notification stays in its mailbox.");
            }
            let body = match (verdict, marked) {
                // The booking has said whose it is. Should it stay in the mailbox, nobody waits for it there.
                (Verdict::Ours(body), _) | (Verdict::Again(body), Ok(true)) => Some(body),
                // Somebody else has it.
                (Verdict::Again(_), Ok(false)) | (Verdict::Over | Verdict::Left(_), _) => None,
                (Verdict::Again(_), Err(error)) => {
                    taken.left.insert(name(kept));
                    taken.failure = Some(error);
                    continue;
                }
            };
            gone = gone.saturating_add(1);
            if let Some(body) = body {
                taken.bytes = taken.bytes.saturating_add(body.to_string().len());
                taken.bodies.push(body);
            }
        }
        gone
    }

    /// Asks the booking, and takes the notification off its queue.
    async fn judge(&self, kept: &KeptNotification) -> Verdict {
        let mut unsure = None;
        for _ in 0..MAX_CONFLICTS {
            let seen = match self.store.read(&kept.booking_id).await {
                Ok(Some(seen)) if self.is_its(&seen) => seen,
                // It was made when the provider had another mode, and is not for this key to see or to take.
                Ok(Some(_)) => return Verdict::Left(None),
                Ok(None) => return Verdict::Over,
                Err(error) => return left(kept, error),
            };
            let body = match (self.render)(&seen.booking, &kept.notification) {
                Ok(body) => body,
                Err(error) => {
                    tracing::error!(booking.id = %kept.booking_id, %error, "A notification is not JSON.");
                    return Verdict::Left(None);
                }
            };
            let command = Command::AcknowledgeNotification { number: kept.notification.number };
            let Ok(told) = transition(&seen.booking, command, self.clock.now()) else {
                return match unsure {
                    None if kept.released && is_news(&seen.booking, &kept.notification) => {
                        Verdict::Again(body)
                    }
                    None => Verdict::Over,
                    // It was this call's own write, or another's who has it too. Twice is better than never.
                    Some(_) => Verdict::Ours(body),
                };
            };
            match replace(self.store, &seen, &seen.with_booking(told.booking)).await {
                Ok(Replaced::Done) => return Verdict::Ours(body),
                Ok(Replaced::Conflict(_)) => {}
                // What a provider hears takes no slot.
                Ok(Replaced::Gone | Replaced::SlotTaken) => return Verdict::Over,
                Err(error) if unsure.is_some() => return left(kept, error),
                Err(error) => unsure = Some(error),
            }
        }
        Verdict::Left(unsure)
    }

    fn is_its(&self, seen: &StoredBooking) -> bool {
        seen.booking.request.provider_id == self.caller.provider_id
            && seen.booking.tenant.mode == self.caller.mode
    }
}

/// Whether a notification that was fetched before still says something true. Of a booking that has been
/// withdrawn only that is told again: the provider may never have heard of it.
fn is_news(booking: &Booking, notification: &Notification) -> bool {
    notification.kind == NotificationKind::Cancelled || booking.status() != Status::Cancelled
}

/// A booking whose item cannot be read holds up nobody else; a store that fails would fail again.
fn left(kept: &KeptNotification, error: StoreError) -> Verdict {
    match error {
        StoreError::Corrupt(_) => {
            tracing::error!(booking.id = %kept.booking_id, %error, "A booking with a notification is unreadable.");
            Verdict::Left(None)
        }
        StoreError::Unavailable(_) | StoreError::Refused(_) => Verdict::Left(Some(error)),
    }
}

#[cfg(test)]
mod tests;
