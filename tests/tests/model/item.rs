//! The booking's item: what the store keeps, and how the model tells two items apart.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use holdfast_domain::{
    Booking, BookingId, BookingRequest, Change, ConsumerId, HistoryEntry, Mode, Operation, Patience, Phase,
    ProviderId, Slot, Status, Tenant, Timestamp,
};

use crate::bounds::{ASYNC_MS, Bounds, REQUEST_GRACE_MS, SYNC_MS, beginning};

/// The idempotency key of every create.
const KEY: &str = "key";

/// A booking as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) booking: Booking,
    /// Counts the writes.
    pub(crate) rev: u32,
    /// The frozen answer to the create: the status that it told.
    pub(crate) response: Option<Status>,
    /// Stands for all of it, so that an item is hashed once.
    digest: u64,
}

impl Item {
    pub(crate) fn new(booking: Booking, rev: u32, response: Option<Status>) -> Self {
        let mut hasher = DefaultHasher::new();
        hash_booking(&booking, &mut hasher);
        (rev, response).hash(&mut hasher);
        Self { booking, rev, response, digest: hasher.finish() }
    }
}

impl Hash for Item {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// Takes in all that can differ between two worlds of one exploration and that anything depends on. When a
/// version came to be is left out: it is shown, and decides nothing.
fn hash_booking(booking: &Booking, hasher: &mut DefaultHasher) {
    let Booking {
        id: _,
        tenant: _,
        request: _,
        confirmation: _,
        route: _,
        slot,
        state,
        provider_reference,
        operation,
        refusal,
        compensation,
        notifications,
        operations_begun,
        history,
    } = booking;
    (slot, state, provider_reference, operation, refusal).hash(hasher);
    (compensation, notifications, operations_begun).hash(hasher);
    for HistoryEntry { status, at: _, cause, attempts, moved_from } in history {
        (status, cause, attempts, moved_from).hash(hasher);
    }
}

/// The item as the first write makes it, for a request that came at `received_at`.
pub(crate) fn claimed(bounds: &Bounds, received_at: Timestamp) -> Item {
    let tenant = Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Test };
    let lease_until = received_at.plus_ms(SYNC_MS + REQUEST_GRACE_MS);
    let deadline_at = match bounds.patience {
        Patience::Synchronous => lease_until,
        Patience::Background => received_at.plus_ms(ASYNC_MS),
    };
    let operation = Operation {
        change: Change::Book,
        number: 1,
        patience: bounds.patience,
        deadline_at,
        attempts: 1,
        last_error: None,
        unanswered_send_at: None,
        resolve_until: None,
        overtaken: None,
        phase: Phase::InFlight { lease_until },
    };
    let start = beginning().plus_ms(7 * 24 * 60 * 60 * 1_000);
    let slot = Slot {
        location_id: "main".to_owned(),
        start,
        end: start.plus_ms(1_800_000),
        resource_id: None,
        service_id: None,
    };
    let request = BookingRequest {
        provider_id: ProviderId::parse("clinic").unwrap(),
        customer: None,
        reference: None,
        notes: None,
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold: bounds.hold,
        availability_id: None,
    };
    let id = BookingId::derived(&tenant, KEY, 0);
    Item::new(Booking::claimed(id, tenant, request, slot, operation, received_at), 1, None)
}
