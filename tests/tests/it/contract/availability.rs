//! What every store of availability promises to those who ask providers, those who show what is open, and those
//! who note what was booked.

use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use holdfast_app::ports::{
    AvailabilityStore, KnownAvailability, Place, RefreshState, Remembered, SLOT_CHANGES_KEPT_MS,
    SlotChangeLog,
};
use holdfast_app::test_util::MemoryAvailability;
use holdfast_domain::{
    BookingId, Hold, OpenSlot, Price, ProviderId, Slot, SlotChange, Timestamp, Window, Zone,
};

use super::fixtures::{now, provider_id};

on_both!(
    MemoryAvailability::new(), availability;
    nothing_is_known_at_first,
    what_was_said_is_read_back,
    what_was_said_later_stays,
    what_is_said_again_becomes_younger,
    what_was_said_again_of_another_content_changes_nothing,
    whoever_is_overtaken_what_is_told_was_said_then,
    failures_are_remembered_until_something_is_said,
    what_was_said_forgets_failures_before_it_in_any_order,
    changes_are_read_from_a_time_on_and_in_order,
    what_is_claimed_is_read_however_long_ago_until_it_is_settled,
    every_change_of_a_slot_survives,
    noting_again_changes_nothing,
    refreshing_leaves_changes_alone,
    what_is_forgotten_may_be_known_again,
    places_have_nothing_in_common,
    a_reader_never_sees_parts_of_two_answers,
    large_locations_are_read_back,
);

const HALF_AN_HOUR_MS: u64 = 1_800_000;
const DAY_MS: u64 = 86_400_000;

pub(crate) fn place() -> Place {
    Place { provider_id: provider_id(), location_id: "main-street".to_owned() }
}

/// A time so many seconds after the tests begin.
fn after(seconds: u64) -> Timestamp {
    now().plus_ms(seconds * 1_000)
}

pub(crate) fn slot(number: u64) -> OpenSlot {
    let start = now().plus_ms(number * HALF_AN_HOUR_MS);
    OpenSlot {
        start,
        end: start.plus_ms(HALF_AN_HOUR_MS),
        resource_id: None,
        service_id: None,
        capacity: None,
        price: None,
        availability_id: None,
    }
}

/// A slot with all there is.
fn full(number: u64) -> OpenSlot {
    OpenSlot {
        resource_id: Some("dr-grey".into()),
        service_id: Some("Żagle & słońce".into()),
        capacity: Some(u32::MAX),
        price: Some(Price { amount_minor: u64::MAX, currency: "EUR".into() }),
        availability_id: Some(format!("2026-11-21T{number}").into()),
        ..slot(number)
    }
}

pub(crate) fn said(as_of: Timestamp, slots: Vec<OpenSlot>) -> KnownAvailability {
    let window = Window { from: now().minus_ms(HALF_AN_HOUR_MS), to: now().plus_ms(22 * DAY_MS) };
    KnownAvailability { as_of, window, zone: Zone::parse("Europe/Rome").unwrap(), slots }
}

async fn read(store: &impl AvailabilityStore) -> Remembered {
    store.read(&place(), now().minus_ms(DAY_MS)).await.unwrap()
}

async fn known(store: &impl AvailabilityStore) -> Option<KnownAvailability> {
    read(store).await.availability
}

async fn replace(store: &impl AvailabilityStore, said: &KnownAvailability) {
    store.replace(&place(), said).await.unwrap();
}

async fn confirm(store: &impl AvailabilityStore, said: &KnownAvailability, as_of: Timestamp) {
    store.confirm(&place(), said.content_id(), as_of).await.unwrap();
}

fn failed(failures: u32) -> RefreshState {
    RefreshState { failures, not_before: Some(after(600 + u64::from(failures))) }
}

async fn fail(store: &impl AvailabilityStore, failures: u32, asked_at: Timestamp) {
    store.record_failure(&place(), failed(failures), asked_at).await.unwrap();
}

