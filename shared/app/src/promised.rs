//! The times and sizes that are promised outside, written a second time: whoever changes one changes a promise.

use crate::availability::{MAX_AGE_MS, PLANNED_MS, REFRESH_PERIOD_MS};
use crate::bookings::{DEFAULT_HOLD_MS, MAX_SLOT_AHEAD_MS, MAX_SLOT_LENGTH_MS};
use crate::idempotency::KEY_RETENTION_MS;
use crate::ports::{
    FEED_RETENTION_MS, FETCHED_KEPT_MS, RELEASE_PAUSE_MS, SETTLE_LIMIT_MS, SLOT_CHANGES_KEPT_MS,
};
use crate::webhook::{DELIVERY_KEPT_MS, FAILING_LIMIT_MS, MAX_SCHEDULE_S, OLD_SECRET_VALID_MS};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;

#[test]
fn times_are_as_long_as_they_are_promised() {
    for (name, promised_ms, built_ms) in [
        ("a key stands for its first request", 14 * DAY_MS, KEY_RETENTION_MS),
        ("a reservation holds if nobody says how long", 15 * MINUTE_MS, DEFAULT_HOLD_MS),
        ("how far ahead a slot may begin", 732 * DAY_MS, MAX_SLOT_AHEAD_MS),
        ("how long a slot may be", 366 * DAY_MS, MAX_SLOT_LENGTH_MS),
        ("availability is shown from memory", 15 * MINUTE_MS, MAX_AGE_MS),
        ("each location is asked for", 5 * MINUTE_MS, REFRESH_PERIOD_MS),
        ("it is planned ahead", MINUTE_MS, PLANNED_MS),
        ("what happened to a slot is kept", 20 * MINUTE_MS, SLOT_CHANGES_KEPT_MS),
        ("events are in the feed", 30 * DAY_MS, FEED_RETENTION_MS),
        ("a gap in the feed is waited for", 5 * MINUTE_MS, SETTLE_LIMIT_MS),
        ("notifications are released again", HOUR_MS, RELEASE_PAUSE_MS),
        ("what was fetched is kept", 6 * DAY_MS, FETCHED_KEPT_MS),
        ("deliveries and attempts are shown", 30 * DAY_MS, DELIVERY_KEPT_MS),
        ("an endpoint may fail", 5 * DAY_MS, FAILING_LIMIT_MS),
        ("a replaced secret signs", DAY_MS, OLD_SECRET_VALID_MS),
        ("a schedule of deliveries may last", 14 * DAY_MS, u64::from(MAX_SCHEDULE_S) * 1_000),
    ] {
        assert_eq!(built_ms, promised_ms, "{name}");
    }
}
