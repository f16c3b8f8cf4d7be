//! A log of the calls that clients make, so that tests can count them, and tell which ran beside which.
//!
//! Deployed functions install none.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

/// The header that names the operation in the JSON protocols of DynamoDB, SQS and EventBridge.
pub(crate) const TARGET_HEADER: &str = "x-amz-target";

/// The operations called, in order, one entry an attempt.
#[derive(Clone, Debug, Default)]
pub struct CallLog(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    calls: Vec<Call>,
    /// Counts beginnings and ends.
    moments: usize,
}

#[derive(Debug)]
struct Call {
    operation: String,
    begun: usize,
    ended: Option<usize>,
}

impl CallLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connector whose calls are noted here.
    pub(crate) fn over(&self, connector: SharedHttpConnector) -> SharedHttpConnector {
        SharedHttpConnector::new(LoggedConnector { connector, log: self.clone() })
    }

    fn begin(&self, operation: String) -> Underway {
        let entry = self.with(|log| {
            log.moments += 1;
            log.calls.push(Call { operation, begun: log.moments, ended: None });
            log.calls.len() - 1
        });
        Underway { log: self.clone(), entry }
    }

    /// The names of the operations called so far: `PutItem`, `SendMessageBatch`.
    pub fn calls(&self) -> Vec<String> {
        self.with(|log| log.calls.iter().map(|call| call.operation.clone()).collect())
    }

    /// The same; the log is empty afterwards.
    pub fn take(&self) -> Vec<String> {
        self.with(|log| log.calls.drain(..).map(|call| call.operation).collect())
    }

    /// How many calls had to wait for another one to end: the longest chain of calls of which each began
    /// after the one before had ended. Calls that ran beside one another count once.
    pub fn in_sequence(&self) -> usize {
        self.with(|log| {
            let mut lengths: Vec<usize> = Vec::with_capacity(log.calls.len());
            for call in &log.calls {
                let before = log.calls.iter().zip(&lengths);
                let waited =
                    before.filter(|(earlier, _)| earlier.ended.is_some_and(|ended| ended < call.begun));
                lengths.push(1 + waited.map(|(_, length)| *length).max().unwrap_or(0));
            }
            lengths.into_iter().max().unwrap_or(0)
        })
    }
}

/// A connector whose calls are noted.
#[derive(Debug)]
struct LoggedConnector {
    connector: SharedHttpConnector,
    log: CallLog,
}

impl HttpConnector for LoggedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get(TARGET_HEADER).unwrap_or_default();
        let underway = self.log.begin(target.rsplit('.').next().unwrap_or_default().to_owned());
        let answer = self.connector.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await;
            drop(underway);
            answer
        })
    }
}

/// A call that ends when this is dropped, since an attempt may be given up.
#[derive(Debug)]
struct Underway {
    log: CallLog,
    entry: usize,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.log.with(|log| {
            log.moments += 1;
            let moment = log.moments;
            if let Some(call) = log.calls.get_mut(self.entry) {
                call.ended = Some(moment);
            }
        });
    }
}
