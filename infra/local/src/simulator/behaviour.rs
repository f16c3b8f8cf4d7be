//! How the simulated providers misbehave: what can be asked for, and which request of several decides a call.
//! Carries nothing out.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// The longest delay that can be asked for: a day.
const MAX_DELAY_MS: u64 = 24 * 60 * 60 * 1000;
/// The most calls that one `next` may decide.
const MAX_NEXT_COUNT: u32 = 100_000;
/// The most standing behaviours and waiting `next` entries, each.
const MAX_BEHAVIOURS: usize = 10_000;

/// What a call asks of a provider, over all protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    Book,
    Confirm,
    Extend,
    Cancel,
    Reschedule,
    LookUp,
    /// What can be booked.
    Availability,
    /// Docplanner: may this be booked?
    SlotBooking,
    SlotBooked,
    BookingCanceled,
    /// Docplanner: may this be moved?
    BookingMoving,
    BookingMoved,
    /// Anything that this provider does not know.
    Other,
}

impl Operation {
    /// Whether a provider may put the decision off.
    pub(super) fn may_wait(self) -> bool {
        matches!(self, Self::Book | Self::Confirm | Self::Extend | Self::Reschedule)
    }

    /// Whether a no is remembered like a yes, so that its repetition meets it again and a look-up tells.
    pub(super) fn is_refused_for_good(self) -> bool {
        matches!(self, Self::Confirm | Self::Extend | Self::Reschedule)
    }

    /// Whether it asks for something new to be booked.
    fn is_a_booking(self) -> bool {
        matches!(self, Self::Book | Self::SlotBooking)
    }
}

/// Which calls a behaviour is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    Book,
    Confirm,
    Extend,
    Cancel,
    Reschedule,
    LookUp,
    Availability,
    SlotBooking,
    SlotBooked,
    BookingCanceled,
    BookingMoving,
    BookingMoved,
    Any,
}

impl Scope {
    fn includes(self, operation: Operation) -> bool {
        let only = match self {
            Self::Any => return true,
            Self::Book => Operation::Book,
            Self::Confirm => Operation::Confirm,
            Self::Extend => Operation::Extend,
            Self::Cancel => Operation::Cancel,
            Self::Reschedule => Operation::Reschedule,
            Self::LookUp => Operation::LookUp,
            Self::Availability => Operation::Availability,
            Self::SlotBooking => Operation::SlotBooking,
            Self::SlotBooked => Operation::SlotBooked,
            Self::BookingCanceled => Operation::BookingCanceled,
            Self::BookingMoving => Operation::BookingMoving,
            Self::BookingMoved => Operation::BookingMoved,
        };
        operation == only
    }
}

/// A definite no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decline {
    /// A number may stand as such, as Docplanner's codes do.
    #[serde(deserialize_with = "text_or_number")]
    pub(super) code: String,
    #[serde(default = "no_words")]
    pub(super) message: String,
    /// The protocol's usual one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
}

fn no_words() -> String {
    "The provider has declined.".to_owned()
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(D::Error::custom("code must be a text or a number")),
    }
}

/// What a call-back says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CallbackStatus {
    #[default]
    Confirmed,
    Rejected,
}

/// How a provider answers. The default is a provider that does as it should, at once; fields combine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "one field for each fault of the control interface")]
pub(super) struct Behaviour {
    /// The calls it is for. Empty: bookings (and Docplanner's question whether to book) alone if it says how a
    /// booking ends (`decline`, `accept_202`, `process_after_ms`, `reference`, `expires_in_seconds`), every call
    /// otherwise.
    pub(super) operations: Vec<Scope>,
    /// Time before the answer. The operation itself takes effect at once.
    pub(super) latency_ms: u64,
    /// The operation takes effect this long after the call arrived, whether or not the caller is still there.
    pub(super) process_after_ms: Option<u64>,
    /// Answer this HTTP status; nothing takes effect, unless `process_after_ms` says when.
    pub(super) status: Option<u16>,
    /// Refuse; nothing takes effect.
    pub(super) decline: Option<Decline>,
    /// The operation takes effect, and the connection is closed without an answer.
    pub(super) drop_answer: bool,
    /// Never answer; nothing takes effect, unless `process_after_ms` says when.
    pub(super) hang: bool,
    /// The operation takes effect, and the answer is not JSON.
    pub(super) garbage: bool,
    /// Answer 202 (OCTO: `PENDING`) and leave the booking or the change undecided.
    pub(super) accept_202: bool,
    /// With `accept_202`: call back this long after the call arrived.
    pub(super) callback_after_ms: Option<u64>,
    pub(super) callback_status: CallbackStatus,
    /// `Retry-After` of the answer, with `status` 503 unless that is given.
    pub(super) retry_after_seconds: Option<u32>,
    /// A provider that breaks the contract: a cancel for an unknown booking is not remembered.
    pub(super) forget_cancels: bool,
    /// A provider that breaks the contract: a repeated booking is made again.
    pub(super) forget_keys: bool,
    /// OCTO: a repeated `uuid` is answered with an error instead of the booking.
    pub(super) repeated_uuid_error: bool,
    /// There is nothing to be booked at any time.
    pub(super) availability_none: bool,
    /// The provider's own reference for the booking.
    pub(super) reference: Option<String>,
    /// How long a hold lives.
    pub(super) expires_in_seconds: Option<u32>,
}

