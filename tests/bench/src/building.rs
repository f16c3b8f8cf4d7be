//! Builds what is measured: our function as it is packaged, the yardsticks, and their environments.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::process::Subject;
use crate::{Failure, Options};

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where everything is put that is built for measuring alone.
pub fn workshop() -> PathBuf {
    root().join("target/bench")
}

fn yardstick(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("yardsticks").join(name)
}

/// What is built, and how.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// The package, which is also the program's name.
    pub package: &'a str,
    /// A name for the variant: its files are `target/bench/<variant>`. Empty: as it is packaged, where releases are.
    pub variant: &'a str,
    /// Environment of the build.
    pub environment: &'a [(&'a str, &'a str)],
}

/// Builds a package by itself, so that it has the features that it asks for and no others. The program is copied to
/// where later builds do not replace it.
pub async fn build(build: Build<'_>) -> Result<PathBuf, Failure> {
    let target = match build.variant {
        "" => root().join("target"),
        variant => workshop().join(variant),
    };
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["build", "--locked", "--release", "--package", build.package]);
    command.arg("--target-dir").arg(&target).envs(build.environment.iter().copied());
    done(command, build.package).await?;
    let folder = workshop().join("programs");
    fs::create_dir_all(&folder)?;
    let program = folder.join(format!("{}{}", build.package, build.variant));
    fs::copy(target.join("release").join(build.package), &program)?;
    Ok(program)
}

/// Our function with its symbols, otherwise as it is packaged: they are left in by the last step alone.
pub async fn with_symbols() -> Result<PathBuf, Failure> {
    let folder = workshop().join("symbols");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args(["rustc", "--locked", "--release", "--package", "booking", "--bin"]);
    command.args(["booking", "--target-dir"]).arg(root().join("target"));
    command.args(["--", "-C", "strip=none", "-o"]).arg(folder.join("booking"));
    done(command, "booking with symbols").await?;
    // Cargo has the compiler add something to the name.
    let files = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
    let program = files.into_iter().map(|file| file.path()).find(|file| file.extension().is_none());
    program.ok_or_else(|| "there is no program with symbols".into())
}

async fn done(mut command: Command, what: &str) -> Result<(), Failure> {
    let status = command.status().await.map_err(|error| format!("{what}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what}: {status}").into()) }
}

/// The program that books, as it is packaged, or the one that is given.
pub async fn ours(options: &Options) -> Result<Subject, Failure> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => build(Build { package: "booking", variant: "", environment: &[] }).await?,
    };
    let environment = options.environment.clone();
    Ok(Subject { environment, ..Subject::new("Holdfast", program, true) })
}

/// The yardsticks that can be had here, and why the others cannot.
pub async fn yardsticks() -> Result<(Vec<Subject>, Vec<String>), Failure> {
    let plain = Build { package: "holdfast-bench-plain", variant: "", environment: &[] };
    let hello = Build { package: "holdfast-bench-hello", variant: "", environment: &[] };
    let mut there = vec![
        Subject::new("plain Rust", build(plain).await?, true),
        Subject::new("`lambda_http` hello", build(hello).await?, false),
    ];
    let mut missing = Vec::new();
    for (name, subject) in [("Python", python().await), ("JavaScript", javascript().await)] {
        match subject {
            Ok(subject) => there.push(subject),
            Err(error) => missing.push(format!("{name}: not measured here, {error}")),
        }
    }
    Ok((there, missing))
}

/// The handler in an environment of its own, with exactly the packages of its list.
async fn python() -> Result<Subject, Failure> {
    let (folder, list) = (workshop().join("python"), yardstick("python").join("requirements.txt"));
    let python = folder.join("bin/python");
    if is_stale(&folder, &list)? {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        done(venv, "python3 -m venv").await?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"]);
        pip.arg(&list);
        done(pip, "pip install").await?;
        fs::copy(&list, folder.join("installed"))?;
    }
    fs::copy(yardstick("python").join("handler.py"), folder.join("handler.py"))?;
    // As the runtime's container does it: the handler's folder is where modules are looked for.
    let start = "import sys; sys.path.insert(0, sys.argv[1]); \
                 import awslambdaric.__main__ as ric; ric.main(['', 'handler.handler'])";
    let arguments = vec!["-c".into(), start.into(), folder];
    Ok(Subject { arguments, ..Subject::new("Python", python, true) })
}

/// The handler beside its packages, which are those of its lock file.
async fn javascript() -> Result<Subject, Failure> {
    let (folder, list) = (workshop().join("javascript"), yardstick("javascript").join("package-lock.json"));
    let mut asked = Command::new("node");
    asked.args(["-p", "process.execPath"]);
    let told = asked.output().await.map_err(|error| format!("node: {error}"))?;
    let node = PathBuf::from(String::from_utf8(told.stdout)?.trim());
    if is_stale(&folder, &list)? {
        fs::create_dir_all(&folder)?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(yardstick("javascript").join(file), folder.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
        done(npm, "npm ci").await?;
        fs::copy(&list, folder.join("installed"))?;
    }
    for file in ["handler.mjs", "runtime.mjs"] {
        fs::copy(yardstick("javascript").join(file), folder.join(file))?;
    }
    let arguments = vec![folder.join("runtime.mjs")];
    Ok(Subject { arguments, ..Subject::new("JavaScript", node, true) })
}

/// Whether what is installed in a folder is not what the list says.
fn is_stale(folder: &Path, list: &Path) -> Result<bool, Failure> {
    Ok(fs::read(folder.join("installed")).ok() != Some(fs::read(list)?))
}
