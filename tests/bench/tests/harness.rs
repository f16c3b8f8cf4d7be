//! The harness itself: events reach a process and its answers come back, and what a booking costs is counted right.
//! Nothing here is timed.

#![cfg(test)]

use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use holdfast_bench::database::Units;
use holdfast_bench::measure::write_units;
use holdfast_bench::process::{Circumstances, Process, Subject};
use holdfast_bench::runtime_api::RuntimeApi;
use holdfast_bench::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The functions that `cargo local` builds together. Built so, nothing is compiled twice.
const FUNCTIONS: [&str; 8] =
    ["availability", "booking", "dispatch", "manage", "provider-callback", "refresh", "retry", "webhook"];

/// The booking function as tests have it, without optimisation.
async fn booking() -> Subject {
    tokio::task::spawn_blocking(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--locked", "--bins"]);
        cargo.args(FUNCTIONS.iter().flat_map(|package| ["--package", package]));
        assert!(cargo.status().unwrap().success());
    })
    .await
    .unwrap();
    // A test's own program is in `deps`, beside which programs are.
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("booking");
    Subject::new("Holdfast", program, true)
}

#[tokio::test]
async fn a_booking_is_two_write_units_and_a_replay_one() {
    let (subject, world) = (booking().await, World::start().await.unwrap());
    let units = write_units(&subject, &world).await.unwrap();
    assert_eq!(units.booking, Units { table: 2.0, indexes: 2.0 });
    assert_eq!(units.replay, Units { table: 1.0, indexes: 0.0 });
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let world = World::start().await.unwrap();
    let absent = Subject::new("nobody", PathBuf::from("/nowhere/at-all"), false);
    let error = Process::start(&absent, &world, &Circumstances::default()).await.unwrap_err();
    assert!(error.to_string().starts_with("nobody cannot be started"), "{error}");
}

/// Asks for an event as a function does, and posts `path` with `body`. What it got is returned.
async fn one_turn(api: std::net::SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(api).await.unwrap();
    let ask = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: api\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"event") {
        assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
    }
    let got = String::from_utf8(got).unwrap();
    let id = got.lines().find_map(|line| line.strip_prefix("lambda-runtime-aws-request-id: ")).unwrap();
    let post = format!(
        "POST /2018-06-01/runtime/invocation/{id}/{path} HTTP/1.1\r\nhost: api\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(post.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 202");
    got
}

#[tokio::test]
async fn an_event_is_handed_over_and_its_answer_comes_back() {
    let mut api = RuntimeApi::start().await.unwrap();
    let function = tokio::spawn(one_turn(api.address, "response", "answer"));
    let invocation = api.invoke(Bytes::from_static(b"an event")).await.unwrap();
    assert_eq!(invocation.body, "answer");
    let got = function.await.unwrap();
    assert!(got.contains("lambda-runtime-deadline-ms: ") && got.ends_with("\r\n\r\nan event"), "{got}");
}

#[tokio::test]
async fn a_failure_is_no_answer() {
    let mut api = RuntimeApi::start().await.unwrap();
    let function = tokio::spawn(one_turn(api.address, "error", "out of order"));
    let error = api.invoke(Bytes::from_static(b"an event")).await.unwrap_err();
    assert_eq!(error.to_string(), "the function failed: out of order");
    function.await.unwrap();
}
