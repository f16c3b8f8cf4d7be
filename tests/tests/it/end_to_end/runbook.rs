//! The runbook's repairs, made as they stand there, each for the alarm that names it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_domain::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::reply::Reply;
use super::world::{ASK_AGAIN, Consumer, Hook, LOOK_AGAIN, SETTLED, SOON, World, list, until};
use super::wrap_up::client;

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");
/// Where the alarms end.
const TRANSCRIPT: &str = "\n## What it looks like";

/// A call of the shell's function `repair`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Repair {
    path: String,
    body: String,
}

/// A letter for a queue of dead letters.
#[derive(Debug)]
struct Letter {
    /// The stack's output that has the queue's URL.
    url: &'static str,
    body: Value,
}

/// The repairs of each alarm, by its name.
fn repairs() -> BTreeMap<&'static str, Vec<Repair>> {
    let (alarms, _) = RUNBOOK.split_once(TRANSCRIPT).unwrap();
    let sections = alarms.split("\n### ").skip(1);
    let of = |section: &'static str| {
        let found = section.split("repair ").skip(1).filter_map(|rest| {
            let (path, rest) = rest.split_at(rest.find([' ', '`'])?);
            let is_call = ["bookings/", "dead-letters/"].iter().any(|start| path.starts_with(start));
            let body = rest.trim_start().strip_prefix('\'').and_then(|body| body.split('\'').next());
            is_call.then(|| Repair { path: path.to_owned(), body: body.unwrap_or("{}").to_owned() })
        });
        (section.lines().next().unwrap(), found.collect())
    };
    sections.map(of).filter(|(_, repairs): &(_, Vec<Repair>)| !repairs.is_empty()).collect()
}

/// A queue's messages, by the name that `GET /v1/admin/stuck` has for it.
async fn waiting(world: &World, queue: &str) -> Value {
    let stuck = Reply::of(world.admin(Method::GET, "/v1/admin/stuck?limit=1")).await;
    let queues = stuck.json["dead_letters"].as_array().unwrap();
    queues.iter().find(|entry| entry["queue"] == queue).unwrap()["messages"].clone()
}

/// What is told again must have been told once.
async fn first_event(consumer: &Consumer<'_>) -> Value {
    until(SETTLED, ASK_AGAIN, "the feed has the booking's event", async || {
        let feed = consumer.get("/v1/events").await;
        list(&feed.json).into_iter().next().ok_or(feed.json)
    })
    .await
}

/// A letter for each queue, as it would be there: it failed at first, and would be served now.
fn letters(
    consumer: &Consumer<'_>,
    hook: &Hook<'_>,
    booking_id: &str,
    event: &Value,
) -> BTreeMap<&'static str, Letter> {
    let tenant = format!("test:{}", consumer.id);
    let now = "2026-01-01T00:00:00Z";
    let envelope = json!({
        "version": "0", "id": "letter", "detail-type": event["type"], "source": "holdfast", "account": "1",
        "time": now, "region": "eu-central-1",
        "resources": [format!("urn:holdfast:tenant:{tenant}"), format!("urn:holdfast:booking:{booking_id}")],
        "detail": event,
    });
    let record = |reason: &str| json!({"booking_id": booking_id, "from_version": 1, "to_version": 2, "reason": reason});
    [
        ("timers", "TimerDeadLetterQueueUrl", json!({"booking_id": booking_id, "not_before": now})),
        ("events", "EventDeadLetterQueueUrl", envelope.clone()),
        ("undelivered_events", "RuleDeadLetterQueueUrl", envelope),
        (
            "deliveries",
            "DeliveryDeadLetterQueueUrl",
            json!({"tenant": tenant, "endpoint_id": hook.id, "event_id": event["id"], "not_before": now}),
        ),
        ("parked_records", "ParkedRecordQueueUrl", record("unreadable_image")),
        ("bookings", "BookingDeadLetterQueueUrl", record("compensation_failed")),
    ]
    .map(|(queue, url, body)| (queue, Letter { url, body }))
    .into()
}

