//! The callbacks of the Docplanner Integrations API: what is sent, all of it to the provider's one URL.
//! What answers mean is in [`answers`], the messages are in [`wire`].
//!
//! Nothing here books at the provider: a gate (`slot-booking`, `booking-moving`) asks whether a booking may
//! go through, and a notification (`slot-booked`, `booking-moved`, `booking-canceled`) tells of one that
//! is. There is no look-up.

mod answers;
mod wire;

use holdfast_app::ports::{
    AttemptReport, Clock, CompensationReport, NotificationCall, NotificationReport, ProviderCall,
};
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, Change, CompensationOutcome, Notification, NotificationKind,
};
use http::{HeaderMap, Method};
use serde::Serialize;

pub(crate) use self::wire::told_at;
use self::wire::{BookedData, Envelope, MovedData, MovingData, SlotBookingData};
use crate::calling::{Call, Caller, Deadline, error_of, json, message_id};
use crate::outcomes::own_rejection;

/// The code of the no to a change that there is no callback to ask for.
const NOT_SUPPORTED: &str = "not_supported";

/// Calls providers that take Docplanner's callbacks.
pub(crate) struct Docplanner<'c, C>(pub(crate) &'c Caller<C>);

impl<C: Clock> Docplanner<'_, C> {
    /// Asks the gate. It books nothing, whatever it answers, so that everything which is neither a yes nor
    /// a no counts as not sent.
    pub(crate) async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        let ProviderCall { provider, booking, operation_number, attempt, limit_ms } = call;
        if !booking.confirmation.tells() {
            // It was made when another protocol was configured under this name; a gate cannot book it.
            let outcome = AttemptOutcome::NotSent(AttemptError::UnusableAnswer);
            return AttemptReport { outcome, retry_after_ms: None };
        }
        let now = self.0.now();
        let change = booking.operation.as_ref().map_or(&Change::Book, |operation| &operation.change);
        let about = About { provider, booking, number: operation_number, attempt };
        let outgoing = match change {
            Change::Book => {
                let data = SlotBookingData::new(provider, booking, now);
                about.post(&Envelope { name: "slot-booking", data, created_at: now })
            }
            Change::Reschedule(slot) => {
                let data = MovingData::new(provider, booking, slot, now);
                about.post(&Envelope { name: "booking-moving", data, created_at: now })
            }
            // There are no holds, and a cancel is told rather than asked for.
            Change::Confirm | Change::Extend { .. } | Change::Cancel(_) => {
                let rejection = own_rejection(NOT_SUPPORTED, "The provider cannot be asked for this change.");
                let outcome = AttemptOutcome::Declined(rejection);
                return AttemptReport { outcome, retry_after_ms: None };
            }
        };
        match self.0.send(outgoing, Deadline::within(limit_ms)).await {
            Ok(answer) => AttemptReport {
                outcome: answers::gate(provider, answer.head.status, &answer.body),
                retry_after_ms: self.0.retry_after_ms(&answer),
            },
            Err(failure) => {
                AttemptReport { outcome: AttemptOutcome::NotSent(error_of(failure)), retry_after_ms: None }
            }
        }
    }

    /// A compensation undoes what an attempt may have booked. A gate books nothing, and what was told of a
    /// booking is taken back by a notification, so that none ever begins here. One that is due all the same was
    /// begun at a provider of another protocol that had this name: nobody here can undo that.
    pub(crate) fn compensate() -> CompensationReport {
        CompensationReport { outcome: CompensationOutcome::Declined, retry_after_ms: None }
    }

    pub(crate) async fn notify(&self, call: NotificationCall<'_>) -> NotificationReport {
        let NotificationCall { provider, booking, notification, limit_ms } = call;
        let (number, attempt) = (notification.number, notification.attempts);
        let about = About { provider, booking, number, attempt };
        let outgoing = about.post(&told(provider, booking, notification));
        self.0.tell(outgoing, limit_ms).await
    }
}

/// The message of a notification. It is the same over all attempts.
pub(crate) fn told<'a>(
    provider: &'a ProviderSettings,
    booking: &'a Booking,
    notification: &'a Notification,
) -> impl Serialize + 'a {
    let slot = &notification.slot;
    // When what is told of came about.
    let created_at = told_at(booking, notification.version).unwrap_or(notification.begun_at);
    let (name, data) = match &notification.kind {
        NotificationKind::Booked => {
            let data = BookedData::booked(provider, booking, slot);
            ("slot-booked", ToldData::Visit(Box::new(data)))
        }
        NotificationKind::Moved { from } => {
            let data = MovedData::new(provider, booking, from, slot, created_at);
            ("booking-moved", ToldData::Moved(Box::new(data)))
        }
        NotificationKind::Cancelled => {
            let data = BookedData::cancelled(provider, booking, slot, created_at);
            ("booking-canceled", ToldData::Visit(Box::new(data)))
        }
    };
    Envelope { name, data, created_at }
}

/// The data of a notification.
#[derive(Serialize)]
#[serde(untagged)]
enum ToldData<'a> {
    Visit(Box<BookedData<'a>>),
    Moved(Box<MovedData<'a>>),
}

/// What a message is about.
#[derive(Clone, Copy)]
struct About<'a> {
    provider: &'a ProviderSettings,
    booking: &'a Booking,
    /// The number of the operation or notification.
    number: u32,
    attempt: u32,
}

impl<'a> About<'a> {
    fn post(self, envelope: &impl Serialize) -> Call<'a> {
        Call {
            provider: self.provider,
            method: Method::POST,
            path: String::new(),
            idempotency_key: Some(format!("{}:{}", self.booking.id, self.number)),
            headers: HeaderMap::new(),
            message_id: message_id(self.booking, self.number, self.attempt),
            body: json(envelope),
        }
    }
}

#[cfg(test)]
mod tests;
