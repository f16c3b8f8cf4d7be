//! Lists of calls, one of each port, that run on the port in memory and on its adapter.

#![allow(clippy::match_same_arms, reason = "the calls are a list, and a call may stand in it twice")]

use std::fmt::Debug;

use holdfast_app::ports::{
    AttemptLog, AvailabilityStore, BookingKeySecretStore, BookingQuery, BookingStore, BreakerStore,
    ConfigurationStore, DeliveryStore, EndpointStore, EventFeed, LimitStore, LocationStore,
    NotificationMailbox, PlaceLease, RefreshState, SettingsReader, SlotChangeLog, StoreError, Wanted,
    WantedCalls,
};
use holdfast_app::settings::{ConsumerSettings, KeyOwner};
use holdfast_app::stored::{StoredBooking, claim, replace};
use holdfast_app::webhook::{Delivery, DeliveryState, DisabledReason, Speed, WebhookEndpoint};
use holdfast_aws::{DynamoDb, DynamoSettings};
use holdfast_domain::{ConsumerId, Patience};

use super::availability::{change, place, said, slot};
use super::deliveries::{attempt, delivery};
use super::embedded::{CONFIG_TABLE, entropy};
use super::feed::event;
use super::fixtures::{
    booking_key_secret, cancelled, claimed, confirmed, endpoint, key, now, provider, provider_id, tenant,
    waiting,
};
use super::locations::location;
use super::mailbox::kept;

/// Says what a call answered. The words of errors are each implementation's own.
fn told<T: Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::Unavailable(_)) => UNAVAILABLE.to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// What is told of a call that may be made again.
pub(super) const UNAVAILABLE: &str = "unavailable";

/// A scenario's calls on one implementation.
pub(super) trait Scenario: Sync {
    /// How many calls there are.
    const CALLS: usize;
    /// Calls of which a repetition by the SDK is not recognised, as the port or the adapter says, and what is told
    /// then.
    const UNRECOGNISED: &'static [(usize, &'static str)] = &[];
    /// Calls that the adapter makes of several writes, or that add up: what is there after trouble differs, until
    /// the call was made again.
    const IN_PARTS: &'static [usize] = &[];

    /// Makes the call at a place, from 0.
    async fn call(&self, place: usize) -> String;
    /// All that can be read.
    async fn view(&self) -> String;
}

pub(super) fn settings(client: DynamoDb) -> DynamoSettings {
    DynamoSettings::new(client, CONFIG_TABLE, entropy())
}

pub(super) struct Bookings<S>(pub(super) S);

impl<S: BookingStore> Scenario for Bookings<S> {
    const CALLS: usize = 6;

    async fn call(&self, place: usize) -> String {
        let first = claimed("key", Patience::Background);
        let second = waiting(&first, 0);
        let mut third = confirmed(&first);
        third.rev = 3;
        match place {
            0 => told(self.0.claim(&first).await),
            1 => told(self.0.claim(&claimed("key", Patience::Synchronous)).await),
            2 => told(self.0.replace(1, &second).await),
            3 => told(self.0.replace(2, &third).await),
            // Overtaken, and never there.
            4 => told(self.0.replace(1, &second).await),
            _ => told(self.0.replace(1, &confirmed(&claimed("nowhere", Patience::Synchronous))).await),
        }
    }

    async fn view(&self) -> String {
        let read = self.0.read(&claimed("key", Patience::Background).booking.id).await;
        let query = BookingQuery { reference: None, created_after: None, after: None, limit: 10 };
        format!("{read:?} {:?}", self.0.list(&tenant(), &query).await)
    }
}

pub(super) struct Slots<S>(pub(super) S);

fn exclusive(key: &str) -> StoredBooking {
    StoredBooking { exclusive_slots: true, ..claimed(key, Patience::Background) }
}

impl<S: BookingStore> Scenario for Slots<S> {
    const CALLS: usize = 6;

    async fn call(&self, place: usize) -> String {
        let first = exclusive("first");
        let settled = confirmed(&first);
        match place {
            0 => told(claim(&self.0, &first).await),
            1 => told(claim(&self.0, &exclusive("second")).await),
            2 => told(replace(&self.0, &first, &settled).await),
            3 => told(replace(&self.0, &settled, &cancelled(&settled)).await),
            // Free again, and overtaken.
            4 => told(claim(&self.0, &exclusive("third")).await),
            _ => told(replace(&self.0, &settled, &cancelled(&settled)).await),
        }
    }

