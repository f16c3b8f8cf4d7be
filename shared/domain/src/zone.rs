//! Local time: the days of a place, whatever its clocks do.
//!
//! The rules come with the program (the IANA database in `jiff`), so that a function knows them wherever it
//! runs. Nothing here reads a clock.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as Instant};

use crate::Timestamp;

/// A text is not the name of a time zone of the IANA database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the name of a time zone of the IANA database, such as Europe/Rome")]
pub struct ZoneError;

/// A text is not a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a date of the form YYYY-MM-DD")]
pub struct DateError;

/// The longest name of a time zone, in bytes; the longest in the database has 30.
const MAX_NAME_BYTES: usize = 64;

/// The bytes of a date.
const DATE_BYTES: usize = "2027-01-15".len();

/// A time zone of the IANA database.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl fmt::Debug for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Zone({})", self.name)
    }
}

impl Zone {
    /// Coordinated Universal Time.
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    /// Finds a zone by its name, in any case.
    pub fn parse(name: &str) -> Result<Self, ZoneError> {
        if name.len() > MAX_NAME_BYTES {
            return Err(ZoneError);
        }
        let rules = TimeZone::get(name).map_err(|_| ZoneError)?;
        // One that says that nothing is known of a place is no use for telling its days.
        let name = rules.iana_name().filter(|_| !rules.is_unknown()).ok_or(ZoneError)?.to_owned();
        Ok(Self { name, rules })
    }

    /// Its name, as the database spells it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which day it is there at a moment.
    pub fn date_at(&self, at: Timestamp) -> LocalDate {
        let at = Instant::from_millisecond(at.as_unix_ms()).unwrap_or(Instant::UNIX_EPOCH);
        LocalDate(at.to_zoned(self.rules.clone()).date())
    }

    /// When a day begins there: at midnight or, where the clocks skip midnight, at the first moment after it.
    pub fn start_of(&self, date: LocalDate) -> Timestamp {
        let start = date.0.to_zoned(self.rules.clone()).map(|zoned| zoned.timestamp().as_millisecond());
        start.ok().and_then(|unix_ms| Timestamp::from_unix_ms(unix_ms).ok()).unwrap_or(Timestamp::EPOCH)
    }

    /// So many whole days there, beginning with `first`.
    pub fn days(&self, first: LocalDate, days: u32) -> Window {
        Window { from: self.start_of(first), to: self.start_of(first.plus_days(days)) }
    }
}

/// A day, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalDate(Date);

impl LocalDate {
    /// Reads `YYYY-MM-DD` (RFC 3339, section 5.6: `full-date`), and nothing else.
    pub fn parse(text: &str) -> Result<Self, DateError> {
        let is_digit_or_dash = |byte: u8| byte.is_ascii_digit() || byte == b'-';
        if text.len() != DATE_BYTES || !text.bytes().all(is_digit_or_dash) {
            return Err(DateError);
        }
        let date: Date = text.parse().map_err(|_| DateError)?;
        if date.year() < 1970 { Err(DateError) } else { Ok(Self(date)) }
    }

    /// The day so many days later; the last day of the year 9999 if that would be later still.
    #[must_use]
    pub fn plus_days(self, days: u32) -> Self {
        Self(self.0.saturating_add(Span::new().days(days)))
    }

    /// The day before.
    #[must_use]
    pub fn yesterday(self) -> Self {
        Self(self.0.yesterday().unwrap_or(self.0))
    }
}

impl fmt::Display for LocalDate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl fmt::Debug for LocalDate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A stretch of time: from a moment to another, which does not belong to it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
}

impl Window {
    /// Whether a moment belongs to it.
    pub fn has(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }

    /// Whether all of `other` that is still ahead at `now` belongs to it.
    pub fn covers_ahead(&self, other: &Self, now: Timestamp) -> bool {
        self.from <= other.from.max(now) && other.to <= self.to
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn date(text: &str) -> LocalDate {
        LocalDate::parse(text).unwrap()
    }

    #[test]
    fn zones_are_those_of_the_database() {
        assert_eq!(Zone::parse("europe/rome").unwrap().name(), "Europe/Rome");
        assert_eq!(Zone::parse("UTC").unwrap(), Zone::utc());
        for odd in ["", "Rome", "CET+1", "Europe/Rome ", "+01:00", "Etc/Unknown", &"x".repeat(65)] {
            assert_eq!(Zone::parse(odd).map(|zone| zone.name().to_owned()), Err(ZoneError), "{odd}");
        }
    }

    #[test]
    fn a_day_is_as_long_as_the_clocks_say() {
        let rome = Zone::parse("Europe/Rome").unwrap();
        let hours = |day: &str| {
            let window = rome.days(date(day), 1);
            window.from.ms_until(window.to) / 3_600_000
        };
        assert_eq!((hours("2027-03-27"), hours("2027-03-28"), hours("2027-10-31")), (24, 23, 25));
        assert_eq!(rome.start_of(date("2027-03-29")), at("2027-03-28T22:00:00Z"));
        assert_eq!(rome.start_of(date("2027-03-28")), at("2027-03-27T23:00:00Z"));
        assert_eq!(rome.date_at(at("2027-03-28T21:59:59Z")), date("2027-03-28"));
        assert_eq!(rome.date_at(at("2027-03-28T22:00:00Z")), date("2027-03-29"));
    }

    #[test]
    fn a_day_without_a_midnight_begins_after_it() {
        // In 2024 the clocks of Cairo went from 00:00 to 01:00 on April 26.
        let cairo = Zone::parse("Africa/Cairo").unwrap();
        assert_eq!(cairo.start_of(date("2024-04-26")), at("2024-04-25T22:00:00Z"));
        assert_eq!(cairo.date_at(at("2024-04-25T22:00:00Z")), date("2024-04-26"));
        assert_eq!(cairo.date_at(at("2024-04-25T21:59:59Z")), date("2024-04-25"));
    }

    #[test]
    fn dates_have_one_form() {
        assert_eq!(date("2028-02-28").plus_days(2), date("2028-03-01"));
        assert_eq!(date("2027-01-01").yesterday().to_string(), "2026-12-31");
        for odd in ["", "2027-1-15", "2027-02-30", "20270115", "2027-01-15T00", "1969-12-31", "-02027-01-1"] {
            assert_eq!(LocalDate::parse(odd), Err(DateError), "{odd}");
        }
        assert_eq!(date("9999-12-31").plus_days(5), date("9999-12-31"));
        assert_eq!(date("1970-01-01").to_string(), "1970-01-01", "the first");
    }

    proptest! {
        #[test]
        fn every_moment_is_in_its_own_day(
            unix_ms in 0..4_000_000_000_000_i64,
            name in prop::sample::select(vec![
                "Europe/Rome", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo",
                "America/St_Johns", "Australia/Lord_Howe", "Pacific/Kiritimati", "UTC",
            ]),
        ) {
            let (zone, at) = (Zone::parse(name).unwrap(), Timestamp::from_unix_ms(unix_ms).unwrap());
            let today = zone.date_at(at);
            // A place east of Greenwich has moments before its first whole day.
            prop_assume!(LocalDate::parse(&today.to_string()).is_ok());
            let day = zone.days(today, 1);
            prop_assert!(day.has(at), "{at} is not in {today:?} of {name}: {day:?}");
            prop_assert_eq!(zone.days(today, 21).to, zone.start_of(today.plus_days(21)));
        }
    }
}
