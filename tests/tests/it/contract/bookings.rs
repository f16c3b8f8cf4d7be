//! What every store of bookings promises.

use futures_util::future::join_all;
use holdfast_app::ports::{BookingStore, Claim, Replaced};
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::MemoryBookingStore;
use holdfast_domain::{Command, Patience};

use super::fixtures::{after, claimed, confirmed, now, waiting};

on_both!(
    MemoryBookingStore::new(), bookings;
    a_claim_is_durable_and_read_back,
    a_second_claim_gets_what_is_there,
    one_of_many_claims_wins,
    a_replacement_needs_the_revision_it_saw,
    one_of_many_replacements_wins,
    what_is_gone_is_not_replaced,
    everything_of_a_booking_survives,
    overdue_bookings_appear_and_others_do_not,
    a_limit_on_overdue_bookings_is_kept,
    what_an_outage_of_days_left_behind_appears_eventually,
);

async fn a_claim_is_durable_and_read_back(store: &impl BookingStore) {
    let new = claimed("key", Patience::Synchronous);
    assert_eq!(store.read(&new.booking.id).await.unwrap(), None);
    assert_eq!(store.claim(&new).await.unwrap(), Claim::Claimed);
    assert_eq!(store.read(&new.booking.id).await.unwrap(), Some(new));
}

async fn a_second_claim_gets_what_is_there(store: &impl BookingStore) {
    let first = claimed("key", Patience::Synchronous);
    store.claim(&first).await.unwrap();
    let settled = confirmed(&first);
    store.replace(1, &settled).await.unwrap();
    let second = claimed("key", Patience::Background);
    assert_eq!(store.claim(&second).await.unwrap(), Claim::Taken(Box::new(settled.clone())));
    assert_eq!(store.read(&second.booking.id).await.unwrap(), Some(settled));
}

async fn one_of_many_claims_wins(store: &impl BookingStore) {
    let claims = (0..20).map(|reference: u32| async move {
        let mut new = claimed("key", Patience::Synchronous);
        new.booking.request.reference = Some(reference.to_string());
        let claim = store.claim(&new).await.unwrap();
        (new, claim)
    });
    let (winners, losers): (Vec<_>, Vec<_>) =
        join_all(claims).await.into_iter().partition(|(_, claim)| *claim == Claim::Claimed);
    let [(winner, _)] = winners.as_slice() else { panic!("{} winners", winners.len()) };
    for (_, claim) in losers {
        assert_eq!(claim, Claim::Taken(Box::new(winner.clone())));
    }
    assert_eq!(store.read(&winner.booking.id).await.unwrap().as_ref(), Some(winner));
}

async fn a_replacement_needs_the_revision_it_saw(store: &impl BookingStore) {
    let first = claimed("key", Patience::Background);
    store.claim(&first).await.unwrap();
    let second = waiting(&first, 5_000);
    assert_eq!(store.replace(1, &second).await.unwrap(), Replaced::Done);
    let late = confirmed(&first);
    assert_eq!(store.replace(1, &late).await.unwrap(), Replaced::Conflict(Box::new(second.clone())));
    assert_eq!(store.read(&first.booking.id).await.unwrap(), Some(second));
}

async fn one_of_many_replacements_wins(store: &impl BookingStore) {
    let first = claimed("key", Patience::Background);
    store.claim(&first).await.unwrap();
    let replacements = (0..20).map(|delay_s| {
        let next = waiting(&first, delay_s * 1_000);
        async move { (store.replace(1, &next).await.unwrap(), next) }
    });
    let (winners, losers): (Vec<_>, Vec<_>) =
        join_all(replacements).await.into_iter().partition(|(replaced, _)| *replaced == Replaced::Done);
    let [(_, winner)] = winners.as_slice() else { panic!("{} winners", winners.len()) };
    for (replaced, _) in losers {
        assert_eq!(replaced, Replaced::Conflict(Box::new(winner.clone())));
    }
    assert_eq!(store.read(&first.booking.id).await.unwrap().as_ref(), Some(winner));
}

