//! Bookings as the API and the events show them.
//!
//! Personal data has one way out, [`personal_view`], and that only for the consumer's own read.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_domain::{
    AttemptError, Booking, Cancellation, Event, EventType, HistoryEntry, Personal, Phase, RefusalReason,
    Rejection, Slot, State, Status, Timestamp, Withdrawal,
};
use serde::Serialize;

/// A booking without personal data: the body of a create's answer, and the data of an event.
#[derive(Debug, Serialize)]
pub struct BookingView<'a> {
    id: &'a str,
    status: &'static str,
    provider_id: &'a str,
    slot: SlotView<'a>,
    reference: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    provider_reference: Option<&'a str>,
    expires_at: Option<Timestamp>,
    rejection: Option<RejectionView<'a>>,
    cancellation: Option<CancellationView<'a>>,
    operation: Option<OperationView>,
    version: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A slot.
#[derive(Debug, Serialize)]
pub struct SlotView<'a> {
    location_id: &'a str,
    start: Timestamp,
    end: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_id: Option<&'a str>,
}

impl<'a> SlotView<'a> {
    /// Shows a slot.
    pub fn new(slot: &'a Slot) -> Self {
        Self {
            location_id: &slot.location_id,
            start: slot.start,
            end: slot.end,
            resource_id: slot.resource_id.as_deref(),
            service_id: slot.service_id.as_deref(),
        }
    }
}

/// A provider's no.
#[derive(Debug, Serialize)]
pub struct RejectionView<'a> {
    code: &'a str,
    message: Option<&'a str>,
    provider_code: Option<&'a str>,
}

impl<'a> RejectionView<'a> {
    /// Shows a rejection.
    pub fn new(rejection: &'a Rejection) -> Self {
        Self {
            code: &rejection.code,
            message: rejection.message.as_deref(),
            provider_code: rejection.provider_code.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
struct CancellationView<'a> {
    by: &'static str,
    reason: Option<&'a str>,
    note: Option<&'a str>,
}

impl<'a> CancellationView<'a> {
    fn new(cancellation: &'a Cancellation) -> Self {
        match cancellation {
            Cancellation::BySystem(reason) => {
                Self { by: "system", reason: Some(reason.as_str()), note: None }
            }
            Cancellation::ByConsumer(withdrawal) => Self::in_their_words("consumer", withdrawal),
            Cancellation::ByProvider(withdrawal) => Self::in_their_words("provider", withdrawal),
        }
    }

    fn in_their_words(by: &'static str, withdrawal: &'a Withdrawal) -> Self {
        Self { by, reason: withdrawal.reason.as_deref(), note: withdrawal.note.as_deref() }
    }
}

#[derive(Debug, Serialize)]
struct OperationView {
    kind: &'static str,
    attempts: u32,
    next_attempt_at: Option<Timestamp>,
    deadline_at: Timestamp,
    last_error: Option<String>,
}

/// A booking as it is now, without personal data.
pub fn booking_view(booking: &Booking) -> BookingView<'_> {
    let operation = booking.operation.as_ref().map(|operation| OperationView {
        kind: operation.change.kind().as_str(),
        attempts: operation.attempts,
        next_attempt_at: match operation.phase {
            Phase::Waiting { next_attempt_at } => Some(next_attempt_at),
            Phase::InFlight { .. } => None,
        },
        deadline_at: operation.deadline_at,
        last_error: operation.last_error.map(AttemptError::code),
    });
    BookingView {
        id: booking.id.as_str(),
        status: booking.status().as_str(),
        provider_id: booking.request.provider_id.as_str(),
        slot: SlotView::new(&booking.slot),
        reference: booking.request.reference.as_deref(),
        metadata: &booking.request.metadata,
        provider_reference: booking.provider_reference.as_deref(),
        expires_at: match booking.state {
            State::Reserved { expires_at } => Some(expires_at),
            _ => None,
        },
        rejection: match &booking.state {
            State::Rejected(rejection) => Some(RejectionView::new(rejection)),
            _ => None,
        },
        cancellation: match &booking.state {
            State::Cancelled(cancellation) => Some(CancellationView::new(cancellation)),
            _ => None,
        },
        operation,
        version: booking.version(),
        created_at: booking.created_at(),
        updated_at: booking.updated_at(),
    }
}

/// A booking as it was when `event` happened. What only the current version knows is left out of the
/// earlier ones.
fn view_at<'a>(booking: &'a Booking, event: &Event) -> BookingView<'a> {
    let mut view = booking_view(booking);
    if event.version != booking.version() {
        view.status = event.status.as_str();
        view.version = event.version;
        view.slot = SlotView::new(booking.slot_at(event.version));
        view.updated_at = event.at;
        view.operation = None;
        if event.status != booking.status() {
            view.expires_at = None;
            view.rejection = None;
            view.cancellation = None;
        }
        if event.status == Status::Pending {
            view.provider_reference = None;
        }
    } else if event.event_type == EventType::BookingOperationFailed {
        // The provider's no to the change: nobody else tells those who did not wait for it.
        view.rejection = booking.refusal.as_ref().and_then(|refusal| match &refusal.reason {
            RefusalReason::Declined(rejection) => Some(RejectionView::new(rejection)),
            RefusalReason::Failed(_) | RefusalReason::Unresolved => None,
        });
    }
    view
}

