//! The SDK's clients, built from explicit configuration.
//!
//! There is no search for regions, profiles or credentials: a function on Lambda has all three in its
//! environment, and whoever reads the environment hands them in. All clients share one connection pool.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_sdk_dynamodb::config::endpoint::{DefaultResolver, InvalidParams, Params, ResolveEndpoint};
use aws_sdk_dynamodb::config::retry::{ReconnectMode, RetryConfig};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Credentials, IdentityCache, Region, StalledStreamProtectionConfig,
};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::{SharedHttpConnector, http_client_fn};
use futures_util::FutureExt;
use holdfast_tls::TlsError;
use secrecy::{ExposeSecret, SecretString};

use crate::CallLog;
use crate::direct::{Caller, DynamoDb};
use crate::http::{Answering, connector};
use crate::user_agent::ShortUserAgent;

/// How long connecting may take, TLS included, in milliseconds. The SDK's default, 3.1 s, exceeds the
/// synchronous limit of a booking.
const CONNECT_TIMEOUT_MS: u64 = 500;

/// How long one attempt of a call may take, in milliseconds.
const ATTEMPT_TIMEOUT_MS: u64 = 1_000;

/// How long a call may take with all its attempts, in milliseconds.
const OPERATION_TIMEOUT_MS: u64 = 2_500;

/// How often a call is attempted at most, as long as the service's clients may repeat anything: they have a quota of 500
/// together, of which a repetition takes 10 after a time-out or a broken connection and 5 otherwise, until it succeeds; a call of the SDK that
/// succeeds at once gives back 1 (`TokenBucket` of `aws-smithy-runtime`).
const MAX_ATTEMPTS: u32 = 3;

/// What else the quota gets back, a second: it is full again after eight minutes, though the SDK does not hear of calls
/// that go well without it.
const QUOTA_REFILL_PER_S: f32 = 1.0;

/// The bound of the first delay between two attempts, in milliseconds; it doubles, with jitter.
const FIRST_BACKOFF_MS: u64 = 50;

/// Who calls, as the Lambda environment says it.
#[derive(Clone)]
pub struct AwsCredentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: SecretString,
    /// `AWS_SESSION_TOKEN`; absent for a user's long-lived keys.
    pub session_token: Option<SecretString>,
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[credentials]")
    }
}

/// Where and as whom to call.
#[derive(Clone, Debug)]
pub struct AwsConfig {
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// Where to call instead of the region's endpoints (`AWS_ENDPOINT_URL`).
    pub endpoint_url: Option<String>,
    /// As whom.
    pub credentials: AwsCredentials,
}

/// What tests change in the clients.
#[derive(Clone, Debug, Default)]
pub struct AwsHooks {
    /// Sends the requests instead of the client for HTTP.
    pub connector: Option<SharedHttpConnector>,
    /// Notes every call.
    pub call_log: Option<CallLog>,
    /// How many times as long as usual every time limit is, so that a busy machine misses none.
    pub time_limits_times: Option<u32>,
}

impl AwsHooks {
    /// Requests are answered by a function, and nothing is sent: it is given the operation, such as `PutItem`, and the
    /// body, and gives a status and a body.
    pub fn answered_by(answer: impl Fn(&str, &[u8]) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self { connector: Some(SharedHttpConnector::new(Answering(answer))), ..Self::default() }
    }
}

/// The clients could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody knows where DynamoDB is.
    #[error("DynamoDB has no endpoint in region {region}")]
    Endpoint {
        /// The region.
        region: String,
        /// What the SDK's rules say.
        source: BoxError,
    },
}

/// The clients of the services that Holdfast uses. They are cheap to clone, and share their connections.
///
/// All functions have tables; what a function does not use besides is not linked into it.
#[derive(Clone, Debug)]
pub struct AwsClients {
    /// Tables.
    pub dynamodb: DynamoDb,
    others: Arc<Others>,
}

/// What the clients of other services are made of.
#[derive(Debug)]
struct Others {
    config: AwsConfig,
    hooks: AwsHooks,
    connector: SharedHttpConnector,
    /// What all clients of queues may repeat together.
    sqs_quota: RetryPartition,
    /// What all clients of the bus may repeat together.
    eventbridge_quota: RetryPartition,
}

macro_rules! client {
    ($sdk:ident, $config:expr, $connector:expr, $quota:expr, $hooks:expr) => {{
        let connector = $connector.clone();
        let mut builder = $sdk::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new($config.region.clone()))
            .credentials_provider(credentials(&$config.credentials))
            .retry_config(retries())
            .retry_partition($quota)
            .timeout_config(timeouts($hooks))
            // What is sent and answered is short, and the time limits bound it.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Credentials from the environment are there; a cache only asks whether they are.
            .identity_cache(IdentityCache::no_cache())
            .interceptor(ShortUserAgent)
            .http_client(http_client_fn(move |_, _| connector.clone()));
        if let Some(endpoint_url) = &$config.endpoint_url {
            builder = builder.endpoint_url(endpoint_url);
        }
        $sdk::Client::from_conf(builder.build())
    }};
}

impl AwsClients {
    /// The clients. Nothing is connected before the first call. An error if there is no TLS to be had.
    pub fn new(config: &AwsConfig) -> Result<Self, ClientError> {
        Self::with_hooks(config, &AwsHooks::default())
    }

