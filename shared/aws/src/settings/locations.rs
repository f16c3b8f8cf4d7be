//! The locations of providers: one partition for each provider.

use std::collections::BTreeSet;

use holdfast_app::ports::{LocationStore, StoreError};
use holdfast_app::settings::{LocationSettings, OfferedService};
use holdfast_domain::{LocationId, ProviderId, Zone};
use serde::{Deserialize, Serialize};

use super::DynamoSettings;
use super::reader::MAX_BATCH_KEYS;
use super::records::corrupt;
use crate::item::{SdkItem, from_sdk_item, key, to_sdk_item};

const WHAT: &str = "location";

fn locations_pk(provider_id: &ProviderId) -> String {
    format!("LOCATIONS#{provider_id}")
}

#[derive(Serialize, Deserialize)]
struct ServiceItem {
    service_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct LocationItem {
    pk: String,
    sk: String,
    display_name: String,
    time_zone: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    services: Vec<ServiceItem>,
}

fn location_item(provider_id: &ProviderId, location: &LocationSettings) -> Result<SdkItem, StoreError> {
    let service = |service: &OfferedService| ServiceItem {
        service_id: service.service_id.clone(),
        resource_id: service.resource_id.clone(),
    };
    let item = LocationItem {
        pk: locations_pk(provider_id),
        sk: location.location_id.as_str().to_owned(),
        display_name: location.display_name.clone(),
        time_zone: location.zone.name().to_owned(),
        services: location.services.iter().map(service).collect(),
    };
    to_sdk_item(WHAT, &item)
}

fn location_of(item: SdkItem) -> Result<LocationSettings, StoreError> {
    let item: LocationItem = from_sdk_item(WHAT, item)?;
    let service = |service: ServiceItem| OfferedService {
        service_id: service.service_id,
        resource_id: service.resource_id,
    };
    Ok(LocationSettings {
        location_id: LocationId::parse(&item.sk).map_err(|_| corrupt(WHAT, "sk"))?,
        display_name: item.display_name,
        zone: Zone::parse(&item.time_zone).map_err(|_| corrupt(WHAT, "time_zone"))?,
        services: item.services.into_iter().map(service).collect(),
    })
}

impl LocationStore for DynamoSettings {
    async fn put_location(
        &self,
        provider_id: &ProviderId,
        location: &LocationSettings,
    ) -> Result<(), StoreError> {
        self.put(location_item(provider_id, location)?).await
    }

    async fn locations_named(
        &self,
        provider_id: &ProviderId,
        ids: &[LocationId],
    ) -> Result<Vec<LocationSettings>, StoreError> {
        // DynamoDB refuses a batch that asks for one item twice.
        let ids: Vec<&LocationId> = ids.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut found = Vec::with_capacity(ids.len());
        for batch in ids.chunks(MAX_BATCH_KEYS) {
            let keys = batch.iter().map(|id| key(locations_pk(provider_id), id.as_str())).collect();
            for item in self.batch_get(keys).await? {
                found.push(location_of(item)?);
            }
        }
        Ok(found)
    }

    async fn locations(&self, provider_id: &ProviderId) -> Result<Vec<LocationSettings>, StoreError> {
        self.list(&locations_pk(provider_id), "").await?.into_iter().map(location_of).collect()
    }

    async fn delete_location(&self, provider_id: &ProviderId, id: &LocationId) -> Result<bool, StoreError> {
        self.delete(&locations_pk(provider_id), id.as_str()).await
    }
}
