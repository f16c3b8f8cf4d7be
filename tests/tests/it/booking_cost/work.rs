//! What functions did for a booking, and what Amazon asks for it.
//!
//! Counts are as they were; prices are the list prices of us-east-1 of November 2026, in USD, without any free tier.
//! Only proportions are meant to last.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::AddAssign;
use std::sync::OnceLock;

use super::pipes::Sent;
use crate::contract::metering_proxy::Call;
use crate::contract::outside::Asked;
use crate::observability::{resources_of, template};

/// The functions that a booking passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Booking,
    Dispatch,
    Retry,
    Webhook,
}

impl Function {
    /// In the order in which they are shown.
    pub(super) const ALL: [Self; 4] = [Self::Booking, Self::Dispatch, Self::Retry, Self::Webhook];

    /// Its memory in GB, as the template has it.
    pub(super) fn memory_gb(self) -> f64 {
        static MEMORY_MB: OnceLock<BTreeMap<String, u64>> = OnceLock::new();
        let memory_mb = MEMORY_MB.get_or_init(|| {
            let usual_mb = template()["Globals"]["Function"]["MemorySize"].as_u64().unwrap();
            let functions = resources_of("AWS::Serverless::Function").into_iter();
            functions.map(|(name, own)| (name, own["MemorySize"].as_u64().unwrap_or(usual_mb))).collect()
        });
        float(memory_mb[&format!("{self:?}Function")]) / 1_024.0
    }
}

/// How long things take, in milliseconds: what is assumed, since the tests' own times say nothing of Amazon's.
pub(super) const DATABASE_CALL_MS: u64 = 5;
const QUEUE_CALL_MS: u64 = 10;
const PROVIDER_ANSWER_MS: u64 = 300;
const RECEIVER_ANSWER_MS: u64 = 200;
/// What an invocation computes, which is less than this (docs/benchmarks.md), rounded up as Lambda does.
const OWN_MS: u64 = 2;

/// For how long somebody outside is waited for, in milliseconds.
fn waited_ms(asked: Asked) -> u64 {
    match asked {
        Asked::AttemptInVain { limit_ms } => limit_ms,
        Asked::Attempt | Asked::LookUp | Asked::Compensation | Asked::Notification => PROVIDER_ANSWER_MS,
        Asked::Post => RECEIVER_ANSWER_MS,
    }
}

/// What an invocation logs, in bytes: on the local stack some 400 to 1 200, metrics included, and Lambda's own three lines
/// besides.
const LOGGED_BYTES: u64 = 1_500;

/// What invocations did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) invocations: u64,
    pub(super) database_calls: u64,
    pub(super) read_half_units: u64,
    pub(super) table_write_half_units: u64,
    pub(super) index_write_half_units: u64,
    /// Requests to SQS: to send, and, for each message by itself, to receive and to delete.
    pub(super) queue_requests: u64,
    pub(super) events: u64,
    pub(super) lambda_ms: u64,
}

/// A write that is refused costs what it would have (developer guide of DynamoDB, "Capacity unit consumption for write
/// operations"), which for items of up to 1 KB is one unit.
const REFUSED_HALF_UNITS: u64 = 2;

impl Work {
    /// What one invocation did, if one thing came after the other: calls of the tables, of queues and bus, and of those
    /// outside. It was told of by so many messages.
    pub(super) fn of_invocation(calls: &[Call], sent: Sent, outside: &[Asked], messages: u64) -> Self {
        let mut work = Self { invocations: 1, events: sent.events, ..Self::default() };
        for call in calls {
            let is_read = ["GetItem", "BatchGetItem", "Query"].contains(&call.operation.as_str());
            match (is_read, call.is_refused) {
                (true, _) => work.read_half_units += call.half_units(),
                (false, true) => {
                    let is_single =
                        ["PutItem", "UpdateItem", "DeleteItem"].contains(&call.operation.as_str());
                    assert!(is_single, "nobody knows what this refusal costs: {call:?}");
                    work.table_write_half_units += REFUSED_HALF_UNITS;
                }
                (false, false) => {
                    work.table_write_half_units += call.table_half_units;
                    work.index_write_half_units += call.index_half_units;
                }
            }
        }
        work.database_calls = u64::try_from(calls.len()).unwrap();
        work.queue_requests = sent.sends + 2 * messages;
        work.lambda_ms = OWN_MS
            + DATABASE_CALL_MS * work.database_calls
            + QUEUE_CALL_MS * (sent.sends + sent.publications)
            + outside.iter().map(|asked| waited_ms(*asked)).sum::<u64>();
        work
    }

    pub(super) fn write_half_units(&self) -> u64 {
        self.table_write_half_units + self.index_write_half_units
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.invocations += other.invocations;
        self.database_calls += other.database_calls;
        self.read_half_units += other.read_half_units;
        self.table_write_half_units += other.table_write_half_units;
        self.index_write_half_units += other.index_write_half_units;
        self.queue_requests += other.queue_requests;
        self.events += other.events;
        self.lambda_ms += other.lambda_ms;
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        all.for_each(|work| sum += work);
        sum
    }
}

/// Prices, in USD for a million if nothing else is said.
pub(super) mod prices {
    /// A request to an HTTP API.
    pub(crate) const API_REQUEST: f64 = 1.00;
    pub(crate) const INVOCATION: f64 = 0.20;
    /// A million GB-seconds on arm64.
    pub(crate) const GB_SECOND: f64 = 13.333_4;
    pub(crate) const WRITE_UNIT: f64 = 0.625;
    pub(crate) const READ_UNIT: f64 = 0.125;
    pub(crate) const QUEUE_REQUEST: f64 = 0.40;
    pub(crate) const EVENT: f64 = 1.00;
    /// A GB of logs taken in.
    pub(crate) const LOG_GB: f64 = 0.50;
    /// A GB kept in a table for a month.
    pub(crate) const STORED_GB_MONTH: f64 = 0.25;
    /// A GB of a table that can be restored to any point in time, besides.
    pub(crate) const BACKED_UP_GB_MONTH: f64 = 0.20;
    /// One alarm, one metric, one dashboard, one key, a month.
    pub(crate) const ALARM: f64 = 0.10;
    pub(crate) const METRIC: f64 = 0.30;
    pub(crate) const DASHBOARD: f64 = 3.00;
    pub(crate) const KEY: f64 = 1.00;
}

#[allow(clippy::cast_precision_loss, reason = "counts of a few bookings are small")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// What a million times this work costs, in USD.
pub(super) fn usd_a_million(work: &[(Function, Work)], api_requests: u64) -> f64 {
    let of = |(function, work): &(Function, Work)| {
        let gb_seconds = float(work.lambda_ms) / 1_000.0 * function.memory_gb();
        float(work.invocations) * prices::INVOCATION
            + gb_seconds * prices::GB_SECOND
            + float(work.write_half_units()) / 2.0 * prices::WRITE_UNIT
            + float(work.read_half_units) / 2.0 * prices::READ_UNIT
            + float(work.queue_requests) * prices::QUEUE_REQUEST
            + float(work.events) * prices::EVENT
            // A million of these are so many thousandths of a GB.
            + float(work.invocations * LOGGED_BYTES) / 1_000.0 * prices::LOG_GB
    };
    work.iter().map(of).sum::<f64>() + float(api_requests) * prices::API_REQUEST
}
