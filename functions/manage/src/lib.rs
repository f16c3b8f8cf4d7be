//! The function for everything that is configured, and for what is open to all: administration of
//! consumers, providers and keys, webhook endpoints, the event feed, documents, health, and unknown routes.
//!
//! It decides who may call what and turns the use cases' results into answers. It never touches bookings.

mod description;
mod documents;
mod routes;
mod webhooks;

use std::sync::Arc;

use holdfast_app::callers::Caller;
use holdfast_app::feed::{FeedParameters, feed, read_feed};
use holdfast_app::manage::{self, TargetRules};
use holdfast_app::ports::{
    AttemptLog, AvailabilityStore, Clock, ConfigurationStore, EndpointStore, Entropy, EventFeed,
    LocationStore, ReplayQueue, RequestCounter, SettingsReader, WebhookSender,
};
use holdfast_app::problem::Problem;
use holdfast_app::rates::RequestRates;
use holdfast_app::settings::KeyHash;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_domain::{Tenant, Timestamp};
use holdfast_lambda::http::{Request, Response, Routed, json_body, limited};
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::Value;

pub use routes::{Admin, Consumer, Endpoints, Open, Route, router};
pub use webhooks::Webhooks;

/// The function, over what it needs of the world.
#[derive(Debug)]
pub struct Manage<S, A, F, L, Q, W, C, E> {
    store: Arc<S>,
    availability: A,
    feed: F,
    webhooks: Webhooks<L, Q, W>,
    settings: SettingsCache<Arc<S>>,
    rates: RequestRates,
    admins: Vec<KeyHash>,
    rules: TargetRules,
    clock: C,
    entropy: E,
}

/// What the function reads and writes.
#[derive(Debug)]
pub struct Stores<S, A, F> {
    /// Consumers, providers, locations, keys and webhook endpoints.
    pub settings: S,
    /// What is remembered of availability.
    pub availability: A,
    /// The feeds of events.
    pub feed: F,
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
    /// A function that knows these administrators.
    pub fn new(
        stores: Stores<S, A, F>,
        webhooks: Webhooks<L, Q, W>,
        admins: Vec<KeyHash>,
        rules: TargetRules,
        clock: C,
        entropy: E,
    ) -> Self {
        let Stores { settings, availability, feed } = stores;
        let store = Arc::new(settings);
        let settings = SettingsCache::new(Arc::clone(&store));
        let rates = RequestRates::default();
        Self { store, availability, feed, webhooks, settings, rates, admins, rules, clock, entropy }
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request, routed: Routed<Route>) -> Result<Response, Problem> {
        match routed.key {
            Route::Open(open) => documents::answer(open, &request, &routed),
            Route::Admin(admin) => self.administer(admin, &request, &routed).await,
            // On the heap, since it is large.
            Route::Consumer(call) => Box::pin(self.serve(call, &request, &routed)).await,
        }
    }

    async fn administer(
        &self,
        call: Admin,
        request: &Request,
        routed: &Routed<Route>,
    ) -> Result<Response, Problem> {
        let now = self.clock.now();
        self.caller(request, now).await?.administrator()?;
        let (store, id) = (&*self.store, routed.parameter("id"));
        match call {
            Admin::PutConsumer => ok(&manage::put_consumer(store, id, &json_body(request)?).await?),
            Admin::GetConsumer => ok(&manage::consumer(store, id).await?),
            Admin::ListConsumers => ok(&manage::consumers(store).await?),
            Admin::DeleteConsumer => gone(manage::delete_consumer(store, id, now).await),
            Admin::PutProvider => {
                ok(&manage::put_provider(store, self.rules, id, &json_body(request)?).await?)
            }
            Admin::GetProvider => ok(&manage::provider(store, id).await?),
            Admin::ListProviders => ok(&manage::providers(store).await?),
            Admin::DeleteProvider => gone(manage::delete_provider(store, &self.availability, id, now).await),
            Admin::PutLocation => {
                let location_id = routed.parameter("location_id");
                ok(&manage::put_location(store, id, location_id, &json_body(request)?).await?)
            }
            Admin::GetLocation => ok(&manage::location(store, id, routed.parameter("location_id")).await?),
            Admin::ListLocations => ok(&manage::locations(store, id).await?),
            Admin::DeleteLocation => {
                let location_id = routed.parameter("location_id");
                gone(manage::delete_location(store, &self.availability, id, location_id).await)
            }
            Admin::CreateKey(kind) => {
                let body = json_body(request)?;
                let key = manage::create_key(store, &self.entropy, kind, id, &body, now).await?;
                Ok(Response::json(StatusCode::CREATED, &key))
            }
            Admin::ListKeys(kind) => ok(&manage::keys(store, kind, id).await?),
            Admin::RevokeKey(kind) => {
                gone(manage::revoke_key(store, kind, id, routed.parameter("key_id"), now).await)
            }
        }
    }

    async fn serve(
        &self,
        call: Consumer,
        request: &Request,
        routed: &Routed<Route>,
    ) -> Result<Response, Problem> {
        let tenant = self.caller(request, self.clock.now()).await?.consumer()?;
        let serving = async {
            match call {
                Consumer::Endpoints(call) => self.endpoints(call, &tenant, request, routed).await,
                Consumer::Feed => self.feed(&tenant, request).await,
            }
        };
        limited(&self.rates, &*self.store, &self.clock, &tenant, serving).await
    }

    async fn feed(&self, tenant: &Tenant, request: &Request) -> Result<Response, Problem> {
        let now = self.clock.now();
        request.only_query(&FeedParameters::NAMES)?;
        let wanted = FeedParameters {
            after: request.query_value("after")?,
            limit: request.query_value("limit")?,
            event_type: request.query_value("type")?,
        };
        let answer = feed(&self.feed, &read_feed(tenant, &wanted)?, now).await?;
        Ok(Response::json_bytes(StatusCode::OK, answer.to_json()))
    }

    async fn caller(&self, request: &Request, now: Timestamp) -> Result<Caller, Problem> {
        let authorization = request.header(AUTHORIZATION.as_str())?;
        Caller::of(&self.settings, &self.admins, authorization, now).await
    }
}

/// An answer with a body. It is a `Result` so that the calls read alike.
#[allow(clippy::unnecessary_wraps, reason = "each call of a table of calls returns the same type")]
fn ok(body: &Value) -> Result<Response, Problem> {
    Ok(Response::json(StatusCode::OK, body))
}

fn gone(outcome: Result<(), Problem>) -> Result<Response, Problem> {
    outcome.map(|()| Response::empty(StatusCode::NO_CONTENT))
}
