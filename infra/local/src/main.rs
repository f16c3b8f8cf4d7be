//! The program behind `cargo local`.

use std::process::ExitCode;

use clap::Parser;
use holdfast_local::stack::{self, Options};

#[tokio::main]
async fn main() -> ExitCode {
    stack::main(Options::parse()).await
}
