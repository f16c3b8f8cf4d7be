//! Open slots as providers write them: in answers, or pushed. The rules are the same, and stand here once.
//!
//! Nothing here is lenient, because a list of which a part was left out looks like all that is open: whatever
//! cannot be used spoils the whole of it. What is wrong is told by its place and never by its value.

use std::sync::Arc;

use holdfast_domain::{OpenSlot, Price, Timestamp, Window};
use serde::Deserialize;
use serde_json::Value;

use crate::bookings::{MAX_ID_CHARS, MAX_SLOT_LENGTH_MS};
use crate::parse::{self, FieldErrors};
use crate::problem::{FieldError, Problem};
use crate::text::{TextKind, judge_text};

/// The most slots that one list may have: three weeks of more than nine hundred slots a day.
pub const MAX_SLOTS: usize = 20_000;

/// The longest name that a provider may give a slot, in characters.
const MAX_AVAILABILITY_ID_CHARS: usize = 256;

/// The largest amount of a price, in the currency's smallest unit: the largest whole number that every reader of
/// JSON can tell from its neighbours, 2^53 - 1.
const MAX_AMOUNT_MINOR: u64 = 9_007_199_254_740_991;

/// The letters of a currency's code.
const CURRENCY_CHARS: usize = 3;

/// Where a body has its slots.
const SLOTS: &str = "/slots";

/// A slot as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotForm {
    /// When it begins (RFC 3339).
    pub start: String,
    /// When it ends (RFC 3339).
    pub end: String,
    /// The doctor, room, boat or product option.
    pub resource_id: Option<String>,
    /// The treatment, test or product.
    pub service_id: Option<String>,
    /// How many units can still be booked: one where nothing is said, as many as wanted where it is null. With
    /// none the slot is not open.
    #[serde(default = "one_unit")]
    pub capacity: Option<u32>,
    /// What it costs.
    pub price: Option<PriceForm>,
    /// The provider's own name for the slot. Only some protocols have one.
    #[serde(skip)]
    pub availability_id: Option<String>,
}

#[allow(clippy::unnecessary_wraps, reason = "the default of a field that may be null")]
fn one_unit() -> Option<u32> {
    Some(1)
}

/// A price as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceForm {
    /// In the currency's smallest unit.
    pub amount_minor: u64,
    /// The currency's code.
    pub currency: String,
}

#[derive(Deserialize)]
struct AnswerForm {
    slots: Vec<SlotForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PushForm {
    location_id: String,
    as_of: Option<String>,
    slots: Vec<SlotForm>,
}

/// What a provider tells of its own accord.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Where.
    pub location_id: String,
    /// When it was so, if the provider says: what is booked after that time is not in it.
    pub as_of: Option<Timestamp>,
    /// All that is open there, in its order, none twice.
    pub slots: Vec<OpenSlot>,
}

/// Reads a push. Every field at fault is named, and unknown ones are refused.
pub fn read_push(body: &Value) -> Result<Push, Problem> {
    let mut errors = FieldErrors::default();
    if let Some(error) = too_many(body) {
        errors.push(error.pointer, error.detail);
    }
    errors.finish()?;
    let (PushForm { location_id, as_of, slots }, mut errors) =
        parse::parse_checked::<PushForm>(body)?.into_parts();
    let as_of = as_of.and_then(|text| match Timestamp::parse_rfc3339(&text) {
        Ok(as_of) => Some(as_of),
        Err(error) => {
            errors.push("/as_of", format!("is {error}"));
            None
        }
    });
    if let Err(detail) = judge_text(&location_id, TextKind::Name, MAX_ID_CHARS) {
        errors.push("/location_id", detail);
    }
    let list = List { pointer: SLOTS, errors };
    let slots = list.read(slots.into_iter().enumerate(), |_| true).map_err(FieldErrors::into_problem)?;
    Ok(Push { location_id, as_of, slots })
}

/// Reads the answer to the question what is open in a window. Slots that begin at other times are left out, and
/// unknown fields are read over. What is wrong first is told.
pub fn read_answer(body: &Value, window: Window) -> Result<Vec<OpenSlot>, FieldError> {
    if let Some(error) = too_many(body) {
        return Err(error);
    }
    let AnswerForm { slots } = parse::parse_answer(body)?;
    let list = List { pointer: SLOTS, errors: FieldErrors::default() };
    list.read(slots.into_iter().enumerate(), |slot| window.has(slot.start)).map_err(FieldErrors::into_first)
}

/// As [`read_answer`], for an answer of another form that is a list by itself. Each slot comes with its place in
/// that list, by which errors name it.
pub fn read_slots(
    slots: impl IntoIterator<Item = (usize, SlotForm)>,
    window: Window,
) -> Result<Vec<OpenSlot>, FieldError> {
    let list = List { pointer: "", errors: FieldErrors::default() };
    list.read(slots, |slot| window.has(slot.start)).map_err(FieldErrors::into_first)
}

