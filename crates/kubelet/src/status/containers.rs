//! The statuses of a pod's containers.
//!
//! Source: kubernetes pkg/kubelet/kubelet_pods.go (convertToAPIContainerStatuses).

use daruma_api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, ResourceRequirements, VolumeMountStatus,
};
use daruma_api::metav1::Time;
use daruma_world::containers::{Container, ContainerState as Seen};

use super::generate::Inputs;
use crate::plan::is_sidecar;
use crate::plan::restart::should_restart;
use crate::view::{exit_code, is_running};

/// Statuses of `specs` in their order; `old` are those known before.
pub(super) fn statuses(inputs: &Inputs<'_>, specs: &[Spec], old: &[ContainerStatus], are_init: bool) -> Vec<ContainerStatus> {
    let has_init = inputs.pod.spec.as_ref().is_some_and(|spec| spec.init_containers.iter().flatten().next().is_some());
    specs
        .iter()
        .map(|spec| status(inputs, spec, old.iter().find(|status| status.name == spec.name), are_init, has_init))
        .collect()
}

fn status(inputs: &Inputs<'_>, spec: &Spec, old: Option<&ContainerStatus>, is_init: bool, has_init: bool) -> ContainerStatus {
    let mut seen = inputs.view.containers.iter().filter(|container| container.config.name == spec.name);
    let mut status = match seen.next() {
        None => unseen(inputs.pod, spec, old, has_init),
        Some(newest) => {
            let mut status = convert(inputs, newest, old);
            if let Some(before) = seen.next() {
                status.last_state = Some(state(inputs, before));
            }
            status
        }
    };
    status.volume_mounts = volume_mounts(spec);
    status.resources = spec.resources.clone().filter(|resources| *resources != ResourceRequirements::default());
    status.allocated_resources = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
    wait(inputs, spec, &mut status, is_init);
    mark_ready(inputs, spec, &mut status, old, is_init);
    status
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    ContainerState { waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }), ..ContainerState::default() }
}

fn terminated_of(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state.and_then(|state| state.terminated.as_ref())
}

/// A container of which the runtime has no record.
fn unseen(pod: &Pod, spec: &Spec, old: Option<&ContainerStatus>, has_init: bool) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        state: Some(waiting(if has_init { "PodInitializing" } else { "ContainerCreating" }, "")),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    if terminated_of(old.state.as_ref()).is_some() {
        return old.clone();
    }
    status.restart_count = old.restart_count;
    status.last_state.clone_from(&old.last_state);
    let ran = old.state.as_ref().is_some_and(|state| state.running.is_some());
    if ran && terminated_of(status.last_state.as_ref()).is_none() {
        // It ran, and nobody knows how it ended.
        let ended = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running".into(),
            ),
            ..ContainerStateTerminated::default()
        };
        status.last_state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
        if pod.metadata.deletion_timestamp.is_none() {
            status.restart_count += 1;
        }
    }
    status
}

fn convert(inputs: &Inputs<'_>, seen: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: seen.config.name.clone(),
        restart_count: i32::try_from(seen.config.attempt).unwrap_or(i32::MAX),
        image: seen.image_ref.clone(),
        image_id: seen.image_id.clone(),
        container_id: Some(container_id(inputs, seen)),
        state: Some(state(inputs, seen)),
        ..ContainerStatus::default()
    };
    if let Some(old) = old {
        status.restart_count = status.restart_count.max(old.restart_count);
        let replaced = old.container_id != status.container_id;
        let ended = terminated_of(old.state.as_ref());
        let last = if replaced && ended.is_some() { old.state.clone() } else { old.last_state.clone() };
        status.last_state = last.filter(|state| state.terminated.is_some());
        if replaced && ended.is_some() && is_running(seen) && i64::from(old.restart_count) >= i64::from(seen.config.attempt) {
            status.restart_count = old.restart_count + 1;
        }
    }
    status
}

fn container_id(inputs: &Inputs<'_>, seen: &Container) -> String {
    format!("{}://{}", inputs.runtime_name, seen.id)
}