    async fn view(&self) -> String {
        let mut view = Vec::new();
        for key in ["first", "second", "third"] {
            view.push(self.0.read(&exclusive(key).booking.id).await);
        }
        format!("{view:?}")
    }
}

pub(super) struct Breakers<S>(pub(super) S);

const TWO_FAILURES: &str =
    "BreakerState { consecutive_failures: 2, open_until: Some(Timestamp(1795258065133)), probe_until: None }";
const THREE_FAILURES: &str =
    "BreakerState { consecutive_failures: 3, open_until: Some(Timestamp(1795258065133)), probe_until: None }";

impl<S: BreakerStore> Scenario for Breakers<S> {
    const CALLS: usize = 8;
    /// A failure may count twice: the circuit then opens early, which is the safe side.
    const UNRECOGNISED: &'static [(usize, &'static str)] = &[(0, TWO_FAILURES), (1, THREE_FAILURES)];
    const IN_PARTS: &'static [usize] = &[0, 1];

    async fn call(&self, place: usize) -> String {
        let (store, id) = (&self.0, provider_id());
        let (open_until, probe_until) = (now().plus_ms(10), now().plus_ms(30));
        match place {
            0 | 1 => told(store.record_failure(&id, 2, open_until).await),
            2 => told(store.try_probe(&id, now(), probe_until).await),
            3 => told(store.try_probe(&id, open_until, probe_until).await),
            4 => told(store.release_probe(&id, probe_until).await),
            5 => told(store.forget_failures(&id).await),
            6 => told(store.try_probe(&id, open_until, probe_until).await),
            _ => told(store.close(&id).await),
        }
    }

    async fn view(&self) -> String {
        told(BreakerStore::read(&self.0, &provider_id()).await)
    }
}

pub(super) struct Limits<S>(pub(super) S);

impl<S: LimitStore> Scenario for Limits<S> {
    const CALLS: usize = 6;

    async fn call(&self, place: usize) -> String {
        let (store, id) = (&self.0, provider_id());
        let lease = |name: &str| PlaceLease { id: name.to_owned(), until: now().plus_ms(1_000) };
        let wanted = |is_begun, calls| WantedCalls { window_s: 1_795_000_000, is_begun, calls, capacity: 4 };
        match place {
            0 => told(store.take_calls(&id, &wanted(false, 1)).await),
            1 => told(store.take_calls(&id, &wanted(true, 2)).await),
            2 => told(store.take_place(&id, &lease("a"), 1, now()).await),
            3 => told(store.take_place(&id, &lease("b"), 1, now()).await),
            4 => told(store.give_place_back(&id, "a").await),
            _ => told(store.take_place(&id, &lease("b"), 1, now()).await),
        }
    }

    /// Nothing can be read of limits without taking something.
    async fn view(&self) -> String {
        String::new()
    }
}

pub(super) struct Configuration<S>(pub(super) S);

