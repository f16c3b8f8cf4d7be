//! Keys: whose opens which call, and what everybody else learns, which is nothing.

use super::calls::{Role, calls};
use super::world::{ADMIN, Answer, MAX_TRIES, World, bearer, nobodys};

/// A key that cannot be one, or none at all.
const NO_KEYS: [Option<&str>; 8] = [
    None,
    Some(""),
    Some("Bearer"),
    Some("Basic dXNlcjpwYXNz"),
    Some("Bearer hf_test_consumer"),
    Some("Bearer hf_test_consumer_no_such"),
    Some("Bearer hf_trial_consumer_kaaaaaaaaaaaaaaaaaaaaaaaaaa_aaaaaaaa"),
    Some("Bearer hf_test_consumer_kaaaaaaaaaaaaaaaaaaaaaaaaaa_a_a"),
];

fn assert_refused(answer: &Answer, status: u64, code: &str, what: &str) {
    assert!(answer.is_problem(status, code), "{what}: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" }, "{what}");
    assert_eq!(answer.json()["side_effects"], "none", "{what}");
}

#[tokio::test]
async fn without_a_key_that_is_valid_no_call_opens_and_nothing_happens() {
    let world = World::new().await;
    let before = world.everything().await;
    for call in calls().iter().filter(|call| call.role != Role::Open) {
        let path = world.own_path(call);
        let key = world.key_for(call.role);
        let (rest, secret) = key.rsplit_once('_').unwrap();
        let other_mode = if key.contains("_test_") {
            key.replace("_test_", "_live_")
        } else {
            key.replace("_live_", "_test_")
        };
        let mut refused: Vec<Option<String>> = NO_KEYS.map(|key| key.map(str::to_owned)).to_vec();
        for wrong in [
            format!("{rest}_{}", "a".repeat(secret.len())),
            format!("{rest}_{}", &secret[1..]),
            format!("{rest}_{}", secret.to_uppercase()),
            other_mode,
            world.revoked_key_for(call.role),
        ] {
            refused.push(Some(format!("Bearer {wrong}")));
        }
        for authorization in refused {
            let what = format!("{} {path} with {authorization:?}", call.method);
            let answer = world.call(call.method, &path, authorization.as_deref(), call.body.as_ref()).await;
            assert_refused(&answer, 401, "unauthenticated", &what);
        }
        assert_eq!(world.everything().await, before, "{} {path}", call.method);
    }
}

#[tokio::test]
async fn no_call_opens_to_another_role() {
    let world = World::new().await;
    let before = world.everything().await;
    for call in calls().iter().filter(|call| call.role != Role::Open) {
        let path = world.own_path(call);
        for role in [Role::Consumer, Role::Provider, Role::Admin] {
            if role == call.role {
                continue;
            }
            // Only administration knows the hashes of administrators' keys.
            let is_unknown = role == Role::Admin && !World::is_administration(&path);
            let (status, code) = if is_unknown { (401, "unauthenticated") } else { (403, "forbidden") };
            let authorization = format!("Bearer {}", world.key_for(role));
            let answer = world.call(call.method, &path, Some(&authorization), call.body.as_ref()).await;
            let what = format!("{} {path} by {role:?}", call.method);
            assert_refused(&answer, status, code, &what);
        }
        assert_eq!(world.everything().await, before, "{} {path}", call.method);
    }
}

