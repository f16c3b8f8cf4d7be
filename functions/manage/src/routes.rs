//! Which calls there are.

use holdfast_app::manage::OwnerKind;
use holdfast_lambda::http::{RouteError, Router};
use http::Method;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Needs no key.
    Open(Open),
    /// Needs an administrator's key.
    Admin(Admin),
    /// Needs a consumer's key.
    Consumer(Consumer),
}

/// Calls for consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// Of webhook endpoints.
    Endpoints(Endpoints),
    /// `GET /v1/events`
    Feed,
}

/// Calls that are open to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// `GET /health`
    Health,
    /// `GET /problems`
    Problems,
    /// `GET /problems/{code}`
    Problem,
    /// `GET /v1/openapi.json`
    Description,
    /// `GET /docs`
    Page,
    /// `GET /docs/{asset}`
    PageAsset,
}

/// Calls for administrators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// `PUT /v1/admin/consumers/{id}`
    PutConsumer,
    /// `GET /v1/admin/consumers/{id}`
    GetConsumer,
    /// `GET /v1/admin/consumers`
    ListConsumers,
    /// `DELETE /v1/admin/consumers/{id}`
    DeleteConsumer,
    /// `PUT /v1/admin/providers/{id}`
    PutProvider,
    /// `GET /v1/admin/providers/{id}`
    GetProvider,
    /// `GET /v1/admin/providers`
    ListProviders,
    /// `DELETE /v1/admin/providers/{id}`
    DeleteProvider,
    /// `PUT /v1/admin/providers/{id}/locations/{location_id}`
    PutLocation,
    /// `GET /v1/admin/providers/{id}/locations/{location_id}`
    GetLocation,
    /// `GET /v1/admin/providers/{id}/locations`
    ListLocations,
    /// `DELETE /v1/admin/providers/{id}/locations/{location_id}`
    DeleteLocation,
    /// `POST /v1/admin/{consumers|providers}/{id}/keys`
    CreateKey(OwnerKind),
    /// `GET /v1/admin/{consumers|providers}/{id}/keys`
    ListKeys(OwnerKind),
    /// `DELETE /v1/admin/{consumers|providers}/{id}/keys/{key_id}`
    RevokeKey(OwnerKind),
}

/// Calls of webhook endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// `POST /v1/webhook-endpoints`
    Create,
    /// `GET /v1/webhook-endpoints`
    List,
    /// `GET /v1/webhook-endpoints/{id}`
    Get,
    /// `PATCH /v1/webhook-endpoints/{id}`
    Patch,
    /// `DELETE /v1/webhook-endpoints/{id}`
    Delete,
    /// `POST /v1/webhook-endpoints/{id}/rotate-secret`
    RotateSecret,
    /// `POST /v1/webhook-endpoints/{id}/test`
    Test,
    /// `GET /v1/webhook-endpoints/{id}/deliveries`
    Deliveries,
    /// `POST /v1/webhook-endpoints/{id}/replay`
    Replay,
}

const CONSUMERS: &str = "/v1/admin/consumers";
const CONSUMER: &str = "/v1/admin/consumers/{id}";
const CONSUMER_KEYS: &str = "/v1/admin/consumers/{id}/keys";
const CONSUMER_KEY: &str = "/v1/admin/consumers/{id}/keys/{key_id}";
const PROVIDERS: &str = "/v1/admin/providers";
const PROVIDER: &str = "/v1/admin/providers/{id}";
const LOCATIONS: &str = "/v1/admin/providers/{id}/locations";
const LOCATION: &str = "/v1/admin/providers/{id}/locations/{location_id}";
const PROVIDER_KEYS: &str = "/v1/admin/providers/{id}/keys";
const PROVIDER_KEY: &str = "/v1/admin/providers/{id}/keys/{key_id}";
const ENDPOINTS: &str = "/v1/webhook-endpoints";
const EVENTS: &str = "/v1/events";
const ENDPOINT: &str = "/v1/webhook-endpoints/{id}";
const ROTATE_SECRET: &str = "/v1/webhook-endpoints/{id}/rotate-secret";
const TEST: &str = "/v1/webhook-endpoints/{id}/test";
const DELIVERIES: &str = "/v1/webhook-endpoints/{id}/deliveries";
const REPLAY: &str = "/v1/webhook-endpoints/{id}/replay";

/// The table of calls.
pub fn router() -> Result<Router<Route>, RouteError> {
    let of_endpoints = |call| Route::Consumer(Consumer::Endpoints(call));
    Router::new(&[
        (Method::GET, "/health", Route::Open(Open::Health)),
        (Method::GET, "/problems", Route::Open(Open::Problems)),
        (Method::GET, "/problems/{code}", Route::Open(Open::Problem)),
        (Method::GET, "/v1/openapi.json", Route::Open(Open::Description)),
        (Method::GET, "/docs", Route::Open(Open::Page)),
        (Method::GET, "/docs/{asset}", Route::Open(Open::PageAsset)),
        (Method::PUT, CONSUMER, Route::Admin(Admin::PutConsumer)),
        (Method::GET, CONSUMER, Route::Admin(Admin::GetConsumer)),
        (Method::GET, CONSUMERS, Route::Admin(Admin::ListConsumers)),
        (Method::DELETE, CONSUMER, Route::Admin(Admin::DeleteConsumer)),
        (Method::PUT, PROVIDER, Route::Admin(Admin::PutProvider)),
        (Method::GET, PROVIDER, Route::Admin(Admin::GetProvider)),
        (Method::GET, PROVIDERS, Route::Admin(Admin::ListProviders)),
        (Method::DELETE, PROVIDER, Route::Admin(Admin::DeleteProvider)),
        (Method::PUT, LOCATION, Route::Admin(Admin::PutLocation)),
        (Method::GET, LOCATION, Route::Admin(Admin::GetLocation)),
        (Method::GET, LOCATIONS, Route::Admin(Admin::ListLocations)),
        (Method::DELETE, LOCATION, Route::Admin(Admin::DeleteLocation)),
        (Method::POST, CONSUMER_KEYS, Route::Admin(Admin::CreateKey(OwnerKind::Consumer))),
        (Method::GET, CONSUMER_KEYS, Route::Admin(Admin::ListKeys(OwnerKind::Consumer))),
        (Method::DELETE, CONSUMER_KEY, Route::Admin(Admin::RevokeKey(OwnerKind::Consumer))),
        (Method::POST, PROVIDER_KEYS, Route::Admin(Admin::CreateKey(OwnerKind::Provider))),
        (Method::GET, PROVIDER_KEYS, Route::Admin(Admin::ListKeys(OwnerKind::Provider))),
        (Method::DELETE, PROVIDER_KEY, Route::Admin(Admin::RevokeKey(OwnerKind::Provider))),
        (Method::POST, ENDPOINTS, of_endpoints(Endpoints::Create)),
        (Method::GET, ENDPOINTS, of_endpoints(Endpoints::List)),
        (Method::GET, ENDPOINT, of_endpoints(Endpoints::Get)),
        (Method::PATCH, ENDPOINT, of_endpoints(Endpoints::Patch)),
        (Method::DELETE, ENDPOINT, of_endpoints(Endpoints::Delete)),
        (Method::POST, ROTATE_SECRET, of_endpoints(Endpoints::RotateSecret)),
        (Method::POST, TEST, of_endpoints(Endpoints::Test)),
        (Method::GET, DELIVERIES, of_endpoints(Endpoints::Deliveries)),
        (Method::POST, REPLAY, of_endpoints(Endpoints::Replay)),
        (Method::GET, EVENTS, Route::Consumer(Consumer::Feed)),
    ])
}
