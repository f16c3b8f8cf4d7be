//! What functions tell in their logs: lines of JSON that name their request, and metrics out of the table.

use std::collections::BTreeSet;

use holdfast_app::metrics::METRICS;
use serde_json::Value;

use super::stack::function_logs;
use super::world::World;

/// How many tests a whole run has at least.
const WHOLE_RUN: usize = 120;

/// Metrics that a whole run writes in any case.
const ALWAYS_WRITTEN: [&str; 10] = [
    "AnswerProviderTime",
    "AnswerTime",
    "AvailabilityAge",
    "BreakerChanges",
    "Compensations",
    "DeliveryLag",
    "DeliveryTime",
    "DueLateness",
    "PendingAge",
    "ProviderCallTime",
];

/// Every line is an object; one of ours names its request, and a metric is as the table has it.
pub(super) fn every_line_is_structured() {
    let mut written = BTreeSet::new();
    let mut lines = 0;
    for (path, text) in function_logs() {
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let read: Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("{path}: no JSON: {line}"));
            let names_request = read["request.id"].is_string() || read["span"]["request.id"].is_string();
            assert!(names_request || is_of_the_runtime(&read), "{path}: of no request: {line}");
            if read["_aws"].is_object() {
                written.extend(metrics_of(&read));
            }
            lines += 1;
        }
    }
    let missing: Vec<&&str> = ALWAYS_WRITTEN.iter().filter(|name| !written.contains(**name)).collect();
    assert!(World::made() < WHOLE_RUN || missing.is_empty(), "in {lines} lines there is no {missing:?}");
}

/// Whether it is about events altogether, and so about no request.
fn is_of_the_runtime(line: &Value) -> bool {
    line["target"].as_str().is_some_and(|target| target.starts_with("holdfast_lambda::runtime"))
}

/// The names of a line's metrics, each of which it holds with the values of its dimensions.
fn metrics_of(line: &Value) -> Vec<String> {
    let told = &line["_aws"]["CloudWatchMetrics"][0];
    assert!(told["Namespace"].as_str().unwrap().starts_with("Holdfast/"), "{line}");
    let metrics = told["Metrics"].as_array().unwrap().iter();
    let names: Vec<String> = metrics.map(|metric| metric["Name"].as_str().unwrap().to_owned()).collect();
    for name in &names {
        let metric = METRICS.iter().find(|metric| metric.name == name).unwrap();
        assert!(line[name.as_str()].is_number() || line[name.as_str()].is_array(), "{line}");
        for dimension in metric.dimensions {
            let value = line[dimension.name].as_str().unwrap();
            assert!(dimension.values.contains(&value), "{line}");
        }
    }
    names
}
