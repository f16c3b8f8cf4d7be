//! Structured logs: one JSON object a line, on standard output, where Lambda takes them up.
//!
//! Fields are dotted (`booking.id`). Our own crates log at the level that is asked for; everything else
//! at warnings at most, because clients of HTTP and of Amazon write whole requests, and so personal data,
//! at their finer levels.

use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{ConfigError, LogLevel, Observability};
use crate::log_output::LogOutput;
use crate::observed;
pub use holdfast_app::metrics::{note_booking, record_booking};

/// What our own targets begin with: the shared crates and the functions.
const OWN_TARGETS: [&str; 10] = [
    "holdfast",
    "booking",
    "provider_callback",
    "manage",
    "dispatch",
    "availability",
    "refresh",
    "repair",
    "retry",
    "webhook",
];

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is malformed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody has set up logging before.
    #[error("logging is set up already")]
    AlreadySet(#[source] TryInitError),
}

/// Sets up logging for the process, at `LOG_LEVEL`, and for panics too; and where metrics and traces go. To be called
/// once, first of all.
pub fn init() -> Result<(), TelemetryError> {
    let level = LogLevel::from_env()?;
    let observability = Observability::from_env()?;
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(LogOutput);
    tracing_subscriber::registry()
        .with(layer)
        .with(targets(level.0))
        .try_init()
        .map_err(TelemetryError::AlreadySet)?;
    std::panic::set_hook(Box::new(log_panic));
    observed::init(observability);
    Ok(())
}

fn targets(level: LevelFilter) -> Targets {
    let others = level.min(LevelFilter::WARN);
    Targets::new().with_default(others).with_targets(OWN_TARGETS.map(|target| (target, level)))
}

/// Logs where a panic happened. Its message is logged only if it is a constant: a formatted one may hold
/// anything.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("[formatted]");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(panic.message = message, panic.location = place, "The code panicked.");
}

#[cfg(test)]
mod tests {
    use holdfast_domain::BookingId;
    use tracing::Level;

    use super::*;
    use crate::observed::request_span;
    use crate::test_util::{Sink, logged_here};

    #[test]
    fn others_are_never_finer_than_warnings() {
        let at = |level| targets(level);
        assert!(at(LevelFilter::TRACE).would_enable("holdfast_app::bookings", &Level::TRACE));
        assert!(at(LevelFilter::TRACE).would_enable("provider_callback", &Level::TRACE));
        assert!(!at(LevelFilter::TRACE).would_enable("aws_smithy_runtime", &Level::INFO));
        assert!(!at(LevelFilter::TRACE).would_enable("hyper_util", &Level::DEBUG));
        assert!(at(LevelFilter::INFO).would_enable("hyper", &Level::WARN));
        assert!(!at(LevelFilter::ERROR).would_enable("hyper", &Level::WARN));
    }

    #[test]
    fn every_function_logs_at_the_level_that_is_asked_for() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions");
        let mut functions = 0;
        for function in std::fs::read_dir(folder).unwrap() {
            let target = function.unwrap().file_name().into_string().unwrap().replace('-', "_");
            assert!(targets(LevelFilter::INFO).would_enable(&target, &Level::INFO), "{target}");
            functions += 1;
        }
        assert_eq!(functions, 9);
    }

    #[test]
    fn a_line_is_one_object_with_the_fields_of_its_request() {
        // With another subscriber beside it, no place in the code is silent because of other threads.
        logged_here();
        let sink = Sink::default();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(sink.clone());
        let subscriber = tracing_subscriber::registry().with(layer).with(targets(LevelFilter::INFO));
        tracing::subscriber::with_default(subscriber, || {
            let _entered = request_span("r-1").entered();
            record_booking(&BookingId::from_bytes([0; 16]));
            tracing::info!(http.status = 200, "Answered.");
        });
        let line = sink.lines().pop().unwrap();
        assert_eq!(line["message"], "Answered.");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["http.status"], 200);
        assert_eq!(line["span"]["request.id"], "r-1");
        assert_eq!(line["span"]["booking.id"], "bkg_00000000000000000000000000");
    }
}
