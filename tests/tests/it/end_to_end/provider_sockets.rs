//! Providers that are bad at HTTP, on real sockets: whatever comes back, or does not, the provider in the end holds
//! exactly what the consumer is told.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::cases::{Case, line_of};
use super::reply::Reply;
use super::sockets::{Ending, Fault, Passing};
use super::world::{SETTLED, SHORT_MS, World};

/// A pause between two bytes with which no answer is complete within a limit.
const SLOWLY: Duration = Duration::from_millis(100);
/// Later than the limit of a request, by as much as a busy machine may be late.
const TOO_LATE: Duration = Duration::from_millis(SHORT_MS + 1_000);
/// More than is read of an answer.
const ENORMOUS_BYTES: usize = 3 * 1024 * 1024;
/// What a small answer becomes when it is unpacked.
const BOMB_BYTES: usize = 64 * 1024 * 1024;

/// Where a redirect leads: a path of its own, which the wire would see.
const ELSEWHERE: &str = "/elsewhere";

fn answer(head: &str, body: &[u8]) -> Ending {
    let mut bytes = format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Ending::Bytes(bytes)
}

fn bomb() -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = [0_u8; 8 * 1024];
    for _ in 0..BOMB_BYTES / zeros.len() {
        std::io::Write::write_all(&mut packed, &zeros).unwrap();
    }
    packed.finish().unwrap()
}

/// What is no answer: its name, and what the client sees.
fn no_answers() -> Vec<(&'static str, Ending)> {
    let json = "Content-Type: application/json";
    let yes = json!({"status": "confirmed"}).to_string();
    let bomb = bomb();
    let bomb_head = format!("200 OK\r\n{json}\r\nContent-Encoding: gzip\r\nContent-Length: {}", bomb.len());
    let enormous = "x".repeat(ENORMOUS_BYTES);
    vec![
        ("a reset", Ending::Reset),
        ("an end without a byte", Ending::Close),
        ("a reset after the head", Ending::ResetAfterHead),
        ("an end within the body", Ending::CloseMidBody),
        ("one byte at a time", Ending::Drip(SLOWLY)),
        ("nothing", Ending::Hang),
        ("interim answers for ever", Ending::Interim),
        ("an answer after the limit", Ending::Late(TOO_LATE)),
        ("no HTTP", Ending::Bytes(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec())),
        ("an answer of zeros", Ending::Bytes(vec![0; 4_096])),
        (
            "a chunk that is cut off",
            answer(&format!("200 OK\r\n{json}\r\nTransfer-Encoding: chunked"), b"40\r\n{\"status\""),
        ),
        (
            "a chunk of no size",
            answer(&format!("200 OK\r\n{json}\r\nTransfer-Encoding: chunked"), b"zz\r\n{}\r\n0\r\n\r\n"),
        ),
        (
            "a body shorter than it was said to be",
            answer(&format!("200 OK\r\n{json}\r\nContent-Length: 9000"), yes.as_bytes()),
        ),
        (
            "a body longer than it was said to be",
            answer(&format!("200 OK\r\n{json}\r\nContent-Length: 10"), yes.as_bytes()),
        ),
        ("an enormous body", answer(&format!("200 OK\r\n{json}"), enormous.as_bytes())),
        (
            "an enormous body, as it says",
            answer(&format!("200 OK\r\n{json}\r\nContent-Length: {ENORMOUS_BYTES}"), b"{"),
        ),
        ("an enormous head", answer(&format!("200 OK\r\nX-Long: {enormous}"), b"{}")),
        ("a bomb", answer(&bomb_head, &bomb)),
        (
            "a redirect",
            answer(&format!("307 Temporary Redirect\r\nLocation: {ELSEWHERE}\r\nContent-Length: 0"), b""),
        ),
    ]
}

#[tokio::test]
async fn whatever_is_no_answer_is_found_out() {
    let world = World::new();
    let consumer = world.consumer().await;
    // Every third of them goes on in the background.
    let cases = no_answers().into_iter().enumerate();
    let cases = cases.map(|(number, (name, ending))| (name, ending, number % 3 == 0));
    join_all(cases.map(async |(name, ending, in_background)| {
        let case = Case::of(&world, &consumer, "book", in_background).await;
        let mut planned = case.wire.plan(&[&line_of(&case.provider, "book")], 1, Fault::served(ending));
        let first = Reply::for_good(case.request(), SETTLED).await;
        planned.met(1, SETTLED).await;
        // Which failure it is told to be depends on how busy the machine is.
        let expected: &[u16] = if in_background { &[201, 202] } else { &[502, 504] };
        assert!(expected.contains(&first.status), "{name}: {first:?}");
        case.settle(&first).await;
        assert!(!case.wire.requests().iter().any(|line| line.contains(ELSEWHERE)), "{name}: it was followed");
    }))
    .await;
}

