//! The client of DynamoDB, which makes the first attempt of the calls that bookings need, and of batched reads, without the
//! SDK's orchestration.
//!
//! The SDK puts each call together anew: components are merged, interceptors asked, rules evaluated for an endpoint that
//! is always the same. Its code for that is so wide that a quarter of a booking's processor time went into it. Here a
//! call is what its caller writes, signed, sent by the same connector, and read by the operation's own deserializer.
//!
//! Nothing is decided here about failures. Whatever is neither a success nor the item's answer to the call's condition
//! (no connection, a time limit, throttling, a clock that is wrong) is left to the SDK, which makes the call with one
//! attempt less; until it succeeds, it makes all calls. A refusal that the SDK does not meet is logged, and keeps calls
//! with the SDK for [`DISTRUST_S`], so that what is wrong here is seen and costs little.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{ConfigBag, Credentials, FrozenLayer, RuntimePlugin};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::batch_get_item::builders::BatchGetItemInputBuilder;
use aws_sdk_dynamodb::operation::batch_get_item::{BatchGetItem, BatchGetItemError, BatchGetItemOutput};
use aws_sdk_dynamodb::operation::get_item::builders::GetItemInputBuilder;
use aws_sdk_dynamodb::operation::get_item::{GetItem, GetItemError, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::builders::PutItemInputBuilder;
use aws_sdk_dynamodb::operation::put_item::{PutItem, PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemInputBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItem, UpdateItemError, UpdateItemOutput};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::interceptors::context::Error;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::body::SdkBody;
use holdfast_app::ports::StoreError;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use tokio::time::{Instant, timeout, timeout_at};

use crate::calls::TARGET_HEADER;
use crate::error::coded_error;
use crate::signing::{Signable, Signer};
use crate::user_agent::SHORT_USER_AGENT;

/// The name of DynamoDB in signatures.
const SERVICE: &str = "dynamodb";

/// For how long the SDK makes all calls, in seconds, after it has made one that was refused here.
const DISTRUST_S: u64 = 60;

/// The type of DynamoDB's JSON ("DynamoDB low-level API" in its developer guide).
const JSON: &str = "application/x-amz-json-1.0";

const DATE_HEADER: &str = "x-amz-date";
const SECURITY_TOKEN_HEADER: &str = "x-amz-security-token";

/// What became of a call.
pub(crate) type Answered<O> =
    Result<<O as Operation>::Output, SdkError<<O as Operation>::Error, HttpResponse>>;

/// A call, in the two forms in which it may be made. Both say the same, whenever they are asked for.
pub(crate) trait Call<O: Operation> {
    /// The request's body.
    fn body(&self) -> Result<Vec<u8>, StoreError>;

    /// The request for the SDK.
    fn request(&self) -> Result<O::Request, StoreError>;
}

/// An operation that can be called directly.
pub(crate) trait Operation {
    /// The operation as requests name it.
    const TARGET: &'static str;
    /// What makes the request for the SDK.
    type Request;
    /// A success.
    type Output: fmt::Debug + Send + Sync + 'static;
    /// A failure.
    type Error: StdError + ProvideErrorMetadata + Send + Sync + 'static;

    /// What the SDK knows of the operation.
    fn layer(layers: &Layers) -> Option<&FrozenLayer>;

    /// Whether this is the item's answer to the call, which another attempt would not change.
    fn is_answer(error: &Self::Error) -> bool;

    /// The call as the SDK makes it.
    fn by_sdk(request: Self::Request, client: &Client) -> impl Future<Output = Answered<Self>> + Send;
}

/// What the SDK knows of each operation: how its answers are read.
#[derive(Debug)]
pub(crate) struct Layers {
    batch_get: Option<FrozenLayer>,
    get: Option<FrozenLayer>,
    put: Option<FrozenLayer>,
    update: Option<FrozenLayer>,
}

impl Layers {
    fn new() -> Self {
        Self {
            batch_get: BatchGetItem::new().config(),
            get: GetItem::new().config(),
            put: PutItem::new().config(),
            update: UpdateItem::new().config(),
        }
    }
}

macro_rules! operation {
    ($operation:ident, $layer:ident, $request:ident, $output:ident, $error:ident, $answers:pat) => {
        impl Operation for $operation {
            const TARGET: &'static str = concat!("DynamoDB_20120810.", stringify!($operation));
            type Request = $request;
            type Output = $output;
            type Error = $error;

            fn layer(layers: &Layers) -> Option<&FrozenLayer> {
                layers.$layer.as_ref()
            }

            fn is_answer(error: &$error) -> bool {
                matches!(error, $answers)
            }

            async fn by_sdk(request: $request, client: &Client) -> Answered<Self> {
                request.send_with(client).await
            }
        }
    };
}

operation!(
    BatchGetItem,
    batch_get,
    BatchGetItemInputBuilder,
    BatchGetItemOutput,
    BatchGetItemError,
    BatchGetItemError::ResourceNotFoundException(_)
);
operation!(
    GetItem,
    get,
    GetItemInputBuilder,
    GetItemOutput,
    GetItemError,
    GetItemError::ResourceNotFoundException(_)
);
operation!(
    PutItem,
    put,
    PutItemInputBuilder,
    PutItemOutput,
    PutItemError,
    PutItemError::ConditionalCheckFailedException(_) | PutItemError::TransactionConflictException(_)
);
operation!(
    UpdateItem,
    update,
    UpdateItemInputBuilder,
    UpdateItemOutput,
    UpdateItemError,
    UpdateItemError::ConditionalCheckFailedException(_) | UpdateItemError::TransactionConflictException(_)
);

/// A client of the SDK's that is made once it is needed: a process that only books never needs it while nothing fails, and
/// would make it while somebody waits for its first answer.
pub(crate) type LazyClient = Arc<LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>>;

/// The SDK's client of DynamoDB, with a shorter way for some calls. Copies are cheap, and share everything.
#[derive(Clone, Debug)]
pub struct DynamoDb {
    client: LazyClient,
    /// Nothing, if calls cannot be signed here.
    direct: Option<Arc<Direct>>,
}

/// Where, as whom and for how long calls are made.
pub(crate) struct Caller {
    /// Sends requests.
    pub(crate) connector: SharedHttpConnector,
    /// As whom.
    pub(crate) credentials: Credentials,
    /// The region that signatures are for.
    pub(crate) region: String,
    /// Where; nothing if the SDK has to make all calls.
    pub(crate) endpoint_url: Option<String>,
    /// The longest pause between the attempt here and the SDK's.
    pub(crate) pause_limit: Duration,
    /// How long an attempt may take.
    pub(crate) attempt_limit: Duration,
    /// How long a call may take with all its attempts.
    pub(crate) operation_limit: Duration,
}

#[derive(Debug)]
struct Direct {
    /// Makes what is left of a call after an attempt: one attempt less than the client itself.
    repeating: LazyClient,
    connector: SharedHttpConnector,
    signer: Signer,
    endpoint_url: String,
    pause_limit: Duration,
    attempt_limit: Duration,
    operation_limit: Duration,
    layers: Layers,
    way: Mutex<Way>,
}

/// Who makes the next call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The first attempt is made here.
    Direct,
    /// The SDK, since an attempt has failed and nothing has succeeded from then on.
    Sdk,
    /// The SDK until then, since it could make a call that was refused here.
    SdkUntil(Instant),
}

