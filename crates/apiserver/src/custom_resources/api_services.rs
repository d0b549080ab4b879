//! An APIService for every group version that a definition serves; it goes with the last one.
//!
//! Facts: kubernetes pkg/controlplane/controller/crdregistration/crdregistration_controller.go, kube-aggregator
//! pkg/controllers/autoregister/autoregister_controller.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::status::ApiError;
use daruma_store::{Expect, Write};

use super::definition::Definition;
use crate::boot::api_services::{AUTOMANAGED, Managed, object};
use crate::document;
use crate::http::answer;
use crate::registry::Resource;
use crate::server::ApiServer;

/// Makes what is missing and removes what nobody serves any more.
pub(super) async fn sync(server: &Arc<ApiServer>, api_services: &Arc<Resource>, all: &[Definition]) -> Result<(), ApiError> {
    let mut wanted: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for definition in all {
        for version in definition.served_versions() {
            wanted.insert(format!("{version}.{}", definition.group()), (definition.group(), version));
        }
    }
    let existing = api_services.cache.snapshot(0);
    for item in existing.objects.values() {
        if item.label(AUTOMANAGED) == Some(Managed::Always.label()) && !wanted.contains_key(item.name()) {
            let key = api_services.key("", item.name());
            let deleted = server.store.write(&key, Expect::Revision(item.revision), Write::Delete);
            deleted.await.map_err(answer::from_store)?;
        }
    }
    // Those that somebody else has made, for an extension server say, are left alone.
    for (name, (group, version)) in wanted {
        if existing.objects.contains_key(name.as_str()) {
            continue;
        }
        let mut object = object(group, version, Managed::Always, &document::seconds(server.world.now()));
        crate::boot::complete(server, api_services, &mut object);
        let value = api_services.head.encode(&object);
        server.put(api_services, &api_services.key("", &name), Expect::Absent, value).await?;
    }
    Ok(())
}
