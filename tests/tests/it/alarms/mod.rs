//! Each alarm of the template rings for what the runbook says that it rings for, and not for a little less.

#![allow(clippy::float_arithmetic, reason = "metrics have fractions")]

mod cloudwatch;

use std::collections::BTreeMap;

use holdfast_app::metrics::{
    ANSWER_PROVIDER_TIME, ANSWER_TIME, AVAILABILITY_AGE, BREAKER_CHANGES, COMPENSATIONS,
    DELIVERIES_EXHAUSTED, DELIVERY_LAG, DUE_LATENESS, OVERDUE_BOOKINGS, PLANNED_REFRESHES,
};
use serde_json::Value;

use self::cloudwatch::{Recorded, Series, amazons, of_logs, ours, rings};
use crate::observability::resources_of;

/// Minutes of a quarter of an hour, by how long ago they were.
const QUARTER: std::ops::Range<u32> = 0..15;

/// The first minutes, by how long ago they were, of the last three periods of five minutes.
const THREE_PERIODS: [u32; 3] = [4, 9, 14];

/// What happens, and whether an alarm rings for it.
struct Case {
    what: &'static str,
    recorded: Recorded,
    rings: bool,
}

/// Cases of one alarm, as they are put together.
#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(mut self, rings: bool, what: &'static str, fill: impl FnOnce(&mut Recorded)) -> Self {
        let mut recorded = Recorded::default();
        fill(&mut recorded);
        self.0.push(Case { what, recorded, rings });
        self
    }

    fn rings(self, what: &'static str, fill: impl FnOnce(&mut Recorded)) -> Self {
        self.add(true, what, fill)
    }

    fn keeps_quiet(self, what: &'static str, fill: impl FnOnce(&mut Recorded)) -> Self {
        self.add(false, what, fill)
    }
}

/// So many values of this kind in each of these minutes.
fn each(
    recorded: &mut Recorded,
    series: &Series,
    minutes: impl IntoIterator<Item = u32>,
    value: f64,
    count: usize,
) {
    for minute in minutes {
        recorded.add(series, minute, value, count);
    }
}

/// A value of Amazon's that is at its limit or above it, for so many minutes.
fn above(series: &Series, limit: f64, minutes: u32) -> Cases {
    let (over, last) = (limit + 1.0, minutes - 1);
    let cases = Cases::default()
        .rings("above the limit", |recorded| each(recorded, series, 0..minutes, over, 1))
        .keeps_quiet("at the limit", |recorded| each(recorded, series, 0..minutes, limit, 1))
        .keeps_quiet("nothing is known", |_| {});
    if minutes == 1 {
        return cases;
    }
    cases.keeps_quiet("above it for too short a time", |recorded| each(recorded, series, 0..last, over, 1))
}

fn lambda(name: &str, function: &str) -> Series {
    amazons("AWS/Lambda", name, "FunctionName", function)
}

fn answers(outcome: &str) -> Series {
    ours(&ANSWER_TIME, ["book", outcome])
}

fn failed_bookings() -> Cases {
    Cases::default()
        .rings("three of either kind within five minutes", |recorded| {
            recorded.add(&answers("failed"), 4, 20.0, 3);
            recorded.add(&answers("unknown"), 0, 20.0, 3);
        })
        .rings("six of one kind", |recorded| recorded.add(&answers("unknown"), 1, 20.0, 6))
        .keeps_quiet("five", |recorded| recorded.add(&answers("failed"), 1, 20.0, 5))
        .keeps_quiet("six, but not within five minutes", |recorded| {
            each(recorded, &answers("failed"), [0, 5], 20.0, 3);
        })
        .keeps_quiet("failures of providers", |recorded| {
            recorded.add(&answers("provider_failed"), 0, 20.0, 50);
        })
}

/// A hundred bookings in each of these minutes, two of which take so much longer beside their provider.
fn bookings_two_slow(recorded: &mut Recorded, minutes: &[u32], beside_ms: f64) {
    let provider = ours(&ANSWER_PROVIDER_TIME, ["book", "done"]);
    for minute in minutes {
        recorded.add(&provider, *minute, 800.0, 100);
        recorded.add(&answers("done"), *minute, 815.0, 98);
        recorded.add(&answers("done"), *minute, 800.0 + beside_ms, 2);
    }
}

