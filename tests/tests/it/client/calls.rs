//! Every call of the client against the description: as it goes over the wire, and answered as described.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use holdfast_client as client;
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::consumer_calls;
use super::sample::samples;
use crate::described::{Exchange, description};

const BOOKING: &str = "bkg_06gvron0k1q3p7s0nkbcfrqa4c";
const ENDPOINT: &str = "whe_06gvron0k1q3p7s0nkbcfrqa4c";
const EVENT: &str = "evt_06gvron0k1q3p7s0nkbcfrqa4c";
const API_KEY: &str = "hf_test_consumer_k1_secret";

/// What was found out about the requests so far.
#[derive(Default)]
struct Findings {
    /// Which of the described answers is given, where there are several.
    choice: usize,
    called: BTreeSet<String>,
    faults: Vec<String>,
}

type Shared = Arc<Mutex<Findings>>;

/// Answers as described, and notes what is not.
async fn answer(
    State(findings): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut findings = findings.lock().unwrap();
    let found = description().call(method.as_str(), uri.path());
    let Some((item, call)) = found else {
        findings.faults.push(format!("{method} {uri} is not described"));
        return StatusCode::NOT_FOUND.into_response();
    };
    let operation = call["operationId"].as_str().unwrap().to_owned();
    let is_known = headers.contains_key("if-none-match");
    let (status, told_headers, told) = described_answer(call, is_known, findings.choice);
    let url = Url::parse(&format!("http://local{uri}")).unwrap();
    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let exchange = Exchange {
        method: method.as_str(),
        path: uri.path(),
        query: query.iter().map(|(name, _)| name.clone()).collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        status,
        headers: &told_headers,
        answer: &told,
    };
    let mut faults = description().faults_of(&exchange);
    faults.extend(parameter_faults(item, call, &query, &headers));
    if headers.get("authorization").is_none_or(|key| key != &format!("Bearer {API_KEY}")) {
        faults.push("there is no key".to_owned());
    }
    if call["requestBody"]["required"] == json!(true) && exchange.body.is_null() {
        faults.push("there is no body".to_owned());
    }
    findings.faults.extend(faults.into_iter().map(|fault| format!("{operation}: {fault}")));
    findings.called.insert(operation);
    let body = if told.is_null() { Vec::new() } else { told.to_string().into_bytes() };
    (StatusCode::from_u16(status).unwrap(), told_headers, body).into_response()
}

/// A good answer: 304 to whoever says what he knows, else the first 2xx.
fn described_answer(call: &Value, is_known: bool, choice: usize) -> (u16, HeaderMap, Value) {
    let responses = call["responses"].as_object().unwrap();
    let is_wanted = |status: &&String| if is_known { *status == "304" } else { status.starts_with('2') };
    let status = responses.keys().find(is_wanted).unwrap();
    let response = description().resolved(&responses[status]);
    let mut headers = HeaderMap::new();
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let header = description().resolved(header);
        let value = samples(description(), &header["schema"]).remove(0);
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(text).unwrap());
    }
    let Some(content) = response["content"].get("application/json") else {
        return (status.parse().unwrap(), headers, Value::Null);
    };
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let mut values = samples(description(), &content["schema"]);
    let chosen = choice % values.len();
    (status.parse().unwrap(), headers, values.swap_remove(chosen))
}

