//! One process of a function, and what it uses.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Failure;
use crate::database::{AVAILABILITY_TABLE, BOOKING_TABLE, CONFIG_TABLE, YARDSTICK_TABLE};
use crate::runtime_api::{Invocation, RuntimeApi};
use crate::world::{REGION, World};

/// What a tick of `/proc/<pid>/stat` is (`getconf CLK_TCK`), in seconds.
const TICK_S: f64 = 0.01;

/// How many of the last lines that a process printed are kept.
const KEPT_LINES: usize = 20;

/// How long a process may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// A program that answers Lambda's events.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is called in the report.
    pub name: &'static str,
    /// What is run.
    pub program: PathBuf,
    /// With these arguments.
    pub arguments: Vec<PathBuf>,
    /// With these variables besides the usual ones.
    pub environment: Vec<(String, String)>,
    /// Whether it books, so that replays and round trips can be measured.
    pub books: bool,
}

impl Subject {
    /// A program that is run without arguments or variables of its own.
    pub fn new(name: &'static str, program: PathBuf, books: bool) -> Self {
        Self { name, program, arguments: Vec::new(), environment: Vec::new(), books }
    }
}

/// A running one.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    api: RuntimeApi,
    printed: Arc<Mutex<Vec<String>>>,
    begun: Instant,
}

/// How a process is started otherwise than usual.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Runs the program: its name and arguments.
    pub wrapper: Vec<String>,
    /// Where DynamoDB is, if not at its plain endpoint.
    pub endpoint_url: Option<String>,
    /// The file with the certificates to trust.
    pub certificates: Option<PathBuf>,
}

impl Process {
    /// Starts a process.
    pub async fn start(
        subject: &Subject,
        world: &World,
        circumstances: &Circumstances,
    ) -> Result<Self, Failure> {
        let api = RuntimeApi::start().await?;
        let mut words = circumstances.wrapper.iter().map(PathBuf::from).collect::<Vec<_>>();
        words.push(subject.program.clone());
        words.extend(subject.arguments.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let endpoint_url = match &circumstances.endpoint_url {
            Some(url) => url.clone(),
            None => format!("http://{}", world.database.address),
        };
        for (name, value) in [
            ("PATH", "/usr/bin:/bin"),
            ("LANG", "C.UTF-8"),
            ("AWS_LAMBDA_RUNTIME_API", &api.address.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/bench"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "bench"),
            ("AWS_SECRET_ACCESS_KEY", "bench"),
            ("AWS_ENDPOINT_URL", &endpoint_url),
            ("LOG_LEVEL", "info"),
            ("METRICS_NAMESPACE", "Holdfast/bench"),
            ("BOOKING_TABLE", BOOKING_TABLE),
            ("CONFIG_TABLE", CONFIG_TABLE),
            ("AVAILABILITY_TABLE", AVAILABILITY_TABLE),
            ("ALLOWED_PRIVATE_HOSTS", "127.0.0.1"),
            ("BOOKING_RETENTION_DAYS", "400"),
            ("TABLE_NAME", YARDSTICK_TABLE),
            ("PROVIDER_URL", &world.provider.url),
        ] {
            command.env(name, value);
        }
        command.envs(subject.environment.iter().map(|(name, value)| (name, value)));
        if let Some(certificates) = &circumstances.certificates {
            command.env("SSL_CERT_FILE", certificates);
        }
        let begun = Instant::now();
        let mut child =
            command.spawn().map_err(|error| format!("{} cannot be started: {error}", subject.name))?;
        let pid = child.id().ok_or("the process has ended already")?;
        let printed = Arc::default();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(keep(stdout, Arc::clone(&printed)));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep(stderr, Arc::clone(&printed)));
        }
        Ok(Self { child, pid, api, printed, begun })
    }

    /// The first event, and how long its answer took from the start of the process.
    pub async fn first(&mut self, event: Bytes) -> Result<Invocation, Failure> {
        let invoked = self.api.invoke_first(event, self.begun).await;
        invoked.map_err(|error| self.explained(&error))
    }

    /// A further event.
    pub async fn invoke(&mut self, event: Bytes) -> Result<Invocation, Failure> {
        let invoked = self.api.invoke(event).await;
        invoked.map_err(|error| self.explained(&error))
    }

    fn explained(&self, error: &Failure) -> Failure {
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        format!("{error}; it printed last:\n{printed}").into()
    }

    /// The processor time that it has used so far, in seconds (`proc(5)`: fields 14 and 15 of `stat`).
    pub fn cpu_s(&self) -> Result<f64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        Ok(ticks(&stat).ok_or("stat cannot be read")? as f64 * TICK_S)
    }

    /// The most memory that it ever had resident (`VmHWM`), in kilobytes of 1024 bytes.
    pub fn peak_memory_kb(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        Ok(high_water_mark_kb(&status).ok_or("VmHWM cannot be read")?)
    }

    /// Asks it to end (SIGTERM), so that what runs it can report, and waits for that.
    pub async fn terminate(mut self) -> Result<(), Failure> {
        Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await?;
        timeout(END_TIMEOUT, self.child.wait()).await.map_err(|_| "the process does not end")??;
        Ok(())
    }

    /// Ends it.
    pub async fn kill(mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }
}

fn ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    Some(fields.next()? + fields.next()?)
}

fn high_water_mark_kb(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

async fn keep(stream: impl AsyncRead + Unpin, printed: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.len() == KEPT_LINES {
            printed.remove(0);
        }
        printed.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_it_is_written() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 31 12 0 0 20 0 1 0 55 1000 100";
        assert_eq!(ticks(stat), Some(43));
        assert_eq!(ticks("7 (short) S"), None);
        assert_eq!(high_water_mark_kb("VmPeak:\t 9 kB\nVmHWM:\t    9216 kB\n"), Some(9_216));
    }
}