fn slow_bookings() -> Cases {
    Cases::default()
        .rings("two of a hundred took 260 ms beside their provider", |recorded| {
            bookings_two_slow(recorded, &THREE_PERIODS, 260.0);
        })
        .keeps_quiet("they took 240 ms", |recorded| bookings_two_slow(recorded, &THREE_PERIODS, 240.0))
        .keeps_quiet("for ten minutes", |recorded| bookings_two_slow(recorded, &THREE_PERIODS[..2], 260.0))
        .keeps_quiet("the provider took that long", |recorded| {
            for minute in THREE_PERIODS {
                recorded.add(&ours(&ANSWER_PROVIDER_TIME, ["book", "done"]), minute, 2_000.0, 100);
                recorded.add(&answers("done"), minute, 2_015.0, 100);
            }
        })
}

/// Bookings in each of three periods, some of which ended because a provider was silent or failed.
fn ended_by_providers(recorded: &mut Recorded, minutes: &[u32], well: usize, silent: usize, failed: usize) {
    for minute in minutes {
        recorded.add(&answers("done"), *minute, 300.0, well);
        recorded.add(&answers("timed_out"), *minute, 2_500.0, silent);
        recorded.add(&answers("provider_failed"), *minute, 40.0, failed);
    }
}

fn providers_failing() -> Cases {
    Cases::default()
        .rings("five of 21", |recorded| ended_by_providers(recorded, &THREE_PERIODS, 16, 3, 2))
        .rings("all of them are silent", |recorded| ended_by_providers(recorded, &THREE_PERIODS, 0, 40, 0))
        .keeps_quiet("all of twenty, which may be one provider's", |recorded| {
            ended_by_providers(recorded, &THREE_PERIODS, 0, 20, 0);
        })
        .keeps_quiet("a fifth", |recorded| ended_by_providers(recorded, &THREE_PERIODS, 80, 10, 10))
        .keeps_quiet("for ten minutes", |recorded| {
            ended_by_providers(recorded, &THREE_PERIODS[..2], 16, 3, 2);
        })
        .keeps_quiet("providers decline", |recorded| {
            each(recorded, &answers("declined"), THREE_PERIODS, 300.0, 100);
        })
}

fn circuits() -> Cases {
    let reopened = ours(&BREAKER_CHANGES, ["reopened"]);
    Cases::default()
        .rings("a probe fails every five minutes", |recorded| {
            each(recorded, &reopened, THREE_PERIODS, 1.0, 1);
        })
        .rings("a probe fails every ten minutes", |recorded| {
            // Nothing is known of the time between.
            each(recorded, &reopened, [4, 14, 24], 1.0, 1);
        })
        .keeps_quiet("for ten minutes", |recorded| each(recorded, &reopened, [4, 9], 1.0, 1))
        .keeps_quiet("circuits open and close", |recorded| {
            each(recorded, &ours(&BREAKER_CHANGES, ["opened"]), QUARTER, 1.0, 1);
            each(recorded, &ours(&BREAKER_CHANGES, ["closed"]), QUARTER, 1.0, 1);
        })
}

fn compensations() -> Cases {
    let begun = ours(&COMPENSATIONS, ["begun"]);
    within_five_minutes(&begun, 20).keeps_quiet("many are done", |recorded| {
        recorded.add(&ours(&COMPENSATIONS, ["done"]), 0, 1.0, 100);
    })
}

/// More than `usual` within five minutes.
fn within_five_minutes(series: &Series, usual: usize) -> Cases {
    Cases::default()
        .rings("one more than is usual", |recorded| {
            each(recorded, series, [0], 1.0, usual);
            each(recorded, series, [4], 1.0, 1);
        })
        .keeps_quiet("what is usual", |recorded| each(recorded, series, [2], 1.0, usual))
        .keeps_quiet("twice as many within ten minutes", |recorded| {
            each(recorded, series, [0, 5], 1.0, usual);
        })
        .keeps_quiet("nothing is known", |_| {})
}