async fn nothing_is_known_at_first(store: &impl AvailabilityStore) {
    assert_eq!(read(store).await, Remembered::default());
    confirm(store, &said(after(1), vec![slot(1)]), after(2)).await;
    assert_eq!(read(store).await, Remembered::default(), "nothing that was said is known");
    store.forget(&place()).await.unwrap();
    assert_eq!(read(store).await, Remembered::default());
}

async fn what_was_said_is_read_back(store: &impl AvailabilityStore) {
    let odd = OpenSlot { start: now().plus_ms(1), end: now().plus_ms(DAY_MS + 7), ..full(1) };
    let free = OpenSlot { price: Some(Price { amount_minor: 0, currency: "JPY".into() }), ..slot(2) };
    let nameless = OpenSlot { resource_id: Some("".into()), capacity: Some(1), ..slot(3) };
    let answers = [
        vec![slot(1), full(1), full(2), slot(2)],
        Vec::new(),
        vec![odd, free],
        vec![nameless],
        vec![full(1), OpenSlot { service_id: None, ..full(1) }, OpenSlot { resource_id: None, ..full(2) }],
    ];
    for (seconds, slots) in (1..).zip(answers) {
        let said = said(after(seconds), slots);
        replace(store, &said).await;
        assert_eq!(known(store).await, Some(said));
    }
    // A window and a zone are part of what is said.
    let elsewhere = KnownAvailability {
        window: Window { from: Timestamp::EPOCH, to: after(1) },
        zone: Zone::utc(),
        ..said(after(60), vec![slot(1)])
    };
    replace(store, &elsewhere).await;
    assert_eq!(known(store).await, Some(elsewhere));
}

async fn what_was_said_later_stays(store: &impl AvailabilityStore) {
    let [early, late] = [said(after(1), vec![slot(1)]), said(after(2), vec![slot(2)])];
    replace(store, &late).await;
    replace(store, &early).await;
    assert_eq!(known(store).await, Some(late.clone()));
    replace(store, &late).await;
    assert_eq!(known(store).await, Some(late));
}

async fn what_is_said_again_becomes_younger(store: &impl AvailabilityStore) {
    let first = said(after(1), vec![slot(1), full(2)]);
    let at = |as_of| Some(KnownAvailability { as_of, ..first.clone() });
    replace(store, &first).await;
    confirm(store, &first, after(5)).await;
    assert_eq!(known(store).await, at(after(5)));
    // What comes late does not make it older.
    for late in [after(4), after(1), now()] {
        confirm(store, &first, late).await;
        assert_eq!(known(store).await, at(after(5)));
    }
    confirm(store, &first, after(5)).await;
    confirm(store, &first, after(6)).await;
    assert_eq!(known(store).await, at(after(6)));
    // The same may come as if it were new, and be confirmed of a time before.
    replace(store, &at(after(9)).unwrap()).await;
    confirm(store, &first, after(8)).await;
    assert_eq!(known(store).await, at(after(9)));
}

async fn what_was_said_again_of_another_content_changes_nothing(store: &impl AvailabilityStore) {
    let [old, new] = [said(after(1), vec![slot(1)]), said(after(2), vec![slot(2)])];
    replace(store, &old).await;
    confirm(store, &old, after(1)).await;
    replace(store, &new).await;
    assert_eq!(known(store).await, Some(new.clone()));
    confirm(store, &old, after(7)).await;
    assert_eq!(known(store).await, Some(new.clone()));
    confirm(store, &new, after(8)).await;
    assert_eq!(known(store).await, Some(KnownAvailability { as_of: after(8), ..new.clone() }));
    let newer = said(after(9), vec![slot(3)]);
    replace(store, &newer).await;
    assert_eq!(known(store).await, Some(newer));
}

