//! Limits on what consumers ask.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::reply::Reply;
use super::world::{World, until};

/// How many requests a minute the least that can be configured is.
const QUOTA: usize = 60;

/// By how much several processes together may let through more than that, each by what it had not reported yet.
const CREDIT: usize = 60;

/// How long after a refusal one may ask again, with some patience.
const AGAIN_WITHIN: Duration = Duration::from_mins(2);
const ASK_AGAIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_consumer_that_asks_too_much_is_told_when_to_come_again_and_others_never_notice() {
    let world = World::new();
    let (greedy, other, provider) = (world.consumer().await, world.consumer().await, world.provider().await);
    let path = format!("/v1/admin/consumers/{}", greedy.id);
    let settings = json!({"name": "Greedy", "requests_per_second": 1});
    let put = Reply::of(world.admin(Method::PUT, &path).json(&settings)).await;
    assert_eq!((put.status, &put.json["requests_per_second"]), (200, &json!(1)), "{put:?}");

    let begun = Instant::now();
    let mut served = 0;
    let refused = loop {
        let reply = greedy.get("/v1/bookings?limit=1").await;
        if reply.status != 200 {
            break reply;
        }
        served += 1;
        let windows = usize::try_from(begun.elapsed().as_secs()).unwrap() / 60 + 2;
        assert!(served <= windows * (QUOTA + CREDIT), "{served} were served in {windows} windows");
    };
    refused.assert_problem(429, "rate_limited", "none");
    assert_eq!(refused.header("ratelimit-policy"), "\"consumer\";q=60;w=60");
    assert!(refused.header("ratelimit").starts_with("\"consumer\";r=0;t="), "{refused:?}");
    assert!(refused.retry_after_s() <= 60);

    // Nobody else is in the way of anything, and neither is the other function.
    other.create(&provider.body(&json!({}))).await.assert_booking(201, "confirmed");
    let create = greedy.create(&provider.body(&json!({}))).await;
    if create.status != 201 {
        create.assert_problem(429, "rate_limited", "none");
        assert_eq!(provider.live().await.len(), 1, "what is refused reaches no provider");
    }

    until(AGAIN_WITHIN, ASK_AGAIN, "the next window", async || {
        let reply = greedy.create(&provider.body(&json!({}))).await;
        if reply.status == 201 { Ok(()) } else { Err(reply.json) }
    })
    .await;
}
