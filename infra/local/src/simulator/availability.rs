//! What is open, over the native protocol: `GET {simulator}/providers/{provider}/availability`.
//!
//! A slot has neither a resource nor a service. Whoever books one at the same time with a resource has another slot,
//! as it is everywhere else.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::HeaderMap,
    response::Response,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    behaviour::Operation,
    ledger::{Refusal, SlotId},
    native::{DIALECT, invalid, refuse},
    opening::{MAX_DAYS, Opening, end_of},
    serving::{self, Answer, Arrival, Work},
    state::Simulator,
};

/// The question, as it stands in the URL. What else is there is read over.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    location_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

/// The question, once it is understood.
struct Question {
    location_id: String,
    from: Timestamp,
    to: Timestamp,
}

pub(super) async fn availability(
    State(simulator): State<Arc<Simulator>>,
    Path(provider_id): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let signature = serving::check_signature(&simulator, &provider_id, true, &headers, &[]);
    let arrival = Arrival {
        provider_id: provider_id.clone(),
        operation: Operation::Availability,
        operation_name: None,
        booking_id: None,
        location_id: parameters.location_id.clone(),
        idempotency_key: None,
        operation_number: None,
        attempt: None,
        signature,
    };
    let question = understand(parameters).map_err(|refusal| refuse(&refusal));
    let work = question.map(|question| work(provider_id, question));
    serving::serve(simulator, arrival, DIALECT, work).await
}

fn understand(parameters: Parameters) -> Result<Question, Refusal> {
    let time = |text: Option<String>| text.and_then(|text| text.parse::<Timestamp>().ok());
    let location_id = parameters.location_id.filter(|id| !id.is_empty());
    let (Some(location_id), Some(from), Some(to)) = (location_id, time(parameters.from), time(parameters.to))
    else {
        return Err(invalid("location_id, and from and to, which are RFC 3339 times, must be given."));
    };
    if to.duration_since(from) > SignedDuration::from_hours(24 * MAX_DAYS) {
        return Err(invalid(&format!("At most {MAX_DAYS} days can be asked for at once.")));
    }
    Ok(Question { location_id, from, to })
}

fn work(provider_id: String, question: Question) -> Work {
    Box::new(move |scene| {
        let opening = scene.simulator.opening(&provider_id, Opening::APPOINTMENTS);
        let is_empty = scene.behaviour.availability_none;
        let held = scene.with_ledger(|ledger, _, now| ledger.held_units(&provider_id, now))?;
        let starts = opening.starts(question.from, question.to).filter(|_| !is_empty);
        let slots: Vec<Value> = starts
            .filter_map(|start| {
                let place = json!({"location_id": question.location_id, "start": start.to_string()});
                let capacity = Some(opening.left(&SlotId::of(&place), &held)).filter(|left| *left > 0)?;
                let end = end_of(start).to_string();
                Some(json!({"start": start.to_string(), "end": end, "capacity": capacity}))
            })
            .collect();
        Some(Answer { status: 200, body: json!({"slots": slots}) }.into())
    })
}
