//! Runs a handler on Lambda's events: routing, limits, failures, and one line of log for each request.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use futures_util::FutureExt;
use holdfast_app::metrics::noted_attempt;
use holdfast_app::ports::Clock;
use holdfast_app::problem::{Problem, ProblemCode, SideEffects};
use holdfast_domain::Timestamp;
use http::Method;
use tokio::time::timeout;

use super::gateway::{event_of, request_id, request_of};
use super::response::problem_for;
use super::{Request, Response, Routed, Router};
use crate::observed::{Work, observed};
use crate::runtime::{self, Context};
use crate::{RunError, SystemClock};

/// What a request without a route is logged under.
const NO_ROUTE: &str = "-";

/// After how many seconds a request that ran out of time may be made again.
const RETRY_AFTER_S: u64 = 1;

/// Runs a function for HTTP until Lambda ends it. The handler gets each request with its route and
/// returns an answer or a problem; it is not called for what has no route.
pub async fn run<K, F, Fut>(router: Router<K>, handler: F) -> Result<(), RunError>
where
    K: Copy + Send + Sync + 'static,
    F: Fn(Request, Routed<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let shared = Arc::new((router, handler));
    runtime::run(move |event, context| {
        let shared = Arc::clone(&shared);
        async move {
            let (router, handler) = &*shared;
            let answer = serve(router, handler, &event, &context, &SystemClock).await;
            Ok(serde_json::to_vec(&answer)?)
        }
        // A boxed future ends the chain of nested types, which gets too deep for the compiler otherwise.
        .boxed()
    })
    .await
}

/// Answers one event, as Lambda brings it. Whatever happens, there is an answer: a panic is an internal problem, and
/// a handler that does not end in time is dropped.
pub async fn serve<K, F, Fut>(
    router: &Router<K>,
    handler: &F,
    event: &[u8],
    context: &Context,
    clock: &impl Clock,
) -> ApiGatewayV2httpResponse
where
    K: Copy,
    F: Fn(Request, Routed<K>) -> Fut,
    Fut: Future<Output = Result<Response, Problem>>,
{
    let started_at = clock.now();
    let Ok(request) = request_of(event, context, started_at) else {
        let request_id = request_id(None, context);
        tracing::warn!(request.id = request_id, "A request could not be read.");
        let problem =
            Problem::new(ProblemCode::InvalidParameter, "The request's headers or body cannot be read.");
        return event_of(problem_for(&problem, "", &request_id), &request_id, true);
    };
    let work = Work::new("request", &request.request_id, context);
    observed(work, answer(router, handler, request, started_at, clock)).await
}

async fn answer<K, F, Fut>(
    router: &Router<K>,
    handler: &F,
    request: Request,
    started_at: Timestamp,
    clock: &impl Clock,
) -> ApiGatewayV2httpResponse
where
    K: Copy,
    F: Fn(Request, Routed<K>) -> Fut,
    Fut: Future<Output = Result<Response, Problem>>,
{
    // The handler takes the request; what the answer needs of it is kept.
    let Request { method, path, request_id, .. } = &request;
    let (method, path, request_id) = (method.clone(), path.clone(), request_id.clone());
    let (template, outcome) = match router.find(&request.method, &request.path) {
        Ok(route) => (route.template, handle(handler, request, route, started_at).await),
        Err(problem) => (NO_ROUTE, Err(problem)),
    };
    let code = outcome.as_ref().err().map(|problem| problem.code.as_str());
    let response = outcome.unwrap_or_else(|problem| problem_for(&problem, &path, &request_id));
    let attempt = noted_attempt();
    let attempt = attempt.as_ref();
    tracing::info!(
        http.method = method.as_str(),
        http.route = template,
        http.status = response.status.as_u16(),
        problem.code = code,
        operation.kind = attempt.map(|attempt| attempt.operation_kind),
        provider.id = attempt.map(|attempt| attempt.provider_id.as_str()),
        attempt.outcome = attempt.map(|attempt| attempt.outcome.as_str()),
        booking.status = attempt.map(|attempt| attempt.booking_status),
        latency_ms = started_at.ms_until(clock.now()),
        "Answered a request."
    );
    event_of(response, &request_id, method != Method::HEAD)
}

async fn handle<K, F, Fut>(
    handler: &F,
    request: Request,
    routed: Routed<K>,
    now: Timestamp,
) -> Result<Response, Problem>
where
    F: Fn(Request, Routed<K>) -> Fut,
    Fut: Future<Output = Result<Response, Problem>>,
{
    let limit = Duration::from_millis(now.ms_until(request.deadline));
    // Of what was broken off nobody knows how far it came, unless it changes nothing anyway.
    let side_effects = if request.is_safe() { SideEffects::None } else { SideEffects::Unknown };
    // A panic inside the handler leaves nothing behind that later requests rely on: shared state is behind
    // locks that tolerate it.
    let guarded = AssertUnwindSafe(async move { handler(request, routed).await }).catch_unwind();
    match timeout(limit, guarded).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(panicked(&*panic).with_side_effects(side_effects)),
        Err(_) => {
            tracing::error!("A request was not answered in time.");
            let detail = "The request was not completed in time.";
            Err(Problem::new(ProblemCode::StoreUnavailable, detail)
                .with_side_effects(side_effects)
                .retry_after_s(RETRY_AFTER_S))
        }
    }
}