/// Why an attempt came to nothing.
#[derive(Debug)]
enum Trouble {
    /// There is no connection, or it broke.
    NotAnswered,
    /// There was no whole answer in time, or one that tells to come again.
    Passing,
    /// It was refused, with this code, or could not be made.
    Refused(String),
}

impl Deref for DynamoDb {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DynamoDb {
    /// The client, and what it takes to go without it.
    pub(crate) fn new(client: LazyClient, caller: Caller) -> Self {
        let direct = Direct::new(&client, caller).map(Arc::new);
        Self { client, direct }
    }

    /// Makes a call. An error of its own is handed on.
    ///
    /// What the SDK does is on the heap, since it is large and rare, and this is moved by all who call.
    pub(crate) async fn call<O: Operation>(&self, call: &impl Call<O>) -> Result<Answered<O>, StoreError> {
        let Some(direct) = &self.direct else {
            return Ok(Box::pin(O::by_sdk(call.request()?, &self.client)).await);
        };
        let until = Instant::now() + direct.operation_limit;
        let mut trouble = None;
        if direct.is_next() {
            match direct.attempt::<O>(call.body()?).await {
                Ok(answered) => return Ok(answered),
                Err(met) => {
                    // Now already, since whoever waits may give up.
                    direct.take(Way::Sdk);
                    direct.pause(&met).await;
                    trouble = Some(met);
                }
            }
        }
        let client = if trouble.is_some() { &direct.repeating } else { &self.client };
        let by_sdk = Box::pin(O::by_sdk(call.request()?, client));
        let answered = match timeout_at(until, by_sdk).await {
            Ok(answered) => answered,
            Err(late) => Err(SdkError::timeout_error(late)),
        };
        let is_over = match &answered {
            Ok(_) => true,
            Err(error) => error.as_service_error().is_some_and(O::is_answer),
        };
        direct.learn(is_over, trouble.as_ref());
        Ok(answered)
    }
}

/// The client, but for one attempt of each call.
fn with_an_attempt_less(client: &Client) -> Client {
    let config = client.config();
    let retries = config.retry_config().cloned().unwrap_or_else(RetryConfig::standard);
    let max_attempts = retries.max_attempts().saturating_sub(1).max(1);
    Client::from_conf(config.to_builder().retry_config(retries.with_max_attempts(max_attempts)).build())
}

impl Direct {
    /// Nothing, if calls cannot be signed here.
    fn new(client: &LazyClient, caller: Caller) -> Option<Self> {
        let endpoint_url = caller.endpoint_url?;
        let client = Arc::clone(client);
        Some(Self {
            repeating: Arc::new(LazyLock::new(Box::new(move || with_an_attempt_less(&client)))),
            connector: caller.connector,
            signer: Signer::new(caller.credentials, caller.region, SERVICE, &endpoint_url)?,
            endpoint_url,
            pause_limit: caller.pause_limit,
            attempt_limit: caller.attempt_limit,
            operation_limit: caller.operation_limit,
            layers: Layers::new(),
            way: Mutex::new(Way::Direct),
        })
    }

