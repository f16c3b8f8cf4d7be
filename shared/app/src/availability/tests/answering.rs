//! What consumers are answered.

use holdfast_domain::{AttemptError, Hold, LocalDate, Timestamp, Zone};
use serde_json::{Value, json};

use super::*;
use crate::availability::{
    Audience, BOOKING_KEY_SECRET_BYTES, BookingKeySecret, LIVE_LIMIT_MS, MAX_AGE_MS, Push, SlotWord,
    availability_answer, open_key, slot_word, tell_availability,
};
use crate::bookings::{Admission, Limits};
use crate::ports::{AvailabilityStore, BreakerStore};
use crate::problem::ProblemCode;
use crate::settings::{AvailabilitySource, OfferedService};
use crate::test_util::Fault;

#[tokio::test(start_paused = true)]
async fn who_wants_it_fresh_gets_it_from_the_provider_and_it_is_remembered() {
    let world = World::new(&["a", "b"]);
    let open = world.open(&["b", "a"], false).await.unwrap();
    assert_eq!(open.iter().map(|part| part.location_id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(sources(&open), ["live", "live"]);
    assert_eq!(starts(&open[0]).len(), 3);
    assert_eq!(open[0].outcome.as_ref().unwrap().as_of, at(NOW));
    world.provider.take_asked();
    advance_s(60).await;
    let open = world.open(&["a", "b"], true).await.unwrap();
    assert_eq!(sources(&open), ["cache", "cache"]);
    assert_eq!(open[0].outcome.as_ref().unwrap().as_of, at(NOW));
    assert_eq!(world.provider.take_asked(), Vec::<String>::new());
    assert_eq!(sources(&world.open(&["a"], false).await.unwrap()), ["live"]);
}

#[tokio::test(start_paused = true)]
async fn memory_answers_only_for_all_and_only_for_less_than_fifteen_minutes() {
    let world = World::new(&["a", "b"]);
    world.open(&["a"], false).await.unwrap();
    world.provider.take_asked();
    // One of the two is not remembered: both are asked for.
    assert_eq!(sources(&world.open(&["a", "b"], true).await.unwrap()), ["live", "live"]);
    assert_eq!(asked(&world), ["a", "b"]);
    tokio::time::advance(std::time::Duration::from_millis(MAX_AGE_MS - 1)).await;
    assert_eq!(sources(&world.open(&["a", "b"], true).await.unwrap()), ["cache", "cache"]);
    tokio::time::advance(std::time::Duration::from_millis(1)).await;
    assert_eq!(sources(&world.open(&["a", "b"], true).await.unwrap()), ["live", "live"]);
}

#[tokio::test(start_paused = true)]
async fn memory_that_fails_or_cannot_be_read_is_passed_over() {
    let world = World::new(&["a"]);
    world.open(&["a"], false).await.unwrap();
    world.store.faults().always("availability.read", Fault::FailBefore);
    assert_eq!(sources(&world.open(&["a"], true).await.unwrap()), ["live"]);
    world.store.faults().heal();
    // What is said is shown even if it cannot be remembered.
    for operation in ["availability.replace", "availability.confirm"] {
        world.store.faults().always(operation, Fault::StopBefore);
    }
    assert_eq!(sources(&world.open(&["a"], false).await.unwrap()), ["live"]);
}

#[tokio::test(start_paused = true)]
async fn a_location_that_fails_is_told_and_the_others_are_shown() {
    let world = World::new(&["a", "b", "c", "d"]);
    world.provider.fail("b", Some(AttemptError::HttpStatus(500)));
    world.provider.delay("c", 60_000);
    let begun = tokio::time::Instant::now();
    let open = world.open(&["a", "b", "c", "d", "nowhere"], false).await.unwrap();
    assert_eq!(sources(&open), ["live", "provider_failed", "provider_timeout", "live", "unknown_location"]);
    assert_eq!(begun.elapsed().as_millis(), u128::from(LIVE_LIMIT_MS));
    // The others are remembered all the same.
    assert_eq!(sources(&world.open(&["a", "d"], true).await.unwrap()), ["cache", "cache"]);
}

#[tokio::test(start_paused = true)]
async fn fifty_slow_locations_are_asked_side_by_side() {
    let names: Vec<String> = (0..50).map(|number| format!("l{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = World::new(&names);
    for name in &names {
        world.provider.delay(name, 1_500);
    }
    let begun = tokio::time::Instant::now();
    let open = world.open(&names, false).await.unwrap();
    assert!(open.iter().all(|part| part.outcome.is_ok()));
    assert_eq!(begun.elapsed().as_millis(), 1_500);
    // One that hangs is in nobody's way.
    world.provider.delay(names[0], 60_000);
    let open = world.open(&names, false).await.unwrap();
    assert_eq!(open.iter().filter(|part| part.outcome.is_err()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_nothing_is_known_of_any_location_that_is_a_problem() {
    let world = World::new(&["a", "b"]);
    world.provider.fail("a", Some(AttemptError::ConnectionFailed));
    world.provider.fail("b", Some(AttemptError::TimedOut));
    let problem = world.open(&["a", "b"], true).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::ProviderTimeout);
    assert_eq!(problem.errors.len(), 2);
    let problem = world.open(&["nowhere"], true).await.unwrap_err();
    assert_eq!((problem.code, problem.code.status()), (ProblemCode::UnknownLocation, 422));
    assert_eq!(asked(&world), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_location_that_is_gone_makes_nobody_ask_for_the_others() {
    let world = World::new(&["a"]);
    world.open(&["a"], false).await.unwrap();
    world.provider.take_asked();
    let open = world.open(&["a", "gone"], true).await.unwrap();
    assert_eq!(sources(&open), ["cache", "unknown_location"]);
    assert_eq!(world.provider.take_asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn while_the_circuit_is_open_nobody_is_asked() {
    let world = World::new(&["a"]);
    world.settings.record_failure(&clinic(), 1, at(NOW).plus_ms(30_000)).await.unwrap();
    let problem = world.open(&["a"], false).await.unwrap_err();
    assert_eq!((problem.code, problem.retry_after_s), (ProblemCode::ProviderUnavailable, Some(30)));
    assert_eq!(world.provider.take_asked(), Vec::<String>::new());
    // When its time is over it is asked, and what comes of it does not touch the circuit.
    advance_s(30).await;
    world.provider.fail("a", Some(AttemptError::HttpStatus(500)));
    assert_eq!(world.open(&["a"], false).await.unwrap_err().code, ProblemCode::ProviderFailed);
    world.provider.fail("a", None);
    assert_eq!(sources(&world.open(&["a"], false).await.unwrap()), ["live"]);
    assert_eq!(world.settings.breaker(&clinic()).open_until, Some(at(NOW).plus_ms(30_000)));
}

#[tokio::test(start_paused = true)]
async fn failures_do_not_open_the_circuit() {
    let world = World::new(&["a"]);
    world.provider.fail("a", Some(AttemptError::HttpStatus(500)));
    for _ in 0..10 {
        world.open(&["a"], false).await.unwrap_err();
    }
    assert_eq!(world.settings.breaker(&clinic()).consecutive_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_a_second_are_waited_for_as_long_as_there_is_time() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let world = World::with(&names, |provider| provider.requests_per_second = Some(2));
    let begun = tokio::time::Instant::now();
    let open = world.open(&names, false).await.unwrap();
    assert!(open.iter().all(|part| part.outcome.is_ok()));
    // Half of what is permitted is left to bookings.
    assert_eq!(begun.elapsed().as_secs(), 5);
    let many: Vec<String> = (0..30).map(|number| format!("m{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let world = World::with(&many, |provider| provider.requests_per_second = Some(1));
    let open = world.open(&many, false).await.unwrap();
    let asked = open.iter().filter(|part| part.outcome.is_ok()).count();
    assert!((9..=10).contains(&asked), "{asked}");
    assert!(sources(&open).iter().all(|source| matches!(*source, "live" | "provider_unavailable")));
}

#[tokio::test(start_paused = true)]
async fn however_much_is_asked_bookings_find_room() {
    let many: Vec<String> = (0..30).map(|number| format!("m{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let world = World::with(&many, |provider| {
        provider.requests_per_second = Some(4);
        provider.max_attempts_in_flight = Some(2);
    });
    for name in &many {
        world.provider.delay(name, 3_000);
    }
    let bookings = async {
        let (limits, entropy) = (Limits::default(), SeededEntropy::new(9));
        let mut admitted = 0;
        for _ in 0..8 {
            let now = world.clock.now();
            let lease_until = now.plus_ms(500);
            let (store, provider) = (&world.settings, &world.configured);
            if let Admission::Admitted(ticket) =
                limits.admit(store, provider, &entropy, now, lease_until).await
            {
                admitted += 1;
                limits.release(store, &clinic(), ticket).await;
            }
            advance_s(1).await;
        }
        admitted
    };
    let (_, admitted) = tokio::join!(world.open(&many, false), bookings);
    assert_eq!(admitted, 8);
}

#[tokio::test(start_paused = true)]
async fn each_service_of_a_location_counts_as_a_call() {
    let world = World::with(&["a"], |provider| provider.requests_per_second = Some(2));
    let service = |id: &str| OfferedService { service_id: id.to_owned(), resource_id: None };
    let services = vec![service("x"), service("y"), service("z")];
    world.settings.add_location(&clinic(), LocationSettings { services, ..location("a") });
    let begun = tokio::time::Instant::now();
    world.open(&["a"], false).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_booked_while_the_provider_answers_is_not_shown() {
    let world = World::new(&["a"]);
    world.provider.delay("a", 8_000);
    let booked = "2027-01-16T09:00:00Z";
    let booking = async {
        advance_s(1).await;
        world.note("a", booked, 1, Hold::Taken).await;
    };
    let (open, ()) = tokio::join!(world.open(&["a"], false), booking);
    assert!(!starts(&open.unwrap()[0]).contains(&booked.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_claimed_is_not_shown_until_its_provider_knows() {
    let world = World::new(&["a"]);
    let booked = "2027-01-16T09:00:00Z";
    world.note("a", booked, 2, Hold::Claimed).await;
    // The provider does not know yet, and says that it is open.
    for hours in 0..3 {
        let open = world.open(&["a"], false).await.unwrap();
        assert!(!starts(&open[0]).contains(&booked.to_owned()), "after {hours} hours");
        advance_s(600).await;
        let told = world.open(&["a"], true).await.unwrap();
        assert!(!starts(&told[0]).contains(&booked.to_owned()));
        advance_s(3_000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_that_has_begun_elsewhere_is_shown_from_memory() {
    let world = World::new(&["a"]);
    let tokyo = LocationSettings { zone: Zone::parse("Asia/Tokyo").unwrap(), ..location("a") };
    world.settings.add_location(&clinic(), tokyo);
    // At 17:00 UTC of the 15th it is the 16th in Tokyo.
    advance_s(9 * 3_600).await;
    let first_day = Some(LocalDate::parse("2027-01-15").unwrap());
    let wish = ValidAvailability { first_day, days: 7, ..World::wish(&["a"], true) };
    assert_eq!(sources(&world.open_as(&wish).await.unwrap()), ["live"]);
    assert_eq!(sources(&world.open_as(&wish).await.unwrap()), ["cache"]);
}

#[tokio::test(start_paused = true)]
async fn a_location_that_is_removed_while_it_is_asked_for_is_not_remembered() {
    let world = World::new(&["a"]);
    world.provider.delay("a", 5_000);
    let removal = async {
        advance_s(1).await;
        crate::manage::delete_location(&world.settings, &world.store, "clinic", "a").await.unwrap();
    };
    let (_, ()) = tokio::join!(world.open(&["a"], false), removal);
    assert_eq!(world.store.remembered(&place("a")).availability, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_said_at_a_time_that_lies_ahead_is_not_shown() {
    let world = World::new(&["a"]);
    world.open(&["a"], false).await.unwrap();
    let mut known = world.store.remembered(&place("a")).availability.unwrap();
    for (lead_ms, source) in [(5_000, "cache"), (5_001, "live")] {
        known.as_of = world.clock.now().plus_ms(lead_ms);
        world.store.replace(&place("a"), &known).await.unwrap();
        assert_eq!(sources(&world.open(&["a"], true).await.unwrap()), [source]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_tells_by_itself_is_shown_until_it_is_too_old() {
    let world = World::with(&["a", "b"], |provider| provider.availability = AvailabilitySource::Push);
    let tell_as_of = async |name: &str, as_of| {
        let (store, settings) = (&world.store, &world.settings);
        let push = Push { location_id: name.to_owned(), as_of, slots: three_days() };
        tell_availability(store, settings, &world.configured, push, world.clock.now()).await
    };
    let tell = async |name: &str| tell_as_of(name, None).await;
    assert_eq!(tell("a").await.unwrap().remembered, 3);
    // What has begun is not remembered.
    advance_s(2 * 3_600).await;
    assert_eq!(tell("a").await.unwrap().remembered, 2);
    assert_eq!(tell("nowhere").await.unwrap_err().code, ProblemCode::UnknownLocation);
    // What was composed before something was booked does not have it.
    let composed_at = world.clock.now();
    advance_s(60).await;
    world.note("a", "2027-01-17T09:00:00Z", 1, Hold::Taken).await;
    advance_s(60).await;
    let told = tell_as_of("a", Some(composed_at)).await.unwrap();
    assert_eq!(told.as_of, composed_at);
    assert_eq!(starts(&world.open(&["a"], true).await.unwrap()[0]).len(), 1);
    // A clock that is ahead makes nothing younger, and what is too old is of no use.
    let ahead = tell_as_of("a", Some(world.clock.now().plus_ms(60_000))).await.unwrap();
    assert_eq!(ahead.as_of, world.clock.now());
    let old = tell_as_of("a", Some(world.clock.now().minus_ms(MAX_AGE_MS))).await.unwrap_err();
    assert_eq!((old.code, old.errors[0].pointer.as_str()), (ProblemCode::InvalidRequest, "/as_of"));
    for allow_stale in [false, true] {
        let open = world.open(&["a", "b", "nowhere"], allow_stale).await.unwrap();
        assert_eq!(sources(&open), ["cache", "provider_unavailable", "unknown_location"]);
    }
    advance_s(15 * 60).await;
    assert_eq!(world.open(&["a"], true).await.unwrap_err().code, ProblemCode::ProviderUnavailable);
    tell("a").await.unwrap();
    assert_eq!(sources(&world.open(&["a"], true).await.unwrap()), ["cache"]);
    assert_eq!(world.provider.take_asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn days_are_those_of_the_location_and_what_has_begun_is_not_shown() {
    let world = World::new(&["rome"]);
    let newfoundland = Zone::parse("America/St_Johns").unwrap();
    let far = LocationSettings { zone: newfoundland, ..location("far") };
    world.settings.add_location(&clinic(), far);
    // Midnight of the 16th is at 23:00 of the 15th in Rome, and at 03:30 of the 16th on Newfoundland.
    let slots =
        ["2027-01-15T22:59:00Z", "2027-01-15T23:00:00Z", "2027-01-16T03:29:00Z", "2027-01-16T03:30:00Z"];
    for name in ["rome", "far"] {
        world.provider.open(name, slots.map(|start| open_slot(at(start))).to_vec());
    }
    let first_day = Some(LocalDate::parse("2027-01-16").unwrap());
    let wish = ValidAvailability { first_day, days: 1, ..World::wish(&["rome", "far"], false) };
    let open = world.open_as(&wish).await.unwrap();
    assert_eq!(starts(&open[0]), &slots[1..]);
    assert_eq!(starts(&open[1]), &slots[3..]);
    // The same from memory, as far as it has not begun.
    tokio::time::advance(std::time::Duration::from_mins(10)).await;
    let wish = ValidAvailability { allow_stale: true, ..wish };
    assert_eq!(starts(&world.open_as(&wish).await.unwrap()[0]), &slots[1..]);
    world.provider.open("rome", vec![open_slot(world.clock.now()), open_slot(world.clock.now().plus_ms(1))]);
    let open = world.open(&["rome"], false).await.unwrap();
    assert_eq!(starts(&open[0]).len(), 1, "what begins now has begun");
}

#[tokio::test(start_paused = true)]
async fn what_lies_beyond_three_weeks_is_asked_for_and_not_remembered() {
    let world = World::new(&["a"]);
    let late = "2027-03-01T09:00:00Z";
    world.provider.open("a", [three_days(), vec![open_slot(at(late))]].concat());
    world.open(&["a"], false).await.unwrap();
    let before = world.store.remembered(&place("a"));
    let first_day = Some(LocalDate::parse("2027-02-28").unwrap());
    let wish = ValidAvailability { first_day, days: 3, ..World::wish(&["a"], true) };
    let open = world.open_as(&wish).await.unwrap();
    assert_eq!((sources(&open), starts(&open[0])), (vec!["live"], vec![late.to_owned()]));
    assert_eq!(world.store.remembered(&place("a")), before);
    assert_eq!(starts(&world.open(&["a"], true).await.unwrap()[0]).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_booked_here_is_gone_at_once_and_comes_back_when_it_is_given_back() {
    let world = World::new(&["a"]);
    world.open(&["a"], false).await.unwrap();
    advance_s(60).await;
    let taken = "2027-01-16T09:00:00Z";
    world.note("a", taken, 1, Hold::Taken).await;
    let shown = async || starts(&world.open(&["a"], true).await.unwrap()[0]);
    assert_eq!(shown().await, ["2027-01-15T09:00:00Z", "2027-01-17T09:00:00Z"]);
    advance_s(60).await;
    world.note("a", taken, 2, Hold::GivenBack).await;
    assert_eq!(shown().await.len(), 3);
    // The provider decides when it is asked the next time.
    advance_s(60).await;
    world.provider.open("a", three_days().split_off(2));
    world.open(&["a"], false).await.unwrap();
    assert_eq!(shown().await, ["2027-01-17T09:00:00Z"]);
}

/// The locations that were asked for, by name: those of one answer are asked for side by side.
fn asked(world: &World) -> Vec<String> {
    let mut asked = world.provider.take_asked();
    asked.sort();
    asked
}

#[tokio::test(start_paused = true)]
async fn a_booking_learns_whether_its_slot_is_open() {
    let world = World::new(&["a"]);
    let asked = async |start: &str, units: u32| {
        let (store, now) = (&world.store, world.clock.now());
        slot_word(store, &clinic(), &slot("a", start), units, now, false).await
    };
    let (open, closed, late) = ("2027-01-16T09:00:00Z", "2027-01-16T10:00:00Z", "2027-03-16T09:00:00Z");
    assert_eq!(asked(open, 1).await, SlotWord::Unknown, "nobody has asked");
    world.open(&["a"], false).await.unwrap();
    assert_eq!((asked(open, 1).await, asked(closed, 1).await), (SlotWord::Open, SlotWord::Gone));
    assert_eq!(asked(open, 2).await, SlotWord::Gone, "there is room for one");
    assert_eq!(asked(late, 1).await, SlotWord::Unknown, "nobody asked about that time");
    advance_s(1).await;
    world.note("a", open, 1, Hold::Taken).await;
    assert_eq!(asked(open, 1).await, SlotWord::Gone);
    advance_s(15 * 60).await;
    assert_eq!(asked(closed, 1).await, SlotWord::Unknown, "it is too long ago");
    world.store.faults().always("availability.read", Fault::StopBefore);
    assert_eq!(asked(open, 1).await, SlotWord::Unknown, "it takes too long to find out");
}

fn secret() -> BookingKeySecret {
    BookingKeySecret { id: 1, key: [7; BOOKING_KEY_SECRET_BYTES], created_at: Timestamp::EPOCH }
}

#[tokio::test(start_paused = true)]
async fn the_body_has_what_the_contract_says_and_a_tag_of_what_is_open() {
    let world = World::new(&["a", "b"]);
    world.provider.fail("b", Some(AttemptError::TimedOut));
    let (secret, provider_id) = (secret(), clinic());
    let audience = Audience { provider_id: &provider_id, mode: Mode::Test, secret: &secret };
    let answer = |open: &[OpenLocation]| availability_answer(open, audience, world.clock.now()).unwrap();
    let first = answer(&world.open(&["a", "b"], false).await.unwrap());
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    let part = &body["data"][0];
    assert_eq!(
        (&part["location_id"], &part["time_zone"], &part["as_of"], &part["source"]),
        (&json!("a"), &json!("Europe/Rome"), &json!(NOW), &json!("live"))
    );
    let shown = &part["slots"][0];
    assert_eq!(
        (&shown["start"], &shown["end"], &shown["capacity"]),
        (&json!("2027-01-15T09:00:00Z"), &json!("2027-01-15T09:30:00Z"), &json!(1))
    );
    let key = shown["booking_key"].as_str().unwrap();
    let keyed = open_key(key, std::slice::from_ref(&secret), Mode::Test).unwrap();
    assert_eq!((keyed.slot, keyed.provider_id), (slot("a", "2027-01-15T09:00:00Z"), clinic()));
    assert_eq!(body["data"][1]["error"]["code"], "provider_timeout");
    assert_eq!(body["data"][1].get("slots"), None);
    assert_eq!(first.age_s, 0);
    // The same slots have the same tag, whenever they were asked for and wherever they come from.
    world.provider.fail("b", None);
    let tag = answer(&world.open(&["a"], false).await.unwrap()).etag;
    advance_s(300).await;
    let again = answer(&world.open(&["a"], true).await.unwrap());
    assert_eq!((again.etag.as_str(), again.age_s), (tag.as_str(), 300));
    // Of several parts the oldest is told.
    world.open(&["b"], false).await.unwrap();
    assert_eq!(answer(&world.open(&["a", "b"], true).await.unwrap()).age_s, 300);
    let again = answer(&world.open(&["a"], false).await.unwrap());
    assert_eq!((again.etag.as_str(), again.age_s), (tag.as_str(), 0));
    world.note("a", "2027-01-16T09:00:00Z", 1, Hold::Taken).await;
    let other = answer(&world.open(&["a"], true).await.unwrap()).etag;
    assert_ne!(other, tag);
    // In the next hour the keys are others.
    advance_s(3_600).await;
    assert_ne!(answer(&world.open(&["a"], false).await.unwrap()).etag, other);
}

#[tokio::test(start_paused = true)]
async fn removing_a_location_forgets_it() {
    let world = World::new(&["a"]);
    world.open(&["a"], false).await.unwrap();
    crate::manage::delete_location(&world.settings, &world.store, "clinic", "a").await.unwrap();
    assert_eq!(world.store.remembered(&place("a")).availability, None);
    assert_eq!(world.open(&["a"], true).await.unwrap_err().code, ProblemCode::UnknownLocation);
    let read = world.store.read(&place("a"), Timestamp::EPOCH).await.unwrap();
    assert_eq!(read.availability, None);
}
