//! Tries a receiver of webhooks: starts it and sends it what the product's own client has signed, and what was
//! tampered with.
//!
//! ```sh
//! cargo run --package holdfast-tests --example check-receiver -- python docs/receiving-webhooks/receiver.py
//! ```
//!
//! The receiver takes its port from `PORT` (0: a free one) and its secret from `WEBHOOK_SECRET`, and prints
//! where it listens. Name the program itself: what a wrapper has started would outlive the wrapper, and counts as
//! a failure.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for the terminal")]

#[path = "../tests/it/receivers/check.rs"]
mod check;

use std::error::Error;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long the receiver has to begin, and to answer everything.
const LIMIT: Duration = Duration::from_secs(30);

/// The address that the receiver prints.
async fn address(receiver: &mut Child) -> Result<String, Box<dyn Error>> {
    let printed = receiver.stdout.take().ok_or("the receiver prints nowhere")?;
    let mut lines = BufReader::new(printed).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = line.strip_prefix("listening on ") {
            return Ok(format!("{}/", address.trim()));
        }
    }
    Err("the receiver ended without saying where it listens".into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or("say which program to start")?;
    let mut receiver = Command::new(&program)
        .args(words)
        .env("PORT", "0")
        .env("WEBHOOK_SECRET", check::SECRET)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let url = timeout(LIMIT, address(&mut receiver)).await??;
    timeout(LIMIT, check::check(&url)).await??;
    receiver.kill().await?;
    if timeout(LIMIT, reqwest::get(&url)).await?.is_ok() {
        return Err(
            "the receiver outlives the process that was started; name the receiver, not a wrapper".into()
        );
    }
    println!("{} takes what is signed and nothing else", program.display());
    Ok(())
}
