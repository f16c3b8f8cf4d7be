//! Bodies of requests, from JSON to types, with every field error at once.
//!
//! Serde stops at the first error. Here the value at fault is replaced by one that fits and the rest is
//! read on, so that a caller learns of everything that is wrong in one answer. What comes out of a body
//! with errors is used for further checks alone: [`Parsed::finish`] gives it away only if there are none.
//!
//! Nothing here reads bytes (the functions do), and no message repeats a value of the body, since values
//! may be personal data.

mod message;
mod node;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::Segment;

use crate::problem::{FieldError, Problem, ProblemCode};
use message::{Fault, fault_of};
use node::{Node, UnknownFields};

/// The most field errors that one answer names.
pub const MAX_FIELD_ERRORS: usize = 32;

/// How often a body is repaired and read on: a made-up object may lack fields of its own, which are made
/// up in turn.
const MAX_REPAIRS: usize = 4 * MAX_FIELD_ERRORS;

/// The longest pointer that an answer repeats, in bytes; unknown fields can have any name.
pub const MAX_POINTER_BYTES: usize = 256;

/// What may stand in for a value of the wrong kind, so that the rest of the body can be read. The first
/// that fits is taken.
fn stand_ins() -> [Value; 7] {
    [json!(null), json!("2000-01-01T00:00:00Z"), json!(1), json!(false), json!([]), json!({}), json!("x")]
}

/// Reads a body into a type. Unknown fields are refused if the type says `deny_unknown_fields`; an array
/// is never taken for an object.
pub fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    parse_checked(value)?.finish()
}

/// Reads a body into a type and leaves room for further checks, whose errors are told together with
/// those of the form. A problem at once only if nothing can stand in for what is wrong.
pub fn parse_checked<T: DeserializeOwned>(value: &Value) -> Result<Parsed<T>, Problem> {
    let mut errors = FieldErrors::default();
    let mut repaired = value.clone();
    for _ in 0..MAX_REPAIRS {
        let (pointer, fault) = match attempt::<T>(&repaired, UnknownFields::AsTyped) {
            Ok(value) => return Ok(Parsed { value, errors }),
            Err(failure) => failure,
        };
        errors.push(pointer.text(), fault.detail());
        if errors.is_full() || !repair::<T>(&mut repaired, &pointer, &fault) {
            break;
        }
    }
    Err(errors.into_problem())
}

/// Reads what somebody else answered. Fields that the type does not have are read over, since whoever answers
/// may know more than is asked for. Nobody corrects an answer by its errors, so that the first has to do.
pub fn parse_answer<T: DeserializeOwned>(value: &Value) -> Result<T, FieldError> {
    attempt(value, UnknownFields::ReadOver)
        .map_err(|(pointer, fault)| FieldError::new(pointer.text(), fault.detail()))
}

/// A value that was read, together with what is wrong with it.
#[derive(Debug)]
pub struct Parsed<T> {
    value: T,
    /// Collects what further checks find.
    pub errors: FieldErrors,
}

impl<T> Parsed<T> {
    /// Takes it apart for further checks. While `errors` is not empty, some of the value is made up.
    pub fn into_parts(self) -> (T, FieldErrors) {
        (self.value, self.errors)
    }

    /// The value, or a problem that names every error.
    pub fn finish(self) -> Result<T, Problem> {
        self.errors.finish()?;
        Ok(self.value)
    }
}

