//! What is open: asked live, remembered, kept fresh, told by providers, booked by its key.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::operations::wish;
use super::reply::Reply;
use super::world::{Consumer, LOOK_AGAIN, Protocol, Provider, SOON, World, list, text, until};

/// How long the planner may take until it has had some of sixty locations asked for: it plans every minute, and a
/// fifth of them each time.
const PLANNED: Duration = Duration::from_secs(200);

impl Provider<'_> {
    /// Has an administrator configure a location in Rome, with these fields besides.
    pub(super) async fn with_location(&self, world: &World, id: &str, changes: &Value) {
        let mut body = json!({"name": "A branch", "time_zone": "Europe/Rome"});
        super::world::merge(&mut body, changes);
        let path = format!("/v1/admin/providers/{}/locations/{id}", self.id);
        let put = Reply::of(world.admin(Method::PUT, &path).json(&body)).await;
        assert_eq!(put.status, 200, "{put:?}");
    }
}

impl Consumer<'_> {
    async fn availability(&self, provider: &Provider<'_>, rest: &str) -> Reply {
        self.get(&format!("/v1/availability?provider_id={}&{rest}", provider.id)).await
    }

    /// The slots of a provider's only location in question, from memory, as soon as they are as wanted.
    async fn until_open(&self, provider: &Provider<'_>, rest: &str, wanted: impl Fn(&[Value]) -> bool) {
        until(SOON, LOOK_AGAIN, "the open slots are as wanted", async || {
            let reply = self.availability(provider, &format!("{rest}&allow_stale=true")).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let slots = slots(&reply, 0);
            if wanted(&slots) { Ok(()) } else { Err(json!(slots.len())) }
        })
        .await;
    }
}

/// Asks until it is refused since the slot is not open. A look that a busy machine does not answer in time is passed
/// over, and what was accepted then changes nothing of what is open.
async fn until_refused(ask: impl AsyncFn() -> Reply) {
    until(SOON, LOOK_AGAIN, "the slot is refused", async || {
        let reply = ask().await;
        if reply.status < 300 {
            return Err(reply.json);
        }
        reply.assert_problem(409, "slot_unavailable", "none");
        Ok(())
    })
    .await;
}

fn slots(reply: &Reply, part: usize) -> Vec<Value> {
    let parts = list(&reply.json);
    parts[part]["slots"].as_array().unwrap_or_else(|| panic!("no slots: {reply:?}")).clone()
}

fn sources(reply: &Reply) -> Vec<String> {
    let source =
        |part: &Value| text(if part["error"].is_null() { &part["source"] } else { &part["error"]["code"] });
    list(&reply.json).iter().map(source).collect()
}

/// The body of a create by a booking key.
fn by_key(provider: &Provider<'_>, key: &Value) -> Value {
    provider.body(&json!({"slot": null, "booking_key": key}))
}

fn is_there(slots: &[Value], slot: &Value) -> bool {
    slots.iter().any(|other| other["start"] == slot["start"])
}

