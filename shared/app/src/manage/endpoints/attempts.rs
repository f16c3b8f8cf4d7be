//! The log of attempts to deliver events to an endpoint, the newest first, a page at a time.
//!
//! The store knows order and time; event and outcome are looked at here, over as many entries as one call may
//! look at. A cursor says where the next page begins and nothing else: whose log is read is decided by the
//! caller's key and the path.

use holdfast_domain::{EventId, Tenant, Timestamp};
use serde_json::{Value, json};

use super::known;
use crate::paging::{Cursors, invalid_parameters, read_limit};
use crate::ports::{AttemptEntry, AttemptLog, AttemptPlace, EndpointStore};
use crate::problem::{FieldError, Problem};
use crate::settings_cache::configuration_problem;
use crate::webhook::DELIVERY_KEPT_MS;

/// The most entries of one page.
const MAX_LIMIT: usize = 100;

/// The entries of a page unless asked otherwise.
const DEFAULT_LIMIT: usize = 20;

/// How many entries one call looks at to find those that are wanted. What is left is for the next page.
const MAX_LOOKED_AT: usize = 500;

/// How many entries are asked for at once while a filter sorts some out.
const LOOK_AT_ONCE: usize = 100;

/// The query's parameters as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptParameters<'a> {
    /// How many entries a page has, from 1 to 100.
    pub limit: Option<&'a str>,
    /// Where the page before this one ended.
    pub cursor: Option<&'a str>,
    /// One event's attempts alone.
    pub event_id: Option<&'a str>,
    /// `succeeded`, `failed`, or an HTTP status.
    pub status: Option<&'a str>,
}

impl AttemptParameters<'_> {
    /// The parameters' names.
    pub const NAMES: [&'static str; 4] = ["limit", "cursor", "event_id", "status"];
}

enum Status {
    Succeeded,
    Failed,
    Http(u16),
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "succeeded" => Some(Self::Succeeded),
            "failed" => Some(Self::Failed),
            code => code.parse().ok().filter(|code| (100..=599).contains(code)).map(Self::Http),
        }
    }
}

struct Filters {
    event_id: Option<EventId>,
    status: Option<Status>,
    /// The cursors of this list.
    cursors: Cursors,
}

impl Filters {
    fn want(&self, entry: &AttemptEntry) -> bool {
        let is_of_event = self.event_id.as_ref().is_none_or(|wanted| entry.event_id == *wanted);
        is_of_event
            && match self.status {
                None => true,
                Some(Status::Succeeded) => entry.error.is_none(),
                Some(Status::Failed) => entry.error.is_some(),
                Some(Status::Http(code)) => entry.status == Some(code),
            }
    }
}

/// A page of an endpoint's attempts of the last 30 days.
pub async fn attempts(
    store: &impl EndpointStore,
    log: &impl AttemptLog,
    tenant: &Tenant,
    id: &str,
    parameters: &AttemptParameters<'_>,
    now: Timestamp,
) -> Result<Value, Problem> {
    let (filters, limit, mut after) = read(id, parameters)?;
    let endpoint = known(store, tenant, id).await?;
    let sorts_out = filters.event_id.is_some() || filters.status.is_some();
    let since = now.minus_ms(DELIVERY_KEPT_MS);
    let mut wanted = Vec::new();
    let mut looked_at = 0;
    loop {
        let at_once = if sorts_out { LOOK_AT_ONCE } else { limit };
        let page = log.attempts(&endpoint.id, since, after.as_ref(), at_once).await;
        let page = page.map_err(|error| configuration_problem(&error))?;
        looked_at += at_once;
        let mut found = page.entries.into_iter();
        while let Some(entry) = found.next() {
            if !filters.want(&entry) {
                continue;
            }
            let place = entry.place();
            wanted.push(view(&entry));
            if wanted.len() == limit {
                let is_more = found.len() > 0 || page.next.is_some();
                return Ok(answer(&wanted, Some(place).filter(|_| is_more).as_ref(), &filters));
            }
        }
        if page.next.is_none() || looked_at >= MAX_LOOKED_AT {
            return Ok(answer(&wanted, page.next.as_ref(), &filters));
        }
        after = page.next;
    }
}

fn answer(data: &[Value], next: Option<&AttemptPlace>, filters: &Filters) -> Value {
    json!({"data": data, "next_cursor": next.map(|place| filters.cursors.cursor(&place_text(place)))})
}

