//! The API's description (`infra/openapi.yaml`), and whether requests and answers are as it says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value, json};

/// The methods that a path of the description may have.
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// What routing itself answers, of any path.
const NOT_FOUND: u16 = 404;
const METHOD_NOT_ALLOWED: u16 = 405;

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| Description::read("openapi.yaml"));

/// A description, with the validators that were needed so far.
pub(crate) struct Description {
    pub(crate) root: Value,
    validators: Mutex<BTreeMap<String, Validator>>,
}

/// An exchange, as it went over the wire.
pub(crate) struct Exchange<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// The names of the query's parameters.
    pub(crate) query: Vec<String>,
    /// The request's body; null if there was none, or it was no JSON.
    pub(crate) body: Value,
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// The answer's body; null if there is none, or it is no JSON.
    pub(crate) answer: &'a Value,
}

/// A document of the project's, from the folder `infra`.
pub(crate) fn document(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra").join(name);
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The description of the API.
pub(crate) fn description() -> &'static Description {
    &DESCRIPTION
}

impl Description {
    fn read(name: &str) -> Self {
        Self { root: document(name), validators: Mutex::default() }
    }

    /// Every call: method in capitals, path, and the call itself.
    pub(crate) fn calls(&self) -> Vec<(String, String, &Value)> {
        let paths = self.root["paths"].as_object().unwrap();
        let calls = paths.iter().flat_map(|(path, item)| {
            let of_path = METHODS.iter().filter_map(move |method| Some((*method, item.get(*method)?)));
            of_path.map(move |(method, call)| (method.to_ascii_uppercase(), path.clone(), call))
        });
        calls.collect()
    }

