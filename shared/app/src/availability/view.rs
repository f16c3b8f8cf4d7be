//! What is open, as the API shows it.

use data_encoding::HEXLOWER;
use holdfast_domain::{Mode, OpenSlot, Price, ProviderId, Timestamp};
use serde::Serialize;
use serde::ser::Error as _;
use serde_json::Error;
use sha2::{Digest, Sha256};

use super::answer::{LocationFailure, Open, OpenLocation};
use super::booking_key::{BookingKeySecret, KeyMaker, key_expiry};

/// The bytes of an entity tag.
const TAG_BYTES: usize = 12;

/// The characters at the end of a booking key that hold its signature, or most of it: 16 bytes in base64.
const SIGNATURE_CHARS: usize = 21;

/// An answer, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailabilityAnswer {
    /// The body, JSON.
    pub body: Vec<u8>,
    /// A weak entity tag (RFC 9110, section 8.8.3): the same for the same slots and booking keys, whenever they
    /// were asked for.
    pub etag: String,
    /// How old the oldest part is, in seconds.
    pub age_s: u64,
}

/// Whose slots are shown, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Audience<'a> {
    /// Whose.
    pub provider_id: &'a ProviderId,
    /// The mode of the caller's key.
    pub mode: Mode,
    /// What booking keys are signed with.
    pub secret: &'a BookingKeySecret,
}

/// Writes the answer.
pub fn availability_answer(
    locations: &[OpenLocation],
    audience: Audience<'_>,
    now: Timestamp,
) -> Result<AvailabilityAnswer, Error> {
    let expires_at = key_expiry(now);
    let mut tag = Sha256::new();
    let mut body = br#"{"data":["#.to_vec();
    for (place, location) in locations.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        let location_id = location.location_id.as_str();
        match &location.outcome {
            Err(failure) => {
                let begun = body.len();
                serde_json::to_writer(&mut body, &FailedView::new(location_id, failure))?;
                tag.update(&body[begun..]);
            }
            Ok(open) => {
                let Audience { provider_id, mode, secret } = audience;
                let maker = KeyMaker::new(secret, mode, provider_id, location_id, expires_at);
                let maker = maker.ok_or_else(|| Error::custom("no booking keys can be made"))?;
                write_location(&mut body, &mut tag, location_id, open, &maker)?;
            }
        }
        tag.update([0]);
    }
    body.extend_from_slice(b"]}");
    let as_of = locations.iter().filter_map(|location| Some(location.outcome.as_ref().ok()?.as_of)).min();
    Ok(AvailabilityAnswer {
        body,
        etag: format!("W/\"{}\"", HEXLOWER.encode(&tag.finalize()[..TAG_BYTES])),
        age_s: as_of.map_or(0, |as_of| as_of.ms_until(now) / 1_000),
    })
}

/// Writes what is open at a location. What the tag is of is all but when it was said and by whom: of a slot its key,
/// whose end is the signature of all that it says, and what no key says.
fn write_location(
    body: &mut Vec<u8>,
    tag: &mut Sha256,
    location_id: &str,
    open: &Open,
    maker: &KeyMaker<'_>,
) -> Result<(), Error> {
    let (time_zone, as_of, source) = (open.zone.name(), open.as_of, open.source.as_str());
    serde_json::to_writer(&mut *body, &HeadView { location_id, time_zone, as_of, source })?;
    tag.update(location_id);
    tag.update([0]);
    tag.update(time_zone);
    // The slots come last in the same object.
    body.pop();
    body.extend_from_slice(br#","slots":["#);
    for (place, slot) in open.slots.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        let booking_key = maker.key(slot).ok_or_else(|| Error::custom("no booking key can be made"))?;
        tag.update(&booking_key.as_bytes()[booking_key.len().saturating_sub(SIGNATURE_CHARS)..]);
        tag.update(slot.capacity.map_or(u64::MAX, u64::from).to_be_bytes());
        if let Some(price) = &slot.price {
            tag.update(price.amount_minor.to_be_bytes());
            tag.update(price.currency.as_bytes());
        }
        serde_json::to_writer(&mut *body, &SlotView::new(slot, &booking_key))?;
    }
    body.extend_from_slice(b"]}");
    Ok(())
}

#[derive(Serialize)]
struct HeadView<'a> {
    location_id: &'a str,
    time_zone: &'a str,
    as_of: Timestamp,
    source: &'static str,
}

#[derive(Serialize)]
struct FailedView<'a> {
    location_id: &'a str,
    error: FailureView,
}

#[derive(Serialize)]
struct FailureView {
    code: &'static str,
    detail: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
}

impl<'a> FailedView<'a> {
    fn new(location_id: &'a str, failure: &LocationFailure) -> Self {
        let error =
            FailureView { code: failure.code.as_str(), detail: failure.detail, retry_at: failure.retry_at };
        Self { location_id, error }
    }
}

#[derive(Serialize)]
struct SlotView<'a> {
    booking_key: &'a str,
    start: Timestamp,
    end: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_id: Option<&'a str>,
    /// Null: as many as wanted.
    capacity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<PriceView<'a>>,
}

#[derive(Serialize)]
struct PriceView<'a> {
    amount_minor: u64,
    currency: &'a str,
}

impl<'a> SlotView<'a> {
    fn new(slot: &'a OpenSlot, booking_key: &'a str) -> Self {
        let price =
            |price: &'a Price| PriceView { amount_minor: price.amount_minor, currency: &price.currency };
        Self {
            booking_key,
            start: slot.start,
            end: slot.end,
            resource_id: slot.resource_id.as_deref(),
            service_id: slot.service_id.as_deref(),
            capacity: slot.capacity,
            price: slot.price.as_ref().map(price),
        }
    }
}
