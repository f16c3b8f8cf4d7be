//! What providers tell of a booking that stands, and the erasure of the customer's data.

use holdfast_app::bookings::{
    Acknowledged, ProviderCaller, cancel_by_provider, erase_customer, owned, tell_attendance,
};
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::test_util::{Deed, Fault, Reply, Request, Script};
use holdfast_app::view::personal_view;
use holdfast_domain::{BookingId, Compensation, Mode, ProviderId, Status, Withdrawal};
use serde_json::json;

use super::cancel::booked;
use crate::bench::{Bench, caller, tenant};
use crate::requests::body;

async fn withdraw(bench: &Bench, id: &BookingId) -> Result<Acknowledged, Problem> {
    let words = Withdrawal { reason: Some("doctor_ill".to_owned()), note: None };
    bench.provider.withdraw(id);
    cancel_by_provider(&bench.store, &bench.clock, &caller(), id, &words).await
}

async fn attend(bench: &Bench, id: &BookingId, attended: bool) -> Result<Acknowledged, Problem> {
    tell_attendance(&bench.store, &bench.clock, &caller(), id, attended).await
}

async fn erase(bench: &Bench, id: &BookingId) -> Result<(), Problem> {
    erase_customer(&bench.store, &bench.clock, &tenant("shop"), id).await
}

#[tokio::test(start_paused = true)]
async fn a_provider_withdraws_what_stands() {
    for deed in [Deed::Book, Deed::Reserve { hold_ms: 900_000 }] {
        let (bench, id) = booked(deed).await;
        assert_eq!(withdraw(&bench, &id).await.unwrap().booking.status(), Status::Cancelled);
        let version = bench.booking(&id).version();
        assert_eq!(withdraw(&bench, &id).await.unwrap().booking.version(), version, "once is enough");
        bench.run_until_quiet().await;
        bench.check();
        let view = serde_json::to_value(personal_view(&bench.booking(&id))).unwrap();
        assert_eq!(view["cancellation"], json!({"by": "provider", "reason": "doctor_ill", "note": null}));
        assert_eq!(bench.event_types().last().map(String::as_str), Some("booking.cancelled"));
        assert_eq!(bench.provider.requests(), [Request::Attempt], "it knows already");
        assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_withdraws_what_is_pending_and_a_late_attempt_is_undone() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::replying(Reply::Silence).after_ms(20_000));
    let id = bench.create(Some("k"), &body(true)).await.unwrap().booking_id;
    let words = Withdrawal::default();
    let told = cancel_by_provider(&bench.store, &bench.clock, &caller(), &id, &words).await.unwrap();
    assert_eq!(told.booking.status(), Status::Cancelled);
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.booking(&id).compensation, Compensation::Done);
}

#[tokio::test(start_paused = true)]
async fn attendance_is_told_of_what_is_confirmed_and_the_first_word_stands() {
    for (attended, status, event) in
        [(true, Status::Completed, "booking.completed"), (false, Status::NoShow, "booking.no_show")]
    {
        let (bench, id) = booked(Deed::Book).await;
        for _ in 0..2 {
            let told = attend(&bench, &id, attended).await.unwrap();
            assert_eq!((told.booking.status(), told.booking.version()), (status, 3));
        }
        assert_eq!(attend(&bench, &id, !attended).await.unwrap_err().code, ProblemCode::StatusConflict);
        assert_eq!(withdraw(&bench, &id).await.unwrap_err().code, ProblemCode::StatusConflict);
        let problem = bench.cancel(&id, Some("c"), &json!({})).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::StatusConflict);
        bench.run_until_quiet().await;
        assert_eq!(bench.event_types().last().map(String::as_str), Some(event));
    }
}

#[tokio::test(start_paused = true)]
async fn attendance_follows_nothing_else() {
    let (bench, id) = booked(Deed::Reserve { hold_ms: 900_000 }).await;
    assert_eq!(attend(&bench, &id, true).await.unwrap_err().code, ProblemCode::StatusConflict);
    let (bench, id) = booked(Deed::Book).await;
    bench.provider.plan(Request::Cancel, Script::failing(Reply::Status(503)));
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 202);
    assert_eq!(attend(&bench, &id, true).await.unwrap_err().code, ProblemCode::OperationInFlight);
    bench.run_until_quiet().await;
    assert_eq!(attend(&bench, &id, true).await.unwrap_err().code, ProblemCode::StatusConflict);
    bench.check();
}

