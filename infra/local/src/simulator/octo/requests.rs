//! Reads the bodies of OCTO as strictly as the specification has them. Contacts and notes are looked at and never
//! kept.

use axum::http::{HeaderMap, HeaderName};
use jiff::civil::Date;
use serde_json::{Value, json};

use super::{
    BAD_REQUEST, INVALID_BOOKING_UUID, error,
    product::{Query, Wanted},
};
use crate::simulator::{behaviour::Operation, fields::Fields, ledger::Refusal, opening::MAX_DAYS, serving};

const CAPABILITIES: HeaderName = HeaderName::from_static("octo-capabilities");
const ENVIRONMENT: HeaderName = HeaderName::from_static("octo-env");
/// The lengths of the groups of hexadecimal digits of a UUID.
const UUID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
/// The length of a UUID up to its last group.
const UUID_HEAD_CHARS: usize = 24;

/// What a call asks for.
pub(super) enum Request {
    Availability(Query),
    Reserve(Reservation),
    Confirm { reseller_reference: Option<String> },
    Extend { minutes: u32 },
    Cancel { reason: Option<String> },
    Update(Update),
    LookUp,
}

/// `POST /bookings`
pub(super) struct Reservation {
    pub(super) product_id: String,
    pub(super) option_id: String,
    pub(super) availability_id: String,
    pub(super) expiration_minutes: Option<u32>,
    unit_items: Vec<UnitItem>,
    reseller_reference: Option<String>,
    is_test: bool,
}

impl Reservation {
    /// What is kept to answer with.
    pub(super) fn details(&self, uuid: &str) -> Value {
        json!({
            "unit_items": unit_items(&self.unit_items, uuid),
            "reseller_reference": self.reseller_reference,
            "test_mode": self.is_test,
        })
    }
}

/// One person or thing that is booked.
pub(super) struct UnitItem {
    unit_id: String,
    uuid: Option<String>,
}

/// The items as the books keep them, each with an id.
pub(super) fn unit_items(items: &[UnitItem], booking_uuid: &str) -> Value {
    let head = booking_uuid.get(..UUID_HEAD_CHARS).unwrap_or_default();
    let items = items.iter().enumerate().map(|(index, item)| {
        let uuid = item.uuid.clone().unwrap_or_else(|| format!("{head}{:012x}", index + 1));
        json!({"uuid": uuid, "unit_id": item.unit_id})
    });
    items.collect()
}

/// `PATCH /bookings/{uuid}`; what is missing stays as it is.
pub(super) struct Update {
    pub(super) product_id: Option<String>,
    pub(super) option_id: Option<String>,
    pub(super) availability_id: Option<String>,
    pub(super) expiration_minutes: Option<u32>,
    pub(super) reseller_reference: Option<String>,
    /// All of them: what is not named is given up.
    pub(super) unit_items: Option<Vec<UnitItem>>,
}

/// Reads a call, or says what is wrong with it.
pub(super) fn read(operation: Operation, headers: &HeaderMap, body: &Value) -> Result<Request, Refusal> {
    if operation == Operation::Other {
        return Err(bad_request("there is no such operation".to_owned()));
    }
    if !headers.contains_key(CAPABILITIES) {
        return Err(bad_request("the header Octo-Capabilities is missing; it may be empty".to_owned()));
    }
    if operation == Operation::LookUp {
        return Ok(Request::LookUp);
    }
    if !serving::is_json(headers) {
        return Err(bad_request("the content type must be application/json".to_owned()));
    }
    let body = Fields::of(body).map_err(bad_request)?;
    match operation {
        Operation::Availability => availability(&body).map(Request::Availability).map_err(bad_request),
        Operation::Book => reservation(&body, headers).map(Request::Reserve),
        Operation::Confirm => confirm(&body).map_err(bad_request),
        Operation::Extend => {
            let minutes = body.positive("expirationMinutes").map_err(bad_request)?;
            Ok(Request::Extend { minutes })
        }
        Operation::Cancel => cancel(&body).map_err(bad_request),
        _ => update(&body).map(Request::Update).map_err(bad_request),
    }
}

fn bad_request(message: String) -> Refusal {
    Refusal { message, ..error(BAD_REQUEST, "") }
}

fn availability(body: &Fields<'_>) -> Result<Query, String> {
    if let Some(units) = body.optional_list("units")? {
        for unit in units {
            unit.text("id")?;
            unit.positive("quantity")?;
        }
    }
    Ok(Query {
        product_id: body.text("productId")?.to_owned(),
        option_id: body.text("optionId")?.to_owned(),
        wanted: wanted(body)?,
    })
}

