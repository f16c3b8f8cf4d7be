//! What a consumer wants to know: the query of `GET /v1/availability`.

use std::collections::BTreeSet;

use holdfast_domain::{LocalDate, LocationId, ProviderId, Timestamp, Window, Zone};

use crate::paging::invalid_parameters;
use crate::problem::{FieldError, Problem};

/// The most locations that one answer shows.
pub const MAX_LOCATIONS: usize = 50;

/// The most days that one answer shows.
pub const MAX_DAYS: u32 = 21;

/// How many days are shown unless asked otherwise.
pub const DEFAULT_DAYS: u32 = 7;

/// How far ahead the first day may be, in days: slots can be booked two years ahead.
const MAX_DAYS_AHEAD: u32 = 2 * 366;

/// The query's parameters, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct AvailabilityParameters<'a> {
    /// `provider_id`
    pub provider_id: Option<&'a str>,
    /// `location_ids`, separated by commas.
    pub location_ids: Option<&'a str>,
    /// `start_date`
    pub start_date: Option<&'a str>,
    /// `days`
    pub days: Option<&'a str>,
    /// `allow_stale`
    pub allow_stale: Option<&'a str>,
}

impl AvailabilityParameters<'_> {
    /// The parameters' names.
    pub const NAMES: [&'static str; 5] = ["provider_id", "location_ids", "start_date", "days", "allow_stale"];
}

/// A query that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidAvailability {
    /// Whose slots.
    pub provider_id: ProviderId,
    /// Where, in the order in which they were asked for; none twice.
    pub location_ids: Vec<LocationId>,
    /// The first day, wherever the location is; `None`: its today.
    pub first_day: Option<LocalDate>,
    /// How many days.
    pub days: u32,
    /// Whether an answer may be up to 15 minutes old.
    pub allow_stale: bool,
}

impl ValidAvailability {
    /// The time that is asked about at a location.
    pub fn window(&self, zone: &Zone, now: Timestamp) -> Window {
        zone.days(self.first_day.unwrap_or_else(|| zone.date_at(now)), self.days)
    }
}

/// Reads the query. Every parameter at fault is named.
pub fn read_availability(
    wanted: &AvailabilityParameters<'_>,
    now: Timestamp,
) -> Result<ValidAvailability, Problem> {
    let mut errors = Vec::new();
    let provider_id = read(&mut errors, "provider_id", wanted.provider_id, |text| {
        ProviderId::parse(text).map_err(|error| error.to_string())
    });
    let location_ids = read(&mut errors, "location_ids", wanted.location_ids, read_location_ids);
    let first_day = wanted
        .start_date
        .and_then(|text| read(&mut errors, "start_date", Some(text), |text| read_first_day(text, now)));
    let days = wanted.days.map_or(Some(DEFAULT_DAYS), |text| {
        read(&mut errors, "days", Some(text), |text| {
            let days = text.parse().ok().filter(|days| (1..=MAX_DAYS).contains(days));
            days.ok_or_else(|| format!("must be a whole number from 1 to {MAX_DAYS}"))
        })
    });
    let allow_stale = wanted.allow_stale.map_or(Some(false), |text| {
        read(&mut errors, "allow_stale", Some(text), |text| {
            text.parse().map_err(|_| "must be true or false".to_owned())
        })
    });
    match (provider_id, location_ids, days, allow_stale) {
        (Some(provider_id), Some(location_ids), Some(days), Some(allow_stale)) if errors.is_empty() => {
            Ok(ValidAvailability { provider_id, location_ids, first_day, days, allow_stale })
        }
        _ => Err(invalid_parameters(errors)),
    }
}

fn read<T>(
    errors: &mut Vec<FieldError>,
    name: &str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let value = text.filter(|text| !text.is_empty()).ok_or_else(|| "is required".to_owned());
    value.and_then(parse).map_err(|detail| errors.push(FieldError::new(name, detail))).ok()
}