fn view(entry: &AttemptEntry) -> Value {
    json!({
        "event_id": entry.event_id.as_str(),
        "event_type": entry.event_type,
        "attempt": entry.attempt,
        "attempted_at": entry.at,
        "succeeded": entry.error.is_none(),
        "status": entry.status,
        "latency_ms": entry.latency_ms,
        "response_body": entry.response_body,
        "error": entry.error,
    })
}

fn read(
    id: &str,
    parameters: &AttemptParameters<'_>,
) -> Result<(Filters, usize, Option<AttemptPlace>), Problem> {
    let mut errors = Vec::new();
    let event_id = parameters.event_id.map(EventId::parse);
    if matches!(event_id, Some(Err(_))) {
        errors.push(FieldError::new("event_id", "must be the identifier of an event"));
    }
    let status = parameters.status.map(Status::parse);
    if matches!(status, Some(None)) {
        errors.push(FieldError::new("status", "must be succeeded, failed, or an HTTP status such as 503"));
    }
    let limit = read_limit(&mut errors, parameters.limit, DEFAULT_LIMIT, MAX_LIMIT);
    let fields = [Some("holdfast/attempts-cursor"), Some(id), parameters.event_id, parameters.status];
    let filters = Filters {
        event_id: event_id.and_then(Result::ok),
        status: status.flatten(),
        cursors: Cursors::of(&fields),
    };
    let after = parameters.cursor.map(|cursor| filters.cursors.place(cursor).as_deref().and_then(place_of));
    if matches!(after, Some(None)) {
        let detail = "must be the next_cursor of a page of this very list, with the same filters";
        errors.push(FieldError::new("cursor", detail));
    }
    match limit {
        Some(limit) if errors.is_empty() => Ok((filters, limit, after.flatten())),
        _ => Err(invalid_parameters(errors)),
    }
}

fn place_text(place: &AttemptPlace) -> String {
    format!("{}/{}/{}", place.at.as_unix_ms(), place.event_id, place.attempt)
}

