//! `Idempotency-Key` and `X-Idempotency-Key`: bare, or a quoted string of RFC 8941.
//!
//! Input: the two values, each on a line of its own; a line that is not there is a header that is not sent.

use holdfast_app::idempotency::{IdempotencyKey, MAX_KEY_CHARS};
use holdfast_app::problem::ProblemCode;

use super::MARKER;

pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (standard, alternative) = (lines.next(), lines.next());
    let expected = match (standard.map(key_of), alternative.map(key_of)) {
        (Some(None), _) | (_, Some(None)) => Err(ProblemCode::InvalidIdempotencyKey),
        (Some(Some(one)), Some(Some(other))) if one != other => Err(ProblemCode::IdempotencyKeyConflict),
        (one, other) => Ok(one.flatten().or(other.flatten())),
    };
    let found = IdempotencyKey::from_headers(standard, alternative);
    match (found, expected) {
        (Ok(found), Ok(expected)) => {
            assert_eq!(found.is_some(), expected.is_some());
            if let Some(key) = expected {
                // Both spellings of the key that was meant are the key that was read.
                let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
                assert_eq!(IdempotencyKey::from_headers(None, Some(&quoted)).expect("a key"), found);
                if !key.starts_with('"') {
                    assert_eq!(IdempotencyKey::from_headers(Some(&key), None).expect("a key"), found);
                }
            }
        }
        (Err(problem), Err(code)) => {
            assert_eq!((problem.code, problem.code.status()), (code, 400));
            assert!(!problem.body("/", "r").to_string().contains(MARKER), "a key is repeated");
        }
        (found, expected) => panic!("{text:?} is {found:?}, and should be {expected:?}"),
    }
}

/// The key of a header's value, read by the grammar alone (RFC 8941, section 3.3.3).
fn key_of(value: &str) -> Option<String> {
    let value = value.trim_matches([' ', '\t']);
    let key = match value.strip_prefix('"') {
        None => value.to_owned(),
        Some(rest) => {
            let inner = rest.strip_suffix('"')?;
            let mut key = String::new();
            let mut is_escaped = false;
            for character in inner.chars() {
                match character {
                    '"' | '\\' if is_escaped => key.push(character),
                    _ if is_escaped => return None,
                    '\\' => {
                        is_escaped = true;
                        continue;
                    }
                    '"' => return None,
                    ' '..='~' => key.push(character),
                    _ => return None,
                }
                is_escaped = false;
            }
            (!is_escaped).then_some(key)?
        }
    };
    let is_key = (1..=MAX_KEY_CHARS).contains(&key.len())
        && key.chars().all(|character| ('!'..='~').contains(&character));
    is_key.then_some(key)
}
