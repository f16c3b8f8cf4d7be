//! The local stacks that the end-to-end tests of a process share: one, and a second for those that do harm.
//!
//! The first test that asks for one has cargo build `cargo local`'s program and starts it on free ports, with a
//! state folder of its own; the program builds the functions and deploys them. It runs until its standard
//! input closes, which happens when this process ends, however it ends.
//!
//! On the second, functions reach the emulator through a proxy that tests can tell to misbehave, and messages
//! that a dead worker had are soon there again. Tests kill and freeze its processes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};
use std::{panic, thread};

use aws_sdk_sqs::types::QueueAttributeName;
use holdfast_aws::{AwsClients, AwsConfig, AwsCredentials, AwsHooks};
use holdfast_local::stack_file::{STACK_FILE_NAME, StackFile};

use super::sockets::Wire;
use super::wrap_up;
use crate::contract::embedded::databases;

/// A first start compiles the AWS SDK and fetches the emulator: minutes on a small machine.
const START_LIMIT: Duration = Duration::from_mins(45);
const START_POLL: Duration = Duration::from_millis(50);
/// For how long no test may have a database of its own before the stack is started, and the longest that this is waited
/// for.
const CALM: Duration = Duration::from_secs(1);
const CALM_LIMIT: Duration = Duration::from_mins(4);
/// How much of what a stack said is told when it has ended.
const LAST_LINES: usize = 25;
/// Ports below those that Linux gives to connections (`ip_local_port_range` of ip(7)).
const PORTS: Range<u16> = 20_000..32_768;
/// State folders begin so; the rest is the id of the process that made it.
const FOLDER_PREFIX: &str = "end-to-end-";

/// For how long nobody else gets a message that somebody has, on the stack for harm, in seconds. As deployed it
/// is six times the time limit of the function, which no test can wait out. Work that takes longer is done twice.
const SHORT_VISIBILITY_S: &str = "12";
/// The queues that functions work off.
const WORKED_OFF: [&str; 4] = ["TimerQueueUrl", "EventQueueUrl", "DeliveryQueueUrl", "SlowDeliveryQueueUrl"];

/// If so many tests wait for the first stack, the second is started with it: that keeps processors so busy that tests
/// which are under way meanwhile would meet time limits.
const MANY: usize = 5;

/// Tests that wait for the first stack.
static ASKING: AtomicUsize = AtomicUsize::new(0);

static ROUGH: OnceLock<Result<Rough, String>> = OnceLock::new();

/// Where the stack answers. Panics, for every test alike, if it could not be started.
pub(super) fn stack() -> &'static StackFile {
    &running().file
}

/// The stack for tests that do harm, if there was one.
pub(super) fn rough_if_started() -> Option<&'static StackFile> {
    ROUGH.get().and_then(|started| started.as_ref().ok()).map(|rough| &rough.file)
}

/// The stack for tests that do harm, and the proxy between its functions and its emulator.
pub(super) fn rough() -> &'static Rough {
    // One after the other: both build, and share what they install.
    running();
    match ROUGH.get_or_init(start_rough) {
        Ok(rough) => rough,
        Err(reason) => panic!("the local stack for faults could not be started:\n{reason}"),
    }
}

/// The stack for tests that do harm.
pub(super) struct Rough {
    pub(super) file: StackFile,
    /// Between the functions and the emulator.
    pub(super) aws: Wire,
    running: Running,
}

impl Rough {
    /// All that the functions have logged so far, and the emulator with them.
    pub(super) fn logs(&self) -> BTreeMap<PathBuf, String> {
        let folder = self.running.folder.join("logs");
        let files = [folder.clone(), folder.join("functions")].into_iter();
        let files = files.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path());
        let read =
            |path: PathBuf| Some((path.clone(), String::from_utf8_lossy(&fs::read(path).ok()?).into_owned()));
        files.filter(|path| path.is_file()).filter_map(read).collect()
    }
}

/// How often a provider's circuit or limits were passed over because their store did not answer in time, as the
/// functions have logged it: on a busy machine that happens.
pub(super) fn passed_over(provider_id: &str) -> usize {
    let logs = fs::read_dir(running().folder.join("logs/functions")).unwrap();
    let text =
        logs.map(|log| fs::read_to_string(log.unwrap().path()).unwrap_or_default()).collect::<String>();
    let of_provider = format!("\"{provider_id}\"");
    let is_told = |line: &&str| {
        line.contains(&of_provider)
            && ["too long.", "too slow.", "failed."].iter().any(|end| line.contains(end))
            // What is not counted in time is counted all the same.
            && !line.contains("Counting a provider's failure")
    };
    text.lines().filter(is_told).count()
}

