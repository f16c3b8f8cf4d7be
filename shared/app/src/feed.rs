//! The feed of events: for consumers who would rather ask than be called.
//!
//! Every event of a tenant has a number, and numbers follow on each other, so that a cursor is a number and
//! never goes past an event that becomes visible late. Whose events are read is decided by the caller's key
//! alone.

mod appender;

use holdfast_domain::{EventType, Tenant, Timestamp};

pub use appender::FeedAppender;

use crate::paging::{Cursors, invalid_parameters, read_limit};
use crate::ports::{EventFeed, FEED_RETENTION_MS, FeedEntry, SETTLE_LIMIT_MS, StoreError};
use crate::problem::{FieldError, Problem, ProblemCode};
use crate::webhook::{DELIVERY_EXHAUSTED, ENDPOINT_DISABLED};

/// The most events of one page.
pub const MAX_FEED_LIMIT: usize = 100;

/// The events of a page unless asked otherwise.
pub const DEFAULT_FEED_LIMIT: usize = 20;

/// How many events one call looks at to find those of the wanted type. What is left is for the next page.
pub const MAX_LOOKED_AT: usize = 500;

/// How many events are asked for at once while a type sorts some out.
const LOOK_AT_ONCE: usize = 100;

/// How many bytes of events make a page full, so that an answer stays far under what Lambda lets through.
const FULL_PAGE_BYTES: usize = 1024 * 1024;

/// What `after` is for a poller that wants nothing of what was before.
const LATEST: &str = "latest";

/// Types of events that are about endpoints, not bookings.
const ENDPOINT_EVENT_TYPES: [&str; 2] = [ENDPOINT_DISABLED, DELIVERY_EXHAUSTED];

/// The query's parameters as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedParameters<'a> {
    /// The last page's `next_cursor`, or `latest`.
    pub after: Option<&'a str>,
    /// How many events a page has, from 1 to [`MAX_FEED_LIMIT`].
    pub limit: Option<&'a str>,
    /// The one type of event that is wanted.
    pub event_type: Option<&'a str>,
}

impl FeedParameters<'_> {
    /// The parameters' names.
    pub const NAMES: [&'static str; 3] = ["after", "limit", "type"];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Behind this number.
    After(u64),
    /// Behind the last number that there is.
    Latest,
}

/// A reading of the feed that can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidFeed {
    tenant: Tenant,
    start: Start,
    limit: usize,
    event_type: Option<String>,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedAnswer {
    /// The events' bodies, by number.
    pub bodies: Vec<String>,
    /// Where the next page begins, however few events this one has.
    pub next_cursor: String,
    /// Whether it is worth asking again at once.
    pub has_more: bool,
}

