//! What is open, asked over OCTO: `POST {base}/availability`, once for each service of the location.
//!
//! One service is asked after the other, so that asking for a location is never more than one request at a time,
//! as it is over every other protocol. All of them share the call's limit, and if one fails, all have failed.

use holdfast_app::availability::{MAX_SLOTS, SlotForm, read_slots};
use holdfast_app::parse::parse_answer;
use holdfast_app::ports::{AvailabilityCall, AvailabilityFailure, Clock};
use holdfast_app::problem::FieldError;
use holdfast_app::settings::OfferedService;
use holdfast_domain::{AttemptError, OpenSlot, Timestamp, Window, Zone};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Octo;
use super::answers::Reply;
use super::talk::{headers, read_reply};
use super::wire::ONLY_OPTION;
use crate::calling::{Call, Deadline, error_of, json};
use crate::open_slots::{cannot_be_asked, message_id, not_answered, unusable};

/// What a supplier's words for the members of a slot are, where they are others than in [`SlotForm`].
const NAMES: [(&str, &str); 3] =
    [("start", "localDateTimeStart"), ("end", "localDateTimeEnd"), ("availability_id", "id")];

/// The status of what may be booked without limit, whatever is said of vacancies.
const FREESALE: &str = "FREESALE";

/// What nobody can book, by its status.
const CLOSED: [&str; 2] = ["SOLD_OUT", "CLOSED"];

/// The question: whole days of the product's local time, both included. Units are left out: what is asked is
/// what is open for anybody, and how much of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    product_id: &'a str,
    option_id: &'a str,
    local_date_start: String,
    local_date_end: String,
}

impl<'a> Question<'a> {
    fn new(service: &'a OfferedService, window: Window, zone: &Zone) -> Self {
        // The end does not belong to the window any more.
        let last = window.to.minus_ms(1).max(window.from);
        Self {
            product_id: &service.service_id,
            option_id: service.resource_id.as_deref().unwrap_or(ONLY_OPTION),
            local_date_start: zone.date_at(window.from).to_string(),
            local_date_end: zone.date_at(last).to_string(),
        }
    }
}

/// What may be booked. What else is in it is read over. Of what is not available, nothing else has to be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offered {
    available: bool,
    status: Option<String>,
    id: Option<String>,
    local_date_time_start: Option<String>,
    local_date_time_end: Option<String>,
    utc_cutoff_at: Option<String>,
    vacancies: Option<i64>,
}

impl<C: Clock> Octo<'_, C> {
    pub(crate) async fn open_slots(
        &self,
        call: AvailabilityCall<'_>,
    ) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
        let deadline = Deadline::within(call.limit_ms);
        let services = &call.location.services;
        if services.is_empty() {
            // Without a service there is no question, and no question is not the answer that nothing is open.
            return Err(cannot_be_asked());
        }
        let mut slots: Vec<OpenSlot> = Vec::new();
        for (index, service) in services.iter().enumerate() {
            if services[..index].contains(service) {
                continue;
            }
            let more = self.open_slots_of(call, index, deadline).await?;
            if slots.len() + more.len() > MAX_SLOTS {
                let error = FieldError::new("", format!("makes it more than {MAX_SLOTS} slots in all"));
                return Err(unusable(call, Some(&service.service_id), &error, None));
            }
            slots.extend(more);
        }
        slots.sort_by(|left, right| left.order().cmp(&right.order()));
        Ok(slots)
    }

    async fn open_slots_of(
        &self,
        call: AvailabilityCall<'_>,
        index: usize,
        deadline: Deadline,
    ) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
        let AvailabilityCall { provider, location, .. } = call;
        let service = &location.services[index];
        let service_id = service.service_id.as_str();
        let outgoing = Call {
            provider,
            method: Method::POST,
            path: "/availability".to_owned(),
            idempotency_key: None,
            headers: headers(provider),
            message_id: format!("{}:{index}", message_id(location, self.0.now())),
            body: json(&Question::new(service, call.window, &location.zone)),
        };
        let sent = self.0.send(outgoing, deadline).await;
        let answer = sent.map_err(|failure| not_answered(error_of(failure), None))?;
        let retry_after_ms = self.0.retry_after_ms(&answer);
        let error = match read_reply::<Value>(provider, &answer) {
            Reply::Yes(offered) => {
                let read = open(&offered, service, call.window, self.0.now());
                return read.map_err(|error| unusable(call, Some(service_id), &error, retry_after_ms));
            }
            Reply::No(no) => {
                tracing::warn!(
                    provider.id = provider.provider_id.as_str(),
                    location.id = location.location_id.as_str(),
                    service.id = service_id,
                    http.status = no.status,
                    provider.code = no.code,
                    "a supplier does not say what is open"
                );
                AttemptError::HttpStatus(no.status)
            }
            Reply::Later => AttemptError::UnusableAnswer,
            Reply::NotSent(error) | Reply::Unknown(error) => error,
        };
        Err(not_answered(error, retry_after_ms))
    }
}

