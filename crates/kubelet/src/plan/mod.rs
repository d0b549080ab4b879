//! What has to be done so that a pod runs as its specification says.
//!
//! Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodActions).
//!
//! Invariant: pure; it neither awaits nor reads a clock.

mod init;
pub mod restart;

use std::collections::BTreeMap;

use daruma_api::core::v1::{Container as Spec, Pod};
use daruma_world::containers::Container;

use crate::view::{PodView, exit_code, is_running, keys};
use restart::{restarts_on_failure, should_restart};

/// Latest results of probes by container id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// Liveness.
    pub liveness: BTreeMap<String, bool>,
    /// Startup.
    pub startup: BTreeMap<String, bool>,
    /// Readiness.
    pub readiness: BTreeMap<String, bool>,
}

/// Why a container is ended; it decides the grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// Its definition changed, or the pod ends.
    Other,
    /// It failed its liveness probe.
    Liveness,
    /// It failed its startup probe.
    Startup,
}

/// A container to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The runtime's id.
    pub container_id: String,
    /// Name within the pod.
    pub name: String,
    /// For the event.
    pub message: String,
    /// Why.
    pub reason: KillReason,
}

/// What has to be done, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodActions {
    /// End everything first.
    pub kill_pod: bool,
    /// Then make a sandbox.
    pub create_sandbox: bool,
    /// The sandbox to be used, or the one that is replaced.
    pub sandbox_id: Option<String>,
    /// Attempt of the sandbox to be made.
    pub attempt: u32,
    /// Containers to be ended.
    pub to_kill: Vec<Kill>,
    /// Ephemeral containers to be started, by index.
    pub ephemeral_to_start: Vec<usize>,
    /// Init containers to be started, by index.
    pub init_to_start: Vec<usize>,
    /// Containers to be started, by index.
    pub to_start: Vec<usize>,
}

/// Compares the specification with what runs.
pub fn plan(pod: &Pod, view: &PodView, probed: &Probed) -> PodActions {
    let Some(spec) = &pod.spec else { return PodActions::default() };
    let sandbox = sandbox_change(pod, view);
    let mut actions = PodActions {
        kill_pod: sandbox.changed,
        create_sandbox: sandbox.changed,
        sandbox_id: sandbox.id,
        attempt: sandbox.attempt,
        ..PodActions::default()
    };
    if sandbox.changed {
        plan_new_sandbox(pod, view, &mut actions);
        return actions;
    }
    for (index, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        if view.latest(&container.name).is_none() {
            actions.ephemeral_to_start.push(index);
        }
    }
    let initialized = init::plan(pod, view, probed, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    let mut kept = 0;
    for (index, container) in spec.containers.iter().enumerate() {
        let Some(seen) = view.latest(&container.name).filter(|seen| is_running(seen)) else {
            if should_restart(pod, container, view.latest(&container.name)) {
                actions.to_start.push(index);
            }
            continue;
        };
        let (message, reason, forced) = if changed(container, seen) {
            (format!("Container {} definition changed", container.name), KillReason::Other, true)
        } else if probed.liveness.get(&seen.id) == Some(&false) {
            (format!("Container {} failed liveness probe", container.name), KillReason::Liveness, false)
        } else if probed.startup.get(&seen.id) == Some(&false) && startup_failed(container, probed, seen) {
            (format!("Container {} failed startup probe", container.name), KillReason::Startup, false)
        } else {
            kept += 1;
            continue;
        };
        let restart = forced || restarts_on_failure(spec, container);
        if restart {
            actions.to_start.push(index);
        }
        let message = if restart { format!("{message}, will be restarted") } else { message };
        actions.to_kill.push(Kill { container_id: seen.id.clone(), name: container.name.clone(), message, reason });
    }
    if kept == 0 && actions.to_start.is_empty() {
        actions.kill_pod = true;
        actions.init_to_start.clear();
    }
    actions
}

/// A startup result exists only once its threshold was reached, so `false` is a failure.
fn startup_failed(container: &Spec, probed: &Probed, seen: &Container) -> bool {
    container.startup_probe.is_some() && probed.startup.get(&seen.id) == Some(&false)
}

fn plan_new_sandbox(pod: &Pod, view: &PodView, actions: &mut PodActions) {
    let Some(spec) = &pod.spec else { return };
    let never = spec.restart_policy.as_deref() == Some("Never");
    if never && actions.attempt != 0 && !view.containers.is_empty() {
        actions.create_sandbox = false;
        return;
    }
    let succeeded = |container: &Spec| view.latest(&container.name).and_then(exit_code) == Some(0);
    let to_start: Vec<usize> = spec
        .containers
        .iter()
        .enumerate()
        .filter(|(_, container)| {
            let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref());
            !(policy == Some("OnFailure") && succeeded(container))
        })
        .map(|(index, _)| index)
        .collect();
    if to_start.is_empty() && spec.containers.iter().any(|container| view.latest(&container.name).is_some()) {
        actions.create_sandbox = false;
        return;
    }
    if spec.init_containers.iter().flatten().next().is_some() {
        actions.init_to_start = vec![0];
        return;
    }
    actions.to_start = to_start;
}

/// Whether a sandbox has to be made, and after which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxChange {
    /// A new one is needed.
    pub changed: bool,
    /// Attempt of the new one, or of the one that stays.
    pub attempt: u32,
    /// The present one.
    pub id: Option<String>,
}

/// Compares the newest sandbox with what the pod needs (kubernetes pkg/kubelet/kuberuntime/util/util.go).
pub fn sandbox_change(pod: &Pod, view: &PodView) -> SandboxChange {
    let Some(newest) = view.sandboxes.first() else { return SandboxChange { changed: true, attempt: 0, id: None } };
    let next = |id: Option<&String>| SandboxChange { changed: true, attempt: newest.config.attempt + 1, id: id.cloned() };
    let ready = view.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
    if ready > 1 || !newest.ready {
        return next(Some(&newest.id));
    }
    let host_network = is_host_network(pod);
    if newest.config.shared.network != host_network {
        return next(None);
    }
    if !host_network && newest.addresses.is_empty() {
        return next(Some(&newest.id));
    }
    SandboxChange { changed: false, attempt: newest.config.attempt, id: Some(newest.id.clone()) }
}

/// Whether the pod uses the node's network.
pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default()
}

/// Whether an init container goes on running beside the others.
pub fn is_sidecar(container: &Spec) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// A hash of what cannot change in a running container: name and image (FNV-1a, in hexadecimal).
pub fn container_hash(container: &Spec) -> String {
    let text = format!("{}\n{}", container.name, container.image.as_deref().unwrap_or_default());
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// Whether the running container was made from another definition.
fn changed(container: &Spec, seen: &Container) -> bool {
    seen.config.annotations.get(keys::CONTAINER_HASH).is_some_and(|hash| *hash != container_hash(container))
}

#[cfg(test)]
mod tests;
