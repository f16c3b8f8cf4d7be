//! Marked data on every path: where it goes, and where it must not.
//!
//! Personal data, keys and credentials carry marks that nothing else has. They go through every kind of call, those
//! that fail included, and through the background. Then all that the functions logged, all that they sent to queues
//! and to the bus, all tables with their keys, all that receivers got and all other answers are searched for them.
//! The functions' calls of Amazon's services go through a proxy, so that a message is seen even if a worker had it
//! within a moment.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::AttributeValue;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use holdfast_local::stack_file::StackFile;
use reqwest::Method;
use serde_json::{Value, json};

use super::killed::calm;
use super::reply::Reply;
use super::sockets::{Ending, Fault, Wire};
use super::stack::{clients, rough};
use super::world::{Consumer, Protocol, Provider, SETTLED, SOON, World, text};

const NAME: &str = "Zqcanaryname Lovelace";
const EMAIL: &str = "zqcanaryemail@example.com";
const PHONE: &str = "+4988172599400217";
const BIRTH_DATE: &str = "1907-03-29";
const NOTES: &str = "zqcanarynotes: peanuts";
/// What is wrong in a request, and so is in none that is kept.
const MALFORMED: &str = "zqcanarymalformed";
const HEADER: &str = "zqcanaryheader";
const TOKEN: &str = "zqcanarytoken";
const PASSWORD: &str = "zqcanarypassword";
/// What every provider of these tests signs with, less its prefix.
const SIGNING: &str = "ZW5kLXRvLWVuZC1zaWduaW5nLXNlY3JldC0wMQ==";

/// A mark, and the tables that it may be in.
#[derive(Clone, Debug)]
struct Mark {
    what: &'static str,
    text: String,
    tables: &'static [&'static str],
}

const BOOKINGS: &[&str] = &["BookingTableName"];
const CONFIGURATION: &[&str] = &["ConfigTableName"];

fn mark(what: &'static str, text: &str, tables: &'static [&'static str]) -> Mark {
    Mark { what, text: text.to_owned(), tables }
}

/// The marks that are the same in every run.
fn marks() -> Vec<Mark> {
    vec![
        mark("a name", "Zqcanaryname", BOOKINGS),
        mark("an e-mail address", "zqcanaryemail", BOOKINGS),
        mark("a telephone number", "88172599400217", BOOKINGS),
        mark("a date of birth", BIRTH_DATE, BOOKINGS),
        mark("notes", "zqcanarynotes", BOOKINGS),
        mark("what was refused", MALFORMED, &[]),
        mark("a receiver's header", HEADER, CONFIGURATION),
        mark("a provider's token", TOKEN, CONFIGURATION),
        mark("a provider's password", PASSWORD, CONFIGURATION),
        mark("a provider's signing secret", SIGNING, CONFIGURATION),
    ]
}

/// All ways in which a text may be there: as it is, and within what is written in base64.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let is_base64 = |byte: char| byte.is_ascii_alphanumeric() || "+/=-_".contains(byte);
    let decoded: Vec<String> = text
        .split(|character| !is_base64(character))
        .filter(|part| part.len() >= 12)
        .filter_map(|part| {
            BASE64.decode(part.as_bytes()).or_else(|_| BASE64URL_NOPAD.decode(part.as_bytes())).ok()
        })
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    format!("{text}\n{}", decoded.join("\n"))
}

fn found<'a>(marks: &'a [Mark], text: &str) -> Vec<&'a Mark> {
    marks.iter().filter(|mark| text.contains(&mark.text)).collect()
}

/// What the functions have sent to a service of Amazon's, with the operation's name first.
fn sent(request: &[u8]) -> (String, String) {
    let text = readable(request);
    let target = text
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-amz-target:").map(str::to_owned));
    (target.unwrap_or_default().trim().to_owned(), text)
}

