//! The body of a create: its form and its limits.
//!
//! What depends on the time or the configuration, such as a slot in the past, is not judged here: a
//! repeated request has to get its first response even when the slot has passed since.

use std::collections::BTreeMap;

use holdfast_domain::{
    BookingRequest, Customer, Mode, Patience, Personal, ProviderId, Slot, Timestamp, UnitQuantity,
};
use serde::Deserialize;
use serde_json::Value;

use crate::availability::{BookingKeySecret, KeyFault, MAX_BOOKING_KEY_CHARS, open_key};
use crate::parse::{self, FieldErrors};
use crate::problem::{FieldError, Problem, ProblemCode};
use crate::settings::ProviderSettings;
use crate::text::{TextKind, judge_characters, judge_text};

/// The synchronous limit unless asked otherwise, in milliseconds.
pub const DEFAULT_SYNC_TIMEOUT_MS: u64 = 2_500;
/// The shortest synchronous limit, in milliseconds.
pub const MIN_SYNC_TIMEOUT_MS: u64 = 1_000;
/// The longest synchronous limit, in milliseconds; API Gateway itself ends a call after 30 s.
pub const MAX_SYNC_TIMEOUT_MS: u64 = 10_000;
/// The background deadline unless asked otherwise, in milliseconds: 15 min.
pub const DEFAULT_ASYNC_TIMEOUT_MS: u64 = 900_000;
/// The shortest background deadline, in milliseconds: 1 min.
pub const MIN_ASYNC_TIMEOUT_MS: u64 = 60_000;
/// The longest background deadline, in milliseconds: 48 h.
pub const MAX_ASYNC_TIMEOUT_MS: u64 = 172_800_000;

/// The longest identifier that a consumer or provider may use, in characters.
pub const MAX_ID_CHARS: usize = 128;
/// The longest name of a customer, in characters.
const MAX_CUSTOMER_NAME_CHARS: usize = 200;
/// The longest e-mail address, in characters (RFC 5321, section 4.5.3.1.3, less the brackets).
const MAX_EMAIL_CHARS: usize = 254;
/// The longest telephone number, in characters, separators included.
const MAX_PHONE_CHARS: usize = 40;
/// The longest language tag, in characters (RFC 5646, section 4.4.1).
const MAX_LANGUAGE_CHARS: usize = 35;
/// The longest notes, in characters.
const MAX_NOTES_CHARS: usize = 1_000;
/// The most metadata pairs.
const MAX_METADATA_PAIRS: usize = 20;
/// The longest metadata key, in characters.
const MAX_METADATA_KEY_CHARS: usize = 64;
/// The longest metadata value, in characters.
const MAX_METADATA_VALUE_CHARS: usize = 500;
/// The most kinds of unit.
const MAX_UNITS: usize = 50;
/// The most units of one kind.
const MAX_UNIT_QUANTITY: u32 = 1_000;
/// The longest slot, in milliseconds: 366 days.
pub(crate) const MAX_SLOT_LENGTH_MS: u64 = 366 * 24 * 60 * 60 * 1000;
/// How far ahead a slot may begin, in milliseconds: two years. The store's retention relies on it.
pub const MAX_SLOT_AHEAD_MS: u64 = 2 * 366 * 24 * 60 * 60 * 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    provider_id: String,
    slot: Option<SlotBody>,
    booking_key: Option<String>,
    customer: CustomerBody,
    reference: Option<String>,
    notes: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    units: Vec<UnitBody>,
    #[serde(default)]
    hold: bool,
    #[serde(default)]
    async_confirmation: bool,
    sync_confirmation_timeout_millisecond: Option<u64>,
    async_confirmation_timeout_millisecond: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlotBody {
    location_id: String,
    start: String,
    end: String,
    resource_id: Option<String>,
    service_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomerBody {
    name: String,
    email: Option<String>,
    phone: Option<String>,
    birth_date: Option<String>,
    language: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnitBody {
    unit_id: String,
    quantity: u32,
}

/// What is to be booked, as a consumer names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedSlot {
    /// The slot itself.
    Slot(Slot),
    /// The booking key that it was shown with.
    Key(String),
}

impl NamedSlot {
    /// The booking key, if that is how it is named.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Slot(_) => None,
            Self::Key(key) => Some(key),
        }
    }
}

