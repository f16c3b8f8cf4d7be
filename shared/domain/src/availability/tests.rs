//! What bookings do to slots, and what is open after that.

use proptest::prelude::*;

use super::*;
use crate::{BookingRequest, Customer, Mode, NotificationRoute, Personal, ProviderId, Tenant, UnitQuantity};

fn at(second: u64) -> Timestamp {
    Timestamp::EPOCH.plus_ms(1_000_000 + second * 10_000)
}

fn slot(start_s: u64) -> Slot {
    Slot {
        location_id: "main".to_owned(),
        start: Timestamp::EPOCH.plus_ms(100_000_000 + start_s * 1_000),
        end: Timestamp::EPOCH.plus_ms(100_000_000 + start_s * 1_000 + 1_800_000),
        resource_id: None,
        service_id: None,
    }
}

fn open(slot: &Slot, capacity: Option<u32>) -> OpenSlot {
    OpenSlot {
        start: slot.start,
        end: slot.end,
        resource_id: slot.resource_id.as_deref().map(Arc::from),
        service_id: slot.service_id.as_deref().map(Arc::from),
        capacity,
        price: None,
        availability_id: None,
    }
}

/// A change of version and second `when`.
fn change(booking: u8, when: u32, hold: Hold) -> SlotChange {
    SlotChange {
        booking_id: BookingId::from_bytes([booking; 16]),
        version: when,
        at: at(when.into()),
        slot: slot(0),
        units: 1,
        hold,
        settles: false,
    }
}

/// The capacity that is left of three after these changes, given what was said at second 10; `None`: gone.
fn left(changes: &[SlotChange]) -> Option<u32> {
    let said = [open(&slot(0), Some(3))];
    let open = open_after(&said, at(10), changes, false);
    open.first().map(|slot| slot.capacity.unwrap())
}

#[test]
fn only_what_happened_after_the_answer_corrects_it() {
    use Hold::{Claimed, Dropped, GivenBack, Taken};
    let cases: [(&[(u32, Hold)], u32); 17] = [
        (&[], 3),
        // Before: the answer has it.
        (&[(5, Taken)], 3),
        (&[(5, Taken), (6, GivenBack)], 3),
        // After: it is taken off, once.
        (&[(11, Taken)], 2),
        (&[(11, Taken), (12, Taken)], 2),
        (&[(5, Taken), (11, Taken)], 2),
        (&[(11, Taken), (12, GivenBack)], 3),
        (&[(11, Taken), (12, Dropped)], 3),
        // It was had then, and is no more.
        (&[(5, Taken), (11, GivenBack)], 4),
        (&[(5, Taken), (11, GivenBack), (12, Taken)], 3),
        (&[(5, Taken), (11, GivenBack), (12, Taken), (13, Dropped)], 4),
        // It was only wanted, and nobody knows that the answer lacks it.
        (&[(5, Taken), (11, Dropped)], 3),
        // What is claimed is taken off whatever was said since, until something else is known.
        (&[(5, Claimed)], 2),
        (&[(5, Claimed), (6, Taken)], 3),
        (&[(5, Claimed), (11, Taken)], 2),
        (&[(5, Claimed), (6, Dropped)], 3),
        (&[(5, Claimed), (11, Dropped)], 3),
    ];
    for (history, expected) in cases {
        let mut changes: Vec<SlotChange> =
            history.iter().map(|(when, hold)| change(1, *when, *hold)).collect();
        assert_eq!(left(&changes), Some(expected), "{history:?}");
        changes.reverse();
        changes.extend(changes.clone());
        assert_eq!(left(&changes), Some(expected), "in any order, twice: {history:?}");
    }
}

#[test]
fn what_was_taken_just_before_the_answer_is_taken_off_to_be_sure() {
    let taken_before = |ms: u64| SlotChange { at: at(10).minus_ms(ms), ..change(1, 9, Hold::Taken) };
    assert_eq!(left(&[taken_before(TAKEN_MARGIN_MS - 1)]), Some(2));
    assert_eq!(left(&[taken_before(TAKEN_MARGIN_MS)]), Some(3));
    // But nothing is given back to be sure.
    let given_back = SlotChange { at: at(10), ..change(1, 10, Hold::GivenBack) };
    assert_eq!(left(&[change(1, 5, Hold::Taken), given_back.clone()]), Some(3));
    assert_eq!(left(&[taken_before(1), given_back]), Some(3));
}

#[test]
fn bookings_add_up_and_the_last_place_closes_the_slot() {
    let changes: Vec<SlotChange> = (1..=3).map(|booking| change(booking, 11, Hold::Taken)).collect();
    assert_eq!(left(&changes[..2]), Some(1));
    assert_eq!(left(&changes), None);
    let many = SlotChange { units: 3, ..change(1, 11, Hold::Taken) };
    assert_eq!(left(&[many]), None);
    let unlimited = [open(&slot(0), None)];
    assert_eq!(open_after(&unlimited, at(10), &changes, false).as_ref(), unlimited);
    assert!(open_after(&unlimited, at(10), &changes, true).is_empty(), "exclusive slots are for one");
}

#[test]
fn a_slot_that_the_answer_lacks_is_open_again_when_it_is_given_back() {
    let back = [change(1, 11, Hold::GivenBack)];
    assert_eq!(open_after(&[], at(10), &back, false).as_ref(), [open(&slot(0), Some(1))]);
    assert!(open_after(&[], at(12), &back, false).is_empty());
    // Unless somebody else has it by now.
    let both = [back[0].clone(), change(2, 12, Hold::Taken)];
    assert!(open_after(&[], at(10), &both, false).is_empty());
    let later = [open(&slot(3_600), Some(1))];
    let open = open_after(&later, at(10), &back, false);
    assert!(open.windows(2).all(|pair| pair[0].order() < pair[1].order()));
    assert_eq!(open.len(), 2);
}

