//! What is open, asked over the native protocol: `GET {base}/availability`.

use bytes::Bytes;
use holdfast_app::availability::read_answer;
use holdfast_app::ports::{AvailabilityCall, AvailabilityFailure, Clock};
use holdfast_app::problem::FieldError;
use holdfast_domain::{OpenSlot, Window};
use http::{HeaderMap, Method};

use super::Native;
use crate::calling::{Call, Deadline, error_of, transient};
use crate::open_slots::{message_id, not_answered, unusable};

impl<C: Clock> Native<'_, C> {
    pub(crate) async fn open_slots(
        &self,
        call: AvailabilityCall<'_>,
    ) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
        let AvailabilityCall { provider, location, window, limit_ms } = call;
        let (location_id, Window { from, to }) = (&location.location_id, window);
        let outgoing = Call {
            provider,
            method: Method::GET,
            // Neither the names of locations that can be configured nor times in UTC have to be escaped.
            path: format!("/availability?location_id={location_id}&from={from}&to={to}"),
            idempotency_key: None,
            headers: HeaderMap::new(),
            message_id: message_id(location, self.0.now()),
            body: Ok(Bytes::new()),
        };
        let answer = self
            .0
            .send(outgoing, Deadline::within(limit_ms))
            .await
            .map_err(|failure| not_answered(error_of(failure), None))?;
        let retry_after_ms = self.0.retry_after_ms(&answer);
        match answer.head.status {
            200 => read(&answer.body, window).map_err(|error| unusable(call, None, &error, retry_after_ms)),
            status => Err(not_answered(transient(status), retry_after_ms)),
        }
    }
}

fn read(body: &[u8], window: Window) -> Result<Vec<OpenSlot>, FieldError> {
    // The parser's words may quote the body, so they are dropped.
    let body = serde_json::from_slice(body).map_err(|_| FieldError::new("", "is not JSON"))?;
    read_answer(&body, window)
}

#[cfg(test)]
mod tests;
