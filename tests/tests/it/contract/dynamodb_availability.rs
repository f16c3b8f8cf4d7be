//! What the store of availability in DynamoDB promises beyond the port: its calls, what it leaves behind where it
//! stops, what it makes of what it cannot read, and for how long it keeps what.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{
    AvailabilityStore, KnownAvailability, RefreshState, Remembered, SlotChangeLog, StoreError,
};
use holdfast_aws::{AwsHooks, CallLog, DynamoAvailability};
use holdfast_domain::{OpenSlot, SlotChange, Timestamp};
use serde_json::{Value, json};

use super::availability::{change, place, said, slot};
use super::canned::canned;
use super::embedded::{AVAILABILITY_TABLE, Embedded, clients_of};
use super::fixtures::{now, provider_id};
use super::lossy_proxy::{dying_proxy, lossy_proxy};

const PK: &str = "LOCATION#demo-clinic#main-street";

fn at(seconds: u64) -> Timestamp {
    now().plus_ms(seconds * 1_000)
}

fn first() -> KnownAvailability {
    said(at(1), vec![slot(1), slot(2)])
}

fn second() -> KnownAvailability {
    said(at(11), vec![slot(2), slot(3), slot(4)])
}

fn failed() -> RefreshState {
    RefreshState { failures: 1, not_before: Some(at(60)) }
}

async fn read(store: &DynamoAvailability) -> Result<Remembered, StoreError> {
    store.read(&place(), now()).await
}

fn logged(database: &Embedded) -> (DynamoAvailability, CallLog) {
    let call_log = CallLog::new();
    let hooks = AwsHooks { call_log: Some(call_log.clone()), ..AwsHooks::default() };
    (DynamoAvailability::new(database.clients(&hooks).dynamodb, AVAILABILITY_TABLE), call_log)
}

/// A store that has its answers through a proxy.
fn through(address: std::net::SocketAddr) -> DynamoAvailability {
    DynamoAvailability::new(clients_of(address, &AwsHooks::default()).dynamodb, AVAILABILITY_TABLE)
}

