//! The bodies of OCTO, and how a booking is put into its words. Nothing of what answers mean.
//!
//! A service is OCTO's product, a resource its option, and a location has no counterpart. A slot is found
//! among the product's availabilities by the instant at which it starts.

use data_encoding::{BASE32_DNSSEC, HEXLOWER};
use holdfast_app::bookings::DEFAULT_HOLD_MS;
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{Booking, BookingId, Customer, Rejection, Slot, Timestamp};
use serde::{Deserialize, Serialize};

use crate::outcomes::own_rejection;

/// The option of a product that has only one, by OCTO's convention.
pub(super) const ONLY_OPTION: &str = "DEFAULT";

/// The code of the no to a booking without a service: OCTO books products.
pub(super) const SERVICE_ID_MISSING: &str = "service_id_missing";

/// The code of the no to a booking without units, where the provider has no default one.
pub(super) const UNIT_MISSING: &str = "unit_missing";

const MS_PER_MINUTE: u64 = 60_000;

/// How long a reservation is asked for, in minutes: as long as one whose end a provider does not tell is
/// taken to last. Where no hold is wanted, it is confirmed at once and this is how long a slot stays
/// taken if that fails.
const HOLD_MINUTES: u64 = DEFAULT_HOLD_MS / MS_PER_MINUTE;

/// The farthest that local time is behind UTC anywhere, in milliseconds: 12 h.
const FARTHEST_WEST_MS: u64 = 12 * 60 * MS_PER_MINUTE;

/// The farthest that local time is ahead of UTC anywhere, in milliseconds: 14 h.
const FARTHEST_EAST_MS: u64 = 14 * 60 * MS_PER_MINUTE;

/// The bytes of a UUID.
const UUID_BYTES: usize = 16;

/// The booking's name at the supplier and its idempotency key: the identifier's own 128 bits, six of them
/// replaced by what marks a UUID of version 4 (RFC 9562, section 5.4), since suppliers refuse the versions
/// that they do not know. `None` for an identifier that does not hold so many bits, which there is not.
pub(super) fn uuid(id: &BookingId) -> Option<String> {
    let (_prefix, encoded) = id.as_str().rsplit_once('_')?;
    let mut bytes: [u8; UUID_BYTES] = BASE32_DNSSEC.decode(encoded.as_bytes()).ok()?.try_into().ok()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = |part: &[u8]| HEXLOWER.encode(part);
    let parts =
        [hex(&bytes[..4]), hex(&bytes[4..6]), hex(&bytes[6..8]), hex(&bytes[8..10]), hex(&bytes[10..])];
    Some(parts.join("-"))
}

/// What is booked, in OCTO's words.
#[derive(Clone, Debug)]
pub(super) struct Order<'a> {
    pub(super) product_id: &'a str,
    pub(super) option_id: &'a str,
    pub(super) start: Timestamp,
    units: Vec<Unit<'a>>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Unit<'a> {
    id: &'a str,
    quantity: u32,
}

impl<'a> Order<'a> {
    /// What booking `slot` means, or why it cannot be booked over OCTO.
    pub(super) fn new(
        provider: &'a ProviderSettings,
        booking: &'a Booking,
        slot: &'a Slot,
    ) -> Result<Self, Rejection> {
        let product_id = slot.service_id.as_deref().ok_or_else(|| {
            own_rejection(SERVICE_ID_MISSING, "This provider's bookings need a service_id.")
        })?;
        let wanted = booking.request.units.iter();
        let mut units: Vec<_> =
            wanted.map(|unit| Unit { id: &unit.unit_id, quantity: unit.quantity }).collect();
        if units.is_empty() {
            let unit = provider.default_unit_id.as_deref();
            let id =
                unit.ok_or_else(|| own_rejection(UNIT_MISSING, "This provider's bookings need units."))?;
            units.push(Unit { id, quantity: 1 });
        }
        Ok(Self { product_id, option_id: option_id(slot), start: slot.start, units })
    }
}

