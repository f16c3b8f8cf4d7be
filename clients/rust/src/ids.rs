//! Identifiers that Holdfast gives. Each is a type of its own, so that none is mistaken for another, and
//! none holds a character that would change the path of a call.

use serde::{Deserialize, Serialize};

/// The longest identifier, in characters. Holdfast's have 30; others may follow.
pub const MAX_ID_CHARS: usize = 128;

/// A text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identifier has 1 to {MAX_ID_CHARS} characters of A-Z, a-z, 0-9, '-' and '_'")]
pub struct IdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes an identifier as Holdfast gave it.
            pub fn new(id: impl Into<String>) -> Result<Self, IdError> {
                let id = id.into();
                let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
                let is_id = (1..=MAX_ID_CHARS).contains(&id.len()) && id.bytes().all(is_part);
                if is_id { Ok(Self(id)) } else { Err(IdError) }
            }

            /// The identifier.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(id: String) -> Result<Self, IdError> {
                Self::new(id)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(id: &str) -> Result<Self, IdError> {
                Self::new(id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A booking, `bkg_…`.
    BookingId
}
id! {
    /// An event, `evt_…`. The same however often the event is told.
    EventId
}
id! {
    /// A webhook endpoint, `whe_…`.
    EndpointId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_a_path_is_no_identifier() {
        assert!(BookingId::new("bkg_06gvron0k1q3p7s0nkbcfrqa4c").is_ok());
        for wrong in ["", "..", "a/b", "a?b", "a%2fb", "a b", &"a".repeat(MAX_ID_CHARS + 1)] {
            assert_eq!(BookingId::new(wrong), Err(IdError), "{wrong}");
        }
    }
}
