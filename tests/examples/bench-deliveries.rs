//! What a delivery costs: deliveries through the use case, over stores in memory and real HTTP, beside a bare
//! loop in which the same client makes the same signed posts. One run, one receiver (a process of its own), the
//! two in turns, so that the ratio does not depend on the machine.
//!
//! ```sh
//! cargo run --release --package holdfast-tests --example bench-deliveries
//! ```
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "a program for the terminal that reports ratios"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use futures_util::{StreamExt, stream};
use holdfast_app::deliveries::{Deliveries, HintOutcome, IncomingEvent, Lane};
use holdfast_app::ports::{Clock, PostOutcome, WebhookPost, WebhookSender};
use holdfast_app::signing_secret::generate;
use holdfast_app::test_util::{MemoryBus, MemoryDeliveries, MemoryDeliveryStore, MemorySettings};
use holdfast_app::webhook::WebhookEndpoint;
use holdfast_domain::{EventId, Tenant, Timestamp, WebhookEndpointId};
use holdfast_lambda::{SystemClock, SystemEntropy};
use holdfast_provider::{AllowedHosts, SafeClient, WebhookClient};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Deliveries of one turn.
const DELIVERIES: u32 = 2_000;

/// Turns of each.
const ROUNDS: u32 = 5;

/// Posts at once, as in a batch of the function.
const AT_ONCE: usize = 10;

type Failure = Box<dyn Error>;

/// What a turn took.
#[derive(Clone, Copy, Default)]
struct Took {
    elapsed: Duration,
    cpu: Duration,
}

/// The processor time of this process so far (`proc(5)`: fields 14 and 15 of `stat`, hundredths of a second).
fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let mut ticks = 0;
    for field in after_name.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u64>()?;
    }
    Ok(Duration::from_millis(ticks * 10))
}

async fn timed(work: impl Future<Output = Result<(), Failure>>) -> Result<Took, Failure> {
    let (begun, cpu_before) = (Instant::now(), cpu()?);
    work.await?;
    Ok(Took { elapsed: begun.elapsed(), cpu: cpu()?.saturating_sub(cpu_before) })
}

fn event(number: u32) -> Result<IncomingEvent, Failure> {
    let id = EventId::derived("bkg", number, "booking.confirmed");
    let note = "x".repeat(700);
    Ok(IncomingEvent {
        tenant: Tenant::parse("live:shop").ok_or("no tenant")?,
        body: format!(r#"{{"id":"{id}","type":"booking.confirmed","data":{{"note":"{note}"}}}}"#),
        id,
        event_type: "booking.confirmed".to_owned(),
        about_booking: None,
        about_endpoint: None,
    })
}

async fn bare(client: &WebhookClient<SystemClock>, endpoint: &WebhookEndpoint) -> Result<(), Failure> {
    let posts = (0..DELIVERIES).map(|number| async move {
        let event = event(number)?;
        let outcome = client
            .post(WebhookPost {
                url: &endpoint.url,
                headers: &BTreeMap::new(),
                secrets: &[&endpoint.secret],
                message_id: event.id.as_str(),
                timestamp_unix_s: SystemClock.now().as_unix_ms() / 1_000,
                body: &event.body,
                limit_ms: 15_000,
            })
            .await;
        match outcome {
            PostOutcome::Answered { status: 204, .. } => Ok(()),
            other => Err(Failure::from(format!("{other:?}"))),
        }
    });
    let mut posts = stream::iter(posts).buffer_unordered(AT_ONCE);
    while let Some(posted) = posts.next().await {
        posted?;
    }
    Ok(())
}

async fn whole(client: &WebhookClient<SystemClock>, endpoint: &WebhookEndpoint) -> Result<(), Failure> {
    let endpoints = MemorySettings::new();
    endpoints.add_endpoint(endpoint.clone());
    let deliveries = &Deliveries {
        endpoints,
        store: MemoryDeliveryStore::new(),
        queue: MemoryDeliveries::new(),
        sender: client.clone(),
        bus: MemoryBus::new(),
        clock: SystemClock,
        entropy: SystemEntropy,
    };
    for number in 0..DELIVERIES {
        deliveries.fan_out(&event(number)?).await?;
    }
    let hints = deliveries.queue.receive(false, SystemClock.now());
    let attempts = hints.iter().map(|hint| deliveries.deliver(hint, Lane::Quick));
    let mut attempts = stream::iter(attempts).buffer_unordered(AT_ONCE);
    while let Some(outcome) = attempts.next().await {
        match outcome? {
            HintOutcome::Delivered => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}

async fn receive() -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    axum::serve(listener, Router::new().fallback(|_: bytes::Bytes| async { StatusCode::NO_CONTENT })).await?;
    Ok(())
}

fn show(name: &str, took: Took) {
    let count = f64::from(DELIVERIES * ROUNDS);
    let per_second = count / took.elapsed.as_secs_f64();
    let cpu_us = took.cpu.as_secs_f64() * 1e6 / count;
    println!("{name:<22} {per_second:>8.0} a second   {cpu_us:>6.0} µs of processor each");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("receive") {
        return receive().await;
    }
    let mut receiver = Command::new(std::env::current_exe()?)
        .arg("receive")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let printed = receiver.stdout.take().ok_or("the receiver prints nowhere")?;
    let url = BufReader::new(printed).lines().next_line().await?.ok_or("the receiver ended")?;
    let client = WebhookClient::new(SafeClient::new(AllowedHosts::parse("127.0.0.1"))?, SystemClock);
    let tenant = Tenant::parse("live:shop").ok_or("no tenant")?;
    let id = WebhookEndpointId::from_bytes([1; 16]);
    let endpoint = WebhookEndpoint::new(id, tenant, url, generate(&SystemEntropy), Timestamp::EPOCH);
    bare(&client, &endpoint).await?;
    let (mut bare_took, mut whole_took) = (Took::default(), Took::default());
    for _ in 0..ROUNDS {
        for (total, took) in [
            (&mut bare_took, timed(bare(&client, &endpoint)).await?),
            (&mut whole_took, timed(whole(&client, &endpoint)).await?),
        ] {
            total.elapsed += took.elapsed;
            total.cpu += took.cpu;
        }
    }
    show("bare signed posts", bare_took);
    show("deliveries", whole_took);
    println!(
        "a delivery takes {:.2} times the time and {:.2} times the processor of a bare post",
        whole_took.elapsed.as_secs_f64() / bare_took.elapsed.as_secs_f64(),
        whole_took.cpu.as_secs_f64() / bare_took.cpu.as_secs_f64()
    );
    Ok(())
}
