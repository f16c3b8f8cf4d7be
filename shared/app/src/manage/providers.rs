//! Providers: the clinics, laboratories and tour suppliers that are booked.

use holdfast_domain::{Mode, ProviderId, RetryPolicy, RetryPolicyError, Timestamp};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::check::{self, TargetRules, UrlKind};
use super::{keys, list, not_found, unusable_name};
use crate::parse::{FieldErrors, parse_checked};
use crate::ports::ConfigurationStore;
use crate::problem::Problem;
use crate::settings::{
    ConfirmationMode, DEFAULT_ATTEMPT_TIMEOUT_MS, KeyOwner, MAX_ATTEMPT_TIMEOUT_MS, MIN_ATTEMPT_TIMEOUT_MS,
    Protocol, ProviderAuth, ProviderSettings,
};
use crate::settings_cache::configuration_problem;

const WHAT: &str = "provider";

// The bodies have no Debug: they hold secrets in the clear.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderBody {
    name: String,
    mode: String,
    base_url: String,
    protocol: Option<String>,
    confirmation: Option<String>,
    #[serde(default)]
    auth: AuthBody,
    signing_secret: Option<String>,
    #[serde(default)]
    retry: RetryBody,
    attempt_timeout_millisecond: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthBody {
    #[serde(rename = "type")]
    kind: String,
    token: Option<String>,
    header: Option<String>,
    value: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Default for AuthBody {
    fn default() -> Self {
        let kind = AUTH_NONE.to_owned();
        Self { kind, token: None, header: None, value: None, username: None, password: None }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    first_delay_millisecond: Option<u64>,
    factor: Option<u32>,
    max_delay_millisecond: Option<u64>,
}

const AUTH_NONE: &str = "none";
const AUTH_BEARER: &str = "bearer";
const AUTH_API_KEY: &str = "api_key";
const AUTH_BASIC: &str = "basic";

fn auth_name(auth: &ProviderAuth) -> &'static str {
    match auth {
        ProviderAuth::None => AUTH_NONE,
        ProviderAuth::Bearer { .. } => AUTH_BEARER,
        ProviderAuth::ApiKey { .. } => AUTH_API_KEY,
        ProviderAuth::Basic { .. } => AUTH_BASIC,
    }
}

/// Secrets are never shown, only whether there are any.
fn view(provider: &ProviderSettings) -> Value {
    json!({
        "id": provider.provider_id.as_str(),
        "name": provider.display_name,
        "mode": provider.mode.as_str(),
        "base_url": provider.base_url,
        "protocol": provider.protocol.as_str(),
        "confirmation": provider.confirmation.as_str(),
        "auth": {"type": auth_name(&provider.auth)},
        "signing_secret_set": provider.signing_secret.is_some(),
        "retry": {
            "first_delay_millisecond": provider.retry.first_delay_ms(),
            "factor": provider.retry.factor(),
            "max_delay_millisecond": provider.retry.max_delay_ms(),
        },
        "attempt_timeout_millisecond": provider.attempt_timeout_ms,
    })
}

/// Makes a provider, or replaces all that is configured of it: secrets that are left out are gone.
pub async fn put_provider(
    store: &impl ConfigurationStore,
    rules: TargetRules,
    id: &str,
    body: &Value,
) -> Result<Value, Problem> {
    let provider_id = ProviderId::parse(id).map_err(unusable_name)?;
    let (body, mut errors) = parse_checked::<ProviderBody>(body)?.into_parts();
    let before = store.provider(&provider_id).await.map_err(|error| configuration_problem(&error))?;
    let provider = read(body, provider_id, rules, &mut errors);
    if before.is_some_and(|before| before.mode != provider.mode) {
        // Its bookings and keys are of that mode.
        errors.push("/mode", "cannot be changed; delete the provider or use another name");
    }
    errors.finish()?;
    store.put_provider(&provider).await.map_err(|error| configuration_problem(&error))?;
    Ok(view(&provider))
}

/// One provider.
pub async fn provider(store: &impl ConfigurationStore, id: &str) -> Result<Value, Problem> {
    let id = ProviderId::parse(id).map_err(|_| not_found(WHAT))?;
    let provider = store.provider(&id).await.map_err(|error| configuration_problem(&error))?;
    provider.as_ref().map(view).ok_or_else(|| not_found(WHAT))
}

/// All providers.
pub async fn providers(store: &impl ConfigurationStore) -> Result<Value, Problem> {
    let providers = store.providers().await.map_err(|error| configuration_problem(&error))?;
    Ok(list(providers.iter().map(view)))
}

/// Removes a provider and ends its keys; bookings at it stay as they are. If it was broken off half-way,
/// a repetition finishes it.
pub async fn delete_provider(
    store: &impl ConfigurationStore,
    id: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    let id = ProviderId::parse(id).map_err(|_| not_found(WHAT))?;
    // The provider goes first: a key that is being made meanwhile finds it gone and is taken back.
    let existed = store.delete_provider(&id).await.map_err(|error| configuration_problem(&error))?;
    let revoked = keys::revoke_all(store, &KeyOwner::Provider(id), now).await?;
    if existed || revoked > 0 { Ok(()) } else { Err(not_found(WHAT)) }
}

/// Reads a body. What is wrong is added to the errors and stands as something harmless in the result.
fn read(
    body: ProviderBody,
    provider_id: ProviderId,
    rules: TargetRules,
    errors: &mut FieldErrors,
) -> ProviderSettings {
    check::display_name(errors, "/name", &body.name);
    check::target_url(errors, "/base_url", &body.base_url, UrlKind::Base, rules);
    let mode = Mode::parse(&body.mode).unwrap_or_else(|| {
        errors.push("/mode", "must be live or test");
        Mode::Test
    });
    if body.protocol.is_some_and(|protocol| Protocol::parse(&protocol).is_none()) {
        errors.push("/protocol", "must be holdfast, the only protocol that is supported");
    }
    if body.confirmation.is_some_and(|confirmation| ConfirmationMode::parse(&confirmation).is_none()) {
        errors.push("/confirmation", "must be confirm, the only mode that is supported");
    }
    let signing_secret = body.signing_secret.map(SecretString::from);
    if let Some(secret) = &signing_secret {
        check::secret(errors, "/signing_secret", secret);
    }
    let attempt_timeout_ms = body.attempt_timeout_millisecond.unwrap_or(DEFAULT_ATTEMPT_TIMEOUT_MS);
    let (least, most) = (MIN_ATTEMPT_TIMEOUT_MS, MAX_ATTEMPT_TIMEOUT_MS);
    check::range(errors, "/attempt_timeout_millisecond", attempt_timeout_ms, least, most);
    ProviderSettings {
        provider_id,
        display_name: body.name,
        mode,
        base_url: body.base_url.trim_end_matches('/').to_owned(),
        protocol: Protocol::Holdfast,
        confirmation: ConfirmationMode::Confirm,
        auth: read_auth(body.auth, errors),
        signing_secret,
        retry: read_retry(&body.retry, errors),
        attempt_timeout_ms,
    }
}

/// Reads the credentials: what the type needs, and nothing else.
fn read_auth(body: AuthBody, errors: &mut FieldErrors) -> ProviderAuth {
    let needed: &[&str] = match body.kind.as_str() {
        AUTH_NONE => &[],
        AUTH_BEARER => &["token"],
        AUTH_API_KEY => &["header", "value"],
        AUTH_BASIC => &["username", "password"],
        _ => {
            errors.push("/auth/type", "must be one of none, bearer, api_key, basic");
            return ProviderAuth::None;
        }
    };
    let given = [
        ("token", &body.token),
        ("header", &body.header),
        ("value", &body.value),
        ("username", &body.username),
        ("password", &body.password),
    ];
    for (name, value) in given {
        let pointer = format!("/auth/{name}");
        match (needed.contains(&name), value) {
            (true, None) => errors.push(pointer, format!("is required with type {}", body.kind)),
            (false, Some(_)) => errors.push(pointer, format!("does not belong to type {}", body.kind)),
            (true, Some(value)) if name == "header" => check::header_name(errors, &pointer, value),
            (true, Some(value)) => check::header_value(errors, &pointer, value),
            (false, None) => {}
        }
    }
    let secret = |value: Option<String>| SecretString::from(value.unwrap_or_default());
    match body.kind.as_str() {
        AUTH_BEARER => ProviderAuth::Bearer { token: secret(body.token) },
        AUTH_API_KEY => ProviderAuth::ApiKey {
            header: body.header.unwrap_or_default().to_ascii_lowercase(),
            value: secret(body.value),
        },
        AUTH_BASIC => {
            let username = body.username.unwrap_or_default();
            if username.contains(':') {
                errors.push("/auth/username", "must not have a colon");
            }
            ProviderAuth::Basic { username, password: secret(body.password) }
        }
        _ => ProviderAuth::None,
    }
}

/// Reads the policy; what is left out is as by default. Each number at fault is named.
fn read_retry(body: &RetryBody, errors: &mut FieldErrors) -> RetryPolicy {
    let default = RetryPolicy::DEFAULT;
    let mut first_delay_ms = body.first_delay_millisecond.unwrap_or(default.first_delay_ms());
    let mut factor = body.factor.unwrap_or(default.factor());
    let mut max_delay_ms = body.max_delay_millisecond.unwrap_or(default.max_delay_ms());
    loop {
        let error = match RetryPolicy::new(first_delay_ms, factor, max_delay_ms) {
            Ok(policy) => return policy,
            Err(error) => error,
        };
        // The policy names one number at a time; with that one put right it names the next.
        let field = match error {
            RetryPolicyError::FirstDelay => {
                first_delay_ms = 1;
                "first_delay_millisecond"
            }
            RetryPolicyError::Factor => {
                factor = default.factor();
                "factor"
            }
            RetryPolicyError::MaxDelay => {
                max_delay_ms = default.max_delay_ms();
                "max_delay_millisecond"
            }
        };
        let message = error.to_string();
        errors.push(format!("/retry/{field}"), message.trim_start_matches(field).trim_start());
    }
}
