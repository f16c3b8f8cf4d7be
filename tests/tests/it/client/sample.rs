//! Values that fit a schema of the description: the least that it requires, and all that it names.

use serde_json::{Map, Value, json};

use crate::described::Description;

/// How many values of each extent are made. It is more than any schema has choices.
const CHOICES: usize = 16;

/// How much of what a schema names is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Least,
    Full,
}

/// Different values of a schema, each of which fits it.
pub(super) fn samples(described: &Description, schema: &Value) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for extent in [Extent::Least, Extent::Full] {
        for choice in 0..CHOICES {
            let value = Sampler { described, extent, choice }.value("", schema);
            let faults = described.faults(schema, &value, true);
            assert!(faults.is_empty(), "the sample {value:#} does not fit: {faults:#?}");
            if !found.contains(&value) {
                found.push(value);
            }
        }
    }
    found
}

struct Sampler<'a> {
    described: &'a Description,
    extent: Extent,
    /// Which of several is taken, wherever there are several.
    choice: usize,
}

impl Sampler<'_> {
    /// A value of a schema, in a member of this name.
    fn value(&self, name: &str, schema: &Value) -> Value {
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        for several in ["examples", "enum"] {
            if let Some(values) = schema.get(several).and_then(Value::as_array) {
                return self.one(values).clone();
            }
        }
        if schema.get("properties").is_some() {
            return self.object(schema);
        }
        // Beside a reference it only says more of the same.
        if let (Some(parts), None) = (schema.get("allOf").and_then(Value::as_array), schema.get("$ref")) {
            let parts = parts.iter().map(|part| self.value(name, part));
            return Value::Object(parts.filter_map(|part| part.as_object().cloned()).flatten().collect());
        }
        if let Some(parts) = ["anyOf", "oneOf"].iter().find_map(|several| schema.get(several)?.as_array()) {
            return self.value(name, self.one(parts));
        }
        if schema.get("$ref").is_some() {
            return self.value(name, self.described.resolved(schema));
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => self.one(kinds),
            kind => kind,
        };
        match kind.as_str() {
            Some("object") => self.object(schema),
            Some("array") => self.array(name, schema),
            Some("integer") => self.integer(name, schema),
            Some("boolean") => json!(self.choice.is_multiple_of(2)),
            Some("string") => json!(self.text(name, schema)),
            Some("null") => Value::Null,
            _ => panic!("{name}: no value can be made of {schema}"),
        }
    }

    fn one<'a>(&self, several: &'a [Value]) -> &'a Value {
        &several[self.choice % several.len()]
    }

    fn object(&self, schema: &Value) -> Value {
        let names = |value: &Value| -> Vec<String> {
            let names = value["required"].as_array().into_iter().flatten();
            names.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let mut required = names(schema);
        let mut excluded = Vec::new();
        if let Some(branches) = schema.get("oneOf").and_then(Value::as_array) {
            let taken = names(self.one(branches));
            excluded = branches.iter().flat_map(names).filter(|name| !taken.contains(name)).collect();
            required.extend(taken);
        }
        let mut members = Map::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let is_wanted = self.extent == Extent::Full || required.contains(name);
            if is_wanted && !excluded.contains(name) {
                members.insert(name.clone(), self.value(name, property));
            }
        }
        if self.extent == Extent::Full && schema["additionalProperties"].is_object() {
            members.insert("colour".to_owned(), self.value("colour", &schema["additionalProperties"]));
        }
        Value::Object(members)
    }

    fn array(&self, name: &str, schema: &Value) -> Value {
        let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap();
        let wanted = if self.extent == Extent::Full { least.max(2) } else { least };
        // Items that differ, where they can.
        let item = |number| Sampler { choice: self.choice + number, ..*self }.value(name, &schema["items"]);
        let mut items: Vec<Value> = (0..wanted).map(item).collect();
        if schema["uniqueItems"] == json!(true) {
            items.dedup();
        }
        Value::Array(items)
    }

    fn integer(&self, name: &str, schema: &Value) -> Value {
        let least = schema["minimum"].as_u64().unwrap_or(0);
        match self.extent {
            _ if name == "status" && schema.get("minimum").is_none() => json!(204),
            Extent::Least => json!(least),
            Extent::Full => json!(schema["maximum"].as_u64().unwrap_or(least + 1)),
        }
    }

    fn text(&self, name: &str, schema: &Value) -> &'static str {
        match (name, schema["format"].as_str(), schema["pattern"].as_str()) {
            ("email", ..) => "ada@example.com",
            ("phone", ..) => "+44 20 7946 0000",
            (_, Some("date-time"), _) if self.extent == Extent::Full => "2028-03-01T09:00:00.123Z",
            (_, Some("date-time"), _) => "2028-03-01T09:00:00Z",
            (_, Some("date"), _) => "2028-03-01",
            (_, Some("uri"), _) => "https://shop.example.com/holdfast",
            (_, Some("uri-reference"), _) => "/problems/invalid_request",
            ("birth_date", ..) => "1912-06-23",
            (_, _, Some("^whsec_")) => "whsec_c2VjcmV0",
            (_, _, Some("^[A-Z]{3}$")) => "EUR",
            (_, _, Some("^[a-z_]+$")) => "provider_asked",
            (_, _, Some(r#"^W/"[^"]+"$"#)) => r#"W/"2""#,
            (_, _, Some("^/v1/")) => "/v1/bookings/bkg_06gvron0k1q3p7s0nkbcfrqa4c",
            _ => "main-street",
        }
    }
}