impl Behaviour {
    /// What is wrong with it, in words for whoever asked for it.
    pub(super) fn check(&self) -> Result<(), String> {
        let delays = [Some(self.latency_ms), self.process_after_ms, self.callback_after_ms];
        if delays.into_iter().flatten().any(|delay_ms| delay_ms > MAX_DELAY_MS) {
            return Err(format!("a delay may be at most {MAX_DELAY_MS} ms"));
        }
        let statuses = [self.status, self.decline.as_ref().and_then(|decline| decline.status)];
        if statuses.into_iter().flatten().any(|status| !(200..=599).contains(&status)) {
            return Err("a status must be from 200 to 599".to_owned());
        }
        if self.callback_after_ms.is_some() && !self.accept_202 {
            return Err("callback_after_ms needs accept_202".to_owned());
        }
        Ok(())
    }

    /// The status to fail with, if it is to fail.
    pub(super) fn failure_status(&self) -> Option<u16> {
        self.status.or(self.retry_after_seconds.map(|_| 503))
    }

    fn says_how_a_booking_ends(&self) -> bool {
        self.decline.is_some()
            || self.accept_202
            || self.process_after_ms.is_some()
            || self.reference.is_some()
            || self.expires_in_seconds.is_some()
    }

    fn covers(&self, operation: Operation) -> bool {
        if self.operations.is_empty() {
            operation.is_a_booking() || !self.says_how_a_booking_ends()
        } else {
            self.operations.iter().any(|scope| scope.includes(operation))
        }
    }
}

/// A behaviour for the next calls only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Next {
    #[serde(default = "once")]
    pub(super) count: u32,
    pub(super) behaviour: Behaviour,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) provider_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) location_id: Option<String>,
    /// The same as `behaviour.operations` with one entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<Scope>,
}

fn once() -> u32 {
    1
}

impl Next {
    fn matches(&self, call: &CallFacts<'_>) -> bool {
        self.behaviour.covers(call.operation)
            && self.provider_id.as_deref().is_none_or(|id| id == call.provider_id)
            && self.location_id.as_deref().is_none_or(|id| Some(id) == call.location_id)
    }
}

/// What decides which behaviour a call meets.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallFacts<'a> {
    pub(super) provider_id: &'a str,
    pub(super) location_id: Option<&'a str>,
    pub(super) operation: Operation,
}

/// All behaviours that were asked for.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Behaviours {
    next: Vec<Next>,
    locations: BTreeMap<String, Behaviour>,
    providers: BTreeMap<String, Behaviour>,
    default: Option<Behaviour>,
}

impl Behaviours {
    pub(super) fn set_default(&mut self, behaviour: Behaviour) {
        self.default = Some(behaviour);
    }

    pub(super) fn set_provider(&mut self, id: String, behaviour: Behaviour) -> Result<(), String> {
        insert_bounded(&mut self.providers, id, behaviour)
    }

    pub(super) fn set_location(&mut self, id: String, behaviour: Behaviour) -> Result<(), String> {
        insert_bounded(&mut self.locations, id, behaviour)
    }

    pub(super) fn clear_provider(&mut self, id: &str) {
        self.providers.remove(id);
    }

    pub(super) fn clear_location(&mut self, id: &str) {
        self.locations.remove(id);
    }

    pub(super) fn push_next(&mut self, mut next: Next) -> Result<(), String> {
        if next.count == 0 || next.count > MAX_NEXT_COUNT {
            return Err(format!("count must be from 1 to {MAX_NEXT_COUNT}"));
        }
        if self.next.len() >= MAX_BEHAVIOURS {
            return Err(format!("at most {MAX_BEHAVIOURS} entries can wait"));
        }
        if let Some(scope) = next.operation {
            next.behaviour.operations = vec![scope];
        }
        self.next.push(next);
        Ok(())
    }

    /// The behaviour that `call` meets: the first `next` that fits, then the location's, the provider's and the
    /// default one, the first of them that covers the operation; a provider that does as it should if none does.
    pub(super) fn choose(&mut self, call: CallFacts<'_>) -> Behaviour {
        let standing: Vec<Behaviour> = self.standing(call).cloned().collect();
        let chosen = self.take_next(&call);
        let mut chosen = chosen
            .or_else(|| standing.iter().find(|behaviour| behaviour.covers(call.operation)).cloned())
            .unwrap_or_default();
        // A provider's memory is not a matter of single calls, so these hold whatever else decides the call.
        chosen.forget_cancels |= standing.iter().any(|behaviour| behaviour.forget_cancels);
        chosen.forget_keys |= standing.iter().any(|behaviour| behaviour.forget_keys);
        chosen.repeated_uuid_error |= standing.iter().any(|behaviour| behaviour.repeated_uuid_error);
        chosen
    }

