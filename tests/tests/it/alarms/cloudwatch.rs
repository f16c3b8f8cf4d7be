//! When `CloudWatch` would ring an alarm, as far as our alarms need it. Its user guide says so: "Using Amazon
//! `CloudWatch` alarms", "Using math expressions with `CloudWatch` metrics", "Statistics definitions".

use std::collections::BTreeMap;

use holdfast_app::metrics::Metric;
use serde_json::Value;

/// A metric with its dimensions, as the template writes them.
pub(super) type Series = (String, String, BTreeMap<String, String>);

/// The namespace of our metrics, as the template writes it.
const OURS: &str = "Holdfast/${AWS::StackName}";

/// One of ours. Names and values of dimensions are those of the code.
pub(super) fn ours<const D: usize>(metric: &'static Metric<D>, values: [&str; D]) -> Series {
    let definition = metric.definition();
    let pairs = definition.dimensions.iter().zip(values).map(|(dimension, value)| {
        assert!(dimension.values.contains(&value), "{value} is no {} of {}", dimension.name, definition.name);
        (dimension.name.to_owned(), value.to_owned())
    });
    (OURS.to_owned(), definition.name.to_owned(), pairs.collect())
}

/// One of ours that the logs make.
pub(super) fn of_logs(name: &str) -> Series {
    (OURS.to_owned(), name.to_owned(), BTreeMap::new())
}

/// One of Amazon's.
pub(super) fn amazons(namespace: &str, name: &str, dimension: &str, value: &str) -> Series {
    (namespace.to_owned(), name.to_owned(), [(dimension.to_owned(), value.to_owned())].into())
}

/// What was recorded, by how many minutes ago: 0 is the minute that has just ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded(BTreeMap<Series, Vec<(u32, f64)>>);

impl Recorded {
    pub(super) fn add(&mut self, series: &Series, minutes_ago: u32, value: f64, count: usize) {
        let values = std::iter::repeat_n((minutes_ago, value), count);
        self.0.entry(series.clone()).or_default().extend(values);
    }

    /// A metric's statistic of a period; 0 is the one that has just ended. `None` if nothing was recorded.
    fn statistic(
        &self,
        series: &Series,
        statistic: &str,
        period_minutes: u32,
        periods_ago: u32,
    ) -> Option<f64> {
        let within = periods_ago * period_minutes..(periods_ago + 1) * period_minutes;
        let all = self.0.get(series).into_iter().flatten();
        let mut values: Vec<f64> =
            all.filter(|(minutes_ago, _)| within.contains(minutes_ago)).map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        Some(match statistic {
            "SampleCount" => f64::from(u32::try_from(values.len()).unwrap()),
            "Sum" => values.iter().sum(),
            "Minimum" => least,
            "Maximum" => greatest,
            _ => {
                let percent: usize = statistic.strip_prefix('p').unwrap().parse().unwrap();
                values[(values.len() * percent).div_ceil(100) - 1]
            }
        })
    }
}

/// A metric of an alarm's.
struct Query {
    id: String,
    series: Series,
    statistic: String,
    period_minutes: u32,
}

/// How many periods more than it evaluates an alarm looks at, to find as many that have a value ("How alarm state is
/// evaluated when data is missing": five for three; the guide leaves other numbers open).
const OLDER_PERIODS: u32 = 2;

/// Whether an alarm rings over what was recorded: the latest periods that have a value count, and if there are too few
/// of them, missing ones count as the alarm says.
pub(super) fn rings(alarm: &Value, recorded: &Recorded) -> bool {
    let periods = usize::try_from(alarm["EvaluationPeriods"].as_u64().unwrap()).unwrap();
    assert!(alarm["DatapointsToAlarm"].is_null(), "some of the periods: not needed so far");
    let looked_at = u32::try_from(periods).unwrap() + OLDER_PERIODS;
    let (queries, expression) = queries(alarm);
    let value = |periods_ago: u32| {
        let of = |query: &Query| {
            recorded.statistic(&query.series, &query.statistic, query.period_minutes, periods_ago)
        };
        let values: BTreeMap<&str, Option<f64>> =
            queries.iter().map(|query| (query.id.as_str(), of(query))).collect();
        Math::new(expression, &values).value()
    };
    let threshold = alarm["Threshold"].as_f64().unwrap();
    let is_breaching = |value: f64| match alarm["ComparisonOperator"].as_str().unwrap() {
        "GreaterThanThreshold" => value > threshold,
        "LessThanThreshold" => value < threshold,
        other => panic!("{other}: not needed so far"),
    };
    let known: Vec<f64> = (0..looked_at).filter_map(value).take(periods).collect();
    let is_missing_breaching = match alarm["TreatMissingData"].as_str().unwrap() {
        "breaching" => true,
        "notBreaching" => false,
        other => panic!("{other}: not needed so far"),
    };
    known.iter().all(|value| is_breaching(*value)) && (known.len() == periods || is_missing_breaching)
}

