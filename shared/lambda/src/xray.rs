//! Traces: what was done for a booking, as a subsegment of the function's own segment, with the booking's id as an
//! annotation (AWS X-Ray developer guide, "Segment documents"). `annotation.booking_id = "bkg_…"` finds all of them,
//! whichever function they are of.
//!
//! A document is one datagram to the daemon that Lambda runs beside the function. Where nothing is traced, or not this
//! request, no socket is opened and nothing is written.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use holdfast_domain::Timestamp;

/// What precedes a document (X-Ray developer guide, "Sending segment documents to the daemon").
const PREAMBLE: &str = "{\"format\": \"json\", \"version\": 1}\n";

/// The longest header that is read, in bytes.
const MAX_HEADER_BYTES: usize = 1_024;

/// A trace that is being recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    trace_id: String,
    parent_id: String,
}

impl Trace {
    /// Reads Lambda's header (`Root=…;Parent=…;Sampled=1`); `None` if nothing is to be recorded.
    pub(crate) fn read(header: &str) -> Option<Self> {
        if header.len() > MAX_HEADER_BYTES {
            return None;
        }
        let (mut root, mut parent, mut is_sampled) = (None, None, false);
        for part in header.split(';') {
            match part.trim().split_once('=') {
                Some(("Root", value)) => root = Some(value),
                Some(("Parent", value)) => parent = Some(value),
                Some(("Sampled", value)) => is_sampled = value == "1",
                Some(_) | None => {}
            }
        }
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let (root, parent) = (root.filter(|root| is_hex(root))?, parent.filter(|parent| is_hex(parent))?);
        is_sampled.then(|| Self { trace_id: root.to_owned(), parent_id: parent.to_owned() })
    }

    /// The header for what is sent within it.
    pub(crate) fn header(&self) -> String {
        format!("Root={};Parent={};Sampled=1", self.trace_id, self.parent_id)
    }
}

/// What was done for a booking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subsegment<'a> {
    /// What kind of work.
    pub(crate) name: &'static str,
    /// For which booking.
    pub(crate) booking_id: &'a str,
    pub(crate) begun_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    /// Any number that no other subsegment of the trace has.
    pub(crate) id: u64,
}

/// The datagram. All that is in it is of characters that JSON takes as they are.
fn datagram(trace: &Trace, subsegment: &Subsegment<'_>) -> String {
    let Subsegment { name, booking_id, begun_at, ended_at, id } = subsegment;
    let Trace { trace_id, parent_id } = trace;
    let (begun_s, ended_s) = (seconds(*begun_at), seconds(*ended_at));
    format!(
        "{PREAMBLE}{{\"type\":\"subsegment\",\"name\":\"{name}\",\"id\":\"{id:016x}\",\
         \"trace_id\":\"{trace_id}\",\"parent_id\":\"{parent_id}\",\
         \"start_time\":{begun_s},\"end_time\":{ended_s},\
         \"annotations\":{{\"booking_id\":\"{booking_id}\"}}}}"
    )
}

/// Seconds since the epoch, to a thousandth.
fn seconds(at: Timestamp) -> String {
    let ms = at.as_unix_ms();
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

/// The way to the daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    socket: UdpSocket,
}

impl Daemon {
    /// Opens a socket to the daemon. It never waits: a datagram that cannot be sent at once is lost.
    pub(crate) fn at(address: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.connect(address)?;
        Ok(Self { socket })
    }

    /// Sends a subsegment.
    pub(crate) fn send(&self, trace: &Trace, subsegment: &Subsegment<'_>) -> io::Result<()> {
        self.socket.send(datagram(trace, subsegment).as_bytes()).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HEADER: &str =
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a87bd80c:0";

    #[test]
    fn only_what_is_sampled_is_recorded() {
        let trace = Trace::read(HEADER).unwrap();
        assert_eq!(
            trace.header(),
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
        );
        assert_eq!(Trace::read(&trace.header()), Some(trace));
        for header in [
            "",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
            "Parent=53995c3f42cd8ad8;Sampled=1",
            "Root=\",\"a\":\";Parent=53995c3f42cd8ad8;Sampled=1",
            "Root=1-5759e988;Parent=\\;Sampled=1",
        ] {
            assert_eq!(Trace::read(header), None, "{header}");
        }
        assert_eq!(Trace::read(&format!("{HEADER};{}", "x".repeat(MAX_HEADER_BYTES))), None);
    }

    #[test]
    fn a_subsegment_is_a_datagram_with_the_booking_as_annotation() {
        let listener = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let daemon = Daemon::at(listener.local_addr().unwrap()).unwrap();
        let subsegment = Subsegment {
            name: "message",
            booking_id: "bkg_00000000000000000000000000",
            begun_at: Timestamp::EPOCH.plus_ms(1_795_257_665_007),
            ended_at: Timestamp::EPOCH.plus_ms(1_795_257_666_500),
            id: 0xab,
        };
        daemon.send(&Trace::read(HEADER).unwrap(), &subsegment).unwrap();
        let mut received = [0; 4_096];
        let length = listener.recv(&mut received).unwrap();
        let text = std::str::from_utf8(&received[..length]).unwrap();
        let (preamble, document) = text.split_once('\n').unwrap();
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(read(preamble), json!({"format": "json", "version": 1}));
        let expected = json!({
            "type": "subsegment",
            "name": "message",
            "id": "00000000000000ab",
            "trace_id": "1-5759e988-bd862e3fe1be46a994272793",
            "parent_id": "53995c3f42cd8ad8",
            "start_time": 1_795_257_665.007,
            "end_time": 1_795_257_666.5,
            "annotations": {"booking_id": "bkg_00000000000000000000000000"},
        });
        assert_eq!(read(document), expected);
    }
}
