//! How many requests a consumer may make.
//!
//! Requests are counted in fixed windows of a minute, for each tenant by itself, so that nobody uses up what is
//! another's. An instance lets through a chunk on credit and reports it by one write, which is under way while the
//! request that made the chunk full is being served: nobody waits for it. What comes back is what all instances have
//! reported, and from then on the instance knows whether there is anything left. So an instance may let through at
//! most a chunk more than there is (1/[`CHUNKS`] of the quota, at most [`MAX_CHUNK`] requests), and what is left over
//! in a chunk at the end of a window is never reported. Two windows side by side may let through twice the quota
//! within one minute around their border.
//!
//! A counter that does not answer is passed over: limits protect, they must not harm. It is tried again when there is
//! twice as much to report, so that few requests wait for it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_domain::{Tenant, Timestamp};
use tokio::time::timeout;

use crate::ports::RequestCounter;
use crate::problem::{Problem, ProblemCode};

/// A window's length, in seconds.
pub const WINDOW_S: u32 = 60;

/// How many requests a consumer may make a second, on average over a window, unless an administrator says otherwise.
pub const DEFAULT_REQUESTS_PER_SECOND: u32 = 50;

/// The most requests a second that can be configured.
pub const MAX_REQUESTS_PER_SECOND: u32 = 10_000;

/// Into how many chunks a quota is cut.
const CHUNKS: u32 = 300;

/// The most requests of a chunk.
const MAX_CHUNK: u32 = 10;

/// How long a report may hold up a request that is served already.
const REPORT_LIMIT: Duration = Duration::from_millis(250);

/// The most tenants whose requests a process remembers.
const MAX_REMEMBERED: usize = 10_000;

const WINDOW_MS: i64 = WINDOW_S as i64 * 1_000;

/// What a consumer is told of its limit (draft-ietf-httpapi-ratelimit-headers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateState {
    /// How many requests a window has.
    pub quota: u32,
    /// How many are left, as far as this instance knows.
    pub remaining: u32,
    /// In how many seconds the window ends.
    pub reset_s: u32,
}

/// A request that may be served, and what has to be reported beside that ([`RequestRates::report`]).
#[derive(Debug)]
#[must_use = "what is not reported is not counted"]
pub struct Admitted {
    tenant: Tenant,
    window: i64,
    report: Option<Report>,
}

/// The requests of all consumers, as far as this process knows. Clones share what they know.
#[derive(Clone, Default)]
pub struct RequestRates {
    accounts: Arc<Mutex<HashMap<Tenant, Account>>>,
}

impl fmt::Debug for RequestRates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RequestRates")
    }
}

impl RequestRates {
    /// Whether a tenant may make one more request.
    pub fn admit(&self, tenant: &Tenant, now: Timestamp) -> Result<Admitted, Problem> {
        let window = window_of(now);
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= MAX_REMEMBERED && !accounts.contains_key(tenant) {
            // What is lost is what was not reported.
            accounts.clear();
        }
        let account = accounts.entry(tenant.clone()).or_default();
        account.go_to(window);
        if account.is_used_up() {
            return Err(refused(account.state(now)));
        }
        account.unreported = account.unreported.saturating_add(1);
        let requests = account.due_report();
        if requests > 0 {
            account.unreported = 0;
            account.in_report = requests;
        }
        let report = (requests > 0).then(|| Report {
            accounts: Arc::clone(&self.accounts),
            tenant: tenant.clone(),
            window,
            requests,
            is_over: false,
        });
        Ok(Admitted { tenant: tenant.clone(), window, report })
    }

    /// Makes the report that a request has to make, if any, and says how the tenant stands, if that is known. It is for
    /// being waited for together with the answer, not before it; it takes 250 ms at the most.
    pub async fn report(
        &self,
        counter: &impl RequestCounter,
        admitted: Admitted,
        now: Timestamp,
    ) -> Option<RateState> {
        let Admitted { tenant, window, report } = admitted;
        if let Some(report) = report {
            report.make(counter).await;
        }
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let account = accounts.entry(tenant).or_default();
        account.go_to(window);
        account.is_known.then(|| account.state(now))
    }
}

