//! What availability costs in DynamoDB: one write unit for a refresh that found nothing new, however much there
//! is to say, and half a read unit for an ordinary location.
//!
//! The embedded DynamoDB is asked for the units of every call. That it counts as DynamoDB is documented to is
//! checked here: a write unit for each KB of the larger of what an item was and is, and half a read unit for
//! each 4 KB that a query finds altogether.

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use holdfast_app::ports::{AvailabilityStore, KnownAvailability, Place, RefreshState, SlotChangeLog};
use holdfast_aws::{AwsHooks, DynamoAvailability};
use holdfast_domain::{BookingId, Hold, OpenSlot, Price, Slot, SlotChange, Timestamp, Window, Zone};

use crate::contract::embedded::{AVAILABILITY_TABLE, Embedded, clients_of};
use crate::contract::fixtures::{now, provider_id};
use crate::contract::item_size::item_size;
use crate::contract::metering_proxy::{Call, Meter, metering_proxy};

const LOCATIONS: u64 = 100;
const DAYS: u64 = 21;
const SLOTS_A_DAY: u64 = 24;
const DAY_MS: u64 = 86_400_000;
const HALF_AN_HOUR_MS: u64 = 1_800_000;

fn place(location: u64) -> Place {
    Place { provider_id: provider_id(), location_id: format!("street-{location}") }
}

/// A number that looks like chance and is always the same.
fn scattered(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

/// Three weeks of a location that is open for twelve hours a day. Of every hundred slots some are taken.
fn three_weeks(location: u64, resources: u64, taken: u64, as_of: Timestamp) -> KnownAvailability {
    let zone = Zone::parse("Europe/Rome").unwrap();
    let Window { from, to } = zone.days(zone.date_at(now()), 22);
    let mut slots = Vec::new();
    for number in 0..DAYS * SLOTS_A_DAY * resources {
        let (resource, half_hour) = (number % resources, number / resources);
        let (day, half_hour) = (half_hour / SLOTS_A_DAY, half_hour % SLOTS_A_DAY + 16);
        let start = from.plus_ms(day * DAY_MS + half_hour * HALF_AN_HOUR_MS);
        let is_open = scattered(location * 100_000 + number) % 100 >= taken;
        slots.extend(is_open.then(|| OpenSlot {
            start,
            end: start.plus_ms(HALF_AN_HOUR_MS),
            resource_id: Some(format!("doctor-{resource}").into()),
            service_id: Some("first-visit".into()),
            capacity: Some(1),
            price: Some(Price { amount_minor: 4_950, currency: "EUR".into() }),
            availability_id: None,
        }));
    }
    KnownAvailability { as_of, window: Window { from, to }, zone, slots }
}

/// The same, but for one slot.
fn one_less(said: &KnownAvailability, as_of: Timestamp) -> KnownAvailability {
    let mut said = KnownAvailability { as_of, ..said.clone() };
    said.slots.remove(said.slots.len() / 2);
    said
}

fn taken(said: &KnownAvailability, location: u64, number: u8) -> SlotChange {
    let open = &said.slots[usize::from(number)];
    SlotChange {
        booking_id: BookingId::from_bytes([number; 16]),
        version: 1,
        at: said.as_of,
        slot: Slot {
            location_id: place(location).location_id,
            start: open.start,
            end: open.end,
            resource_id: open.resource_id.as_deref().map(str::to_owned),
            service_id: open.service_id.as_deref().map(str::to_owned),
        },
        units: 1,
        hold: Hold::Taken,
        settles: false,
    }
}

struct World {
    client: holdfast_aws::DynamoDb,
    store: DynamoAvailability,
    meter: Meter,
    embedded: Embedded,
    table: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let embedded = Embedded::start().await;
        let (address, meter) = metering_proxy(embedded.address).await;
        let client = clients_of(address, &AwsHooks::default()).dynamodb;
        let store = DynamoAvailability::new(client.clone(), AVAILABILITY_TABLE);
        Self { client, store, meter, embedded, table: Vec::new() }
    }

    /// The half units of each call since the last time, all of which were of one operation.
    fn half_units(&mut self, what: &str, operation: &str) -> Vec<u64> {
        let calls = self.meter.take();
        assert!(calls.iter().all(|call| call.operation == operation), "{what}: {calls:?}");
        let half_units: Vec<u64> = calls.iter().map(Call::half_units).collect();
        let shown = |half_units: u64| format!("{}.{}", half_units / 2, half_units % 2 * 5);
        let all = half_units.iter().sum();
        let most = half_units.iter().copied().max().unwrap_or_default();
        let row = (half_units.len(), shown(all), shown(most));
        self.table.push(format!(
            "{what:<58} {operation:<11} {:>4} calls {:>6} units, {} a call",
            row.0, row.1, row.2
        ));
        half_units
    }

    /// The sizes of the items at a sort key's beginning, in bytes, the largest last.
    async fn sizes(&self, location: &str, sk: &str) -> Vec<usize> {
        let query = self.embedded.client.query().table_name(AVAILABILITY_TABLE);
        let query = query
            .key_condition_expression("pk = :pk AND begins_with(sk, :sk)")
            .expression_attribute_values(":pk", AttributeValue::S(format!("LOCATION#demo-clinic#{location}")))
            .expression_attribute_values(":sk", AttributeValue::S(sk.to_owned()));
        let items = query.send().await.unwrap().items.unwrap();
        let mut sizes: Vec<usize> = items.iter().map(item_size).collect();
        sizes.sort_unstable();
        sizes
    }
}