    /// What a reference stands for; what is none stands for itself.
    pub(crate) fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return value };
        let found = self.root.pointer(reference.trim_start_matches('#'));
        self.resolved(found.unwrap_or_else(|| panic!("{reference} is nowhere")))
    }

    /// The template of the described path that a path is of. What is literal goes before what is not.
    fn template(&self, path: &str) -> Option<&str> {
        let wanted: Vec<&str> = path.split('/').collect();
        let is_of = |template: &&String| {
            let parts: Vec<&str> = template.split('/').collect();
            let fits =
                |(part, text): (&&str, &&str)| part == text || part.starts_with('{') && !text.is_empty();
            parts.len() == wanted.len() && parts.iter().zip(&wanted).all(fits)
        };
        let paths = self.root["paths"].as_object().unwrap();
        paths.keys().filter(is_of).min_by_key(|path| path.matches('{').count()).map(String::as_str)
    }

    /// What is described of a path, and of a method of it.
    pub(crate) fn call(&self, method: &str, path: &str) -> Option<(&Value, &Value)> {
        let item = &self.root["paths"][self.template(path)?];
        Some((item, item.get(method.to_ascii_lowercase())?))
    }

    /// Whether a value is as a schema of the description says. `is_closed`: it has no members but those named.
    pub(crate) fn faults(&self, schema: &Value, value: &Value, is_closed: bool) -> Vec<String> {
        let key = format!("{is_closed}{schema}");
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = validators.entry(key).or_insert_with(|| {
            let schema = if is_closed { self.closed(schema, false) } else { self.inlined(schema) };
            let mut options = jsonschema::options();
            options = options.with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
            options.build(&schema).unwrap_or_else(|error| panic!("{error} in {schema:#}"))
        });
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    /// A schema without references. None of them is recursive.
    fn inlined(&self, schema: &Value) -> Value {
        match schema {
            Value::Object(members) => {
                let mut all = Map::new();
                if let Some(reference) = members.get("$ref") {
                    let target = self.inlined(self.resolved(&json!({"$ref": reference})));
                    all.insert("allOf".to_owned(), json!([target]));
                }
                for (name, member) in members.iter().filter(|(name, _)| *name != "$ref") {
                    let member = self.inlined(member);
                    match all.get_mut(name).and_then(Value::as_array_mut) {
                        Some(known) if name == "allOf" => known.extend(member.as_array().unwrap().clone()),
                        _ => {
                            all.insert(name.clone(), member);
                        }
                    }
                }
                Value::Object(all)
            }
            Value::Array(items) => items.iter().map(|item| self.inlined(item)).collect(),
            _ => schema.clone(),
        }
    }

    /// A schema without references whose objects have no members but those that are named. `is_part`: others add to
    /// what it names.
    fn closed(&self, schema: &Value, is_part: bool) -> Value {
        let schema = self.resolved(schema);
        let Value::Object(members) = schema else { return schema.clone() };
        let mut closed: Map<String, Value> = Map::new();
        for (name, member) in members {
            let member = match (name.as_str(), member) {
                ("properties", Value::Object(properties)) => {
                    let each =
                        |(name, property): (&String, &Value)| (name.clone(), self.closed(property, false));
                    Value::Object(properties.iter().map(each).collect())
                }
                ("allOf", Value::Array(parts)) => parts.iter().map(|part| self.closed(part, true)).collect(),
                ("anyOf" | "oneOf", Value::Array(parts)) => {
                    parts.iter().map(|part| self.closed(part, is_part)).collect()
                }
                ("items" | "additionalProperties", member) => self.closed(member, false),
                (_, member) => self.inlined(member),
            };
            closed.insert(name.clone(), member);
        }
        let names_members = closed.contains_key("properties") || closed.contains_key("allOf");
        if names_members && !is_part && !closed.contains_key("additionalProperties") {
            closed.insert("unevaluatedProperties".to_owned(), json!(false));
        }
        Value::Object(closed)
    }

    /// Panics if an exchange is not as it is described.
    pub(crate) fn check(&self, exchange: &Exchange<'_>) {
        let faults = self.faults_of(exchange);
        let Exchange { method, path, status, answer, .. } = exchange;
        assert!(faults.is_empty(), "{method} {path} is not as described: {faults:#?}: {status} {answer:#}");
    }

    /// What is not as it is described.
    pub(crate) fn faults_of(&self, exchange: &Exchange<'_>) -> Vec<String> {
        let method = if exchange.method == "HEAD" { "GET" } else { exchange.method };
        let is_head = exchange.method == "HEAD";
        let call = self.call(method, exchange.path);
        let problem = json!({"$ref": "#/components/schemas/Problem"});
        let Some((item, call)) = call else {
            let is_told = [NOT_FOUND, METHOD_NOT_ALLOWED].contains(&exchange.status);
            let mut faults = self.faults(&problem, exchange.answer, true);
            if !is_told {
                faults.push(format!("{} where nothing is described", exchange.status));
            }
            return faults;
        };
        let Some(response) = call["responses"].get(exchange.status.to_string()) else {
            return vec![format!("{} is not among the answers of {}", exchange.status, call["operationId"])];
        };
        let mut faults = self.answer_faults(self.resolved(response), exchange, is_head);
        if exchange.status < 400 {
            faults.extend(self.request_faults(item, call, exchange));
        }
        faults
    }

    fn answer_faults(&self, response: &Value, exchange: &Exchange<'_>, is_head: bool) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let header = self.resolved(header);
            let Some(value) = exchange.headers.get(name.as_str()) else {
                if header["required"] == json!(true) {
                    faults.push(format!("the header {name} is missing"));
                }
                continue;
            };
            let text = value.to_str().unwrap();
            let is_number = header["schema"]["type"] == "integer";
            let value = if is_number {
                text.parse::<u64>().map_or(json!(text), |number| json!(number))
            } else {
                json!(text)
            };
            faults.extend(
                self.faults(&header["schema"], &value, false)
                    .into_iter()
                    .map(|fault| format!("{name}{fault}")),
            );
        }
        let content_type = exchange.headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap());
        let media = content_type.split(';').next().unwrap_or_default().trim();
        match (response.get("content"), media) {
            // A gateway may name a type of what has no body.
            (None, _) if exchange.answer.is_null() => {}
            (None, _) => faults.push(format!("{media} where no content is described")),
            (Some(_), _) if is_head => {}
            (Some(content), _) => match content.get(media) {
                None => faults.push(format!("the content type {media} is not described")),
                Some(described) if media.ends_with("json") => {
                    faults.extend(self.faults(&described["schema"], exchange.answer, true));
                }
                Some(_) => {}
            },
        }
        faults
    }

    /// What was taken has to be allowed by the description.
    fn request_faults(&self, item: &Value, call: &Value, exchange: &Exchange<'_>) -> Vec<String> {
        let mut faults = Vec::new();
        let parameters =
            [item, call].into_iter().filter_map(|owner| owner["parameters"].as_array()).flatten();
        let described: Vec<&Value> = parameters.map(|parameter| self.resolved(parameter)).collect();
        for name in &exchange.query {
            let is_it =
                |parameter: &&&Value| parameter["in"] == "query" && parameter["name"] == name.as_str();
            if !described.iter().any(|parameter| is_it(&parameter)) {
                faults.push(format!("the parameter {name} was taken and is not described"));
            }
        }
        let schema = &call["requestBody"]["content"]["application/json"]["schema"];
        if !schema.is_null() && !exchange.body.is_null() {
            let refused = self.faults(schema, &exchange.body, false);
            faults.extend(refused.into_iter().map(|fault| format!("was taken: {fault}")));
        }
        faults
    }
}