/// It takes whatever letters there are, which others wait for.
#[tokio::test]
async fn every_repair_that_the_runbook_names_is_made() {
    let world = World::new();
    let (consumer, provider) = (world.consumer().await, world.provider().await);
    let _turn = world.turn().await;
    let hook = consumer.hook(json!({})).await;
    let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SETTLED).await;
    let event = first_event(&consumer).await;
    let letters = letters(&consumer, &hook, &id, &event);

    let repairs = repairs();
    let mut queues: Vec<String> = Vec::new();
    let mut of_bookings: Vec<String> = Vec::new();
    for (alarm, repairs) in &repairs {
        for Repair { path, body } in repairs {
            let mut body: Value =
                serde_json::from_str(body).unwrap_or_else(|error| panic!("{alarm}: {body}: {error}"));
            body["reason"] = format!("for {alarm}").into();
            if path == "dead-letters/redrive" {
                let queue = body["queue"].as_str().unwrap().to_owned();
                redrive(&world, alarm, &letters[queue.as_str()], &body).await;
                queues.push(queue);
            } else {
                of_bookings.push(path.replace("bkg_…", &id));
            }
        }
    }
    queues.sort();
    queues.dedup();
    assert_eq!(queues, letters.keys().map(|queue| (*queue).to_owned()).collect::<Vec<_>>());
    // What was told again was told before: nobody hears of anything new.
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    assert_eq!(list(&consumer.get("/v1/events").await.json).len(), 2);

    a_stretch_of_time_is_told_again(&world, &consumer, &id).await;
    hook.until_types(&id, &["booking.created", "booking.confirmed"], SOON).await;
    assert_eq!(list(&consumer.get("/v1/events").await.json).len(), 2);

    // To end it is the last that can be done for a booking.
    of_bookings.sort_by_key(|path| path.ends_with("/cancel"));
    of_bookings.dedup();
    for path in &of_bookings {
        let request = world.admin(Method::POST, &format!("/v1/admin/{path}"));
        let reply = Reply::of(request.json(&json!({"reason": "the runbook says so"}))).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    assert!(["/retry", "/cancel"].iter().all(|end| of_bookings.iter().any(|path| path.ends_with(end))));
    consumer.until_status(&id, "cancelled", SOON).await;
    consumer.until_cause(&id, "compensated", SETTLED).await;
    assert!(provider.live().await.is_empty());
}

/// The runbook's own lines of shell that begin so, up to the end of their block or function.
fn shell(begin: &str, end: &str) -> &'static str {
    let from = &RUNBOOK[RUNBOOK.find(begin).unwrap()..];
    &from[..from.find(end).unwrap() + end.len()]
}

/// As the one on call does it, by the runbook's own functions, for the time of this booking's changes.
async fn a_stretch_of_time_is_told_again(world: &World, consumer: &Consumer<'_>, id: &str) {
    let history = list(&consumer.get(&format!("/v1/bookings/{id}/events")).await.json);
    let time = |version: &Value| serde_json::from_value::<Timestamp>(version["at"].clone()).unwrap();
    let (from, to) = (time(&history[0]), time(&history[1]).plus_ms(1));
    let called = shell("re_emit 20", "'\n");
    assert!(RUNBOOK.split("### StreamFailureAlarm").nth(1).unwrap().contains(called), "{called}");
    let words: Vec<&str> = called.splitn(4, ' ').collect();
    let [_, _, _, why] = words.as_slice() else { panic!("{called}") };
    let functions = format!("{}\n{}", shell("repair() {", "\n"), shell("re_emit() {", "\n}\n"));
    let mut bash = tokio::process::Command::new("bash");
    bash.arg("-euc").arg(format!("{functions}re_emit {from} {to} {why}")).kill_on_drop(true);
    bash.env("API", &world.stack.api_url)
        .env("ADMIN", format!("Authorization: Bearer {}", world.stack.admin_key));
    let output = tokio::time::timeout(SETTLED, bash.output()).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let last: Value = serde_json::from_str(printed.lines().rfind(|line| !line.is_empty()).unwrap()).unwrap();
    assert!(output.status.success() && last["next_cursor"].is_null() && last["failed"] == 0, "{output:?}");
    // Others' bookings may have changed then, too.
    assert!(last["bookings"].as_u64() >= Some(1) && last["events"].as_u64() >= Some(2), "{output:?}");
}

