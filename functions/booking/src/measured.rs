//! What is measured of the answers to those who make and change bookings.

use holdfast_app::metrics::{ANSWER_PROVIDER_TIME, ANSWER_TIME, CALL_BACK_WAIT, PROVIDER_CALL_TIME};
use holdfast_app::ports::Clock;
use holdfast_app::problem::{Problem, ProblemCode, SideEffects};
use holdfast_domain::{OperationKind, Timestamp};
use holdfast_lambda::http::Response;
use http::StatusCode;

use super::IDEMPOTENCY_REPLAYED;

/// Records what became of a request that arrived at `received_at`, and how long it and its provider took.
pub(crate) fn measure(
    kind: OperationKind,
    received_at: Timestamp,
    answered: &Result<Response, Problem>,
    clock: &impl Clock,
) {
    let dimensions = [kind.as_str(), outcome(answered)];
    ANSWER_TIME.record(dimensions, received_at.ms_until(clock.now()));
    let provider_ms = PROVIDER_CALL_TIME.sum().saturating_add(CALL_BACK_WAIT.sum());
    if provider_ms > 0 {
        ANSWER_PROVIDER_TIME.record(dimensions, provider_ms);
    }
}

fn outcome(answered: &Result<Response, Problem>) -> &'static str {
    match answered {
        Ok(response) if response.headers.contains_key(IDEMPOTENCY_REPLAYED) => "replayed",
        Ok(response) => match response.status {
            StatusCode::ACCEPTED => "pending",
            status if status.is_success() => "done",
            StatusCode::GATEWAY_TIMEOUT => "timed_out",
            StatusCode::BAD_GATEWAY => "provider_failed",
            StatusCode::SERVICE_UNAVAILABLE => "provider_unavailable",
            _ => "declined",
        },
        Err(problem) if problem.code == ProblemCode::ProviderUnavailable => "provider_unavailable",
        Err(problem) if problem.code.status() < StatusCode::INTERNAL_SERVER_ERROR.as_u16() => "refused",
        Err(problem) if problem.side_effects == SideEffects::Unknown => "unknown",
        Err(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use holdfast_app::metrics::{Recorded, Sample, collected};

    use super::*;

    struct At(u64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH.plus_ms(self.0)
        }
    }

    fn answer(status: u16) -> Response {
        Response::json_bytes(StatusCode::from_u16(status).unwrap(), Vec::new())
    }

    fn problem(code: ProblemCode) -> Result<Response, Problem> {
        Err(Problem::new(code, "no"))
    }

    #[test]
    fn each_answer_has_an_outcome() {
        let replayed = answer(201).with_header(IDEMPOTENCY_REPLAYED, "true");
        let unknown =
            Problem::new(ProblemCode::StoreUnavailable, "no").with_side_effects(SideEffects::Unknown);
        for (answered, expected) in [
            (Ok(replayed), "replayed"),
            (Ok(answer(201)), "done"),
            (Ok(answer(200)), "done"),
            (Ok(answer(202)), "pending"),
            (Ok(answer(409)), "declined"),
            (Ok(answer(502)), "provider_failed"),
            (Ok(answer(503)), "provider_unavailable"),
            (Ok(answer(504)), "timed_out"),
            (problem(ProblemCode::InvalidRequest), "refused"),
            (problem(ProblemCode::ProviderUnavailable), "provider_unavailable"),
            (problem(ProblemCode::StoreUnavailable), "failed"),
            (Err(unknown), "unknown"),
        ] {
            assert_eq!(outcome(&answered), expected, "{answered:?}");
        }
    }

    #[tokio::test]
    async fn the_provider_s_share_is_that_of_all_calls_and_of_waiting_for_one() {
        let received_at = Timestamp::EPOCH.plus_ms(100);
        let ((), Recorded { samples, .. }) = collected(async {
            PROVIDER_CALL_TIME.record(["book", "accepted_for_later"], 40);
            CALL_BACK_WAIT.record(["book"], 50);
            measure(OperationKind::Book, received_at, &Ok(answer(201)), &At(300));
        })
        .await;
        let of = |name| samples.iter().find(|sample| sample.metric().name == name).map(Sample::value);
        assert_eq!((of("AnswerTime"), of("AnswerProviderTime")), (Some(200), Some(90)));
        let ((), Recorded { samples, .. }) = collected(async {
            measure(OperationKind::Cancel, received_at, &Ok(answer(200)), &At(99));
        })
        .await;
        assert_eq!(samples.len(), 1, "nobody was asked");
        assert_eq!(samples[0].value(), 0, "a clock that goes back measures nothing");
    }
}
