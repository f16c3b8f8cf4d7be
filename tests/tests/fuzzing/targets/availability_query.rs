//! The query of `GET /v1/availability`, over the whole function.
//!
//! Input: the query, as it is in the URL.

use availability::{Service, router};
use holdfast_app::auth::new_key;
use holdfast_app::availability::{
    Availability, AvailabilityParameters, MAX_DAYS, MAX_LOCATIONS, needs_another_secret, open_key,
};
use holdfast_app::ports::{ConfigurationStore, SettingsReader, Wanted};
use holdfast_app::rates::RequestRates;
use holdfast_app::settings::{KeyOwner, LocationSettings, ProviderSettings};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::{
    MemoryAvailability, MemoryOpenings, MemorySettings, SeededEntropy, TestClock, open_slot,
};
use holdfast_domain::{ConsumerId, LocationId, Mode, ProviderId, Timestamp, Zone};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::http::Call;
use super::{now, run};

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1_000;

pub(super) fn check(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    run(ask(query));
}

async fn ask(query: &str) {
    let clock = TestClock::starting_at(now());
    let settings = MemorySettings::new();
    let id = ProviderId::parse("clinic").expect("a name");
    settings.add_provider(ProviderSettings::usual(id.clone(), Mode::Test, "https://clinic.example"));
    let provider = MemoryOpenings::new();
    for (name, zone) in [("main", "Europe/Rome"), ("far", "Pacific/Kiritimati")] {
        let location_id = LocationId::parse(name).expect("a name");
        let zone = Zone::parse(zone).expect("a zone");
        let display_name = name.to_owned();
        settings
            .add_location(&id, LocationSettings { location_id, display_name, zone, services: Vec::new() });
        provider.open(name, (0..60).map(|day| open_slot(now().plus_ms(day * MS_PER_DAY))).collect());
    }
    let owner = KeyOwner::Consumer(ConsumerId::parse("shop").expect("a name"));
    let (key, record) = new_key(owner, Mode::Test, now(), &SeededEntropy::new(1));
    settings.put_key(&record).await.expect("nothing fails");
    let (store, entropy) = (MemoryAvailability::new(), SeededEntropy::new(2));
    let availability = Availability::new(store, provider, settings.clone(), clock, entropy.clone());
    let cache = SettingsCache::new(settings.clone());
    let (configuration, rates) = (settings.clone(), RequestRates::default());
    let service = Service { availability, configuration, settings: cache, rates, clock, entropy };
    let router = router().expect("the routes are sound");
    let path = format!("/v1/availability?{query}");
    let call = Call::new("GET", &path, key.expose_secret(), b"");
    let handler = |request, routed| service.handle(request, routed);
    let answer = call.make(&router, &handler, clock).await;
    if answer.status >= 400 {
        for error in answer.body["errors"].as_array().map_or(&[][..], Vec::as_slice) {
            let pointer = error["pointer"].as_str().expect("a pointer");
            let is_named = AvailabilityParameters::NAMES.contains(&pointer)
                || error["detail"].as_str().is_some_and(|detail| detail.starts_with("is not a known"));
            assert!(is_named, "{pointer} is no parameter");
        }
        return;
    }
    let wanted = Wanted { booking_key_secrets: true, ..Wanted::default() };
    let secrets = settings.load(&wanted).await.expect("nothing fails").booking_key_secrets;
    let data = answer.body["data"].as_array().expect("a list");
    assert!((1..=MAX_LOCATIONS).contains(&data.len()));
    for location in data {
        let Some(slots) = location["slots"].as_array() else {
            assert!(location["error"]["code"].is_string(), "{location}");
            continue;
        };
        assert!(slots.len() <= MAX_DAYS as usize + 1, "{} slots", slots.len());
        for slot in slots {
            let key = slot["booking_key"].as_str().expect("a key");
            assert!(!needs_another_secret(key, &secrets));
            let keyed = open_key(key, &secrets, Mode::Test).expect("what is shown can be booked").slot;
            assert_eq!((Some(keyed.start), Some(keyed.end)), (time(&slot["start"]), time(&slot["end"])));
            assert_eq!(location["location_id"], keyed.location_id);
            assert!(keyed.start > now(), "what has begun is not open");
        }
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(value.as_str()?).ok()
}
