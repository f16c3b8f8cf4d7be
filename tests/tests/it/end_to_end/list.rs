//! Lists of bookings: whose, in what order, and page by page.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Consumer, World, until};

/// A list runs behind what it lists by moments.
const LISTED_SOON: Duration = Duration::from_secs(20);

/// How long to wait before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// The list at `path`, once it has so many bookings.
async fn listed(consumer: &Consumer<'_>, path: &str, count: usize) -> Value {
    until(LISTED_SOON, ASK_AGAIN, &format!("{path} lists {count}"), async || {
        let list = consumer.get(path).await;
        assert_eq!(list.status, 200, "{list:?}");
        let data = list.json["data"].as_array().unwrap();
        if data.len() == count { Ok(list.json.clone()) } else { Err(list.json.clone()) }
    })
    .await
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|booking| booking["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_consumer_lists_its_own_bookings_and_nobody_elses() {
    let world = World::new();
    let (consumer, other) = (world.consumer().await, world.consumer().await);
    let (provider, declining) = (world.provider().await, world.provider().await);
    declining.behave(&json!({"decline": {"code": "fully_booked", "message": "Full"}})).await;
    let mut made = Vec::new();
    for (provider, reference) in
        [(&provider, "order-1"), (&declining, "order-2"), (&provider, "order-2"), (&provider, "order-3")]
    {
        let body = provider.body(&json!({"reference": reference, "notes": "By the window"}));
        let reply = consumer.create(&body).await;
        made.insert(0, reply.booking_id().to_owned());
    }
    other.create(&provider.body(&json!({"reference": "order-2"}))).await.assert_booking(201, "confirmed");

    let all = listed(&consumer, "/v1/bookings", 4).await;
    assert_eq!(ids(&all), made, "the newest first");
    assert_eq!(all["next_cursor"], Value::Null);
    for booking in all["data"].as_array().unwrap() {
        // Personal data has one way out: the read of a single booking.
        assert!(booking.get("customer").is_none() && booking.get("notes").is_none(), "{booking}");
    }
    let read = consumer.booking(&made[0]).await;
    for (field, value) in all["data"][0].as_object().unwrap() {
        assert_eq!(&read[field], value, "{field}");
    }
    let theirs = listed(&other, "/v1/bookings", 1).await;
    assert!(!made.contains(&ids(&theirs)[0].to_owned()));

    let filtered = async |query: &str| {
        let list = consumer.get(&format!("/v1/bookings?{query}")).await;
        assert_eq!(list.status, 200, "{list:?}");
        ids(&list.json).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    listed(&consumer, "/v1/bookings?reference=order-2", 2).await;
    assert_eq!(filtered("reference=order-2").await, made[1..3]);
    assert_eq!(filtered("reference=order-2&status=rejected").await, made[2..3]);
    assert_eq!(filtered(&format!("provider_id={}", declining.id)).await, made[2..3]);
    assert_eq!(filtered("status=confirmed").await, [&made[..2], &made[3..]].concat());
    assert_eq!(filtered("reference=order").await, [""; 0]);
    let second = consumer.booking(&made[2]).await;
    let after = second["created_at"].as_str().unwrap();
    assert_eq!(filtered(&format!("created_after={after}")).await, made[..2]);
}

#[tokio::test]
async fn pages_follow_on_one_another_and_a_cursor_is_good_for_one_list() {
    let world = World::new();
    let (consumer, other, provider) =
        (world.consumer().await, world.consumer().await, world.provider().await);
    let mut made = Vec::new();
    for _ in 0..5 {
        let id = consumer.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
        made.insert(0, id);
    }
    listed(&consumer, "/v1/bookings", 5).await;
    let mut found = Vec::new();
    let mut path = "/v1/bookings?limit=2".to_owned();
    let mut cursors = Vec::new();
    loop {
        let page = consumer.get(&path).await.json;
        found.push(ids(&page).len());
        cursors.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/bookings?limit=2&cursor={cursor}");
    }
    assert_eq!((found, cursors), (vec![2, 2, 1], made));

    let cursor = consumer.get("/v1/bookings?limit=2").await.json["next_cursor"].as_str().unwrap().to_owned();
    let refused = async |consumer: &Consumer<'_>, query: &str| {
        let reply = consumer.get(&format!("/v1/bookings?{query}")).await;
        reply.assert_problem(400, "invalid_parameter", "none");
        reply.pointers().join(" ")
    };
    assert_eq!(refused(&other, &format!("cursor={cursor}")).await, "cursor");
    assert_eq!(refused(&consumer, &format!("cursor={cursor}&status=confirmed")).await, "cursor");
    assert_eq!(refused(&consumer, &format!("cursor={}", &cursor[1..])).await, "cursor");
    let all = "limit=101&status=done&created_after=now&provider_id=A";
    assert_eq!(refused(&consumer, all).await, "status provider_id created_after limit");
    assert_eq!(refused(&consumer, "limit=1&limit=2").await, "limit");
    assert_eq!(refused(&consumer, "page=2").await, "page");
}
