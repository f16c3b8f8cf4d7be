//! JSON more strictly than `serde_json` reads it: an object whose member is there twice is refused, since of two
//! readers one may take the first and the other the last.
//!
//! Nesting beyond 127 levels, halves of surrogate pairs and numbers beyond a double's range are refused by
//! `serde_json` itself.

use std::cell::RefCell;
use std::fmt;

use holdfast_app::parse::escape;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text was not taken.
#[derive(Debug)]
pub(super) enum JsonError {
    /// It is no JSON, or none that can be read.
    Malformed(serde_json::Error),
    /// A member is there twice; its JSON pointer.
    Repeated(String),
}

/// Reads a text.
pub(super) fn read(text: &str) -> Result<Value, JsonError> {
    let place = Place { pointer: RefCell::default(), repeated: RefCell::default() };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Node(&place).deserialize(&mut deserializer);
    match read.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(error) => {
            Err(place.repeated.into_inner().map_or(JsonError::Malformed(error), JsonError::Repeated))
        }
    }
}

/// Where reading is.
struct Place {
    pointer: RefCell<String>,
    repeated: RefCell<Option<String>>,
}

impl Place {
    /// Reads what is one step further in.
    fn within<T>(&self, step: &str, read: impl FnOnce() -> T) -> T {
        let before = self.pointer.borrow().len();
        self.pointer.borrow_mut().push('/');
        self.pointer.borrow_mut().push_str(step);
        let result = read();
        self.pointer.borrow_mut().truncate(before);
        result
    }
}

/// A value that is to be read.
#[derive(Clone, Copy)]
struct Node<'a>(&'a Place);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = self.0.within(&all.len().to_string(), || items.next_element_seed(self))? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let step = escape(&name);
            if all.contains_key(&name) {
                *self.0.repeated.borrow_mut() = Some(format!("{}/{step}", self.0.pointer.borrow()));
                return Err(A::Error::custom("a member is there twice"));
            }
            let value = self.0.within(&step, || members.next_value_seed(self))?;
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(text: &str) -> String {
        match read(text) {
            Err(JsonError::Repeated(pointer)) => pointer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        for text in [
            "null",
            "true",
            " [1, -1, 1.0, -0, 1e2, 18446744073709551615, 18446744073709551616, \"\", [], {}] ",
            "{\"b\": 1, \"a\": {\"b\": [{\"b\": null}]}, \"\": \"\\u0000\\ud83d\\ude00\"}",
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(read(text).unwrap().to_string(), expected.to_string(), "{text}");
        }
    }

    #[test]
    fn what_serde_json_refuses_is_refused() {
        let deep = "[".repeat(128) + &"]".repeat(128);
        for text in [
            "",
            "{",
            "{} {}",
            "1e400",
            "-1e999",
            "NaN",
            "01",
            "\"\\ud800\"",
            "\"\\ud800x\"",
            "{\"a\" 1}",
            &deep,
        ] {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            assert!(matches!(read(text), Err(JsonError::Malformed(_))), "{text}");
        }
        assert!(read(&("[".repeat(127) + &"]".repeat(127))).is_ok());
    }

    #[test]
    fn a_member_is_there_once() {
        assert_eq!(repeated("{\"a\": 1, \"b\": 2, \"a\": 1}"), "/a");
        assert_eq!(repeated("{\"a\": [0, {\"b/c\": 1, \"b/c\": 2}]}"), "/a/1/b~1c");
        assert_eq!(repeated("{\"a\": 1, \"\\u0061\": 2}"), "/a", "however it is written");
        assert_eq!(repeated("[{\"\": {\"x\": 1}, \"\": 2}]"), "/0/");
        // Normalised they would be one; they are two names.
        assert!(read("{\"\u{e9}\": 1, \"e\u{301}\": 2}").is_ok());
        assert!(read("{\"a\": {\"a\": {\"a\": 1}}}").is_ok());
    }
}