    /// Whether the next call is attempted here.
    fn is_next(&self) -> bool {
        match *self.way.lock().unwrap_or_else(PoisonError::into_inner) {
            Way::Direct => true,
            Way::Sdk => false,
            Way::SdkUntil(until) => until <= Instant::now(),
        }
    }

    fn take(&self, way: Way) {
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }

    /// Decides about the next call after one of the SDK's, which may have followed `trouble` here.
    fn learn(&self, is_over: bool, trouble: Option<&Trouble>) {
        let now = Instant::now();
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        *way = match (is_over, trouble) {
            (false, _) => Way::Sdk,
            (true, Some(Trouble::Refused(code))) => {
                tracing::warn!(
                    code,
                    "DynamoDB refuses what is not written and signed by the SDK, which makes the calls now."
                );
                Way::SdkUntil(now + Duration::from_secs(DISTRUST_S))
            }
            (true, _) => match *way {
                Way::SdkUntil(until) if until > now => *way,
                Way::SdkUntil(_) | Way::Sdk | Way::Direct => Way::Direct,
            },
        };
    }

    /// Waits a little before a repetition, so that many do not come at once; by the clock's last digits, which is chance
    /// enough for that. A connection that was not there is tried again at once.
    async fn pause(&self, trouble: &Trouble) {
        let limit_us = u64::try_from(self.pause_limit.as_micros()).unwrap_or(u64::MAX).max(1);
        let pause_us = match trouble {
            Trouble::NotAnswered => 0,
            Trouble::Passing | Trouble::Refused(_) => u64::from(subsecond_us()) % limit_us,
        };
        tokio::time::sleep(Duration::from_micros(pause_us)).await;
    }

    /// One attempt. An error leaves the call to the SDK.
    async fn attempt<O: Operation>(&self, body: Vec<u8>) -> Result<Answered<O>, Trouble> {
        let deserializer =
            O::layer(&self.layers).and_then(|layer| layer.load::<SharedResponseDeserializer>());
        let (Some(deserializer), Some(request)) = (deserializer, self.signed(O::TARGET, body)) else {
            return Err(Trouble::Refused("not a valid request".to_owned()));
        };
        let response = match timeout(self.attempt_limit, self.connector.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => return Err(Trouble::NotAnswered),
            Err(_) => return Err(Trouble::Passing),
        };
        // The deserializer wants all of it in memory, which is how the connector reads it.
        if response.body().bytes().is_none() {
            return Err(Trouble::Passing);
        }
        match deserializer.deserialize_nonstreaming_with_config(&response, &ConfigBag::base()) {
            Ok(output) => match output.downcast() {
                Ok(output) => Ok(Ok(output)),
                Err(_) => Err(Trouble::Passing),
            },
            Err(error) => {
                let mut modeled = None;
                // What it becomes is nothing: the error is taken out of it on the way.
                drop(error.map_operation_error(|error: Error| modeled = error.downcast::<O::Error>().ok()));
                match modeled {
                    Some(answer) if O::is_answer(&answer) => {
                        Ok(Err(SdkError::service_error(answer, response)))
                    }
                    Some(error) => Err(trouble_of(&error, response.status().as_u16())),
                    None => Err(Trouble::Passing),
                }
            }
        }
    }

    /// The request as it is sent.
    fn signed(&self, target: &'static str, body: Vec<u8>) -> Option<HttpRequest> {
        #[expect(clippy::disallowed_methods, reason = "as of the system's clock, which the SDK signs by too")]
        let now = SystemTime::now();
        let signed = self.signer.sign(Signable { content_type: JSON, target }, &body, now)?;
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").ok()?;
        request.set_uri(self.endpoint_url.as_str()).ok()?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(TARGET_HEADER, target);
        headers.insert(DATE_HEADER, signed.date_time);
        headers.insert(AUTHORIZATION, signed.authorization);
        if let Some(token) = signed.security_token {
            headers.insert(SECURITY_TOKEN_HEADER, token.to_owned());
        }
        headers.insert(USER_AGENT, SHORT_USER_AGENT);
        Some(request)
    }
}

fn trouble_of(error: &impl ProvideErrorMetadata, status: u16) -> Trouble {
    let code = error.code().unwrap_or("no code");
    match coded_error("call", code, status) {
        StoreError::Refused(_) => Trouble::Refused(code.to_owned()),
        StoreError::Unavailable(_) | StoreError::Corrupt(_) => Trouble::Passing,
    }
}

/// Microseconds since the last second began.
#[expect(clippy::disallowed_methods, reason = "its last digits stand for chance, and nothing is measured")]
fn subsecond_us() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_micros())
}

#[cfg(test)]
mod tests;
