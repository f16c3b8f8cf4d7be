//! Items as DynamoDB's JSON ("Data type descriptors" in its developer guide), written at once.
//!
//! For the SDK an item is a map of names and values of the SDK's own first, which takes a tenth of a booking's
//! instructions.

use std::fmt::Display;
use std::ops::Range;

use data_encoding::BASE64;
use holdfast_app::ports::StoreError;
use serde::ser::{Error as _, Impossible, SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

/// A storage struct's attributes.
pub(crate) struct JsonItem {
    /// The values, one after the other.
    values: Vec<u8>,
    attributes: Vec<(&'static str, Range<usize>)>,
}

/// As much as most items take, in bytes.
const USUAL_BYTES: usize = 2_048;
/// As much as a name takes, with what is around it, in bytes.
const USUAL_NAME_BYTES: usize = 8;
/// As many attributes as most items have.
const USUAL_ATTRIBUTES: usize = 32;

impl JsonItem {
    /// Writes a storage struct.
    pub(crate) fn of<T: Serialize>(what: &str, value: &T) -> Result<Self, StoreError> {
        let mut values = Vec::with_capacity(USUAL_BYTES);
        let mut attributes = Vec::with_capacity(USUAL_ATTRIBUTES);
        let writer = Writer { out: &mut values, attributes: Some(&mut attributes) };
        match value.serialize(writer) {
            Ok(()) if !attributes.is_empty() => Ok(Self { values, attributes }),
            Ok(()) | Err(Unwritable) => {
                Err(StoreError::Corrupt(format!("{what} cannot be written as an item")))
            }
        }
    }

    /// The attributes in their struct's order, each with its value.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.attributes.iter().map(|(name, at)| (*name, &self.values[at.clone()]))
    }

    /// About how long the item is with the names of its attributes, in bytes.
    pub(crate) fn length(&self) -> usize {
        self.values.len() + self.attributes.len() * USUAL_NAME_BYTES
    }

    /// An attribute's value, if the item has it.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.attributes().find(|(attribute, _)| *attribute == name).map(|(_, value)| value)
    }
}

/// Writes what is JSON already.
pub(crate) fn push(out: &mut Vec<u8>, json: &str) {
    out.extend_from_slice(json.as_bytes());
}

/// Writes a text as JSON, in its quotation marks.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    // A vector takes all that is written.
    serde_json::to_writer(out, text).unwrap_or_default();
}

/// There is no such value in items: a fraction, a tuple, a variant with several or named fields, a name that is not a
/// text.
#[derive(Debug, thiserror::Error)]
#[error("no item has such a value")]
struct Unwritable;

impl serde::ser::Error for Unwritable {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// Writes a value with its type.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Where the fields of the outermost struct are noted, which is no value itself.
    attributes: Option<&'a mut Vec<(&'static str, Range<usize>)>>,
}

impl Writer<'_> {
    fn typed(self, begin: &str, value: impl Serialize, end: &str) -> Result<(), Unwritable> {
        self.out.extend_from_slice(begin.as_bytes());
        serde_json::to_writer(&mut *self.out, &value).map_err(Unwritable::custom)?;
        self.out.extend_from_slice(end.as_bytes());
        Ok(())
    }
}

/// Numbers are texts, so that their digits stay what they are.
macro_rules! numbers {
    ($($method:ident: $number:ty),+ $(,)?) => {
        $(fn $method(self, value: $number) -> Result<(), Unwritable> {
            self.typed(NUMBER, value, "\"}")
        })+
    };
}

const TEXT: &str = r#"{"S":"#;
const NUMBER: &str = r#"{"N":""#;
const BINARY: &str = r#"{"B":""#;
const BOOLEAN: &str = r#"{"BOOL":"#;
const NULL: &str = r#"{"NULL":"#;
const MAP: &str = r#"{"M":{"#;
const LIST: &str = r#"{"L":["#;

