//! Who calls where administrators and consumers do.

use holdfast_domain::{Tenant, Timestamp};

use crate::auth::{consumer_of, presented_key};
use crate::ports::SettingsReader;
use crate::problem::{Problem, ProblemCode};
use crate::settings::{KeyHash, KeyOwner, KeyRecord};
use crate::settings_cache::SettingsCache;

/// What stands for the id of a key whose hash the deployment was given.
const BOOTSTRAP: &str = "bootstrap";

/// Who calls.
#[derive(Debug)]
pub enum Caller {
    /// An administrator whose key the deployment was given.
    Bootstrap,
    /// The owner of a key.
    Known(Box<KeyRecord>),
}

impl Caller {
    /// Verifies the key of an `Authorization` header.
    pub async fn of<R: SettingsReader>(
        settings: &SettingsCache<R>,
        admins: &[KeyHash],
        authorization: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let presented = presented_key(authorization)?;
        if presented.is_bootstrap_admin(admins) {
            return Ok(Self::Bootstrap);
        }
        Ok(Self::Known(Box::new(settings.verify(&presented, None, now).await?.key)))
    }

    /// The id of an administrator's key, or `bootstrap`; a problem if it is not an administrator's.
    pub fn administrator(self) -> Result<String, Problem> {
        match self {
            Self::Bootstrap => Ok(BOOTSTRAP.to_owned()),
            Self::Known(key) if key.owner == KeyOwner::Admin => Ok(key.key_id.to_string()),
            Self::Known(_) => {
                Err(Problem::new(ProblemCode::Forbidden, "This call needs an administrator's key."))
            }
        }
    }

    /// The tenant of a consumer's key; a problem if it is not a consumer's.
    pub fn consumer(self) -> Result<Tenant, Problem> {
        match self {
            Self::Known(key) => consumer_of(&key),
            Self::Bootstrap => Err(Problem::new(ProblemCode::Forbidden, "This call needs a consumer's key.")),
        }
    }
}
