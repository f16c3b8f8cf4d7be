//! The native protocol, `holdfast`: what is sent, and in which order. What answers mean is in
//! [`answers`], the bodies are in [`wire`]. What is open is asked in [`availability`].

mod answers;
mod availability;
mod wire;

use bytes::Bytes;
use holdfast_app::ports::{
    AttemptReport, Clock, CompensationCall, CompensationReport, NotificationCall, NotificationReport,
    ProviderCall,
};
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{
    AttemptError, Booking, Change, CompensationOutcome, LookUpOutcome, Notification, NotificationKind, Slot,
};
use http::{HeaderMap, Method};
use serde_json::{Value, to_value};

use self::answers::CancelAnswer;
use self::wire::{BookBody, CancelBody, ConfirmBody, ExtendBody, RescheduleBody};
use crate::calling::{Call, Caller, Deadline, error_of, failed_attempt, json, message_id};
use crate::outcomes::{CancelOutcome, hold_end};
use crate::request::Unsendable;
use crate::safe_client::Failure;

/// The attempt that a body names which is fetched.
const ONLY_ATTEMPT: u32 = 1;

/// Calls providers that speak the native protocol.
pub(crate) struct Native<'c, C>(pub(crate) &'c Caller<C>);

/// One message to the provider about a booking.
#[derive(Clone, Copy)]
struct Message<'a> {
    provider: &'a ProviderSettings,
    booking: &'a Booking,
    /// The number of the operation, compensation or notification that it belongs to.
    number: u32,
    attempt: u32,
}

impl<'a> Message<'a> {
    /// The booking itself: its key is the booking's identifier alone, so that there is at most one.
    fn book(self, slot: &Slot) -> Call<'a> {
        let body = json(&BookBody::new(self.booking, slot, self.number, self.attempt));
        self.post("/bookings".to_owned(), self.booking.id.to_string(), body)
    }

    fn reschedule(self, to: &Slot) -> Call<'a> {
        self.change("reschedule", json(&RescheduleBody::new(self.booking, to, self.number, self.attempt)))
    }

    fn cancel(self) -> Call<'a> {
        self.change("cancel", json(&CancelBody::new(self.booking, self.number, self.attempt)))
    }

    fn change(self, action: &str, body: Result<Bytes, Unsendable>) -> Call<'a> {
        let id = &self.booking.id;
        self.post(format!("/bookings/{id}/{action}"), format!("{id}:{}", self.number), body)
    }

    fn post(self, path: String, idempotency_key: String, body: Result<Bytes, Unsendable>) -> Call<'a> {
        Call {
            provider: self.provider,
            method: Method::POST,
            path,
            idempotency_key: Some(idempotency_key),
            headers: HeaderMap::new(),
            message_id: message_id(self.booking, self.number, self.attempt),
            body,
        }
    }
}

