//! Tenants: what belongs to somebody else, to the other mode, or to another provider is not there.

use serde_json::{Value, json};

use super::calls::{Call, Names, Role, calls, create_body};
use super::world::{ADMIN, Answer, Keys, MAX_TRIES, World, bearer, nobodys};

/// Something of somebody else's, and what it is there of the same kind that never existed.
struct Foreign {
    what: &'static str,
    parameters: Vec<String>,
}

fn foreign(what: &'static str, parameters: &[&str]) -> Foreign {
    Foreign { what, parameters: parameters.iter().map(|&text| text.to_owned()).collect() }
}

/// What a caller might reach for, and last what nobody ever had.
fn reached_for(world: &World, call: &Call) -> Vec<Foreign> {
    let things = &world.things;
    let keys = &world.keys;
    let (owner, of_other, of_other_role) = if call.template.contains("/consumers/") {
        ("acme", &keys.other.id, &keys.clinic.id)
    } else {
        ("clinic", &keys.rival.id, &keys.acme.id)
    };
    match call.names {
        Names::Booking => vec![
            foreign("another consumer's booking", &[&things.booking_of_other]),
            foreign("its own booking in the other mode", &[&things.live_booking]),
            foreign("a booking that never was", &[&nobodys().booking]),
        ],
        Names::BookingAtProvider => vec![
            foreign("a booking at another provider", &[&things.booking_at_rival]),
            foreign("a live booking at itself", &[&things.live_booking_at_clinic]),
            foreign("a booking that never was", &[&nobodys().booking]),
        ],
        Names::Endpoint => vec![
            foreign("another consumer's endpoint", &[&things.endpoint_of_other]),
            foreign("its own endpoint in the other mode", &[&things.live_endpoint]),
            foreign("an endpoint that never was", &[&nobodys().endpoint]),
        ],
        Names::Key => vec![
            foreign("another one's key", &[owner, of_other]),
            foreign("a key of the other role", &[owner, of_other_role]),
            foreign("a key that never was", &[owner, &nobodys().key]),
        ],
        Names::Location => vec![
            foreign("another provider's location", &["clinic", "rivals-place"]),
            foreign("a location that never was", &["clinic", "no-mans-place"]),
        ],
        Names::AnyBooking => vec![foreign("a booking that never was", &[&nobodys().booking])],
        Names::Nothing | Names::Owner | Names::Provider => Vec::new(),
    }
}

#[tokio::test]
async fn what_is_not_the_callers_is_answered_byte_by_byte_as_what_never_was() {
    let mut compared = 0;
    let world = World::new().await;
    let before = world.everything().await;
    for call in calls() {
        let authorization = format!("Bearer {}", world.key_for(call.role));
        let reached = reached_for(&world, &call);
        let mut seen: Vec<(Answer, Vec<String>)> = Vec::new();
        // More than once, so that nothing depends on what the process remembers by then.
        for round in 0..MAX_TRIES {
            seen.clear();
            for Foreign { what, parameters } in &reached {
                let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
                let path = call.path(&parameters);
                let (answer, calls) = world.observed(&call, &path, &authorization).await;
                assert!(answer.is_problem(404, "not_found"), "{} {path}: {what}", call.method);
                seen.push((answer.without(parameters.last().unwrap()), calls));
            }
            if round > 0 && seen.windows(2).all(|two| two[0] == two[1]) {
                break;
            }
        }
        assert_eq!(world.everything().await, before, "{} {}", call.method, call.template);
        if let Some(never_was) = seen.last() {
            for (seen, what) in seen.iter().zip(&reached) {
                assert_eq!(seen, never_was, "{} {}: {}", call.method, call.template, what.what);
                compared += 1;
            }
        }
    }
    assert!(compared >= 50, "{compared}");
}