/// Where two ask at once and hear different things, either may stay, and a time may be lost; what is told was said
/// at the time that it is told all the same.
async fn whoever_is_overtaken_what_is_told_was_said_then(store: &impl AvailabilityStore) {
    let [first, late] = [said(after(1), vec![slot(1)]), said(after(7), vec![slot(2)])];
    let first_at = |seconds| KnownAvailability { as_of: after(seconds), ..first.clone() };
    replace(store, &first).await;
    confirm(store, &first, after(5)).await;
    // It is about something that was there before.
    confirm(store, &late, after(6)).await;
    let found = known(store).await.unwrap();
    assert!(found == first_at(5) || found == first_at(1), "{found:?}");
    confirm(store, &first, after(10)).await;
    assert_eq!(known(store).await, Some(first_at(10)));
    replace(store, &late).await;
    let found = known(store).await.unwrap();
    assert!(found == first_at(10) || found == late, "{found:?}");
    // Whichever it is, the next answer settles it.
    confirm(store, &late, after(11)).await;
    let found = known(store).await.unwrap();
    let late_at = |seconds| KnownAvailability { as_of: after(seconds), ..late.clone() };
    assert!(found == first_at(10) || found == late_at(11), "{found:?}");
    replace(store, &first_at(12)).await;
    assert_eq!(known(store).await, Some(first_at(12)));
}

async fn failures_are_remembered_until_something_is_said(store: &impl AvailabilityStore) {
    fail(store, 1, after(1)).await;
    let expected = Remembered { refresh: failed(1), ..Remembered::default() };
    assert_eq!(read(store).await, expected, "before anything was said");
    let first = said(after(2), vec![slot(1)]);
    replace(store, &first).await;
    assert_eq!(read(store).await.refresh, RefreshState::default());
    // What is known stays as it is.
    confirm(store, &first, after(3)).await;
    fail(store, 1, after(4)).await;
    fail(store, 2, after(5)).await;
    let confirmed = Some(KnownAvailability { as_of: after(3), ..first.clone() });
    assert_eq!(known(store).await, confirmed);
    assert_eq!(read(store).await.refresh, failed(2));
    confirm(store, &first, after(6)).await;
    assert_eq!(read(store).await.refresh, RefreshState::default());
    let endless = RefreshState { failures: 3, not_before: None };
    store.record_failure(&place(), endless, after(7)).await.unwrap();
    assert_eq!(read(store).await.refresh, endless, "the time of the failure before it is gone");
    // What is said of another content is a success all the same.
    confirm(store, &said(after(1), vec![slot(9)]), after(8)).await;
    assert_eq!(read(store).await.refresh, RefreshState::default());
    assert_eq!(known(store).await.unwrap().slots, first.slots);
}

async fn what_was_said_forgets_failures_before_it_in_any_order(store: &impl AvailabilityStore) {
    let first = said(after(10), vec![slot(1)]);
    replace(store, &first).await;
    for asked_at in [after(1), after(10)] {
        fail(store, 1, asked_at).await;
        assert_eq!(read(store).await.refresh, RefreshState::default(), "{asked_at}");
    }
    confirm(store, &first, after(20)).await;
    fail(store, 1, after(20)).await;
    assert_eq!(read(store).await.refresh, RefreshState::default());
    // A failure that began after what is said stays, although it is said later.
    fail(store, 4, after(40)).await;
    confirm(store, &first, after(30)).await;
    assert_eq!(read(store).await.refresh, failed(4));
    replace(store, &said(after(35), vec![slot(2)])).await;
    assert_eq!(read(store).await.refresh, failed(4));
    // Of two failures the later one stays.
    fail(store, 5, after(39)).await;
    assert_eq!(read(store).await.refresh, failed(4));
    fail(store, 5, after(41)).await;
    assert_eq!(read(store).await.refresh, failed(5));
    replace(store, &said(after(41), vec![slot(2)])).await;
    assert_eq!(read(store).await.refresh, RefreshState::default());
}