/// What the functions of the stacks were let and not let do so far, a JSON object a line.
pub(super) fn permissions() -> String {
    let rough = ROUGH.get().and_then(|started| started.as_ref().ok()).map(|rough| &rough.running);
    let stacks = [Some(running()), rough];
    let read = |stack: &Running| fs::read_to_string(stack.folder.join("logs/permissions.log")).unwrap();
    stacks.into_iter().flatten().map(read).collect()
}

/// What the functions of the stack have logged so far, by file.
pub(super) fn function_logs() -> Vec<(String, String)> {
    let logs = fs::read_dir(running().folder.join("logs/functions")).unwrap();
    let read = |path: PathBuf| (path.display().to_string(), fs::read_to_string(&path).unwrap());
    logs.map(|log| read(log.unwrap().path())).collect()
}

fn running() -> &'static Running {
    static STACK: OnceLock<Result<Running, String>> = OnceLock::new();
    ASKING.fetch_add(1, Ordering::Relaxed);
    let started = STACK.get_or_init(start);
    ASKING.fetch_sub(1, Ordering::Relaxed);
    match started {
        Ok(running) => running,
        Err(reason) => panic!("the local stack could not be started:\n{reason}"),
    }
}

/// A started stack.
struct Running {
    file: StackFile,
    folder: PathBuf,
    /// The stack runs until this closes, which happens when this process ends.
    _lifeline: Option<ChildStdin>,
}

/// Waits until the tests that keep processors busy are over: what the stack cannot answer in time because of them
/// comes again only when it is visible to its function anew, minutes later.
fn wait_for_processors() {
    let begun = Instant::now();
    let mut calm_since = begun;
    while calm_since.elapsed() < CALM && begun.elapsed() < CALM_LIMIT {
        if databases() > 0 {
            calm_since = Instant::now();
        }
        thread::sleep(START_POLL);
    }
}

fn start() -> Result<Running, String> {
    remove_old_folders();
    wait_for_processors();
    let running = start_with("", &["--aws-port", "0"])?;
    if ASKING.load(Ordering::Relaxed) >= MANY {
        // Whether it could be is told to whoever asks for it.
        let _rough = ROUGH.get_or_init(start_rough);
    }
    Ok(running)
}

fn start_with(suffix: &str, options: &[&str]) -> Result<Running, String> {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{FOLDER_PREFIX}{}{suffix}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let log = folder.join("stack.log");
    tell(&format!("Starting a local stack for the end-to-end tests; see {}", log.display()));
    let program = build()?;
    let mut child = launch(&program, &folder, &log, options)
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let file = wait_until_ready(&mut child, &folder, &log)?;
    // Waiting for a child closes its input.
    let lifeline = child.stdin.take();
    thread::spawn(move || tell_of_end(child, &log));
    Ok(Running { file, folder, _lifeline: lifeline })
}

/// Waits for a stack to end while tests use it, and says what it said last: otherwise all that they tell is that nobody
/// answers.
fn tell_of_end(mut child: Child, log: &Path) {
    let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    let said = fs::read(log).unwrap_or_else(|error| error.to_string().into_bytes());
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    tell(&format!("The local stack of {} has ended ({how}). It said last:\n{last}", log.display()));
}

fn start_rough() -> Result<Rough, String> {
    let port = free_port().map_err(|error| error.to_string())?;
    let (started, proxy) = mpsc::channel();
    let (ready, visible) = (mpsc::channel(), mpsc::channel());
    // The proxy outlives the test that starts it, and so does its runtime.
    thread::spawn(move || serve_rough(port, &started, &ready.1, &visible.0));
    let aws: Wire = proxy.recv().map_err(|error| error.to_string())?;
    let url = format!("http://{}", aws.address);
    let port = port.to_string();
    let running = start_with("-rough", &["--aws-port", &port, "--functions-aws-url", &url])?;
    ready.0.send(running.file.clone()).map_err(|error| error.to_string())?;
    visible.1.recv().map_err(|error| error.to_string())?;
    Ok(Rough { file: running.file.clone(), aws, running })
}