impl<S> Scenario for Configuration<S>
where
    S: ConfigurationStore + LocationStore + BookingKeySecretStore + SettingsReader,
{
    const CALLS: usize = 10;
    /// Whoever replaces the secrets and is told that others did reads what is there, which is its own.
    const UNRECOGNISED: &'static [(usize, &'static str)] = &[(4, "false")];
    /// A key is written beside its place in a list.
    const IN_PARTS: &'static [usize] = &[2];

    async fn call(&self, place: usize) -> String {
        let store = &self.0;
        let owner = KeyOwner::Consumer(ConsumerId::parse("shop").unwrap());
        let consumer = ConsumerSettings {
            consumer_id: ConsumerId::parse("shop").unwrap(),
            display_name: "Shop".to_owned(),
            requests_per_second: None,
        };
        let secrets = [booking_key_secret(1)];
        match place {
            0 => told(store.put_consumer(&consumer).await),
            1 => told(store.put_provider(&provider("demo-clinic")).await),
            2 => told(store.put_key(&key(1, owner.clone())).await),
            3 => told(store.put_location(&provider_id(), &location("main-street")).await),
            4 => told(store.replace_booking_key_secrets(None, &secrets).await),
            5 => told(store.revoke_key(&owner, &key(1, owner.clone()).key_id, now()).await),
            6 => told(store.replace_booking_key_secrets(None, &secrets).await),
            7 => told(store.revoke_key(&KeyOwner::Admin, &key(1, owner.clone()).key_id, now()).await),
            8 => told(store.put_consumer(&consumer).await),
            _ => told(store.put_provider(&provider("demo-clinic")).await),
        }
    }

    async fn view(&self) -> String {
        let store = &self.0;
        let owner = KeyOwner::Consumer(ConsumerId::parse("shop").unwrap());
        let wanted = Wanted {
            key_id: Some(key(1, owner.clone()).key_id),
            provider_id: Some(provider_id()),
            booking_key_secrets: true,
        };
        let (consumers, keys) = (store.consumers().await, store.keys(&owner).await);
        let locations = store.locations(&provider_id()).await;
        format!("{consumers:?} {keys:?} {locations:?} {:?}", store.load(&wanted).await)
    }
}

pub(super) struct Endpoints<S>(pub(super) S);

impl<S: EndpointStore> Scenario for Endpoints<S> {
    const CALLS: usize = 10;
    /// A turn that nobody uses delays a delivery; and the port says so of disabling.
    const UNRECOGNISED: &'static [(usize, &'static str)] = &[(4, "false"), (7, "Conflict")];

    async fn call(&self, place: usize) -> String {
        let (store, first) = (&self.0, endpoint(1, &tenant()));
        let speed = Speed { slow_until: Some(now()), hung_until: None };
        let second = WebhookEndpoint { url: "https://new.example.com".to_owned(), rev: 2, ..first.clone() };
        match place {
            0 => told(store.put_endpoint(&first, 1).await),
            1 => told(store.put_endpoint(&endpoint(2, &tenant()), 1).await),
            2 => told(store.replace_endpoint(1, &second).await),
            3 => told(store.replace_endpoint(1, &second).await),
            4 => told(store.take_turn(&tenant(), &first.id, now(), now().plus_ms(5)).await),
            5 => told(store.take_turn(&tenant(), &first.id, now(), now().plus_ms(5)).await),
            6 => told(store.disable(&tenant(), &first.id, 1, DisabledReason::Gone).await),
            7 => told(store.disable(&tenant(), &first.id, 2, DisabledReason::Gone).await),
            8 => told(store.mark_speed(&tenant(), &endpoint(3, &tenant()).id, speed).await),
            _ => told(store.mark_failing(&tenant(), &endpoint(3, &tenant()).id, Some(now())).await),
        }
    }

    async fn view(&self) -> String {
        let all = self.0.endpoints(&tenant()).await;
        format!("{all:?} {:?}", self.0.endpoint(&tenant(), &endpoint(1, &tenant()).id).await)
    }
}

pub(super) struct Deliveries<S>(pub(super) S);

impl<S: DeliveryStore + AttemptLog> Scenario for Deliveries<S> {
    const CALLS: usize = 6;

    async fn call(&self, place: usize) -> String {
        let (store, first) = (&self.0, delivery());
        let state = DeliveryState::InFlight { lease_until: now().plus_ms(7) };
        let second = Delivery { state, attempts: 1, rev: 2, ..first.clone() };
        match place {
            0 => told(store.create(&first).await),
            1 => told(store.create(&first).await),
            2 => told(store.replace(1, &second).await),
            3 => told(store.replace(1, &second).await),
            4 => told(store.append(&attempt(1, 2)).await),
            _ => told(store.append(&attempt(1, 2)).await),
        }
    }

    async fn view(&self) -> String {
        let first = delivery();
        let read = self.0.read(&first.endpoint_id, &first.event_id).await;
        let log = self.0.attempts(&first.endpoint_id, now().minus_ms(60_000), None, 10).await;
        format!("{read:?} {log:?}")
    }
}

pub(super) struct Feeds<S>(pub(super) S);

impl<S: EventFeed> Scenario for Feeds<S> {
    const CALLS: usize = 3;

