//! Identifiers. Each is a type of its own with one fallible constructor, so that none is mistaken for
//! another and none holds a character that could break a key, a URL or a log line.

use std::fmt;

use data_encoding::BASE32_DNSSEC;
use sha2::{Digest, Sha256};

/// The longest name that an administrator may give to a consumer or provider, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// The longest name of a location, in characters.
pub const MAX_LOCATION_ID_CHARS: usize = 128;

/// Bytes of a hash or UUID that an identifier shows: 128 bits.
const ID_BYTES: usize = 16;

/// Characters that [`ID_BYTES`] take in base 32.
const ID_CHARS: usize = 26;

/// The scope of a create's idempotency key besides the consumer: method and path.
const CREATE_SCOPE: &str = "POST /v1/bookings";

/// Why a text is not an identifier of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Wrong prefix, length or alphabet of a generated identifier.
    #[error("not an identifier of this kind")]
    Malformed,
    /// A name that an administrator chose has a form that is not allowed.
    #[error("must be 1 to 64 characters of a-z, 0-9 and '-', beginning with a letter or digit")]
    Name,
    /// A location has a name of a form that is not allowed.
    #[error("must be 1 to 128 characters of A-Z, a-z, 0-9, '-', '.', '_', '~', ':' and '@'")]
    Location,
}

fn digest(purpose: &str, fields: &[&[u8]]) -> [u8; ID_BYTES] {
    let mut hasher = Sha256::new();
    // Each field is preceded by its length, so that no two lists of fields have the same bytes.
    for field in std::iter::once(&purpose.as_bytes()).chain(fields) {
        hasher.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(field);
    }
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&hasher.finalize()[..ID_BYTES]);
    id
}

macro_rules! generated_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// What every identifier of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an identifier of 128 bits, which the caller took from a hash, a UUID or the
            /// system's random numbers.
            pub fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
                Self(format!("{}{}", $prefix, BASE32_DNSSEC.encode(&bytes)))
            }

            /// Reads the text form.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let encoded = text.strip_prefix($prefix).ok_or(IdError::Malformed)?;
                if encoded.len() != ID_CHARS || BASE32_DNSSEC.decode(encoded.as_bytes()).is_err() {
                    return Err(IdError::Malformed);
                }
                // The decoder reads upper case as well; one identifier has one spelling.
                if encoded.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(IdError::Malformed);
                }
                Ok(Self(text.to_owned()))
            }

            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

generated_id!(
    /// A booking: `bkg_` and 26 characters. With an idempotency key it is derived from the key, so that
    /// a repeated request lands on the same item; without one it is made of a `UUIDv7`.
    BookingId,
    "bkg_"
);
generated_id!(
    /// An event: `evt_` and 26 characters, derived from subject, version and type, so that it is the
    /// same however often the event is emitted.
    EventId,
    "evt_"
);
generated_id!(
    /// A webhook endpoint of a consumer: `whe_` and 26 characters.
    WebhookEndpointId,
    "whe_"
);
generated_id!(
    /// The public part of an API key, by which it is found: `k` and 26 characters.
    KeyId,
    "k"
);

impl BookingId {
    /// The identifier of the booking that a consumer's idempotency key makes: a hash of the scope, the
    /// tenant, the key and the generation. The generation counts how often the key was used afresh
    /// after its retention had passed.
    pub fn derived(tenant: &Tenant, idempotency_key: &str, generation: u32) -> Self {
        Self::from_bytes(digest(
            "holdfast/booking-id",
            &[
                CREATE_SCOPE.as_bytes(),
                tenant.mode.as_str().as_bytes(),
                tenant.consumer_id.as_str().as_bytes(),
                idempotency_key.as_bytes(),
                &generation.to_be_bytes(),
            ],
        ))
    }
}

impl EventId {
    /// The identifier of the event of `event_type` about `version` of `subject`.
    pub fn derived(subject: &str, version: u32, event_type: &str) -> Self {
        Self::from_bytes(digest(
            "holdfast/event-id",
            &[subject.as_bytes(), &version.to_be_bytes(), event_type.as_bytes()],
        ))
    }
}

