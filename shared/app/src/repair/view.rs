//! A booking as operators see it: what is due, what failed and how often; nothing of the customer, and nothing that
//! the consumer wrote.

use holdfast_domain::{
    AttemptError, Booking, Compensation, Notification, NotificationKind, Phase, Step, Timestamp, next_step,
};
use serde_json::{Value, json};

use crate::view::SlotView;

/// Milliseconds of a second.
const SECOND_MS: u64 = 1_000;

pub(super) fn operator_view(booking: &Booking, now: Timestamp) -> Value {
    let due_at = booking.due_at();
    let operation = booking.operation.as_ref().map(|operation| {
        json!({
            "kind": operation.change.kind().as_str(),
            "number": operation.number,
            "attempts": operation.attempts,
            "last_error": operation.last_error.map(AttemptError::code),
            "resolving": operation.is_resolving(),
            "leased_until": leased_until(operation.phase),
            "next_attempt_at": next_attempt_at(operation.phase),
            "ends_at": operation.ends_at(),
        })
    });
    json!({
        "id": booking.id.as_str(),
        "consumer_id": booking.tenant.consumer_id.as_str(),
        "mode": booking.tenant.mode.as_str(),
        "provider_id": booking.request.provider_id.as_str(),
        "provider_reference": booking.provider_reference,
        "status": booking.status().as_str(),
        "version": booking.version(),
        "last_cause": booking.history.last().map(|entry| entry.cause.as_str()),
        "slot": SlotView::new(&booking.slot),
        "operation": operation,
        "compensation": compensation(&booking.compensation),
        "notifications": booking.notifications.iter().map(notification).collect::<Vec<_>>(),
        "next_step": step_name(next_step(booking, now)),
        "due_at": due_at,
        "overdue_seconds": due_at.map_or(0, |due_at| due_at.ms_until(now) / SECOND_MS),
        "created_at": booking.created_at(),
        "updated_at": booking.updated_at(),
    })
}

fn leased_until(phase: Phase) -> Option<Timestamp> {
    match phase {
        Phase::InFlight { lease_until } => Some(lease_until),
        Phase::Waiting { .. } => None,
    }
}

fn next_attempt_at(phase: Phase) -> Option<Timestamp> {
    match phase {
        Phase::InFlight { .. } => None,
        Phase::Waiting { next_attempt_at } => Some(next_attempt_at),
    }
}

fn compensation(compensation: &Compensation) -> Value {
    match compensation {
        Compensation::NotNeeded => Value::Null,
        Compensation::Done => json!({ "status": "done" }),
        Compensation::Failed => json!({ "status": "failed" }),
        Compensation::Underway(run) => json!({
            "status": "underway",
            "number": run.number,
            "attempts": run.attempts,
            "last_error": run.last_error.map(AttemptError::code),
            "leased_until": leased_until(run.phase),
            "next_attempt_at": next_attempt_at(run.phase),
            "ends_at": run.give_up_at,
        }),
    }
}

fn notification(notification: &Notification) -> Value {
    json!({
        "kind": match notification.kind {
            NotificationKind::Booked => "booked",
            NotificationKind::Moved { .. } => "moved",
            NotificationKind::Cancelled => "cancelled",
        },
        "number": notification.number,
        "attempts": notification.attempts,
        "last_error": notification.last_error.map(AttemptError::code),
        "leased_until": leased_until(notification.phase),
        "next_attempt_at": next_attempt_at(notification.phase),
        "ends_at": notification.ends_at(),
    })
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Nothing => "nothing",
        Step::WaitUntil(_) => "wait",
        Step::Attempt { .. } => "attempt",
        Step::Resolve => "resolve",
        Step::GiveUp => "give_up",
        Step::Compensate => "compensate",
        Step::GiveUpCompensation => "give_up_compensation",
        Step::Notify => "notify",
        Step::GiveUpNotification => "give_up_notification",
        Step::ExpireHold => "expire_hold",
    }
}
