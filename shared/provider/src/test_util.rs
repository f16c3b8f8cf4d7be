//! What the tests of all protocols need: a booking, a gateway, and providers on real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use holdfast_app::ports::{
    AttemptReport, AvailabilityCall, AvailabilityFailure, AvailabilityGateway, Clock, CompensationCall,
    CompensationReport, NotificationCall, NotificationReport, ProviderCall, ProviderGateway,
};
use holdfast_app::settings::{LocationSettings, OfferedService, ProviderSettings};
use holdfast_domain::{
    Booking, BookingId, BookingRequest, Cancellation, CancellationReason, Cause, Change, ConsumerId,
    Customer, HistoryEntry, LocalDate, LocationId, Mode, Notification, NotificationKind, OpenSlot, Operation,
    Patience, Personal, Phase, ProviderId, Slot, State, Status, Tenant, Timestamp, UnitQuantity, Zone,
};
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::safe_client::MAX_ANSWER_BYTES;
use crate::{AllowedHosts, ProtocolGateway, SafeClient};

/// Long enough for anything on this machine.
pub(crate) const AMPLE_MS: u64 = 10_000;

/// How long a test waits for what must not come.
pub(crate) const BRIEF_MS: u64 = 1_000;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemTime;

impl Clock for SystemTime {
    #[allow(clippy::disallowed_methods, reason = "the reference verifier compares with the time of day")]
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(jiff::Timestamp::now().as_millisecond()).unwrap()
    }
}

pub(crate) fn gateway(allowed: &str) -> ProtocolGateway<SystemTime> {
    ProtocolGateway::new(SafeClient::new(AllowedHosts::parse(allowed)).unwrap(), SystemTime)
}

pub(crate) fn provider(base_url: impl Into<String>) -> ProviderSettings {
    let provider_id = ProviderId::parse("demo-clinic").unwrap();
    ProviderSettings::usual(provider_id, Mode::Test, base_url)
}

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub(crate) fn slot(location_id: &str, start: &str) -> Slot {
    Slot {
        location_id: location_id.to_owned(),
        start: at(start),
        end: at(start).plus_ms(1_800_000),
        resource_id: None,
        service_id: Some("checkup".to_owned()),
    }
}

fn request() -> BookingRequest {
    BookingRequest {
        provider_id: ProviderId::parse("demo-clinic").unwrap(),
        customer: Some(Personal::new(Customer {
            name: "Ada Lovelace".to_owned(),
            email: Some("ada@example.com".to_owned()),
            phone: None,
            birth_date: None,
            language: None,
        })),
        reference: Some("order-1001".to_owned()),
        notes: Some(Personal::new("window seat".to_owned())),
        metadata: BTreeMap::from([("channel".to_owned(), "web".to_owned())]),
        units: vec![UnitQuantity { unit_id: "adult".to_owned(), quantity: 2 }],
        hold: false,
        availability_id: None,
    }
}

fn operation(change: Change, number: u32) -> Operation {
    let at = Timestamp::EPOCH;
    Operation {
        change,
        number,
        patience: Patience::Background,
        deadline_at: at,
        attempts: 3,
        last_error: None,
        unanswered_send_at: None,
        resolve_until: None,
        overtaken: None,
        phase: Phase::InFlight { lease_until: at },
    }
}

/// A booking that is being made.
pub(crate) fn being_booked() -> Booking {
    Booking::claimed(
        BookingId::from_bytes([7; 16]),
        Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Test },
        request(),
        slot("main-street", "2027-01-15T09:00:00Z"),
        operation(Change::Book, 1),
        at("2026-12-01T08:00:00Z"),
    )
}

/// A booking that Holdfast has cancelled, at its second version.
pub(crate) fn booking() -> Booking {
    let mut booking = being_booked();
    booking.state = State::Cancelled(Cancellation::BySystem(CancellationReason::ProviderTimeout));
    booking.operation = None;
    booking.history.push(HistoryEntry::new(Status::Cancelled, at("2026-12-02T08:00:00Z"), Cause::GivenUp, 1));
    booking
}

