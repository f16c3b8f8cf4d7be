//! The one local stack that the end-to-end tests of a process share.
//!
//! The first test that asks for it has cargo build `cargo local`'s program and starts it on free ports, with a
//! state folder of its own; the program builds the functions and deploys them. It runs until its standard
//! input closes, which happens when this process ends, however it ends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use holdfast_local::stack_file::{STACK_FILE_NAME, StackFile};

/// A first start compiles the AWS SDK and fetches the emulator: minutes on a small machine.
const START_LIMIT: Duration = Duration::from_mins(45);
const START_POLL: Duration = Duration::from_millis(50);
/// State folders begin so; the rest is the id of the process that made it.
const FOLDER_PREFIX: &str = "end-to-end-";

/// Where the stack answers. Panics, for every test alike, if it could not be started.
pub(super) fn stack() -> &'static StackFile {
    &running().file
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

fn running() -> &'static Running {
    static STACK: OnceLock<Result<Running, String>> = OnceLock::new();
    match STACK.get_or_init(start) {
        Ok(running) => running,
        Err(reason) => panic!("the local stack could not be started:\n{reason}"),
    }
}

/// A started stack.
struct Running {
    file: StackFile,
    folder: PathBuf,
    /// Holds the writing end of the stack's standard input, for as long as this process lives.
    _child: Child,
}

fn start() -> Result<Running, String> {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{FOLDER_PREFIX}{}", std::process::id()));
    remove_old_folders();
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let log = folder.join("stack.log");
    tell(&format!("Starting the local stack for the end-to-end tests; see {}", log.display()));
    let program = build()?;
    let mut child =
        launch(&program, &folder, &log).map_err(|error| format!("{}: {error}", program.display()))?;
    let file = wait_until_ready(&mut child, &folder, &log)?;
    Ok(Running { file, folder, _child: child })
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

fn launch(program: &Path, folder: &Path, log: &Path) -> io::Result<Child> {
    let log = File::create(log)?;
    Command::new(program)
        .arg("--until-stdin-closes")
        .arg("--state-dir")
        .arg(folder)
        .args(["--api-port", "0", "--simulator-port", "0", "--inbox-port", "0", "--aws-port", "0"])
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

/// Tells whoever runs the tests why the first of them takes long; the test harness hides what is printed.
fn tell(what: &str) {
    writeln!(io::stderr().lock(), "{what}").ok();
}
