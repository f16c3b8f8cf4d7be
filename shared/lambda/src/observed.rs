//! What is told of each piece of work beside its answer: a span for its log lines, the metrics that it recorded, and a
//! part of its trace.
//!
//! All of it is told once, when the work is done: lines, which are written with those of the log (`log_output`), and one
//! datagram to the daemon of X-Ray where the request is traced. Nothing is called over the network for it.

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;

use holdfast_app::metrics::{Recorded, collected};
use holdfast_app::ports::{Clock, Entropy};
use holdfast_aws::within_trace;
use holdfast_domain::{BookingId, Timestamp};
use tracing::{Instrument, Span};

use crate::config::Observability;
use crate::emf::{About, lines};
use crate::log_output::write_lines;
use crate::runtime::Context;
use crate::xray::{Daemon, Subsegment, Trace};
use crate::{SystemClock, SystemEntropy};

/// Where metrics and traces go, once it is set up.
static SINKS: OnceLock<Sinks> = OnceLock::new();

#[derive(Debug)]
struct Sinks {
    metrics_namespace: Option<String>,
    daemon: Option<SocketAddr>,
}

/// Sets up where metrics and traces go. Before that, and in tests, they go nowhere.
pub(crate) fn init(config: Observability) {
    let Observability { metrics_namespace, xray_daemon } = config;
    SINKS.get_or_init(|| Sinks { metrics_namespace, daemon: xray_daemon });
}

/// A piece of work.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// What kind, as traces name it.
    name: &'static str,
    request_id: String,
    trace: Option<Trace>,
}

impl Work {
    /// What an invocation asks for. `request_id` is what it is logged under.
    pub(crate) fn new(name: &'static str, request_id: &str, context: &Context) -> Self {
        let is_traced = SINKS.get().is_some_and(|sinks| sinks.daemon.is_some());
        let header = context.xray_trace_id.as_deref().filter(|_| is_traced);
        Self { name, request_id: request_id.to_owned(), trace: header.and_then(Trace::read) }
    }

    /// Work that no trace is recorded of.
    pub(crate) fn untraced(name: &'static str, request_id: &str) -> Self {
        Self { name, request_id: request_id.to_owned(), trace: None }
    }

    /// A part of it.
    pub(crate) fn part(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    /// Under what it is logged.
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }
}

/// The span of one request or message. All that is logged within it carries its fields; `booking.id` is
/// filled in by `record_booking` once it is known.
pub(crate) fn request_span(request_id: &str) -> Span {
    tracing::info_span!("request", request.id = request_id, booking.id = tracing::field::Empty)
}

/// Does a piece of work, and tells of it.
pub(crate) fn observed<F: Future>(work: Work, doing: F) -> impl Future<Output = F::Output> {
    // On the heap, since each layer around it would copy it otherwise.
    let doing = Box::pin(doing);
    async move {
        let begun_at = SystemClock.now();
        let span = request_span(&work.request_id);
        let collecting = collected(doing.instrument(span.clone()));
        let (outcome, recorded) = match work.trace.as_ref().map(Trace::header) {
            Some(header) => within_trace(header, collecting).await,
            None => collecting.await,
        };
        span.in_scope(|| tell(&work, &recorded, begun_at));
        outcome
    }
}

/// Writes what there is to tell.
fn tell(work: &Work, recorded: &Recorded, begun_at: Timestamp) {
    let Some(sinks) = SINKS.get() else { return };
    let Recorded { samples, bookings, .. } = recorded;
    let now = SystemClock.now();
    if let Some(namespace) = &sinks.metrics_namespace
        && !samples.is_empty()
    {
        let booking_id = if let [only] = &bookings[..] { Some(only.as_str()) } else { None };
        let about = About { request_id: &work.request_id, booking_id };
        let lines = lines(namespace, samples, about, now).map_err(io::Error::from);
        if let Err(error) = lines.and_then(|lines| write_lines(&lines)) {
            tracing::warn!(%error, "Metrics could not be written.");
        }
    }
    if let (Some(trace), Some(daemon)) = (&work.trace, sinks.daemon) {
        let subsegment =
            |booking_id, id| Subsegment { name: work.name, booking_id, begun_at, ended_at: now, id };
        if let Err(error) = send(daemon, trace, bookings, subsegment) {
            tracing::debug!(%error, "A trace could not be sent.");
        }
    }
}

/// Sends a subsegment for each booking.
fn send<'a>(
    daemon: SocketAddr,
    trace: &Trace,
    bookings: &'a [BookingId],
    subsegment: impl Fn(&'a str, u64) -> Subsegment<'a>,
) -> io::Result<()> {
    if bookings.is_empty() {
        return Ok(());
    }
    let daemon = Daemon::at(daemon)?;
    let first_id = SystemEntropy.u64() / 2;
    for (booking_id, id) in bookings.iter().zip(first_id..) {
        daemon.send(trace, &subsegment(booking_id.as_str(), id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work::new("request", "r-1", &Context::default())
    }

    #[test]
    fn a_part_is_of_the_same_request() {
        let part = work().part("message");
        assert_eq!((part.name, part.request_id()), ("message", "r-1"));
    }

    #[test]
    fn nothing_is_traced_where_there_is_no_daemon() {
        let mut context = Context::default();
        let sampled = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        context.xray_trace_id = Some(sampled.to_owned());
        assert_eq!(Work::new("request", "r-1", &context).trace, None);
    }

    #[test]
    fn each_booking_has_a_subsegment_of_its_own() {
        let listener = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        listener.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let trace = Trace::read("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
            .unwrap();
        let bookings = [BookingId::from_bytes([1; 16]), BookingId::from_bytes([2; 16])];
        let at = Timestamp::EPOCH;
        let subsegment =
            |booking_id, id| Subsegment { name: "records", booking_id, begun_at: at, ended_at: at, id };
        send(listener.local_addr().unwrap(), &trace, &bookings, subsegment).unwrap();
        let mut ids = Vec::new();
        for booking_id in &bookings {
            let mut received = [0; 4_096];
            let length = listener.recv(&mut received).unwrap();
            let text = String::from_utf8_lossy(&received[..length]).into_owned();
            let document: serde_json::Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
            assert_eq!(document["annotations"]["booking_id"], booking_id.as_str());
            ids.push(document["id"].clone());
        }
        assert_ne!(ids[0], ids[1]);
    }
}