fn customer() -> Value {
    json!({"name": NAME, "email": EMAIL, "phone": PHONE, "birth_date": BIRTH_DATE, "language": "en"})
}

fn marked(provider: &Provider<'_>, changes: &Value) -> Value {
    let mut body = provider.body(&json!({"customer": customer(), "notes": NOTES, "reference": "order-1"}));
    super::world::merge(&mut body, changes);
    body
}

/// A provider of this kind with marked credentials, behind a wire of its own.
async fn provider<'a>(world: &'a World, protocol: Protocol, settings: &Value) -> (Provider<'a>, Wire) {
    let provider = Provider::speaking(world, protocol).await;
    let usual = provider.settings(&json!({}));
    let (wire, url) = Wire::before_url(usual["base_url"].as_str().unwrap()).await;
    let mut settings = settings.clone();
    if settings.get("base_url").is_none() {
        settings["base_url"] = json!(url);
    }
    provider.configure(&settings).await;
    (provider, wire)
}

/// Answers of a provider that repeat what it was told where nobody expects it.
fn tactless_answers() -> Vec<Vec<u8>> {
    let answer = |head: &str, body: &str| {
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    vec![
        answer("500 Oops", &format!("<html>{NAME} {EMAIL} {TOKEN}</html>")),
        answer(
            "200 OK\r\nContent-Type: application/json",
            &format!("{{\"status\": \"{NAME}\", \"{EMAIL}\": 1}}"),
        ),
        answer("200 OK\r\nContent-Type: application/json", &format!("{{\"status\": {NAME}")),
        answer(&format!("503 {NAME}\r\nRetry-After: {PHONE}\r\nX-Echo: {NOTES}"), NOTES),
        answer(&format!("302 Found\r\nLocation: http://127.0.0.1:1/{EMAIL}"), ""),
        answer(&format!("401 No\r\nWWW-Authenticate: {TOKEN}"), TOKEN),
    ]
}

/// Calls that are refused for what is in them. What is answered may name the caller's own words; nothing else may.
async fn refused(world: &World, consumer: &Consumer<'_>, provider: &Provider<'_>, booking_id: &str) {
    let json = |body: String| {
        consumer.call(Method::POST, "/v1/bookings").header("content-type", "application/json").body(body)
    };
    let mut calls = vec![
        json(format!("{{\"{MALFORMED}\": {MALFORMED}")),
        json(format!("{{\"customer\": {{\"name\": \"{MALFORMED}\", \"name\": \"{MALFORMED}\"}}}}")),
        json(format!("\"{MALFORMED}\"")),
    ];
    for change in [
        json!({"customer": {"email": MALFORMED}}),
        json!({"customer": {MALFORMED: MALFORMED}}),
        json!({"customer": {"birth_date": MALFORMED, "language": format!("{MALFORMED}!")}}),
        json!({"notes": format!("{MALFORMED}\u{0}")}),
        json!({"slot": {"start": MALFORMED, "end": MALFORMED}}),
        json!({"provider_id": format!("{MALFORMED}!")}),
        json!({"async_confirmation": MALFORMED}),
        json!({"slot": null, "booking_key": MALFORMED}),
        json!({"units": [{"unit_id": {MALFORMED: 1}, "quantity": MALFORMED}]}),
    ] {
        calls.push(consumer.creating(&marked(provider, &change)));
    }
    for path in [
        format!("/v1/bookings?cursor={MALFORMED}"),
        format!("/v1/bookings?{MALFORMED}=1"),
        format!("/v1/bookings?status={MALFORMED}&created_after={MALFORMED}&limit={MALFORMED}"),
        format!("/v1/bookings/{MALFORMED}"),
        format!("/v1/bookings/{booking_id}?wait={MALFORMED}"),
        format!("/v1/events?after={MALFORMED}&type={MALFORMED}"),
        format!(
            "/v1/availability?provider_id={}&location_ids=main-street&start_date={MALFORMED}",
            provider.id
        ),
        format!("/v1/webhook-endpoints/{MALFORMED}/deliveries"),
        format!("/{MALFORMED}"),
        format!("/problems/{MALFORMED}"),
        format!("/docs/{MALFORMED}"),
        format!("/v1/admin/consumers/{MALFORMED}"),
        format!("/v1/provider/bookings/{MALFORMED}/acknowledge"),
    ] {
        calls.push(consumer.call(Method::GET, &path));
    }
    for (name, value) in [
        ("idempotency-key", format!("\"{MALFORMED}")),
        ("if-none-match", MALFORMED.to_owned()),
        ("prefer", format!("wait={MALFORMED}")),
        ("accept", MALFORMED.to_owned()),
        ("x-forwarded-for", MALFORMED.to_owned()),
        ("user-agent", MALFORMED.to_owned()),
    ] {
        calls.push(consumer.call(Method::GET, &format!("/v1/bookings/{booking_id}")).header(name, value));
    }
    for key in [MALFORMED.to_owned(), format!("hf_test_consumer_{}_{MALFORMED}", consumer.key_id)] {
        calls.push(world.call(Method::GET, "/v1/bookings").bearer_auth(key));
    }
    let note = json!({"reason": MALFORMED, MALFORMED: 1});
    calls.push(consumer.operating(booking_id, "cancel", &note));
    let endpoint =
        json!({"url": format!("ftp://{MALFORMED}"), "headers": {MALFORMED: format!("{MALFORMED}\n")}});
    calls.push(consumer.call(Method::POST, "/v1/webhook-endpoints").json(&endpoint));
    let settings = json!({"name": "x", "mode": MALFORMED, "auth": {"type": "bearer", MALFORMED: MALFORMED}});
    calls.push(world.admin(Method::PUT, "/v1/admin/providers/canary").json(&settings));
    for call in calls {
        Reply::of(call).await;
    }
}

/// What the marks went through, and what was answered on the way.
struct Flight {
    answers: Vec<Reply>,
    messages: Vec<Value>,
    bookings: Vec<String>,
}

/// Bookings at providers of every kind, which are well, fail, and repeat what they are told.
async fn fly(world: &World, consumer: &Consumer<'_>, marks: &mut Vec<Mark>) -> Flight {
    let hook = consumer.hook(json!({"headers": {"x-canary": HEADER}})).await;
    let failing =
        consumer.hook(json!({"headers": {"x-canary": HEADER}, "retry_schedule_seconds": [0, 1]})).await;
    failing.behave(&json!({"status": 500})).await;
    for secret in [&hook.created["secret"], &failing.created["secret"]] {
        marks.push(mark("a receiver's secret", text(secret).trim_start_matches("whsec_"), CONFIGURATION));
    }
    let native = json!({"auth": {"type": "bearer", "token": TOKEN}});
    let basic = json!({"auth": {"type": "basic", "token": null, "username": "u", "password": PASSWORD}, "confirmation": "notify"});
    let by_key = json!({"auth": {"type": "api_key", "token": null, "header": "x-key", "value": TOKEN}});
    let (clinic, wire) = provider(world, Protocol::Native, &native).await;
    let (practice, _practice_wire) = provider(world, Protocol::Docplanner, &basic).await;
    let (tours, _tours_wire) = provider(world, Protocol::Octo, &by_key).await;
    let mut answers = Vec::new();
    let mut bookings = Vec::new();
    for provider in [&clinic, &practice, &tours] {
        let (key, body) = (&provider.id, marked(provider, &json!({})));
        let made = consumer.create_with_key(key, &body).await;
        let id = made.assert_booking(201, "confirmed");
        let again = consumer.create_with_key(key, &body).await;
        again.assert_replays(&made);
        answers.extend([made, again]);
        answers.push(consumer.operate(&id, "reschedule", &json!({"slot": provider.slot(5)})).await);
        bookings.push(id);
    }
    for answer in tactless_answers() {
        let fault = Fault::swallowed(Ending::Bytes(answer));
        wire.plan(&["POST"], 1, fault);
        let made = consumer.create(&marked(&clinic, &json!({"async_confirmation": true}))).await;
        let id = made.booking_id().to_owned();
        answers.push(made);
        consumer.until_settled(&id, SETTLED).await;
        bookings.push(id);
    }
    // One that is given up and undone, and one that is declined.
    clinic.next(1, "book", &json!({"hang": true})).await;
    answers.push(
        consumer.create(&marked(&clinic, &json!({"sync_confirmation_timeout_millisecond": 1_000}))).await,
    );
    clinic.next(1, "book", &json!({"decline": {"code": "full", "message": "Nothing is free."}})).await;
    answers.push(consumer.create(&marked(&clinic, &json!({}))).await);
    let key = clinic.key().await;
    let told =
        json!({"status": MALFORMED, MALFORMED: NAME, "provider_reference": format!("{MALFORMED}\u{0}")});
    let path = format!("/v1/provider/bookings/{}/acknowledge", bookings[0]);
    answers.push(Reply::of(world.call(Method::POST, &path).bearer_auth(&key).json(&told)).await);
    marks.push(mark("a provider's key", key.rsplit('_').next().unwrap(), &[]));
    refused(world, consumer, &clinic, &bookings[0]).await;
    answers.push(consumer.operate(&bookings[1], "cancel", &json!({"reason": "ill"})).await);
    for path in ["/v1/bookings?limit=100", "/v1/events?limit=100", "/v1/webhook-endpoints"] {
        answers.push(consumer.get(path).await);
    }
    answers.push(consumer.get(&format!("/v1/webhook-endpoints/{}/deliveries", failing.id)).await);
    let mut messages = Vec::new();
    for id in &bookings {
        messages.extend(hook.until_messages(id, 2, SOON).await);
        answers.push(consumer.get(&format!("/v1/bookings/{id}/events")).await);
    }
    Flight { answers, messages, bookings }
}

/// All of a value's text, in binary attributes too.
fn all_text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::S(text) => readable(text.as_bytes()),
        AttributeValue::N(number) => number.clone(),
        AttributeValue::B(bytes) => readable(bytes.as_ref()),
        AttributeValue::L(values) => values.iter().map(all_text).collect::<Vec<_>>().join("\n"),
        AttributeValue::M(values) => values
            .iter()
            .map(|(name, value)| format!("{name}\n{}", all_text(value)))
            .collect::<Vec<_>>()
            .join("\n"),
        other => format!("{other:?}"),
    }
}

