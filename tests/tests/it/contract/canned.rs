//! Clients of services whose answers are canned.

use std::sync::{Arc, Mutex};

use aws_smithy_http_client::test_util::infallible_client_fn;
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
    let http_client = infallible_client_fn(move |request| {
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let (status, answer) = answer(&body);
        kept.lock().unwrap().push(body);
        http::Response::builder().status(status).body(answer.to_string()).unwrap()
    });
    let hooks =
        AwsHooks { http_client: Some(http_client), time_limits_times: Some(1), ..AwsHooks::default() };
    (clients_of(([127, 0, 0, 1], 9).into(), &hooks), requests)
}