#[tokio::test(start_paused = true)]
async fn no_other_provider_or_mode_changes_the_booking() {
    let (bench, id) = booked(Deed::Book).await;
    for stranger in [
        ProviderCaller { provider_id: ProviderId::parse("other").unwrap(), mode: Mode::Test },
        ProviderCaller { mode: Mode::Live, ..caller() },
    ] {
        let words = Withdrawal::default();
        let told = cancel_by_provider(&bench.store, &bench.clock, &stranger, &id, &words).await;
        assert_eq!(told.unwrap_err().code, ProblemCode::NotFound);
        let told = tell_attendance(&bench.store, &bench.clock, &stranger, &id, true).await;
        assert_eq!(told.unwrap_err().code, ProblemCode::NotFound);
    }
    assert_eq!(bench.booking(&id).version(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_erased_is_gone_and_everything_else_stays() {
    let bench = Bench::new();
    let mut wish = body(false);
    wish["notes"] = json!("By the window.");
    let created = bench.create(Some("k"), &wish).await.unwrap();
    let id = created.booking_id.clone();
    for _ in 0..2 {
        erase(&bench, &id).await.unwrap();
        let booking = owned(&bench.store, &tenant("shop"), &id).await.unwrap();
        assert_eq!((booking.version(), booking.status()), (3, Status::Confirmed));
        let view = serde_json::to_value(personal_view(&booking)).unwrap();
        assert_eq!((&view["customer"], &view["notes"]), (&json!(null), &json!(null)));
    }
    let replay = bench.create(Some("k"), &wish).await.unwrap();
    assert_eq!((replay.answer.body, replay.replayed), (created.answer.body, true));
    // No part of the item tells who it was.
    assert_eq!(bench.store.item(&id).unwrap().booking.request.customer, None);
    assert_eq!(bench.cancel(&id, Some("c"), &json!({})).await.unwrap().answer.status, 200);
    bench.run_until_quiet().await;
    bench.check();
    assert_eq!(bench.booking(&id).request.customer, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_erased_while_a_change_is_in_flight() {
    let bench = Bench::new();
    bench.provider.plan(Request::Attempt, Script::failing(Reply::Status(500)));
    let id = bench.create(Some("k"), &body(true)).await.unwrap().booking_id;
    let problem = erase(&bench, &id).await.unwrap_err();
    assert_eq!((problem.code, problem.retry_after_s), (ProblemCode::OperationInFlight, Some(1)));
    bench.run_until_quiet().await;
    assert_eq!(bench.booking(&id).status(), Status::Confirmed);
    bench.provider.plan(Request::Cancel, Script::failing(Reply::Status(500)));
    assert_eq!(bench.cancel(&id, None, &json!({})).await.unwrap().answer.status, 202);
    assert_eq!(erase(&bench, &id).await.unwrap_err().code, ProblemCode::OperationInFlight);
    bench.run_until_quiet().await;
    erase(&bench, &id).await.unwrap();
    let stranger = erase_customer(&bench.store, &bench.clock, &tenant("another"), &id).await;
    assert_eq!(stranger.unwrap_err().code, ProblemCode::NotFound);
}

/// Somebody who writes at the same time neither loses what he writes nor brings back what was erased.
#[tokio::test(start_paused = true)]
async fn an_erasure_and_a_cancel_at_once_both_happen() {
    let (bench, id) = booked(Deed::Book).await;
    bench.faults.next("bookings.replace", Fault::DelayBefore(100));
    let wish = json!({});
    let (erased, cancelled) = tokio::join!(erase(&bench, &id), bench.cancel(&id, Some("c"), &wish));
    assert_eq!(cancelled.unwrap().answer.status, 200);
    if erased.is_err() {
        erase(&bench, &id).await.unwrap();
    }
    bench.run_until_quiet().await;
    bench.check();
    let booking = bench.booking(&id);
    assert_eq!((booking.status(), booking.request.customer), (Status::Cancelled, None));
}
