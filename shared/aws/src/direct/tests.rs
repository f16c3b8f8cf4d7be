//! Calls by a server whose answers are foreseen, and what is on the wire.

use aws_sdk_dynamodb::operation::put_item::PutItemInput;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::Format;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;
use crate::error::store_error;
use crate::item::{PK, text};
use crate::{AwsClients, AwsConfig, AwsCredentials, AwsHooks};

/// The SDK says with each of its attempts which one it is.
const SDK_HEADER: &str = "amz-sdk-request";

fn config(endpoint_url: Option<String>) -> AwsConfig {
    AwsConfig {
        region: "eu-central-1".to_owned(),
        endpoint_url,
        credentials: AwsCredentials {
            access_key_id: "id".to_owned(),
            secret_access_key: "secret".into(),
            session_token: Some("token/+=".into()),
        },
    }
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It succeeds.
    Done,
    /// It is answered with a status and an error's code.
    Refused(u16, &'static str),
    /// It is never answered.
    Silent,
    /// There is no connection.
    Broken,
}

/// A server whose answers are foreseen; what comes after them succeeds. It notes who sent each request.
#[derive(Clone, Debug)]
struct Server(Arc<Mutex<(Vec<Fate>, Vec<&'static str>)>>);

impl Server {
    fn with(fates: &[Fate]) -> Self {
        let fates = fates.iter().rev().copied().collect();
        Self(Arc::new(Mutex::new((fates, Vec::new()))))
    }

    fn client(&self) -> DynamoDb {
        let connector = Some(SharedHttpConnector::new(self.clone()));
        let hooks = AwsHooks { connector, ..AwsHooks::default() };
        AwsClients::with_hooks(&config(None), &hooks).unwrap().dynamodb
    }

    /// Who sent the requests since the last time.
    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}

impl HttpConnector for Server {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        assert_eq!(request.uri().trim_end_matches('/'), "https://dynamodb.eu-central-1.amazonaws.com");
        for header in ["authorization", "x-amz-date", "x-amz-security-token", "user-agent"] {
            assert!(request.headers().get(header).is_some(), "{header}");
        }
        // The same from both, as "DynamoDB low-level API" in its developer guide has them.
        assert_eq!(request.headers().get("content-type"), Some("application/x-amz-json-1.0"));
        assert_eq!(request.headers().get("x-amz-target"), Some("DynamoDB_20120810.PutItem"));
        let sender = if request.headers().get(SDK_HEADER).is_some() { "SDK" } else { "direct" };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.push(sender);
        let answer = |status: u16, body: String| {
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
        };
        match state.0.pop().unwrap_or(Fate::Done) {
            Fate::Done => answer(200, "{}".to_owned()),
            Fate::Refused(status, code) => answer(status, format!(r#"{{"__type": "x#{code}"}}"#)),
            Fate::Silent => HttpConnectorFuture::new(std::future::pending()),
            Fate::Broken => HttpConnectorFuture::ready(Err(
                aws_smithy_runtime_api::client::result::ConnectorError::io("broken".into()),
            )),
        }
    }
}

struct PutKey;

impl Call<PutItem> for PutKey {
    fn body(&self) -> Result<Vec<u8>, StoreError> {
        Ok(br#"{"TableName":"table","Item":{"pk":{"S":"key"}}}"#.to_vec())
    }

    fn request(&self) -> Result<PutItemInputBuilder, StoreError> {
        Ok(PutItemInput::builder().table_name("table").item(PK, text("key")))
    }
}

async fn put(client: &DynamoDb) -> Result<(), String> {
    match client.call(&PutKey).await.unwrap() {
        Ok(_) => Ok(()),
        Err(error) => Err(store_error("PutItem", &error).to_string()),
    }
}

#[tokio::test]
async fn what_goes_well_is_one_request_without_the_sdk() {
    let server = Server::with(&[]);
    let client = server.client();
    for _ in 0..3 {
        put(&client).await.unwrap();
    }
    assert_eq!(server.take(), ["direct", "direct", "direct"]);
}

#[tokio::test]
async fn what_the_item_answers_is_the_answer() {
    for code in ["ConditionalCheckFailedException", "TransactionConflictException"] {
        let server = Server::with(&[Fate::Refused(400, code)]);
        let client = server.client();
        let refused = put(&client).await.unwrap_err();
        assert!(refused.contains(code), "{refused}");
        assert_eq!(server.take(), ["direct"]);
        put(&client).await.unwrap();
        assert_eq!(server.take(), ["direct"]);
    }
}

#[tokio::test(start_paused = true)]
async fn all_other_trouble_is_left_to_the_sdk_until_something_succeeds() {
    let troubles = [
        Fate::Refused(500, "InternalServerError"),
        Fate::Refused(503, "nothing that is known"),
        Fate::Refused(400, "ThrottlingException"),
        Fate::Refused(400, "ProvisionedThroughputExceededException"),
        Fate::Silent,
        Fate::Broken,
    ];
    for trouble in troubles {
        let server = Server::with(&[trouble]);
        let client = server.client();
        put(&client).await.unwrap();
        assert_eq!(server.take(), ["direct", "SDK"], "{trouble:?}");
        put(&client).await.unwrap();
        assert_eq!(server.take(), ["direct"], "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_here_alone_stays_with_the_sdk_for_a_while() {
    let server = Server::with(&[Fate::Refused(400, "IncompleteSignatureException")]);
    let client = server.client();
    put(&client).await.unwrap();
    assert_eq!(server.take(), ["direct", "SDK"]);
    put(&client).await.unwrap();
    tokio::time::advance(Duration::from_secs(DISTRUST_S - 1)).await;
    put(&client).await.unwrap();
    assert_eq!(server.take(), ["SDK", "SDK"]);
    tokio::time::advance(Duration::from_secs(2)).await;
    put(&client).await.unwrap();
    assert_eq!(server.take(), ["direct"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_waiting_leaves_the_trouble_known() {
    let server = Server::with(&[Fate::Silent; 2]);
    let client = server.client();
    let limit = client.config().timeout_config().unwrap().operation_attempt_timeout().unwrap();
    timeout(limit + limit / 2, put(&client)).await.unwrap_err();
    assert_eq!(server.take(), ["direct", "SDK"]);
    put(&client).await.unwrap();
    assert_eq!(server.take(), ["SDK"]);
}

#[tokio::test(start_paused = true)]
async fn trouble_that_stays_is_met_by_the_sdk_alone() {
    let server = Server::with(&[Fate::Refused(500, "InternalServerError"); 6]);
    let client = server.client();
    put(&client).await.unwrap_err();
    assert_eq!(server.take(), ["direct", "SDK", "SDK"]);
    put(&client).await.unwrap_err();
    assert_eq!(server.take(), ["SDK", "SDK", "SDK"]);
    put(&client).await.unwrap();
    assert_eq!(server.take(), ["SDK"]);
    put(&client).await.unwrap();
    assert_eq!(server.take(), ["direct"]);
}

#[tokio::test(start_paused = true)]
async fn silence_lasts_no_longer_than_a_call_may() {
    let server = Server::with(&[Fate::Silent; 10]);
    let client = server.client();
    let begun = Instant::now();
    let late = put(&client).await.unwrap_err();
    assert!(late.contains("timed out"), "{late}");
    let limit = client.config().timeout_config().unwrap().operation_timeout().unwrap();
    assert!(begun.elapsed() <= limit + Duration::from_millis(10), "{:?}", begun.elapsed());
    assert!(server.take().len() >= 2);
}

#[tokio::test]
async fn what_cannot_be_signed_here_is_the_sdk_s() {
    let server = Server::with(&[]);
    let client = DynamoDb { direct: None, ..server.client() };
    put(&client).await.unwrap();
    assert_eq!(server.take(), ["SDK"]);
}

/// Takes one request from a connection, and answers it with success: its head and its body.
async fn take_request(listener: &TcpListener) -> (String, Vec<u8>) {
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut read = Vec::new();
    loop {
        assert!(connection.read_buf(&mut read).await.unwrap() > 0, "the request ends early");
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let body = read[end + 4..].to_vec();
        if body.len() == header(&head, "content-length").unwrap().parse::<usize>().unwrap() {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
            connection.write_all(answer).await.unwrap();
            return (head, body);
        }
    }
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

/// What the library says to a request as it came over the wire: the signature of all that was signed.
fn authorization_of(head: &str, body: &[u8]) -> String {
    let basic = header(head, "x-amz-date").unwrap();
    let (date, time) = basic.split_once('T').unwrap();
    let spelled = format!(
        "{}-{}-{}T{}:{}:{}",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    );
    let at = DateTime::from_str(&spelled, Format::DateTime).unwrap();
    let credentials = Credentials::new("id", "secret", Some("token/+=".to_owned()), None, "test");
    let identity = Identity::from(credentials);
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("dynamodb")
        .time(at.try_into().unwrap())
        .settings(SigningSettings::default())
        .build()
        .unwrap();
    let url = format!("http://{}/", header(head, "host").unwrap());
    let headers = ["content-type", "x-amz-target"].map(|name| (name, header(head, name).unwrap()));
    let signable = SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(body)).unwrap();
    let signed = sign(signable, &SigningParams::V4(params)).unwrap().into_parts().0.into_parts().0;
    let signed = signed.iter().find(|header| header.name() == "authorization").unwrap();
    signed.value().to_owned()
}

#[tokio::test]
async fn what_is_sent_is_what_was_signed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "LocalHost"] {
        let client = AwsClients::new(&config(Some(format!("http://{host}:{port}")))).unwrap().dynamodb;
        let (put, (head, body)) = tokio::join!(put(&client), take_request(&listener));
        put.unwrap();
        assert!(header(&head, SDK_HEADER).is_none(), "{head}");
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "x-amz-security-token"), Some("token/+="));
        assert_eq!(header(&head, "authorization").unwrap(), authorization_of(&head, &body), "{head}");
    }
}

/// Counts what is logged as an error.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An error in the log rings.
#[tokio::test(start_paused = true)]
async fn a_failure_that_passes_is_no_error_in_the_log() {
    let errors = Errors::default();
    // As long as there is one subscriber only, a place in the code that another test's thread is the first to pass asks
    // none, and is silent from then on.
    let _second = tracing::Dispatch::new(Errors::default());
    let _guard = tracing::subscriber::set_default(errors.clone());
    let server = Server::with(&[Fate::Refused(503, "ServiceUnavailable"); 2]);
    let client = server.client();
    put(&client).await.unwrap();
    assert_eq!(server.take(), ["direct", "SDK", "SDK"]);
    assert_eq!(*errors.0.lock().unwrap(), Vec::<String>::new());
}