/// What is open of a service, given all that the supplier offers.
fn open(
    offered: &Value,
    service: &OfferedService,
    window: Window,
    now: Timestamp,
) -> Result<Vec<OpenSlot>, FieldError> {
    let count = offered.as_array().map_or(0, Vec::len);
    if count > MAX_SLOTS {
        let detail = format!("has {count} entries; at most {MAX_SLOTS} are allowed");
        return Err(FieldError::new("", detail));
    }
    let offered: Vec<Offered> = parse_answer(offered)?;
    let mut slots = Vec::new();
    for (index, one) in offered.into_iter().enumerate() {
        if one.is_open(index, now)? {
            slots.push((index, one.into_form(index, service)?));
        }
    }
    read_slots(slots, window).map_err(in_octo_words)
}

impl Offered {
    fn is_open(&self, index: usize, now: Timestamp) -> Result<bool, FieldError> {
        // A supplier that contradicts itself is believed where it says no.
        if !self.available || CLOSED.contains(&self.status.as_deref().unwrap_or_default()) {
            return Ok(false);
        }
        let Some(cutoff) = &self.utc_cutoff_at else { return Ok(true) };
        let cutoff = Timestamp::parse_rfc3339(cutoff);
        let cutoff = cutoff
            .map_err(|error| FieldError::new(format!("/{index}/utcCutoffAt"), format!("is {error}")))?;
        Ok(now < cutoff)
    }

    fn into_form(self, index: usize, service: &OfferedService) -> Result<SlotForm, FieldError> {
        let needed = |member: Option<String>, name: &str| {
            member.ok_or_else(|| FieldError::new(format!("/{index}/{name}"), "is required"))
        };
        let is_unlimited = self.status.as_deref() == Some(FREESALE);
        // A supplier that has sold more than it had tells less than nothing.
        let vacancies = self.vacancies.map(|vacancies| u32::try_from(vacancies.max(0)).unwrap_or(u32::MAX));
        Ok(SlotForm {
            start: needed(self.local_date_time_start, "localDateTimeStart")?,
            end: needed(self.local_date_time_end, "localDateTimeEnd")?,
            resource_id: service.resource_id.clone(),
            service_id: Some(service.service_id.clone()),
            capacity: vacancies.filter(|_| !is_unlimited),
            price: None,
            availability_id: Some(needed(self.id, "id")?),
        })
    }
}

/// The error with the member under its name in OCTO.
fn in_octo_words(error: FieldError) -> FieldError {
    let renamed = error.pointer.rsplit_once('/').and_then(|(slot, member)| {
        let (_, name) = NAMES.iter().find(|(own, _)| *own == member)?;
        Some(format!("{slot}/{name}"))
    });
    FieldError { pointer: renamed.unwrap_or(error.pointer), detail: error.detail }
}

#[cfg(test)]
mod tests;
