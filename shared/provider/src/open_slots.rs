//! What is the same in every protocol when a provider is asked what is open: how the question is called, and how
//! it is told that there is no answer.

use holdfast_app::ports::{AvailabilityCall, AvailabilityFailure};
use holdfast_app::problem::FieldError;
use holdfast_app::settings::LocationSettings;
use holdfast_domain::{AttemptError, Timestamp};

/// The identifier of a question that is signed.
pub(crate) fn message_id(location: &LocationSettings, now: Timestamp) -> String {
    format!("availability:{}:{}", location.location_id, now.as_unix_ms())
}

/// Nobody said what is open.
pub(crate) fn not_answered(error: AttemptError, retry_after_ms: Option<u64>) -> AvailabilityFailure {
    AvailabilityFailure { error, retry_after_ms }
}

/// The failure of a provider that cannot be asked: its protocol has no question for it, or there is nowhere or
/// nothing to ask. Nothing is sent.
pub(crate) fn cannot_be_asked() -> AvailabilityFailure {
    not_answered(AttemptError::UnusableAnswer, None)
}

/// What the provider said, of one service where it was asked for that, cannot be used. Where in its answer the
/// fault is goes no further than here.
pub(crate) fn unusable(
    call: AvailabilityCall<'_>,
    service_id: Option<&str>,
    error: &FieldError,
    retry_after_ms: Option<u64>,
) -> AvailabilityFailure {
    tracing::warn!(
        provider.id = call.provider.provider_id.as_str(),
        location.id = call.location.location_id.as_str(),
        service.id = service_id,
        place = error.pointer,
        fault = error.detail,
        "what a provider says is open cannot be used"
    );
    not_answered(AttemptError::UnusableAnswer, retry_after_ms)
}

#[cfg(test)]
mod tests;
