//! Points in time, to the millisecond, in UTC. Nothing here reads a clock.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The last representable instant: the end of the year 9999, the largest that RFC 3339 can write.
const MAX_UNIX_MS: i64 = 253_402_300_799_999;

/// A point in time: milliseconds since the Unix epoch, within the years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text or number is not a [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not of the form that RFC 3339, section 5.6 gives.
    #[error("not an RFC 3339 date-time such as 2027-01-15T09:00:00Z")]
    Malformed,
    /// Before 1970 or after 9999.
    #[error("outside the years 1970 to 9999")]
    OutOfRange,
}

impl Timestamp {
    /// The Unix epoch, the earliest timestamp.
    pub const EPOCH: Self = Self(0);

    /// Takes milliseconds since the Unix epoch.
    pub fn from_unix_ms(unix_ms: i64) -> Result<Self, TimestampError> {
        if (0..=MAX_UNIX_MS).contains(&unix_ms) { Ok(Self(unix_ms)) } else { Err(TimestampError::OutOfRange) }
    }

    /// Milliseconds since the Unix epoch.
    pub fn as_unix_ms(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 date-time with any offset. Fractions beyond milliseconds are cut off.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimestampError> {
        // RFC 3339 requires the full form with an offset; jiff also reads other ISO 8601 forms and
        // bracketed zones, which a strict API refuses.
        let bytes = text.as_bytes();
        let plain = bytes.len() >= "2027-01-15T09:00:00Z".len()
            && matches!(bytes[10], b'T' | b't')
            && bytes[4] == b'-'
            && bytes[13] == b':'
            && bytes.iter().all(|byte| byte.is_ascii_digit() || b"-:.+TtZz".contains(byte));
        if !plain {
            return Err(TimestampError::Malformed);
        }
        let parsed: jiff::Timestamp = text.parse().map_err(|_| TimestampError::Malformed)?;
        Self::from_unix_ms(parsed.as_millisecond())
    }

    /// This time plus a duration in milliseconds; stops at the last representable instant.
    #[must_use]
    pub fn plus_ms(self, duration_ms: u64) -> Self {
        let duration_ms = i64::try_from(duration_ms).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(duration_ms).min(MAX_UNIX_MS))
    }

    /// This time minus a duration in milliseconds; stops at the epoch.
    #[must_use]
    pub fn minus_ms(self, duration_ms: u64) -> Self {
        let duration_ms = i64::try_from(duration_ms).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(duration_ms).max(0))
    }

    /// Milliseconds from this time until `later`; zero if `later` is not later.
    pub fn ms_until(self, later: Self) -> u64 {
        u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC. Whole seconds are written without a fraction, others with three digits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        if self.0 % 1000 == 0 {
            write!(formatter, "{timestamp:.0}")
        } else {
            write!(formatter, "{timestamp:.3}")
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_offsets_and_fractions_and_writes_utc() {
        let parsed = Timestamp::parse_rfc3339("2027-01-15T10:00:00.5+01:00").unwrap();
        assert_eq!(parsed.to_string(), "2027-01-15T09:00:00.500Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2027-01-15T09:00:00Z").unwrap().to_string(),
            "2027-01-15T09:00:00Z"
        );
    }

    #[test]
    fn refuses_what_rfc_3339_does_not_know() {
        for text in [
            "",
            "2027-01-15",
            "2027-01-15T09:00:00",
            "2027-01-15 09:00:00Z",
            "2027-02-30T09:00:00Z",
            "2027-01-15T09:00:00+01:00[Europe/Rome]",
            "tomorrow, around nine o'clock",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(Timestamp::parse_rfc3339(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(unix_ms in 0..=MAX_UNIX_MS) {
            let timestamp = Timestamp::from_unix_ms(unix_ms).unwrap();
            prop_assert_eq!(Timestamp::parse_rfc3339(&timestamp.to_string()), Ok(timestamp));
        }

        #[test]
        fn parsing_is_total(text in "\\PC{0,40}") {
            let _outcome = Timestamp::parse_rfc3339(&text);
        }
    }
}
