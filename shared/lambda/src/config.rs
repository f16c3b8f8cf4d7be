//! Configuration from the environment: the one place that reads it.
//!
//! One struct for each concern, so that a function asks for what it needs alone. A variable that is
//! missing or malformed is an error that names it; nothing falls back silently. Values are never part of
//! an error, since some are secrets.

use std::fmt;
use std::net::SocketAddr;

use data_encoding::HEXLOWER;
use holdfast_app::ports::DeadLetterQueue;
use holdfast_app::settings::KeyHash;
use holdfast_aws::{AwsConfig, AwsCredentials};
use secrecy::SecretString;
use tracing::level_filters::LevelFilter;

/// The fewest days that a booking is kept: longer than an idempotency key, so that none outlives its
/// booking.
pub const MIN_RETENTION_DAYS: u32 = 15;

/// The most days that a booking is kept.
pub const MAX_RETENTION_DAYS: u32 = 3_650;

/// The most bootstrap keys; two are enough to rotate one.
const MAX_BOOTSTRAP_HASHES: usize = 10;

/// The most hosts that the deployment may allow.
const MAX_ALLOWED_HOSTS: usize = 100;

/// The longest namespace of metrics, in bytes (`PutMetricData`).
const MAX_NAMESPACE_BYTES: usize = 255;

const METRICS_NAMESPACE: &str = "METRICS_NAMESPACE";
const XRAY_DAEMON: &str = "AWS_XRAY_DAEMON_ADDRESS";

/// Why the environment cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The variable is not set, or empty where it must not be.
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    /// The variable is set to something that it cannot be.
    #[error("the environment variable {variable} must be {expected}")]
    Malformed {
        /// The variable.
        variable: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

/// Gives the value of a variable: the environment, or a test's own.
pub(crate) type Source<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(crate) fn environment(variable: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    std::env::var(variable).ok()
}

pub(crate) fn required(source: Source<'_>, variable: &'static str) -> Result<String, ConfigError> {
    source(variable).filter(|value| !value.is_empty()).ok_or(ConfigError::Missing(variable))
}

/// The value of a variable that has to be there but may be empty.
fn present(source: Source<'_>, variable: &'static str) -> Result<String, ConfigError> {
    source(variable).ok_or(ConfigError::Missing(variable))
}

/// A value that is one variable.
macro_rules! required_variable {
    ($(#[$doc:meta])* $name:ident, $variable:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub String);

        impl $name {
            /// Reads it; an error if it is missing or empty.
            pub fn from_env() -> Result<Self, ConfigError> {
                required(&environment, $variable).map(Self)
            }
        }
    };
}

required_variable!(
    /// The name of the table of bookings (`BOOKING_TABLE`).
    BookingTable, "BOOKING_TABLE"
);
required_variable!(
    /// The name of the table of consumers, providers, locations, keys and endpoints (`CONFIG_TABLE`).
    ConfigTable, "CONFIG_TABLE"
);
required_variable!(
    /// The name of the table of webhook deliveries, event feeds and mailboxes (`DELIVERY_TABLE`).
    DeliveryTable, "DELIVERY_TABLE"
);
required_variable!(
    /// The name of the table of availability (`AVAILABILITY_TABLE`).
    AvailabilityTable, "AVAILABILITY_TABLE"
);
required_variable!(
    /// The name of the event bus (`EVENT_BUS_NAME`).
    EventBusName, "EVENT_BUS_NAME"
);
required_variable!(
    /// The URL of the queue of timers (`TIMER_QUEUE_URL`).
    TimerQueueUrl, "TIMER_QUEUE_URL"
);
required_variable!(
    /// The URL of the queue of refreshes (`REFRESH_QUEUE_URL`).
    RefreshQueueUrl, "REFRESH_QUEUE_URL"
);
required_variable!(
    /// The URL of the queue of replays and of deliveries to slow endpoints (`SLOW_DELIVERY_QUEUE_URL`).
    SlowDeliveryQueueUrl, "SLOW_DELIVERY_QUEUE_URL"
);

/// Where what cannot be processed is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkingQueues {
    /// Stream records that cannot be processed (`PARKED_RECORD_QUEUE_URL`).
    pub parked_record_queue_url: String,
    /// Bookings that somebody has to look at (`BOOKING_DEAD_LETTER_QUEUE_URL`).
    pub booking_dead_letter_queue_url: String,
}

impl ParkingQueues {
    /// Reads both.
    pub fn from_env() -> Result<Self, ConfigError> {
        Ok(Self {
            parked_record_queue_url: required(&environment, "PARKED_RECORD_QUEUE_URL")?,
            booking_dead_letter_queue_url: required(&environment, "BOOKING_DEAD_LETTER_QUEUE_URL")?,
        })
    }
}

/// The queues of webhook deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryQueues {
    /// Of endpoints that answer quickly (`DELIVERY_QUEUE_URL`).
    pub delivery_queue_url: String,
    /// Of endpoints that do not, and of replays (`SLOW_DELIVERY_QUEUE_URL`).
    pub slow_delivery_queue_url: String,
}