#[tokio::test]
async fn a_form_that_no_id_has_is_answered_as_what_never_was() {
    let world = World::new().await;
    let before = world.everything().await;
    let upper = world.things.booking.to_uppercase();
    let odd = ["bkg_", "%00", "..%2f..", "bkg_%27%20or%201=1", "*", &upper, "%F0%9F%92%A5"];
    let names = [Names::Booking, Names::BookingAtProvider, Names::Endpoint];
    for call in calls().iter().filter(|call| names.contains(&call.names)) {
        let authorization = format!("Bearer {}", world.key_for(call.role));
        let nobodys = reached_for(&world, call).pop().unwrap().parameters.remove(0);
        let path = call.path(&[&nobodys]);
        let never_was = world.call(call.method, &path, Some(&authorization), call.body.as_ref()).await;
        let never_was = never_was.text.replace(&nobodys, "{id}");
        for odd in odd {
            let path = call.path(&[odd]);
            let answer = world.call(call.method, &path, Some(&authorization), call.body.as_ref()).await;
            assert_eq!((answer.status, answer.text.replace(odd, "{id}")), (404, never_was.clone()), "{path}");
        }
    }
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn a_provider_of_the_other_mode_is_answered_as_one_that_never_was() {
    let world = World::new().await;
    let before = world.everything().await;
    let authorization = format!("Bearer {}", world.key_for(Role::Consumer));
    for call in calls().iter().filter(|call| call.names == Names::Provider) {
        let mut seen = Vec::new();
        for provider_id in ["live-clinic", "no-such-clinic"] {
            let path = call.path(&[]).replace("=clinic", &format!("={provider_id}"));
            let body = call.body.as_ref().map(|_| create_body(provider_id));
            // The first reads what the provider is, if it is anything, and remembers that.
            for _ in 0..2 {
                world.log.take();
                let answer = world.call(call.method, &path, Some(&authorization), body.as_ref()).await;
                assert!(answer.is_problem(422, "unknown_provider"), "{answer:?}");
                seen.push(answer.without(provider_id));
            }
        }
        assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:?}");
    }
    assert_eq!(world.everything().await, before);
    assert!(world.asked().is_empty());
}

