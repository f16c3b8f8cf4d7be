//! Everything the simulator remembers, behind one lock that is never held over an await: settings, behaviours,
//! books, and bounded logs of the calls it got and the call-backs it made.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    ProviderConfig, SimulatorConfig,
    behaviour::{Behaviour, Behaviours, CallFacts, CallbackStatus, Operation},
    ledger::{Decision, Key, Ledger, Terms},
    opening::Opening,
};
use crate::clock;

/// The most calls, and the most call-backs, that are remembered. Older ones are forgotten.
const MAX_LOG_ENTRIES: usize = 10_000;
/// The most providers that can have settings.
const MAX_PROVIDERS: usize = 1_000;

/// A call as the control interface shows it. Never holds the customer.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CallRecord {
    /// Counts all calls since the start, so that gaps show what was forgotten.
    pub(super) sequence: u64,
    pub(super) at: String,
    pub(super) provider_id: String,
    pub(super) operation: Operation,
    /// The name of the operation in the path, where the path has one.
    pub(super) operation_name: Option<String>,
    pub(super) booking_id: Option<String>,
    pub(super) location_id: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) operation_number: Option<u64>,
    pub(super) attempt: Option<u64>,
    /// `None` if nothing was checked.
    pub(super) signature_valid: Option<bool>,
    /// `None` if the caller got no answer, or has not got it yet.
    pub(super) answered_status: Option<u16>,
    /// From the arrival to the answer.
    pub(super) latency_ms: Option<u64>,
}

/// A call-back as the control interface shows it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CallbackRecord {
    pub(super) at: String,
    pub(super) provider_id: String,
    pub(super) booking_id: String,
    pub(super) status: CallbackStatus,
    /// The number of the operation that was decided.
    pub(super) operation_number: u64,
    pub(super) attempt: u32,
    /// `None` if no answer came.
    pub(super) answered_status: Option<u16>,
    pub(super) error: Option<String>,
}

/// Where and with what key a call-back goes.
#[derive(Clone)]
pub(super) struct CallbackTarget {
    pub(super) api_url: String,
    pub(super) key: String,
}

/// Marks work that was begun before the books were emptied, which must not write into the new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

#[derive(Default)]
struct Inner {
    config: SimulatorConfig,
    behaviours: Behaviours,
    ledger: Ledger,
    calls: VecDeque<CallRecord>,
    callbacks: VecDeque<CallbackRecord>,
    calls_seen: u64,
    epoch: u64,
}

pub(super) struct Simulator {
    inner: Mutex<Inner>,
}

impl Simulator {
    pub(super) fn new(config: SimulatorConfig) -> Self {
        Self { inner: Mutex::new(Inner { config, ..Inner::default() }) }
    }

    // A panic elsewhere leaves no half-made change behind that would matter more than an answer.
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    // ---- settings and behaviours -------------------------------------------------------------------------

    pub(super) fn configure(&self, provider_id: &str, change: ProviderConfig) -> Result<Value, String> {
        self.with(|inner| {
            let providers = &mut inner.config.providers;
            if providers.len() >= MAX_PROVIDERS && !providers.contains_key(provider_id) {
                return Err(format!("at most {MAX_PROVIDERS} providers can have settings"));
            }
            let known = providers.entry(provider_id.to_owned()).or_default();
            known.callback_key = change.callback_key.or(known.callback_key.take());
            known.signing_secret = change.signing_secret.or(known.signing_secret.take());
            known.api_url = change.api_url.or(known.api_url.take());
            known.one_per_slot = change.one_per_slot.or(known.one_per_slot);
            known.utc_offset_minutes = change.utc_offset_minutes.or(known.utc_offset_minutes);
            known.opens_at_hour = change.opens_at_hour.or(known.opens_at_hour);
            known.closes_at_hour = change.closes_at_hour.or(known.closes_at_hour);
            known.capacity = change.capacity.or(known.capacity);
            Ok(json!({
                "provider_id": provider_id,
                "has_callback_key": known.callback_key.is_some(),
                "has_signing_secret": known.signing_secret.is_some(),
                "api_url": known.api_url.as_ref().or(inner.config.api_url.as_ref()),
                "one_per_slot": known.one_per_slot.unwrap_or_default(),
                "utc_offset_minutes": known.utc_offset_minutes.unwrap_or_default(),
                "opens_at_hour": known.opens_at_hour,
                "closes_at_hour": known.closes_at_hour,
                "capacity": known.capacity,
            }))
        })
    }

    pub(super) fn signing_secret(&self, provider_id: &str) -> Option<String> {
        self.with(|inner| inner.config.providers.get(provider_id)?.signing_secret.clone())
    }

    /// Whether the provider refuses a slot that another live booking has.
    pub(super) fn is_one_per_slot(&self, provider_id: &str) -> bool {
        self.with(|inner| inner.config.providers.get(provider_id)?.one_per_slot).unwrap_or_default()
    }