    fn standing<'a>(&'a self, call: CallFacts<'_>) -> impl Iterator<Item = &'a Behaviour> {
        let location = call.location_id.and_then(|id| self.locations.get(id));
        [location, self.providers.get(call.provider_id), self.default.as_ref()].into_iter().flatten()
    }

    fn take_next(&mut self, call: &CallFacts<'_>) -> Option<Behaviour> {
        let position = self.next.iter().position(|next| next.matches(call))?;
        let next = self.next.get_mut(position)?;
        next.count -= 1;
        let behaviour = next.behaviour.clone();
        if next.count == 0 {
            self.next.remove(position);
        }
        Some(behaviour)
    }
}

fn insert_bounded(map: &mut BTreeMap<String, Behaviour>, id: String, value: Behaviour) -> Result<(), String> {
    if map.len() >= MAX_BEHAVIOURS && !map.contains_key(&id) {
        return Err(format!("at most {MAX_BEHAVIOURS} behaviours can be set"));
    }
    map.insert(id, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(operation: Operation) -> CallFacts<'static> {
        CallFacts { provider_id: "p", location_id: Some("l"), operation }
    }

    fn with_status(status: u16) -> Behaviour {
        Behaviour { status: Some(status), ..Behaviour::default() }
    }

    #[test]
    fn the_most_specific_behaviour_wins_and_next_wins_over_all() {
        let mut behaviours = Behaviours::default();
        behaviours.set_default(with_status(500));
        assert_eq!(behaviours.choose(call(Operation::Book)).status, Some(500));
        behaviours.set_provider("p".to_owned(), with_status(501)).unwrap();
        assert_eq!(behaviours.choose(call(Operation::Book)).status, Some(501));
        behaviours.set_location("l".to_owned(), with_status(502)).unwrap();
        assert_eq!(behaviours.choose(call(Operation::Book)).status, Some(502));
        let next = Next {
            count: 1,
            behaviour: with_status(503),
            provider_id: Some("p".to_owned()),
            location_id: None,
            operation: Some(Scope::Cancel),
        };
        behaviours.push_next(next).unwrap();
        assert_eq!(behaviours.choose(call(Operation::Book)).status, Some(502));
        assert_eq!(behaviours.choose(call(Operation::Cancel)).status, Some(503));
        assert_eq!(behaviours.choose(call(Operation::Cancel)).status, Some(502));
    }

    #[test]
    fn what_says_how_a_booking_ends_leaves_cancels_alone_unless_it_names_them() {
        let decline = Decline { code: "full".to_owned(), message: "Full".to_owned(), status: None };
        let mut behaviour = Behaviour { decline: Some(decline), ..Behaviour::default() };
        assert!(behaviour.covers(Operation::Book));
        assert!(!behaviour.covers(Operation::Cancel));
        assert!(!behaviour.covers(Operation::Reschedule));
        assert!(behaviour.covers(Operation::SlotBooking));
        assert!(!behaviour.covers(Operation::SlotBooked));
        behaviour.operations = vec![Scope::Cancel];
        assert!(!behaviour.covers(Operation::Book));
        assert!(behaviour.covers(Operation::Cancel));
    }

    #[test]
    fn the_code_of_a_decline_may_be_a_number() {
        let decline: Decline = serde_json::from_str(r#"{"code": 7}"#).unwrap();
        assert_eq!((decline.code.as_str(), decline.status), ("7", None));
        assert!(serde_json::from_str::<Decline>(r#"{"code": []}"#).is_err());
    }

    #[test]
    fn forgetting_holds_beside_whatever_else_decides() {
        let mut behaviours = Behaviours::default();
        behaviours
            .set_provider("p".to_owned(), Behaviour { forget_cancels: true, ..Behaviour::default() })
            .unwrap();
        behaviours.set_location("l".to_owned(), with_status(500)).unwrap();
        let chosen = behaviours.choose(call(Operation::Book));
        assert_eq!((chosen.status, chosen.forget_cancels), (Some(500), true));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(with_status(99).check().is_err());
        assert!(Behaviour { latency_ms: MAX_DELAY_MS + 1, ..Behaviour::default() }.check().is_err());
        assert!(Behaviour { callback_after_ms: Some(1), ..Behaviour::default() }.check().is_err());
        assert!(serde_json::from_str::<Behaviour>(r#"{"latency": 5}"#).is_err());
    }
}
