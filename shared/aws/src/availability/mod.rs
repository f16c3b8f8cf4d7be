//! Availability in DynamoDB: a table of its own, one partition a location.
//!
//! | sort key | item | it goes |
//! |---|---|---|
//! | `C#<when>#<booking>#<version>#<what>` | what a version of a booking did to a slot | an hour after nobody asks for it |
//! | `P` | the pointer: what was said again and when, and how asking goes | a day after it was written |
//! | `S` | the content: what was said, packed | four weeks after it was said |
//!
//! One query that need not be consistent reads all of it. The content's item says everything by itself, and is
//! written by one put; a pointer counts for the content that it names alone. So whatever of the two a reader
//! sees, it was said as a whole, and at the time that it is told. An unchanged answer rewrites the pointer, which
//! is one write unit however much there is to say.
//!
//! Refreshes do not remove changes: what is corrected by them is decided by their times. TTL removes everything,
//! so that nothing stays of a location that is not asked for any more.

mod changes;
mod content;
mod known;
mod store;

use holdfast_app::ports::{Place, StoreError};
use holdfast_domain::Timestamp;

pub use store::DynamoAvailability;

const WHAT: &str = "availability";
const MS_PER_SECOND: i64 = 1_000;

/// The sort key of the pointer.
const POINTER_SK: &str = "P";

/// The sort key of the content.
const CONTENT_SK: &str = "S";

fn partition_key(place: &Place) -> String {
    // A provider's name has no hash in it; the location's own name may be anything.
    format!("LOCATION#{}#{}", place.provider_id, place.location_id)
}

/// A time in a sort key: as many digits as the last representable one has.
fn digits(at: Timestamp) -> String {
    format!("{:015}", at.as_unix_ms())
}

/// The TTL attribute of what is kept for so long after a time.
fn ttl(at: Timestamp, kept_ms: u64) -> i64 {
    at.plus_ms(kept_ms).as_unix_ms() / MS_PER_SECOND
}

fn corrupt(attribute: &str) -> StoreError {
    StoreError::Corrupt(format!("{WHAT}: attribute {attribute}"))
}

fn time(attribute: &str, unix_ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_unix_ms(unix_ms).map_err(|_| corrupt(attribute))
}