fn read_location_ids(text: &str) -> Result<Vec<LocationId>, String> {
    let names: Vec<&str> = text.split(',').collect();
    if names.len() > MAX_LOCATIONS {
        return Err(format!("names {} locations; at most {MAX_LOCATIONS} are allowed", names.len()));
    }
    let ids: Result<Vec<LocationId>, _> = names.into_iter().map(LocationId::parse).collect();
    let ids = ids.map_err(|error| format!("must be locations separated by commas; each {error}"))?;
    let distinct: BTreeSet<&LocationId> = ids.iter().collect();
    if distinct.len() < ids.len() {
        return Err("must not name a location twice".to_owned());
    }
    Ok(ids)
}

/// A first day that has not passed anywhere yet.
fn read_first_day(text: &str, now: Timestamp) -> Result<LocalDate, String> {
    let date = LocalDate::parse(text).map_err(|error| error.to_string())?;
    let today = Zone::utc().date_at(now);
    // Somewhere it may still be yesterday.
    if date < today.yesterday() {
        return Err(format!("is in the past: it is {today} now"));
    }
    if date > today.plus_days(MAX_DAYS_AHEAD) {
        return Err("is more than two years ahead".to_owned());
    }
    Ok(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: AvailabilityParameters<'static> = AvailabilityParameters {
        provider_id: Some("clinic"),
        location_ids: Some("main"),
        start_date: None,
        days: None,
        allow_stale: None,
    };

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2027-01-15T08:00:00Z").unwrap()
    }

    fn at_fault(wanted: &AvailabilityParameters<'_>) -> Vec<String> {
        let problem = read_availability(wanted, now()).unwrap_err();
        assert_eq!(problem.code.status(), 400);
        problem.errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let valid = read_availability(&WANTED, now()).unwrap();
        assert_eq!((valid.days, valid.allow_stale, valid.first_day), (DEFAULT_DAYS, false, None));
        let rome = Zone::parse("Europe/Rome").unwrap();
        let window = valid.window(&rome, now());
        assert_eq!(window.from.to_string(), "2027-01-14T23:00:00Z");
        assert_eq!(window.from.ms_until(window.to), 7 * 24 * 3_600_000);
    }

    #[test]
    fn each_parameter_at_fault_is_named() {
        let nothing = AvailabilityParameters::default();
        assert_eq!(at_fault(&nothing), ["provider_id", "location_ids"]);
        let wrong = AvailabilityParameters {
            provider_id: Some("The Clinic"),
            location_ids: Some("a,,b"),
            start_date: Some("tomorrow"),
            days: Some("22"),
            allow_stale: Some("yes"),
        };
        assert_eq!(at_fault(&wrong), AvailabilityParameters::NAMES);
        let many = vec!["l"; 51].join(",");
        for ids in ["", "a,a", "a b", many.as_str()] {
            let wanted = AvailabilityParameters { location_ids: Some(ids), ..WANTED };
            assert_eq!(at_fault(&wanted), ["location_ids"], "{ids}");
        }
        for date in ["2027-01-13", "2029-01-18", "2027-02-30"] {
            let wanted = AvailabilityParameters { start_date: Some(date), ..WANTED };
            assert_eq!(at_fault(&wanted), ["start_date"], "{date}");
        }
        for days in ["0", "-1", "1.5", ""] {
            assert_eq!(at_fault(&AvailabilityParameters { days: Some(days), ..WANTED }), ["days"]);
        }
    }

    #[test]
    fn a_first_day_is_at_most_two_years_ahead() {
        let today = Zone::utc().date_at(now());
        let read = |days| read_first_day(&today.plus_days(days).to_string(), now());
        assert!(read(2 * 366).is_ok());
        assert!(read(2 * 366 + 1).is_err());
    }

    #[test]
    fn fifty_locations_and_21_days_from_yesterday_on_can_be_asked_for() {
        let ids: Vec<String> = (0..MAX_LOCATIONS).map(|number| format!("l{number}")).collect();
        let ids = ids.join(",");
        let wanted = AvailabilityParameters {
            location_ids: Some(&ids),
            start_date: Some("2027-01-14"),
            days: Some("21"),
            allow_stale: Some("true"),
            ..WANTED
        };
        let valid = read_availability(&wanted, now()).unwrap();
        assert_eq!((valid.location_ids.len(), valid.days, valid.allow_stale), (50, 21, true));
    }
}
