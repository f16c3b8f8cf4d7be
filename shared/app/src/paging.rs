//! Lists that are read a page at a time: their cursors, their limits, and what is wrong with their parameters.
//!
//! A cursor says where the next page begins and nothing else. It keeps no secret and opens nothing, since
//! whose list is read is decided by the caller's key: one that is made up with care is a place like any other.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use crate::problem::{FieldError, Problem, ProblemCode};

/// The form of cursors. A cursor of another form is refused.
const CURSOR_FORM: u8 = 1;

/// The bytes of a cursor's check: enough that no accident passes it.
const CHECK_BYTES: usize = 8;

/// The cursors of one list: form, check and place, in base64url. A cursor of another list, with other filters,
/// or one that was altered, is none of them.
#[derive(Clone, Debug)]
pub(crate) struct Cursors {
    list: Sha256,
}

impl Cursors {
    /// The cursors of the list that these fields tell from all others: its kind, whose it is, its filters.
    pub(crate) fn of(fields: &[Option<&str>]) -> Self {
        let mut list = Sha256::new();
        for field in fields {
            // Presence and length come first, so that no two lists of fields have the same bytes.
            list.update([u8::from(field.is_some())]);
            let field = field.unwrap_or_default();
            list.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            list.update(field.as_bytes());
        }
        Self { list }
    }

    /// The cursor of a place.
    pub(crate) fn cursor(&self, place: &str) -> String {
        let mut bytes = vec![CURSOR_FORM];
        bytes.extend(self.check(place));
        bytes.extend(place.as_bytes());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The place of a cursor; `None` if it is none of this list.
    pub(crate) fn place(&self, cursor: &str) -> Option<String> {
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
        let (form, rest) = bytes.split_first()?;
        let (check, place) = rest.split_at_checked(CHECK_BYTES)?;
        let place = std::str::from_utf8(place).ok()?;
        (*form == CURSOR_FORM && check == self.check(place)).then(|| place.to_owned())
    }

    fn check(&self, place: &str) -> [u8; CHECK_BYTES] {
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&self.list.clone().chain_update(place).finalize()[..CHECK_BYTES]);
        check
    }
}

/// How many entries a page has: what was asked for, from 1 to `most`, or `usual`. `None`, with an error that
/// names the parameter, if it is none of these.
pub(crate) fn read_limit(
    errors: &mut Vec<FieldError>,
    asked: Option<&str>,
    usual: usize,
    most: usize,
) -> Option<usize> {
    let limit =
        asked.map_or(Some(usual), |text| text.parse().ok().filter(|limit| (1..=most).contains(limit)));
    if limit.is_none() {
        errors.push(FieldError::new("limit", format!("must be a whole number from 1 to {most}")));
    }
    limit
}

/// The problem that names every parameter at fault.
pub(crate) fn invalid_parameters(errors: Vec<FieldError>) -> Problem {
    let faults: Vec<String> =
        errors.iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect();
    Problem::new(ProblemCode::InvalidParameter, format!("{}.", faults.join("; "))).with_errors(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_alone() {
        let list = Cursors::of(&[Some("a"), None, Some("b")]);
        let cursor = list.cursor("17/x");
        assert_eq!(list.place(&cursor).as_deref(), Some("17/x"));
        for fields in
            [&[Some("a"), Some(""), Some("b")][..], &[Some("ab"), None, Some("")], &[Some("a"), None]]
        {
            assert_eq!(Cursors::of(fields).place(&cursor), None, "{fields:?}");
        }
    }

    #[test]
    fn an_altered_cursor_is_none() {
        let list = Cursors::of(&[Some("list")]);
        let bytes = BASE64URL_NOPAD.decode(list.cursor("7").as_bytes()).unwrap();
        for position in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[position] ^= 1;
            assert_eq!(list.place(&BASE64URL_NOPAD.encode(&altered)), None);
            assert_eq!(list.place(&BASE64URL_NOPAD.encode(&bytes[..position])), None);
        }
        for text in ["", "!", "äöü"] {
            assert_eq!(list.place(text), None);
        }
    }
}
