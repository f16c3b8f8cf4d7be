//! What the real stores write, and what they make of what is there, without a database.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use holdfast_aws::{AwsClients, AwsConfig, AwsCredentials, AwsHooks};
use serde_json::{Value, json};

/// Where nobody listens: nothing is ever sent.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

#[derive(Default)]
struct State {
    /// The item written last.
    written: Option<Value>,
    /// The items that a query finds.
    found: Vec<Value>,
}

/// A table of which one item is kept at a time.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) clients: AwsClients,
    state: Arc<Mutex<State>>,
}

impl Table {
    /// The only one of this thread's: a client is costly to make.
    pub(super) fn new() -> Self {
        thread_local! {
            static TABLE: OnceLock<Table> = const { OnceLock::new() };
        }
        TABLE.with(|table| table.get_or_init(Self::made).clone())
    }

    fn made() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let kept = Arc::clone(&state);
        let hooks = AwsHooks::answered_by(move |_, body| {
            let body: Value = serde_json::from_slice(body).expect("the SDK sends JSON");
            let mut state = kept.lock().expect("nobody panics here");
            if body.get("Item").is_some() {
                state.written = Some(body["Item"].clone());
            }
            let answer = if body.get("KeyConditionExpression").is_some() {
                json!({"Items": state.found, "Count": state.found.len(), "ScannedCount": state.found.len()})
            } else {
                json!({})
            };
            (200, answer.to_string())
        });
        let credentials = AwsCredentials {
            access_key_id: "test".to_owned(),
            secret_access_key: "test".into(),
            session_token: None,
        };
        let endpoint_url = Some(format!("http://{NOWHERE}"));
        let config = AwsConfig { region: "eu-central-1".to_owned(), endpoint_url, credentials };
        Self { clients: AwsClients::with_hooks(&config, &hooks).unwrap(), state }
    }

    /// The item written last.
    pub(super) fn take_written(&self) -> Option<Value> {
        self.state.lock().expect("nobody panics here").written.take()
    }

    /// What queries find from now on.
    pub(super) fn find(&self, items: Vec<Value>) {
        self.state.lock().expect("nobody panics here").found = items;
    }
}