#[tokio::test]
async fn a_slot_is_shown_booked_by_its_key_gone_at_once_and_back_when_it_is_cancelled() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.with_location(&world, "main-street", &json!({})).await;
    let live = consumer.availability(&provider, "location_ids=main-street&days=3").await;
    assert_eq!((live.status, sources(&live)), (200, vec!["live".to_owned()]), "{live:?}");
    assert_eq!((live.header("cache-control"), live.header("age")), ("private, no-cache", "0"));
    assert_eq!(list(&live.json)[0]["time_zone"], "Europe/Rome");
    let open = slots(&live, 0);
    let slot = open.last().unwrap();
    assert!(slot.get("resource_id").is_none() && slot["capacity"] == 1, "{slot}");
    // From memory it is the same, and whoever has it is told so.
    let cached = consumer.availability(&provider, "location_ids=main-street&days=3&allow_stale=true").await;
    assert_eq!((sources(&cached), slots(&cached, 0)), (vec!["cache".to_owned()], open.clone()));
    assert_eq!(cached.header("etag"), live.header("etag"));
    let path = format!(
        "/v1/availability?provider_id={}&location_ids=main-street&days=3&allow_stale=true",
        provider.id
    );
    let unchanged = consumer.call(Method::GET, &path).header("if-none-match", live.header("etag"));
    let unchanged = Reply::of(unchanged).await;
    assert_eq!((unchanged.status, unchanged.bytes.len()), (304, 0), "{unchanged:?}");
    // Booked by its key, it is gone from memory without anybody being asked.
    let asked = provider.calls("availability").await.len();
    let created = consumer.create_with_key("by-key", &by_key(&provider, &slot["booking_key"])).await;
    let id = created.assert_booking(201, "confirmed");
    assert_eq!(
        (&created.json["slot"]["start"], &created.json["slot"]["end"]),
        (&slot["start"], &slot["end"])
    );
    assert_eq!(created.json["slot"]["location_id"], "main-street");
    let rest = "location_ids=main-street&days=3";
    consumer.until_open(&provider, rest, |open| !is_there(open, slot)).await;
    assert_eq!(provider.calls("availability").await.len(), asked);
    // The provider says the same.
    let live = consumer.availability(&provider, rest).await;
    assert!(!is_there(&slots(&live, 0), slot), "{live:?}");
    let again = consumer.create_with_key("by-key", &by_key(&provider, &slot["booking_key"])).await;
    again.assert_replays(&created);
    let cancelled = consumer.operate(&id, "cancel", &wish(&provider, "cancel", &json!({}))).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    consumer.until_open(&provider, rest, |open| is_there(open, slot)).await;
    provider.assert_agrees(&consumer, &[&id]).await;
}

#[tokio::test]
async fn a_booking_is_moved_by_a_key() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    provider.with_location(&world, "main-street", &json!({})).await;
    let rest = "location_ids=main-street&days=5";
    let open = slots(&consumer.availability(&provider, rest).await, 0);
    let [old, new] = [&open[open.len() - 2], &open[open.len() - 1]];
    let id = consumer.create(&by_key(&provider, &old["booking_key"])).await.assert_booking(201, "confirmed");
    consumer.until_open(&provider, rest, |open| !is_there(open, old)).await;
    let body = wish(&provider, "reschedule", &json!({"slot": null, "booking_key": new["booking_key"]}));
    let moved = consumer.operate(&id, "reschedule", &body).await;
    assert_eq!((moved.status, &moved.json["slot"]["start"]), (200, &new["start"]), "{moved:?}");
    consumer.until_open(&provider, rest, |open| is_there(open, old) && !is_there(open, new)).await;
    provider.assert_agrees(&consumer, &[&id]).await;
}

#[tokio::test]
async fn a_key_that_was_made_up_or_is_for_somebody_else_books_nothing() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let other = world.provider().await;
    for provider in [&provider, &other] {
        provider.with_location(&world, "main-street", &json!({})).await;
    }
    let open = slots(&consumer.availability(&other, "location_ids=main-street").await, 0);
    let key = text(&open[0]["booking_key"]);
    let mut altered = key.clone().into_bytes();
    let middle = altered.len() / 2;
    altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
    for made_up in [String::from_utf8(altered).unwrap(), "bk_".to_owned(), "a key".to_owned(), key.clone()] {
        let refused = consumer.create(&by_key(&provider, &json!(made_up))).await;
        refused.assert_problem(422, "invalid_booking_key", "none");
        assert_eq!(refused.pointers(), ["/booking_key"]);
    }
    let both = provider.body(&json!({"booking_key": key}));
    let refused = consumer.create(&both).await;
    refused.assert_problem(422, "invalid_request", "none");
    assert_eq!(refused.pointers(), ["/booking_key"]);
    let neither = consumer.create(&provider.body(&json!({"slot": null}))).await;
    assert_eq!(neither.pointers(), ["/slot"]);
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let moved = consumer.operate(&id, "reschedule", &json!({"booking_key": key})).await;
    moved.assert_problem(422, "invalid_booking_key", "none");
    assert_eq!(provider.live().await.len(), 1);
}