/// Judged before the slots are looked at one by one, which has its price.
fn too_many(body: &Value) -> Option<FieldError> {
    let count = body.get("slots").and_then(Value::as_array).map_or(0, Vec::len);
    let detail = || format!("has {count} entries; at most {MAX_SLOTS} are allowed");
    (count > MAX_SLOTS).then(|| FieldError::new(SLOTS, detail()))
}

/// A list that is being read.
struct List {
    /// Where it is in the body.
    pointer: &'static str,
    errors: FieldErrors,
}

impl List {
    /// The slots that are open and wanted, in their order, none twice; or what is wrong. Slots that are not
    /// wanted have to be right too.
    fn read(
        mut self,
        forms: impl IntoIterator<Item = (usize, SlotForm)>,
        is_wanted: impl Fn(&OpenSlot) -> bool,
    ) -> Result<Vec<OpenSlot>, FieldErrors> {
        let mut slots = Vec::new();
        for (index, form) in forms {
            let slot = self.slot(index, form);
            slots.extend(slot.filter(|slot| is_wanted(slot)).map(|slot| (index, slot)));
        }
        // The sort is stable: of two that are the same the one that came first stays first.
        slots.sort_by(|(_, left), (_, right)| left.order().cmp(&right.order()));
        // What is said twice in the same words is said once.
        slots.dedup_by(|(_, later), (_, earlier)| later == earlier);
        for pair in slots.windows(2) {
            if let [(first, earlier), (second, later)] = pair
                && earlier.order() == later.order()
            {
                let detail = format!("contradicts {}/{first}, which is the same slot", self.pointer);
                self.errors.push(format!("{}/{second}", self.pointer), detail);
            }
        }
        if self.errors.is_empty() {
            Ok(slots.into_iter().map(|(_, slot)| slot).collect())
        } else {
            Err(self.errors)
        }
    }

    /// What a slot says if it is open. What is wrong with it is added to the errors; what comes of it then is
    /// of no use.
    fn slot(&mut self, index: usize, form: SlotForm) -> Option<OpenSlot> {
        for (member, text, kind, most_chars) in [
            ("resource_id", form.resource_id.as_deref(), TextKind::Name, MAX_ID_CHARS),
            ("service_id", form.service_id.as_deref(), TextKind::Name, MAX_ID_CHARS),
            // Nobody reads it: it goes back as it came.
            ("availability_id", form.availability_id.as_deref(), TextKind::Line, MAX_AVAILABILITY_ID_CHARS),
        ] {
            if let Some(Err(detail)) = text.map(|text| judge_text(text, kind, most_chars)) {
                self.wrong(index, member, detail);
            }
        }
        let price = form.price.map(|price| self.price(index, price));
        let (start, end) = self.times(index, &form.start, &form.end)?;
        Some(OpenSlot {
            start,
            end,
            resource_id: form.resource_id.map(Arc::from),
            service_id: form.service_id.map(Arc::from),
            capacity: form.capacity,
            price,
            availability_id: form.availability_id.map(Arc::from),
        })
        .filter(|slot| slot.capacity != Some(0))
    }

    fn times(&mut self, index: usize, start: &str, end: &str) -> Option<(Timestamp, Timestamp)> {
        let start = self.time(index, "start", start);
        let end = self.time(index, "end", end);
        let (start, end) = (start?, end?);
        let wrong = if end <= start {
            "must be later than start"
        } else if start.ms_until(end) > MAX_SLOT_LENGTH_MS {
            "is more than 366 days after start"
        } else {
            return Some((start, end));
        };
        // A start of the wrong kind was replaced by one that says nothing about the end.
        if !self.is_wrong(index, "start") {
            self.wrong(index, "end", wrong);
        }
        None
    }

    fn time(&mut self, index: usize, member: &str, text: &str) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(text).map_err(|error| self.wrong(index, member, format!("is {error}"))).ok()
    }

    fn price(&mut self, index: usize, form: PriceForm) -> Price {
        let PriceForm { amount_minor, currency } = form;
        if amount_minor > MAX_AMOUNT_MINOR {
            self.wrong(index, "price/amount_minor", format!("must be at most {MAX_AMOUNT_MINOR}"));
        }
        if currency.len() != CURRENCY_CHARS || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            self.wrong(index, "price/currency", "must be three capital letters, such as EUR");
        }
        Price { amount_minor, currency: Arc::from(currency) }
    }

    fn wrong(&mut self, index: usize, member: &str, detail: impl Into<String>) {
        self.errors.push(self.place(index, member), detail);
    }

    fn is_wrong(&self, index: usize, member: &str) -> bool {
        let place = self.place(index, member);
        self.errors.as_slice().iter().any(|error| error.pointer == place)
    }

    fn place(&self, index: usize, member: &str) -> String {
        format!("{}/{index}/{member}", self.pointer)
    }
}

#[cfg(test)]
mod tests;
