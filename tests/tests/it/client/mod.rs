//! The client in Rust (`clients/rust`) against the description of the API.

use serde_json::Value;

use crate::described::description;

mod calls;
mod forms;
mod sample;

/// The calls that consumers make: method, path and the call itself.
fn consumer_calls() -> Vec<(String, String, &'static Value)> {
    let is_consumers = |call: &Value| {
        let keys = call["security"].as_array().into_iter().flatten();
        keys.filter_map(Value::as_object).any(|key| key.contains_key("consumerKey"))
    };
    description().calls().into_iter().filter(|(_, _, call)| is_consumers(call)).collect()
}
