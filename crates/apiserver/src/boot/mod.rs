//! What must be there before the server is ready, made at its start: namespaces, roles and bindings,
//! priority classes, API services, the `kubernetes` service.
//!
//! Everything that is missing is written at once, so that the store's group commit makes one of it.

pub(crate) mod api_services;
mod authentication_config;
mod kubernetes_service;
mod objects;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daruma_api::status::ApiError;
use daruma_client::names;
use daruma_store::{Expect, Outcome};
use futures::future::{join_all, try_join_all};
use serde_json::Value;

use crate::document::{self, text};
use crate::registry::Resource;
use crate::server::ApiServer;

/// How often a start that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// How far the start has come.
#[derive(Debug, Default)]
pub struct Boot {
    is_complete: AtomicBool,
}

/// Everything that is waited for, by the real server's names.
const HOOKS: [&str; 6] = [
    "start-kubernetes-service",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "start-system-namespaces-controller",
    "apiservice-registration-controller",
    "crd-informer-synced",
];

impl Boot {
    /// Every hook and whether it is done.
    pub fn hooks(&self) -> impl Iterator<Item = (&'static str, bool)> + Clone + use<> {
        let is_complete = self.is_complete();
        HOOKS.into_iter().map(move |hook| (hook, is_complete))
    }

    /// Whether everything is done.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Acquire)
    }

    fn complete(&self) {
        self.is_complete.store(true, Ordering::Release);
    }
}

/// An object that must be there.
pub(crate) struct Wanted {
    group: &'static str,
    plural: &'static str,
    object: Value,
}

/// Makes what is missing, then keeps the `kubernetes` service's endpoints.
pub async fn run(server: Arc<ApiServer>) {
    while let Err(error) = make(&server).await {
        tracing::warn!(%error, "the start is not complete");
        server.world.sleep(RETRY).await;
    }
    server.custom_resources.wait_synced().await;
    server.boot.complete();
    kubernetes_service::keep(&server).await;
}

async fn make(server: &Arc<ApiServer>) -> Result<(), ApiError> {
    let mut wanted = objects::all();
    wanted.extend(api_services::all(server));
    wanted.extend(authentication_config::all(server));
    wanted.extend(kubernetes_service::all(server));
    let served: Vec<(Arc<Resource>, Value)> = wanted
        .into_iter()
        .filter_map(|wanted| Some((server.registry.built_in_somewhere(wanted.group, wanted.plural)?.clone(), wanted.object)))
        .collect();
    let mut loaded: Vec<Arc<Resource>> = Vec::new();
    for (resource, _) in &served {
        if !loaded.iter().any(|one| Arc::ptr_eq(one, resource)) {
            loaded.push(resource.clone());
        }
    }
    try_join_all(loaded.iter().map(|resource| server.feed.load(&resource.prefix, &resource.cache))).await?;
    let written = join_all(served.into_iter().map(|(resource, object)| ensure(server, resource, object))).await;
    let revisions: Vec<u64> = written.into_iter().collect::<Result<_, _>>()?;
    server.feed.wait_for(revisions.into_iter().max().unwrap_or(0)).await
}

/// Writes an object where it is missing or lacks what it must have; gives the revision of the write, or 0.
async fn ensure(server: &Arc<ApiServer>, resource: Arc<Resource>, mut object: Value) -> Result<u64, ApiError> {
    let (namespace, name) = (text(&object, "/metadata/namespace").to_owned(), text(&object, "/metadata/name").to_owned());
    let key = resource.key(&namespace, &name);
    let expect = match resource.cache.get(&namespace, &name) {
        None => {
            complete(server, &resource, &mut object);
            Expect::Absent
        }
        Some(item) => {
            let old = resource.head.decode(&item.value, item.revision).map_err(ApiError::internal)?;
            match objects::reconcile(&old, &object) {
                None => return Ok(0),
                Some(new) => object = new,
            }
            Expect::Revision(item.revision)
        }
    };
    match server.put(&resource, &key, expect, resource.head.encode(&object)).await? {
        Outcome::Committed { revision } => Ok(revision),
        // Another server was faster: it wrote the same.
        Outcome::Conflict { .. } => Ok(0),
    }
}

/// Fills in what a create fills in.
pub(crate) fn complete(server: &ApiServer, resource: &Resource, object: &mut Value) {
    resource.kind.default(object);
    let status = object.get("status").cloned();
    resource.kind.prepare_create(object);
    if let (Some(status), Some(fields)) = (status, object.as_object_mut()) {
        fields.insert("status".into(), status);
    }
    let metadata = document::metadata(object);
    metadata.insert("uid".into(), names::uuid(&*server.world.random).into());
    metadata.insert("creationTimestamp".into(), document::seconds(server.world.now()).into());
}
