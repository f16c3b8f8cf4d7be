//! Points in time, to the millisecond, in UTC. Nothing here reads a clock.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The last representable instant: the end of the year 9999, the largest that RFC 3339 can write.
const MAX_UNIX_MS: i64 = 253_402_300_799_999;

/// The Unix epoch on the calendar.
const CIVIL_EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// The form of a date-time before its fraction and offset (RFC 3339, section 5.6); `0` stands for any digit.
const FORM: &str = "0000-00-00T00:00:00";

/// The end of a minute that has one second more.
const LEAP_SECOND: &str = ":60";

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

    /// Reads an RFC 3339 date-time with any offset. Fractions beyond milliseconds are cut off, and a leap second,
    /// which only the last minute of a day in UTC can have, is taken for the second before it.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimestampError> {
        let Parts { date_time, is_leap_second, fraction_ms, offset_s } =
            Parts::of(text).ok_or(TimestampError::Malformed)?;
        let local_s = date_time.duration_since(CIVIL_EPOCH).as_secs();
        let unix_s = local_s - i64::from(offset_s);
        if is_leap_second && unix_s.rem_euclid(DAY_S) != DAY_S - 1 {
            return Err(TimestampError::Malformed);
        }
        Self::from_unix_ms(unix_s * 1_000 + i64::from(fraction_ms))
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

/// A date-time of the form that RFC 3339, section 5.6 gives, in parts.
struct Parts {
    /// Without fraction and offset; a leap second as the second before it.
    date_time: DateTime,
    is_leap_second: bool,
    fraction_ms: u16,
    /// Seconds that the place is ahead of UTC.
    offset_s: i32,
}

impl Parts {
    fn of(text: &str) -> Option<Self> {
        let (date_time, rest) = text.split_at_checked(FORM.len())?;
        if !has_form(date_time) {
            return None;
        }
        let is_leap_second = date_time.ends_with(LEAP_SECOND);
        let (fraction_ms, offset) = fraction(rest)?;
        let offset_s = offset_s(offset)?;
        Some(Self { date_time: date_time.parse().ok()?, is_leap_second, fraction_ms, offset_s })
    }
}

fn has_form(date_time: &str) -> bool {
    date_time.bytes().zip(FORM.bytes()).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte.eq_ignore_ascii_case(&form),
    })
}

/// A number written in digits alone.
fn digits<N: FromStr>(text: &str) -> Option<N> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// The milliseconds of a fraction of a second, if there is one, and what follows.
fn fraction(text: &str) -> Option<(u16, &str)> {
    let Some(text) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (digits_of_it, rest) = text.split_at_checked(end)?;
    let milliseconds: String = digits_of_it.chars().chain("00".chars()).take(3).collect();
    (!digits_of_it.is_empty()).then(|| digits(&milliseconds)).flatten().map(|ms| (ms, rest))
}

/// The seconds of an offset: `Z` or `+hh:mm`.
fn offset_s(text: &str) -> Option<i32> {
    if text.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let (sign, text) = text.split_at_checked(1)?;
    let (hours, minutes) = text.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let hours: i32 = digits(hours).filter(|hours| *hours < 24)?;
    let minutes: i32 = digits(minutes).filter(|minutes| *minutes < 60)?;
    let offset_s = (hours * 60 + minutes) * 60;
    match sign {
        "+" => Some(offset_s),
        "-" => Some(-offset_s),
        _ => None,
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC. Whole seconds are written without a fraction, others with three digits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not by jiff's own timestamps, which end a day before the calendar does.
        let since_epoch = SignedDuration::from_millis(self.0);
        let date_time = CIVIL_EPOCH.checked_add(since_epoch).map_err(|_| fmt::Error)?;
        if self.0 % 1000 == 0 {
            write!(formatter, "{date_time:.0}Z")
        } else {
            write!(formatter, "{date_time:.3}Z")
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
            "-000001-01-01T00:00:00Z",
            "+010000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "2027-00-15T09:00:00Z",
            "2027-13-15T09:00:00Z",
            "2027-02-29T09:00:00Z",
            "2027-01-15T24:00:00Z",
            "2027-01-15T09:60:00Z",
            "2027-01-15T09:00Z",
            "2027-01-15T09:00:61Z",
            "2027-01-15T09:00:60Z",
            "2027-01-15T23:59:60+01:00",
            "2027-01-15T09:00:00.Z",
            "2027-01-15T09:00:00,5Z",
            "2027-01-15T09:00:00.5",
            "2027-01-15T09:00:00+01",
            "2027-01-15T09:00:00+0100",
            "2027-01-15T09:00:00+24:00",
            "2027-01-15T09:00:00+01:60",
            "2027-01-15T09:00:00+01:00:30",
            "2027-01-15T09:00:00 +01:00",
            "2027-01-15T09:00:00ZZ",
            "2027-01-15T09:00:00\u{2212}01:00",
            "２027-01-15T09:00:00Z",
            "2027-01-15T09:00:00Z\0",
            " 2027-01-15T09:00:00Z",
        ] {
            assert!(Timestamp::parse_rfc3339(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_form_that_rfc_3339_knows_is_read() {
        for (text, utc) in [
            ("2027-01-15t09:00:00z", "2027-01-15T09:00:00Z"),
            ("2027-01-15T09:00:00-00:00", "2027-01-15T09:00:00Z"),
            ("2027-01-15T09:00:00+23:59", "2027-01-14T09:01:00Z"),
            ("2027-01-15T09:00:00-23:59", "2027-01-16T08:59:00Z"),
            ("2027-01-15T09:00:00.1Z", "2027-01-15T09:00:00.100Z"),
            ("2027-01-15T09:00:00.0019999999999999999999999999999999Z", "2027-01-15T09:00:00.001Z"),
            ("2028-02-29T09:00:00Z", "2028-02-29T09:00:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("2016-12-31T15:59:60.5-08:00", "2016-12-31T23:59:59.500Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("1969-12-31T23:00:00-01:00", "1970-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text).unwrap().to_string(), utc, "{text}");
        }
    }

    #[test]
    fn the_years_end_where_they_are_said_to() {
        let last = Timestamp::from_unix_ms(MAX_UNIX_MS).unwrap();
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::EPOCH.plus_ms(u64::MAX), last);
        assert!(Timestamp::from_unix_ms(MAX_UNIX_MS + 1).is_err());
        for text in ["0000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-00:01"] {
            assert_eq!(Timestamp::parse_rfc3339(text), Err(TimestampError::OutOfRange), "{text}");
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