/// A create whose form is right.
#[derive(Clone, Debug)]
pub struct ReadCreate {
    /// What is to be booked.
    pub slot: NamedSlot,
    request: BookingRequest,
    patience: Patience,
    sync_timeout_ms: u64,
    async_timeout_ms: u64,
}

/// A create that is well formed.
#[derive(Clone, Debug)]
pub struct ValidCreate {
    /// What is asked for.
    pub request: BookingRequest,
    /// When and where.
    pub slot: Slot,
    /// When the booking key expires that names the slot, if one does.
    pub key_expires_at: Option<Timestamp>,
    /// Whether it goes on in the background.
    pub patience: Patience,
    /// The synchronous limit, in milliseconds.
    pub sync_timeout_ms: u64,
    /// The background deadline, in milliseconds.
    pub async_timeout_ms: u64,
}

/// Reads a create's body. Every field at fault is named.
pub fn read_create(body: &Value) -> Result<ReadCreate, Problem> {
    let (body, errors) = parse::parse_checked::<CreateBody>(body)?.into_parts();
    let mut check = Check { errors };
    let provider_id = check.provider_id(&body.provider_id);
    let slot = check.named_slot(body.slot.as_ref(), body.booking_key);
    check.customer(&body.customer);
    check.name("/reference", body.reference.as_deref(), MAX_ID_CHARS);
    check.notes(body.notes.as_deref());
    check.metadata(&body.metadata);
    check.units(&body.units);
    let sync_timeout_ms = check.sync_timeout(body.sync_confirmation_timeout_millisecond);
    let async_timeout_ms = check.async_timeout(body.async_confirmation_timeout_millisecond);
    check.errors.finish()?;
    let (Some(provider_id), Some(slot)) = (provider_id, slot) else {
        // Both name their error when they are missing.
        return Err(Problem::new(ProblemCode::InvalidRequest, "The body is not valid."));
    };
    let request = BookingRequest {
        provider_id,
        customer: Some(Personal::new(body.customer.into())),
        reference: body.reference,
        notes: body.notes.map(Personal::new),
        metadata: body.metadata,
        units: body.units.into_iter().map(Into::into).collect(),
        hold: body.hold,
        availability_id: None,
    };
    let patience = if body.async_confirmation { Patience::Background } else { Patience::Synchronous };
    Ok(ReadCreate { slot, request, patience, sync_timeout_ms, async_timeout_ms })
}

impl ReadCreate {
    /// The provider that it names.
    pub fn provider_id(&self) -> &ProviderId {
        &self.request.provider_id
    }

    /// The create with its slot, given the secrets that booking keys are signed with. A key that has expired still
    /// says which slot it stands for: a repetition has to get its first response.
    pub fn with_slot(self, secrets: &[BookingKeySecret], mode: Mode) -> Result<ValidCreate, Problem> {
        let Self { slot, mut request, patience, sync_timeout_ms, async_timeout_ms } = self;
        let (slot, key_expires_at) = match slot {
            NamedSlot::Slot(slot) => (slot, None),
            NamedSlot::Key(key) => {
                let keyed = open_key(&key, secrets, mode).map_err(KeyFault::problem)?;
                if keyed.provider_id != request.provider_id {
                    return Err(KeyFault::Elsewhere.problem());
                }
                request.availability_id = keyed.availability_id;
                (keyed.slot, Some(keyed.expires_at))
            }
        };
        Ok(ValidCreate { request, slot, key_expires_at, patience, sync_timeout_ms, async_timeout_ms })
    }
}

impl ValidCreate {
    /// What cannot be booked at this time although it is well formed: slots in the past or too far
    /// ahead.
    pub fn refused_at(&self, now: Timestamp) -> Option<Problem> {
        key_refused_at(self.key_expires_at, now).or_else(|| slot_refused_at(&self.slot, now))
    }

    /// What cannot be booked at this provider: holds, where it is only told.
    pub fn refused_by(&self, provider: &ProviderSettings) -> Option<Problem> {
        let is_refused = self.request.hold && provider.confirmation.tells();
        is_refused.then(|| invalid("/hold", "must be false: this provider takes no holds".to_owned()))
    }
}

/// What is wrong with a booking key that expires then and is to be used at `now`.
pub(super) fn key_refused_at(expires_at: Option<Timestamp>, now: Timestamp) -> Option<Problem> {
    expires_at.is_some_and(|expires_at| expires_at <= now).then(|| KeyFault::Expired.problem())
}

