//! What Holdfast says when it does not do what it was asked for (RFC 9457).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::BookingId;
use crate::open_enum::open_enum;
use crate::types::Rejection;

open_enum! {
    /// What kind of problem it is. `GET /problems/{code}` says what to do about it.
    ProblemCode {
        /// The body is not JSON.
        MalformedJson = "malformed_json",
        /// A body is required.
        MissingBody = "missing_body",
        /// A parameter is not valid.
        InvalidParameter = "invalid_parameter",
        /// The idempotency key is not valid.
        InvalidIdempotencyKey = "invalid_idempotency_key",
        /// There are two idempotency keys.
        IdempotencyKeyConflict = "idempotency_key_conflict",
        /// There is no key, or one that is unknown or revoked.
        Unauthenticated = "unauthenticated",
        /// The key is valid, but not for this.
        Forbidden = "forbidden",
        /// There is no such thing, or it is not yours.
        NotFound = "not_found",
        /// There is no call with this path.
        RouteNotFound = "route_not_found",
        /// The path has other methods.
        MethodNotAllowed = "method_not_allowed",
        /// The first request with this key is being worked on. This client repeats it.
        RequestInFlight = "request_in_flight",
        /// The provider said no.
        BookingDeclined = "booking_declined",
        /// The provider said no to a change. The booking is as it was.
        OperationDeclined = "operation_declined",
        /// Another change is in flight.
        OperationInFlight = "operation_in_flight",
        /// The provider said that the slot is not open.
        SlotUnavailable = "slot_unavailable",
        /// Another booking has the slot.
        SlotTaken = "slot_taken",
        /// The booking's status does not permit this.
        StatusConflict = "status_conflict",
        /// The booking was settled otherwise.
        Contradiction = "contradiction",
        /// The booking has as many versions as it may have.
        TooManyChanges = "too_many_changes",
        /// The webhook endpoint is disabled.
        EndpointDisabled = "endpoint_disabled",
        /// There are as many as there may be.
        LimitReached = "limit_reached",
        /// The body is too large.
        BodyTooLarge = "body_too_large",
        /// The content type is not JSON.
        UnsupportedMediaType = "unsupported_media_type",
        /// Fields are missing, unknown or not allowed; `errors` names them.
        InvalidRequest = "invalid_request",
        /// The location is not known.
        UnknownLocation = "unknown_location",
        /// The provider is not known.
        UnknownProvider = "unknown_provider",
        /// The booking key was made up or altered, or is for another provider.
        InvalidBookingKey = "invalid_booking_key",
        /// The booking key has expired.
        BookingKeyExpired = "booking_key_expired",
        /// The idempotency key stands for another body.
        IdempotencyKeyReused = "idempotency_key_reused",
        /// The answer would be too large.
        AnswerTooLarge = "answer_too_large",
        /// Too many requests. This client repeats it when it may.
        RateLimited = "rate_limited",
        /// Notifications were released less than an hour ago.
        ReleaseTooSoon = "release_too_soon",
        /// Something failed on Holdfast's side. This client repeats it where that is safe.
        Internal = "internal",
        /// The provider failed. What was being booked is cancelled and undone.
        ProviderFailed = "provider_failed",
        /// Storage is not reachable. This client repeats it where that is safe.
        TemporarilyUnavailable = "temporarily_unavailable",
        /// The provider is known to be down, or at its limits. This client repeats it where that is safe.
        ProviderUnavailable = "provider_unavailable",
        /// The provider was silent until the limit. What was being booked is cancelled and undone.
        ProviderTimeout = "provider_timeout",
    }
}

open_enum! {
    /// Whether the provider may have acted.
    SideEffects {
        /// Surely not.
        None = "none",
        /// Perhaps. Holdfast sees to it that nothing stays.
        Unknown = "unknown",
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) into the body, or the name of a parameter or header.
    pub pointer: String,
    /// What is wrong, and what is allowed.
    pub detail: String,
}

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The page that says what it means.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short summary, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// What kind it is.
    pub code: ProblemCode,
    /// Whether the provider may have acted, as far as this answer goes. [`Error::may_have_acted`] knows of the
    /// attempts before it too.
    ///
    /// [`Error::may_have_acted`]: crate::Error::may_have_acted
    pub side_effects: SideEffects,
    /// The id under which the request is logged.
    pub request_id: String,
    /// The booking that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booking_id: Option<BookingId>,
    /// The fields at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The provider's no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// The methods that there are, of `method_not_allowed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// After how long it makes sense to ask again, as a header of the answer says.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// Whether this is the first request's answer, once more: asking again under the same key brings no other.
    #[serde(skip)]
    pub replayed: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} (request {})", self.code, self.detail, self.request_id)
    }
}

impl std::error::Error for Problem {}