async fn items(database: &Embedded) -> Vec<HashMap<String, AttributeValue>> {
    database.client.scan().table_name(AVAILABILITY_TABLE).send().await.unwrap().items.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_but_forgetting_is_one_call() {
    let database = Embedded::start().await;
    let (store, calls) = logged(&database);
    store.replace(&place(), &first()).await.unwrap();
    assert_eq!(calls.take(), ["PutItem"]);
    store.confirm(&place(), first().content_id(), at(2)).await.unwrap();
    assert_eq!(calls.take(), ["UpdateItem"]);
    store.record_failure(&place(), failed(), at(3)).await.unwrap();
    assert_eq!(calls.take(), ["UpdateItem"]);
    store.note(&provider_id(), &change(1, 1, at(3))).await.unwrap();
    assert_eq!(calls.take(), ["PutItem"]);
    let found = read(&store).await.unwrap();
    assert_eq!((found.changes.len(), found.refresh), (1, failed()));
    assert_eq!(calls.take(), ["Query"]);
    store.forget(&place()).await.unwrap();
    assert_eq!(calls.take(), ["DeleteItem", "DeleteItem"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_knows_that_notes_are_of_use() {
    for writer in ["replace", "confirm", "record_failure"] {
        let database = Embedded::start().await;
        let (store, calls) = logged(&database);
        store.note(&provider_id(), &change(1, 1, at(1))).await.unwrap();
        assert_eq!(calls.take(), ["Query"], "{writer}");
        match writer {
            "replace" => store.replace(&place(), &first()).await.unwrap(),
            "confirm" => store.confirm(&place(), first().content_id(), at(1)).await.unwrap(),
            _ => store.record_failure(&place(), failed(), at(1)).await.unwrap(),
        }
        calls.take();
        store.note(&provider_id(), &change(1, 1, at(1))).await.unwrap();
        assert_eq!(calls.take(), ["PutItem"], "{writer}");
    }
}

/// A refresh with a changed answer after a failure: what it does, in order.
async fn refresh(store: &DynamoAvailability) -> Result<(), StoreError> {
    store.record_failure(&place(), failed(), at(10)).await?;
    store.replace(&place(), &second()).await?;
    store.confirm(&place(), second().content_id(), at(20)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_stops_anywhere_leaves_a_whole_answer() {
    for done in 0..=3 {
        let database = Embedded::start().await;
        database.availability().replace(&place(), &first()).await.unwrap();
        database.availability().confirm(&place(), first().content_id(), at(5)).await.unwrap();
        let (address, death) = dying_proxy(database.address, done).await;
        let dying = through(address);
        tokio::select! {
            ended = refresh(&dying) => panic!("it did not stop: {ended:?}"),
            () = death.notified() => {}
        }
        let found = read(&database.availability()).await.unwrap();
        let old = KnownAvailability { as_of: at(5), ..first() };
        let again = KnownAvailability { as_of: at(20), ..second() };
        let expected = match done {
            0 => (old, RefreshState::default()),
            1 => (old, failed()),
            2 => (second(), RefreshState::default()),
            _ => (again.clone(), RefreshState::default()),
        };
        assert_eq!((found.availability.unwrap(), found.refresh), expected, "after {done} calls");
        // Whoever comes next does all of it.
        refresh(&database.availability()).await.unwrap();
        let found = read(&database.availability()).await.unwrap();
        assert_eq!((found.availability, found.refresh), (Some(again), RefreshState::default()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_that_stops_anywhere_leaves_all_or_nothing() {
    for done in 0..=2 {
        let database = Embedded::start().await;
        let store = database.availability();
        store.replace(&place(), &first()).await.unwrap();
        store.confirm(&place(), first().content_id(), at(5)).await.unwrap();
        let (address, death) = dying_proxy(database.address, done).await;
        let dying = through(address);
        let place = place();
        tokio::select! {
            ended = dying.forget(&place) => panic!("it did not stop: {ended:?}"),
            () = death.notified() => {}
        }
        let whole = KnownAvailability { as_of: at(5), ..first() };
        let expected = if done == 0 { Some(whole) } else { None };
        assert_eq!(read(&store).await.unwrap().availability, expected, "after {done} calls");
        store.forget(&place).await.unwrap();
        assert_eq!(items(&database).await, []);
    }
}

/// An eventually consistent read may find each item as it was at another time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_pointer_meets_whatever_content_what_is_told_was_said_then() {
    let database = Embedded::start().await;
    let store = database.availability();
    let contents = [1, 2, 3].map(|number| said(at(0), vec![slot(number)]));
    // Content, second and whether it comes as new: the same content comes back, and confirmations come late.
    let steps = [
        (0, 1, true),
        (0, 3, false),
        (1, 5, true),
        (1, 7, false),
        (0, 8, false),
        (0, 10, true),
        (1, 11, false),
        (0, 12, false),
        (2, 9, true),
        (2, 13, true),
        (2, 15, false),
        (1, 16, true),
    ];
    let mut told = Vec::new();
    let mut versions: [Vec<HashMap<String, AttributeValue>>; 2] = Default::default();
    for (content, second, is_new) in steps {
        let said = KnownAvailability { as_of: at(second), ..contents[content].clone() };
        if is_new {
            store.replace(&place(), &said).await.unwrap();
        } else {
            store.confirm(&place(), said.content_id(), at(second)).await.unwrap();
        }
        told.push(said);
        for item in items(&database).await {
            let of = usize::from(item["sk"] == AttributeValue::S("S".to_owned()));
            if !versions[of].contains(&item) {
                versions[of].push(item);
            }
        }
    }
    let [pointers, contents] = versions;
    assert_eq!((pointers.len(), contents.len()), (6, 5));
    for pointer in &pointers {
        for content in &contents {
            for item in [pointer, content] {
                let put = database.client.put_item().table_name(AVAILABILITY_TABLE);
                put.set_item(Some(item.clone())).send().await.unwrap();
            }
            let found = read(&store).await.unwrap().availability.unwrap();
            assert!(told.contains(&found), "{pointer:?} {content:?} {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_repeated_after_a_lost_answer_is_done_once() {
    let database = Embedded::start().await;
    for lost in [1, 2] {
        let lossy = async || through(lossy_proxy(database.address, lost).await);
        lossy().await.replace(&place(), &first()).await.unwrap();
        lossy().await.confirm(&place(), first().content_id(), at(2)).await.unwrap();
        lossy().await.record_failure(&place(), failed(), at(3)).await.unwrap();
        // The look whether it is of use is repeated as well.
        lossy().await.note(&provider_id(), &change(1, 1, at(3))).await.unwrap();
        let expected = Remembered {
            availability: Some(KnownAvailability { as_of: at(2), ..first() }),
            changes: vec![change(1, 1, at(3))],
            refresh: failed(),
        };
        assert_eq!(read(&lossy().await).await, Ok(expected));
        lossy().await.forget(&place()).await.unwrap();
        assert_eq!(read(&database.availability()).await.unwrap().availability, None);
    }
    // One that is lost for good says so, and is done all the same.
    let lossy = through(lossy_proxy(database.address, usize::MAX).await);
    let lost = lossy.replace(&place(), &first()).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(read(&database.availability()).await.unwrap().availability, Some(first()));
}

async fn set(database: &Embedded, sk: &str, attribute: &str, value: AttributeValue) {
    let update = database.client.update_item().table_name(AVAILABILITY_TABLE);
    update
        .key("pk", AttributeValue::S(PK.to_owned()))
        .key("sk", AttributeValue::S(sk.to_owned()))
        .update_expression("SET #attribute = :value")
        .expression_attribute_names("#attribute", attribute)
        .expression_attribute_values(":value", value)
        .send()
        .await
        .unwrap();
}

fn number(value: &str) -> AttributeValue {
    AttributeValue::N(value.to_owned())
}

fn bytes(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

async fn packed(database: &Embedded) -> Vec<u8> {
    let items = items(database).await;
    let content = items.iter().find(|item| item["sk"] == AttributeValue::S("S".to_owned())).unwrap();
    content["d"].as_b().unwrap().as_ref().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_cannot_be_read_is_an_error_until_the_next_one() {
    let database = Embedded::start().await;
    let store = database.availability();
    store.replace(&place(), &first()).await.unwrap();
    let whole = packed(&database).await;
    let mut damaged = whole.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    for (attribute, value, expected) in [
        ("d", bytes([[2].as_slice(), &whole[1..]].concat()), "availability: a content of format 2"),
        ("d", bytes(damaged), "availability: its content is damaged"),
        ("d", bytes(&whole[..whole.len() / 2]), "availability: its content is damaged"),
        ("d", bytes([]), "availability: its content is damaged"),
        ("d", AttributeValue::S("text".to_owned()), "availability: attribute d"),
        ("c", number("1"), "availability: attribute c"),
        ("a", number("-1"), "availability: attribute a"),
    ] {
        set(&database, "S", attribute, value).await;
        assert_eq!(read(&store).await, Err(StoreError::Corrupt(expected.to_owned())));
        store.replace(&place(), &first()).await.unwrap();
        assert_eq!(read(&store).await.unwrap().availability, Some(first()));
    }
    set(&database, "S", "d", bytes([9])).await;
    store.forget(&place()).await.unwrap();
    assert_eq!(read(&store).await, Ok(Remembered::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pointer_that_cannot_be_read_is_an_error() {
    let database = Embedded::start().await;
    let store = database.availability();
    store.replace(&place(), &first()).await.unwrap();
    store.confirm(&place(), first().content_id(), at(2)).await.unwrap();
    store.record_failure(&place(), failed(), at(3)).await.unwrap();
    for (attribute, value) in [("a", "253402300800000"), ("fa", "-1"), ("nb", "-1"), ("f", "-1")] {
        store.forget(&place()).await.unwrap();
        store.replace(&place(), &first()).await.unwrap();
        store.record_failure(&place(), failed(), at(3)).await.unwrap();
        set(&database, "P", attribute, number(value)).await;
        let expected = format!("availability: attribute {attribute}");
        assert_eq!(read(&store).await, Err(StoreError::Corrupt(expected)));
    }
}

/// A later version of the code may have written it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_cannot_be_read_hides_nothing_else() {
    let database = Embedded::start().await;
    let store = database.availability();
    store.replace(&place(), &first()).await.unwrap();
    for seed in [1, 2] {
        store.note(&provider_id(), &change(seed, 1, at(1))).await.unwrap();
    }
    let unreadable = items(&database).await;
    let is_first = |item: &&HashMap<String, AttributeValue>| {
        item.get("b").is_some_and(|id| *id == AttributeValue::S(change(1, 1, at(1)).booking_id.to_string()))
    };
    let sort_key = unreadable.iter().find(is_first).unwrap()["sk"].as_s().unwrap().clone();
    set(&database, &sort_key, "h", AttributeValue::S("later".to_owned())).await;
    let found = read(&store).await.unwrap();
    assert_eq!((found.availability, found.changes), (Some(first()), vec![change(2, 1, at(1))]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_that_are_not_known_are_left_alone() {
    let database = Embedded::start().await;
    let store = database.availability();
    store.replace(&place(), &first()).await.unwrap();
    store.confirm(&place(), first().content_id(), at(2)).await.unwrap();
    for sk in ["P", "S"] {
        set(&database, sk, "later", number("1")).await;
    }
    let also = HashMap::from([
        ("pk".to_owned(), AttributeValue::S(PK.to_owned())),
        ("sk".to_owned(), AttributeValue::S("Q".to_owned())),
    ]);
    database.client.put_item().table_name(AVAILABILITY_TABLE).set_item(Some(also)).send().await.unwrap();
    store.confirm(&place(), first().content_id(), at(3)).await.unwrap();
    store.record_failure(&place(), failed(), at(4)).await.unwrap();
    assert_eq!(read(&store).await.unwrap().availability.unwrap().as_of, at(3));
    let items = items(&database).await;
    let pointer = items.iter().find(|item| item["sk"] == AttributeValue::S("P".to_owned())).unwrap();
    assert_eq!(pointer["later"], number("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_an_item_holds_is_refused() {
    let database = Embedded::start().await;
    let store = database.availability();
    store.replace(&place(), &first()).await.unwrap();
    let many = said(at(2), (0..20_001).map(slot).collect());
    let refused =
        Err(StoreError::Refused("availability: a location with 20001 slots, of at most 20000".to_owned()));
    assert_eq!(store.replace(&place(), &many).await, refused);
    // What may just be kept is taken by the table; names in which nothing repeats make it as large as it gets.
    let mut state = 1_u64;
    let mut name = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}{:016x}", state, state.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    let named: Vec<OpenSlot> = (0..20_000)
        .map(|number| OpenSlot { availability_id: Some(name().as_str().into()), ..slot(number) })
        .collect();
    let (mut fits, mut too_many) = (0, named.len());
    while too_many - fits > 1 {
        let half = fits.midpoint(too_many);
        match store.replace(&place(), &said(at(3), named[..half].to_vec())).await {
            Ok(()) => fits = half,
            Err(StoreError::Refused(text)) => {
                assert!(text.starts_with("availability: "), "{text}");
                too_many = half;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(fits > 10_000, "{fits}");
    let most = said(at(4), named[..fits].to_vec());
    store.replace(&place(), &most).await.unwrap();
    assert!(packed(&database).await.len() > 399_900);
    assert!(read(&store).await.unwrap().availability == Some(most));
}

/// What a store writes, as DynamoDB is asked to keep it: some changes, and a content.
async fn images(changes: &[SlotChange]) -> Vec<Value> {
    let (clients, requests) = canned(|_| (200, json!({})));
    let store = DynamoAvailability::new(clients.dynamodb, AVAILABILITY_TABLE);
    store.replace(&place(), &first()).await.unwrap();
    for change in changes {
        store.note(&provider_id(), change).await.unwrap();
    }
    let mut images: Vec<Value> =
        requests.lock().unwrap().iter().map(|request| request["Item"].clone()).collect();
    // The changes come before the content.
    images.rotate_left(1);
    images
}

#[tokio::test]
async fn more_changes_than_a_page_holds_are_read() {
    let changes: Vec<SlotChange> = (1..=7).map(|version| change(1, version, at(version.into()))).collect();
    for (a_page, pages) in [(8, 1), (7, 2), (3, 3), (2, 4), (1, 4)] {
        let images = images(&changes).await;
        let (clients, requests) = canned(move |request| {
            let begin = request["ExclusiveStartKey"]["next"]["N"].as_str().unwrap_or("0").parse().unwrap();
            let page: Vec<&Value> = images.iter().skip(begin).take(a_page).collect();
            let next = begin + page.len();
            let mut answer = json!({ "Items": page, "Count": page.len(), "ScannedCount": page.len() });
            if next < images.len() {
                answer["LastEvaluatedKey"] = json!({ "next": { "N": next.to_string() } });
            }
            (200, answer)
        });
        let store = DynamoAvailability::new(clients.dynamodb, AVAILABILITY_TABLE);
        let found = read(&store).await;
        assert_eq!(requests.lock().unwrap().len(), pages, "{a_page} a page");
        // Nobody books so much that there are more pages than a few.
        if a_page == 1 {
            assert!(matches!(found, Err(StoreError::Refused(_))), "{found:?}");
            continue;
        }
        let found = found.unwrap();
        assert_eq!((found.availability, found.changes.as_slice()), (Some(first()), changes.as_slice()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_go_by_themselves() {
    const DAY_S: i64 = 24 * 60 * 60;
    let database = Embedded::start().await;
    let store = database.availability();
    let ttls = async || {
        let mut ttls: Vec<(String, i64)> = items(&database)
            .await
            .iter()
            .map(|item| {
                (item["sk"].as_s().unwrap()[..1].to_owned(), item["ttl"].as_n().unwrap().parse().unwrap())
            })
            .collect();
        ttls.sort();
        ttls
    };
    let expected = |parts: &[(&str, u64, i64)]| -> Vec<(String, i64)> {
        let second = |seconds| at(seconds).as_unix_ms() / 1_000;
        parts.iter().map(|(sk, seconds, kept_s)| ((*sk).to_owned(), second(*seconds) + kept_s)).collect()
    };
    store.record_failure(&place(), failed(), at(1)).await.unwrap();
    assert_eq!(ttls().await, expected(&[("P", 1, DAY_S)]));
    store.replace(&place(), &said(at(2), vec![slot(1)])).await.unwrap();
    store.note(&provider_id(), &change(1, 1, at(3))).await.unwrap();
    let change = ("C", 3, 80 * 60);
    assert_eq!(ttls().await, expected(&[change, ("P", 1, DAY_S), ("S", 2, 28 * DAY_S)]));
    // What is said again renews the pointer alone.
    store.confirm(&place(), said(at(2), vec![slot(1)]).content_id(), at(9)).await.unwrap();
    assert_eq!(ttls().await, expected(&[change, ("P", 9, DAY_S), ("S", 2, 28 * DAY_S)]));
    store.replace(&place(), &said(at(10), vec![slot(2)])).await.unwrap();
    assert_eq!(ttls().await, expected(&[change, ("P", 9, DAY_S), ("S", 10, 28 * DAY_S)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_noted_where_nothing_is_remembered() {
    let database = Embedded::start().await;
    let (store, calls) = logged(&database);
    for version in 1..=5 {
        store.note(&provider_id(), &change(1, version, at(1))).await.unwrap();
    }
    assert_eq!(calls.take(), ["Query"; 5], "it may be remembered the next moment");
    assert_eq!(items(&database).await, []);
    // A failure is enough for somebody to be interested, and so is a content.
    for version in [6, 7] {
        match version {
            6 => database.availability().record_failure(&place(), failed(), at(1)).await.unwrap(),
            _ => database.availability().replace(&place(), &first()).await.unwrap(),
        }
        let (other, calls) = logged(&database);
        for seed in 1..=3 {
            other.note(&provider_id(), &change(seed, version, at(2))).await.unwrap();
        }
        assert_eq!(calls.take(), ["Query", "PutItem", "PutItem", "PutItem"]);
        assert_eq!(read(&other).await.unwrap().changes.len(), 3);
        for item in items(&database).await {
            let delete = database.client.delete_item().table_name(AVAILABILITY_TABLE);
            delete.key("pk", item["pk"].clone()).key("sk", item["sk"].clone()).send().await.unwrap();
        }
    }
}

/// Answers whether anything is remembered of a place, by its name, and takes whatever is written.
fn remembers_some(request: &Value) -> (u16, Value) {
    match request["ExpressionAttributeValues"][":pk"]["S"].as_str() {
        Some(pk) => {
            assert_eq!((&request["Select"], &request["Limit"]), (&json!("COUNT"), &json!(1)));
            let count = u32::from(pk.ends_with("main-street"));
            (200, json!({ "Count": count, "ScannedCount": count }))
        }
        None => (200, json!({})),
    }
}

#[tokio::test(start_paused = true)]
async fn whether_a_place_is_remembered_is_asked_again_after_a_while() {
    let (clients, requests) = canned(remembers_some);
    let store = DynamoAvailability::new(clients.dynamodb, AVAILABILITY_TABLE);
    let known = change(1, 1, at(1));
    let mut unknown = known.clone();
    "elsewhere".clone_into(&mut unknown.slot.location_id);
    let calls = async |change| {
        store.note(&provider_id(), change).await.unwrap();
        std::mem::take(&mut *requests.lock().unwrap()).len()
    };
    assert_eq!((calls(&known).await, calls(&unknown).await), (2, 1));
    assert_eq!((calls(&known).await, calls(&unknown).await), (1, 1));
    tokio::time::advance(Duration::from_millis(59_900)).await;
    assert_eq!((calls(&known).await, calls(&unknown).await), (1, 1));
    tokio::time::advance(Duration::from_millis(200)).await;
    assert_eq!(calls(&known).await, 2);
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_not_taken_for_unknown() {
    const THROTTLED: &str = "com.amazonaws.dynamodb.v20120810#ThrottlingException";
    let (clients, _) = canned(|_| (400, json!({"__type": THROTTLED, "message": "later"})));
    let store = DynamoAvailability::new(clients.dynamodb, AVAILABILITY_TABLE);
    for _ in 0..2 {
        let noted = store.note(&provider_id(), &change(1, 1, at(1))).await;
        assert_eq!(noted, Err(StoreError::Unavailable("Query: ThrottlingException".to_owned())));
    }
    let read = read(&store).await;
    assert_eq!(read, Err(StoreError::Unavailable("Query: ThrottlingException".to_owned())));
}
