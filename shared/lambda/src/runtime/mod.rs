//! The loop that Lambda drives: it asks for the next event, has it handled, and posts what came of it.
//!
//! Why it is our own: infra/decisions/0016-lambdas-loop.md. The protocol is
//! "Using the Lambda runtime API for custom runtimes" of Lambda's developer guide, version 2018-06-01.

mod api;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::iter::successors;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderValue;
use tokio::task::JoinSet;

use self::api::{Failure, RuntimeApi};
use crate::RunError;
use crate::config::{ConfigError, Source, environment, required};
use crate::log_output::together;

/// Host and port of the runtime API.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// How many events Lambda gives a process at once, where it gives it several (Lambda Managed Instances).
const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

/// What Lambda says of an invocation beside its event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Identifies the invocation.
    pub request_id: String,
    /// When Lambda ends it, in milliseconds since the epoch.
    pub deadline_unix_ms: u64,
    /// The header that X-Ray's trace goes on with, if the invocation is traced.
    pub xray_trace_id: Option<String>,
}

/// Why the loop ended. The process ends with it, and Lambda starts another.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The runtime API cannot be reached.
    #[error("the runtime API cannot be reached")]
    Unreachable(#[source] std::io::Error),
    /// It does not answer in time.
    #[error("the runtime API did not answer within {limit_s} s")]
    TooSlow {
        /// How long it was waited for, in seconds.
        limit_s: u64,
    },
    /// An exchange broke off.
    #[error("an exchange with the runtime API broke off")]
    BrokenOff(#[source] hyper::Error),
    /// A request to it cannot be put together.
    #[error("no request to the runtime API can be made of this")]
    Unsendable(#[source] http::Error),
    /// It answered with this status instead of an event.
    #[error("the runtime API answered {0} instead of an event")]
    NoEvent(http::StatusCode),
    /// An event came without this header, so that it cannot be answered.
    #[error("an event came without {0}, or with one that cannot be read")]
    MissingHeader(&'static str),
    /// The loop itself panicked; where, the log says.
    #[error("the loop panicked")]
    Panicked,
}

/// Handles events until Lambda ends the process or its runtime API is gone. What the handler returns is posted as it is;
/// an error is told to Lambda by its text, which must hold nothing personal, and a panic without one.
pub(crate) async fn run<H, Fut>(handler: H) -> Result<(), RunError>
where
    H: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<u8>, RunError>> + Send + 'static,
{
    run_at(Place::from_source(&environment)?, handler).await
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Host and port.
    address: HeaderValue,
    /// How many events are handled at once: one, unless Lambda says otherwise.
    concurrency: usize,
}

impl Place {
    fn from_source(source: Source<'_>) -> Result<Self, ConfigError> {
        let malformed = |variable, expected| ConfigError::Malformed { variable, expected };
        let address = HeaderValue::from_str(&required(source, RUNTIME_API)?);
        let concurrency = source(MAX_CONCURRENCY).map_or(Some(1), |text| text.parse().ok());
        Ok(Self {
            address: address.map_err(|_| malformed(RUNTIME_API, "a host and a port"))?,
            concurrency: concurrency
                .filter(|count| *count > 0)
                .ok_or_else(|| malformed(MAX_CONCURRENCY, "a count of events, from 1"))?,
        })
    }
}

async fn run_at<H, Fut>(Place { address, concurrency }: Place, handler: H) -> Result<(), RunError>
where
    H: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<u8>, RunError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    // Tasks of their own: the future that the runtime itself waits for is woken by calls of the system.
    let mut loops = JoinSet::new();
    for _ in 0..concurrency {
        loops.spawn(work_off(RuntimeApi::at(address.clone()), Arc::clone(&handler)));
    }
    // They have the same runtime API: if one can no longer take events, the process is of no more use.
    let error = match loops.join_next().await {
        Some(Ok(error)) => error,
        Some(Err(_)) | None => RuntimeError::Panicked,
    };
    tracing::error!(error = chain(&error), "Lambda's events can no longer be taken.");
    Err(error.into())
}

/// An error with what led to it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Handles one event after the other for as long as that can be done.
async fn work_off<H, Fut>(mut api: RuntimeApi, handler: Arc<H>) -> RuntimeError
where
    H: Fn(Bytes, Context) -> Fut,
    Fut: Future<Output = Result<Vec<u8>, RunError>>,
{
    loop {
        let (context, event) = match api.next().await {
            Ok(next) => next,
            Err(error) => return error,
        };
        // Who waits for the answer does not wait for the log. What happens before the next event is asked for is still
        // the event's own.
        if let Err(error) = together(work_off_one(&mut api, &*handler, context, event)).await {
            return error;
        }
    }
}

/// Handles an event, and posts what came of it.
async fn work_off_one<H, Fut>(
    api: &mut RuntimeApi,
    handler: &H,
    context: Context,
    event: Bytes,
) -> Result<(), RuntimeError>
where
    H: Fn(Bytes, Context) -> Fut,
    Fut: Future<Output = Result<Vec<u8>, RunError>>,
{
    let request_id = context.request_id.clone();
    // A panic leaves nothing behind that later events rely on: shared state is behind locks that tolerate it.
    let outcome = AssertUnwindSafe(async { handler(event, context).await }).catch_unwind().await;
    match outcome {
        Ok(Ok(answer)) => api.answer(&request_id, answer).await,
        Ok(Err(error)) => api.fail(&request_id, &Failure::of(&error)).await,
        Err(_panic) => api.fail(&request_id, &Failure::panicked()).await,
    }
}