/// What is wrong with the time of a slot that is to be booked at `now`.
pub(super) fn slot_refused_at(slot: &Slot, now: Timestamp) -> Option<Problem> {
    if slot.start <= now {
        let detail = format!("is in the past: it is {now} now");
        return Some(invalid("/slot/start", detail));
    }
    if now.ms_until(slot.start) > MAX_SLOT_AHEAD_MS {
        return Some(invalid("/slot/start", "is more than two years ahead".to_owned()));
    }
    None
}

pub(super) fn invalid(pointer: &str, detail: String) -> Problem {
    let error = FieldError::new(pointer, detail);
    Problem::new(ProblemCode::InvalidRequest, format!("{} {}.", error.pointer, error.detail))
        .with_errors(vec![error])
}

impl From<CustomerBody> for Customer {
    fn from(body: CustomerBody) -> Self {
        Self {
            name: body.name,
            email: body.email,
            phone: body.phone,
            birth_date: body.birth_date,
            language: body.language,
        }
    }
}

impl From<UnitBody> for UnitQuantity {
    fn from(body: UnitBody) -> Self {
        Self { unit_id: body.unit_id, quantity: body.quantity }
    }
}

/// Collects what is wrong.
pub(super) struct Check {
    pub(super) errors: FieldErrors,
}

impl Check {
    pub(super) fn error(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(pointer, detail);
    }

    /// A text that has to say something.
    pub(super) fn text(&mut self, pointer: &str, text: &str, kind: TextKind, max_chars: usize) {
        if let Err(detail) = judge_text(text, kind, max_chars) {
            self.error(pointer, detail);
        }
    }

    /// A name for a thing, if there is one.
    pub(super) fn name(&mut self, pointer: &str, name: Option<&str>, max_chars: usize) {
        if let Some(name) = name {
            self.text(pointer, name, TextKind::Name, max_chars);
        }
    }

    /// A text that may be empty.
    fn words(&mut self, pointer: &str, text: &str, kind: TextKind, max_chars: usize) {
        let chars = text.chars().count();
        if chars > max_chars {
            self.error(pointer, format!("has {chars} characters; at most {max_chars} are allowed"));
        }
        if let Err(detail) = judge_characters(text, kind) {
            self.error(pointer, detail);
        }
    }

    fn provider_id(&mut self, text: &str) -> Option<ProviderId> {
        ProviderId::parse(text).map_err(|error| self.error("/provider_id", error.to_string())).ok()
    }

