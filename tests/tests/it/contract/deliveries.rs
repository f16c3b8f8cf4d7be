//! What every store of deliveries promises.

use futures_util::future::join_all;
use holdfast_app::ports::{DeliveryClaim, DeliveryStore, DeliveryUpdate};
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
