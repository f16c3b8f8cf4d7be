//! What is remembered of a location: when it may be shown, what it comes to after what was booked since, and how
//! an answer becomes part of it.

use std::borrow::Cow;
use std::time::Duration;

use holdfast_domain::{OpenSlot, ProviderId, Slot, Timestamp, Window, Zone, open_after};
use tokio::time::timeout;

use crate::ports::{AvailabilityStore, KnownAvailability, Place, Remembered, StoreError};

/// How old what is shown from memory may be, in milliseconds: 15 minutes, less than this.
pub const MAX_AGE_MS: u64 = 15 * 60 * 1_000;

/// How far the clocks of two workers may be apart, in milliseconds.
const MAX_LEAD_MS: u64 = 5_000;

/// How far back slots that changed hands are looked for, in milliseconds: a little further than anything that
/// is shown is old.
const CHANGES_MARGIN_MS: u64 = 60 * 1_000;

/// How long a booking waits for what is remembered of its slot.
const WORD_LIMIT: Duration = Duration::from_millis(250);

/// How many days are remembered: those that may be asked for, and one more, so that they are there until the next
/// answer when another day has begun.
const REMEMBERED_DAYS: u32 = super::wish::MAX_DAYS + 1;

/// The time that is remembered of a location, as it is at `now`.
pub(crate) fn remembered_window(zone: &Zone, now: Timestamp) -> Window {
    zone.days(zone.date_at(now), REMEMBERED_DAYS)
}

/// All that is remembered of a place and may be shown at `now`. What cannot be read counts as nothing, so that it is
/// replaced by what is said next.
pub(crate) async fn recall(
    store: &impl AvailabilityStore,
    place: &Place,
    now: Timestamp,
) -> Result<Remembered, StoreError> {
    match store.read(place, changes_since(now)).await {
        Err(StoreError::Corrupt(what)) => {
            let (provider_id, location_id) = (&place.provider_id, &place.location_id);
            tracing::error!(
                provider.id = %provider_id, location.id = location_id, what,
                "What is remembered of a location's availability cannot be read."
            );
            Ok(Remembered::default())
        }
        read => read,
    }
}

/// From when on slots that changed hands have to be known for what is shown at `now`.
fn changes_since(now: Timestamp) -> Timestamp {
    now.minus_ms(MAX_AGE_MS + CHANGES_MARGIN_MS)
}

impl KnownAvailability {
    /// Whether it is young enough to be shown without asking.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        // Of a time that lies ahead, by a clock gone wrong, nobody knows how old it is.
        self.as_of <= now.plus_ms(MAX_LEAD_MS) && self.as_of.ms_until(now) < MAX_AGE_MS
    }
}

impl Remembered {
    /// What is remembered, if it is young enough to be shown.
    pub(crate) fn fresh(&self, now: Timestamp) -> Option<&KnownAvailability> {
        self.availability.as_ref().filter(|known| known.is_fresh(now))
    }
}

/// Whether what was said is what is known, but for what has begun since.
fn says_the_same(known: &KnownAvailability, said: &KnownAvailability) -> bool {
    let is_ahead = |slot: &&OpenSlot| slot.start > said.as_of;
    known.zone == said.zone
        && known.window == said.window
        && known.slots.iter().filter(is_ahead).eq(said.slots.iter().filter(is_ahead))
}

/// Remembers an answer. If it says what is known already, that costs one small write.
pub(crate) async fn learn(
    store: &impl AvailabilityStore,
    place: &Place,
    known: Option<&KnownAvailability>,
    said: &KnownAvailability,
) -> Result<Learned, StoreError> {
    match known {
        Some(known) if says_the_same(known, said) => {
            store.confirm(place, known.content_id(), said.as_of).await?;
            Ok(Learned::Same)
        }
        Some(_) | None => {
            store.replace(place, said).await?;
            Ok(Learned::Changed)
        }
    }
}

/// What an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Nothing new.
    Same,
    /// Something else than before.
    Changed,
}

/// The slots of `known` within `window` that can still be booked at `now`.
pub(crate) fn shown<'a>(
    known: &'a KnownAvailability,
    remembered: &Remembered,
    window: Window,
    now: Timestamp,
    is_exclusive: bool,
) -> Cow<'a, [OpenSlot]> {
    let open = open_after(&known.slots, known.as_of, &remembered.changes, is_exclusive);
    let is_shown = |slot: &OpenSlot| slot.start > now && window.has(slot.start);
    match open {
        Cow::Borrowed(slots) => {
            // They are in the order of their beginnings.
            let first = slots.partition_point(|slot| slot.start <= now || slot.start < window.from);
            let end = slots.partition_point(|slot| slot.start < window.to);
            Cow::Borrowed(slots.get(first..end.max(first)).unwrap_or_default())
        }
        Cow::Owned(mut slots) => {
            slots.retain(is_shown);
            Cow::Owned(slots)
        }
    }
}

