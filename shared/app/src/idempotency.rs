//! The caller's idempotency key: its header, its body's fingerprint, its retention.

use holdfast_domain::{BookingId, OperationKind, Tenant};
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

use crate::problem::{FieldError, Problem, ProblemCode};
use crate::stored::{Fingerprint, OperationKey};

/// For how long a key stands for its first request, in milliseconds: 14 days from first use.
pub const KEY_RETENTION_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// The longest key, in characters.
pub const MAX_KEY_CHARS: usize = 255;

/// The most generations of a key that are looked through. A generation begins at the earliest 14 days
/// after the one before, and a booking's item is gone long before there are so many.
pub const MAX_GENERATIONS: u32 = 512;

/// The longest that a repetition waits for the first request, in seconds.
pub const MAX_PREFER_WAIT_S: u64 = 10;

/// Up to here every whole number is one of the doubles, which is how RFC 8785 writes numbers: 2^53.
const MAX_EXACT: u64 = 1 << 53;

/// Room for the canonical form of most bodies, in bytes.
const USUAL_BODY_BYTES: usize = 1_024;

const HEADER: &str = "Idempotency-Key";
const ALTERNATIVE_HEADER: &str = "X-Idempotency-Key";

/// A valid idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

fn invalid(header: &str, detail: &str) -> Problem {
    let error = FieldError::new(header, detail);
    Problem::new(ProblemCode::InvalidIdempotencyKey, format!("{header}: {detail}")).with_errors(vec![error])
}

impl IdempotencyKey {
    /// Reads a header's value: bare, or a quoted string (RFC 8941, section 3.3.3).
    pub fn parse(header: &str, value: &str) -> Result<Self, Problem> {
        let value = value.trim_matches(|character| character == ' ' || character == '\t');
        let key = if value.starts_with('"') { unquote(header, value)? } else { value.to_owned() };
        if key.is_empty() {
            return Err(invalid(header, "the key is empty"));
        }
        if let Some(position) = key.bytes().position(|byte| !byte.is_ascii_graphic()) {
            let detail = format!("character {} is not a visible ASCII character", position + 1);
            return Err(invalid(header, &detail));
        }
        if key.len() > MAX_KEY_CHARS {
            let detail = format!("the key has {} characters; at most {MAX_KEY_CHARS} are allowed", key.len());
            return Err(invalid(header, &detail));
        }
        Ok(Self(key))
    }

    /// Reads the key of a request from the values of its two possible headers.
    pub fn from_headers(standard: Option<&str>, alternative: Option<&str>) -> Result<Option<Self>, Problem> {
        let standard = standard.map(|value| Self::parse(HEADER, value)).transpose()?;
        let alternative = alternative.map(|value| Self::parse(ALTERNATIVE_HEADER, value)).transpose()?;
        match (standard, alternative) {
            (Some(one), Some(other)) if one != other => Err(Problem::new(
                ProblemCode::IdempotencyKeyConflict,
                format!("{HEADER} and {ALTERNATIVE_HEADER} are both present and differ."),
            )),
            (standard, alternative) => Ok(standard.or(alternative)),
        }
    }

    /// What this key stands for within a booking, for the operation of this name.
    pub fn operation_key(&self, operation: OperationKind) -> OperationKey {
        let mut hasher = Sha256::new();
        for field in ["holdfast/operation-key", operation.as_str(), &self.0] {
            hasher.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(field);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize()[..16]);
        OperationKey(key)
    }

    /// The booking that this key makes in its given generation.
    pub fn booking_id(&self, tenant: &Tenant, generation: u32) -> BookingId {
        BookingId::derived(tenant, &self.0, generation)
    }
}

/// The string inside quotes, its escapes undone.
fn unquote(header: &str, value: &str) -> Result<String, Problem> {
    let malformed =
        || invalid(header, "the value begins with a quotation mark but is not a quoted string (RFC 8941)");
    let mut key = String::with_capacity(value.len());
    let mut characters = value.chars().skip(1);
    loop {
        match characters.next().ok_or_else(malformed)? {
            '"' => break,
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                _ => return Err(malformed()),
            },
            character => key.push(character),
        }
    }
    if characters.next().is_some() { Err(malformed()) } else { Ok(key) }
}

/// The fingerprint of a body: two bodies that say the same in JSON have the same (RFC 8785).
pub fn fingerprint(body: &Value) -> Result<Fingerprint, serde_json::Error> {
    let mut canonical = Vec::with_capacity(USUAL_BODY_BYTES);
    if !write_canonical(body, &mut canonical)? {
        canonical = serde_json_canonicalizer::to_vec(body)?;
    }
    Ok(Fingerprint(Sha256::digest(&canonical).into()))
}