/// What a process knows of a tenant's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    /// Which window it is about, counted from the Unix epoch.
    window: i64,
    /// What all instances have reported of it.
    total: u32,
    /// What this process has let through since its last report.
    unreported: u32,
    /// What is being reported; 0 if no report is under way.
    in_report: u32,
    /// How many unreported requests there have to be for another report, after one that came to nothing; else 0.
    put_off_until: u32,
    /// How many requests a second the consumer may make; `None` until it is known, or if nobody has said.
    requests_per_second: Option<u32>,
    /// Whether that is known.
    is_known: bool,
}

impl Account {
    /// Goes to a window. A clock that goes back stays in the later one.
    fn go_to(&mut self, window: i64) {
        if window > self.window {
            let Self { requests_per_second, is_known, .. } = *self;
            *self = Self { window, requests_per_second, is_known, ..Self::default() };
        }
    }

    fn quota(&self) -> u32 {
        self.requests_per_second.unwrap_or(DEFAULT_REQUESTS_PER_SECOND).saturating_mul(WINDOW_S)
    }

    fn made(&self) -> u32 {
        self.total.saturating_add(self.in_report).saturating_add(self.unreported)
    }

    fn is_used_up(&self) -> bool {
        self.is_known && self.made() >= self.quota()
    }

    /// How many requests are to be reported now: none while a report is under way, or while less than a chunk is there.
    fn due_report(&self) -> u32 {
        let chunk = (self.quota() / CHUNKS).clamp(1, MAX_CHUNK);
        let is_due = self.in_report == 0 && self.unreported >= chunk.max(self.put_off_until);
        if is_due { self.unreported } else { 0 }
    }

    /// Takes requests back that could not be counted.
    fn put_off(&mut self, requests: u32) {
        self.unreported = self.unreported.saturating_add(requests);
        self.put_off_until = self.unreported.saturating_mul(2);
    }

    fn state(&self, now: Timestamp) -> RateState {
        let ends_ms = self.window.saturating_add(1).saturating_mul(WINDOW_MS);
        let left_ms = ends_ms.saturating_sub(now.as_unix_ms()).max(1).unsigned_abs();
        RateState {
            quota: self.quota(),
            remaining: self.quota().saturating_sub(self.made()),
            reset_s: u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX),
        }
    }
}

/// A report that is under way. One that is given up leaves its requests to the next, one that
/// fails to a later one.
#[derive(Debug)]
struct Report {
    accounts: Arc<Mutex<HashMap<Tenant, Account>>>,
    tenant: Tenant,
    window: i64,
    requests: u32,
    is_over: bool,
}

impl Report {
    async fn make(mut self, counter: &impl RequestCounter) {
        let begins_at = Timestamp::from_unix_ms(self.window.saturating_mul(WINDOW_MS));
        let Ok(begins_at) = begins_at else { return };
        let count = counter.count_requests(&self.tenant, begins_at, self.requests);
        let outcome = timeout(REPORT_LIMIT, count).await;
        self.is_over = true;
        match outcome {
            Ok(Ok(all)) => self.end(|account| {
                account.total = account.total.max(all.total);
                account.put_off_until = 0;
                account.requests_per_second = all.requests_per_second;
                account.is_known = true;
            }),
            Ok(Err(error)) => {
                tracing::warn!(%error, "A consumer's requests could not be counted.");
                self.end(|account| account.put_off(self.requests));
            }
            Err(_) => {
                tracing::warn!("Counting a consumer's requests took too long.");
                self.end(|account| account.put_off(self.requests));
            }
        }
    }

    fn end(&self, take_note: impl FnOnce(&mut Account)) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(account) = accounts.get_mut(&self.tenant) else { return };
        if account.window == self.window {
            account.in_report = 0;
            take_note(account);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(|account| account.unreported = account.unreported.saturating_add(self.requests));
        }
    }
}

fn refused(state: RateState) -> Problem {
    let RateState { quota, reset_s, .. } = state;
    let detail =
        format!("There were {quota} requests within this window of {WINDOW_S} s, which is all there may be.");
    Problem::new(ProblemCode::RateLimited, detail).retry_after_s(reset_s.into()).with_rate(state)
}

fn window_of(now: Timestamp) -> i64 {
    now.as_unix_ms().div_euclid(WINDOW_MS)
}

#[cfg(test)]
mod tests;
