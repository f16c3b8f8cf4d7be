//! Metrics as lines of the log, in Amazon's embedded metric format (`CloudWatch` user guide, "Specification: Embedded
//! metric format"): whoever keeps the log makes metrics of them, so that nothing is called for it.
//!
//! One line holds what was recorded for the same values of the same dimensions. Beside the metrics it says which
//! request they are of, and which booking, as every line of the log does; neither is a dimension.

use holdfast_app::metrics::{Definition, Sample};
use holdfast_domain::Timestamp;
use serde_json::{Map, Value, json};

/// The most values of a metric in a line.
const MAX_VALUES: usize = 100;

/// What a line says of the work that was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    /// The request's identifier.
    pub(crate) request_id: &'a str,
    /// The booking's, if it is known and the only one.
    pub(crate) booking_id: Option<&'a str>,
}

/// The lines for what was recorded, each with its line feed; nothing for nothing.
pub(crate) fn lines(namespace: &str, samples: &[Sample], about: About<'_>, now: Timestamp) -> String {
    let mut groups: Vec<Vec<&Sample>> = Vec::new();
    for sample in samples {
        // Most requests have two or three, so that looking through them is the quickest.
        let has_room = |group: &&mut Vec<&Sample>| group.len() < MAX_VALUES && group[0].is_like(sample);
        match groups.iter_mut().find(has_room) {
            Some(group) => group.push(sample),
            None => groups.push(vec![sample]),
        }
    }
    let mut lines = String::new();
    for group in groups {
        lines.push_str(&line(namespace, &group, about, now).to_string());
        lines.push('\n');
    }
    lines
}

fn line(namespace: &str, group: &[&Sample], about: About<'_>, now: Timestamp) -> Value {
    let mut metrics: Vec<(&Definition, Vec<u64>)> = Vec::new();
    for sample in group {
        let known = metrics.iter_mut().find(|(metric, _)| std::ptr::eq(*metric, sample.metric()));
        match known {
            Some((_, values)) => values.push(sample.value()),
            None => metrics.push((sample.metric(), vec![sample.value()])),
        }
    }
    let first = group[0];
    let dimensions: Vec<&str> = first.dimensions().map(|(name, _)| name).collect();
    let named: Vec<Value> = metrics
        .iter()
        .map(|(metric, _)| json!({"Name": metric.name, "Unit": metric.unit.as_str()}))
        .collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.as_unix_ms(),
            "CloudWatchMetrics": [{
                "Namespace": namespace,
                "Dimensions": [dimensions],
                "Metrics": named,
            }],
        }),
    );
    for (dimension, value) in first.dimensions() {
        line.insert(dimension.to_owned(), json!(value));
    }
    for (metric, values) in metrics {
        let value = if let [value] = values[..] { json!(value) } else { json!(values) };
        line.insert(metric.name.to_owned(), value);
    }
    line.insert("request.id".to_owned(), json!(about.request_id));
    if let Some(booking_id) = about.booking_id {
        line.insert("booking.id".to_owned(), json!(booking_id));
    }
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use holdfast_app::metrics::{
        ANSWER_PROVIDER_TIME, ANSWER_TIME, OVERDUE_BOOKINGS, PENDING_AGE, PROVIDER_CALL_TIME, Recorded,
        collected,
    };

    use super::*;

    async fn lines_of(record: impl FnOnce()) -> Vec<Value> {
        let ((), Recorded { samples, .. }) = collected(async { record() }).await;
        let about = About { request_id: "r-1", booking_id: Some("bkg_1") };
        let text = lines("Holdfast/test", &samples, about, Timestamp::EPOCH.plus_ms(1_700_000_000_123));
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_has_the_same_dimensions_is_one_line_and_nothing_is_none() {
        assert!(lines_of(|| {}).await.is_empty());
        let lines = lines_of(|| {
            PROVIDER_CALL_TIME.record(["book", "acknowledged"], 40);
            ANSWER_TIME.record(["book", "done"], 48);
            ANSWER_PROVIDER_TIME.record(["book", "done"], 40);
        })
        .await;
        assert_eq!(lines.len(), 2);
        let expected = json!({
            "_aws": {
                "Timestamp": 1_700_000_000_123_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "Holdfast/test",
                    "Dimensions": [["operation", "outcome"]],
                    "Metrics": [
                        {"Name": "AnswerTime", "Unit": "Milliseconds"},
                        {"Name": "AnswerProviderTime", "Unit": "Milliseconds"},
                    ],
                }],
            },
            "operation": "book",
            "outcome": "done",
            "AnswerTime": 48,
            "AnswerProviderTime": 40,
            "request.id": "r-1",
            "booking.id": "bkg_1",
        });
        assert_eq!(lines[1], expected);
        assert_eq!((&lines[0]["call"], &lines[0]["ProviderCallTime"]), (&json!("book"), &json!(40)));
    }

    #[tokio::test]
    async fn several_values_are_a_list_of_a_hundred_at_the_most() {
        let lines = lines_of(|| (0..130).for_each(|age| PENDING_AGE.record(["confirmed"], age))).await;
        let counts: Vec<usize> =
            lines.iter().map(|line| line["PendingAge"].as_array().unwrap().len()).collect();
        assert_eq!(counts, [100, 30]);
    }

    #[tokio::test]
    async fn a_metric_without_dimensions_has_an_empty_set_of_them() {
        let lines = lines_of(|| OVERDUE_BOOKINGS.record([], 0)).await;
        assert_eq!(lines[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]));
        assert_eq!(lines[0]["OverdueBookings"], 0);
    }
}
