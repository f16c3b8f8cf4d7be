//! Who is asked when: every location once in five minutes, spread evenly.
//!
//! Nothing is remembered for it. A provider's locations, in their order, have their moments one after the other in
//! a period of five minutes, and the period begins at another moment for each provider; every minute those are
//! planned whose moment is in the minute that begins. A minute that is planned twice asks nobody twice, since
//! whoever is asked was asked shortly before; one that is not planned at all leaves its locations with what is ten
//! minutes old when they are asked the next time.

use holdfast_domain::{LocationId, ProviderId, Timestamp};
use sha2::{Digest, Sha256};

use crate::settings::ProviderSettings;

/// How often every location is asked for, in milliseconds: every 5 minutes.
pub const REFRESH_PERIOD_MS: u64 = 5 * 60 * 1_000;

/// How long a planned stretch of time is, in milliseconds.
pub const PLANNED_MS: u64 = 60 * 1_000;

/// By how much a planned stretch of time reaches into the next, in milliseconds. Locations that come and go move their
/// neighbours a little, and one that is moved across the border would otherwise be planned in neither. One that is
/// planned twice is asked once.
const OVERLAP_MS: u64 = 1_000;

/// The part of the calls that a provider permits which asking for availability may use: one of two, so that
/// bookings find room.
const SHARE_OF_CALLS: u64 = 2;

/// How long it takes until all of a provider's locations have been asked for, in milliseconds: [`REFRESH_PERIOD_MS`],
/// or twice, four times, … as long if it permits so few calls a second that there is no other way. A period that
/// followed the number of locations would move all of them whenever one comes or goes.
pub fn period_ms(provider: &ProviderSettings, calls: usize) -> u64 {
    let calls = u64::try_from(calls).unwrap_or(u64::MAX);
    let needed_ms = provider
        .requests_per_second
        .map(|permitted| calls.saturating_mul(1_000 * SHARE_OF_CALLS).div_ceil(u64::from(permitted.max(1))));
    let mut period_ms = REFRESH_PERIOD_MS;
    while period_ms < needed_ms.unwrap_or(0) {
        period_ms = period_ms.saturating_mul(2);
    }
    period_ms
}

/// The locations of `location_ids` (in an order that stays the same) whose moment is in the [`PLANNED_MS`]
/// beginning at `from`, or a little later, with their moments. `calls` is how many calls asking for one of them takes.
pub fn due_within<'l>(
    provider: &ProviderSettings,
    location_ids: &'l [LocationId],
    calls: usize,
    from: Timestamp,
) -> Vec<(&'l LocationId, Timestamp)> {
    let period_ms = period_ms(provider, location_ids.len().saturating_mul(calls.max(1)));
    let count = u64::try_from(location_ids.len()).unwrap_or(u64::MAX).max(1);
    let from_ms = u64::try_from(from.as_unix_ms()).unwrap_or_default();
    // Where in the provider's own period the planned time begins.
    let begun_ms = from_ms.wrapping_add(offset_ms(&provider.provider_id, period_ms)) % period_ms;
    let due = (0_u64..).zip(location_ids).filter_map(|(place, location_id)| {
        let moment_ms = place.saturating_mul(period_ms) / count;
        // Both are less than the period.
        let wait_ms = (moment_ms + period_ms - begun_ms) % period_ms;
        (wait_ms < PLANNED_MS + OVERLAP_MS).then(|| (location_id, from.plus_ms(wait_ms)))
    });
    due.collect()
}

