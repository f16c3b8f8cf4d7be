//! Errors as callers see them (RFC 9457), free of any transport.
//!
//! Every code has one status and one page (`/problems/{code}`). The inside of a failure is logged where
//! it is handled; it is never part of a problem.

use holdfast_domain::BookingId;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::rates::RateState;

/// Whether the refused or failed call may have changed something at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideEffects {
    /// Surely nothing.
    None,
    /// The provider may have acted; Holdfast sees to it that nothing stays.
    Unknown,
}

macro_rules! problem_codes {
    ($($name:ident, $code:literal, $status:literal, $title:literal, $about:literal;)+) => {
        /// What kind of problem it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemCode {
            $(#[doc = $about] $name,)+
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The code that callers see.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// A short summary, the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// What it means and what to do, for its page.
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)+ }
            }

            /// Reads a code.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

problem_codes! {
    MalformedJson, "malformed_json", 400, "The body is not JSON", "The request's body could not be parsed as JSON (RFC 8259). The detail names line and column.";
    MissingBody, "missing_body", 400, "A body is required", "This call needs a JSON body.";
    InvalidParameter, "invalid_parameter", 400, "A parameter is not valid", "A query parameter or header has a form or value that is not allowed. The errors name it.";
    InvalidIdempotencyKey, "invalid_idempotency_key", 400, "The idempotency key is not valid", "An idempotency key is 1 to 255 visible ASCII characters, bare or as a quoted structured-field string (RFC 8941).";
    IdempotencyKeyConflict, "idempotency_key_conflict", 400, "Two different idempotency keys", "Idempotency-Key and X-Idempotency-Key are both present and differ. Send one, or the same in both.";
    Unauthenticated, "unauthenticated", 401, "A valid API key is required", "Send Authorization: Bearer with a key that is neither unknown nor revoked.";
    Forbidden, "forbidden", 403, "The key does not open this", "The key is valid, but its role or mode does not permit this call.";
    NotFound, "not_found", 404, "Not found", "There is no such thing, or it is not yours.";
    RouteNotFound, "route_not_found", 404, "No such route", "There is no call with this path.";
    MethodNotAllowed, "method_not_allowed", 405, "The method is not allowed here", "The path exists with other methods; the Allow header lists them.";
    RequestInFlight, "request_in_flight", 409, "The first request with this key is being worked on", "Repeat the request after Retry-After, or send Prefer: wait=N to wait for the first one's response.";
    BookingDeclined, "booking_declined", 409, "The provider declined the booking", "The provider gave a definite no. The booking carries its code and message; it is rejected.";
    OperationDeclined, "operation_declined", 409, "The provider refused the change", "The provider gave a definite no. The booking is as it was; the rejection carries the provider's code and message.";
    OperationInFlight, "operation_in_flight", 409, "A change is in flight", "One change of a booking is in flight at a time. Repeat the request after it has ended.";
    SlotUnavailable, "slot_unavailable", 409, "The slot is not open", "The provider said within the last 15 minutes that this slot cannot be booked. No booking was made, or the booking is as it was. Ask for availability again.";
    SlotTaken, "slot_taken", 409, "The slot is taken", "Another booking has this slot, and the provider lets each slot be booked once. No booking was made, or the booking is as it was.";
    StatusConflict, "status_conflict", 409, "The booking's status does not permit this", "The booking has a status from which this change is not possible.";
    Contradiction, "contradiction", 409, "The booking was settled otherwise", "The first definite answer of a provider counts; this one contradicts it.";
    TooManyChanges, "too_many_changes", 409, "The booking has too many versions", "A booking has at most 200 versions.";
    EndpointDisabled, "endpoint_disabled", 409, "The endpoint is disabled", "Nothing is delivered to a webhook endpoint that is disabled. Enable it first.";
    LimitReached, "limit_reached", 409, "The limit is reached", "There are as many of these as there may be. Delete one, or wait until one is over.";
    BodyTooLarge, "body_too_large", 413, "The body is too large", "A request's body may have 65536 bytes, and 1048576 where a provider tells of its availability.";
    UnsupportedMediaType, "unsupported_media_type", 415, "The content type is not supported", "Send Content-Type: application/json.";
    InvalidRequest, "invalid_request", 422, "The request is not valid", "The body is JSON, but fields are missing, unknown or not allowed as they are. The errors name each with a JSON pointer.";
    UnknownLocation, "unknown_location", 422, "The location is not known", "No location of this name is configured for the provider.";
    UnknownProvider, "unknown_provider", 422, "The provider is not known", "No provider of this name is configured for the key's mode.";
    InvalidBookingKey, "invalid_booking_key", 422, "The booking key is not valid", "A booking key is taken from the answer of GET /v1/availability as it is, and books at the provider that it was shown for. This one was made up, altered, or is for another provider. Ask for availability again.";
    BookingKeyExpired, "booking_key_expired", 422, "The booking key has expired", "A booking key is good for at least an hour after it was shown. Ask for availability again.";
    IdempotencyKeyReused, "idempotency_key_reused", 422, "The idempotency key was used with another body", "A key stands for one request for 14 days. Use a new key for a new request.";
    AnswerTooLarge, "answer_too_large", 422, "The answer would be too large", "Ask for fewer locations or days, and take gzip: an answer holds some 110000 slots compressed, and a fifth of that otherwise.";
    RateLimited, "rate_limited", 429, "Too many requests", "The consumer has made as many requests as it may within the window. The answer's headers say how many that are and how long the window lasts. Nothing was done. Repeat the request after Retry-After.";
    ReleaseTooSoon, "release_too_soon", 429, "Notifications were released less than an hour ago", "Fetched notifications can be made to wait again once an hour. Repeat the request after Retry-After.";
    Internal, "internal", 500, "Something failed on our side", "The failure is logged under the request's id. Repeating the request with the same idempotency key is safe.";
    ProviderFailed, "provider_failed", 502, "The provider failed", "The provider answered with an error or could not be reached. Where availability was asked for, nothing more is to it. A booking that was being made is cancelled, and whatever the provider may have booked is undone; one that was being changed is as it was, and if its side effects are unknown the provider is asked what became of the change.";
    StoreUnavailable, "temporarily_unavailable", 503, "Temporarily unavailable", "Storage is throttled or unreachable. Repeat the request after Retry-After with the same idempotency key.";
    ProviderUnavailable, "provider_unavailable", 503, "The provider is not available", "The provider failed several times in a row, or is called as often as it may be, and is not called for a moment. Nothing was sent and nothing was booked or changed. Repeat the request after Retry-After.";
    ProviderTimeout, "provider_timeout", 504, "The provider did not answer in time", "The provider was silent until the time limit. Where availability was asked for, nothing more is to it. A booking that was being made is cancelled, and whatever the provider may have booked is undone; one that was being changed is as it was, and if its side effects are unknown the provider is asked what became of the change.";
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where: a JSON pointer (RFC 6901) into the body, or the name of a parameter or header.
    pub pointer: String,
    /// What is wrong, and what is allowed.
    pub detail: String,
}

