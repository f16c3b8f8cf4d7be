//! What is said of deploying is so: parameters, stages, and what bounds the functions that call providers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::observability::{resources_of, template};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

fn parameters() -> BTreeSet<String> {
    template()["Parameters"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_parameter_is_described_with_its_default() {
    let document = file("docs/deploying.md");
    let template = template();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let described: BTreeSet<String> =
        rows.clone().map(|row| row.split('`').next().unwrap().to_owned()).collect();
    assert_eq!(described, parameters());
    for row in rows {
        let (name, rest) = row.split_once("` | ").unwrap();
        let stated = rest.split(" | ").next().unwrap().trim_matches('`');
        let default = match &template["Parameters"][name]["Default"] {
            serde_json::Value::String(text) if text.is_empty() => "empty".to_owned(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(stated, default, "{name}");
    }
}

#[test]
fn the_stages_set_parameters_that_there_are() {
    let stages = file("samconfig.toml");
    let parameters = parameters();
    for stage in ["test", "prod"] {
        let section = stages.split(&format!("[{stage}.deploy.parameters]")).nth(1).unwrap();
        let section = section.split("\n[").next().unwrap();
        let set: Vec<&str> = section
            .lines()
            .filter_map(|line| line.trim().strip_prefix('"')?.split_once('='))
            .map(|(name, _)| name)
            .collect();
        assert!(set.contains(&"Stage"), "{stage}");
        for name in set {
            assert!(parameters.contains(name), "{stage} sets {name}");
        }
    }
}

#[test]
fn whoever_calls_providers_and_receivers_is_bounded() {
    for (name, function) in resources_of("AWS::Serverless::Function") {
        let calls_out = function["Environment"]["Variables"]["ALLOWED_PRIVATE_HOSTS"].is_string();
        let events = function["Events"].as_object().into_iter().flatten();
        let mut queues = events.filter(|(_, event)| event["Type"] == "SQS").peekable();
        let is_reserved = !function["ReservedConcurrentExecutions"].is_null();
        let is_queued = queues.peek().is_some();
        for (event, of_queue) in queues {
            assert!(
                of_queue["Properties"]["ScalingConfig"]["MaximumConcurrency"].is_u64(),
                "{event} of {name}"
            );
        }
        // Availability is asked for within half of a provider's limits at the most, over all instances.
        let is_limited = name == "AvailabilityFunction" || name == "ManageFunction";
        assert!(!calls_out || is_reserved || is_queued || is_limited, "{name} calls out without a bound");
    }
}

/// Lambda stops what it takes for an endless loop after some 16 invocations. Timers of tomorrow pass their queue more
/// often.
#[test]
fn whoever_sends_to_the_queue_that_it_works_off_may() {
    let mut loops = BTreeSet::new();
    for (name, function) in resources_of("AWS::Serverless::Function") {
        let events = function["Events"].as_object().into_iter().flat_map(|events| events.values());
        let worked_off: BTreeSet<&str> =
            events.filter_map(|event| event["Properties"]["Queue"].as_str()?.strip_suffix(".Arn")).collect();
        let variables = function["Environment"]["Variables"].as_object().into_iter().flatten();
        let told: BTreeSet<&str> = variables.filter_map(|(_, value)| value.as_str()).collect();
        let is_loop = !worked_off.is_disjoint(&told);
        let expected = if is_loop { json!("Allow") } else { Value::Null };
        assert_eq!(function["RecursiveLoop"], expected, "{name}");
        if is_loop {
            loops.insert(name);
        }
    }
    assert_eq!(loops, ["RefreshFunction", "RetryFunction", "WebhookFunction"].map(str::to_owned).into());
}
