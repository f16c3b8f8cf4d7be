//! Providers that settle a booking by calling back: in time, late, twice, or with a contradiction.

use std::sync::Arc;
use std::time::Duration;

use holdfast_app::bookings::{
    Acknowledged, Created, ProviderAnswer, ProviderCaller, ProviderVerdict, acknowledge,
};
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::test_util::{Reply, Request, Script};
use holdfast_domain::{Acknowledgement, BookingId, Compensation, Mode, ProviderId, Rejection, Status};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, caller, provider_id};
use crate::requests::body;

fn yes() -> ProviderAnswer {
    let yes = Acknowledgement { provider_reference: Some("R".to_owned()), reserved_until: None };
    ProviderAnswer { verdict: ProviderVerdict::Yes(yes), operation: None }
}

fn no() -> ProviderAnswer {
    let no = Rejection { code: "declined".to_owned(), message: None, provider_code: None };
    ProviderAnswer { verdict: ProviderVerdict::No(no), operation: None }
}

async fn call_back(bench: &Bench, answer: &ProviderAnswer) -> Result<Acknowledged, Problem> {
    let id = bench.only_booking().id;
    acknowledge(&bench.store, &bench.clock, &caller(), &id, answer).await
}

/// A create at a provider that accepts and calls back with `answer` after `delay_ms`.
async fn create_with_callback(bench: &Arc<Bench>, delay_ms: u64, answer: &ProviderAnswer) -> Created {
    bench.provider.plan(Request::Attempt, Script::failing(Reply::Accepted));
    let callback = async {
        sleep(Duration::from_millis(delay_ms)).await;
        call_back(bench, answer).await.unwrap();
    };
    let wish = body(false);
    let (created, ()) = tokio::join!(Box::pin(bench.create(Some("k"), &wish)), callback);
    created.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_callback_within_the_limit_decides_the_answer() {
    for (answer, status) in [(yes(), 201), (no(), 409)] {
        let (bench, begun) = (Bench::new(), Instant::now());
        assert_eq!(create_with_callback(&bench, 1_000, &answer).await.answer.status, status);
        assert!(
            begun.elapsed() <= Duration::from_millis(1_250),
            "as soon as it is known: it looks every 250 ms"
        );
        let replay = bench.create(Some("k"), &body(false)).await.unwrap();
        assert_eq!(replay.answer.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn an_accepted_request_without_a_callback_is_504_and_compensated() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Accepted).after_ms(30_000));
    assert_eq!(bench.create(Some("k"), &body(false)).await.unwrap().answer.status, 504);
    bench.run_until_quiet().await;
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn a_callback_hours_later_confirms_in_the_background() {
    let bench = Bench::new();
    let late = Script::replying(Reply::Accepted).after_ms(3 * 3_600_000).calling_back();
    bench.provider.plan(Request::Attempt, late);
    bench.provider.always(Request::LookUp, Script::replying(Reply::Accepted));
    let mut wish = body(true);
    wish["async_confirmation_timeout_millisecond"] = 14_400_000.into();
    assert_eq!(bench.create(Some("k"), &wish).await.unwrap().answer.status, 202);
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.only_booking().status(), Status::Confirmed);
    assert_eq!(bench.provider.times_taken(&bench.only_booking().id), 1);
}

#[tokio::test(start_paused = true)]
async fn a_yes_after_the_end_is_taken_and_compensated() {
    let bench = Bench::new();
    bench.provider.forget_cancels();
    let late = Script::replying(Reply::Accepted).after_ms(7_200_000).calling_back();
    bench.provider.plan(Request::Attempt, late);
    assert_eq!(bench.create(Some("k"), &body(false)).await.unwrap().answer.status, 504);
    bench.run_until_quiet().await;
    bench.check();
    let id = bench.only_booking().id;
    assert_eq!(bench.provider.times_taken(&id), 1, "it booked two hours later");
    assert!(bench.provider.live().is_empty());
    let causes: Vec<&str> = bench.only_booking().history.iter().map(|entry| entry.cause.as_str()).collect();
    assert_eq!(causes, ["created", "given_up", "compensated", "late_acknowledgement", "compensated"]);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_callback_changes_nothing_and_a_contradiction_is_refused() {
    for (first, second, agrees) in
        [(yes(), yes(), true), (no(), no(), true), (yes(), no(), false), (no(), yes(), false)]
    {
        let bench = Bench::new();
        create_with_callback(&bench, 1_000, &first).await;
        let status = bench.only_booking().status();
        let answered = call_back(&bench, &second).await;
        if agrees {
            assert_eq!(answered.unwrap().booking.status(), status);
        } else {
            assert_eq!(answered.unwrap_err().code, ProblemCode::Contradiction);
        }
        assert_eq!(bench.only_booking().status(), status, "the first definite answer wins");
        bench.run_until_quiet().await;
        if first == no() && second == yes() {
            assert_eq!(bench.only_booking().compensation, Compensation::Done);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_overtakes_its_own_answer_is_no_contradiction() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script { reply_after_ms: 2_000, ..Script::WELL.calling_back() });
    let wish = body(false);
    let (created, ()) = tokio::join!(bench.create(Some("k"), &wish), async {
        bench.run_for_ms(1_000).await;
    });
    let created = created.unwrap();
    assert_eq!((created.answer.status, bench.only_booking().version()), (201, 2));
    bench.run_until_quiet().await;
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn no_other_provider_or_mode_finds_the_booking() {
    let bench = Bench::new();
    bench.create(Some("k"), &body(false)).await.unwrap();
    let id = bench.only_booking().id;
    let other = ProviderId::parse("other").unwrap();
    let unknown = BookingId::from_bytes([0; 16]);
    for (provider_id, mode, id) in
        [(&other, Mode::Test, &id), (&provider_id(), Mode::Live, &id), (&provider_id(), Mode::Test, &unknown)]
    {
        let caller = ProviderCaller { provider_id: provider_id.clone(), mode };
        let answered = acknowledge(&bench.store, &bench.clock, &caller, id, &no()).await;
        assert_eq!(answered.unwrap_err().code, ProblemCode::NotFound);
    }
    assert_eq!(bench.only_booking().status(), Status::Confirmed);
}
