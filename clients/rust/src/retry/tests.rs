//! In virtual time, against a script of what the attempts come to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

use proptest::prelude::*;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::*;

const ATTEMPT_LIMIT_S: u64 = 10;
const FIRST_PAUSE_S: u64 = 2;
const LONGEST_PAUSE_S: u64 = 20;
const GIVE_UP_AFTER_S: u64 = 300;

/// What an attempt comes to.
#[derive(Clone, Debug)]
enum Step {
    Hangs,
    Lost,
    NotSent,
    Garbage,
    /// A status, a problem's code if it has one, and what the headers say.
    Says(u16, Option<&'static str>, Vec<(&'static str, String)>),
    Fine,
}

fn says(status: u16, code: &'static str) -> Step {
    Step::Says(status, Some(code), Vec::new())
}

fn answer(status: u16, headers: &[(&'static str, String)], body: &str) -> Answer {
    let line = |(name, value): &(&'static str, String)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    let headers: HeaderMap = headers.iter().map(line).collect();
    Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.as_bytes().to_vec() }
}

fn problem(status: u16, code: &str) -> String {
    json!({
        "type": format!("/problems/{code}"), "title": "t", "status": status, "detail": "d", "instance": "/",
        "code": code, "side_effects": "none", "request_id": "r",
    })
    .to_string()
}

async fn come_to(step: Step) -> Result<Answer, Error> {
    let lost = || Box::new(io::Error::from(io::ErrorKind::ConnectionReset));
    match step {
        Step::Hangs => std::future::pending().await,
        Step::Lost => Err(Error::Unanswered(NoAnswer::Lost(lost()))),
        Step::NotSent => Err(Error::Unanswered(NoAnswer::NoConnection(lost()))),
        Step::Garbage => Ok(answer(200, &[], "<html>")),
        Step::Says(status, Some(code), headers) => Ok(answer(status, &headers, &problem(status, code))),
        Step::Says(status, None, headers) => Ok(answer(status, &headers, "<html>")),
        Step::Fine => Ok(answer(200, &[], "7")),
    }
}

/// What came of a call, and when each attempt began and ended, in virtual time since the call began.
struct Run {
    result: Result<u64, Error>,
    attempts: Vec<(Duration, Duration)>,
    ended: Duration,
}

/// Plays a script in virtual time; what comes after its end is fine. `share` of what may be drawn is drawn, in hundredths.
fn play(script: &[Step], repeat: Repeat, share: u32) -> Run {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let steps = RefCell::new(VecDeque::from(script.to_vec()));
        let times = RefCell::new(Vec::new());
        let policy = RetryPolicy {
            attempt_limit: Duration::from_secs(ATTEMPT_LIMIT_S),
            first_pause: Duration::from_secs(FIRST_PAUSE_S),
            longest_pause: Duration::from_secs(LONGEST_PAUSE_S),
            give_up_after: Duration::from_secs(GIVE_UP_AFTER_S),
        };
        let send = || {
            let at = began.elapsed();
            let step = steps.borrow_mut().pop_front().unwrap_or(Step::Fine);
            times.borrow_mut().push((
                at,
                at + if matches!(step, Step::Hangs) { policy.attempt_limit } else { Duration::ZERO },
            ));
            come_to(step)
        };
        let read = |answer: &Answer| serde_json::from_slice(&answer.body).map_err(|_| Unreadable::Garbage);
        let draw = |most: Duration| most * share / 100;
        let result = until_answered(&policy, repeat, draw, send, read, |_, _| None).await;
        Run { result, attempts: times.take(), ended: began.elapsed() }
    })
}

