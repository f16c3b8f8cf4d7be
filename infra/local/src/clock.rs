//! The one place where the local stack reads the wall clock. Durations are measured elsewhere, with `Instant`.

use jiff::Timestamp;

/// The present time in UTC.
#[allow(clippy::disallowed_methods, reason = "this is the one place that the lint points to")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
