//! Measures the booking function beside plain ones: a Lambda Runtime API of its own hands events to the release
//! binaries, one process each, over an embedded DynamoDB behind an adjustable delay and a provider that says yes.
//!
//! docs/benchmarks.md says what is measured and what came of it.
#![allow(
    clippy::print_stdout,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for the terminal that reports figures"
)]

pub mod bare;
pub mod building;
pub mod callgrind;
pub mod database;
pub mod http1;
pub mod measure;
pub mod process;
pub mod provider;
pub mod report;
pub mod runtime_api;
pub mod size;
pub mod statistics;
pub mod tls;
pub mod world;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;

/// Why there is no result. Everything that fails here is told to whoever runs it.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What is measured, and how often.
#[derive(Clone, Debug, Parser)]
#[command(about = "Measures the booking function beside plain ones")]
#[allow(clippy::struct_excessive_bools, reason = "they are flags, each of its own")]
pub struct Options {
    /// Runs of everything, each with a new process of each function, in turns. Many short ones are better than a few
    /// long ones: what is compared then lies nearer together in time
    #[arg(long, default_value_t = 11)]
    pub rounds: u32,
    /// Bookings, and replays, of a run
    #[arg(long, default_value_t = 600)]
    pub bookings: u32,
    /// Cold starts of a run
    #[arg(long, default_value_t = 3)]
    pub cold_starts: u32,
    /// Requests at each delay of the database, in a run
    #[arg(long, default_value_t = 15)]
    pub at_each_delay: u32,
    /// Leaves out the yardsticks in Python and JavaScript
    #[arg(long)]
    pub rust_only: bool,
    /// Leaves out what needs other builds: opt-levels, entropy by jitter, what the program is made of
    #[arg(long)]
    pub without_variants: bool,
    /// Leaves callgrind's profiles in target/bench, for `callgrind_annotate`
    #[arg(long)]
    pub keep_callgrind: bool,
    /// Measures this program in place of the booking function's own
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// Sets a variable for the booking function: NAME=VALUE
    #[arg(long, value_parser = variable)]
    pub environment: Vec<(String, String)>,
    /// Also puts the figures into docs/benchmarks.md
    #[arg(long, conflicts_with_all = ["environment", "program"])]
    pub record: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("there is no = in it")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Builds, measures and reports.
pub async fn run(options: &Options) -> Result<(), Failure> {
    report::measure_and_report(options).await
}
