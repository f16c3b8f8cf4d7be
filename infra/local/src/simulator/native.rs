//! The native protocol over HTTP: reads a call, lets the books answer it, and misbehaves as asked.
//!
//! What takes effect does so in a task of its own, because a provider goes on with a request whose caller has
//! hung up; only the answer depends on the caller being there.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    behaviour::{Behaviour, Operation},
    callback,
    ledger::{Answer, BookCommand, Key},
    state::{CallRecord, Epoch, Simulator},
};
use crate::{
    clock,
    signature::{self, Signature},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a hanging call is kept open for a caller that never hangs up.
const MAX_HANG: Duration = Duration::from_mins(10);

/// One call of the native protocol as it arrived.
struct Call {
    provider_id: String,
    operation: Operation,
    /// The last part of the path of a change, such as `cancel`.
    operation_name: Option<String>,
    /// From the path; a booking has its id in the body.
    booking_id: Option<String>,
    headers: HeaderMap,
    body: Bytes,
}

/// The part of a body that the simulator reads. The customer, the notes and the rest are read over.
#[derive(Debug, Default, Deserialize)]
struct RequestBody {
    booking_id: Option<String>,
    operation: Option<u64>,
    slot: Option<Value>,
    #[serde(default)]
    hold: bool,
    attempt: Option<u64>,
}

/// A call that a correct provider would work on.
enum Request {
    Book(Key, BookCommand),
    Cancel(Key, u64),
    LookUp(Key),
}

pub(super) async fn book(
    State(simulator): State<Arc<Simulator>>,
    Path(provider_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = Operation::Book;
    serve(simulator, Call { provider_id, operation, operation_name: None, booking_id: None, headers, body })
        .await
}

pub(super) async fn look_up(
    State(simulator): State<Arc<Simulator>>,
    Path((provider_id, booking_id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let call = Call {
        provider_id,
        operation: Operation::LookUp,
        operation_name: None,
        booking_id: Some(booking_id),
        headers,
        body: Bytes::new(),
    };
    serve(simulator, call).await
}

pub(super) async fn change(
    State(simulator): State<Arc<Simulator>>,
    Path((provider_id, booking_id, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = if name == "cancel" { Operation::Cancel } else { Operation::Other };
    let booking_id = Some(booking_id);
    serve(simulator, Call { provider_id, operation, operation_name: Some(name), booking_id, headers, body })
        .await
}

async fn serve(simulator: Arc<Simulator>, call: Call) -> Response {
    let arrived = Instant::now();
    let epoch = simulator.epoch();
    let body = read_body(&call);
    let signature = check_signature(&simulator, &call);
    let location_id = location_of(&simulator, &call, body.as_ref().ok());
    let sequence = simulator.record_call(record(&call, body.as_ref().ok(), location_id.clone(), &signature));
    let behaviour = simulator.choose(&call.provider_id, location_id.as_deref(), call.operation);

    let request = match signature {
        Signature::Invalid(reason) => Err(Answer::refusal(401, "invalid_signature", &reason)),
        Signature::Valid | Signature::NotChecked => body.and_then(|body| understand(&call, body, &behaviour)),
    };
    let simulator_for_effect = Arc::clone(&simulator);
    let answer = match request {
        Err(refusal) => answer_in_time(&behaviour, None, Some(refusal), arrived).await,
        Ok(request) => {
            let refusal = refusal_of(&behaviour);
            let takes_effect = behaviour.decline.is_none()
                && (behaviour.process_after_ms.is_some() || (refusal.is_none() && !behaviour.hang));
            let effect = takes_effect.then(|| {
                tokio::spawn(take_effect(simulator_for_effect, epoch, request, behaviour.clone(), arrived))
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
async fn take_effect(
    simulator: Arc<Simulator>,
    epoch: Epoch,
    request: Request,
    behaviour: Behaviour,
    arrived: Instant,
) -> Option<Answer> {
    if let (Request::Book(key, command), true) = (&request, behaviour.accept_202) {
        // The call is taken at once; the decision comes later, in a task of its own.
        let answer = simulator.book(epoch, key, command)?;
        if answer.status == 202 {
            let (key, simulator) = (key.clone(), Arc::clone(&simulator));
            tokio::spawn(callback::decide_later(simulator, epoch, key, behaviour, arrived));
        }
        return Some(answer);
    }
    if let Some(delay_ms) = behaviour.process_after_ms {
        tokio::time::sleep_until(arrived + Duration::from_millis(delay_ms)).await;
    }
    let answer = match &request {
        Request::Book(key, command) => simulator.book(epoch, key, command),
        Request::Cancel(key, operation) => simulator.cancel(epoch, key, *operation),
        Request::LookUp(key) => simulator.look_up(epoch, key),
    }?;
    let is_accepted = behaviour.accept_202 && answer.status < 300;
    Some(Answer { status: if is_accepted { 202 } else { answer.status }, ..answer })
}

/// The answer that the behaviour gives in place of the real one.
fn refusal_of(behaviour: &Behaviour) -> Option<Answer> {
    if let Some(decline) = &behaviour.decline {
        return Some(Answer::refusal(decline.status, &decline.code, &decline.message));
    }
    let status = behaviour.failure_status()?;
    // Without a code: by the protocol, a 4xx with one would be a definite no, and that is what `decline` is for.
    Some(Answer { status, body: serde_json::json!({"message": "The simulator was told to answer so."}) })
}

fn respond(behaviour: &Behaviour, status: u16, body: Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = if behaviour.garbage {
        (status, "<html>certainly not JSON").into_response()
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

fn read_body(call: &Call) -> Result<RequestBody, Answer> {
    if call.operation == Operation::LookUp {
        return Ok(RequestBody::default());
    }
    // The parser's words are not passed on, since they may quote the customer.
    serde_json::from_slice(&call.body).map_err(|_| {
        Answer::refusal(400, "invalid_request", "The body does not have the form of the protocol.")
    })
}

fn check_signature(simulator: &Simulator, call: &Call) -> Signature {
    // Reads may come unsigned, as from a browser; what changes something may not.
    if call.operation == Operation::LookUp && !signature::is_present(&call.headers) {
        return Signature::NotChecked;
    }
    let secret = simulator.signing_secret(&call.provider_id);
    signature::check(secret.as_deref(), &call.headers, &call.body)
}

fn location_of(simulator: &Simulator, call: &Call, body: Option<&RequestBody>) -> Option<String> {
    let asked_for = body.and_then(|body| body.slot.as_ref()?.get("location_id")?.as_str());
    asked_for.map(str::to_owned).or_else(|| {
        let key = Key { provider_id: call.provider_id.clone(), booking_id: call.booking_id.clone()? };
        simulator.location_id(&key)
    })
}

fn record(
    call: &Call,
    body: Option<&RequestBody>,
    location_id: Option<String>,
    signature: &Signature,
) -> CallRecord {
    CallRecord {
        sequence: 0,
        at: clock::now().to_string(),
        provider_id: call.provider_id.clone(),
        operation: call.operation,
        operation_name: call.operation_name.clone(),
        booking_id: call.booking_id.clone().or_else(|| body?.booking_id.clone()),
        location_id,
        idempotency_key: idempotency_key(&call.headers),
        operation_number: body.and_then(|body| body.operation),
        attempt: body.and_then(|body| body.attempt),
        signature_valid: signature.is_valid(),
        answered_status: None,
        latency_ms: None,
    }
}

/// The key without the quotes that the header may have.
fn idempotency_key(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(IDEMPOTENCY_KEY)?.to_str().ok()?;
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some(unquoted.unwrap_or(value).to_owned())
}

/// Checks a call as a correct provider would, and says what it asks for.
fn understand(call: &Call, body: RequestBody, behaviour: &Behaviour) -> Result<Request, Answer> {
    let invalid = |message: &str| Answer::refusal(400, "invalid_request", message);
    let id = match (call.operation, &call.booking_id) {
        (Operation::Other, _) => {
            return Err(Answer::refusal(
                404,
                "unknown_operation",
                "This provider does not know the operation.",
            ));
        }
        (_, Some(id)) => id.clone(),
        (_, None) => body.booking_id.clone().ok_or_else(|| invalid("booking_id is missing."))?,
    };
    let key = Key { provider_id: call.provider_id.clone(), booking_id: id.clone() };
    if call.operation == Operation::LookUp {
        return Ok(Request::LookUp(key));
    }
    let operation = body.operation.ok_or_else(|| invalid("operation, a number, is missing."))?;
    let expected_key =
        if call.operation == Operation::Book { id } else { format!("{}:{operation}", key.booking_id) };
    if idempotency_key(&call.headers).as_deref() != Some(expected_key.as_str()) {
        let message = "The Idempotency-Key must be the booking id, and of a change, id:operation.";
        return Err(Answer::refusal(400, "wrong_idempotency_key", message));
    }
    if call.operation == Operation::Cancel {
        return Ok(Request::Cancel(key, operation));
    }
    let command = BookCommand {
        operation,
        slot: body.slot.filter(Value::is_object).ok_or_else(|| invalid("slot is missing."))?,
        hold: body.hold,
        undecided: behaviour.accept_202,
        reference: behaviour.reference.clone(),
        expires_in_seconds: behaviour.expires_in_seconds,
        forget_cancels: behaviour.forget_cancels,
        forget_keys: behaviour.forget_keys,
    };
    Ok(Request::Book(key, command))
}
