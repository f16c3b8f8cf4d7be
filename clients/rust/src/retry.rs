//! Asking until there is an answer that counts.
//!
//! What is sent, and how, is none of its business: it decides what an answer means, waits, and ends in time.

use std::future::Future;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, Failure, NoAnswer};
use crate::headers;
use crate::headers::RateLimit;
use crate::http::Answer;
use crate::problem::{Problem, ProblemCode};

/// How long is waited and how often is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long one attempt may take. Longer than a waiting read (25 s), and than Holdfast waits for a provider and
    /// for the first request with the same key (10 s each).
    pub attempt_limit: Duration,
    /// The pause after the first attempt. It doubles with each attempt; what is waited is drawn evenly from its
    /// upper half. `Retry-After`, if it is longer, takes the place of the lower half.
    pub first_pause: Duration,
    /// What the pause grows to.
    pub longest_pause: Duration,
    /// After how long the call ends, with or without an answer. No attempt outlasts it.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    /// Attempts of 35 s, with pauses from half a second up to 20 s, for ten minutes.
    fn default() -> Self {
        Self {
            attempt_limit: Duration::from_secs(35),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            give_up_after: Duration::from_mins(10),
        }
    }
}

/// Which calls may be made again when nobody knows what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Those that change nothing the second time: reads, what has an idempotency key, what says how it shall be.
    Safely,
    /// None: it is made again only when it was surely not carried out.
    IfNotSent,
}

/// What the attempts before an answer were like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    pub(crate) made: u32,
    /// How many had no answer that counts, so that they may have been carried out.
    pub(crate) unanswered: u32,
}

/// Why the body of a good answer is none.
pub(crate) enum Unreadable {
    /// It is no JSON: something on the way has spoilt it.
    Garbage,
    /// It is JSON of another form.
    Form(String),
}

/// What an answer means.
enum Verdict {
    Done,
    /// Asking again would bring the same.
    Final(Error),
    Again(Failure),
}

/// Asks until there is an answer that counts, or the time is over. `send` makes one attempt, always the same;
/// `read` takes what is wanted from a 2xx or a 304, or says that a refusal is as good as one; `draw` gives a duration
/// from zero to the given one.
pub(crate) async fn until_answered<T, F>(
    policy: &RetryPolicy,
    repeat: Repeat,
    draw: impl Fn(Duration) -> Duration,
    mut send: impl FnMut() -> F,
    read: impl Fn(&Answer) -> Result<T, Unreadable>,
    is_as_good: impl Fn(&Problem, Attempts) -> Option<T>,
) -> Result<T, Error>
where
    F: Future<Output = Result<Answer, Error>>,
{
    let give_up_at = Instant::now() + policy.give_up_after;
    let mut pause = policy.first_pause;
    let mut attempts = Attempts::default();
    loop {
        let limit = policy.attempt_limit.min(give_up_at.saturating_duration_since(Instant::now()));
        let (failure, asked_for) = match timeout(limit, send()).await {
            Err(_) => (Failure::NoAnswer(NoAnswer::TimedOut), None),
            Ok(Err(Error::Unanswered(why))) => (Failure::NoAnswer(why), None),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(answer)) => match judge(&answer, attempts) {
                Verdict::Done => match read(&answer) {
                    Ok(value) => return Ok(value),
                    Err(Unreadable::Garbage) => (Failure::NoAnswer(NoAnswer::Garbage), None),
                    Err(Unreadable::Form(detail)) => return Err(not_understood(&answer, detail, true)),
                },
                Verdict::Final(error) => {
                    let good = error.problem().and_then(|problem| is_as_good(problem, attempts));
                    return good.ok_or(error);
                }
                Verdict::Again(failure) => (failure, asked_pause(&answer)),
            },
        };
        attempts.made += 1;
        attempts.unanswered += u32::from(failure.is_unanswered());
        if repeat == Repeat::IfNotSent && !surely_not_carried_out(&failure) {
            return Err(given_away(failure));
        }
        // Half of it is left to chance, so that many callers do not come back all at once.
        let half = pause / 2;
        let wait = asked_for.unwrap_or_default().max(half).saturating_add(draw(half));
        let next_at = Instant::now().checked_add(wait);
        let Some(next_at) = next_at.filter(|at| *at < give_up_at) else {
            return Err(attempts.given_up(failure));
        };
        sleep_until(next_at).await;
        pause = pause.saturating_mul(2).min(policy.longest_pause);
    }
}

impl Attempts {
    fn given_up(self, last: Failure) -> Error {
        let Self { made: attempts, unanswered: unanswered_attempts } = self;
        Error::GaveUp { attempts, unanswered_attempts, last: Box::new(last) }
    }
}

/// How long somebody has asked to be left alone.
fn asked_pause(answer: &Answer) -> Option<Duration> {
    let until_anew = || {
        let limit = RateLimit::read(&answer.headers).filter(|limit| limit.remaining == 0);
        limit.filter(|_| answer.status == StatusCode::TOO_MANY_REQUESTS)?.reset_after
    };
    headers::retry_after(&answer.headers).or_else(until_anew)
}

fn judge(answer: &Answer, before: Attempts) -> Verdict {
    let status = answer.status;
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Verdict::Done;
    }
    let Ok(mut problem) = serde_json::from_slice::<Problem>(&answer.body) else {
        return without_problem(answer, before);
    };
    problem.retry_after = headers::retry_after(&answer.headers);
    problem.replayed = headers::is_replayed(&answer.headers);
    // 502 and 504 are answers: the provider failed, and what was being booked is cancelled and undone. Asking again
    // under the same key brings the same; a new attempt is a new wish, with a new key.
    let is_not_now =
        matches!(status.as_u16(), 429 | 500 | 503) || problem.code == ProblemCode::RequestInFlight;
    if is_not_now && !problem.replayed {
        return Verdict::Again(Failure::NotNow(Box::new(problem)));
    }
    Verdict::Final(Error::Refused { problem: Box::new(problem), unanswered_attempts: before.unanswered })
}

/// What an answer means that has no problem of Holdfast's: a gateway or proxy before it made it.
fn without_problem(answer: &Answer, before: Attempts) -> Verdict {
    let status = answer.status;
    if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
        return Verdict::Again(Failure::NotNowStatus(status.as_u16()));
    }
    Verdict::Final(not_understood(answer, "there is no problem in it".to_owned(), before.unanswered > 0))
}

fn not_understood(answer: &Answer, detail: String, may_have_acted: bool) -> Error {
    let request_id = headers::request_id(&answer.headers);
    Error::NotUnderstood { status: answer.status.as_u16(), detail, request_id, may_have_acted }
}

/// Whether a call that is not safe to repeat can be made again all the same.
fn surely_not_carried_out(failure: &Failure) -> bool {
    match failure {
        Failure::NotNow(problem) => problem.status == 429,
        Failure::NotNowStatus(status) => *status == 429,
        Failure::NoAnswer(why) => matches!(why, NoAnswer::NoConnection(_)),
    }
}

/// The end of a call that is not made again.
fn given_away(failure: Failure) -> Error {
    match failure {
        Failure::NotNow(problem) => Error::Refused { problem, unanswered_attempts: 1 },
        Failure::NotNowStatus(status) => Error::NotUnderstood {
            status,
            detail: "there is no problem in it".to_owned(),
            request_id: None,
            may_have_acted: true,
        },
        Failure::NoAnswer(why) => Error::Unanswered(why),
    }
}

#[cfg(test)]
mod tests;
