//! What has to hold when all is quiet, and on the way there: the invariants of the contract, held against the
//! provider's own books, the log of writes, the bus and the alarms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use holdfast_app::ports::Clock;
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::{Change, Request, Seen};
use holdfast_domain::{
    Booking, BookingId, Cause, Compensation, Phase, State, Status, Timestamp, events_since,
};
use serde_json::Value;

use crate::bench::Bench;

/// How much later than by its lease a request may be sent, in milliseconds: what a call takes at the most in a
/// world whose calls take time.
const SEND_SLACK_MS: u64 = 100;

/// What the strict checks allow for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowances {
    /// Whether all clocks agree: leases of one worker mean the same to another.
    pub(crate) clocks_agree: bool,
    /// When the faults stopped.
    pub(crate) healed_at: Timestamp,
    /// By how much an end may be late after that, or after its deadline, in milliseconds.
    pub(crate) lateness_ms: u64,
}

impl Bench {
    /// What has to hold when all is quiet.
    pub(crate) fn check(&self) {
        let mut known = BTreeSet::new();
        let told = self.told_events();
        for item in self.store.items() {
            let booking = &item.booking;
            self.check_settled(booking);
            self.check_truth(booking);
            self.check_versions(booking, &told);
            self.check_alarms(booking);
            known.insert(booking.id.clone());
        }
        let live = self.provider.live();
        assert!(live.iter().all(|id| known.contains(id)), "held, and not known here: {live:?}");
    }

    /// Besides, what has to have held all the time.
    pub(crate) fn check_strictly(&self, allowances: Allowances) {
        self.check();
        let changes = self.store.changes_from(0);
        self.check_writes(&changes);
        self.check_slots(&changes);
        self.check_requests(&changes, allowances);
        check_deadlines(&changes, allowances);
    }

    /// I2 and I11: nothing is left undone.
    fn check_settled(&self, booking: &Booking) {
        assert_ne!(booking.status(), Status::Pending, "{booking:?}");
        assert_eq!(booking.operation, None, "{booking:?}");
        assert!(!matches!(booking.compensation, Compensation::Underway(_)), "{booking:?}");
        // I1: the provider ever took one slot for it.
        assert!(self.provider.times_taken(&booking.id) <= 1, "booked twice: {booking:?}");
    }

    /// I1 and I6: what is reported is what the provider holds, unless somebody was alarmed.
    fn check_truth(&self, booking: &Booking) {
        let held = match booking.state {
            State::Confirmed => Some((booking.slot.clone(), None)),
            State::Reserved { expires_at } => {
                (expires_at > self.clock.now()).then(|| (booking.slot.clone(), Some(expires_at)))
            }
            _ if booking.compensation == Compensation::Failed => self.provider.holds(&booking.id),
            _ => None,
        };
        let is_alarmed = booking
            .history
            .iter()
            .any(|entry| matches!(entry.cause, Cause::NotificationFailed | Cause::OperationUnresolved));
        if !is_alarmed {
            let truth = self.provider.holds(&booking.id);
            assert_eq!(held, truth, "reported and held:\n{}", self.story(&booking.id));
        }
    }

    /// The events on the bus. I4: the same event always has the same identifier and body, and no other has it.
    fn told_events(&self) -> BTreeSet<String> {
        let mut by_id: BTreeMap<String, String> = BTreeMap::new();
        let mut by_name: BTreeMap<(String, u64, String), String> = BTreeMap::new();
        for event in self.bus.events() {
            let body: Value = serde_json::from_str(&event.body).unwrap();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let id = text(&body["id"]);
            let version = body["data"]["version"].as_u64().unwrap_or(0);
            assert_eq!(text(&body["type"]), event.event_type, "{body}");
            assert_eq!(text(&body["data"]["id"]), event.subject, "{body}");
            // What is told again much later knows no more what was true for the moment only.
            let said = if self.is_told_again() { lasting(&body).to_string() } else { event.body.clone() };
            let first = by_id.entry(id.clone()).or_insert_with(|| said.clone());
            assert_eq!(*first, said, "two bodies under one identifier");
            let name = (event.subject.clone(), version, event.event_type.clone());
            let first = by_name.entry(name).or_insert_with(|| id.clone());
            assert_eq!(*first, id, "two identifiers of one event");
        }
        by_id.into_keys().collect()
    }

    /// I3 and I4: every version has a legal predecessor and has told its events.
    fn check_versions(&self, booking: &Booking, told: &BTreeSet<String>) {
        for pair in booking.history.windows(2) {
            let (from, to) = (pair[0].status, pair[1].status);
            assert!(from == to || from.may_become(to), "{booking:?}");
        }
        for event in events_since(booking, 0) {
            let is_told = told.contains(event.id.as_str());
            assert!(is_told, "{event:?} was never told:\n{}", self.story(&booking.id));
        }
    }

