//! The later answer of a provider that first said 202: decides the booking and tells Holdfast, trying again as a
//! well-behaved provider would.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    behaviour::{Behaviour, CallbackStatus},
    ledger::Key,
    state::{CallbackRecord, CallbackTarget, Epoch, Simulator},
};
use crate::clock;

/// Time limit of one call-back.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often one call-back is tried.
const MAX_ATTEMPTS: u32 = 5;
/// The wait before the second try; it doubles each time.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(500);

/// Decides a pending booking when its time has come, and calls back if that was asked for. Without either of
/// `process_after_ms` and `callback_after_ms` the booking stays pending.
pub(super) async fn decide_later(
    simulator: Arc<Simulator>,
    epoch: Epoch,
    key: Key,
    behaviour: Behaviour,
    arrived: Instant,
) {
    let Some(decided_after_ms) = behaviour.process_after_ms.or(behaviour.callback_after_ms) else { return };
    tokio::time::sleep_until(arrived + Duration::from_millis(decided_after_ms)).await;
    // Cancelled or forgotten in the meantime, there is nothing left to tell.
    let status = behaviour.callback_status;
    let Some(reference) = simulator.decide(epoch, &key, status) else { return };
    let Some(callback_after_ms) = behaviour.callback_after_ms else { return };
    tokio::time::sleep_until(arrived + Duration::from_millis(callback_after_ms)).await;
    call_back(&simulator, &key, status, &reference).await;
}

async fn call_back(simulator: &Simulator, key: &Key, status: CallbackStatus, reference: &str) {
    let mut delay = FIRST_RETRY_DELAY;
    for attempt in 1..=MAX_ATTEMPTS {
        let outcome = match simulator.callback_target(&key.provider_id) {
            Some(target) => post(&target, key, &body(status, reference)).await,
            None => Err("PUT /control/providers/{id} has not given a callback_key and an api_url".to_owned()),
        };
        simulator.record_callback(CallbackRecord {
            at: clock::now().to_string(),
            provider_id: key.provider_id.clone(),
            booking_id: key.booking_id.clone(),
            status,
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

fn body(status: CallbackStatus, reference: &str) -> Value {
    match status {
        CallbackStatus::Confirmed => json!({"status": "confirmed", "provider_reference": reference}),
        CallbackStatus::Rejected => json!({
            "status": "rejected",
            "rejection": {"code": "rejected", "message": "The provider has rejected this booking."},
        }),
    }
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
