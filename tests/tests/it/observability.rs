//! Alarms, dashboard, runbook and the metrics that the code writes name each other and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use holdfast_app::metrics::{Definition, METRICS};
use serde_json::Value;

/// The namespace of our metrics, as template and dashboard write it.
const NAMESPACE: &str = "Holdfast/${AWS::StackName}";

/// The metric that is made of the logs' lines, and not recorded.
const OF_LOGS: &str = "LoggedErrors";

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

/// The template. Its functions (`!Sub x`) are read as what they are given.
pub(crate) fn template() -> Value {
    let text = file("template.yaml");
    let resources = text.split("\nOutputs:\n").next().unwrap();
    serde_saphyr::from_str(&without_tags(resources)).unwrap()
}

/// The text without its tags, which only Amazon knows.
fn without_tags(text: &str) -> String {
    const TAGS: [&str; 8] =
        ["!Sub ", "!Ref ", "!GetAtt ", "!If ", "!Not ", "!Equals ", "!And ", "!Condition "];
    let keep = |line: &str| {
        // One may stand alone before a list.
        let line = line.strip_suffix("!If").unwrap_or(line);
        TAGS.iter().fold(line.to_owned(), |line, tag| line.replace(tag, ""))
    };
    text.lines().map(keep).collect::<Vec<_>>().join("\n")
}

pub(crate) fn resources_of(kind: &str) -> BTreeMap<String, Value> {
    let template = template();
    let resources = template["Resources"].as_object().unwrap();
    let of_kind = resources.iter().filter(|(_, resource)| resource["Type"] == kind);
    of_kind.map(|(name, resource)| (name.clone(), resource["Properties"].clone())).collect()
}

/// A metric that somebody looks at: name, and the dimensions that it is looked at by.
type Watched = (String, BTreeMap<String, String>);

/// What an alarm watches of ours.
fn watched_by(alarm: &Value) -> Vec<Watched> {
    let of_math = alarm["Metrics"].as_array().into_iter().flatten().map(|one| &one["MetricStat"]["Metric"]);
    let metrics: Vec<&Value> = of_math.chain([alarm]).collect();
    let ours = metrics.into_iter().filter(|metric| metric["Namespace"] == NAMESPACE);
    ours.map(|metric| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let dimensions = metric["Dimensions"].as_array().into_iter().flatten();
        let dimensions = dimensions.map(|one| (text(&one["Name"]), text(&one["Value"]))).collect();
        (text(&metric["MetricName"]), dimensions)
    })
    .collect()
}

/// What the dashboard shows of ours: each metric, and those that a search finds.
fn shown() -> Vec<Watched> {
    let dashboard: Value = serde_json::from_str(&file("infra/dashboard.json")).unwrap();
    let mut shown = Vec::new();
    for widget in dashboard["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().unwrap() {
            let parts: Vec<&str> = metric.as_array().unwrap().iter().filter_map(Value::as_str).collect();
            match parts.as_slice() {
                [NAMESPACE, name, dimensions @ ..] => {
                    let pairs = dimensions.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
                    shown.push(((*name).to_owned(), pairs.collect()));
                }
                [] => shown.push(searched(metric[0]["expression"].as_str().unwrap())),
                [namespace, ..] => assert!(namespace.starts_with("AWS/"), "{namespace}"),
            }
        }
    }
    shown
}

/// `SEARCH('{namespace,dimension,…} MetricName="name" …', …)`
fn searched(expression: &str) -> Watched {
    let schema = expression.split(['{', '}']).find(|part| part.contains(',')).unwrap_or_default();
    // The namespace has braces of its own.
    let schema = if expression.contains(&format!("{{{NAMESPACE},")) {
        expression.split(&format!("{{{NAMESPACE},")).nth(1).unwrap().split('}').next().unwrap()
    } else {
        panic!("{schema} is of another namespace")
    };
    let name = expression.split("MetricName=\"").nth(1).unwrap().split('"').next().unwrap();
    (name.to_owned(), schema.split(',').map(|dimension| (dimension.to_owned(), "*".to_owned())).collect())
}

