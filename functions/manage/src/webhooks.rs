//! Consumers' calls for their webhook endpoints.

use holdfast_app::manage::{self, AttemptParameters};
use holdfast_app::ports::{
    AttemptLog, AvailabilityStore, Clock, ConfigurationStore, EndpointStore, Entropy, EventFeed,
    LocationStore, ReplayQueue, RequestCounter, SettingsReader, WebhookSender,
};
use holdfast_app::problem::Problem;
use holdfast_domain::Tenant;
use holdfast_lambda::http::{Request, Response, Routed, json_body};
use http::StatusCode;
use http::header::LOCATION;

use crate::{Endpoints, Manage, Route, gone, ok};

/// What the calls for webhook endpoints need beside the configuration.
#[derive(Debug)]
pub struct Webhooks<L, Q, W> {
    /// The log of attempts.
    pub log: L,
    /// Where replays are asked for.
    pub replays: Q,
    /// Tries endpoints.
    pub sender: W,
}

impl<S, A, F, L, Q, W, C, E> Manage<S, A, F, L, Q, W, C, E>
where
    S: ConfigurationStore + EndpointStore + LocationStore + RequestCounter + SettingsReader,
    A: AvailabilityStore,
    F: EventFeed,
    L: AttemptLog,
    Q: ReplayQueue,
    W: WebhookSender,
    C: Clock,
    E: Entropy,
{
    pub(crate) async fn endpoints(
        &self,
        call: Endpoints,
        tenant: &Tenant,
        request: &Request,
        routed: &Routed<Route>,
    ) -> Result<Response, Problem> {
        let now = self.clock.now();
        let (store, id) = (&*self.store, routed.parameter("id"));
        let Webhooks { log, replays, sender } = &self.webhooks;
        match call {
            Endpoints::Create => {
                let body = json_body(request)?;
                let made =
                    manage::create_endpoint(store, &self.entropy, self.rules, tenant, &body, now).await?;
                let location = format!("{}/{}", request.path, made["id"].as_str().unwrap_or_default());
                Ok(Response::json(StatusCode::CREATED, &made).with_header(LOCATION, &location))
            }
            Endpoints::List => ok(&manage::endpoints(store, tenant, now).await?),
            Endpoints::Get => ok(&manage::endpoint(store, tenant, id, now).await?),
            Endpoints::Patch => {
                let body = json_body(request)?;
                ok(&manage::patch_endpoint(store, self.rules, tenant, id, &body, now).await?)
            }
            Endpoints::Delete => gone(manage::delete_endpoint(store, tenant, id).await),
            Endpoints::RotateSecret => {
                ok(&manage::rotate_secret(store, &self.entropy, tenant, id, now).await?)
            }
            Endpoints::Test => {
                let (clock, entropy) = (&self.clock, &self.entropy);
                ok(&manage::test_endpoint(store, sender, clock, entropy, tenant, id).await?)
            }
            Endpoints::Deliveries => {
                request.only_query(&AttemptParameters::NAMES)?;
                let wanted = AttemptParameters {
                    limit: request.query_value("limit")?,
                    cursor: request.query_value("cursor")?,
                    event_id: request.query_value("event_id")?,
                    status: request.query_value("status")?,
                };
                ok(&manage::attempts(store, log, tenant, id, &wanted, now).await?)
            }
            Endpoints::Replay => {
                let body = json_body(request)?;
                let asked = manage::replay(store, replays, tenant, id, &body, now).await?;
                Ok(Response::json(StatusCode::ACCEPTED, &asked))
            }
        }
    }
}
