//! What every store of the secrets of booking keys promises.

use std::collections::HashMap;
use std::slice;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use holdfast_app::availability::BookingKeySecret;
use holdfast_app::ports::{BookingKeySecretStore, SettingsReader, StoreError, Wanted};
use holdfast_app::test_util::MemorySettings;
use holdfast_aws::{AwsHooks, DynamoSettings};

use super::embedded::{CONFIG_TABLE, Embedded, clients_of, entropy};
use super::fixtures::booking_key_secret as secret;
use super::lossy_proxy::lossy_proxy;

on_both!(
    MemorySettings::new(), settings;
    secrets_are_read_as_they_were_written,
    secrets_are_replaced_if_they_are_as_they_were_seen,
    of_many_who_replace_at_once_one_does,
);

async fn load(store: &impl SettingsReader) -> Result<Vec<BookingKeySecret>, StoreError> {
    let wanted = Wanted { booking_key_secrets: true, ..Wanted::default() };
    store.load(&wanted).await.map(|loaded| loaded.booking_key_secrets)
}

async fn secrets_are_read_as_they_were_written(store: &(impl BookingKeySecretStore + SettingsReader)) {
    assert_eq!(load(store).await, Ok(Vec::new()));
    let written = [secret(2), secret(1)];
    assert_eq!(store.replace_booking_key_secrets(None, &written).await, Ok(true));
    let read = load(store).await.unwrap();
    assert_eq!(read, written);
    assert_eq!((read[0].key, read[0].created_at), (written[0].key, written[0].created_at));
    let nothing = store.load(&Wanted::default()).await.unwrap();
    assert_eq!(nothing.booking_key_secrets, [], "nobody asked for them");
}

async fn secrets_are_replaced_if_they_are_as_they_were_seen(
    store: &(impl BookingKeySecretStore + SettingsReader),
) {
    assert_eq!(store.replace_booking_key_secrets(Some(1), &[secret(2)]).await, Ok(false));
    assert_eq!(load(store).await, Ok(Vec::new()));
    assert_eq!(store.replace_booking_key_secrets(None, &[secret(1)]).await, Ok(true));
    for seen in [None, Some(0), Some(2)] {
        assert_eq!(store.replace_booking_key_secrets(seen, &[secret(9)]).await, Ok(false), "{seen:?}");
    }
    assert_eq!(load(store).await, Ok(vec![secret(1)]));
    assert_eq!(store.replace_booking_key_secrets(Some(1), &[secret(2), secret(1)]).await, Ok(true));
    // The newest is what counts.
    assert_eq!(store.replace_booking_key_secrets(Some(1), &[secret(9)]).await, Ok(false));
    assert_eq!(store.replace_booking_key_secrets(Some(2), &[]).await, Ok(true));
    assert_eq!(load(store).await, Ok(Vec::new()));
    assert_eq!(store.replace_booking_key_secrets(None, &[secret(3)]).await, Ok(true));
    assert_eq!(load(store).await, Ok(vec![secret(3)]));
}

async fn of_many_who_replace_at_once_one_does(store: &(impl BookingKeySecretStore + SettingsReader)) {
    for seen in [None, Some(1)] {
        let first = if seen.is_none() { 1 } else { 11 };
        let writers = (0..10_u8).map(|writer| {
            // All of the first round have the same number, as two processes would give it.
            let newest = BookingKeySecret { id: first.into(), ..secret(first + writer) };
            async move { (store.replace_booking_key_secrets(seen, slice::from_ref(&newest)).await, newest) }
        });
        let results = join_all(writers).await;
        let winners: Vec<&BookingKeySecret> =
            results.iter().filter(|(result, _)| *result == Ok(true)).map(|(_, newest)| newest).collect();
        let [winner] = winners.as_slice() else { panic!("{} winners", winners.len()) };
        assert!(results.iter().all(|(result, _)| result.is_ok()));
        assert_eq!(load(store).await.unwrap(), [(*winner).clone()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_whose_answer_was_lost_are_there() {
    let database = Embedded::start().await;
    let clients = clients_of(lossy_proxy(database.address, 1).await, &AwsHooks::default());
    let store = DynamoSettings::new(clients.dynamodb, CONFIG_TABLE, entropy());
    // Whether it says so or not.
    store.replace_booking_key_secrets(None, &[secret(1)]).await.unwrap();
    assert_eq!(load(&database.settings()).await, Ok(vec![secret(1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_cannot_be_read_are_no_secrets() {
    let database = Embedded::start().await;
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let number = |value: &str| AttributeValue::N(value.to_owned());
    let whole = [
        ("id", number("1")),
        ("key", AttributeValue::B(Blob::new([7; 32]))),
        ("created_at", number("1795258065124")),
    ];
    let put = async |attribute: &str, value: Option<AttributeValue>| {
        let mut secret: HashMap<String, AttributeValue> =
            whole.clone().map(|(name, value)| (name.to_owned(), value)).into();
        match value {
            Some(value) => secret.insert(attribute.to_owned(), value),
            None => secret.remove(attribute),
        };
        let put = database.client.put_item().table_name(CONFIG_TABLE);
        let put = put.item("pk", text("BOOKING_KEYS")).item("sk", text("SECRETS"));
        put.item("secrets", AttributeValue::L(vec![AttributeValue::M(secret)])).send().await.unwrap();
        load(&database.settings()).await
    };
    assert_eq!(put("id", Some(number("1"))).await.map(|secrets| secrets.len()), Ok(1));
    for (attribute, value) in [
        ("key", Some(AttributeValue::B(Blob::new([7; 31])))),
        ("key", Some(text("hush"))),
        ("key", None),
        ("id", Some(number("-1"))),
        ("created_at", Some(number("-1"))),
    ] {
        let read = put(attribute, value).await;
        assert!(matches!(&read, Err(StoreError::Corrupt(text)) if !text.contains("hush")), "{read:?}");
    }
}