fn overdue() -> Cases {
    let found = ours(&OVERDUE_BOOKINGS, []);
    Cases::default()
        .rings("three sweeps in a row find some", |recorded| {
            THREE_PERIODS.into_iter().zip([7.0, 2.0, 1.0]).for_each(|(minute, count)| {
                recorded.add(&found, minute, count, 1);
            });
        })
        .rings("a sweep is missing between them", |recorded| {
            each(recorded, &found, [4, 14, 19], 1.0, 1);
        })
        .keeps_quiet("the second finds none", |recorded| {
            THREE_PERIODS.into_iter().zip([7.0, 0.0, 1.0]).for_each(|(minute, count)| {
                recorded.add(&found, minute, count, 1);
            });
        })
        .keeps_quiet("nobody sweeps", |_| {})
}

fn sweeps() -> Cases {
    let found = ours(&OVERDUE_BOOKINGS, []);
    Cases::default()
        .rings("nobody looks for a quarter of an hour", |recorded| recorded.add(&found, 15, 0.0, 1))
        .keeps_quiet("somebody looked once, and found none", |recorded| recorded.add(&found, 14, 0.0, 1))
        .keeps_quiet("they look every five minutes", |recorded| {
            each(recorded, &found, (0..60).step_by(5), 0.0, 1);
        })
}

fn plans() -> Cases {
    let planned = ours(&PLANNED_REFRESHES, []);
    Cases::default()
        .rings("three minutes without a plan", |recorded| each(recorded, &planned, 3..60, 40.0, 1))
        .keeps_quiet("two minutes without one", |recorded| each(recorded, &planned, 2..60, 40.0, 1))
        .keeps_quiet("there is nothing to plan", |recorded| each(recorded, &planned, 0..60, 0.0, 1))
}

/// So many of a hundred values are late, in each of these minutes.
fn late_of_a_hundred(recorded: &mut Recorded, series: &Series, minutes: &[u32], late: usize, late_ms: f64) {
    for minute in minutes {
        recorded.add(series, *minute, 800.0, 100 - late);
        recorded.add(series, *minute, late_ms, late);
    }
}

/// More of a hundred than `usual` are late, for a quarter of an hour.
fn late(series: &Series, usual: usize, limit_ms: f64) -> Cases {
    let (over_ms, more) = (limit_ms + 1.0, usual + 1);
    Cases::default()
        .rings("too many are late", |recorded| {
            late_of_a_hundred(recorded, series, &THREE_PERIODS, more, over_ms);
        })
        .keeps_quiet("fewer are", |recorded| {
            late_of_a_hundred(recorded, series, &THREE_PERIODS, usual, over_ms);
        })
        .keeps_quiet("they are not that late", |recorded| {
            late_of_a_hundred(recorded, series, &THREE_PERIODS, 100, limit_ms);
        })
        .keeps_quiet("for ten minutes", |recorded| {
            late_of_a_hundred(recorded, series, &THREE_PERIODS[..2], 100, over_ms);
        })
        .keeps_quiet("there is nothing to do", |_| {})
}

fn exhausted() -> Cases {
    let given_up = ours(&DELIVERIES_EXHAUSTED, []);
    Cases::default()
        .rings("eleven within an hour", |recorded| each(recorded, &given_up, 0..11, 1.0, 1))
        .keeps_quiet("ten", |recorded| each(recorded, &given_up, 0..10, 1.0, 1))
        .keeps_quiet("twenty within two hours", |recorded| each(recorded, &given_up, [0, 60], 1.0, 10))
}

/// An error of any function but those that have an alarm of their own.
fn function_errors() -> Cases {
    let functions = resources_of("AWS::Serverless::Function").into_keys();
    let functions: Vec<String> = functions.filter(|name| name != "RefreshFunction").collect();
    assert!(functions.len() >= 9, "{functions:?}");
    let mut cases =
        Cases::default().keeps_quiet("nothing is invoked", |_| {}).keeps_quiet("all goes well", |recorded| {
            for name in &functions {
                recorded.add(&lambda("Errors", name), 0, 0.0, 10);
            }
        });
    for name in &functions {
        cases = cases
            .rings("one of them fails once", |recorded| recorded.add(&lambda("Errors", name), 3, 1.0, 1));
    }
    cases
}

