//! The feed of events.

use reqwest::Method;

use crate::client::{Client, json};
use crate::error::Error;
use crate::retry::Repeat;
use crate::types::{EventPage, EventQuery};

impl Client {
    /// A page of every event of yours, in order.
    ///
    /// Keep `next_cursor` together with what was done with the page, and send it the next time, also when the page
    /// was empty. While `has_more` is true ask again at once; else once a minute for five minutes after something
    /// that is pending, then every 15 minutes.
    pub async fn list_events(&self, query: &EventQuery) -> Result<EventPage, Error> {
        let query = [
            ("after", query.after.as_ref().map(|cursor| cursor.as_str().to_owned())),
            ("type", query.kind.as_ref().map(ToString::to_string)),
            ("limit", query.limit.map(|limit| limit.to_string())),
        ];
        let request = self.request(Method::GET, &["v1", "events"], &query)?;
        self.call(Repeat::Safely, &request, json).await
    }
}