/// Writes the canonical form of what nearly every body is made of, for which `serde_json` needs a fraction of the time:
/// its strings are written as they are, as are whole numbers that a double holds; only members have to be sorted. Returns
/// false, and leaves the form to the library, where there is more to it: a number that is not whole or is larger, or a
/// name that is not ASCII, by which UTF-16 is sorted otherwise than UTF-8.
fn write_canonical(value: &Value, canonical: &mut Vec<u8>) -> Result<bool, serde_json::Error> {
    match value {
        Value::Number(number) if !is_whole(number) => return Ok(false),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            serde_json::to_writer(canonical, value)?;
        }
        Value::Array(elements) => {
            let mut separator = b'[';
            for element in elements {
                canonical.push(separator);
                if !write_canonical(element, canonical)? {
                    return Ok(false);
                }
                separator = b',';
            }
            canonical.extend_from_slice(if elements.is_empty() { b"[]" } else { b"]" });
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            let mut separator = b'{';
            for (name, value) in &members {
                canonical.push(separator);
                serde_json::to_writer(&mut *canonical, name)?;
                canonical.push(b':');
                if !name.is_ascii() || !write_canonical(value, canonical)? {
                    return Ok(false);
                }
                separator = b',';
            }
            canonical.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        }
    }
    Ok(true)
}

/// Whether a number is whole, and small enough to be exact as a double (RFC 8785, section 3.2.2.3).
fn is_whole(number: &Number) -> bool {
    let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    magnitude.is_some_and(|magnitude| magnitude <= MAX_EXACT)
}

/// How long a request wants to wait, from a `Prefer` header (RFC 7240, section 4.3), in seconds, at most
/// [`MAX_PREFER_WAIT_S`]. What cannot be read is ignored, as the RFC says.
pub fn preferred_wait_s(prefer: Option<&str>) -> Option<u64> {
    prefer?
        .split(',')
        .filter_map(|preference| preference.split(';').next()?.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse::<u64>().ok())
        .map(|seconds| seconds.min(MAX_PREFER_WAIT_S))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn key(standard: Option<&str>, alternative: Option<&str>) -> Result<Option<IdempotencyKey>, ProblemCode> {
        IdempotencyKey::from_headers(standard, alternative).map_err(|problem| problem.code)
    }

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        assert_eq!(key(Some("abc"), None), key(Some("\"abc\""), None));
        assert_eq!(key(Some("\"abc\""), Some("abc")), key(Some("abc"), None));
        assert_eq!(key(Some(r#""a\"b\\c""#), None).unwrap().unwrap().0, r#"a"b\c"#);
        assert_eq!(key(None, None), Ok(None));
    }

    #[test]
    fn what_surrounds_a_key_is_no_part_of_it() {
        for around in [" k", "k ", "\tk\t", " \t k"] {
            assert_eq!(key(Some(around), None), key(Some("k"), None), "{around:?}");
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let long = "k".repeat(MAX_KEY_CHARS + 1);
        for value in ["", "\"\"", "a b", "\"a", "\"a\"b", r#""a\x""#, "ä", "a\u{7f}", long.as_str()] {
            assert_eq!(key(Some(value), None), Err(ProblemCode::InvalidIdempotencyKey), "{value}");
        }
        assert!(key(Some(&"k".repeat(MAX_KEY_CHARS)), None).is_ok());
        assert_eq!(key(Some("a"), Some("b")), Err(ProblemCode::IdempotencyKeyConflict));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let numbers = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-3_i64..4).prop_map(|offset| Value::from((1_i64 << 53) + offset)),
            (-3_i64..4).prop_map(|offset| Value::from(offset - (1_i64 << 53))),
        ];
        let leaves = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            numbers,
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x7f]{0,20}".prop_map(Value::from),
        ];
        // Of the last two, UTF-8 and UTF-16 have another one first.
        let names = prop_oneof!["[a-c\"\\\\]{0,3}", "[\\x00-\\x7f]{0,4}", "[a\u{e000}\u{10000}]{1,2}"];
        leaves.prop_recursive(4, 60, 6, move |inner| {
            let members = proptest::collection::vec((names.clone(), inner.clone()), 0..6);
            prop_oneof![
                proptest::collection::vec(inner, 0..6).prop_map(Value::from),
                members.prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_here_is_what_the_library_writes(body in any_json()) {
            let mut canonical = Vec::new();
            if write_canonical(&body, &mut canonical).unwrap() {
                let by_the_library = serde_json_canonicalizer::to_vec(&body).unwrap();
                prop_assert_eq!(String::from_utf8(canonical), String::from_utf8(by_the_library));
            }
        }
    }

    #[test]
    fn an_ordinary_body_is_written_here() {
        let body =
            json!({"slot": {"start": "2027-01-15T09:00:00Z", "units": [1, -2]}, "notes": "é", "hold": false});
        assert!(write_canonical(&body, &mut Vec::new()).unwrap());
        for odd in [json!({"é": 1}), json!([0.5]), json!({"a": [u64::MAX]})] {
            assert!(!write_canonical(&odd, &mut Vec::new()).unwrap(), "{odd}");
        }
    }

    #[test]
    fn a_fingerprint_ignores_order_and_spelling_alone() {
        let one = fingerprint(&serde_json::from_str(r#"{"a": 1.0, "b": "\u0041"}"#).unwrap()).unwrap();
        assert_eq!(one, fingerprint(&json!({"b": "A", "a": 1})).unwrap());
        assert_ne!(one, fingerprint(&json!({"b": "A", "a": 2})).unwrap());
    }

    #[test]
    fn prefer_is_read_leniently() {
        assert_eq!(preferred_wait_s(Some("respond-async, wait=3")), Some(3));
        assert_eq!(preferred_wait_s(Some("wait=99")), Some(MAX_PREFER_WAIT_S));
        assert_eq!(preferred_wait_s(Some("wait=soon")), None);
        assert_eq!(preferred_wait_s(None), None);
    }
}
