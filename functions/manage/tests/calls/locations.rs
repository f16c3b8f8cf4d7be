//! A provider's locations.

use holdfast_app::ports::{AvailabilityStore, KnownAvailability, Place};
use holdfast_domain::{ProviderId, Timestamp, Zone};
use serde_json::{Value, json};

use crate::harness::{Answer, Harness};
use crate::providers::provider;

const LOCATIONS: &str = "/v1/admin/providers/clinic/locations";

async fn with_provider(settings: &Value) -> Harness {
    let harness = Harness::new();
    let mut body = provider();
    for (name, value) in settings.as_object().unwrap() {
        body[name] = value.clone();
    }
    let put = harness.admin("PUT", "/v1/admin/providers/clinic", Some(body)).await;
    assert_eq!(put.status, 200, "{put:?}");
    harness
}

async fn put(harness: &Harness, id: &str, body: Value) -> Answer {
    harness.admin("PUT", &format!("{LOCATIONS}/{id}"), Some(body)).await
}

fn rome() -> Value {
    json!({"name": "Main Street", "time_zone": "europe/rome"})
}

#[tokio::test(start_paused = true)]
async fn a_location_is_made_replaced_listed_and_removed() {
    let harness = with_provider(&json!({})).await;
    let shown = json!({"id": "main.1", "name": "Main Street", "time_zone": "Europe/Rome", "services": []});
    let made = put(&harness, "main.1", rome()).await;
    assert_eq!((made.status, &made.body), (200, &shown));
    put(&harness, "b", json!({"name": "B", "time_zone": "UTC"})).await;
    let read = harness.admin("GET", &format!("{LOCATIONS}/main.1"), None).await;
    assert_eq!((read.status, &read.body), (200, &shown));
    let all = harness.admin("GET", LOCATIONS, None).await;
    let names: Vec<&str> =
        all.body["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["b", "main.1"]);
    let moved = put(&harness, "b", json!({"name": "B", "time_zone": "Asia/Tokyo"})).await;
    assert_eq!(moved.body["time_zone"], "Asia/Tokyo");
    for (status, code) in [(204, ""), (404, "not_found")] {
        let gone = harness.admin("DELETE", &format!("{LOCATIONS}/b"), None).await;
        assert_eq!((gone.status, gone.code()), (status, code));
    }
    assert_eq!(harness.admin("GET", &format!("{LOCATIONS}/b"), None).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_location_is_refused_where_it_stands() {
    let harness = with_provider(&json!({})).await;
    for (body, pointers) in [
        (json!({}), vec!["/name", "/time_zone"]),
        (json!({"name": "", "time_zone": "Rome"}), vec!["/name", "/time_zone"]),
        (json!({"name": "A", "time_zone": "UTC", "services": [{"service_id": "x"}]}), vec!["/services"]),
        (json!({"name": "A", "time_zone": "UTC", "city": "Rome"}), vec!["/city"]),
    ] {
        let refused = put(&harness, "a", body).await;
        assert_eq!((refused.status, refused.pointers()), (422, pointers), "{refused:?}");
    }
    for id in ["a,b", "a%20b", &"x".repeat(129)] {
        let refused = put(&harness, id, rome()).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_parameter"), "{id}");
    }
    let nowhere = harness.admin("PUT", "/v1/admin/providers/nobody/locations/a", Some(rome())).await;
    assert_eq!((nowhere.status, nowhere.code()), (404, "not_found"));
    assert_eq!(harness.admin("GET", "/v1/admin/providers/nobody/locations", None).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_supplier_s_locations_name_what_it_offers_there() {
    let harness = with_provider(&json!({"protocol": "octo"})).await;
    let with = |services: Value| json!({"name": "Pier", "time_zone": "Europe/London", "services": services});
    assert_eq!(put(&harness, "pier", rome()).await.pointers(), ["/services"]);
    let services = json!([{"service_id": "walk"}, {"service_id": "walk", "resource_id": "late"}]);
    let made = put(&harness, "pier", with(services.clone())).await;
    assert_eq!((made.status, &made.body["services"]), (200, &services));
    let twice = json!([{"service_id": "walk"}, {"service_id": "walk"}]);
    assert_eq!(put(&harness, "pier", with(twice)).await.pointers(), ["/services/1"]);
    let many: Vec<Value> = (0..21).map(|number| json!({"service_id": format!("s{number}")})).collect();
    assert_eq!(put(&harness, "pier", with(json!(many))).await.pointers(), ["/services"]);
    assert_eq!(
        put(&harness, "pier", with(json!([{"service_id": " "}]))).await.pointers(),
        ["/services/0/service_id"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_takes_its_locations_and_all_that_is_known_of_them_with_it() {
    let harness = with_provider(&json!({})).await;
    let place = Place { provider_id: ProviderId::parse("clinic").unwrap(), location_id: "a".to_owned() };
    for id in ["a", "b"] {
        put(&harness, id, rome()).await;
    }
    let zone = Zone::utc();
    let window = zone.days(zone.date_at(Timestamp::EPOCH), 1);
    let said = KnownAvailability { as_of: Timestamp::EPOCH, window, zone, slots: Vec::new() };
    harness.availability.replace(&place, &said).await.unwrap();
    assert_eq!(harness.admin("DELETE", "/v1/admin/providers/clinic", None).await.status, 204);
    assert_eq!(harness.availability.remembered(&place).availability, None);
    // Whoever gets the name next begins without them.
    harness.admin("PUT", "/v1/admin/providers/clinic", Some(provider())).await;
    assert_eq!(harness.admin("GET", LOCATIONS, None).await.body["data"], json!([]));
}
