//! A log of the calls that clients make, so that tests can count them, and tell which ran beside which.
//!
//! Deployed functions install none.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

/// The header that names the operation in the JSON protocols of DynamoDB, SQS and EventBridge.
const TARGET_HEADER: &str = "x-amz-target";

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

/// Which entry of the log a call is, kept with the call.
#[derive(Debug)]
struct Entry(usize);

impl Storable for Entry {
    type Storer = StoreReplace<Self>;
}

impl CallLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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

impl Intercept for CallLog {
    fn name(&self) -> &'static str {
        "CallLog"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get(TARGET_HEADER).unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let entry = self.with(|log| {
            log.moments += 1;
            log.calls.push(Call { operation, begun: log.moments, ended: None });
            log.calls.len() - 1
        });
        config.interceptor_state().store_put(Entry(entry));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        _context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Entry(entry)) = config.load::<Entry>() {
            self.with(|log| {
                log.moments += 1;
                let moment = log.moments;
                if let Some(call) = log.calls.get_mut(*entry) {
                    call.ended = Some(moment);
                }
            });
        }
        Ok(())
    }
}