#[tokio::test]
async fn a_location_that_fails_is_named_and_the_others_are_shown() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let bad = format!("bad-{}", provider.id);
    for location in ["good", bad.as_str()] {
        provider.with_location(&world, location, &json!({})).await;
    }
    let simulator = &world.stack.provider_simulator_url;
    let behaviour = json!({"status": 503, "operations": ["availability"]});
    world.put(format!("{simulator}/control/locations/{bad}/behaviour"), &behaviour).await;
    let rest = format!("location_ids=good,{bad},nowhere&allow_stale=true");
    let reply = consumer.availability(&provider, &rest).await;
    assert_eq!(sources(&reply), ["live", "provider_failed", "unknown_location"], "{reply:?}");
    assert!(!slots(&reply, 0).is_empty());
    let reply = consumer.availability(&provider, &format!("location_ids={bad}")).await;
    reply.assert_problem(502, "provider_failed", "none");
    assert_eq!(reply.pointers().len(), 1);
    // A failure is not remembered against it.
    world.put(format!("{simulator}/control/locations/{bad}/behaviour"), &json!({})).await;
    let reply = consumer.availability(&provider, &rest).await;
    assert_eq!(sources(&reply), ["live", "live", "unknown_location"], "{reply:?}");
    let reply = consumer.availability(&provider, &rest).await;
    assert_eq!(sources(&reply), ["cache", "cache", "unknown_location"], "{reply:?}");
    // Bookings are made all the while, and nothing counted against the provider.
    consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let wrong = consumer.availability(&provider, "location_ids=good,good&days=22&start_date=soon").await;
    wrong.assert_problem(400, "invalid_parameter", "none");
    assert_eq!(wrong.pointers(), ["location_ids", "start_date", "days"]);
}

#[tokio::test]
async fn what_a_provider_tells_is_shown_and_decides_what_is_accepted() {
    let world = World::new();
    let consumer = world.consumer().await;
    for protocol in [Protocol::Docplanner, Protocol::Native] {
        let settings = json!({"confirmation": "notify", "availability": "push"});
        let provider = world.provider_of(protocol, &settings).await;
        provider.with_location(&world, "main-street", &json!({})).await;
        let rest = "location_ids=main-street&days=21";
        let nothing = consumer.availability(&provider, rest).await;
        nothing.assert_problem(503, "provider_unavailable", "none");
        let (open, closed) = (provider.near_slot(2), provider.near_slot(3));
        let told =
            json!({"location_id": "main-street", "slots": [{"start": open["start"], "end": open["end"]}]});
        let key = provider.key().await;
        let tell = async |body: &Value| {
            let call = world.call(Method::PUT, "/v1/provider/availability").bearer_auth(&key).json(body);
            Reply::of(call).await
        };
        let answer = tell(&told).await;
        assert_eq!((answer.status, &answer.json["slots"]), (200, &json!(1)), "{answer:?}");
        consumer.until_open(&provider, rest, |slots| slots.len() == 1 && is_there(slots, &open)).await;
        // What is not open is not accepted, and what is open is, once.
        until_refused(async || consumer.create(&provider.body(&json!({"slot": closed}))).await).await;
        let id =
            consumer.create(&provider.body(&json!({"slot": open}))).await.assert_booking(201, "confirmed");
        consumer.until_open(&provider, rest, <[Value]>::is_empty).await;
        until_refused(async || consumer.create(&provider.body(&json!({"slot": open}))).await).await;
        let elsewhere = json!({"slot": closed});
        until_refused(async || consumer.operate(&id, "reschedule", &elsewhere).await).await;
        // Of times that nobody told of nothing is known, so that they are accepted.
        consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
        let wrong =
            tell(&json!({"location_id": "main-street", "slots": [{"start": "soon", "end": open["end"]}]}))
                .await;
        wrong.assert_problem(422, "invalid_request", "none");
        assert_eq!(wrong.pointers(), ["/slots/0/start"]);
        tell(&json!({"location_id": "elsewhere", "slots": []})).await.assert_problem(
            422,
            "unknown_location",
            "none",
        );
        assert!(provider.calls("availability").await.is_empty());
    }
}

