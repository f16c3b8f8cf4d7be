//! API keys of consumers and providers. Administrators' keys are given to the deployment, not made here.

use holdfast_domain::{ConsumerId, KeyId, Mode, ProviderId, Timestamp};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{list, not_found};
use crate::auth::new_key;
use crate::parse::{FieldErrors, parse};
use crate::ports::{ConfigurationStore, Entropy};
use crate::problem::{Problem, ProblemCode};
use crate::settings::{KeyOwner, KeyRecord};
use crate::settings_cache::configuration_problem;

/// The most keys of an owner that are valid at once. Two are enough to rotate one; more are for callers
/// that want one for each of their parts.
pub const MAX_KEYS_PER_OWNER: usize = 50;

/// Who may have keys made for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// Consumers.
    Consumer,
    /// Providers.
    Provider,
}

impl OwnerKind {
    fn what(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Provider => "provider",
        }
    }

    fn owner(self, id: &str) -> Result<KeyOwner, Problem> {
        let owner = match self {
            Self::Consumer => ConsumerId::parse(id).map(KeyOwner::Consumer),
            Self::Provider => ProviderId::parse(id).map(KeyOwner::Provider),
        };
        owner.map_err(|_| not_found(self.what()))
    }
}

/// What is known of an owner that exists.
struct KnownOwner {
    owner: KeyOwner,
    /// The mode that its keys must have, if there is but one.
    only_mode: Option<Mode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    mode: ModeBody,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeBody {
    Live,
    Test,
}

impl From<ModeBody> for Mode {
    fn from(mode: ModeBody) -> Self {
        match mode {
            ModeBody::Live => Self::Live,
            ModeBody::Test => Self::Test,
        }
    }
}

fn view(key: &KeyRecord) -> Value {
    json!({
        "key_id": key.key_id.as_str(),
        "mode": key.mode.as_str(),
        "created_at": key.created_at,
        "revoked_from": key.revoked_from,
    })
}

/// Makes a key. The answer is the only one that ever shows it.
pub async fn create_key(
    store: &impl ConfigurationStore,
    entropy: &impl Entropy,
    kind: OwnerKind,
    id: &str,
    body: &Value,
    now: Timestamp,
) -> Result<Value, Problem> {
    let known = known_owner(store, kind, id).await?;
    let mode = Mode::from(parse::<KeyBody>(body)?.mode);
    if let Some(only_mode) = known.only_mode.filter(|only_mode| *only_mode != mode) {
        let mut errors = FieldErrors::default();
        errors.push("/mode", format!("must be {}, as the provider is", only_mode.as_str()));
        errors.finish()?;
    }
    let existing = store.keys(&known.owner).await.map_err(|error| configuration_problem(&error))?;
    if existing.iter().filter(|key| key.is_valid_at(now)).count() >= MAX_KEYS_PER_OWNER {
        let detail = format!("There are {MAX_KEYS_PER_OWNER} valid keys already; revoke one first.");
        return Err(Problem::new(ProblemCode::LimitReached, detail));
    }
    let (secret, record) = new_key(known.owner, mode, now, entropy);
    store.put_key(&record).await.map_err(|error| configuration_problem(&error))?;
    // Whoever removes the owner ends its keys afterwards; a key that came too late for that ends here.
    if let Err(gone) = known_owner(store, kind, id).await {
        store
            .revoke_key(&record.owner, &record.key_id, now)
            .await
            .map_err(|error| configuration_problem(&error))?;
        return Err(gone);
    }
    let mut answer = view(&record);
    answer["key"] = json!(secret.expose_secret());
    answer["owner"] = json!({"role": record.owner.role(), "id": id});
    Ok(answer)
}

/// All keys of an owner, revoked ones included, without their secrets.
pub async fn keys(store: &impl ConfigurationStore, kind: OwnerKind, id: &str) -> Result<Value, Problem> {
    let known = known_owner(store, kind, id).await?;
    let keys = store.keys(&known.owner).await.map_err(|error| configuration_problem(&error))?;
    Ok(list(keys.iter().map(view)))
}

/// Ends a key. It opens nothing anywhere once caches have forgotten it, that is within 30 s.
pub async fn revoke_key(
    store: &impl ConfigurationStore,
    kind: OwnerKind,
    id: &str,
    key_id: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    let owner = kind.owner(id)?;
    let key_id = KeyId::parse(key_id).map_err(|_| not_found("key"))?;
    let existed =
        store.revoke_key(&owner, &key_id, now).await.map_err(|error| configuration_problem(&error))?;
    if existed { Ok(()) } else { Err(not_found("key")) }
}

/// Ends all keys of an owner. Returns how many were still valid.
pub(super) async fn revoke_all(
    store: &impl ConfigurationStore,
    owner: &KeyOwner,
    now: Timestamp,
) -> Result<usize, Problem> {
    let keys = store.keys(owner).await.map_err(|error| configuration_problem(&error))?;
    let mut revoked = 0;
    for key in keys.iter().filter(|key| key.is_valid_at(now)) {
        store.revoke_key(owner, &key.key_id, now).await.map_err(|error| configuration_problem(&error))?;
        revoked += 1;
    }
    Ok(revoked)
}

async fn known_owner(
    store: &impl ConfigurationStore,
    kind: OwnerKind,
    id: &str,
) -> Result<KnownOwner, Problem> {
    let owner = kind.owner(id)?;
    let only_mode = match &owner {
        KeyOwner::Consumer(id) => store.consumer(id).await.map(|found| found.map(|_| None)),
        KeyOwner::Provider(id) => store.provider(id).await.map(|found| found.map(|known| Some(known.mode))),
        KeyOwner::Admin => Ok(None),
    };
    let only_mode = only_mode.map_err(|error| configuration_problem(&error))?;
    only_mode.map(|only_mode| KnownOwner { owner, only_mode }).ok_or_else(|| not_found(kind.what()))
}
