//! The file that says where a running local stack is: `.local/stack.json`.
//!
//! `cargo local` writes it when, and only when, everything is ready, and removes it at the end. Scripts and
//! tests read it. It holds keys of the local stack, which open nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file's name inside the stack's state folder.
pub const STACK_FILE_NAME: &str = "stack.json";

/// Readable and writable for its owner alone, because of the keys.
const FILE_MODE: u32 = 0o600;

/// Where a running local stack answers, and the keys that open it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFile {
    /// Base URL of the API, without a trailing slash.
    pub api_url: String,
    /// The deployment's first administrator key.
    pub admin_key: String,
    /// A test key of the consumer `demo-marketplace`.
    pub consumer_key: String,
    /// A test key of the consumer `other-marketplace`, another tenant.
    pub other_consumer_key: String,
    /// A test key per provider, by provider id.
    pub provider_keys: BTreeMap<String, String>,
    /// The ids of the seeded providers; the simulator speaks for each of them.
    pub providers: Vec<String>,
    /// Base URL of the provider simulator and its control API.
    pub provider_simulator_url: String,
    /// Base URL of the webhook inbox.
    pub webhook_inbox_url: String,
    /// Endpoint of the emulated AWS services.
    pub aws_endpoint_url: String,
    /// Region that everything is deployed to.
    pub aws_region: String,
    /// Access key id of the emulator's root user, whom no policy limits.
    pub aws_access_key_id: String,
    /// The secret that belongs to it.
    pub aws_secret_access_key: String,
    /// Every output of the deployed template, by name.
    pub resources: BTreeMap<String, String>,
}

impl StackFile {
    /// Reads the file; an `InvalidData` error when it is not one.
    pub fn read(path: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
    }

    /// Writes the file in one step: a reader sees all of it or none of it.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let partial = path.with_extension("json.partial");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&partial)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(partial, path)
    }
}

/// Shows the addresses alone: a key cannot be printed by accident.
impl fmt::Debug for StackFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StackFile")
            .field("api_url", &self.api_url)
            .field("aws_endpoint_url", &self.aws_endpoint_url)
            .field("resources", &self.resources)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> StackFile {
        StackFile {
            api_url: "http://127.0.0.1:3000".to_owned(),
            admin_key: "hf_test_admin_a_secret".to_owned(),
            consumer_key: "hf_test_consumer_b_secret".to_owned(),
            other_consumer_key: "hf_test_consumer_c_secret".to_owned(),
            provider_keys: BTreeMap::from([("demo-lab".to_owned(), "hf_test_provider_d_secret".to_owned())]),
            providers: vec!["demo-lab".to_owned()],
            provider_simulator_url: "http://127.0.0.1:3001".to_owned(),
            webhook_inbox_url: "http://127.0.0.1:3002".to_owned(),
            aws_endpoint_url: "http://127.0.0.1:4566".to_owned(),
            aws_region: "us-east-1".to_owned(),
            aws_access_key_id: "test".to_owned(),
            aws_secret_access_key: "test".to_owned(),
            resources: BTreeMap::from([("ApiId".to_owned(), "abc".to_owned())]),
        }
    }

    #[test]
    fn is_read_as_it_was_written() {
        let folder = std::env::temp_dir().join(format!("holdfast-stack-file-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(STACK_FILE_NAME);
        example().write(&path).unwrap();
        assert_eq!(StackFile::read(&path).unwrap(), example());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "the partial file is gone");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn never_shows_a_key_when_printed() {
        assert!(!format!("{:?}", example()).contains("secret"));
    }
}