/// The option that a slot's resource is.
pub(super) fn option_id(slot: &Slot) -> &str {
    slot.resource_id.as_deref().unwrap_or(ONLY_OPTION)
}

/// `POST {base}/availability`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AvailabilityBody<'a> {
    product_id: &'a str,
    option_id: &'a str,
    local_date_start: String,
    local_date_end: String,
    units: &'a [Unit<'a>],
}

impl<'a> AvailabilityBody<'a> {
    /// Asks for every day that it may be, wherever the product is, when the order starts.
    pub(super) fn new(order: &'a Order<'_>) -> Self {
        Self {
            product_id: order.product_id,
            option_id: order.option_id,
            local_date_start: utc_date(order.start.minus_ms(FARTHEST_WEST_MS)),
            local_date_end: utc_date(order.start.plus_ms(FARTHEST_EAST_MS)),
            units: &order.units,
        }
    }
}

/// The date in UTC, `YYYY-MM-DD`.
fn utc_date(at: Timestamp) -> String {
    let mut text = at.to_string();
    text.truncate("YYYY-MM-DD".len());
    text
}

/// `POST {base}/bookings`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReserveBody<'a> {
    uuid: &'a str,
    product_id: &'a str,
    option_id: &'a str,
    availability_id: &'a str,
    expiration_minutes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<&'a str>,
    unit_items: Vec<UnitItem<'a>>,
}

/// One unit: OCTO has no quantities here.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct UnitItem<'a> {
    unit_id: &'a str,
}

impl<'a> ReserveBody<'a> {
    pub(super) fn new(
        uuid: &'a str,
        order: &'a Order<'_>,
        booking: &'a Booking,
        availability_id: &'a str,
    ) -> Self {
        let items =
            order.units.iter().flat_map(|unit| (0..unit.quantity).map(|_| UnitItem { unit_id: unit.id }));
        Self {
            uuid,
            product_id: order.product_id,
            option_id: order.option_id,
            availability_id,
            expiration_minutes: HOLD_MINUTES,
            notes: booking.request.notes.as_ref().map(|notes| notes.expose().as_str()),
            unit_items: items.collect(),
        }
    }
}

/// `POST {base}/bookings/{uuid}/confirm`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfirmBody<'a> {
    reseller_reference: &'a str,
    email_receipt: bool,
    contact: Contact<'a>,
}

/// Whom the booking is for. Empty once it was erased.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Contact<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    full_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locales: Vec<&'a str>,
}

impl<'a> Contact<'a> {
    fn new(customer: &'a Customer) -> Self {
        let name = customer.name.trim();
        // OCTO wants two names where a customer has one. The last word is taken for the family's.
        let (first_name, last_name) = match name.rsplit_once(' ') {
            Some((first, last)) => (first.trim_end(), Some(last)),
            None => (name, None),
        };
        Self {
            full_name: Some(name),
            first_name: Some(first_name),
            last_name,
            email_address: customer.email.as_deref(),
            phone_number: customer.phone.as_deref(),
            locales: customer.language.as_deref().into_iter().collect(),
        }
    }
}

impl<'a> ConfirmBody<'a> {
    pub(super) fn new(booking: &'a Booking) -> Self {
        let request = &booking.request;
        Self {
            reseller_reference: request.reference.as_deref().unwrap_or(booking.id.as_str()),
            // The consumer tells its customers itself.
            email_receipt: false,
            contact: request
                .customer
                .as_ref()
                .map(|customer| Contact::new(customer.expose()))
                .unwrap_or_default(),
        }
    }
}

/// `POST {base}/bookings/{uuid}/extend`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExtendBody {
    expiration_minutes: u64,
}

