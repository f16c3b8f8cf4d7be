//! The types of the client against the schemas of the description.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_app::problem::ProblemCode as Served;
use holdfast_client as client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::consumer_calls;
use super::sample::samples;
use crate::described::{description, examples};

/// Reads a value and writes it again.
type Again = fn(Value) -> Result<Value, serde_json::Error>;

fn again<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(value)?)
}

/// A secret is not written, so that it is put back here.
fn again_with_secret(value: Value) -> Result<Value, serde_json::Error> {
    let read: client::WebhookEndpointWithSecret = serde_json::from_value(value)?;
    let mut again = serde_json::to_value(&read.endpoint)?;
    again["secret"] = json!(read.secret.expose());
    Ok(again)
}

fn answers() -> BTreeMap<&'static str, Again> {
    BTreeMap::from([
        ("Booking", again::<client::Booking> as Again),
        ("PersonalBooking", again::<client::PersonalBooking>),
        ("BookingVersion", again::<client::BookingVersion>),
        ("Availability", again::<client::Availability>),
        ("Event", again::<client::Event>),
        ("WebhookEndpoint", again::<client::WebhookEndpoint>),
        ("WebhookEndpointWithSecret", again_with_secret),
        ("Trial", again::<client::Trial>),
        ("DeliveryAttempt", again::<client::DeliveryAttempt>),
        ("Replay", again::<client::Replay>),
        ("Problem", again::<client::Problem>),
    ])
}

fn requests() -> BTreeMap<&'static str, Again> {
    BTreeMap::from([
        ("CreateBooking", again::<client::CreateBooking> as Again),
        ("ConfirmBooking", again::<client::ConfirmBooking>),
        ("ExtendBooking", again::<client::ExtendBooking>),
        ("CancelBooking", again::<client::CancelBooking>),
        ("RescheduleBooking", again::<client::RescheduleBooking>),
        ("NewWebhookEndpoint", again::<client::NewWebhookEndpoint>),
        ("WebhookEndpointChanges", again::<client::WebhookEndpointChanges>),
        ("ReplayRequest", again::<client::ReplayRequest>),
    ])
}

/// What of `before` is not in `after`. `is_left_out` says what means the same when it is left out.
fn lost(place: &str, before: &Value, after: &Value, is_left_out: fn(&Value) -> bool) -> Vec<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(_)) => {
            let member = |(name, value): (&String, &Value)| match after.get(name) {
                Some(kept) => lost(&format!("{place}/{name}"), value, kept, is_left_out),
                None if is_left_out(value) => Vec::new(),
                None => vec![format!("{place}/{name}")],
            };
            before.iter().flat_map(member).collect()
        }
        (Value::Array(before), Value::Array(kept)) if before.len() == kept.len() => {
            let item = |(before, after)| lost(&format!("{place}/-"), before, after, is_left_out);
            before.iter().zip(kept).flat_map(item).collect()
        }
        _ if before == after => Vec::new(),
        _ => vec![format!("{place}: {before} became {after}")],
    }
}

fn nothing(_: &Value) -> bool {
    false
}

/// Of what is new, nothing, `false` and what is empty is what Holdfast takes anyway.
fn default_of_new(value: &Value) -> bool {
    value.is_null() || *value == json!(false) || *value == json!([]) || *value == json!({})
}

fn left_out_of(name: &str) -> fn(&Value) -> bool {
    match name {
        "CreateBooking" | "NewWebhookEndpoint" => default_of_new,
        _ if requests().contains_key(name) => Value::is_null,
        _ => nothing,
    }
}

fn check(name: &str, again: Again, value: &Value) {
    let schema = json!({"$ref": format!("#/components/schemas/{name}")});
    let written =
        again(value.clone()).unwrap_or_else(|error| panic!("{name} cannot be read: {error}: {value:#}"));
    let faults = description().faults(&schema, &written, true);
    assert!(faults.is_empty(), "{name} is written as {written:#}: {faults:#?}");
    let lost = lost("", value, &written, left_out_of(name));
    assert!(lost.is_empty(), "{name} loses {lost:#?} of {value:#}");
}

#[test]
fn nothing_that_is_described_is_lost() {
    for (name, again) in answers().into_iter().chain(requests()) {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        let values = samples(description(), &schema);
        assert!(values.len() > 1, "{name}");
        for value in &values {
            check(name, again, value);
        }
    }
}

