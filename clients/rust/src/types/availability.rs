//! What is open.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::BookingKey;
use crate::open_enum::open_enum;

open_enum! {
    /// Where an answer comes from.
    Source {
        /// From memory.
        Cache = "cache",
        /// From the provider, just now.
        Live = "live",
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailabilityQuery {
    /// The provider.
    pub provider_id: String,
    /// 1 to 50 of its locations, none twice.
    pub location_ids: Vec<String>,
    /// The first day, of each location's own; today, if it is left out.
    pub start_date: Option<Date>,
    /// How many days: 1 to 21 (7).
    pub days: Option<u8>,
    /// Whether the answer may be up to 15 minutes old.
    pub allow_stale: bool,
}

impl AvailabilityQuery {
    /// The week from today at some locations, which may come from memory.
    pub fn new<L: Into<String>>(
        provider_id: impl Into<String>,
        location_ids: impl IntoIterator<Item = L>,
    ) -> Self {
        Self {
            provider_id: provider_id.into(),
            location_ids: location_ids.into_iter().map(Into::into).collect(),
            start_date: None,
            days: None,
            allow_stale: true,
        }
    }
}

/// What is open, location by location, in the order in which they were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Availability {
    /// The locations.
    pub data: Vec<LocationAvailability>,
}

/// What is open at a location, or why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LocationAvailability {
    /// What is open.
    Open(OpenLocation),
    /// Why nothing can be said.
    Failed(FailedLocation),
}

/// What is open at a location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenLocation {
    /// The location.
    pub location_id: String,
    /// Its time zone, of the IANA database. Days are the location's own.
    pub time_zone: String,
    /// When the provider was asked.
    pub as_of: Timestamp,
    /// Where the answer comes from.
    pub source: Source,
    /// The slots.
    pub slots: Vec<OpenSlot>,
}

/// A location of which nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedLocation {
    /// The location.
    pub location_id: String,
    /// Why.
    pub error: LocationError,
}

/// Why nothing can be said of a location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LocationError {
    /// What kind it is.
    pub code: String,
    /// What happened.
    pub detail: String,
    /// When to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

/// A slot that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenSlot {
    /// What it is booked by.
    pub booking_key: BookingKey,
    /// When it begins.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// The doctor, room, boat or product option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// The treatment, test or product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// How many units are left; nothing if there is no limit.
    pub capacity: Option<u64>,
    /// What it costs, if the provider tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// What something costs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Price {
    /// In the currency's smallest unit: 4500 is EUR 45.00, and JPY 4500.
    pub amount_minor: u64,
    /// ISO 4217.
    pub currency: String,
}
