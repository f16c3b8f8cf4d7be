//! Webhook endpoints, deliveries, their log, feeds, and mailboxes.

use futures_util::future::FutureExt;
use holdfast_app::ports::{
    AttemptEntry, AttemptLog, DeliveryStore, EndpointStore, EventFeed, KeptNotification, NewEntry,
    NotificationMailbox,
};
use holdfast_app::webhook::{Delivery, DeliveryState, DisabledReason, OldSecret, Speed, WebhookEndpoint};
use holdfast_domain::{AttemptError, BookingId, EventId, Notification, NotificationKind, Phase, Slot};
use secrecy::ExposeSecret;

use super::Case;
use crate::contract::deliveries::delivery;
use crate::contract::embedded::{CONFIG_TABLE, DELIVERY_TABLE, Embedded};
use crate::contract::fixtures::{endpoint, now, provider_id, tenant};

fn exposed(endpoint: &WebhookEndpoint) -> String {
    let headers: Vec<String> =
        endpoint.headers.iter().map(|(name, value)| format!("{name}={}", value.expose_secret())).collect();
    let old: Vec<String> =
        endpoint.old_secrets.iter().map(|old| old.secret.expose_secret().to_owned()).collect();
    format!("{endpoint:?} {} {headers:?} {old:?}", endpoint.secret.expose_secret())
}

fn troubled() -> WebhookEndpoint {
    WebhookEndpoint {
        enabled: false,
        disabled_reason: Some(DisabledReason::Failing),
        times_disabled: 2,
        old_secrets: vec![OldSecret {
            secret: "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=".into(),
            valid_until: now().plus_ms(86_400_000),
        }],
        speed: Speed { slow_until: Some(now().plus_ms(1)), hung_until: Some(now().plus_ms(2)) },
        failing_since: Some(now()),
        rev: 7,
        ..endpoint(3, &tenant())
    }
}

fn attempt() -> AttemptEntry {
    AttemptEntry {
        endpoint_id: delivery().endpoint_id,
        event_id: delivery().event_id,
        event_type: "booking.created".to_owned(),
        attempt: 2,
        at: now(),
        latency_ms: 42,
        status: Some(503),
        error: Some("http_503".to_owned()),
        response_body: Some("down".to_owned()),
    }
}

fn made_again() -> Delivery {
    Delivery {
        attempts: 3,
        earlier_attempts: 8,
        round: 2,
        round_at: now().plus_ms(60_000),
        state: DeliveryState::InFlight { lease_until: now().plus_ms(85_000) },
        last_error: Some("http_503".to_owned()),
        rev: 12,
        ..delivery()
    }
}

async fn delivery_read(from: &Embedded) -> Result<String, holdfast_app::ports::StoreError> {
    let Delivery { endpoint_id, event_id, .. } = delivery();
    Ok(format!("{:?}", from.deliveries().read(&endpoint_id, &event_id).await?))
}

fn ended(state: DeliveryState) -> Delivery {
    Delivery { attempts: 1, state, rev: 3, ..delivery() }
}

fn events() -> [NewEntry; 2] {
    [1, 2].map(|seed| NewEntry {
        event_id: EventId::from_bytes([seed; 16]),
        event_type: "booking.created".to_owned(),
        body: format!("{{\"id\":{seed}, \"n\": 1.00}}"),
    })
}

