//! Bookings in memory, with a log of changes that stands for the table's stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use holdfast_domain::{BookingId, Tenant, Timestamp};

use super::{Fault, Faults, locked};
use crate::ports::{
    BookingPage, BookingQuery, BookingScan, BookingStore, Claim, ListPlace, Replaced, ScanPlace,
    ScannedBooking, ScannedChanges, SlotExchange, StoreError,
};
use crate::stored::{SlotKey, StoredBooking};

/// One change of an item, as the stream shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The item before; `None` if it is new.
    pub old: Option<StoredBooking>,
    /// The item after.
    pub new: StoredBooking,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<BookingId, StoredBooking>,
    slots: BTreeMap<SlotKey, BookingId>,
    changes: Vec<Change>,
}

impl State {
    fn write(&mut self, new: &StoredBooking) {
        let old = self.items.insert(new.booking.id.clone(), new.clone());
        self.changes.push(Change { old, new: new.clone() });
    }

    /// Somebody else writes an item, and changes nothing but its revision.
    fn overtake(&mut self, id: &BookingId) {
        if let Some(found) = self.items.get(id) {
            let touched = found.with_booking(found.booking.clone());
            self.write(&touched);
        }
    }

    /// The items as they were before the last change of each.
    fn before_last_changes(&self) -> impl Iterator<Item = &StoredBooking> {
        self.items.keys().filter_map(|id| {
            let mut changes = self.changes.iter().rev();
            changes.find(|change| change.new.booking.id == *id)?.old.as_ref()
        })
    }

    /// Whether another booking has one of these slots.
    fn is_taken(&self, slots: &[SlotKey], by: &BookingId) -> bool {
        slots.iter().any(|slot| self.slots.get(slot).is_some_and(|owner| owner != by))
    }

    fn exchange(&mut self, exchange: &SlotExchange, id: &BookingId) {
        for slot in &exchange.free {
            if self.slots.get(slot) == Some(id) {
                self.slots.remove(slot);
            }
        }
        for slot in &exchange.take {
            self.slots.insert(slot.clone(), id.clone());
        }
    }
}

/// Bookings in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryBookingStore {
    state: Arc<Mutex<State>>,
    faults: Faults,
}

impl MemoryBookingStore {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with a plan of faults.
    pub fn with_faults(faults: Faults) -> Self {
        Self { state: Arc::default(), faults }
    }

    /// The plan of faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// An item as it is now, without a call.
    pub fn item(&self, id: &BookingId) -> Option<StoredBooking> {
        locked(&self.state).items.get(id).cloned()
    }

    /// All items as they are now, without a call.
    pub fn items(&self) -> Vec<StoredBooking> {
        locked(&self.state).items.values().cloned().collect()
    }

    /// All changes so far, in order; those from `position` on are new to whoever has seen that many.
    pub fn changes_from(&self, position: usize) -> Vec<Change> {
        locked(&self.state).changes.iter().skip(position).cloned().collect()
    }

    /// How many changes there were so far.
    pub fn changes_made(&self) -> usize {
        locked(&self.state).changes.len()
    }

    /// Who has which exclusive slot now.
    pub fn taken_slots(&self) -> BTreeMap<SlotKey, BookingId> {
        locked(&self.state).slots.clone()
    }

    /// Whether anything holds of any item as it is now, without a call.
    pub fn any(&self, holds: impl Fn(&StoredBooking) -> bool) -> bool {
        locked(&self.state).items.values().any(holds)
    }

    /// Writes an item as it is, past all conditions; the stream shows it.
    pub fn put(&self, item: &StoredBooking) {
        locked(&self.state).write(item);
    }

    /// Removes an item, as DynamoDB's TTL would.
    pub fn remove(&self, id: &BookingId) -> Option<StoredBooking> {
        locked(&self.state).items.remove(id)
    }
}

