//! The values that golden items say, each with its writer and its reader.

use std::collections::BTreeMap;

use futures_util::future::{BoxFuture, FutureExt};
use holdfast_app::availability::BookingKeySecret;
use holdfast_app::ports::{
    AuditLog, AuditPage, BookingKeySecretStore, BreakerStore, ConfigurationStore, LimitStore, LocationStore,
    PlaceLease, SettingsReader, Wanted, WantedCalls,
};
use holdfast_app::settings::{
    AvailabilitySource, ConsumerSettings, LocationSettings, OfferedService, Protocol, ProviderAuth,
    ProviderSettings,
};
use holdfast_domain::{ConfirmationMode, ConsumerId, LocationId, Mode, RetryPolicy, Zone};
use secrecy::ExposeSecret;

use crate::contract::audit;
use crate::contract::embedded::{CONFIG_TABLE, Embedded};
use crate::contract::fixtures::{booking_key_secret, consumer_owner, key, now, provider, provider_id};

/// A value, as it is written and as it is read. Reading tells the value as a text with everything in it.
pub(super) struct Case {
    /// The file's name, without its ending.
    pub(super) file: &'static str,
    pub(super) table: &'static str,
    pub(super) write: for<'a> fn(&'a Embedded) -> BoxFuture<'a, ()>,
    pub(super) read: for<'a> fn(&'a Embedded) -> BoxFuture<'a, Result<String, String>>,
    /// What reading tells.
    pub(super) says: fn() -> String,
}

macro_rules! case {
    ($file:literal, $table:expr, |$to:ident| $write:expr, |$from:ident| $read:expr, $says:expr) => {
        Case {
            file: $file,
            table: $table,
            write: |$to| {
                async move {
                    $write;
                }
                .boxed()
            },
            read: |$from| async move { ($read).map_err(|error| error.to_string()) }.boxed(),
            says: || $says,
        }
    };
}

mod availability;
mod deliveries;

