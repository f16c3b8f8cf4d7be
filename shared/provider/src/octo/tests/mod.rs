//! OCTO against real sockets: which requests go out, in which order, and what comes of them.

mod booking;
mod changes;
mod looking;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use holdfast_app::bookings::DECLINED_BY_PROVIDER;
use holdfast_app::settings::Protocol;
use holdfast_domain::{Acknowledgement, Rejection};
use serde_json::{Value, json};

use super::*;
use crate::test_util::{Received, json_answer, serve};

/// The test booking's name at the supplier.
const UUID: &str = "07070707-0707-4707-8707-070707070707";

/// A step of a supplier's script: the request that it expects and how it answers.
type Step = (&'static str, u16, Value);

/// A supplier that answers one request after the other by a script.
struct Supplier {
    provider: ProviderSettings,
    received: Arc<Mutex<Vec<Received>>>,
    expected: Vec<String>,
}

impl Supplier {
    async fn following(script: impl IntoIterator<Item = Step>) -> Self {
        let script: VecDeque<Step> = script.into_iter().collect();
        let expected = script.iter().map(|(line, ..)| line.replace("{uuid}", UUID)).collect();
        let answers = Arc::new(Mutex::new(script));
        let (provider, received) = serve(move |_: &Received| {
            let step = answers.lock().unwrap().pop_front();
            step.map_or_else(
                || json_answer(500, &json!({"error": "the script is over"})),
                |(_, status, body)| json_answer(status, &body),
            )
        })
        .await;
        Self { provider: over_octo(provider), received, expected }
    }

    async fn attempt(&self, booking: &Booking, attempt: u32) -> AttemptOutcome {
        let report = crate::test_util::attempt(&self.provider, booking, attempt).await;
        self.check();
        report.outcome
    }

    /// The script was followed to its end.
    fn check(&self) {
        let lines: Vec<_> = self.received.lock().unwrap().iter().map(Received::line).collect();
        assert_eq!(lines, self.expected);
    }

    fn body(&self, index: usize) -> Value {
        self.received.lock().unwrap()[index].json()
    }
}

fn over_octo(provider: ProviderSettings) -> ProviderSettings {
    ProviderSettings { protocol: Protocol::Octo, ..provider }
}

const AVAILABILITY: &str = "POST /availability";
const RESERVE: &str = "POST /bookings";
const CONFIRM: &str = "POST /bookings/{uuid}/confirm";
const EXTEND: &str = "POST /bookings/{uuid}/extend";
const CANCEL: &str = "POST /bookings/{uuid}/cancel";
const MOVE: &str = "PATCH /bookings/{uuid}";
const GET: &str = "GET /bookings/{uuid}";

/// The test booking's slot is on offer.
fn offered() -> Value {
    json!([availability("a-early", "2027-01-15T08:00:00Z"), availability("a-1", "2027-01-15T10:00:00+01:00")])
}

fn availability(id: &str, start: &str) -> Value {
    json!({
        "id": id, "localDateTimeStart": start, "localDateTimeEnd": "2027-01-15T23:00:00+01:00",
        "allDay": false, "available": true, "status": "AVAILABLE", "vacancies": 10, "openingHours": [],
    })
}

/// The test booking as the supplier tells it.
fn told(status: &str) -> Value {
    json!({
        "id": "S-1", "uuid": UUID, "status": status, "supplierReference": null,
        "utcExpiresAt": if status == "ON_HOLD" { json!("2027-01-01T00:30:00Z") } else { Value::Null },
        "productId": "checkup", "optionId": "DEFAULT", "cancellable": true,
        "availability": {
            "id": "a-1", "localDateTimeStart": "2027-01-15T10:00:00+01:00",
            "localDateTimeEnd": "2027-01-15T11:00:00+01:00",
        },
    })
}

fn no(code: &str) -> Value {
    json!({"error": code, "errorMessage": "No.", "uuid": UUID})
}

fn declined(code: &str) -> AttemptOutcome {
    AttemptOutcome::Declined(Rejection {
        code: DECLINED_BY_PROVIDER.to_owned(),
        message: Some("No.".to_owned()),
        provider_code: Some(code.to_owned()),
    })
}

/// What follows from where the booking is, rather than from what the supplier says.
fn declined_as(status: &str) -> AttemptOutcome {
    AttemptOutcome::Declined(Rejection {
        code: DECLINED_BY_PROVIDER.to_owned(),
        message: None,
        provider_code: Some(status.to_owned()),
    })
}

fn yes(reserved_until: Option<Timestamp>) -> AttemptOutcome {
    AttemptOutcome::Acknowledged(Acknowledgement {
        provider_reference: Some("S-1".to_owned()),
        reserved_until,
    })
}

fn unknown(error: AttemptError) -> AttemptOutcome {
    AttemptOutcome::Unknown(error)
}
