//! What every store of bookings promises of exclusive slots.

use futures_util::future::join_all;
use holdfast_app::ports::{BookingStore, Claim, Replaced};
use holdfast_app::stored::{StoredBooking, claim, replace};
use holdfast_app::test_util::MemoryBookingStore;
use holdfast_domain::{Change, Operation, Patience, Phase, Slot};

use super::fixtures::{cancelled, claimed, confirmed, now};

on_both!(
    MemoryBookingStore::new(), bookings;
    one_of_many_claims_of_a_slot_wins,
    slots_that_differ_are_all_taken,
    a_repetition_is_taken_and_not_a_slot_taken,
    what_is_withdrawn_frees_its_slot,
    a_move_takes_and_frees_in_one_write,
    a_move_to_a_slot_that_is_taken_changes_nothing,
    a_conflict_is_told_before_a_slot_that_is_taken,
    a_slot_of_another_booking_is_not_freed,
    what_is_gone_takes_no_slot,
);

/// A booking that has its slot to itself.
fn exclusive(key: &str) -> StoredBooking {
    let mut new = claimed(key, Patience::Background);
    new.exclusive_slots = true;
    new
}

fn at_room(key: &str, resource_id: Option<&str>) -> StoredBooking {
    let mut new = exclusive(key);
    new.booking.slot.resource_id = resource_id.map(str::to_owned);
    new
}

fn later(slot: &Slot) -> Slot {
    Slot { start: slot.start.plus_ms(3_600_000), end: slot.end.plus_ms(3_600_000), ..slot.clone() }
}

/// The next item of a confirmed booking, while it asks for another slot.
fn moving(stored: &StoredBooking, slot: Slot) -> StoredBooking {
    let mut next = stored.with_booking(stored.booking.clone());
    next.booking.operation = Some(Operation {
        change: Change::Reschedule(slot),
        number: 2,
        patience: Patience::Background,
        deadline_at: now().plus_ms(900_000),
        attempts: 1,
        last_error: None,
        unanswered_send_at: None,
        resolve_until: None,
        overtaken: None,
        phase: Phase::InFlight { lease_until: now().plus_ms(2_750) },
    });
    next
}

/// The next item, at the slot that it asked for.
fn moved(stored: &StoredBooking) -> StoredBooking {
    let mut next = stored.with_booking(stored.booking.clone());
    if let Some(Operation { change: Change::Reschedule(slot), .. }) = next.booking.operation.take() {
        next.booking.slot = slot;
    }
    next
}

async fn is_free(store: &impl BookingStore, slot: &Slot, key: &str) -> bool {
    let mut new = exclusive(key);
    new.booking.slot = slot.clone();
    match claim(store, &new).await.unwrap() {
        Claim::Claimed => true,
        Claim::SlotTaken => false,
        Claim::Taken(_) => panic!("{key} was used before"),
    }
}

async fn one_of_many_claims_of_a_slot_wins(store: &impl BookingStore) {
    let claims = (0..20).map(|number| async move {
        let new = exclusive(&format!("key-{number}"));
        (claim(store, &new).await.unwrap(), new)
    });
    let claims = join_all(claims).await;
    let (winners, losers): (Vec<_>, Vec<_>) =
        claims.into_iter().partition(|(claim, _)| *claim == Claim::Claimed);
    let [(_, winner)] = winners.as_slice() else { panic!("{} winners", winners.len()) };
    assert_eq!(store.read(&winner.booking.id).await.unwrap().as_ref(), Some(winner));
    assert_eq!(losers.len(), 19);
    for (claim, loser) in losers {
        assert_eq!(claim, Claim::SlotTaken);
        assert_eq!(store.read(&loser.booking.id).await.unwrap(), None);
    }
}

async fn slots_that_differ_are_all_taken(store: &impl BookingStore) {
    for (key, resource_id) in [("a", None), ("b", Some("room-1")), ("c", Some("room-2"))] {
        assert_eq!(claim(store, &at_room(key, resource_id)).await.unwrap(), Claim::Claimed);
    }
    assert_eq!(claim(store, &at_room("d", Some("room-1"))).await.unwrap(), Claim::SlotTaken);
    // Who does not have it to itself is not asked.
    assert_eq!(claim(store, &claimed("e", Patience::Background)).await.unwrap(), Claim::Claimed);
}

async fn a_repetition_is_taken_and_not_a_slot_taken(store: &impl BookingStore) {
    let first = exclusive("key");
    assert_eq!(claim(store, &first).await.unwrap(), Claim::Claimed);
    let settled = confirmed(&first);
    assert_eq!(replace(store, &first, &settled).await.unwrap(), Replaced::Done);
    assert_eq!(claim(store, &first).await.unwrap(), Claim::Taken(Box::new(settled.clone())));
    // Nor if another booking has the slot by now.
    let free = cancelled(&settled);
    assert_eq!(replace(store, &settled, &free).await.unwrap(), Replaced::Done);
    assert!(is_free(store, &first.booking.slot, "other").await);
    assert_eq!(claim(store, &first).await.unwrap(), Claim::Taken(Box::new(free)));
}

