//! Providers that fetch what they are told: a mailbox in place of a URL.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{LOOK_AGAIN, Protocol, Provider, SOON, World, text, until};

const PATH: &str = "/v1/provider/notifications";

/// A provider without a URL, and its key.
async fn fetching(world: &World, protocol: Protocol) -> (Provider<'_>, String) {
    // Whatever is for calling it must not be configured.
    let settings = json!({
        "confirmation": "notify", "base_url": null, "auth": null, "signing_secret": null, "retry": null,
        "attempt_timeout_millisecond": null, "notification_schedule_seconds": null,
    });
    let provider = world.provider_of(protocol, &settings).await;
    let (_, key) = world.key(&format!("/v1/admin/providers/{}", provider.id)).await;
    (provider, key)
}

async fn fetch(world: &World, key: &str, query: &str) -> Reply {
    let fetched = Reply::of(world.call(Method::GET, &format!("{PATH}{query}")).bearer_auth(key)).await;
    assert_eq!(fetched.status, 200, "{fetched:?}");
    fetched
}

fn notifications(reply: &Reply) -> Vec<Value> {
    reply.json["notifications"].as_array().unwrap().clone()
}

/// Fetches until so many are there.
async fn until_told(world: &World, key: &str, count: usize) -> Vec<Value> {
    let all = std::sync::Mutex::new(Vec::new());
    until(SOON, LOOK_AGAIN, "notifications to fetch", async || {
        let more = notifications(&fetch(world, key, "?limit=100").await);
        let mut all = all.lock().unwrap();
        all.extend(more);
        if all.len() >= count { Ok(all.clone()) } else { Err(json!(*all)) }
    })
    .await
}

#[tokio::test]
async fn a_provider_without_a_url_fetches_what_it_is_told() {
    let world = World::new();
    let (consumer, (provider, key)) = (world.consumer().await, fetching(&world, Protocol::Native).await);
    assert_eq!(fetch(&world, &key, "").await.json, json!({"notifications": [], "remaining": 0}));
    let body = provider.body(&json!({}));
    let created = consumer.create(&body).await;
    created.assert_booking(201, "confirmed");
    let id = created.booking_id();

    let [booked] = until_told(&world, &key, 1).await.try_into().unwrap();
    assert_eq!((&booked["name"], &booked["booking_id"]), (&json!("booked"), &json!(id)));
    assert_eq!((&booked["version"], &booked["created_at"]), (&json!(2), &created.json["created_at"]));
    assert_eq!((&booked["data"]["slot"], &booked["data"]["customer"]), (&body["slot"], &body["customer"]));

    // Two changes at once are told one after the other.
    let moved = consumer.operate(id, "reschedule", &json!({"slot": provider.slot(1)})).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    assert_eq!(consumer.operate(id, "cancel", &json!({})).await.status, 200);
    let told = until_told(&world, &key, 2).await;
    assert_eq!(told.iter().map(|told| text(&told["name"])).collect::<Vec<_>>(), ["moved", "cancelled"]);
    assert_eq!(told[0]["data"]["slot"], provider.slot(1));
    assert!(told.iter().all(|told| told["booking_id"] == id));

    // Whatever was fetched can be had again, but not all the time; of what is cancelled, that alone.
    consumer.create(&body).await.assert_booking(201, "confirmed");
    let [standing] = until_told(&world, &key, 1).await.try_into().unwrap();
    let release = || world.call(Method::POST, &format!("{PATH}/release")).bearer_auth(&key);
    let released = Reply::of(release()).await;
    assert_eq!((released.status, &released.json), (200, &json!({"released": 4})));
    let again = notifications(&fetch(&world, &key, "").await);
    assert_eq!(again, [told[1].clone(), standing]);
    let too_soon = Reply::of(release()).await;
    too_soon.assert_problem(429, "release_too_soon", "none");
    let seconds: u64 = too_soon.header("retry-after").parse().unwrap();
    assert!((3_000..=3_600).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn several_pulls_at_once_share_what_is_there() {
    const BOOKINGS: usize = 12;
    let world = World::new();
    let (consumer, (provider, key)) = (world.consumer().await, fetching(&world, Protocol::Docplanner).await);
    let (_, another) = fetching(&world, Protocol::Docplanner).await;
    let body = provider.body(&json!({}));
    let created = join_all((0..BOOKINGS).map(|_| consumer.create(&body))).await;
    let mut expected: Vec<String> = created.iter().map(|reply| reply.booking_id().to_owned()).collect();
    expected.sort();

    let seen = std::sync::Mutex::new(Vec::new());
    until(SOON, LOOK_AGAIN, "all notifications", async || {
        let pulls = join_all((0..3).map(|_| fetch(&world, &key, "?limit=4"))).await;
        let mut seen = seen.lock().unwrap();
        for told in pulls.iter().flat_map(notifications) {
            assert_eq!(told["name"], "slot-booked");
            seen.push(text(&told["data"]["visit_booking"]["id"]));
        }
        if seen.len() >= BOOKINGS { Ok(()) } else { Err(json!(seen.len())) }
    })
    .await;
    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    assert_eq!(seen, expected);
    assert_eq!(fetch(&world, &another, "").await.json, json!({"notifications": [], "remaining": 0}));
}