/// What the runbook's `re_emit` does if it is answered these, one after the other: how it ends, the bodies that it sends,
/// and what it says last.
async fn re_emitted(answers: &[&str]) -> (bool, Vec<Value>, String) {
    // Each call is a process of its own, which tells of its body there.
    let stub = format!(
        "calls=$(mktemp); answers='{}'
         repair() {{ echo \"$2\" >> \"$calls\"; sed -n \"$(wc -l < \"$calls\")p\" <<< \"$answers\"; }}",
        answers.join("\n")
    );
    let script = format!(
        "{stub}\n{}re_emit 2026-11-21T04:10:00Z 2026-11-21T05:30:00Z 'dispatch was down' && ended=0 || ended=1
         echo; cat \"$calls\"; rm \"$calls\"; exit $ended",
        shell("re_emit() {", "\n}\n")
    );
    let mut bash = tokio::process::Command::new("bash");
    let output = bash.arg("-uc").arg(script).kill_on_drop(true).output();
    let output = tokio::time::timeout(SOON, output).await.unwrap().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let (_, calls) = printed.split_once("\n\n").unwrap();
    let bodies = calls.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.success(), bodies, String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_stretch_of_time_is_asked_for_until_it_is_done() {
    let (more, done) = (r#"{"bookings":1,"next_cursor":"AQ_-7"}"#, r#"{"bookings":2,"next_cursor":null}"#);
    let begin = json!({
        "from": "2026-11-21T04:10:00Z", "to": "2026-11-21T05:30:00Z", "reason": "dispatch was down",
    });
    let mut next = begin.clone();
    next["cursor"] = "AQ_-7".into();
    let (is_done, bodies, said) = re_emitted(&[more, more, done]).await;
    assert_eq!((is_done, bodies, said.as_str()), (true, vec![begin.clone(), next.clone(), next.clone()], ""));
    // Whoever is answered a problem hears where to go on, and that it is not done.
    let (is_done, bodies, said) = re_emitted(&[more, r#"{"status":503}"#]).await;
    assert_eq!((is_done, bodies), (false, vec![begin.clone(), next]));
    assert!(
        said.ends_with("re_emit 2026-11-21T04:10:00Z 2026-11-21T05:30:00Z 'dispatch was down' AQ_-7\n"),
        "{said}"
    );
    let (is_done, bodies, _) = re_emitted(&[""]).await;
    assert_eq!((is_done, bodies), (false, vec![begin]));
}

/// Puts a letter where the alarm would ring for it, and has it served as the runbook says.
async fn redrive(world: &World, alarm: &str, letter: &Letter, body: &Value) {
    let queue = body["queue"].as_str().unwrap();
    let url = &world.stack.resources[letter.url];
    let sent = client(world.stack).send_message().queue_url(url).message_body(letter.body.to_string()).send();
    tokio::time::timeout(Duration::from_secs(10), sent).await.unwrap().unwrap();
    let seen = waiting(world, queue).await;
    assert!(seen.as_u64() > Some(0), "{alarm}: {queue}: {seen}");
    let served = AtomicU64::new(0);
    until(SETTLED, LOOK_AGAIN, &format!("{queue} are served for {alarm}"), async || {
        let redriven =
            Reply::of(world.admin(Method::POST, "/v1/admin/dead-letters/redrive").json(body)).await;
        assert_eq!(redriven.status, 200, "{alarm}: {redriven:?}");
        // Another test's booking may have as many versions as there can be, so that its letter stays.
        assert!(queue == "bookings" || redriven.json["kept"] == 0, "{alarm}: {redriven:?}");
        served.fetch_add(redriven.json["redriven"].as_u64().unwrap(), Ordering::Relaxed);
        let is_served = served.load(Ordering::Relaxed) > 0;
        if is_served && redriven.json["waiting"] == 0 { Ok(()) } else { Err(redriven.json) }
    })
    .await;
}