/// Runs the proxy before the emulator, and shortens the queues' visibility once the stack is there.
fn serve_rough(port: u16, started: &Sender<Wire>, ready: &Receiver<StackFile>, visible: &Sender<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let wire = runtime.block_on(Wire::before((Ipv4Addr::LOCALHOST, port).into()));
    started.send(wire).unwrap();
    let Ok(file) = ready.recv() else { return };
    runtime.block_on(shorten_visibility(&file));
    visible.send(()).unwrap();
    runtime.block_on(std::future::pending::<()>());
}

async fn shorten_visibility(file: &StackFile) {
    let sqs = wrap_up::client(file);
    for name in WORKED_OFF {
        let set = sqs.set_queue_attributes().queue_url(&file.resources[name]);
        let set = set.attributes(QueueAttributeName::VisibilityTimeout, SHORT_VISIBILITY_S);
        set.send().await.unwrap();
    }
}

/// A port that is free, and none that the system gives to connections. The emulator's has to be known before it is
/// started.
fn free_port() -> io::Result<u16> {
    let ports = usize::from(PORTS.end - PORTS.start);
    let first = std::process::id() as usize;
    let mut taken = io::ErrorKind::AddrInUse.into();
    for number in 0..ports {
        let port = PORTS.start + u16::try_from((first + number) % ports).map_err(io::Error::other)?;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => taken = error,
        }
    }
    Err(taken)
}

/// Builds the program as the alias `cargo local` does, so that both use the same build, and returns its path.
fn build() -> Result<PathBuf, String> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--package", "holdfast-local", "--bin", "local"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).into_owned());
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "local")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo does not say where it put the program".to_owned())
}

fn launch(program: &Path, folder: &Path, log: &Path, options: &[&str]) -> io::Result<Child> {
    let log = File::create(log)?;
    Command::new(program)
        .arg("--until-stdin-closes")
        .arg("--state-dir")
        .arg(folder)
        .args(["--api-port", "0", "--simulator-port", "0", "--inbox-port", "0"])
        .args(options)
        .env("CARGO", env!("CARGO"))
        .env_remove("HOLDFAST_BIN_DIR")
        .current_dir(workspace())
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn wait_until_ready(child: &mut Child, folder: &Path, log: &Path) -> Result<StackFile, String> {
    let deadline = Instant::now() + START_LIMIT;
    let said = || fs::read_to_string(log).unwrap_or_default();
    loop {
        let path = folder.join(STACK_FILE_NAME);
        if path.exists() {
            return StackFile::read(&path).map_err(|error| format!("{}: {error}", path.display()));
        }
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("{status}\n{}", said()));
        }
        if Instant::now() > deadline {
            return Err(format!("not ready after {} s\n{}", START_LIMIT.as_secs(), said()));
        }
        thread::sleep(START_POLL);
    }
}

/// Removes what earlier runs left; they keep their logs until then. A folder whose stack runs is locked.
fn remove_old_folders() {
    let Ok(entries) = fs::read_dir(env!("CARGO_TARGET_TMPDIR")) else { return };
    for folder in
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(FOLDER_PREFIX))
    {
        let is_free = match File::open(folder.path().join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            // Another process may be about to start its stack there.
            Err(_) => false,
        };
        if is_free {
            fs::remove_dir_all(folder.path()).ok();
        }
    }
}

fn workspace() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Tells whoever runs the tests, such as why the first of them takes long; the test harness hides what is printed.
pub(super) fn tell(what: &str) {
    writeln!(io::stderr().lock(), "{what}").ok();
}

/// Tells of each test that fails when it does: the harness tells it at the end, which is long after, or never if it is
/// ended before.
pub(super) fn tell_failures_at_once() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let harness = panic::take_hook();
        panic::set_hook(Box::new(move |failure| {
            tell(&format!("{} failed: {failure}", thread::current().name().unwrap_or("a thread")));
            harness(failure);
        }));
    });
}

/// Clients of the emulator's services.
pub(super) fn clients(stack: &StackFile) -> AwsClients {
    let credentials = AwsCredentials {
        access_key_id: stack.aws_access_key_id.clone(),
        secret_access_key: stack.aws_secret_access_key.clone().into(),
        session_token: None,
    };
    let (region, endpoint_url) = (stack.aws_region.clone(), Some(stack.aws_endpoint_url.clone()));
    // Tests have time.
    let hooks = AwsHooks { time_limits_times: Some(10), ..AwsHooks::default() };
    AwsClients::with_hooks(&AwsConfig { region, endpoint_url, credentials }, &hooks).unwrap()
}
