//! Least privilege: what the functions' code calls, as the emulator has seen it, against the template's policies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::stack::{permissions, tell};
use super::world::World;
use crate::observability::resources_of;

/// How many tests a whole run has at least. What a part of them does not use may be needed all the same.
const WHOLE_RUN: usize = 120;

/// What Lambda itself does with a function's role: it takes messages and records in, and passes logs and traces on.
const OF_LAMBDA: [&str; 11] = [
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
];

/// What a whole run may do without, and why it is needed.
const SELDOM: [(&str, &str, &str); 15] = [
    // A location was removed while its provider was asked for it.
    ("AvailabilityRole", "dynamodb:DeleteItem", "AvailabilityTable"),
    ("RefreshRole", "dynamodb:DeleteItem", "AvailabilityTable"),
    // Calls are leased of a provider that has limits.
    ("AvailabilityRole", "dynamodb:UpdateItem", "ConfigTable"),
    ("RefreshRole", "dynamodb:UpdateItem", "ConfigTable"),
    // It is in whoever ends a booking that its slot is given back.
    ("BookingRole", "dynamodb:DeleteItem", "BookingTable"),
    ("ProviderCallbackRole", "dynamodb:DeleteItem", "BookingTable"),
    ("RetryRole", "dynamodb:DeleteItem", "BookingTable"),
    ("RepairRole", "dynamodb:DeleteItem", "BookingTable"),
    // What was parked was to be fetched by its provider.
    ("RepairRole", "dynamodb:PutItem", "DeliveryTable"),
    // The runbook has nobody send these letters again.
    ("RepairRole", "sqs:SendMessage", "RefreshQueue"),
    // What is told again tells nobody of what was given up.
    ("RepairRole", "sqs:SendMessage", "BookingDeadLetterQueue"),
    // A timer is not due within a quarter of an hour, or could not be served.
    ("RetryRole", "sqs:SendMessage", "TimerQueue"),
    // A provider tells of the same open slots again.
    ("ProviderCallbackRole", "dynamodb:UpdateItem", "AvailabilityTable"),
    // An image cannot be read, of code that there is not yet.
    ("DispatchRole", "sqs:SendMessage", "ParkedRecordQueue"),
    // Lambda tells of records that it gives up, by the function's role.
    ("DispatchRole", "sqs:SendMessage", "StreamFailureQueue"),
];

/// An action of a role on a resource, by their names in the template. The resource of a part is the whole's.
type Use = (String, String, String);

/// What the template lets the roles do.
fn granted() -> BTreeSet<Use> {
    let mut granted = BTreeSet::new();
    for (role, properties) in resources_of("AWS::IAM::Role") {
        for policy in properties["Policies"].as_array().unwrap() {
            for statement in policy["PolicyDocument"]["Statement"].as_array().unwrap() {
                let listed = |value: &Value| match value {
                    Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
                    one => vec![one.as_str().unwrap().to_owned()],
                };
                for action in listed(&statement["Action"]) {
                    for resource in listed(&statement["Resource"]) {
                        // `BookingTable.Arn`, `${BookingTable.Arn}/index/by_tenant`
                        let named = resource.trim_start_matches("${").split('.').next().unwrap();
                        granted.insert((role.clone(), action.clone(), named.to_owned()));
                    }
                }
            }
        }
    }
    granted
}

/// The template's name of what has this ARN or name: the emulator puts the stack's name before it and chance after it.
fn logical<'a>(names: &'a [String], arn: &str) -> Option<&'a String> {
    let is_it = |name: &&String| arn.contains(&format!("-{name}-")) || arn.contains(&format!("/{name}-"));
    names.iter().filter(is_it).max_by_key(|name| name.len())
}

/// What the functions asked for, and whether they were let.
fn asked() -> BTreeMap<Use, BTreeSet<String>> {
    let names = |kind: &str| -> Vec<String> { resources_of(kind).into_keys().collect() };
    let roles = names("AWS::IAM::Role");
    let mut resources = names("AWS::DynamoDB::Table");
    resources.extend(names("AWS::SQS::Queue"));
    let mut asked: BTreeMap<Use, BTreeSet<String>> = BTreeMap::new();
    for line in permissions().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |member: &str| line[member].as_str().unwrap().to_owned();
        let Some(role) = logical(&roles, &text("principal")) else { continue };
        let resource = text("resource");
        let resource = match logical(&resources, &resource) {
            Some(name) => name.clone(),
            None if resource.contains("event-bus/") => "EventBus".to_owned(),
            None => resource,
        };
        asked.entry((role.clone(), text("action"), resource)).or_default().insert(text("decision"));
    }
    asked
}

/// A call that a function was not let make is named. What it is let do and did not do in a whole run is told: most of
/// that depends on what fails when, so that it is for somebody to think about.
pub(super) fn what_functions_did_is_what_they_may() {
    let (granted, asked) = (granted(), asked());
    let refused: Vec<_> = asked.iter().filter(|(_, decisions)| !is_allowed(decisions)).collect();
    assert!(refused.is_empty(), "the template does not let functions do what they do: {refused:?}");
    let used: BTreeSet<Use> = asked.into_keys().collect();
    let outside: Vec<&Use> = used.difference(&granted).collect();
    assert!(outside.is_empty(), "no policy names what functions do: {outside:?}");
    let is_expected = |(role, action, resource): &&Use| {
        let whole = (role.as_str(), action.as_str(), resource.as_str());
        !OF_LAMBDA.contains(&action.as_str()) && !SELDOM.contains(&whole)
    };
    let unused: Vec<&Use> = granted.difference(&used).filter(is_expected).collect();
    if World::made() >= WHOLE_RUN && !unused.is_empty() {
        tell(&format!("The template lets functions do what none of them did this time: {unused:?}"));
    }
    let seldom =
        SELDOM.map(|(role, action, resource)| (role.to_owned(), action.to_owned(), resource.to_owned()));
    let not_granted: Vec<&Use> = seldom.iter().filter(|one| !granted.contains(one)).collect();
    assert!(not_granted.is_empty(), "the template does not let anybody do this: {not_granted:?}");
}

fn is_allowed(decisions: &BTreeSet<String>) -> bool {
    decisions.iter().all(|decision| decision == "Allow")
}