fn state(inputs: &Inputs<'_>, seen: &Container) -> ContainerState {
    match &seen.state {
        Seen::Created => ContainerState { waiting: Some(ContainerStateWaiting::default()), ..ContainerState::default() },
        Seen::Running { started_at } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*started_at)) }),
            ..ContainerState::default()
        },
        Seen::Exited { started_at, finished_at, exit_code, reason, message } => {
            let written = inputs.messages.get(&seen.id).filter(|text| !text.is_empty());
            ContainerState {
                terminated: Some(ContainerStateTerminated {
                    container_id: Some(container_id(inputs, seen)),
                    exit_code: *exit_code,
                    started_at: Some(Time(started_at.unwrap_or(jiff::Timestamp::UNIX_EPOCH))),
                    finished_at: Some(Time(*finished_at)),
                    reason: Some(reason.clone()),
                    message: written.or(Some(message)).filter(|text| !text.is_empty()).cloned(),
                    signal: None,
                }),
                ..ContainerState::default()
            }
        }
    }
}

/// A container that is to be started again waits, for the reason that was noted.
fn wait(inputs: &Inputs<'_>, spec: &Spec, status: &mut ContainerStatus, is_init: bool) {
    let seen = inputs.view.latest(&spec.name);
    if is_init {
        if seen.and_then(exit_code) == Some(0) && !is_sidecar(spec) {
            return;
        }
        let is_waiting = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
        let any_regular = inputs
            .pod
            .spec
            .as_ref()
            .is_some_and(|pod| pod.containers.iter().any(|container| inputs.view.latest(&container.name).is_some()));
        if seen.is_none() && any_regular && inputs.view.ready_sandbox().is_some() && !is_sidecar(spec) && is_waiting {
            let ended = ContainerStateTerminated {
                reason: Some("Completed".into()),
                message: Some(
                    "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
                        .into(),
                ),
                ..ContainerStateTerminated::default()
            };
            status.state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
            return;
        }
    }
    if !should_restart(inputs.pod, spec, seen) {
        return;
    }
    let Some((reason, message)) = inputs.waiting.get(&spec.name) else { return };
    if terminated_of(status.state.as_ref()).is_some() {
        status.last_state.clone_from(&status.state);
    }
    status.state = Some(waiting(reason, message));
}

/// Source: kubernetes pkg/kubelet/prober/prober_manager.go (UpdatePodStatus, isContainerStarted).
fn mark_ready(inputs: &Inputs<'_>, spec: &Spec, status: &mut ContainerStatus, old: Option<&ContainerStatus>, is_init: bool) {
    let id = inputs.view.latest(&spec.name).map(|seen| seen.id.clone()).unwrap_or_default();
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    // A container that ran before this kubelet started keeps what the API says of it, until a probe knows better.
    let before = running.and_then(|running| running.started_at.as_ref()).is_some_and(|time| time.0 < inputs.kubelet_started_at);
    let kept = old.filter(|old| before && old.container_id == status.container_id);
    let started = running.is_some()
        && inputs
            .probed
            .startup
            .get(&id)
            .copied()
            .unwrap_or_else(|| spec.startup_probe.is_none() || kept.is_some_and(|old| old.started == Some(true)));
    status.started = Some(started);
    if is_init && !is_sidecar(spec) {
        status.ready = terminated_of(status.state.as_ref()).is_some_and(|ended| ended.exit_code == 0);
        return;
    }
    status.ready = started
        && inputs
            .probed
            .readiness
            .get(&id)
            .copied()
            .unwrap_or_else(|| spec.readiness_probe.is_none() || kept.is_some_and(|old| old.ready));
}

fn volume_mounts(spec: &Spec) -> Option<Vec<VolumeMountStatus>> {
    let mounts: Vec<VolumeMountStatus> = spec
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|read_only| *read_only),
            recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        })
        .collect();
    (!mounts.is_empty()).then_some(mounts)
}
