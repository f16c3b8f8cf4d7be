//! What all protocols have in common: a call is logged, meets a behaviour, takes effect in the books, and is
//! answered or not. What a call means, and the words of its answer, are the protocol's.
//!
//! What takes effect does so in a task of its own, because a provider goes on with a request whose caller has
//! hung up; only the answer depends on the caller being there.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    behaviour::{Behaviour, Operation},
    callback,
    ledger::{Key, Ledger, Refusal, Terms},
    state::{CallRecord, Epoch, Simulator},
};
use crate::{
    clock,
    signature::{self, Signature},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a hanging call is kept open for a caller that never hangs up.
const MAX_HANG: Duration = Duration::from_mins(10);

/// A status and a JSON body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// One call, as far as logs and behaviours are concerned. Never holds the customer.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) provider_id: String,
    pub(super) operation: Operation,
    /// What the protocol calls the operation, where it has a name for it.
    pub(super) operation_name: Option<String>,
    pub(super) booking_id: Option<String>,
    pub(super) location_id: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) operation_number: Option<u64>,
    pub(super) attempt: Option<u64>,
    pub(super) signature: Signature,
}

/// A protocol's ways of answering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    /// Words a refusal.
    pub(super) refuse: fn(&Refusal) -> Answer,
    /// The status of a decline that names none.
    pub(super) decline_status: u16,
    /// Whether a yes can be put off with a 202, and told in a call-back.
    pub(super) has_callbacks: bool,
}

/// What a call does, once it is understood.
pub(super) type Work = Box<dyn FnOnce(&Scene) -> Option<Effect> + Send>;

/// What came of a call.
pub(super) struct Effect {
    pub(super) answer: Answer,
    /// What is to be decided later.
    pub(super) undecided: Option<(Key, u64)>,
}

impl From<Answer> for Effect {
    fn from(answer: Answer) -> Self {
        Self { answer, undecided: None }
    }
}

/// What a call meets when it takes effect.
pub(super) struct Scene {
    pub(super) simulator: Arc<Simulator>,
    pub(super) epoch: Epoch,
    pub(super) behaviour: Behaviour,
    pub(super) terms: Terms,
}

impl Scene {
    /// Lets `work` see the books. `None` if they were emptied since the call came.
    pub(super) fn with_ledger<T>(&self, work: impl FnOnce(&mut Ledger, &Terms, Timestamp) -> T) -> Option<T> {
        self.simulator.with_ledger(self.epoch, |ledger, now| work(ledger, &self.terms, now))
    }
}

/// Serves a call. `work` is what it does, or why the provider refuses to look at it.
pub(super) async fn serve(
    simulator: Arc<Simulator>,
    arrival: Arrival,
    dialect: Dialect,
    work: Result<Work, Answer>,
) -> Response {
    let arrived = Instant::now();
    let epoch = simulator.epoch();
    let sequence = simulator.record_call(record(&arrival));
    let behaviour = simulator.choose(&arrival.provider_id, arrival.location_id.as_deref(), arrival.operation);
    let work = match &arrival.signature {
        Signature::Invalid(reason) => Err((dialect.refuse)(&Refusal::new(401, "invalid_signature", reason))),
        Signature::Valid | Signature::NotChecked => work,
    };
    let answer = match work {
        Err(refusal) => answer_in_time(&behaviour, None, Some(refusal), arrived).await,
        Ok(work) => {
            let decline = decline_of(&behaviour, dialect);
            let is_declined_in_books = decline.is_some() && arrival.operation.is_refused_for_good();
            let refusal = match &decline {
                Some(_) if is_declined_in_books => None,
                Some(decline) => Some((dialect.refuse)(decline)),
                None => failure_of(&behaviour),
            };
            let takes_effect = (decline.is_none() || is_declined_in_books)
                && (behaviour.process_after_ms.is_some() || (refusal.is_none() && !behaviour.hang));
            let effect = takes_effect.then(|| {
                let terms = Terms {
                    undecided: behaviour.accept_202 && arrival.operation.may_wait(),
                    one_per_slot: simulator.is_one_per_slot(&arrival.provider_id),
                    decline,
                    ..Terms::new(&behaviour)
                };
                let behaviour = behaviour.clone();
                let scene = Scene { simulator: Arc::clone(&simulator), epoch, behaviour, terms };
                tokio::spawn(take_effect(scene, work, dialect, arrived))
            });
            answer_in_time(&behaviour, effect, refusal, arrived).await
        }
    };
    let Some(answer) = answer.filter(|_| !behaviour.drop_answer) else { return closed_connection() };
    let status = if behaviour.garbage && behaviour.failure_status().is_none() { 200 } else { answer.status };
    simulator.record_answer(sequence, status, elapsed_ms(arrived));
    respond(&behaviour, status, answer.body)
}