/// The panic itself was logged where it happened.
fn panicked(_panic: &(dyn Any + Send)) -> Problem {
    Problem::new(ProblemCode::Internal, "The request could not be completed.")
}

#[cfg(test)]
mod tests {
    use holdfast_app::metrics::{AttemptNote, note_attempt};
    use holdfast_domain::ProviderId;
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::test_util::logged_here;

    struct Now;

    impl Clock for Now {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_ms(1_000).unwrap()
        }
    }

    #[derive(Clone, Copy)]
    enum Route {
        Echo,
        Book,
        Panic,
        Hang,
    }

    async fn handler(request: Request, routed: Routed<Route>) -> Result<Response, Problem> {
        match routed.key {
            Route::Echo => Ok(Response::json(StatusCode::OK, &json!({"id": routed.parameter("id")}))),
            Route::Book => {
                note_attempt(AttemptNote {
                    operation_kind: "book",
                    provider_id: ProviderId::parse("demo-clinic").unwrap(),
                    outcome: "unknown:timed_out".to_owned(),
                    booking_status: "pending",
                });
                Ok(Response::json(StatusCode::CREATED, &json!({})))
            }
            Route::Panic => panic!("secret {}", request.path),
            Route::Hang => std::future::pending().await,
        }
    }

    async fn call(method: &str, path: &str) -> (u64, Value, Value) {
        let router = Router::new(&[
            (Method::GET, "/echo/{id}", Route::Echo),
            (Method::POST, "/book", Route::Book),
            (Method::POST, "/panic", Route::Panic),
            (Method::GET, "/hang", Route::Hang),
        ])
        .unwrap();
        let event = json!({
            "rawPath": path,
            "requestContext": {"http": {"method": method}, "requestId": "r-1", "timeEpoch": 0}
        });
        let deadline_unix_ms = 4_000;
        let context = Context { deadline_unix_ms, ..Context::default() };
        let answer = serve(&router, &handler, event.to_string().as_bytes(), &context, &Now).await;
        let answer = serde_json::to_value(answer).unwrap();
        let body = answer["body"].as_str().map_or(Value::Null, |body| serde_json::from_str(body).unwrap());
        (answer["statusCode"].as_u64().unwrap(), answer["headers"].clone(), body)
    }

    #[tokio::test]
    async fn an_answer_passes_and_head_has_no_body() {
        let (status, headers, body) = call("GET", "/echo/7").await;
        assert_eq!((status, &body), (200, &json!({"id": "7"})));
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["x-request-id"], "r-1");
        assert_eq!(call("HEAD", "/echo/7").await.2, Value::Null);
    }

    #[tokio::test]
    async fn one_line_says_what_was_asked_what_was_answered_and_how_the_attempt_went() {
        let logged = logged_here();
        call("POST", "/book").await;
        call("GET", "/echo/7").await;
        let mut lines = logged.lines();
        lines.retain(|line| line["message"] == "Answered a request.");
        let [booked, echoed] = &lines[..] else { panic!("{lines:?}") };
        for (field, value) in [
            ("http.route", json!("/book")),
            ("http.status", json!(201)),
            ("operation.kind", json!("book")),
            ("provider.id", json!("demo-clinic")),
            ("attempt.outcome", json!("unknown:timed_out")),
            ("booking.status", json!("pending")),
        ] {
            assert_eq!(booked[field], value, "{field}");
        }
        assert_eq!(echoed["http.status"], 200);
        assert_eq!(echoed.get("provider.id"), None, "of this request alone");
    }

    #[tokio::test]
    async fn unknown_routes_and_methods_are_problems() {
        let (status, headers, body) = call("GET", "/nowhere").await;
        assert_eq!((status, body["code"].as_str()), (404, Some("route_not_found")));
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(body["instance"], "/nowhere");
        let (status, headers, body) = call("DELETE", "/echo/7").await;
        assert_eq!((status, body["code"].as_str()), (405, Some("method_not_allowed")));
        assert_eq!(headers["allow"], "GET, HEAD");
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_problem_that_tells_nothing() {
        let (status, _, body) = call("POST", "/panic").await;
        assert_eq!((status, body["code"].as_str()), (500, Some("internal")));
        assert_eq!(body["side_effects"], "unknown");
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_answered_before_the_invocation_ends() {
        let begun = tokio::time::Instant::now();
        let (status, headers, body) = call("GET", "/hang").await;
        assert_eq!(begun.elapsed().as_millis(), 2_500);
        assert_eq!((status, body["code"].as_str()), (503, Some("temporarily_unavailable")));
        assert_eq!(body["side_effects"], "none");
        assert_eq!(headers["retry-after"], "1");
    }

    #[tokio::test]
    async fn an_unreadable_event_is_a_problem_too() {
        let router = Router::new(&[(Method::GET, "/hang", Route::Hang)]).unwrap();
        let answer = serve(&router, &handler, b"[]", &Context::default(), &Now).await;
        assert_eq!(serde_json::to_value(answer).unwrap()["statusCode"], 400);
    }
}
