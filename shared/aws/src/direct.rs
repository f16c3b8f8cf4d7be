//! The client of DynamoDB, which makes the first attempt of the calls that every booking needs without the SDK's
//! orchestration.
//!
//! The SDK puts each call together anew: components are merged, interceptors asked, rules evaluated for an endpoint that
//! is always the same. Its code for that is so wide that a quarter of a booking's processor time went into it. Here a
//! call is what the operation's own serializer writes, signed, sent by the same connector, and read by the operation's
//! own deserializer.
//!
//! Nothing is decided here about failures. Whatever is neither a success nor the item's answer to the call's condition
//! (no connection, a time limit, throttling, a clock that is wrong) is left to the SDK, which makes the call as if there
//! had been no attempt, but with one attempt less; until it succeeds, it makes all calls. So repetitions are the SDK's,
//! with its quota.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{ConfigBag, Credentials, FrozenLayer, RuntimePlugin};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::get_item::builders::GetItemInputBuilder;
use aws_sdk_dynamodb::operation::get_item::{GetItem, GetItemError, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::builders::PutItemInputBuilder;
use aws_sdk_dynamodb::operation::put_item::{PutItem, PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemInputBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItem, UpdateItemError, UpdateItemOutput};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::interceptors::context::{Error, Input};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::ser_de::{
    DeserializeResponse, SerializeRequest, SharedRequestSerializer, SharedResponseDeserializer,
};
use holdfast_app::ports::StoreError;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use tokio::time::{Instant, timeout, timeout_at};

use crate::calls::TARGET_HEADER;
use crate::signing::{Signable, Signer};
use crate::user_agent::SHORT_USER_AGENT;

/// The name of DynamoDB in signatures.
const SERVICE: &str = "dynamodb";

const DATE_HEADER: &str = "x-amz-date";
const SECURITY_TOKEN_HEADER: &str = "x-amz-security-token";

/// What became of a call.
pub(crate) type Answered<O> =
    Result<<O as Operation>::Output, SdkError<<O as Operation>::Error, HttpResponse>>;

type Failure = Box<dyn StdError + Send + Sync>;

/// An operation that can be called directly.
pub(crate) trait Operation {
    /// What makes the request.
    type Request;
    /// A success.
    type Output: fmt::Debug + Send + Sync + 'static;
    /// A failure.
    type Error: StdError + Send + Sync + 'static;

    /// The request as the serializer takes it.
    fn input(request: Self::Request) -> Result<Input, Failure>;

    /// What the SDK knows of the operation.
    fn layer(layers: &Layers) -> Option<&FrozenLayer>;

    /// Whether this is the item's answer to the call, which another attempt would not change.
    fn is_answer(error: &Self::Error) -> bool;

    /// The call as the SDK makes it.
    fn by_sdk(request: Self::Request, client: &Client) -> impl Future<Output = Answered<Self>> + Send;
}

/// What the SDK knows of each operation: how it is written, and read.
#[derive(Debug)]
pub(crate) struct Layers {
    get: Option<FrozenLayer>,
    put: Option<FrozenLayer>,
    update: Option<FrozenLayer>,
}

impl Layers {
    fn new() -> Self {
        Self {
            get: GetItem::new().config(),
            put: PutItem::new().config(),
            update: UpdateItem::new().config(),
        }
    }
}

macro_rules! operation {
    ($operation:ident, $layer:ident, $request:ident, $output:ident, $error:ident, $answers:pat) => {
        impl Operation for $operation {
            type Request = $request;
            type Output = $output;
            type Error = $error;

            fn input(request: $request) -> Result<Input, Failure> {
                Ok(Input::erase(request.build()?))
            }

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

/// The SDK's client of DynamoDB, with a shorter way for some calls. Copies are cheap, and share everything.
#[derive(Clone, Debug)]
pub struct DynamoDb {
    client: Client,
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
    /// Where.
    pub(crate) endpoint_url: String,
    /// How long an attempt may take.
    pub(crate) attempt_limit: Duration,
    /// How long a call may take with all its attempts.
    pub(crate) operation_limit: Duration,
}

#[derive(Debug)]
struct Direct {
    /// Makes what is left of a call after an attempt: one attempt less than the client itself.
    repeating: Client,
    connector: SharedHttpConnector,
    signer: Signer,
    endpoint_url: String,
    attempt_limit: Duration,
    operation_limit: Duration,
    layers: Layers,
    /// Whether the SDK makes all calls, since an attempt has failed and nothing has succeeded from then on.
    is_in_trouble: AtomicBool,
}

impl Deref for DynamoDb {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DynamoDb {
    /// The client, and what it takes to go without it.
    pub(crate) fn new(client: Client, caller: Caller) -> Self {
        let Caller { connector, credentials, region, endpoint_url, attempt_limit, operation_limit } = caller;
        let signer = Signer::new(credentials, region, SERVICE, &endpoint_url);
        let direct = signer.map(|signer| Direct {
            repeating: with_an_attempt_less(&client),
            connector,
            signer,
            endpoint_url,
            attempt_limit,
            operation_limit,
            layers: Layers::new(),
            is_in_trouble: AtomicBool::new(false),
        });
        Self { client, direct: direct.map(Arc::new) }
    }

    /// Makes a call. `request` gives the same request each time that it is asked; its own error is handed on.
    pub(crate) async fn call<O: Operation>(
        &self,
        request: impl Fn() -> Result<O::Request, StoreError>,
    ) -> Result<Answered<O>, StoreError> {
        let Some(direct) = &self.direct else {
            return Ok(O::by_sdk(request()?, &self.client).await);
        };
        let until = Instant::now() + direct.operation_limit;
        let client = if direct.is_in_trouble.load(Ordering::Relaxed) {
            &self.client
        } else if let Some(answered) = direct.attempt::<O>(request()?).await {
            return Ok(answered);
        } else {
            &direct.repeating
        };
        // On the heap, since it is large and rare.
        let by_sdk = Box::pin(O::by_sdk(request()?, client));
        let answered = match timeout_at(until, by_sdk).await {
            Ok(answered) => answered,
            Err(late) => Err(SdkError::timeout_error(late)),
        };
        let is_over = match &answered {
            Ok(_) => true,
            Err(error) => error.as_service_error().is_some_and(O::is_answer),
        };
        direct.is_in_trouble.store(!is_over, Ordering::Relaxed);
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
    /// One attempt. Nothing, if the SDK should make the call.
    async fn attempt<O: Operation>(&self, request: O::Request) -> Option<Answered<O>> {
        let layer = O::layer(&self.layers)?;
        let mut config = ConfigBag::base();
        config.push_shared_layer(layer.clone());
        let serializer = layer.load::<SharedRequestSerializer>()?;
        let request = serializer.serialize_input(O::input(request).ok()?, &mut config).ok()?;
        let answering = self.connector.call(self.signed(request)?);
        let response = timeout(self.attempt_limit, answering).await.ok()?.ok()?;
        // The deserializer wants all of it in memory, which is how the connector reads it.
        response.body().bytes()?;
        let deserializer = layer.load::<SharedResponseDeserializer>()?;
        match deserializer.deserialize_nonstreaming_with_config(&response, &config) {
            Ok(output) => Some(Ok(output.downcast().ok()?)),
            Err(error) => {
                let mut modeled = None;
                let _ = error.map_operation_error(|error: Error| modeled = error.downcast::<O::Error>().ok());
                let answer = modeled.filter(O::is_answer)?;
                Some(Err(SdkError::service_error(answer, response)))
            }
        }
    }

    /// The request as it is sent.
    fn signed(&self, mut request: HttpRequest) -> Option<HttpRequest> {
        let headers = request.headers();
        let signable =
            Signable { content_type: headers.get(CONTENT_TYPE)?, target: headers.get(TARGET_HEADER)? };
        #[expect(clippy::disallowed_methods, reason = "as of the system's clock, which the SDK signs by too")]
        let now = SystemTime::now();
        let signed = self.signer.sign(signable, request.body().bytes()?, now)?;
        request.set_uri(self.endpoint_url.as_str()).ok()?;
        let headers = request.headers_mut();
        headers.insert(DATE_HEADER, signed.date_time);
        headers.insert(AUTHORIZATION, secret(&signed.authorization)?);
        if let Some(token) = signed.security_token {
            headers.insert(SECURITY_TOKEN_HEADER, secret(token)?);
        }
        headers.insert(USER_AGENT, SHORT_USER_AGENT);
        Some(request)
    }
}

/// A header's value that is not to be shown.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use aws_sdk_dynamodb::operation::put_item::PutItemInput;
    use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
    use aws_smithy_types::body::SdkBody;

    use super::*;
    use crate::error::store_error;
    use crate::item::{PK, text};
    use crate::{AwsClients, AwsConfig, AwsCredentials, AwsHooks};

    /// The SDK says with each of its attempts which one it is.
    const SDK_HEADER: &str = "amz-sdk-request";

    /// What a server does with a request.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        /// It succeeds.
        Done,
        /// It is answered with a status and an error's code.
        Refused(u16, &'static str),
        /// It is never answered.
        Silent,
        /// There is no connection.
        Broken,
    }

    /// A server whose answers are foreseen; what comes after them succeeds. It notes who sent each request.
    #[derive(Clone, Debug)]
    struct Server(Arc<Mutex<(Vec<Fate>, Vec<&'static str>)>>);

    impl Server {
        fn with(fates: &[Fate]) -> Self {
            let fates = fates.iter().rev().copied().collect();
            Self(Arc::new(Mutex::new((fates, Vec::new()))))
        }

        fn client(&self) -> DynamoDb {
            let config = AwsConfig {
                region: "eu-central-1".to_owned(),
                endpoint_url: None,
                credentials: AwsCredentials {
                    access_key_id: "id".to_owned(),
                    secret_access_key: "secret".into(),
                    session_token: Some("token".into()),
                },
            };
            let connector = Some(SharedHttpConnector::new(self.clone()));
            let hooks = AwsHooks { connector, own_retry_quota: true, ..AwsHooks::default() };
            AwsClients::with_hooks(&config, &hooks).unwrap().dynamodb
        }

        /// Who sent the requests since the last time.
        fn take(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).1)
        }
    }

    impl HttpConnector for Server {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            assert_eq!(request.uri().trim_end_matches('/'), "https://dynamodb.eu-central-1.amazonaws.com");
            for header in ["authorization", "x-amz-date", "x-amz-security-token", "user-agent"] {
                assert!(request.headers().get(header).is_some(), "{header}");
            }
            let sender = if request.headers().get(SDK_HEADER).is_some() { "SDK" } else { "direct" };
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.1.push(sender);
            let answer = |status: u16, body: String| {
                HttpConnectorFuture::ready(Ok(HttpResponse::new(
                    status.try_into().unwrap(),
                    SdkBody::from(body),
                )))
            };
            match state.0.pop().unwrap_or(Fate::Done) {
                Fate::Done => answer(200, "{}".to_owned()),
                Fate::Refused(status, code) => answer(status, format!(r#"{{"__type": "x#{code}"}}"#)),
                Fate::Silent => HttpConnectorFuture::new(std::future::pending()),
                Fate::Broken => HttpConnectorFuture::ready(Err(
                    aws_smithy_runtime_api::client::result::ConnectorError::io("broken".into()),
                )),
            }
        }
    }

    async fn put(client: &DynamoDb) -> Result<(), String> {
        let request = || Ok(PutItemInput::builder().table_name("table").item(PK, text("key")));
        match client.call::<PutItem>(request).await.unwrap() {
            Ok(_) => Ok(()),
            Err(error) => Err(store_error("PutItem", &error).to_string()),
        }
    }

    #[tokio::test]
    async fn what_goes_well_is_one_request_without_the_sdk() {
        let server = Server::with(&[]);
        let client = server.client();
        for _ in 0..3 {
            put(&client).await.unwrap();
        }
        assert_eq!(server.take(), ["direct", "direct", "direct"]);
    }

    #[tokio::test]
    async fn what_the_item_answers_is_the_answer() {
        for code in ["ConditionalCheckFailedException", "TransactionConflictException"] {
            let server = Server::with(&[Fate::Refused(400, code)]);
            let client = server.client();
            let refused = put(&client).await.unwrap_err();
            assert!(refused.contains(code), "{refused}");
            assert_eq!(server.take(), ["direct"]);
            put(&client).await.unwrap();
            assert_eq!(server.take(), ["direct"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_other_trouble_is_left_to_the_sdk_until_something_succeeds() {
        let troubles = [
            Fate::Refused(500, "InternalServerError"),
            Fate::Refused(503, "nothing that is known"),
            Fate::Refused(400, "ThrottlingException"),
            Fate::Refused(400, "ProvisionedThroughputExceededException"),
            // The SDK corrects its clock by what it is told.
            Fate::Refused(400, "InvalidSignatureException"),
            Fate::Silent,
            Fate::Broken,
        ];
        for trouble in troubles {
            let server = Server::with(&[trouble]);
            let client = server.client();
            put(&client).await.unwrap();
            assert_eq!(server.take(), ["direct", "SDK"], "{trouble:?}");
            put(&client).await.unwrap();
            assert_eq!(server.take(), ["direct"], "{trouble:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_that_stays_is_met_by_the_sdk_alone() {
        let server = Server::with(&[Fate::Refused(500, "InternalServerError"); 6]);
        let client = server.client();
        put(&client).await.unwrap_err();
        assert_eq!(server.take(), ["direct", "SDK", "SDK"]);
        put(&client).await.unwrap_err();
        assert_eq!(server.take(), ["SDK", "SDK", "SDK"]);
        put(&client).await.unwrap();
        assert_eq!(server.take(), ["SDK"]);
        put(&client).await.unwrap();
        assert_eq!(server.take(), ["direct"]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_lasts_no_longer_than_a_call_may() {
        let server = Server::with(&[Fate::Silent; 10]);
        let client = server.client();
        let begun = Instant::now();
        let late = put(&client).await.unwrap_err();
        assert!(late.contains("timed out"), "{late}");
        let limit = client.config().timeout_config().unwrap().operation_timeout().unwrap();
        assert!(begun.elapsed() <= limit + Duration::from_millis(10), "{:?}", begun.elapsed());
        assert!(server.take().len() >= 2);
    }

    #[tokio::test]
    async fn what_cannot_be_signed_here_is_the_sdk_s() {
        let server = Server::with(&[]);
        let client = DynamoDb { direct: None, ..server.client() };
        put(&client).await.unwrap();
        assert_eq!(server.take(), ["SDK"]);
    }
}
