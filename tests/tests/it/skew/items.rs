//! Items of every table but bookings: read as they were written, written as they are read.

use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::ConfigurationStore;
use serde_json::{Value, json};

use super::cases::{Case, cases};
use super::profiles::Profiles;
use super::{folder, golden};
use crate::contract::embedded::Embedded;

type SdkItem = std::collections::HashMap<String, AttributeValue>;

fn to_sdk(item: &Value) -> SdkItem {
    let item: serde_dynamo::Item = serde_json::from_value(item.clone()).unwrap();
    item.into()
}

fn of_sdk(item: SdkItem) -> Value {
    serde_json::to_value(serde_dynamo::Item::from(item)).unwrap()
}

/// All items of a table, in the order of their keys.
pub(super) async fn scanned(embedded: &Embedded, table: &str) -> Vec<Value> {
    let answer = embedded.client.scan().table_name(table).send().await.unwrap();
    let mut items: Vec<Value> = answer.items.unwrap_or_default().into_iter().map(of_sdk).collect();
    items.sort_by_key(|item| format!("{} {}", item["pk"]["S"], item["sk"]["S"]));
    items
}

async fn with(table: &str, items: &[Value]) -> Embedded {
    let embedded = Embedded::start().await;
    for item in items {
        embedded.client.put_item().table_name(table).set_item(Some(to_sdk(item))).send().await.unwrap();
    }
    embedded
}

async fn read(case: &Case, items: &[Value]) -> Result<String, String> {
    (case.read)(&with(case.table, items).await).await
}

fn golden_items(case: &Case) -> Vec<Value> {
    serde_json::from_str(&golden(&format!("{}.json", case.file))).unwrap()
}

async fn written(case: &Case) -> Vec<Value> {
    let embedded = Embedded::start().await;
    (case.write)(&embedded).await;
    scanned(&embedded, case.table).await
}

#[tokio::test]
async fn every_golden_item_is_read_as_what_it_says() {
    for case in cases() {
        assert_eq!(read(&case, &golden_items(&case)).await, Ok((case.says)()), "{}", case.file);
    }
}

#[tokio::test]
async fn attributes_of_later_versions_are_passed_over() {
    for case in cases() {
        let mut items = golden_items(&case);
        for item in &mut items {
            item["zz_later"] = json!({"M": {"a": {"L": [{"S": "b"}, {"NULL": true}]}}});
        }
        assert_eq!(read(&case, &items).await, Ok((case.says)()), "{}", case.file);
    }
}

#[tokio::test]
async fn what_is_written_today_is_what_readers_of_its_format_expect() {
    let profiles = Profiles::read();
    for case in cases() {
        for item in written(&case).await.into_iter().chain(golden_items(&case)) {
            profiles.fits_item(case.table, &item);
        }
    }
}

/// Writes what is missing, for whoever adds a case; the manifest has to be told.
#[tokio::test]
#[ignore = "writes files"]
async fn golden_items_that_are_missing_are_written() {
    for case in cases() {
        let path = folder("golden").join(format!("{}.json", case.file));
        if !path.exists() {
            let items = serde_json::to_string_pretty(&written(&case).await).unwrap();
            std::fs::write(path, items + "\n").unwrap();
        }
    }
}

/// What a golden file says becomes, at a place in its only or first fitting item, something that no version knows.
async fn altered(file: &str, pointer: &str, value: Value) -> Result<String, String> {
    let case = cases().into_iter().find(|case| case.file == file).unwrap();
    let mut items = golden_items(&case);
    let item = items.iter_mut().find(|item| item.pointer(pointer).is_some());
    *item.unwrap_or_else(|| panic!("{file} has no {pointer}")).pointer_mut(pointer).unwrap() = value;
    read(&case, &items).await
}

#[tokio::test]
async fn words_of_later_versions_are_an_error_and_never_something_else() {
    for (file, pointer) in [
        ("provider-v1-usual", "/mode/S"),
        ("provider-v1-usual", "/protocol/S"),
        ("provider-v1-usual", "/confirmation/S"),
        ("provider-v1-usual", "/availability/S"),
        ("provider-v1-full", "/auth/M/type/S"),
        ("location-v1", "/time_zone/S"),
        ("key-v1", "/owner/S"),
        ("key-v1", "/mode/S"),
        ("endpoint-v1-troubled", "/disabled_reason/S"),
        ("endpoint-v1", "/tenant/S"),
        ("delivery-v1", "/tenant/S"),
    ] {
        let outcome = altered(file, pointer, json!("later")).await;
        assert!(outcome.is_err(), "{file} {pointer}: {outcome:?}");
    }
    let later_state = json!({"later": {"N": "1"}});
    let outcome = altered("delivery-v1", "/state/M", later_state).await;
    assert!(outcome.is_err(), "{outcome:?}");
    // A content of another form is damage to whoever does not know it: the provider is asked.
    let packed = json!(data_encoding::BASE64.encode(&[9, 1, 2, 3, 4, 5]));
    let outcome = altered("availability-v1-confirmed", "/d/B", packed).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

/// While old code runs beside new, what it does for all providers goes on for those that it can read.
#[tokio::test]
async fn one_provider_that_cannot_be_read_hides_no_other() {
    let case = cases().into_iter().find(|case| case.file == "provider-v1-usual").unwrap();
    let mut items = golden_items(&case);
    let mut later = items[0].clone();
    (later["sk"], later["protocol"]) = (json!({"S": "a-later-one"}), json!({"S": "later"}));
    items.push(later);
    let settings = with(case.table, &items).await;
    let found = settings.settings().providers().await.unwrap();
    assert_eq!(
        found.iter().map(|provider| provider.provider_id.as_str()).collect::<Vec<_>>(),
        ["demo-clinic"]
    );
}

#[tokio::test]
async fn one_notification_that_cannot_be_read_hides_no_other() {
    let found = altered("mailbox-v1-waiting", "/notification/M/k/S", json!("later")).await.unwrap();
    assert_eq!(found.matches("KeptNotification").count(), 2, "{found}");
}

#[tokio::test]
async fn one_change_of_a_slot_that_cannot_be_read_hides_no_other() {
    let found = altered("availability-v1-changes", "/h/S", json!("9")).await.unwrap();
    assert_eq!(found.matches("SlotChange ").count(), 3, "{found}");
    let later_kind = altered("availability-v1-changes", "/sk/S", json!("E#later")).await.unwrap();
    assert_eq!(later_kind.matches("SlotChange ").count(), 3, "{later_kind}");
}