async fn what_is_withdrawn_frees_its_slot(store: &impl BookingStore) {
    let first = exclusive("key");
    claim(store, &first).await.unwrap();
    let settled = confirmed(&first);
    assert_eq!(replace(store, &first, &settled).await.unwrap(), Replaced::Done);
    assert!(!is_free(store, &first.booking.slot, "too-early").await);
    assert_eq!(replace(store, &settled, &cancelled(&settled)).await.unwrap(), Replaced::Done);
    assert!(is_free(store, &first.booking.slot, "in-time").await);
}

async fn a_move_takes_and_frees_in_one_write(store: &impl BookingStore) {
    let first = exclusive("key");
    claim(store, &first).await.unwrap();
    let settled = confirmed(&first);
    replace(store, &first, &settled).await.unwrap();
    let (old_slot, new_slot) = (first.booking.slot.clone(), later(&first.booking.slot));
    let asking = moving(&settled, new_slot.clone());
    assert_eq!(replace(store, &settled, &asking).await.unwrap(), Replaced::Done);
    // Both are taken while it asks.
    assert!(!is_free(store, &old_slot, "old-1").await);
    assert!(!is_free(store, &new_slot, "new-1").await);
    assert_eq!(replace(store, &asking, &moved(&asking)).await.unwrap(), Replaced::Done);
    assert!(is_free(store, &old_slot, "old-2").await);
    assert!(!is_free(store, &new_slot, "new-2").await);
    // And in one write, without a provider that is asked.
    let there = store.read(&first.booking.id).await.unwrap().unwrap();
    let mut at_once = there.with_booking(there.booking.clone());
    at_once.booking.slot = later(&new_slot);
    assert_eq!(replace(store, &there, &at_once).await.unwrap(), Replaced::Done);
    assert!(is_free(store, &new_slot, "new-3").await);
    assert!(!is_free(store, &at_once.booking.slot, "last").await);
}

async fn a_move_to_a_slot_that_is_taken_changes_nothing(store: &impl BookingStore) {
    let first = exclusive("key");
    claim(store, &first).await.unwrap();
    let settled = confirmed(&first);
    replace(store, &first, &settled).await.unwrap();
    let wanted = later(&first.booking.slot);
    assert!(is_free(store, &wanted, "other").await);
    let mut at_once = settled.with_booking(settled.booking.clone());
    at_once.booking.slot = wanted.clone();
    for next in [moving(&settled, wanted), at_once] {
        assert_eq!(replace(store, &settled, &next).await.unwrap(), Replaced::SlotTaken);
        assert_eq!(store.read(&first.booking.id).await.unwrap().as_ref(), Some(&settled));
    }
    assert!(!is_free(store, &first.booking.slot, "third").await);
}

async fn a_conflict_is_told_before_a_slot_that_is_taken(store: &impl BookingStore) {
    let first = exclusive("key");
    claim(store, &first).await.unwrap();
    let settled = confirmed(&first);
    replace(store, &first, &settled).await.unwrap();
    let wanted = later(&first.booking.slot);
    assert!(is_free(store, &wanted, "other").await);
    let late = moving(&first, wanted);
    assert_eq!(replace(store, &first, &late).await.unwrap(), Replaced::Conflict(Box::new(settled)));
}

async fn a_slot_of_another_booking_is_not_freed(store: &impl BookingStore) {
    let first = exclusive("key");
    claim(store, &first).await.unwrap();
    // This one says that it has the slot to itself, but it was claimed without it.
    let second = claimed("other", Patience::Background);
    claim(store, &second).await.unwrap();
    let mut seen = second.clone();
    seen.exclusive_slots = true;
    let withdrawn = cancelled(&seen);
    assert_eq!(replace(store, &seen, &withdrawn).await.unwrap(), Replaced::Done);
    assert_eq!(store.read(&second.booking.id).await.unwrap(), Some(withdrawn));
    assert!(!is_free(store, &first.booking.slot, "third").await);
}

async fn what_is_gone_takes_no_slot(store: &impl BookingStore) {
    let first = exclusive("key");
    let settled = confirmed(&first);
    let wanted = later(&first.booking.slot);
    assert_eq!(replace(store, &settled, &moving(&settled, wanted.clone())).await.unwrap(), Replaced::Gone);
    assert!(is_free(store, &wanted, "other").await);
}