impl DeliveryQueues {
    /// Reads both.
    pub fn from_env() -> Result<Self, ConfigError> {
        Ok(Self {
            delivery_queue_url: required(&environment, "DELIVERY_QUEUE_URL")?,
            slow_delivery_queue_url: required(&environment, "SLOW_DELIVERY_QUEUE_URL")?,
        })
    }
}

/// The queues of dead letters, and where their letters go to be served again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterQueues {
    /// Every queue of dead letters by its URL: `TIMER_DEAD_LETTER_QUEUE_URL`, `EVENT_DEAD_LETTER_QUEUE_URL`,
    /// `RULE_DEAD_LETTER_QUEUE_URL`, `DELIVERY_DEAD_LETTER_QUEUE_URL`, `REFRESH_DEAD_LETTER_QUEUE_URL`,
    /// `PARKED_RECORD_QUEUE_URL`, `BOOKING_DEAD_LETTER_QUEUE_URL` and `STREAM_FAILURE_QUEUE_URL`.
    pub letters: Vec<(DeadLetterQueue, String)>,
    /// The queues that messages came from: `TIMER_QUEUE_URL`, `EVENT_QUEUE_URL`, `DELIVERY_QUEUE_URL` and
    /// `REFRESH_QUEUE_URL`.
    pub sources: Vec<(DeadLetterQueue, String)>,
}

impl DeadLetterQueues {
    /// Reads all of them.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_source(&environment)
    }

    fn from_source(source: Source<'_>) -> Result<Self, ConfigError> {
        let letters_of = |queue| match queue {
            DeadLetterQueue::Timers => "TIMER_DEAD_LETTER_QUEUE_URL",
            DeadLetterQueue::Events => "EVENT_DEAD_LETTER_QUEUE_URL",
            DeadLetterQueue::UndeliveredEvents => "RULE_DEAD_LETTER_QUEUE_URL",
            DeadLetterQueue::Deliveries => "DELIVERY_DEAD_LETTER_QUEUE_URL",
            DeadLetterQueue::Refreshes => "REFRESH_DEAD_LETTER_QUEUE_URL",
            DeadLetterQueue::ParkedRecords => "PARKED_RECORD_QUEUE_URL",
            DeadLetterQueue::Bookings => "BOOKING_DEAD_LETTER_QUEUE_URL",
            DeadLetterQueue::StreamFailures => "STREAM_FAILURE_QUEUE_URL",
        };
        let source_of = |queue| match queue {
            DeadLetterQueue::Timers => Some("TIMER_QUEUE_URL"),
            DeadLetterQueue::Events | DeadLetterQueue::UndeliveredEvents => Some("EVENT_QUEUE_URL"),
            DeadLetterQueue::Deliveries => Some("DELIVERY_QUEUE_URL"),
            DeadLetterQueue::Refreshes => Some("REFRESH_QUEUE_URL"),
            DeadLetterQueue::ParkedRecords | DeadLetterQueue::Bookings | DeadLetterQueue::StreamFailures => {
                None
            }
        };
        let (mut letters, mut sources) = (Vec::new(), Vec::new());
        for queue in DeadLetterQueue::ALL {
            letters.push((queue, required(source, letters_of(queue))?));
            if let Some(variable) = source_of(queue) {
                sources.push((queue, required(source, variable)?));
            }
        }
        Ok(Self { letters, sources })
    }
}

