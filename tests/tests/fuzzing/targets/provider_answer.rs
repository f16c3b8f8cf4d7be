//! Answers of providers, over every protocol, to every call that it has.
//!
//! Input: a digit for the protocol, a letter for the call, and the answers, one a line, the last of which stays:
//! a status, if wanted a semicolon and `Retry-After`, a space, and the body. A line that begins otherwise is sent as
//! it is and ends the connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use holdfast_app::availability::MAX_SLOTS;
use holdfast_app::bookings::{MAX_ID_CHARS, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS};
use holdfast_app::ports::{
    AvailabilityCall, AvailabilityGateway, CompensationCall, NotificationCall, ProviderCall, ProviderGateway,
};
use holdfast_app::settings::{LocationSettings, OfferedService, Protocol, ProviderSettings};
use holdfast_app::test_util::TestClock;
use holdfast_domain::{
    Acknowledgement, AttemptOutcome, Booking, BookingId, BookingRequest, Cancellation, CancellationReason,
    Cause, Change, CompensationOutcome, ConfirmationMode, Customer, HistoryEntry, LocationId, LookUpOutcome,
    Mode, Notification, NotificationKind, Operation, Patience, Personal, Phase, ProviderId, Slot, State,
    Tenant, Window, Withdrawal, Zone,
};
use holdfast_provider::{AllowedHosts, MAX_RETRY_AFTER_MS, ProtocolGateway, SafeClient};
use serde::de::IgnoredAny;

use super::scripted_provider::{Reply, ScriptedProvider};
use super::{choice, now};

/// How long a call may take: the provider answers at once, or hangs up.
const LIMIT_MS: u64 = 20_000;

/// The most requests that one call makes.
const MAX_REQUESTS: usize = 8;

/// The most answers of a script.
const MAX_REPLIES: usize = 8;

/// What stays from one input to the next: connections are costly.
struct World {
    runtime: tokio::runtime::Runtime,
    gateway: ProtocolGateway<TestClock>,
    scripted: ScriptedProvider,
    address: SocketAddr,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime needs nothing");
        let scripted = ScriptedProvider::default();
        let address = runtime.block_on(scripted.start());
        let client = SafeClient::new(AllowedHosts::parse("127.0.0.1")).expect("a client");
        let gateway = ProtocolGateway::new(client, TestClock::starting_at(now()));
        Self { runtime, gateway, scripted, address }
    }
}

pub(super) fn check(data: &[u8]) {
    thread_local! {
        static WORLD: World = World::new();
    }
    let Some((protocol, rest)) = choice(data, 3) else { return };
    let Some((call, script)) = rest.split_first() else { return };
    let replies: Vec<Reply> = script.split(|byte| *byte == b'\n').take(MAX_REPLIES).map(reply).collect();
    WORLD.with(|world| {
        world.scripted.script(replies);
        world.runtime.block_on(world.ask(Protocol::ALL[protocol], *call));
        let answered = world.scripted.answered().len();
        assert!(answered <= MAX_REQUESTS, "{answered} requests for one call");
    });
}

fn reply(line: &[u8]) -> Reply {
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (head, body) = (String::from_utf8_lossy(&line[..end]).into_owned(), &line[end..]);
    let (status, retry_after) = match head.split_once(';') {
        Some((status, retry_after)) => (status, Some(retry_after.to_owned())),
        None => (head.as_str(), None),
    };
    let is_header = |text: &String| text.bytes().all(|byte| byte.is_ascii_graphic());
    // What comes before the answer itself is not one.
    match status.parse::<u16>().ok().filter(|status| (200..=599).contains(status)) {
        Some(status) if retry_after.as_ref().is_none_or(is_header) => {
            Reply::Http { status, retry_after, body: body.get(1..).unwrap_or_default().to_vec() }
        }
        _ => Reply::Raw(line.to_vec()),
    }
}

fn provider(protocol: Protocol, address: SocketAddr) -> ProviderSettings {
    let id = ProviderId::parse("clinic").expect("a name");
    ProviderSettings {
        protocol,
        confirmation: match protocol {
            Protocol::Holdfast | Protocol::Octo => ConfirmationMode::Confirm,
            Protocol::Docplanner => ConfirmationMode::RealTime,
        },
        default_unit_id: Some("adult".to_owned()),
        ..ProviderSettings::usual(id, Mode::Test, format!("http://{address}"))
    }
}

fn slot(day: u64) -> Slot {
    let start = now().plus_ms(day * 86_400_000);
    Slot {
        location_id: "main".to_owned(),
        start,
        end: start.plus_ms(1_800_000),
        resource_id: None,
        service_id: Some("walk".to_owned()),
    }
}

