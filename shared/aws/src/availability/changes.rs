//! What bookings did to slots, as items: one for each version of a booking and slot, under a name that follows
//! from them, so that noting it again writes the same.

use data_encoding::HEXLOWER;
use holdfast_app::ports::{Place, SLOT_CHANGES_KEPT_MS, StoreError};
use holdfast_domain::{BookingId, Hold, Slot, SlotChange, Timestamp};
use serde::{Deserialize, Serialize};

use super::{WHAT, corrupt, digits, partition_key, time, ttl};
use crate::digest::digest;
use crate::item::{SdkItem, from_sdk_item, to_sdk_item};

/// With what the sort keys of changes begin. The time follows, so that old ones are not read.
const PREFIX: &str = "C#";

/// With what the sort keys of claims begin, which are read whenever they were made. It sorts behind that of changes and
/// before everything else.
const CLAIM_PREFIX: &str = "D#";

/// For how long a claim is kept that nobody settles, in milliseconds: four days, longer than any booking is pending and
/// any provider may take to fetch what it is told.
const CLAIM_KEPT_MS: u64 = 4 * 24 * 60 * 60 * 1_000;

/// For how long changes are kept beyond the time for which they are asked for, in milliseconds: an hour, so that
/// no difference of clocks makes a gap.
const EXTRA_MS: u64 = 60 * 60 * 1_000;

/// The bytes of a slot's digest in a sort key. A booking has a few slots.
const SLOT_BYTES: usize = 8;

/// A change. Names are short, since each counts for every read.
#[derive(Serialize, Deserialize)]
struct ChangeItem {
    pk: String,
    sk: String,
    /// When it was.
    at: i64,
    /// The booking.
    b: String,
    /// Its version.
    v: u32,
    /// What became of the slot.
    h: String,
    /// How many units.
    u: u32,
    /// When the slot begins.
    s: i64,
    /// When it ends.
    e: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    ttl: i64,
}

/// What became of a slot, as a digit: in the order of [`Hold`].
fn hold_text(hold: Hold) -> &'static str {
    match hold {
        Hold::Taken => "0",
        Hold::GivenBack => "1",
        Hold::Dropped => "2",
        Hold::Claimed => "3",
    }
}

fn hold_of(text: &str) -> Option<Hold> {
    [Hold::Taken, Hold::GivenBack, Hold::Dropped, Hold::Claimed]
        .into_iter()
        .find(|hold| hold_text(*hold) == text)
}

fn slot_name(slot: &Slot) -> String {
    let presence = [u8::from(slot.resource_id.is_some()), u8::from(slot.service_id.is_some())];
    let fields: [&[u8]; 5] = [
        &slot.start.as_unix_ms().to_be_bytes(),
        &slot.end.as_unix_ms().to_be_bytes(),
        &presence,
        slot.resource_id.as_deref().unwrap_or_default().as_bytes(),
        slot.service_id.as_deref().unwrap_or_default().as_bytes(),
    ];
    HEXLOWER.encode(&digest("holdfast/slot-change", &fields)[..SLOT_BYTES])
}

/// The sort key before which nothing is that happened at a time or later.
pub(super) fn since_key(since: Timestamp) -> String {
    format!("{PREFIX}{}", digits(since))
}

pub(super) fn is_change(sort_key: &str) -> bool {
    sort_key.starts_with(PREFIX) || sort_key.starts_with(CLAIM_PREFIX)
}

/// The sort key of what a booking has claimed of a slot, whichever version did.
pub(super) fn claim_key(change: &SlotChange) -> String {
    format!("{CLAIM_PREFIX}{}#{}", change.booking_id, slot_name(&change.slot))
}

pub(super) fn change_item(place: &Place, change: &SlotChange) -> Result<SdkItem, StoreError> {
    let SlotChange { booking_id, version, at, slot, units, hold, settles: _ } = change;
    let (sort_key, kept_ms) = match hold {
        Hold::Claimed => (claim_key(change), CLAIM_KEPT_MS),
        Hold::Taken | Hold::GivenBack | Hold::Dropped => {
            let (hold, slot_name) = (hold_text(*hold), slot_name(slot));
            let name = format!("{PREFIX}{}#{booking_id}#{version:010}#{hold}#{slot_name}", digits(*at));
            (name, SLOT_CHANGES_KEPT_MS.saturating_add(EXTRA_MS))
        }
    };
    let hold = hold_text(*hold);
    let item = ChangeItem {
        pk: partition_key(place),
        sk: sort_key,
        at: at.as_unix_ms(),
        b: booking_id.as_str().to_owned(),
        v: *version,
        h: hold.to_owned(),
        u: *units,
        s: slot.start.as_unix_ms(),
        e: slot.end.as_unix_ms(),
        resource: slot.resource_id.clone(),
        service: slot.service_id.clone(),
        ttl: ttl(*at, kept_ms),
    };
    to_sdk_item(WHAT, &item)
}

pub(super) fn change_of(place: &Place, item: SdkItem) -> Result<SlotChange, StoreError> {
    let item: ChangeItem = from_sdk_item(WHAT, item)?;
    Ok(SlotChange {
        booking_id: BookingId::parse(&item.b).map_err(|_| corrupt("b"))?,
        version: item.v,
        at: time("at", item.at)?,
        slot: Slot {
            location_id: place.location_id.clone(),
            start: time("s", item.s)?,
            end: time("e", item.e)?,
            resource_id: item.resource,
            service_id: item.service,
        },
        units: item.u,
        hold: hold_of(&item.h).ok_or_else(|| corrupt("h"))?,
        // It did when it was noted.
        settles: false,
    })
}
