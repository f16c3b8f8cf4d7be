//! What serde says of an error, in the words of the API and without the value at fault.

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A field that there is no place for.
    Unknown {
        /// The fields that there are, as serde lists them.
        known: String,
    },
    /// A field that has to be there.
    Missing {
        /// Its name.
        field: String,
    },
    /// A value of the wrong kind or form; what it must be.
    Unfit(String),
}

impl Fault {
    /// The error for the caller; it continues a sentence that begins with the field's name.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Unknown { known } if known.is_empty() => "is not a known field".to_owned(),
            Self::Unknown { known } => format!("is not a known field; known are {known}"),
            Self::Missing { .. } => "is required".to_owned(),
            Self::Unfit(what) => what.clone(),
        }
    }
}

/// Reads serde's message. Its words are fixed by `serde::de::Error`'s default methods.
pub(super) fn fault_of(message: &str) -> Fault {
    let expected = message.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
    if message.starts_with("unknown field `") {
        return Fault::Unknown { known: listed(expected) };
    }
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return Fault::Missing { field: field.to_owned() };
    }
    if message.starts_with("unknown variant `") {
        return Fault::Unfit(format!("must be {}", one_of(expected)));
    }
    let of_serde = ["invalid type: ", "invalid value: ", "invalid length "];
    if of_serde.iter().any(|prefix| message.starts_with(prefix)) {
        return Fault::Unfit(format!("must be {}", kind(expected)));
    }
    Fault::Unfit(format!("is not valid: {message}"))
}

fn listed(expected: &str) -> String {
    expected.trim_start_matches("one of ").replace('`', "").replace(" or ", ", ")
}

fn one_of(expected: &str) -> String {
    let names = listed(expected);
    if names.contains(", ") { format!("one of {names}") } else { names }
}

fn kind(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => {
            "a whole number, zero or more, within the limits".to_owned()
        }
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number within the limits".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "string" | "str" => "a string".to_owned(),
        "" => "of another form".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}
