//! The block that is printed when the stack is ready: where everything is, the keys, and a first call.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::options::Layout;
use crate::clock;
use crate::stack_file::StackFile;

/// How far ahead the slot of the first booking is.
const SLOT_AHEAD: SignedDuration = SignedDuration::from_hours(7 * 24);
const SLOT_LENGTH: SignedDuration = SignedDuration::from_mins(30);
const HOUR_SECONDS: i64 = 3600;

/// The whole block. The curl command can be pasted into a shell as it is.
pub(super) fn block(file: &StackFile, layout: &Layout) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "  {name:<20} {value}").ok();
    };
    line("API", &file.api_url);
    line("Provider simulator", &file.provider_simulator_url);
    line("Webhook inbox", &file.webhook_inbox_url);
    line("AWS endpoint", &file.aws_endpoint_url);
    line("Admin key", &file.admin_key);
    line("Consumer key", &file.consumer_key);
    line("Other consumer's key", &file.other_consumer_key);
    for (provider, key) in &file.provider_keys {
        line(&format!("Key of {provider}"), key);
    }
    line("All of this", &layout.stack_file().display().to_string());
    line("Logs", &layout.logs().display().to_string());
    format!(
        "\nHoldfast runs on this machine.\n\n{text}\n\
         A first booking:\n\n{}\n\n\
         `curl {}` and `curl {}` say what can be tried there.\n\
         Ctrl-C ends everything.",
        first_call(file, clock::now()),
        file.provider_simulator_url,
        file.webhook_inbox_url,
    )
}

fn first_call(file: &StackFile, now: Timestamp) -> String {
    let start = on_the_hour(now.saturating_add(SLOT_AHEAD).unwrap_or(now));
    let end = start.saturating_add(SLOT_LENGTH).unwrap_or(start);
    let provider = file.providers.first().map_or("demo-clinic", String::as_str);
    let body = json!({
        "provider_id": provider,
        "slot": {"location_id": "main-street", "start": start.to_string(), "end": end.to_string()},
        "customer": {"name": "Ada Example", "email": "ada@example.com"},
    });
    format!(
        "curl -i {}/v1/bookings \\\n  \
         -H 'Authorization: Bearer {}' \\\n  \
         -H 'Idempotency-Key: \"first-booking-{}\"' \\\n  \
         -H 'Content-Type: application/json' \\\n  \
         -d '{body}'",
        file.api_url,
        file.consumer_key,
        now.as_second(),
    )
}

fn on_the_hour(time: Timestamp) -> Timestamp {
    let seconds = time.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(HOUR_SECONDS)).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_begin_on_the_hour() {
        let time: Timestamp = "2026-03-04T10:59:59.5Z".parse().unwrap();
        assert_eq!(on_the_hour(time).to_string(), "2026-03-04T10:00:00Z");
    }
}
