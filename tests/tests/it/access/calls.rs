//! Every call, who may make it, and whose things it names.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::described::description;

/// Whose key opens a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nobody's is needed.
    Open,
    Consumer,
    Provider,
    Admin,
}

/// What a call names, and so how somebody could reach for what is not theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Nothing: it is about the caller, who is named by the key alone.
    Nothing,
    /// A booking of the consumer's, in the path.
    Booking,
    /// A webhook endpoint of the consumer's, in the path.
    Endpoint,
    /// A booking at the provider, in the path.
    BookingAtProvider,
    /// A provider, in the body or the query.
    Provider,
    /// A consumer or provider, by an administrator, who may name any.
    Owner,
    /// A key of a consumer or provider.
    Key,
    /// A location of a provider.
    Location,
    /// A booking of anybody's, by an administrator.
    AnyBooking,
}

/// A call, complete but for what its path names.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    /// As the description has it.
    pub(super) template: &'static str,
    pub(super) role: Role,
    pub(super) names: Names,
    /// The status with a key that opens it, of things that are the caller's.
    pub(super) opened: u64,
    pub(super) query: &'static str,
    pub(super) body: Option<Value>,
}

impl Call {
    /// Its path with this for each parameter, in their order.
    pub(super) fn path(&self, parameters: &[&str]) -> String {
        let mut parameters = parameters.iter();
        let mut next = || *parameters.next().unwrap_or_else(|| panic!("{} has more", self.template));
        let part = |part: &str| if part.starts_with('{') { next().to_owned() } else { part.to_owned() };
        let path = self.template.split('/').map(part).collect::<Vec<_>>().join("/");
        format!("{path}{}", self.query)
    }
}

/// Slots that are open at the tests' time.
pub(super) const START: &str = "2027-01-15T09:00:00Z";
const END: &str = "2027-01-15T09:30:00Z";

/// The body of a create at this provider.
pub(super) fn create_body(provider_id: &str) -> Value {
    json!({
        "provider_id": provider_id,
        "slot": {"location_id": "main-street", "start": START, "end": END},
        "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
    })
}

fn key_body() -> Value {
    json!({"mode": "test"})
}

/// The calls of operators.
fn repairs() -> Vec<Call> {
    let admin = |method, template, names| Call {
        method,
        template,
        role: Role::Admin,
        names,
        opened: 200,
        query: "",
        body: (method == "POST").then(|| json!({"reason": "a trial"})),
    };
    let letters = json!({"queue": "timers", "reason": "a trial"});
    let period = json!({"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z", "reason": "a trial"});
    vec![
        admin("GET", "/v1/admin/stuck", Names::Nothing),
        admin("GET", "/v1/admin/audit", Names::Nothing),
        Call { body: Some(letters), ..admin("POST", "/v1/admin/dead-letters/redrive", Names::Nothing) },
        admin("GET", "/v1/admin/bookings/{id}", Names::AnyBooking),
        admin("POST", "/v1/admin/bookings/{id}/retry", Names::AnyBooking),
        admin("POST", "/v1/admin/bookings/{id}/re-emit", Names::AnyBooking),
        admin("POST", "/v1/admin/bookings/{id}/cancel", Names::AnyBooking),
        Call { body: Some(period), ..admin("POST", "/v1/admin/re-emit", Names::Nothing) },
    ]
}

fn pushed() -> Value {
    let slot = json!({"start": START, "end": END});
    json!({"location_id": "main-street", "slots": [slot]})
}

