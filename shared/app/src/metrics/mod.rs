//! What is measured, and how use cases tell of it.
//!
//! A use case records a value where the thing happens, and which bookings it is about; [`collected`] gives whoever
//! runs it all that was recorded meanwhile. The functions write that into their logs once per request or message,
//! tests look at it. Where nobody collects, recording does nothing.
//!
//! The values of dimensions are `&'static str`, so that none can come from outside: neither a person's data nor an
//! identifier can become a metric, and there are never more of them than the code names.

mod table;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_domain::{BookingId, ProviderId};

pub use table::*;

/// The most dimensions of a metric.
pub const MAX_DIMENSIONS: usize = 2;

/// The most bookings that are noted of one piece of work: as many records as a batch of the stream has.
const MAX_NOTED_BOOKINGS: usize = 100;

/// How many values most requests record at the most.
const USUAL_SAMPLES: usize = 4;

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// The name that Amazon has for it (`MetricDatum`, "Unit").
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Milliseconds => "Milliseconds",
        }
    }
}

/// What a metric's values are told apart by.
#[derive(Debug, PartialEq, Eq)]
pub struct Dimension {
    /// Its name.
    pub name: &'static str,
    /// All that it may be.
    pub values: &'static [&'static str],
}

/// What a metric is, without its values.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// What its values count.
    pub unit: Unit,
    /// What its values are told apart by.
    pub dimensions: &'static [Dimension],
    /// What it says, for people.
    pub about: &'static str,
}

/// A metric with `D` dimensions.
pub struct Metric<const D: usize>(Definition);

impl<const D: usize> fmt::Debug for Metric<D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Metric({})", self.0.name)
    }
}

impl<const D: usize> Metric<D> {
    const fn new(
        name: &'static str,
        unit: Unit,
        dimensions: &'static [Dimension; D],
        about: &'static str,
    ) -> Self {
        assert!(D <= MAX_DIMENSIONS, "a metric has too many dimensions");
        Self(Definition { name, unit, dimensions, about })
    }

    /// What it is.
    pub fn definition(&'static self) -> &'static Definition {
        &self.0
    }

    /// Records a value for these values of the dimensions, in their order.
    pub fn record(&'static self, dimensions: [&'static str; D], value: u64) {
        let mut values = [""; MAX_DIMENSIONS];
        for ((place, value), dimension) in values.iter_mut().zip(dimensions).zip(self.0.dimensions) {
            debug_assert!(
                dimension.values.contains(&value),
                "{value} is no {} of {}",
                dimension.name,
                self.0.name
            );
            *place = value;
        }
        let sample = Sample { metric: &self.0, values, value };
        // Without a collector there is nobody to tell.
        COLLECTOR.try_with(|collector| collector.push(sample)).ok();
    }

    /// The sum of the values that the current request or message has recorded so far.
    pub fn sum(&'static self) -> u64 {
        COLLECTOR.try_with(|collector| collector.sum(&self.0)).unwrap_or(0)
    }
}

/// A value that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    metric: &'static Definition,
    values: [&'static str; MAX_DIMENSIONS],
    value: u64,
}

impl Sample {
    /// Of what.
    pub fn metric(&self) -> &'static Definition {
        self.metric
    }

    /// The value, in the metric's unit.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// The dimensions' names and values.
    pub fn dimensions(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        self.metric.dimensions.iter().map(|dimension| dimension.name).zip(self.values)
    }

    /// Whether both are told apart by the same, so that one statement can hold them.
    pub fn is_like(&self, other: &Self) -> bool {
        self.values == other.values && self.metric.dimensions == other.metric.dimensions
    }
}

/// What was recorded during a piece of work.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The values, in the order in which they were recorded.
    pub samples: Vec<Sample>,
    /// The bookings that the work was about, each once.
    pub bookings: Vec<BookingId>,
    /// How the attempt went that the caller waited for, if there was one.
    pub attempt: Option<AttemptNote>,
}

/// How a request's attempt at its provider went, which the line of log about the request says too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptNote {
    /// What was attempted, such as `book`.
    pub operation_kind: &'static str,
    /// At whom.
    pub provider_id: ProviderId,
    /// `acknowledged`, `declined`, or `not_sent` or `unknown` with the error's code: `unknown:timed_out`.
    pub outcome: String,
    /// What the booking has become by it.
    pub booking_status: &'static str,
}

#[derive(Default)]
struct Collector(Mutex<Recorded>);

