//! The AWS emulator's process: started on loopback only, in a clean environment, and always ended with us.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use super::error::StackError;
use super::options::Layout;
use super::tool::tail;

/// Region of everything that is deployed.
pub(super) const REGION: &str = "us-east-1";

/// The emulator's root user. Functions get credentials of their own roles instead.
pub(super) const ROOT_ACCESS_KEY_ID: &str = "test";
/// Its secret; the emulator knows no other.
pub(super) const ROOT_SECRET_ACCESS_KEY: &str = "test";

/// Concurrent invocations of all functions together, past which the emulator throttles. Each is a process.
const ACCOUNT_CONCURRENCY: u32 = 200;

/// How long an idle process of a function is kept for the next burst. The first of each function stays.
const IDLE_PROCESS_SECONDS: u32 = 60;

const READY_LIMIT: Duration = Duration::from_mins(1);
const READY_POLL: Duration = Duration::from_millis(50);
/// A little longer than the launcher gives the functions.
const STOP_LIMIT: Duration = Duration::from_secs(6);

/// A running emulator. Dropped without [`Emulator::stop`], it is killed, and its functions end by themselves.
#[derive(Debug)]
pub(super) struct Emulator {
    child: Child,
    /// Open as long as the emulator shall run. Kept apart, because waiting for a child closes its input.
    lifeline: Option<ChildStdin>,
    log: PathBuf,
    /// Where it answers, without a trailing slash.
    pub(super) endpoint_url: String,
}

impl Emulator {
    /// Starts it with an empty state and waits until it answers. Functions call it at `functions_url`, if that is
    /// given, in place of its own address.
    pub(super) async fn start(
        interpreter: &Path,
        layout: &Layout,
        port: u16,
        functions_url: Option<&str>,
        client: &reqwest::Client,
    ) -> Result<Self, StackError> {
        let log = layout.logs().join("emulator.log");
        let endpoint_url = format!("http://127.0.0.1:{port}");
        let mut child = launch(interpreter, layout, port, &log, functions_url.unwrap_or(&endpoint_url))?;
        let lifeline = child.stdin.take();
        let mut emulator = Self { child, lifeline, log, endpoint_url };
        emulator.wait_until_ready(client).await?;
        Ok(emulator)
    }

    async fn wait_until_ready(&mut self, client: &reqwest::Client) -> Result<(), StackError> {
        let deadline = Instant::now() + READY_LIMIT;
        let ready = format!("{}/_ministack/ready", self.endpoint_url);
        loop {
            // Until it listens, every failure only means "not yet".
            if let Ok(answer) = client.get(&ready).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(format!("ended while starting ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(format!("was not ready after {} s", READY_LIMIT.as_secs())));
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Waits for an end that nobody asked for, and says what is known about it.
    pub(super) async fn ended(&mut self) -> StackError {
        let what = match self.child.wait().await {
            Ok(status) => format!("ended by itself ({status})"),
            Err(error) => format!("can no longer be watched ({error})"),
        };
        self.failed(what)
    }

    /// Ends the functions and the emulator; kills them if they take too long.
    pub(super) async fn stop(mut self) -> std::io::Result<ExitStatus> {
        // The launcher ends everything when its input closes.
        drop(self.lifeline.take());
        if let Ok(ended) = tokio::time::timeout(STOP_LIMIT, self.child.wait()).await {
            return ended;
        }
        self.child.kill().await?;
        self.child.wait().await
    }

    fn failed(&self, what: String) -> StackError {
        let lines = fs::read(&self.log).unwrap_or_default();
        let tail = tail(&String::from_utf8_lossy(&lines));
        StackError::Emulator { what, tail, log: self.log.clone() }
    }
}

fn launch(
    interpreter: &Path,
    layout: &Layout,
    port: u16,
    log: &Path,
    functions_url: &str,
) -> Result<Child, StackError> {
    let files = layout.emulator_files();
    if files.exists() {
        fs::remove_dir_all(&files).map_err(StackError::file("could not empty", &files))?;
    }
    for folder in [files.join("tmp"), layout.logs().join("functions")] {
        fs::create_dir_all(&folder).map_err(StackError::file("could not make", &folder))?;
    }
    let out = File::create(log).map_err(StackError::file("could not write", log))?;
    let err = out.try_clone().map_err(StackError::file("could not write", log))?;
    let mut command = Command::new(interpreter);
    // Functions inherit what the emulator has, so it starts from an empty environment.
    command
        .args(["-B", "-u"])
        .arg(layout.scripts().join("launcher.py"))
        .env_clear()
        .envs(settings(port, functions_url))
        .env("TMPDIR", files.join("tmp"))
        .env("HOME", &files)
        .env("S3_DATA_DIR", files.join("s3"))
        .env("STATE_DIR", files.join("state"))
        .env("FUNCTION_LOG_DIR", layout.logs().join("functions"))
        .current_dir(&files)
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(err)
        // Ctrl-C is for us to handle; the emulator then ends in order.
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().map_err(StackError::file("could not run", interpreter))
}

/// What the emulator is told by environment variables.
fn settings(port: u16, functions_url: &str) -> Vec<(&'static str, String)> {
    [
        ("BIND_HOST", "127.0.0.1"),
        ("GATEWAY_PORT", &port.to_string()),
        ("MINISTACK_HOST", "localhost"),
        ("MINISTACK_REGION", REGION),
        // It does not call itself: this is for the functions.
        ("AWS_ENDPOINT_URL", functions_url),
        // Functions' policies are enforced, as on AWS.
        ("AUTH", "true"),
        // Both would listen beside the port; the first one even on every interface.
        ("IOT_MTLS_ENABLED", "0"),
        ("SFTP_ENABLED", "0"),
        ("LAMBDA_ACCOUNT_CONCURRENCY", &ACCOUNT_CONCURRENCY.to_string()),
        ("LAMBDA_WARM_TTL_SECONDS", &IDLE_PROCESS_SECONDS.to_string()),
        ("LOG_LEVEL", "INFO"),
        ("STACK_NAME", super::deploy::STACK_NAME),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}
