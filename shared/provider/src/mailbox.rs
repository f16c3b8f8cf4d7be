//! Notifications as their providers fetch them: the body that would be sent, in an envelope that says what it
//! is about where the protocol has none of its own.

use holdfast_app::settings::{Protocol, ProviderSettings};
use holdfast_domain::{Booking, Notification, NotificationKind};
use serde_json::{Value, json, to_value};

use crate::{docplanner, native};

/// What `provider` is told by a notification, made from `booking` as it is now. A customer who was erased is
/// left out.
pub fn notification_body(
    provider: &ProviderSettings,
    booking: &Booking,
    notification: &Notification,
) -> Result<Value, serde_json::Error> {
    match provider.protocol {
        Protocol::Docplanner => to_value(docplanner::told(provider, booking, notification)),
        // The native form is everybody's whose protocol has no notifications.
        Protocol::Holdfast | Protocol::Octo => {
            let name = match &notification.kind {
                NotificationKind::Booked => "booked",
                NotificationKind::Moved { .. } => "moved",
                NotificationKind::Cancelled => "cancelled",
            };
            let told_at = docplanner::told_at(booking, notification.version);
            Ok(json!({
                "name": name,
                "booking_id": booking.id.as_str(),
                "number": notification.number,
                "version": notification.version,
                "created_at": told_at.unwrap_or(notification.begun_at),
                "data": native::told(booking, notification)?,
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::{Phase, Timestamp};

    use super::*;
    use crate::test_util::{booking, provider, slot};

    /// Number 3, of version 2.
    fn notification(kind: NotificationKind) -> Notification {
        Notification {
            kind,
            slot: slot("main-street", "2027-01-15T09:00:00Z"),
            version: 2,
            number: 3,
            begun_at: Timestamp::EPOCH,
            attempts: 0,
            skipped: 0,
            last_error: None,
            phase: Phase::Waiting { next_attempt_at: Timestamp::EPOCH },
        }
    }

    fn moved() -> NotificationKind {
        NotificationKind::Moved { from: slot("old-street", "2027-01-14T09:00:00Z") }
    }

    #[test]
    fn native_bodies_are_in_an_envelope() {
        let provider = provider("https://clinic.example.com");
        let mut booking = booking();
        let id = booking.id.to_string();
        let body =
            |booking: &Booking, kind| notification_body(&provider, booking, &notification(kind)).unwrap();
        let slot = json!({
            "location_id": "main-street", "start": "2027-01-15T09:00:00Z", "end": "2027-01-15T09:30:00Z",
            "service_id": "checkup",
        });
        let told = |name: &str, data: Value| {
            json!({
                "name": name, "booking_id": id, "number": 3, "version": 2,
                "created_at": "2026-12-02T08:00:00Z", "data": data,
            })
        };
        let mut data = json!({
            "booking_id": id, "operation": 3, "slot": slot,
            "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
            "reference": "order-1001", "notes": "window seat", "metadata": {"channel": "web"},
            "units": [{"unit_id": "adult", "quantity": 2}], "hold": false, "attempt": 1,
        });
        assert_eq!(body(&booking, NotificationKind::Booked), told("booked", data.clone()));
        (booking.request.customer, booking.request.notes) = (None, None);
        data.as_object_mut().unwrap().remove("customer");
        data.as_object_mut().unwrap().remove("notes");
        assert_eq!(body(&booking, NotificationKind::Booked), told("booked", data));
        let data = json!({"booking_id": id, "operation": 3, "slot": slot, "attempt": 1});
        assert_eq!(body(&booking, moved()), told("moved", data));
        let data = json!({"booking_id": id, "operation": 3, "reason": "provider_timeout", "attempt": 1});
        assert_eq!(body(&booking, NotificationKind::Cancelled), told("cancelled", data));
    }

    #[test]
    fn docplanner_s_bodies_are_those_of_its_callbacks() {
        let provider =
            ProviderSettings { protocol: Protocol::Docplanner, ..provider("https://clinic.example.com") };
        let booking = booking();
        let names = [
            (NotificationKind::Booked, "slot-booked", "/data/visit_booking/id"),
            (moved(), "booking-moved", "/data/old_visit_booking/id"),
            (NotificationKind::Cancelled, "booking-canceled", "/data/visit_booking/id"),
        ];
        for (kind, name, id) in names {
            let body = notification_body(&provider, &booking, &notification(kind)).unwrap();
            let members: Vec<&String> = body.as_object().unwrap().keys().collect();
            assert_eq!(members, ["name", "data", "created_at"]);
            assert_eq!((&body["name"], &body["created_at"]), (&json!(name), &json!("2026-12-02T08:00:00Z")));
            assert_eq!(body.pointer(id), Some(&json!(booking.id.as_str())));
        }
    }
}
