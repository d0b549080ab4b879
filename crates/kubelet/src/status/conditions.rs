//! The conditions that the kubelet owns.
//!
//! Source: kubernetes pkg/kubelet/status/generate.go.

use daruma_api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec};
use daruma_api::metav1::Time;
use jiff::Timestamp;

use crate::cell::Forced;
use crate::plan::is_sidecar;

/// Conditions that only the kubelet writes (kubernetes pkg/kubelet/types/pod_status.go).
pub(super) const OWNED: &[&str] = &[
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodResizeInProgress",
    "PodResizePending",
    "PodReadyToStartContainers",
];

fn condition(pod: &Pod, kind: &str, status: bool) -> PodCondition {
    PodCondition {
        type_: kind.into(),
        status: if status { "True" } else { "False" }.into(),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn because(mut condition: PodCondition, reason: &str, message: &str) -> PodCondition {
    condition.reason = Some(reason.into());
    condition.message = (!message.is_empty()).then(|| message.into());
    condition
}

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn unready_message(unknown: &[&str], unready: &[&str], what: &str) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", names(unknown)));
    }
    if !unready.is_empty() {
        parts.push(format!("containers with {what} status: {}", names(unready)));
    }
    parts.join(", ")
}

/// Why the node itself ends the pod.
pub(super) fn disrupted(pod: &Pod, forced: &Forced, now: Timestamp) -> PodCondition {
    let condition = because(condition(pod, "DisruptionTarget", true), "TerminationByKubelet", &forced.message);
    PodCondition { last_transition_time: Some(Time(super::to_seconds(now))), ..condition }
}

pub(super) fn ready_to_start(pod: &Pod, has_sandbox: bool) -> PodCondition {
    condition(pod, "PodReadyToStartContainers", has_sandbox)
}

pub(super) fn scheduled(pod: &Pod) -> PodCondition {
    condition(pod, "PodScheduled", true)
}

pub(super) fn initialized(pod: &Pod, spec: &PodSpec, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    let of = |status| condition(pod, "Initialized", status);
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in spec.init_containers.iter().flatten() {
        match statuses.iter().find(|status| status.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) => {
                let done = if is_sidecar(container) { status.started == Some(true) } else { status.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return because(of(true), "PodCompleted", "");
    }
    if any_started(spec, statuses) || (unknown.is_empty() && incomplete.is_empty()) {
        return of(true);
    }
    because(of(false), "ContainersNotInitialized", &unready_message(&unknown, &incomplete, "incomplete"))
}

/// Whether any of the pod's containers runs or has run, of an earlier sandbox too: so a pod stays initialized while its init
/// containers run once more after a reboot (kubernetes pkg/kubelet/container/helpers.go, HasAnyRegularContainerStarted).
fn any_started(spec: &PodSpec, statuses: &[ContainerStatus]) -> bool {
    statuses.iter().any(|status| {
        spec.containers.iter().any(|container| container.name == status.name)
            && status.state.as_ref().is_some_and(|state| state.terminated.is_some() || state.running.is_some())
    })
}

pub(super) fn containers_ready(pod: &Pod, spec: &PodSpec, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    let of = |status| condition(pod, "ContainersReady", status);
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    for container in sidecars.chain(&spec.containers) {
        match statuses.iter().find(|status| status.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return because(of(false), "PodCompleted", "");
    }
    if phase == "Failed" {
        return because(of(false), "PodFailed", "");
    }
    match unready_message(&unknown, &unready, "unready") {
        message if message.is_empty() => of(true),
        message => because(of(false), "ContainersNotReady", &message),
    }
}

pub(super) fn ready(pod: &Pod, spec: &PodSpec, containers_ready: &PodCondition, others: &[PodCondition]) -> PodCondition {
    if containers_ready.status != "True" {
        return PodCondition { type_: "Ready".into(), ..containers_ready.clone() };
    }
    let mut messages = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match others.iter().find(|condition| condition.type_ == *kind) {
            None => messages.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(condition) if condition.status != "True" => {
                messages.push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", condition.status));
            }
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        return condition(pod, "Ready", true);
    }
    because(condition(pod, "Ready", false), "ReadinessGatesNotReady", &messages.join(", "))
}
