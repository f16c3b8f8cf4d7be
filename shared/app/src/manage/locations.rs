//! The locations of providers: whose availability is asked for, and in which time zone.

use holdfast_domain::{LocationId, ProviderId, Zone};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{check, list, not_found};
use crate::bookings::MAX_ID_CHARS;
use crate::parse::{FieldErrors, parse_checked};
use crate::ports::{AvailabilityStore, ConfigurationStore, LocationStore, Place};
use crate::problem::{FieldError, Problem, ProblemCode};
use crate::settings::{LocationSettings, OfferedService, Protocol, ProviderSettings};
use crate::settings_cache::configuration_problem;

const WHAT: &str = "location";

/// The most services of a location: each is asked for by itself.
const MAX_SERVICES: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocationBody {
    name: String,
    time_zone: String,
    #[serde(default)]
    services: Vec<ServiceBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceBody {
    service_id: String,
    resource_id: Option<String>,
}

fn view(location: &LocationSettings) -> Value {
    let service = |service: &OfferedService| match &service.resource_id {
        Some(resource_id) => json!({"service_id": service.service_id, "resource_id": resource_id}),
        None => json!({"service_id": service.service_id}),
    };
    json!({
        "id": location.location_id.as_str(),
        "name": location.display_name,
        "time_zone": location.zone.name(),
        "services": location.services.iter().map(service).collect::<Vec<_>>(),
    })
}

/// Makes a location, or replaces what is configured of it. It is asked for within five minutes.
pub async fn put_location(
    store: &(impl ConfigurationStore + LocationStore),
    provider: &str,
    id: &str,
    body: &Value,
) -> Result<Value, Problem> {
    let provider = provider_of(store, provider).await?;
    let location_id = LocationId::parse(id).map_err(|error| {
        let detail = error.to_string();
        Problem::new(ProblemCode::InvalidParameter, format!("The location in the path {detail}."))
            .with_errors(vec![FieldError::new("location_id", detail)])
    })?;
    let (body, mut errors) = parse_checked::<LocationBody>(body)?.into_parts();
    check::display_name(&mut errors, "/name", &body.name);
    let zone = Zone::parse(&body.time_zone).unwrap_or_else(|error| {
        errors.push("/time_zone", error.to_string());
        Zone::utc()
    });
    let services = read_services(body.services, provider.protocol, &mut errors);
    errors.finish()?;
    let location = LocationSettings { location_id, display_name: body.name, zone, services };
    let put = store.put_location(&provider.provider_id, &location).await;
    put.map_err(|error| configuration_problem(&error))?;
    Ok(view(&location))
}

fn read_services(
    services: Vec<ServiceBody>,
    protocol: Protocol,
    errors: &mut FieldErrors,
) -> Vec<OfferedService> {
    const POINTER: &str = "/services";
    match protocol {
        Protocol::Octo if services.is_empty() => {
            errors.push(POINTER, "is required: this protocol has to be asked for each service by itself");
        }
        Protocol::Holdfast | Protocol::Docplanner if !services.is_empty() => {
            errors.push(POINTER, "belongs to protocol octo alone; others name the services themselves");
        }
        Protocol::Octo | Protocol::Holdfast | Protocol::Docplanner => {}
    }
    if services.len() > MAX_SERVICES {
        errors.push(POINTER, format!("has {} entries; at most {MAX_SERVICES} are allowed", services.len()));
    }
    for (index, service) in services.iter().enumerate().take(MAX_SERVICES) {
        check::name(errors, &format!("{POINTER}/{index}/service_id"), &service.service_id, MAX_ID_CHARS);
        if let Some(resource_id) = &service.resource_id {
            check::name(errors, &format!("{POINTER}/{index}/resource_id"), resource_id, MAX_ID_CHARS);
        }
        let is_named = |other: &ServiceBody| {
            (&other.service_id, &other.resource_id) == (&service.service_id, &service.resource_id)
        };
        if services.iter().take(index).any(is_named) {
            errors.push(format!("{POINTER}/{index}"), "is there twice");
        }
    }
    let offered = |service: ServiceBody| OfferedService {
        service_id: service.service_id,
        resource_id: service.resource_id,
    };
    services.into_iter().map(offered).collect()
}

/// One location.
pub async fn location(
    store: &(impl ConfigurationStore + LocationStore),
    provider: &str,
    id: &str,
) -> Result<Value, Problem> {
    let provider = provider_of(store, provider).await?;
    let id = LocationId::parse(id).map_err(|_| not_found(WHAT))?;
    let found = store.locations_named(&provider.provider_id, &[id]).await;
    let found = found.map_err(|error| configuration_problem(&error))?;
    found.first().map(view).ok_or_else(|| not_found(WHAT))
}

/// All locations of a provider.
pub async fn locations(
    store: &(impl ConfigurationStore + LocationStore),
    provider: &str,
) -> Result<Value, Problem> {
    let provider = provider_of(store, provider).await?;
    let found = store.locations(&provider.provider_id).await;
    let found = found.map_err(|error| configuration_problem(&error))?;
    Ok(list(found.iter().map(view)))
}

/// Removes a location, and with it what is remembered of its availability. If it was broken off half-way, a
/// repetition finishes it.
pub async fn delete_location(
    store: &(impl ConfigurationStore + LocationStore),
    availability: &impl AvailabilityStore,
    provider: &str,
    id: &str,
) -> Result<(), Problem> {
    let provider = provider_of(store, provider).await?;
    let id = LocationId::parse(id).map_err(|_| not_found(WHAT))?;
    let existed = remove(store, availability, &provider.provider_id, &id).await?;
    if existed { Ok(()) } else { Err(not_found(WHAT)) }
}

/// Removes all locations of a provider. Returns whether there were any.
pub(super) async fn remove_all(
    store: &impl LocationStore,
    availability: &impl AvailabilityStore,
    provider_id: &ProviderId,
) -> Result<bool, Problem> {
    let found = store.locations(provider_id).await.map_err(|error| configuration_problem(&error))?;
    for location in &found {
        remove(store, availability, provider_id, &location.location_id).await?;
    }
    Ok(!found.is_empty())
}

async fn remove(
    store: &impl LocationStore,
    availability: &impl AvailabilityStore,
    provider_id: &ProviderId,
    id: &LocationId,
) -> Result<bool, Problem> {
    // What is remembered goes last: it would be asked for again while the location is still there.
    let existed = store.delete_location(provider_id, id).await;
    let existed = existed.map_err(|error| configuration_problem(&error))?;
    let place = Place { provider_id: provider_id.clone(), location_id: id.as_str().to_owned() };
    availability.forget(&place).await.map_err(|error| configuration_problem(&error))?;
    Ok(existed)
}

async fn provider_of(store: &impl ConfigurationStore, id: &str) -> Result<ProviderSettings, Problem> {
    let id = ProviderId::parse(id).map_err(|_| not_found("provider"))?;
    let provider = store.provider(&id).await.map_err(|error| configuration_problem(&error))?;
    provider.ok_or_else(|| not_found("provider"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_of_a_tour_supplier_has_so_many_services_each_once() {
        let faults = |protocol, names: &[String]| -> Vec<String> {
            let mut errors = FieldErrors::default();
            let service = |name: &String| ServiceBody { service_id: name.clone(), resource_id: None };
            let read = read_services(names.iter().map(service).collect(), protocol, &mut errors);
            assert_eq!(read.len(), names.len());
            errors.as_slice().iter().map(|error| error.pointer.clone()).collect()
        };
        let names = |count: usize| (0..count).map(|number| format!("tour-{number}")).collect::<Vec<_>>();
        assert_eq!(faults(Protocol::Octo, &names(MAX_SERVICES)), [""; 0]);
        assert_eq!(faults(Protocol::Octo, &names(MAX_SERVICES + 1)), ["/services"]);
        assert_eq!(faults(Protocol::Octo, &names(0)), ["/services"]);
        assert_eq!(faults(Protocol::Octo, &[names(2), names(1)].concat()), ["/services/2"]);
        assert_eq!(faults(Protocol::Holdfast, &names(1)), ["/services"]);
        assert_eq!(faults(Protocol::Docplanner, &names(0)), [""; 0]);
    }
}
