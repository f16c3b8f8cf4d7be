//! How the provider in memory treats a request: what it does, what its caller sees, and when.

use std::time::Duration;

use holdfast_domain::AttemptError;
use tokio::time::sleep;

/// What the provider decides about a request, once it is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It books, or makes the change that it is asked for.
    Book,
    /// It holds the slot for this many milliseconds; then the hold lapses by itself.
    Reserve {
        /// How long.
        hold_ms: u64,
    },
    /// It refuses for good.
    Decline,
    /// It fails and keeps nothing.
    Nothing,
}

/// What the caller of a request gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What the ledger says, once the deed is done.
    Truth,
    /// The request is accepted, and the provider will call back (HTTP 202).
    Accepted,
    /// A failure of this HTTP status, whatever was done.
    Status(u16),
    /// The connection breaks, whatever was done.
    Broken,
    /// An answer that means nothing, whatever was done.
    Garbage,
    /// Nothing, ever.
    Silence,
    /// There is no connection: the request does not arrive.
    NoConnection,
}

/// Whether and how the provider calls back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// It does not.
    Never,
    /// It tells its decision.
    Once,
    /// It tells its decision, and tells it again.
    Twice,
    /// It tells its decision, and then the contrary.
    ThenContradicts,
    /// It says no first, and then its decision.
    AfterNo,
}

/// How the provider treats one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// What it decides. Look-ups ignore it, and cancels all but a refusal and nothing.
    pub deed: Deed,
    /// When the deed is done, in milliseconds after the request.
    pub deed_after_ms: u64,
    /// What the caller sees.
    pub reply: Reply,
    /// When the caller sees it, in milliseconds after the request; the truth not before the deed.
    pub reply_after_ms: u64,
    /// If set, deed and reply come so many milliseconds after the caller's time limit, or before it if
    /// negative, whatever the times above say.
    pub from_limit_ms: Option<i64>,
    /// Whether the provider calls back with its decision.
    pub calls: Calls,
    /// How long after the deed it does, in milliseconds; a second call comes as much later again.
    pub calls_after_ms: u64,
}

impl Script {
    /// All goes well, at once.
    pub const WELL: Self = Self {
        deed: Deed::Book,
        deed_after_ms: 0,
        reply: Reply::Truth,
        reply_after_ms: 0,
        from_limit_ms: None,
        calls: Calls::Never,
        calls_after_ms: 0,
    };

    /// The deed, done and answered at once.
    pub fn doing(deed: Deed) -> Self {
        Self { deed, ..Self::WELL }
    }

    /// Books at once, and the caller sees this.
    pub fn replying(reply: Reply) -> Self {
        Self { reply, ..Self::WELL }
    }

    /// Nothing is done, and the caller sees this.
    pub fn failing(reply: Reply) -> Self {
        Self { deed: Deed::Nothing, reply, ..Self::WELL }
    }

    /// The same, with the deed this much later.
    #[must_use]
    pub fn after_ms(self, deed_after_ms: u64) -> Self {
        Self { deed_after_ms, ..self }
    }

    /// The same, and the provider calls back with its decision.
    #[must_use]
    pub fn calling_back(self) -> Self {
        Self { calls: Calls::Once, ..self }
    }

    /// The script for a caller who waits so long.
    pub(super) fn within(self, limit_ms: u64) -> Self {
        let Some(from_limit_ms) = self.from_limit_ms else { return self };
        let after_ms = limit_ms.saturating_add_signed(from_limit_ms);
        Self { deed_after_ms: after_ms, reply_after_ms: after_ms, ..self }
    }
}

/// A kind of request to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// Book, or let through where the provider is a gate.
    Attempt,
    /// Confirm, extend or reschedule.
    Change,
    /// Say what is known of a booking.
    LookUp,
    /// Cancel.
    Cancel,
    /// Hear of a booking.
    Notify,
}

/// Waits as the script says; `None` if the truth is to be told, otherwise what went wrong.
pub(super) async fn wait(script: Script) -> Option<AttemptError> {
    let reply_after_ms = match script.reply {
        Reply::Truth => script.reply_after_ms.max(script.deed_after_ms),
        Reply::Accepted | Reply::Status(_) | Reply::Broken | Reply::Garbage | Reply::NoConnection => {
            script.reply_after_ms
        }
        Reply::Silence => return std::future::pending().await,
    };
    sleep(Duration::from_millis(reply_after_ms)).await;
    // The deed of the same moment goes first.
    tokio::task::yield_now().await;
    match script.reply {
        Reply::Truth | Reply::Silence => None,
        Reply::Accepted => Some(AttemptError::AcceptedForLater),
        Reply::Status(status) => Some(AttemptError::HttpStatus(status)),
        Reply::Broken => Some(AttemptError::ConnectionLost),
        Reply::Garbage => Some(AttemptError::UnusableAnswer),
        Reply::NoConnection => Some(AttemptError::ConnectionFailed),
    }
}