pub(crate) fn change(seed: u8, version: u32, at: Timestamp) -> SlotChange {
    SlotChange {
        booking_id: BookingId::from_bytes([seed; 16]),
        version,
        at,
        slot: Slot {
            location_id: place().location_id,
            start: slot(1).start,
            end: slot(1).end,
            resource_id: None,
            service_id: None,
        },
        units: 1,
        hold: Hold::Taken,
        settles: false,
    }
}

async fn note(log: &impl SlotChangeLog, changes: &[SlotChange]) {
    for change in changes {
        log.note(&provider_id(), change).await.unwrap();
    }
}

async fn changes_since(store: &impl AvailabilityStore, since: Timestamp) -> Vec<SlotChange> {
    store.read(&place(), since).await.unwrap().changes
}

async fn changes_are_read_from_a_time_on_and_in_order(store: &(impl AvailabilityStore + SlotChangeLog)) {
    // Notes may be left out where nothing is remembered.
    replace(store, &said(now(), vec![slot(1)])).await;
    let changes = [
        change(9, 1, after(1)),
        change(1, 2, after(2)),
        change(2, 9, after(2)),
        change(2, 10, after(2)),
        change(1, 1, after(3)),
        change(1, 3, after(1_200)),
    ];
    note(store, &[&changes[3..], &changes[..3]].concat()).await;
    assert_eq!(changes_since(store, Timestamp::EPOCH).await, changes);
    assert_eq!(changes_since(store, after(1)).await, changes);
    let kept_from = |since: Timestamp| {
        let changes = changes.iter().filter(move |change| change.at >= since);
        changes.cloned().collect::<Vec<_>>()
    };
    // Earlier ones may be there as well.
    for since in [after(1).plus_ms(1), after(2), after(3), after(1_200)] {
        let mut found = changes_since(store, since).await;
        found.retain(|change| change.at >= since);
        assert_eq!(found, kept_from(since), "{since}");
    }
    assert_eq!(after(1_200).ms_until(after(1_200).plus_ms(SLOT_CHANGES_KEPT_MS)), SLOT_CHANGES_KEPT_MS);
}

async fn what_is_claimed_is_read_however_long_ago_until_it_is_settled(
    store: &(impl AvailabilityStore + SlotChangeLog),
) {
    replace(store, &said(now(), vec![slot(1)])).await;
    let claim = SlotChange { hold: Hold::Claimed, ..change(1, 2, after(1)) };
    let other = SlotChange { hold: Hold::Claimed, units: 3, ..change(2, 1, after(2)) };
    let third_slot = Slot { resource_id: Some("room-3".to_owned()), ..claim.slot.clone() };
    let third = SlotChange { slot: third_slot, ..claim.clone() };
    note(store, &[claim.clone(), other.clone(), third.clone(), claim.clone()]).await;
    let two_days = after(2 * 24 * 3_600);
    let claims = async || {
        let mut claims = changes_since(store, two_days).await;
        claims.sort_by_key(|claim| (claim.booking_id.clone(), claim.slot.resource_id.clone()));
        claims
    };
    assert_eq!(claims().await, [claim.clone(), third.clone(), other.clone()]);
    // A later version of the booking claims the same slot still.
    let later = SlotChange { version: 3, at: after(9), ..claim.clone() };
    note(store, slice::from_ref(&later)).await;
    assert_eq!(claims().await, [later.clone(), third.clone(), other.clone()]);
    let told = SlotChange { hold: Hold::Taken, at: after(20), settles: true, ..later };
    note(store, &[told.clone(), told.clone()]).await;
    assert_eq!(claims().await, [third.clone(), other.clone()]);
    let settled = SlotChange { settles: false, ..told };
    assert!(changes_since(store, after(20)).await.contains(&settled));
    // What settles nothing leaves others' claims alone.
    note(store, &[change(2, 1, after(30))]).await;
    assert_eq!(claims().await, [third, other]);
}

