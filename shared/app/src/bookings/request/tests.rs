//! Which bodies of creates are taken.

use serde_json::json;

use super::*;

fn example() -> Value {
    json!({
        "provider_id": "demo-clinic",
        "slot": {
            "location_id": "main-street",
            "start": "2027-01-15T09:00:00Z",
            "end": "2027-01-15T09:30:00Z"
        },
        "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
        "reference": "order-1001"
    })
}

fn pointers(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut body = example();
    change(&mut body);
    let problem = read_create(&body).unwrap_err();
    assert_eq!(problem.code, ProblemCode::InvalidRequest, "{problem}");
    problem.errors.into_iter().map(|error| error.pointer).collect()
}

#[test]
fn the_example_is_valid_and_has_the_defaults() {
    let create = read_create(&example()).unwrap().with_slot(&[], Mode::Test).unwrap();
    assert_eq!(create.sync_timeout_ms, 2_500);
    assert_eq!(create.async_timeout_ms, 900_000);
    assert_eq!(create.patience, Patience::Synchronous);
    assert!(!create.request.hold);
}

#[test]
fn each_field_at_fault_is_named() {
    assert_eq!(pointers(|body| body["provider_id"] = json!("Demo Clinic")), ["/provider_id"]);
    assert_eq!(pointers(|body| body["slot"]["end"] = json!("2027-01-15T09:00:00Z")), ["/slot/end"]);
    assert_eq!(pointers(|body| body["slot"]["start"] = json!("tomorrow")), ["/slot/start"]);
    assert_eq!(pointers(|body| body["slot"]["start"] = json!(5)), ["/slot/start"]);
    assert_eq!(pointers(|body| body["slot"]["end"] = json!(null)), ["/slot/end"]);
    assert_eq!(pointers(|body| body["customer"]["email"] = json!("ada")), ["/customer/email"]);
    assert_eq!(pointers(|body| body["customer"]["name"] = json!("A\u{0}")), ["/customer/name"]);
    assert_eq!(pointers(|body| body["metadata"] = json!({"a/b": "\u{7}"})), ["/metadata/a~1b"]);
    assert_eq!(
        pointers(|body| body["units"] = json!([{"unit_id": "adult", "quantity": 0}])),
        ["/units/0/quantity"]
    );
    assert_eq!(
        pointers(|body| body["sync_confirmation_timeout_millisecond"] = json!(999)),
        ["/sync_confirmation_timeout_millisecond"]
    );
    assert_eq!(
        pointers(|body| body["async_confirmation_timeout_millisecond"] = json!(172_800_001)),
        ["/async_confirmation_timeout_millisecond"]
    );
    assert_eq!(pointers(|body| body["notes"] = json!("x".repeat(1_001))), ["/notes"]);
}

#[test]
fn several_faults_are_named_together() {
    let errors = pointers(|body| {
        body["provider_id"] = json!("");
        body["slot"]["location_id"] = json!(" ");
        body["customer"]["phone"] = json!("none");
    });
    assert_eq!(errors, ["/provider_id", "/slot/location_id", "/customer/phone"]);
}

#[test]
fn slots_must_be_ahead_but_not_too_far() {
    let create = read_create(&example()).unwrap().with_slot(&[], Mode::Test).unwrap();
    let start = create.slot.start;
    assert!(create.refused_at(start.minus_ms(1)).is_none());
    assert_eq!(create.refused_at(start).unwrap().errors[0].pointer, "/slot/start");
    assert!(create.refused_at(start.minus_ms(MAX_SLOT_AHEAD_MS)).is_none());
    assert!(create.refused_at(start.minus_ms(MAX_SLOT_AHEAD_MS + 1)).is_some());
}

fn is_taken(change: impl FnOnce(&mut Value)) -> bool {
    let mut body = example();
    change(&mut body);
    read_create(&body).is_ok()
}

