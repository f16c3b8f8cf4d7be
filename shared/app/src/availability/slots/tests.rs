use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::parse::MAX_FIELD_ERRORS;
use crate::problem::ProblemCode;

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn window() -> Window {
    Window { from: at("2027-01-15T00:00:00Z"), to: at("2027-01-16T00:00:00Z") }
}

fn slot(start: &str, end: &str) -> Value {
    json!({"start": format!("2027-01-15T{start}:00Z"), "end": format!("2027-01-15T{end}:00Z")})
}

fn answer(slots: &[Value]) -> Result<Vec<OpenSlot>, FieldError> {
    read_answer(&json!({"slots": slots}), window())
}

/// What is wrong with a slot that has these members besides or instead.
fn fault(members: &Value) -> FieldError {
    let mut broken = slot("10:00", "10:30");
    for (name, value) in members.as_object().unwrap() {
        broken[name] = value.clone();
    }
    let error = answer(&[slot("09:00", "09:30"), broken.clone()]).unwrap_err();
    let push = read_push(&json!({"location_id": "main", "slots": [slot("09:00", "09:30"), broken]}));
    assert_eq!(push.unwrap_err().errors, std::slice::from_ref(&error), "pushed, the same is wrong with it");
    error
}

#[test]
fn all_of_a_slot_is_read() {
    let full = json!({
        "start": "2027-01-15T10:00:00+01:00", "end": "2027-01-15T09:30:00Z", "resource_id": "room 1",
        "service_id": "checkup", "capacity": 3, "price": {"amount_minor": 4_500, "currency": "EUR"},
    });
    let bare = slot("10:00", "10:30");
    let unlimited = json!({
        "start": "2027-01-15T11:00:00Z", "end": "2027-01-15T11:30:00Z", "capacity": null, "price": null,
        "resource_id": null, "service_id": null,
    });
    let open = |start: &str, capacity| OpenSlot {
        start: at(start),
        end: at(start).plus_ms(1_800_000),
        resource_id: None,
        service_id: None,
        capacity,
        price: None,
        availability_id: None,
    };
    let expected = [
        OpenSlot {
            resource_id: Some(Arc::from("room 1")),
            service_id: Some(Arc::from("checkup")),
            price: Some(Price { amount_minor: 4_500, currency: Arc::from("EUR") }),
            ..open("2027-01-15T09:00:00Z", Some(3))
        },
        open("2027-01-15T10:00:00Z", Some(1)),
        open("2027-01-15T11:00:00Z", None),
    ];
    assert_eq!(answer(&[unlimited.clone(), full.clone(), bare.clone()]).unwrap(), expected);
    let push = read_push(&json!({"location_id": "main", "slots": [bare, unlimited, full]})).unwrap();
    assert_eq!(push, Push { location_id: "main".to_owned(), as_of: None, slots: expected.to_vec() });
}

#[test]
fn what_is_not_open_or_not_asked_for_is_left_out() {
    let mut none_left = slot("10:00", "10:30");
    none_left["capacity"] = json!(0);
    let before = json!({"start": "2027-01-14T23:59:59.999Z", "end": "2027-01-15T09:00:00Z"});
    let first = json!({"start": "2027-01-15T00:00:00Z", "end": "2027-01-15T00:30:00Z"});
    let last = json!({"start": "2027-01-15T23:59:59.999Z", "end": "2027-01-16T09:00:00Z"});
    let after = json!({"start": "2027-01-16T00:00:00Z", "end": "2027-01-16T00:30:00Z"});
    let slots = [none_left, before, first, last, after];
    let starts: Vec<Timestamp> = answer(&slots).unwrap().iter().map(|slot| slot.start).collect();
    assert_eq!(starts, [at("2027-01-15T00:00:00Z"), at("2027-01-15T23:59:59.999Z")]);
    let push = read_push(&json!({"location_id": "main", "slots": slots})).unwrap();
    assert_eq!(push.slots.len(), 4, "a push has no window");
    assert_eq!(answer(&[]).unwrap(), []);
}