#[derive(Serialize)]
struct EventBody<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    event_type: &'static str,
    timestamp: Timestamp,
    data: BookingView<'a>,
}

/// The body of an event, the same on the bus, in webhooks and in the feed.
pub fn event_body(booking: &Booking, event: &Event) -> Result<String, serde_json::Error> {
    serde_json::to_string(&EventBody {
        id: event.id.as_str(),
        event_type: event.event_type.as_str(),
        timestamp: event.at,
        data: view_at(booking, event),
    })
}

#[derive(Serialize)]
struct CustomerView<'a> {
    name: &'a str,
    email: Option<&'a str>,
    phone: Option<&'a str>,
    birth_date: Option<&'a str>,
    language: Option<&'a str>,
}

/// A booking with the customer's data, for the consumer's own read alone.
///
/// It is written as JSON and cannot be printed.
#[derive(Serialize)]
pub struct PersonalView<'a> {
    #[serde(flatten)]
    booking: BookingView<'a>,
    customer: Option<CustomerView<'a>>,
    notes: Option<&'a str>,
}

impl fmt::Debug for PersonalView<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PersonalView({}, [personal data])", self.booking.id)
    }
}

/// A booking with the customer's data.
pub fn personal_view(booking: &Booking) -> PersonalView<'_> {
    let customer = booking.request.customer.as_ref().map(Personal::expose);
    PersonalView {
        booking: booking_view(booking),
        customer: customer.map(|customer| CustomerView {
            name: &customer.name,
            email: customer.email.as_deref(),
            phone: customer.phone.as_deref(),
            birth_date: customer.birth_date.as_deref(),
            language: customer.language.as_deref(),
        }),
        notes: booking.request.notes.as_ref().map(|notes| notes.expose().as_str()),
    }
}

/// One version, in a booking's history.
#[derive(Debug, Serialize)]
pub struct VersionView {
    version: u32,
    status: &'static str,
    at: Timestamp,
    cause: &'static str,
    attempts: u32,
}

/// Every version of a booking, the first first.
pub fn history_view(booking: &Booking) -> Vec<VersionView> {
    let view = |(version, entry): (u32, &HistoryEntry)| VersionView {
        version,
        status: entry.status.as_str(),
        at: entry.at,
        cause: entry.cause.as_str(),
        attempts: entry.attempts,
    };
    (1..).zip(&booking.history).map(view).collect()
}