#[test]
fn what_is_not_now_is_asked_again() {
    for step in [
        Step::Hangs,
        Step::Lost,
        Step::NotSent,
        Step::Garbage,
        says(429, "rate_limited"),
        says(429, "something_new"),
        says(500, "internal"),
        says(503, "temporarily_unavailable"),
        says(503, "provider_unavailable"),
        says(409, "request_in_flight"),
        Step::Says(408, None, Vec::new()),
        Step::Says(429, None, Vec::new()),
        Step::Says(502, None, Vec::new()),
        Step::Says(504, None, Vec::new()),
    ] {
        let run = play(std::slice::from_ref(&step), Repeat::Safely, 0);
        assert_eq!((run.result.ok(), run.attempts.len()), (Some(7), 2), "{step:?}");
    }
}

#[test]
fn what_is_final_is_not_asked_again() {
    for (status, code) in [
        (400, "malformed_json"),
        (401, "unauthenticated"),
        (403, "forbidden"),
        (404, "not_found"),
        (409, "booking_declined"),
        (409, "operation_in_flight"),
        (409, "something_new"),
        (422, "idempotency_key_reused"),
        (502, "provider_failed"),
        (504, "provider_timeout"),
    ] {
        let run = play(&[says(status, code)], Repeat::Safely, 0);
        let error = run.result.unwrap_err();
        assert_eq!((error.code().map(ProblemCode::as_str), run.attempts.len()), (Some(code), 1));
        assert!(!error.may_have_acted());
    }
    for status in [302, 403, 404, 413] {
        let run = play(&[Step::Says(status, None, Vec::new())], Repeat::Safely, 0);
        assert!(
            matches!(run.result, Err(Error::NotUnderstood { .. })) && run.attempts.len() == 1,
            "{status}"
        );
    }
}

#[test]
fn a_replayed_answer_is_final() {
    let replayed =
        Step::Says(503, Some("provider_unavailable"), vec![("idempotency-replayed", "true".to_owned())]);
    let run = play(&[Step::Lost, replayed], Repeat::Safely, 0);
    let error = run.result.unwrap_err();
    assert!(error.problem().is_some_and(|problem| problem.replayed) && run.attempts.len() == 2);
    assert!(!error.may_have_acted(), "the replay says what became of the first");
}

#[test]
fn a_refusal_after_a_lost_answer_leaves_open_what_became_of_it() {
    let run = play(&[Step::Lost, says(401, "unauthenticated")], Repeat::Safely, 0);
    assert!(run.result.unwrap_err().may_have_acted());
    let run = play(&[Step::NotSent, says(401, "unauthenticated")], Repeat::Safely, 0);
    assert!(!run.result.unwrap_err().may_have_acted());
}

#[test]
fn what_is_not_safe_to_repeat_is_repeated_only_if_it_was_not_carried_out() {
    for (step, is_repeated) in [
        (Step::NotSent, true),
        (says(429, "rate_limited"), true),
        (Step::Says(429, None, Vec::new()), true),
        (Step::Lost, false),
        (Step::Hangs, false),
        (Step::Garbage, false),
        (says(500, "internal"), false),
        (says(503, "temporarily_unavailable"), false),
        (Step::Says(504, None, Vec::new()), false),
    ] {
        let run = play(std::slice::from_ref(&step), Repeat::IfNotSent, 0);
        assert_eq!(
            (run.result.is_ok(), run.attempts.len()),
            (is_repeated, 1 + usize::from(is_repeated)),
            "{step:?}"
        );
        if let Err(error) = run.result {
            assert!(error.may_have_acted(), "{step:?}");
        }
    }
}

#[test]
fn pauses_double_up_to_the_longest_and_no_pause_is_shorter_than_half_of_it() {
    let script = vec![Step::NotSent; 7];
    for (share, wanted_s) in [(0, [1, 2, 4, 8, 10, 10, 10]), (100, [2, 4, 8, 16, 20, 20, 20])] {
        let run = play(&script, Repeat::Safely, share);
        let pauses: Vec<u64> =
            run.attempts.windows(2).map(|two| two[1].0.saturating_sub(two[0].1).as_secs()).collect();
        assert_eq!(pauses, wanted_s);
    }
}

