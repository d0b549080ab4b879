//! Pods that the API binds to this node.
//!
//! Source: kubernetes pkg/kubelet/config/apiserver.go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_client::ListOptions;
use daruma_client::informer::{Delta, Informer};

use crate::cell::Source;
use crate::shared::Shared;
use crate::{gc, mirror, worker};

/// Watches the node's pods for as long as the kubelet lives.
pub async fn watch(shared: Arc<Shared>) {
    let options = ListOptions { field_selector: format!("spec.nodeName={}", shared.config.node_name), ..ListOptions::default() };
    let informer = Informer::new(shared.client.all::<Pod>(), options);
    let handler = shared.clone();
    informer.on_delta(move |delta| handle(&handler, delta));
    informer.start();
    informer.wait_synced().await;
    shared.api_synced.store(true, Ordering::Release);
    mirror::look(&shared);
    // What runs and is wanted by nobody ends.
    gc::remove_orphans(&shared, Source::Api).await;
    futures::future::pending::<()>().await;
}

fn handle(shared: &Arc<Shared>, delta: &Delta<Pod>) {
    match delta {
        Delta::Added(pod) | Delta::Updated(_, pod) => {
            if mirror::is_mirror(pod) {
                mirror::seen(shared, pod, false);
                return;
            }
            match shared.pods.get(pod.uid()) {
                Some(cell) => {
                    let respecified = {
                        let mut state = cell.lock();
                        let respecified = state.pod.spec != pod.spec
                            || state.pod.metadata.annotations != pod.metadata.annotations
                            || state.pod.metadata.labels != pod.metadata.labels;
                        state.pod = pod.clone();
                        respecified && !state.finished
                    };
                    if respecified {
                        // Ephemeral containers may refer to what nobody did before.
                        shared.objects.refer(shared, pod);
                    }
                    match worker::deletion_grace(pod) {
                        Some(grace) => cell.end(grace),
                        None if respecified => cell.wake(),
                        None => {}
                    }
                    // What others wrote into the status may have to be put right.
                    cell.status_changed();
                }
                None => drop(worker::admit(shared, pod.clone(), Source::Api)),
            }
        }
        Delta::Deleted(pod) => {
            if mirror::is_mirror(pod) {
                mirror::seen(shared, pod, true);
                return;
            }
            if let Some(cell) = shared.pods.get(pod.uid()) {
                cell.lock().removed = true;
                // Deleted without waiting for this node: the least grace.
                cell.end(1);
                cell.wake();
                cell.status_changed();
            }
        }
    }
}