type No = Impossible<(), Unwritable>;

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Members<'a>;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = No;

    fn serialize_bool(self, value: bool) -> Result<(), Unwritable> {
        self.typed(BOOLEAN, value, "}")
    }

    numbers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
    }

    fn serialize_f32(self, _: f32) -> Result<(), Unwritable> {
        Err(Unwritable)
    }

    fn serialize_f64(self, _: f64) -> Result<(), Unwritable> {
        Err(Unwritable)
    }

    fn serialize_char(self, value: char) -> Result<(), Unwritable> {
        self.typed(TEXT, value, "}")
    }

    fn serialize_str(self, value: &str) -> Result<(), Unwritable> {
        self.typed(TEXT, value, "}")
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unwritable> {
        let out = self.out;
        out.extend_from_slice(BINARY.as_bytes());
        let begin = out.len();
        out.resize(begin + BASE64.encode_len(value.len()), 0);
        BASE64.encode_mut(value, &mut out[begin..]);
        out.extend_from_slice(b"\"}");
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        self.typed(NULL, true, "}")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unwritable> {
        self.typed(NULL, true, "}")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unwritable> {
        self.typed(NULL, true, "}")
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unwritable> {
        self.typed(TEXT, variant, "}")
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        let mut members = Members::begin(self.out, MAP, "}}");
        members.serialize_field(variant, value)?;
        members.finish();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'a>, Unwritable> {
        Ok(Members::begin(self.out, LIST, "]}"))
    }

    fn serialize_tuple(self, _: usize) -> Result<No, Unwritable> {
        Err(Unwritable)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<No, Unwritable> {
        Err(Unwritable)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, Unwritable> {
        Err(Unwritable)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'a>, Unwritable> {
        Ok(Members::begin(self.out, MAP, "}}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'a>, Unwritable> {
        Ok(match self.attributes {
            Some(attributes) => Members { attributes: Some(attributes), ..Members::begin(self.out, "", "") },
            None => Members::begin(self.out, MAP, "}}"),
        })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, Unwritable> {
        Err(Unwritable)
    }
}

/// Writes the members of a list, a map or a struct.
struct Members<'a> {
    out: &'a mut Vec<u8>,
    attributes: Option<&'a mut Vec<(&'static str, Range<usize>)>>,
    end: &'static str,
    is_first: bool,
}

impl<'a> Members<'a> {
    fn begin(out: &'a mut Vec<u8>, begin: &str, end: &'static str) -> Self {
        out.extend_from_slice(begin.as_bytes());
        Self { out, attributes: None, end, is_first: true }
    }

    fn next(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        value.serialize(Writer { out: &mut *self.out, attributes: None })
    }

    fn finish(self) {
        self.out.extend_from_slice(self.end.as_bytes());
    }
}

impl SerializeSeq for Members<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.next();
        self.value(value)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.finish();
        Ok(())
    }
}

impl SerializeMap for Members<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritable> {
        self.next();
        let begin = self.out.len();
        serde_json::to_writer(&mut *self.out, key).map_err(Unwritable::custom)?;
        if self.out.get(begin) != Some(&b'"') {
            return Err(Unwritable);
        }
        self.out.push(b':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.value(value)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.finish();
        Ok(())
    }
}

impl SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        if self.attributes.is_some() {
            let begin = self.out.len();
            self.value(value)?;
            let end = self.out.len();
            if let Some(attributes) = &mut self.attributes {
                attributes.push((name, begin..end));
            }
            return Ok(());
        }
        self.next();
        push_text(self.out, name);
        self.out.push(b':');
        self.value(value)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::item::{Bytes, to_sdk_item};

    /// Of everything that items are made of.
    #[derive(Clone, Debug, Serialize)]
    struct Everything {
        text: String,
        number: i64,
        count: u64,
        flag: bool,
        nothing: Option<u32>,
        bytes: Bytes,
        list: Vec<Inner>,
        #[serde(rename = "m")]
        map: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        perhaps: Option<Inner>,
    }

    #[derive(Clone, Debug, Serialize)]
    enum Inner {
        Plain,
        Of(u32),
        Struct(Box<Nested>),
    }

    #[derive(Clone, Debug, Serialize)]
    struct Nested {
        text: String,
        inner: Inner,
        none: Vec<u8>,
    }

    /// Of all characters, also those that are not seen.
    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(any::<char>(), 0..12).prop_map(|text| text.into_iter().collect())
    }

    fn inner() -> impl Strategy<Value = Inner> {
        let leaf = prop_oneof![Just(Inner::Plain), any::<u32>().prop_map(Inner::Of)];
        leaf.prop_recursive(3, 8, 2, |inner| {
            (text(), inner, prop::collection::vec(any::<u8>(), 0..3))
                .prop_map(|(text, inner, none)| Inner::Struct(Box::new(Nested { text, inner, none })))
        })
    }

    prop_compose! {
        fn everything()(
            text in text(), number in any::<i64>(), count in any::<u64>(), flag in any::<bool>(),
            nothing in prop::option::of(any::<u32>()), bytes in prop::collection::vec(any::<u8>(), 0..40),
            list in prop::collection::vec(inner(), 0..4), perhaps in prop::option::of(inner()),
            map in prop::collection::btree_map(text(), text(), 0..4),
        ) -> Everything {
            Everything { text, number, count, flag, nothing, bytes: Bytes(bytes), list, map, perhaps }
        }
    }

    /// What `serde_dynamo` makes of it, whose types write themselves as DynamoDB's JSON, but for bytes.
    fn by_the_library(value: &Everything) -> Value {
        fn in_base64(value: &mut Value) {
            match value {
                Value::Object(members) => {
                    for (name, member) in members {
                        match member.as_array() {
                            Some(bytes) if name == "B" => {
                                let bytes =
                                    bytes.iter().map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap());
                                *member = json!(BASE64.encode(&bytes.collect::<Vec<u8>>()));
                            }
                            _ => in_base64(member),
                        }
                    }
                }
                Value::Array(elements) => elements.iter_mut().for_each(in_base64),
                _ => {}
            }
        }
        let item: serde_dynamo::Item = to_sdk_item("everything", value).unwrap().into();
        let mut item = serde_json::to_value(&item).unwrap();
        in_base64(&mut item);
        item
    }

    proptest! {
        #[test]
        fn an_item_is_what_the_library_makes_of_it(value in everything()) {
            let item = JsonItem::of("everything", &value).unwrap();
            let members: Map<String, Value> = item
                .attributes()
                .map(|(name, value)| (name.to_owned(), serde_json::from_slice(value).unwrap()))
                .collect();
            prop_assert_eq!(Value::Object(members), by_the_library(&value));
        }
    }

    #[test]
    fn what_is_not_seen_is_escaped() {
        let mut body = Vec::new();
        push_text(&mut body, "a\r\n\t\"\\\u{0}\u{7f}ż");
        assert_eq!(String::from_utf8(body).unwrap(), "\"a\\r\\n\\t\\\"\\\\\\u0000\u{7f}ż\"");
    }

    #[test]
    fn what_no_item_has_is_an_error_that_does_not_repeat_it() {
        #[derive(Serialize)]
        struct Fraction {
            secret: f64,
        }
        #[derive(Serialize)]
        struct Numbered {
            map: BTreeMap<u8, u8>,
        }
        let error = JsonItem::of("fraction", &Fraction { secret: 1.5 }).err().unwrap();
        assert_eq!(error, StoreError::Corrupt("fraction cannot be written as an item".to_owned()));
        JsonItem::of("a map", &BTreeMap::from([("name", "value")])).err().unwrap();
        JsonItem::of("numbered", &Numbered { map: [(7, 7)].into() }).err().unwrap();
    }
}
