//! The simulator over real HTTP on a port of its own: here what all protocols share, and the rest beside.

mod availability;
mod docplanner;
mod octo;
mod operations;

use std::time::{Duration, Instant};

use axum::{Json, Router, extract::Path, routing::post};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{ProviderConfig, SimulatorConfig};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const POLL_LIMIT: Duration = Duration::from_secs(10);

struct Client {
    address: String,
    http: reqwest::Client,
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn book_body(id: &str) -> Value {
    json!({
        "booking_id": id, "operation": 1, "attempt": 1, "hold": false,
        "slot": {"location_id": "main", "start": "2026-12-01T09:00:00Z", "end": "2026-12-01T09:30:00Z"},
        "customer": {"name": "Ada Lovelace"}, "notes": "by the window",
    })
}

impl Client {
    async fn start() -> Self {
        Self::start_with(SimulatorConfig::default()).await
    }

    async fn start_with(config: SimulatorConfig) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { address: serve(super::router(config)).await, http }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn book(&self, id: &str) -> reqwest::RequestBuilder {
        let request = self.http.post(self.url("/providers/p/bookings"));
        request.header("idempotency-key", id).json(&book_body(id))
    }

    async fn booked(&self, id: &str) -> (u16, Value) {
        answer(self.book(id)).await
    }

    async fn cancel(&self, id: &str, operation: u64) -> (u16, Value) {
        answer(self.change(id, "cancel", operation, json!({}))).await
    }

    /// A change with the number `operation` and what `body` says besides.
    fn change(&self, id: &str, name: &str, operation: u64, mut body: Value) -> reqwest::RequestBuilder {
        body["operation"] = json!(operation);
        body["attempt"] = json!(1);
        let request = self.http.post(self.url(&format!("/providers/p/bookings/{id}/{name}")));
        request.header("idempotency-key", format!("\"{id}:{operation}\"")).json(&body)
    }

    async fn configure(&self, provider_id: &str, settings: Value) {
        let request = self.http.put(self.url(&format!("/control/providers/{provider_id}"))).json(&settings);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }

    async fn look_up(&self, id: &str) -> (u16, Value) {
        answer(self.http.get(self.url(&format!("/providers/p/bookings/{id}")))).await
    }

    async fn behave(&self, behaviour: Value) {
        let request = self.http.put(self.url("/control/providers/p/behaviour")).json(&behaviour);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }

    async fn next(&self, next: Value) {
        let request = self.http.post(self.url("/control/next")).json(&next);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }

    async fn list(&self, what: &str) -> Vec<Value> {
        let (_, body) = answer(self.http.get(self.url(&format!("/control/{what}")))).await;
        body["data"].as_array().unwrap().clone()
    }

