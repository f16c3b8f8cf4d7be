//! What every store of deliveries and every log of attempts promises.

use futures_util::future::join_all;
use holdfast_app::ports::{
    AttemptEntry, AttemptLog, DeliveryClaim, DeliveryPlace, DeliveryQuery, DeliveryStore, DeliveryUpdate,
};
use holdfast_app::test_util::MemoryDeliveryStore;
use holdfast_app::webhook::{Delivery, DeliveryState};
use holdfast_domain::{EventId, WebhookEndpointId};

use super::fixtures::{now, tenant};

on_both!(
    MemoryDeliveryStore::new(), deliveries;
    a_delivery_is_made_once,
    one_of_many_attempts_is_claimed,
    every_state_survives,
    what_is_gone_is_a_conflict,
    deliveries_of_a_time_are_found_the_oldest_first,
    attempts_are_read_the_newest_first,
);

pub(crate) fn delivery() -> Delivery {
    Delivery {
        endpoint_id: WebhookEndpointId::from_bytes([1; 16]),
        tenant: tenant(),
        event_id: EventId::derived("bkg", 1, "booking.created"),
        event_type: "booking.created".to_owned(),
        body: r#"{"id":"evt_1","data":{"name":"Zoë"}}"#.to_owned(),
        created_at: now(),
        attempts: 0,
        earlier_attempts: 0,
        round: 1,
        round_at: now(),
        state: DeliveryState::Waiting { next_attempt_at: now() },
        last_error: None,
        rev: 1,
    }
}

fn next(seen: &Delivery, state: DeliveryState) -> Delivery {
    Delivery { state, attempts: seen.attempts + 1, rev: seen.rev + 1, ..seen.clone() }
}

async fn a_delivery_is_made_once(store: &impl DeliveryStore) {
    let first = delivery();
    assert_eq!(store.read(&first.endpoint_id, &first.event_id).await.unwrap(), None);
    assert_eq!(store.create(&first).await.unwrap(), DeliveryClaim::Created);
    let again = Delivery { created_at: now().plus_ms(1), ..first.clone() };
    assert_eq!(store.create(&again).await.unwrap(), DeliveryClaim::Existing(Box::new(first.clone())));
    let other = Delivery { endpoint_id: WebhookEndpointId::from_bytes([2; 16]), ..first.clone() };
    assert_eq!(store.create(&other).await.unwrap(), DeliveryClaim::Created);
    assert_eq!(store.read(&first.endpoint_id, &first.event_id).await.unwrap(), Some(first));
}

async fn one_of_many_attempts_is_claimed(store: &impl DeliveryStore) {
    let seen = delivery();
    store.create(&seen).await.unwrap();
    let claims = (0..20).map(|worker| {
        let claimed = next(&seen, DeliveryState::InFlight { lease_until: now().plus_ms(worker) });
        async move { store.replace(1, &claimed).await.unwrap() }
    });
    let won = join_all(claims).await.into_iter().filter(|update| *update == DeliveryUpdate::Done).count();
    assert_eq!(won, 1);
}

async fn every_state_survives(store: &impl DeliveryStore) {
    let mut seen = delivery();
    store.create(&seen).await.unwrap();
    let again = Delivery {
        earlier_attempts: 8,
        round: 2,
        round_at: now().plus_ms(9),
        ..next(&seen, DeliveryState::Waiting { next_attempt_at: now() })
    };
    assert_eq!(store.replace(seen.rev, &again).await.unwrap(), DeliveryUpdate::Done);
    seen = again;
    assert_eq!(store.read(&seen.endpoint_id, &seen.event_id).await.unwrap().as_ref(), Some(&seen));
    for state in [
        DeliveryState::InFlight { lease_until: now().plus_ms(15_000) },
        DeliveryState::Waiting { next_attempt_at: now().plus_ms(5_000) },
        DeliveryState::Delivered { at: now() },
        DeliveryState::Exhausted { at: now() },
    ] {
        let mut after = next(&seen, state);
        after.last_error = seen.last_error.is_none().then(|| "http_500".to_owned());
        assert_eq!(store.replace(seen.rev, &after).await.unwrap(), DeliveryUpdate::Done);
        assert_eq!(store.read(&seen.endpoint_id, &seen.event_id).await.unwrap().as_ref(), Some(&after));
        seen = after;
    }
}