fn write_half_units(size: usize) -> u64 {
    2 * u64::try_from(size.div_ceil(1_024)).unwrap()
}

fn read_half_units(size: usize) -> u64 {
    u64::try_from(size.div_ceil(4_096)).unwrap()
}

fn at(minutes: u64) -> Timestamp {
    now().plus_ms(minutes * 60_000)
}

/// A hundred locations, of whose slots a third are taken, and what is remembered of them.
async fn a_hundred_locations(world: &mut World) -> Vec<KnownAvailability> {
    let first: Vec<KnownAvailability> =
        (0..LOCATIONS).map(|location| three_weeks(location, 1, 33, at(0))).collect();
    for (location, said) in (0..).zip(&first) {
        world.store.replace(&place(location), said).await.unwrap();
    }
    assert_eq!(world.half_units("first answer", "PutItem"), [2; 100]);
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_is_one_write_unit_and_half_a_read_unit() {
    let mut world = World::new().await;
    let first = a_hundred_locations(&mut world).await;
    let locations = || (0..).zip(&first);
    for minutes in [5, 10] {
        for (location, _) in locations() {
            world.store.read(&place(location), at(0)).await.unwrap();
        }
        assert_eq!(world.half_units("unchanged refresh: look at what is known", "Query"), [1; 100]);
        for (location, said) in locations() {
            world.store.confirm(&place(location), said.content_id(), at(minutes)).await.unwrap();
        }
        assert_eq!(world.half_units("unchanged refresh", "UpdateItem"), [2; 100]);
    }
    for (location, said) in locations() {
        world.store.replace(&place(location), &one_less(said, at(15))).await.unwrap();
    }
    assert_eq!(world.half_units("changed refresh", "PutItem"), [2; 100]);
    let failed = RefreshState { failures: 1, not_before: Some(at(30)) };
    for location in 0..LOCATIONS {
        world.store.record_failure(&place(location), failed, at(20)).await.unwrap();
    }
    assert_eq!(world.half_units("failed refresh", "UpdateItem"), [2; 100]);
    // The whole of three weeks is no more, for it repeats itself.
    let all_open = three_weeks(0, 1, 0, at(25));
    assert_eq!(all_open.slots.len(), 504);
    world.store.replace(&place(0), &all_open).await.unwrap();
    assert_eq!(world.half_units("changed refresh, all is open", "PutItem"), [2]);
    for (location, slots) in [(0, 504), (7, first[7].slots.len() - 1)] {
        let name = place(location).location_id;
        let (content, pointer) = (world.sizes(&name, "S").await[0], world.sizes(&name, "P").await[0]);
        assert!(content <= 1_024 && pointer <= 1_024);
        world.table.push(format!("{slots} slots: content {content} bytes, pointer {pointer} bytes"));
    }
    println!("{}", world.table.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_noted_change_is_one_write_unit_and_a_location_read_half_a_read_unit() {
    let mut world = World::new().await;
    let first = a_hundred_locations(&mut world).await;
    for (location, said) in (0..).zip(&first) {
        world.store.note(&provider_id(), &taken(said, location, 1)).await.unwrap();
    }
    assert_eq!(world.half_units("noted change", "PutItem"), [2; 100]);
    // Another process has to look first, once a minute.
    let other = DynamoAvailability::new(world.client.clone(), AVAILABILITY_TABLE);
    for (location, said) in (0..).zip(&first) {
        let mut unknown = taken(said, location, 2);
        unknown.slot.location_id.insert_str(0, "unknown-");
        for _ in 0..3 {
            other.note(&provider_id(), &unknown).await.unwrap();
        }
    }
    assert_eq!(world.half_units("three changes where nothing is remembered", "Query"), [1; 300]);
    for (location, said) in (0..).zip(&first).take(50) {
        for number in 2..8 {
            world.store.note(&provider_id(), &taken(said, location, number)).await.unwrap();
        }
    }
    assert_eq!(world.half_units("noted change", "PutItem"), [2; 300]);
    for count in [1, 10, 50] {
        let places: Vec<Place> = (0..count).map(place).collect();
        let read = join_all(places.iter().map(|place| world.store.read(place, at(0)))).await;
        assert!(read.iter().all(|read| read.as_ref().unwrap().changes.len() == 7));
        let half_units = world.half_units(&format!("{count} locations read, 7 changes each"), "Query");
        assert_eq!(half_units, vec![1; usize::try_from(count).unwrap()]);
    }
    let sizes = world.sizes("street-7", "C").await;
    assert!(sizes.iter().all(|size| *size <= 1_024));
    world.table.push(format!("a change: {} bytes", sizes[0]));
    println!("{}", world.table.join("\n"));
}

/// A location with twenty doctors: what changes costs what is said, and what does not costs what it always does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_location_costs_its_size_when_it_changes_and_one_unit_when_it_does_not() {
    let mut world = World::new().await;
    for (location, taken, most_bytes) in [(1, 0, 1_024), (2, 50, 8 * 1_024)] {
        let what = |what: &str| format!("20 doctors, {taken} of 100 slots taken: {what}");
        let said = three_weeks(location, 20, taken, at(0));
        let name = place(location).location_id;
        world.store.replace(&place(location), &said).await.unwrap();
        let half_units = world.half_units(&what("first answer"), "PutItem");
        let first_size = world.sizes(&name, "S").await[0];
        assert_eq!(half_units, [write_half_units(first_size)]);
        world.store.confirm(&place(location), said.content_id(), at(5)).await.unwrap();
        assert_eq!(world.half_units(&what("unchanged refresh"), "UpdateItem"), [2]);
        world.store.replace(&place(location), &one_less(&said, at(10))).await.unwrap();
        let half_units = world.half_units(&what("changed refresh"), "PutItem");
        let size = world.sizes(&name, "S").await[0];
        assert_eq!(half_units, [write_half_units(size.max(first_size))]);
        assert_eq!(
            world.store.read(&place(location), at(0)).await.unwrap().availability.unwrap().slots.len(),
            said.slots.len() - 1
        );
        let half_units = world.half_units(&what("read"), "Query");
        assert_eq!(half_units, [read_half_units(size + world.sizes(&name, "P").await[0])]);
        world.table.push(what(&format!("{} slots, {size} bytes", said.slots.len())));
        assert!(size <= most_bytes, "{size} bytes");
    }
    println!("{}", world.table.join("\n"));
}