    async fn until_called(&self) {
        let deadline = Instant::now() + POLL_LIMIT;
        while self.list("calls").await.is_empty() {
            assert!(Instant::now() < deadline, "no call came");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn until_booked(&self) -> Value {
        let deadline = Instant::now() + POLL_LIMIT;
        loop {
            if let Some(booking) = self.list("bookings").await.into_iter().find(|b| b["book_count"] == 1) {
                return booking;
            }
            assert!(Instant::now() < deadline, "nothing was booked");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_correct_provider_books_once_finds_and_cancels() {
    let client = Client::start().await;
    let (status, first) = client.booked("bkg_1").await;
    assert_eq!((status, &first["status"]), (201, &json!("confirmed")));
    assert_eq!(client.booked("bkg_1").await, (201, first.clone()));
    assert_eq!(client.look_up("bkg_1").await.1["provider_reference"], first["provider_reference"]);
    assert_eq!(client.cancel("bkg_1", 2).await.0, 200);
    assert_eq!(client.cancel("bkg_1", 2).await.1["status"], "cancelled");
    assert_eq!(client.list("bookings?booking_id=bkg_1").await[0]["book_count"], 1);

    assert_eq!(client.cancel("bkg_2", 2).await.1["code"], "unknown_booking");
    assert_eq!(client.booked("bkg_2").await.1["code"], "booking_cancelled");
    assert_eq!(client.look_up("bkg_2").await.0, 404);
    assert_eq!(client.list("bookings?booking_id=bkg_2").await.len(), 0);

    let unknown = client.http.post(client.url("/providers/p/bookings/bkg_1/paint")).json(&json!({}));
    assert_eq!(answer(unknown).await.1["code"], "unknown_operation");
}

#[tokio::test]
async fn calls_are_logged_without_the_customer() {
    let client = Client::start().await;
    client.booked("bkg_1").await;
    let calls = client.list("calls?provider_id=p&operation=book").await;
    assert_eq!(calls[0]["booking_id"], "bkg_1");
    assert_eq!(calls[0]["idempotency_key"], "bkg_1");
    assert_eq!(calls[0]["attempt"], 1);
    assert_eq!(calls[0]["answered_status"], 201);
    assert_eq!(calls[0]["signature_valid"], Value::Null);
    let shown = json!([calls, client.list("bookings").await]).to_string();
    assert!(!shown.contains("Lovelace") && !shown.contains("window"));
}

#[tokio::test]
async fn a_wrong_idempotency_key_is_refused() {
    let client = Client::start().await;
    let request = client.http.post(client.url("/providers/p/bookings")).json(&book_body("bkg_1"));
    let (status, body) = answer(request.header("idempotency-key", "something else")).await;
    assert_eq!((status, &body["code"]), (400, &json!("wrong_idempotency_key")));
}

#[tokio::test]
async fn signatures_are_checked_where_the_secret_is_known() {
    let client = Client::start().await;
    let settings =
        client.http.put(client.url("/control/providers/p")).json(&json!({"signing_secret": SECRET}));
    assert_eq!(answer(settings).await.1["has_signing_secret"], true);
    assert_eq!(client.booked("bkg_1").await.1["code"], "invalid_signature");

    let body = book_body("bkg_1").to_string();
    let timestamp = crate::clock::now().as_second();
    let signature = Webhook::new(SECRET).unwrap().sign("msg_1", timestamp, body.as_bytes()).unwrap();
    let signed = client
        .http
        .post(client.url("/providers/p/bookings"))
        .header("idempotency-key", "bkg_1")
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .body(body);
    assert_eq!(answer(signed).await.0, 201);
    let valid: Vec<Value> = client.list("calls").await.iter().map(|c| c["signature_valid"].clone()).collect();
    assert_eq!(valid, [json!(false), json!(true)]);
}

#[tokio::test]
async fn failures_and_declines_book_nothing() {
    let client = Client::start().await;
    client.next(json!({"behaviour": {"status": 503, "retry_after_seconds": 9}})).await;
    let response = client.book("bkg_1").send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "9");
    let decline = json!({"code": "full", "message": "Fully booked"});
    client.next(json!({"behaviour": {"decline": decline}})).await;
    // A decline is for bookings, so a look-up neither meets it nor uses it up.
    assert_eq!(client.look_up("bkg_1").await.1["code"], "unknown_booking");
    assert_eq!(client.booked("bkg_1").await, (409, decline));
    assert_eq!(client.list("bookings").await.len(), 0);
    assert_eq!(client.booked("bkg_1").await.0, 201);
}

#[tokio::test]
async fn a_dropped_answer_books_and_sends_not_one_byte() {
    let client = Client::start().await;
    client.behave(json!({"drop_answer": true, "operations": ["book"]})).await;
    let body = book_body("bkg_1").to_string();
    let mut stream = TcpStream::connect(&client.address).await.unwrap();
    let head = format!(
        "POST /providers/p/bookings HTTP/1.1\r\nhost: x\r\nidempotency-key: bkg_1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut received = Vec::new();
    // A reset is as good as an end: what counts is that nothing came before it.
    let read = tokio::time::timeout(POLL_LIMIT, stream.read_to_end(&mut received)).await;
    assert!(read.is_ok(), "the connection stayed open");
    assert_eq!(String::from_utf8_lossy(&received), "");
    assert_eq!(client.look_up("bkg_1").await.1["status"], "confirmed");
    assert_eq!(client.list("calls?operation=book").await[0]["answered_status"], Value::Null);
}

#[tokio::test]
async fn a_late_provider_books_although_the_caller_has_hung_up() {
    let client = Client::start().await;
    for (index, behaviour) in
        [json!({"process_after_ms": 1000}), json!({"process_after_ms": 1000, "hang": true})]
            .into_iter()
            .enumerate()
    {
        client.behave(behaviour).await;
        let id = format!("bkg_{index}");
        let given_up = client.book(&id).timeout(Duration::from_millis(100)).send().await;
        assert!(given_up.unwrap_err().is_timeout());
        assert_eq!(client.look_up(&id).await.0, 404);
        assert_eq!(client.until_booked().await["booking_id"], id);
        assert_eq!(client.list(&format!("calls?booking_id={id}")).await[0]["answered_status"], Value::Null);
        client.http.delete(client.url("/control/state")).send().await.unwrap();
    }
}

#[tokio::test]
async fn a_cancel_overtakes_a_late_booking() {
    let client = Client::start().await;
    client.behave(json!({"process_after_ms": 1000})).await;
    let started = Instant::now();
    let (booking, cancel) = tokio::join!(client.booked("bkg_1"), async {
        // The cancel must come second, and before the booking takes effect.
        client.until_called().await;
        client.cancel("bkg_1", 2).await
    });
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(cancel.1["code"], "unknown_booking");
    assert_eq!(booking.1["code"], "booking_cancelled");
    assert_eq!(client.list("bookings").await.len(), 0);
}

#[tokio::test]
async fn work_from_before_a_reset_changes_nothing_after_it() {
    let client = Client::start().await;
    client.behave(json!({"process_after_ms": 1000})).await;
    let (lost, ()) = tokio::join!(client.book("bkg_1").send(), async {
        client.until_called().await;
        client.http.delete(client.url("/control/state")).send().await.unwrap();
    });
    assert!(lost.is_err());
    assert_eq!(client.list("bookings").await.len(), 0);
}

#[tokio::test]
async fn hanging_garbage_latency_and_back_to_normal() {
    let client = Client::start().await;
    client.behave(json!({"hang": true})).await;
    let given_up = client.book("bkg_1").timeout(Duration::from_millis(100)).send().await;
    assert!(given_up.unwrap_err().is_timeout());
    assert_eq!(client.list("bookings").await.len(), 0);

    client.behave(json!({"garbage": true, "latency_ms": 120})).await;
    let started = Instant::now();
    let response = client.book("bkg_1").send().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(120));
    assert_eq!(response.status(), 200);
    assert!(serde_json::from_str::<Value>(&response.text().await.unwrap()).is_err());

    client.http.delete(client.url("/control/behaviours")).send().await.unwrap();
    assert_eq!(client.look_up("bkg_1").await.1["status"], "confirmed");
}

/// Booking, authorisation and body of a call-back.
type Acknowledged = (String, String, Value);

/// A simulator whose provider `p` calls an API back that only listens.
async fn start_with_api() -> (Client, mpsc::UnboundedReceiver<Acknowledged>) {
    let (sender, received) = mpsc::unbounded_channel();
    let api = Router::new().route(
        "/v1/provider/bookings/{id}/acknowledge",
        post(async move |Path(id): Path<String>, headers: axum::http::HeaderMap, Json(body): Json<Value>| {
            let key = headers["authorization"].to_str().unwrap().to_owned();
            sender.send((id, key, body)).unwrap();
        }),
    );
    let provider = ProviderConfig {
        callback_key: Some("hf_test_provider_k_s".to_owned()),
        api_url: Some(format!("http://{}", serve(api).await)),
        ..ProviderConfig::default()
    };
    let providers = [("p".to_owned(), provider)].into();
    (Client::start_with(SimulatorConfig { providers, ..SimulatorConfig::default() }).await, received)
}

async fn next_callback(received: &mut mpsc::UnboundedReceiver<Acknowledged>) -> Acknowledged {
    tokio::time::timeout(POLL_LIMIT, received.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_202_is_called_back_with_the_providers_key() {
    let (client, mut received) = start_with_api().await;
    client.behave(json!({"accept_202": true, "callback_after_ms": 50, "reference": "R1"})).await;
    assert_eq!(client.booked("bkg_1").await.0, 202);
    let (id, key, body) = next_callback(&mut received).await;
    assert_eq!((id.as_str(), key.as_str()), ("bkg_1", "Bearer hf_test_provider_k_s"));
    assert_eq!(body, json!({"status": "confirmed", "provider_reference": "R1"}));
    assert_eq!(client.look_up("bkg_1").await.1["status"], "confirmed");

    client.behave(json!({"accept_202": true, "callback_after_ms": 50, "callback_status": "rejected"})).await;
    assert_eq!(client.booked("bkg_2").await.0, 202);
    let (_, _, body) = next_callback(&mut received).await;
    assert_eq!(body["status"], "rejected");
    assert_eq!(client.look_up("bkg_2").await.0, 404);
}

#[tokio::test]
async fn a_pending_booking_without_a_call_back_is_found_pending() {
    let client = Client::start().await;
    client.behave(json!({"accept_202": true})).await;
    assert_eq!(client.booked("bkg_1").await.1["status"], "pending");
    assert_eq!(client.look_up("bkg_1").await.1["status"], "pending");
}

#[tokio::test]
async fn a_location_misbehaves_alone_and_nonsense_is_refused() {
    let client = Client::start().await;
    let location = client.url("/control/locations/main/behaviour");
    assert_eq!(client.http.put(&location).body(r#"{"status": 500}"#).send().await.unwrap().status(), 200);
    assert_eq!(client.booked("bkg_1").await.0, 500);
    client.http.delete(&location).send().await.unwrap();
    assert_eq!(client.booked("bkg_1").await.0, 201);
    assert_eq!(client.http.put(&location).body(r#"{"sttus": 500}"#).send().await.unwrap().status(), 422);
    let help = client.http.get(client.url("/")).send().await.unwrap().text().await.unwrap();
    assert!(help.contains("process_after_ms"));
}
