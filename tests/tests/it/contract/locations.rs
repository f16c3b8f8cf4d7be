//! What every store of providers' locations promises.

use std::slice;

use holdfast_app::ports::LocationStore;
use holdfast_app::settings::{LocationSettings, OfferedService};
use holdfast_app::test_util::MemorySettings;
use holdfast_domain::{LocationId, ProviderId, Zone};

use super::fixtures::provider_id;

on_both!(
    MemorySettings::new(), settings;
    locations_are_written_listed_and_removed,
    locations_survive_with_their_services,
    those_that_are_named_are_found_each_once,
    more_locations_than_a_batch_holds_are_found,
);

fn id(name: &str) -> LocationId {
    LocationId::parse(name).unwrap()
}

pub(crate) fn location(name: &str) -> LocationSettings {
    LocationSettings {
        location_id: id(name),
        display_name: format!("The {name}"),
        zone: Zone::parse("Europe/Rome").unwrap(),
        services: Vec::new(),
    }
}

fn service(service_id: &str, resource_id: Option<&str>) -> OfferedService {
    OfferedService { service_id: service_id.to_owned(), resource_id: resource_id.map(str::to_owned) }
}

/// In the order of their names.
async fn named(store: &impl LocationStore, names: &[&str]) -> Vec<LocationSettings> {
    let ids: Vec<LocationId> = names.iter().map(|name| id(name)).collect();
    let mut found = store.locations_named(&provider_id(), &ids).await.unwrap();
    found.sort_by(|left, right| left.location_id.cmp(&right.location_id));
    found
}

async fn locations_are_written_listed_and_removed(store: &impl LocationStore) {
    let other = ProviderId::parse("demo-clinic2").unwrap();
    assert_eq!(store.locations(&provider_id()).await.unwrap(), []);
    for name in ["main-street", "Annex", "2.floor"] {
        store.put_location(&provider_id(), &location(name)).await.unwrap();
    }
    store.put_location(&other, &location("elsewhere")).await.unwrap();
    let renamed = LocationSettings {
        display_name: "Main Street".to_owned(),
        zone: Zone::utc(),
        ..location("main-street")
    };
    store.put_location(&provider_id(), &renamed).await.unwrap();
    let all = [location("2.floor"), location("Annex"), renamed];
    assert_eq!(store.locations(&provider_id()).await.unwrap(), all);
    assert!(store.delete_location(&provider_id(), &id("Annex")).await.unwrap());
    assert!(!store.delete_location(&provider_id(), &id("Annex")).await.unwrap());
    assert!(!store.delete_location(&provider_id(), &id("elsewhere")).await.unwrap(), "it is another's");
    let [first, _, last] = all;
    assert_eq!(store.locations(&provider_id()).await.unwrap(), [first, last]);
    assert_eq!(store.locations(&other).await.unwrap(), [location("elsewhere")]);
}

async fn locations_survive_with_their_services(store: &impl LocationStore) {
    let services =
        vec![service("tour", Some("morning")), service("tour", None), service("Żagle & słońce", None)];
    let harbour = LocationSettings {
        display_name: "Überlingen".to_owned(),
        zone: Zone::parse("America/Argentina/Buenos_Aires").unwrap(),
        services,
        ..location("a-Z.0_9~:@")
    };
    store.put_location(&provider_id(), &harbour).await.unwrap();
    assert_eq!(store.locations(&provider_id()).await.unwrap(), slice::from_ref(&harbour));
    assert_eq!(named(store, &["a-Z.0_9~:@"]).await, slice::from_ref(&harbour));
    // What is written is all there is: services that were there before are gone.
    let bare = LocationSettings { services: Vec::new(), ..harbour };
    store.put_location(&provider_id(), &bare).await.unwrap();
    assert_eq!(named(store, &["a-Z.0_9~:@"]).await, [bare]);
}

async fn those_that_are_named_are_found_each_once(store: &impl LocationStore) {
    for name in ["a", "b", "c"] {
        store.put_location(&provider_id(), &location(name)).await.unwrap();
    }
    assert_eq!(named(store, &[]).await, []);
    assert_eq!(named(store, &["b", "nowhere"]).await, [location("b")]);
    assert_eq!(named(store, &["c", "a", "c", "a"]).await, [location("a"), location("c")]);
    let other = ProviderId::parse("other").unwrap();
    assert_eq!(store.locations_named(&other, &[id("a")]).await.unwrap(), []);
}

async fn more_locations_than_a_batch_holds_are_found(store: &impl LocationStore) {
    let names: Vec<String> = (0..130).map(|number| format!("street-{number:03}")).collect();
    for name in &names {
        store.put_location(&provider_id(), &location(name)).await.unwrap();
    }
    let all: Vec<LocationSettings> = names.iter().map(|name| location(name)).collect();
    assert_eq!(store.locations(&provider_id()).await.unwrap(), all);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(named(store, &names).await, all);
}