#[test]
fn every_fault_is_named_by_its_place_and_not_by_its_value() {
    let long = "ada@example.com".repeat(9);
    for (members, pointer, detail) in [
        (json!({"start": "ada@"}), "start", "is not an RFC 3339 date-time such as 2027-01-15T09:00:00Z"),
        (json!({"start": null}), "start", "must be a string"),
        (
            json!({"end": "2027-01-15T11:00:00"}),
            "end",
            "is not an RFC 3339 date-time such as 2027-01-15T09:00:00Z",
        ),
        (json!({"end": "1969-12-31T11:00:00Z"}), "end", "is outside the years 1970 to 9999"),
        (json!({"end": "2027-01-15T10:00:00Z"}), "end", "must be later than start"),
        (json!({"end": "2027-01-15T09:00:00Z"}), "end", "must be later than start"),
        (json!({"end": "2028-01-17T10:00:00Z"}), "end", "is more than 366 days after start"),
        (json!({"resource_id": " "}), "resource_id", "must not be empty"),
        (json!({"service_id": "ada\n"}), "service_id", "must not have control characters"),
        (json!({"service_id": long}), "service_id", "has 135 characters; at most 128 are allowed"),
        (json!({"capacity": -1}), "capacity", "must be a whole number, zero or more, within the limits"),
        (json!({"capacity": 1.5}), "capacity", "must be a whole number, zero or more, within the limits"),
        (
            json!({"capacity": 4_294_967_296_u64}),
            "capacity",
            "must be a whole number, zero or more, within the limits",
        ),
        (json!({"price": "ada@"}), "price", "must be an object"),
        (json!({"price": {"amount_minor": 1}}), "price/currency", "is required"),
        (
            json!({"price": {"amount_minor": 1, "currency": "eur"}}),
            "price/currency",
            "must be three capital letters, such as EUR",
        ),
        (
            json!({"price": {"amount_minor": 1, "currency": "EURO"}}),
            "price/currency",
            "must be three capital letters, such as EUR",
        ),
        (
            json!({"price": {"amount_minor": 1, "currency": "É1"}}),
            "price/currency",
            "must be three capital letters, such as EUR",
        ),
        (
            json!({"price": {"amount_minor": MAX_AMOUNT_MINOR + 1, "currency": "EUR"}}),
            "price/amount_minor",
            "must be at most 9007199254740991",
        ),
    ] {
        assert_eq!(fault(&members), FieldError::new(format!("/slots/1/{pointer}"), detail), "{members}");
    }
}

#[test]
fn a_slot_may_be_as_long_and_as_dear_as_the_limits_and_no_more() {
    let long = |end: &str| json!({"start": "2027-01-15T10:00:00Z", "end": end});
    assert!(answer(&[long("2028-01-16T10:00:00Z")]).is_ok());
    assert!(answer(&[long("2028-01-16T10:00:00.001Z")]).is_err());
    let dear = |amount_minor: u64| {
        let mut slot = slot("10:00", "10:30");
        slot["price"] = json!({"amount_minor": amount_minor, "currency": "EUR"});
        slot
    };
    assert!(answer(&[dear(MAX_AMOUNT_MINOR)]).is_ok());
    assert!(answer(&[dear(MAX_AMOUNT_MINOR + 1)]).is_err());
}

#[test]
fn a_slot_that_is_not_wanted_has_to_be_right_too() {
    let outside = json!({"start": "2027-03-15T10:00:00Z", "end": "2027-03-15T09:00:00Z"});
    assert_eq!(answer(&[outside]).unwrap_err().pointer, "/slots/0/end");
    let mut none_left = slot("10:00", "09:00");
    none_left["capacity"] = json!(0);
    assert_eq!(answer(&[none_left]).unwrap_err().pointer, "/slots/0/end");
}

#[test]
fn the_same_slot_is_there_once_and_in_the_same_words() {
    let (early, late) = (slot("09:00", "09:30"), slot("10:00", "10:30"));
    assert_eq!(answer(&[late.clone(), early.clone(), late.clone()]).unwrap().len(), 2);

    let mut more = late.clone();
    more["capacity"] = json!(2);
    let error = answer(&[late.clone(), early.clone(), more.clone()]).unwrap_err();
    assert_eq!(error, FieldError::new("/slots/2", "contradicts /slots/0, which is the same slot"));

    let (mut other_end, mut other_room) = (late.clone(), late.clone());
    other_end["end"] = json!("2027-01-15T11:00:00Z");
    other_room["resource_id"] = json!("2");
    assert_eq!(answer(&[late, other_room, other_end]).unwrap().len(), 3);
}

#[test]
fn an_answer_may_say_more_and_a_push_may_not() {
    let mut slot = slot("09:00", "09:30");
    slot["title"] = json!("x");
    slot["price"] = json!({"amount_minor": 1, "currency": "EUR", "net": 1});
    slot["availability_id"] = json!("a");
    let body = json!({"location_id": "main", "slots": [slot], "next": null});
    let [read] = <[OpenSlot; 1]>::try_from(read_answer(&body, window()).unwrap()).unwrap();
    assert_eq!(read.availability_id, None);
    let problem = read_push(&body).unwrap_err();
    let mut pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/next", "/slots/0/availability_id", "/slots/0/price/net", "/slots/0/title"]);
}

#[test]
fn a_push_is_told_of_everything_that_is_wrong() {
    let body = json!({"location_id": "", "slots": [
        {"start": 5, "end": "1999-01-15T09:00:00Z", "capacity": "x"},
        {"start": "2027-01-15T09:00:00Z", "price": {"currency": "eur"}},
    ]});
    let problem = read_push(&body).unwrap_err();
    assert_eq!(problem.code, ProblemCode::InvalidRequest);
    let mut pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/location_id",
            "/slots/0/capacity",
            "/slots/0/start",
            "/slots/1/end",
            "/slots/1/price/amount_minor",
            "/slots/1/price/currency",
        ]
    );
    let all_wrong = vec![slot("10:00", "09:00"); 100];
    let problem = read_push(&json!({"location_id": "main", "slots": all_wrong})).unwrap_err();
    assert_eq!(problem.errors.len(), MAX_FIELD_ERRORS);
    for odd in [json!(null), json!([]), json!({}), json!({"location_id": "main"}), json!({"slots": {}})] {
        assert_eq!(read_push(&odd).unwrap_err().code, ProblemCode::InvalidRequest, "{odd}");
        assert!(read_answer(&odd, window()).is_err(), "{odd}");
    }
}

