//! The one place where a failed call becomes a [`StoreError`].

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use holdfast_app::ports::StoreError;

/// Codes that mean "later", although their status is 400.
const PASSING_CODES: [&str; 9] = [
    "InternalFailure",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ReplicatedWriteConflictException",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
];

const FIRST_SERVER_STATUS: u16 = 500;
const STATUS_TOO_MANY_REQUESTS: u16 = 429;

/// What a failed `call` means. The text names the call and the service's code alone: its messages may
/// repeat values.
pub(crate) fn store_error<E>(call: &str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata,
{
    match error {
        SdkError::TimeoutError(_) => StoreError::Unavailable(format!("{call}: timed out")),
        SdkError::DispatchFailure(_) => StoreError::Unavailable(format!("{call}: no connection")),
        SdkError::ResponseError(_) => StoreError::Unavailable(format!("{call}: unusable answer")),
        SdkError::ConstructionFailure(_) => StoreError::Refused(format!("{call}: not a valid request")),
        SdkError::ServiceError(context) => {
            let code = context.err().code().unwrap_or("no code");
            coded_error(call, code, context.raw().status().as_u16())
        }
        _ => StoreError::Unavailable(format!("{call}: failed")),
    }
}

/// What a service's `code`, with an HTTP `status` or (in a batch's entry) 400, means.
pub(crate) fn coded_error(call: &str, code: &str, status: u16) -> StoreError {
    let text = format!("{call}: {code}");
    let passing =
        status >= FIRST_SERVER_STATUS || status == STATUS_TOO_MANY_REQUESTS || PASSING_CODES.contains(&code);
    if passing { StoreError::Unavailable(text) } else { StoreError::Refused(text) }
}

/// A value that the SDK's builders refuse. They refuse missing fields only.
pub(crate) fn incomplete_request(call: &str) -> StoreError {
    StoreError::Refused(format!("{call}: not a valid request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_passes_and_a_denied_action_does_not() {
        for code in PASSING_CODES {
            assert!(matches!(coded_error("PutItem", code, 400), StoreError::Unavailable(_)), "{code}");
        }
        for code in ["ValidationException", "AccessDeniedException", "ResourceNotFoundException"] {
            assert!(matches!(coded_error("PutItem", code, 400), StoreError::Refused(_)), "{code}");
        }
        assert!(matches!(coded_error("PutItem", "no code", 503), StoreError::Unavailable(_)));
    }
}
