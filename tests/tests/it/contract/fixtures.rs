//! Bookings and settings to test with.

use std::collections::BTreeMap;

use holdfast_app::availability::{BOOKING_KEY_SECRET_BYTES, BookingKeySecret};
use holdfast_app::settings::{KeyHash, KeyOwner, KeyRecord, ProviderSettings};
use holdfast_app::stored::{CreateRecord, Fingerprint, FrozenResponse, StoredBooking};
use holdfast_app::view::booking_view;
use holdfast_app::webhook::WebhookEndpoint;
use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, BookingId, BookingRequest, Change, Command,
    ConsumerId, Customer, KeyId, Mode, Operation, Patience, Personal, Phase, ProviderId, Slot, Tenant,
    Timestamp, WebhookEndpointId, Withdrawal, transition,
};

/// When the tests take place.
pub(crate) fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-21T10:47:45.123Z").unwrap()
}

pub(crate) fn tenant() -> Tenant {
    Tenant::parse("test:demo-marketplace").unwrap()
}

pub(crate) fn provider_id() -> ProviderId {
    ProviderId::parse("demo-clinic").unwrap()
}

/// A booking of the README's example body, as its request claims it.
pub(crate) fn claimed(key: &str, patience: Patience) -> StoredBooking {
    let id = BookingId::derived(&tenant(), key, 0);
    let request = BookingRequest {
        provider_id: provider_id(),
        customer: Some(Personal::new(Customer {
            name: "Ada Lovelace".to_owned(),
            email: Some("ada@example.com".to_owned()),
            phone: None,
            birth_date: None,
            language: None,
        })),
        reference: Some("order-1001".to_owned()),
        notes: None,
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold: false,
        availability_id: None,
    };
    let slot = Slot {
        location_id: "main-street".to_owned(),
        start: Timestamp::parse_rfc3339("2027-01-15T09:00:00Z").unwrap(),
        end: Timestamp::parse_rfc3339("2027-01-15T09:30:00Z").unwrap(),
        resource_id: None,
        service_id: None,
    };
    let operation = Operation {
        change: Change::Book,
        number: 1,
        patience,
        deadline_at: now().plus_ms(900_000),
        attempts: 1,
        last_error: None,
        unanswered_send_at: None,
        resolve_until: None,
        overtaken: None,
        phase: Phase::InFlight { lease_until: now().plus_ms(2_750) },
    };
    let booking = Booking::claimed(id, tenant(), request, slot, operation, now());
    // A fingerprint is a hash: incompressible bytes.
    let mut fingerprint = [0_u8; 32];
    for (position, byte) in (0_u8..).zip(fingerprint.iter_mut()) {
        *byte = position.wrapping_mul(151).wrapping_add(43);
    }
    let fingerprint = Fingerprint(fingerprint);
    let create = CreateRecord { fingerprint, generation: 0, superseded_by: None, response: None };
    StoredBooking { booking, create: Some(create), operations: Vec::new(), exclusive_slots: false, rev: 1 }
}

/// The next item, after a command at a time.
pub(crate) fn after(stored: &StoredBooking, command: Command, at: Timestamp) -> StoredBooking {
    stored.with_booking(transition(&stored.booking, command, at).unwrap().booking)
}

/// The next item, confirmed by the provider and with the response frozen, as the request settles it.
pub(crate) fn confirmed(stored: &StoredBooking) -> StoredBooking {
    let acknowledgement = Acknowledgement {
        provider_reference: Some("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed".to_owned()),
        reserved_until: None,
    };
    let outcome = AttemptOutcome::Acknowledged(acknowledgement);
    let command = Command::RecordAttempt { operation: 1, attempt: 1, outcome, retry_delay_ms: 0 };
    let mut next = after(stored, command, now().plus_ms(211));
    let body = serde_json::to_vec(&booking_view(&next.booking)).unwrap();
    if let Some(create) = &mut next.create {
        create.response = Some(FrozenResponse { status: 201, body });
    }
    next
}

/// The next item, withdrawn by its provider.
pub(crate) fn cancelled(stored: &StoredBooking) -> StoredBooking {
    after(stored, Command::CancelByProvider(Withdrawal::default()), now().plus_ms(900))
}

/// The next item, after an attempt that failed and is to be made again after a delay.
pub(crate) fn waiting(stored: &StoredBooking, delay_ms: u64) -> StoredBooking {
    let outcome = AttemptOutcome::Unknown(AttemptError::TimedOut);
    after(
        stored,
        Command::RecordAttempt { operation: 1, attempt: 1, outcome, retry_delay_ms: delay_ms },
        now(),
    )
}

pub(crate) fn provider(name: &str) -> ProviderSettings {
    let id = ProviderId::parse(name).unwrap();
    let usual = ProviderSettings::usual(id, Mode::Test, "https://clinic.example.com/holdfast");
    ProviderSettings { display_name: "Demo Clinic".to_owned(), ..usual }
}

pub(crate) fn key(seed: u8, owner: KeyOwner) -> KeyRecord {
    KeyRecord {
        key_id: KeyId::from_bytes([seed; 16]),
        owner,
        mode: Mode::Test,
        hash: KeyHash([seed; 32]),
        created_at: now().plus_ms(seed.into()),
        revoked_from: None,
    }
}

pub(crate) fn booking_key_secret(id: u8) -> BookingKeySecret {
    let (key, created_at) = ([id; BOOKING_KEY_SECRET_BYTES], now().plus_ms(id.into()));
    BookingKeySecret { id: id.into(), key, created_at }
}

pub(crate) fn consumer_owner(name: &str) -> KeyOwner {
    KeyOwner::Consumer(ConsumerId::parse(name).unwrap())
}

pub(crate) fn endpoint(seed: u8, tenant: &Tenant) -> WebhookEndpoint {
    let id = WebhookEndpointId::from_bytes([seed; 16]);
    let url = format!("https://shop.example.com/hooks/{seed}");
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".into();
    WebhookEndpoint {
        event_types: vec!["booking.confirmed".to_owned()],
        headers: [("x-token".to_owned(), "sesame".into())].into(),
        retry_schedule_seconds: vec![0, 5, 300],
        ..WebhookEndpoint::new(id, tenant.clone(), url, secret, now().plus_ms(seed.into()))
    }
}