/// Why nothing of this name and these dimensions is ever written.
fn wrong((name, dimensions): &Watched) -> Option<String> {
    if name == OF_LOGS {
        return (!dimensions.is_empty()).then(|| format!("{name} has no dimensions"));
    }
    let Some(metric) = METRICS.iter().find(|metric| metric.name == name) else {
        return Some(format!("nobody writes {name}"));
    };
    let known: BTreeSet<&str> = metric.dimensions.iter().map(|dimension| dimension.name).collect();
    let named: BTreeSet<&str> = dimensions.keys().map(String::as_str).collect();
    if known != named {
        return Some(format!("{name} has the dimensions {known:?}, not {named:?}"));
    }
    let is_never = |metric: &Definition, name: &str, value: &str| {
        let dimension = metric.dimensions.iter().find(|dimension| dimension.name == name);
        value != "*" && dimension.is_none_or(|dimension| !dimension.values.contains(&value))
    };
    let odd = dimensions.iter().find(|(dimension, value)| is_never(metric, dimension, value));
    odd.map(|(dimension, value)| format!("{dimension} of {name} is never {value}"))
}

#[test]
fn every_alarm_has_its_heading_in_the_runbook_and_every_heading_an_alarm() {
    let alarms: BTreeSet<String> = resources_of("AWS::CloudWatch::Alarm").into_keys().collect();
    let runbook = file("docs/runbook.md");
    let mut headings = BTreeSet::new();
    for section in runbook.split("\n### ").skip(1) {
        let (heading, body) = section.split_once('\n').unwrap();
        assert!(headings.insert(heading.to_owned()), "{heading} is there twice");
        for part in ["\nLook: ", "\nDo: "] {
            assert!(body.contains(part), "{heading} does not say{part}");
        }
    }
    let unexplained: Vec<&String> = alarms.difference(&headings).collect();
    let made_up: Vec<&String> = headings.difference(&alarms).collect();
    assert!(
        unexplained.is_empty() && made_up.is_empty(),
        "no heading: {unexplained:?}; no alarm: {made_up:?}"
    );
    assert!(alarms.len() >= 25, "{alarms:?}");
}

#[test]
fn every_alarm_tells_somebody_and_says_what_it_means() {
    for (name, alarm) in resources_of("AWS::CloudWatch::Alarm") {
        assert!(alarm["AlarmDescription"].as_str().is_some_and(|text| text.len() > 30), "{name}");
        assert!(alarm["AlarmActions"].to_string().contains("AlarmTopicArn"), "{name} tells nobody");
        assert!(alarm["TreatMissingData"].is_string(), "{name} does not say what silence means");
    }
}

#[test]
fn what_is_watched_is_written() {
    let mut watched = shown();
    for alarm in resources_of("AWS::CloudWatch::Alarm").values() {
        watched.extend(watched_by(alarm));
    }
    let wrong: Vec<String> = watched.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(watched.len() > 50, "only {} are watched", watched.len());
}

#[test]
fn what_is_written_is_on_the_dashboard() {
    let shown: BTreeSet<String> = shown().into_iter().map(|(name, _)| name).collect();
    for metric in METRICS {
        assert!(shown.contains(metric.name), "{} is not on the dashboard", metric.name);
    }
    // The logs' metric is there too, and every function's log makes it.
    assert!(shown.contains(OF_LOGS));
    let filters = resources_of("AWS::Logs::MetricFilter");
    let counted: BTreeSet<String> =
        filters.values().map(|filter| filter["LogGroupName"].as_str().unwrap().to_owned()).collect();
    let groups = resources_of("AWS::Logs::LogGroup").into_keys().filter(|name| name != "ApiAccessLogs");
    assert_eq!(counted, groups.collect());
    for filter in filters.values() {
        let made = &filter["MetricTransformations"][0];
        assert_eq!(
            (made["MetricNamespace"].as_str(), made["MetricName"].as_str()),
            (Some(NAMESPACE), Some(OF_LOGS))
        );
    }
}

#[test]
fn the_template_deploys_the_dashboard_as_it_is() {
    let dashboards = resources_of("AWS::CloudWatch::Dashboard");
    let deployed = dashboards["Dashboard"]["DashboardBody"].as_str().unwrap();
    assert_eq!(
        deployed.trim(),
        file("infra/dashboard.json").trim(),
        "copy infra/dashboard.json into the template"
    );
}

#[test]
fn functions_write_metrics_and_traces_where_the_template_says() {
    let template = template();
    let function = &template["Globals"]["Function"];
    assert_eq!(function["Environment"]["Variables"]["METRICS_NAMESPACE"], NAMESPACE);
    assert_eq!(function["Tracing"], "Tracing");
    let roles = resources_of("AWS::IAM::Role");
    assert_eq!(roles.len(), resources_of("AWS::Serverless::Function").len());
    for (name, role) in roles {
        assert!(role.to_string().contains("xray:PutTraceSegments"), "{name} may not send traces");
    }
}