#[test]
fn who_asks_to_be_left_alone_is() {
    let header = |name: &'static str, value: &str| vec![(name, value.to_owned())];
    for (headers, wait_s) in [
        (header("retry-after", "30"), 30),
        (header("ratelimit", r#""consumer";r=0;t=42"#), 42),
        (header("ratelimit", r#""consumer";r=9;t=42"#), 1),
        (header("retry-after", "soon"), 1),
    ] {
        let run = play(&[Step::Says(429, Some("rate_limited"), headers)], Repeat::Safely, 0);
        assert_eq!(run.attempts[1].0, Duration::from_secs(wait_s));
    }
    // With chance in it, so that those who were sent away together do not come back together.
    let busy = Step::Says(503, Some("temporarily_unavailable"), header("retry-after", "30"));
    assert_eq!(play(&[busy], Repeat::Safely, 100).attempts[1].0, Duration::from_secs(31));
}

#[test]
fn who_asks_for_more_than_there_is_ends_it_at_once() {
    for seconds in [GIVE_UP_AFTER_S.to_string(), "99999999999999999999".to_owned()] {
        let busy = Step::Says(503, Some("temporarily_unavailable"), vec![("retry-after", seconds)]);
        let run = play(&[busy], Repeat::Safely, 100);
        let error = run.result.unwrap_err();
        assert!(matches!(error, Error::GaveUp { attempts: 1, .. }) && run.ended.is_zero(), "{error:?}");
        assert_eq!(error.code(), Some(&ProblemCode::TemporarilyUnavailable));
    }
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![
        Just(Vec::new()),
        (0..400_u64).prop_map(|seconds| vec![("retry-after", seconds.to_string())]),
    ];
    prop_oneof![
        Just(Step::Hangs),
        Just(Step::Lost),
        Just(Step::NotSent),
        Just(Step::Garbage),
        after.clone().prop_map(|headers| Step::Says(503, Some("temporarily_unavailable"), headers)),
        after.clone().prop_map(|headers| Step::Says(429, Some("rate_limited"), headers)),
        after.clone().prop_map(|headers| Step::Says(409, Some("request_in_flight"), headers)),
        after.prop_map(|headers| Step::Says(504, None, headers)),
        Just(says(409, "booking_declined")),
        Just(says(504, "provider_timeout")),
    ]
}

proptest! {
    #[test]
    fn every_call_ends_in_time_and_tells_the_truth(
        script in prop::collection::vec(step(), 0..40),
        share in 0..=100_u32,
        is_safe: bool,
    ) {
        let repeat = if is_safe { Repeat::Safely } else { Repeat::IfNotSent };
        let run = play(&script, repeat, share);
        prop_assert!(run.ended <= Duration::from_secs(GIVE_UP_AFTER_S), "{:?}", run.ended);
        for two in run.attempts.windows(2) {
            prop_assert!(two[1].0 >= two[0].1 + Duration::from_secs(FIRST_PAUSE_S) / 2);
        }
        let made = &script[..run.attempts.len().min(script.len())];
        let may_act = |step: &&Step| !matches!(
            step, Step::NotSent | Step::Says(_, Some("rate_limited" | "temporarily_unavailable"), _)
        );
        let is_final = |step: &Step| matches!(step, Step::Says(_, Some("booking_declined" | "provider_timeout"), _));
        // Nothing is asked for again after a final answer.
        prop_assert!(made.iter().rev().skip(1).all(|step| !is_final(step)));
        if let Err(error) = &run.result {
            let unanswered = made.iter().filter(may_act).filter(|step| !is_final(step)).count();
            // Of what is not repeated, a 503 may have been carried out too.
            prop_assert!(error.may_have_acted() == (unanswered > 0) || !is_safe, "{error:?}");
        } else {
            prop_assert_eq!(made.len(), script.len());
        }
    }
}