/// Whether the parameters have values that are described, and those that are needed are there.
fn parameter_faults(
    item: &Value,
    call: &Value,
    query: &[(String, String)],
    headers: &HeaderMap,
) -> Vec<String> {
    let parameters = [item, call].into_iter().filter_map(|owner| owner["parameters"].as_array()).flatten();
    let mut faults = Vec::new();
    for parameter in parameters.map(|parameter| description().resolved(parameter)) {
        let name = parameter["name"].as_str().unwrap();
        let text = match parameter["in"].as_str().unwrap() {
            "query" => query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str()),
            "header" => headers.get(name).map(|value| value.to_str().unwrap()),
            _ => continue,
        };
        let Some(text) = text else {
            // Without it nobody could tell a repetition from a second wish.
            if parameter["required"] == json!(true) || name == "Idempotency-Key" {
                faults.push(format!("{name} is missing"));
            }
            continue;
        };
        let value = match description().resolved(&parameter["schema"])["type"].as_str().unwrap() {
            "integer" | "boolean" => serde_json::from_str(text).unwrap(),
            "array" => json!(text.split(',').collect::<Vec<_>>()),
            _ => json!(text),
        };
        let wrong = description().faults(&parameter["schema"], &value, false);
        faults.extend(wrong.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    faults
}

/// The two values of a request: the least of it, and all of it.
fn least_and_full<T: serde::de::DeserializeOwned>(schema: &str) -> Vec<T> {
    let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
    let values = samples(description(), &schema).into_iter();
    values.map(|value| serde_json::from_value(value).unwrap()).collect()
}

async fn change_bookings(client: &client::Client) -> Result<(), client::Error> {
    let (id, key) = (client::BookingId::new(BOOKING).unwrap(), client::IdempotencyKey::new(r#"a"b\c"#)?);
    for wish in least_and_full("CreateBooking") {
        client.create_booking(&key, &wish).await?;
    }
    for wish in least_and_full("ConfirmBooking") {
        client.confirm_booking(&id, &key, &wish).await?;
    }
    for wish in least_and_full("ExtendBooking") {
        client.extend_booking(&id, &key, &wish).await?;
    }
    for wish in least_and_full("RescheduleBooking") {
        client.reschedule_booking(&id, &key, &wish).await?;
    }
    for wish in least_and_full("CancelBooking") {
        client.cancel_booking(&id, &key, &wish).await?;
    }
    client.erase_customer(&id).await
}

async fn read(client: &client::Client) -> Result<(), client::Error> {
    let id = client::BookingId::new(BOOKING).unwrap();
    let booking = client.get_booking(&id).await?;
    let etag = booking.etag.clone().unwrap();
    assert!(client.get_changed_booking(&id, Some(&etag), 99).await?.is_none());
    assert!(client.get_changed_booking(&id, None, 25).await?.is_some());
    assert!(!client.get_booking_history(&id).await?.is_empty());
    let filter = client::BookingFilter {
        reference: Some("order-1001".to_owned()),
        status: Some(client::Status::Confirmed),
        provider_id: Some("demo-clinic".to_owned()),
        created_after: Some("2028-03-01T09:00:00Z".parse().unwrap()),
        limit: Some(100),
    };
    let cursor = client::Cursor::new("cursor");
    client.list_bookings(&filter, Some(&cursor)).await?;
    let page = client.all_bookings(client::BookingFilter::default()).next_page().await?;
    assert!(page.is_some());
    let mut query = client::AvailabilityQuery::new("demo-clinic", ["main-street", "harbour"]);
    let open = client.get_availability(&query).await?;
    assert!(open.age.is_some());
    query.start_date = Some("2028-03-01".parse().unwrap());
    query.days = Some(21);
    assert!(client.get_changed_availability(&query, &open.etag.clone().unwrap()).await?.is_none());
    let mut query = client::EventQuery::latest();
    client.list_events(&query).await?;
    query.kind = Some(client::EventType::BookingConfirmed);
    query.limit = Some(1);
    client.list_events(&query).await.map(drop)
}

async fn endpoints(client: &client::Client) -> Result<(), client::Error> {
    let id = client::EndpointId::new(ENDPOINT).unwrap();
    for endpoint in least_and_full("NewWebhookEndpoint") {
        let made = client.create_webhook_endpoint(&endpoint).await?;
        assert!(made.secret.expose().starts_with("whsec_") && !format!("{made:?}").contains("whsec_"));
    }
    client.list_webhook_endpoints().await?;
    client.get_webhook_endpoint(&id).await?;
    for changes in least_and_full("WebhookEndpointChanges") {
        client.change_webhook_endpoint(&id, &changes).await?;
    }
    client.rotate_webhook_secret(&id).await?;
    client.test_webhook_endpoint(&id).await?;
    for status in [client::DeliveryStatus::Failed, client::DeliveryStatus::Answered(503)] {
        let event_id = Some(client::EventId::new(EVENT).unwrap());
        let filter = client::DeliveryFilter { event_id, status: Some(status), limit: Some(1) };
        client.list_deliveries(&id, &filter, Some(&client::Cursor::new("cursor"))).await?;
    }
    for wish in least_and_full("ReplayRequest") {
        client.replay_deliveries(&id, &wish).await?;
    }
    client.delete_webhook_endpoint(&id).await
}

#[tokio::test]
async fn every_call_is_made_and_answered_as_described() {
    let findings = Shared::default();
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(answer).with_state(findings.clone());
    let serving = tokio::spawn(axum::serve(listener, routes).into_future());
    let client = client::Client::new(&url, &client::ApiKey::new(API_KEY).unwrap()).unwrap();
    for choice in 0..12 {
        findings.lock().unwrap().choice = choice;
        change_bookings(&client).await.unwrap();
        read(&client).await.unwrap();
        endpoints(&client).await.unwrap();
    }
    serving.abort();
    assert!(serving.now_or_never().is_none_or(|ended| ended.is_err()));
    let findings = findings.lock().unwrap();
    assert_eq!(findings.faults, [""; 0]);
    let wanted: BTreeSet<String> = consumer_calls()
        .iter()
        .map(|(_, _, call)| call["operationId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(findings.called, wanted);
}

#[test]
fn an_event_shows_its_booking() {
    let schema = json!({"$ref": "#/components/schemas/Booking"});
    for booking in samples(description(), &schema) {
        let mut event = Map::new();
        event.insert("id".to_owned(), json!(EVENT));
        event.insert("type".to_owned(), json!("booking.confirmed"));
        event.insert("timestamp".to_owned(), json!("2028-03-01T09:00:00Z"));
        event.insert("data".to_owned(), booking.clone());
        let event: client::Event = serde_json::from_value(Value::Object(event)).unwrap();
        assert_eq!(serde_json::to_value(event.booking().unwrap()).unwrap()["id"], booking["id"]);
    }
}
