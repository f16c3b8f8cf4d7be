//! When the simulated providers are open: every day alike, weekends too, so that there is always something to book.
//!
//! The hours are those of the provider's clocks, which are so many minutes ahead of UTC the whole year round:
//! nothing here knows of time zones. What has begun already is listed as well, so that the same question has the same
//! answer until something is booked.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::ledger::SlotId;

const SECONDS_PER_MINUTE: i64 = 60;
const SECONDS_PER_HOUR: i64 = 60 * SECONDS_PER_MINUTE;
const SECONDS_PER_DAY: i64 = 24 * SECONDS_PER_HOUR;

/// How long a slot is, over every protocol, in seconds.
const LENGTH_S: i64 = 30 * SECONDS_PER_MINUTE;

/// The last hour at which a day can end.
pub(super) const MAX_HOUR: u8 = 24;

/// The most days that one question for availability may cover.
pub(super) const MAX_DAYS: i64 = 62;

/// When a provider is open, and for how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) opens_at_hour: u8,
    /// Nothing starts at this hour or later.
    pub(super) closes_at_hour: u8,
    /// How many units fit into a slot.
    pub(super) capacity: u32,
    /// From one start to the next.
    pub(super) step_minutes: u8,
    /// By how many minutes the provider's clocks are ahead of UTC.
    pub(super) utc_offset_minutes: i32,
    /// Whoever books a slot has all of it.
    pub(super) one_per_slot: bool,
}

impl Opening {
    /// Those who see one after the other, as in a clinic.
    pub(super) const APPOINTMENTS: Self = Self {
        opens_at_hour: 9,
        closes_at_hour: 17,
        capacity: 1,
        step_minutes: 30,
        utc_offset_minutes: 0,
        one_per_slot: false,
    };

    /// Those who see many at once, at any time.
    pub(super) const TOURS: Self = Self {
        opens_at_hour: 0,
        closes_at_hour: MAX_HOUR,
        capacity: 100,
        step_minutes: 15,
        utc_offset_minutes: 0,
        one_per_slot: false,
    };

    /// When slots start, from `from` until before `to`. The grid is UTC's, whatever the provider's clocks say.
    pub(super) fn starts(self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
        let step_s = i64::from(self.step_minutes) * SECONDS_PER_MINUTE;
        let is_whole = from.subsec_nanosecond() == 0;
        let from_s = from.as_second() + i64::from(!is_whole);
        let first_s = from_s + (step_s - from_s.rem_euclid(step_s)) % step_s;
        let seconds = (0..).map(move |index| first_s + index * step_s);
        let starts = seconds.map_while(|second| Timestamp::from_second(second).ok());
        starts.take_while(move |start| *start < to).filter(move |start| self.is_open_at(*start))
    }

    fn is_open_at(self, start: Timestamp) -> bool {
        let local_s = start.as_second() + i64::from(self.utc_offset_minutes) * SECONDS_PER_MINUTE;
        let hour = local_s.rem_euclid(SECONDS_PER_DAY) / SECONDS_PER_HOUR;
        (i64::from(self.opens_at_hour)..i64::from(self.closes_at_hour)).contains(&hour)
    }

    /// How many units can still be booked of a slot, given how many are.
    pub(super) fn left(self, slot: &SlotId, held: &BTreeMap<SlotId, u32>) -> u32 {
        match held.get(slot) {
            None => self.capacity,
            Some(_) if self.one_per_slot => 0,
            Some(units) => self.capacity.saturating_sub(*units),
        }
    }
}

/// When a slot ends.
pub(super) fn end_of(start: Timestamp) -> Timestamp {
    start.checked_add(SignedDuration::from_secs(LENGTH_S)).unwrap_or(Timestamp::MAX)
}
