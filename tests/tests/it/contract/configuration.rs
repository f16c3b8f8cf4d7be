//! What every store of the configuration promises.

use holdfast_app::ports::{ConfigurationStore, SettingsReader, Wanted};
use holdfast_app::settings::{
    AvailabilitySource, ConsumerSettings, KeyOwner, Protocol, ProviderAuth, ProviderSettings,
};
use holdfast_app::test_util::MemorySettings;
use holdfast_domain::{ConfirmationMode, ConsumerId, KeyId, Mode, ProviderId, RetryPolicy};
use secrecy::ExposeSecret;

use super::fixtures::{consumer_owner, key, now, provider};

on_both!(
    MemorySettings::new(), settings;
    consumers_are_written_listed_and_removed,
    providers_survive_with_their_secrets,
    providers_of_every_kind_survive,
    keys_are_listed_by_owner,
    a_key_ends_once_and_for_its_owner_only,
    one_load_brings_everything_wanted,
    more_keys_than_a_batch_holds_are_listed,
);

async fn consumers_are_written_listed_and_removed(store: &impl ConfigurationStore) {
    let consumer = |name: &str, display_name: &str| ConsumerSettings {
        consumer_id: ConsumerId::parse(name).unwrap(),
        display_name: display_name.to_owned(),
        requests_per_second: (name == "art").then_some(7),
    };
    let (zoo, art) = (consumer("zoo", "Zoo"), consumer("art", "Art"));
    assert_eq!(store.consumer(&zoo.consumer_id).await.unwrap(), None);
    store.put_consumer(&zoo).await.unwrap();
    store.put_consumer(&art).await.unwrap();
    store.put_consumer(&consumer("zoo", "Zoo & Co")).await.unwrap();
    assert_eq!(store.consumer(&zoo.consumer_id).await.unwrap().unwrap().display_name, "Zoo & Co");
    assert_eq!(store.consumers().await.unwrap(), [art.clone(), consumer("zoo", "Zoo & Co")]);
    assert!(store.delete_consumer(&zoo.consumer_id).await.unwrap());
    assert!(!store.delete_consumer(&zoo.consumer_id).await.unwrap());
    assert_eq!(store.consumers().await.unwrap(), [art]);
}

fn shown(provider: &ProviderSettings) -> String {
    let auth = match &provider.auth {
        ProviderAuth::None => "none".to_owned(),
        ProviderAuth::Bearer { token } => format!("bearer {}", token.expose_secret()),
        ProviderAuth::ApiKey { header, value } => format!("{header}: {}", value.expose_secret()),
        ProviderAuth::Basic { username, password } => format!("{username}:{}", password.expose_secret()),
    };
    let secret = provider.signing_secret.as_ref().map(|secret| secret.expose_secret().to_owned());
    format!("{provider:?} {auth} {secret:?}")
}

async fn providers_survive_with_their_secrets(store: &impl ConfigurationStore) {
    let auths = [
        ProviderAuth::None,
        ProviderAuth::Bearer { token: "sesame".into() },
        ProviderAuth::ApiKey { header: "x-api-key".to_owned(), value: "sesame".into() },
        ProviderAuth::Basic { username: "holdfast".to_owned(), password: "sesame".into() },
    ];
    for auth in auths {
        let mut written = provider("demo-lab");
        written.auth = auth;
        written.signing_secret = Some("whsec_c2VzYW1l".into());
        written.retry = RetryPolicy::new(1_000, 3, 60_000).unwrap();
        written.mode = Mode::Live;
        store.put_provider(&written).await.unwrap();
        let read = store.provider(&written.provider_id).await.unwrap().unwrap();
        assert_eq!(shown(&read), shown(&written));
    }
    store.put_provider(&provider("a-clinic")).await.unwrap();
    let names: Vec<String> =
        store.providers().await.unwrap().iter().map(|provider| provider.provider_id.to_string()).collect();
    assert_eq!(names, ["a-clinic", "demo-lab"]);
    let lab = ProviderId::parse("demo-lab").unwrap();
    assert!(store.delete_provider(&lab).await.unwrap());
    assert!(!store.delete_provider(&lab).await.unwrap());
    assert!(store.provider(&lab).await.unwrap().is_none());
}