#[tokio::test]
async fn a_tour_is_booked_by_the_name_that_its_supplier_gave_it() {
    let world = World::new();
    let consumer = world.consumer().await;
    let provider = world.provider_of(Protocol::Octo, &json!({})).await;
    let services = json!({"services": [{"service_id": "city-tour"}]});
    provider.with_location(&world, "pier", &services).await;
    let reply = consumer.availability(&provider, "location_ids=pier&days=2").await;
    let open = slots(&reply, 0);
    let slot = open.last().unwrap_or_else(|| panic!("{reply:?}"));
    assert_eq!((&slot["service_id"], slot.get("resource_id")), (&json!("city-tour"), None), "{slot}");
    let before = slot["capacity"].as_u64().unwrap();
    let asked = provider.calls("availability").await.len();
    let created = consumer.create(&by_key(&provider, &slot["booking_key"])).await;
    let id = created.assert_booking(201, "confirmed");
    assert_eq!(provider.calls("availability").await.len(), asked, "no further request was needed");
    let left = |open: &[Value]| {
        open.iter().find(|other| other["start"] == slot["start"]).and_then(|slot| slot["capacity"].as_u64())
    };
    consumer.until_open(&provider, "location_ids=pier&days=2", |open| left(open) == Some(before - 1)).await;
    // Whoever asks within the margin of two clocks may see it taken off twice.
    until(SOON, LOOK_AGAIN, "the supplier says the same", async || {
        let live = consumer.availability(&provider, "location_ids=pier&days=2").await;
        let left = left(&slots(&live, 0));
        if left == Some(before - 1) { Ok(()) } else { Err(json!(left)) }
    })
    .await;
    provider.assert_agrees(&consumer, &[&id]).await;
}

#[tokio::test]
async fn locations_are_asked_for_by_themselves_and_those_that_are_removed_are_not() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let names: Vec<String> = (0..60).map(|number| format!("l{number:02}-{}", provider.id)).collect();
    for name in &names {
        provider.with_location(&world, name, &json!({})).await;
    }
    let calls = provider.until_calls("availability", 12, PLANNED).await;
    let asked = text(&calls[0]["location_id"]);
    // It is remembered without any consumer having asked for it.
    let rest = format!("location_ids={asked}");
    consumer.until_open(&provider, &rest, |slots| !slots.is_empty()).await;
    let reply = consumer.availability(&provider, &format!("{rest}&allow_stale=true")).await;
    assert_eq!(sources(&reply), ["cache"], "{reply:?}");
    let path = format!("/v1/admin/providers/{}/locations/{asked}", provider.id);
    assert_eq!(Reply::of(world.admin(Method::DELETE, &path)).await.status, 204);
    assert_eq!(Reply::of(world.admin(Method::GET, &path)).await.status, 404);
    let gone = consumer.availability(&provider, &format!("{rest}&allow_stale=true")).await;
    gone.assert_problem(422, "unknown_location", "none");
    let path = format!("/v1/admin/providers/{}/locations", provider.id);
    assert_eq!(list(&Reply::of(world.admin(Method::GET, &path)).await.json).len(), 59);
    // Nobody goes on asking for what no test needs any more.
    let path = format!("/v1/admin/providers/{}", provider.id);
    assert_eq!(Reply::of(world.admin(Method::DELETE, &path)).await.status, 204);
}

#[tokio::test]
async fn only_consumers_are_shown_anything_and_only_of_their_mode() {
    let world = World::new();
    let provider = world.provider_of(Protocol::Native, &json!({})).await;
    provider.with_location(&world, "main-street", &json!({})).await;
    let path = format!("/v1/availability?provider_id={}&location_ids=main-street", provider.id);
    Reply::of(world.call(Method::GET, &path)).await.assert_problem(401, "unauthenticated", "none");
    Reply::of(world.admin(Method::GET, &path)).await.assert_problem(401, "unauthenticated", "none");
    let key = provider.key().await;
    Reply::of(world.call(Method::GET, &path).bearer_auth(&key)).await.assert_problem(
        403,
        "forbidden",
        "none",
    );
    let consumer = world.consumer().await;
    let unknown = consumer.get("/v1/availability?provider_id=nobody&location_ids=main-street").await;
    unknown.assert_problem(422, "unknown_provider", "none");
    let post = Reply::of(consumer.call(Method::POST, &path)).await;
    post.assert_problem(405, "method_not_allowed", "none");
    // Who takes it compressed gets it compressed.
    let plain = consumer.get(&path).await;
    let packed = consumer.call(Method::GET, &path).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let bytes = packed.bytes().await.unwrap();
    let unpacked: Value = serde_json::from_reader(flate2::read::GzDecoder::new(bytes.as_ref())).unwrap();
    assert_eq!(unpacked["data"][0]["slots"], plain.json["data"][0]["slots"]);
    assert!(bytes.len() < plain.bytes.len());
}
