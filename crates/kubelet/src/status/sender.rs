//! Sends a pod's status to the API, and at its end the last deletion.
//!
//! Source: kubernetes pkg/kubelet/status/status_manager.go (syncPod, canBeDeleted).

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Pod, PodStatus};
use daruma_api::meta::ObjectExt;
use daruma_client::{ClientError, DeleteOptions, Patch};

use super::patch::{keep_foreign_conditions, status_patch};
use crate::cell::PodCell;
use crate::shared::Shared;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Sends for as long as the pod is known here.
pub async fn run_sender(shared: Arc<Shared>, cell: Arc<PodCell>) {
    loop {
        let mut retry = FIRST_RETRY;
        while let Err(error) = Box::pin(send(&shared, &cell)).await {
            tracing::debug!(uid = cell.uid, %error, "cannot send a pod's status");
            let pause = shared.world.sleep(retry);
            tokio::select! {
                biased;
                () = pause => {}
                () = cell.status_woken() => {}
            }
            retry = (retry * 2).min(LONGEST_RETRY);
        }
        cell.status_sent();
        {
            let state = cell.lock();
            if state.removed && state.finished {
                return;
            }
        }
        cell.status_woken().await;
    }
}

/// Sends what differs from the API's last word, and the last deletion where it is due.
///
/// # Errors
/// It is worth another try.
pub async fn send(shared: &Shared, cell: &PodCell) -> Result<(), ClientError> {
    let (object, status) = {
        let state = cell.lock();
        if state.removed {
            return Ok(());
        }
        let object = if cell.is_static() { state.mirror.clone() } else { Some(state.pod.clone()) };
        (object, state.status.clone())
    };
    let (Some(object), Some(mut status)) = (object, status) else { return Ok(()) };
    let nothing = PodStatus::default();
    let api = object.status.as_ref().unwrap_or(&nothing);
    keep_foreign_conditions(api, &mut status);
    if cell.is_static() {
        // The mirror has a generation of its own.
        status.observed_generation = object.metadata.generation;
        for condition in status.conditions.iter_mut().flatten() {
            condition.observed_generation = condition.observed_generation.and(object.metadata.generation);
        }
    }
    let pods = shared.client.namespaced::<Pod>(object.namespace());
    if let Some(patch) = status_patch(object.uid(), api, &status) {
        match pods.patch_status(object.name(), &Patch::Strategic(patch)).await {
            Ok(updated) => keep(cell, updated),
            // Gone, or another pod of the same name: the watch tells.
            Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
            // It would be refused again.
            Err(error) if error.api().is_some_and(|api| matches!(api.code, 400 | 422)) => {
                tracing::warn!(uid = cell.uid, %error, "a pod's status was refused");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    let done = {
        let state = cell.lock();
        state.finished && !cell.is_static() && state.pod.metadata.deletion_timestamp.is_some() && !state.removed
    };
    if done {
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::of_uid(object.uid()) };
        match pods.delete(object.name(), &options).await {
            Ok(()) => tracing::debug!(uid = cell.uid, "a pod's object is deleted"),
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes over what the API answered, unless the watch was faster.
fn keep(cell: &PodCell, updated: Arc<Pod>) {
    let version =
        |pod: &Pod| pod.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok()).unwrap_or_default();
    let mut state = cell.lock();
    let slot = if cell.is_static() {
        let Some(mirror) = &mut state.mirror else { return };
        mirror
    } else {
        &mut state.pod
    };
    if slot.uid() == updated.uid() && version(&updated) > version(slot) {
        *slot = updated;
    }
}
