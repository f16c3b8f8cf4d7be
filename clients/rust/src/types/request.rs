//! What is asked for when a booking is made or changed.
//!
//! These can be stored as they are (serde), so that a program that begins again repeats what it said.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// A slot in the caller's own words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotRequest {
    /// The provider's location.
    pub location_id: String,
    /// Not in the past, and at most two years ahead.
    pub start: Timestamp,
    /// Later than `start`, by at most 366 days.
    pub end: Timestamp,
    /// The doctor, room, boat or product option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// The treatment, test or product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
}

impl SlotRequest {
    /// A slot at a location.
    pub fn new(location_id: impl Into<String>, start: Timestamp, end: Timestamp) -> Self {
        Self { location_id: location_id.into(), start, end, resource_id: None, service_id: None }
    }
}

/// The key of a slot that availability has shown. Good for at least an hour.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BookingKey(pub String);

/// Which slot is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// One in the caller's own words.
    Slot(SlotRequest),
    /// One that availability has shown.
    BookingKey(BookingKey),
}

impl From<SlotRequest> for Wanted {
    fn from(slot: SlotRequest) -> Self {
        Self::Slot(slot)
    }
}

impl From<BookingKey> for Wanted {
    fn from(key: BookingKey) -> Self {
        Self::BookingKey(key)
    }
}

/// Who comes. Personal data: its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Customer {
    /// The full name.
    pub name: String,
    /// An address for mail.
    #[serde(default)]
    pub email: Option<String>,
    /// A number for calls.
    #[serde(default)]
    pub phone: Option<String>,
    /// The day of birth.
    #[serde(default)]
    pub birth_date: Option<Date>,
    /// A language tag, such as `de` or `pt-BR`.
    #[serde(default)]
    pub language: Option<String>,
}

impl Customer {
    /// Somebody of whom the name alone is known.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), email: None, phone: None, birth_date: None, language: None }
    }
}

impl fmt::Debug for Customer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Customer(…)")
    }
}

/// Words for the provider. Personal data: their `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notes(pub String);

impl fmt::Debug for Notes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Notes(…)")
    }
}

/// How many places of which kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Unit {
    /// The provider's name for the kind.
    pub unit_id: String,
    /// 1 to 1000.
    pub quantity: u32,
}

/// How long a call waits for the provider, and whether it goes on in the background afterwards. What is left
/// out is Holdfast's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Whether it goes on in the background when the provider has not answered in time (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub async_confirmation: Option<bool>,
    /// How long the call waits for the provider, in milliseconds: 1000 to 10000 (2500).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_confirmation_timeout_millisecond: Option<u64>,
    /// For how long the provider is asked on in the background, in milliseconds: 60000 to 172800000 (900000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub async_confirmation_timeout_millisecond: Option<u64>,
}

impl Limits {
    /// The usual limits, and on in the background.
    pub fn in_background() -> Self {
        Self { async_confirmation: Some(true), ..Self::default() }
    }
}

/// A wish to book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateBooking {
    /// The provider.
    pub provider_id: String,
    /// The slot.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// Who comes.
    pub customer: Customer,
    /// Your own, by which bookings can be found. No personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Words for the provider, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Notes>,
    /// Your own pairs, at most 20. No personal data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How many places of which kind; one place, if there are none here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
    /// Whether it is to be held only: `reserved` until its `expires_at`, or until it is confirmed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// How long, and whether in the background.
    #[serde(flatten)]
    pub limits: Limits,
}

impl CreateBooking {
    /// A wish for a slot, with the usual limits.
    pub fn new(provider_id: impl Into<String>, wanted: impl Into<Wanted>, customer: Customer) -> Self {
        Self {
            provider_id: provider_id.into(),
            wanted: wanted.into(),
            customer,
            reference: None,
            notes: None,
            metadata: BTreeMap::new(),
            units: Vec::new(),
            hold: false,
            limits: Limits::default(),
        }
    }
}

/// A wish to make a booking of a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmBooking {
    /// How long, and whether in the background.
    #[serde(flatten)]
    pub limits: Limits,
}

/// A wish that a hold lives longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendBooking {
    /// Until when; later than now. The provider may grant less.
    pub expires_at: Timestamp,
    /// How long, and whether in the background.
    #[serde(flatten)]
    pub limits: Limits,
}

impl ExtendBooking {
    /// Until a time, with the usual limits.
    pub fn until(expires_at: Timestamp) -> Self {
        Self { expires_at, limits: Limits::default() }
    }
}

/// A wish to withdraw a booking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelBooking {
    /// A code or short text. No personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A longer text. No personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How long. A cancel goes on in the background in any case.
    #[serde(flatten)]
    pub limits: Limits,
}

/// A wish to move a booking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescheduleBooking {
    /// The new slot.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// How long, and whether in the background.
    #[serde(flatten)]
    pub limits: Limits,
}

impl RescheduleBooking {
    /// To a slot, with the usual limits.
    pub fn to(wanted: impl Into<Wanted>) -> Self {
        Self { wanted: wanted.into(), limits: Limits::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_not_printed() {
        let slot = SlotRequest::new("a", Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let mut wish = CreateBooking::new("clinic", slot, Customer::new("Ada Lovelace"));
        wish.notes = Some(Notes("Comes with a wheelchair.".to_owned()));
        let printed = format!("{wish:?}");
        assert!(!printed.contains("Ada") && !printed.contains("wheelchair"), "{printed}");
    }
}