    /// When the provider is open, where it is not configured as is `usual`.
    pub(super) fn opening(&self, provider_id: &str, usual: Opening) -> Opening {
        self.with(|inner| {
            let Some(provider) = inner.config.providers.get(provider_id) else { return usual };
            Opening {
                opens_at_hour: provider.opens_at_hour.unwrap_or(usual.opens_at_hour),
                closes_at_hour: provider.closes_at_hour.unwrap_or(usual.closes_at_hour),
                capacity: provider.capacity.unwrap_or(usual.capacity),
                utc_offset_minutes: provider.utc_offset_minutes.unwrap_or(usual.utc_offset_minutes),
                one_per_slot: provider.one_per_slot.unwrap_or(usual.one_per_slot),
                step_minutes: usual.step_minutes,
            }
        })
    }

    /// `None` as long as the key or the address is not known.
    pub(super) fn callback_target(&self, provider_id: &str) -> Option<CallbackTarget> {
        self.with(|inner| {
            let provider = inner.config.providers.get(provider_id)?;
            let api_url = provider.api_url.clone().or_else(|| inner.config.api_url.clone())?;
            Some(CallbackTarget { api_url, key: provider.callback_key.clone()? })
        })
    }

    pub(super) fn change_behaviours<T>(&self, change: impl FnOnce(&mut Behaviours) -> T) -> T {
        self.with(|inner| change(&mut inner.behaviours))
    }

    /// The behaviour that this call meets, which uses up a `next`.
    pub(super) fn choose(&self, provider_id: &str, location_id: Option<&str>, op: Operation) -> Behaviour {
        let call = CallFacts { provider_id, location_id, operation: op };
        self.with(|inner| inner.behaviours.choose(call))
    }

    // ---- books -------------------------------------------------------------------------------------------

    pub(super) fn epoch(&self) -> Epoch {
        self.with(|inner| Epoch(inner.epoch))
    }

    /// Lets `work` see the books, unless they were emptied since `epoch`.
    pub(super) fn with_ledger<T>(
        &self,
        epoch: Epoch,
        work: impl FnOnce(&mut Ledger, Timestamp) -> T,
    ) -> Option<T> {
        self.with(|inner| (Epoch(inner.epoch) == epoch).then(|| work(&mut inner.ledger, clock::now())))
    }

    /// How something undecided was decided, unless it is undecided no more.
    pub(super) fn decide(
        &self,
        epoch: Epoch,
        key: &Key,
        number: u64,
        status: CallbackStatus,
        terms: &Terms,
    ) -> Option<Decision> {
        self.with_ledger(epoch, |ledger, now| ledger.decide(key, number, status, terms, now)).flatten()
    }

    pub(super) fn location_id(&self, key: &Key) -> Option<String> {
        self.with(|inner| inner.ledger.location_id(key))
    }

    pub(super) fn bookings(&self, wanted: impl Fn(&str, &str) -> bool) -> Value {
        self.with(|inner| inner.ledger.list(|key| wanted(&key.provider_id, &key.booking_id), clock::now()))
    }

    pub(super) fn held_slots(&self, wanted: impl Fn(&str, &str) -> bool) -> Value {
        self.with(|inner| inner.ledger.held_slots(wanted, clock::now()))
    }

    /// Forgets bookings, calls and call-backs, and what is still to take effect.
    pub(super) fn clear(&self) {
        self.with(|inner| {
            inner.epoch += 1;
            inner.ledger.clear();
            inner.calls.clear();
            inner.callbacks.clear();
        });
    }

    // ---- logs --------------------------------------------------------------------------------------------

    /// Logs a call that has arrived, and gives its sequence number.
    pub(super) fn record_call(&self, mut record: CallRecord) -> u64 {
        self.with(|inner| {
            inner.calls_seen += 1;
            record.sequence = inner.calls_seen;
            push_bounded(&mut inner.calls, record);
            inner.calls_seen
        })
    }

    /// Adds the answer to a logged call, unless it has been forgotten.
    pub(super) fn record_answer(&self, sequence: u64, status: u16, latency_ms: u64) {
        self.with(|inner| {
            if let Some(call) = inner.calls.iter_mut().rev().find(|call| call.sequence == sequence) {
                call.answered_status = Some(status);
                call.latency_ms = Some(latency_ms);
            }
        });
    }

    pub(super) fn record_callback(&self, record: CallbackRecord) {
        self.with(|inner| push_bounded(&mut inner.callbacks, record));
    }

    pub(super) fn calls(&self, wanted: impl Fn(&CallRecord) -> bool) -> Vec<CallRecord> {
        self.with(|inner| inner.calls.iter().filter(|call| wanted(call)).cloned().collect())
    }

    pub(super) fn callbacks(&self, wanted: impl Fn(&CallbackRecord) -> bool) -> Vec<CallbackRecord> {
        self.with(|inner| inner.callbacks.iter().filter(|record| wanted(record)).cloned().collect())
    }
}

fn push_bounded<T>(log: &mut VecDeque<T>, entry: T) {
    if log.len() >= MAX_LOG_ENTRIES {
        log.pop_front();
    }
    log.push_back(entry);
}