#[tokio::test]
async fn a_change_that_nobody_answered_is_found_out() {
    let world = World::new();
    let consumer = world.consumer().await;
    let endings = [Ending::Reset, Ending::CloseMidBody, Ending::Drip(SLOWLY), Ending::Close];
    let operations = ["confirm", "extend", "reschedule", "cancel"];
    let cases = operations.iter().zip(endings).zip([false, true, false, true]);
    join_all(cases.map(async |((operation, ending), in_background)| {
        let case = Case::of(&world, &consumer, operation, in_background).await;
        let mut planned = case.wire.plan(&[&line_of(&case.provider, operation)], 1, Fault::served(ending));
        let first = Reply::for_good(case.request(), SETTLED).await;
        planned.met(1, SETTLED).await;
        assert!(matches!(first.status, 202 | 502 | 504), "{first:?}");
        case.settle(&first).await;
    }))
    .await;
}

/// The provider's side gets the request long after we hung up, and after a look-up found nothing.
#[tokio::test]
async fn what_reaches_a_provider_long_after_we_hung_up_is_found_out() {
    let world = World::new();
    let consumer = world.consumer().await;
    let late = Duration::from_millis(SHORT_MS + 4_000);
    join_all([false, true].map(async |in_background| {
        let case = Case::of(&world, &consumer, "book", in_background).await;
        let fault = Fault { passing: Passing::After(late), ending: Ending::Hang };
        let mut planned = case.wire.plan(&[&line_of(&case.provider, "book")], 1, fault);
        let first = Reply::for_good(case.request(), SETTLED).await;
        planned.met(1, SETTLED).await;
        tokio::time::sleep(late).await;
        case.settle(&first).await;
    }))
    .await;
}

/// Just before the limit, and just after: the answer says what came of it, whichever it was.
#[tokio::test]
async fn an_answer_at_the_limit_counts_or_is_undone() {
    const LIMIT_MS: u64 = 2_000;
    let world = World::new();
    let consumer = world.consumer().await;
    join_all([1_800, 1_990, 2_010, 2_200].map(async |answered_ms| {
        let mut case = Case::of(&world, &consumer, "book", false).await;
        case.limit("sync_confirmation_timeout_millisecond", LIMIT_MS);
        let ending = Ending::Late(Duration::from_millis(answered_ms));
        let planned = case.wire.plan(&[&line_of(&case.provider, "book")], 1, Fault::served(ending));
        let first = Reply::for_good(case.request(), SETTLED).await;
        let booking = consumer.booking(&case.booking_id()).await;
        match first.status {
            201 => {
                assert!(answered_ms < LIMIT_MS, "answered after {answered_ms} ms: {first:?}");
                assert_eq!(booking["status"], "confirmed", "{booking}");
            }
            504 => assert_eq!(booking["status"], "cancelled", "{booking}"),
            _ => panic!("{first:?}"),
        }
        // On a busy machine nothing may have been sent in time, of which there is nothing to undo.
        if planned.count() == 1 {
            case.settle(&first).await;
        }
    }))
    .await;
}

/// A connection that the provider closes without a word, after an answer that promised to keep it.
#[tokio::test]
async fn a_connection_that_was_closed_between_two_requests_costs_no_booking() {
    const TIMES: usize = 6;
    let world = World::new();
    let consumer = world.consumer().await;
    let case = Case::of(&world, &consumer, "book", true).await;
    let line = line_of(&case.provider, "book");
    let _closing = case.wire.plan(&[&line], TIMES, Fault::served(Ending::AnswerAndClose));
    let mut ids = Vec::new();
    for number in 0..TIMES {
        let request = consumer.creating(&case.provider.body(&json!({"async_confirmation": true})));
        let request = request.header("idempotency-key", format!("closed-{number}"));
        let reply = Reply::for_good(request, SETTLED).await;
        assert!(matches!(reply.status, 201 | 202), "{reply:?}");
        ids.push(reply.booking_id().to_owned());
    }
    for id in &ids {
        consumer.until_status(id, "confirmed", SETTLED).await;
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    case.provider.assert_agrees(&consumer, &ids).await;
}

/// A look-up is answered no better than the booking was.
#[tokio::test]
async fn a_look_up_that_is_no_answer_is_made_again() {
    let world = World::new();
    let consumer = world.consumer().await;
    let endings = [Ending::Reset, Ending::CloseMidBody, Ending::Bytes(b"no\r\n\r\n".to_vec()), Ending::Close];
    join_all(endings.map(async |ending| {
        let case = Case::of(&world, &consumer, "book", true).await;
        let _lost = case.wire.plan(&[&line_of(&case.provider, "book")], 1, Fault::served(Ending::Reset));
        let mut looked_up = case.wire.plan(&["GET /providers/"], 2, Fault::served(ending));
        let first = Reply::for_good(case.request(), SETTLED).await;
        assert_eq!(first.status, 202, "{first:?}");
        looked_up.met(2, SETTLED).await;
        case.settle(&first).await;
        let calls: Vec<Value> = case.provider.calls("book").await;
        assert_eq!(calls.len(), 1, "it is not sent again before somebody knows: {calls:?}");
    }))
    .await;
}
