//! What callers ask of a world.

use holdfast_app::availability::SlotWord;
use holdfast_app::bookings::{CreateCall, Created, Operated, OperationCall, read_change, read_create};
use holdfast_app::idempotency::{IdempotencyKey, fingerprint};
use holdfast_app::ports::Clock;
use holdfast_app::problem::Problem;
use holdfast_app::settings::ProviderSettings;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_domain::{BookingId, Mode, OperationKind, Tenant, Timestamp};
use serde_json::{Value, json};

use crate::bench::{Bench, MemoryEngine, tenant};

/// The body of a create.
pub(crate) fn body(in_background: bool) -> Value {
    json!({
        "provider_id": "clinic",
        "slot": {"location_id": "main", "start": "2027-03-01T09:00:00Z", "end": "2027-03-01T09:30:00Z"},
        "customer": {"name": "Ada Lovelace"},
        "async_confirmation": in_background,
    })
}

/// The body of a response, as JSON.
pub(crate) fn json_of(created: &Created) -> Value {
    serde_json::from_slice(&created.answer.body).unwrap()
}

/// A request of a consumer, apart from what it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// Who asks.
    pub(crate) tenant: &'a Tenant,
    /// The idempotency key.
    pub(crate) key: Option<&'a str>,
    /// For how long it waits for the first request, in seconds.
    pub(crate) prefer_wait_s: Option<u64>,
    /// When it arrives, by the clock of the function.
    pub(crate) received_at: Timestamp,
}

impl Bench {
    /// Creates a booking, or replays one, at the engine of this world.
    pub(crate) async fn create(&self, key: Option<&str>, body: &Value) -> Result<Created, Problem> {
        self.create_at(&self.engine, key, body, None).await
    }

    /// The same at any engine, waiting for the first request if asked.
    pub(crate) async fn create_at(
        &self,
        engine: &MemoryEngine,
        key: Option<&str>,
        body: &Value,
        prefer_wait_s: Option<u64>,
    ) -> Result<Created, Problem> {
        self.create_with(engine, &self.provider_settings, key, body, prefer_wait_s).await
    }

    /// The same at any provider.
    pub(crate) async fn create_with(
        &self,
        engine: &MemoryEngine,
        provider: &ProviderSettings,
        key: Option<&str>,
        body: &Value,
        prefer_wait_s: Option<u64>,
    ) -> Result<Created, Problem> {
        let asking = Asking { tenant: &tenant("shop"), key, prefer_wait_s, received_at: self.clock.now() };
        self.create_for(engine, provider, asking, body).await
    }

    /// The same for anybody.
    pub(crate) async fn create_for(
        &self,
        engine: &MemoryEngine,
        provider: &ProviderSettings,
        asking: Asking<'_>,
        body: &Value,
    ) -> Result<Created, Problem> {
        let call = CreateCall {
            tenant: asking.tenant.clone(),
            key: asking.key.map(|key| IdempotencyKey::parse("Idempotency-Key", key).unwrap()),
            fingerprint: fingerprint(body).unwrap(),
            prefer_wait_s: asking.prefer_wait_s,
            create: read_create(body).unwrap().with_slot(&[], Mode::Test).unwrap(),
            slot_word: SlotWord::Unknown,
            provider: Some(provider),
            received_at: asking.received_at,
            path: "/v1/bookings",
            request_id: "request",
        };
        engine.create(call).await
    }

    /// Cancels a booking as its consumer, at the engine of this world.
    pub(crate) async fn cancel(
        &self,
        id: &BookingId,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Operated, Problem> {
        self.cancel_at(&self.engine, id, key, body, None).await
    }

    /// The same at any engine, waiting for the first request if asked.
    pub(crate) async fn cancel_at(
        &self,
        engine: &MemoryEngine,
        id: &BookingId,
        key: Option<&str>,
        body: &Value,
        prefer_wait_s: Option<u64>,
    ) -> Result<Operated, Problem> {
        self.operate_at(engine, OperationKind::Cancel, id, key, body, prefer_wait_s).await
    }

    /// Changes a booking as its consumer, at the engine of this world.
    pub(crate) async fn operate(
        &self,
        kind: OperationKind,
        id: &BookingId,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Operated, Problem> {
        self.operate_at(&self.engine, kind, id, key, body, None).await
    }

    /// The same at any engine, waiting for the first request if asked.
    pub(crate) async fn operate_at(
        &self,
        engine: &MemoryEngine,
        kind: OperationKind,
        id: &BookingId,
        key: Option<&str>,
        body: &Value,
        prefer_wait_s: Option<u64>,
    ) -> Result<Operated, Problem> {
        let asking = Asking { tenant: &tenant("shop"), key, prefer_wait_s, received_at: self.clock.now() };
        self.operate_for(engine, kind, id, asking, body).await
    }

    /// The same for anybody.
    pub(crate) async fn operate_for(
        &self,
        engine: &MemoryEngine,
        kind: OperationKind,
        id: &BookingId,
        asking: Asking<'_>,
        body: &Value,
    ) -> Result<Operated, Problem> {
        let key = asking.key.map(|key| IdempotencyKey::parse("Idempotency-Key", key).unwrap());
        let call = OperationCall {
            tenant: asking.tenant.clone(),
            booking_id: id.clone(),
            key: key.map(|key| key.operation_key(kind)),
            fingerprint: fingerprint(body).unwrap(),
            prefer_wait_s: asking.prefer_wait_s,
            wish: read_change(kind, body).unwrap().with_slot(&[], Mode::Test).unwrap(),
            received_at: asking.received_at,
            path: "/v1/bookings/the-booking/change",
            request_id: "request",
        };
        let settings = SettingsCache::new(self.settings.clone());
        engine.operate(call, &settings, &self.availability).await
    }
}
