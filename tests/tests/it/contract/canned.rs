//! Clients of services whose answers are canned.

use std::sync::{Arc, Mutex};

use holdfast_aws::{AwsClients, AwsHooks};
use serde_json::Value;

use super::embedded::clients_of;

/// The bodies of the requests so far.
pub(crate) type Requests = Arc<Mutex<Vec<Value>>>;

/// Clients whose requests are kept and answered by a function of the request's body.
pub(crate) fn canned(
    answer: impl Fn(&Value) -> (u16, Value) + Send + Sync + 'static,
) -> (AwsClients, Requests) {
    let requests = Requests::default();
    let kept = requests.clone();
    let hooks = AwsHooks::answered_by(move |_, body| {
        let body: Value = serde_json::from_slice(body).unwrap();
        let (status, answer) = answer(&body);
        kept.lock().unwrap().push(body);
        (status, answer.to_string())
    });
    let hooks = AwsHooks { time_limits_times: Some(1), ..hooks };
    (clients_of(([127, 0, 0, 1], 9).into(), &hooks), requests)
}
