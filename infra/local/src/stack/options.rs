//! What can be chosen about a local stack, by flag or by environment. The one place that reads either.

use std::path::{Path, PathBuf};

use clap::Parser;

/// Runs the whole of Holdfast on this machine, as it is deployed to AWS, until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "cargo local", bin_name = "cargo local", version)]
pub struct Options {
    /// Port of the API (0 = any free port)
    #[arg(long, env = "HOLDFAST_API_PORT", default_value_t = 3000)]
    pub(super) api_port: u16,

    /// Port of the provider simulator (0 = any free port)
    #[arg(long, env = "HOLDFAST_SIMULATOR_PORT", default_value_t = 3001)]
    pub(super) simulator_port: u16,

    /// Port of the webhook inbox (0 = any free port)
    #[arg(long, env = "HOLDFAST_INBOX_PORT", default_value_t = 3002)]
    pub(super) inbox_port: u16,

    /// Port of the AWS emulator (0 = any free port)
    #[arg(long, env = "HOLDFAST_AWS_PORT", default_value_t = 4566)]
    pub(super) aws_port: u16,

    /// Folder for stack.json, logs and the emulator's files; one running stack each [default: .local]
    #[arg(long, env = "HOLDFAST_STATE_DIR")]
    pub(super) state_dir: Option<PathBuf>,

    /// Run the functions as they were built last instead of building them
    #[arg(long)]
    pub(super) no_build: bool,

    /// With --no-build: the folder of the built functions [default: where this program lies]
    #[arg(long, env = "HOLDFAST_BIN_DIR", requires = "no_build")]
    pub(super) bin_dir: Option<PathBuf>,

    /// End when standard input closes, so that the stack ends with the program that started it
    #[arg(long)]
    pub(super) until_stdin_closes: bool,

    /// The Python (3.10 or later) to run the AWS emulator with [default: the first found on PATH]
    #[arg(long, env = "HOLDFAST_PYTHON")]
    pub(super) python: Option<PathBuf>,

    /// Where the functions find AWS, if not at the emulator itself: a proxy before it, for tests of faults
    #[arg(long, hide = true)]
    pub(super) functions_aws_url: Option<String>,

    /// The cargo that builds the functions; cargo itself sets this
    #[arg(long, env = "CARGO", default_value = "cargo", hide = true)]
    pub(super) cargo: PathBuf,
}

/// The files and folders a stack uses.
#[derive(Debug)]
pub(super) struct Layout {
    /// The root of the clone.
    pub(super) workspace: PathBuf,
    /// Shared by all stacks of this clone: the virtual environment and the packages.
    pub(super) shared: PathBuf,
    /// This stack's own.
    pub(super) state: PathBuf,
}

impl Layout {
    pub(super) fn new(options: &Options) -> Self {
        // This crate lies two folders below the root.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf();
        let shared = workspace.join(".local");
        let state = options.state_dir.clone().unwrap_or_else(|| shared.clone());
        let state = std::path::absolute(&state).unwrap_or(state);
        Self { workspace, shared, state }
    }

    pub(super) fn template(&self) -> PathBuf {
        self.workspace.join("template.yaml")
    }

    pub(super) fn scripts(&self) -> PathBuf {
        self.workspace.join("infra/local/python")
    }

    pub(super) fn packages(&self) -> PathBuf {
        self.shared.join("packages")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    pub(super) fn emulator_files(&self) -> PathBuf {
        self.state.join("emulator")
    }

    pub(super) fn stack_file(&self) -> PathBuf {
        self.state.join(crate::stack_file::STACK_FILE_NAME)
    }
}