/// A booking in `state` whose operation 2, a `change`, is in flight.
pub(crate) fn changing(state: State, change: Change) -> Booking {
    Booking { state, operation: Some(operation(change, 2)), ..booking() }
}

/// The `attempt`-th attempt of the operation in flight.
pub(crate) async fn attempt(provider: &ProviderSettings, booking: &Booking, attempt: u32) -> AttemptReport {
    let operation_number = booking.operation.as_ref().map_or(1, |operation| operation.number);
    let limit_ms = AMPLE_MS;
    let call = ProviderCall { provider, booking, operation_number, attempt, limit_ms };
    gateway("127.0.0.1").attempt(call).await
}

pub(crate) async fn compensate(provider: &ProviderSettings, booking: &Booking) -> CompensationReport {
    let limit_ms = AMPLE_MS;
    let call = CompensationCall { provider, booking, operation_number: 2, attempt: 1, limit_ms };
    gateway("127.0.0.1").compensate(call).await
}

/// Tells of version 2, as number 3, for the second time.
pub(crate) async fn notify(
    provider: &ProviderSettings,
    booking: &Booking,
    kind: NotificationKind,
    slot: Slot,
) -> NotificationReport {
    let begun_at = Timestamp::EPOCH;
    let notification = Notification {
        kind,
        slot,
        version: 2,
        number: 3,
        begun_at,
        attempts: 2,
        skipped: 0,
        last_error: None,
        phase: Phase::InFlight { lease_until: begun_at },
    };
    let call = NotificationCall { provider, booking, notification: &notification, limit_ms: AMPLE_MS };
    gateway("127.0.0.1").notify(call).await
}

/// A location in Rome, where these services are offered.
pub(crate) fn location(services: &[(&str, Option<&str>)]) -> LocationSettings {
    let offered = services.iter().map(|(service_id, resource_id)| OfferedService {
        service_id: (*service_id).to_owned(),
        resource_id: resource_id.map(str::to_owned),
    });
    LocationSettings {
        location_id: LocationId::parse("main-street").unwrap(),
        display_name: "Main Street".to_owned(),
        zone: Zone::parse("Europe/Rome").unwrap(),
        services: offered.collect(),
    }
}

/// What is open at a location within so many days of Rome.
pub(crate) async fn open_slots(
    provider: &ProviderSettings,
    location: &LocationSettings,
    first: &str,
    days: u32,
) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
    let window = location.zone.days(LocalDate::parse(first).unwrap(), days);
    let call = AvailabilityCall { provider, location, window, limit_ms: AMPLE_MS };
    gateway("127.0.0.1").open_slots(call).await
}

pub(crate) struct Received {
    pub(crate) peer: SocketAddr,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// `METHOD /path`, without the path that every provider begins with.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path.strip_prefix("/base").unwrap())
    }
}

/// A provider that answers every call by `answer` and keeps what it received.
pub(crate) async fn serve<R: IntoResponse>(
    answer: impl Fn(&Received) -> R + Clone + Send + Sync + 'static,
) -> (ProviderSettings, Arc<Mutex<Vec<Received>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    let app = Router::new().fallback(
        move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await.unwrap();
            let path = parts.uri.path().to_owned();
            let query = parts.uri.query().map(str::to_owned);
            let call = Received { peer, method: parts.method, path, query, headers: parts.headers, body };
            let response: Response = answer(&call).into_response();
            kept.lock().unwrap().push(call);
            response
        },
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/base", listener.local_addr().unwrap());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (provider(base_url), received)
}

/// A server of a single connection that reads a request, writes `answer` and then does as told.
pub(crate) async fn raw(scheme: &str, answer: Vec<u8>, keep_open: bool) -> ProviderSettings {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("{scheme}://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _count = socket.read(&mut head).await.unwrap();
        // Whoever hangs up in the middle of the answer makes this fail, as some tests do.
        let _written = socket.write_all(&answer).await;
        if keep_open {
            std::future::pending::<()>().await;
        }
    });
    provider(base_url)
}

pub(crate) fn json_answer(status: u16, body: &Value) -> Response {
    (axum::http::StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}
