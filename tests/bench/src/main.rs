//! `cargo run --release -p holdfast-bench`: measures and reports. See docs/benchmarks.md.

use clap::Parser;
use holdfast_bench::{Options, run};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "a program for the terminal")]
            {
                eprintln!("holdfast-bench: {error}");
            }
            std::process::ExitCode::FAILURE
        }
    }
}
