//! The queues and the bus between the functions: what SQS and EventBridge are asked comes to whom it is for.

use std::sync::{Arc, Mutex};

use holdfast_app::ports::Clock;
use holdfast_aws::{AwsClients, AwsHooks};
use holdfast_domain::Timestamp;
use holdfast_lambda::batch::QueueMessage;
use serde_json::{Value, json};

use super::deployment::HandClock;
use crate::contract::embedded::clients_of;

/// The queues, by the ends of their URLs.
pub(super) const TIMERS: &str = "timers";
pub(super) const EVENTS: &str = "events";
pub(super) const DELIVERIES: &str = "deliveries";
pub(super) const SLOW_DELIVERIES: &str = "slow-deliveries";
pub(super) const PARKED: &str = "parked";
pub(super) const DEAD: &str = "dead";

/// The URL of a queue.
pub(super) fn url(queue: &str) -> String {
    format!("http://queues.invalid/{queue}")
}

/// What queues and bus were given, in how many requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Requests that send to queues.
    pub(super) sends: u64,
    /// Requests that publish.
    pub(super) publications: u64,
    /// Events that were published.
    pub(super) events: u64,
}

#[derive(Debug, Default)]
struct State {
    sent: Sent,
    waiting: Vec<(Timestamp, QueueMessage)>,
}

/// All queues and the bus.
#[derive(Clone, Debug)]
pub(super) struct Pipes {
    state: Arc<Mutex<State>>,
    clock: HandClock,
}

impl Pipes {
    pub(super) fn new(clock: HandClock) -> Self {
        Self { state: Arc::default(), clock }
    }

    /// Clients that send into them.
    pub(super) fn clients(&self) -> AwsClients {
        let pipes = self.clone();
        let hooks = AwsHooks::answered_by(move |operation, body| {
            let body: Value = serde_json::from_slice(body).unwrap();
            (200, pipes.take_in(operation, &body).to_string())
        });
        clients_of(([127, 0, 0, 1], 9).into(), &hooks)
    }

    /// The message that is due first, and when.
    pub(super) fn next(&self) -> Option<(Timestamp, QueueMessage)> {
        let waiting = &mut self.state.lock().unwrap().waiting;
        let first = (0..waiting.len()).min_by_key(|position| waiting[*position].0)?;
        Some(waiting.remove(first))
    }

    /// What was sent since the last time.
    pub(super) fn take(&self) -> Sent {
        std::mem::take(&mut self.state.lock().unwrap().sent)
    }

    fn take_in(&self, operation: &str, request: &Value) -> Value {
        let queue =
            |request: &Value| request["QueueUrl"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let sent = json!({"MessageId": "m", "MD5OfMessageBody": "x"});
        match operation {
            "SendMessage" => {
                self.state.lock().unwrap().sent.sends += 1;
                self.put(&queue(request), request["MessageBody"].as_str().unwrap(), &request["DelaySeconds"]);
                sent
            }
            "SendMessageBatch" => {
                self.state.lock().unwrap().sent.sends += 1;
                let mut successful = Vec::new();
                for entry in request["Entries"].as_array().unwrap() {
                    self.put(&queue(request), entry["MessageBody"].as_str().unwrap(), &entry["DelaySeconds"]);
                    successful.push(json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x"}));
                }
                json!({"Successful": successful, "Failed": []})
            }
            "PutEvents" => {
                let entries = request["Entries"].as_array().unwrap();
                {
                    let all_sent = &mut self.state.lock().unwrap().sent;
                    all_sent.publications += 1;
                    all_sent.events += u64::try_from(entries.len()).unwrap();
                }
                for entry in entries {
                    self.put(EVENTS, &envelope(entry), &Value::Null);
                }
                let answers: Vec<Value> = entries.iter().map(|_| json!({"EventId": "e"})).collect();
                json!({"FailedEntryCount": 0, "Entries": answers})
            }
            other => panic!("nobody takes {other}"),
        }
    }

    fn put(&self, queue: &str, body: &str, delay_s: &Value) {
        let due_at = self.clock.now().plus_ms(delay_s.as_u64().unwrap_or(0) * 1_000);
        let message = QueueMessage {
            id: "m".to_owned(),
            body: body.to_owned(),
            queue_name: queue.to_owned(),
            receive_count: 1,
        };
        self.state.lock().unwrap().waiting.push((due_at, message));
    }
}

/// An event as a rule passes it on, its detail as it was given.
fn envelope(entry: &Value) -> String {
    let [source, kind, resources] =
        ["Source", "DetailType", "Resources"].map(|member| entry[member].to_string());
    let detail = entry["Detail"].as_str().unwrap();
    format!(r#"{{"source":{source},"detail-type":{kind},"resources":{resources},"detail":{detail}}}"#)
}
