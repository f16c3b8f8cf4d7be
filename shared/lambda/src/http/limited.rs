//! Requests of consumers within their limit.

use holdfast_app::ports::{Clock, RequestCounter};
use holdfast_app::problem::Problem;
use holdfast_app::rates::RequestRates;
use holdfast_domain::Tenant;
use tokio::join;

use super::Response;

/// Serves a consumer's request if it may be made. What has to be reported of it is reported meanwhile, and the answer
/// says how the consumer stands, once that is known.
pub async fn limited(
    rates: &RequestRates,
    counter: &impl RequestCounter,
    clock: &impl Clock,
    tenant: &Tenant,
    serving: impl Future<Output = Result<Response, Problem>>,
) -> Result<Response, Problem> {
    let now = clock.now();
    let admitted = rates.admit(tenant, now)?;
    let (served, rate) = join!(serving, rates.report(counter, admitted, now));
    let Some(rate) = rate else { return served };
    served.map(|response| response.with_rate(rate)).map_err(|problem| problem.with_rate(rate))
}
