use std::collections::BTreeMap;

use holdfast_domain::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    name: String,
    place: Place,
    at: Timestamp,
    #[serde(default)]
    count: u32,
    kind: Option<Kind>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    rows: Vec<Place>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Place {
    street: String,
    number: u8,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Large,
    VerySmall,
}

fn fine() -> Value {
    json!({"name": "a", "place": {"street": "s", "number": 1}, "at": "2027-01-15T09:00:00Z"})
}

fn errors_of(value: &Value) -> Vec<(String, String)> {
    let problem = parse::<Order>(value).unwrap_err();
    assert_eq!(problem.code, ProblemCode::InvalidRequest);
    let mut errors: Vec<_> = problem.errors.into_iter().map(|error| (error.pointer, error.detail)).collect();
    errors.sort();
    errors
}

#[test]
fn a_fitting_body_is_read() {
    let mut body = fine();
    body["kind"] = json!("very_small");
    body["rows"] = json!([{"street": "t", "number": 255}]);
    body["tags"] = json!({"a": "b"});
    let order: Order = parse(&body).unwrap();
    assert_eq!(order.kind, Some(Kind::VerySmall));
    assert_eq!(order.rows, [Place { street: "t".into(), number: 255 }]);
    assert_eq!(order.name.len() + order.place.street.len() + order.tags.len(), 3);
    assert_eq!(order.at.to_string(), "2027-01-15T09:00:00Z");
    assert_eq!(order.count, 0);
}

#[test]
fn every_error_is_named_at_its_own_pointer() {
    let body = json!({
        "name": 5,
        "place": {"street": null, "number": 256, "zip": "x"},
        "count": -1,
        "kind": "medium",
        "tags": {"a/b~c": 1},
        "rows": [{"street": "t", "number": 1}, {"number": "1"}],
        "extra/field": 1,
    });
    let errors = errors_of(&body);
    let pointers: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/at",
            "/count",
            "/extra~1field",
            "/kind",
            "/name",
            "/place/number",
            "/place/street",
            "/place/zip",
            "/rows/1/number",
            "/rows/1/street",
            "/tags/a~1b~0c",
        ]
    );
    let detail = |pointer: &str| errors.iter().find(|error| error.0 == pointer).unwrap().1.as_str();
    assert_eq!(detail("/at"), "is required");
    assert_eq!(detail("/name"), "must be a string");
    assert_eq!(detail("/kind"), "must be one of large, very_small");
    assert_eq!(detail("/place/zip"), "is not a known field; known are street, number");
    assert_eq!(detail("/count"), "must be a whole number, zero or more, within the limits");
}

#[test]
fn no_value_of_the_body_is_repeated() {
    let mut body = fine();
    body["count"] = json!("ada@example.com");
    body["place"] = json!("ada@example.com, expected ada@example.com");
    body["kind"] = json!("ada@example.com");
    body["at"] = json!("ada@example.com");
    body["tags"] = json!(["ada@example.com"]);
    let problem = parse::<Order>(&body).unwrap_err();
    assert_eq!(problem.errors.len(), 5, "{problem:?}");
    assert!(!format!("{problem:?}").contains("ada@"), "{problem:?}");
}

#[test]
fn an_array_is_no_object() {
    let mut body = fine();
    body["place"] = json!(["s", 1]);
    assert_eq!(errors_of(&body), [("/place".to_owned(), "must be an object".to_owned())]);
    for body in [json!(["a", {}, "2027-01-15T09:00:00Z"]), json!(null), json!("x"), json!(1)] {
        assert_eq!(errors_of(&body), [(String::new(), "must be an object".to_owned())]);
    }
}

#[test]
fn an_answer_may_say_more_than_is_asked_for_but_nothing_else() {
    let mut body = fine();
    body["place"] = json!({"street": "s", "number": 1, "zip": "x"});
    body["rows"] = json!([{"street": "t", "number": 2, "floor": null}]);
    body["extra"] = json!({"any": ["thing"]});
    let order: Order = parse_answer(&body).unwrap();
    assert_eq!(order.place, Place { street: "s".into(), number: 1 });
    assert_eq!(order.rows, [Place { street: "t".into(), number: 2 }]);
    assert!(parse::<Order>(&body).is_err(), "a request may not");

    body["rows"] = json!([{"street": "t", "number": 1}, {"street": "ada@example.com", "number": "ada@"}]);
    let error = parse_answer::<Order>(&body).unwrap_err();
    let detail = "must be a whole number, zero or more, within the limits";
    assert_eq!(error, FieldError::new("/rows/1/number", detail));
    body["place"] = json!(["s", 1]);
    assert_eq!(parse_answer::<Order>(&body).unwrap_err().pointer, "/place");
    body["place"] = json!({"street": "s"});
    assert_eq!(parse_answer::<Order>(&body).unwrap_err(), FieldError::new("/place/number", "is required"));
}

#[test]
fn further_checks_join_in_but_do_not_repeat() {
    let mut body = fine();
    body["name"] = json!(1);
    let mut parsed = parse_checked::<Order>(&body).unwrap();
    parsed.errors.push("/name", "is too short");
    parsed.errors.push("/name/first", "is too short");
    parsed.errors.push("/names", "is odd");
    parsed.errors.push("", "is odd as a whole");
    let (_, errors) = parsed.into_parts();
    let pointers: Vec<&str> = errors.as_slice().iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/name", "/names"]);
    let problem = errors.finish().unwrap_err();
    assert_eq!(problem.detail, "2 fields are not valid; the errors name them.");
}

#[test]
fn the_number_and_length_of_errors_are_bounded() {
    let mut body = fine();
    for number in 0..100 {
        body[format!("unknown{number}")] = json!(1);
    }
    body["é".repeat(1_000)] = json!(1);
    let errors = errors_of(&body);
    assert_eq!(errors.len(), MAX_FIELD_ERRORS);
    assert!(errors.iter().all(|(pointer, _)| pointer.len() <= MAX_POINTER_BYTES));
}

#[test]
fn a_pointer_is_cut_only_if_it_is_too_long_and_never_within_a_character() {
    let pointer = |name: String| {
        let mut body = fine();
        body[name] = json!(1);
        errors_of(&body)[0].0.clone()
    };
    let longest = "n".repeat(MAX_POINTER_BYTES - "/".len());
    assert_eq!(pointer(longest.clone()), format!("/{longest}"));
    assert_eq!(pointer(format!("{longest}n")), format!("/{longest}"));
    let cut = &longest[..longest.len() - 1];
    assert_eq!(pointer(format!("{cut}\u{e9}")), format!("/{cut}"));
}

#[test]
fn an_error_of_the_whole_body_is_told_of_the_body() {
    let told = |pointer: &str| {
        let mut errors = FieldErrors::default();
        errors.push(pointer, "is odd");
        errors.finish().unwrap_err().detail
    };
    assert_eq!(told(""), "The body is odd.");
    assert_eq!(told("/name"), "/name is odd.");
}