#[test]
fn a_slot_is_told_by_time_resource_and_service() {
    let of = |resource: Option<&str>, service: Option<&str>| Slot {
        resource_id: resource.map(str::to_owned),
        service_id: service.map(str::to_owned),
        ..slot(0)
    };
    let open = open(&of(Some("dr-a"), Some("checkup")), Some(1));
    let taken =
        |slot: &Slot| (open.is_taken_by(slot, false), open.is_taken_by(slot, true), open.offers(slot));
    assert_eq!(taken(&of(Some("dr-a"), Some("checkup"))), (true, true, true));
    assert_eq!(taken(&of(Some("dr-a"), None)), (true, true, true));
    assert_eq!(taken(&of(Some("dr-a"), Some("x-ray"))), (false, true, false));
    assert_eq!(taken(&of(Some("dr-b"), Some("checkup"))), (false, false, false));
    assert_eq!(taken(&of(None, None)), (false, false, true), "whoever asks for no one in particular");
    assert_eq!(taken(&Slot { start: at(0), ..of(Some("dr-a"), None) }), (false, false, false));
    assert!(open.has_room_for(1) && !open.has_room_for(2));
}

#[test]
fn a_booking_that_names_no_one_takes_the_only_slot_that_it_can_be_about() {
    let with = |doctor: &str| OpenSlot { resource_id: Some(doctor.into()), ..open(&slot(0), Some(1)) };
    let taken = [change(1, 11, Hold::Taken)];
    assert!(open_after(&[with("dr-a")], at(10), &taken, false).is_empty());
    let both = [with("dr-a"), with("dr-b")];
    assert_eq!(open_after(&both, at(10), &taken, false).as_ref(), both, "nobody knows which");
    let of_a = Slot { resource_id: Some("dr-a".to_owned()), ..slot(0) };
    let taken = [SlotChange { slot: of_a, ..change(1, 11, Hold::Taken) }];
    assert_eq!(open_after(&both, at(10), &taken, false).as_ref(), &both[1..]);
    let of_nobody = [open(&slot(0), Some(1))];
    assert!(open_after(&of_nobody, at(10), &taken, false).is_empty());
}

fn accepted(units: Vec<UnitQuantity>) -> Booking {
    let request = BookingRequest {
        provider_id: ProviderId::parse("clinic").unwrap(),
        customer: Some(Personal::new(Customer {
            name: "Ada".to_owned(),
            email: None,
            phone: None,
            birth_date: None,
            language: None,
        })),
        reference: None,
        notes: None,
        metadata: BTreeMap::new(),
        units,
        hold: false,
        availability_id: None,
    };
    let tenant = Tenant { consumer_id: crate::ConsumerId::parse("shop").unwrap(), mode: Mode::Test };
    let id = BookingId::from_bytes([1; 16]);
    Booking::accepted(id, tenant, request, slot(0), NotificationRoute::Push, at(1))
}

#[test]
fn a_booking_that_is_accepted_takes_its_units() {
    let units = [("adult", 2), ("child", 1)];
    let units = units.map(|(id, quantity)| UnitQuantity { unit_id: id.to_owned(), quantity });
    let booking = accepted(units.to_vec());
    let claimed = SlotChange { units: 3, version: 2, at: at(1), ..change(1, 2, Hold::Claimed) };
    assert_eq!(slot_changes(None, &booking), std::slice::from_ref(&claimed));
    // Once its provider was told, the provider's word is as good.
    let mut told = booking.clone();
    told.notifications.clear();
    let taken = SlotChange { hold: Hold::Taken, settles: true, ..claimed };
    assert_eq!(slot_changes(Some(&booking), &told), [taken]);
    assert_eq!(slot_changes(Some(&booking), &booking), []);
    assert_eq!(slot_changes(None, &accepted(Vec::new()))[0].units, 1);
}

proptest! {
    /// Whatever the histories: nothing is shown with less than one place, in the wrong order, or beyond what
    /// the changes can account for.
    #[test]
    fn what_is_open_is_sound(
        capacity in 1..5_u32,
        asked_at in 0..30_u64,
        histories in prop::collection::vec(
            (1..4_u8, 0..30_u32, prop::sample::select(vec![Hold::Claimed, Hold::Taken, Hold::GivenBack, Hold::Dropped])),
            0..20,
        ),
        is_exclusive in any::<bool>(),
    ) {
        let changes: Vec<SlotChange> =
            histories.iter().map(|(booking, when, hold)| change(*booking, *when, *hold)).collect();
        let said = [open(&slot(0), Some(capacity)), open(&slot(3_600), Some(1))];
        let open = open_after(&said, at(asked_at), &changes, is_exclusive);
        prop_assert!(open.iter().all(|slot| slot.capacity.is_some_and(|capacity| capacity > 0)));
        prop_assert!(open.contains(&said[1]), "a slot that nobody touched is as it was");
        let left = open.iter().find(|open| open.start == said[0].start).map_or(0, |slot| slot.capacity.unwrap());
        prop_assert!(left <= capacity + 3);
        let mut shuffled = changes.clone();
        shuffled.reverse();
        shuffled.extend(changes.clone());
        let mut sorted: Vec<_> = changes.iter().map(|c| (c.booking_id.clone(), c.version)).collect();
        sorted.sort();
        sorted.dedup();
        // Two changes of one version contradict each other, which bookings do not.
        if sorted.len() == changes.len() {
            prop_assert_eq!(open_after(&said, at(asked_at), &shuffled, is_exclusive), open);
        }
    }
}
