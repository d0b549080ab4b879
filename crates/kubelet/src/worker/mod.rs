//! The life of one pod on the node: let in, kept as specified, ended, cleaned up.
//!
//! Source: kubernetes pkg/kubelet/pod_workers.go, pkg/kubelet/kubelet.go (SyncPod, SyncTerminatingPod, SyncTerminatedPod).

mod finish;
pub mod look;
pub mod standing;
mod sync;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use futures::future::BoxFuture;

use crate::admission;
use crate::cell::{Forced, PodCell, Source};
use crate::shared::Shared;
use crate::{mirror, probes, status};

/// Registers a pod and starts its worker; does nothing where it is known.
pub fn admit(shared: &Arc<Shared>, pod: Arc<Pod>, source: Source) -> Option<Arc<PodCell>> {
    let cell = Arc::new(PodCell::new(pod.clone(), source));
    if !shared.pods.insert(&cell) {
        return None;
    }
    if let Some(grace) = deletion_grace(&pod) {
        cell.end(grace);
    }
    shared.objects.refer(shared, &pod);
    shared.world.spawn("pod status", status::run_sender(shared.clone(), cell.clone()));
    shared.world.spawn("pod worker", run(shared.clone(), cell.clone()));
    Some(cell)
}

/// Seconds within which a deleted pod has to end.
pub fn deletion_grace(pod: &Pod) -> Option<i64> {
    pod.metadata.deletion_timestamp.as_ref()?;
    Some(pod.metadata.deletion_grace_period_seconds.unwrap_or(30))
}

async fn run(shared: Arc<Shared>, cell: Arc<PodCell>) {
    tracing::debug!(uid = cell.uid, "a pod's worker starts");
    wait_for_name(&shared, &cell).await;
    if !cell.is_ending() && !was_finished(&cell) {
        refuse_or_admit(&shared, &cell);
    }
    let mut probes = probes::Probes::default();
    // What is long is boxed: a worker that waits, as nearly all do, must be small.
    while !cell.is_ending() {
        let next = Box::pin(sync::sync(&shared, &cell, &mut probes)).await;
        if cell.is_ending() {
            break;
        }
        wait(&shared, &cell, next.map(|next| next.max(SHORTEST))).await;
    }
    Box::pin(finish::end(&shared, &cell, &mut probes)).await;
    probes.stop();
    shared.objects.release(&cell.uid);
    finish::wait_until_removed(&cell).await;
    Box::pin(finish::remove(&shared, &cell)).await;
    shared.pods.remove(&cell.uid);
    // A static pod's successor of the same name waits for this.
    shared.wake_all();
    mirror::look(&shared);
    tracing::debug!(uid = cell.uid, "a pod's worker ends");
}

/// Shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(10);

/// Waits for news: a changed wish, something that runs differently than it did at the last look, or the time when something
/// is due, where something is.
async fn wait(shared: &Shared, cell: &PodCell, due: Option<Duration>) {
    let mut pause: BoxFuture<'static, ()> = match due {
        Some(due) => shared.world.sleep(due),
        None => Box::pin(futures::future::pending()),
    };
    loop {
        tokio::select! {
            biased;
            () = cell.woken() => {}
            () = &mut pause => return,
        }
        let wanted = {
            let state = cell.lock();
            state.look_wanted || state.grace_seconds.is_some()
        };
        if wanted {
            return;
        }
        match Box::pin(shared.look(&cell.uid)).await {
            Ok(view) if view == cell.lock().view => {}
            _ => return,
        }
    }
}

/// A static pod waits until the pod of the same name before it is gone.
async fn wait_for_name(shared: &Shared, cell: &PodCell) {
    if !cell.is_static() {
        return;
    }
    while !cell.is_ending() {
        let pod = cell.pod();
        let taken = shared.pods.list().iter().any(|other| {
            let state = other.lock();
            other.uid != cell.uid
                && other.is_static()
                && state.pod.name() == pod.name()
                && state.pod.namespace() == pod.namespace()
                && {
                    // Of two that wait for each other the one seen first goes.
                    state.grace_seconds.is_some() || state.admitted
                }
        });
        if !taken {
            return;
        }
        cell.woken().await;
    }
}

/// The API says that it ended before; it is not started again.
fn was_finished(cell: &PodCell) -> bool {
    let pod = cell.pod();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if !cell.is_static() && status::is_terminal(phase) {
        cell.end(1);
        return true;
    }
    false
}

fn refuse_or_admit(shared: &Arc<Shared>, cell: &Arc<PodCell>) {
    let pod = cell.pod();
    let others: Vec<Arc<Pod>> = shared
        .pods
        .list()
        .iter()
        .filter(|other| other.uid != cell.uid)
        .filter_map(|other| {
            let state = other.lock();
            (state.admitted && !state.finished).then(|| state.pod.clone())
        })
        .collect();
    let node = shared.node.lock().expect("no panic while held").clone();
    let allocatable = crate::node::status::allocatable(shared);
    let shutting_down = shared.is_shutting_down();
    let pressed = shared.pressure.lock().expect("no panic while held").conditions.clone();
    let decision = admission::of_node(&pod, cell.is_static(), shutting_down, &pressed)
        .and_then(|()| admission::admit(&pod, cell.is_static(), &others, node.as_deref(), &allocatable));
    match decision {
        Ok(()) => cell.lock().admitted = true,
        Err(refusal) => {
            shared.recorder.pod_warning(&pod, &refusal.reason, refusal.message.clone());
            let mut state = cell.lock();
            let old = pod.status.clone().unwrap_or_default();
            let message = format!("Pod was rejected: {}", refusal.message);
            state.status = Some(status::failed_status(&pod, &old, &refusal.reason, &message, shared.now()));
            state.forced = Some(Forced { reason: refusal.reason, message, ..Forced::default() });
            drop(state);
            cell.status_changed();
            cell.end(1);
        }
    }
}
