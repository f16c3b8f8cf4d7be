//! Metrics as lines of the log, in Amazon's embedded metric format (`CloudWatch` user guide, "Specification: Embedded
//! metric format"): whoever keeps the log makes metrics of them, so that nothing is called for it.
//!
//! One line holds what was recorded for the same values of the same dimensions. Beside the metrics it says which
//! request they are of, and which booking, as every line of the log does; neither is a dimension.

use holdfast_app::metrics::{Definition, Sample};
use holdfast_domain::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The most values of a metric in a line.
const MAX_VALUES: usize = 100;

/// Room for most lines, in bytes.
const USUAL_LINE_BYTES: usize = 512;

/// What a line says of the work that was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    /// The request's identifier.
    pub(crate) request_id: &'a str,
    /// The booking's, if it is known and the only one.
    pub(crate) booking_id: Option<&'a str>,
}

/// The lines for what was recorded, each with its line feed; nothing for nothing.
pub(crate) fn lines(
    namespace: &str,
    samples: &[Sample],
    about: About<'_>,
    now: Timestamp,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut groups: Vec<Vec<&Sample>> = Vec::new();
    for sample in samples {
        // Most requests have two or three, so that looking through them is the quickest.
        let has_room = |group: &&mut Vec<&Sample>| group.len() < MAX_VALUES && group[0].is_like(sample);
        match groups.iter_mut().find(has_room) {
            Some(group) => group.push(sample),
            None => groups.push(vec![sample]),
        }
    }
    let mut lines = Vec::with_capacity(USUAL_LINE_BYTES.saturating_mul(groups.len()));
    for group in groups {
        serde_json::to_writer(&mut lines, &Line { namespace, group: &group, about, now })?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// One line: values of the same dimensions.
struct Line<'a> {
    namespace: &'a str,
    group: &'a [&'a Sample],
    about: About<'a>,
    now: Timestamp,
}

/// What `CloudWatch` reads of a line (`MetadataObject` of the specification).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata<'a> {
    timestamp: i64,
    cloud_watch_metrics: [Directive<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive<'a> {
    namespace: &'a str,
    dimensions: [Vec<&'a str>; 1],
    metrics: Vec<Named>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    name: &'static str,
    unit: &'static str,
}

/// The values of a metric: one by itself, several as a list.
struct Values<'a> {
    metric: &'static Definition,
    group: &'a [&'a Sample],
}

impl Values<'_> {
    fn each(&self) -> impl Iterator<Item = u64> {
        self.group
            .iter()
            .filter(|sample| std::ptr::eq(sample.metric(), self.metric))
            .map(|sample| sample.value())
    }
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut values = self.each();
        match (values.next(), values.next()) {
            (Some(only), None) => serializer.serialize_u64(only),
            _ => serializer.collect_seq(self.each()),
        }
    }
}

impl Line<'_> {
    /// The metrics of the group, each once.
    fn metrics(&self) -> Vec<&'static Definition> {
        let mut metrics: Vec<&'static Definition> = Vec::with_capacity(self.group.len());
        for sample in self.group {
            if !metrics.iter().any(|metric| std::ptr::eq(*metric, sample.metric())) {
                metrics.push(sample.metric());
            }
        }
        metrics
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (metrics, first) = (self.metrics(), self.group[0]);
        let named = metrics.iter().map(|metric| Named { name: metric.name, unit: metric.unit.as_str() });
        let directive = Directive {
            namespace: self.namespace,
            dimensions: [first.dimensions().map(|(name, _)| name).collect()],
            metrics: named.collect(),
        };
        let metadata = Metadata { timestamp: self.now.as_unix_ms(), cloud_watch_metrics: [directive] };
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("_aws", &metadata)?;
        for (dimension, value) in first.dimensions() {
            line.serialize_entry(dimension, value)?;
        }
        for metric in metrics {
            line.serialize_entry(metric.name, &Values { metric, group: self.group })?;
        }
        line.serialize_entry("request.id", self.about.request_id)?;
        if let Some(booking_id) = self.about.booking_id {
            line.serialize_entry("booking.id", booking_id)?;
        }
        line.end()
    }
}

#[cfg(test)]
mod tests {
    use holdfast_app::metrics::{
        ANSWER_PROVIDER_TIME, ANSWER_TIME, OVERDUE_BOOKINGS, PENDING_AGE, PROVIDER_CALL_TIME, Recorded,
        collected,
    };
    use serde_json::{Value, json};

    use super::*;

    async fn lines_of(record: impl FnOnce()) -> Vec<Value> {
        let ((), Recorded { samples, .. }) = collected(async { record() }).await;
        let about = About { request_id: "r-1", booking_id: Some("bkg_1") };
        let bytes =
            lines("Holdfast/test", &samples, about, Timestamp::EPOCH.plus_ms(1_700_000_000_123)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
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