/// Every item of a table: its keys, in the table and in indexes, and all of it.
async fn items(stack: &StackFile, table: &str) -> Vec<(String, String)> {
    const KEYS: [&str; 7] = ["pk", "sk", "due_shard", "due_at", "t", "fd", "ca"];
    let client = clients(stack).dynamodb;
    let mut pages = client.scan().table_name(&stack.resources[table]).into_paginator().items().send();
    let mut all = Vec::new();
    while let Some(item) = pages.next().await {
        let item: BTreeMap<String, AttributeValue> = item.unwrap().into_iter().collect();
        let keys = item.iter().filter(|(name, _)| KEYS.contains(&name.as_str()));
        let keys = keys.map(|(_, value)| all_text(value)).collect::<Vec<_>>().join("\n");
        all.push((keys, all_text(&AttributeValue::M(item.into_iter().collect()))));
    }
    all
}

const TABLES: [&str; 4] =
    ["BookingTableName", "ConfigTableName", "DeliveryTableName", "AvailabilityTableName"];

/// Where marks are that must not be there.
async fn leaks(stack: &StackFile, marks: &[Mark]) -> BTreeSet<String> {
    let mut leaks = BTreeSet::new();
    for (path, log) in rough().logs() {
        for mark in found(marks, &readable(log.as_bytes())) {
            leaks.insert(format!("{} is in the log {}", mark.what, path.display()));
        }
    }
    for request in rough().aws.kept() {
        let (operation, text) = sent(&request);
        for mark in found(marks, &text)
            .iter()
            .filter(|mark| !operation.starts_with("dynamodb_") || mark.tables.is_empty())
        {
            leaks.insert(format!("{} is in a call of {operation}", mark.what));
        }
    }
    for table in TABLES {
        for (keys, item) in items(stack, table).await {
            for mark in found(marks, &keys) {
                leaks.insert(format!("{} is in a key of {table}", mark.what));
            }
            for mark in found(marks, &item).iter().filter(|mark| !mark.tables.contains(&table)) {
                leaks.insert(format!("{} is in {table}", mark.what));
            }
        }
    }
    leaks
}