    /// I11: whatever could not be done has raised an alarm.
    fn check_alarms(&self, booking: &Booking) {
        let letters = self.parking.dead_letters();
        for (version, entry) in (1_u32..).zip(&booking.history) {
            let is_alarming = matches!(
                entry.cause,
                Cause::CompensationFailed | Cause::OperationUnresolved | Cause::NotificationFailed
            );
            let is_raised = letters.iter().any(|letter| {
                letter.booking_id == booking.id.as_str() && letter.from_version == Some(version)
            });
            assert!(!is_alarming || is_raised, "no alarm for version {version} of {booking:?}");
        }
        let has_failed = booking.compensation == Compensation::Failed;
        let says_so = booking.history.iter().any(|entry| entry.cause == Cause::CompensationFailed);
        assert!(!has_failed || says_so, "{booking:?}");
    }

    /// I3: one write makes at most one version, except the first of a booking that is accepted at once, and
    /// none rewrites what was.
    fn check_writes(&self, changes: &[Change]) {
        for Change { old, new } in changes {
            let before: &[_] = old.as_ref().map_or(&[], |old| &old.booking.history);
            let after = &new.booking.history;
            let added = after.len().checked_sub(before.len());
            let story = || self.story(&new.booking.id);
            assert!(after.starts_with(before), "history was rewritten:\n{}", story());
            let most = if old.is_none() { 2 } else { 1 };
            assert!(added.is_some_and(|added| added <= most), "versions of one write:\n{}", story());
            let rev = old.as_ref().map_or(0, |old| old.rev);
            assert_eq!(new.rev, rev + 1, "a write was lost:\n{}", story());
            if let Some(old) = old {
                check_frozen(old, new);
            }
        }
    }

    /// No two bookings ever have one exclusive slot, and who has one is who is written down for it.
    fn check_slots(&self, changes: &[Change]) {
        let mut owners = BTreeMap::new();
        for Change { old, new } in changes {
            for slot in old.iter().flat_map(StoredBooking::slots) {
                if owners.get(&slot) == Some(&new.booking.id) {
                    owners.remove(&slot);
                }
            }
            for slot in new.slots() {
                let before = owners.insert(slot, new.booking.id.clone());
                assert_eq!(before, None, "a slot was given twice:\n{}", self.story(&new.booking.id));
            }
        }
        assert_eq!(owners, self.store.taken_slots(), "who has which slot, and who is written down for it");
    }

    /// What the provider saw: nothing without a lease, nothing twice under one, nothing again before a look.
    fn check_requests(&self, changes: &[Change], allowances: Allowances) {
        let seen = self.provider.seen();
        let mut made = BTreeSet::new();
        for (place, request) in seen.iter().enumerate() {
            let (number, attempt) = request.operation;
            let story = || self.story(&request.booking_id);
            if request.request == Request::LookUp {
                continue;
            }
            let name = (request.booking_id.clone(), number, attempt);
            assert!(made.insert(name), "{request:?} was made twice under one lease:\n{}", story());
            let lease_until = leased_until(changes, request);
            assert!(lease_until.is_some(), "{request:?} was made without a lease:\n{}", story());
            let may_be_late = self.journal.froze_a_send();
            if allowances.clocks_agree && !may_be_late {
                let end = lease_until.unwrap().plus_ms(SEND_SLACK_MS);
                assert!(request.at <= end, "{request:?} was made after its lease:\n{}", story());
            }
            let is_blind = matches!(request.request, Request::Attempt | Request::Change)
                && attempt > 1
                && may_have_arrived(&seen[..place], request)
                && !seen[..place].iter().any(|earlier| is_look_up_for(earlier, request));
            // A gate books nothing, so that it may be asked again without a look.
            let is_gate = self.provider_settings.confirmation.tells();
            assert!(!is_blind || is_gate, "{request:?} was made blindly:\n{}", story());
        }
        if allowances.clocks_agree {
            self.check_compensations(changes, &seen);
        }
        if allowances.clocks_agree && !self.journal.froze_a_send() {
            self.check_order();
        }
    }

    /// A provider hears of the versions of a booking in their order.
    fn check_order(&self) {
        let mut last: BTreeMap<BookingId, u32> = BTreeMap::new();
        for told in self.provider.told() {
            let before = last.insert(told.booking_id.clone(), told.version).unwrap_or(0);
            let is_again = told.version >= before || self.provider_settings.pulls();
            assert!(is_again, "told of version {} after {before}", told.version);
        }
    }

    /// A compensation starts only when the attempt's lease is over.
    fn check_compensations(&self, changes: &[Change], seen: &[Seen]) {
        for Change { old, new } in changes {
            let Some(old) = old else { continue };
            let Compensation::Underway(run) = &new.booking.compensation else { continue };
            let in_flight = old.booking.operation.as_ref().map(|operation| operation.phase);
            if let (None, Some(Phase::InFlight { lease_until })) = (&new.booking.operation, in_flight) {
                let is_early = |seen: &&Seen| {
                    seen.booking_id == new.booking.id
                        && seen.request == Request::Cancel
                        && seen.operation.0 == run.number
                        && seen.at < lease_until
                };
                let early = seen.iter().find(is_early);
                assert_eq!(early, None, "compensated too early:\n{}", self.story(&new.booking.id));
            }
        }
    }

