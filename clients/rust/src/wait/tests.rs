//! In virtual time.

use std::cell::RefCell;

use serde_json::json;

use super::*;

fn booking(status: &str, version: u64) -> Answered<PersonalBooking> {
    let value = json!({
        "id": "bkg_1", "status": status, "provider_id": "p", "reference": null, "metadata": {},
        "slot": {"location_id": "l", "start": "2028-03-01T09:00:00Z", "end": "2028-03-01T09:30:00Z"},
        "provider_reference": null, "expires_at": null, "rejection": null, "cancellation": null, "operation": null,
        "version": version, "created_at": "2028-02-27T08:15:30Z", "updated_at": "2028-02-27T08:15:30Z",
        "customer": null, "notes": null,
    });
    Answered {
        value: serde_json::from_value(value).unwrap(),
        etag: Some(ETag(format!("W/\"{version}\""))),
        retry_after: None,
        age: None,
        replayed: false,
        request_id: None,
    }
}

/// The moments at which a booking is looked at, in seconds, and what was said then, if it is settled after so many
/// seconds. `is_quick`: reads do not wait although they should.
async fn looks(settled_after_s: u64, is_quick: bool) -> (Vec<(u64, Option<u64>)>, Answered<PersonalBooking>) {
    let began = Instant::now();
    let settled_at = began + Duration::from_secs(settled_after_s);
    let seen = RefCell::new(Vec::new());
    let look = |known: Option<ETag>, wait_s: Option<u64>| {
        assert_eq!(known.is_some(), wait_s.is_some());
        seen.borrow_mut().push((began.elapsed().as_secs(), wait_s));
        async move {
            if let Some(wait_s) = wait_s.filter(|_| !is_quick) {
                sleep_until(settled_at.min(Instant::now() + Duration::from_secs(wait_s))).await;
            }
            let is_settled = Instant::now() >= settled_at;
            match (is_settled, wait_s) {
                (true, _) => Ok(Some(booking("confirmed", 2))),
                (false, Some(_)) => Ok(None),
                (false, None) => Ok(Some(booking("pending", 1))),
            }
        }
    };
    let last = until_settled(&PollSchedule::default(), booking("pending", 1), look).await.unwrap();
    (seen.take(), last)
}

#[tokio::test(start_paused = true)]
async fn reads_wait_first_and_come_less_often_later() {
    let (looks, last) = looks(u64::MAX / 1_000_000_000, false).await;
    let waiting = [(0, 25), (25, 25), (50, 25), (75, 25), (100, 20)].map(|(at, wait_s)| (at, Some(wait_s)));
    let later = [180, 240, 300, 360, 420, 1320, 2220, 3120, 4020].map(|at| (at, None));
    assert_eq!(looks, [&waiting[..], &later[..]].concat());
    assert!(!last.is_settled());
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_is_told_at_once() {
    let (seen, last) = looks(60, false).await;
    assert!(last.is_settled() && seen.len() == 3, "{seen:?}");
    let (seen, last) = looks(200, false).await;
    assert_eq!((seen.last(), last.is_settled()), (Some(&(240, None)), true));
}

#[tokio::test(start_paused = true)]
async fn reads_that_do_not_wait_make_no_busy_loop() {
    let (seen, _) = looks(10, true).await;
    assert_eq!(seen.iter().map(|look| look.0).collect::<Vec<_>>(), (0..=10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_already_is_not_looked_at() {
    let look = |_, _| async { panic!("there is nothing to wait for") };
    let schedule = PollSchedule::default();
    assert!(until_settled(&schedule, booking("cancelled", 3), look).await.unwrap().is_settled());
}