async fn what_is_gone_is_not_replaced(store: &impl BookingStore) {
    let first = claimed("key", Patience::Synchronous);
    assert_eq!(store.replace(1, &confirmed(&first)).await.unwrap(), Replaced::Gone);
    assert_eq!(store.read(&first.booking.id).await.unwrap(), None);
}

async fn everything_of_a_booking_survives(store: &impl BookingStore) {
    let first = claimed("key", Patience::Background);
    store.claim(&first).await.unwrap();
    let mut stored = first;
    // It fails, is given up, is compensated in vain once, and its key is used afresh.
    let lease_until = now().plus_ms(1_000_000);
    let commands = [Command::GiveUp, Command::ClaimCompensation { lease_until: lease_until.plus_ms(30_000) }];
    stored = step(store, &stored, waiting(&stored, 5_000)).await;
    for command in commands {
        let next = after(&stored, command, lease_until);
        stored = step(store, &stored, next).await;
    }
    let mut superseded = stored.with_booking(stored.booking.clone());
    if let Some(create) = &mut superseded.create {
        create.superseded_by = Some(1);
    }
    step(store, &stored, superseded).await;
}

async fn step(store: &impl BookingStore, seen: &StoredBooking, next: StoredBooking) -> StoredBooking {
    assert_eq!(store.replace(seen.rev, &next).await.unwrap(), Replaced::Done);
    assert_eq!(store.read(&next.booking.id).await.unwrap().as_ref(), Some(&next));
    next
}

async fn overdue_bookings_appear_and_others_do_not(store: &impl BookingStore) {
    let mut expected = Vec::new();
    for (key, delay_ms) in [("due", 0), ("just-due", 299_999), ("exact", 300_000), ("later", 800_000)] {
        let first = claimed(key, Patience::Background);
        store.claim(&first).await.unwrap();
        let next = waiting(&first, delay_ms);
        store.replace(1, &next).await.unwrap();
        if delay_ms < 300_000 {
            expected.push(next.booking.id);
        }
    }
    for key in ["within-its-request", "settled"] {
        let first = claimed(key, Patience::Background);
        store.claim(&first).await.unwrap();
        if key == "settled" {
            store.replace(1, &waiting(&first, 0)).await.unwrap();
            let mut settled = confirmed(&first);
            settled.rev = 3;
            assert_eq!(store.replace(2, &settled).await.unwrap(), Replaced::Done);
        }
    }
    expected.sort();
    let mut found = store.overdue(now().plus_ms(300_000), 100).await.unwrap();
    found.sort();
    assert_eq!(found, expected);
    let two_days_later = now().plus_ms(2 * 86_400_000);
    assert_eq!(store.overdue(two_days_later, 100).await.unwrap().len(), 4);
}

async fn a_limit_on_overdue_bookings_is_kept(store: &impl BookingStore) {
    for number in 0..30 {
        let first = claimed(&format!("key-{number}"), Patience::Background);
        store.claim(&first).await.unwrap();
        store.replace(1, &waiting(&first, 0)).await.unwrap();
    }
    let before = now().plus_ms(60_000);
    assert_eq!(store.overdue(before, 7).await.unwrap().len(), 7);
    assert_eq!(store.overdue(before, 100).await.unwrap().len(), 30);
}

async fn what_an_outage_of_days_left_behind_appears_eventually(store: &impl BookingStore) {
    const SWEEP_MS: u64 = 300_000;
    let first = claimed("key", Patience::Background);
    store.claim(&first).await.unwrap();
    store.replace(1, &waiting(&first, 0)).await.unwrap();
    let weeks_later = now().plus_ms(40 * 86_400_000);
    for sweep in 0..100 {
        let found = store.overdue(weeks_later.plus_ms(sweep * SWEEP_MS), 100).await.unwrap();
        if found == [first.booking.id.clone()] {
            return;
        }
    }
    panic!("it never appeared");
}