impl ExtendBody {
    /// Whole minutes from now, so many that the hold lasts until `expires_at` at least.
    pub(super) fn new(now: Timestamp, expires_at: Timestamp) -> Self {
        Self { expiration_minutes: now.ms_until(expires_at).div_ceil(MS_PER_MINUTE).max(1) }
    }
}

/// `PATCH {base}/bookings/{uuid}`. What it leaves out stays, the units among it.
#[derive(Serialize)]
pub(super) struct MoveBody<'a> {
    #[serde(rename = "productId")]
    product: &'a str,
    #[serde(rename = "optionId")]
    option: &'a str,
    #[serde(rename = "availabilityId")]
    availability: &'a str,
}

impl<'a> MoveBody<'a> {
    pub(super) fn new(order: &Order<'a>, availability_id: &'a str) -> Self {
        Self { product: order.product_id, option: order.option_id, availability: availability_id }
    }
}

/// `POST {base}/bookings/{uuid}/cancel`
#[derive(Serialize)]
pub(super) struct CancelBody<'a> {
    pub(super) reason: &'a str,
}

/// Where a booking stands at the supplier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Status {
    OnHold,
    Pending,
    Confirmed,
    Redeemed,
    Rejected,
    Cancelled,
    Expired,
}

/// A booking as the supplier tells it. What else is in it is read over.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BookingAnswer {
    pub(super) id: Option<String>,
    pub(super) supplier_reference: Option<String>,
    pub(super) status: Status,
    pub(super) utc_expires_at: Option<String>,
    pub(super) product_id: Option<String>,
    pub(super) option_id: Option<String>,
    pub(super) availability: Option<BookedAvailability>,
}

/// What is booked.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BookedAvailability {
    pub(super) local_date_time_start: Option<String>,
    pub(super) local_date_time_end: Option<String>,
}

/// What could be booked. An answer is a list of these.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Availability {
    pub(super) id: String,
    pub(super) local_date_time_start: String,
    pub(super) available: bool,
}

/// A no. Both members may be missing, and then it is not a definite one.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refusal {
    pub(super) error: Option<String>,
    pub(super) error_message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_the_identifier_marked_as_version_4() {
        let bytes = [0x11; UUID_BYTES];
        let id = BookingId::from_bytes(bytes);
        assert_eq!(uuid(&id).as_deref(), Some("11111111-1111-4111-9111-111111111111"));
        let ones = BookingId::from_bytes([0xff; UUID_BYTES]);
        assert_eq!(uuid(&ones).as_deref(), Some("ffffffff-ffff-4fff-bfff-ffffffffffff"));
        let zeros = BookingId::from_bytes([0; UUID_BYTES]);
        assert_eq!(uuid(&zeros).as_deref(), Some("00000000-0000-4000-8000-000000000000"));
    }

    #[test]
    fn every_day_is_asked_for_that_it_may_be_there() {
        let dates = |start: &str| {
            let start = Timestamp::parse_rfc3339(start).unwrap();
            let order = Order { product_id: "p", option_id: "o", start, units: Vec::new() };
            let body = AvailabilityBody::new(&order);
            (body.local_date_start, body.local_date_end)
        };
        let day = |start: &str, end: &str| (start.to_owned(), end.to_owned());
        assert_eq!(dates("2027-01-15T09:59:59Z"), day("2027-01-14", "2027-01-15"));
        assert_eq!(dates("2027-01-15T10:00:00Z"), day("2027-01-14", "2027-01-16"));
        assert_eq!(dates("2027-12-31T12:00:00.500Z"), day("2027-12-31", "2028-01-01"));
    }

    #[test]
    fn minutes_are_rounded_up() {
        let minutes =
            |ms: u64| ExtendBody::new(Timestamp::EPOCH, Timestamp::EPOCH.plus_ms(ms)).expiration_minutes;
        assert_eq!(minutes(60_000), 1);
        assert_eq!(minutes(60_001), 2);
        assert_eq!(minutes(0), 1);
    }
}