/// An alarm's metrics, and the expression over their ids.
fn queries(alarm: &Value) -> (Vec<Query>, &str) {
    const ONLY: &str = "only";
    let series = |metric: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let dimensions = metric["Dimensions"].as_array().into_iter().flatten();
        let dimensions = dimensions.map(|one| (text(&one["Name"]), text(&one["Value"]))).collect();
        (text(&metric["Namespace"]), text(&metric["MetricName"]), dimensions)
    };
    let minutes = |seconds: &Value| u32::try_from(seconds.as_u64().unwrap() / 60).unwrap();
    let Some(metrics) = alarm["Metrics"].as_array() else {
        let statistic = alarm["Statistic"].as_str().or(alarm["ExtendedStatistic"].as_str()).unwrap();
        let query = Query {
            id: ONLY.to_owned(),
            series: series(alarm),
            statistic: statistic.to_owned(),
            period_minutes: minutes(&alarm["Period"]),
        };
        return (vec![query], ONLY);
    };
    let (returned, asked): (Vec<&Value>, Vec<&Value>) =
        metrics.iter().partition(|metric| metric["ReturnData"] != false);
    let [returned] = returned.as_slice() else { panic!("an alarm watches one value: {returned:?}") };
    let queries = asked.into_iter().map(|metric| Query {
        id: metric["Id"].as_str().unwrap().to_owned(),
        series: series(&metric["MetricStat"]["Metric"]),
        statistic: metric["MetricStat"]["Stat"].as_str().unwrap().to_owned(),
        period_minutes: minutes(&metric["MetricStat"]["Period"]),
    });
    (queries.collect(), returned["Expression"].as_str().unwrap())
}

/// A math expression, read from left to right. What has no value makes whatever it is part of have none; `FILL` gives
/// it one, and `SUM(METRICS())` leaves it out.
struct Math<'a> {
    words: Vec<&'a str>,
    position: usize,
    values: &'a BTreeMap<&'a str, Option<f64>>,
}

impl<'a> Math<'a> {
    fn new(expression: &'a str, values: &'a BTreeMap<&'a str, Option<f64>>) -> Self {
        let mut words = Vec::new();
        let mut rest = expression.trim_start();
        while !rest.is_empty() {
            let is_word = |letter: char| letter.is_ascii_alphanumeric();
            let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()).max(1);
            let (word, behind) = rest.split_at(length);
            words.push(word);
            rest = behind.trim_start();
        }
        Self { words, position: 0, values }
    }

    fn value(mut self) -> Option<f64> {
        let value = self.comparison();
        assert_eq!(self.position, self.words.len(), "{:?} is not read to its end", self.words);
        value
    }

    fn is_next(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.position) == Some(&word);
        self.position += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, word: &str) {
        assert!(self.is_next(word), "no {word} at {} of {:?}", self.position, self.words);
    }

    fn comparison(&mut self) -> Option<f64> {
        let left = self.sum();
        if !self.is_next(">") {
            return left;
        }
        let right = self.sum();
        Some(f64::from(u8::from(left? > right?)))
    }

    fn sum(&mut self) -> Option<f64> {
        let mut value = self.product();
        loop {
            if self.is_next("+") {
                value = value.zip(self.product()).map(|(left, right)| left + right);
            } else if self.is_next("-") {
                value = value.zip(self.product()).map(|(left, right)| left - right);
            } else {
                return value;
            }
        }
    }

    fn product(&mut self) -> Option<f64> {
        let mut value = self.factor();
        loop {
            if self.is_next("*") {
                value = value.zip(self.factor()).map(|(left, right)| left * right);
            } else if self.is_next("/") {
                value = value.zip(self.factor()).map(|(left, right)| left / right);
            } else {
                return value;
            }
        }
    }

    fn factor(&mut self) -> Option<f64> {
        if self.is_next("(") {
            let value = self.comparison();
            self.expect(")");
            return value;
        }
        let word = self.words[self.position];
        self.position += 1;
        match word {
            "FILL" => {
                let [value, filling] = self.arguments();
                value.or(filling)
            }
            "IF" => {
                let [condition, then, otherwise] = self.arguments();
                if condition? > 0.0 { then } else { otherwise }
            }
            "SUM" => {
                for word in ["(", "METRICS", "(", ")", ")"] {
                    self.expect(word);
                }
                let known: Vec<f64> = self.values.values().copied().flatten().collect();
                (!known.is_empty()).then(|| known.iter().sum())
            }
            _ => match word.parse() {
                Ok(number) => Some(number),
                Err(_) => *self.values.get(word).unwrap_or_else(|| panic!("{word} is no metric")),
            },
        }
    }

    fn arguments<const N: usize>(&mut self) -> [Option<f64>; N] {
        self.expect("(");
        let arguments = std::array::from_fn(|nth| {
            if nth > 0 {
                self.expect(",");
            }
            self.comparison()
        });
        self.expect(")");
        arguments
    }
}

#[test]
fn expressions_are_read_as_they_are_written() {
    let values = BTreeMap::from([("a", Some(6.0)), ("b", Some(2.0)), ("none", None)]);
    for (expression, expected) in [
        ("a", Some(6.0)),
        ("a - b - 1", Some(3.0)),
        ("1 + a / b * 10", Some(31.0)),
        ("100 * (a + b) / (a - b)", Some(200.0)),
        ("a + none", None),
        ("FILL(none, 0) + FILL(a, 1)", Some(6.0)),
        ("IF(a + b > 7, a / b, 0)", Some(3.0)),
        ("IF(a + b > 8, a / b, 0)", Some(0.0)),
        ("IF(none > 8, 1, 0)", None),
        ("SUM(METRICS())", Some(8.0)),
    ] {
        assert_eq!(Math::new(expression, &values).value(), expected, "{expression}");
    }
}
