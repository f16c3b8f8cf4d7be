//! The log of repairs, the newest first, a page at a time.

use holdfast_domain::Timestamp;
use serde_json::{Value, json};

use super::{Repair, problem};
use crate::paging::{Cursors, invalid_parameters, read_limit};
use crate::ports::{AuditEntry, AuditLog, AuditPlace};
use crate::problem::{FieldError, Problem};

/// The most entries of one page.
const MAX_LIMIT: usize = 100;

/// The entries of a page unless asked otherwise.
const DEFAULT_LIMIT: usize = 50;

/// The query's parameters as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditParameters<'a> {
    /// How many entries a page has, from 1 to 100.
    pub limit: Option<&'a str>,
    /// Where the page before this one ended.
    pub cursor: Option<&'a str>,
}

impl AuditParameters<'_> {
    /// The parameters' names.
    pub const NAMES: [&'static str; 2] = ["limit", "cursor"];
}

impl<S, L, D, T, B, M, P, C, E> Repair<S, L, D, T, B, M, P, C, E>
where
    L: AuditLog,
{
    /// A page of what operators did within the last 400 days.
    pub async fn audit_log(&self, parameters: &AuditParameters<'_>) -> Result<Value, Problem> {
        let cursors = Cursors::of(&[Some("audit")]);
        let mut errors = Vec::new();
        let limit = read_limit(&mut errors, parameters.limit, DEFAULT_LIMIT, MAX_LIMIT);
        let after = match parameters.cursor {
            None => None,
            Some(cursor) => {
                let place = cursors.place(cursor).and_then(|place| place_of(&place));
                if place.is_none() {
                    errors.push(FieldError::new("cursor", "is none that this list gave"));
                }
                place
            }
        };
        let Some(limit) = limit.filter(|_| errors.is_empty()) else { return Err(invalid_parameters(errors)) };
        let page = self.audit.entries(after.as_ref(), limit).await.map_err(|error| problem(&error))?;
        let next = page.next.map(|place| cursors.cursor(&text_of(&place)));
        let entries: Vec<Value> = page.entries.iter().map(view).collect();
        Ok(json!({ "data": entries, "next_cursor": next }))
    }
}

fn view(entry: &AuditEntry) -> Value {
    json!({
        "at": entry.at,
        "key_id": entry.key_id,
        "action": entry.action,
        "subject": entry.subject,
        "reason": entry.reason,
    })
}

fn text_of(place: &AuditPlace) -> String {
    format!("{}/{}", place.at.as_unix_ms(), place.nonce)
}

fn place_of(text: &str) -> Option<AuditPlace> {
    let (at, nonce) = text.split_once('/')?;
    Some(AuditPlace { at: Timestamp::from_unix_ms(at.parse().ok()?).ok()?, nonce: nonce.to_owned() })
}
