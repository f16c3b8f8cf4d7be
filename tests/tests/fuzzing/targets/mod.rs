//! What is fuzzed: functions that take any bytes and hold what is promised of them.
//!
//! They are run by `cargo fuzz` (the folder `fuzz`), and by the tests of this binary over a corpus and what
//! mutations make of it. A check must not depend on the one that ran before it.

mod admin_request;
mod availability_content;
mod availability_query;
mod booking_key;
mod booking_request;
mod cursor;
mod http;
mod idempotency_header;
mod provider_answer;
mod provider_callback;
mod queue_message;
mod scripted_provider;
mod stored;
mod stream_record;

/// A check.
pub(crate) type Check = fn(&[u8]);

/// Every check, under its target's name.
pub(crate) const TARGETS: [(&str, Check); 11] = [
    ("admin_request", admin_request::check),
    ("availability_content", availability_content::check),
    ("availability_query", availability_query::check),
    ("booking_key", booking_key::check),
    ("booking_request", booking_request::check),
    ("cursor", cursor::check),
    ("idempotency_header", idempotency_header::check),
    ("provider_answer", provider_answer::check),
    ("provider_callback", provider_callback::check),
    ("queue_message", queue_message::check),
    ("stream_record", stream_record::check),
];

/// A part of seeds that no fixed text of ours has. Where it stands for what must not be told again, an answer
/// must not have it.
const MARKER: &str = "zq7x";

/// Splits the digit off that chooses among `count`, so that seeds can be written by hand.
fn choice(data: &[u8], count: usize) -> Option<(usize, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((usize::from(first.wrapping_sub(b'0')) % count, rest))
}

/// Runs a check's own world, in which time passes only where somebody waits for it.
fn run<T>(world: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs nothing").block_on(world)
}

/// A time of these worlds.
fn now() -> holdfast_domain::Timestamp {
    holdfast_domain::Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").expect("it is a time")
}