/// Every call of the API.
pub(super) fn calls() -> Vec<Call> {
    use Names::{Booking, BookingAtProvider, Endpoint, Key, Location, Nothing, Owner, Provider};
    let call = |role, method, template, names, opened| Call {
        method,
        template,
        role,
        names,
        opened,
        query: "",
        body: None,
    };
    let open = |template| call(Role::Open, "GET", template, Nothing, 200);
    let consumer = |method, template, names, opened| call(Role::Consumer, method, template, names, opened);
    let provider = |method, template, names, opened| call(Role::Provider, method, template, names, opened);
    let admin = |method, template, names, opened| call(Role::Admin, method, template, names, opened);
    let with = |call: Call, body| Call { body, ..call };
    let slot =
        json!({"location_id": "main-street", "start": "2027-01-16T09:00:00Z", "end": "2027-01-16T09:30:00Z"});
    let mut calls = vec![
        open("/health"),
        open("/problems"),
        open("/problems/{code}"),
        open("/v1/openapi.json"),
        open("/docs"),
        open("/docs/{asset}"),
        with(consumer("POST", "/v1/bookings", Provider, 201), Some(create_body("clinic"))),
        consumer("GET", "/v1/bookings", Nothing, 200),
        consumer("GET", "/v1/bookings/{id}", Booking, 200),
        consumer("GET", "/v1/bookings/{id}/events", Booking, 200),
        with(consumer("POST", "/v1/bookings/{id}/confirm", Booking, 200), Some(json!({}))),
        // It is no hold that could live longer, but the caller hears of that.
        with(consumer("POST", "/v1/bookings/{id}/extend", Booking, 409), Some(json!({"expires_at": START}))),
        with(consumer("POST", "/v1/bookings/{id}/reschedule", Booking, 200), Some(json!({"slot": slot}))),
        with(consumer("POST", "/v1/bookings/{id}/cancel", Booking, 200), Some(json!({}))),
        consumer("DELETE", "/v1/bookings/{id}/customer", Booking, 204),
        Call {
            query: "?provider_id=clinic&location_ids=main-street&start_date=2027-01-15",
            ..consumer("GET", "/v1/availability", Provider, 200)
        },
        consumer("GET", "/v1/events", Nothing, 200),
        with(
            consumer("POST", "/v1/webhook-endpoints", Nothing, 201),
            Some(json!({"url": "https://shop.example.com/hooks"})),
        ),
        consumer("GET", "/v1/webhook-endpoints", Nothing, 200),
        consumer("GET", "/v1/webhook-endpoints/{id}", Endpoint, 200),
        with(consumer("PATCH", "/v1/webhook-endpoints/{id}", Endpoint, 200), Some(json!({"enabled": false}))),
        consumer("POST", "/v1/webhook-endpoints/{id}/rotate-secret", Endpoint, 200),
        consumer("POST", "/v1/webhook-endpoints/{id}/test", Endpoint, 200),
        consumer("GET", "/v1/webhook-endpoints/{id}/deliveries", Endpoint, 200),
        with(
            consumer("POST", "/v1/webhook-endpoints/{id}/replay", Endpoint, 202),
            Some(json!({"since": "2026-11-20T00:00:00Z"})),
        ),
        consumer("DELETE", "/v1/webhook-endpoints/{id}", Endpoint, 204),
        with(
            provider("POST", "/v1/provider/bookings/{id}/acknowledge", BookingAtProvider, 200),
            Some(json!({"status": "confirmed", "provider_reference": "yes"})),
        ),
        with(
            provider("POST", "/v1/provider/bookings/{id}/attendance", BookingAtProvider, 200),
            Some(json!({"status": "attended"})),
        ),
        with(
            provider("POST", "/v1/provider/bookings/{id}/cancel", BookingAtProvider, 200),
            Some(json!({"reason": "closed"})),
        ),
        provider("GET", "/v1/provider/notifications", Nothing, 200),
        provider("POST", "/v1/provider/notifications/release", Nothing, 200),
        with(provider("PUT", "/v1/provider/availability", Nothing, 200), Some(pushed())),
        admin("GET", "/v1/admin/consumers", Nothing, 200),
        with(admin("PUT", "/v1/admin/consumers/{id}", Owner, 200), Some(json!({"name": "Acme"}))),
        admin("GET", "/v1/admin/consumers/{id}", Owner, 200),
        with(admin("POST", "/v1/admin/consumers/{id}/keys", Owner, 201), Some(key_body())),
        admin("GET", "/v1/admin/consumers/{id}/keys", Owner, 200),
        admin("DELETE", "/v1/admin/consumers/{id}/keys/{key_id}", Key, 204),
        admin("DELETE", "/v1/admin/consumers/{id}", Owner, 204),
        admin("GET", "/v1/admin/providers", Nothing, 200),
        with(
            admin("PUT", "/v1/admin/providers/{id}", Owner, 200),
            Some(json!({"name": "Clinic", "mode": "test", "base_url": "https://clinic.example.com"})),
        ),
        admin("GET", "/v1/admin/providers/{id}", Owner, 200),
        with(admin("POST", "/v1/admin/providers/{id}/keys", Owner, 201), Some(key_body())),
        admin("GET", "/v1/admin/providers/{id}/keys", Owner, 200),
        admin("DELETE", "/v1/admin/providers/{id}/keys/{key_id}", Key, 204),
        admin("GET", "/v1/admin/providers/{id}/locations", Owner, 200),
        with(
            admin("PUT", "/v1/admin/providers/{id}/locations/{location_id}", Owner, 200),
            Some(json!({"name": "Main Street", "time_zone": "Europe/Berlin"})),
        ),
        admin("GET", "/v1/admin/providers/{id}/locations/{location_id}", Location, 200),
        admin("DELETE", "/v1/admin/providers/{id}/locations/{location_id}", Location, 204),
        admin("DELETE", "/v1/admin/providers/{id}", Owner, 204),
    ];
    calls.extend(repairs());
    calls
}

#[test]
fn every_call_of_the_description_is_listed_with_the_key_that_it_needs() {
    let described: BTreeSet<(String, String, String)> = description()
        .calls()
        .into_iter()
        .map(|(method, path, call)| {
            let security = call.get("security").unwrap_or(&description().root["security"]).clone();
            let schemes = security.as_array().unwrap().iter().flat_map(|one| one.as_object().unwrap().keys());
            (method, path, schemes.cloned().collect::<Vec<_>>().join(" or "))
        })
        .collect();
    let scheme = |role| match role {
        Role::Open => "",
        Role::Consumer => "consumerKey",
        Role::Provider => "providerKey",
        Role::Admin => "adminKey",
    };
    let listed = calls()
        .into_iter()
        .map(|call| (call.method.to_owned(), call.template.to_owned(), scheme(call.role).to_owned()));
    let listed: BTreeSet<(String, String, String)> = listed.collect();
    let (missing, made_up): (Vec<_>, Vec<_>) =
        (described.difference(&listed).collect(), listed.difference(&described).collect());
    assert!(missing.is_empty() && made_up.is_empty(), "not listed: {missing:?}; not described: {made_up:?}");
}

#[test]
fn every_call_whose_path_has_parameters_says_what_they_name() {
    for call in calls().iter().filter(|call| call.role != Role::Open) {
        let has_parameters = call.template.contains('{');
        let in_body = call.names == Names::Provider;
        assert_eq!(has_parameters, call.names != Names::Nothing && !in_body, "{call:?}");
    }
}