async fn every_change_of_a_slot_survives(store: &(impl AvailabilityStore + SlotChangeLog)) {
    replace(store, &said(now(), vec![slot(1)])).await;
    let plain = change(1, 1, after(1));
    let with = |resource: Option<&str>, service: Option<&str>| Slot {
        resource_id: resource.map(str::to_owned),
        service_id: service.map(str::to_owned),
        ..plain.slot.clone()
    };
    // One version of a booking lets one slot go and takes another.
    let slots = [
        with(None, None),
        with(Some("a"), None),
        with(None, Some("a")),
        with(Some(""), None),
        with(Some("dr-grey"), Some("Żagle & słońce")),
        with(Some("dr-grey"), Some("a")),
        with(Some("room-1"), Some("a")),
        Slot { start: plain.slot.start.plus_ms(1), ..plain.slot.clone() },
        Slot { end: plain.slot.end.plus_ms(1), ..plain.slot.clone() },
    ];
    let holds = [Hold::Taken, Hold::GivenBack, Hold::Dropped];
    let mut changes = Vec::new();
    for (hold, units) in holds.into_iter().zip([1, 7, u32::MAX]) {
        let version = if hold == Hold::Dropped { u32::MAX } else { 1 };
        changes.extend(slots.iter().cloned().map(|slot| SlotChange {
            slot,
            hold,
            units,
            version,
            ..plain.clone()
        }));
    }
    note(store, &changes).await;
    let found = changes_since(store, after(1)).await;
    assert_eq!(found.len(), changes.len());
    for change in &changes {
        assert!(found.contains(change), "{change:?}");
    }
}

async fn noting_again_changes_nothing(store: &(impl AvailabilityStore + SlotChangeLog)) {
    replace(store, &said(now(), vec![slot(1)])).await;
    let changes = [change(1, 1, after(1)), change(1, 2, after(1)), change(2, 1, after(1))];
    note(store, &changes).await;
    note(store, &[changes[1].clone(), changes[0].clone(), changes[0].clone()]).await;
    let provider_id = provider_id();
    join_all((0..8).map(|_| store.note(&provider_id, &changes[2]))).await;
    assert_eq!(changes_since(store, after(1)).await, changes);
}

async fn refreshing_leaves_changes_alone(store: &(impl AvailabilityStore + SlotChangeLog)) {
    let first = said(now(), vec![slot(1)]);
    replace(store, &first).await;
    let noted = change(1, 1, after(1));
    note(store, slice::from_ref(&noted)).await;
    confirm(store, &first, after(2)).await;
    fail(store, 1, after(3)).await;
    replace(store, &said(after(4), vec![slot(2)])).await;
    let remembered = store.read(&place(), after(1)).await.unwrap();
    assert_eq!(remembered.changes, [noted]);
    assert_eq!(remembered.availability, Some(said(after(4), vec![slot(2)])));
}

async fn what_is_forgotten_may_be_known_again(store: &impl AvailabilityStore) {
    let first = said(after(5), vec![slot(1)]);
    replace(store, &first).await;
    confirm(store, &first, after(6)).await;
    fail(store, 1, after(7)).await;
    store.forget(&place()).await.unwrap();
    assert_eq!(read(store).await, Remembered::default());
    store.forget(&place()).await.unwrap();
    // Nothing is left of the times before.
    let again = said(after(1), vec![slot(2)]);
    replace(store, &again).await;
    fail(store, 2, after(2)).await;
    let expected = Remembered { availability: Some(again), refresh: failed(2), ..Remembered::default() };
    assert_eq!(read(store).await, expected);
}