/// How far the period of a provider is shifted, in milliseconds.
fn offset_ms(provider_id: &ProviderId, period_ms: u64) -> u64 {
    let digest = Sha256::digest(provider_id.as_str());
    let mut eight = [0; 8];
    eight.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(eight) % period_ms.max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holdfast_domain::Mode;

    use super::*;

    fn provider(name: &str, requests_per_second: Option<u32>) -> ProviderSettings {
        let id = ProviderId::parse(name).unwrap();
        ProviderSettings {
            requests_per_second,
            ..ProviderSettings::usual(id, Mode::Test, "https://clinic.example")
        }
    }

    fn locations(count: usize) -> Vec<LocationId> {
        (0..count).map(|number| LocationId::parse(&format!("l{number:05}")).unwrap()).collect()
    }

    fn noon() -> Timestamp {
        Timestamp::parse_rfc3339("2027-01-15T12:00:00Z").unwrap()
    }

    /// When each location is asked for within so many minutes.
    fn moments(
        provider: &ProviderSettings,
        locations: &[LocationId],
        minutes: u64,
    ) -> BTreeMap<LocationId, Vec<Timestamp>> {
        let mut moments: BTreeMap<LocationId, Vec<Timestamp>> = BTreeMap::new();
        for minute in 0..minutes {
            let from = noon().plus_ms(minute * PLANNED_MS);
            for (id, at) in due_within(provider, locations, 1, from) {
                assert!(from <= at && at < from.plus_ms(PLANNED_MS + OVERLAP_MS));
                // What reaches into the next minute is planned there as well.
                if at < from.plus_ms(PLANNED_MS) {
                    moments.entry(id.clone()).or_default().push(at);
                }
            }
        }
        moments
    }

    #[test]
    fn a_period_is_as_long_as_half_of_the_permitted_calls_need() {
        let period = |permitted, calls| period_ms(&provider("clinic", permitted), calls);
        assert_eq!(period(None, 1_000_000), REFRESH_PERIOD_MS);
        // One call a second, of which one in two may be used: 150 in five minutes.
        assert_eq!(period(Some(1), 150), REFRESH_PERIOD_MS);
        assert_eq!(period(Some(1), 151), 2 * REFRESH_PERIOD_MS);
        assert_eq!(period(Some(1), 301), 4 * REFRESH_PERIOD_MS);
        assert_eq!(period(Some(2), 301), 2 * REFRESH_PERIOD_MS);
    }

    #[test]
    fn providers_begin_their_periods_at_different_times() {
        let offsets: Vec<u64> = (0..1_000)
            .map(|number| offset_ms(&ProviderId::parse(&format!("p{number}")).unwrap(), REFRESH_PERIOD_MS))
            .collect();
        assert!(offsets.iter().all(|offset| *offset < REFRESH_PERIOD_MS));
        // In each minute of the five about a fifth.
        for minute in 0..5 {
            let within = (minute * 60_000)..((minute + 1) * 60_000_u64);
            let count = offsets.iter().filter(|offset| within.contains(offset)).count();
            assert!((150..250).contains(&count), "{count} in minute {minute}");
        }
    }

    #[test]
    fn every_location_is_asked_for_every_five_minutes() {
        for count in [1, 2, 7, 100, 999] {
            let (provider, locations) = (provider("clinic", None), locations(count));
            let moments = moments(&provider, &locations, 60);
            assert_eq!(moments.len(), count);
            for (id, moments) in moments {
                assert_eq!(moments.len(), 12, "{id} of {count}");
                assert!(moments.windows(2).all(|pair| pair[0].ms_until(pair[1]) == REFRESH_PERIOD_MS));
            }
        }
    }

    #[test]
    fn what_is_moved_across_a_border_is_planned_all_the_same() {
        let provider = provider("clinic", None);
        let (before, after) = (locations(10_000), locations(10_000).split_off(20));
        let (from, next) = (noon(), noon().plus_ms(PLANNED_MS));
        let first = due_within(&provider, &before, 1, from);
        let second = due_within(&provider, &after, 1, next);
        let of = |due: &[(&LocationId, Timestamp)], at: Timestamp| {
            due.iter().filter(|(_, moment)| *moment >= at).map(|(id, _)| (*id).clone()).collect::<Vec<_>>()
        };
        // Those of the last second of the one minute and the first of the other are all in one of them.
        let planned = [of(&first, next.minus_ms(1_000)), of(&second, next)].concat();
        let around = due_within(&provider, &after, 1, next.minus_ms(900));
        for (id, _) in around.iter().filter(|(_, at)| *at < next.plus_ms(900)) {
            assert!(planned.contains(id), "{id}");
        }
    }

    #[test]
    fn ten_thousand_locations_are_spread_to_the_second() {
        let provider = provider("chain", None);
        let locations = locations(10_000);
        let mut by_second: BTreeMap<i64, usize> = BTreeMap::new();
        for moment in moments(&provider, &locations, 5).into_values().flatten() {
            *by_second.entry(moment.as_unix_ms() / 1_000).or_default() += 1;
        }
        assert_eq!(by_second.len(), 300);
        assert_eq!(by_second.values().sum::<usize>(), 10_000);
        assert!(by_second.values().all(|asked| (33..=34).contains(asked)), "{by_second:?}");
    }

    #[test]
    fn providers_with_one_location_are_spread_too() {
        let mut by_minute = [0_usize; 5];
        for number in 0..1_000 {
            let provider = provider(&format!("clinic-{number}"), None);
            for (minute, asked) in (0_u64..).zip(&mut by_minute) {
                let from = noon().plus_ms(minute * PLANNED_MS);
                let locations = locations(1);
                let due = due_within(&provider, &locations, 1, from).into_iter();
                *asked += due.filter(|(_, at)| *at < from.plus_ms(PLANNED_MS)).count();
            }
        }
        assert_eq!(by_minute.iter().sum::<usize>(), 1_000);
        assert!(by_minute.iter().all(|asked| (150..=250).contains(asked)), "{by_minute:?}");
    }

    #[test]
    fn a_provider_that_permits_few_calls_is_asked_as_often_as_half_of_them_allow() {
        let provider = provider("clinic", Some(2));
        let locations = locations(600);
        assert_eq!(period_ms(&provider, 600), 600_000);
        let moments = moments(&provider, &locations, 20);
        assert!(moments.values().all(|moments| moments.len() == 2));
        let mut by_second: BTreeMap<i64, usize> = BTreeMap::new();
        for moment in moments.into_values().flatten() {
            *by_second.entry(moment.as_unix_ms() / 1_000).or_default() += 1;
        }
        assert!(by_second.values().all(|asked| *asked == 1));
        assert_eq!(period_ms(&provider, 10), REFRESH_PERIOD_MS);
    }

    #[test]
    fn locations_that_come_and_go_move_the_others_a_little() {
        let provider = provider("clinic", None);
        let mut few = locations(100);
        let before = moments(&provider, &few, 5);
        few.remove(50);
        for (id, moments) in moments(&provider, &few, 10) {
            let moved = moments.iter().map(|at| at.as_unix_ms().abs_diff(before[&id][0].as_unix_ms()));
            let moved = moved.map(|ms| ms % REFRESH_PERIOD_MS).map(|ms| ms.min(REFRESH_PERIOD_MS - ms));
            assert!(moved.min().unwrap() <= REFRESH_PERIOD_MS / 99, "{id}");
        }
    }
}