#[test]
fn a_list_has_an_end() {
    let many = |count| json!({"location_id": "main", "slots": vec![slot("09:00", "09:30"); count]});
    assert_eq!(read_answer(&many(MAX_SLOTS), window()).unwrap().len(), 1);
    let error = read_answer(&many(MAX_SLOTS + 1), window()).unwrap_err();
    assert_eq!(error, FieldError::new("/slots", "has 20001 entries; at most 20000 are allowed"));
    assert_eq!(read_push(&many(MAX_SLOTS + 1)).unwrap_err().errors, [error]);
}

#[test]
fn slots_of_another_form_are_named_by_their_own_places() {
    let form = |start: &str, availability_id: &str| SlotForm {
        start: start.to_owned(),
        end: "2027-01-15T12:00:00Z".to_owned(),
        resource_id: None,
        service_id: None,
        capacity: None,
        price: None,
        availability_id: Some(availability_id.to_owned()),
    };
    let slots = read_slots([(4, form("2027-01-15T09:00:00Z", "a-1"))], window()).unwrap();
    assert_eq!(slots[0].availability_id.as_deref(), Some("a-1"));
    let error = read_slots([(4, form("2027-01-15T13:00:00Z", "a-1"))], window()).unwrap_err();
    assert_eq!(error.pointer, "/4/end");
    let error = read_slots([(4, form("2027-01-15T09:00:00Z", ""))], window()).unwrap_err();
    assert_eq!(error, FieldError::new("/4/availability_id", "must not be empty"));
    let two = [(4, form("2027-01-15T09:00:00Z", "a-1")), (7, form("2027-01-15T09:00:00Z", "a-2"))];
    let error = read_slots(two, window()).unwrap_err();
    assert_eq!(error, FieldError::new("/7", "contradicts /4, which is the same slot"));
}

/// A value of any kind.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|flag| json!(flag)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        "\\PC{0,8}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..3).prop_map(|items| json!(items));
        let object =
            prop::collection::btree_map("[a-z/~]{0,3}", inner, 0..3).prop_map(|fields| json!(fields));
        prop_oneof![list, object]
    })
}

/// A slot, and sometimes one with a member that may be anything.
fn nearly_a_slot() -> impl Strategy<Value = Value> {
    let member = prop::sample::select(vec![
        "start",
        "end",
        "resource_id",
        "service_id",
        "capacity",
        "price",
        "availability_id",
        "other",
    ]);
    let odd = prop::option::weighted(0.2, (member, anything()));
    (0..4_u64, 1..4_u64, 0..3_u32, 0..2_usize, odd).prop_map(|(hour, length, capacity, service, odd)| {
        let start = at("2027-01-14T22:00:00Z").plus_ms(hour * 3_600_000);
        let end = start.plus_ms(length * 3_600_000);
        let service_id = ["checkup", "x-ray"][service];
        let mut slot = json!({"start": start, "end": end, "capacity": capacity, "service_id": service_id});
        if let Some((name, value)) = odd {
            slot[name] = value;
        }
        slot
    })
}

fn nearly_a_push() -> impl Strategy<Value = Value> {
    let slots = prop::collection::vec(nearly_a_slot(), 0..6);
    let body = slots.prop_map(|slots| json!({"location_id": "main", "slots": slots}));
    prop_oneof![9 => body, 1 => anything()]
}

proptest! {
    #[test]
    fn reading_is_total_and_keeps_its_promises(body in nearly_a_push()) {
        let push = read_push(&body);
        if let Ok(slots) = read_answer(&body, window()) {
            prop_assert!(slots.iter().all(|slot| window().has(slot.start) && slot.end > slot.start));
            prop_assert!(slots.iter().all(|slot| slot.capacity != Some(0)));
            prop_assert!(slots.windows(2).all(|pair| pair[0].order() < pair[1].order()));
        } else {
            prop_assert!(push.is_err(), "what an answer may not say, a push may not");
        }
        if let Ok(push) = push {
            prop_assert!(push.slots.windows(2).all(|pair| pair[0].order() < pair[1].order()));
        }
    }
}

#[test]
fn a_push_may_say_when_it_was_so() {
    let push = |as_of: Value| read_push(&json!({"location_id": "main", "as_of": as_of, "slots": []}));
    let at = Timestamp::parse_rfc3339("2027-01-15T09:00:00Z").ok();
    assert_eq!(push(json!("2027-01-15T10:00:00+01:00")).unwrap().as_of, at);
    for odd in [json!("now"), json!(5)] {
        assert_eq!(push(odd).unwrap_err().errors[0].pointer, "/as_of");
    }
}
