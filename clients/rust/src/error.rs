//! Why there is no result.

use std::error::Error as StdError;

use crate::keys::KeyError;
use crate::problem::{Problem, ProblemCode, SideEffects};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Holdfast said no, and would say so again.
    #[error("refused: {problem}")]
    Refused {
        /// What Holdfast said.
        problem: Box<Problem>,
        /// How many attempts before this one had no answer that counts.
        unanswered_attempts: u32,
    },
    /// The time was over before there was an answer that counts. The same request under the same key can be made
    /// again, also by another process and days later: it books nothing twice.
    #[error("given up after {attempts} attempts: {last}")]
    GaveUp {
        /// How many attempts were made.
        attempts: u32,
        /// How many of them had no answer that counts.
        unanswered_attempts: u32,
        /// What became of the last one.
        last: Box<Failure>,
    },
    /// A call that is not safe to repeat was sent, and its answer lost. Look what became of it before you make it
    /// again.
    #[error("the answer was lost: it is not known whether the call was carried out")]
    Unanswered(#[source] NoAnswer),
    /// An answer has a form that this client does not understand, and asking again would not change that.
    #[error("the answer {status} is not understood: {detail}")]
    NotUnderstood {
        /// Its HTTP status.
        status: u16,
        /// What is not understood. Nothing of the answer's content.
        detail: String,
        /// The id under which the request is logged.
        request_id: Option<String>,
        /// Whether the call may have been carried out.
        may_have_acted: bool,
    },
    /// The request cannot be made: nothing was sent.
    #[error("the request cannot be made")]
    Request(#[source] Box<dyn StdError + Send + Sync>),
    /// The base URL is not one that a key may be sent to.
    #[error("the base URL has to be https, or http to this machine, without a query")]
    BaseUrl,
    /// There is no usable TLS on this machine.
    #[error("the HTTP client cannot be made")]
    Tls(#[source] reqwest::Error),
    /// A key has a form that it cannot have.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What became of an attempt that is to be made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Holdfast said: not now.
    #[error("{0}")]
    NotNow(Box<Problem>),
    /// Somebody before Holdfast said so, with this HTTP status.
    #[error("answered {0} by something before Holdfast")]
    NotNowStatus(u16),
    /// There was no answer.
    #[error("{0}")]
    NoAnswer(NoAnswer),
}

/// Why an attempt has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// No connection could be made: nothing was sent.
    #[error("no connection could be made")]
    NoConnection(#[source] Box<dyn StdError + Send + Sync>),
    /// The connection was lost: nobody knows how far the request came.
    #[error("the connection was lost")]
    Lost(#[source] Box<dyn StdError + Send + Sync>),
    /// The time limit of the attempt passed.
    #[error("there was no answer in time")]
    TimedOut,
    /// What came is no JSON, although the status says that it went well.
    #[error("the answer is garbage")]
    Garbage,
}

impl Error {
    /// What Holdfast said last, if it said anything.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem, .. } => Some(problem),
            Self::GaveUp { last, .. } => match &**last {
                Failure::NotNow(problem) => Some(problem),
                _ => None,
            },
            _ => None,
        }
    }

    /// The kind of problem that Holdfast named last.
    pub fn code(&self) -> Option<&ProblemCode> {
        self.problem().map(|problem| &problem.code)
    }

    /// Whether the call may have been carried out, or the provider may have acted, all attempts considered. If it
    /// is a call with an idempotency key, the same call under the same key finds that out.
    pub fn may_have_acted(&self) -> bool {
        match self {
            Self::Refused { problem, unanswered_attempts } => {
                problem.side_effects != SideEffects::None || *unanswered_attempts > 0 && !problem.replayed
            }
            Self::GaveUp { unanswered_attempts, .. } => *unanswered_attempts > 0,
            Self::Unanswered(why) => !matches!(why, NoAnswer::NoConnection(_)),
            Self::NotUnderstood { may_have_acted, .. } => *may_have_acted,
            Self::Request(_) | Self::BaseUrl | Self::Tls(_) | Self::Key(_) => false,
        }
    }
}

impl Failure {
    /// Whether nobody knows what the attempt has done.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self {
            // The first request with the key is at work, or failed on the way.
            Self::NotNow(problem) => {
                problem.side_effects != SideEffects::None
                    || matches!(problem.code, ProblemCode::RequestInFlight | ProblemCode::Internal)
            }
            Self::NotNowStatus(status) => *status != 429,
            Self::NoAnswer(why) => !matches!(why, NoAnswer::NoConnection(_)),
        }
    }
}
