//! Removing consumers and providers that are there in part: what was broken off half-way is finished by a repetition.

use holdfast_domain::{
    ConsumerId, KeyId, LocationId, Mode, ProviderId, Tenant, Timestamp, WebhookEndpointId, Zone,
};

use super::*;
use crate::problem::{Problem, ProblemCode};
use crate::settings::{KeyHash, KeyOwner, KeyRecord, LocationSettings, ProviderSettings};
use crate::test_util::{MemoryAvailability, MemorySettings};
use crate::webhook::WebhookEndpoint;

fn now() -> Timestamp {
    Timestamp::EPOCH.plus_ms(1_800_000_000_000)
}

fn shop() -> ConsumerId {
    ConsumerId::parse("shop").unwrap()
}

fn clinic() -> ProviderId {
    ProviderId::parse("clinic").unwrap()
}

fn key(owner: KeyOwner) -> KeyRecord {
    let key_id = KeyId::from_bytes([1; 16]);
    KeyRecord {
        key_id,
        owner,
        mode: Mode::Test,
        hash: KeyHash([0; 32]),
        created_at: now(),
        revoked_from: None,
    }
}

fn endpoint(mode: Mode) -> WebhookEndpoint {
    let id = WebhookEndpointId::from_bytes([1; 16]);
    WebhookEndpoint::new(id, Tenant { consumer_id: shop(), mode }, "https://a", "a".into(), now())
}

/// What each part alone comes to when all is removed, the first time and the second.
async fn removed<R: Future<Output = Result<(), Problem>>>(
    add: impl Fn(&MemorySettings),
    remove: impl Fn(MemorySettings) -> R,
) -> (bool, ProblemCode) {
    let settings = MemorySettings::new();
    add(&settings);
    let first = remove(settings.clone()).await;
    (first.is_ok(), remove(settings).await.unwrap_err().code)
}

#[tokio::test]
async fn what_is_left_of_a_consumer_is_removed_once() {
    let remove = async |settings: MemorySettings| delete_consumer(&settings, "shop", now()).await;
    let once = (true, ProblemCode::NotFound);
    assert_eq!(removed(|settings| settings.add_key(key(KeyOwner::Consumer(shop()))), remove).await, once);
    for mode in [Mode::Live, Mode::Test] {
        assert_eq!(removed(|settings| settings.add_endpoint(endpoint(mode)), remove).await, once);
    }
    assert_eq!(removed(|_| {}, remove).await, (false, ProblemCode::NotFound));
}

#[tokio::test]
async fn what_is_left_of_a_provider_is_removed_once() {
    let location = || LocationSettings {
        location_id: LocationId::parse("main").unwrap(),
        display_name: "Main".to_owned(),
        zone: Zone::utc(),
        services: Vec::new(),
    };
    let usual = || ProviderSettings::usual(clinic(), Mode::Test, "https://clinic.example");
    let remove = async |settings: MemorySettings| {
        delete_provider(&settings, &MemoryAvailability::new(), "clinic", now()).await
    };
    let once = (true, ProblemCode::NotFound);
    assert_eq!(removed(|settings| settings.add_provider(usual()), remove).await, once);
    assert_eq!(removed(|settings| settings.add_key(key(KeyOwner::Provider(clinic()))), remove).await, once);
    assert_eq!(removed(|settings| settings.add_location(&clinic(), location()), remove).await, once);
    assert_eq!(removed(|_| {}, remove).await, (false, ProblemCode::NotFound));
}

#[tokio::test]
async fn whose_keys_are_asked_for_is_named_if_there_is_no_such_owner() {
    let settings = MemorySettings::new();
    for (kind, name) in [(OwnerKind::Consumer, "consumer"), (OwnerKind::Provider, "provider")] {
        for id in ["nobody", "No Name"] {
            let detail = keys(&settings, kind, id).await.unwrap_err().detail;
            assert!(detail.contains(name), "{detail}");
        }
    }
}
