//! The later answer of a provider that first said 202: decides the booking and tells Holdfast, trying again as a
//! well-behaved provider would.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    behaviour::CallbackStatus,
    ledger::{Decision, Key, Status},
    serving::Scene,
    state::{CallbackRecord, CallbackTarget, Simulator},
};
use crate::clock;

/// Time limit of one call-back.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often one call-back is tried.
const MAX_ATTEMPTS: u32 = 5;
/// The number of the operation that makes a booking.
const BOOKING_NUMBER: u64 = 1;
/// The wait before the second try; it doubles each time.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(500);

/// Decides a pending booking or change when its time has come, and calls back if that was asked for and the
/// protocol has call-backs. Without either of `process_after_ms` and `callback_after_ms` it stays undecided.
pub(super) async fn decide_later(scene: Scene, key: Key, number: u64, calls_back: bool, arrived: Instant) {
    let Scene { simulator, epoch, behaviour, terms } = scene;
    let Some(decided_after_ms) = behaviour.process_after_ms.or(behaviour.callback_after_ms) else { return };
    tokio::time::sleep_until(arrived + Duration::from_millis(decided_after_ms)).await;
    // Cancelled or forgotten in the meantime, there is nothing left to tell.
    let Some(decision) = simulator.decide(epoch, &key, number, behaviour.callback_status, &terms) else {
        return;
    };
    let Some(callback_after_ms) = behaviour.callback_after_ms.filter(|_| calls_back) else { return };
    tokio::time::sleep_until(arrived + Duration::from_millis(callback_after_ms)).await;
    call_back(&simulator, &key, &decision).await;
}

async fn call_back(simulator: &Simulator, key: &Key, decision: &Decision) {
    let status = match decision.outcome {
        Ok(_) => CallbackStatus::Confirmed,
        Err(_) => CallbackStatus::Rejected,
    };
    let mut delay = FIRST_RETRY_DELAY;
    for attempt in 1..=MAX_ATTEMPTS {
        let outcome = match simulator.callback_target(&key.provider_id) {
            Some(target) => post(&target, key, &body(decision)).await,
            None => Err("PUT /control/providers/{id} has not given a callback_key and an api_url".to_owned()),
        };
        simulator.record_callback(CallbackRecord {
            at: clock::now().to_string(),
            provider_id: key.provider_id.clone(),
            booking_id: key.booking_id.clone(),
            status,
            operation_number: decision.number,
            attempt,
            answered_status: outcome.as_ref().ok().copied(),
            error: outcome.as_ref().err().cloned(),
        });
        if outcome.is_ok_and(|status| status < 500 && status != 429) {
            return;
        }
        tokio::time::sleep(delay).await;
        delay *= 2;
    }
}

fn body(decision: &Decision) -> Value {
    let mut body = match &decision.outcome {
        Ok(view) => {
            let mut body =
                json!({"status": view.status, "provider_reference": view.entry.provider_reference});
            if let (Status::Reserved, Some(expires_at)) = (view.status, view.entry.expires_at) {
                body["expires_at"] = json!(expires_at.to_string());
            }
            body
        }
        Err(refusal) => json!({
            "status": "rejected",
            "rejection": {"code": refusal.code, "message": refusal.message},
        }),
    };
    // A booking is what an acknowledgement without a number means.
    if decision.number > BOOKING_NUMBER {
        body["operation"] = json!(decision.number);
    }
    body
}

async fn post(target: &CallbackTarget, key: &Key, body: &Value) -> Result<u16, String> {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()
        .map_err(|error| error.without_url().to_string())?;
    let base = target.api_url.trim_end_matches('/');
    let answer = client
        .post(format!("{base}/v1/provider/bookings/{}/acknowledge", key.booking_id))
        .bearer_auth(&target.key)
        .json(body)
        .send()
        .await
        .map_err(|error| error.without_url().to_string())?;
    Ok(answer.status().as_u16())
}