fn wanted(body: &Fields<'_>) -> Result<Wanted, String> {
    let day = |name: &str| match body.optional_text(name)? {
        None => Ok(None),
        // The parser would also take a date with a time.
        Some(text) if text.len() == "YYYY-MM-DD".len() => {
            text.parse::<Date>().map(Some).map_err(|_| format!("/{name} must be a date"))
        }
        Some(_) => Err(format!("/{name} must be a date")),
    };
    let ids = body.optional("availabilityIds");
    match (day("localDateStart")?, day("localDateEnd")?, day("localDate")?, ids) {
        (Some(first), Some(last), None, None) if first <= last => {
            let days = i64::from(first.until(last).map_or(0, |span| span.get_days())) + 1;
            if days > MAX_DAYS {
                return Err(format!("at most {MAX_DAYS} days can be asked for at once"));
            }
            Ok(Wanted::Days { first, last })
        }
        (None, None, Some(day), None) => Ok(Wanted::Days { first: day, last: day }),
        (None, None, None, Some(Value::Array(ids))) => {
            let ids = ids.iter().map(|id| id.as_str().map(str::to_owned));
            let ids: Option<Vec<String>> = ids.collect();
            Ok(Wanted::Ids(ids.ok_or("/availabilityIds must be texts")?))
        }
        _ => {
            Err("either localDateStart and localDateEnd, localDate or availabilityIds must be given"
                .to_owned())
        }
    }
}

fn reservation(body: &Fields<'_>, headers: &HeaderMap) -> Result<Reservation, Refusal> {
    let uuid = body.text("uuid").map_err(bad_request)?;
    if !is_uuid(uuid) {
        return Err(error(INVALID_BOOKING_UUID, "The uuid was already used, missing or invalid."));
    }
    body.optional_text("notes").map_err(bad_request)?;
    let read = || -> Result<Reservation, String> {
        Ok(Reservation {
            product_id: body.text("productId")?.to_owned(),
            option_id: body.text("optionId")?.to_owned(),
            availability_id: body.text("availabilityId")?.to_owned(),
            expiration_minutes: body.optional_positive("expirationMinutes")?,
            unit_items: read_unit_items(body)?
                .filter(|items| !items.is_empty())
                .ok_or("/unitItems must hold at least one item")?,
            reseller_reference: body.optional_text("resellerReference")?.map(str::to_owned),
            is_test: headers.get(ENVIRONMENT).is_some_and(|value| value == "test"),
        })
    };
    read().map_err(bad_request)
}

fn read_unit_items(body: &Fields<'_>) -> Result<Option<Vec<UnitItem>>, String> {
    let Some(items) = body.optional_list("unitItems")? else { return Ok(None) };
    let items = items.iter().map(|item| {
        let uuid = item.optional_text("uuid")?.map(str::to_owned);
        Ok(UnitItem { unit_id: item.text("unitId")?.to_owned(), uuid })
    });
    items.collect::<Result<Vec<_>, String>>().map(Some)
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq(UUID_GROUPS)
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The members of a contact that are texts.
const CONTACT_TEXTS: &[&str] =
    &["fullName", "firstName", "lastName", "emailAddress", "phoneNumber", "postalCode", "country", "notes"];

fn contact(contact: &Fields<'_>) -> Result<(), String> {
    for name in CONTACT_TEXTS {
        if contact.optional(name).is_some_and(|value| !value.is_string()) {
            return Err(format!("/contact/{name} must be a text"));
        }
    }
    if contact.optional("locales").is_some_and(|value| !value.is_array()) {
        return Err("/contact/locales must be an array".to_owned());
    }
    Ok(())
}

fn confirm(body: &Fields<'_>) -> Result<Request, String> {
    contact(&body.object("contact")?)?;
    body.optional_bool("emailReceipt")?;
    read_unit_items(body)?;
    let reseller_reference = body.optional_text("resellerReference")?.map(str::to_owned);
    Ok(Request::Confirm { reseller_reference })
}

fn cancel(body: &Fields<'_>) -> Result<Request, String> {
    body.optional_bool("force")?;
    Ok(Request::Cancel { reason: body.optional_text("reason")?.map(str::to_owned) })
}

fn update(body: &Fields<'_>) -> Result<Update, String> {
    if let Some(fields) = body.optional_object("contact")? {
        contact(&fields)?;
    }
    body.optional_bool("emailReceipt")?;
    let text = |name: &str| body.optional_text(name).map(|text| text.map(str::to_owned));
    let update = Update {
        product_id: text("productId")?,
        option_id: text("optionId")?,
        availability_id: text("availabilityId")?,
        expiration_minutes: body.optional_positive("expirationMinutes")?,
        reseller_reference: text("resellerReference")?,
        unit_items: read_unit_items(body)?,
    };
    if update.unit_items.as_ref().is_some_and(Vec::is_empty) {
        return Err("/unitItems must hold at least one item".to_owned());
    }
    Ok(update)
}