/// Waits as the behaviour says, then gives the refusal or else what the effect answers. `None`: no answer.
async fn answer_in_time(
    behaviour: &Behaviour,
    effect: Option<JoinHandle<Option<Answer>>>,
    refusal: Option<Answer>,
    arrived: Instant,
) -> Option<Answer> {
    if behaviour.hang {
        // Whoever hangs up ends this wait, since the server then drops the call.
        tokio::time::sleep(MAX_HANG).await;
        return None;
    }
    // An effect nobody waits for goes on by itself.
    let answer = match (refusal, effect) {
        (Some(refusal), _) => Some(refusal),
        (None, Some(effect)) => effect.await.ok().flatten(),
        (None, None) => None,
    };
    tokio::time::sleep_until(arrived + Duration::from_millis(behaviour.latency_ms)).await;
    answer
}

/// Makes the change in the books when its time has come. `None` if they were emptied in the meantime.
async fn take_effect(scene: Scene, work: Work, dialect: Dialect, arrived: Instant) -> Option<Answer> {
    if scene.terms.undecided {
        // The call is taken at once; the decision comes later, in a task of its own.
        let Effect { answer, undecided } = work(&scene)?;
        if let Some((key, number)) = undecided {
            let calls_back = dialect.has_callbacks;
            tokio::spawn(callback::decide_later(scene, key, number, calls_back, arrived));
        }
        return Some(answer);
    }
    if let Some(delay_ms) = scene.behaviour.process_after_ms {
        tokio::time::sleep_until(arrived + Duration::from_millis(delay_ms)).await;
    }
    let answer = work(&scene)?.answer;
    let is_put_off = scene.behaviour.accept_202 && dialect.has_callbacks && answer.status < 300;
    Some(Answer { status: if is_put_off { 202 } else { answer.status }, ..answer })
}

fn decline_of(behaviour: &Behaviour, dialect: Dialect) -> Option<Refusal> {
    let decline = behaviour.decline.as_ref()?;
    let status = decline.status.unwrap_or(dialect.decline_status);
    Some(Refusal::new(status, &decline.code, &decline.message))
}

/// The failure that the behaviour gives in place of the real answer.
fn failure_of(behaviour: &Behaviour) -> Option<Answer> {
    let status = behaviour.failure_status()?;
    // Without a code: by the native protocol, a 4xx with one would be a definite no, which `decline` is for.
    Some(Answer { status, body: serde_json::json!({"message": "The simulator was told to answer so."}) })
}

fn respond(behaviour: &Behaviour, status: u16, body: Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = if behaviour.garbage {
        (status, "<html>certainly not JSON").into_response()
    } else if status == StatusCode::NO_CONTENT {
        status.into_response()
    } else {
        (status, Json(body)).into_response()
    };
    if let Some(seconds) = behaviour.retry_after_seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Closes the connection with no byte of an answer: the server flushes the head with the first part of the body,
/// and there is none.
fn closed_connection() -> Response {
    let failure =
        futures_util::stream::once(async { Err::<Bytes, _>(io::Error::other("no answer was wanted")) });
    Response::new(Body::from_stream(failure))
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Checks a signature where the secret is known. Reads may come unsigned, as from a browser; what changes
/// something may not.
pub(super) fn check_signature(
    simulator: &Simulator,
    provider_id: &str,
    is_read: bool,
    headers: &HeaderMap,
    body: &[u8],
) -> Signature {
    if is_read && !signature::is_present(headers) {
        return Signature::NotChecked;
    }
    let secret = simulator.signing_secret(provider_id);
    signature::check(secret.as_deref(), headers, body)
}

/// The key without the quotes that the header may have.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(IDEMPOTENCY_KEY)?.to_str().ok()?;
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some(unquoted.unwrap_or(value).to_owned())
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn record(arrival: &Arrival) -> CallRecord {
    CallRecord {
        sequence: 0,
        at: clock::now().to_string(),
        provider_id: arrival.provider_id.clone(),
        operation: arrival.operation,
        operation_name: arrival.operation_name.clone(),
        booking_id: arrival.booking_id.clone(),
        location_id: arrival.location_id.clone(),
        idempotency_key: arrival.idempotency_key.clone(),
        operation_number: arrival.operation_number,
        attempt: arrival.attempt,
        signature_valid: arrival.signature.is_valid(),
        answered_status: None,
        latency_ms: None,
    }
}