/// Field errors, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Adds an error, unless this place or one above or below it is named already: what is wrong there
    /// may follow from the other. Beyond [`MAX_FIELD_ERRORS`] nothing is added.
    pub fn push(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        let pointer = pointer.into();
        let is_within =
            |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        let is_known = self.0.iter().any(|known| {
            known.pointer == pointer
                || is_within(&known.pointer, &pointer)
                || is_within(&pointer, &known.pointer)
        });
        if !is_known && !self.is_full() {
            self.0.push(FieldError::new(pointer, detail));
        }
    }

    /// The errors so far.
    pub fn as_slice(&self) -> &[FieldError] {
        &self.0
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A problem if anything is wrong.
    pub fn finish(self) -> Result<(), Problem> {
        if self.is_empty() { Ok(()) } else { Err(self.into_problem()) }
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MAX_FIELD_ERRORS
    }

    /// The error that was found first, for whoever cannot tell of more than one.
    pub(crate) fn into_first(self) -> FieldError {
        self.0.into_iter().next().unwrap_or_else(|| FieldError::new("", "is not valid"))
    }

    pub(crate) fn into_problem(self) -> Problem {
        let detail = match self.0.as_slice() {
            [only] if only.pointer.is_empty() => format!("The body {}.", only.detail),
            [only] => format!("{} {}.", only.pointer, only.detail),
            several => format!("{} fields are not valid; the errors name them.", several.len()),
        };
        Problem::new(ProblemCode::InvalidRequest, detail).with_errors(self.0)
    }
}

/// A place in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pointer(Vec<Step>);

/// One step towards it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
}

impl Pointer {
    fn text(&self) -> String {
        let mut text = self.0.iter().fold(String::new(), |text, step| match step {
            Step::Field(name) => text + "/" + &escape(name),
            Step::Item(index) => format!("{text}/{index}"),
        });
        if text.len() > MAX_POINTER_BYTES {
            let end = (0..=MAX_POINTER_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
        }
        text
    }
}

/// A field's name as a step of a JSON pointer (RFC 6901, section 3).
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn attempt<T: DeserializeOwned>(value: &Value, unknown: UnknownFields) -> Result<T, (Pointer, Fault)> {
    serde_path_to_error::deserialize(Node { value, unknown }).map_err(|error| {
        let mut steps: Vec<Step> = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                Segment::Seq { index } => Some(Step::Item(*index)),
                Segment::Map { key } => Some(Step::Field(key.clone())),
                Segment::Enum { .. } | Segment::Unknown => None,
            })
            .collect();
        let fault = fault_of(&error.inner().to_string());
        if let Fault::Missing { field } = &fault {
            steps.push(Step::Field(field.clone()));
        }
        (Pointer(steps), fault)
    })
}

/// Makes the value at `pointer` one that can be read. Returns whether that was possible.
fn repair<T: DeserializeOwned>(body: &mut Value, pointer: &Pointer, fault: &Fault) -> bool {
    if matches!(fault, Fault::Unknown { .. }) {
        return remove(body, pointer);
    }
    for stand_in in stand_ins() {
        if !replace(body, pointer, stand_in) {
            return false;
        }
        let next = attempt::<T>(body, UnknownFields::AsTyped);
        let is_wrong_still = next.is_err_and(|(next, _)| next == *pointer);
        if !is_wrong_still {
            return true;
        }
    }
    false
}

fn parent_of<'a>(body: &'a mut Value, pointer: &Pointer) -> Option<(&'a mut Value, Step)> {
    let (last, above) = pointer.0.split_last()?;
    let parent = above.iter().try_fold(body, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Item(index) => value.get_mut(index),
    })?;
    Some((parent, last.clone()))
}

fn remove(body: &mut Value, pointer: &Pointer) -> bool {
    match parent_of(body, pointer) {
        Some((Value::Object(fields), Step::Field(name))) => fields.remove(&name).is_some(),
        _ => false,
    }
}

fn replace(body: &mut Value, pointer: &Pointer, stand_in: Value) -> bool {
    match parent_of(body, pointer) {
        Some((Value::Object(fields), Step::Field(name))) => {
            fields.insert(name, stand_in);
            true
        }
        Some((Value::Array(items), Step::Item(index))) => {
            items.get_mut(index).map(|item| *item = stand_in).is_some()
        }
        // A body that is no object at all has nothing more to say.
        _ => false,
    }
}

#[cfg(test)]
mod tests;
