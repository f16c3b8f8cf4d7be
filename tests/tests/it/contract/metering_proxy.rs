//! A proxy that asks DynamoDB what each call costs, and notes it once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::lossy_proxy::message;

/// What calls cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    calls: Arc<Mutex<Vec<Call>>>,
    /// The last first attempt that was not the SDK's.
    direct: Arc<Mutex<Option<Value>>>,
}

/// What one call cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) operation: String,
    /// Capacity units of tables, in halves: DynamoDB counts in no smaller ones.
    pub(crate) table_half_units: u64,
    /// Those of their indexes.
    pub(crate) index_half_units: u64,
    /// Whether it was refused, which no units are told of.
    pub(crate) is_refused: bool,
}

impl Call {
    /// Capacity units of tables, and those of their indexes, in halves.
    pub(crate) fn table_and_index(&self) -> (u64, u64) {
        (self.table_half_units, self.index_half_units)
    }

    /// Capacity units altogether, in halves.
    pub(crate) fn half_units(&self) -> u64 {
        self.table_half_units + self.index_half_units
    }
}

impl Meter {
    /// Whether a request is a call of its own. On a busy machine calls are given up and repeated: the SDK says which
    /// attempt it is, the first one may have been made without it.
    fn is_another(&self, attempt: Option<&str>, asked: Value) -> bool {
        let mut direct = self.direct.lock().unwrap();
        match attempt {
            None => {
                *direct = Some(asked);
                true
            }
            Some(attempt) => attempt.contains("attempt=1") && direct.take() != Some(asked),
        }
    }

    /// All calls so far; none are left.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

/// Starts a proxy before the server at `target`. It ends with the test's runtime.
pub(crate) async fn metering_proxy(target: SocketAddr) -> (SocketAddr, Meter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let meter = Meter::default();
    let metered = meter.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, target, metered.clone()));
        }
    });
    (address, meter)
}

async fn serve(mut client: TcpStream, target: SocketAddr, metered: Meter) {
    let mut server = TcpStream::connect(target).await.unwrap();
    while let Some(request) = message(&mut client).await {
        let (head, asked) = parts(&request);
        let operation = header(&head, "x-amz-target").unwrap().rsplit('.').next().unwrap().to_owned();
        server.write_all(&asking(&head, asked.clone())).await.unwrap();
        let answer = message(&mut server).await.unwrap();
        let (_, body) = parts(&answer);
        if metered.is_another(header(&head, "amz-sdk-request"), asked) {
            let (table_half_units, index_half_units) = half_units_of(&body["ConsumedCapacity"]);
            let is_refused = !answer.starts_with(b"HTTP/1.1 200");
            let call = Call { operation, table_half_units, index_half_units, is_refused };
            metered.calls.lock().unwrap().push(call);
        }
        if client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// A message's head, and its body as JSON.
fn parts(message: &[u8]) -> (String, Value) {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    let end = message.windows(HEAD_END.len()).position(|window| window == HEAD_END).unwrap();
    let head = String::from_utf8(message[..end].to_vec()).unwrap();
    (head, serde_json::from_slice(&message[end + HEAD_END.len()..]).unwrap())
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}

/// The request, asking for its cost as well.
fn asking(head: &str, mut body: Value) -> Vec<u8> {
    body["ReturnConsumedCapacity"] = "INDEXES".into();
    let body = body.to_string();
    let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
    let mut lines: Vec<&str> = head.lines().filter(|line| !is_length(line)).collect();
    let length = format!("content-length: {}", body.len());
    lines.push(&length);
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

/// Those of tables and those of indexes; a call about several tables is answered with a list.
fn half_units_of(capacity: &Value) -> (u64, u64) {
    match capacity {
        Value::Null => (0, 0),
        Value::Array(all) => {
            all.iter().map(half_units_of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        }
        one => {
            let indexes = one["GlobalSecondaryIndexes"].as_object();
            let of_indexes =
                indexes.map_or(0, |all| all.values().map(|index| half_units(&index["CapacityUnits"])).sum());
            (half_units(&one["Table"]["CapacityUnits"]), of_indexes)
        }
    }
}

fn half_units(units: &Value) -> u64 {
    let text = units.to_string();
    let (whole, rest) = text.split_once('.').unwrap_or((&text, "0"));
    let half = match rest {
        "0" => 0,
        "5" => 1,
        _ => panic!("{text} is no number of halves"),
    };
    whole.parse::<u64>().unwrap() * 2 + half
}