/// What is known of a slot that is to be booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotWord {
    /// Nothing, or nothing young enough.
    Unknown,
    /// It can be booked.
    Open,
    /// It cannot.
    Gone,
}

/// What is known of a slot at a provider of which so many units are wanted. Nothing, if it takes too long to find
/// out: what is remembered is a help.
pub async fn slot_word(
    store: &impl AvailabilityStore,
    provider_id: &ProviderId,
    slot: &Slot,
    units: u32,
    now: Timestamp,
    is_exclusive: bool,
) -> SlotWord {
    let place = Place { provider_id: provider_id.clone(), location_id: slot.location_id.clone() };
    match timeout(WORD_LIMIT, recall(store, &place, now)).await {
        Ok(Ok(remembered)) => word_on(&remembered, slot, units, now, is_exclusive),
        Ok(Err(error)) => {
            tracing::warn!(provider.id = %provider_id, %error, "Availability cannot be read for a booking.");
            SlotWord::Unknown
        }
        Err(_) => {
            tracing::warn!(provider.id = %provider_id, "Reading availability for a booking took too long.");
            SlotWord::Unknown
        }
    }
}

/// What is known of a slot of which so many units are wanted.
fn word_on(remembered: &Remembered, slot: &Slot, units: u32, now: Timestamp, is_exclusive: bool) -> SlotWord {
    let Some(known) = remembered.fresh(now).filter(|known| known.window.has(slot.start)) else {
        return SlotWord::Unknown;
    };
    let open = open_after(&known.slots, known.as_of, &remembered.changes, is_exclusive);
    let is_open = open.iter().any(|open| open.offers(slot) && open.has_room_for(units));
    if is_open { SlotWord::Open } else { SlotWord::Gone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::open_slot;

    fn at(ms: u64) -> Timestamp {
        Timestamp::EPOCH.plus_ms(1_800_000_000_000 + ms)
    }

    fn known(as_of: Timestamp, starts: &[u64]) -> KnownAvailability {
        let slots = starts.iter().map(|start| open_slot(at(*start))).collect();
        KnownAvailability { as_of, window: Window { from: at(0), to: at(100_000) }, zone: Zone::utc(), slots }
    }

    /// The oldest answer that is shown, and what clocks may differ: sixteen minutes.
    #[test]
    fn what_happened_to_slots_is_read_since_the_oldest_answer_and_a_minute_more() {
        assert_eq!(changes_since(at(0)), at(0).minus_ms(16 * 60_000));
    }

    #[test]
    fn what_begins_at_the_moment_of_an_answer_is_no_part_of_it_any_more() {
        let before = known(at(0), &[5, 10]);
        assert!(says_the_same(&before, &known(at(5), &[10])));
        assert!(!says_the_same(&before, &known(at(4), &[10])));
    }

    #[test]
    fn what_is_shown_has_not_begun_and_lies_within_the_window() {
        let known = known(at(0), &[10, 20, 30, 40]);
        let window = Window { from: at(20), to: at(40) };
        let shown_at = |now, changes: Vec<holdfast_domain::SlotChange>| -> Vec<Timestamp> {
            let remembered = Remembered { changes, ..Remembered::default() };
            shown(&known, &remembered, window, now, false).iter().map(|slot| slot.start).collect()
        };
        // Of a slot elsewhere in time, so that what is open has to be worked out.
        let far_away = holdfast_domain::SlotChange {
            booking_id: holdfast_domain::BookingId::from_bytes([1; 16]),
            version: 1,
            at: at(1),
            slot: Slot {
                location_id: "main".to_owned(),
                start: at(90_000),
                end: at(90_001),
                resource_id: None,
                service_id: None,
            },
            units: 1,
            hold: holdfast_domain::Hold::Claimed,
            settles: false,
        };
        for changes in [Vec::new(), vec![far_away]] {
            assert_eq!(shown_at(at(5), changes.clone()), [at(20), at(30)], "the first and not the end");
            assert_eq!(shown_at(at(19), changes.clone()), [at(20), at(30)]);
            assert_eq!(shown_at(at(20), changes.clone()), [at(30)], "it has begun");
        }
    }
}
