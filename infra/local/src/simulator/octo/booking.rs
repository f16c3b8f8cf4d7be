//! A booking as OCTO shows it, with every member that the specification requires. Nothing of the customer.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::product::{start_of, utc, when, zone};
use crate::simulator::ledger::{Status, View, Waiting};

/// Whether the supplier still has to decide: the booking itself, or its confirmation.
pub(super) fn is_pending(view: &View) -> bool {
    let waits_for_confirmation = view.entry.undecided.as_ref().is_some_and(Waiting::is_confirm);
    view.status == Status::Pending || (view.status == Status::Reserved && waits_for_confirmation)
}

fn status(view: &View) -> &'static str {
    match view.status {
        _ if is_pending(view) => "PENDING",
        Status::Pending => "PENDING",
        Status::Confirmed => "CONFIRMED",
        Status::Reserved => "ON_HOLD",
        Status::Cancelled => "CANCELLED",
        Status::Rejected => "REJECTED",
        Status::Expired => "EXPIRED",
    }
}

/// The `Booking` of the specification.
pub(super) fn shown(view: &View, utc_offset_minutes: i32) -> Value {
    let entry = &view.entry;
    let text = |name: &str| entry.slot.get(name).and_then(Value::as_str).unwrap_or_default();
    let (product_id, option_id) = (text("service_id"), text("resource_id"));
    let start = start_of(&entry.slot).unwrap_or(Timestamp::UNIX_EPOCH);
    let is_confirmed = entry.confirmed_at.is_some();
    let cancellation = entry.cancelled_at.map(|at| {
        json!({
            "refund": "FULL",
            "reason": entry.details.get("cancel_reason"),
            "utcCancelledAt": utc(at),
        })
    });
    json!({
        "id": entry.provider_reference,
        "uuid": view.booking_id,
        "testMode": entry.details.get("test_mode").and_then(Value::as_bool).unwrap_or_default(),
        "resellerReference": entry.details.get("reseller_reference"),
        // As many suppliers do, it is given out with the confirmation.
        "supplierReference": is_confirmed.then_some(&entry.provider_reference),
        "status": status(view),
        "utcCreatedAt": utc(entry.created_at),
        "utcUpdatedAt": utc(entry.updated_at),
        "utcExpiresAt": entry.expires_at.map(utc),
        "utcRedeemedAt": null,
        "utcConfirmedAt": entry.confirmed_at.map(utc),
        "productId": product_id,
        "product": product(product_id, utc_offset_minutes),
        "optionId": option_id,
        "option": {"id": option_id, "default": true, "internalName": option_id},
        "cancellable": matches!(view.status, Status::Reserved | Status::Confirmed),
        "cancellation": cancellation,
        "freesale": false,
        "availabilityId": text("availability_id"),
        "availability": when(text("availability_id"), start, &zone(utc_offset_minutes)),
        "contact": contact(),
        "notes": null,
        "deliveryMethods": ["VOUCHER"],
        "voucher": null,
        "unitItems": unit_items(view),
    })
}

fn product(id: &str, utc_offset_minutes: i32) -> Value {
    // Names of zones with a fixed offset have the sign the other way round, and whole hours only.
    let time_zone = match utc_offset_minutes {
        0 => "Etc/UTC".to_owned(),
        minutes if minutes % 60 == 0 => format!("Etc/GMT{:+}", -minutes / 60),
        _ => "Etc/Unknown".to_owned(),
    };
    json!({
        "id": id,
        "internalName": id,
        "locale": "en",
        "timeZone": time_zone,
        "allowFreesale": false,
        "instantConfirmation": true,
        "instantDelivery": true,
        "availabilityRequired": true,
        "availabilityType": "START_TIME",
        "deliveryFormats": ["QRCODE"],
        "deliveryMethods": ["VOUCHER"],
        "redemptionMethod": "DIGITAL",
    })
}

/// The supplier has the contact, but the simulator keeps no customers.
fn contact() -> Value {
    json!({
        "fullName": null,
        "firstName": null,
        "lastName": null,
        "emailAddress": null,
        "phoneNumber": null,
        "locales": [],
        "postalCode": null,
        "country": null,
        "notes": null,
    })
}

fn unit_items(view: &View) -> Vec<Value> {
    let items = view.entry.details.get("unit_items").and_then(Value::as_array);
    let shown = items.into_iter().flatten().map(|item| {
        let unit_id = item.get("unit_id");
        json!({
            "uuid": item.get("uuid"),
            "resellerReference": null,
            "supplierReference": null,
            "unitId": unit_id,
            "unit": {"id": unit_id, "internalName": unit_id, "type": "ADULT"},
            "status": status(view),
            "utcRedeemedAt": null,
            "contact": contact(),
            "ticket": null,
        })
    });
    shown.collect()
}
