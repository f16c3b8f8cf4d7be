//! What can be booked: any product and option that is asked for, at every quarter of an hour that its supplier is
//! open. What is booked is not vacant any more.

use std::collections::BTreeMap;

use jiff::{
    Span, Timestamp,
    civil::{Date, Time},
    tz::{Offset, TimeZone},
};
use serde_json::{Value, json};

use crate::simulator::{
    ledger::SlotId,
    opening::{Opening, end_of},
};

/// Between any two starts there are so many seconds, or a multiple.
const GRID_SECONDS: i64 = Opening::TOURS.step_minutes as i64 * 60;
/// What availability ids begin with; they say product, option and start, which is nobody else's business.
const ID_PREFIX: &str = "avl";

/// A product's option.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) id: &'a str,
    pub(super) option_id: &'a str,
}

impl Product<'_> {
    fn prefix(self) -> String {
        format!("{ID_PREFIX}:{}:{}:", self.id, self.option_id)
    }

    /// The slot of an availability, in the form of the books. `None` if the id is not of this product and option.
    pub(super) fn slot_of(self, availability_id: &str) -> Option<Value> {
        let start_s: i64 = availability_id.strip_prefix(&self.prefix())?.parse().ok()?;
        let start = Timestamp::from_second(start_s).ok().filter(|_| start_s.rem_euclid(GRID_SECONDS) == 0)?;
        Some(json!({
            "service_id": self.id,
            "resource_id": self.option_id,
            "start": start.to_string(),
            "end": end_of(start).to_string(),
            "availability_id": availability_id,
        }))
    }

    fn availability(self, start: Timestamp, opening: Opening, held: &BTreeMap<SlotId, u32>) -> Option<Value> {
        let id = format!("{}{}", self.prefix(), start.as_second());
        let vacancies = opening.left(&SlotId::of(&self.slot_of(&id)?), held);
        let is_free = vacancies > 0;
        let status = if is_free { "AVAILABLE" } else { "SOLD_OUT" };
        let mut shown = when(&id, start, &zone(opening.utc_offset_minutes));
        for (name, value) in [
            ("available", json!(is_free)),
            ("status", json!(status)),
            ("vacancies", json!(vacancies)),
            ("capacity", json!(opening.capacity)),
            ("maxUnits", json!(null)),
            ("utcCutoffAt", json!(utc(start))),
        ] {
            shown[name] = value;
        }
        Some(shown)
    }
}

/// The part of an availability that a booking shows too.
pub(super) fn when(id: &str, start: Timestamp, zone: &TimeZone) -> Value {
    json!({
        "id": id,
        "localDateTimeStart": local(start, zone),
        "localDateTimeEnd": local(end_of(start), zone),
        "allDay": false,
        "openingHours": [],
    })
}

pub(super) fn zone(utc_offset_minutes: i32) -> TimeZone {
    TimeZone::fixed(Offset::from_seconds(utc_offset_minutes * 60).unwrap_or(Offset::UTC))
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// To the second, as OCTO writes it.
pub(super) fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What is asked of `POST /availability`.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) product_id: String,
    pub(super) option_id: String,
    pub(super) wanted: Wanted,
}

#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// Both included, local to the product.
    Days {
        first: Date,
        last: Date,
    },
    Ids(Vec<String>),
}

impl Query {
    /// What there is. Ids that are not known are left out.
    pub(super) fn slots(&self, opening: Opening, held: &BTreeMap<SlotId, u32>) -> Vec<Value> {
        let product = Product { id: &self.product_id, option_id: &self.option_id };
        let starts: Vec<Timestamp> = match &self.wanted {
            Wanted::Days { first, last } => starts(*first, *last, opening),
            Wanted::Ids(ids) => ids.iter().filter_map(|id| start_of(&product.slot_of(id)?)).collect(),
        };
        starts.into_iter().filter_map(|start| product.availability(start, opening, held)).collect()
    }
}

/// When a slot of the books starts.
pub(super) fn start_of(slot: &Value) -> Option<Timestamp> {
    slot.get("start")?.as_str()?.parse().ok()
}

fn starts(first: Date, last: Date, opening: Opening) -> Vec<Timestamp> {
    let zone = zone(opening.utc_offset_minutes);
    let midnight = |day: Date| {
        let zoned = day.to_datetime(Time::midnight()).to_zoned(zone.clone()).ok()?;
        Some(zoned.timestamp())
    };
    let after_last = last.checked_add(Span::new().days(1)).ok();
    let (Some(from), Some(to)) = (midnight(first), after_last.and_then(midnight)) else { return Vec::new() };
    opening.starts(from, to).collect()
}