    /// The clients with something changed.
    pub fn with_hooks(config: &AwsConfig, hooks: &AwsHooks) -> Result<Self, ClientError> {
        let connector = match &hooks.connector {
            Some(connector) => connector.clone(),
            None => connector(limit(CONNECT_TIMEOUT_MS, hooks))?,
        };
        let connector = match &hooks.call_log {
            Some(call_log) => call_log.over(connector),
            None => connector,
        };
        let caller = Caller {
            connector: connector.clone(),
            credentials: credentials(&config.credentials),
            region: config.region.clone(),
            endpoint_url: endpoint_url(config)?,
            pause_limit: Duration::from_millis(FIRST_BACKOFF_MS),
            attempt_limit: limit(ATTEMPT_TIMEOUT_MS, hooks),
            operation_limit: limit(OPERATION_TIMEOUT_MS, hooks),
        };
        let (its_config, its_hooks, its_connector) = (config.clone(), hooks.clone(), connector.clone());
        let make =
            move || client!(aws_sdk_dynamodb, its_config, its_connector, quota("dynamodb"), &its_hooks);
        let client = Arc::new(LazyLock::new(Box::new(make) as Box<_>));
        let others = Others {
            config: config.clone(),
            hooks: hooks.clone(),
            connector,
            sqs_quota: quota("sqs"),
            eventbridge_quota: quota("events"),
        };
        Ok(Self { dynamodb: DynamoDb::new(client, caller), others: Arc::new(others) })
    }

    /// Queues.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        let Others { config, hooks, connector, sqs_quota, .. } = &*self.others;
        client!(aws_sdk_sqs, config, connector, sqs_quota.clone(), hooks)
    }

    /// The bus.
    pub fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        let Others { config, hooks, connector, eventbridge_quota, .. } = &*self.others;
        client!(aws_sdk_eventbridge, config, connector, eventbridge_quota.clone(), hooks)
    }
}

/// Where DynamoDB is called, by the SDK's rules; nothing if they want it to be signed for elsewhere.
fn endpoint_url(config: &AwsConfig) -> Result<Option<String>, ClientError> {
    let failed = |source| ClientError::Endpoint { region: config.region.clone(), source };
    let params = Params::builder().region(&config.region).set_endpoint(config.endpoint_url.clone());
    let params = params.build().map_err(|error: InvalidParams| failed(error.into()))?;
    let rules = DefaultResolver::new();
    let endpoint = rules.resolve_endpoint(&params).now_or_never().ok_or_else(|| failed("not now".into()))?;
    let endpoint = endpoint.map_err(failed)?;
    let is_usual = endpoint.auth_schemes().is_empty();
    Ok(is_usual.then(|| endpoint.url().to_owned()))
}

fn credentials(credentials: &AwsCredentials) -> Credentials {
    let session_token = credentials.session_token.as_ref().map(|token| token.expose_secret().to_owned());
    let secret = credentials.secret_access_key.expose_secret();
    // They expire with the execution environment that they were given to, not before it.
    Credentials::new(&credentials.access_key_id, secret, session_token, None, "environment")
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(Duration::from_millis(FIRST_BACKOFF_MS))
        // A connection that brought a 5xx is used again: the connector names none, and the SDK would log that as an error.
        .with_reconnect_mode(ReconnectMode::ReuseAllConnections)
}

/// A quota of repetitions, which copies draw on together.
fn quota(service: &'static str) -> RetryPartition {
    let bucket = TokenBucket::builder().refill_rate(QUOTA_REFILL_PER_S).build();
    RetryPartition::custom(service).token_bucket(bucket).build()
}

/// A time limit, as long as the hooks want it.
fn limit(usual_ms: u64, hooks: &AwsHooks) -> Duration {
    Duration::from_millis(usual_ms) * hooks.time_limits_times.unwrap_or(1)
}

/// The limits of calls; connecting is limited by who connects.
fn timeouts(hooks: &AwsHooks) -> TimeoutConfig {
    TimeoutConfig::builder()
        .operation_attempt_timeout(limit(ATTEMPT_TIMEOUT_MS, hooks))
        .operation_timeout(limit(OPERATION_TIMEOUT_MS, hooks))
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn config() -> AwsConfig {
        AwsConfig {
            region: "eu-central-1".to_owned(),
            endpoint_url: None,
            credentials: AwsCredentials {
                access_key_id: "id".to_owned(),
                secret_access_key: "secret".into(),
                session_token: None,
            },
        }
    }

    /// More calls than the quota has room for, if each is repeated until it gives up.
    const CALLS: usize = 60;

    #[tokio::test(start_paused = true)]
    async fn all_clients_of_a_service_repeat_from_one_quota() {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let hooks = AwsHooks::answered_by(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            (500, "{}".to_owned())
        });
        let clients = AwsClients::with_hooks(&config(), &hooks).unwrap();
        let (first, second) = (clients.sqs(), clients.clone().sqs());
        first.list_queues().send().await.unwrap_err();
        assert_eq!(requests.swap(0, Ordering::Relaxed), 3, "repeated");
        for _ in 0..CALLS {
            first.list_queues().send().await.unwrap_err();
        }
        requests.store(0, Ordering::Relaxed);
        second.list_queues().send().await.unwrap_err();
        assert_eq!(requests.swap(0, Ordering::Relaxed), 1, "not repeated any more");
        clients.eventbridge().list_event_buses().send().await.unwrap_err();
        assert_eq!(requests.load(Ordering::Relaxed), 3, "another service");
    }

    #[test]
    fn an_endpoint_that_is_signed_for_elsewhere_is_the_sdk_s() {
        let local = AwsConfig { region: "local".to_owned(), ..config() };
        assert_eq!(endpoint_url(&local).unwrap(), None);
        let china = AwsConfig { region: "cn-north-1".to_owned(), ..config() };
        assert_eq!(
            endpoint_url(&china).unwrap().as_deref(),
            Some("https://dynamodb.cn-north-1.amazonaws.com.cn")
        );
    }
}
