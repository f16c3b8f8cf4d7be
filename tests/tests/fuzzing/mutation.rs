//! What becomes of an input: bytes that are lost, changed or mixed up, and JSON that is not what was meant.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// How deep what is nested deeply is: more than the 128 levels that are read.
const DEEP_LEVELS: usize = 200;

/// The characters of a text that is longer than any may be.
const LONG_CHARS: usize = 5_000;

/// Stands for a text of JSON that no value can be written as.
const PLACE: &str = "@raw@";

/// One change of an input.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Flip(Index, u8),
    Truncate(Index),
    Insert(Index, Vec<u8>),
    /// The rest of another seed from a place on.
    Splice(Index, Index, Index),
    /// Of the JSON from a place on, one value.
    Json(Index, Index, JsonEdit),
}

/// One change of a value in JSON.
#[derive(Clone, Debug)]
pub(crate) enum JsonEdit {
    /// Its text is this one.
    Replace(String),
    Remove,
    /// Its object has a member more.
    Extra(String),
    /// Its object has this member twice.
    Duplicate,
}

/// What nobody means.
fn odd_values() -> Vec<String> {
    let mut values: Vec<String> = [
        "null",
        "true",
        "\"\"",
        "\" \"",
        "0",
        "-1",
        "1.5",
        "1e999",
        "-0",
        "18446744073709551616",
        "9223372036854775807",
        "4294967296",
        "[]",
        "{}",
        "[null]",
        r#""\ud800""#,
        r#""\u0000""#,
        r#""\u007f""#,
        r#""\n""#,
        r#""zq7x""#,
        r#""2027-02-30T09:00:00Z""#,
        r#""2027-01-15T09:00:00+23:59""#,
        r#""9999-12-31T23:59:59.999Z""#,
        r#""-000001-01-01T00:00:00Z""#,
        r#""2027-01-15T09:00:60Z""#,
    ]
    .map(str::to_owned)
    .into();
    values.push(format!("\"{}\"", "x".repeat(LONG_CHARS)));
    values.push("[".repeat(DEEP_LEVELS) + &"]".repeat(DEEP_LEVELS));
    values.push(r#"{"a":"#.repeat(DEEP_LEVELS) + "1" + &"}".repeat(DEEP_LEVELS));
    values
}

/// Any change.
pub(crate) fn any_mutation() -> impl Strategy<Value = Mutation> {
    let edit = prop_oneof![
        4 => select(odd_values()).prop_map(JsonEdit::Replace),
        2 => Just(JsonEdit::Remove),
        1 => select(vec!["x", "zq7x", "a/b~c", "", "\u{0}", "constructor"])
            .prop_map(|name| JsonEdit::Extra(name.to_owned())),
        1 => Just(JsonEdit::Duplicate),
    ];
    let few = prop::collection::vec(any::<u8>(), 1..8);
    prop_oneof![
        2 => (any::<Index>(), 1_u8..).prop_map(|(place, bits)| Mutation::Flip(place, bits)),
        1 => any::<Index>().prop_map(Mutation::Truncate),
        1 => (any::<Index>(), few).prop_map(|(place, bytes)| Mutation::Insert(place, bytes)),
        1 => any::<(Index, Index, Index)>().prop_map(|(other, from, at)| Mutation::Splice(other, from, at)),
        6 => (any::<Index>(), any::<Index>(), edit).prop_map(|(at, which, edit)| Mutation::Json(at, which, edit)),
    ]
}

/// The input after a change.
pub(crate) fn mutated(input: &[u8], mutation: &Mutation, seeds: &[Vec<u8>]) -> Vec<u8> {
    let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
    let mut changed = input.to_vec();
    match mutation {
        Mutation::Flip(at, bits) => {
            if let Some(byte) = changed.get_mut(place(at, input)) {
                *byte ^= bits;
            }
        }
        Mutation::Truncate(at) => changed.truncate(place(at, input)),
        Mutation::Insert(at, bytes) => {
            let at = place(at, input);
            changed.splice(at..at, bytes.iter().copied());
        }
        Mutation::Splice(other, from, at) => {
            let other = other.get(seeds);
            changed.truncate(place(at, input));
            changed.extend_from_slice(&other[place(from, other)..]);
        }
        Mutation::Json(at, which, edit) => {
            return edited(input, place(at, input), *which, edit).unwrap_or(changed);
        }
    }
    changed
}

/// The input with a change of the JSON that begins at a place or later, or else earlier; `None` if there is none.
fn edited(input: &[u8], from: usize, which: Index, edit: &JsonEdit) -> Option<Vec<u8>> {
    let begins = |at: &usize| matches!(input[*at], b'{' | b'[');
    let parsed = |at: usize| {
        let mut values = serde_json::Deserializer::from_slice(&input[at..]).into_iter::<Value>();
        let value = values.next()?.ok()?;
        Some((at, at + values.byte_offset(), value))
    };
    let (begin, end, mut value) = (from..input.len()).chain(0..from).filter(begins).find_map(parsed)?;
    let mut pointers = Vec::new();
    collect(&value, String::new(), &mut pointers);
    let raw = apply(&mut value, &pointers[which.index(pointers.len())], edit);
    let text = value.to_string().replace(&format!("\"{PLACE}\""), &raw);
    Some([&input[..begin], text.as_bytes(), &input[end..]].concat())
}

fn collect(value: &Value, pointer: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect(value, format!("{pointer}/{name}"), pointers);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{pointer}/{index}"), pointers);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    pointers.push(pointer);
}

/// Changes the value, and returns the text that stands for [`PLACE`].
fn apply(value: &mut Value, pointer: &str, edit: &JsonEdit) -> String {
    let (above, last) = pointer.rsplit_once('/').unwrap_or(("", ""));
    let last = last.replace("~1", "/").replace("~0", "~");
    match edit {
        JsonEdit::Replace(text) => {
            if let Some(value) = value.pointer_mut(pointer) {
                *value = json!(PLACE);
            }
            text.clone()
        }
        JsonEdit::Remove => {
            match value.pointer_mut(above) {
                Some(Value::Object(members)) => drop(members.remove(&last)),
                Some(Value::Array(items)) if !items.is_empty() => drop(items.pop()),
                _ => {}
            }
            String::new()
        }
        JsonEdit::Extra(name) => {
            if let Some(Value::Object(members)) = value.pointer_mut(above) {
                members.insert(name.clone(), json!("extra"));
            }
            String::new()
        }
        JsonEdit::Duplicate => {
            let Some(Value::Object(members)) = value.pointer_mut(above) else { return String::new() };
            let Some(member) = members.get(&last).cloned() else { return String::new() };
            members.insert(last.clone(), json!(PLACE));
            format!("{member},{}:{member}", json!(last))
        }
    }
}