/// The cases of each alarm.
fn cases() -> BTreeMap<&'static str, Cases> {
    let letters = |queue: &str| {
        let name = format!("{queue}.QueueName");
        above(&amazons("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", &name), 0.0, 1)
    };
    let availability = ours(&AVAILABILITY_AGE, ["cache"]);
    let live = ours(&AVAILABILITY_AGE, ["live"]);
    BTreeMap::from([
        ("TimerDeadLetterAlarm", letters("TimerDeadLetterQueue")),
        ("EventDeadLetterAlarm", letters("EventDeadLetterQueue")),
        ("RuleDeadLetterAlarm", letters("RuleDeadLetterQueue")),
        ("DeliveryDeadLetterAlarm", letters("DeliveryDeadLetterQueue")),
        ("RefreshDeadLetterAlarm", letters("RefreshDeadLetterQueue")),
        ("ParkedRecordAlarm", letters("ParkedRecordQueue")),
        ("BookingDeadLetterAlarm", letters("BookingDeadLetterQueue")),
        ("StreamFailureAlarm", letters("StreamFailureQueue")),
        ("UnplannedMinutesAlarm", plans()),
        ("RefreshFailureAlarm", above(&lambda("Errors", "RefreshFunction"), 0.0, 3)),
        ("LoggedErrorAlarm", above(&of_logs("LoggedErrors"), 0.0, 1)),
        ("DispatchBehindAlarm", above(&lambda("IteratorAge", "DispatchFunction"), 300_000.0, 5)),
        ("FailedBookingsAlarm", failed_bookings()),
        ("SlowBookingsAlarm", slow_bookings()),
        ("ProvidersFailingAlarm", providers_failing()),
        ("CircuitStaysOpenAlarm", circuits()),
        ("ManyCompensationsAlarm", compensations()),
        ("OverdueBookingsAlarm", overdue()),
        ("SweepMissingAlarm", sweeps()),
        ("LateWorkAlarm", late(&ours(&DUE_LATENESS, []), 5, 120_000.0)),
        ("LateDeliveriesAlarm", late(&ours(&DELIVERY_LAG, []), 50, 60_000.0)),
        ("ExhaustedDeliveriesAlarm", exhausted()),
        (
            "OldAvailabilityAlarm",
            late(&availability, 5, 600_000.0).keeps_quiet("what was asked for takes long", |recorded| {
                each(recorded, &live, THREE_PERIODS, 900_000.0, 100);
            }),
        ),
        ("BookingThrottledAlarm", above(&lambda("Throttles", "BookingFunction"), 0.0, 1)),
        ("ApiServerErrorAlarm", within_five_minutes(&amazons("AWS/ApiGateway", "5xx", "ApiId", "Api"), 5)),
        ("FunctionErrorAlarm", function_errors()),
    ])
}

#[test]
fn every_alarm_rings_when_it_should_and_no_sooner() {
    let alarms: BTreeMap<String, Value> = resources_of("AWS::CloudWatch::Alarm");
    let cases = cases();
    assert_eq!(
        alarms.keys().map(String::as_str).collect::<Vec<_>>(),
        cases.keys().copied().collect::<Vec<_>>(),
        "an alarm without cases, or cases without an alarm"
    );
    let mut wrong = Vec::new();
    for (name, Cases(cases)) in &cases {
        assert!(cases.iter().any(|case| case.rings) && cases.iter().any(|case| !case.rings), "{name}");
        for Case { what, recorded, rings: expected } in cases {
            if rings(&alarms[*name], recorded) != *expected {
                wrong.push(format!("{name}: {what}: {}", if *expected { "is quiet" } else { "rings" }));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whoever deploys it and has nothing booked yet is not called.
#[test]
fn a_deployment_without_bookings_is_quiet() {
    let mut recorded = Recorded::default();
    each(&mut recorded, &ours(&OVERDUE_BOOKINGS, []), (0..60).step_by(5), 0.0, 1);
    each(&mut recorded, &ours(&PLANNED_REFRESHES, []), 0..60, 0.0, 1);
    for (name, alarm) in resources_of("AWS::CloudWatch::Alarm") {
        assert!(!rings(&alarm, &recorded), "{name}");
    }
}