/// Where and as whom to call Amazon: `AWS_REGION`, `AWS_ENDPOINT_URL` (optional),
/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` (optional). Lambda sets them for
/// the life of the process.
pub fn aws() -> Result<AwsConfig, ConfigError> {
    aws_from(&environment)
}

fn aws_from(source: Source<'_>) -> Result<AwsConfig, ConfigError> {
    const ENDPOINT: &str = "AWS_ENDPOINT_URL";
    let optional = |variable| source(variable).filter(|value| !value.is_empty());
    let endpoint_url = optional(ENDPOINT);
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if endpoint_url.as_ref().is_some_and(|url| !is_url(url)) {
        return Err(ConfigError::Malformed { variable: ENDPOINT, expected: "an http or https URL" });
    }
    Ok(AwsConfig {
        region: required(source, "AWS_REGION")?,
        endpoint_url,
        credentials: AwsCredentials {
            access_key_id: required(source, "AWS_ACCESS_KEY_ID")?,
            secret_access_key: SecretString::from(required(source, "AWS_SECRET_ACCESS_KEY")?),
            session_token: optional("AWS_SESSION_TOKEN").map(SecretString::from),
        },
    })
}

/// Hosts in private networks that providers and endpoints may resolve to (`ALLOWED_PRIVATE_HOSTS`,
/// comma-separated, possibly empty), in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedPrivateHosts(pub Vec<String>);

impl AllowedPrivateHosts {
    /// Reads them; an error if the variable is missing, since none is what the deployment has to say.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_source(&environment)
    }

    fn from_source(source: Source<'_>) -> Result<Self, ConfigError> {
        const VARIABLE: &str = "ALLOWED_PRIVATE_HOSTS";
        let listed = present(source, VARIABLE)?;
        if listed.trim().is_empty() {
            return Ok(Self::default());
        }
        let hosts: Vec<String> = listed.split(',').map(|host| host.trim().to_ascii_lowercase()).collect();
        if hosts.iter().any(String::is_empty) || hosts.len() > MAX_ALLOWED_HOSTS {
            let expected = "a comma-separated list of up to 100 host names or addresses";
            return Err(ConfigError::Malformed { variable: VARIABLE, expected });
        }
        Ok(Self(hosts))
    }
}

/// The hashes of the administrators' first keys (`BOOTSTRAP_ADMIN_KEY_SHA256`, comma-separated lower-case
/// hexadecimal SHA-256, possibly empty: then there is none).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootstrapAdmins(pub Vec<KeyHash>);

impl BootstrapAdmins {
    /// Reads them; an error if the variable is missing.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_source(&environment)
    }

    fn from_source(source: Source<'_>) -> Result<Self, ConfigError> {
        const VARIABLE: &str = "BOOTSTRAP_ADMIN_KEY_SHA256";
        let malformed = ConfigError::Malformed {
            variable: VARIABLE,
            expected: "up to 10 comma-separated SHA-256 hashes, 64 lower-case hexadecimal digits each",
        };
        let listed = present(source, VARIABLE)?;
        if listed.is_empty() {
            return Ok(Self::default());
        }
        let hashes: Option<Vec<KeyHash>> = listed
            .split(',')
            .map(|hash| HEXLOWER.decode(hash.trim().as_bytes()).ok()?.try_into().ok().map(KeyHash))
            .collect();
        hashes.filter(|hashes| hashes.len() <= MAX_BOOTSTRAP_HASHES).map(Self).ok_or(malformed)
    }
}

/// For how many days a booking is kept after its end (`BOOKING_RETENTION_DAYS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookingRetention {
    /// Days, [`MIN_RETENTION_DAYS`] to [`MAX_RETENTION_DAYS`].
    pub days: u32,
}

impl BookingRetention {
    /// Reads it.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_source(&environment)
    }

    fn from_source(source: Source<'_>) -> Result<Self, ConfigError> {
        const VARIABLE: &str = "BOOKING_RETENTION_DAYS";
        let malformed = ConfigError::Malformed { variable: VARIABLE, expected: "a number from 15 to 3650" };
        let days = required(source, VARIABLE)?.parse().map_err(|_| malformed)?;
        if (MIN_RETENTION_DAYS..=MAX_RETENTION_DAYS).contains(&days) {
            Ok(Self { days })
        } else {
            Err(malformed)
        }
    }
}