/// Which things each list is to show, and none of the others' things.
#[tokio::test]
async fn lists_show_what_is_the_callers_alone() {
    let world = World::new().await;
    let things = &world.things;
    let test = format!("Bearer {}", world.key_for(Role::Consumer));
    let live = format!("Bearer {}", world.keys.acme_live.key);
    let other = format!("Bearer {}", world.keys.other.key);
    let all = [
        (&things.booking, &things.endpoint),
        (&things.live_booking, &things.live_endpoint),
        (&things.booking_of_other, &things.endpoint_of_other),
    ];
    for (own, key) in [&test, &live, &other].into_iter().enumerate() {
        for path in
            ["/v1/bookings", "/v1/bookings?reference=order-1001", "/v1/webhook-endpoints", "/v1/events"]
        {
            let answer = world.call("GET", path, Some(key), None).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            for (position, (booking, endpoint)) in all.iter().enumerate() {
                let shows = answer.text.contains(*booking) || answer.text.contains(*endpoint);
                assert_eq!(
                    shows,
                    position == own,
                    "{path} of {own} and the things of {position}: {answer:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_cursor_of_another_tenant_is_no_cursor() {
    let world = World::new().await;
    let test = format!("Bearer {}", world.key_for(Role::Consumer));
    world.call("POST", "/v1/bookings", Some(&test), Some(&create_body("clinic"))).await;
    let page = world.call("GET", "/v1/bookings?limit=1", Some(&test), None).await;
    let cursor = page.json()["next_cursor"].as_str().unwrap().to_owned();
    let page = world.call("GET", "/v1/events?limit=1", Some(&test), None).await;
    let place = page.json()["next_cursor"].as_str().unwrap().to_owned();
    for path in [format!("/v1/bookings?cursor={cursor}"), format!("/v1/events?after={place}")] {
        assert_eq!(world.call("GET", &path, Some(&test), None).await.status, 200, "{path}");
        for key in [&world.keys.other.key, &world.keys.acme_live.key] {
            let answer = world.call("GET", &path, Some(&format!("Bearer {key}")), None).await;
            assert!(answer.is_problem(400, "invalid_parameter"), "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_idempotency_key_of_another_tenant_is_another_key() {
    let world = World::new().await;
    let mut made: Vec<String> = Vec::new();
    let Keys { acme, other, acme_live, .. } = &world.keys;
    let keys = [acme, other, acme_live];
    for (key, provider_id) in keys.iter().zip(["clinic", "clinic", "live-clinic"]) {
        let headers = json!({"authorization": bearer(&key.key), "idempotency-key": "\"order-1\""});
        let answer = world.call_with("POST", "/v1/bookings", headers, Some(&create_body(provider_id))).await;
        assert_eq!(
            (answer.status, answer.header("idempotency-replayed")),
            (201, String::new()),
            "{answer:?}"
        );
        made.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 3);
}

/// No field of a body and no header names the tenant: where one is tried, it is refused or ignored.
#[tokio::test]
async fn the_tenant_is_the_keys_alone() {
    let world = World::new().await;
    let key = format!("Bearer {}", world.key_for(Role::Consumer));
    for (name, value) in
        [("consumer_id", json!("other")), ("tenant", json!("test:other")), ("mode", json!("live"))]
    {
        let mut body = create_body("clinic");
        body[name] = value;
        let answer = world.call("POST", "/v1/bookings", Some(&key), Some(&body)).await;
        assert!(answer.is_problem(422, "invalid_request"), "{answer:?}");
        let path = format!("/v1/bookings?{name}=other");
        assert_eq!(world.call("GET", &path, Some(&key), None).await.status, 400);
    }
    let headers = json!({
        "authorization": key,
        "x-consumer-id": "other",
        "x-tenant": "test:other",
        "x-forwarded-user": "other",
    });
    let answer = world.call_with("GET", "/v1/bookings", headers, None).await;
    assert!(
        answer.text.contains(&world.things.booking) && !answer.text.contains(&world.things.booking_of_other)
    );
}

#[tokio::test]
async fn a_booking_key_is_good_in_its_own_mode_alone() {
    let world = World::new().await;
    let path = "/v1/availability?provider_id=clinic&location_ids=main-street&start_date=2027-01-15";
    let test = format!("Bearer {}", world.key_for(Role::Consumer));
    let shown = world.call("GET", path, Some(&test), None).await;
    let booking_key = shown.json()["data"][0]["slots"][0]["booking_key"].as_str().unwrap().to_owned();
    let body = |provider_id| -> Value {
        let mut body = create_body(provider_id);
        body.as_object_mut().unwrap().remove("slot");
        body["booking_key"] = json!(booking_key);
        body
    };
    for (key, provider_id) in [(&world.keys.acme_live.key, "live-clinic"), (&world.keys.other.key, "rival")] {
        let body = body(provider_id);
        let answer = world.call("POST", "/v1/bookings", Some(&format!("Bearer {key}")), Some(&body)).await;
        assert_eq!(answer.status, 422, "{answer:?}");
    }
    let answer = world.call("POST", "/v1/bookings", Some(&test), Some(&body("clinic"))).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn what_an_administrator_removes_opens_and_shows_nothing_any_more() {
    let world = World::new().await;
    let admin = bearer(ADMIN);
    for path in ["/v1/admin/consumers/acme", "/v1/admin/providers/clinic"] {
        assert_eq!(world.call("DELETE", path, Some(&admin), None).await.status, 204);
    }
    let world = world.restarted();
    for call in calls().iter().filter(|call| matches!(call.role, Role::Consumer | Role::Provider)) {
        let authorization = format!("Bearer {}", world.key_for(call.role));
        let path = world.own_path(call);
        let answer = world.call(call.method, &path, Some(&authorization), call.body.as_ref()).await;
        assert_eq!(answer.status, 401, "{} {path}: {answer:?}", call.method);
    }
}
