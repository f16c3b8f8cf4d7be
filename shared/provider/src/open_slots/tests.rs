//! What is the same over every protocol, against real sockets.

use std::io;
use std::sync::{Arc, Mutex};

use holdfast_app::ports::AvailabilityGateway;
use holdfast_app::settings::{Protocol, ProviderSettings};
use holdfast_domain::{LocalDate, LocationId};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::safe_client::MAX_ANSWER_BYTES;
use crate::test_util::{
    BRIEF_MS, Received, gateway, json_answer, location, open_slots, provider, raw, serve,
};

const ASKED: [Protocol; 2] = [Protocol::Holdfast, Protocol::Octo];

async fn failure(provider: &ProviderSettings, protocol: Protocol) -> AvailabilityFailure {
    let provider = ProviderSettings { protocol, ..provider.clone() };
    open_slots(&provider, &location(&[("tour", None)]), "2027-01-15", 1).await.unwrap_err()
}

#[tokio::test]
async fn who_cannot_be_asked_is_not_called() {
    let (mut provider, received) = serve(|_: &Received| json_answer(200, &json!({"slots": []}))).await;
    assert_eq!(failure(&provider, Protocol::Docplanner).await, cannot_be_asked());
    let nothing = location(&[]);
    let over_octo = ProviderSettings { protocol: Protocol::Octo, ..provider.clone() };
    assert_eq!(open_slots(&over_octo, &nothing, "2027-01-15", 1).await, Err(cannot_be_asked()));
    provider.base_url = None;
    for protocol in Protocol::ALL {
        assert_eq!(failure(&provider, protocol).await, cannot_be_asked());
    }
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn every_other_status_is_a_failure() {
    for protocol in ASKED {
        for (status, error) in [
            (201, AttemptError::UnusableAnswer),
            (202, AttemptError::UnusableAnswer),
            (204, AttemptError::UnusableAnswer),
            (301, AttemptError::UnusableAnswer),
            (401, AttemptError::Misconfigured(401)),
            (403, AttemptError::Misconfigured(403)),
            (404, AttemptError::HttpStatus(404)),
            (410, AttemptError::HttpStatus(410)),
            (429, AttemptError::HttpStatus(429)),
            (500, AttemptError::HttpStatus(500)),
            (503, AttemptError::HttpStatus(503)),
        ] {
            let (provider, _received) = serve(move |_: &Received| {
                let status = axum::http::StatusCode::from_u16(status).unwrap();
                (status, [("retry-after", "7")], r#"{"slots": []}"#)
            })
            .await;
            let expected = AvailabilityFailure { error, retry_after_ms: Some(7_000) };
            assert_eq!(failure(&provider, protocol).await, expected, "{protocol:?} {status}");
        }
    }
}

#[tokio::test]
async fn garbage_redirects_and_floods_say_nothing() {
    let unusable = AvailabilityFailure { error: AttemptError::UnusableAnswer, retry_after_ms: None };
    let (elsewhere, visited) = serve(|_: &Received| json_answer(200, &json!({"slots": []}))).await;
    let target = elsewhere.base_url.unwrap();
    for protocol in ASKED {
        for body in ["", "<html>", "null", "[[]]", "7", r#"{"slots": [1]}"#, "\u{0}"] {
            let (provider, _received) = serve(move |_: &Received| body).await;
            assert_eq!(failure(&provider, protocol).await, unusable, "{protocol:?} {body}");
        }
        let target = target.clone();
        let (provider, _received) =
            serve(move |_: &Received| axum::response::Redirect::temporary(&target)).await;
        assert_eq!(failure(&provider, protocol).await, unusable);

        let (provider, _received) = serve(|_: &Received| " ".repeat(MAX_ANSWER_BYTES + 1)).await;
        assert_eq!(failure(&provider, protocol).await, unusable);
    }
    assert!(visited.lock().unwrap().is_empty());
}

#[tokio::test]
async fn no_answer_is_a_failure() {
    for protocol in ASKED {
        let lost = raw("http", Vec::new(), false).await;
        assert_eq!(failure(&lost, protocol).await.error, AttemptError::ConnectionLost);
        let refused = provider("http://10.0.0.1");
        assert_eq!(failure(&refused, protocol).await.error, AttemptError::TargetRefused);

        let silent = ProviderSettings { protocol, ..raw("http", Vec::new(), true).await };
        let location = location(&[("tour", None), ("boat", None)]);
        let window = location.zone.days(LocalDate::parse("2027-01-15").unwrap(), 1);
        let (provider, location) = (&silent, &location);
        let call = AvailabilityCall { provider, location, window, limit_ms: BRIEF_MS };
        let failure = gateway("127.0.0.1").open_slots(call).await.unwrap_err();
        assert_eq!(failure, AvailabilityFailure { error: AttemptError::TimedOut, retry_after_ms: None });
    }
}

/// The lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_place_of_a_fault_is_logged_and_not_what_stands_there() {
    let lines = Lines::default();
    // For the whole process: what is set for a thread misses lines that other threads came across first. So the
    // lines of other tests are there too.
    let subscriber = tracing_subscriber::fmt().json().with_writer(lines.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut location = location(&[("tour", None)]);
    location.location_id = LocationId::parse("logged-here").unwrap();
    let native = json!({"slots": [{"start": "ada@example.com", "end": "ada@example.com"}]});
    let octo = json!([{"available": true, "id": "ada@example.com", "localDateTimeStart": "ada@example.com",
        "localDateTimeEnd": "ada@example.com"}]);
    for (protocol, body) in [(Protocol::Holdfast, native), (Protocol::Octo, octo)] {
        let (provider, _received) = serve(move |_: &Received| json_answer(200, &body)).await;
        let provider = ProviderSettings { protocol, ..provider };
        open_slots(&provider, &location, "2027-01-15", 1).await.unwrap_err();
    }
    let bytes = lines.0.lock().unwrap().clone();
    let log = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("logged-here")).collect();
    assert!(lines.iter().all(|line| !line.contains("ada@")), "{lines:?}");
    let fields = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["fields"].clone();
    let [native, octo] = <[Value; 2]>::try_from(lines.iter().map(fields).collect::<Vec<_>>()).unwrap();
    assert_eq!((&native["place"], &native["service.id"]), (&json!("/slots/0/start"), &Value::Null));
    assert_eq!((&octo["place"], &octo["service.id"]), (&json!("/0/localDateTimeStart"), &json!("tour")));
}