/// Whether providers and endpoints may be configured with `http` (`ALLOW_PLAIN_HTTP_TARGETS`, `true` or
/// `false`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowPlainHttpTargets(pub bool);

impl AllowPlainHttpTargets {
    /// Reads it.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_source(&environment)
    }

    fn from_source(source: Source<'_>) -> Result<Self, ConfigError> {
        const VARIABLE: &str = "ALLOW_PLAIN_HTTP_TARGETS";
        match required(source, VARIABLE)?.as_str() {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            _ => Err(ConfigError::Malformed { variable: VARIABLE, expected: "true or false" }),
        }
    }
}

/// The least severe level that is logged (`LOG_LEVEL`: `error`, `warn`, `info`, `debug` or `trace`;
/// `info` if it is not set, as documented).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub LevelFilter);

impl fmt::Debug for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LogLevel({})", self.0)
    }
}

impl LogLevel {
    /// Reads it.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_source(&environment)
    }

    fn from_source(source: Source<'_>) -> Result<Self, ConfigError> {
        let level = match source("LOG_LEVEL").as_deref() {
            Some("error") => LevelFilter::ERROR,
            Some("warn") => LevelFilter::WARN,
            None | Some("info") => LevelFilter::INFO,
            Some("debug") => LevelFilter::DEBUG,
            Some("trace") => LevelFilter::TRACE,
            Some(_) => {
                let expected = "error, warn, info, debug or trace";
                return Err(ConfigError::Malformed { variable: "LOG_LEVEL", expected });
            }
        };
        Ok(Self(level))
    }
}

/// Where metrics and traces go. Neither has to go anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observability {
    /// The namespace of metrics (`METRICS_NAMESPACE`); `None`, if it is not set or empty: none are written.
    pub metrics_namespace: Option<String>,
    /// The daemon of X-Ray (`AWS_XRAY_DAEMON_ADDRESS`, which Lambda sets); `None` if there is none.
    pub xray_daemon: Option<SocketAddr>,
}