/// Every limit is the last length that is taken; one more is named. Lengths are of characters, not of bytes.
#[test]
fn every_text_may_be_as_long_as_its_limit_and_no_longer() {
    type Field = (&'static str, fn(&mut Value, String), usize);
    let fields: [Field; 9] = [
        ("/slot/location_id", |body, text| body["slot"]["location_id"] = json!(text), MAX_ID_CHARS),
        ("/slot/resource_id", |body, text| body["slot"]["resource_id"] = json!(text), MAX_ID_CHARS),
        ("/slot/service_id", |body, text| body["slot"]["service_id"] = json!(text), MAX_ID_CHARS),
        ("/customer/name", |body, text| body["customer"]["name"] = json!(text), MAX_CUSTOMER_NAME_CHARS),
        ("/customer/phone", |body, text| body["customer"]["phone"] = json!(text + "1"), MAX_PHONE_CHARS - 1),
        ("/metadata/k", |body, text| body["metadata"] = json!({"k": text}), MAX_METADATA_VALUE_CHARS),
        ("/notes", |body, text| body["notes"] = json!(text), MAX_NOTES_CHARS),
        (
            "/units/0/unit_id",
            |body, text| body["units"] = json!([{"unit_id": text, "quantity": 1}]),
            MAX_ID_CHARS,
        ),
        (
            "/customer/email",
            |body, text| body["customer"]["email"] = json!(text + "@a"),
            MAX_EMAIL_CHARS - "@a".len(),
        ),
    ];
    for (pointer, set, most) in fields {
        assert!(is_taken(|body| set(body, "\u{e9}".repeat(most))), "{pointer}");
        for more in [1, 2] {
            assert_eq!(pointers(|body| set(body, "\u{e9}".repeat(most + more))), [pointer]);
        }
    }
    let languages = |chars| move |body: &mut Value| body["customer"]["language"] = json!("a".repeat(chars));
    assert!(is_taken(languages(MAX_LANGUAGE_CHARS)));
    assert_eq!(pointers(languages(MAX_LANGUAGE_CHARS + 1)), ["/customer/language"]);
}

#[test]
fn every_list_may_be_as_long_as_its_limit_and_no_longer() {
    let pairs = |count: usize| {
        let pairs: serde_json::Map<String, Value> =
            (0..count).map(|number| (format!("k{number}"), json!("v"))).collect();
        move |body: &mut Value| body["metadata"] = Value::Object(pairs)
    };
    assert!(is_taken(pairs(0)) && is_taken(pairs(MAX_METADATA_PAIRS)));
    assert_eq!(pointers(pairs(MAX_METADATA_PAIRS + 1)), ["/metadata"]);
    let units = |count: usize, quantity: u32| {
        let units = vec![json!({"unit_id": "adult", "quantity": quantity}); count];
        move |body: &mut Value| body["units"] = Value::Array(units)
    };
    assert!(is_taken(units(0, 1)) && is_taken(units(MAX_UNITS, MAX_UNIT_QUANTITY)));
    for more in [1, 2] {
        assert_eq!(pointers(units(MAX_UNITS + more, 1)), ["/units"]);
    }
    assert_eq!(pointers(units(1, MAX_UNIT_QUANTITY + 1)), ["/units/0/quantity"]);
}

#[test]
fn what_is_told_of_a_customer_has_to_look_like_it() {
    let set = |field: &'static str, text: &'static str| {
        move |body: &mut Value| body["customer"][field] = json!(text)
    };
    for (field, text) in [
        ("email", "ada@example.com"),
        ("email", "a@b@c"),
        ("phone", "+49 30 1"),
        ("birth_date", "1815-12-10"),
        ("language", "de"),
        ("language", "pt-BR"),
    ] {
        assert!(is_taken(set(field, text)), "{field} {text}");
    }
    for (field, text) in [
        ("email", "@example.com"),
        ("email", "ada@"),
        ("phone", "none"),
        ("birth_date", "1815-12-32"),
        ("birth_date", "1815-12-1"),
        ("birth_date", "18151210"),
        ("birth_date", "1815-12-10T00:00"),
        ("language", "de_DE"),
        ("language", "d\u{e9}"),
    ] {
        assert_eq!(pointers(set(field, text)), [format!("/customer/{field}")], "{text}");
    }
}

#[test]
fn notes_may_have_lines_and_tabs_and_no_other_control_characters() {
    assert!(is_taken(|body| body["notes"] = json!("one\r\n\ttwo")));
    assert_eq!(pointers(|body| body["notes"] = json!("\u{7}")), ["/notes"]);
}

#[test]
fn a_slot_lasts_at_most_366_days() {
    let end = |text: &'static str| move |body: &mut Value| body["slot"]["end"] = json!(text);
    assert!(is_taken(end("2028-01-16T09:00:00Z")));
    assert_eq!(pointers(end("2028-01-16T09:00:00.001Z")), ["/slot/end"]);
    assert_eq!(pointers(end("2028-01-16T09:00:00.002Z")), ["/slot/end"]);
}

#[test]
fn a_slot_is_named_by_itself_or_by_a_key() {
    assert_eq!(read_create(&example()).unwrap().slot.key(), None);
    let mut body = example();
    body.as_object_mut().unwrap().remove("slot");
    body["booking_key"] = json!("bk_1");
    assert_eq!(read_create(&body).unwrap().slot.key(), Some("bk_1"));
}

#[test]
fn numbers_are_whole_and_within_their_limits() {
    const LIMIT: &str = "sync_confirmation_timeout_millisecond";
    for odd in
        ["2500.0", "2.5e3", "-2500", "-0", "-0.0", "18446744073709551615", "18446744073709551616", "1e300"]
    {
        let number: Value = serde_json::from_str(odd).unwrap();
        assert_eq!(pointers(|body| body[LIMIT] = number.clone()), [format!("/{LIMIT}")], "{odd}");
        let unit = json!([{"unit_id": "adult", "quantity": number}]);
        assert_eq!(pointers(|body| body["units"] = unit.clone()), ["/units/0/quantity"], "{odd}");
    }
    for odd in [json!("2500"), json!(true), json!([2500]), json!({})] {
        assert_eq!(pointers(|body| body[LIMIT] = odd.clone()), [format!("/{LIMIT}")], "{odd}");
    }
}

#[test]
fn text_that_deceives_is_refused_and_not_repeated() {
    let places =
        ["/reference", "/notes", "/slot/location_id", "/customer/name", "/customer/email", "/metadata/key"];
    for odd in ["a\u{0}b", "a\u{202e}b", "a\u{2066}b@c", "\u{1b}[2Jx@y"] {
        for place in places {
            let mut body = example();
            body["notes"] = json!("none");
            body["metadata"] = json!({"key": "value"});
            *body.pointer_mut(place).unwrap() = json!(odd);
            let problem = read_create(&body).unwrap_err();
            assert_eq!(problem.errors[0].pointer, place, "{odd:?}");
            assert!(!format!("{problem:?}").contains(odd), "{problem:?}");
        }
    }
    // What names a thing has nothing that is not seen; what people are called may.
    assert_eq!(pointers(|body| body["reference"] = json!("order\u{200b}-1")), ["/reference"]);
    assert_eq!(pointers(|body| body["metadata"] = json!({"a\u{feff}": "b"})), ["/metadata/a\u{feff}"]);
    let mut body = example();
    body["customer"]["name"] = json!("क्\u{200d}ष, شاه\u{200c}رخ");
    body["notes"] = json!("one\r\n\ttwo");
    assert!(read_create(&body).is_ok());
}

#[test]
fn text_is_kept_as_it_came() {
    for name in ["Zoë", "Zoe\u{308}"] {
        let mut body = example();
        body["customer"]["name"] = json!(name);
        body["reference"] = json!(name);
        let create = read_create(&body).unwrap();
        assert_eq!(create.request.customer.unwrap().expose().name, name);
        assert_eq!(create.request.reference.as_deref(), Some(name), "nothing is normalised");
    }
}

#[test]
fn times_have_one_form_and_a_range() {
    for odd in [
        "2027-01-15",
        "2027-01-15T09:00:00",
        "2027-01-15T09:00:60Z",
        "2027-01-15T24:00:00Z",
        "2027-02-30T09:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2027-01-15T09:00:00+24:00",
        "2027-01-15T09:00:00Z[UTC]",
        "1768467600",
        "",
    ] {
        assert_eq!(pointers(|body| body["slot"]["start"] = json!(odd)), ["/slot/start"], "{odd}");
    }
    for odd in [json!(1_768_467_600), json!(null), json!(["2027-01-15T09:00:00Z"])] {
        assert_eq!(pointers(|body| body["slot"]["start"] = odd.clone()), ["/slot/start"], "{odd}");
    }
    let mut body = example();
    body["slot"] =
        json!({"location_id": "l", "start": "9999-12-31T23:00:00Z", "end": "9999-12-31T23:59:59.999Z"});
    let create = read_create(&body).unwrap().with_slot(&[], Mode::Test).unwrap();
    let refused = create.refused_at(Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").unwrap()).unwrap();
    assert_eq!(refused.errors[0].detail, "is more than two years ahead");
    for odd in ["2027-1-5", "0000-00-00", "2027-02-30", "20270115", "2027-01-15T00:00:00Z", "+2027-01-15"] {
        let birth = |body: &mut Value| body["customer"]["birth_date"] = json!(odd);
        assert_eq!(pointers(birth), ["/customer/birth_date"], "{odd}");
    }
}
