//! The Python that the AWS emulator runs in: finds one, and keeps a virtual environment with the pinned
//! packages beside the clone. Nothing is installed outside that environment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::error::StackError;
use super::options::{Layout, Options};
use super::progress::Progress;
use super::tool::{Errors, Tool, command};

/// The oldest Python that every pinned package runs on.
const OLDEST: (u32, u32) = (3, 10);

/// Where to look, in this order. Version managers put their choice first on PATH as `python3`.
const CANDIDATES: [&str; 7] =
    ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python"];

const VERSION_LIMIT: Duration = Duration::from_secs(10);
const VENV_LIMIT: Duration = Duration::from_mins(2);
const INSTALL_LIMIT: Duration = Duration::from_mins(15);

/// In the virtual environment: what it was made from. Missing until it is complete.
const MARKER: &str = "made-from";

/// Characters of what an environment was made from that its folder's name has. Another Python or another list
/// gets a folder of its own, so that no environment is taken from under a stack that runs in it.
const NAME_CHARS: usize = 12;

/// A usable Python.
#[derive(Debug)]
struct Python {
    command: PathBuf,
    version: String,
}

/// Finds Python and brings the virtual environment up to date; returns the environment's interpreter.
pub(super) async fn prepare(
    options: &Options,
    layout: &Layout,
    progress: &Progress,
) -> Result<PathBuf, StackError> {
    let python = find(options).await?;
    let requirements = layout.scripts().join("requirements.txt");
    let list = fs::read(&requirements).map_err(StackError::file("could not read", &requirements))?;
    let made_from =
        HEXLOWER.encode(&Sha256::new().chain_update(&python.version).chain_update(list).finalize());
    let venv = layout.shared.join(format!("venv-{made_from:.NAME_CHARS$}"));

    let _only_one = lock(&layout.shared.join("venv.lock")).await?;
    let interpreter = venv.join("bin/python");
    let marker = venv.join(MARKER);
    if interpreter.exists() && fs::read_to_string(&marker).is_ok_and(|found| found == made_from) {
        progress.step(&format!("Python {}: packages are in place", python.version));
        return Ok(interpreter);
    }
    progress.step(&format!("Python {}: installing the packages (once; a minute or so)", python.version));
    install(&python, &venv, &requirements).await?;
    fs::write(&marker, made_from).map_err(StackError::file("could not write", &marker))?;
    Ok(interpreter)
}

async fn find(options: &Options) -> Result<Python, StackError> {
    let named = options.python.as_ref().map(|python| vec![python.clone()]);
    let candidates = named.unwrap_or_else(|| CANDIDATES.map(PathBuf::from).to_vec());
    let mut unusable = Vec::new();
    for candidate in &candidates {
        let Some(version) = version_of(candidate).await else { continue };
        if is_recent(&version) {
            return Ok(Python { command: candidate.clone(), version });
        }
        unusable.push(format!("{} {version}", candidate.display()));
    }
    if unusable.is_empty() {
        let tried: Vec<String> = candidates.iter().map(|candidate| candidate.display().to_string()).collect();
        return Err(StackError::PythonMissing { tried: tried.join(", ") });
    }
    Err(StackError::PythonTooOld { found: unusable.join(", ") })
}

/// The version as `3.11.7`; nothing when there is no such command or it is not Python 3.
async fn version_of(candidate: &Path) -> Option<String> {
    let asked = Tool {
        what: "asking Python for its version",
        advice: String::new(),
        limit: VERSION_LIMIT,
        errors: Errors::Message,
    };
    let script = "import sys; print('.'.join(map(str, sys.version_info[:3])))";
    // Most candidates do not exist, which is no failure.
    let printed = asked.run(&mut command(candidate, ["-c", script]), b"").await.ok()?;
    Some(String::from_utf8(printed).ok()?.trim().to_owned())
}

fn is_recent(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0_u32));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST
}

/// Makes the environment from nothing, so that no half-made one is ever mended.
async fn install(python: &Python, venv: &Path, requirements: &Path) -> Result<(), StackError> {
    if venv.exists() {
        fs::remove_dir_all(venv).map_err(StackError::file("could not remove", venv))?;
    }
    let make = Tool {
        what: "making a Python virtual environment",
        advice: "The venv module is needed: on Debian and Ubuntu, install the package python3-venv."
            .to_owned(),
        limit: VENV_LIMIT,
        errors: Errors::Message,
    };
    let mut venv_command = command(&python.command, ["-m", "venv"]);
    make.run(venv_command.arg(venv), b"").await?;

    let fill = Tool {
        what: "installing the Python packages",
        advice: "Check that the package index can be reached from here (pip's own settings and variables \
                 apply), then run this again."
            .to_owned(),
        limit: INSTALL_LIMIT,
        errors: Errors::Message,
    };
    let arguments = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
    ];
    let mut pip = command(venv.join("bin/python"), arguments);
    fill.run(pip.arg(requirements), b"").await?;
    Ok(())
}

/// Waits for other stacks of this clone that are making the environment; held until dropped.
async fn lock(path: &Path) -> Result<File, StackError> {
    let path = path.to_path_buf();
    let wait = move || {
        let file = File::create(&path).map_err(StackError::file("could not open", &path))?;
        file.lock().map_err(StackError::file("could not lock", &path))?;
        Ok(file)
    };
    match tokio::task::spawn_blocking(wait).await {
        Ok(locked) => locked,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_recent;

    #[test]
    fn compares_versions_by_number() {
        assert!(is_recent("3.10.0"));
        assert!(is_recent("3.14.2"));
        assert!(is_recent("4.0.0"));
        assert!(!is_recent("3.9.18"));
        assert!(!is_recent("2.7.18"));
        assert!(!is_recent("unknown"));
    }
}