/// The answers and the calls of the store are those of a key that nobody has, in a process that knows the key and in
/// one that does not. How long a comparison takes depends on neither: it is of two hashes, in constant time.
#[tokio::test]
async fn nothing_tells_an_unknown_key_from_a_wrong_secret() {
    let mut world = World::new().await;
    for call in calls().iter().filter(|call| call.role != Role::Open) {
        world = world.restarted();
        let path = world.own_path(call);
        let key = world.key_for(call.role);
        let (rest, secret) = key.rsplit_once('_').unwrap();
        let wrong_secret = format!("Bearer {rest}_{}", "a".repeat(secret.len()));
        let key_id = rest.rsplit('_').next().unwrap();
        let unknown = wrong_secret.replace(key_id, &nobodys().key);
        let mut known_since = "nobody used it";
        for _ in 0..2 {
            let mut seen = Vec::new();
            for _ in 0..MAX_TRIES {
                seen.clear();
                for authorization in [&unknown, &wrong_secret, &unknown] {
                    seen.push(world.observed(call, &path, authorization).await);
                }
                if seen[0] == seen[1] && seen[1] == seen[2] {
                    break;
                }
            }
            let what = format!("{} {path}: {known_since}", call.method);
            assert_eq!(seen[0].0.status, 401, "{what}");
            assert_eq!(seen[0], seen[1], "{what}");
            assert_eq!(seen[1], seen[2], "{what}");
            // Now the key is in memory, because its owner uses it, with a call that changes nothing.
            let warm = World::harmless_path(&path, call.role);
            let answer = world.call("GET", warm, Some(&format!("Bearer {key}")), None).await;
            assert!(answer.status < 400, "{answer:?}");
            known_since = "its owner uses it";
        }
    }
}

#[tokio::test]
async fn the_role_that_a_key_says_it_has_tells_nothing_of_whose_it_is() {
    let world = World::new().await;
    for call in calls().iter().filter(|call| call.role != Role::Open) {
        let path = world.own_path(call);
        for role in ["consumer", "provider", "admin", "owner"] {
            let mut seen = Vec::new();
            for key_id in [&*world.keys.acme.id, &world.keys.clinic.id, &nobodys().key] {
                let authorization = format!("Bearer hf_test_{role}_{key_id}_wrong");
                seen.push(world.call(call.method, &path, Some(&authorization), call.body.as_ref()).await);
            }
            assert!(seen.iter().all(|answer| *answer == seen[2]), "{} {path} {role}: {seen:?}", call.method);
        }
    }
}

#[tokio::test]
async fn the_right_key_opens_each_call() {
    let mut world = World::new().await;
    for call in calls() {
        // What the calls before have changed or removed is made anew.
        if call.method != "GET" && matches!(call.role, Role::Consumer | Role::Provider) {
            world.fill().await;
        }
        let path = world.own_path(&call);
        let authorization = match call.role {
            Role::Open => None,
            role => Some(format!("Bearer {}", world.key_for(role))),
        };
        let answer = world.call(call.method, &path, authorization.as_deref(), call.body.as_ref()).await;
        assert_eq!(answer.status, call.opened, "{} {path}: {answer:?}", call.method);
    }
}

#[tokio::test]
async fn of_two_keys_one_is_revoked_and_the_other_goes_on() {
    let mut world = World::new().await;
    let admin = bearer(ADMIN);
    for (owner, path) in
        [("consumers/acme", "/v1/bookings"), ("providers/clinic", "/v1/provider/notifications")]
    {
        let keys = format!("/v1/admin/{owner}/keys");
        let mut made = Vec::new();
        for _ in 0..2 {
            let body = serde_json::json!({"mode": "test"});
            let answer = world.call("POST", &keys, Some(&admin), Some(&body)).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
            made.push((text("key_id"), format!("Bearer {}", text("key"))));
        }
        for (_, key) in &made {
            assert_eq!(world.call("GET", path, Some(key), None).await.status, 200, "both are valid");
        }
        let revoked = world.call("DELETE", &format!("{keys}/{}", made[0].0), Some(&admin), None).await;
        assert_eq!(revoked.status, 204, "{revoked:?}");
        // Another process, or this one when its memory is over.
        world = world.restarted();
        assert_eq!(world.call("GET", path, Some(&made[0].1), None).await.status, 401);
        assert_eq!(world.call("GET", path, Some(&made[1].1), None).await.status, 200);
    }
}