impl Observability {
    /// Reads both.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_source(&environment)
    }

    fn from_source(source: Source<'_>) -> Result<Self, ConfigError> {
        let optional = |variable| source(variable).filter(|value| !value.is_empty());
        let metrics_namespace = optional(METRICS_NAMESPACE);
        let is_allowed = |name: &String| {
            name.len() <= MAX_NAMESPACE_BYTES
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte))
        };
        if metrics_namespace.as_ref().is_some_and(|name| !is_allowed(name)) {
            let expected = "a namespace of metrics: up to 255 letters, digits, and . - _ / #";
            return Err(ConfigError::Malformed { variable: METRICS_NAMESPACE, expected });
        }
        let xray_daemon = optional(XRAY_DAEMON).map(|address| {
            let expected = "an address and a port";
            address.parse().map_err(|_| ConfigError::Malformed { variable: XRAY_DAEMON, expected })
        });
        Ok(Self { metrics_namespace, xray_daemon: xray_daemon.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(variable: &'static str, value: &'static str) -> impl Fn(&str) -> Option<String> {
        move |asked| (asked == variable).then(|| value.to_owned())
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(required(&nothing, "CONFIG_TABLE"), Err(ConfigError::Missing("CONFIG_TABLE")));
        assert_eq!(
            required(&only("CONFIG_TABLE", ""), "CONFIG_TABLE"),
            Err(ConfigError::Missing("CONFIG_TABLE"))
        );
        let message = aws_from(&nothing).unwrap_err().to_string();
        assert_eq!(message, "the environment variable AWS_REGION is not set");
        assert_eq!(
            AllowedPrivateHosts::from_source(&nothing),
            Err(ConfigError::Missing("ALLOWED_PRIVATE_HOSTS"))
        );
        assert_eq!(
            BootstrapAdmins::from_source(&nothing),
            Err(ConfigError::Missing("BOOTSTRAP_ADMIN_KEY_SHA256"))
        );
    }

    #[test]
    fn aws_takes_what_lambda_sets() {
        let lambda = |variable: &str| match variable {
            "AWS_REGION" => Some("eu-central-1".to_owned()),
            "AWS_ACCESS_KEY_ID" => Some("id".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
            "AWS_ENDPOINT_URL" => Some(String::new()),
            _ => None,
        };
        let config = aws_from(&lambda).unwrap();
        assert_eq!(config.region, "eu-central-1");
        assert_eq!(config.endpoint_url, None);
        assert!(config.credentials.session_token.is_none());
        assert!(!format!("{config:?}").contains("hush"));
        let odd = |variable: &str| match variable {
            "AWS_ENDPOINT_URL" => Some("localhost:4566".to_owned()),
            other => lambda(other),
        };
        assert!(matches!(aws_from(&odd), Err(ConfigError::Malformed { variable: "AWS_ENDPOINT_URL", .. })));
    }

    #[test]
    fn hosts_are_lower_case_and_none_is_none() {
        let hosts = |value| AllowedPrivateHosts::from_source(&only("ALLOWED_PRIVATE_HOSTS", value));
        assert_eq!(hosts("").unwrap().0, Vec::<String>::new());
        assert_eq!(hosts("Localhost, 10.0.0.1").unwrap().0, ["localhost", "10.0.0.1"]);
        assert!(hosts("a,,b").is_err());
    }

    #[test]
    fn bootstrap_hashes_are_hexadecimal_or_an_error() {
        let admins = |value| BootstrapAdmins::from_source(&only("BOOTSTRAP_ADMIN_KEY_SHA256", value));
        assert_eq!(admins("").unwrap().0, []);
        let two = concat!(
            "00000000000000000000000000000000000000000000000000000000000000ff",
            ",ff00000000000000000000000000000000000000000000000000000000000000"
        );
        let hashes = admins(two).unwrap().0;
        assert_eq!((hashes[0].0[31], hashes[1].0[0]), (255, 255));
        for wrong in ["ff", "x", "FF00000000000000000000000000000000000000000000000000000000000000", ","] {
            assert!(admins(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn metrics_and_traces_may_go_nowhere_but_not_anywhere() {
        let none = Observability { metrics_namespace: None, xray_daemon: None };
        assert_eq!(Observability::from_source(&nothing), Ok(none));
        let namespace = |value| Observability::from_source(&only("METRICS_NAMESPACE", value));
        assert_eq!(namespace("Holdfast/shop").unwrap().metrics_namespace.as_deref(), Some("Holdfast/shop"));
        assert_eq!(namespace("").unwrap().metrics_namespace, None);
        assert!(namespace("Hold fast").is_err());
        let long = |variable: &str| (variable == "METRICS_NAMESPACE").then(|| "a".repeat(256));
        assert!(Observability::from_source(&long).is_err());
        let daemon = |value| Observability::from_source(&only("AWS_XRAY_DAEMON_ADDRESS", value));
        let address = daemon("169.254.79.129:2000").unwrap().xray_daemon;
        assert_eq!(address, Some(SocketAddr::from(([169, 254, 79, 129], 2_000))));
        assert!(daemon("localhost").is_err());
    }

    #[test]
    fn numbers_flags_and_levels_are_checked() {
        let days = |value| BookingRetention::from_source(&only("BOOKING_RETENTION_DAYS", value));
        assert_eq!(days("400"), Ok(BookingRetention { days: 400 }));
        assert!(days("14").is_err() && days("3651").is_err() && days("x").is_err());
        let flag = |value| AllowPlainHttpTargets::from_source(&only("ALLOW_PLAIN_HTTP_TARGETS", value));
        assert_eq!(flag("true"), Ok(AllowPlainHttpTargets(true)));
        assert!(flag("yes").is_err());
        let level = |value| LogLevel::from_source(&only("LOG_LEVEL", value));
        assert_eq!(level("debug"), Ok(LogLevel(LevelFilter::DEBUG)));
        assert_eq!(LogLevel::from_source(&nothing), Ok(LogLevel(LevelFilter::INFO)));
        assert!(level("loud").is_err());
    }
}