#[test]
fn every_example_is_read_and_written() {
    let forms: BTreeMap<_, _> = answers().into_iter().chain(requests()).collect();
    let mut found = Vec::new();
    examples("", &description().root, &mut found);
    let mut seen = BTreeSet::new();
    for (_, schema, example) in found {
        let name = schema["$ref"].as_str().unwrap_or_default().rsplit('/').next().unwrap();
        if let Some((name, again)) = forms.get_key_value(name) {
            check(name, *again, example);
            seen.insert(*name);
        }
    }
    let with_examples = requests().into_keys().chain(["Booking", "Problem"]).collect();
    assert_eq!(seen, with_examples);
}

/// The value with a member more in every object, and other words where more may follow.
fn from_the_future(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let later = |(name, value): (&String, &Value)| {
                let is_open =
                    ["status", "kind", "by", "source", "disabled_reason", "type", "code", "side_effects"];
                let value = if is_open.contains(&name.as_str()) && value.is_string() {
                    json!("teleported")
                } else {
                    from_the_future(value)
                };
                (name.clone(), value)
            };
            members.iter().map(later).chain([("later".to_owned(), json!("more"))]).collect()
        }
        Value::Array(items) => items.iter().map(from_the_future).collect(),
        _ => value.clone(),
    }
}

#[test]
fn what_may_be_added_is_no_harm() {
    for (name, again) in answers() {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        for value in samples(description(), &schema) {
            let later = from_the_future(&value);
            let written = again(later.clone()).unwrap_or_else(|error| panic!("{name}: {error}: {later:#}"));
            if let Some(status) = later.get("status").filter(|status| status.is_string()) {
                assert_eq!(written["status"], *status, "{name}");
            }
        }
    }
}

/// Everything that the calls of consumers lead to, once each.
fn reachable() -> Vec<&'static Value> {
    let mut open: Vec<&Value> = consumer_calls().into_iter().map(|(_, _, call)| call).collect();
    let mut seen: Vec<&Value> = Vec::new();
    let mut targets = BTreeSet::new();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                open.extend(members.values());
                if let Some(reference) = members.get("$ref").and_then(Value::as_str)
                    && targets.insert(reference)
                {
                    open.push(description().resolved(value));
                }
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
        seen.push(value);
    }
    seen
}

/// The words in backticks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    text.split('`').skip(1).step_by(2).filter(is_word)
}

#[test]
fn every_word_that_is_described_is_known() {
    let sets = [client::Status::KNOWN, client::EventType::KNOWN, client::SideEffects::KNOWN];
    let mut enums = 0;
    for values in reachable().iter().filter_map(|value| value.get("enum")?.as_array()) {
        let is_known = |set: &&[&str]| values.iter().all(|value| set.contains(&value.as_str().unwrap()));
        assert!(sets.iter().any(is_known), "{values:?} is not known");
        enums += 1;
    }
    assert!(enums >= 3, "{enums}");
    for (place, known) in [
        ("/Status", client::Status::KNOWN),
        ("/Operation/properties/kind", client::OperationKind::KNOWN),
        ("/Cancellation/properties/by", client::CancelledBy::KNOWN),
        ("/OpenLocation/properties/source", client::Source::KNOWN),
        ("/WebhookEndpoint/properties/disabled_reason", client::DisabledReason::KNOWN),
    ] {
        let schema = description().root["components"]["schemas"].pointer(place).unwrap();
        let described: BTreeSet<&str> = words(schema["description"].as_str().unwrap()).collect();
        assert_eq!(described, known.iter().copied().collect(), "{place}");
    }
}

#[test]
fn every_problem_is_known() {
    let served: BTreeSet<&str> = Served::ALL.iter().map(|code| code.as_str()).collect();
    let known: BTreeSet<&str> = client::ProblemCode::KNOWN.iter().copied().collect();
    let unknown: Vec<&&str> = served.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    // What the description names where it speaks of problems: codes, and some fields and statuses.
    let described: BTreeSet<&str> = reachable()
        .into_iter()
        .filter(|value| value["content"].get("application/problem+json").is_some())
        .flat_map(|response| words(response["description"].as_str().unwrap()))
        .collect();
    let fields = ["errors", "operation", "rejection"];
    let unknown: Vec<&&str> =
        described.iter().filter(|word| !known.contains(*word) && !fields.contains(word)).collect();
    assert!(unknown.is_empty() && described.len() > 15, "{unknown:?} of {described:?}");
}