macro_rules! chosen_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Reads a name of 1 to [`MAX_NAME_CHARS`] characters of `a-z`, `0-9` and `-` that does not
            /// begin with `-`.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                if text.is_empty()
                    || text.len() > MAX_NAME_CHARS
                    || text.starts_with('-')
                    || !text.bytes().all(allowed)
                {
                    return Err(IdError::Name);
                }
                Ok(Self(text.to_owned()))
            }

            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

chosen_name!(
    /// A consumer: a marketplace or app that books. The administrator chooses the name.
    ConsumerId
);
chosen_name!(
    /// A provider: a clinic, laboratory or tour supplier that is booked. The administrator chooses the name.
    ProviderId
);

/// A provider's location, under the provider's own name for it. Only names that need no escaping in a URL and
/// can stand in a comma-separated list can be configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocationId(String);

impl LocationId {
    /// Reads a name of 1 to [`MAX_LOCATION_ID_CHARS`] characters that are unreserved in URLs (RFC 3986, section
    /// 2.3), `:` or `@`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
        if text.is_empty() || text.len() > MAX_LOCATION_ID_CHARS || !text.bytes().all(allowed) {
            return Err(IdError::Location);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether something is real or a trial. Test keys see test bookings and reach test providers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Real bookings.
    Live,
    /// Trial bookings.
    Test,
}

impl Mode {
    /// The text form, `live` or `test`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "live" => Some(Self::Live),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// Who owns a booking: a consumer in one mode. It is taken from the verified key alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant {
    /// The consumer.
    pub consumer_id: ConsumerId,
    /// Live and test bookings of one consumer never meet.
    pub mode: Mode,
}

impl Tenant {
    /// Reads the text form, `<mode>:<consumer id>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (mode, consumer_id) = text.split_once(':')?;
        Some(Self { mode: Mode::parse(mode)?, consumer_id: ConsumerId::parse(consumer_id).ok()? })
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.mode.as_str(), self.consumer_id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str, mode: Mode) -> Tenant {
        Tenant { consumer_id: ConsumerId::parse(name).unwrap(), mode }
    }

    #[test]
    fn a_derived_id_depends_on_every_part_and_nothing_else() {
        let base = BookingId::derived(&tenant("a", Mode::Live), "key", 0);
        assert_eq!(base, BookingId::derived(&tenant("a", Mode::Live), "key", 0));
        for other in [
            BookingId::derived(&tenant("b", Mode::Live), "key", 0),
            BookingId::derived(&tenant("a", Mode::Test), "key", 0),
            BookingId::derived(&tenant("a", Mode::Live), "kez", 0),
            BookingId::derived(&tenant("a", Mode::Live), "key", 1),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn fields_do_not_run_together() {
        assert_ne!(digest("p", &[b"ab", b"c"]), digest("p", &[b"a", b"bc"]));
        assert_ne!(digest("p", &[b"ab"]), digest("p", &[b"ab", b""]));
    }

    #[test]
    fn a_location_has_a_name_of_at_most_so_many_characters_that_need_no_escaping() {
        let longest = "l".repeat(MAX_LOCATION_ID_CHARS);
        for name in ["a", "Main-Street_2.~:@", &longest] {
            assert_eq!(LocationId::parse(name).map(|id| id.to_string()).as_deref(), Ok(name));
        }
        for name in ["", "a,b", "a b", "a/b", "\u{e9}", &format!("{longest}l")] {
            assert_eq!(LocationId::parse(name), Err(IdError::Location), "{name}");
        }
    }

    #[test]
    fn tenants_survive_their_text() {
        let tenant = tenant("demo-marketplace", Mode::Test);
        assert_eq!(Tenant::parse(&tenant.to_string()), Some(tenant));
        assert_eq!(Tenant::parse("demo"), None);
        assert_eq!(Tenant::parse("fake:demo"), None);
    }

    proptest! {
        #[test]
        fn ids_survive_their_text(bytes in any::<[u8; 16]>()) {
            let id = BookingId::from_bytes(bytes);
            prop_assert_eq!(BookingId::parse(id.as_str()), Ok(id));
        }

        #[test]
        fn parsing_is_total_and_strict(text in "\\PC{0,40}") {
            if let Ok(id) = BookingId::parse(&text) {
                prop_assert_eq!(id.as_str(), text.as_str());
            }
            if let Ok(name) = ProviderId::parse(&text) {
                prop_assert_eq!(name.as_str(), text.as_str());
            }
        }
    }
}
