//! The functions' routes, the template and the descriptions name the same calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use holdfast_app::problem::ProblemCode;
use holdfast_lambda::http::Router;
use serde_json::Value;

use crate::described::{description, document};

/// A method and a path whose parameters have no names.
type Call = (String, String);

fn call(method: &str, path: &str) -> Call {
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    (method.to_owned(), path.split('/').map(part).collect::<Vec<_>>().join("/"))
}

fn calls_of<K: Copy>(router: &Router<K>) -> BTreeSet<Call> {
    router.routes().map(|(method, template)| call(method.as_str(), template)).collect()
}

/// The calls that each function answers, by the name of its package.
fn by_function() -> BTreeMap<&'static str, BTreeSet<Call>> {
    BTreeMap::from([
        ("booking", calls_of(&booking::router().unwrap())),
        ("provider-callback", calls_of(&provider_callback::router().unwrap())),
        ("availability", calls_of(&availability::router().unwrap())),
        ("manage", calls_of(&manage::router().unwrap())),
        ("repair", calls_of(&repair::router().unwrap())),
    ])
}

#[test]
fn the_description_has_every_route_and_no_other() {
    let described: BTreeSet<Call> =
        description().calls().iter().map(|(method, path, _)| call(method, path)).collect();
    let answered: BTreeSet<Call> = by_function().into_values().flatten().collect();
    let missing: Vec<&Call> = answered.difference(&described).collect();
    let made_up: Vec<&Call> = described.difference(&answered).collect();
    assert!(missing.is_empty() && made_up.is_empty(), "not described: {missing:?}; no route: {made_up:?}");
}

/// The routes of the template and the function behind each.
fn template_routes() -> Vec<(String, String, &'static str)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut routes = Vec::new();
    for line in text.lines().filter(|line| line.contains("RouteKey:")) {
        let key = line.split("RouteKey:").nth(1).unwrap().split(", Target").next().unwrap();
        let key = key.trim().trim_matches('"');
        let (method, path) = key.split_once(' ').unwrap_or(("ANY", "$default"));
        let function = match line.split("integrations/${").nth(1).unwrap().split('}').next().unwrap() {
            "BookingIntegration" | "BookingReadIntegration" => "booking",
            "ProviderCallbackIntegration" => "provider-callback",
            "AvailabilityIntegration" => "availability",
            "ManageIntegration" => "manage",
            "RepairIntegration" => "repair",
            other => panic!("{other} is behind a route"),
        };
        routes.push((method.to_owned(), path.to_owned(), function));
    }
    routes
}

/// The function that API Gateway gives a call to: full matches first, then those with a `{proxy+}`, then `$default`; of
/// two the one that names the method (HTTP APIs, "Routing API requests").
fn routed<'a>(routes: &'a [(String, String, &'static str)], (method, path): &Call) -> &'a str {
    let rank = |(of_method, of_path, _): &&(String, String, &'static str)| {
        let path_rank = if of_path == "$default" {
            0
        } else if let Some(start) = of_path.strip_suffix("/{proxy+}") {
            if path.starts_with(&format!("{start}/")) { 1 } else { return None }
        } else if call(method, of_path).1 == *path {
            2
        } else {
            return None;
        };
        match of_method.as_str() {
            "ANY" => Some((path_rank, 0)),
            named if named == method => Some((path_rank, 1)),
            _ => None,
        }
    };
    routes
        .iter()
        .filter(|route| rank(route).is_some())
        .max_by_key(rank)
        .map(|(.., function)| *function)
        .unwrap()
}

#[test]
fn the_template_gives_each_call_to_the_function_that_answers_it() {
    let routes = template_routes();
    assert!(routes.len() >= 10, "{routes:?}");
    for (function, calls) in by_function() {
        for call in &calls {
            assert_eq!(routed(&routes, call), function, "{call:?}");
        }
    }
    // None of the template's routes is without a call.
    for (method, path, function) in
        routes.iter().filter(|(_, path, _)| !path.contains("{proxy+}") && path != "$default")
    {
        let wanted = call(method, path);
        let is_it = |known: &Call| known.1 == wanted.1 && (method == "ANY" || known.0 == *method);
        assert!(by_function()[function].iter().any(is_it), "nobody answers {method} {path}");
    }
}

#[test]
fn every_problem_is_told_somewhere_in_the_description() {
    let responses = description().root["components"]["responses"].as_object().unwrap();
    let text: String = responses.values().map(|response| response["description"].as_str().unwrap()).collect();
    // What routing answers is of no call.
    let of_routing = [ProblemCode::RouteNotFound, ProblemCode::MethodNotAllowed];
    for code in ProblemCode::ALL.iter().filter(|code| !of_routing.contains(code)) {
        assert!(text.contains(&format!("`{}`", code.as_str())), "{}", code.as_str());
    }
}

/// A part of a description without what is said for people alone, and without references.
fn bare(root: &Value, value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                return bare(root, root.pointer(reference.trim_start_matches('#')).unwrap());
            }
            let told = ["description", "example", "examples", "summary", "title"];
            let kept =
                members.iter().filter(|(name, member)| !told.contains(&name.as_str()) || member.is_object());
            kept.map(|(name, member)| (name.clone(), bare(root, member))).collect()
        }
        Value::Array(items) => items.iter().map(|item| bare(root, item)).collect(),
        _ => value.clone(),
    }
}

#[test]
fn providers_read_the_same_in_both_descriptions() {
    let (api, providers) = (&description().root, document("provider-openapi.yaml"));
    let mut compared = 0;
    for (path, item) in providers["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/provider") {
            continue;
        }
        let of_api = &api["paths"][path.replace("{booking_id}", "{id}").as_str()];
        for method in ["get", "put", "post"] {
            let Some(theirs) = item.get(method) else { continue };
            let ours = &of_api[method];
            assert!(ours.is_object(), "{method} {path}");
            let members = |root: &Value, call: &Value| {
                let schema = bare(root, &call["requestBody"]["content"]["application/json"]["schema"]);
                let names = |key: &str| {
                    schema[key].as_object().map(|all| all.keys().cloned().collect::<BTreeSet<_>>())
                };
                (names("properties").unwrap_or_default(), schema["required"].clone())
            };
            assert_eq!(members(api, ours), members(&providers, theirs), "{method} {path}");
            compared += 1;
        }
    }
    assert_eq!(compared, by_function()["provider-callback"].len());
}
