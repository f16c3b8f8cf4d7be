//! What is known of open slots.

use futures_util::future::FutureExt;
use holdfast_app::ports::{AvailabilityStore, RefreshState, SlotChangeLog};
use holdfast_domain::{BookingId, Hold, Price, Slot, SlotChange};

use super::Case;
use crate::contract::availability::{place, said, slot};
use crate::contract::embedded::{AVAILABILITY_TABLE, Embedded};
use crate::contract::fixtures::{now, provider_id};

fn known() -> holdfast_app::ports::KnownAvailability {
    let full = holdfast_domain::OpenSlot {
        resource_id: Some("dr-grey".into()),
        service_id: Some("first-visit".into()),
        capacity: Some(3),
        price: Some(Price { amount_minor: 4_950, currency: "EUR".into() }),
        availability_id: Some("a-1".into()),
        ..slot(2)
    };
    said(now(), vec![slot(1), full, slot(3)])
}

fn change(hold: Hold) -> SlotChange {
    SlotChange {
        booking_id: BookingId::from_bytes([7; 16]),
        version: 3,
        at: now().plus_ms(5),
        slot: Slot {
            location_id: place().location_id,
            start: slot(1).start,
            end: slot(1).end,
            resource_id: Some("dr-grey".to_owned()),
            service_id: None,
        },
        units: 2,
        hold,
        settles: false,
    }
}

async fn remembered(from: &Embedded) -> Result<String, holdfast_app::ports::StoreError> {
    Ok(format!("{:?}", from.availability().read(&place(), now().minus_ms(60_000)).await?))
}

pub(super) fn cases() -> Vec<Case> {
    use holdfast_app::ports::{KnownAvailability, Remembered};
    vec![
        case!(
            "availability-v1-confirmed",
            AVAILABILITY_TABLE,
            |to| {
                to.availability().replace(&place(), &known()).await.unwrap();
                to.availability()
                    .confirm(&place(), known().content_id(), now().plus_ms(300_000))
                    .await
                    .unwrap();
            },
            |from| remembered(from).await,
            format!(
                "{:?}",
                Remembered {
                    availability: Some(KnownAvailability { as_of: now().plus_ms(300_000), ..known() }),
                    ..Remembered::default()
                }
            )
        ),
        case!(
            "availability-v1-failing",
            AVAILABILITY_TABLE,
            |to| {
                let state = RefreshState { failures: 2, not_before: Some(now().plus_ms(60_000)) };
                to.availability().replace(&place(), &known()).await.unwrap();
                to.availability().record_failure(&place(), state, now().plus_ms(300_000)).await.unwrap();
            },
            |from| remembered(from).await,
            format!(
                "{:?}",
                Remembered {
                    availability: Some(known()),
                    changes: Vec::new(),
                    refresh: RefreshState { failures: 2, not_before: Some(now().plus_ms(60_000)) },
                }
            )
        ),
        case!(
            "availability-v1-changes",
            AVAILABILITY_TABLE,
            |to| {
                to.availability().replace(&place(), &known()).await.unwrap();
                for hold in [Hold::Taken, Hold::GivenBack, Hold::Dropped, Hold::Claimed] {
                    to.availability().note(&provider_id(), &change(hold)).await.unwrap();
                }
            },
            |from| remembered(from).await,
            format!(
                "{:?}",
                Remembered {
                    availability: Some(known()),
                    changes: [Hold::Taken, Hold::GivenBack, Hold::Dropped, Hold::Claimed].map(change).into(),
                    refresh: RefreshState::default(),
                }
            )
        ),
    ]
}