impl Collector {
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, sample: Sample) {
        let samples = &mut self.recorded().samples;
        if samples.is_empty() {
            samples.reserve(USUAL_SAMPLES);
        }
        samples.push(sample);
    }

    fn sum(&self, metric: &'static Definition) -> u64 {
        let recorded = self.recorded();
        let of_metric = recorded.samples.iter().filter(|sample| std::ptr::eq(sample.metric, metric));
        of_metric.map(|sample| sample.value).sum()
    }

    fn note(&self, booking_id: &BookingId) {
        let bookings = &mut self.recorded().bookings;
        if bookings.len() < MAX_NOTED_BOOKINGS && !bookings.contains(booking_id) {
            bookings.push(booking_id.clone());
        }
    }
}

/// Notes that the current request or message is about a booking, which its trace then says.
pub fn note_booking(booking_id: &BookingId) {
    COLLECTOR.try_with(|collector| collector.note(booking_id)).ok();
}

/// Notes how the attempt went that the current request waited for.
pub fn note_attempt(attempt: AttemptNote) {
    COLLECTOR.try_with(|collector| collector.recorded().attempt = Some(attempt)).ok();
}

/// How the attempt went that the current request waited for, if there was one so far.
pub fn noted_attempt() -> Option<AttemptNote> {
    COLLECTOR.try_with(|collector| collector.recorded().attempt.clone()).ok().flatten()
}

/// Notes that it is about this booking alone: what is logged within the span of the request says so too.
pub fn record_booking(booking_id: &BookingId) {
    tracing::Span::current().record("booking.id", booking_id.as_str());
    note_booking(booking_id);
}

tokio::task_local! {
    static COLLECTOR: Collector;
}

/// Runs a piece of work to its end. Returns what came of it and all that was recorded meanwhile.
pub async fn collected<F: Future>(work: F) -> (F::Output, Recorded) {
    let mut scope = std::pin::pin!(COLLECTOR.scope(Collector::default(), work));
    let outcome = scope.as_mut().await;
    let collector = scope.as_mut().take_value();
    let recorded =
        collector.map(|collector| collector.0.into_inner().unwrap_or_else(PoisonError::into_inner));
    (outcome, recorded.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn what_is_recorded_is_collected_by_who_runs_it_and_by_nobody_else() {
        OVERDUE_BOOKINGS.record([], 1);
        let first = collected(async {
            OVERDUE_BOOKINGS.record([], 3);
            tokio::task::yield_now().await;
            OVERDUE_BOOKINGS.record([], 4);
            for number in [1, 2, 1] {
                note_booking(&BookingId::from_bytes([number; 16]));
            }
            OVERDUE_BOOKINGS.sum()
        });
        let second = collected(async {
            PROVIDER_CALL_TIME.record(["book", "acknowledged"], 7);
            tokio::task::yield_now().await;
            OVERDUE_BOOKINGS.sum()
        });
        let ((sum, first), (other_sum, second)) = tokio::join!(first, second);
        assert_eq!((sum, other_sum), (7, 0));
        assert_eq!(first.bookings, [1, 2].map(|number| BookingId::from_bytes([number; 16])));
        assert!(second.bookings.is_empty());
        let (first, second) = (first.samples, second.samples);
        assert_eq!(first.iter().map(Sample::value).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(second.len(), 1);
        assert_eq!(second[0].metric(), PROVIDER_CALL_TIME.definition());
        let dimensions: Vec<_> = second[0].dimensions().collect();
        assert_eq!(dimensions, [("call", "book"), ("outcome", "acknowledged")]);
        assert!(first[0].is_like(&first[1]) && !first[0].is_like(&second[0]));
        assert_eq!(OVERDUE_BOOKINGS.sum(), 0, "nobody collects");
    }

    #[tokio::test]
    async fn an_attempt_is_known_to_the_request_that_waited_for_it() {
        let note = AttemptNote {
            operation_kind: "book",
            provider_id: ProviderId::parse("demo-clinic").unwrap(),
            outcome: "unknown:timed_out".to_owned(),
            booking_status: "pending",
        };
        let (known, recorded) = collected(async {
            let before = noted_attempt();
            note_attempt(note.clone());
            (before, noted_attempt())
        })
        .await;
        assert_eq!(known, (None, Some(note.clone())));
        assert_eq!(recorded.attempt, Some(note));
        assert_eq!(noted_attempt(), None, "nobody collects");
    }

    #[tokio::test]
    async fn what_is_broken_off_has_recorded_what_it_recorded() {
        let (ended, recorded) = collected(async {
            let work = async {
                DEAD_LETTERS.record(["compensation_failed"], 1);
                std::future::pending::<()>().await;
            };
            tokio::time::timeout(std::time::Duration::ZERO, work).await
        })
        .await;
        assert!(ended.is_err());
        assert_eq!(recorded.samples.len(), 1);
    }

    #[test]
    fn each_metric_is_in_the_table_once() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert!(metric.name.chars().all(|letter| letter.is_ascii_alphanumeric()), "{}", metric.name);
        }
    }
}