pub(super) fn webhooks() -> Vec<Case> {
    vec![
        case!(
            "endpoint-v1",
            CONFIG_TABLE,
            |to| to.settings().put_endpoint(&endpoint(3, &tenant()), 5).await.unwrap(),
            |from| from
                .settings()
                .endpoints(&tenant())
                .await
                .map(|found| found.iter().map(exposed).collect()),
            exposed(&endpoint(3, &tenant()))
        ),
        case!(
            "endpoint-v1-troubled",
            CONFIG_TABLE,
            |to| to.settings().put_endpoint(&troubled(), 5).await.unwrap(),
            |from| from
                .settings()
                .endpoints(&tenant())
                .await
                .map(|found| found.iter().map(exposed).collect()),
            exposed(&troubled())
        ),
        case!(
            "delivery-v1",
            DELIVERY_TABLE,
            |to| to.deliveries().create(&delivery()).await.unwrap(),
            |from| delivery_read(from).await,
            format!("{:?}", Some(delivery()))
        ),
        case!(
            "delivery-v1-made-again",
            DELIVERY_TABLE,
            |to| to.deliveries().create(&made_again()).await.unwrap(),
            |from| delivery_read(from).await,
            format!("{:?}", Some(made_again()))
        ),
        case!(
            "delivery-v1-delivered",
            DELIVERY_TABLE,
            |to| to.deliveries().create(&ended(DeliveryState::Delivered { at: now() })).await.unwrap(),
            |from| delivery_read(from).await,
            format!("{:?}", Some(ended(DeliveryState::Delivered { at: now() })))
        ),
        case!(
            "delivery-v1-exhausted",
            DELIVERY_TABLE,
            |to| to.deliveries().create(&ended(DeliveryState::Exhausted { at: now() })).await.unwrap(),
            |from| delivery_read(from).await,
            format!("{:?}", Some(ended(DeliveryState::Exhausted { at: now() })))
        ),
        case!(
            "attempt-v1",
            DELIVERY_TABLE,
            |to| to.deliveries().append(&attempt()).await.unwrap(),
            |from| from
                .deliveries()
                .attempts(&attempt().endpoint_id, now(), None, 9)
                .await
                .map(|found| format!("{found:?}")),
            format!("{:?}", holdfast_app::ports::AttemptPage { entries: vec![attempt()], next: None })
        ),
        case!(
            "feed-v1",
            DELIVERY_TABLE,
            |to| {
                to.feed().append(&tenant(), &events()[..1], now()).await.unwrap();
                to.feed().append(&tenant(), &events()[1..], now().plus_ms(5)).await.unwrap();
            },
            |from| {
                // What is there already is not appended again: the markers say so.
                from.feed().append(&tenant(), &events(), now().plus_ms(10)).await.unwrap();
                let last = from.feed().last_number(&tenant()).await.unwrap();
                from.feed().read(&tenant(), 0, 9).await.map(|found| format!("{last} {found:?}"))
            },
            {
                let [first, second] = events();
                let entry = |number, at, previous_at, event| holdfast_app::ports::FeedEntry {
                    number,
                    at,
                    previous_at,
                    event,
                };
                let later = now().plus_ms(5);
                let entries = vec![entry(1, now(), now(), first), entry(2, later, now(), second)];
                format!("2 {:?}", holdfast_app::ports::FeedPage { entries, has_more: false })
            }
        ),
    ]
}

fn kept(seed: u8) -> KeptNotification {
    let slot = |location: &str| Slot {
        location_id: location.to_owned(),
        start: now().plus_ms(86_400_000),
        end: now().plus_ms(88_200_000),
        resource_id: Some("dr-grey".to_owned()),
        service_id: None,
    };
    let kind = match seed {
        1 => NotificationKind::Booked,
        2 => NotificationKind::Moved { from: slot("side-street") },
        _ => NotificationKind::Cancelled,
    };
    KeptNotification {
        provider_id: provider_id(),
        booking_id: BookingId::from_bytes([seed; 16]),
        notification: Notification {
            kind,
            slot: slot("main-street"),
            version: 2,
            number: seed.into(),
            begun_at: now().plus_ms(seed.into()),
            attempts: 1,
            skipped: 0,
            last_error: Some(AttemptError::HttpStatus(503)),
            phase: Phase::Waiting { next_attempt_at: now().plus_ms(60_000) },
        },
        released: false,
    }
}

async fn waiting(from: &Embedded) -> Result<String, holdfast_app::ports::StoreError> {
    let found = from.mailbox().waiting(&provider_id(), 9, now().plus_ms(10)).await?;
    Ok(format!("{} {:?}", found.remaining, found.notifications))
}

pub(super) fn mailboxes() -> Vec<Case> {
    vec![
        case!(
            "mailbox-v1-waiting",
            DELIVERY_TABLE,
            |to| {
                for seed in 1..=3 {
                    to.mailbox().keep(&kept(seed)).await.unwrap();
                }
            },
            |from| {
                // What was kept before is not kept again: the receipts say so.
                from.mailbox().keep(&kept(1)).await.unwrap();
                waiting(from).await
            },
            format!("0 {:?}", [kept(1), kept(2), kept(3)])
        ),
        case!(
            "mailbox-v1-released",
            DELIVERY_TABLE,
            |to| {
                to.mailbox().keep(&kept(1)).await.unwrap();
                let marked = to.mailbox().mark_fetched(&[kept(1)], now().plus_ms(5)).await;
                assert_eq!(marked, [Ok(true)]);
                to.mailbox().release(&provider_id(), now().plus_ms(9)).await.unwrap();
            },
            |from| waiting(from).await,
            format!("0 {:?}", [KeptNotification { released: true, ..kept(1) }])
        ),
    ]
}
