//! Where the requests of consumers are counted.

use holdfast_domain::{Tenant, Timestamp};

use super::StoreError;

/// What is known of a tenant's requests in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedRequests {
    /// How many all instances have reported, these included.
    pub total: u32,
    /// How many the consumer may make a second; `None` if nobody has said.
    pub requests_per_second: Option<u32>,
}

/// Counts the requests of consumers, for all instances.
pub trait RequestCounter: Send + Sync {
    /// Adds to what a tenant has asked in the window that begins then. Everything added MUST be in some later total.
    /// What is reported as an error MAY be counted.
    fn count_requests(
        &self,
        tenant: &Tenant,
        window_begins_at: Timestamp,
        requests: u32,
    ) -> impl Future<Output = Result<CountedRequests, StoreError>> + Send;
}
