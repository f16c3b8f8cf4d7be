//! Strict reading of JSON bodies: what is wrong is said with its place, and never with its value, which may be the
//! customer's.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// One JSON object of a body.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Where it stands in the body; empty at the top.
    path: String,
}

impl<'a> Fields<'a> {
    pub(super) fn of(body: &'a Value) -> Result<Self, String> {
        let object = body.as_object().ok_or("the body must be a JSON object")?;
        Ok(Self { object, path: String::new() })
    }

    fn wrong<T>(&self, name: &str, expected: &str) -> Result<T, String> {
        Err(format!("{}/{name} must be {expected}", self.path))
    }

    /// `None` if it is missing or null.
    pub(super) fn optional(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Must be there, but may be null.
    pub(super) fn nullable(&self, name: &str) -> Result<Option<&'a Value>, String> {
        if self.object.contains_key(name) { Ok(self.optional(name)) } else { self.wrong(name, "given") }
    }

    pub(super) fn object(&self, name: &str) -> Result<Self, String> {
        match self.optional_object(name)? {
            Some(fields) => Ok(fields),
            None => self.wrong(name, "an object"),
        }
    }

    pub(super) fn optional_object(&self, name: &str) -> Result<Option<Self>, String> {
        match self.optional(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Self { object, path: format!("{}/{name}", self.path) })),
            Some(_) => self.wrong(name, "an object"),
        }
    }

    /// The objects of an array.
    pub(super) fn optional_list(&self, name: &str) -> Result<Option<Vec<Self>>, String> {
        let Some(value) = self.optional(name) else { return Ok(None) };
        let Some(items) = value.as_array() else { return self.wrong(name, "an array") };
        let fields = items.iter().enumerate().map(|(index, item)| match item {
            Value::Object(object) => Ok(Self { object, path: format!("{}/{name}/{index}", self.path) }),
            _ => self.wrong(name, "an array of objects"),
        });
        fields.collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// A text that is not empty.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, String> {
        match self.optional_text(name)? {
            Some(text) => Ok(text),
            None => self.wrong(name, "a text"),
        }
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&'a str>, String> {
        match self.optional(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => self.wrong(name, "a text that is not empty"),
        }
    }

    pub(super) fn one_of(&self, name: &str, words: &[&str]) -> Result<&'a str, String> {
        match self.object.get(name).and_then(Value::as_str).filter(|word| words.contains(word)) {
            Some(word) => Ok(word),
            None => self.wrong(name, &format!("one of {words:?}")),
        }
    }

    /// A time with its offset.
    pub(super) fn time(&self, name: &str) -> Result<Timestamp, String> {
        match self.optional(name).and_then(Value::as_str).and_then(|text| text.parse().ok()) {
            Some(time) => Ok(time),
            None => self.wrong(name, "a time as of RFC 3339"),
        }
    }

    pub(super) fn positive(&self, name: &str) -> Result<u32, String> {
        match self.optional_positive(name)? {
            Some(number) => Ok(number),
            None => self.wrong(name, "a positive whole number"),
        }
    }

    pub(super) fn optional_positive(&self, name: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.optional(name) else { return Ok(None) };
        match value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0) {
            Some(number) => Ok(Some(number)),
            None => self.wrong(name, "a positive whole number"),
        }
    }

    pub(super) fn optional_bool(&self, name: &str) -> Result<Option<bool>, String> {
        match self.optional(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => self.wrong(name, "true or false"),
        }
    }
}