fn place_of(place: &str) -> Option<AttemptPlace> {
    let mut parts = place.splitn(3, '/');
    Some(AttemptPlace {
        at: Timestamp::from_unix_ms(parts.next()?.parse().ok()?).ok()?,
        event_id: EventId::parse(parts.next()?).ok()?,
        attempt: parts.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemCode;
    use crate::test_util::{MemoryDeliveryStore, MemorySettings};
    use crate::webhook::WebhookEndpoint;
    use holdfast_domain::WebhookEndpointId;

    const NOW_MS: i64 = 1_795_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(NOW_MS).unwrap()
    }

    fn endpoint() -> WebhookEndpoint {
        let tenant = Tenant::parse("live:shop").unwrap();
        WebhookEndpoint::new(WebhookEndpointId::from_bytes([1; 16]), tenant, "https://a", "a".into(), now())
    }

    /// Attempt `number`, so many seconds ago; every third one failed.
    fn entry(number: u8) -> AttemptEntry {
        let is_failed = number.is_multiple_of(3);
        AttemptEntry {
            endpoint_id: endpoint().id,
            event_id: EventId::from_bytes([number % 5; 16]),
            event_type: "booking.created".to_owned(),
            attempt: number.into(),
            at: now().minus_ms(u64::from(number) * 1_000),
            latency_ms: 7,
            status: Some(if is_failed { 503 } else { 204 }),
            error: is_failed.then(|| "http_503".to_owned()),
            response_body: is_failed.then(|| "busy".to_owned()),
        }
    }

    async fn world(entries: impl IntoIterator<Item = AttemptEntry>) -> (MemorySettings, MemoryDeliveryStore) {
        let (settings, log) = (MemorySettings::new(), MemoryDeliveryStore::new());
        settings.add_endpoint(endpoint());
        for entry in entries {
            log.append(&entry).await.unwrap();
        }
        (settings, log)
    }

    type World = (MemorySettings, MemoryDeliveryStore);

    async fn page(
        (settings, log): &World,
        parameters: AttemptParameters<'_>,
    ) -> Result<(Vec<i64>, Option<String>), Problem> {
        let (tenant, id) = (endpoint().tenant, endpoint().id);
        let answer = attempts(settings, log, &tenant, id.as_str(), &parameters, now()).await?;
        let numbers =
            answer["data"].as_array().unwrap().iter().map(|entry| entry["attempt"].as_i64().unwrap());
        Ok((numbers.collect(), answer["next_cursor"].as_str().map(str::to_owned)))
    }

    async fn all(world: &World, parameters: AttemptParameters<'_>) -> Vec<i64> {
        let (mut numbers, mut cursor) = page(world, parameters).await.unwrap();
        while let Some(text) = cursor {
            let (more, next) =
                page(world, AttemptParameters { cursor: Some(&text), ..parameters }).await.unwrap();
            numbers.extend(more);
            cursor = next;
        }
        numbers
    }

    #[tokio::test]
    async fn entries_say_what_happened() {
        let world = world([entry(3)]).await;
        let (tenant, id) = (endpoint().tenant, endpoint().id);
        let parameters = AttemptParameters::default();
        let answer = attempts(&world.0, &world.1, &tenant, id.as_str(), &parameters, now()).await.unwrap();
        let expected = json!({
            "event_id": EventId::from_bytes([3; 16]).as_str(), "event_type": "booking.created", "attempt": 3,
            "attempted_at": now().minus_ms(3_000), "succeeded": false, "status": 503, "latency_ms": 7,
            "response_body": "busy", "error": "http_503",
        });
        assert_eq!(answer, json!({"data": [expected], "next_cursor": null}));
        let other = Tenant::parse("test:shop").unwrap();
        let foreign = attempts(&world.0, &world.1, &other, id.as_str(), &parameters, now()).await;
        assert_eq!(foreign.unwrap_err().code, ProblemCode::NotFound);
    }

    #[tokio::test]
    async fn pages_and_filters_find_every_entry_once_and_the_newest_first() {
        let world = world((1..=250).map(entry)).await;
        let parameters = AttemptParameters { limit: Some("7"), ..AttemptParameters::default() };
        assert_eq!(all(&world, parameters).await, (1..=250).collect::<Vec<_>>());
        let failed = AttemptParameters { status: Some("failed"), ..parameters };
        assert_eq!(all(&world, failed).await, (1..=83).map(|third| third * 3).collect::<Vec<_>>());
        let succeeded = AttemptParameters { status: Some("204"), ..parameters };
        assert_eq!(all(&world, succeeded).await.len(), 250 - 83);
        let event = EventId::from_bytes([4; 16]);
        let of_event = AttemptParameters { event_id: Some(event.as_str()), ..parameters };
        assert_eq!(all(&world, of_event).await, (0..50).map(|fifth| fifth * 5 + 4).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn thirty_days_are_counted_by_the_clock() {
        let at = |at| AttemptEntry { at, ..entry(1) };
        let oldest = now().minus_ms(DELIVERY_KEPT_MS);
        let world = world([at(oldest), AttemptEntry { attempt: 2, ..at(oldest.minus_ms(1)) }]).await;
        assert_eq!(all(&world, AttemptParameters::default()).await, [1]);
    }

    async fn refused_by(world: &World, parameters: AttemptParameters<'_>) -> Vec<String> {
        let problem = page(world, parameters).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::InvalidParameter);
        problem.errors.into_iter().map(|error| error.pointer).collect()
    }

    #[tokio::test]
    async fn what_is_at_fault_is_named() {
        let world = world((1..=30).map(entry)).await;
        let none = AttemptParameters::default();
        for limit in ["0", "101", "x", ""] {
            assert_eq!(refused_by(&world, AttemptParameters { limit: Some(limit), ..none }).await, ["limit"]);
        }
        let both = AttemptParameters { status: Some("done"), event_id: Some("evt_1"), ..none };
        assert_eq!(refused_by(&world, both).await, ["event_id", "status"]);
        let cursor = page(&world, none).await.unwrap().1.unwrap();
        let with_filter = AttemptParameters {
            cursor: Some(&cursor),
            status: Some("failed"),
            ..AttemptParameters::default()
        };
        assert_eq!(refused_by(&world, with_filter).await, ["cursor"]);
        for position in 0..cursor.len() {
            let mut altered = cursor.clone().into_bytes();
            altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(
                refused_by(&world, AttemptParameters { cursor: Some(&altered), ..none }).await,
                ["cursor"]
            );
        }
    }
}
