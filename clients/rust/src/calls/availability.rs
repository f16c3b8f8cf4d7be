//! What is open.

use reqwest::Method;
use reqwest::header::IF_NONE_MATCH;

use super::bookings::tag;
use crate::client::{Answered, Client, answered, changed};
use crate::error::Error;
use crate::headers::ETag;
use crate::http::Request;
use crate::retry::Repeat;
use crate::types::{Availability, AvailabilityQuery};

impl Client {
    /// What is open, location by location.
    pub async fn get_availability(&self, query: &AvailabilityQuery) -> Result<Answered<Availability>, Error> {
        self.call(Repeat::Safely, &self.availability_request(query)?, answered).await
    }

    /// The same; `None` if it still is as `known` says.
    pub async fn get_changed_availability(
        &self,
        query: &AvailabilityQuery,
        known: &ETag,
    ) -> Result<Option<Answered<Availability>>, Error> {
        let request = self.availability_request(query)?.with_header(IF_NONE_MATCH, tag(known)?);
        self.call(Repeat::Safely, &request, changed).await
    }

    fn availability_request(&self, query: &AvailabilityQuery) -> Result<Request, Error> {
        let query = [
            ("provider_id", Some(query.provider_id.clone())),
            ("location_ids", Some(query.location_ids.join(","))),
            ("start_date", query.start_date.map(|date| date.to_string())),
            ("days", query.days.map(|days| days.to_string())),
            ("allow_stale", Some(query.allow_stale.to_string())),
        ];
        self.request(Method::GET, &["v1", "availability"], &query)
    }
}
