//! The end of a pod.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::meta::ObjectExt;

use super::look::{look, tell};
use crate::cell::PodCell;
use crate::probes::Probes;
use crate::shared::Shared;
use crate::start::is_gone;
use crate::{kill, volumes};

/// Between attempts to end what does not end.
const RETRY: Duration = Duration::from_secs(2);

/// Ends all containers within the pod's grace, tells it, and takes the volumes down.
pub(super) async fn end(shared: &Arc<Shared>, cell: &Arc<PodCell>, probes: &mut Probes) {
    probes.end_liveness();
    let refused = {
        let state = cell.lock();
        !state.admitted && state.forced.is_some()
    };
    loop {
        let pod = cell.pod();
        let view = look(shared, cell).await;
        if view.is_dead() {
            break;
        }
        if !refused {
            tell(shared, cell, false);
        }
        let grace = cell.lock().grace_seconds.unwrap_or(1);
        if kill::pod(shared, cell, &pod, &view, grace).await {
            let view = look(shared, cell).await;
            if view.is_dead() {
                break;
            }
        }
        shared.world.sleep(RETRY).await;
    }
    probes.stop();
    if !refused {
        tell(shared, cell, true);
    }
    loop {
        let pod = cell.pod();
        match volumes::unmount_all(shared, cell, &pod).await {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!(uid = cell.uid, %error, "cannot take a pod's volumes down");
                shared.world.sleep(RETRY).await;
            }
        }
    }
    shared.tokens.forget(&cell.uid);
    cell.lock().finished = true;
    cell.tell_news();
    // The sender tells the API of the end, and that the object can go.
    cell.status_changed();
}

/// A finished pod stays, for its logs, until its source lets go of it.
pub(super) async fn wait_until_removed(cell: &PodCell) {
    while !cell.lock().removed {
        cell.woken().await;
    }
}

/// Removes what is left on the node: sandboxes, containers, logs.
pub(super) async fn remove(shared: &Shared, cell: &PodCell) {
    let view = look(shared, cell).await;
    for sandbox in &view.sandboxes {
        if let Err(error) = shared.runtime.remove_sandbox(&sandbox.id).await
            && !is_gone(&error)
        {
            tracing::warn!(uid = cell.uid, %error, "cannot remove a sandbox");
        }
    }
    let pod = cell.pod();
    let logs = shared.config.pod_log_dir(pod.namespace(), pod.name(), &cell.uid);
    if let Err(error) = shared.world.disk.remove_dir_all(&logs).await {
        tracing::debug!(uid = cell.uid, %error, "cannot remove a pod's logs");
    }
}