#[cfg(test)]
mod tests {
    use holdfast_domain::{
        Acknowledgement, BookingId, ChangeRequest, Command, Patience, Rejection, Timestamp, effects,
        transition,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::test_util::pending;

    fn at(second: u64) -> Timestamp {
        Timestamp::EPOCH.plus_ms(1_800_000_000_000 + second * 1_000)
    }

    /// The booking after these commands, one a second, and the body of every event on the way, written at the end.
    fn told(commands: Vec<Command>) -> (Booking, Vec<Value>) {
        let mut images = vec![pending(BookingId::from_bytes([1; 16]), at(0))];
        for (second, command) in (1..).zip(commands) {
            let next = transition(images.last().unwrap(), command, at(second)).unwrap();
            images.push(next.booking);
        }
        let last = images.pop().unwrap();
        let events = effects(None, &last).into_iter().filter_map(|effect| match effect {
            holdfast_domain::Effect::Emit(event) => Some(event),
            _ => None,
        });
        let body = |event| serde_json::from_str(&event_body(&last, &event).unwrap()).unwrap();
        let bodies = events.map(body).collect();
        (last, bodies)
    }

    fn yes() -> Command {
        let acknowledgement =
            Acknowledgement { provider_reference: Some("P-1".to_owned()), reserved_until: None };
        Command::Acknowledge { acknowledgement, operation: None }
    }

    fn no(operation: Option<u32>) -> Command {
        let rejection = Rejection {
            code: "declined_by_provider".to_owned(),
            message: Some("No room".to_owned()),
            provider_code: Some("full".to_owned()),
        };
        Command::Decline { rejection, operation }
    }

    #[test]
    fn a_rejection_is_shown_from_its_version_on() {
        let (booking, events) = told(vec![no(None)]);
        let rejection =
            json!({"code": "declined_by_provider", "message": "No room", "provider_code": "full"});
        assert_eq!(json!(booking_view(&booking))["rejection"], rejection);
        assert_eq!(events.len(), 2);
        assert_eq!(
            (&events[0]["data"]["status"], &events[0]["data"]["rejection"]),
            (&json!("pending"), &json!(null))
        );
        assert_eq!(
            (&events[1]["data"]["status"], &events[1]["data"]["rejection"]),
            (&json!("rejected"), &rejection)
        );
    }

    #[test]
    fn an_event_shows_what_was_known_at_its_version() {
        let (_, events) = told(vec![yes()]);
        let shown = |event: &Value| {
            let data = &event["data"];
            (data["version"].clone(), data["status"].clone(), data["provider_reference"].clone())
        };
        assert_eq!(shown(&events[0]), (json!(1), json!("pending"), json!(null)));
        assert_eq!(shown(&events[1]), (json!(2), json!("confirmed"), json!("P-1")));
        assert_eq!(events[0]["data"]["updated_at"], json!(at(0)));
        assert_eq!(events[1]["data"]["updated_at"], json!(at(1)));
    }

    #[test]
    fn a_refused_change_tells_the_provider_s_words_in_its_event_alone() {
        let slot = holdfast_domain::Slot {
            start: at(200_000),
            end: at(201_000),
            ..pending(BookingId::from_bytes([1; 16]), at(0)).slot
        };
        let reschedule = Command::Begin(ChangeRequest {
            change: holdfast_domain::Change::Reschedule(slot),
            patience: Patience::Background,
            lease_until: at(10),
            deadline_at: at(100),
        });
        let (booking, events) = told(vec![yes(), reschedule, no(Some(2))]);
        let last = events.last().unwrap();
        assert_eq!(last["type"], "booking.operation_failed");
        assert_eq!(last["data"]["rejection"]["message"], "No room");
        assert_eq!(json!(booking_view(&booking))["rejection"], json!(null), "it stays confirmed");
    }

    #[test]
    fn a_history_has_every_version_in_order() {
        let (booking, _) = told(vec![yes()]);
        let history = json!(history_view(&booking));
        let entry = |version: u32, status: &str, second: u64, cause: &str, attempts: u32| json!({"version": version, "status": status, "at": at(second), "cause": cause, "attempts": attempts});
        let first = entry(1, "pending", 0, "created", 1);
        assert_eq!(history, json!([first, entry(2, "confirmed", 1, "provider_acknowledged", 1)]));
    }
}