impl FeedAnswer {
    /// The answer's body. Not a byte of an event's body is changed.
    pub fn to_json(&self) -> String {
        let Self { bodies, next_cursor, has_more } = self;
        format!(r#"{{"data":[{}],"next_cursor":"{next_cursor}","has_more":{has_more}}}"#, bodies.join(","))
    }
}

/// Reads the parameters of a reading of `tenant`'s feed; a problem names each that is at fault.
pub fn read_feed(tenant: &Tenant, parameters: &FeedParameters<'_>) -> Result<ValidFeed, Problem> {
    let mut errors = Vec::new();
    let start = parameters.after.map_or(Some(Start::After(0)), |text| match text {
        LATEST => Some(Start::Latest),
        cursor => number_of(cursor, tenant).map(Start::After),
    });
    if start.is_none() {
        let detail = "must be the next_cursor of a page of this feed, unaltered, or latest".to_owned();
        errors.push(FieldError::new("after", detail));
    }
    let limit = read_limit(&mut errors, parameters.limit, DEFAULT_FEED_LIMIT, MAX_FEED_LIMIT);
    let is_known = |name: &str| EventType::parse(name).is_some() || ENDPOINT_EVENT_TYPES.contains(&name);
    if parameters.event_type.is_some_and(|name| !is_known(name)) {
        errors.push(FieldError::new("type", "must be the name of one type of event".to_owned()));
    }
    match (start, limit) {
        (Some(start), Some(limit)) if errors.is_empty() => Ok(ValidFeed {
            tenant: tenant.clone(),
            start,
            limit,
            event_type: parameters.event_type.map(str::to_owned),
        }),
        _ => Err(invalid_parameters(errors)),
    }
}

/// A page of a tenant's feed at `now`.
pub async fn feed(store: &impl EventFeed, wanted: &ValidFeed, now: Timestamp) -> Result<FeedAnswer, Problem> {
    let page = match wanted.start {
        Start::Latest => store.last_number(&wanted.tenant).await.map(|number| Page {
            bodies: Vec::new(),
            number,
            has_more: false,
        }),
        Start::After(number) => page(store, wanted, number, now).await,
    };
    let page = page.map_err(|error| store_problem(&error))?;
    Ok(FeedAnswer {
        bodies: page.bodies,
        next_cursor: cursor_of(page.number, &wanted.tenant),
        has_more: page.has_more,
    })
}

impl ValidFeed {
    fn wants(&self, entry: &FeedEntry) -> bool {
        self.event_type.as_ref().is_none_or(|wanted| entry.event.event_type == *wanted)
    }
}

struct Page {
    bodies: Vec<String>,
    /// The number up to which everything was looked at.
    number: u64,
    has_more: bool,
}

async fn page(
    store: &impl EventFeed,
    wanted: &ValidFeed,
    after: u64,
    now: Timestamp,
) -> Result<Page, StoreError> {
    let since = now.minus_ms(FEED_RETENTION_MS);
    let mut page = Page { bodies: Vec::new(), number: after, has_more: true };
    let (mut looked_at, mut bytes) = (0_usize, 0_usize);
    let mut sorts_out = wanted.event_type.is_some();
    while page.bodies.len() < wanted.limit && looked_at < MAX_LOOKED_AT && bytes < FULL_PAGE_BYTES {
        let missing = wanted.limit.saturating_sub(page.bodies.len());
        let limit = if sorts_out { LOOK_AT_ONCE } else { missing };
        let found = store.read(&wanted.tenant, page.number, limit).await?;
        let known = page.number;
        for entry in found.entries {
            if !follows(&entry, page.number, since, now) {
                // The next call finds what is being written now.
                page.has_more = false;
                return Ok(page);
            }
            if page.bodies.len() == wanted.limit || bytes >= FULL_PAGE_BYTES {
                return Ok(page);
            }
            page.number = entry.number;
            looked_at = looked_at.saturating_add(1);
            let is_old = entry.at < since;
            sorts_out |= is_old;
            if !is_old && wanted.wants(&entry) {
                bytes = bytes.saturating_add(entry.event.body.len());
                page.bodies.push(entry.event.body);
            }
        }
        page.has_more = found.has_more;
        if !found.has_more || page.number == known {
            break;
        }
    }
    Ok(page)
}

/// Whether an entry may be shown after the one numbered `number`: it is the next, or what is missing between
/// them is too old to be shown or has been missing for too long to come.
fn follows(entry: &FeedEntry, number: u64, since: Timestamp, now: Timestamp) -> bool {
    if entry.number <= number.saturating_add(1) || entry.previous_at < since {
        return true;
    }
    let is_lost = entry.at.plus_ms(SETTLE_LIMIT_MS) <= now;
    if is_lost {
        tracing::error!(
            event.id = %entry.event.event_id,
            feed.number = entry.number,
            "Events are missing from a feed before this one."
        );
    }
    is_lost
}

fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "The event feed is not available.");
            Problem::new(ProblemCode::StoreUnavailable, "Storage is not available at the moment.")
                .retry_after_s(1)
        }
        StoreError::Corrupt(_) | StoreError::Refused(_) => {
            tracing::error!(%error, "The event feed failed.");
            Problem::new(ProblemCode::Internal, "The request could not be completed.")
        }
    }
}

fn cursors(tenant: &Tenant) -> Cursors {
    Cursors::of(&[
        Some("holdfast/feed-cursor"),
        Some(tenant.mode.as_str()),
        Some(tenant.consumer_id.as_str()),
    ])
}

fn cursor_of(number: u64, tenant: &Tenant) -> String {
    cursors(tenant).cursor(&number.to_string())
}

fn number_of(cursor: &str, tenant: &Tenant) -> Option<u64> {
    cursors(tenant).place(cursor)?.parse().ok()
}

#[cfg(test)]
mod tests;