#[tokio::test]
async fn marked_data_is_nowhere_but_where_it_belongs() {
    let world = World::rough();
    let _calm = calm().await;
    rough().aws.keep();
    let consumer = world.consumer().await;
    let mut marks = marks();
    marks.push(mark("a consumer's key", consumer.key.rsplit('_').next().unwrap(), &[]));
    let Flight { answers, messages, bookings } = fly(&world, &consumer, &mut marks).await;
    // The marks are on their way at all.
    let read = consumer.booking(&bookings[0]).await;
    assert_eq!((&read["customer"], &read["notes"]), (&customer(), &json!(NOTES)));
    let stored = items(world.stack, "BookingTableName").await;
    assert!(stored.iter().any(|(_, item)| found(&marks, item).len() >= 5), "the table has them");
    let kept = rough().aws.kept();
    let operations: BTreeSet<String> = kept.iter().map(|request| sent(request).0).collect();
    for operation in ["sendmessagebatch", "putevents", "putitem", "updateitem"] {
        assert!(
            operations.iter().any(|seen| seen.ends_with(operation)),
            "{operation} was seen: {operations:?}"
        );
    }
    // Messages are those of the bus and of the feed, and the answers are all but those that are for the customer's data.
    for message in &messages {
        let found = found(&marks, &readable(message.to_string().as_bytes()));
        assert!(found.is_empty(), "a receiver got {found:?}: {message}");
    }
    for answer in &answers {
        let found = found(&marks, &readable(&answer.bytes));
        // What a caller gets wrong, it may be told by its name.
        let found: Vec<_> = found.iter().filter(|mark| mark.text != MALFORMED).collect();
        assert!(found.is_empty(), "an answer has {found:?}: {answer:?}");
    }
    let leaks_seen = leaks(world.stack, &marks).await;
    assert!(leaks_seen.is_empty(), "{leaks_seen:#?}");
    // The search finds what is there: a booking's id is wherever there is anything about it.
    let seen = leaks(world.stack, &[mark("an id", &bookings[0], &[])]).await;
    for place in [
        "in the log",
        "in a call of amazonsqs.",
        "in a call of awsevents.",
        "in a call of dynamodb_",
        "in a key of BookingTableName",
        "in DeliveryTableName",
    ] {
        assert!(seen.iter().any(|leak| leak.contains(place)), "{place}: {seen:#?}");
    }

    // What is erased is nowhere any more.
    for id in &bookings {
        consumer.until_settled(id, SETTLED).await;
        assert_eq!(consumer.erase_customer(id).await.status, 204);
    }
    let is_one = |keys: &String| bookings.iter().any(|id| keys.contains(id.as_str()));
    let erased = items(world.stack, "BookingTableName").await;
    let erased: Vec<_> = erased.into_iter().filter(|(keys, _)| is_one(keys)).collect();
    assert_eq!(erased.len(), bookings.len());
    for (keys, item) in erased {
        let found = found(&marks, &item);
        assert!(found.is_empty(), "{keys} has {found:?}");
    }
}