fn booking(state: State, change: Change, hold: bool, availability_id: Option<&str>) -> Booking {
    let name = "Ada Lovelace".to_owned();
    let customer = Customer { name, email: None, phone: None, birth_date: None, language: None };
    let request = BookingRequest {
        provider_id: ProviderId::parse("clinic").expect("a name"),
        customer: Some(Personal::new(customer)),
        reference: None,
        notes: None,
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold,
        availability_id: availability_id.map(str::to_owned),
    };
    let operation = Operation {
        change,
        number: 2,
        patience: Patience::Background,
        deadline_at: now().plus_ms(900_000),
        attempts: 1,
        last_error: None,
        unanswered_send_at: None,
        resolve_until: None,
        overtaken: None,
        phase: Phase::InFlight { lease_until: now().plus_ms(30_000) },
    };
    let id = BookingId::from_bytes([7; 16]);
    let tenant = Tenant::parse("test:shop").expect("a tenant");
    let mut booking = Booking::claimed(id, tenant, request, slot(14), operation, now());
    if state != State::Pending {
        booking.history.push(HistoryEntry::new(state.status(), now(), Cause::ProviderAcknowledged, 1));
    }
    booking.state = state;
    booking
}

impl World {
    async fn ask(&self, protocol: Protocol, call: u8) {
        let provider = provider(protocol, self.address);
        let held = State::Reserved { expires_at: now().plus_ms(600_000) };
        match call.wrapping_sub(b'a') % 11 {
            0 => self.attempt(&provider, booking(State::Pending, Change::Book, false, None)).await,
            1 => self.attempt(&provider, booking(State::Pending, Change::Book, true, Some("a-1"))).await,
            2 => self.attempt(&provider, booking(held, Change::Confirm, true, None)).await,
            3 => {
                let change = Change::Extend { expires_at: now().plus_ms(1_200_000) };
                self.attempt(&provider, booking(held, change, true, None)).await;
            }
            4 => {
                let change = Change::Reschedule(slot(15));
                self.attempt(&provider, booking(State::Confirmed, change, false, None)).await;
            }
            5 => {
                let change = Change::Cancel(Withdrawal::default());
                self.attempt(&provider, booking(State::Confirmed, change, false, None)).await;
            }
            6 => self.look_up(&provider, &booking(State::Pending, Change::Book, false, None)).await,
            7 => {
                let change = Change::Reschedule(slot(15));
                self.look_up(&provider, &booking(State::Confirmed, change, false, None)).await;
            }
            8 => self.compensate(&provider).await,
            9 => self.notify(&provider).await,
            _ => self.open_slots(&provider).await,
        }
    }

    async fn attempt(&self, provider: &ProviderSettings, booking: Booking) {
        let call =
            ProviderCall { provider, booking: &booking, operation_number: 2, attempt: 1, limit_ms: LIMIT_MS };
        let report = self.gateway.attempt(call).await;
        assert!(report.retry_after_ms.is_none_or(|wait_ms| wait_ms <= MAX_RETRY_AFTER_MS));
        let answered = self.scripted.answered();
        let changes_something = !matches!(provider.protocol, Protocol::Docplanner);
        let is_definite = match &report.outcome {
            AttemptOutcome::Acknowledged(yes) => {
                acknowledged(yes);
                true
            }
            AttemptOutcome::Declined(no) => {
                let most =
                    [(&no.message, MAX_PROVIDER_MESSAGE_CHARS), (&no.provider_code, MAX_PROVIDER_CODE_CHARS)];
                for (text, most) in most {
                    fits(text.as_deref(), most);
                }
                true
            }
            AttemptOutcome::NotSent(error) => {
                let is_native = provider.protocol == Protocol::Holdfast;
                assert!(!is_native || answered.is_empty(), "{error:?} of a request that arrived");
                false
            }
            AttemptOutcome::Unknown(_) => false,
        };
        let is_cancel =
            booking.operation.is_some_and(|operation| matches!(operation.change, Change::Cancel(_)));
        if is_definite && changes_something && !is_cancel {
            assert!(
                answered.iter().any(is_object),
                "nothing that was answered can be read: {:?}",
                report.outcome
            );
        }
    }

    async fn look_up(&self, provider: &ProviderSettings, booking: &Booking) {
        let outcome = self.gateway.look_up(provider, booking, LIMIT_MS).await;
        let answered = self.scripted.answered();
        match outcome {
            LookUpOutcome::Found(found) => {
                acknowledged(&found.acknowledgement);
                if let Some(slot) = &found.slot {
                    assert!(slot.end > slot.start);
                    for name in [Some(&slot.location_id), slot.resource_id.as_ref(), slot.service_id.as_ref()]
                    {
                        fits(name.map(String::as_str), MAX_ID_CHARS);
                    }
                }
                assert!(answered.iter().any(is_object), "nothing that was answered can be read");
            }
            LookUpOutcome::Ended | LookUpOutcome::StillPending => {
                assert!(answered.iter().any(is_object), "nothing that was answered can be read");
            }
            LookUpOutcome::NotFound => {
                let is_no =
                    |reply: &Reply| matches!(reply, Reply::Http { status: 404, .. }) || is_object(reply);
                assert!(answered.iter().any(is_no), "nobody said that it is not there");
            }
            LookUpOutcome::Unavailable { retry_after_ms, .. } => {
                assert!(retry_after_ms.is_none_or(|wait_ms| wait_ms <= MAX_RETRY_AFTER_MS));
            }
            LookUpOutcome::Unsupported => assert_eq!(provider.protocol, Protocol::Docplanner),
        }
    }

