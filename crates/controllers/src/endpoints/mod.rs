//! Keeps the `Endpoints` of services that select pods, for those who still read them.
//!
//! Source: kubernetes pkg/controller/endpoint/endpoints_controller.go.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use daruma_api::core::v1::Endpoints;
use daruma_api::meta::{ObjectExt, split_key};
use daruma_client::DeleteOptions;
use daruma_client::informer::Delta;
use futures::FutureExt;

use crate::services::{self, TriggerTimes, has_endpoints, selected_pods};
use crate::shell::{Context, SyncError, Synced, namespace_terminating};
use crate::written::revision;

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("endpoint");
    let shared = context.shared.clone();
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
        let queue = queue.clone();
        shared.endpoints.on_delta(move |delta| {
            if let Delta::Deleted(endpoints) = delta {
                queue.add(&endpoints.key());
            }
        });
    }
    let ready = {
        let (shared, queue) = (shared.clone(), queue.clone());
        async move {
            shared.pods.wait_synced().await;
            shared.services.wait_synced().await;
            shared.endpoints.wait_synced().await;
            // Some may be left over from services that went while nobody watched.
            for endpoints in shared.endpoints.list() {
                queue.add(&endpoints.key());
            }
        }
    };
    let syncer = Arc::new(Syncer { context: context.clone(), times: Mutex::default(), written: Mutex::default() });
    context.work(&queue, context.workers, ready, move |key| {
        let syncer = syncer.clone();
        async move { syncer.sync(&key).await }.boxed()
    });
}

struct Syncer {
    context: Context,
    times: Mutex<TriggerTimes>,
    /// The newest revision written, by key; the local copy must show it before the next decision.
    written: Mutex<BTreeMap<String, u64>>,
}

impl Syncer {
    async fn sync(&self, key: &str) -> Synced {
        let shared = &self.context.shared;
        let (namespace, name) = split_key(key);
        let api = self.context.client.namespaced::<Endpoints>(namespace);
        let present = shared.endpoints.get(namespace, name);
        let Some(service) = shared.services.get(namespace, name) else {
            self.times.lock().expect("no panic while held").forget(key);
            self.written.lock().expect("no panic while held").remove(key);
            // Without a local copy there is nothing to delete, and kubernetes.default is the API server's.
            let Some(present) = present.filter(|present| present.controller().is_none()) else { return Ok(None) };
            return match api.delete(name, &DeleteOptions::of_uid(present.uid())).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
                _ => Ok(None),
            };
        };
        if !has_endpoints(&service) {
            return Ok(None);
        }
        if let Some(written) = self.written.lock().expect("no panic while held").get(key)
            && present.as_ref().is_some_and(|present| revision(present.metadata.resource_version.as_ref()) < *written)
        {
            return Err(SyncError::Blocked(format!("endpoints informer cache is out of date for endpoints {key}")));
        }
        let pods = selected_pods(&shared.pods, &service);
        let trigger = self.times.lock().expect("no panic while held").update(&service, &pods);
        let Some(new) = plan::plan(&service, &pods, present.as_deref(), trigger) else { return Ok(None) };
        let outcome = if present.is_some() { api.update(&new).await } else { api.create(&new).await };
        match outcome {
            Ok(written) => {
                let version = revision(written.metadata.resource_version.as_ref());
                self.written.lock().expect("no panic while held").insert(key.to_owned(), version);
                Ok(None)
            }
            Err(error) if present.is_none() && namespace_terminating(&error) => Ok(None),
            Err(error) => {
                let (reason, message) = if present.is_some() {
                    ("FailedToUpdateEndpoint", format!("Failed to update endpoint {key}: {error}"))
                } else {
                    ("FailedToCreateEndpoint", format!("Failed to create endpoint for service {key}: {error}"))
                };
                // Conflicts are everyday life and not worth an event.
                if !error.is_conflict() && !error.is_already_exists() {
                    self.context.recorder.warning(&new, reason, message);
                }
                Err(error.into())
            }
        }
    }
}
