//! The calls that a booking makes, made by themselves: the same bytes over kept connections, and nothing around them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Failure;
use crate::database::{Call, Database};
use crate::process::{Circumstances, Process, Subject};
use crate::provider::TOKEN;
use crate::world::World;

/// What is read at once, in bytes: more than any answer here has.
const ANSWER_BYTES: usize = 16 * 1024;

/// How long an answer is waited for.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The calls of a booking, to be made again under other identifiers.
#[derive(Clone, Debug)]
pub struct BareCalls {
    database: SocketAddr,
    provider: SocketAddr,
    put: String,
    update: String,
    provider_call: String,
    id: String,
}

impl BareCalls {
    /// Records the calls of one booking of ours.
    pub async fn record(subject: &Subject, world: &World) -> Result<Self, Failure> {
        let mut process = Process::start(subject, world, &Circumstances::default()).await?;
        process.first(world.event(&world.new_key())).await?;
        world.database.record(false);
        process.invoke(world.event(&world.new_key())).await?;
        let calls = world.database.recorded();
        process.kill().await?;
        let text = |operation: &str| -> Result<(String, Value), Failure> {
            let call: &Call = calls
                .iter()
                .find(|call| call.operation == operation)
                .ok_or_else(|| format!("no {operation}"))?;
            let body = serde_json::from_slice(call.request.body())?;
            Ok((String::from_utf8(call.request.whole.to_vec())?, body))
        };
        let ((put, item), (update, _)) = (text("PutItem")?, text("UpdateItem")?);
        let key = item["Item"]["pk"]["S"].as_str().ok_or("no key")?;
        let id = key.rsplit('_').next().ok_or("no identifier")?.to_owned();
        let provider: SocketAddr = world.provider.url.trim_start_matches("http://").parse()?;
        let body = format!("{{\"booking_id\":\"bkg_{id}\",\"operation\":1,\"attempt\":1}}");
        let provider_call = format!(
            "POST /bookings HTTP/1.1\r\nhost: {provider}\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(Self { database: world.database.address, provider, put, update, provider_call, id })
    }

    /// What the three calls take one after the other, so many times, in milliseconds.
    pub async fn measure(&self, database: &Database, times: u32) -> Result<Vec<f64>, Failure> {
        database.set_delay(Duration::ZERO);
        let calls = self.clone();
        tokio::task::spawn_blocking(move || calls.make(times)).await?
    }

    fn make(&self, times: u32) -> Result<Vec<f64>, Failure> {
        let (mut database, mut provider) = (connect(self.database)?, connect(self.provider)?);
        let mut took = Vec::new();
        for _ in 0..times {
            let id = self.another_id()?;
            let (put, update) = (self.put.replace(&self.id, &id), self.update.replace(&self.id, &id));
            let begun = Instant::now();
            exchange(&mut database, &put)?;
            exchange(&mut provider, &self.provider_call)?;
            exchange(&mut database, &update)?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    }

    /// As long as the recorded one.
    fn another_id(&self) -> Result<String, Failure> {
        let mut bytes = vec![0; self.id.len()];
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes.iter().map(|byte| char::from(b'0' + byte % 10)).collect())
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    Ok(stream)
}

/// Answers here are short and come whole.
fn exchange(stream: &mut TcpStream, request: &str) -> Result<(), Failure> {
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; ANSWER_BYTES];
    let length = stream.read(&mut answer)?;
    if answer[..length].starts_with(b"HTTP/1.1 20") {
        Ok(())
    } else {
        Err(format!("a bare call was refused: {}", String::from_utf8_lossy(&answer[..length])).into())
    }
}
