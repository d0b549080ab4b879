//! Keeps the EndpointSlices of services that select pods.
//!
//! Source: kubernetes pkg/controller/endpointslice/endpointslice_controller.go.

pub mod plan;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use daruma_api::discovery::v1::EndpointSlice;
use daruma_api::meta::{ObjectExt, split_key};
use daruma_client::informer::Delta;
use daruma_client::{Api, DeleteOptions};
use futures::FutureExt;

use self::plan::{CONTROLLER, MANAGED_BY, SERVICE_NAME, Seen};
use crate::services::{self, TriggerTimes, has_endpoints, selected_pods};
use crate::shared::Shared;
use crate::shell::{Context, SyncError, Synced, namespace_terminating};
use crate::written::revision;

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("endpoint_slice");
    let shared: Arc<Shared> = context.shared.clone();
    let tracker = Arc::new(Mutex::new(Tracker::default()));
    {
        let queue = queue.clone();
        shared.services.on_delta(move |delta| queue.add(&delta.object().key()));
    }
    {
        let (queue, services, delay) = (queue.clone(), shared.services.clone(), context.config.endpoint_updates_batch_period);
        shared.pods.on_delta(move |delta| {
            for key in services::touched(&services, delta) {
                queue.add_after(&key, delay);
            }
        });
    }
    {
        let (queue, tracker) = (queue.clone(), tracker.clone());
        shared.endpoint_slices.on_delta(move |delta| {
            let slice = delta.object();
            let Some(service) = service_key(slice) else { return };
            let mut tracker = tracker.lock().expect("no panic while held");
            // Our own writes come back here; only what others did calls for another look.
            let foreign = match delta {
                Delta::Deleted(slice) => !tracker.expects_deletion(&service, slice),
                Delta::Added(slice) | Delta::Updated(_, slice) => !tracker.is_own(&service, slice),
            };
            if foreign {
                queue.add(&service);
            }
        });
    }
    let ready = {
        let shared = shared.clone();
        async move {
            shared.pods.wait_synced().await;
            shared.services.wait_synced().await;
            shared.endpoint_slices.wait_synced().await;
            shared.nodes.wait_synced().await;
        }
    };
    let syncer = Arc::new(Syncer { context: context.clone(), tracker, times: Mutex::default() });
    context.work(&queue, context.workers, ready, move |key| {
        let syncer = syncer.clone();
        async move { syncer.sync(&key).await }.boxed()
    });
}

/// The service of a slice that this controller keeps.
fn service_key(slice: &EndpointSlice) -> Option<String> {
    let name = slice.label(SERVICE_NAME)?;
    (slice.label(MANAGED_BY) == Some(CONTROLLER)).then(|| format!("{}/{name}", slice.namespace()))
}

/// What this controller has written and the local copy must show before the next decision.
#[derive(Debug, Default)]
struct Tracker {
    /// By service, by slice uid: the revision written, or `None` for a deletion.
    written: BTreeMap<String, BTreeMap<String, Option<u64>>>,
}

impl Tracker {
    fn wrote(&mut self, service: &str, slice: &EndpointSlice) {
        let version = revision(slice.metadata.resource_version.as_ref());
        self.written.entry(service.to_owned()).or_default().insert(slice.uid().to_owned(), Some(version));
    }

    fn deleted(&mut self, service: &str, uid: &str) {
        self.written.entry(service.to_owned()).or_default().insert(uid.to_owned(), None);
    }

    fn is_own(&self, service: &str, slice: &EndpointSlice) -> bool {
        match self.written.get(service).and_then(|slices| slices.get(slice.uid())) {
            Some(Some(version)) => revision(slice.metadata.resource_version.as_ref()) <= *version,
            Some(None) => true,
            None => false,
        }
    }

    fn expects_deletion(&mut self, service: &str, slice: &EndpointSlice) -> bool {
        let removed = self.written.get_mut(service).and_then(|slices| slices.remove(slice.uid()));
        removed == Some(None)
    }

    /// Whether the local copy lacks something that was written.
    fn is_stale(&self, service: &str, slices: &[Arc<EndpointSlice>]) -> bool {
        let Some(written) = self.written.get(service) else { return false };
        written.iter().any(|(uid, version)| {
            let shown = slices.iter().find(|slice| slice.uid() == uid);
            match version {
                Some(version) => shown.is_none_or(|slice| revision(slice.metadata.resource_version.as_ref()) < *version),
                None => shown.is_some_and(|slice| !slice.is_being_deleted()),
            }
        })
    }
}

struct Syncer {
    context: Context,
    tracker: Arc<Mutex<Tracker>>,
    times: Mutex<TriggerTimes>,
}

impl Syncer {
    async fn sync(&self, key: &str) -> Synced {
        let shared = &self.context.shared;
        let (namespace, name) = split_key(key);
        let Some(service) = shared.services.get(namespace, name) else {
            self.times.lock().expect("no panic while held").forget(key);
            self.tracker.lock().expect("no panic while held").written.remove(key);
            return Ok(None);
        };
        if !has_endpoints(&service) {
            return Ok(None);
        }
        let pods = selected_pods(&shared.pods, &service);
        let mut slices = shared.endpoint_slices.list_namespace(namespace);
        slices.retain(|slice| service_key(slice).as_deref() == Some(key));
        if self.tracker.lock().expect("no panic while held").is_stale(key, &slices) {
            return Err(SyncError::Blocked("EndpointSlice informer cache is out of date".to_owned()));
        }
        slices.retain(|slice| !slice.is_being_deleted());
        let trigger = self.times.lock().expect("no panic while held").update(&service, &pods);
        let plan = plan::plan(&Seen {
            service: &service,
            pods: &pods,
            slices: &slices,
            node: &|name| shared.nodes.get("", name),
            limit: self.context.config.max_endpoints_per_slice.max(1),
            trigger,
        });
        let incomplete = plan.incomplete;
        let outcome = self.carry_out(key, plan).await;
        if let Err(error) = outcome {
            if !error.is_namespace_terminating() {
                let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
                self.context.recorder.warning(service.as_ref(), "FailedToUpdateEndpointSlices", message);
            }
            return Err(error);
        }
        if incomplete {
            return Err(SyncError::Blocked("skipping pods whose node is not known".to_owned()));
        }
        Ok(None)
    }

    async fn carry_out(&self, key: &str, plan: plan::Plan) -> Result<(), SyncError> {
        let api: Api<EndpointSlice> = self.context.client.namespaced(split_key(key).0);
        for slice in &plan.create {
            match api.create(slice).await {
                Ok(created) => self.track(|tracker| tracker.wrote(key, &created)),
                Err(error) if namespace_terminating(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        for slice in &plan.update {
            let written = api.update(slice).await?;
            self.track(|tracker| tracker.wrote(key, &written));
        }
        for slice in &plan.delete {
            match api.delete(slice.name(), &DeleteOptions::default()).await {
                Ok(()) => self.track(|tracker| tracker.deleted(key, slice.uid())),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn track(&self, change: impl FnOnce(&mut Tracker)) {
        change(&mut self.tracker.lock().expect("no panic while held"));
    }
}