    pub(super) fn time(&mut self, pointer: &str, text: &str) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(text).map_err(|error| self.error(pointer, format!("is {error}"))).ok()
    }

    /// A slot, named in one of the two ways.
    pub(super) fn named_slot(
        &mut self,
        body: Option<&SlotBody>,
        booking_key: Option<String>,
    ) -> Option<NamedSlot> {
        match (body, booking_key) {
            (Some(body), None) => self.slot(body).map(NamedSlot::Slot),
            (None, Some(key)) => {
                self.name("/booking_key", Some(&key), MAX_BOOKING_KEY_CHARS);
                Some(NamedSlot::Key(key))
            }
            (None, None) => {
                self.error("/slot", "is required, unless there is a booking_key");
                None
            }
            (Some(_), Some(_)) => {
                self.error("/booking_key", "must not be given beside slot, which it stands for");
                None
            }
        }
    }

    pub(super) fn slot(&mut self, body: &SlotBody) -> Option<Slot> {
        self.name("/slot/location_id", Some(&body.location_id), MAX_ID_CHARS);
        self.name("/slot/resource_id", body.resource_id.as_deref(), MAX_ID_CHARS);
        self.name("/slot/service_id", body.service_id.as_deref(), MAX_ID_CHARS);
        let start = self.time("/slot/start", &body.start);
        let end = self.time("/slot/end", &body.end);
        let (start, end) = (start?, end?);
        // A time of the wrong form was replaced by one that says nothing about the other.
        let is_made_up = |error: &FieldError| matches!(error.pointer.as_str(), "/slot/start" | "/slot/end");
        if self.errors.as_slice().iter().any(is_made_up) {
            return None;
        }
        if end <= start {
            self.error("/slot/end", "must be later than /slot/start");
        } else if start.ms_until(end) > MAX_SLOT_LENGTH_MS {
            self.error("/slot/end", "is more than 366 days after /slot/start");
        }
        Some(Slot {
            location_id: body.location_id.clone(),
            start,
            end,
            resource_id: body.resource_id.clone(),
            service_id: body.service_id.clone(),
        })
    }

    fn customer(&mut self, body: &CustomerBody) {
        self.text("/customer/name", &body.name, TextKind::Line, MAX_CUSTOMER_NAME_CHARS);
        if let Some(email) = &body.email {
            self.name("/customer/email", Some(email), MAX_EMAIL_CHARS);
            let parts = email.rsplit_once('@');
            if parts.is_none_or(|(local, domain)| local.is_empty() || domain.is_empty()) {
                self.error("/customer/email", "is not an e-mail address");
            }
        }
        if let Some(phone) = &body.phone {
            self.name("/customer/phone", Some(phone), MAX_PHONE_CHARS);
            if !phone.chars().any(|character| character.is_ascii_digit()) {
                self.error("/customer/phone", "has no digit");
            }
        }
        if let Some(birth_date) = &body.birth_date
            && (birth_date.len() != "YYYY-MM-DD".len() || birth_date.parse::<jiff::civil::Date>().is_err())
        {
            self.error("/customer/birth_date", "is not a date of the form YYYY-MM-DD");
        }
        if let Some(language) = &body.language {
            self.name("/customer/language", Some(language), MAX_LANGUAGE_CHARS);
            if !language.chars().all(|character| character.is_ascii_alphanumeric() || character == '-') {
                self.error("/customer/language", "is not a language tag such as de or pt-BR");
            }
        }
    }

    fn notes(&mut self, notes: Option<&str>) {
        if let Some(notes) = notes {
            self.words("/notes", notes, TextKind::Lines, MAX_NOTES_CHARS);
        }
    }

    fn metadata(&mut self, metadata: &BTreeMap<String, String>) {
        if metadata.len() > MAX_METADATA_PAIRS {
            let detail = format!("has {} pairs; at most {MAX_METADATA_PAIRS} are allowed", metadata.len());
            self.error("/metadata", detail);
        }
        for (key, value) in metadata.iter().take(MAX_METADATA_PAIRS) {
            let pointer = format!("/metadata/{}", parse::escape(key));
            if let Err(detail) = judge_text(key, TextKind::Name, MAX_METADATA_KEY_CHARS) {
                self.error(&pointer, format!("has a key that cannot be taken: it {detail}"));
            }
            self.words(&pointer, value, TextKind::Line, MAX_METADATA_VALUE_CHARS);
        }
    }

    fn units(&mut self, units: &[UnitBody]) {
        if units.len() > MAX_UNITS {
            self.error("/units", format!("has {} entries; at most {MAX_UNITS} are allowed", units.len()));
        }
        for (index, unit) in units.iter().enumerate().take(MAX_UNITS) {
            self.name(&format!("/units/{index}/unit_id"), Some(&unit.unit_id), MAX_ID_CHARS);
            if !(1..=MAX_UNIT_QUANTITY).contains(&unit.quantity) {
                self.error(format!("/units/{index}/quantity"), format!("must be 1 to {MAX_UNIT_QUANTITY}"));
            }
        }
    }

    pub(super) fn sync_timeout(&mut self, asked: Option<u64>) -> u64 {
        let pointer = "/sync_confirmation_timeout_millisecond";
        self.range(pointer, asked, DEFAULT_SYNC_TIMEOUT_MS, MIN_SYNC_TIMEOUT_MS, MAX_SYNC_TIMEOUT_MS)
    }

    pub(super) fn async_timeout(&mut self, asked: Option<u64>) -> u64 {
        let pointer = "/async_confirmation_timeout_millisecond";
        self.range(pointer, asked, DEFAULT_ASYNC_TIMEOUT_MS, MIN_ASYNC_TIMEOUT_MS, MAX_ASYNC_TIMEOUT_MS)
    }

    fn range(&mut self, pointer: &str, asked: Option<u64>, default: u64, least: u64, most: u64) -> u64 {
        let value = asked.unwrap_or(default);
        if !(least..=most).contains(&value) {
            self.error(pointer, format!("must be {least} to {most}"));
        }
        value
    }
}

#[cfg(test)]
mod tests;
