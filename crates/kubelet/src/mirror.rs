//! Mirror pods: what the API shows of static pods.
//!
//! Source: kubernetes pkg/kubelet/pod/mirror_client.go, pkg/kubelet/kubelet.go (tryReconcileMirrorPods).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::OwnerReference;
use daruma_client::DeleteOptions;

use crate::shared::Shared;
use crate::sources::{ANNOTATION_HASH, ANNOTATION_MIRROR};

const RETRY: Duration = Duration::from_millis(250);

/// Mirror pods of this node in the API by `namespace/name`.
pub type Mirrors = Mutex<BTreeMap<String, Arc<Pod>>>;

/// Whether the object is a mirror pod.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.annotation(ANNOTATION_MIRROR).is_some()
}

/// Lets the mirrors be compared with the static pods.
pub fn look(shared: &Shared) {
    shared.mirrors_changed.notify_one();
}

/// Notes a mirror pod that the API has (or has no more) and tells its static pod.
pub fn seen(shared: &Shared, pod: &Arc<Pod>, gone: bool) {
    let key = pod.key();
    {
        let mut mirrors = shared.mirrors.lock().expect("no panic while held");
        if gone {
            if mirrors.get(&key).is_some_and(|known| known.uid() == pod.uid()) {
                mirrors.remove(&key);
            }
        } else {
            mirrors.insert(key, pod.clone());
        }
    }
    let hash = pod.annotation(ANNOTATION_MIRROR).unwrap_or_default();
    if let Some(cell) = shared.pods.get(hash) {
        cell.lock().mirror = (!gone).then(|| pod.clone());
        cell.status_changed();
    }
    look(shared);
}

/// Keeps the mirrors as the static pods are.
pub async fn run(shared: Arc<Shared>) {
    loop {
        let pause: futures::future::BoxFuture<'static, ()> =
            if Box::pin(reconcile(&shared)).await { Box::pin(futures::future::pending()) } else { shared.world.sleep(RETRY) };
        tokio::select! {
            biased;
            () = shared.mirrors_changed.notified() => {}
            () = pause => {}
        }
    }
}

/// `false` when it has to be tried again.
async fn reconcile(shared: &Arc<Shared>) -> bool {
    if !shared.api_synced.load(Ordering::Acquire) {
        return true;
    }
    let mirrors: Vec<Arc<Pod>> = shared.mirrors.lock().expect("no panic while held").values().cloned().collect();
    let mut good = true;
    for mirror in &mirrors {
        let hash = mirror.annotation(ANNOTATION_MIRROR).unwrap_or_default();
        let wanted = shared.pods.get(hash).is_some_and(|cell| cell.is_static() && !cell.lock().removed);
        if wanted && !mirror.is_being_deleted() {
            continue;
        }
        if !shared.files_read.load(Ordering::Acquire) {
            continue;
        }
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::of_uid(mirror.uid()) };
        match shared.client.namespaced::<Pod>(mirror.namespace()).delete(mirror.name(), &options).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(_) => good = false,
        }
    }
    let node = shared.node.lock().expect("no panic while held").clone();
    for cell in shared.pods.list() {
        let (pod, has_mirror, removed) = {
            let state = cell.lock();
            (state.pod.clone(), state.mirror.is_some(), state.removed)
        };
        if !cell.is_static() || has_mirror || removed || mirrors.iter().any(|mirror| mirror.key() == pod.key()) {
            continue;
        }
        let Some(node) = &node else {
            good = false;
            continue;
        };
        let mut mirror = (*pod).clone();
        mirror.metadata.uid = None;
        mirror.metadata.resource_version = None;
        mirror.metadata.generation = None;
        mirror.status = None;
        let annotations = mirror.metadata.annotations.get_or_insert_default();
        let hash = annotations.get(ANNOTATION_HASH).cloned().unwrap_or_default();
        annotations.insert(ANNOTATION_MIRROR.into(), hash);
        mirror.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node.name().into(),
            uid: node.uid().into(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
        match shared.client.namespaced::<Pod>(pod.namespace()).create(&mirror).await {
            Ok(made) => {
                cell.lock().mirror = Some(made);
                cell.status_changed();
            }
            // The watch has not brought it yet.
            Err(error) if error.is_already_exists() => {}
            Err(error) => {
                tracing::debug!(pod = pod.name(), %error, "cannot make a mirror pod");
                good = false;
            }
        }
    }
    good
}
