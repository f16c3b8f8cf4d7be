//! Running other programs to their end: with a time limit, and killed if the stack stops meanwhile.
//!
//! Programs that keep running beside the stack are not started here.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::error::StackError;

/// Lines of a tool's output that a message repeats.
const TAIL_LINES: usize = 20;

/// A step that another program does.
#[derive(Debug)]
pub(super) struct Tool {
    /// The step, as it reads in "… failed".
    pub(super) what: &'static str,
    /// What the user can do when it fails.
    pub(super) advice: String,
    /// The longest it may take.
    pub(super) limit: Duration,
    /// Where its error output goes.
    pub(super) errors: Errors,
}

/// Where the error output of a tool goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errors {
    /// Into the message, if it fails.
    Message,
    /// To the terminal as it comes; the message then tells the status alone.
    Terminal,
}

impl Tool {
    /// Runs `command` with `input` and returns what it printed; an error unless it succeeds in time.
    pub(super) async fn run(&self, command: &mut Command, input: &[u8]) -> Result<Vec<u8>, StackError> {
        let errors = match self.errors {
            Errors::Message => Stdio::piped(),
            Errors::Terminal => Stdio::inherit(),
        };
        let output = tokio::time::timeout(self.limit, feed(command.stderr(errors), input))
            .await
            .map_err(|_| self.failed(format!("no end after {} s", self.limit.as_secs())))?
            .map_err(|error| self.failed(error.to_string()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        if self.errors == Errors::Terminal {
            return Err(self.failed(output.status.to_string()));
        }
        // Some tools complain on standard output.
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        let detail = format!("{}\n{}", output.status, tail(&String::from_utf8_lossy(said)));
        Err(self.failed(detail.trim_end().to_owned()))
    }

    pub(super) fn failed(&self, detail: String) -> StackError {
        StackError::Tool { what: self.what, detail, advice: self.advice.clone() }
    }
}

async fn feed(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input tells why by its status.
        match stdin.write_all(input).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    child.wait_with_output().await
}

/// The last lines of a program's output.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// A command with the given arguments and nothing else decided.
pub(super) fn command<I>(program: impl AsRef<OsStr>, arguments: I) -> Command
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