/// Every schema with an example of it, by where they are.
pub(crate) fn examples<'a>(place: &str, value: &'a Value, found: &mut Vec<(String, &'a Value, &'a Value)>) {
    match value {
        Value::Object(members) => {
            if let (Some(schema), Some(examples)) = (members.get("schema"), members.get("examples")) {
                for (name, example) in examples.as_object().into_iter().flatten() {
                    let example = description().resolved(example);
                    found.push((format!("{place}/{name}"), schema, &example["value"]));
                }
            }
            for (name, member) in members {
                examples(&format!("{place}/{name}"), member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| examples(place, item, found)),
        _ => {}
    }
}

#[test]
fn every_example_is_as_its_schema_says() {
    let described = description();
    let mut found = Vec::new();
    examples("", &described.root, &mut found);
    assert!(found.len() > 25, "{}", found.len());
    for (place, schema, example) in found {
        let faults = described.faults(schema, example, true);
        assert!(faults.is_empty(), "{place}: {faults:#?}");
    }
}

#[test]
fn what_is_not_described_is_seen() {
    fn exchange<'a>(headers: &'a HeaderMap, path: &'a str, status: u16, answer: &'a Value) -> Exchange<'a> {
        Exchange { method: "GET", path, query: Vec::new(), body: Value::Null, status, headers, answer }
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
    headers.insert("x-request-id", "r".parse().unwrap());
    headers.insert("ratelimit", "\"consumer\";r=2999;t=42".parse().unwrap());
    headers.insert("ratelimit-policy", "\"consumer\";q=3000;w=60".parse().unwrap());
    let described = description();
    let fine = json!({"data": [], "next_cursor": null});
    assert_eq!(described.faults_of(&exchange(&headers, "/v1/bookings", 200, &fine)), [""; 0]);
    for (path, status, answer) in [
        ("/v1/bookings", 200, json!({"data": []})),
        ("/v1/bookings", 200, json!({"data": [], "next_cursor": null, "more": 1})),
        ("/v1/bookings", 200, json!({"data": [{"id": 1}], "next_cursor": null})),
        ("/v1/bookings", 418, fine.clone()),
        ("/v1/nowhere", 200, fine.clone()),
    ] {
        assert_ne!(
            described.faults_of(&exchange(&headers, path, status, &answer)),
            [""; 0],
            "{path} {status} {answer}"
        );
    }
    let with_query =
        Exchange { query: vec!["all".to_owned()], ..exchange(&headers, "/v1/bookings", 200, &fine) };
    assert_ne!(described.faults_of(&with_query), [""; 0]);
}
