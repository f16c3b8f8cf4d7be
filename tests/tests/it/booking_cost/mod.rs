//! What a booking costs, by what becomes of it, in all functions that it passes through: counted here, priced, and
//! held against the tables of docs/costs.md.

#![allow(clippy::float_arithmetic, reason = "prices are fractions")]

mod alternatives;
mod deployment;
mod kept;
mod pipes;
mod work;

use std::fmt::Write as _;

use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{AttemptError, AttemptOutcome, Rejection};
use http::Method;
use serde_json::{Value, json};

use self::alternatives::{Alternative, Cost};
use self::deployment::Deployment;
use self::work::{Function, Work, float, prices, usd_a_million};
use crate::contract::fixtures;
use crate::observability::resources_of;

/// How often each is done, so that what is done for ten requests together counts for a tenth.
const TIMES: u64 = 10;

/// A thing that consumers do, and what is done for it, ten times.
struct Row {
    what: &'static str,
    work: Vec<(Function, Work)>,
    api_requests: u64,
}

impl Row {
    fn of(&self, function: Function) -> Work {
        self.work.iter().filter(|(of, _)| *of == function).map(|(_, work)| *work).sum()
    }

    fn all(&self) -> Work {
        self.work.iter().map(|(_, work)| *work).sum()
    }

    fn usd_a_million(&self) -> f64 {
        usd_a_million(&self.work, self.api_requests) / float(TIMES)
    }
}