async fn what_is_gone_is_a_conflict(store: &impl DeliveryStore) {
    let after = next(&delivery(), DeliveryState::Delivered { at: now() });
    assert_eq!(store.replace(1, &after).await.unwrap(), DeliveryUpdate::Conflict);
    assert_eq!(store.read(&after.endpoint_id, &after.event_id).await.unwrap(), None);
}

/// The `number`-th delivery of an endpoint, two of them at a time.
fn numbered(endpoint: u8, number: u32) -> Delivery {
    let created_at = now().plus_ms(u64::from(number / 2) * 10);
    Delivery {
        endpoint_id: WebhookEndpointId::from_bytes([endpoint; 16]),
        event_id: EventId::derived("bkg", number, "booking.created"),
        created_at,
        round_at: created_at,
        ..delivery()
    }
}

async fn deliveries_of_a_time_are_found_the_oldest_first(store: &impl DeliveryStore) {
    for number in 0..10 {
        store.create(&numbered(1, number)).await.unwrap();
        store.create(&numbered(2, number)).await.unwrap();
    }
    let later = Delivery { rev: 2, ..numbered(1, 4) };
    store.replace(1, &later).await.unwrap();
    let endpoint = numbered(1, 0).endpoint_id;
    let mut query =
        DeliveryQuery { since: now().plus_ms(10), until: now().plus_ms(40), after: None, limit: 4 };
    let mut expected: Vec<Delivery> = (2..8).map(|number| numbered(1, number)).collect();
    expected[2] = later;
    let mut found = Vec::new();
    loop {
        let page = store.created_between(&endpoint, &query).await.unwrap();
        assert!(page.deliveries.len() <= 4);
        found.extend(page.deliveries);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert!(found.is_sorted_by_key(|delivery| delivery.created_at));
    for deliveries in [&mut found, &mut expected] {
        deliveries.sort_by_key(|delivery| (delivery.created_at, delivery.event_id.clone()));
    }
    assert_eq!(found, expected);
    let place = DeliveryPlace { created_at: now().plus_ms(90), event_id: later_id() };
    for (since, until, after) in [(20, 20, None), (30, 10, None), (10, 40, Some(place))] {
        let query =
            DeliveryQuery { since: now().plus_ms(since), until: now().plus_ms(until), after, limit: 4 };
        let page = store.created_between(&endpoint, &query).await.unwrap();
        assert!(page.deliveries.is_empty() && page.next.is_none(), "{query:?}");
    }
}

fn later_id() -> EventId {
    EventId::from_bytes([9; 16])
}

pub(crate) fn attempt(endpoint: u8, number: u32) -> AttemptEntry {
    let delivery = numbered(endpoint, number / 3);
    AttemptEntry {
        endpoint_id: delivery.endpoint_id,
        event_id: delivery.event_id,
        event_type: delivery.event_type,
        attempt: number,
        at: now().plus_ms(u64::from(number / 2)),
        latency_ms: 15_000,
        status: number.is_multiple_of(2).then_some(204),
        error: (!number.is_multiple_of(2)).then(|| "timed_out".to_owned()),
        response_body: number.is_multiple_of(4).then(|| "Zoë".to_owned()),
    }
}

async fn attempts_are_read_the_newest_first(store: &(impl DeliveryStore + AttemptLog)) {
    store.create(&numbered(1, 1)).await.unwrap();
    for number in [5, 3, 0, 1, 2, 4, 6, 7, 8, 9, 9] {
        store.append(&attempt(1, number)).await.unwrap();
        store.append(&attempt(2, number)).await.unwrap();
    }
    let endpoint = attempt(1, 0).endpoint_id;
    let mut expected: Vec<AttemptEntry> = (2..10).map(|number| attempt(1, number)).collect();
    expected.sort_by_key(AttemptEntry::place);
    expected.reverse();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.attempts(&endpoint, now().plus_ms(1), after.as_ref(), 3).await.unwrap();
        assert!(page.entries.len() <= 3);
        found.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
    let oldest = attempt(1, 0).place();
    let page = store.attempts(&endpoint, now().plus_ms(1), Some(&oldest), 3).await.unwrap();
    assert!(page.entries.is_empty() && page.next.is_none());
}