async fn places_have_nothing_in_common(store: &(impl AvailabilityStore + SlotChangeLog)) {
    let place = |provider: &str, location: &str| Place {
        provider_id: ProviderId::parse(provider).unwrap(),
        location_id: location.to_owned(),
    };
    // Bookings may name locations that could not be configured.
    let places = [
        place("demo-clinic", "main-street"),
        place("demo-clinic2", "main-street"),
        place("demo-clinic", "main-street#P"),
        place("demo-clinic", ""),
        place("demo-clinic", "Łódź, ul. Piotrkowska"),
    ];
    for (number, place) in (1..).zip(&places) {
        store.replace(place, &said(after(number), vec![slot(number)])).await.unwrap();
        let mut noted = change(u8::try_from(number).unwrap(), 1, after(number));
        noted.slot.location_id.clone_from(&place.location_id);
        store.note(&place.provider_id, &noted).await.unwrap();
    }
    store.forget(&places[0]).await.unwrap();
    for (number, place) in (1..).zip(&places).skip(1) {
        let found = store.read(place, now()).await.unwrap();
        assert_eq!(found.availability, Some(said(after(number), vec![slot(number)])));
        let [noted] = found.changes.as_slice() else { panic!("{:?}", found.changes) };
        assert_eq!((noted.at, &noted.slot.location_id), (after(number), &place.location_id));
    }
}

/// An answer of which every part says which one it is. It was said at the whole second of its number, and again
/// within the same second.
fn answer(number: u64) -> KnownAvailability {
    let slot = |position: u64| OpenSlot {
        resource_id: Some(format!("answer-{number}").into()),
        capacity: Some(u32::try_from(number).unwrap()),
        ..slot(position)
    };
    KnownAvailability {
        window: Window { from: Timestamp::EPOCH, to: after(number) },
        ..said(after(number), (0..number % 50).map(slot).collect())
    }
}

fn number_of(answer: &KnownAvailability) -> u64 {
    now().ms_until(answer.window.to) / 1_000
}

async fn a_reader_never_sees_parts_of_two_answers(store: &impl AvailabilityStore) {
    const WRITERS: u64 = 8;
    const ANSWERS: u64 = 160;
    let done = AtomicUsize::new(0);
    let writers = join_all((0..WRITERS).map(|writer| {
        let done = &done;
        async move {
            for number in (1..=ANSWERS).filter(|number| number % WRITERS == writer) {
                let answer = answer(number);
                replace(store, &answer).await;
                fail(store, 1, answer.as_of.plus_ms(1)).await;
                for again_ms in [250, 750, 500] {
                    confirm(store, &answer, answer.as_of.plus_ms(again_ms)).await;
                }
                tokio::task::yield_now().await;
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let reader = async || {
        let mut seen = 0_usize;
        while done.load(Ordering::SeqCst) < 8 {
            if let Some(found) = known(store).await {
                let number = number_of(&found);
                let expected = KnownAvailability { as_of: found.as_of, ..answer(number) };
                assert_eq!(found, expected);
                let told_ms = after(number).ms_until(found.as_of);
                assert!([0, 250, 500, 750].contains(&told_ms), "{number} was not said {told_ms} ms later");
                assert!(found.as_of >= after(number));
                seen += 1;
            }
            tokio::task::yield_now().await;
        }
        seen
    };
    let (_, first, second) = tokio::join!(writers, reader(), reader());
    assert!(first + second > 0);
    let last = known(store).await.unwrap();
    assert_eq!(last, KnownAvailability { as_of: after(ANSWERS).plus_ms(750), ..answer(ANSWERS) });
}

async fn large_locations_are_read_back(store: &impl AvailabilityStore) {
    let name = |number: u64| OpenSlot {
        resource_id: Some(format!("resource-{}", number % 40).into()),
        capacity: Some(u32::try_from(number % 7).unwrap() + 1),
        ..full(number / 40)
    };
    let large = said(after(1), (0..20_000).map(name).collect());
    replace(store, &large).await;
    assert!(known(store).await.as_ref() == Some(&large));
    confirm(store, &large, after(2)).await;
    assert!(known(store).await == Some(KnownAvailability { as_of: after(2), ..large }));
}