    /// Everything that happened to a booking, for whoever has to find out why.
    pub(crate) fn story(&self, id: &BookingId) -> String {
        if self.is_quiet.load(Ordering::Relaxed) {
            return String::new();
        }
        let seen = self.provider.seen().into_iter().filter(|seen| seen.booking_id == *id);
        let requests = seen.map(|seen| format!("{} {:?} {:?}", seen.at, seen.request, seen.operation));
        let changes = self.store.changes_from(0).into_iter().filter(|change| change.new.booking.id == *id);
        let items = changes.map(|change| {
            let StoredBooking { booking, create, rev, .. } = change.new;
            let Booking { state, operation, compensation, history, refusal, .. } = booking;
            let cause = history.last().map(|entry| entry.cause);
            let frozen = create.and_then(|create| create.response).map(|response| response.status);
            format!("{rev}: {cause:?} {state:?} {operation:?} {refusal:?} {compensation:?} {frozen:?}")
        });
        requests.chain(items).collect::<Vec<_>>().join("\n")
    }
}

/// I5: what was answered once stays so.
fn check_frozen(old: &StoredBooking, new: &StoredBooking) {
    let before = old.create.as_ref().and_then(|create| create.response.as_ref());
    if before.is_some() {
        let after = new.create.as_ref().and_then(|create| create.response.as_ref());
        assert_eq!(before, after, "a frozen answer was changed");
    }
    for record in &old.operations {
        let after =
            new.operations.iter().find(|after| after.key == record.key && after.number == record.number);
        if let (Some(before), Some(after)) = (&record.response, after) {
            assert_eq!(Some(before), after.response.as_ref(), "a frozen answer was changed");
        }
    }
}

/// I2: what was pending ended by its deadline or, after faults, soon.
fn check_deadlines(changes: &[Change], allowances: Allowances) {
    for Change { old, new } in changes {
        let (None, Some(operation)) = (old, &new.booking.operation) else { continue };
        let last = changes.iter().rev().find(|change| change.new.booking.id == new.booking.id);
        let history = last.map_or(&[][..], |last| &last.new.booking.history);
        let ended = history.iter().find(|entry| entry.status != Status::Pending);
        let latest = operation.deadline_at.max(allowances.healed_at).plus_ms(allowances.lateness_ms);
        let is_in_time = ended.is_some_and(|entry| entry.at <= latest);
        assert!(is_in_time, "pending past its deadline: {:?}", new.booking);
    }
}

/// The end of the lease under which a request was made; `None` if there was none.
fn leased_until(changes: &[Change], request: &Seen) -> Option<Timestamp> {
    let (number, attempt) = request.operation;
    let mut of_booking = changes.iter().filter(|change| change.new.booking.id == request.booking_id);
    of_booking.find_map(|change| {
        let booking = &change.new.booking;
        let operation = booking.operation.as_ref();
        let operation = operation.map(|it| (it.number, it.attempts, it.phase));
        let run = match &booking.compensation {
            Compensation::Underway(run) => Some((run.number, run.attempts, run.phase)),
            Compensation::NotNeeded | Compensation::Done | Compensation::Failed => None,
        };
        let told = booking.notifications.first().map(|told| (told.number, told.attempts, told.phase));
        [operation, run, told].into_iter().flatten().find_map(|named| match named {
            (its, count, Phase::InFlight { lease_until }) if (its, count) == (number, attempt) => {
                Some(lease_until)
            }
            _ => None,
        })
    })
}

/// Whether an earlier attempt at the same may have reached the provider.
fn may_have_arrived(seen: &[Seen], request: &Seen) -> bool {
    let (number, attempt) = request.operation;
    seen.iter().any(|earlier| {
        earlier.booking_id == request.booking_id
            && earlier.request == request.request
            && earlier.operation.0 == number
            && earlier.operation.1 < attempt
            && earlier.arrived
    })
}

fn is_look_up_for(seen: &Seen, request: &Seen) -> bool {
    seen.request == Request::LookUp
        && seen.booking_id == request.booking_id
        && seen.operation == request.operation
}

/// What an event says that stays true of its version.
fn lasting(body: &Value) -> Value {
    const FOR_THE_MOMENT: [&str; 5] =
        ["operation", "provider_reference", "expires_at", "rejection", "cancellation"];
    let mut lasting = body.clone();
    if let Some(data) = lasting["data"].as_object_mut() {
        data.retain(|member, _| !FOR_THE_MOMENT.contains(&member.as_str()));
    }
    lasting
}
