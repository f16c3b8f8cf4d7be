//! Deploys `template.yaml` to the emulator: decides the parameters and reads the outputs. The calls to
//! `CloudFormation` are made by `python/deploy.py`, whose client comes with the emulator's packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::emulator::{REGION, ROOT_ACCESS_KEY_ID, ROOT_SECRET_ACCESS_KEY};
use super::error::StackError;
use super::options::Layout;
use super::tool::{Errors, Tool, command};

/// The name of the `CloudFormation` stack; names of functions and of the bus begin with it.
pub(super) const STACK_NAME: &str = "holdfast-local";

/// The hosts that functions may call although they are private: the simulator and the inbox.
const ALLOWED_PRIVATE_HOSTS: &str = "127.0.0.1,localhost";

const DEPLOY_LIMIT: Duration = Duration::from_mins(3);

/// What the script is told; its docstring explains the fields.
#[derive(Serialize)]
struct Order<'a> {
    endpoint_url: &'a str,
    region: &'a str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    stack_name: &'a str,
    template: PathBuf,
    parameters: BTreeMap<&'a str, String>,
    binaries: &'a BTreeMap<String, PathBuf>,
    package_dir: PathBuf,
}

/// What the script answers.
#[derive(Debug, Deserialize)]
pub(super) struct Deployed {
    /// The template's outputs by name.
    pub(super) outputs: BTreeMap<String, String>,
    /// How many packages were not there from an earlier start.
    pub(super) packages_made: usize,
}

/// Deploys the functions with `admin_key` as the first administrator's.
pub(super) async fn deploy(
    interpreter: &Path,
    layout: &Layout,
    endpoint_url: &str,
    binaries: &BTreeMap<String, PathBuf>,
    admin_key: &str,
) -> Result<Deployed, StackError> {
    let deploy = Tool {
        what: "deploying the template",
        advice: format!("The emulator's log is in {}.", layout.logs().join("emulator.log").display()),
        limit: DEPLOY_LIMIT,
        errors: Errors::Message,
    };
    let order = Order {
        endpoint_url,
        region: REGION,
        access_key_id: ROOT_ACCESS_KEY_ID,
        secret_access_key: ROOT_SECRET_ACCESS_KEY,
        stack_name: STACK_NAME,
        template: layout.template(),
        parameters: parameters(admin_key),
        binaries,
        package_dir: layout.packages(),
    };
    let input = serde_json::to_vec(&order).map_err(|error| deploy.failed(error.to_string()))?;
    let mut script = command(interpreter, ["-B"]);
    script.arg(layout.scripts().join("deploy.py"));
    // The caller's AWS settings and proxies are for the real AWS.
    script.env_clear().env("HOME", layout.emulator_files());
    let printed = deploy.run(&mut script, &input).await?;
    serde_json::from_slice(&printed).map_err(|error| deploy.failed(error.to_string()))
}

fn parameters(admin_key: &str) -> BTreeMap<&'static str, String> {
    // Lambda's names for the two, which are not Rust's.
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    BTreeMap::from([
        ("Stage", "local".to_owned()),
        ("BootstrapAdminKeySha256", HEXLOWER.encode(&Sha256::digest(admin_key))),
        ("AllowedPrivateHosts", ALLOWED_PRIVATE_HOSTS.to_owned()),
        ("AllowPlainHttpTargets", "true".to_owned()),
        ("Architecture", architecture.to_owned()),
    ])
}
