//! A process that answers the whole API, and what is around it.

use availability::Service as AvailabilityService;
use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use booking::Service as BookingService;
use holdfast_app::auth::hash_key;
use holdfast_app::availability::Availability;
use holdfast_app::bookings::{Breakers, Engine};
use holdfast_app::manage::TargetRules;
use holdfast_app::ports::Clock;
use holdfast_app::rates::RequestRates;
use holdfast_app::repair::Repair;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::{
    MemoryBus, MemoryDeadLetters, MemoryDeliveries, MemoryOpenings, MemoryParking, MemoryTimers,
    SeededEntropy, TestClock,
};
use holdfast_aws::{
    DynamoAvailability, DynamoBookingStore, DynamoDeliveryStore, DynamoFeed, DynamoMailbox, DynamoSettings,
};
use holdfast_lambda::Context;
use holdfast_lambda::http::serve;
use manage::{Manage, Stores, Webhooks};
use provider_callback::Service as CallbackService;
use repair::Service as RepairService;
use serde_json::Value;

use super::world::ADMIN;
use crate::contract::embedded::{
    AVAILABILITY_TABLE, CONFIG_TABLE, DELIVERY_TABLE, bookings_through, entropy,
};
use crate::contract::outside::Outside;

type TestManage = Manage<
    DynamoSettings,
    DynamoAvailability,
    DynamoFeed,
    DynamoDeliveryStore,
    MemoryDeliveries,
    Outside,
    TestClock,
    SeededEntropy,
>;

type TestBooking = BookingService<
    DynamoBookingStore,
    Outside,
    DynamoSettings,
    DynamoSettings,
    DynamoAvailability,
    TestClock,
    SeededEntropy,
>;

type TestCallback =
    CallbackService<DynamoBookingStore, DynamoMailbox, DynamoAvailability, DynamoSettings, TestClock>;

type TestRepair = RepairService<
    DynamoSettings,
    DynamoBookingStore,
    DynamoSettings,
    MemoryDeadLetters,
    MemoryTimers,
    MemoryBus,
    DynamoMailbox,
    MemoryParking,
    TestClock,
    SeededEntropy,
>;

type TestAvailability =
    AvailabilityService<DynamoAvailability, MemoryOpenings, DynamoSettings, TestClock, SeededEntropy>;

/// What is around a process, besides the tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    pub(super) outside: Outside,
    pub(super) openings: MemoryOpenings,
    pub(super) replays: MemoryDeliveries,
    pub(super) bus: MemoryBus,
    pub(super) timers: MemoryTimers,
}

/// A process that answers the whole API.
pub(super) struct Process {
    booking: TestBooking,
    callback: TestCallback,
    availability: TestAvailability,
    manage: TestManage,
    repair: TestRepair,
}

impl Process {
    pub(super) fn start(client: &holdfast_aws::DynamoDb, clock: TestClock, around: &Around) -> Self {
        let Around { outside, openings, replays, bus, timers } = around;
        let client = || client.clone();
        let settings = || DynamoSettings::new(client(), CONFIG_TABLE, entropy());
        let open = || DynamoAvailability::new(client(), AVAILABILITY_TABLE);
        let random = || entropy().as_ref().clone();
        let engine = Engine::new(
            bookings_through(&client()),
            outside.clone(),
            Breakers::new(settings()),
            clock,
            random(),
        );
        let stores = Stores {
            settings: settings(),
            availability: open(),
            feed: DynamoFeed::new(client(), DELIVERY_TABLE, entropy()),
        };
        let webhooks = Webhooks {
            log: DynamoDeliveryStore::new(client(), DELIVERY_TABLE, entropy()),
            replays: replays.clone(),
            sender: outside.clone(),
        };
        let rules = TargetRules { allow_plain_http: false };
        Self {
            booking: BookingService {
                engine,
                settings: SettingsCache::new(settings()),
                availability: open(),
                rates: RequestRates::default(),
                counter: settings(),
                clock,
            },
            callback: CallbackService {
                store: bookings_through(&client()),
                mailbox: DynamoMailbox::new(client(), DELIVERY_TABLE, entropy()),
                availability: open(),
                settings: SettingsCache::new(settings()),
                locations: settings(),
                clock,
            },
            availability: AvailabilityService {
                availability: Availability::new(open(), openings.clone(), settings(), clock, random()),
                configuration: settings(),
                settings: SettingsCache::new(settings()),
                rates: RequestRates::default(),
                clock,
                entropy: random(),
            },
            manage: Manage::new(stores, webhooks, vec![hash_key(ADMIN)], rules, clock, random()),
            repair: RepairService {
                settings: SettingsCache::new(settings()),
                admins: vec![hash_key(ADMIN)],
                repair: Repair {
                    bookings: bookings_through(&client()),
                    audit: settings(),
                    letters: MemoryDeadLetters::new(),
                    timers: timers.clone(),
                    bus: bus.clone(),
                    mailbox: DynamoMailbox::new(client(), DELIVERY_TABLE, entropy()),
                    parking: MemoryParking::new(),
                    clock,
                    entropy: random(),
                },
            },
        }
    }

    /// The answer of whichever function the template gives a call to.
    pub(super) async fn answer(
        &self,
        raw_path: &str,
        event: &Value,
        clock: TestClock,
    ) -> ApiGatewayV2httpResponse {
        let deadline_unix_ms = u64::try_from(clock.now().as_unix_ms()).unwrap() + 29_000;
        let context = Context { deadline_unix_ms, ..Context::default() };
        let event = event.to_string();
        let Self { booking, callback, availability, manage, repair } = self;
        macro_rules! by {
            ($function:path, $service:expr) => {{
                use $function as function;
                // On the heap: unoptimized, the futures are larger than the stack of a test.
                let handler = |request, routed| Box::pin($service.handle(request, routed));
                Box::pin(serve(&function::router().unwrap(), &handler, event.as_bytes(), &context, &clock))
                    .await
            }};
        }
        if raw_path.starts_with("/v1/bookings") {
            by!(::booking, booking)
        } else if raw_path.starts_with("/v1/provider") {
            by!(::provider_callback, callback)
        } else if raw_path.starts_with("/v1/availability") {
            by!(::availability, availability)
        } else if is_repair(raw_path) {
            by!(::repair, repair)
        } else {
            by!(::manage, manage)
        }
    }
}

/// Whether the function for repairs answers this path.
pub(super) fn is_repair(path: &str) -> bool {
    [
        "/v1/admin/stuck",
        "/v1/admin/audit",
        "/v1/admin/dead-letters",
        "/v1/admin/re-emit",
        "/v1/admin/bookings",
    ]
    .iter()
    .any(|prefix| path.starts_with(prefix))
}