impl BookingStore for MemoryBookingStore {
    async fn claim(&self, new: &StoredBooking) -> Result<Claim, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            if let Some(found) = state.items.get(&new.booking.id) {
                return Claim::Taken(Box::new(found.clone()));
            }
            state.write(new);
            Claim::Claimed
        };
        self.faults.run("bookings.claim", effect).await
    }

    async fn read(&self, id: &BookingId) -> Result<Option<StoredBooking>, StoreError> {
        self.faults.run("bookings.read", || self.item(id)).await
    }

    async fn replace(&self, seen_rev: u64, next: &StoredBooking) -> Result<Replaced, StoreError> {
        let effect = |fault| {
            let mut state = locked(&self.state);
            if fault == Some(Fault::Overtaken) {
                state.overtake(&next.booking.id);
            }
            match state.items.get(&next.booking.id) {
                None => Replaced::Gone,
                Some(found) if found.rev != seen_rev => Replaced::Conflict(Box::new(found.clone())),
                Some(_) => {
                    state.write(next);
                    Replaced::Done
                }
            }
        };
        self.faults.run_knowing("bookings.replace", effect).await
    }

    async fn claim_with_slots(&self, new: &StoredBooking, take: &[SlotKey]) -> Result<Claim, StoreError> {
        let effect = || {
            let mut state = locked(&self.state);
            let id = &new.booking.id;
            if let Some(found) = state.items.get(id) {
                return Claim::Taken(Box::new(found.clone()));
            }
            if state.is_taken(take, id) {
                return Claim::SlotTaken;
            }
            state.exchange(&SlotExchange { take: take.to_vec(), free: Vec::new() }, id);
            state.write(new);
            Claim::Claimed
        };
        self.faults.run("bookings.claim", effect).await
    }

    async fn replace_with_slots(
        &self,
        seen_rev: u64,
        next: &StoredBooking,
        exchange: &SlotExchange,
    ) -> Result<Replaced, StoreError> {
        let effect = |fault| {
            let mut state = locked(&self.state);
            let id = &next.booking.id;
            if fault == Some(Fault::Overtaken) {
                state.overtake(id);
            }
            match state.items.get(id) {
                None => Replaced::Gone,
                Some(found) if found.rev != seen_rev => Replaced::Conflict(Box::new(found.clone())),
                Some(_) if state.is_taken(&exchange.take, id) => Replaced::SlotTaken,
                Some(_) => {
                    state.exchange(exchange, id);
                    state.write(next);
                    Replaced::Done
                }
            }
        };
        self.faults.run_knowing("bookings.replace", effect).await
    }

    async fn list(&self, tenant: &Tenant, query: &BookingQuery) -> Result<BookingPage, StoreError> {
        let effect = || {
            let state = locked(&self.state);
            let place = |item: &&StoredBooking| (item.booking.created_at(), item.booking.id.clone());
            let mut found: Vec<&StoredBooking> = state
                .items
                .values()
                .filter(|item| item.booking.tenant == *tenant)
                .filter(|item| {
                    let reference = query.reference.as_ref();
                    reference.is_none_or(|wanted| item.booking.request.reference.as_ref() == Some(wanted))
                })
                .filter(|item| query.created_after.is_none_or(|after| item.booking.created_at() > after))
                .filter(|item| {
                    query
                        .after
                        .as_ref()
                        .is_none_or(|after| place(item) < (after.created_at, after.booking_id.clone()))
                })
                .collect();
            found.sort_by_key(|item| std::cmp::Reverse(place(item)));
            let is_more = found.len() > query.limit;
            found.truncate(query.limit);
            let last = found.last().map(|item| ListPlace {
                created_at: item.booking.created_at(),
                booking_id: item.booking.id.clone(),
            });
            BookingPage {
                bookings: found.into_iter().map(|item| item.booking.clone()).collect(),
                next: last.filter(|_| is_more),
            }
        };
        self.faults.run("bookings.list", effect).await
    }

    async fn overdue(&self, before: Timestamp, limit: usize) -> Result<Vec<BookingId>, StoreError> {
        let effect = |fault| {
            let state = locked(&self.state);
            let is_due = |item: &StoredBooking| {
                let booking = &item.booking;
                let due_at = booking.due_at().filter(|due_at| *due_at < before)?;
                (!booking.is_within_its_request()).then(|| (due_at, booking.id.clone()))
            };
            let mut due: Vec<_> = if fault == Some(Fault::Stale) {
                state.before_last_changes().filter_map(is_due).collect()
            } else {
                state.items.values().filter_map(is_due).collect()
            };
            // The latest first, as the sweep of the real index reads it.
            due.sort_by(|left, right| right.cmp(left));
            due.into_iter().take(limit).map(|(_, id)| id).collect()
        };
        self.faults.run_knowing("bookings.overdue", effect).await
    }

    async fn scan(&self, after: Option<&ScanPlace>, limit: usize) -> Result<BookingScan, StoreError> {
        let effect = || {
            let state = locked(&self.state);
            let is_ahead = |id: &BookingId| after.is_none_or(|after| id.as_str() > after.0.as_str());
            let mut ahead = state.items.iter().filter(|(id, _)| is_ahead(id)).map(|(_, item)| item);
            let bookings: Vec<ScannedBooking> = ahead.by_ref().take(limit).map(scanned).collect();
            let last = bookings.last().map(|booking| booking.place.clone());
            BookingScan { next: last.filter(|_| ahead.next().is_some()), bookings }
        };
        self.faults.run("bookings.scan", effect).await
    }
}

fn scanned(item: &StoredBooking) -> ScannedBooking {
    let booking = &item.booking;
    ScannedBooking {
        id: booking.id.clone(),
        place: ScanPlace(booking.id.as_str().to_owned()),
        changes: Some(ScannedChanges {
            versions_at: booking.history.iter().map(|entry| entry.at).collect(),
            is_under_way: booking.due_at().is_some(),
        }),
    }
}