impl<C: Clock> Native<'_, C> {
    pub(crate) async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        let ProviderCall { provider, booking, operation_number, attempt, limit_ms } = call;
        let deadline = Deadline::within(limit_ms);
        let message = Message { provider, booking, number: operation_number, attempt };
        let booking_id = booking.id.as_str();
        let change = booking.operation.as_ref().map_or(&Change::Book, |operation| &operation.change);
        let held_until = hold_end(booking, self.0.now());
        let (outgoing, hold_end) = match change {
            Change::Book => (message.book(&booking.slot), held_until),
            Change::Confirm => {
                let body = ConfirmBody { booking_id, operation: operation_number, attempt };
                (message.change("confirm", json(&body)), held_until)
            }
            Change::Extend { expires_at } => {
                let expires_at = *expires_at;
                let body = ExtendBody { booking_id, operation: operation_number, expires_at, attempt };
                (message.change("extend", json(&body)), expires_at)
            }
            Change::Reschedule(slot) => (message.reschedule(slot), held_until),
            Change::Cancel(_) => {
                return match self.cancel(message, deadline).await {
                    Ok((outcome, retry_after_ms)) => {
                        AttemptReport { outcome: outcome.of_attempt(), retry_after_ms }
                    }
                    Err(failure) => failed_attempt(failure),
                };
            }
        };
        match self.0.send(outgoing, deadline).await {
            Ok(answer) => AttemptReport {
                outcome: answers::attempt(
                    provider,
                    answer.head.status,
                    &answer.body,
                    change.kind(),
                    hold_end,
                ),
                retry_after_ms: self.0.retry_after_ms(&answer),
            },
            Err(failure) => failed_attempt(failure),
        }
    }

    pub(crate) async fn look_up(
        &self,
        provider: &ProviderSettings,
        booking: &Booking,
        limit_ms: u64,
    ) -> LookUpOutcome {
        self.look_up_by(provider, booking, Deadline::within(limit_ms)).await
    }

    pub(crate) async fn compensate(&self, call: CompensationCall<'_>) -> CompensationReport {
        let CompensationCall { provider, booking, operation_number, attempt, limit_ms } = call;
        let message = Message { provider, booking, number: operation_number, attempt };
        match self.cancel(message, Deadline::within(limit_ms)).await {
            Ok((outcome, retry_after_ms)) => {
                CompensationReport { outcome: outcome.of_compensation(), retry_after_ms }
            }
            Err(failure) => {
                let outcome = CompensationOutcome::Failed(error_of(failure));
                CompensationReport { outcome, retry_after_ms: None }
            }
        }
    }

    /// Tells the provider of a booking by the same messages that ask for one.
    pub(crate) async fn notify(&self, call: NotificationCall<'_>) -> NotificationReport {
        let NotificationCall { provider, booking, notification, limit_ms } = call;
        let (number, attempt) = (notification.number, notification.attempts);
        let message = Message { provider, booking, number, attempt };
        let outgoing = match &notification.kind {
            NotificationKind::Booked => message.book(&notification.slot),
            NotificationKind::Moved { .. } => message.reschedule(&notification.slot),
            NotificationKind::Cancelled => message.cancel(),
        };
        self.0.tell(outgoing, limit_ms).await
    }

    async fn look_up_by(
        &self,
        provider: &ProviderSettings,
        booking: &Booking,
        deadline: Deadline,
    ) -> LookUpOutcome {
        let now = self.0.now();
        let call = Call {
            provider,
            method: Method::GET,
            path: format!("/bookings/{}", booking.id),
            idempotency_key: None,
            headers: HeaderMap::new(),
            message_id: format!("{}:look_up:{}", booking.id, now.as_unix_ms()),
            body: Ok(Bytes::new()),
        };
        match self.0.send(call, deadline).await {
            Ok(answer) => {
                let retry_after_ms = self.0.retry_after_ms(&answer);
                answers::look_up(answer.head.status, &answer.body, retry_after_ms, hold_end(booking, now))
            }
            Err(failure) => LookUpOutcome::Unavailable { error: error_of(failure), retry_after_ms: None },
        }
    }

    /// Asks the provider to cancel, for a consumer or as a compensation, and how long it asks to be left
    /// alone, in milliseconds.
    async fn cancel(
        &self,
        message: Message<'_>,
        deadline: Deadline,
    ) -> Result<(CancelOutcome, Option<u64>), Failure> {
        let answer = self.0.send(message.cancel(), deadline).await?;
        let outcome = match answers::cancel(message.provider, answer.head.status, &answer.body) {
            CancelAnswer::Means(outcome) => outcome,
            CancelAnswer::Ambiguous => {
                after_ambiguous_cancel(&self.look_up_by(message.provider, message.booking, deadline).await)
            }
        };
        Ok((outcome, self.0.retry_after_ms(&answer)))
    }
}

/// What a provider that fetches its notifications is told by one: the body that it would be sent first.
pub(crate) fn told(booking: &Booking, notification: &Notification) -> Result<Value, serde_json::Error> {
    let (slot, number) = (&notification.slot, notification.number);
    match &notification.kind {
        NotificationKind::Booked => to_value(BookBody::new(booking, slot, number, ONLY_ATTEMPT)),
        NotificationKind::Moved { .. } => to_value(RescheduleBody::new(booking, slot, number, ONLY_ATTEMPT)),
        NotificationKind::Cancelled => to_value(CancelBody::new(booking, number, ONLY_ATTEMPT)),
    }
}

/// What a cancel that was answered with a bare 404 comes to, given what the look-up said afterwards.
fn after_ambiguous_cancel(looked_up: &LookUpOutcome) -> CancelOutcome {
    match looked_up {
        LookUpOutcome::NotFound => CancelOutcome::NoSuchBooking,
        LookUpOutcome::Ended => CancelOutcome::Done,
        LookUpOutcome::Found(_)
        | LookUpOutcome::StillPending
        | LookUpOutcome::Unavailable { .. }
        | LookUpOutcome::Unsupported => CancelOutcome::Unknown(AttemptError::HttpStatus(404)),
    }
}

#[cfg(test)]
mod tests;
