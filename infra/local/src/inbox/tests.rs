//! The inbox over real HTTP on a port of its own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, super::router()).await });
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { base, http }
    }

    async fn configure(&self, name: &str, settings: Value) -> u16 {
        let url = format!("{}/endpoints/{name}", self.base);
        self.http.put(url).json(&settings).send().await.unwrap().status().as_u16()
    }

    fn delivery(&self, name: &str, id: &str, secret: &str) -> reqwest::RequestBuilder {
        let body = json!({"id": id, "type": "booking.confirmed", "data": {"id": "bkg_1"}}).to_string();
        let timestamp = crate::clock::now().as_second();
        let signature = Webhook::new(secret).unwrap().sign(id, timestamp, body.as_bytes()).unwrap();
        self.http
            .post(format!("{}/hooks/{name}", self.base))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body)
    }

    async fn deliver(&self, name: &str, id: &str, secret: &str) -> u16 {
        self.delivery(name, id, secret).send().await.unwrap().status().as_u16()
    }

    async fn messages(&self, query: &str) -> Vec<Value> {
        let text = self.http.get(format!("{}/messages{query}", self.base)).send().await.unwrap();
        text.json::<Value>().await.unwrap()["data"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn a_delivery_is_checked_and_shown() {
    let client = Client::start().await;
    assert_eq!(client.configure("demo", json!({"secret": SECRET})).await, 200);
    assert_eq!(client.deliver("demo", "evt_1", SECRET).await, 200);
    assert_eq!(client.deliver("demo", "evt_2", "whsec_d3Jvbmcgc2VjcmV0IHdyb25nIHNlY3JldCE=").await, 200);
    assert_eq!(client.deliver("stranger", "evt_3", SECRET).await, 200);
    let messages = client.messages("").await;
    assert_eq!(messages[0]["signature_valid"], true);
    assert_eq!(messages[0]["webhook_id"], "evt_1");
    assert_eq!(messages[0]["type"], "booking.confirmed");
    assert_eq!(messages[0]["booking_id"], "bkg_1");
    assert_eq!(messages[0]["body"]["data"]["id"], "bkg_1");
    assert_eq!(messages[0]["answered_status"], 200);
    assert_eq!(messages[1]["signature_valid"], false);
    assert_eq!(messages[2]["signature_valid"], Value::Null);
}

#[tokio::test]
async fn it_fails_as_often_as_told_and_counts_the_attempts() {
    let client = Client::start().await;
    client.configure("demo", json!({"secret": SECRET, "fail_next": 2, "status": 503})).await;
    for expected in [503, 503, 200] {
        assert_eq!(client.deliver("demo", "evt_1", SECRET).await, expected);
    }
    let messages = client.messages("?endpoint=demo&webhook_id=evt_1").await;
    let attempts: Vec<&Value> = messages.iter().map(|message| &message["attempt_number"]).collect();
    assert_eq!(attempts, [1, 2, 3]);
    // The secret outlives a change of behaviour.
    client.configure("demo", json!({"status": 410})).await;
    assert_eq!(client.deliver("demo", "evt_2", SECRET).await, 410);
    assert_eq!(client.messages("?webhook_id=evt_2").await[0]["signature_valid"], true);
}

#[tokio::test]
async fn a_hanging_endpoint_keeps_the_message_and_gives_no_answer() {
    let client = Client::start().await;
    client.configure("demo", json!({"hang": true})).await;
    let given_up = client.delivery("demo", "evt_1", SECRET).timeout(Duration::from_millis(200)).send().await;
    assert!(given_up.unwrap_err().is_timeout());
    assert_eq!(client.messages("").await[0]["answered_status"], Value::Null);
}

#[tokio::test]
async fn latency_retry_after_filters_and_clearing() {
    let client = Client::start().await;
    client.configure("demo", json!({"latency_ms": 150, "status": 429, "retry_after_seconds": 7})).await;
    let started = Instant::now();
    let answer = client.delivery("demo", "evt_1", SECRET).send().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(150));
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(client.messages("?type=booking.cancelled").await.len(), 0);
    assert_eq!(client.messages("?type=booking.confirmed&booking_id=bkg_1&endpoint=demo").await.len(), 1);
    client.http.delete(format!("{}/messages", client.base)).send().await.unwrap();
    assert_eq!(client.messages("").await.len(), 0);
}

#[tokio::test]
async fn nonsense_is_refused_and_help_is_given() {
    let client = Client::start().await;
    assert_eq!(client.configure("demo", json!({"staus": 500})).await, 422);
    assert_eq!(client.configure("demo", json!({"status": 42})).await, 422);
    assert_eq!(client.configure("demo", json!({"secret": "whsec_%%%"})).await, 422);
    let help = client.http.get(&client.base).send().await.unwrap().text().await.unwrap();
    assert!(help.contains("/messages"));
}