async fn providers_of_every_kind_survive(store: &impl ConfigurationStore) {
    let usual = provider("demo-clinic");
    let fetching = ProviderSettings {
        base_url: None,
        confirmation: ConfirmationMode::Notify,
        availability: AvailabilitySource::Push,
        ..usual.clone()
    };
    let asking = ProviderSettings {
        protocol: Protocol::Docplanner,
        confirmation: ConfirmationMode::RealTime,
        real_time_timeout_ms: 2_500,
        notification_schedule_ms: Vec::new(),
        exclusive_slots: true,
        decline_messages: [("17".to_owned(), "Too late today.".to_owned())].into(),
        ..usual.clone()
    };
    // What is unusual is kept all the same.
    let supplier = ProviderSettings {
        protocol: Protocol::Octo,
        default_unit_id: Some("adult".to_owned()),
        requests_per_second: Some(1_000),
        max_attempts_in_flight: Some(100),
        availability: AvailabilitySource::Push,
        ..usual.clone()
    };
    for written in [fetching, asking, supplier, usual] {
        store.put_provider(&written).await.unwrap();
        let read = store.provider(&written.provider_id).await.unwrap().unwrap();
        assert_eq!(shown(&read), shown(&written));
    }
}

async fn keys_are_listed_by_owner(store: &impl ConfigurationStore) {
    let owners = [
        consumer_owner("shop"),
        consumer_owner("other"),
        KeyOwner::Provider(ProviderId::parse("shop").unwrap()),
        KeyOwner::Admin,
    ];
    for (seed, owner) in (1_u8..).zip(&owners) {
        // The newer key is written first.
        store.put_key(&key(seed + 100, owner.clone())).await.unwrap();
        store.put_key(&key(seed, owner.clone())).await.unwrap();
    }
    for (seed, owner) in (1_u8..).zip(&owners) {
        let expected = [key(seed, owner.clone()), key(seed + 100, owner.clone())];
        assert_eq!(store.keys(owner).await.unwrap(), expected);
    }
    assert_eq!(store.keys(&consumer_owner("nobody")).await.unwrap(), []);
}

async fn a_key_ends_once_and_for_its_owner_only(store: &impl ConfigurationStore) {
    let owner = consumer_owner("shop");
    let record = key(1, owner.clone());
    store.put_key(&record).await.unwrap();
    let later = now().plus_ms(60_000);
    assert!(!store.revoke_key(&consumer_owner("other"), &record.key_id, now()).await.unwrap());
    assert!(!store.revoke_key(&owner, &KeyId::from_bytes([9; 16]), now()).await.unwrap());
    assert_eq!(store.keys(&owner).await.unwrap()[0].revoked_from, None);
    for (from, expected) in [(later, later), (now(), now()), (later, now())] {
        assert!(store.revoke_key(&owner, &record.key_id, from).await.unwrap());
        assert_eq!(store.keys(&owner).await.unwrap()[0].revoked_from, Some(expected));
    }
}

async fn one_load_brings_everything_wanted(store: &(impl ConfigurationStore + SettingsReader)) {
    let record = key(1, KeyOwner::Admin);
    let clinic = provider("demo-clinic");
    store.put_key(&record).await.unwrap();
    store.put_provider(&clinic).await.unwrap();
    store.put_provider(&provider("demo-lab")).await.unwrap();
    let wanted = Wanted {
        key_id: Some(record.key_id.clone()),
        provider_id: Some(clinic.provider_id.clone()),
        booking_key_secrets: false,
    };
    let loaded = store.load(&wanted).await.unwrap();
    assert_eq!(loaded.key.as_ref(), Some(&record));
    assert_eq!(shown(&loaded.provider.unwrap()), shown(&clinic));
    assert_eq!(loaded.breaker.consecutive_failures, 0);
    let strangers = Wanted {
        key_id: Some(KeyId::from_bytes([9; 16])),
        provider_id: Some(ProviderId::parse("nobody").unwrap()),
        booking_key_secrets: false,
    };
    let loaded = store.load(&strangers).await.unwrap();
    assert!(loaded.key.is_none() && loaded.provider.is_none());
    let loaded = store.load(&Wanted::default()).await.unwrap();
    assert!(loaded.key.is_none() && loaded.provider.is_none());
}

async fn more_keys_than_a_batch_holds_are_listed(store: &impl ConfigurationStore) {
    for seed in 0..120 {
        store.put_key(&key(seed, KeyOwner::Admin)).await.unwrap();
    }
    let keys = store.keys(&KeyOwner::Admin).await.unwrap();
    assert_eq!(keys, (0..120).map(|seed| key(seed, KeyOwner::Admin)).collect::<Vec<_>>());
}