pub(super) fn cases() -> Vec<Case> {
    [
        configuration(),
        places_and_limits(),
        deliveries::webhooks(),
        deliveries::mailboxes(),
        availability::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn consumer() -> ConsumerSettings {
    ConsumerSettings {
        consumer_id: ConsumerId::parse("shop").unwrap(),
        display_name: "Żagle & Co".to_owned(),
        requests_per_second: None,
    }
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

fn full_provider() -> ProviderSettings {
    ProviderSettings {
        protocol: Protocol::Docplanner,
        confirmation: ConfirmationMode::RealTime,
        auth: ProviderAuth::ApiKey { header: "x-key".to_owned(), value: "sesame".into() },
        signing_secret: Some("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".into()),
        retry: RetryPolicy::new(1_000, 3, 60_000).unwrap(),
        attempt_timeout_ms: 20_000,
        real_time_timeout_ms: 3_000,
        notification_schedule_ms: vec![60_000, 120_000],
        exclusive_slots: true,
        decline_messages: BTreeMap::from([("7".to_owned(), "Please call.".to_owned())]),
        requests_per_second: Some(10),
        max_attempts_in_flight: Some(5),
        availability: AvailabilitySource::Push,
        ..provider("demo-clinic")
    }
}

fn supplier() -> ProviderSettings {
    ProviderSettings {
        protocol: Protocol::Octo,
        auth: ProviderAuth::Basic { username: "holdfast".to_owned(), password: "sesame".into() },
        default_unit_id: Some("adult".to_owned()),
        ..provider("demo-clinic")
    }
}

fn fetching() -> ProviderSettings {
    ProviderSettings {
        mode: Mode::Live,
        base_url: None,
        confirmation: ConfirmationMode::Notify,
        availability: AvailabilitySource::Push,
        auth: ProviderAuth::Bearer { token: "sesame".into() },
        ..provider("demo-clinic")
    }
}

fn location(services: bool) -> LocationSettings {
    let service = |id: &str, resource: Option<&str>| OfferedService {
        service_id: id.to_owned(),
        resource_id: resource.map(str::to_owned),
    };
    LocationSettings {
        location_id: LocationId::parse("main-street").unwrap(),
        display_name: "Main Street".to_owned(),
        zone: Zone::parse("Europe/Rome").unwrap(),
        services: if services {
            vec![service("walk", Some("boat")), service("swim", None)]
        } else {
            Vec::new()
        },
    }
}

async fn provider_read(from: &Embedded) -> Result<String, holdfast_app::ports::StoreError> {
    Ok(from.settings().provider(&provider_id()).await?.as_ref().map(shown).unwrap_or_default())
}

fn configuration() -> Vec<Case> {
    vec![
        case!(
            "consumer-v1",
            CONFIG_TABLE,
            |to| to.settings().put_consumer(&consumer()).await.unwrap(),
            |from| from.settings().consumer(&consumer().consumer_id).await.map(|found| format!("{found:?}")),
            format!("{:?}", Some(consumer()))
        ),
        case!(
            "provider-v1-usual",
            CONFIG_TABLE,
            |to| to.settings().put_provider(&provider("demo-clinic")).await.unwrap(),
            |from| provider_read(from).await,
            shown(&provider("demo-clinic"))
        ),
        case!(
            "provider-v1-full",
            CONFIG_TABLE,
            |to| to.settings().put_provider(&full_provider()).await.unwrap(),
            |from| provider_read(from).await,
            shown(&full_provider())
        ),
        case!(
            "provider-v1-supplier",
            CONFIG_TABLE,
            |to| to.settings().put_provider(&supplier()).await.unwrap(),
            |from| provider_read(from).await,
            shown(&supplier())
        ),
        case!(
            "provider-v1-fetching",
            CONFIG_TABLE,
            |to| to.settings().put_provider(&fetching()).await.unwrap(),
            |from| provider_read(from).await,
            shown(&fetching())
        ),
        case!(
            "location-v1",
            CONFIG_TABLE,
            |to| to.settings().put_location(&provider_id(), &location(false)).await.unwrap(),
            |from| from.settings().locations(&provider_id()).await.map(|found| format!("{found:?}")),
            format!("{:?}", [location(false)])
        ),
        case!(
            "location-v1-services",
            CONFIG_TABLE,
            |to| to.settings().put_location(&provider_id(), &location(true)).await.unwrap(),
            |from| from.settings().locations(&provider_id()).await.map(|found| format!("{found:?}")),
            format!("{:?}", [location(true)])
        ),
        case!(
            "audit-v1",
            CONFIG_TABLE,
            |to| to.settings().add(&audit::entry(7, "a")).await.unwrap(),
            |from| from.settings().entries(None, 9).await.map(|page| format!("{page:?}")),
            format!("{:?}", AuditPage { entries: vec![audit::entry(7, "a")], next: None })
        ),
        case!(
            "key-v1",
            CONFIG_TABLE,
            |to| {
                let mut ended = key(2, consumer_owner("shop"));
                ended.revoked_from = Some(now().plus_ms(9));
                to.settings().put_key(&key(1, consumer_owner("shop"))).await.unwrap();
                to.settings().put_key(&ended).await.unwrap();
            },
            |from| from.settings().keys(&consumer_owner("shop")).await.map(|found| format!("{found:?}")),
            {
                let mut ended = key(2, consumer_owner("shop"));
                ended.revoked_from = Some(now().plus_ms(9));
                format!("{:?}", [key(1, consumer_owner("shop")), ended])
            }
        ),
        case!(
            "booking-keys-v1",
            CONFIG_TABLE,
            |to| {
                let secrets = [booking_key_secret(2), booking_key_secret(1)];
                assert!(to.settings().replace_booking_key_secrets(None, &secrets).await.unwrap());
            },
            |from| {
                let wanted = Wanted { booking_key_secrets: true, ..Wanted::default() };
                let found = from.settings().load(&wanted).await;
                found.map(|found| told(&found.booking_key_secrets))
            },
            told(&[booking_key_secret(2), booking_key_secret(1)])
        ),
    ]
}

/// Secrets with what cannot be printed by accident.
fn told(secrets: &[BookingKeySecret]) -> String {
    let each: Vec<_> = secrets.iter().map(|secret| (secret.id, secret.key, secret.created_at)).collect();
    format!("{each:?}")
}

fn calls() -> WantedCalls {
    WantedCalls { window_s: 1_795_257_665, is_begun: false, calls: 3, capacity: 10 }
}

fn places_and_limits() -> Vec<Case> {
    vec![
        case!(
            "breaker-v1-open",
            CONFIG_TABLE,
            |to| {
                to.settings().record_failure(&provider_id(), 1, now()).await.unwrap();
                assert!(to.settings().try_probe(&provider_id(), now(), now().plus_ms(5_000)).await.unwrap());
            },
            |from| from.settings().read(&provider_id()).await.map(|found| format!("{found:?}")),
            format!(
                "{:?}",
                holdfast_app::settings::BreakerState {
                    consecutive_failures: 1,
                    open_until: Some(now()),
                    probe_until: Some(now().plus_ms(5_000)),
                }
            )
        ),
        case!(
            "breaker-v1-counting",
            CONFIG_TABLE,
            |to| to.settings().record_failure(&provider_id(), 5, now()).await.unwrap(),
            |from| from.settings().read(&provider_id()).await.map(|found| format!("{found:?}")),
            format!(
                "{:?}",
                holdfast_app::settings::BreakerState {
                    consecutive_failures: 1,
                    open_until: None,
                    probe_until: None
                }
            )
        ),
        // Of what is taken a reader learns by what is left.
        case!(
            "limit-calls-v1",
            CONFIG_TABLE,
            |to| to.settings().take_calls(&provider_id(), &calls()).await.unwrap(),
            |from| from
                .settings()
                .take_calls(&provider_id(), &WantedCalls { calls: 10, ..calls() })
                .await
                .map(|found| format!("{found:?}")),
            format!("{:?}", holdfast_app::ports::TakenCalls { window_s: calls().window_s, taken: 7 })
        ),
        case!(
            "limit-places-v1",
            CONFIG_TABLE,
            |to| {
                let lease = PlaceLease { id: "lease-1".to_owned(), until: now().plus_ms(30_000) };
                assert!(to.settings().take_place(&provider_id(), &lease, 1, now()).await.unwrap());
            },
            |from| {
                let other = PlaceLease { id: "lease-2".to_owned(), until: now().plus_ms(90_000) };
                let early =
                    from.settings().take_place(&provider_id(), &other, 1, now().plus_ms(29_999)).await;
                let late = from.settings().take_place(&provider_id(), &other, 1, now().plus_ms(30_000)).await;
                early.and_then(|early| Ok(format!("{early} {}", late?)))
            },
            "false true".to_owned()
        ),
    ]
}
