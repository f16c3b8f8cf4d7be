//! The table of all metrics: alarms, dashboard and runbook are held against it by a test.
//!
//! A duration is recorded once for each thing that took it, so that the number of its values is the number of
//! those things; they have no counters besides.

use super::{Definition, Dimension, Metric, Unit};

macro_rules! metrics {
    ($($constant:ident: [$($dimension:ident: $values:expr),*], $name:literal, $unit:ident, $about:literal;)+) => {
        $(
            #[doc = $about]
            pub static $constant: Metric<{ <[&str]>::len(&[$(stringify!($dimension)),*]) }> = Metric::new(
                $name,
                Unit::$unit,
                &[$(Dimension { name: stringify!($dimension), values: $values }),*],
                $about,
            );
        )+

        /// Every metric.
        pub static METRICS: &[&Definition] = &[$(&$constant.0,)+];
    };
}

/// What consumers ask for.
const OPERATIONS: &[&str] = &["book", "confirm", "extend", "cancel", "reschedule"];

/// What they are answered.
const ANSWERS: &[&str] = &[
    "done",
    "pending",
    "declined",
    "replayed",
    "refused",
    "provider_unavailable",
    "provider_failed",
    "timed_out",
    "unknown",
    "failed",
];

/// What providers are called for.
const CALLS: &[&str] =
    &["book", "confirm", "extend", "cancel", "reschedule", "look_up", "compensate", "notify", "availability"];

/// What comes of it.
const CALL_OUTCOMES: &[&str] = &[
    "acknowledged",
    "accepted_for_later",
    "answered",
    "declined",
    "not_sent",
    "timed_out",
    "unknown",
    "failed",
];

/// What a booking may become that was pending.
const ENDS: &[&str] = &["reserved", "confirmed", "rejected", "cancelled", "expired", "completed", "no_show"];

/// Why somebody has to look at a booking.
const DEAD_LETTER_REASONS: &[&str] = &["compensation_failed", "operation_unresolved", "notification_failed"];

/// What comes of a post to a webhook endpoint.
const POST_OUTCOMES: &[&str] =
    &["delivered", "http_3xx", "http_4xx", "http_5xx", "timed_out", "connection_failed", "target_refused"];

metrics! {
    ANSWER_TIME: [operation: OPERATIONS, outcome: ANSWERS], "AnswerTime", Milliseconds,
        "A request that makes or changes a booking, from its arrival to its answer.";
    ANSWER_PROVIDER_TIME: [operation: OPERATIONS, outcome: ANSWERS], "AnswerProviderTime", Milliseconds,
        "The provider's share of that time, where it was asked.";
    PROVIDER_CALL_TIME: [call: CALLS, outcome: CALL_OUTCOMES], "ProviderCallTime", Milliseconds,
        "A call of a provider: an attempt, a look-up, a compensation, a notification, or asking what is open.";
    CALL_BACK_WAIT: [operation: OPERATIONS], "CallBackWait", Milliseconds,
        "Waiting within a request for a provider that said it would call back.";
    PROVIDER_SHUT: [reason: &["circuit_open", "limit_reached"]], "ProviderShut", Count,
        "A call that was not made, because the provider's circuit is open or its limit is reached.";
    BREAKER_CHANGES: [change: &["opened", "reopened", "closed"]], "BreakerChanges", Count,
        "A provider's circuit was opened, reopened by a probe that failed, or closed.";
    PENDING_AGE: [outcome: ENDS], "PendingAge", Milliseconds,
        "How long a booking was pending, when it left that status, by the status that followed.";
    COMPENSATIONS: [outcome: &["begun", "done", "failed"]], "Compensations", Count,
        "A compensating cancel was begun, was done, or failed for good.";
    DEAD_LETTERS: [reason: DEAD_LETTER_REASONS], "DeadLetters", Count,
        "A booking that somebody has to look at.";
    PARKED_RECORDS: [], "ParkedRecords", Count,
        "A change of a booking that could not be turned into events and timers.";
    DUE_LATENESS: [], "DueLateness", Milliseconds,
        "How late what was due for a booking was begun in the background.";
    OVERDUE_BOOKINGS: [], "OverdueBookings", Count,
        "Bookings overdue by more than a minute, at each sweep.";
    DELIVERY_TIME: [outcome: POST_OUTCOMES], "DeliveryTime", Milliseconds,
        "An attempt to deliver an event to a webhook endpoint.";
    DELIVERY_LAG: [], "DeliveryLag", Milliseconds,
        "From an event to its endpoint's taking it, replays left out.";
    DELIVERIES_EXHAUSTED: [], "DeliveriesExhausted", Count,
        "A delivery that is not tried any more.";
    ENDPOINTS_DISABLED: [reason: &["gone", "failing"]], "EndpointsDisabled", Count,
        "A webhook endpoint that was disabled because it failed or is gone.";
    AVAILABILITY_AGE: [source: &["cache", "live"]], "AvailabilityAge", Milliseconds,
        "How old what a location's answer shows is, by whether it was remembered or asked for.";
    PLANNED_REFRESHES: [], "PlannedRefreshes", Count,
        "How many refreshes of availability a minute's plan has.";
}