/// A count of ten, for one.
fn mean(of_ten: u64) -> String {
    let text = format!("{:.2}", float(of_ten) / float(TIMES));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn units(half_units_of_ten: u64) -> String {
    let text = format!("{:.2}", float(half_units_of_ten) / 2.0 / float(TIMES));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The README's first booking, at another time of the day for each number.
fn body(number: u64, is_patient: bool) -> Value {
    let mut body = json!({
        "provider_id": "demo-clinic",
        "slot": {
            "location_id": "main-street",
            "start": format!("2027-01-15T{:02}:00:00Z", 6 + number),
            "end": format!("2027-01-15T{:02}:30:00Z", 6 + number),
        },
        "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
        "reference": format!("order-{}", 1_001 + number),
    });
    if is_patient {
        body["async_confirmation"] = true.into();
    }
    body
}

const BOOKINGS: &str = "/v1/bookings";

/// Bookings of one kind, their first answers and the work.
async fn bookings(
    deployment: &mut Deployment,
    what: &'static str,
    (status, is_patient): (u16, bool),
    answer: Option<AttemptOutcome>,
) -> (Row, Vec<Value>) {
    // Everything is warm.
    deployment.call(Method::POST, BOOKINGS, "warms-up", &body(12, false)).await;
    deployment.take();
    let mut answers = Vec::new();
    for number in 0..TIMES {
        if let Some(answer) = &answer {
            deployment.outside.next(answer.clone());
        }
        let key = format!("booking-{number}");
        let response = deployment.call(Method::POST, BOOKINGS, &key, &body(number, is_patient)).await;
        assert_eq!(response.status, status, "{what}: {response:?}");
        answers.push(serde_json::from_slice(&response.body).unwrap());
    }
    (Row { what, work: deployment.take(), api_requests: TIMES }, answers)
}

fn no_answer() -> AttemptOutcome {
    AttemptOutcome::Unknown(AttemptError::TimedOut)
}

fn declined() -> AttemptOutcome {
    let message = Some("The slot has just been taken.".to_owned());
    AttemptOutcome::Declined(Rejection { code: "slot_unavailable".to_owned(), message, provider_code: None })
}

/// A deployment that somebody listens to.
async fn listened() -> Deployment {
    let deployment = Deployment::new(fixtures::provider("demo-clinic")).await;
    deployment.listen().await;
    deployment
}

async fn rows() -> Vec<Row> {
    const AT_ONCE: (u16, bool) = (201, false);
    let mut unheard = Deployment::new(fixtures::provider("demo-clinic")).await;
    let (unheard, _) = bookings(&mut unheard, "confirmed, nobody listens", AT_ONCE, None).await;

    let mut deployment = listened().await;
    let (confirmed, answers) = bookings(&mut deployment, CONFIRMED, AT_ONCE, None).await;
    for number in 0..TIMES {
        let key = format!("booking-{number}");
        let response = deployment.call(Method::POST, BOOKINGS, &key, &body(number, false)).await;
        assert_eq!(response.headers["idempotency-replayed"], "true");
    }
    let replayed = Row { what: REPLAYED, work: deployment.take(), api_requests: TIMES };
    for answer in &answers {
        let path = format!("{BOOKINGS}/{}", answer["id"].as_str().unwrap());
        assert_eq!(deployment.call(Method::GET, &path, "", &Value::Null).await.status, 200);
    }
    let read = Row { what: READ, work: deployment.take(), api_requests: TIMES };
    for answer in &answers {
        let id = answer["id"].as_str().unwrap();
        let path = format!("{BOOKINGS}/{id}/cancel");
        assert_eq!(deployment.call(Method::POST, &path, id, &json!({})).await.status, 200);
    }
    let cancelled = Row { what: CANCELLED, work: deployment.take(), api_requests: TIMES };

    let exclusive = fixtures::provider("demo-clinic");
    let mut exclusive = Deployment::new(ProviderSettings { exclusive_slots: true, ..exclusive }).await;
    exclusive.listen().await;
    let (exclusive, _) = bookings(&mut exclusive, "confirmed, an exclusive slot", AT_ONCE, None).await;
    let (declined, _) = bookings(&mut listened().await, DECLINED, (409, false), Some(declined())).await;
    let (silent, _) = bookings(&mut listened().await, SILENT, (504, false), Some(no_answer())).await;
    let (pending, _) = bookings(&mut listened().await, PENDING, (202, true), Some(no_answer())).await;
    vec![unheard, confirmed, exclusive, replayed, declined, silent, pending, cancelled, read]
}

const CONFIRMED: &str = "confirmed";
const REPLAYED: &str = "the same request again";
const DECLINED: &str = "declined";
const SILENT: &str = "no answer in time; undone";
const PENDING: &str = "pending, confirmed at the second attempt";
const CANCELLED: &str = "cancelled, after it was confirmed";
const READ: &str = "read";

/// What a thousand bookings are followed by, in a month as any other.
const MIX: [(&str, f64); 7] = [
    (CONFIRMED, 0.90),
    (DECLINED, 0.05),
    (PENDING, 0.04),
    (SILENT, 0.01),
    (REPLAYED, 0.05),
    (CANCELLED, 0.10),
    (READ, 0.50),
];

fn of_mix(rows: &[Row]) -> f64 {
    let of = |(what, share): &(&str, f64)| {
        rows.iter().find(|row| row.what == *what).unwrap().usd_a_million() * share
    };
    MIX.iter().map(of).sum()
}

fn counts(rows: &[Row]) -> String {
    let mut table =
        "| | invocations: booking, dispatch, retry, webhook | write units: tables + indexes | read units | \
                     SQS | events | Lambda, ms | USD a million |\n|---|---|---:|---:|---:|---:|---:|---:|\n"
            .to_owned();
    for row in rows {
        let invocations = Function::ALL.map(|function| mean(row.of(function).invocations)).join(", ");
        let all = row.all();
        writeln!(
            table,
            "| {} | {invocations} | {} + {} | {} | {} | {} | {} | {:.1} |",
            row.what,
            units(all.table_write_half_units),
            units(all.index_write_half_units),
            units(all.read_half_units),
            mean(all.queue_requests),
            mean(all.events),
            mean(all.lambda_ms),
            row.usd_a_million(),
        )
        .unwrap();
    }
    table
}

/// What a month costs however few bookings there are, in USD.
fn standing() -> f64 {
    /// Of the series that the metrics may have, those that such a month has.
    const SERIES: f64 = 40.0;
    /// Lambda asks each queue for messages with five connections, each for 20 s ("Understanding how Lambda scales
    /// with SQS standard queues").
    const EMPTY_RECEIVES: f64 = 5.0 * 3.0 * 60.0 * 24.0 * 30.4;
    let count = |kind: &str| float(resources_of(kind).len().try_into().unwrap());
    let mappings = resources_of("AWS::Serverless::Function");
    let queues = mappings.values().filter_map(|function| function["Events"].as_object());
    let queues = queues.flat_map(|events| events.values()).filter(|event| event["Type"] == "SQS").count();
    let per_million = EMPTY_RECEIVES * float(queues.try_into().unwrap()) / 1e6;
    count("AWS::CloudWatch::Alarm") * prices::ALARM
        + count("AWS::CloudWatch::Dashboard") * prices::DASHBOARD
        + count("AWS::KMS::Key") * prices::KEY
        + SERIES * prices::METRIC
        + per_million * prices::QUEUE_REQUEST
}

/// What keeping a confirmed booking costs until it is forgotten, with its events and deliveries, in USD.
async fn usd_kept() -> f64 {
    let mut deployment = listened().await;
    bookings(&mut deployment, CONFIRMED, (201, false), None).await;
    // With the one that everything is warm by.
    kept::usd_until_forgotten(&deployment).await / float(TIMES + 1)
}

fn months(rows: &[Row], alternatives: &[Alternative], usd_kept: f64) -> String {
    let mut table = "| bookings a month | calls, functions, queues, events, logs | keeping it, with backups | \
                     alarms, metrics, keys, polling | together | with two-item transactions | with Powertools |\n\
                     |---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    let standing = standing();
    for (shown, bookings) in [("1 000", 1e3), ("1 000 000", 1e6), ("100 000 000", 1e8)] {
        let working = of_mix(rows) * bookings / 1e6;
        let kept = usd_kept * bookings;
        let all = working + kept + standing;
        let others: Vec<String> = alternatives
            .iter()
            .map(|other| format!("{:.2}", all + other.usd_a_million_more(&MIX) * bookings / 1e6))
            .collect();
        writeln!(
            table,
            "| {shown} | {working:.2} | {kept:.2} | {standing:.2} | **{all:.2}** | {} |",
            others.join(" | ")
        )
        .unwrap();
    }
    table
}

fn beside(alternatives: &[Alternative]) -> String {
    let mut table =
        "| | write units on tables, confirmed | read and write units, again | calls, confirmed | \
                     USD a million confirmed, for these |\n|---|---:|---:|---:|---:|\n"
            .to_owned();
    for one in alternatives {
        writeln!(
            table,
            "| {} | {:.2} | {:.2} + {:.2} | {} | {:.2} |",
            one.name,
            one.confirmed.write_units,
            one.again.read_units,
            one.again.write_units,
            one.confirmed.calls,
            one.confirmed.usd_a_million(),
        )
        .unwrap();
    }
    table
}

const BEGIN: &str = "<!-- figures: begin -->\n";
const END: &str = "<!-- figures: end -->";

/// On virtual time: what a busy machine gives up waiting for, or comes to later, is counted otherwise.
#[tokio::test(start_paused = true)]
async fn the_documented_costs_are_those_that_are_counted() {
    let rows = Box::pin(rows()).await;
    let ours = [CONFIRMED, REPLAYED].map(|what| {
        let row = rows.iter().find(|row| row.what == what).unwrap();
        Cost::of(&row.of(Function::Booking), TIMES)
    });
    let alternatives = alternatives::beside(ours.into()).await;
    let figures = format!(
        "{}\n{}\n{}",
        counts(&rows),
        beside(&alternatives),
        months(&rows, &alternatives[1..], usd_kept().await)
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/costs.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once(BEGIN).unwrap();
    let (documented, _) = rest.split_once(END).unwrap();
    assert!(documented == figures, "docs/costs.md has other figures than these:\n\n{figures}");
}