    async fn compensate(&self, provider: &ProviderSettings) {
        let ended = State::Cancelled(Cancellation::BySystem(CancellationReason::ProviderTimeout));
        let mut booking = booking(ended, Change::Book, false, None);
        booking.operation = None;
        let call = CompensationCall {
            provider,
            booking: &booking,
            operation_number: 2,
            attempt: 1,
            limit_ms: LIMIT_MS,
        };
        let report = self.gateway.compensate(call).await;
        assert!(report.retry_after_ms.is_none_or(|wait_ms| wait_ms <= MAX_RETRY_AFTER_MS));
        let answered = self.scripted.answered();
        let is_said = answered.iter().any(|reply| match reply {
            Reply::Http { status, .. } => *status < 300 || *status == 404 || is_object(reply),
            Reply::Raw(_) => raw_head(reply),
        });
        if !matches!(report.outcome, CompensationOutcome::Failed(_))
            && provider.protocol != Protocol::Docplanner
        {
            assert!(is_said, "{:?} of {answered:?}", report.outcome);
        }
    }

    async fn notify(&self, provider: &ProviderSettings) {
        let mut booking = booking(State::Confirmed, Change::Book, false, None);
        booking.operation = None;
        let notification = Notification {
            kind: NotificationKind::Moved { from: slot(13) },
            slot: slot(14),
            version: 2,
            number: 3,
            begun_at: now(),
            attempts: 1,
            skipped: 0,
            last_error: None,
            phase: Phase::InFlight { lease_until: now().plus_ms(30_000) },
        };
        let call =
            NotificationCall { provider, booking: &booking, notification: &notification, limit_ms: LIMIT_MS };
        let report = self.gateway.notify(call).await;
        assert!(report.retry_after_ms.is_none_or(|wait_ms| wait_ms <= MAX_RETRY_AFTER_MS));
        let answered = self.scripted.answered();
        let is_told = answered.iter().any(|reply| match reply {
            Reply::Http { status, .. } => (200..300).contains(status),
            Reply::Raw(_) => raw_head(reply),
        });
        assert!(report.error.is_some() || is_told, "only a 2xx says that it was told");
    }

    async fn open_slots(&self, provider: &ProviderSettings) {
        let service = |name: &str| OfferedService { service_id: name.to_owned(), resource_id: None };
        let location = LocationSettings {
            location_id: LocationId::parse("main").expect("a name"),
            display_name: "Main".to_owned(),
            zone: Zone::parse("Europe/Rome").expect("a zone"),
            services: vec![service("walk"), service("swim")],
        };
        let window = Window { from: now(), to: now().plus_ms(22 * 86_400_000) };
        let call = AvailabilityCall { provider, location: &location, window, limit_ms: LIMIT_MS };
        match self.gateway.open_slots(call).await {
            Ok(slots) => {
                assert!(slots.len() <= MAX_SLOTS);
                assert!(
                    slots.windows(2).all(|pair| pair[0].order() < pair[1].order()),
                    "in order, none twice"
                );
                for slot in &slots {
                    assert!(window.has(slot.start) && slot.end > slot.start && slot.capacity != Some(0));
                    for name in [&slot.resource_id, &slot.service_id] {
                        fits(name.as_deref(), MAX_ID_CHARS);
                    }
                }
            }
            Err(failure) => {
                assert!(failure.retry_after_ms.is_none_or(|wait_ms| wait_ms <= MAX_RETRY_AFTER_MS));
            }
        }
    }
}

fn acknowledged(yes: &Acknowledgement) {
    fits(yes.provider_reference.as_deref(), MAX_ID_CHARS);
}

/// A text that is stored and shown is of bounded length and has no control characters.
fn fits(text: Option<&str>, most_chars: usize) {
    let is_fit = |text: &str| text.chars().count() <= most_chars && !text.chars().any(char::is_control);
    assert!(text.is_none_or(is_fit), "{text:?}");
}

/// Whether an answer is what every protocol answers with: an object, or a list of them. What is in it beside is not
/// looked at, neither here nor there.
fn is_object(reply: &Reply) -> bool {
    match reply {
        Reply::Http { body, .. } => {
            matches!(body.trim_ascii().first(), Some(b'{' | b'['))
                && serde_json::from_slice::<IgnoredAny>(body).is_ok()
        }
        Reply::Raw(_) => raw_head(reply),
    }
}

/// Whether bytes that were sent as they are could be an answer after all.
fn raw_head(reply: &Reply) -> bool {
    matches!(reply, Reply::Raw(bytes) if bytes.starts_with(b"HTTP/1."))
}