    async fn call(&self, place: usize) -> String {
        match place {
            0 => told(self.0.append(&tenant(), &[event(1), event(2)], now()).await),
            1 => told(self.0.append(&tenant(), &[event(2)], now().plus_ms(1)).await),
            _ => told(self.0.append(&tenant(), &[event(2), event(3)], now().plus_ms(2)).await),
        }
    }

    async fn view(&self) -> String {
        format!("{:?} {:?}", self.0.read(&tenant(), 0, 10).await, self.0.last_number(&tenant()).await)
    }
}

pub(super) struct Mailboxes<S>(pub(super) S);

impl<S: NotificationMailbox> Scenario for Mailboxes<S> {
    const CALLS: usize = 6;

    async fn call(&self, place: usize) -> String {
        let (first, id) = (kept(1, 1, now()), provider_id());
        let marked = |mut results: Vec<Result<bool, StoreError>>| told(results.remove(0));
        match place {
            0 => told(self.0.keep(&first).await),
            1 => told(self.0.keep(&kept(1, 1, now().plus_ms(1))).await),
            2 => marked(self.0.mark_fetched(&[first], now().plus_ms(2)).await),
            3 => marked(self.0.mark_fetched(&[first], now().plus_ms(3)).await),
            4 => told(self.0.release(&id, now().plus_ms(4)).await),
            _ => told(self.0.release(&id, now().plus_ms(5)).await),
        }
    }

    async fn view(&self) -> String {
        told(self.0.waiting(&provider_id(), 10, now().plus_ms(10)).await)
    }
}

pub(super) struct Openings<S>(pub(super) S);

impl<S: AvailabilityStore + SlotChangeLog> Scenario for Openings<S> {
    const CALLS: usize = 6;

    async fn call(&self, place_of_call: usize) -> String {
        let (store, at) = (&self.0, |seconds: u64| now().plus_ms(seconds * 1_000));
        let first = said(at(10), vec![slot(1)]);
        let failed = RefreshState { failures: 1, not_before: Some(at(60)) };
        match place_of_call {
            0 => told(store.replace(&place(), &first).await),
            1 => told(store.confirm(&place(), first.content_id(), at(20)).await),
            2 => told(store.record_failure(&place(), failed, at(25)).await),
            3 => told(store.note(&provider_id(), &change(1, 2, at(26))).await),
            4 => told(store.note(&provider_id(), &change(1, 2, at(26))).await),
            _ => told(store.replace(&place(), &said(at(30), vec![slot(2)])).await),
        }
    }

    async fn view(&self) -> String {
        told(self.0.read(&place(), now().minus_ms(60_000)).await)
    }
}

/// Has something check every scenario on the adapters.
macro_rules! every_scenario {
    ($every:expr, $client:expr) => {{
        use holdfast_aws::{DynamoAvailability, DynamoDeliveryStore, DynamoFeed, DynamoMailbox};

        use crate::contract::embedded::{AVAILABILITY_TABLE, DELIVERY_TABLE, bookings_through, entropy};
        use crate::contract::scenarios::{
            Bookings, Breakers, Configuration, Deliveries, Endpoints, Feeds, Limits, Mailboxes, Openings,
            Slots, settings,
        };

        let (every, client) = (&$every, || $client.clone());
        every.check("bookings", Bookings(bookings_through(&client()))).await;
        every.check("slots", Slots(bookings_through(&client()))).await;
        every.check("breakers", Breakers(settings(client()))).await;
        every.check("limits", Limits(settings(client()))).await;
        every.check("configuration", Configuration(settings(client()))).await;
        every.check("endpoints", Endpoints(settings(client()))).await;
        let deliveries = DynamoDeliveryStore::new(client(), DELIVERY_TABLE, entropy());
        every.check("deliveries", Deliveries(deliveries)).await;
        every.check("feeds", Feeds(DynamoFeed::new(client(), DELIVERY_TABLE, entropy()))).await;
        every.check("mailboxes", Mailboxes(DynamoMailbox::new(client(), DELIVERY_TABLE, entropy()))).await;
        every.check("openings", Openings(DynamoAvailability::new(client(), AVAILABILITY_TABLE))).await;
    }};
}
pub(super) use every_scenario;
