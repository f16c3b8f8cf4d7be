//! What can keep the local stack from running, told so that the reader knows what to do.
//!
//! These texts are the only place where a failed start is explained; no key or secret is part of them.

use std::io;
use std::path::PathBuf;

/// Why the stack did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Another process listens on a port that the stack needs.
    #[error(
        "port {port} is taken, and {purpose} needs it.\n\
         End the process that listens there, or choose another port with {flag} or {variable} \
         (0 takes any free one).\n\
         To run a second stack beside a first one: --state-dir <another folder> --api-port 0 \
         --simulator-port 0 --inbox-port 0 --aws-port 0."
    )]
    PortTaken {
        /// The port asked for.
        port: u16,
        /// What was to answer there.
        purpose: &'static str,
        /// The flag that changes it.
        flag: &'static str,
        /// The environment variable that changes it.
        variable: &'static str,
    },
    /// A listener could not be opened for another reason.
    #[error("could not listen on 127.0.0.1:{port} for {purpose}: {source}")]
    Listen {
        /// The port asked for.
        port: u16,
        /// What was to answer there.
        purpose: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A second start in the same state folder.
    #[error(
        "a local stack already runs in {}.\n\
         End it first (Ctrl-C where it runs), or start this one with another --state-dir and other ports.",
        folder.display()
    )]
    AlreadyRunning {
        /// The state folder.
        folder: PathBuf,
    },
    /// No Python was found.
    #[error(
        "Python 3.10 or later is needed for the AWS emulator, and none was found (looked for {tried}).\n\
         Install it (with its venv module), or name it with --python."
    )]
    PythonMissing {
        /// The commands that were tried.
        tried: String,
    },
    /// Only unusable Pythons were found.
    #[error(
        "Python 3.10 or later is needed for the AWS emulator, but only this was found: {found}.\n\
         Install a later one, or name it with --python."
    )]
    PythonTooOld {
        /// The versions found, with their commands.
        found: String,
    },
    /// A tool ended with an error or did not end.
    #[error("{what} failed: {detail}\n{advice}")]
    Tool {
        /// The step, as it reads in a sentence.
        what: &'static str,
        /// What the tool said.
        detail: String,
        /// What to do.
        advice: String,
    },
    /// The emulator did not become ready, or ended.
    #[error("the AWS emulator {what}. Its last lines:\n{tail}\nThe whole log is in {}.", log.display())]
    Emulator {
        /// What happened to it.
        what: String,
        /// The end of its log.
        tail: String,
        /// Its log file.
        log: PathBuf,
    },
    /// The deployed system did not take the demo data.
    #[error(
        "the demo data could not be set up: {call} answered {detail}.\n\
         The functions' logs are in {}.",
        logs.display()
    )]
    Seed {
        /// Method and path.
        call: String,
        /// The answer's status, if there was one.
        status: Option<reqwest::StatusCode>,
        /// Status and problem, without any secret.
        detail: String,
        /// The folder of log files.
        logs: PathBuf,
    },
    /// An HTTP client of the stack's own could not be made.
    #[error("could not set up an HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// The operating system gave no random bytes.
    #[error("no random bytes for keys: {0}")]
    Random(getrandom::Error),
    /// A file or folder could not be used.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried, as it reads before the path.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StackError {
    /// For `map_err`: names what was tried with which file.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