impl FieldError {
    /// An error at a place.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// A problem, to be answered to a caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .code.as_str())]
pub struct Problem {
    /// What kind it is.
    pub code: ProblemCode,
    /// What happened this time. It holds no personal data and nothing of the inside.
    pub detail: String,
    /// Whether something may have happened at a provider.
    pub side_effects: SideEffects,
    /// The fields at fault.
    pub errors: Vec<FieldError>,
    /// After how many seconds a repetition makes sense.
    pub retry_after_s: Option<u64>,
    /// The booking that it is about.
    pub booking_id: Option<BookingId>,
    /// How the caller stands with its limit, if it has one.
    pub rate: Option<RateState>,
    /// Members of this code's own, such as the provider's rejection.
    pub extensions: Box<Map<String, Value>>,
}

impl Problem {
    /// A problem without side effects.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            side_effects: SideEffects::None,
            errors: Vec::new(),
            retry_after_s: None,
            booking_id: None,
            rate: None,
            extensions: Box::default(),
        }
    }

    /// The same, naming the fields at fault.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// The same, to be repeated after so many seconds.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same, with a word on side effects.
    #[must_use]
    pub fn with_side_effects(mut self, side_effects: SideEffects) -> Self {
        self.side_effects = side_effects;
        self
    }

    /// The same, about a booking.
    #[must_use]
    pub fn about(mut self, booking_id: &BookingId) -> Self {
        self.booking_id = Some(booking_id.clone());
        self
    }

    /// The same, saying how the caller stands with its limit.
    #[must_use]
    pub fn with_rate(mut self, rate: RateState) -> Self {
        self.rate = Some(rate);
        self
    }

    /// The same, with a member of this code's own.
    #[must_use]
    pub fn with_extension(mut self, name: &str, value: Value) -> Self {
        self.extensions.insert(name.to_owned(), value);
        self
    }

    /// The body, `application/problem+json`. `instance` is the request's path, `request_id` the id under
    /// which the request is logged.
    pub fn body(&self, instance: &str, request_id: &str) -> Value {
        let mut body = json!({
            "type": format!("/problems/{}", self.code.as_str()),
            "title": self.code.title(),
            "status": self.code.status(),
            "detail": self.detail,
            "instance": instance,
            "code": self.code.as_str(),
            "side_effects": match self.side_effects { SideEffects::None => "none", SideEffects::Unknown => "unknown" },
            "request_id": request_id,
        });
        if let Some(members) = body.as_object_mut() {
            if !self.errors.is_empty() {
                members.insert("errors".to_owned(), json!(self.errors));
            }
            if let Some(booking_id) = &self.booking_id {
                members.insert("booking_id".to_owned(), json!(booking_id.as_str()));
            }
            for (name, value) in self.extensions.iter() {
                members.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        body
    }
}
